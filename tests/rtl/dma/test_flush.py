# SPDX-License-Identifier: BSD-2-Clause
"""Remainders and what becomes of them: kept, touched, flushed, failed, timed out, aborted."""

import pytest

from rtl.probe import Kind

from .bench import Bench
from .helpers import BASE


def test_remainder_survives_and_leaves_when_another_chunk_is_touched():
    async def test(b):
        old = b.mem.peek(BASE + 0x200, 32)
        await b.transfer(mem_addr=BASE + 0x203, dev_addr=0x40, length=5, to_device=False)
        await b.ticks(100)
        b.check()
        assert b.read("dma", "level_to_memory") == 5
        assert b.mem.peek(BASE + 0x200, 32) == old, "the remainder must stay in the FIFO"
        # Bytes for the same chunk join it, without completing it ...
        await b.transfer(mem_addr=BASE + 0x208, dev_addr=0x80, length=3, to_device=False)
        await b.ticks(100)
        b.check()
        assert b.read("dma", "level_to_memory") == 8
        assert b.mem.peek(BASE + 0x200, 32) == old
        # ... a byte for another one pushes all of it out, at its own address.
        await b.transfer(mem_addr=BASE + 0x300, dev_addr=0x0, length=1, to_device=False)
        await b.ticks(40)
        b.check()
        want = old[:3] + bytes(b.device[0x40:0x45]) + bytes(b.device[0x80:0x83]) + old[11:]
        assert b.mem.peek(BASE + 0x200, 32) == want
        assert b.read("dma", "level_to_memory") == 1

    Bench().run(test)


def test_remainders_of_both_directions():
    """Each direction keeps its own; neither blocks the other; one flush sends both."""

    async def test(b):
        await b.transfer(mem_addr=BASE + 0x201, dev_addr=0x40, length=21, to_device=False)
        await b.transfer(mem_addr=BASE + 0x801, dev_addr=0x1005, length=30, to_device=True)
        await b.transfer(mem_addr=BASE + 0x401, dev_addr=0x70, length=3, to_device=False)
        await b.transfer(mem_addr=BASE + 0x901, dev_addr=0x1802, length=2, to_device=True)
        await b.ticks(40)
        b.check()
        assert (b.read("dma", "level_to_memory"), b.read("dma", "level_to_device")) == (3, 2)
        assert await b.flush() == (1, 0, 0)
        b.check()
        assert (b.read("dma", "level_to_memory"), b.read("dma", "level_to_device")) == (0, 0)
        assert b.device[0x1802:0x1804] == b.mem.peek(BASE + 0x901, 2)

    Bench().run(test)


def test_flush_of_nothing_is_short():
    async def test(b):
        assert await b.flush() == (1, 0, 0)
        begin, end = (b.kinds(kind)[0][0] for kind in (Kind.FLUSH_BEGIN, Kind.FLUSH_END))
        assert end - begin == 2
        assert b.mem.writes == []

    Bench().run(test)


def test_flush_writes_only_the_valid_bytes():
    async def test(b):
        await b.transfer(mem_addr=BASE + 0x209, dev_addr=0, length=2, to_device=False)
        assert await b.flush() == (1, 0, 0)
        assert [(addr, strobes) for addr, strobes, _, _ in b.mem.beats] == [(BASE + 0x208, 0b110)]
        b.check()

    Bench().run(test)


def test_bus_error_keeps_the_remainder_for_a_retry():
    async def test(b):
        await b.transfer(mem_addr=BASE + 0x200, dev_addr=0, length=13, to_device=False)
        b.mem.write_faults.add(BASE + 0x208)
        b.mem.write_faults.add(BASE + 0x200)
        assert await b.flush() == (0, 1, 0)
        assert b.read("dma", "level_to_memory") == 13
        assert b.read("dma", "error_status_write") == 0, "a failed flush is no latched error: nothing is lost"
        assert b.read("ch0", "status_error") == 0
        b.check()
        assert await b.flush() == (0, 1, 0)
        b.mem.write_faults.clear()
        assert await b.flush() == (1, 0, 0)
        b.check()
        assert b.mem.peek(BASE + 0x200, 13) == b.device[0:13]
        assert b.read("dma", "level_to_memory") == 0

    Bench().run(test)


def test_kept_remainder_takes_more_bytes():
    async def test(b):
        await b.transfer(mem_addr=BASE + 0x200, dev_addr=0, length=13, to_device=False)
        b.mem.write_faults |= {BASE + 0x208, BASE + 0x200}
        assert await b.flush() == (0, 1, 0)
        b.mem.write_faults.clear()
        await b.transfer(mem_addr=BASE + 0x20D, dev_addr=13, length=3, to_device=False)
        await b.ticks(40)
        b.check()
        assert b.mem.peek(BASE + 0x200, 16) == b.device[0:16]

    Bench().run(test)


@pytest.mark.parametrize("fault", [0x218, 0x230])
def test_chunk_lost_on_a_bus_error_outside_a_flush(fault):
    """The channel of that transfer gets the error, also when it was complete before memory answered."""

    async def test(b):
        b.mem.write_faults.add(BASE + fault)
        await b.start(addr=BASE + 0x200, count=64, to_device=False)
        b.ask(0, [16, 48], to_device=False)
        await b.until("ch0", "status_error")
        await b.until("ch0", "status_busy", 0)
        await b.ticks(20)
        assert b.read("ch0", "status_tc") == (fault == 0x230)
        assert b.read("dma", "error_status_write") == 1
        assert b.read("dma", "error_addr") == BASE + fault // 16 * 16
        b.check()

    Bench().run(test)


