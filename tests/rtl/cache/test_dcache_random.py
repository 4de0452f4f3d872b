# SPDX-License-Identifier: BSD-2-Clause
"""Random traffic against an untimed byte model, and every probe record replayed, over many geometries.

The CPU's view is checked by a byte model that applies accesses in the order of their address handshakes; the hardware's own state
(array, memory) by the replay of its records. Maintenance, injector and prefetcher run at the same time. Invalidations are
never given to the model's lines, because they discard; their effect is checked by the replay alone.
"""

import random

import pytest

from rtl.axi.bus import CACHE_NORMAL, CACHE_UNCACHED, Burst, Resp
from rtl.cache.ports import MaintOp
from rtl.config import CacheConfig, DmaConfig, MemoryConfig, SocConfig
from rtl.probe import Kind
from tests.rtl.support.axi import beat_addresses, lanes

from .bench import BASE, Bench

GEOMETRIES = [
    # data_width, sets, ways, line_bytes, write_buffer_lines, prefetcher
    (64, 4, 2, 32, 2, True),
    (32, 4, 1, 16, 1, True),
    (32, 2, 4, 32, 3, True),
    (64, 2, 8, 16, 2, True),
    (128, 2, 2, 64, 2, True),
    (32, 2, 2, 128, 1, True),
    (64, 8, 1, 128, 2, False),
    (128, 4, 4, 32, 8, True),
]


def geometry(width, sets, ways, line, entries, prefetcher, coherency="none"):
    cache = CacheConfig(sets=sets, ways=ways, line_bytes=line, write_buffer_lines=entries, prefetcher=prefetcher)
    return SocConfig(
        data_width=width,
        coherency=coherency,
        dcache=cache,
        icache=CacheConfig(line_bytes=line),
        memory=MemoryConfig(size=4096 if sets * line < 4096 else 8192),
        dma=DmaConfig(chunk_bytes=16),
    )


class Traffic:
    """Draws accesses inside ``span`` bytes (so that they collide) and keeps the model of what the CPU must see.

    ``uncached``: the part of the reads that go around the cache; where memory is always up to date they must see the same.
    """

    def __init__(self, bench, rng, *, span, count, uncached=0.0):
        self.bench, self.random, self.span, self.count, self.uncached = bench, rng, span, count, uncached
        self.model = bytearray(bench.memory.bytes)
        self.checks = []
        bench.manager.on_accept = self.accepted

    def draw(self):
        r, n = self.random, self.bench.config.data_bytes
        size = r.choice([(n - 1).bit_length()] * 3 + list(range((n - 1).bit_length() + 1)))
        burst = r.choice([Burst.INCR, Burst.INCR, Burst.WRAP, Burst.FIXED])
        length = r.choice([1, 1, 1, 2, 4, 8]) if burst != Burst.INCR else r.choice([1, 1, 1, 2, 3, 5, 8])
        if burst == Burst.WRAP:
            length = max(length, 2)
        addr = r.randrange(0, self.span)
        if burst == Burst.WRAP or r.random() < 0.5:
            addr &= -(1 << size)
        addr = min(addr, self.span - (length << size))
        ident = r.randrange(4)
        if r.random() < 0.5:
            cache = CACHE_UNCACHED if self.uncached and r.random() < self.uncached else CACHE_NORMAL
            return self.bench.manager.read(BASE + addr, length=length, size=size, burst=burst, ident=ident, cache=cache)
        beats = []
        for a in beat_addresses(addr, length, size, burst):
            strb = lanes(a, size, n) & (r.getrandbits(n) if r.random() < 0.4 else -1)
            beats.append((r.getrandbits(8 * n), strb))
        return self.bench.manager.write(BASE + addr, beats, size=size, burst=burst, ident=ident)

    def accepted(self, t):
        """The order of address handshakes is the order of performance."""
        n = self.bench.config.data_bytes
        expected = []
        for k, addr in enumerate(t.addresses):
            at = (addr & -n) - BASE
            if t.write:
                data, strb = t.beats[k]
                for lane in range(n):
                    if strb >> lane & 1:
                        self.model[at + lane] = data >> 8 * lane & 0xFF
            else:
                expected.append((int.from_bytes(self.model[at : at + n], "little"), lanes(addr, t.size, n)))
        self.checks.append((t, expected))

    async def run(self, ctx):
        for _ in range(self.count):
            self.draw()
            if self.random.random() < 0.1:
                self.bench.manager.gap = self.random.randrange(30)
            while len(self.bench.manager.todo) > 4:
                await ctx.tick()
        await self.bench.manager.wait(ctx, *[t for t, _ in self.checks], *self.bench.manager.todo, limit=20000)
        await self.bench.manager.wait(ctx, *[t for t, _ in self.checks])
        for t, expected in self.checks:
            self.check(t, expected)

    def check(self, t, expected):
        assert set(t.resps) == {Resp.OKAY}, t
        for got, (want, mask) in zip(t.data, expected):
            bits = sum(0xFF << 8 * n for n in range(16) if mask >> n & 1)
            assert got & bits == want & bits, f"{t}: got {got:#x}, want {want:#x}"


