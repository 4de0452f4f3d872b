# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache with write policy "through": what a store does, what waits for it, errors, maintenance, snoops, random traffic."""

import pytest
from amaranth.back import verilog

from rtl.axi.bus import CACHE_UNCACHED, Resp
from rtl.cache.dcache import DCache
from rtl.cache.ports import MaintOp
from rtl.config import CSR_BASE, CacheConfig, SocConfig
from rtl.probe import Cause, Kind, Source

from .bench import BASE, Bench
from .test_dcache_misses import loads_and_stores_of_a_line_in_flight
from .test_dcache_random import GEOMETRIES, geometry, soak, soak_options
from .test_dcache_snoop import run as run_snoop
from .test_dcache_snoop import snoop_soak

SMALL = SocConfig(dcache=CacheConfig(sets=4, write_policy="through"), icache=CacheConfig(sets=4))
SNOOP = SMALL.replace(coherency="snoop")
LINE = 32


def run(testbench, config=SMALL, **options):
    bench = Bench(config, **options)
    bench.run(testbench)
    return bench


async def ticks(ctx, count):
    for _ in range(count):
        await ctx.tick()


@pytest.mark.parametrize("coherency", ["none", "snoop"])
def test_converts(coherency):
    config = SocConfig(coherency=coherency, dcache=CacheConfig(write_policy="through", write_buffer_lines=3))
    assert "module" in verilog.convert(DCache(config=config))


# --- stores


def test_a_store_that_misses_goes_to_memory_alone():
    async def testbench(ctx, bench):
        before = bench.word(BASE + 0x40)
        t = await bench.store(ctx, BASE + 0x40, (0xAB << 16, 1 << 2))
        assert t.shown - t.accepted == 2, "posted: as a hit"
        await bench.idle(ctx)
        assert bench.word(BASE + 0x40) == before & ~(0xFF << 16) | 0xAB << 16
        assert not bench.array(ctx) and not bench.memory.reads
        ((_, aw),) = bench.memory.writes
        assert (aw.id, aw.addr, aw.len, aw.size) == (2, BASE + 0x40, 0, 3)
        assert (bench.counters.counts["hits"], bench.counters.counts["misses"]) == (0, 1)

    bench = run(testbench)
    (store,), (done,) = bench.of(Kind.STORE), bench.of(Kind.WB_DONE)
    assert store[4] == 0 and done[2:5] == (BASE + 0x40, 0, 0)


def test_a_store_that_hits_changes_line_and_memory():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE + 0x40)
        await bench.idle(ctx)
        store, load = bench.manager.write(BASE + 0x40, [0x77]), bench.manager.read(BASE + 0x40)
        await bench.manager.wait(ctx, store, load)
        assert load.data == [0x77] and load.cycles[0] - load.accepted <= 4, "from the array, whatever memory is doing"
        await bench.idle(ctx)
        assert bench.word(BASE + 0x40) == 0x77
        dirty, content = bench.array(ctx)[BASE + 0x40]
        assert not dirty and content[:8] == (0x77).to_bytes(8, "little")
        assert (bench.counters.counts["hits"], bench.counters.counts["misses"]) == (2, 1)

    run(testbench)


def test_only_strobed_bytes_are_written():
    """What another agent has put beside them survives: the cache has no line to write back."""

    async def testbench(ctx, bench):
        await bench.load(ctx, BASE + 0x40)
        await bench.idle(ctx)
        bench.memory.bytes[0x42] = 0xD3  # a device, behind the cache
        fields = {"addr": BASE + 0x40, "aux": Source.DMA_DATA | 1 << 10, "data": 0xD3 << 16, "flags": 0, "tag": 0}
        bench.replay.add(bench.cycle, "mem", Kind.MEM_WRITE, **fields)
        await bench.store(ctx, BASE + 0x40, (0xAABB, 3))
        await bench.maintain(ctx, MaintOp.CLEAN_INVALIDATE, scope=2)
        assert bench.word(BASE + 0x40) & 0xFFFFFF == 0xD3AABB

    run(testbench)


