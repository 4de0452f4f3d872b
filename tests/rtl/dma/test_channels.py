# SPDX-License-Identifier: BSD-2-Clause
"""System channels and bus master inside the engine."""

import pytest
from amaranth.back import verilog

from rtl.dma.bus_master import BusMaster
from rtl.dma.sequencer import Sequencer
from rtl.dma.system_channel import SystemChannel
from rtl.probe import Kind

from .bench import Bench
from .helpers import BASE


def test_hand_off_and_complete_records():
    async def test(b):
        await b.start(addr=BASE + 0x101, count=40, to_device=False)
        b.ask(0x10, [40], to_device=False)
        await b.until("ch0", "status_tc")
        await b.ticks(4)
        (hand,), (seg,), (end,) = (b.kinds(k) for k in (Kind.HANDOFF, Kind.SEGMENT, Kind.COMPLETE))
        assert hand[2:] == (0, 1, BASE + 0x101, 0, 40)
        assert seg[2:] == (0, 1, BASE + 0x101, 40 << 1, 0x10)
        assert end[2:] == (0, 1, 0, 0, 0)
        first_push, last_push = b.kinds(Kind.PUSH)[0], b.kinds(Kind.PUSH)[-1]
        assert hand[0] < seg[0] < first_push[0] <= last_push[0] < end[0]
        await b.start(addr=BASE + 0x101, count=40, to_device=True)
        assert b.kinds(Kind.HANDOFF)[-1][2:] == (0, 2, BASE + 0x101, 8, 40)

    Bench().run(test)


def test_masked_and_unarmed_channels_hold_requests_off():
    async def test(b):
        b.ask(0, [8, 8], to_device=False)
        await b.ticks(30)
        assert not b.accepted
        await b.start(addr=BASE, count=16, to_device=False, mask=1)
        await b.ticks(30)
        assert not b.accepted and b.read("ch0", "status_busy")
        await b.write("ch0", "mask", mask=0)
        await b.until("ch0", "status_tc")
        assert len(b.accepted) == 2

    Bench().run(test)


def test_request_of_the_other_direction_waits():
    async def test(b):
        await b.start(addr=BASE, count=16, to_device=True)
        b.ask(0, [8], to_device=False)
        await b.ticks(30)
        assert not b.accepted

    Bench().run(test)


@pytest.mark.parametrize("count", [0, 1 << 24, 0xFFFF_FFFF])
def test_bad_count(count):
    async def test(b):
        await b.start(addr=BASE, count=count, to_device=False)
        await b.ticks(2)
        assert (b.read("ch0", "status_error"), b.read("ch0", "status_busy")) == (1, 0)
        assert not b.kinds(Kind.HANDOFF)

    Bench().run(test)


def test_start_while_busy():
    async def test(b):
        await b.start(addr=BASE + 0x10, count=16, to_device=False)
        await b.write("ch0", "addr", value=BASE + 0x400)
        await b.write("ch0", "ctrl", start=1)
        await b.ticks(1)
        assert b.read("ch0", "status_error") == 1
        assert b.read("ch0", "cur_addr") == BASE + 0x10
        assert len(b.kinds(Kind.HANDOFF)) == 1
        b.ask(0, [16], to_device=False)
        await b.until("ch0", "status_tc")

    Bench().run(test)


@pytest.mark.parametrize("to_device", [False, True])
def test_short_transfer_stops_and_keeps_the_residue(to_device):
    async def test(b):
        await b.start(addr=BASE + 0x100, count=100, to_device=to_device)
        b.ask(0x40, [20, 17], to_device=to_device)
        await b.until("ch0", "status_stopped")
        assert b.read("ch0", "status_tc") == 0 and b.read("ch0", "status_busy") == 0
        assert b.read("ch0", "residue") == 63
        assert b.read("ch0", "cur_addr") == BASE + 0x125
        await b.flush()
        b.check()
        (end,) = b.kinds(Kind.COMPLETE)
        assert (end[2], end[6]) == (2, 63)

    Bench().run(test)


