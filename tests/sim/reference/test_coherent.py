# SPDX-License-Identifier: BSD-2-Clause
"""The coherent platform: dirty data is forwarded, written lines are merged or dropped, nothing stays stale."""

from rtl.probe import Cause, Kind, Source

from .machine import MEM, SMALL, Machine, noticed

COHERENT = SMALL.replace(coherency="snoop")


def to_device(addr: int, length: int, store: bytes) -> Machine:
    """A transfer to the device whose first line is dirty: the snoop takes the place of the memory reads."""
    m = Machine(COHERENT)
    m.store(addr, store)
    m.command(2, 0, length)
    m.handoff(addr, length, 1)
    m.emit(Kind.SEGMENT, addr, aux=1 | length << 1, data=0, tag=1)
    data = b""
    for line in range(m.line_of(addr), addr + length, 32):
        dirty = line in m.dcache and m.dcache[line][1]
        m.emit(Kind.SNOOP_READ, line, aux=Source.DMA_DATA, flags=dirty)
        if dirty:
            data += bytes(m.dcache[line][0])
        else:
            first, last = max(line, addr), min(line + 32, addr + length)
            data += bytes(first - line) if not data else b""
            for at in range(first & ~7, last, 8):
                data += m.mem_read(at, Source.DMA_DATA)
    data = data[addr - m.line_of(addr) :][:length]
    for at, strobes, word in m.beats(0, data):
        m.push(1, at, strobes, word)
    m.complete()
    m.flush()
    return m


def test_dirty_lines_are_forwarded():
    m = to_device(MEM + 0x105, 61, b"newer than memory")
    assert m.judge() == [] and m.device[:17] == b"newer than memory"
    m.edit(Kind.SNOOP_READ, 0, flags=0)
    noticed(m, "D-cache line 0x80000100: SNOOP_READ dirty hit: expected True, got False")
    m = to_device(MEM + 0x105, 61, b"newer than memory")
    m.edit(Kind.SNOOP_READ, 0, aux=Source.D_FILL)
    noticed(m, "snooped by source 0, which never does")


def test_memory_may_be_read_as_well_and_is_ignored():
    m = to_device(MEM + 0x105, 61, b"newer than memory")
    position = m.at(Kind.SNOOP_READ, 0) + 1
    tail, m.events = m.events[position:], m.events[:position]
    for at in range(MEM + 0x100, MEM + 0x120, 8):
        m.mem_read(at, Source.DMA_DATA)
    m.events += tail
    assert m.judge() == []


def test_snoops_need_coherency():
    for kind in (Kind.SNOOP_READ, Kind.SNOOP_WRITE):
        m = Machine()
        m.emit(kind, MEM, aux=Source.DMA_DATA)
        noticed(m, "on a platform without coherency")


def from_device(prepare, flags: int, length=16) -> Machine:
    """One whole chunk to memory, snooped with these flags."""
    m = Machine(COHERENT)
    prepare(m)
    m.command(1, 0, length)
    m.handoff(MEM, length, 0)
    data = bytes(m.device[:length])
    m.emit(Kind.SEGMENT, MEM, aux=length << 1, data=0, tag=1)
    for at, strobes, word in m.beats(0, data):
        m.emit(Kind.DEV_READ, at, aux=strobes, data=word)
    for at, strobes, word in m.beats(MEM, data):
        m.emit(Kind.PUSH, at, aux=strobes, data=word, tag=1)
    for at, strobes, word in m.beats(MEM, data):
        m.emit(Kind.DRAIN, at, aux=strobes, data=word)
    m.emit(Kind.SNOOP_WRITE, MEM, flags=flags)
    for at, strobes, word in m.beats(MEM, data):
        m.mem_write(at, strobes, word, Source.DMA_DATA)
    m.complete()
    return m


def test_write_merges_into_a_dirty_line():
    m = from_device(lambda m: m.store(MEM + 4, b"dirty neighbour bytes"), 1)
    m.dcache[MEM][0][:16] = m.device[:16]
    assert m.judge() == []
    m.edit(Kind.SNOOP_WRITE, 0, flags=0)
    noticed(m, "SNOOP_WRITE dirty hit: expected True, got False")


