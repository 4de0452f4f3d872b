# SPDX-License-Identifier: BSD-2-Clause
"""The mover alone: alignments, lengths, back-pressure, guard bytes, errors, splits, latencies."""

import itertools
import random

import pytest
from amaranth.back import verilog

from rtl.config import ConfigError
from rtl.dma.align import Realigner
from rtl.dma.mover import Mover
from rtl.dma.ports import MoverKind
from rtl.dma.reader import BurstReader
from rtl.dma.writer import BurstWriter, StreamWriter

from .helpers import BASE, Memory, accepted, simulate

GUARD = 20


class MoverBench:
    """A mover with a memory; ``copy`` queues commands, ``statuses`` collects their ends as (cycle, tag, length, error, addr)."""

    def __init__(self, *, memory=None, **options):
        self.dut = Mover(**options)
        self.mem = Memory(**(memory or {}))
        self.want = bytearray(self.mem.data)
        self.commands, self.statuses, self.handshakes = [], [], []

    def copy(self, source, dest, length, kind=MoverKind.MEMORY_TO_MEMORY, end=0):
        tag = len(self.commands)
        self.commands.append({"read_addr": source, "write_addr": dest, "length": length, "tag": tag, "kind": kind, "end": end})
        if kind == MoverKind.MEMORY_TO_MEMORY:
            self.want[dest - BASE : dest - BASE + length] = self.want[source - BASE : source - BASE + length]

    async def _issue(self, ctx):
        for command in self.commands:
            ctx.set(self.dut.cmd.payload, command)
            ctx.set(self.dut.cmd.valid, 1)
            await accepted(ctx, self.dut.cmd.ready)
            self.handshakes.append(self.mem.cycle)
            ctx.set(self.dut.cmd.valid, 0)

    async def _collect(self, ctx):
        ctx.set(self.dut.status.ready, 1)
        while True:
            _, _, valid, s = await ctx.tick().sample(self.dut.status.valid, self.dut.status.payload)
            if valid:
                self.statuses.append((self.mem.cycle, s.tag, s.length, s.error, s.addr))

    async def flush(self, ctx):
        ctx.set(self.dut.flush, 1)
        await ctx.tick()
        ctx.set(self.dut.flush, 0)
        await accepted(ctx, self.dut.flush_done)

    def run(self, *more, background=(), deadline=30000):
        async def memory(ctx):
            await self.mem.run(ctx, self.dut.m_axi)

        async def wait(ctx):
            while len(self.statuses) < len(self.commands):
                await ctx.tick()
            await self.flush(ctx)

        simulate(self.dut, self._issue, wait, *more, background=(memory, self._collect, *background), deadline=deadline)

    def check(self):
        assert [s[1:4] for s in self.statuses] == [(c["tag"], c["length"], 0) for c in self.commands]
        assert self.mem.data == self.want, "a byte is wrong, or one outside the destination changed"


def matrix(width):
    lanes = width // 8
    lengths = (1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes + 3, 67)
    cases = list(itertools.product(range(lanes), range(lanes), lengths))
    return cases if len(cases) <= 112 else random.Random(width).sample(cases, 112)


@pytest.mark.parametrize("pressure", [0.0, 0.4])
@pytest.mark.parametrize("width, chunk, cut_through", [(32, 8, True), (64, 16, True), (128, 32, False), (64, 64, False)])
def test_alignments_and_lengths(width, chunk, cut_through, pressure):
    """Every source offset x destination offset x length; guard bytes lie between any two destinations."""
    b = MoverBench(
        data_width=width,
        chunk_bytes=chunk,
        cut_through=cut_through,
        memory={"size": 0x8000, "pressure": pressure, "latency": 7 if pressure else 1, "seed": width},
    )
    dest = 0x4000
    for source_offset, dest_offset, length in matrix(width):
        dest = (dest + GUARD + 15) // 16 * 16
        b.copy(BASE + 0x100 + 16 * len(b.commands) + source_offset, BASE + dest + dest_offset, length)
        dest += dest_offset + length
    assert dest < 0x8000
    b.run()
    b.check()


