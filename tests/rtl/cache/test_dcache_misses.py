# SPDX-License-Identifier: BSD-2-Clause
"""Several misses in flight: streams of misses, hits under a miss, and the order of accesses to a line that is on its way."""

import pytest

from rtl.axi.bus import Resp
from rtl.config import CacheConfig, SocConfig
from rtl.probe import Kind

from .bench import BASE, Bench

LINE = 32
SMALL = SocConfig(dcache=CacheConfig(sets=8), icache=CacheConfig(sets=8))


def run(testbench, config=SMALL, **options):
    bench = Bench(config, maint=False, **options)
    bench.run(testbench)
    return bench


@pytest.mark.parametrize(
    ("dirty", "write", "cycles"), [(False, False, 303), (True, False, 326), (False, True, 521), (True, True, 521)]
)
def test_stream_of_misses(dirty, write, cycles):
    """64 lines that miss (64-bit bus, latency 10), all victims dirty or none: from the first address to the last response."""

    async def testbench(ctx, bench):
        if dirty:
            for n in range(64):
                bench.manager.write(BASE + n * LINE, [n])
            while bench.manager.todo:
                await ctx.tick()
            await bench.manager.wait(ctx, *bench.manager.order)
            await bench.idle(ctx)
        at = [BASE + 0x4000 + n * LINE for n in range(64)]
        t = [bench.manager.write(a, [a]) if write else bench.manager.read(a) for a in at]
        await bench.manager.wait(ctx, *t)
        assert t[-1].cycles[-1] - t[0].accepted == cycles

    config = SocConfig(dcache=CacheConfig(sets=32), icache=CacheConfig(sets=32))
    bench = run(testbench, config, latency=10)
    assert len(bench.of(Kind.EVICT)) >= 64 * dirty


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_as_many_misses_are_in_flight_as_there_are_slots(slots):
    async def testbench(ctx, bench):
        bench.memory.accept_ar = False
        await ctx.tick()
        await ctx.tick()
        t = [bench.manager.read(BASE + n * LINE) for n in range(6)]
        for _ in range(40):
            await ctx.tick()
        assert len(bench.of(Kind.FILL_REQUEST)) == slots
        bench.memory.accept_ar = True
        await bench.manager.wait(ctx, *t)
        assert [x.data for x in t] == [[bench.word(BASE + n * LINE)] for n in range(6)]

    run(testbench, SMALL.replace(dcache__fill_slots=slots))


def test_hits_are_performed_under_a_miss_and_answered_in_order():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE, length=4)
        await bench.idle(ctx)
        bench.records.clear()
        miss = bench.manager.read(BASE + 0x400)
        hits = [bench.manager.write(BASE, [7]), bench.manager.read(BASE), bench.manager.read(BASE + 8, ident=3)]
        await bench.manager.wait(ctx, miss, *hits)
        assert hits[1].data == [7] and hits[2].data == [bench.word(BASE + 8)]
        kinds = [(r[1], r[2]) for r in bench.of(Kind.LOAD, Kind.STORE)]
        assert kinds == [(Kind.STORE, BASE), (Kind.LOAD, BASE), (Kind.LOAD, BASE + 8), (Kind.LOAD, BASE + 0x400)]
        assert miss.shown - miss.accepted == 20 + 4, "the hits cost the miss nothing"
        assert hits[0].accepted - miss.accepted == 1
        assert [t.cycles[0] - miss.cycles[0] for t in hits] == [1, 2, 3]

    run(testbench, latency=20)


async def loads_and_stores_of_a_line_in_flight(ctx, bench):
    """By turns, the first one a miss: each load sees the stores before it, and no other."""
    m = bench.manager
    old = bench.word(BASE + 0x400)
    t = [
        m.read(BASE + 0x400),
        m.write(BASE + 0x400, [1]),
        m.read(BASE + 0x400),
        m.write(BASE + 0x400, [(2 << 8, 2)]),
        m.read(BASE + 0x400),
    ]
    await m.wait(ctx, *t)
    assert [x.data[0] for x in t if not x.write] == [old, 1, 0x201]


def test_accesses_to_a_line_in_flight_keep_their_order():
    bench = run(loads_and_stores_of_a_line_in_flight, latency=8)
    assert len(bench.of(Kind.FILL_REQUEST)) == 1


def test_a_line_that_leaves_before_its_parked_access_is_fetched_again():
    """One set, one way: the injector takes the line away as soon as it is there; no store is lost."""

    async def testbench(ctx, bench):
        csr = bench.dut.csr
        ctx.set(csr.ctrl_inject_interval, 1)
        ctx.set(csr.ctrl_inject, 1)
        t = [bench.manager.write(BASE + n % 3 * 2 * LINE + n % 4 * 8, [n]) for n in range(24)]
        await bench.manager.wait(ctx, *t)
        ctx.set(csr.ctrl_inject, 0)
        await bench.idle(ctx)
        for n in range(12, 24):
            t = await bench.load(ctx, BASE + n % 3 * 2 * LINE + n % 4 * 8)
            assert t.data == [n]

    run(testbench, SocConfig(dcache=CacheConfig(sets=2, ways=1), icache=CacheConfig(sets=2)), latency=6)


def test_an_error_answers_every_access_that_waits_for_the_line():
    async def testbench(ctx, bench):
        bench.memory.fails = lambda addr, write: not write and addr == BASE + 0x418
        t = [bench.manager.read(BASE + 0x400), bench.manager.write(BASE + 0x408, [1]), bench.manager.read(BASE + 0x418)]
        await bench.manager.wait(ctx, *t)
        assert [x.resps for x in t] == [[Resp.OKAY], [Resp.SLVERR], [Resp.SLVERR]]
        await bench.idle(ctx)
        assert not bench.array(ctx) and bench.word(BASE + 0x408) != 1

    bench = run(testbench, latency=8)
    assert len(bench.of(Kind.FILL_REQUEST)) == 1


def test_a_memory_that_takes_no_write_during_a_read_gets_through():
    """Beats of a fill wait on R for the words of the line they replace, so those must not wait for memory: else both stop."""

    async def testbench(ctx, bench):
        memory, r = bench.memory, bench.dut.m_axi.r
        for n in range(8):
            await bench.store(ctx, BASE + n * LINE, n)
        await bench.idle(ctx)
        beats = len(memory.reads) * 8
        t = [bench.manager.read(BASE + 0x4000 + n * LINE) for n in range(8)]
        for _ in range(1000):
            beats += ctx.get(r.valid & r.ready)
            await ctx.tick()
            memory.accept_aw = memory.accept_w = beats == len(memory.reads) * 8 and not ctx.get(bench.dut.m_axi.ar.valid)
        assert all(x.done for x in t)
        assert [x.data for x in t] == [[bench.word(BASE + 0x4000 + n * LINE)] for n in range(8)]

    config = SocConfig(data_width=32, dcache=CacheConfig(sets=8, ways=1), icache=CacheConfig(sets=8))
    bench = run(testbench, config, latency=10)
    assert len(bench.of(Kind.EVICT)) == 8
