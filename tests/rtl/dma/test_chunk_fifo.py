# SPDX-License-Identifier: BSD-2-Clause
"""The chunk FIFO alone, against a byte model and with exact cycles."""

import random

import pytest
from amaranth.back import verilog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtl.config import ConfigError
from rtl.dma.chunk_fifo import ChunkFifo

from .helpers import simulate

GEOMETRIES = [(32, 8), (64, 16), (64, 64), (128, 16)]


class Model:
    """What must have left the FIFO, in order, as bursts ``[(address, byte), ...]``; and what is still open."""

    def __init__(self, chunk: int):
        self.chunk = chunk
        self.open = {}
        self.bursts = []

    def close(self):
        if self.open:
            self.bursts.append(dict(self.open))
            self.open = {}

    def push(self, addr, lanes, strobes, value):
        touched = {addr + n: value >> 8 * n & 0xFF for n in range(lanes) if strobes >> n & 1}
        if touched and self.open and addr // self.chunk != next(iter(self.open)) // self.chunk:
            self.close()
        self.open.update(touched)
        if len(self.open) == self.chunk:
            self.close()


class Driver:
    def __init__(self, width: int, chunk: int, pressure: float = 0.0, **options):
        self.dut = ChunkFifo(data_width=width, chunk_bytes=chunk, **options)
        self.lanes, self.chunk, self.pressure = width // 8, chunk, pressure
        self.rng = random.Random(1)
        self.model = Model(chunk)
        self.bursts, self.current, self.thrown, self.remainders = [], {}, {}, 0

    async def consume(self, ctx):
        o, p = self.dut.o, self.dut.o.payload
        expect_first, left, next_addr = True, 0, 0
        while True:
            ready = self.rng.random() >= self.pressure
            ctx.set(o.ready, ready)
            _, _, valid, beat, thrown = await ctx.tick().sample(o.valid, p, self.dut.discarded)
            if not (thrown or (valid and ready)):
                continue
            assert not (valid and thrown), "nothing leaves while discarding"
            bytes_ = {beat.addr + n: beat.data >> 8 * n & 0xFF for n in range(self.lanes) if beat.strb >> n & 1}
            if thrown:
                self.thrown |= bytes_
                self.current = {}
                expect_first = True
                continue
            assert beat.first == expect_first
            if beat.first:
                left = beat.len
                assert bytes_, "a burst starts with a beat that holds a byte"
                self.remainders += beat.remainder
            else:
                assert beat.addr == next_addr
                left -= 1
            assert beat.last == (left == 0)
            next_addr = beat.addr + self.lanes
            self.current |= bytes_
            expect_first = bool(beat.last)
            if beat.last:
                assert bytes_, "a burst ends with a beat that holds a byte"
                self.bursts.append(self.current)
                self.current = {}

    async def push(self, ctx, addr, strobes, value, **plan):
        ctx.set(self.dut.i.payload, {"addr": addr, "strb": strobes, "data": value, "tag": 3, **plan})
        ctx.set(self.dut.i.valid, 1)
        await ctx.tick().until(self.dut.i.ready)
        ctx.set(self.dut.i.valid, 0)

    async def settle(self, ctx):
        for _ in range(4):
            await ctx.tick()
        while ctx.get(self.dut.queued):
            await ctx.tick()
        for _ in range(2):
            await ctx.tick()

    def check(self, ctx):
        assert self.bursts == self.model.bursts
        dut = self.dut
        assert ctx.get(dut.level) == len(self.model.open)
        assert ctx.get(dut.open_valid) == bool(self.model.open)
        base, strobes, value = ctx.get(dut.open_addr), ctx.get(dut.open_strb), ctx.get(dut.open_data)
        held = {base + n: value >> 8 * n & 0xFF for n in range(self.chunk) if strobes >> n & 1}
        assert held == self.model.open
        assert ctx.get(dut.empty) == (not self.model.open)

    async def flush(self, ctx, *, good: bool):
        dut = self.dut
        ctx.set(dut.flush, 1)
        await ctx.tick().until(dut.drained)
        if self.model.open:
            self.model.bursts.append(dict(self.model.open))
        if good:
            ctx.set(dut.commit, 1)
            self.model.open = {}
        await ctx.tick()
        ctx.set(dut.commit, 0)
        ctx.set(dut.flush, 0)

    def run(self, script, deadline=20000):
        simulate(self.dut, script, background=[self.consume], deadline=deadline)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 31), st.integers(0, 0xFFFF), st.integers(1, 255)),
        st.tuples(st.just("run"), st.integers(0, 31), st.integers(1, 12), st.integers(1, 255)),
        st.tuples(st.sampled_from(["flush", "fail", "discard", "clear", "settle"])),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize("width, chunk", GEOMETRIES)
