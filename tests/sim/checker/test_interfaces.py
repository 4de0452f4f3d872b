# SPDX-License-Identifier: BSD-2-Clause
"""Correct drivers on every HAL architecture, and what the newer interfaces leave to say beside each rule's case."""

import ast
import itertools
import random
from pathlib import Path

import pytest

import sim.checker
from rtl.probe import Kind
from sim.checker import Severity, check, render_all
from sim.record import Run

from .cases import BUF, CASES, DEVICE, NEW, OLD, SIZE
from .cases_interfaces import linux
from .interfaces import BOTH, FROM, TO, Interfaces
from .machine import CLEAN_INVALIDATE, INVALIDATE, LINE
from .oracle_record import record
from .test_oracle_interfaces import BOUNCED, DRIVERS, LINUX

#: Corrected twins that are right only on the platform that they are written for: bare metal without speculation, a cached common
#: buffer of versions 1 and 2 (whose only flush comes before), a HAL to the letter, the flags themselves.
PLATFORM_BOUND = {
    "bare_metal_invalidates_only_before",
    "clean_invalidate_after_the_read",
    "code_by_dma_fetched_from_an_old_line",
    "common_buffer_read_without_flush",
    *(case.name for case in CASES if case.rule == "R21"),
}


def rules(found, roots=True):
    return sorted(finding.rule for finding in found if finding.root or not roots)


