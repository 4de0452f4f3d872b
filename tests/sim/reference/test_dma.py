# SPDX-License-Identifier: BSD-2-Clause
"""DMA rules: chunk FIFO, flush, channels, descriptors, device."""

import pytest

from rtl.probe import Kind, Source

from .machine import MEM, SMALL, Machine, noticed

TO = MEM + 0x403


def received(bug=None, length=100) -> Machine:
    """A device-to-memory transfer that leaves a remainder."""
    m = Machine(bug=bug)
    m.read_transfer(TO, 33, length, (7, 40, 3))
    return m


def sent(length=100) -> Machine:
    """A memory-to-device transfer that leaves a remainder."""
    m = Machine()
    m.write_transfer(TO, 33, length, (7, 40, 3))
    return m


@pytest.mark.parametrize("chunk", [8, 16, 32])
@pytest.mark.parametrize("length", [1, 7, 8, 15, 16, 17, 100, 256])
def test_legal_transfers(chunk, length):
    for cut_through in (False, True):
        m = Machine(SMALL.replace(dma__chunk_bytes=chunk, dma__cut_through=cut_through))
        m.read_transfer(TO, 33, length, (7, 40, 3))
        assert m.judge() == []
        m.write_transfer(MEM + 0x801, 65, length, (1, 64))
        m.flush()
        m.read_transfer(TO + 300, 33, length)
        assert m.judge() == []


def test_the_remainder_survives_into_the_next_transfer():
    m = received()
    assert len(m.open[0]) == 7
    m.read_transfer(MEM + 0x801, 65, 10)
    assert m.judge() == []


def test_dropped_remainder_is_noticed():
    m = received("drops_remainder")
    m.flush()
    noticed(m, "DMA flush: reported ok although 1 beats have not reached the memory")
    noticed(m, "1 beats of closed chunks never left")
    m = received()
    m.open[0] = {}
    noticed(m, "DMA FIFO to memory: remainder: expected 0x80000460: +0=")


def test_bytes_that_leave_too_early():
    m = received(length=5)
    held = m.open[0]
    m.leave(0, held)
    noticed(m, "DMA FIFO to memory: bytes left a chunk that is neither whole nor closed")
    m = Machine()
    m.emit(Kind.DRAIN, MEM, aux=0xFF, data=5)
    noticed(m, "bytes left that never entered")


@pytest.mark.parametrize("side, make", [("memory", received), ("device", sent)])
def test_path_to_either_side(side, make):
    m = make()
    assert m.judge() == []
    m.delete(Kind.DRAIN, 2)
    noticed(m, f"DMA FIFO to {side}: 1 beats were skipped, the first")
    m = make()
    m.edit(Kind.DRAIN, 2, data=0)
    noticed(m, f"DMA FIFO to {side}: beat that left: expected")
    m = make()
    m.edit(Kind.PUSH, 3, data=0)
    noticed(m, f"DMA FIFO to {side}: bytes that entered for")
    m = make()
    m.delete(Kind.PUSH, 3)
    noticed(m, "bytes entered that are not next")
    m = make()
    m.repeat(Kind.PUSH, 3)
    noticed(m, "bytes entered that are not next")
    m = make()
    m.edit(Kind.PUSH, 3, tag=9)
    noticed(m, "bytes of transfer 1 entered as 9")
    m = make()
    m.emit(Kind.PUSH, MEM, aux=1 | (side == "device") << 31, tag=1)
    noticed(m, "bytes entered that belong to no transfer")


def test_memory_side_of_the_path():
    m = received()
    m.edit(Kind.MEM_WRITE, 1, data=1)
    noticed(m, "DMA_DATA write data: expected")
    m = received()
    m.delete(Kind.MEM_WRITE, -1)
    noticed(m, "DMA FIFO to memory: 1 beats left but never arrived")
    m = received()
    m.repeat(Kind.MEM_WRITE, -1)
    noticed(m, "a DMA write that never left the FIFO")
    m = received()
    m.edit(Kind.MEM_WRITE, 1, addr=MEM)
    noticed(m, "DMA write to another address: expected 0x80000408, got 0x80000000")
    m = sent()
    m.delete(Kind.MEM_READ, 1)
    noticed(m, "read for the DMA although no segment needs it")
    m = sent()
    m.delete(Kind.MEM_READ, -1)
    noticed(m, "bytes entered before memory was read")