def test_reads_only_what_is_needed_and_never_across_4_kib():
    b = MoverBench(data_width=32, chunk_bytes=8, burst_beats=256, read_beats=512, cut_through=True, memory={"size": 0x8000})
    b.copy(BASE + 0x0FF1, BASE + 0x4003, 3000)
    b.run()
    b.check()
    reads = [(addr - BASE, beats) for _, _, addr, beats in b.mem.reads]
    assert reads == [(0xFF0, 4), (0x1000, 256), (0x1400, 256), (0x1800, 235)]


def test_several_reads_are_in_flight():
    """With a memory of 60 cycles latency the reads of all commands leave before the first answer comes."""
    b = MoverBench(data_width=64, cut_through=True, memory={"latency": 60})
    for n in range(6):
        b.copy(BASE + 0x100 * n, BASE + 0x2000 + 0x100 * n, 64)
    b.run()
    b.check()
    assert b.mem.reads[-1][0] < b.mem.reads[0][0] + 60


def test_latencies():
    """AR one cycle after the command's handshake, the next command's one cycle later; a beat on its way within 2 cycles."""
    b = MoverBench(data_width=32, chunk_bytes=8, cut_through=True)
    for n in range(4):
        b.copy(BASE + 8 * n, BASE + 0x2000 + 8 * n, 8)
    b.run()
    b.check()
    first = b.handshakes[0]
    assert [cycle for cycle, *_ in b.mem.reads] == [first + 1 + n for n in range(4)]
    assert [cycle for cycle, *_ in b.statuses] == [first + 4 + 2 * n for n in range(4)]
    assert b.handshakes == [first + n for n in range(4)]


def test_full_rate_on_a_misaligned_copy():
    b = MoverBench(data_width=32, chunk_bytes=16, cut_through=True)
    b.copy(BASE + 0x101, BASE + 0x2002, 1024)
    b.run()
    b.check()
    assert b.statuses[0][0] - b.mem.reads[0][0] <= 257 + 4


FAST = {"data_width": 32, "chunk_bytes": 16, "cut_through": True, "bypass": True, "posted": False}


@pytest.mark.parametrize("length, cycles", [(4, 4), (64, 19), (4096, 1027)])
def test_copy_cycles(length, cycles):
    """From the command's handshake to its status, which comes in the cycle of memory's last answer."""
    b = MoverBench(**FAST, memory={"size": 0x8000})
    b.copy(BASE + 0x1000, BASE + 0x4000, length)
    b.run()
    b.check()
    assert b.statuses[0][0] - b.handshakes[0] == cycles


@pytest.mark.parametrize(
    "length, count, latency, offsets, floor",
    [
        (4, 64, 1, (0, 0), 0.91),
        (64, 64, 1, (0, 0), 0.99),
        (64, 64, 100, (0, 0), 0.9),
        (1024, 4, 1, (1, 2), 0.99),
    ],
)
def test_back_to_back_utilisation(length, count, latency, offsets, floor):
    """Payload beats over the cycles from the first handshake to the last status."""
    b = MoverBench(**FAST, memory={"size": 0x8000, "latency": latency})
    step = max(length, 64)
    for n in range(count):
        b.copy(BASE + step * n + offsets[0], BASE + 0x4000 + step * n + offsets[1], length)
    b.run()
    b.check()
    assert length * count / 4 / (b.statuses[-1][0] - b.handshakes[0]) >= floor


