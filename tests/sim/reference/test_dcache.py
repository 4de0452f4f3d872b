# SPDX-License-Identifier: BSD-2-Clause
"""D-cache rules: each has a legal record that passes and an edited one that is noticed."""

import pytest

from rtl.probe import Cause, Kind, Source

from .machine import CLEAN, DC, LINE, MEM, SMALL, Machine, noticed


def busy_cache() -> Machine:
    """Stores, loads, replacements and write-backs in one set."""
    m = Machine()
    for n in range(4):
        m.store(MEM + n * 128 + 5, bytes([n + 1] * 11))
        m.drain_buffer()
    m.load(MEM + 3 * 128, 32)
    return m


def test_legal_record():
    assert busy_cache().judge() == []


@pytest.mark.parametrize("width", [32, 64, 128])
def test_every_width(width):
    m = Machine(SMALL.replace(data_width=width))
    for n in range(6):
        m.store(MEM + n * 128 + 3, bytes(range(n, n + 21)))
        m.drain_buffer()
    m.load(MEM + 5 * 128 + 1, 30)
    m.fetch(MEM + 256, 40)
    m.read_transfer(MEM + 1024 + 3, 17, 90, (7, 33))
    m.write_transfer(MEM + 2048 + 1, 500, 77, (9, 16))
    m.flush()
    assert m.judge() == []


def test_wrong_load():
    m = busy_cache()
    m.edit(Kind.LOAD, -1, data=0)
    noticed(m, "load data at 0x80000198: expected")
    assert len(m.judge()) == 1


def test_a_load_only_promises_the_lanes_it_asks_for():
    m = busy_cache()
    m.load(MEM + 3 * 128 + 4, 2)
    m.edit(Kind.LOAD, -1, data=m.events[-1].data | 0xFF << 56)
    assert m.judge() == []


def test_access_without_a_line():
    m = busy_cache()
    m.emit(Kind.LOAD, MEM + 0x800, aux=0xFF)
    noticed(m, "D-cache line 0x80000800: load at 0x80000800 although the line is neither valid nor being filled")
    m = busy_cache()
    m.emit(Kind.STORE, MEM + 0x800, aux=0xFF)
    noticed(m, "store at 0x80000800 although the line is neither")


def test_error_answers_need_a_cause():
    m = busy_cache()
    m.emit(Kind.LOAD, MEM + 3 * 128, aux=0xFF, flags=1)
    noticed(m, "answered an error although the line is valid")
    m = busy_cache()
    m.emit(Kind.STORE, MEM + 0x800, aux=0xFF, flags=1)
    noticed(m, "answered an error although no fill of the line had one")


def armed(mode: int) -> Machine:
    m = Machine()
    for name, value in (("fault_addr", MEM + 0x400), ("fault_size", 32), ("fault_ctrl", mode | 1 << 8)):
        m.csr_write(f"mem.{name}", value)
    return m


def test_fill_error():
    m = armed(2)
    m.fill(MEM + 0x400, error=1)
    m.emit(Kind.LOAD, MEM + 0x408, aux=0xFF, flags=1)
    m.load(MEM + 0x400, 8)  # the next try succeeds
    assert m.judge() == []
    m.edit(Kind.FILL_DROP, 0, flags=0)
    noticed(m, "fill dropped: because of a bus error: expected True, got False")


def test_fill_error_without_a_fault():
    m = Machine()
    m.fill(MEM + 0x400, error=1)
    noticed(m, "a read answered a bus error that nothing had armed")


def test_errored_fill_must_not_be_installed():
    m = armed(2)
    m.fill(MEM + 0x400, error=1)
    m.edit(Kind.FILL_DROP, 0, kind=int(Kind.FILL_INSTALL), flags=0)
    noticed(m, "fill installed although memory answered a bus error")


def test_write_back_error_loses_the_bytes():
    m = armed(1)
    m.store(MEM + 0x404, b"lost")
    m.evict(MEM + 0x400)
    m.drain_buffer(error=1)
    assert m.judge() == []
    m.edit(Kind.WB_DONE, 0, flags=0)
    noticed(m, "write-back answered: bus error: expected True, got False")


def test_critical_word_first_and_stores_into_a_fill():
    m = Machine()
    line = MEM + 0x200
    m.emit(Kind.FILL_REQUEST, line)
    first = m.mem_read(line + 16, Source.D_FILL)
    m.emit(Kind.LOAD, line + 16, aux=0xFF, data=int.from_bytes(first, "little"))
    m.emit(Kind.STORE, line + 24, aux=0x0F, data=0x11223344)
    rest = {at: m.mem_read(line + at, Source.D_FILL) for at in (24, 0, 8)}
    m.emit(Kind.FILL_INSTALL, line)
    data = rest[0] + rest[8] + first + bytes.fromhex("44332211") + rest[24][4:]
    m.dcache[line] = [bytearray(data), True, 0]
    assert m.judge() == []
    early = Machine()
    early.events = list(m.events)
    early.dcache = m.dcache
    early.edit(Kind.LOAD, 0, addr=line + 8)
    noticed(early, "load at 0x80000208 before its beat was read")
    m.delete(Kind.MEM_READ, -1)
    noticed(m, "fill installed before all its beats were read: expected 0b1111, got 0b1101")


