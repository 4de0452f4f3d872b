# SPDX-License-Identifier: BSD-2-Clause
"""Findings as text, JSON and SARIF, and comments in the driver that take findings out."""

import json
from urllib.parse import urlparse

import pytest

from sim.checker import (
    RULES,
    Access,
    Finding,
    Party,
    ProblemKind,
    Severity,
    apply_suppressions,
    check,
    merge_problems,
    render,
    render_all,
    styled_all,
    summary,
    to_json,
    to_sarif,
)

from . import cases
from .machine import Machine
from .test_order_rules import CASES as ORDER_CASES
from .test_order_rules import findings as order_findings

DRIVER = """\
async def driver_entry(kernel, device):
    # flushpoint: allow R09 -- the tail is padding
    await adapter.map_transfer(
        mdl, base, va,
        length, False,
    )
    await adapter.flush(mdl)  # flushpoint: allow R24, R25 -- the device has no FIFO
    if await port.wait():
        return  # nothing
    await port.start()
"""


def finding(rule, line, *, file="driver.py", root=True, index=None, cause=None, severity=Severity.POSSIBLE, first=None):
    accesses = [Access("store", 3, (file, first, "driver_entry"), 0x8000_0400)] if first else []
    accesses.append(Access("StartTransfer", 9, (file, line, "driver_entry")))
    return Finding(
        rule, RULES[rule].title, "what happened", severity, Party.DRIVER, root, 9, cause, index,
        ranges=[(0x8000_0400, 32)], lines=[0x8000_0400], accesses=accesses, cache="line is valid", memory="not written",
        missing="the call", sources=list(RULES[rule].sources), transfer=1,
        evidence="a load returned 0x03" if severity is Severity.SEEN else "",
    )  # fmt: skip


def seen():
    """Real findings, with a root, consequences and both severities."""
    case = next(c for c in cases.CASES if c.name == "read_without_flush")
    machine = Machine()
    case.driver(machine, True, False)
    return check(machine.run())


# -- text -------------------------------------------------------------------------------------------------------------


def test_short_text_is_a_headline_and_the_lines_that_matter():
    text = render(finding("R02", 44, severity=Severity.SEEN, first=12))
    assert text.splitlines() == [
        f"R02 corruption seen, driver.py:44: {RULES['R02'].title}",
        "  what    what happened",
        "  proof   a load returned 0x03",
        "  missing the call",
    ]


def test_full_text_says_everything():
    text = render(finding("R02", 44, severity=Severity.SEEN, first=12), verbose=True)
    assert text.splitlines()[0] == f"R02 corruption seen (root, driver), cycle 9: {RULES['R02'].title}"
    first = "first   store of 0x80000400 at driver.py:12, cycle 3"
    for part in ("32 bytes in 0x80000400..0x8000041f", first, "then    StartTransfer", "line is valid", "not written", "S5 ("):
        assert part in text


def test_consequences_stand_below_their_root_in_one_line():
    found = seen()
    lines = render_all(found).splitlines()
    assert lines[0].startswith("R02 corruption seen")
    below = [line for line in lines if line.startswith("    R")]
    assert len(below) == len(found) - 1 and all("follows from R02" in line for line in below)
    assert len(render_all(found, verbose=True).splitlines()) > len(lines) + 5


def test_a_consequence_without_its_root_is_shown():
    assert render_all([finding("R04", 5, root=False, cause="R02")]).startswith(
        "R04 corruption possible, driver.py:5, follows from R02"
    )
    assert render_all([]) == "no findings"


def test_colours_are_only_colours():
    found = seen()
    assert styled_all(found).plain == render_all(found)
    assert any("red" in str(span.style) for span in styled_all(found).spans)


def test_summary_counts():
    found = [finding("R02", 5), finding("R04", 6, root=False, index=0, cause="R02"), finding("R09", 7, severity=Severity.WARNING)]
    assert summary(found) == "2 root findings (1 corruption possible, 1 warning)"
    assert summary([], ["x"], ["y", "z"]) == "0 root findings; 1 suppressed; 2 wrong suppressions"


# -- JSON and SARIF -----------------------------------------------------------------------------------------------------

#: Object of the specification -> properties it must have, and all it may have of those that are used here.
SPEC = {
    "log": ({"version", "runs"}, {"$schema"}),
    "run": ({"tool"}, {"results", "columnKind", "originalUriBaseIds", "properties"}),
    "tool": ({"driver"}, set()),
    "driver": ({"name"}, {"version", "semanticVersion", "rules"}),
    "rule": ({"id"}, {"name", "shortDescription", "fullDescription", "help", "defaultConfiguration", "properties"}),
    "result": ({"message"}, {"ruleId", "ruleIndex", "level", "kind", "locations", "relatedLocations", "partialFingerprints",
                             "properties", "suppressions"}),
    "location": (set(), {"id", "message", "physicalLocation", "logicalLocations"}),
    "physical": ({"artifactLocation"}, {"region"}),
    "artifact": ({"uri"}, {"uriBaseId"}),
    "region": ({"startLine"}, set()),
    "logical": ({"name"}, {"kind"}),
    "suppression": ({"kind"}, {"status", "justification", "location"}),
    "text": ({"text"}, {"markdown"}),
}  # fmt: skip