@pytest.mark.parametrize("to_device", [False, True])
def test_request_beyond_the_residue_is_cut(to_device):
    async def test(b):
        before = b.mem.peek(BASE, 0x400), bytes(b.device)
        await b.start(addr=BASE + 0x100, count=30, to_device=to_device)
        b.ask(0x40, [20, 200], to_device=to_device)
        await b.until("ch0", "status_tc")
        # A second transfer gets its own packet's bytes, not the rest of the one before.
        await b.start(addr=BASE + 0x300, count=9, to_device=to_device)
        b.ask(0x80, [9], to_device=to_device)
        b.flags["ch0", "status_tc"] = 0
        await b.until("ch0", "status_tc")
        await b.flush()
        b.check()
        if to_device:
            assert b.device[0x40 : 0x40 + 30] == before[0][0x100:0x11E]
            assert b.device[0x80:0x89] == before[0][0x300:0x309]
            assert all(addr < BASE + 0x120 or addr >= BASE + 0x300 for _, _, addr, _ in b.mem.reads)
        else:
            assert b.mem.peek(BASE + 0x100, 31) == before[1][0x40:0x5E] + before[0][0x11E:0x11F]
            assert b.mem.peek(BASE + 0x300, 9) == before[1][0x80:0x89]

    Bench().run(test)


def test_stop_between_and_within_requests():
    async def test(b):
        await b.start(addr=BASE + 0x100, count=100, to_device=False)
        b.ask(0, [20], to_device=False, last=False)
        await b.until("ch0", "residue", 80)
        await b.write("ch0", "ctrl", stop=1)
        await b.until("ch0", "status_stopped")
        assert (b.read("ch0", "residue"), b.read("ch0", "status_busy")) == (80, 0)
        b.clear()
        await b.start(addr=BASE + 0x200, count=300, to_device=False)
        b.ask(0, [200], to_device=False, last=False)
        while not b.kinds(Kind.SEGMENT)[1:]:
            await b.ticks(1)
        await b.write("ch0", "ctrl", stop=1)
        await b.until("ch0", "status_stopped")
        assert b.read("ch0", "residue") == 100, "the request in progress is finished"
        await b.write("ch0", "ctrl", stop=1)  # stop of a stopped channel does nothing
        await b.ticks(3)
        assert len(b.kinds(Kind.COMPLETE)) == 2
        await b.flush()
        b.check()

    Bench().run(test)


def test_auto_init_goes_round_until_stopped():
    async def test(b):
        await b.start(addr=BASE + 0x100, count=24, to_device=False, demand=True, auto=True)
        b.ask(0, [10, 14, 24, 24, 5], to_device=False, last=False)
        await b.until("ch0", "residue", 19)
        assert len(b.kinds(Kind.COMPLETE)) == 3
        assert len(b.kinds(Kind.HANDOFF)) == 1
        assert b.read("ch0", "status_busy")
        await b.write("ch0", "ctrl", stop=1)
        await b.until("ch0", "status_busy", 0)
        assert b.read("ch0", "status_stopped")
        await b.flush()
        b.check()
        assert b.mem.peek(BASE + 0x100, 24) == b.device[72:77] + b.device[53:72]

    Bench().run(test)


def test_device_last_at_the_end_of_a_round_is_no_short_transfer():
    async def test(b):
        await b.start(addr=BASE + 0x100, count=24, to_device=False, auto=True)
        b.ask(0, [24], to_device=False)
        await b.until("ch0", "status_tc")
        await b.ticks(5)
        assert (b.read("ch0", "status_busy"), b.read("ch0", "residue"), b.read("ch0", "status_stopped")) == (1, 24, 0)

    Bench().run(test)


@pytest.mark.parametrize("demand", [True, False])
def test_block_mode_keeps_the_engine_demand_mode_does_not(demand):
    async def test(b):
        await b.start(0, addr=BASE + 0x100, count=40, to_device=False, demand=demand)
        await b.start(1, addr=BASE + 0x200, count=20, to_device=False, demand=True)
        b.ask(0, [20], to_device=False, channel=0, last=False)
        b.ask(100, [20], to_device=False, channel=1)
        await b.ticks(60)
        assert b.read("ch1", "status_tc") == demand
        if not demand:
            await b.write("ch0", "ctrl", stop=1)
            await b.until("ch1", "status_tc")
        b.ask(20, [20], to_device=False, channel=0)
        if demand:
            await b.until("ch0", "status_tc")
        await b.flush()
        b.check()

    Bench(dma__system_channels=2).run(test)


