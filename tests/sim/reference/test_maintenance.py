# SPDX-License-Identifier: BSD-2-Clause
"""What a maintenance command owes, and what the I-cache may hold."""

import pytest

from rtl.probe import Cause, Kind, Source

from .machine import ALL, CLEAN, CLEAN_INVALIDATE, DC, IC, INVALIDATE, LINE, MEM, RANGE, SMALL, Machine, noticed

BOTH = DC | IC
OPS = (CLEAN, INVALIDATE, CLEAN_INVALIDATE)


def filled(bug=None, config=SMALL) -> Machine:
    """Dirty lines 0..2, a clean line 3, and all of them in the I-cache."""
    m = Machine(config, bug)
    m.fetch(MEM, 128)
    for n in range(3):
        m.store(MEM + n * 32 + 3, bytes([0x40 + n] * 9))
    m.load(MEM + 96, 8)
    return m


@pytest.mark.parametrize("target", [DC, IC, BOTH])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("scope, start, length", [(LINE, MEM + 40, 0), (RANGE, MEM + 5, 60), (RANGE, MEM, 96), (ALL, 0, 0)])
def test_legal_commands(target, op, scope, start, length):
    m = filled()
    m.maintain(op, scope, target, start, length)
    m.fetch(MEM, 64)
    m.load(MEM, 128)
    assert m.judge() == []


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("scope, start, length", [(RANGE, MEM + 5, 60), (RANGE, MEM, 96)])
def test_skipped_last_line_is_noticed(op, scope, start, length):
    m = filled("skips_last_line")
    m.maintain(op, scope, DC, start, length)
    last = (start + length - 1) & ~31
    rule = "is still dirty in the array" if op == CLEAN else "is still valid"
    noticed(m, f"D-cache line {last:#010x}: {rule} although maintenance reports done")


@pytest.mark.parametrize("op", [INVALIDATE, CLEAN_INVALIDATE])
def test_skipped_instruction_lines_are_noticed(op):
    m = filled()
    m.maintain(op, RANGE, IC, MEM, 64)
    m.delete(Kind.IINVALIDATE, 1)
    noticed(m, "I-cache line 0x80000020: is still valid although maintenance reports done", final=False)


def test_declared_tail_fault_is_not_an_error_and_doing_the_work_is():
    config = SMALL.replace(faults__maintenance_ignores_tail=True)
    m = filled(config=config)
    m.maintain(CLEAN, RANGE, DC, MEM, 70)
    assert m.judge() == [] and m.dcache[MEM + 64][1]
    m = filled()  # healthy hardware, sold as faulty
    m.maintain(CLEAN, RANGE, DC, MEM, 70)
    m.config = config
    noticed(m, "D-cache line 0x80000040: cleaned by maintenance, but no command asks for that on this line")


CLEANS_EDGES = SMALL.replace(dcache__partial_lines="clean")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("start, length, edges", [(5, 60, 2), (32, 40, 1), (0, 64, 0), (33, 3, 1), (40, 24, 1)])
def test_partial_lines_are_cleaned_where_the_platform_says_so(op, start, length, edges):
    m = filled(config=CLEANS_EDGES)
    m.maintain(op, RANGE, BOTH, MEM + start, length)
    m.load(MEM, 128)
    assert m.judge() == []
    if op == INVALIDATE:
        assert sum(event.kind == Kind.EVICT for event in m.events) == edges


def test_a_dropped_edge_is_noticed():
    m = filled("drops_edges", config=CLEANS_EDGES)
    m.maintain(INVALIDATE, RANGE, DC, MEM + 5, 60)
    noticed(m, "D-cache line 0x80000000: invalidated although it is dirty and nothing asked to discard its bytes")
    noticed(m, "D-cache line 0x80000040: invalidated although it is dirty and nothing asked to discard its bytes")
    assert not any("0x80000020" in text for text in m.judge()), "a whole line is dropped"


def test_a_cleaned_edge_is_noticed_where_the_platform_drops_it():
    m = filled(config=CLEANS_EDGES)
    m.maintain(INVALIDATE, RANGE, DC, MEM + 5, 60)
    m.config = SMALL
    noticed(m, "D-cache line 0x80000000: evicted by maintenance, but no command asks for that on this line")


def test_an_edge_that_is_still_being_written_back():
    m = filled("done_early", config=CLEANS_EDGES)
    m.maintain(INVALIDATE, RANGE, DC, MEM + 40, 24)
    noticed(m, "D-cache line 0x80000020: has a write-back that memory has not answered although maintenance reports done")


def test_a_skipped_edge_is_noticed():
    m = filled("skips_last_line", config=CLEANS_EDGES)
    m.maintain(INVALIDATE, RANGE, DC, MEM, 70)
    noticed(m, "D-cache line 0x80000040: is still dirty in the array although maintenance reports done")


