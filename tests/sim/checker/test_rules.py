# SPDX-License-Identifier: BSD-2-Clause
"""Every rule: a case whose only root is that rule, its corrected twin, a run that corrupts and a lucky one."""

from pathlib import Path

import pytest

from sim.checker import RULES, Severity, check, render, render_all

from . import cases_interfaces  # noqa: F401 (adds its cases)
from .cases import CASES
from .interfaces import Interfaces

FIRST = "R01 R02 R03 R04 R05 R07 R08 R09 R13 R17 R18 R19 R21 R22 R23 R24 R25 R26 R27".split()


def findings(case, broken, lucky, **changes):
    machine = Interfaces(**{**case.platform, **changes})
    case.driver(machine, broken, lucky)
    return check(machine.run())


def roots(found):
    return {finding.rule for finding in found if finding.root}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.name}")
class TestCases:
    def test_broken_and_unlucky(self, case):
        found = findings(case, True, False)
        assert roots(found) == {case.rule}, render_all(found)
        (root,) = [finding for finding in found if finding.root]
        wanted = Severity.SEEN if case.harm else Severity(case.severity or "corruption possible")
        assert root.severity is wanted, render_all(found)
        assert root.party.value == case.party
        assert root.missing and root.detail and root.accesses
        assert root.evidence if case.harm else not root.evidence

    def test_broken_and_lucky(self, case):
        found = findings(case, True, True)
        assert roots(found) == {case.rule}, render_all(found)
        (root,) = [finding for finding in found if finding.root]
        assert root.severity is Severity(case.severity or "corruption possible"), render_all(found)

    def test_corrected(self, case):
        for lucky in (False, True):
            assert findings(case, False, lucky) == []

    def test_text_and_round_trip(self, case):
        for finding in findings(case, True, False):
            assert type(finding).from_dict(finding.to_dict()) == finding
            text = render(finding)
            assert text.startswith(f"{finding.rule} {finding.severity.value}")
            assert finding.kind == RULES[finding.rule].kind
            if finding.root and finding.party.value == "driver":
                assert finding.site is not None and Path(finding.site[0]).name.startswith("cases")


def test_first_rules_all_have_a_case():
    have = {case.rule for case in CASES}
    assert set(FIRST) - have == {"R03"}  # a consequence only: below


def test_r03_is_a_consequence():
    case = next(case for case in CASES if case.name == "read_without_flush")
    found = findings(case, True, False)
    (r03,) = [finding for finding in found if finding.rule == "R03"]
    assert not r03.root and r03.cause == "R02" and found[r03.cause_index].rule == "R02"
    assert r03.severity is Severity.SEEN
    assert "R03" not in {finding.rule for finding in findings(case, True, True)}


#: Rules that have nothing to do with the cache, or with what the driver does to it by address.
REAL_EVERYWHERE = ("R05", "R14", "R24", "R25", "R26", "R27", "R51", "R52", "R53")
REAL_CASES = ("adapter_flush_the_wrong_way", "v3_flush_the_wrong_way", "bare_remainder_never_flushed")


#: Not R21, whose platforms are its subject, nor faults of the maintenance unit, which a coherent platform does not use.
ON_COHERENT = [c for c in CASES if c.rule != "R21" and not (c.party == "interface" and c.rule in ("R19", "R20"))]


@pytest.mark.parametrize("case", ON_COHERENT, ids=lambda case: f"{case.rule}-{case.name}")
def test_on_a_coherent_platform(case):
    found = findings(case, True, False, coherent=True)
    not_latent = {finding.rule for finding in found if finding.root and finding.severity is not Severity.LATENT}
    if case.rule in REAL_EVERYWHERE or case.name in REAL_CASES:
        assert case.rule in not_latent, render_all(found)
    elif case.rule == "R07":
        assert not_latent == {"R07"}  # the driver asked for the invalidate by address: it is really done
    else:
        assert case.rule in roots(found), render_all(found)
        assert not not_latent, render_all(found)
    assert findings(case, False, False, coherent=True) == []