@pytest.mark.parametrize("to_device", [False, True])
def test_time_out_discards_and_counts(to_device):
    async def test(b):
        before = b.mem.peek(BASE + 0x200, 16), bytes(b.device[0x1000:0x1010])
        await b.transfer(mem_addr=BASE + 0x201, dev_addr=0x1001, length=13, to_device=to_device)
        b.mem.aw_stall = b.device_stall = True
        assert await b.flush(timeout=50) == (0, 0, 1)
        begin, end = (b.kinds(kind)[0] for kind in (Kind.FLUSH_BEGIN, Kind.FLUSH_END))
        assert 50 <= end[0] - begin[0] <= 60
        assert b.read("dma", "flush_discarded") == 13 == end[5]
        assert b.read("dma", "level_to_memory") == b.read("dma", "level_to_device") == 0
        discards = b.kinds(Kind.DISCARD)
        assert sum(bin(e[5] & 0xFFFF).count("1") for e in discards) == 13
        # The next transfer and its flush are not disturbed by the burst that was emptied, even if that still waits.
        await b.transfer(mem_addr=BASE + 0x241, dev_addr=0x1101, length=21, to_device=to_device)
        await b.ticks(5)
        b.mem.aw_stall = b.device_stall = False
        await b.ticks(40)
        b.check()
        assert (b.mem.peek(BASE + 0x200, 16), bytes(b.device[0x1000:0x1010])) == before
        assert await b.flush() == (1, 0, 0)
        b.check()

    Bench().run(test)


def test_time_out_after_the_data_was_handed_over():
    """Memory took the beats but does not answer: nothing can be discarded, and the answer that comes late is no flush's."""

    async def test(b):
        await b.transfer(mem_addr=BASE + 0x200, dev_addr=0, length=5, to_device=False)
        b.mem.b_stall = True
        assert await b.flush(timeout=30) == (0, 0, 1)
        assert b.read("dma", "flush_discarded") == 0
        assert b.read("dma", "level_to_memory") == 0
        await b.transfer(mem_addr=BASE + 0x280, dev_addr=0, length=5, to_device=False)
        b.mem.write_faults.add(BASE + 0x280)
        await b.write("dma", "ctrl", flush=1)
        await b.ticks(10)
        b.mem.b_stall = False
        b.flags["dma", "flush_status_done"] = 0
        await b.until("dma", "flush_status_done")
        assert b.read("dma", "flush_status_bus_error") == 1
        b.mem.write_faults.clear()
        assert await b.flush() == (1, 0, 0)
        b.check()
        assert b.mem.peek(BASE + 0x280, 5) == b.device[0:5]

    Bench().run(test)


@pytest.mark.parametrize("moment", [3, 9, 14, 20, 33, 47, 60])
@pytest.mark.parametrize("to_device", [False, True])
def test_abort_in_the_middle(moment, to_device):
    """Every bus handshake is finished, both FIFOs are empty, the channel is off with error, and the engine works again."""

    async def test(b):
        await b.transfer(mem_addr=BASE + 0x2003, dev_addr=0x3000, length=5, to_device=not to_device)
        await b.start(addr=BASE + 0x101, count=700, to_device=to_device)
        b.ask(0x1007, [256, 256, 188], to_device=to_device)
        await b.ticks(moment)
        await b.write("dma", "ctrl", abort=1)
        await b.ticks(1)
        assert b.read("ch0", "status_busy") == 0
        assert b.read("ch0", "status_error") == 1
        assert b.read("ch0", "residue") > 0
        assert b.read("dma", "error_status_aborted") == 1
        assert (b.read("dma", "level_to_memory"), b.read("dma", "level_to_device")) == (0, 0)
        b.requests.clear()
        await b.ticks(250)
        b.check()
        abort = b.kinds(Kind.DMA_ABORT)[0][0]
        assert not [e for e in b.kinds(Kind.PUSH, Kind.SEGMENT) if e[0] > abort]
        complete = b.kinds(Kind.COMPLETE)[-1]
        assert complete[2] & 1 and complete[6] == b.read("ch0", "residue")
        await b.transfer(mem_addr=BASE + 0x1003, dev_addr=0x2000, length=50, to_device=to_device)
        assert await b.flush() == (1, 0, 0)
        b.check()

    Bench(memory={"latency": 12, "pressure": 0.2, "seed": moment}, device_pressure=0.3).run(test)


def test_abort_during_a_flush():
    async def test(b):
        await b.transfer(mem_addr=BASE + 0x201, dev_addr=0x1001, length=13, to_device=False)
        b.mem.aw_stall = True
        await b.write("dma", "ctrl", flush=1)
        await b.ticks(10)
        await b.write("dma", "ctrl", abort=1)
        await b.until("dma", "flush_status_done")
        assert [b.read("dma", f"flush_status_{n}") for n in ("busy", "ok", "bus_error", "timeout")] == [0, 0, 0, 0]
        b.mem.aw_stall = False
        assert await b.flush() == (1, 0, 0)
        b.check()

    Bench().run(test)


def test_flush_while_a_transfer_runs():
    """It sends what is there at that time; the transfer goes on after it."""

    async def test(b):
        await b.start(addr=BASE + 0x101, count=300, to_device=False)
        b.ask(0x7, [100, 100, 100], to_device=False)
        await b.ticks(30)
        assert await b.flush() == (1, 0, 0)
        await b.until("ch0", "status_tc")
        assert await b.flush() == (1, 0, 0)
        b.check()
        assert b.mem.peek(BASE + 0x101, 300) == b.device[7:307]

    Bench(memory={"pressure": 0.3}).run(test)