def test_stream_utilisation():
    """10,000 bytes as one command, each way."""
    b = MoverBench(**FAST, memory={"size": 0x8000})
    b.copy(0, BASE + 0x1000, 10000, MoverKind.STREAM_TO_MEMORY, end=1)
    b.copy(BASE + 0x4000, 0, 10000, MoverKind.MEMORY_TO_STREAM)
    beats = [n * 2654435761 & 0xFFFF_FFFF for n in range(2500)]
    b.want[0x1000 : 0x1000 + 10000] = b"".join(beat.to_bytes(4, "little") for beat in beats)
    taken = []

    async def feed(ctx):
        t = b.dut.s_axis.t
        for n, beat in enumerate(beats):
            ctx.set(t.payload, {"data": beat, "keep": 15, "last": n == len(beats) - 1})
            ctx.set(t.valid, 1)
            await accepted(ctx, t.ready)
        ctx.set(t.valid, 0)

    async def receive(ctx):
        ctx.set(b.dut.m_axis.t.ready, 1)
        while True:
            if (await ctx.tick().sample(b.dut.m_axis.t.valid))[2]:
                taken.append(b.mem.cycle)

    b.run(feed, background=[receive])
    b.check()
    assert 2500 / (b.statuses[0][0] - b.handshakes[0]) >= 0.99
    assert len(taken) == 2500 and 2500 / (taken[-1] - taken[0] + 1) >= 0.998


def test_unposted_status_carries_the_write_error():
    """The status waits for all bursts of its command; an error in any of them is its own, and only its own."""
    b = MoverBench(**FAST)
    b.mem.write_faults.add(BASE + 0x2124)
    for n in range(3):
        b.copy(BASE + 0x100 * n, BASE + 0x2000 + 0x100 * n, 200)
    b.want[0x2124:0x2128] = b.mem.data[0x2124:0x2128]
    b.run()
    assert [s[1:4] for s in b.statuses] == [(0, 200, 0), (1, 200, 1), (2, 200, 0)]
    assert b.statuses[1][4] == BASE + 0x2100
    assert b.mem.data == b.want


def test_waiting_for_memory_needs_cut_through():
    with pytest.raises(ConfigError, match="Mover posted must be true without cut_through"):
        Mover(posted=False)


@pytest.mark.parametrize("at", [0, 1, 5, 9])
@pytest.mark.parametrize("offset", [0, 3, 6])
def test_read_error_at_an_address(at, offset):
    """Exactly the bytes before the beat in error are moved; the commands before and after are whole."""
    b = MoverBench(data_width=64, cut_through=True)
    source, dest = BASE + 0x103, BASE + 0x2000 + offset
    b.mem.read_faults.add(BASE + 0x100 + 8 * at)
    good = max(0, 8 * at - 3)
    b.copy(BASE + 0x400, BASE + 0x2400, 33)
    b.copy(source, dest, 75)
    b.copy(BASE + 0x500, BASE + 0x2501, 33)
    b.want[dest + good - BASE : dest + 75 - BASE] = b.mem.data[dest + good - BASE : dest + 75 - BASE]
    b.run()
    assert [s[1:4] for s in b.statuses] == [(0, 33, 0), (1, good, 1), (2, 33, 0)]
    assert b.statuses[1][4] == BASE + 0x100 + 8 * at
    assert b.mem.data == b.want


def test_write_error_names_the_chunk():
    b = MoverBench(data_width=64, chunk_bytes=16)
    b.mem.write_faults.add(BASE + 0x2018)
    b.copy(BASE + 0x400, BASE + 0x2000, 64)
    seen = []

    async def watch(ctx):
        d = b.dut
        while True:
            _, _, error, addr, tag = await ctx.tick().sample(d.write_error, d.write_error_addr, d.write_error_tag)
            if error:
                seen.append((addr, tag))

    b.run(background=[watch])
    assert seen == [(BASE + 0x2010, 0)]


def test_zero_length():
    b = MoverBench(cut_through=True)
    b.copy(BASE, BASE + 0x2000, 0)
    b.copy(BASE + 3, BASE + 0x2000, 5)
    b.copy(BASE, BASE + 0x2000, 0)
    b.run()
    b.check()
    assert len(b.mem.reads) == 1