def test_any_sequence(width, chunk):
    lanes = width // 8

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(operations, st.sampled_from([0.0, 0.5]))
    def check(sequence, pressure):
        d = Driver(width, chunk, pressure, depth=2)

        async def script(ctx):
            for op, *arguments in sequence:
                if op == "push":
                    beat, strobes, seed = arguments
                    strobes &= (1 << lanes) - 1
                    value = int.from_bytes(bytes((seed * 7 + n) & 0xFF for n in range(lanes)), "little")
                    await d.push(ctx, beat * lanes, strobes, value)
                    d.model.push(beat * lanes, lanes, strobes, value)
                elif op == "run":
                    beat, count, seed = arguments
                    for n in range(count):
                        value = int.from_bytes(bytes((seed + n * 16 + k) & 0xFF for k in range(lanes)), "little")
                        full = (1 << lanes) - 1
                        await d.push(ctx, (beat + n) * lanes, full, value)
                        d.model.push((beat + n) * lanes, lanes, full, value)
                elif op in ("flush", "fail"):
                    await d.settle(ctx)
                    await d.flush(ctx, good=op == "flush")
                elif op == "discard":
                    await d.settle(ctx)
                    d.thrown = {}
                    ctx.set(d.dut.discard, 1)
                    while not ctx.get(d.dut.empty):
                        await ctx.tick()
                    ctx.set(d.dut.discard, 0)
                    await ctx.tick()
                    assert d.thrown == d.model.open
                    d.model.open = {}
                elif op == "clear":
                    await d.settle(ctx)
                    ctx.set(d.dut.clear, 1)
                    await ctx.tick()
                    ctx.set(d.dut.clear, 0)
                    d.model.open = {}
                else:
                    await d.settle(ctx)
                    d.check(ctx)
            await d.settle(ctx)
            d.check(ctx)

        d.run(script)

    check()


def test_a_full_chunk_leaves_two_cycles_after_its_last_byte():
    d = Driver(64, 16)

    async def script(ctx):
        ctx.set(d.dut.o.ready, 0)
        await d.push(ctx, 0x100, 0xFF, 0x1111)
        await d.push(ctx, 0x108, 0xFF, 0x2222)
        seen = []
        for _ in range(3):
            seen.append((ctx.get(d.dut.open_valid), ctx.get(d.dut.o.valid)))
            await ctx.tick()
        assert seen == [(1, 0), (0, 1), (0, 1)]

    d.run(script)


def test_one_beat_per_cycle():
    """Whole chunks pass at full rate, also when each push closes the chunk of the one before."""
    d = Driver(64, 16, depth=4)

    async def script(ctx):
        ctx.set(d.dut.i.valid, 1)
        for n in range(64):
            ctx.set(d.dut.i.payload, {"addr": n * 8, "strb": 0xFF, "data": n})
            assert ctx.get(d.dut.i.ready)
            await ctx.tick()
        for n in range(64):
            ctx.set(d.dut.i.payload, {"addr": n * 16, "strb": 0x10, "data": n})
            assert ctx.get(d.dut.i.ready)
            await ctx.tick()
        ctx.set(d.dut.i.valid, 0)
        await d.settle(ctx)

    d.run(script)
    assert len(d.bursts) == 32 + 63