@pytest.mark.parametrize("architecture", ["arm", "arm64", "riscv", "mips"])
@pytest.mark.parametrize("coherent, speculates", [*itertools.product((False, True), (False, True))])
def test_corrected_drivers_on_every_platform(architecture, coherent, speculates):
    bad = []
    for case in CASES:
        if case.name in PLATFORM_BOUND:
            continue
        platform = {**case.platform, "architecture": architecture, "coherent": coherent, "speculates": speculates}
        m = Interfaces(**platform)
        case.driver(m, False, False)
        found = check(m.run())
        if found:
            bad.append(f"{case.name} {platform}\n{render_all(found)}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("name", [name for name in DRIVERS if "shared-line" not in name])
def test_no_finding_on_a_correct_driver(name):
    script, transfers, platforms = DRIVERS[name]
    everywhere = LINUX + BOUNCED if name.startswith("linux") else platforms
    for where, seed in itertools.product(everywhere, range(4)):
        if not where.clean_before_read:
            continue  # version 3 to the letter is wrong by itself
        found = check(record(script, transfers, where, random.Random(seed)))
        assert found == [], f"{where} seed {seed}\n{render_all(found)}"


def test_logs_without_parents_give_the_same_findings():
    for case in CASES:
        if "bare" in case.name or case.name == "start_before_a_posted_store_has_arrived":
            continue  # a barrier's maintenance encloses nothing, which an old log cannot say
        m = Interfaces(**case.platform)
        case.driver(m, True, False)
        run = m.run()
        old = [{k: v for k, v in call.items() if k not in ("parent", "thread", "role", "irql")} for call in run.calls]
        assert check(Run(run.events, old, run.sites, run.platform)) == check(run), case.name


def test_the_books_import_no_rule_and_nothing_goes_in_circles():
    folder = Path(sim.checker.__file__).parent
    imports = {}
    for path in folder.glob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                found |= {alias.name for alias in node.names} if node.module is None else {node.module}
        imports[path.stem] = {name for name in found if (folder / f"{name}.py").exists()}
    assert imports["book"] <= {"calls", "drafts", "findings", "rules", "state"}
    order, left = [], dict(imports)
    while left:
        free = [name for name, needs in left.items() if not needs & set(left) - {name} and name not in needs]
        assert free, f"these import each other: {sorted(left)}"
        order += free
        for name in free:
            del left[name]


# -- origins --------------------------------------------------------------------------------------------------------------


def test_evidence_names_the_store_and_the_dma_beat():
    by_name = {case.name: case for case in CASES}
    for name, origin in (
        ("write_without_flush", "(store of 0x80000400 at cases.py:"),
        ("v3_no_flush", "(DMA transfer 1, beat 0x8000047"),
    ):
        case = by_name[name]
        m = Interfaces(**case.platform)
        case.driver(m, True, False)
        found = check(m.run())
        assert any(origin in finding.evidence for finding in found), render_all(found)


# -- Linux ----------------------------------------------------------------------------------------------------------------


def test_one_missing_sync_of_a_ring_is_found_per_transfer():
    m = Interfaces(speculates=True)
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    for n in range(3):
        m.finish(m.start(None, [(BUF, SIZE)], False, **linux(m)))
        m.drain()
        if n != 1:
            m.sync_for_cpu(dma, SIZE, FROM)
        m.load(BUF, SIZE)
        m.sync_for_device(dma, SIZE, FROM)
    m.linux_unmap(dma, SIZE, FROM)
    found = check(m.run())
    assert rules(found) == ["R04"] and found[0].transfer == 2 and "dma_sync_single_for_cpu" in found[0].missing


def test_a_part_that_was_synced_may_be_read():
    m = Interfaces(speculates=True)
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    m.finish(m.start(None, [(BUF, SIZE)], False, **linux(m)))
    m.sync_for_cpu(dma, LINE, FROM, offset=LINE)
    m.load(BUF + LINE, LINE)
    assert check(m.run()) == []
    m.load(BUF, LINE)
    (finding,) = check(m.run())
    assert finding.rule == "R04" and finding.ranges == [(BUF, LINE)]


def test_skip_cpu_sync_leaves_the_work_to_the_driver():
    for syncs in (True, False):
        m = Interfaces()
        m.store(BUF, NEW)
        dma = m.linux_map(BUF, SIZE, TO, skip=True)
        if syncs:
            m.sync_for_device(dma, SIZE, TO)
        m.finish(m.start(None, [(BUF, SIZE)], True, **linux(m)))
        m.linux_unmap(dma, SIZE, TO, skip=True)
        assert rules(check(m.run())) == ([] if syncs else ["R01"])


def test_stores_that_do_no_harm_are_warnings():
    m = Interfaces(architecture="arm64")
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    m.finish(m.start(None, [(BUF, SIZE)], False, **linux(m)))
    m.sync_for_cpu(dma, SIZE, FROM)
    m.store(BUF, NEW)
    m.sync_for_device(dma, SIZE, FROM)  # arm64 cleans: nothing is lost, and the device overwrites all of it
    m.finish(m.start(None, [(BUF, SIZE)], False, **linux(m)))
    m.linux_unmap(dma, SIZE, FROM)
    m.load(BUF, SIZE)
    (finding,) = check(m.run())
    assert finding.rule == "R06" and finding.severity is Severity.WARNING


def test_a_bidirectional_mapping_may_be_stored_to():
    for architecture in ("arm", "arm64", "riscv", "mips"):
        m = Interfaces(architecture=architecture, speculates=True)
        m.store(BUF, OLD)
        dma = m.linux_map(BUF, SIZE, BOTH)
        m.finish(m.start(None, [(BUF, SIZE)], True, **linux(m)))
        m.sync_for_cpu(dma, SIZE, BOTH)
        m.store(BUF, NEW)
        m.sync_for_device(dma, SIZE, BOTH)
        m.finish(m.start(None, [(BUF, SIZE)], True, **linux(m)))
        m.linux_unmap(dma, SIZE, BOTH)
        assert check(m.run()) == []


def test_coherent_memory_owes_nothing():
    for coherent in (False, True):
        m = Interfaces(speculates=True, coherent=coherent)
        m.coherent_buffer(BUF, SIZE)
        m.device[:SIZE] = DEVICE
        store, load = (m.store, m.load) if coherent else (m.store_uncached, m.load_uncached)
        store(BUF, NEW)
        m.finish(m.start(None, [(BUF, SIZE)], True, **linux(m)))
        m.finish(m.start(None, [(BUF, SIZE)], False, **linux(m)))
        load(BUF, SIZE)
        assert check(m.run()) == []


# -- version 3 ------------------------------------------------------------------------------------------------------------


def test_two_transfers_of_a_version_3_adapter_at_once():
    m = Interfaces(speculates=True)
    a = m.adapter(version=3, master=True)
    m.device[:SIZE] = DEVICE
    parts = [m.mdl((BUF + 0x800 * n, SIZE)) for n in range(2)]
    contexts = [m.context(a) for _ in parts]
    running = []
    for context, mdl in zip(contexts, parts):
        m.map_ex(a, context, mdl, False)
        running.append(m.start(a, mdl["ranges"], False))
    m.finish(running[0])
    m.flush_ex(a, contexts[0], parts[0], False)  # the other one still runs
    m.complete_irp(parts[0])
    m.load(BUF, SIZE)
    m.finish(running[1])
    m.flush_ex(a, contexts[1], parts[1], False)
    m.complete_irp(parts[1])
    assert check(m.run()) == []


def test_a_transfer_that_is_over_may_wait_for_its_flush_while_another_context_starts():
    m = Interfaces()
    a = m.adapter(version=3, master=True)
    m.device[:SIZE] = DEVICE
    parts = [m.mdl((BUF + 0x800 * n, SIZE)) for n in range(2)]
    contexts = [m.context(a) for _ in parts]
    for context, mdl in zip(contexts, parts):
        m.map_ex(a, context, mdl, False)
        m.finish(m.start(a, mdl["ranges"], False))
    for context, mdl in zip(contexts, parts):
        m.flush_ex(a, context, mdl, False)
        m.complete_irp(mdl)
    assert check(m.run()) == []


def test_bounce_bytes_that_nobody_copies_back_are_proof():
    for flushed in (False, True):
        m = Interfaces()
        a, mdl = m.adapter(), m.mdl((BUF, SIZE))
        m.device[:SIZE] = DEVICE
        elements = m.map_bounced(a, mdl, False)
        m.finish(m.start(a, elements, False))
        m.flush_bounced(a, mdl, False, elements, tries=int(flushed))
        found = [finding for finding in check(m.run()) if finding.root]
        if flushed:
            assert found == []
        else:
            assert rules(found) == ["R24"] and found[0].severity is Severity.SEEN and "never copied out" in found[0].evidence


def test_a_bounced_mapping_says_nothing_about_the_buffer_itself():
    m = Interfaces(architecture="arm64", bounce=True)
    m.store(BUF, NEW)
    dma = m.linux_map(BUF, SIZE, TO)
    m.finish(m.start(None, [(BUF, SIZE)], True, **linux(m)))  # instead of dma
    m.linux_unmap(dma, SIZE, TO)
    assert rules(check(m.run())) == ["R01"]  # not R19: no maintenance was to clean these lines


def test_a_flush_that_is_too_short_says_by_how_much():
    m = Interfaces()
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.ke_flush(mdl, False, True)
    m.map_transfer(a, mdl, 0, SIZE, True)
    m.finish(m.start(a, [(BUF, SIZE + LINE)], True))
    m.flush_adapter(a, mdl, True)
    (r19,) = [finding for finding in check(m.run()) if finding.rule == "R19"]
    assert f"covers {SIZE} of {SIZE + LINE} bytes" in r19.detail


def test_version_3_flush_that_fails():
    for status, wanted in ((0, ["R26"]), (0xC0000185, [])):
        m = Interfaces()
        a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
        context = m.context(a)
        m.device[:SIZE] = DEVICE
        m.map_ex(a, context, mdl, False, 0, SIZE - 5)
        m.finish(m.start(a, [(BUF, SIZE - 5)], False))
        m.fail_flushes = ["bus_error"]
        m.flush_ex(a, context, mdl, False, 0, SIZE - 5)
        m.complete_irp(mdl, 0 if status else SIZE - 5, status=status)
        assert rules(check(m.run())) == wanted


def test_auto_init_of_version_3_owes_one_flush():
    for flushed in (True, False):
        m = Interfaces()
        a, mdl = m.adapter(version=3, auto_initialize=True), m.mdl((BUF, SIZE))
        context = m.context(a)
        m.map_ex(a, context, mdl, False)
        t = m.start(a, [(BUF, SIZE)], False)
        for _ in range(2):
            t["done"] = 0
            m.move(t)
            m.event(Kind.COMPLETE, tag=t["tag"])
        m.event(Kind.COMPLETE, tag=t["tag"], flags=2)
        if flushed:
            m.flush_ex(a, context, mdl, False)
        assert rules(check(m.run())) == ([] if flushed else ["R24"])


# -- bounce buffers, the counter, barriers ------------------------------------------------------------------------------


def test_a_bounced_buffer_need_not_be_aligned_and_may_be_touched():
    m = Interfaces(bounce=True, speculates=True)
    m.device[:SIZE] = DEVICE
    start, size = BUF + 5, SIZE - 11
    dma = m.linux_map(start, size, FROM)
    t = m.start(None, [(dma, size)], False, **linux(m))
    m.store(BUF, NEW[:5])  # the neighbours
    m.load(start, size)  # old bytes, and nobody else writes them
    m.finish(t)
    m.linux_unmap(dma, size, FROM)
    assert m.load(start, size) == DEVICE[:size]
    assert check(m.run()) == []


def test_reading_the_buffer_before_the_copy_back():
    m = Interfaces(bounce=True)
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    m.finish(m.start(None, [(dma, SIZE)], False, **linux(m)))
    m.load(BUF, SIZE)
    (finding,) = check(m.run())
    assert finding.rule == "R04" and "bounce" in finding.detail and finding.ranges == [(BUF, SIZE)]


def test_polling_the_counter_is_fine():
    m = Interfaces()
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False)
    t = m.start(a, [(BUF, SIZE)], False)
    m.counter(a, SIZE)
    m.move(t, 64)
    m.counter(a, SIZE - 64)
    m.finish(t)
    m.counter(a, 0)
    m.flush_adapter(a, mdl, False)
    m.complete_irp(mdl, SIZE)
    assert check(m.run()) == []