def test_ignored_tail_and_cleaned_edges():
    m = filled(config=CLEANS_EDGES.replace(faults__maintenance_ignores_tail=True))
    m.maintain(INVALIDATE, RANGE, DC, MEM + 5, 65)
    assert m.judge() == [] and m.dcache[MEM + 64][1] and MEM + 32 not in m.dcache


def test_done_before_memory_has_answered():
    m = filled("done_early")
    m.maintain(CLEAN, RANGE, DC, MEM, 32)
    noticed(m, "D-cache line 0x80000000: has a write-back that memory has not answered although maintenance reports done")
    m.drain_buffer()
    assert len(m.judge()) == 1
    m = filled(config=SMALL.replace(faults__maintenance_point_of_unification=True))
    m.maintain(CLEAN, RANGE, DC, MEM, 32)
    m.drain_buffer()
    assert m.judge() == []


def test_invalidate_waits_for_an_older_write_back():
    m = filled("done_early")
    m.evict(MEM)
    m.maintain(INVALIDATE, RANGE, DC, MEM, 32)
    m.drain_buffer()
    noticed(m, "D-cache line 0x80000000: has a write-back that memory has not answered")


def test_lines_used_again_after_the_beginning_are_not_owed():
    for op in OPS:
        m = filled()
        m.maintain(op, RANGE, DC, MEM, 96, between=[lambda m=m: m.store(MEM, b"later"), lambda m=m: m.load(MEM + 32, 8)])
        assert m.judge() == []


def test_clean_invalidate_may_leave_a_line_dirtied_meanwhile():
    for op in (CLEAN_INVALIDATE, INVALIDATE):
        m = filled()
        m.csr_write("maint.start", MEM + 96)
        m.csr_write("maint.cmd", op | DC << 4)
        m.emit(Kind.MAINT_BEGIN, MEM + 96, aux=op | DC << 4)
        m.store(MEM + 96, b"later")
        m.emit(Kind.MAINT_END, MEM + 96)
        if op == CLEAN_INVALIDATE:
            assert m.judge() == []
        else:
            noticed(m, "D-cache line 0x80000060: is still valid although maintenance reports done")


def test_a_line_stored_again_but_never_cleaned_is_owed():
    m = filled()
    m.maintain(CLEAN, RANGE, DC, MEM, 32, between=[lambda: m.store(MEM, b"later")])
    n = m.at(Kind.CLEAN)
    del m.events[n]
    noticed(m, "D-cache line 0x80000000: is still dirty in the array", final=False)


def test_fill_in_flight_must_not_survive():
    m = filled()
    m.csr_write("maint.start", MEM + 0x200)
    m.emit(Kind.FILL_REQUEST, MEM + 0x200)
    m.csr_write("maint.cmd", INVALIDATE | DC << 4)
    m.emit(Kind.MAINT_BEGIN, MEM + 0x200, aux=INVALIDATE | DC << 4)
    m.emit(Kind.MAINT_END, MEM + 0x200)
    noticed(m, "D-cache line 0x80000200: has a fill in flight from before the command", final=False)


def test_flash_invalidate_takes_the_whole_array():
    m = filled()
    m.csr_write("maint.cmd", INVALIDATE | ALL << 2 | DC << 4)
    m.emit(Kind.MAINT_BEGIN, aux=INVALIDATE | ALL << 2 | DC << 4)
    m.emit(Kind.INVALIDATE, flags=3, aux=Cause.MAINTENANCE)
    m.emit(Kind.MAINT_END)
    m.dcache.clear()
    assert m.judge() == []
    m.edit(Kind.INVALIDATE, 0, flags=2)  # without the dirty ones: they are still valid
    noticed(m, "D-cache line 0x80000000: is still valid although maintenance reports done")
    m = filled()
    m.emit(Kind.INVALIDATE, flags=3, aux=Cause.MAINTENANCE)
    noticed(m, "invalidated with the whole array, which nothing asks for")


@pytest.mark.parametrize("op, kind", [(CLEAN, Kind.INVALIDATE), (CLEAN_INVALIDATE, Kind.INVALIDATE), (INVALIDATE, Kind.EVICT)])
def test_work_that_does_not_fit_the_command(op, kind):
    """A clean must not invalidate, a clean+invalidate must not drop dirty bytes, an invalidate must not write back."""
    m = filled()
    act = m.invalidate if kind == Kind.INVALIDATE else lambda line: m.evict(line, Cause.MAINTENANCE)
    m.csr_write("maint.start", MEM)
    m.csr_write("maint.cmd", op | DC << 4)
    m.emit(Kind.MAINT_BEGIN, MEM, aux=op | DC << 4)
    act(MEM)
    m.drain_buffer()
    m.emit(Kind.MAINT_END, MEM)
    assert m.judge() != []