def test_write_drops_a_clean_line():
    m = from_device(lambda m: m.load(MEM, 8), 2)
    m.dcache.clear()
    assert m.judge() == []
    m.events.insert(
        m.at(Kind.SNOOP_WRITE) + 1, m.events[0]._replace(kind=int(Kind.INVALIDATE), addr=MEM, aux=Cause.SNOOP, flags=0)
    )
    assert m.judge() == []  # a record of its own says the same
    m = from_device(lambda m: m.load(MEM, 8), 0)
    noticed(m, "DMA write snooped, but its clean line was not dropped")
    noticed(m, "D-cache line 0x80000000: stale on a coherent platform")
    m = from_device(lambda m: None, 2)
    noticed(m, "a clean line was dropped although there is none")


def test_every_write_of_a_cached_line_is_snooped():
    m = from_device(lambda m: m.load(MEM, 8), 2)
    m.dcache.clear()
    m.delete(Kind.SNOOP_WRITE)
    noticed(m, "a DMA write that did not snoop the D-cache, which holds the line")
    m = from_device(lambda m: None, 0)
    assert m.judge() == []
    m.delete(Kind.SNOOP_WRITE)  # a miss need not be recorded
    assert m.judge() == []


def test_snooped_write_must_be_on_its_way():
    m = from_device(lambda m: None, 0)
    m.emit(Kind.SNOOP_WRITE, MEM)
    noticed(m, "D-cache line 0x80000000: DMA write snooped, but no write of it is on its way")


def test_write_drops_a_clean_fill_in_flight():
    def filling(m):
        m.csr_write("dcache.ctrl", 0)
        m.emit(Kind.FILL_REQUEST, MEM)
        for at in range(MEM, MEM + 32, 8):
            m.mem_read(at, Source.D_FILL)

    m = from_device(filling, 2)
    m.emit(Kind.FILL_DROP, MEM)
    assert m.judge() == []
    m.edit(Kind.FILL_DROP, 0, aux=0)
    m.events[-1] = m.events[-1]._replace(kind=int(Kind.FILL_INSTALL))
    noticed(m, "D-cache line 0x80000000: fill installed although a snoop had dropped it")


def test_write_merges_into_the_write_back_buffer():
    def evicted(m):
        m.store(MEM + 4, b"dirty neighbour bytes")
        m.evict(MEM)

    m = from_device(evicted, 1)
    line, data = m.buffer.popleft()
    m.buffer.append((line, bytes(m.device[:16]) + data[16:]))
    m.drain_buffer()
    assert m.judge() == []


def test_snooped_descriptor():
    m = Machine(COHERENT)
    fields = (MEM + 0x400, 16, 1, 0)
    m.store(MEM + 0x20, b"".join(field.to_bytes(4, "little") for field in fields))
    m.command(1, 0, 16)
    m.csr_write("bm.desc", MEM + 0x20)
    m.csr_write("bm.ctrl", 1)
    m.transfers = 1
    m.emit(Kind.HANDOFF, MEM + 0x20, aux=4, tag=1)
    m.emit(Kind.SNOOP_READ, MEM + 0x20, aux=Source.DMA_DESCRIPTOR, flags=1)
    m.emit(Kind.DESCRIPTOR, MEM + 0x20, data=fields[0] | fields[1] << 32, tag=1)
    m.to_memory(MEM + 0x400, 0, 16)
    m.complete(channel=4)
    assert m.judge() == []


def test_instruction_fills_see_dirty_bytes_and_stores_drop_lines():
    m = Machine(COHERENT)
    m.store(MEM, b"new code")
    m.emit(Kind.IFILL_REQUEST, MEM)
    m.emit(Kind.SNOOP_READ, MEM, aux=Source.I_FILL, flags=1)
    m.emit(Kind.IFILL_INSTALL, MEM)
    m.icache[MEM] = (bytes(m.dcache[MEM][0]), 0)
    m.fetch(MEM, 8)
    m.emit(Kind.SNOOP_READ, MEM, aux=Source.I_UNCACHED, flags=1)
    m.emit(Kind.FETCH, MEM + 8, aux=0xFF, data=int.from_bytes(m.dcache[MEM][0][8:16], "little"), flags=4)
    assert m.judge() == []
    m.store(MEM, b"newer")
    noticed(m, "I-cache line 0x80000000: stale on a coherent platform")
    m.emit(Kind.IINVALIDATE, MEM, aux=Cause.SNOOP << 1)
    m.icache.clear()
    assert m.judge() == []
