# SPDX-License-Identifier: BSD-2-Clause
"""Upset parity bits: which answers and reports the model then demands of the hardware."""

import pytest

from rtl.probe import Kind

from .machine import CLEAN, CLEAN_INVALIDATE, DC, INVALIDATE, LINE, MEM, RANGE, SMALL, Machine, noticed

PARITY = SMALL.replace(dcache__parity=True)


def upset(addr=MEM + 9, *, tag=False, config=PARITY) -> Machine:
    """Lines 0 and 1 are dirty; a bit of the first is wrong."""
    m = Machine(config)
    m.store(MEM, bytes(range(32)))
    m.store(MEM + 32, bytes(range(32)))
    m.upset(addr, tag)
    return m


def test_a_load_of_the_byte_answers_an_error_and_no_other_does():
    m = upset()
    m.load(MEM, 8)
    m.load(MEM + 32, 8)
    assert m.judge() == []
    m.load(MEM + 8, 8)
    noticed(m, "D-cache line 0x80000000: load at 0x80000008 answered okay although parity is wrong")
    m.edit(Kind.LOAD, -1, flags=3)
    assert m.judge() == []
    m.edit(Kind.LOAD, -2, flags=3)
    noticed(m, "load at 0x80000020 answered an error although the line is valid")


def test_a_store_repairs_just_its_bytes():
    m = upset()
    m.store(MEM + 8, b"\1")
    m.load(MEM + 8, 8)
    m.edit(Kind.LOAD, -1, flags=3)
    m.store(MEM + 9, b"\1")
    m.load(MEM + 8, 8)
    assert m.judge() == []


def test_twice_is_as_if_never_and_a_line_that_is_fetched_again_is_whole():
    m = upset()
    m.upset(MEM + 9)
    m.load(MEM + 8, 8)
    assert m.judge() == []
    m = upset()
    m.maintain(INVALIDATE, LINE, DC, MEM)
    m.load(MEM + 8, 8)
    assert m.judge() == []


@pytest.mark.parametrize("verb", ["load", "store"])
def test_a_bad_tag_makes_every_access_of_its_set_an_error(verb):
    m = upset(tag=True)
    same_set = MEM + 32 * PARITY.dcache.sets
    bytes_before = bytes(m.dcache[MEM][0])
    m.emit(Kind.LOAD, MEM + 8, aux=0xFF, flags=1)
    m.emit(Kind.STORE, MEM, aux=0xFF, data=7, flags=1)
    m.emit(Kind.LOAD, same_set, aux=0xFF, flags=1)
    m.load(MEM + 32, 8)
    assert m.judge() == [] and m.dcache[MEM][0] == bytes_before
    (m.load(MEM, 8) if verb == "load" else m.store(MEM, bytes(8)))
    noticed(m, f"D-cache line 0x80000000: {verb} at 0x80000000 answered okay although parity is wrong")


def test_a_spoiled_write_back_is_reported_with_its_answer():
    def record(flags, op=CLEAN, error=1):
        m = upset()
        m.maintain(op, RANGE, DC, MEM, 64)
        m.edit(Kind.WB_DONE, 0, flags=flags)
        m.edit(Kind.MAINT_END, 0, flags=error)
        return m

    assert record(2).judge() == record(2, CLEAN_INVALIDATE).judge() == []
    noticed(record(0), "D-cache line 0x80000000: write-back answered: parity error: expected True, got False")
    noticed(record(2, error=0), "a write-back of the command got a bus error that its end does not report")
    m = record(2)
    m.edit(Kind.WB_DONE, 1, flags=2)
    noticed(m, "D-cache line 0x80000020: write-back answered: parity error: expected False, got True")


@pytest.mark.parametrize("op", [CLEAN, INVALIDATE, CLEAN_INVALIDATE])
def test_maintenance_leaves_a_set_with_a_bad_tag_alone_and_says_so(op):
    def record(error, start=MEM):
        m = upset(tag=True)
        line = m.dcache.pop(MEM)  # the walk does not touch it
        m.maintain(op, RANGE, DC, start, 32)
        m.dcache[MEM] = line
        m.edit(Kind.MAINT_END, 0, flags=error)
        return m

    assert record(1).judge() == []
    noticed(record(0), "got a bus error that its end does not report")
    assert record(0, MEM + 32).judge() == []
    noticed(record(1, MEM + 32), "ended with an error that no write-back had")


def test_upsets_must_be_asked_for_and_hit_a_line():
    m = upset()
    m.repeat(Kind.UPSET)
    noticed(m, "D-cache line 0x80000000: a parity bit was inverted that no command had asked for")
    m = upset(MEM + 0x300)
    noticed(m, "D-cache line 0x80000300: a parity bit was inverted although the line is not valid")
    noticed(upset(config=SMALL), "a parity bit was inverted in a cache without parity")
    m = upset()
    m.delete(Kind.UPSET)
    assert m.judge() == [], "the line may have been gone"


def test_an_access_in_the_pipeline_may_find_either():
    m = upset()
    m.cycle -= 9
    m.load(MEM + 8, 8)
    assert m.judge() == []
    m.edit(Kind.LOAD, -1, flags=3)
    assert m.judge() == []