def test_device_side_of_the_path():
    m = received()
    m.edit(Kind.DEV_READ, 1, data=0)
    noticed(m, "device offset 0x28: read data: expected")
    m = received()
    m.delete(Kind.DEV_READ, 1)
    noticed(m, "that is not next")
    m = Machine()
    m.emit(Kind.DEV_READ, 0, aux=1, data=m.device[0])
    noticed(m, "device offset 0x0: read although no command reads")
    m = sent()
    m.edit(Kind.DEV_WRITE, 1, data=0)
    noticed(m, "write data: expected")
    m = sent()
    m.repeat(Kind.DEV_WRITE, -1)
    noticed(m, "written although nothing was on its way")
    m = sent()
    m.delete(Kind.DEV_WRITE, -1)
    noticed(m, "DMA FIFO to device: 1 beats left but never arrived")


def test_device_bytes_may_leave_in_the_cycle_they_enter():
    """The FIFO's channel stands before the device's within a cycle."""
    m = Machine()
    m.command(1, 32, 8)
    m.handoff(MEM, 8, 0)
    m.emit(Kind.SEGMENT, MEM, aux=8 << 1, data=32, tag=1)
    word = int.from_bytes(m.device[32:40], "little")
    m.push(0, MEM, 0xFF, word)
    m.emit(Kind.DEV_READ, 32, aux=0xFF, data=word, same_cycle=True)
    m.complete()
    assert m.judge() == []
    m.edit(Kind.DEV_READ, 0, cycle=m.cycle + 1)
    noticed(m, "DMA FIFO to memory: bytes entered before they left the device at 0x20")
    m.delete(Kind.DEV_READ)
    noticed(m, "that never left the device at 0x20")


def test_handoff():
    m = received()
    m.edit(Kind.HANDOFF, 0, data=99)
    noticed(m, "DMA transfer 1: hand-off of system channel 0 with other values: expected address 0x80000403 count 100")
    m = received()
    m.repeat(Kind.HANDOFF)
    noticed(m, "hand-off of system channel 0 while it is busy")
    m = Machine()
    m.emit(Kind.HANDOFF, MEM, data=5, tag=1)
    noticed(m, "that no register write had asked for")
    m.edit(Kind.HANDOFF, 0, aux=3)
    noticed(m, "hand-off of system channel 3, which does not exist")
    m = Machine()
    m.csr_write("ch0.count", 5)
    m.csr_write("ch0.ctrl", 1)
    noticed(m, "DMA: system channel 0 was started but never handed off")
    m = Machine()
    m.csr_write("ch0.ctrl", 1)  # count 0: an error, not a hand-off
    assert m.judge() == []


def test_segments():
    for fields, text in (
        ({"addr": MEM}, "the next byte is at 0x80000403"),
        ({"aux": 101 << 1}, "only 100 bytes are left there"),
        ({"aux": 0}, "a segment must have at least one byte"),
        ({"aux": 7 << 1 | 1}, "write_to_device: expected 0, got 1"),
        ({"tag": 8}, "of a transfer that is not running"),
        ({"data": 34}, "that are not next: expected 0x21, got 0x22"),
    ):
        m = received()
        m.edit(Kind.SEGMENT, 0, **fields)
        noticed(m, text)
    m = Machine()
    m.handoff(MEM, 8, 0)
    m.emit(Kind.SEGMENT, MEM, aux=8 << 1, tag=1)
    noticed(m, "although the device has no DMA command")