@pytest.mark.parametrize("present", [False, True])
def test_one_store_per_cycle(present):
    """Bursts and single beats without a gap, answered as fast as hits; memory takes one store per cycle."""

    async def testbench(ctx, bench):
        if present:
            await bench.load(ctx, BASE)
            await bench.load(ctx, BASE + LINE)
            await bench.idle(ctx)
        t = await bench.store(ctx, BASE, *range(8))
        assert t.shown - t.accepted == 9
        await bench.idle(ctx)
        writes = [bench.manager.write(BASE + 8 * (n % 8), [n]) for n in range(40)]
        await bench.manager.wait(ctx, *writes)
        assert [t.cycles[0] - writes[0].cycles[0] for t in writes] == list(range(40))
        await bench.idle(ctx)
        cycles = [cycle for cycle, _ in bench.memory.writes[-40:]]
        assert cycles == list(range(cycles[0], cycles[0] + 40))

    run(testbench)


def test_a_full_queue_holds_stores_back_and_loads_the_cache_goes_on():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE + 0x40)
        bench.memory.accept_aw = False
        await ctx.tick()
        stores = [bench.manager.write(BASE + 8 * n, [n]) for n in range(4)]
        hit = bench.manager.read(BASE + 0x40)
        await bench.manager.wait(ctx, *stores, hit)
        more = bench.manager.write(BASE + 0x20, [9])
        await ticks(ctx, 30)
        assert not more.done and ctx.get(bench.dut.core.occupied) == 0b1111
        bench.memory.accept_aw = True
        await bench.manager.wait(ctx, more)

    run(testbench, SMALL.replace(dcache__write_buffer_lines=1))


# --- what waits for a store


def test_a_load_that_misses_waits_for_stores_to_its_line():
    async def testbench(ctx, bench):
        bench.memory.accept_aw = False
        await ctx.tick()
        await bench.store(ctx, BASE + 0x48, 0x5A)
        other, same = bench.manager.read(BASE + 0x80), bench.manager.read(BASE + 0x40)
        await bench.manager.wait(ctx, other)
        await ticks(ctx, 30)
        assert not same.done and len(bench.of(Kind.FILL_REQUEST)) == 1, "another line does not wait"
        bench.memory.accept_aw = True
        await bench.manager.wait(ctx, same)
        request, done = bench.of(Kind.FILL_REQUEST)[1], bench.of(Kind.WB_DONE)[0]
        assert request[2] == BASE + 0x40 and 1 <= request[0] - done[0] <= 4, "with the next lookup"
        assert (await bench.load(ctx, BASE + 0x48)).data == [0x5A]

    run(testbench)


def test_a_store_to_a_line_in_flight_follows_its_fill():
    async def testbench(ctx, bench):
        await loads_and_stores_of_a_line_in_flight(ctx, bench)
        await bench.idle(ctx)
        assert bench.word(BASE + 0x400) == 0x201

    bench = run(testbench, latency=8)
    assert len(bench.of(Kind.FILL_REQUEST)) == 1


def test_a_store_whose_fill_failed_goes_to_memory_all_the_same():
    async def testbench(ctx, bench):
        bench.memory.fails = lambda addr, write: not write and addr == BASE + 0x418
        t = [bench.manager.read(BASE + 0x400), bench.manager.write(BASE + 0x408, [1]), bench.manager.read(BASE + 0x418)]
        await bench.manager.wait(ctx, *t)
        await bench.idle(ctx)
        assert [x.resps for x in t] == [[Resp.OKAY], [Resp.OKAY], [Resp.SLVERR]]
        assert not bench.array(ctx) and bench.word(BASE + 0x408) == 1

    run(testbench, latency=8)


@pytest.mark.parametrize("target", ["memory", "register"])
@pytest.mark.parametrize("write", [False, True])
def test_an_uncached_access_waits_for_every_store(target, write):
    """A doorbell after a store finds the store in memory: nothing has to be cleaned."""

    async def testbench(ctx, bench):
        bench.memory.accept_aw = False
        await ctx.tick()
        await bench.store(ctx, BASE + 0x40, 0x5A)
        addr, size = (BASE + 0x800, 3) if target == "memory" else (CSR_BASE, 2)
        if write:
            t = bench.manager.write(addr, [1], size=size, cache=CACHE_UNCACHED)
        else:
            t = bench.manager.read(addr, size=size, cache=CACHE_UNCACHED)
        await ticks(ctx, 30)
        assert not t.done and not bench.csr_writes and not bench.memory.reads
        bench.memory.accept_aw = True
        await bench.manager.wait(ctx, t)
        assert bench.word(BASE + 0x40) == 0x5A

    run(testbench)


