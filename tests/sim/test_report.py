# SPDX-License-Identifier: BSD-2-Clause
"""Results on the terminal, as JSON and as JUnit."""

import io
import json
import xml.etree.ElementTree as ET

from rich.console import Console

from sim.report.files import write_json, write_junit
from sim.report.result import Result
from sim.report.terminal import Progress, print_results


def result(name="dma-read/system/no-preflush/non-coherent/chunk", **changes):
    row, mode, discipline, platform, *_ = name.split("/")
    values = dict(
        name=name,
        row=row,
        mode=mode,
        discipline=discipline,
        platform=platform,
        size=16,
        seed=77,
        expectation="corrupted: 16 B old from +0x0",
        happened="16 of 16 B corrupted, first at 0x80004000",
        corrupted=16,
        findings=[{"rule": "R02", "root": True}, {"rule": "R03", "root": False}],
        roots=["R02"],
        cycles=1234,
        seconds=0.05,
        costs={"KeFlushIoBuffers": {"calls": 2, "accesses": 10, "cycles": 100}},
    )
    return Result(**{**values, **changes})


GOOD = result()
UNEXPECTED = result("a/b/c/coherent", unexpected=["byte +0x0 is 0x01, expected 0x02"], record="build/x")
HARDWARE = result("d/e/f/coherent", hardware=["memory 0x80000000: 1, predicted 2"], unexpected=["also"])
ERROR = result("g/h/i/coherent", error="Traceback\n  ...\nValueError: broken \x1b[0m")
AGAIN = {r.name: f"python -m sim run {r.name}" for r in (GOOD, UNEXPECTED, HARDWARE, ERROR)}


def shown(results, full=True):
    out = io.StringIO()
    print_results(Console(file=out, width=200), results, AGAIN, summary=["42 cycles"], full=full)
    return out.getvalue()


def test_verdicts_stand_apart_and_hardware_comes_first():
    assert [r.verdict for r in (GOOD, UNEXPECTED, HARDWARE, ERROR)] == ["ok", "UNEXPECTED", "HARDWARE", "ERROR"]
    assert [r.passed for r in (GOOD, UNEXPECTED, HARDWARE, ERROR)] == [True, False, False, False]
    assert HARDWARE.reasons[0].startswith("hardware: ") and HARDWARE.reasons[1].startswith("not as expected: ")


def test_table_shows_what_the_issue_asks_for():
    text = shown([GOOD])
    for part in (
        "dma-read/system/chunk",
        "no-preflush",
        "non-coherent",
        "corrupted: 16 B old",
        "first at 0x80004000",
        "R02 (R03)",
        "1234",
        "50",
        "1 of 1 as expected: 0 intact, 1 corrupted as predicted",
        "42 cycles",
    ):
        assert part in text, part


def test_cost_per_call_is_shown():
    text = shown([GOOD, GOOD], full=False)
    assert "KeFlushIoBuffers" in text and " 5.0" in text and "50.0" in text


def test_failures_come_with_seed_and_command():
    text = shown([GOOD, UNEXPECTED, HARDWARE, ERROR])
    assert "3 failed" in text and "(seed 77)" in text and "again:  python -m sim run a/b/c/coherent" in text
    assert "record: build/x" in text and "ValueError: broken" in text and "1 of 4 as expected" in text


def test_json_has_everything_beside_the_results(tmp_path):
    path = write_json(tmp_path / "deep" / "results.json", [GOOD, ERROR], {"seed": 3, "versions": {"cocotb": "2"}})
    document = json.loads(path.read_text())
    assert document["seed"] == 3 and document["counts"] == {"total": 2, "passed": 1, "failed": 1}
    assert Result.from_dict(document["results"][0]) == GOOD
    assert document["results"][1]["verdict"] == "ERROR"
    assert not list(tmp_path.rglob("*.part"))


def test_junit_is_xml_whatever_the_texts_hold(tmp_path):
    path = write_junit(
        tmp_path / "junit.xml", [GOOD, UNEXPECTED, HARDWARE, ERROR], {"seed": 3, "configurations": {"a": 1}}, AGAIN
    )
    suite = ET.parse(path).getroot()
    assert suite.get("tests") == "4" and suite.get("failures") == "2" and suite.get("errors") == "1"
    cases = suite.findall("testcase")
    assert cases[0].get("classname") == "dma-read.system" and not list(cases[0])
    assert cases[2].find("failure").get("type") == "HARDWARE"
    assert "\\x1b" in cases[3].find("error").text and "reproduce: python -m sim run g/h/i/coherent" in cases[3].find("error").text
    assert {p.get("name") for p in suite.find("properties")} == {"seed", "configurations"}


def test_progress_prints_failures_at_once_where_there_is_no_terminal():
    out = io.StringIO()
    progress = Progress(Console(file=out, width=100))
    progress.building("building a model")
    progress.started(2)
    progress.finished(GOOD)
    progress.finished(UNEXPECTED)
    progress.close()
    assert "running 2 scenarios" in out.getvalue() and "UNEXPECTED a/b/c/coherent" in out.getvalue()
    assert GOOD.name not in out.getvalue()