async def background_maintenance(ctx, bench, rng, span, done, ops=(MaintOp.CLEAN, MaintOp.CLEAN_INVALIDATE)):
    while not done():
        scope = rng.randrange(3)
        await bench.maintain(
            ctx,
            rng.choice(ops),
            scope=scope,
            target=rng.choice([1, 1, 3]),
            start=BASE + rng.randrange(span),
            length=rng.choice([0, 1, 40, 300, span, 1 << 20]),
        )
        for _ in range(rng.randrange(40)):
            await ctx.tick()


def soak(config, *, seed, count=250, maint=True, inject=True, prefetch=True, uncached=0.0, ops=None, **options):
    rng = random.Random(seed)
    bench = Bench(config, seed=seed, **options)
    size = config.dcache.size_bytes
    span = min(4 * size, config.memory.size)
    finished = []

    async def maintenance(ctx):
        if maint:
            some = {"ops": ops} if ops else {}
            await background_maintenance(ctx, bench, random.Random(seed + 9), span, lambda: bool(finished), **some)

    async def main(ctx, bench):
        csr = bench.dut.csr
        ctx.set(csr.ctrl_prefetch, prefetch)
        ctx.set(csr.ctrl_inject, inject)
        ctx.set(csr.ctrl_inject_interval, rng.choice([5, 20, 60]))
        traffic = Traffic(bench, rng, span=span, count=count, uncached=uncached)
        await traffic.run(ctx)
        ctx.set(csr.ctrl_inject, 0)
        finished.append(True)
        while len(bench.of(Kind.MAINT_END)) < len(bench.of(Kind.MAINT_BEGIN)):
            await ctx.tick()
        await bench.idle(ctx)
        # after cleaning everything memory is what the CPU has written
        await bench.maintain(ctx, MaintOp.CLEAN, scope=2)
        assert bench.memory.bytes == traffic.model
        assert not any(dirty for dirty, _ in bench.array(ctx).values())

    bench.run(main, maintenance)
    return bench


def soak_options(seed, stall):
    latency = random.Random(seed)
    return {
        "seed": seed,
        "stall": stall,
        "latency": lambda: latency.choice([1, 1, 3, 10]),
        "reorder": stall > 0,
        "overlap": stall > 0,
    }


@pytest.mark.parametrize("number", range(len(GEOMETRIES)), ids=lambda n: "x".join(map(str, GEOMETRIES[n])))
def test_soak(number):
    soak(geometry(*GEOMETRIES[number]), count=40, **soak_options(100 + number, 0.4 * (number % 2)))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GEOMETRIES)), ids=lambda n: "x".join(map(str, GEOMETRIES[n])))
@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("seed", [1, 2])
def test_long_soak(number, stall, seed):
    soak(geometry(*GEOMETRIES[number]), count=250, **soak_options(1000 * seed + number, stall))