def test_completion():
    m = received()
    m.delete(Kind.PUSH, -1)
    noticed(m, "DMA transfer 1: completed: bytes in the FIFO (count minus residue)")
    m = received()
    m.edit(Kind.COMPLETE, 0, flags=1)
    noticed(m, "completed with an error that nothing had caused")
    m = received()
    m.repeat(Kind.COMPLETE)
    noticed(m, "completed although it is not running")
    m = received()
    m.events.insert(m.at(Kind.SEGMENT, 1), m.events[m.at(Kind.COMPLETE)]._replace(flags=2, data=93))
    noticed(m, "completed as stopped although neither the driver nor the device ended it")


def test_short_and_stopped_transfers():
    m = Machine()
    m.command(1, 0, 64, short=20)
    m.handoff(MEM, 64, 0)
    m.to_memory(MEM, 0, 20)
    m.complete(residue=44, flags=2)
    m.flush()
    assert m.judge() == []
    m = Machine()
    m.command(1, 0, 64)
    m.handoff(MEM, 64, 0)
    m.to_memory(MEM, 0, 20)
    m.csr_write("ch0.ctrl", 2)
    m.complete(residue=44, flags=2)
    assert m.judge() == []
    m.edit(Kind.COMPLETE, 0, data=40)
    noticed(m, "bytes in the FIFO (count minus residue): expected 20, got 24")


def test_rest_of_a_cut_request_is_dropped():
    m = Machine()
    m.command(1, 0, 64)
    m.handoff(MEM, 10, 0)
    m.to_memory(MEM, 0, 10)
    m.emit(Kind.DEV_READ, 8, aux=0xFC, data=int.from_bytes(m.device[8:16], "little"))
    m.complete()
    m.handoff(MEM + 64, 48, 0)
    m.to_memory(MEM + 64, 16, 48)
    m.complete()
    assert m.judge() == []


def test_auto_init_goes_on_by_itself():
    m = Machine()
    m.command(1, 0, 64)
    m.handoff(MEM, 32, 0, mode=4)
    m.to_memory(MEM, 0, 32)
    m.complete()
    m.to_memory(MEM, 32, 32)
    m.complete()
    assert m.judge() == []
    m.edit(Kind.CSR_WRITE, 5, data=0)
    m.edit(Kind.UNCACHED_STORE, 5, data=0)
    noticed(m, "of a transfer that is not running")


# --- flush
def test_flush_needs_a_command_and_ends_once():
    m = received()
    m.flush()
    assert m.judge() == []
    m.repeat(Kind.FLUSH_BEGIN)
    noticed(m, "DMA flush: began while one was running")
    m = received()
    m.emit(Kind.FLUSH_BEGIN)
    m.emit(Kind.FLUSH_END, flags=1)
    noticed(m, "DMA flush: began although no register write had asked for it", final=False)
    m.repeat(Kind.FLUSH_END)
    noticed(m, "DMA flush: ended although none was running", final=False)
    m = received()
    m.flush()
    m.delete(Kind.FLUSH_END)
    noticed(m, "DMA flush: never ended")
    m = received()
    m.csr_write("dma.ctrl", 1)
    noticed(m, "DMA flush: the command of cycle")
    m = received()
    m.flush()
    m.edit(Kind.FLUSH_END, 0, flags=3)
    noticed(m, "DMA flush: status must be one of")


def test_flush_reports_ok_before_the_bytes_arrived():
    for make, kind, side in ((received, Kind.MEM_WRITE, "memory"), (sent, Kind.DEV_WRITE, "device")):
        m = make()
        m.flush()
        late = m.events.pop(m.at(kind, -1))
        m.events.append(late)
        noticed(m, f"DMA flush: reported ok although 1 beats have not reached the {side}")


def failing() -> Machine:
    m = Machine()
    for name, value in (("fault_addr", MEM + 0x400), ("fault_size", 256), ("fault_ctrl", 1 | 1 << 8)):
        m.csr_write(f"mem.{name}", value)
    m.read_transfer(TO, 33, 100)
    return m