def test_back_pressure_stops_pushes_only_when_the_queue_is_full():
    d = Driver(64, 8, pressure=1.0, depth=2)

    async def script(ctx):
        accepted = 0
        ctx.set(d.dut.i.valid, 1)
        for n in range(12):
            ctx.set(d.dut.i.payload, {"addr": accepted * 8, "strb": 0xFF, "data": n})
            accepted += ctx.get(d.dut.i.ready)
            await ctx.tick()
        assert accepted == 3  # two in the queue, one in the open chunk

    d.run(script)


def test_discard_in_the_middle_of_a_burst():
    """What has left stays out of the count; the rest of the burst, the queue and the open chunk are thrown away."""
    d = Driver(32, 16, pressure=1.0, depth=4)

    async def script(ctx):
        for n in range(10):
            await d.push(ctx, n * 4, 0xF, n)
        await ctx.tick()
        await ctx.tick()
        d.pressure = 0.0
        await ctx.tick()
        await ctx.tick()
        d.pressure = 1.0
        await ctx.tick()
        left = len(d.current) // 4
        ctx.set(d.dut.discard, 1)
        while not ctx.get(d.dut.empty):
            await ctx.tick()
        ctx.set(d.dut.discard, 0)
        await ctx.tick()
        assert 0 < left < 4
        assert sorted(d.thrown) == list(range(left * 4, 40))
        d.pressure = 0.0
        for n in range(4):
            await d.push(ctx, 0x80 + n * 4, 0xF, n)
        await d.settle(ctx)
        assert sorted(d.bursts[-1]) == list(range(0x80, 0x90))

    d.run(script)


@pytest.mark.parametrize("bypass", [False, True])
def test_cut_through_keeps_nothing(bypass):
    """Beats leave in the bursts the pusher planned, one cycle after the push (none with the bypass), also during a flush."""
    d = Driver(64, 16, cut_through=True, bypass=bypass)
    latency = []

    async def script(ctx):
        ctx.set(d.dut.flush, 1)
        ctx.set(d.dut.o.ready, 1)
        for n in range(3):
            ctx.set(
                d.dut.i.payload,
                {"addr": 0x104 + 8 * n, "strb": 0xFF, "data": n, "first": n == 0, "len": 2, "last": n == 2, "end": 1},
            )
            ctx.set(d.dut.i.valid, 1)
            latency.append((ctx.get(d.dut.i.ready), ctx.get(d.dut.o.valid)))
            await ctx.tick()
        ctx.set(d.dut.i.valid, 0)
        await ctx.tick()
        await ctx.tick()
        assert ctx.get(d.dut.drained) and ctx.get(d.dut.empty) and not ctx.get(d.dut.level)

    d.run(script)
    assert latency == [(1, bypass), (1, 1), (1, 1)]
    assert [sorted(burst) for burst in d.bursts] == [list(range(0x104, 0x11C))]


@pytest.mark.parametrize("chunk", [0, 4, 12, 24])
def test_bad_chunk(chunk):
    with pytest.raises(ConfigError, match=f"chunk_bytes must be a power of two and at least one beat .8., not {chunk}"):
        ChunkFifo(data_width=64, chunk_bytes=chunk)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_bad_depth(depth):
    with pytest.raises(ConfigError, match=f"depth must be a power of two from 2, not {depth}"):
        ChunkFifo(data_width=64, chunk_bytes=16, depth=depth)


@pytest.mark.parametrize("width, chunk", GEOMETRIES)
def test_converts(width, chunk):
    assert "module top" in verilog.convert(ChunkFifo(data_width=width, chunk_bytes=chunk))
