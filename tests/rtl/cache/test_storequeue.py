# SPDX-License-Identifier: BSD-2-Clause
"""The store queue alone: exact cycles, order, matches, and random traffic against a list."""

import random

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from rtl.axi.bus import CACHE_NORMAL, CACHE_UNCACHED, Resp
from rtl.cache.native import Geometry
from rtl.cache.storequeue import StoreQueue
from rtl.config import CacheConfig, DmaConfig, SocConfig

BASE = SocConfig().memory.base


def config(*, width=64, lines=1, line_bytes=32):
    cache = CacheConfig(write_policy="through", write_buffer_lines=lines, line_bytes=line_bytes)
    return SocConfig(data_width=width, dcache=cache, icache=CacheConfig(line_bytes=line_bytes), dma=DmaConfig(chunk_bytes=16))


class Unit:
    """The queue with a probe for ``match``; each ``step`` is one cycle, and logs the handshakes of AW, W and B in it."""

    def __init__(self, **options):
        self.config = config(**options)
        self.g = Geometry(self.config)
        self.dut = StoreQueue(config=self.config)
        self.asked, self.matches = Signal(self.g.line_bits), Signal(self.config.dcache.write_entries)
        self.cycle = 0
        self.log: list[tuple] = []
        self.pushed: list[tuple[int, int, int]] = []

    async def step(self, ctx, *, push=None, aw=1, w=1, b=None, **settings):
        """``push``: (line, word, data, strb). ``b``: (id, resp) is shown. ``settings``: values of other inputs."""
        d, g = self.dut, self.g
        ctx.set(d.push.valid, push is not None)
        if push is not None:
            ctx.set(d.push, {"valid": 1, **dict(zip(("line", "word", "data", "strb"), push))})
            self.pushed.append((BASE + push[0] * g.line_bytes + push[1] * g.data_bytes, push[2], push[3]))
        ctx.set(d.aw.ready, aw)
        ctx.set(d.w.ready, w)
        ctx.set(d.b.valid, b is not None)
        if b is not None:
            ctx.set(d.b.payload, {"id": b[0], "resp": b[1]})
        for name, value in settings.items():
            ctx.set(getattr(d, name), value)
        _, _, *seen = await ctx.tick().sample(
            d.aw.valid, d.aw.payload, d.w.valid, d.w.payload, d.b.ready, d.done, d.direct_rsp, d.direct.ready
        )
        aw_v, aw_p, w_v, w_p, b_r, done, answer, taken = seen
        if aw_v and aw:
            self.log.append((self.cycle, "aw", int(aw_p.id), int(aw_p.addr), int(aw_p.size), int(aw_p.cache), int(aw_p.len)))
        if w_v and w:
            self.log.append((self.cycle, "w", int(w_p.data), int(w_p.strb), int(w_p.last)))
        if b is not None and b_r:
            self.log.append((self.cycle, "b", b[0]))
        if done.valid:
            self.log.append((self.cycle, "done", int(done.index), int(done.line), int(done.error)))
        if answer.valid:
            self.log.append((self.cycle, "answer", Resp(answer.resp), int(taken)))
        self.cycle += 1
        return aw_v, w_v

    def of(self, what):
        return [entry for entry in self.log if entry[1] == what]

    def run(self, testbench):
        top = Module()
        top.submodules.dut = self.dut
        top.d.comb += self.matches.eq(self.dut.match(self.asked))
        sim = Simulator(top)
        sim.add_clock(1e-8)

        async def main(ctx):
            await testbench(ctx, self)

        sim.add_testbench(main)
        sim.run()


def test_a_store_is_shown_in_the_next_cycle_and_free_after_its_answer():
    async def testbench(ctx, u):
        await u.step(ctx, push=(5, 2, 0x1122, 0x03))
        assert (ctx.get(u.dut.space), ctx.get(u.dut.occupied)) == (3, 0b0001)
        await u.step(ctx)
        assert ctx.get(u.dut.occupied) == 0b0001, "until memory has answered"
        await u.step(ctx, b=(2, Resp.OKAY))
        assert (ctx.get(u.dut.space), ctx.get(u.dut.occupied)) == (4, 0)
        assert u.log == [
            (1, "aw", 2, BASE + 5 * 32 + 2 * 8, 3, CACHE_NORMAL, 0),
            (1, "w", 0x1122, 0x03, 1),
            (2, "b", 2),
            (2, "done", 0b0001, 5, 0),
        ]

    Unit().run(testbench)


@pytest.mark.parametrize(("width", "lines"), [(32, 2), (64, 3), (128, 8)])
def test_one_store_per_cycle(width, lines):
    """Pushes, addresses, data and answers (three cycles after the data) in every cycle, through every entry, many times round."""

    async def testbench(ctx, u):
        count, g = 100, u.g
        for n in range(count + 4):
            push = (n, n % g.words, n * 0x0101 & 0xFFFF, 1 + n % 3) if n < count else None
            await u.step(ctx, push=push, b=(2, Resp.OKAY) if n >= 4 else None)
        assert [entry[0] for entry in u.of("aw")] == [entry[0] for entry in u.of("w")] == list(range(1, count + 1))
        assert [(a[3], w[2], w[3]) for a, w in zip(u.of("aw"), u.of("w"))] == u.pushed
        assert [entry[3] for entry in u.of("done")] == list(range(count))
        assert ctx.get(u.dut.space) == 4 * lines

    Unit(width=width, lines=lines).run(testbench)


