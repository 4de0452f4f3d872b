# SPDX-License-Identifier: BSD-2-Clause
"""Rules of the write-through D-cache: each has a legal record that passes and an edited one that is noticed."""

from functools import partial

import pytest

from rtl.probe import Cause, Kind, Source

from .machine import CLEAN, CLEAN_INVALIDATE, DC, INVALIDATE, MEM, RANGE, SMALL, Machine, noticed

THROUGH = SMALL.replace(dcache__write_policy="through")


def busy(bug: str | None = None, **changes) -> Machine:
    """Stores that hit and that miss, a fill between them, and replacements."""
    m = Machine(THROUGH.replace(**changes), bug)
    m.load(MEM + 0x40, 8)
    for n in range(4):
        m.store(MEM + n * 128 + 0x45, bytes([n + 1] * 11))
    m.load(MEM + 3 * 128 + 0x40, 32)
    m.store(MEM + 0x40, b"abc")
    m.load(MEM + 0x40, 8)
    return m


def done(m: Machine) -> Machine:
    m.drain_stores()
    return m


def test_legal_record():
    m = done(busy())
    assert m.judge() == []
    assert not any(dirty for _, dirty, _ in m.dcache.values()) and len(m.dcache) == 2


@pytest.mark.parametrize("width", [32, 64, 128])
def test_every_width(width):
    m = Machine(THROUGH.replace(data_width=width))
    m.store(MEM + 3, bytes(range(21)))
    m.load(MEM, 40)
    m.store(MEM + 9, bytes(range(60, 75)))
    assert done(m).judge() == []


def test_the_right_bytes_and_no_others():
    m = done(busy())
    m.edit(Kind.MEM_WRITE, data=0)
    noticed(m, "memory 0x80000040: D_WRITEBACK write data: expected -- -- -- -- -- 01 01 01")
    m = done(busy())
    m.edit(Kind.MEM_WRITE, aux=Source.D_WRITEBACK | 0xFF << 8)
    noticed(m, "D_WRITEBACK write data: expected -- -- -- -- -- 01 01 01")


def test_in_order_and_once():
    m = busy()
    m.store(MEM + 0x60, b"d")
    m.stores.rotate()
    noticed(done(m), "a write by the store queue out of order: expected 0x80000040, got 0x80000060")
    m = done(busy())
    m.repeat(Kind.MEM_WRITE, -1)
    noticed(m, "a write by the store queue, which is empty")
    m = busy()
    m.stores.pop()
    noticed(done(m), "a store at 0x80000040 was never answered")


def test_answers():
    m = done(busy())
    m.edit(Kind.WB_DONE, 0, addr=MEM + 0x80)
    noticed(m, "store answered although it is not the oldest one: expected 0x80000040, got 0x80000080")
    m = done(busy())
    m.delete(Kind.MEM_WRITE, -1)
    noticed(m, "store answered before it reached memory")
    m = done(busy())
    m.edit(Kind.WB_DONE, -1, flags=1)
    noticed(m, "store answered: bus error: expected False, got True")
    m = busy()
    m.emit(Kind.WB_DONE, MEM)
    noticed(m, "although it is not the oldest one")


def test_a_store_is_seen_by_later_loads_and_never_fails():
    m = done(busy())
    m.edit(Kind.LOAD, -1, data=0)
    noticed(m, "load data at 0x80000040")
    m = busy()
    m.edit(Kind.STORE, 0, flags=1)
    noticed(done(m), "answered an error although it is posted")


def test_nothing_reads_around_the_queue():
    m = Machine(THROUGH, "stale_fill")
    m.store(MEM + 0x80, b"abc")
    m.load(MEM + 0x80, 8)
    noticed(done(m), "D-cache line 0x80000080: fill requested although memory has not answered a store to it")
    m = Machine(THROUGH)
    m.emit(Kind.FILL_REQUEST, MEM + 0x80, aux=Cause.DEMAND)
    m.store(MEM + 0x80, b"abc")
    noticed(done(m), "store at 0x80000080 while the line is being filled")


@pytest.mark.parametrize("access", ["uncached_load", "uncached_store", "csr_read", "csr_write"])
def test_an_uncached_access_comes_after_the_stores(access):
    arguments = {
        "uncached_load": (MEM + 0x200, 8),
        "uncached_store": (MEM + 0x200, bytes(8)),
        "csr_read": ("maint.start", 0),
        "csr_write": ("maint.start", 0),
    }
    for bug in (None, "overtaken_stores"):
        m = Machine(THROUGH, bug)
        m.store(MEM + 0x80, b"abc")
        getattr(m, access)(*arguments[access])
        if bug is None:
            assert done(m).judge() == []
        else:
            noticed(done(m), "before memory had answered an older store to 0x80000080")


@pytest.mark.parametrize("op", [CLEAN, INVALIDATE, CLEAN_INVALIDATE])
def test_maintenance_waits_for_the_stores(op):
    for bug, unification in ((None, False), ("done_early", False), ("done_early", True)):
        m = Machine(THROUGH.replace(faults__maintenance_point_of_unification=unification), bug)
        m.load(MEM + 0x80, 8)
        m.maintain(op, RANGE, DC, MEM + 0x80, 16, before=[partial(m.store, MEM + 0x80, b"abc")])
        if bug is None or unification:
            assert done(m).judge() == []
        else:
            noticed(
                done(m), "D-cache line 0x80000080: has a store that memory has not answered although maintenance reports done"
            )


def failing(*, late: bool, report: bool) -> Machine:
    """A clean of a line whose store is answered with an error, long after the command's beginning or at once."""
    m = Machine(THROUGH)
    for name, value in (("fault_addr", MEM + 0x80), ("fault_size", 32), ("fault_ctrl", 1 | 1 << 8)):
        m.csr_write(f"mem.{name}", value)

    def answer():
        m.cycle += 20 * late
        m.drain_stores(error=1)

    m.maintain(CLEAN, RANGE, DC, MEM + 0x80, 16, before=[lambda: m.store(MEM + 0x80, b"abc")], between=[answer])
    m.edit(Kind.MAINT_END, flags=report)
    return m


def test_maintenance_reports_a_stores_error():
    assert failing(late=True, report=True).judge() == []
    noticed(failing(late=True, report=False), "a write-back of the command got a bus error that its end does not report")
    assert failing(late=False, report=False).judge() == [], "it came before the command had begun its work"
