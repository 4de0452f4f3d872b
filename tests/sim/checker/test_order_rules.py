# SPDX-License-Identifier: BSD-2-Clause
"""The rules about order, resources and addresses: broken, lucky and corrected runs of each case."""

import pytest

from driver.wdk.irql import HIGH_LEVEL, IRQL_TABLE, PASSIVE_LEVEL
from sim.checker import MAY_CAUSE, RULES, Severity, check, render_all
from sim.checker.irql import LEVELS

from . import cases, cases_addresses, cases_interfaces, cases_lines, cases_order, cases_resources
from .cases import BUF, DEVICE, SIZE
from .machine import LINE
from .order_machine import OrderMachine

CASES = [*cases_order.CASES, *cases_resources.CASES, *cases_addresses.CASES, *cases_lines.CASES]
ALL = [*cases.CASES, *CASES]


def findings(case, broken, lucky=False, **changes):
    machine = OrderMachine(**{**case.platform, **changes})
    case.driver(machine, broken, lucky)
    return check(machine.run())


def roots(found):
    return [finding for finding in found if finding.root]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.name}")
class TestCases:
    def test_broken(self, case):
        found = findings(case, True)
        assert {finding.rule for finding in roots(found)} == {case.rule}, render_all(found)
        root = roots(found)[0]
        wanted = Severity.SEEN if case.harm else Severity(case.severity or "corruption possible")
        assert root.severity is wanted, render_all(found)
        assert root.missing and root.detail and root.accesses and root.party.value == case.party
        assert bool(root.evidence) == case.harm
        assert root.site is not None and "cases_" in root.site[0]

    def test_lucky(self, case):
        found = findings(case, True, True)
        assert {finding.rule for finding in roots(found)} == {case.rule}, render_all(found)

    def test_corrected(self, case):
        for lucky in (False, True):
            for platform in ({}, {"coherent": True}, {"speculates": True}):
                found = findings(case, False, lucky, **platform)
                assert found == [], render_all(found)

    def test_on_a_coherent_platform(self, case):
        """Nothing of this is about caches: no finding is latent there, but for lines that two mappings share."""
        found = roots(findings(case, True, coherent=True))
        if case.rule == "R12":
            assert {finding.severity for finding in found} <= {Severity.LATENT}, render_all(found)
            return
        assert {finding.rule for finding in found} == {case.rule}, render_all(found)
        assert {finding.severity is Severity.LATENT for finding in found} == {case.rule == "R11"}, render_all(found)


def test_all_54_rules_are_decided_and_have_a_case():
    assert len(RULES) == 54 and all(rule.checked for rule in RULES.values())
    assert cases_interfaces.__name__ in {case.driver.__module__ for case in ALL}
    have = {case.rule for case in ALL}
    assert set(RULES) - have == {"R03"}  # a consequence only: test_rules.test_r03_is_a_consequence
    lucky_or_not = {case.rule for case in ALL if case.harm}
    # rules whose own cases really corrupt in one run; the others corrupt only through what follows from them, or not at all
    assert {"R01", "R02", "R04", "R13", "R17", "R18", "R24", "R35", "R47", "R48"} <= lucky_or_not


def test_levels_are_the_driver_s():
    """The checker does not import the driver: the tables are kept twice, and are the same."""
    both = set(LEVELS) & set(IRQL_TABLE)
    assert len(both) > 30
    assert {name: LEVELS[name] for name in both} == {n: (IRQL_TABLE[n].lowest, IRQL_TABLE[n].highest) for n in both}
    anywhere = {name for name, rule in IRQL_TABLE.items() if (rule.lowest, rule.highest) == (PASSIVE_LEVEL, HIGH_LEVEL)}
    assert set(IRQL_TABLE) - set(LEVELS) == anywhere


def test_no_two_rules_explain_each_other():
    """Two findings that explain each other would both be consequences of nothing. The pairs say which way they are not."""
    pairs = {(a, b) for a, causes in MAY_CAUSE.items() for b in causes if a in MAY_CAUSE.get(b, ())}
    known = {("R02", "R08"), ("R04", "R05"), ("R24", "R32")}
    assert pairs == known | {(b, a) for a, b in known}


def test_what_follows_from_a_wrong_mapping_or_counter():
    """R36 explains the wrong length, R41 the lines that were not invalidated, R42 the flush of the MDL alone."""
    m = OrderMachine(speculates=True)
    dev = m.device_()
    dma = m.dma_map(dev, BUF, SIZE, "FROM_DEVICE")
    m.device[:SIZE] = DEVICE
    m.finish(m.start_for(dev, [(dma, SIZE)], False))
    m.dma_unmap(dev, dma, SIZE // 2, "FROM_DEVICE")
    m.load(BUF, SIZE)
    m.release(dev)
    found = check(m.run())
    assert [finding.rule for finding in roots(found)] == ["R41"] and "R04" in {finding.rule for finding in found}

    m = OrderMachine()
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.ke_flush(mdl, False, True)
    m.map_transfer(a, mdl, 0, SIZE + LINE, True, registers)
    m.transfer(a, [(BUF, SIZE + LINE)], True)
    m.flush_adapter(a, mdl, True, 0, SIZE + LINE, registers=registers)
    m.free_channel(a)
    m.put(a)
    found = check(m.run())
    assert [finding.rule for finding in roots(found)] == ["R42"] and "R19" in {finding.rule for finding in found}

    m = OrderMachine()
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False, registers)
    m.finish(m.start(a, [(BUF, SIZE)], False), residue=LINE)
    m.log("ReadDmaCounter", 0, adapter=a)
    m.flush_adapter(a, mdl, False, 0, SIZE, registers=registers)
    m.complete_irp(mdl, SIZE)
    m.free_registers(a, registers)
    m.put(a)
    found = check(m.run())
    assert [finding.rule for finding in roots(found)] == ["R36"] and "R53" in {finding.rule for finding in found}


def test_a_write_beyond_the_mdl_is_proof():
    for lucky in (False, True):
        m = OrderMachine()
        a, mdl = m.adapter(), m.mdl((BUF, SIZE))
        registers = m.allocate(a)
        m.ke_flush(mdl, True, True)
        m.map_transfer(a, mdl, 0, SIZE + LINE, False, registers)
        m.device[: SIZE + LINE] = DEVICE + DEVICE[:LINE]
        m.finish(m.start(a, [(BUF, SIZE + LINE)], False), residue=LINE if lucky else 0)
        m.flush_adapter(a, mdl, False, 0, SIZE + LINE, registers=registers)
        m.free_channel(a)
        m.put(a)
        (root,) = roots(check(m.run()))
        assert root.rule == "R42" and root.severity is (Severity.POSSIBLE if lucky else Severity.SEEN)


def test_findings_say_where_in_words_that_fit():
    def missing(case_name, *more):
        case = next(case for case in CASES if case.name == case_name)
        (root, *_) = roots(findings(case, True, *more))
        return root.detail, root.missing

    detail, where = missing("request_completed_in_the_interrupt_routine")
    assert detail.endswith("it must be called at DISPATCH_LEVEL or below") and "is DISPATCH_LEVEL or below: queue a DPC" in where
    assert "and the next MapTransferEx at" in missing("mapped_twice_without_a_flush_between")[1]
    assert "(kmalloc) for the dma_map_single" in missing("buffer_on_the_stack")[1]
    assert "MmProbeAndLockPages before the MapTransfer" in missing("pages_not_locked")[1]