def test_flush_with_bus_error_keeps_the_remainder_for_a_retry():
    m = failing()
    m.flush(error=1)
    assert m.judge() == [] and len(m.open[0]) == 7
    m.flush()
    assert m.judge() == [] and not m.open[0]
    m.edit(Kind.FLUSH_END, 0, flags=1)
    noticed(m, "reported ok although memory answered the remainder's write with an error")
    m = received()
    m.flush()
    m.edit(Kind.FLUSH_END, 0, flags=2)
    noticed(m, "reported a bus error that memory never answered")


def test_time_out_discards():
    m = received()
    m.flush(timeout=True)
    assert m.judge() == []
    m.edit(Kind.FLUSH_END, 0, aux=6)
    noticed(m, "DMA flush: discarded bytes: expected 7, got 6")
    m = received()
    m.flush(timeout=True)
    m.delete(Kind.DISCARD)
    noticed(m, "timed out but kept 7 bytes toward the memory")
    m = received()
    m.csr_write("dma.flush_timeout", 0)
    m.flush(timeout=True)
    noticed(m, "timed out although no time-out is set")
    m = received()
    m.emit(Kind.DISCARD, m.events[m.at(Kind.PUSH, -1)].addr, aux=1)
    noticed(m, "bytes were discarded outside a flush")
    m = received()
    m.flush(timeout=True)
    m.edit(Kind.DISCARD, 0, addr=MEM)
    noticed(m, "bytes were discarded that it does not hold")
    m = received()
    m.flush()
    m.edit(Kind.FLUSH_END, 0, aux=7)
    noticed(m, "bytes were discarded without a time-out")


def test_abort():
    m = Machine()
    m.command(1, 0, 64)
    m.handoff(MEM, 64, 0)
    m.to_memory(MEM, 0, 21)
    m.csr_write("dma.ctrl", 2)
    m.emit(Kind.DMA_ABORT)
    m.complete(residue=43, flags=1)
    m.open[0] = {}
    assert m.judge() == []
    m.delete(Kind.CSR_WRITE, -1)
    m.delete(Kind.UNCACHED_STORE, -1)
    m.delete(Kind.UNCACHED_STORE_DONE, -1)
    noticed(m, "DMA: aborted although no register write had asked for it")


# --- bus master
def listed() -> Machine:
    m = Machine()
    chain = ((0x100, MEM + 0x600, 20, 0, 0x140), (0x140, MEM + 0x703, 13, 1, 0))
    for at, addr, length, flags, following in chain:
        fields = (addr, length, flags, MEM + following)
        m.uncached_store(MEM + at, b"".join(field.to_bytes(4, "little") for field in fields))
    m.command(1, 8, 33)
    m.transfers += 1
    m.csr_write("bm.desc", MEM + 0x100)
    m.csr_write("bm.ctrl", 1)
    m.emit(Kind.HANDOFF, MEM + 0x100, aux=4, tag=1)
    offset = 8
    for at, addr, length, _, _ in chain:
        m.mem_read(MEM + at, Source.DMA_DESCRIPTOR)
        m.mem_read(MEM + at + 8, Source.DMA_DESCRIPTOR)
        m.emit(Kind.DESCRIPTOR, MEM + at, data=addr | length << 32, tag=1)
        m.to_memory(addr, offset, length)
        offset += length
    m.complete(channel=4)
    m.flush()
    return m


def test_bus_master():
    assert listed().judge() == []
    m = listed()
    m.edit(Kind.DESCRIPTOR, 1, data=5)
    noticed(m, "descriptor at 0x80000140: contents: expected address 0x80000703 length 13")
    m = listed()
    m.edit(Kind.DESCRIPTOR, 1, addr=MEM + 0x100)
    noticed(m, "is not the next one: expected 0x80000140")
    m = listed()
    m.repeat(Kind.DESCRIPTOR, 1)
    noticed(m, "although the list is over")
    noticed(m, "was not read from memory")
    m = listed()
    m.events = [event for event in m.events[: m.at(Kind.DESCRIPTOR, 1) - 2]] + m.events[m.at(Kind.COMPLETE) :]
    noticed(m, "completed before its last byte was in the FIFO")