def test_data_is_never_ahead_of_an_address_that_is_not_shown():
    async def testbench(ctx, u):
        shown = []
        for n in range(6):
            shown.append(await u.step(ctx, push=(n, 0, n, 0xFF) if n < 3 else None, aw=n == 4))
        # The first store's data goes with its address that waits; the second's waits for its own address to be shown.
        assert shown == [(0, 0), (1, 1), (1, 0), (1, 0), (1, 0), (1, 1)]
        assert [entry[0] for entry in u.of("w")] == [1, 5]

    Unit().run(testbench)


def test_addresses_run_ahead_of_data():
    async def testbench(ctx, u):
        for n in range(8):
            await u.step(ctx, push=(n, 0, n, 0xFF) if n < 4 else None, w=n >= 6)
        assert [entry[0] for entry in u.of("aw")] == [1, 2, 3, 4]
        assert [entry[0] for entry in u.of("w")] == [6, 7]

    Unit().run(testbench)


def test_a_full_queue_frees_one_entry_per_answer():
    async def testbench(ctx, u):
        for n in range(4):
            await u.step(ctx, push=(n, 0, n, 0xFF))
        assert (ctx.get(u.dut.space), ctx.get(u.dut.occupied)) == (0, 0b1111)
        await u.step(ctx, b=(2, Resp.OKAY))
        assert (ctx.get(u.dut.space), ctx.get(u.dut.occupied)) == (1, 0b1110)
        await u.step(ctx, push=(9, 0, 9, 0xFF), b=(2, Resp.OKAY))
        assert (ctx.get(u.dut.space), ctx.get(u.dut.occupied)) == (1, 0b1101)

    Unit().run(testbench)


def test_match_names_every_entry_of_the_line():
    async def testbench(ctx, u):
        for line in (3, 7, 3):
            await u.step(ctx, push=(line, 0, 0, 1))
        found = {}
        for line in (3, 7, 0):
            ctx.set(u.asked, line)
            found[line] = ctx.get(u.matches)
        assert found == {3: 0b101, 7: 0b010, 0: 0}
        await u.step(ctx, b=(2, Resp.OKAY))
        ctx.set(u.asked, 3)
        assert ctx.get(u.matches) == 0b100

    Unit().run(testbench)


def test_an_error_is_told_with_its_store():
    async def testbench(ctx, u):
        for line in (3, 7):
            await u.step(ctx, push=(line, 0, 0, 1))
        await u.step(ctx, b=(2, Resp.SLVERR))
        await u.step(ctx, b=(2, Resp.DECERR))
        assert [entry[2:] for entry in u.of("done")] == [(0b01, 3, 1), (0b10, 7, 1)]

    Unit().run(testbench)


def test_an_uncached_write():
    async def testbench(ctx, u):
        ctx.set(u.dut.direct.valid, 1)
        ctx.set(u.dut.direct.payload, {"addr": BASE + 0x105, "size": 0, "data": 0xAB00_0000_0000, "strb": 0x20})
        await u.step(ctx)
        await u.step(ctx, w=0)
        await u.step(ctx)
        await u.step(ctx, b=(3, Resp.SLVERR), direct_take=0)
        await u.step(ctx, b=(3, Resp.SLVERR), direct_take=1)
        assert u.log == [
            (1, "aw", 3, BASE + 0x105, 0, CACHE_UNCACHED, 0),
            (2, "w", 0xAB00_0000_0000, 0x20, 1),
            (3, "answer", Resp.SLVERR, 0),
            (4, "b", 3),
            (4, "answer", Resp.SLVERR, 1),
        ]
        assert ctx.get(u.dut.space) == 4 and not ctx.get(u.dut.occupied)
        ctx.set(u.dut.direct.valid, 0)
        await u.step(ctx, push=(1, 0, 5, 0xFF))
        await u.step(ctx)
        assert u.log[-1] == (6, "w", 5, 0xFF, 1), "the queue has the channels again"

    Unit().run(testbench)


@pytest.mark.parametrize("seed", range(4))
def test_random_traffic(seed):
    """Whatever the channels do, each store leaves once, in order, with its bytes; ``space`` is exact."""

    async def testbench(ctx, u):
        rng, g = random.Random(seed), u.g
        answered = 0
        for _ in range(800):
            room = ctx.get(u.dut.space)
            assert room == 4 * u.config.dcache.write_buffer_lines - (len(u.pushed) - answered)
            push = None
            if room and rng.random() < 0.6:
                push = rng.randrange(1 << g.line_bits), rng.randrange(g.words), rng.getrandbits(g.data_width), rng.getrandbits(4)
            performed = min(len(u.of("aw")), len(u.of("w")))
            b = (2, Resp.OKAY) if performed > answered and rng.random() < 0.5 else None
            answered += b is not None
            await u.step(ctx, push=push, aw=rng.random() < 0.6, w=rng.random() < 0.6, b=b)
        aws, ws = u.of("aw"), u.of("w")
        assert len(aws) > 100 and len(ws) > 100
        assert [a[3] for a in aws] == [p[0] for p in u.pushed[: len(aws)]]
        assert [w[2:4] for w in ws] == [p[1:] for p in u.pushed[: len(ws)]]

    Unit(width=(32, 64)[seed % 2], lines=(1, 2, 3, 5)[seed]).run(testbench)


def test_converts():
    rtlil.convert(StoreQueue(config=config(lines=3)))