# --- errors and maintenance


def test_a_bus_error_is_latched_with_its_line():
    async def testbench(ctx, bench):
        csr = bench.dut.csr
        bench.memory.fails = lambda addr, write: write and addr == BASE + 0x48
        t = await bench.store(ctx, BASE + 0x48, 1)
        assert t.resps == [Resp.OKAY], "it was posted"
        seen = 0
        for _ in range(20):
            await ctx.tick()
            seen += ctx.get(csr.error_status_writeback_set)
        assert seen == 1 and ctx.get(csr.error_addr) == BASE + 0x40

    bench = run(testbench)
    assert [r[4] for r in bench.of(Kind.WB_DONE)] == [1]


@pytest.mark.parametrize("op", [MaintOp.CLEAN, MaintOp.INVALIDATE, MaintOp.CLEAN_INVALIDATE])
@pytest.mark.parametrize("scope", [0, 1, 2])
def test_maintenance_ends_when_memory_has_answered(op, scope):
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE + 0x40)
        bench.memory.accept_aw = False
        await ctx.tick()
        await bench.store(ctx, BASE + 0x40, 0x5A)
        begin = await bench.maintain(ctx, op, scope=scope, start=BASE + 0x40, length=16, wait=False)
        await ticks(ctx, 40)
        assert not bench.of(Kind.MAINT_END)
        bench.memory.accept_aw = True
        await bench.maintained(ctx, begin)
        assert bench.word(BASE + 0x40) == 0x5A, "an invalidate loses nothing"
        assert (BASE + 0x40 in bench.array(ctx)) == (op == MaintOp.CLEAN)
        end, done = bench.of(Kind.MAINT_END)[0][0], bench.of(Kind.WB_DONE)[0][0]
        assert end == done

    run(testbench)


def test_a_clean_walks_nothing():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE, length=16)
        await bench.idle(ctx)
        short, _ = await bench.maintain(ctx, MaintOp.CLEAN, start=BASE, length=1)
        long, _ = await bench.maintain(ctx, MaintOp.CLEAN, start=BASE, length=16 * LINE)
        assert long == short <= 6

    bench = run(testbench)
    assert not bench.of(Kind.CLEAN, Kind.MAINT_STEP)


@pytest.mark.parametrize(("start", "error"), [(BASE + 0x40, 1), (BASE + 0x60, 0)])
def test_maintenance_reports_the_error_of_a_store_in_its_range(start, error):
    async def testbench(ctx, bench):
        bench.memory.fails = lambda addr, write: write
        bench.memory.accept_aw = False
        await ctx.tick()
        await bench.store(ctx, BASE + 0x40, 0x5A)
        begin = await bench.maintain(ctx, MaintOp.CLEAN, start=start, length=LINE, wait=False)
        await ticks(ctx, 20)
        bench.memory.accept_aw = True
        assert (await bench.maintained(ctx, begin))[1] == error

    run(testbench)


def test_point_of_unification_does_not_wait():
    async def testbench(ctx, bench):
        bench.memory.accept_aw = False
        await ctx.tick()
        await bench.store(ctx, BASE + 0x40, 0x5A)
        await bench.maintain(ctx, MaintOp.CLEAN, start=BASE + 0x40, length=8)
        assert bench.word(BASE + 0x40) != 0x5A
        bench.memory.accept_aw = True

    run(testbench, SMALL.replace(faults__maintenance_point_of_unification=True))