def test_streams():
    """One packet over three commands, split within beats, with a tail that is dropped; then memory to stream."""
    b = MoverBench(data_width=64, cut_through=True)
    packet = bytes(range(100, 150))
    b.copy(0, BASE + 0x2003, 13, MoverKind.STREAM_TO_MEMORY)
    b.copy(13, BASE + 0x2100, 3, MoverKind.STREAM_TO_MEMORY)
    b.copy(16, BASE + 0x2201, 20, MoverKind.STREAM_TO_MEMORY, end=1)
    b.copy(BASE + 0x105, 0x33, 40, MoverKind.MEMORY_TO_STREAM)
    for at, dest, length in ((0, 0x2003, 13), (13, 0x2100, 3), (16, 0x2201, 20)):
        b.want[dest : dest + length] = packet[at : at + length]
    received = {}

    async def feed(ctx):
        t = b.dut.s_axis.t
        for at in range(0, 50, 8):
            piece = packet[at : at + 8]
            value = int.from_bytes(piece, "little")
            ctx.set(t.payload, {"data": value, "keep": (1 << len(piece)) - 1, "last": at == 48})
            ctx.set(t.valid, 1)
            await accepted(ctx, t.ready)
        ctx.set(t.valid, 0)

    async def receive(ctx):
        t = b.dut.m_axis.t
        ctx.set(t.ready, 1)
        while True:
            _, _, valid, beat = await ctx.tick().sample(t.valid, t.payload)
            if valid:
                received.update({beat.user + n: beat.data >> 8 * n & 0xFF for n in range(8) if beat.keep >> n & 1})

    b.run(feed, background=[receive])
    b.check()
    assert received == dict(zip(range(0x33, 0x33 + 40), b.mem.peek(BASE + 0x105, 40)))


@pytest.mark.parametrize("moment, stalled", [(2, False), (6, False), (15, False), (40, False), (70, True)])
def test_clear_and_go_on(moment, stalled):
    """After a clear the bus is left in order (the memory checks), and later commands get their own data, not old reads,
    also when reads had piled up in front of a memory that takes no writes."""
    b = MoverBench(data_width=64, memory={"latency": 25, "pressure": 0.2})
    for n in range(8):
        b.copy(BASE + 0x100 * n, BASE + 0x2000 + 0x100 * n, 200)
    dut = b.dut
    b.mem.aw_stall = stalled

    async def script(ctx):
        ctx.set(dut.status.ready, 1)
        ctx.set(dut.cmd.payload, b.commands[0])
        ctx.set(dut.cmd.valid, 1)
        for _ in range(moment):
            await ctx.tick()
        ctx.set(dut.cmd.valid, 0)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        b.mem.aw_stall = False
        b.mem.data[0x2000:] = b.want[0x2000:] = bytes(0x2000)
        await accepted(ctx, dut.idle)
        before = bytes(b.mem.data)
        for source, dest in ((0x800, 0x3000), (0x903, 0x3105)):
            ctx.set(dut.cmd.payload, {"read_addr": BASE + source, "write_addr": BASE + dest, "length": 77})
            ctx.set(dut.cmd.valid, 1)
            await accepted(ctx, dut.cmd.ready)
            ctx.set(dut.cmd.valid, 0)
            await accepted(ctx, dut.status.valid)
        await b.flush(ctx)
        assert b.mem.peek(BASE + 0x3000, 77) == before[0x800:0x84D]
        assert b.mem.peek(BASE + 0x3105, 77) == before[0x903:0x950]

    async def memory(ctx):
        await b.mem.run(ctx, dut.m_axi)

    simulate(dut, script, background=[memory])


@pytest.mark.parametrize(
    "options, text",
    [
        ({"burst_beats": 512, "read_beats": 512}, "Reader burst_beats must be a power of two from 1 to 256, not 512"),
        ({"burst_beats": 64, "read_beats": 32}, "Reader burst_beats must be a power of two from 1 to 32, not 64"),
        ({"read_beats": 100}, "Reader buffer_beats must be a power of two from 1 to 4096, not 100"),
    ],
)
def test_bad_parameters(options, text):
    with pytest.raises(ConfigError, match=text):
        Mover(**options).elaborate(None)


@pytest.mark.parametrize("width, chunk", [(32, 8), (64, 16), (128, 64)])
def test_mover_converts(width, chunk):
    assert "module top" in verilog.convert(Mover(data_width=width, chunk_bytes=chunk))


@pytest.mark.parametrize("part", [BurstReader, BurstWriter, StreamWriter, Realigner])
def test_parts_convert(part):
    assert "module top" in verilog.convert(part(data_width=32))