# --- device commands
def test_pio():
    m = Machine()
    m.command(3, 13, 7)
    for offset, count in ((13, 4), (17, 3)):
        m.csr_read("dev.pio_data", int.from_bytes(m.device[offset : offset + count], "little"))
        for at, strobes, word in m.beats(offset, bytes(m.device[offset : offset + count])):
            m.emit(Kind.DEV_READ, at, aux=strobes, data=word)
    m.command(4, 21, 6)
    for offset, value, count in ((21, 0x44332211, 4), (25, 0x88776655, 2)):
        m.csr_write("dev.pio_data", value)
        for at, strobes, word in m.beats(offset, value.to_bytes(4, "little")[:count]):
            m.dev_write(at, strobes, word)
    assert m.judge() == []
    m.edit(Kind.DEV_WRITE, 0, data=0)
    noticed(m, "PIO write: expected 0x15 <- 0x11, got 0x15 <- 0x00")
    m.edit(Kind.CSR_READ, 0, data=1)
    noticed(m, "register dev.pio_data: read data")
    m.delete(Kind.DEV_WRITE, -1)
    noticed(m, "bytes written by PIO never arrived")


def test_pio_outside_its_range():
    m = Machine()
    m.command(3, 8, 8)
    m.emit(Kind.DEV_READ, 24, aux=1, data=m.device[24])
    noticed(m, "by PIO outside the command's range")


def test_device_takes_data_after_an_abort_too():
    m = sent()
    m.csr_write("dev.cmd", 7)
    m.flush()
    assert m.judge() == []
    m.delete(Kind.DEV_WRITE, -1)
    noticed(m, "DMA flush: reported ok although 1 beats have not reached the device")


def test_accesses_outside_memory_end_with_an_error():
    m = Machine()
    m.command(2, 0, 8)
    m.handoff(0x1000_0000, 8, 1)
    m.emit(Kind.SEGMENT, 0x1000_0000, aux=1 | 8 << 1, tag=1)
    m.complete(residue=8, flags=1)
    assert m.judge() == []
    m = Machine()
    m.command(1, 0, 16)
    m.handoff(0x1000_0000, 16, 0)
    m.emit(Kind.SEGMENT, 0x1000_0000, aux=16 << 1, tag=1)
    for at, strobes, word in m.beats(0, bytes(m.device[:16])):
        m.emit(Kind.DEV_READ, at, aux=strobes, data=word)
    for kind in (Kind.PUSH, Kind.DRAIN):
        for at, strobes, word in m.beats(0x1000_0000, bytes(m.device[:16])):
            m.emit(kind, at, aux=strobes, data=word, tag=1)
    m.complete(flags=1)
    m.csr_write("dma.ctrl", 1)
    m.emit(Kind.FLUSH_BEGIN)
    m.emit(Kind.FLUSH_END, flags=1)
    assert m.judge() == []


@pytest.mark.parametrize("pointer", [MEM + 8, 0x2000_0000])
def test_bad_descriptor_pointer(pointer):
    m = Machine()
    m.csr_write("bm.desc", pointer)
    m.csr_write("bm.ctrl", 1)
    m.transfers = 1
    m.emit(Kind.HANDOFF, pointer, aux=4, tag=1)
    m.complete(channel=4, flags=1)
    assert m.judge() == []


def test_retry_after_a_read_outside_memory():
    """The failed transfer's reads never came; the next one's must not be taken for them."""
    m = Machine()
    for tag in (1, 2):
        end = MEM + 4096
        m.command(2, 0, 24)
        m.handoff(end - 8, 24, 1)
        m.emit(Kind.SEGMENT, end - 8, aux=1 | 24 << 1, tag=tag)
        data = m.mem_read(end - 8, Source.DMA_DATA)
        m.push(1, 0, 0xFF, int.from_bytes(data, "little"))
        m.complete(residue=16, flags=1)
        m.csr_write("dma.ctrl", 2)
        m.emit(Kind.DMA_ABORT)
        m.open[1] = {}
        m.csr_write("dev.cmd", 7)
    assert m.judge() == []