def test_commands_and_injector_find_nothing_to_write_back():
    async def testbench(ctx, bench):
        csr = bench.dut.csr
        await bench.load(ctx, BASE + 0x40)
        await bench.store(ctx, BASE + 0x40, 1)
        ctx.set(csr.ctrl_inject_interval, 1)
        ctx.set(csr.ctrl_inject, 1)
        await ticks(ctx, 100)
        assert BASE + 0x40 in bench.array(ctx)
        ctx.set(csr.inject_addr, BASE + 0x40)
        for what in ("writeback", "evict"):
            await bench.strobe(ctx, csr, "inject_cmd", **{what: 1})
            while ctx.get(csr.inject_cmd_busy):
                await ctx.tick()
        assert not bench.array(ctx) and bench.counters.counts["writebacks"] == 0

    bench = run(testbench)
    assert [(r[1], r[3], r[4]) for r in bench.of(Kind.EVICT, Kind.CLEAN)] == [(Kind.EVICT, Cause.INJECTOR, 0)]


# --- coherency


def test_a_snooped_read_waits_for_stores_to_its_line():
    async def testbench(ctx, bench, snooper):
        bench.memory.accept_aw = False
        await ctx.tick()
        await bench.store(ctx, BASE + 0x40, 0x1111)
        other, same = snooper.read(BASE + 0x80), snooper.read(BASE + 0x40)
        await snooper.wait(ctx, other, limit=20)
        await ticks(ctx, 30)
        assert "taken" not in same
        bench.memory.accept_aw = True
        await snooper.wait(ctx, same)
        assert not same["dirty"] and same["result"][:8] == (0x1111).to_bytes(8, "little")

    run_snoop(SNOOP, testbench)


def test_a_snooped_write_drops_the_line_after_its_stores():
    async def testbench(ctx, bench, snooper):
        await bench.load(ctx, BASE + 0x40)
        bench.memory.accept_aw = False
        await ctx.tick()
        await bench.store(ctx, BASE + 0x40, 0x1111)
        job = snooper.write(BASE + 0x40, 0xAB, 1)
        await ticks(ctx, 30)
        assert "taken" not in job and BASE + 0x40 in bench.array(ctx)
        bench.memory.accept_aw = True
        await snooper.wait(ctx, job)
        assert not job["dirty"] and BASE + 0x40 not in bench.array(ctx)
        assert (await bench.load(ctx, BASE + 0x40)).data == [0x11AB]

    run_snoop(SNOOP, testbench)


@pytest.mark.parametrize("kind", ["read", "write"])
def test_stores_without_end_do_not_keep_a_snoop_out(kind):
    async def testbench(ctx, bench, snooper):
        stores = [bench.manager.write(BASE + 0x40 + 8 * (n % 4), [n]) for n in range(300)]
        await ticks(ctx, 50)
        job = snooper.read(BASE + 0x40) if kind == "read" else snooper.write(BASE + 0x40, 0xAB << 64, 1 << 8)
        await snooper.wait(ctx, job, limit=60)
        assert not stores[-1].done
        await bench.manager.wait(ctx, *stores)

    run_snoop(SNOOP, testbench)


# --- random traffic

_EVERY_OP = (MaintOp.CLEAN, MaintOp.INVALIDATE, MaintOp.CLEAN_INVALIDATE)


def through(number, **options):
    return geometry(*GEOMETRIES[number], **options).replace(dcache__write_policy="through")


def soak_through(number, *, count, **options):
    """Any maintenance is harmless, and an uncached read sees what a cached one does."""
    bench = soak(through(number), count=count, uncached=0.15, ops=_EVERY_OP, **options)
    assert not bench.of(Kind.CLEAN) and not any(r[4] & 1 for r in bench.of(Kind.EVICT))
    assert len(bench.of(Kind.STORE)) == len(bench.of(Kind.WB_DONE)) > 10


@pytest.mark.parametrize("number", range(len(GEOMETRIES)), ids=lambda n: "x".join(map(str, GEOMETRIES[n])))
def test_soak(number):
    soak_through(number, count=40, **soak_options(300 + number, 0.4 * (number % 2)))


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_snoop_soak(number):
    snoop_soak(through(number, coherency="snoop"), count=40, **soak_options(350 + number, 0.4 * (number % 2)))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GEOMETRIES)), ids=lambda n: "x".join(map(str, GEOMETRIES[n])))
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_long_soak(number, stall):
    soak_through(number, count=250, **soak_options(3000 + number, stall))
    snoop_soak(through(number, coherency="snoop"), count=150, **soak_options(3500 + number, stall))