def test_instruction_side_goes_last():
    m = filled()
    m.maintain(CLEAN_INVALIDATE, LINE, BOTH, MEM)
    assert m.judge() == []
    first = m.at(Kind.IINVALIDATE)
    move = m.events.pop(first)
    m.events.insert(m.at(Kind.WB_DONE, -1), move)
    noticed(m, "has a write-back that memory has not answered although the I-cache is already being invalidated")


def test_begin_must_fit_the_registers():
    m = filled()
    m.maintain(CLEAN, LINE, DC, MEM)
    m.edit(Kind.MAINT_BEGIN, 0, addr=MEM + 32)
    noticed(m, "the command began with other values: expected op=1 scope=0 target=1 start=0x80000000")
    m.delete(Kind.MAINT_BEGIN)
    noticed(m, "a command ended although none was running")
    noticed(m, "never began")
    m = filled()
    m.maintain(CLEAN, LINE, DC, MEM)
    m.repeat(Kind.MAINT_BEGIN)
    noticed(m, "a command began while one was running")
    m = filled()
    m.maintain(CLEAN, LINE, DC, MEM)
    m.delete(Kind.MAINT_END)
    noticed(m, "maintenance: a command never ended")
    m = filled()
    m.emit(Kind.MAINT_BEGIN, MEM, aux=CLEAN | DC << 4)
    m.emit(Kind.MAINT_END, MEM)
    noticed(m, "a command began that no register write had asked for")


def test_start_while_busy_is_ignored():
    def busy(m):
        m.csr_write("maint.cmd", INVALIDATE | DC << 4)
        m.cycle += 100

    m = filled()
    m.maintain(CLEAN, LINE, DC, MEM, between=[lambda: busy(m)])
    assert m.judge() == []
    m.emit(Kind.MAINT_BEGIN, MEM, aux=INVALIDATE | DC << 4)
    m.emit(Kind.MAINT_END, MEM)
    noticed(m, "a command began that was written while one was running")


def test_empty_commands_need_not_begin():
    m = filled()
    m.csr_write("maint.cmd", CLEAN | RANGE << 2 | DC << 4)
    m.csr_write("maint.cmd", CLEAN)
    m.csr_write("maint.cmd", DC << 4)
    assert m.judge() == []


def test_abort():
    m = filled()
    m.csr_write("maint.length", 96)
    m.csr_write("maint.start", MEM)
    m.csr_write("maint.cmd", CLEAN | RANGE << 2 | DC << 4)
    m.emit(Kind.MAINT_BEGIN, MEM, aux=CLEAN | RANGE << 2 | DC << 4, data=96)
    m.csr_write("maint.cmd", 1 << 8)
    m.emit(Kind.MAINT_END, MEM, flags=2)
    assert m.judge() == []
    m.delete(Kind.CSR_WRITE, -1)
    m.delete(Kind.UNCACHED_STORE, -1)
    m.delete(Kind.UNCACHED_STORE_DONE, -1)
    noticed(m, "ended as aborted although nobody aborted it")


def test_error_status():
    def record(flags):
        m = Machine()
        for name, value in (("fault_addr", MEM), ("fault_size", 32), ("fault_ctrl", 1 | 1 << 8)):
            m.csr_write(f"mem.{name}", value)
        m.store(MEM, b"lost")
        m.maintain(CLEAN, LINE, DC, MEM, between=[lambda: m.drain_buffer(error=1)])
        m.edit(Kind.MAINT_END, 0, flags=flags)
        return m

    assert record(1).judge() == []
    noticed(record(0), "a write-back of the command got a bus error that its end does not report")
    m = filled()
    m.maintain(CLEAN, LINE, DC, MEM)
    m.edit(Kind.MAINT_END, 0, flags=1)
    noticed(m, "ended with an error that no write-back had")


# --- I-cache
def test_fetch_data():
    m = filled()
    m.fetch(MEM + 4, 4)  # stale on purpose: the D-cache holds newer bytes
    assert m.judge() == []
    m.edit(Kind.FETCH, -1, data=0)
    noticed(m, "I-cache line 0x80000000: fetch data at 0x80000000: expected -- -- -- --")
    m = filled()
    m.emit(Kind.FETCH, MEM + 0x800, aux=0xFF)
    noticed(m, "although its beat is neither cached nor read")
    m = filled()
    m.emit(Kind.FETCH, MEM, aux=0xFF, flags=1)
    noticed(m, "fetch at 0x80000000 answered an error although the line is valid")
    m = filled()
    m.emit(Kind.FETCH, MEM + 0x800, aux=0xFF, flags=1)
    noticed(m, "no fill of the line had one")


def test_fetch_outside_the_map_answers_an_error():
    m = Machine()
    m.emit(Kind.FETCH, 0x1000_0000, aux=0xFF, flags=5)
    assert m.judge() == []
    m.edit(Kind.FETCH, 0, flags=4)
    noticed(m, "fetch at 0x10000000 outside memory answered okay")