@pytest.mark.parametrize("fault, residue", [(0x100, 64), (0x118, 40), (0x138, 8)])
def test_read_error(fault, residue):
    """The bytes before the beat in error are moved, none after it; address and channel get the error."""

    async def test(b):
        b.mem.read_faults.add(BASE + fault)
        before = bytes(b.device)
        await b.start(addr=BASE + 0x103, count=61, to_device=True)
        b.ask(0x1003, [61], to_device=True)
        await b.until("ch0", "status_error")
        await b.ticks(1)
        assert b.read("ch0", "residue") == (residue if fault != 0x100 else 61)
        assert b.read("ch0", "status_busy") == b.read("ch0", "status_tc") == 0
        assert b.read("dma", "error_status_read") == 1
        assert b.read("dma", "error_addr") == BASE + fault
        await b.flush()
        b.check()
        moved = 61 - b.read("ch0", "residue")
        assert b.device == before[:0x1003] + b.mem.peek(BASE + 0x103, moved) + before[0x1003 + moved :]

    Bench().run(test)


# --- bus master


def descriptors(b, at, *entries, last=True):
    """Writes a list of ``(addr, length)`` from ``at`` on, 48 bytes apart."""
    for n, (addr, length) in enumerate(entries):
        final = last and n == len(entries) - 1
        here = at + n * 48
        words = (addr, length, int(final), 0xDEAD0000 if final else here + 48)
        blob = b"".join(word.to_bytes(4, "little") for word in words)
        b.mem.poke(here, blob)
        b.replay.memory[here - BASE : here - BASE + 16] = blob


async def start_list(b, at, to_device):
    await b.write("bm", "desc", value=at)
    await b.write("bm", "mode", write_to_device=to_device)
    await b.write("bm", "ctrl", start=1)


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("to_device", [False, True])
def test_list_and_requests_need_not_match(width, to_device):
    """Requests span descriptors and descriptors span requests; nothing is lost at the seams, whatever the lanes."""
    pieces = [(BASE + 0x101, 30), (BASE + 0x205, 1), (BASE + 0x30F, 66), (BASE + 0x402, 3), (BASE + 0x500, 100)]

    async def test(b):
        descriptors(b, BASE + 0x1000, *pieces)
        source = b"".join(b.mem.peek(*p) for p in pieces) if to_device else bytes(b.device[0x13 : 0x13 + 200])
        await start_list(b, BASE + 0x1000, to_device)
        b.ask(0x13, [33, 7, 80, 80], to_device=to_device, channel=4)
        await b.until("bm", "status_done")
        assert (b.read("bm", "status_error"), b.read("bm", "status_stopped"), b.read("bm", "bytes_done")) == (0, 0, 200)
        await b.flush()
        b.check()
        got = bytes(b.device[0x13 : 0x13 + 200]) if to_device else b"".join(b.mem.peek(*p) for p in pieces)
        assert got == source
        fetched = b.kinds(Kind.DESCRIPTOR)
        assert [e[4] for e in fetched] == [BASE + 0x1000 + 48 * n for n in range(5)]
        assert [e[6] for e in fetched] == [addr | length << 32 for addr, length in pieces]
        assert all(ident == (0x1000 <= addr - BASE < 0x1100) for _, ident, addr, _ in b.mem.reads)
        order = [e[1] for e in b.recorder.events if e[1] in (Kind.HANDOFF, Kind.DESCRIPTOR, Kind.SEGMENT, Kind.COMPLETE)]
        assert order[:3] == [Kind.HANDOFF, Kind.DESCRIPTOR, Kind.SEGMENT] and order[-1] == Kind.COMPLETE

    Bench(data_width=width, memory={"latency": 3, "pressure": 0.1}, device_pressure=0.1).run(test)


@pytest.mark.parametrize("to_device", [False, True])
def test_list_shorter_than_the_request(to_device):
    async def test(b):
        descriptors(b, BASE + 0x1000, (BASE + 0x100, 10), (BASE + 0x200, 10))
        await start_list(b, BASE + 0x1000, to_device)
        b.ask(0, [64], to_device=to_device, channel=4)
        await b.until("bm", "status_done")
        assert b.read("bm", "bytes_done") == 20
        # The rest of the packet is gone: another list starts with its own bytes.
        descriptors(b, BASE + 0x1100, (BASE + 0x300, 10))
        b.clear()
        await start_list(b, BASE + 0x1100, to_device)
        b.ask(0x80, [10], to_device=to_device, channel=4)
        await b.until("bm", "status_done")
        await b.flush()
        b.check()

    Bench().run(test)