def is_a(name, thing):
    required, optional = SPEC[name]
    assert isinstance(thing, dict)
    assert required <= set(thing) <= required | optional, (name, set(thing))


def check_location(location, bases):
    is_a("location", location)
    physical = location["physicalLocation"]
    is_a("physical", physical)
    is_a("artifact", physical["artifactLocation"])
    uri, base = physical["artifactLocation"]["uri"], physical["artifactLocation"].get("uriBaseId")
    assert "\\" not in uri and " " not in uri
    assert base in bases and not urlparse(uri).scheme if base else True
    if "region" in physical:
        is_a("region", physical["region"])
        assert physical["region"]["startLine"] >= 1
    for logical in location.get("logicalLocations", ()):
        is_a("logical", logical)
        assert logical["name"]
    if "message" in location:
        is_a("text", location["message"])


def check_sarif(log):
    """What the specification (SARIF 2.1.0, OASIS) demands of the objects used here."""
    log = json.loads(json.dumps(log))
    is_a("log", log)
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    for run in log["runs"]:
        is_a("run", run)
        is_a("tool", run["tool"])
        is_a("driver", run["tool"]["driver"])
        assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
        bases = run.get("originalUriBaseIds", {})
        for base in bases.values():
            assert base["uri"].endswith("/") and urlparse(base["uri"]).scheme == "file"
        rules = run["tool"]["driver"]["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        for rule in rules:
            is_a("rule", rule)
            for key in ("shortDescription", "fullDescription", "help"):
                is_a("text", rule[key])
                assert rule[key]["text"]
            assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        for result in run["results"]:
            is_a("result", result)
            is_a("text", result["message"])
            assert result["message"]["text"]
            assert result["level"] in ("none", "note", "warning", "error") and result["kind"] == "fail"
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert all(isinstance(v, str) for v in result.get("partialFingerprints", {}).values())
            ids = [location["id"] for location in result.get("relatedLocations", ())]
            assert len(set(ids)) == len(ids)
            for location in (*result.get("locations", ()), *result.get("relatedLocations", ())):
                check_location(location, bases)
            for suppression in result.get("suppressions", ()):
                is_a("suppression", suppression)
                assert suppression["kind"] in ("inSource", "external")
                assert suppression["status"] in ("accepted", "underReview", "rejected")
                check_location(suppression["location"], bases)
    return log["runs"][0]


def test_sarif_of_real_findings():
    found = seen()
    run = check_sarif(to_sarif(found, root=__file__.rsplit("/tests/", 1)[0], properties={"seed": 1}))
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    root, *others = run["results"]
    assert root["ruleId"] == "R02" and root["level"] == "error" and "Missing: KeFlushIoBuffers" in root["message"]["text"]
    place = root["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "tests/sim/checker/cases.py", "uriBaseId": "SRCROOT"}
    assert place["region"]["startLine"] == found[0].site[1]
    assert root["locations"][0]["logicalLocations"] == [{"name": "read_without_flush", "kind": "function"}]
    assert "store of" in root["relatedLocations"][0]["message"]["text"]
    mark = root["partialFingerprints"]["flushpoint/v1"]
    assert others and all(other["properties"]["causeFingerprint"] == mark for other in others)
    assert len({result["partialFingerprints"]["flushpoint/v1"] for result in run["results"]}) == len(found)


def test_sarif_of_every_case():
    for case in ORDER_CASES:
        check_sarif(to_sarif(order_findings(case, True)))


def test_sarif_levels_and_findings_without_a_line():
    levels = {Severity.SEEN: "error", Severity.POSSIBLE: "error", Severity.WARNING: "warning", Severity.LATENT: "note"}
    for severity, level in levels.items():
        (result,) = check_sarif(to_sarif([finding("R02", 4, severity=severity)]))["results"]
        assert result["level"] == level
    nowhere = finding("R38", 4)
    nowhere.accesses = [Access("end", 9)]
    (result,) = check_sarif(to_sarif([nowhere], driver="my driver.py".replace(" ", "_")))["results"]
    assert result["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "my_driver.py"}}}]
    assert "locations" not in check_sarif(to_sarif([nowhere]))["results"][0]


def test_sarif_fingerprints_survive_other_lines():
    first, second = (to_sarif([finding("R02", line)])["runs"][0]["results"][0] for line in (10, 20))
    assert first["partialFingerprints"] == second["partialFingerprints"]
    assert first["locations"] != second["locations"]


def test_sarif_and_json_list_suppressions():
    kept, suppressed, problems = apply_suppressions(
        [finding("R09", 3), finding("R02", 8)], ["driver.py"], sources={"driver.py": DRIVER}
    )
    run = check_sarif(to_sarif(kept, suppressed, problems))
    plain, taken, problem = run["results"]
    assert "suppressions" not in plain and problem["ruleId"] == "suppression"
    assert taken["suppressions"][0]["justification"] == "the tail is padding"
    assert taken["suppressions"][0]["location"]["physicalLocation"]["region"]["startLine"] == 2
    document = json.loads(json.dumps(to_json(kept, suppressed, problems)))
    assert document["counts"]["corruption possible"] == 1
    assert [f["rule"] for f in document["findings"]] == ["R02"]
    assert document["suppressed"][0]["suppressed"] == {"file": "driver.py", "line": 2, "reason": "the tail is padding"}
    assert document["problems"][0]["kind"] == "unused"
    assert Finding.from_dict(document["findings"][0]) == kept[0]


# -- suppressions -----------------------------------------------------------------------------------------------------


def suppress(found, text=DRIVER, files=()):
    return apply_suppressions(found, files, sources={"driver.py": text})


@pytest.mark.parametrize("line", [3, 4, 5])
def test_on_any_line_of_the_statement_below(line):
    kept, suppressed, problems = suppress([finding("R09", line), finding("R24", 7)])
    assert kept == [] and [s.finding.rule for s in suppressed] == ["R09", "R24"] and problems == []
    assert suppressed[0].line == 2 and suppressed[0].reason == "the tail is padding"


def test_only_the_named_rules_and_only_there():
    found = [finding("R02", 4), finding("R09", 8), finding("R25", 7)]
    kept, suppressed, problems = suppress(found)
    assert [f.rule for f in kept] == ["R02", "R09"] and [s.finding.rule for s in suppressed] == ["R25"]
    assert [(p.line, p.kind) for p in problems] == [(2, ProblemKind.UNUSED)]


def test_either_access_may_carry_it():
    kept, suppressed, _ = suppress([finding("R09", 8, first=4)])
    assert kept == [] and len(suppressed) == 1


def test_consequences_go_with_their_root_and_the_others_keep_theirs():
    found = [
        finding("R09", 4),
        finding("R02", 10),
        finding("R04", 10, root=False, index=0, cause="R09"),
        finding("R04", 10, root=False, index=1, cause="R02"),
    ]
    kept, suppressed, _ = suppress(found)
    assert [(f.rule, f.cause_index) for f in kept] == [("R02", None), ("R04", 0)]
    assert [s.finding.rule for s in suppressed] == ["R09", "R04"]
    assert found[3].cause_index == 1  # the given findings are not touched


def test_the_header_of_a_block_is_not_its_body():
    text = "# flushpoint: allow R05 -- polled\nif await port.wait():\n    await port.start()\n"
    assert suppress([finding("R05", 2)], text)[0] == []
    assert len(suppress([finding("R05", 3)], text)[0]) == 1


@pytest.mark.parametrize(
    "comment, kind, text",
    [
        ("# flushpoint: allow R09", ProblemKind.REASON, "must have a reason"),
        ("# flushpoint: allow R09 --  ", ProblemKind.REASON, "must have a reason"),
        ("# flushpoint: allow R99 -- why not", ProblemKind.FORM, "rule must be one of R01 to R54, not 'R99'"),
        ("# flushpoint: ignore R09 -- why not", ProblemKind.FORM, "must be '# flushpoint: allow Rnn -- reason'"),
        ("# flushpoint: allow -- everything", ProblemKind.FORM, "must be '# flushpoint: allow Rnn -- reason'"),
        ("# flushpoint: allow R10 -- not needed", ProblemKind.UNUSED, "no finding of R10 here"),
    ],
)
def test_wrong_comments_take_out_nothing_and_are_reported(comment, kind, text):
    kept, suppressed, problems = suppress([finding("R09", 1)], f"await start()  {comment}\n")
    assert len(kept) == 1 and suppressed == []
    assert [p.kind for p in problems] == [kind] and text in str(problems[0]) and str(problems[0]).startswith("driver.py:1: ")


def test_files_without_findings_are_searched_too():
    _, _, problems = suppress([], files=["driver.py"])
    assert [p.line for p in problems] == [2, 7] and suppress([])[2] == []


def test_strings_are_no_comments_and_broken_files_do_no_harm():
    assert suppress([finding("R09", 1)], 'x = "# flushpoint: allow R09 -- in a string"\n')[1] == []
    kept, suppressed, _ = suppress([finding("R09", 2)], "def (:\nstart()  # flushpoint: allow R09 -- reason\n")
    assert kept == [] and len(suppressed) == 1
    assert apply_suppressions([finding("R09", 2, file="/no/such/file.py")])[1:] == ([], [])


def test_unused_means_unused_in_every_run():
    one = suppress([finding("R09", 4)])[2]
    other = suppress([finding("R24", 7)])[2]
    assert merge_problems([one, other]) == []
    assert [p.line for p in merge_problems([one, one])] == [7]