def test_dropped_fill_must_not_lose_stores():
    m = Machine()
    m.emit(Kind.FILL_REQUEST, MEM)
    m.emit(Kind.FILL_DROP, MEM)
    for at in range(MEM, MEM + 32, 8):
        m.mem_read(at, Source.D_FILL)  # beats of a dropped fill still arrive
    m.fill(MEM)
    assert m.judge() == []
    m = Machine()
    m.emit(Kind.FILL_REQUEST, MEM)
    m.emit(Kind.STORE, MEM, aux=0xFF, data=1)
    m.emit(Kind.FILL_DROP, MEM)
    noticed(m, "fill dropped although stores were merged into it", final=False)


@pytest.mark.parametrize(
    "addr, cause, text",
    [
        (MEM + 4, Cause.DEMAND, "at an address that is not a line of the memory window"),
        (MEM + 4096, Cause.DEMAND, "at an address that is not a line of the memory window"),
        (MEM + 3 * 128, Cause.DEMAND, "although the line is valid"),
        (MEM + 3 * 128 + 32, Cause.PREFETCH, "by the prefetcher, which the registers do not allow"),
        (MEM + 3 * 128 + 32, Cause.MAINTENANCE, "by cause 3, which never fills"),
    ],
)
def test_illegal_fill_requests(addr, cause, text):
    m = busy_cache()
    m.emit(Kind.FILL_REQUEST, addr, aux=cause)
    noticed(m, text)


def test_doubled_fill_request():
    m = busy_cache()
    m.repeat(Kind.FILL_REQUEST)
    noticed(m, "fill requested although the line is being filled")


def test_prefetches_need_the_register_and_a_predecessor():
    m = Machine()
    m.csr_write("dcache.ctrl", 1)
    m.load(MEM, 8)
    m.fill(MEM + 32, Cause.PREFETCH)
    m.fill(MEM + 64, Cause.PREFETCH)
    m.csr_write("dcache.ctrl", 0)
    m.fill(MEM + 96, Cause.PREFETCH)  # decided before
    assert m.judge() == []
    for n in (128, 160):
        m.fill(MEM + n, Cause.PREFETCH)
    noticed(m, "D-cache line 0x800000a0: fill requested by the prefetcher")
    m = Machine()
    m.csr_write("dcache.ctrl", 1)
    m.fill(MEM + 0x400, Cause.PREFETCH)
    noticed(m, "fill requested by the prefetcher")


def test_prefetch_on_command():
    m = Machine()
    m.csr_write("dcache.inject_addr", MEM + 0x404)
    m.csr_write("dcache.inject_cmd", 2)
    m.fill(MEM + 0x400, Cause.PREFETCH)
    assert m.judge() == []


def test_injected_evictions_need_the_register():
    for allowed in (True, False):
        m = Machine()
        if allowed:
            m.csr_write("dcache.ctrl", 2)
        m.store(MEM, b"dirty")
        m.evict(MEM, Cause.INJECTOR)
        m.drain_buffer()
        if allowed:
            assert m.judge() == []
        else:
            noticed(m, "evicted by the injector, which the registers do not allow")


@pytest.mark.parametrize("bits, action", [(1, "evict"), (4, "clean")])
def test_line_commands(bits, action):
    m = Machine()
    m.store(MEM, b"dirty")
    m.csr_write("dcache.inject_addr", MEM)
    m.csr_write("dcache.inject_cmd", bits)
    getattr(m, action)(MEM, Cause.INJECTOR)
    m.drain_buffer()
    assert m.judge() == []
    m.store(MEM, b"again")
    getattr(m, action)(MEM, Cause.INJECTOR)
    m.drain_buffer()
    noticed(m, "by the injector, which the registers do not allow")


def test_installed_over_a_valid_line():
    m = Machine()
    m.fill(MEM, way=0)
    m.emit(Kind.FILL_REQUEST, MEM + 128)
    for at in range(MEM + 128, MEM + 160, 8):
        m.mem_read(at, Source.D_FILL)
    m.emit(Kind.FILL_INSTALL, MEM + 128)
    noticed(m, "fill installed over the valid line 0x80000000 in set 0 way 0")
    m.edit(Kind.FILL_INSTALL, -1, aux=2 << 8)
    noticed(m, "fill installed in a way that does not exist: expected below 2, got 2")