def test_request_shorter_than_the_list():
    async def test(b):
        descriptors(b, BASE + 0x1000, (BASE + 0x100, 10), (BASE + 0x200, 10))
        for sizes, moved in (([6], 6), ([10], 10), ([15], 15)):
            b.clear()
            await start_list(b, BASE + 0x1000, False)
            b.ask(0, sizes, to_device=False, channel=4)
            await b.until("bm", "status_stopped")
            await b.until("bm", "status_busy", 0)
            assert (b.read("bm", "bytes_done"), b.read("bm", "status_done")) == (moved, 0)
        await b.flush()
        b.check()

    Bench().run(test)


@pytest.mark.parametrize("kind", ["misaligned", "zero", "bus", "second"])
@pytest.mark.parametrize("to_device", [False, True])
def test_bad_descriptor(kind, to_device):
    async def test(b):
        at = BASE + 0x1000
        wrong = at
        if kind == "misaligned":
            wrong = at = BASE + 0x1008
        elif kind == "zero":
            descriptors(b, at, (BASE + 0x100, 0))
        elif kind == "bus":
            b.mem.read_faults.add(at + 8)
        else:
            descriptors(b, at, (BASE + 0x100, 10), (BASE + 0x100, 0))
            wrong = at + 48
        await start_list(b, at, to_device)
        b.ask(0, [40], to_device=to_device, channel=4)
        await b.until("bm", "status_error")
        await b.until("bm", "status_busy", 0)
        assert (b.read("bm", "status_done"), b.read("dma", "error_status_descriptor")) == (0, 1)
        assert b.read("dma", "error_addr") == wrong
        assert b.read("bm", "cur_desc") == wrong
        b.requests.clear()
        await b.ticks(20)
        # The engine is free again, and the packet's rest does not reach the next list.
        b.clear()
        b.mem.read_faults.clear()
        descriptors(b, BASE + 0x1200, (BASE + 0x100, 40))
        await start_list(b, BASE + 0x1200, to_device)
        if len(b.accepted):
            b.ask(0x100, [40], to_device=to_device, channel=4)
        await b.until("bm", "status_done")
        await b.flush()
        b.check()

    Bench().run(test)


def test_stop_and_start_while_busy():
    async def test(b):
        descriptors(b, BASE + 0x1000, (BASE + 0x100, 100))
        await start_list(b, BASE + 0x1000, False)
        b.ask(0, [30], to_device=False, channel=4, last=False)
        await b.until("bm", "bytes_done", 30)
        await b.write("bm", "ctrl", start=1)
        await b.ticks(1)
        assert b.read("bm", "status_error") == 1 and b.read("bm", "bytes_done") == 30
        await b.write("bm", "ctrl", stop=1)
        await b.until("bm", "status_stopped")
        await b.ticks(2)
        assert b.kinds(Kind.COMPLETE)[-1][6] == 70

    Bench().run(test)


def test_abort_during_a_descriptor_fetch():
    async def test(b):
        descriptors(b, BASE + 0x1000, (BASE + 0x100, 100))
        b.mem.r_stall = True
        await start_list(b, BASE + 0x1000, False)
        await b.ticks(10)
        await b.write("dma", "ctrl", abort=1)
        await b.ticks(5)
        b.mem.r_stall = False
        await b.until("bm", "status_busy", 0)
        assert b.read("bm", "status_error") == 1 and not b.kinds(Kind.DESCRIPTOR)
        b.clear()
        await start_list(b, BASE + 0x1000, False)
        b.ask(0, [100], to_device=False, channel=4)
        await b.until("bm", "status_done")
        await b.flush()
        b.check()

    Bench().run(test)


def test_doorbell_to_first_data_read():
    """Scatter/gather start: AR of the first data at most 8 cycles after the descriptor's last beat, the fetch one after the
    doorbell."""

    async def test(b):
        descriptors(b, BASE + 0x1000, (BASE + 0x100, 16))
        b.ask(0, [16], to_device=True, channel=4)
        await b.ticks(5)
        await start_list(b, BASE + 0x1000, True)
        await b.until("bm", "status_done")
        (fetch, _, _, beats), (first, *_) = b.mem.reads[:2]
        hand = b.kinds(Kind.HANDOFF)[0][0]
        assert fetch - 1 == hand + 1  # the memory counts from 1
        assert first - (fetch + beats) <= 8

    Bench().run(test)


def test_bad_index():
    with pytest.raises(ValueError, match="System channel index must be an integer from 0 to 3, not 4"):
        SystemChannel(index=4)


@pytest.mark.parametrize(
    "make", [lambda: SystemChannel(index=0), lambda: BusMaster(data_width=32), lambda: Sequencer(system_channels=4)]
)
def test_parts_convert(make):
    assert "module top" in verilog.convert(make())