def uncached_fetch() -> Machine:
    m = filled()
    data = m.mem_read(MEM + 8, Source.I_UNCACHED)
    m.emit(Kind.FETCH, MEM + 8, aux=0xF0, data=int.from_bytes(data, "little"), flags=4)
    return m


def test_uncached_fetches_go_around_the_cache():
    assert uncached_fetch().judge() == []
    for kind, fields, text in (
        (Kind.FETCH, {"data": 0}, "uncached fetch at 0x80000008: data: expected -- -- -- --"),
        (Kind.FETCH, {"flags": 5}, "uncached fetch at 0x80000008: error: expected False, got True"),
        (Kind.FETCH, {"addr": MEM}, "uncached fetch at 0x80000000 answered with another beat"),
        (Kind.MEM_READ, {"aux": int(Source.D_UNCACHED)}, "uncached fetch at 0x80000008 answered although memory was not read"),
    ):
        m = uncached_fetch()
        m.edit(kind, -1, **fields)
        noticed(m, text)


def test_instruction_fills():
    m = filled()
    m.repeat(Kind.IFILL_REQUEST)
    noticed(m, "I-cache line 0x80000000: fill requested although the line is being filled")
    m = filled()
    m.emit(Kind.IFILL_REQUEST, MEM)
    noticed(m, "fill requested although the line is valid")
    m = filled()
    m.emit(Kind.IFILL_REQUEST, MEM + 4)
    noticed(m, "at an address that is not a line")
    m = filled()
    m.repeat(Kind.IFILL_INSTALL)
    noticed(m, "fill installed although none was in flight")
    m = filled()
    m.delete(Kind.MEM_READ)
    noticed(m, "fill installed before all its beats were read: expected 0b1111, got 0b1110")
    m = filled()
    m.edit(Kind.IFILL_INSTALL, 0, flags=1)
    noticed(m, "fill ended with an error that memory did not answer")
    m = filled()
    m.edit(Kind.IFILL_INSTALL, 0, aux=2 << 8)
    noticed(m, "in a way that does not exist")
    m = filled()
    m.repeat(Kind.MEM_READ)
    noticed(m, "I-cache line 0x80000000: beat 0 was read twice")
    m = filled()
    m.delete(Kind.IFILL_REQUEST)
    noticed(m, "was read for a fill that nobody requested")


def test_instruction_replacement():
    m = Machine()
    for n in range(3):
        m.fetch(MEM + n * 128, 8)
    assert m.judge() == []
    m.delete(Kind.IEVICT)
    noticed(m, "I-cache line 0x80000100: fill installed over the valid line 0x80000000 in set 0 way 0")
    m = filled()
    m.emit(Kind.IEVICT, MEM + 0x800)
    noticed(m, "evicted although the line is not valid")


def test_fill_invalidated_in_flight_is_not_installed():
    m = Machine()
    m.emit(Kind.IFILL_REQUEST, MEM)
    m.maintain(INVALIDATE, ALL, IC)
    m.emit(Kind.IFILL_REQUEST, MEM)
    for _ in range(2):
        for at in range(MEM, MEM + 32, 8):
            m.mem_read(at, Source.I_FILL)
    assert m.judge() == []
    m.emit(Kind.IFILL_INSTALL, MEM)
    noticed(m, "fill installed although it was invalidated in flight")


def test_instruction_invalidations_need_a_command():
    m = filled()
    m.emit(Kind.IINVALIDATE, MEM, aux=Cause.MAINTENANCE << 1)
    noticed(m, "invalidated by maintenance, but no command asks for it")
    m = filled()
    m.emit(Kind.IINVALIDATE, MEM, aux=Cause.SNOOP << 1)
    noticed(m, "invalidated by cause 4 on this platform")
    m = filled()
    m.maintain(INVALIDATE, LINE, IC, MEM)
    m.edit(Kind.IINVALIDATE, 0, addr=MEM + 32)
    noticed(m, "I-cache line 0x80000020: invalidated by maintenance, but the command does not cover it")
    m.edit(Kind.IINVALIDATE, 0, aux=1 | Cause.MAINTENANCE << 1)
    noticed(m, "whole, but the command covers only 1 lines")


def test_clean_leaves_the_instruction_side_alone():
    m = filled()
    m.maintain(CLEAN, LINE, BOTH, MEM)
    assert m.judge() == []
    m = filled()
    m.maintain(CLEAN, LINE, BOTH, MEM)
    m.events.insert(m.at(Kind.MAINT_END), m.events[m.at(Kind.MAINT_END)]._replace(kind=int(Kind.IINVALIDATE), aux=6))
    noticed(m, "but no command asks for it")