def test_fill_cause_and_doubled_install():
    m = busy_cache()
    m.edit(Kind.FILL_INSTALL, 0, aux=Cause.PREFETCH)
    noticed(m, "with another cause than requested: expected 0, got 1")
    m = busy_cache()
    m.repeat(Kind.FILL_INSTALL)
    noticed(m, "fill installed although none was in flight")
    m = busy_cache()
    m.repeat(Kind.MEM_READ)
    noticed(m, "was read twice")


@pytest.mark.parametrize("kind", [Kind.EVICT, Kind.CLEAN, Kind.INVALIDATE])
def test_lines_that_are_not_there(kind):
    m = busy_cache()
    m.emit(kind, MEM + 0x800, aux=Cause.MAINTENANCE)
    noticed(m, "although the line is not valid")


def test_dirty_flags():
    m = busy_cache()
    m.edit(Kind.EVICT, 0, flags=0)
    noticed(m, "dirty flag at eviction: expected True, got 0")
    m = Machine()
    m.load(MEM, 8)
    m.csr_write("dcache.ctrl", 2)
    m.clean(MEM, Cause.INJECTOR)
    m.drain_buffer()
    noticed(m, "cleaned although it is not dirty")


def test_causes():
    m = busy_cache()
    m.clean(MEM + 3 * 128, Cause.DEMAND)
    noticed(m, "cleaned by cause 0, which evicts", final=False)
    m = busy_cache()
    m.invalidate(MEM + 3 * 128, Cause.DEMAND)
    noticed(m, "invalidated by cause 0, which evicts")
    m = busy_cache()
    m.evict(MEM + 3 * 128, Cause.SNOOP)
    noticed(m, "evicted by cause 4 on this platform", final=False)
    m = busy_cache()
    m.evict(MEM + 3 * 128, Cause.MAINTENANCE)
    noticed(m, "evicted by maintenance, but no command asks for that on this line", final=False)


def test_write_back_data_and_order():
    m = busy_cache()
    m.edit(Kind.MEM_WRITE, 1, data=0)
    noticed(m, "memory 0x80000008: D_WRITEBACK write data: expected 01 01 01 01 01 01 01 01, got 00")
    m = busy_cache()
    m.edit(Kind.MEM_WRITE, 0, aux=Source.D_WRITEBACK | 0x7F << 8)
    noticed(m, "memory 0x80000000: D_WRITEBACK write data")
    m = busy_cache()
    m.repeat(Kind.MEM_WRITE)
    noticed(m, "was written back twice")
    m = busy_cache()
    m.delete(Kind.MEM_WRITE)
    noticed(m, "write-back answered before all its beats reached memory: expected 0b1111, got 0b1110")
    m = busy_cache()
    m.delete(Kind.WB_DONE)
    noticed(m, "a write-back was never answered")
    m = busy_cache()
    m.repeat(Kind.WB_DONE)
    noticed(m, "write-back answered although the line is not in the write-back buffer")


def test_write_back_of_a_line_that_never_left():
    m = busy_cache()
    m.delete(Kind.EVICT)
    noticed(m, "was written back although it is not in the write-back buffer")


def test_fill_behind_a_buffered_write_back_is_stale():
    for bug in (None, "stale_fill"):
        m = Machine(bug=bug)
        m.store(MEM + 8, b"newest bytes")
        m.evict(MEM)
        m.load(MEM + 8, 8)
        m.drain_buffer()
        if bug is None:
            assert m.judge() == []
        else:
            noticed(m, "load data at 0x80000008")


def test_lost_and_invented_memory_beats():
    m = busy_cache()
    m.edit(Kind.MEM_READ, 2, data=7)
    noticed(m, "memory 0x80000010: read data")
    m = busy_cache()
    m.edit(Kind.MEM_READ, 0, addr=MEM + 0x4000)
    noticed(m, "a read beat lies outside the memory window")
    m = busy_cache()
    m.edit(Kind.MEM_WRITE, 0, addr=MEM - 8)
    noticed(m, "a write beat lies outside the memory window")
    m = busy_cache()
    m.edit(Kind.MEM_READ, 0, aux=Source.D_WRITEBACK)
    noticed(m, "a read by source 2, which never reads")
    m = busy_cache()
    m.edit(Kind.MEM_WRITE, 0, aux=Source.I_FILL | 0xFF << 8)
    noticed(m, "a write by source 4, which never writes")
    m = busy_cache()
    m.delete(Kind.FILL_REQUEST)
    noticed(m, "a beat was read for a fill that nobody requested")


def test_unknown_kind():
    m = Machine()
    m.emit(0xEE)
    noticed(m, "a record of unknown kind 0xee")


def test_clean_then_dirty_again_before_the_write_back():
    m = Machine()
    m.store(MEM, b"old!")
    m.maintain(CLEAN, LINE, DC, MEM, between=[lambda: m.store(MEM, b"new!")])
    assert m.judge() == []