def test_a_counter_that_goes_backwards():
    m = Interfaces()
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False)
    t = m.start(a, [(BUF, SIZE)], False)
    m.counter(a, 32)
    m.counter(a, 64)
    m.finish(t)
    m.flush_adapter(a, mdl, False)
    m.complete_irp(mdl, SIZE)
    (finding,) = check(m.run())
    assert finding.rule == "R53" and finding.party.value == "interface" and "more than the 32 of before" in finding.detail


def test_a_store_while_an_invalidate_is_in_progress_may_be_lost():
    for posted in (True, False):
        m = Interfaces()
        m.load(BUF, LINE)
        m.post(INVALIDATE if posted else CLEAN_INVALIDATE, [(BUF, LINE)])
        m.store(BUF, NEW[:LINE])
        m.dsb()
        m.load(BUF, LINE)
        assert rules(check(m.run())) == (["R07"] if posted else [])


def test_a_start_without_a_sync_for_the_device_is_a_warning_where_nothing_is_dirty():
    m = Interfaces(speculates=True)
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    for _ in range(2):
        m.finish(m.start(None, [(BUF, SIZE)], False, **linux(m)))
        m.sync_for_cpu(dma, SIZE, FROM)
        m.load(BUF, SIZE)
    (finding,) = check(m.run())
    assert finding.rule == "R02" and finding.severity is Severity.WARNING and finding.transfer == 2
    assert "dma_sync_single_for_device" in finding.missing


def test_a_mapping_that_skips_the_sync_belongs_to_the_device_all_the_same():
    m = Interfaces()
    dma = m.linux_map(BUF, SIZE, TO, skip=True)
    m.store(BUF, NEW)
    m.linux_unmap(dma, SIZE, TO, skip=True)
    (finding,) = check(m.run())
    assert finding.rule == "R05" and finding.severity is Severity.WARNING


def test_bytes_of_a_pio_read_are_ready_for_the_device_once_they_are_mapped():
    for mapped in (True, False):
        m = Interfaces()
        m.pio_read(BUF, NEW)
        if mapped:
            m.linux_map(BUF, SIZE, TO)
        m.finish(m.start(None, [(BUF, SIZE)], True, **linux(m)))
        if mapped:
            m.linux_unmap(BUF, SIZE, TO)
        found = check(m.run())
        assert rules(found) == ([] if mapped else ["R17"])
