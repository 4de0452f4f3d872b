# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's contract: exact latencies, the path of each kind of access, errors, prefetcher, injector, registers."""

import itertools

import pytest
from amaranth.back import verilog

from rtl.axi.bus import CACHE_UNCACHED, Burst, Resp
from rtl.cache.dcache import DCache
from rtl.config import CSR_BASE, CacheConfig, SocConfig
from rtl.probe import Cause, Kind

from .bench import BASE, Bench

SMALL = SocConfig(dcache=CacheConfig(sets=4), icache=CacheConfig(sets=4))
LINE = 32
SET_STRIDE = 4 * LINE  # next line of the same set
OUTSIDE = 0x4000_0000


def run(testbench, config=SMALL, **options):
    bench = Bench(config, **options)
    bench.run(testbench)
    return bench


@pytest.mark.parametrize(
    "config",
    [
        SocConfig(),
        SocConfig(coherency="snoop"),
        SocConfig(data_width=32, dcache=CacheConfig(sets=2, ways=1, write_buffer_lines=1, prefetcher=False)),
        SocConfig(data_width=128, dcache=CacheConfig(ways=8, line_bytes=128), icache=CacheConfig(line_bytes=128)),
    ],
    ids=["default", "snoop", "smallest", "wide"],
)
def test_converts(config):
    assert "module" in verilog.convert(DCache(config=config))


# --- timing


def test_read_hit_answers_two_cycles_after_ar():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE)
        await bench.idle(ctx)  # the rest of the line has come
        t = await bench.load(ctx, BASE)
        assert t.shown - t.accepted == 2

    run(testbench)


@pytest.mark.parametrize("latency", [1, 10])
def test_read_miss_costs_four_cycles_beyond_memory(latency):
    """From the AR handshake of the CPU to R, for the critical word wherever it lies in the line."""

    async def testbench(ctx, bench):
        for n in range(4):
            t = await bench.load(ctx, BASE + 0x400 + n * (LINE + 8))
            assert t.shown - t.accepted == 4 + latency
            await bench.idle(ctx)
            assert t.data == [bench.word(BASE + 0x400 + n * (LINE + 8))]
            _, ar = bench.memory.reads[-1]
            assert (ar.addr, ar.len, Burst(ar.burst), ar.id) == (BASE + 0x400 + n * (LINE + 8), 3, Burst.WRAP, 0)

    run(testbench, latency=latency)


def test_rest_of_a_missed_line_follows_beat_by_beat():
    async def testbench(ctx, bench):
        t = await bench.load(ctx, BASE + 0x400, length=4)
        first = t.cycles[0]
        assert t.cycles == list(range(first, first + 4))
        assert t.data == [bench.word(a) for a in t.addresses]

    run(testbench)


def test_hit_bursts_run_at_one_beat_per_cycle():
    async def testbench(ctx, bench):
        await bench.store(ctx, BASE, *range(16))
        t = await bench.load(ctx, BASE, length=16)
        assert t.cycles == list(range(t.accepted + 2, t.accepted + 18)) and t.data == list(range(16))
        t = await bench.store(ctx, BASE, *range(16))
        assert t.shown - t.accepted == 17, "16 beats, one cycle after AW each, answered with the last"

    run(testbench)


def test_single_beats_of_hits_run_at_one_per_cycle_reads_and_writes():
    async def testbench(ctx, bench):
        await bench.store(ctx, BASE, 1, 2, 3, 4)
        reads = [bench.manager.read(BASE + 8 * (n % 4)) for n in range(12)]
        await bench.manager.wait(ctx, *reads)
        assert [t.cycles[0] - reads[0].cycles[0] for t in reads] == list(range(12))
        writes = [bench.manager.write(BASE + 8 * (n % 4), [n]) for n in range(12)]
        await bench.manager.wait(ctx, *writes)
        assert [t.cycles[0] - writes[0].cycles[0] for t in writes] == list(range(12))
        mixed = [bench.manager.read(BASE) if n % 2 else bench.manager.write(BASE, [n]) for n in range(12)]
        await bench.manager.wait(ctx, *mixed)
        assert [t.data for t in mixed if not t.write] == [[n - 1] for n in range(12) if n % 2]

    run(testbench)


def test_a_load_behind_the_store_of_its_word_is_looked_up_again():
    """The array gives the old word; two cycles later it has the new one."""

    async def testbench(ctx, bench):
        await bench.store(ctx, BASE, 0x1111111111111111)
        a = bench.manager.write(BASE, [(0xAA << 16, 1 << 2)])
        b = bench.manager.read(BASE)
        await bench.manager.wait(ctx, a, b)
        assert b.data == [0x1111111111AA1111] and b.cycles[0] - b.accepted == 4

    run(testbench)


# --- write-back and replacement


def test_dirty_victim_is_written_back_as_one_burst_and_does_not_delay_the_fill():
    async def testbench(ctx, bench):
        for way in range(2):
            await bench.store(ctx, BASE + way * SET_STRIDE, way + 1)
        t = await bench.load(ctx, BASE + 2 * SET_STRIDE)
        assert t.shown - t.accepted == 5, "as with a clean victim"
        await bench.idle(ctx)
        assert bench.word(BASE) == 1
        _, aw = bench.memory.writes[-1]
        assert (aw.id, aw.len, Burst(aw.burst), aw.addr) == (2, 3, Burst.INCR, BASE)

    bench = run(testbench)
    assert [r[2:5] for r in bench.of(Kind.EVICT)] == [(BASE, Cause.DEMAND, 1)]


def test_a_line_in_the_write_back_buffer_is_fetched_after_memory_answered():
    async def testbench(ctx, bench):
        for way in range(2):
            await bench.store(ctx, BASE + way * SET_STRIDE, way + 1)
        bench.memory.accept_aw = False
        await bench.load(ctx, BASE + 2 * SET_STRIDE)
        for _ in range(10):  # the fill ends, so that nothing else holds the next miss back
            await ctx.tick()
        t = bench.manager.read(BASE)
        for _ in range(30):
            await ctx.tick()
        assert not t.done
        bench.memory.accept_aw = True
        await bench.manager.wait(ctx, t)
        assert t.data == [1]

    run(testbench)


@pytest.mark.parametrize("ways", [1, 2, 4, 8])
def test_replacement_is_tree_plru(ways):
    """Against an independent tree: access order decides which way each miss replaces."""
    config = SocConfig(dcache=CacheConfig(sets=2, ways=ways), icache=CacheConfig(sets=2))
    order = [0, 1, 2, 3, 0, 4, 1, 5, 6, 7, 2, 8, 9, 0, 3, 10, 1, 11, 4, 12]

    def expect():
        nodes, where, filled, out = {}, {}, 0, []

        def touch(way):
            low, span, path = 0, ways, ()
            while span > 1:
                span //= 2
                right = way >= low + span
                nodes[path] = not right
                low, path = low + span * right, (*path, right)

        def victim():
            low, span, path = 0, ways, ()
            while span > 1:
                span //= 2
                right = nodes.get(path, False)
                low, path = low + span * right, (*path, right)
            return low

        for line in order:
            if line not in where.values():
                way = filled if filled < ways else victim()
                filled += filled < ways
                out.append((line, way))
                where[way] = line
                touch(way)
            else:
                touch(next(w for w, held in where.items() if held == line))
        return out

    async def testbench(ctx, bench):
        for line in order:
            await bench.load(ctx, BASE + line * 2 * LINE)
        await bench.idle(ctx)
        got = [((r[2] - BASE) // (2 * LINE), r[3] >> 8) for r in bench.of(Kind.FILL_INSTALL)]
        assert got == expect()

    run(testbench, config)


# --- AXI


def test_narrow_unaligned_wrap_and_fixed_bursts():
    async def testbench(ctx, bench):
        m = bench.memory.bytes
        t = await bench.load(ctx, BASE + 0x13, length=3, size=1)
        got = b"".join(d.to_bytes(8, "little")[a % 8 : (a | 1) % 8 + 1] for d, a in zip(t.data, t.addresses))
        assert got == bytes(m[0x13:0x18])
        t = await bench.load(ctx, BASE + 0x58, length=4, burst=Burst.WRAP)
        assert t.data == [bench.word(BASE + a) for a in (0x58, 0x40, 0x48, 0x50)]
        await bench.store(ctx, BASE + 0x80, *[(n, 0xFF) for n in range(4)], burst=Burst.FIXED)
        t = await bench.load(ctx, BASE + 0x80, length=2, burst=Burst.FIXED)
        assert t.data == [3, 3]
        before = bytes(m[0x100:0x108])
        await bench.store(ctx, BASE + 0x101, 0xAB << 8, size=0)
        t = await bench.load(ctx, BASE + 0x100)
        assert t.data[0].to_bytes(8, "little") == before[:1] + b"\xab" + before[2:]

    run(testbench)


def test_ids_come_back_and_write_strobes_without_any_byte_do_nothing():
    async def testbench(ctx, bench):
        t = [bench.manager.read(BASE + 8 * n, ident=15 - n) for n in range(4)]
        await bench.manager.wait(ctx, *t)
        await bench.store(ctx, BASE + 0x200, (0x1234, 0))
        assert not bench.of(Kind.STORE) and BASE + 0x200 not in bench.array(ctx)

    run(testbench)


def test_reads_and_writes_take_turns():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE, length=4)
        for _ in range(6):
            bench.manager.read(BASE)
            bench.manager.write(BASE, [5])
        while len(bench.manager.order) < 13 or not all(t.done for t in bench.manager.order):
            await ctx.tick()
        kinds = [t.write for t in bench.manager.order[1:]]
        assert all(a != b for a, b in itertools.pairwise(kinds))

    run(testbench, overlap=True)


# --- uncached


def test_uncached_access_never_looks_the_cache_up():
    """The mismatched alias: the cached bytes are dirty, memory's are older, and the uncached load sees memory's."""

    async def testbench(ctx, bench):
        old = bench.word(BASE)
        await bench.store(ctx, BASE, 0x55)
        t = await bench.uncached_load(ctx, BASE)
        assert t.data == [old]
        await bench.store(ctx, BASE, 0x66, cache=CACHE_UNCACHED)
        assert bench.word(BASE) == 0x66, "answered by memory"
        t = await bench.load(ctx, BASE)
        assert t.data == [0x55]
        assert [(int(ar.id), int(ar.len)) for _, ar in bench.memory.reads[1:]] == [(3, 0)]

    bench = run(testbench)
    kinds = [r[1] for r in bench.of(Kind.UNCACHED_LOAD, Kind.UNCACHED_STORE, Kind.UNCACHED_STORE_DONE)]
    assert kinds == [Kind.UNCACHED_LOAD, Kind.UNCACHED_STORE, Kind.UNCACHED_STORE_DONE]


def test_uncached_access_waits_for_a_write_back_of_its_line_only():
    async def testbench(ctx, bench):
        await bench.store(ctx, BASE, 0x55)
        bench.memory.accept_aw = False
        csr = bench.dut.csr
        ctx.set(csr.inject_addr, BASE)
        await bench.strobe(ctx, csr, "inject_cmd", evict=1)
        other = await bench.uncached_load(ctx, BASE + 0x100)
        assert other.resps == [Resp.OKAY]
        same = bench.manager.read(BASE, cache=CACHE_UNCACHED)
        for _ in range(20):
            await ctx.tick()
        assert not same.done
        bench.memory.accept_aw = True
        await bench.manager.wait(ctx, same)
        assert same.data == [0x55]

    run(testbench)


def test_uncached_accesses_keep_their_place_between_cached_ones():
    async def testbench(ctx, bench):
        t = [bench.manager.write(BASE, [1]), bench.manager.read(OUTSIDE, cache=CACHE_UNCACHED), bench.manager.read(BASE)]
        await bench.manager.wait(ctx, *t)
        assert t[1].resps == [Resp.DECERR] and t[2].data == [1]
        cycles = [r[0] for r in bench.of(Kind.STORE, Kind.UNCACHED_LOAD, Kind.LOAD)]
        assert cycles == sorted(cycles) and len(cycles) == 3

    run(testbench)


def test_cacheable_access_outside_memory_is_uncached():
    async def testbench(ctx, bench):
        t = await bench.load(ctx, OUTSIDE)
        assert t.resps == [Resp.DECERR]
        t = await bench.store(ctx, OUTSIDE, 1, 2)
        assert t.resps == [Resp.DECERR]
        assert not bench.of(Kind.FILL_REQUEST)

    run(testbench)


@pytest.mark.parametrize("width", [32, 64, 128])
def test_registers(width):
    config = SocConfig(data_width=width)

    async def testbench(ctx, bench):
        for offset in (0x300, 0x304, 0x308, 0x30C):
            shift = 8 * (offset % (width // 8))
            t = await bench.store(ctx, CSR_BASE + offset, (0xCAFE0000 + offset) << shift, size=2, cache=CACHE_UNCACHED, user=7)
            assert t.resps == [Resp.OKAY]
            t = await bench.csr_load(ctx, offset)
            assert t.data[0] >> shift & 0xFFFFFFFF == bench.csr_read(CSR_BASE + offset)
        writes = [(a - CSR_BASE, d, tag) for _, a, d, tag in bench.csr_writes]
        assert writes == [(o, 0xCAFE0000 + o, 7) for o in (0x300, 0x304, 0x308, 0x30C)]
        for bad in ({"size": 1}, {"size": 0}) + (({"size": 3},) if width > 32 else ()):
            t = await bench.load(ctx, CSR_BASE, cache=CACHE_UNCACHED, **bad)
            assert t.resps == [Resp.SLVERR]
        t = await bench.store(ctx, CSR_BASE, (1, 0x7), size=2, cache=CACHE_UNCACHED)
        assert t.resps == [Resp.SLVERR] and len(bench.csr_writes) == 4
        t = await bench.load(ctx, CSR_BASE + 2, size=2, cache=CACHE_UNCACHED)
        assert t.resps == [Resp.SLVERR]
        bench.csr_error = True
        assert (await bench.csr_load(ctx, 0)).resps == [Resp.SLVERR]

    run(testbench, config)


# --- errors


def test_fill_error_reaches_the_requester_and_is_latched():
    async def testbench(ctx, bench):
        bench.memory.fails = lambda addr, write: addr == BASE + 0x48
        csr = bench.dut.csr
        seen = []

        t = bench.manager.read(BASE + 0x48)
        while not t.done:
            await ctx.tick()
            seen.append(ctx.get(csr.error_status_fill_set))
        for _ in range(8):
            await ctx.tick()
            seen.append(ctx.get(csr.error_status_fill_set))
        assert t.resps == [Resp.SLVERR] and sum(seen) == 1
        assert ctx.get(csr.error_addr) == BASE + 0x40
        t = await bench.store(ctx, BASE + 0x40, 1)
        assert t.resps == [Resp.SLVERR], "a store needs the whole line"
        t = await bench.load(ctx, BASE + 0x40)
        assert t.resps == [Resp.OKAY], "its own beat came"
        await bench.idle(ctx)
        assert not bench.array(ctx)
        bench.memory.fails = lambda addr, write: False
        t = await bench.load(ctx, BASE + 0x48)
        assert t.resps == [Resp.OKAY]
        await bench.idle(ctx)
        assert BASE + 0x40 in bench.array(ctx)

    run(testbench)


def test_write_back_error_is_latched_with_its_line():
    async def testbench(ctx, bench):
        csr = bench.dut.csr
        await bench.store(ctx, BASE + 0x40, 1)
        bench.memory.fails = lambda addr, write: write
        ctx.set(csr.inject_addr, BASE + 0x40)
        await bench.strobe(ctx, csr, "inject_cmd", evict=1)
        seen = 0
        while ctx.get(csr.inject_cmd_busy):
            await ctx.tick()
            seen += ctx.get(csr.error_status_writeback_set)
        assert seen == 1 and ctx.get(csr.error_addr) == BASE + 0x40

    bench = run(testbench)
    assert bench.of(Kind.WB_DONE)[0][4] == 1


def test_the_first_of_two_errors_keeps_its_address():
    async def testbench(ctx, bench):
        bench.memory.fails = lambda addr, write: True
        csr = bench.dut.csr
        await bench.load(ctx, BASE + 0x40)
        await bench.idle(ctx)
        ctx.set(csr.error_status_fill, 1)
        await bench.load(ctx, BASE + 0x80)
        await bench.idle(ctx)
        assert ctx.get(csr.error_addr) == BASE + 0x40
        ctx.set(csr.error_status_fill, 0)
        await bench.load(ctx, BASE + 0xC0)
        await bench.idle(ctx)
        assert ctx.get(csr.error_addr) == BASE + 0xC0

    run(testbench)


# --- prefetcher


def test_prefetcher_fetches_the_next_line_and_goes_on_when_it_is_used():
    async def testbench(ctx, bench):
        ctx.set(bench.dut.csr.ctrl_prefetch, 1)
        await bench.load(ctx, BASE)
        await bench.idle(ctx)
        assert set(bench.array(ctx)) == {BASE, BASE + LINE}
        t = await bench.load(ctx, BASE + LINE)
        assert t.shown - t.accepted == 2
        await bench.idle(ctx)
        assert BASE + 2 * LINE in bench.array(ctx)
        assert {r[3] & 0xF for r in bench.of(Kind.FILL_REQUEST)} == {Cause.DEMAND, Cause.PREFETCH}
        assert [int(ar.id) for _, ar in bench.memory.reads] == [0, 1, 1]
        assert bench.counters.counts["prefetches"] == 2

    run(testbench)


def test_demand_uses_a_prefetch_in_flight():
    async def testbench(ctx, bench):
        ctx.set(bench.dut.csr.ctrl_prefetch, 1)
        a, b = bench.manager.read(BASE), bench.manager.read(BASE + LINE + 8)
        await bench.manager.wait(ctx, a, b)
        assert b.data == [bench.word(BASE + LINE + 8)]
        lines = [r[2] for r in bench.of(Kind.FILL_REQUEST)]
        assert lines.count(BASE + LINE) == 1

    run(testbench, latency=10)


def test_prefetch_stays_in_the_window_and_its_errors_are_dropped_and_counted():
    async def testbench(ctx, bench):
        csr = bench.dut.csr
        ctx.set(csr.ctrl_prefetch, 1)
        last = BASE + bench.config.memory.size - LINE
        await bench.load(ctx, last)
        await bench.idle(ctx)
        assert len(bench.memory.reads) == 1
        bench.memory.fails = lambda addr, write: addr >= BASE + LINE
        t = await bench.load(ctx, BASE)
        assert t.resps == [Resp.OKAY]
        await bench.idle(ctx)
        assert bench.counters.counts["prefetch_errors"] == 1 and not ctx.get(csr.error_addr)
        t = await bench.load(ctx, BASE + LINE)
        assert t.resps == [Resp.SLVERR], "the demand access fetches for itself"

    run(testbench)


def test_prefetcher_is_off_after_reset():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE)

    assert len(run(testbench).of(Kind.FILL_REQUEST)) == 1


# --- injector


def test_commands_on_a_named_line():
    async def testbench(ctx, bench):
        csr = bench.dut.csr

        async def command(addr, **what):
            ctx.set(csr.inject_addr, addr)
            await bench.strobe(ctx, csr, "inject_cmd", **what)
            assert not what or ctx.get(csr.inject_cmd_busy) or not BASE <= addr < BASE + 0x40000
            cycles = 0
            while ctx.get(csr.inject_cmd_busy):
                await ctx.tick()
                cycles += 1
            return cycles

        await command(BASE + 0x44, prefetch=1)
        assert BASE + 0x40 in bench.array(ctx), "busy until the fill is installed"
        await bench.store(ctx, BASE + 0x40, 0x99)
        await command(BASE + 0x40, writeback=1)
        assert bench.word(BASE + 0x40) == 0x99, "busy until memory has answered"
        assert bench.array(ctx)[BASE + 0x40][0] is False
        await bench.store(ctx, BASE + 0x40, 0x9A)
        await command(BASE + 0x5F, evict=1)
        assert bench.word(BASE + 0x40) == 0x9A and BASE + 0x40 not in bench.array(ctx)
        assert await command(BASE + 0x40, evict=1, writeback=1) == 16, "absent: four lookups of four cycles, nothing to do"
        assert await command(OUTSIDE, prefetch=1) == 0
        await bench.load(ctx, BASE + 0x80)
        await command(BASE + 0x80, evict=1)
        assert BASE + 0x80 not in bench.array(ctx)

    bench = run(testbench)
    causes = [(r[1], r[3]) for r in bench.of(Kind.EVICT, Kind.CLEAN)]
    assert causes == [(Kind.CLEAN, Cause.INJECTOR), (Kind.EVICT, Cause.INJECTOR), (Kind.EVICT, Cause.INJECTOR)]


@pytest.mark.parametrize("interval", [10, 40])
def test_injector_evicts_dirty_lines_at_the_mean_interval(interval):
    async def testbench(ctx, bench):
        csr = bench.dut.csr
        for n in range(8):
            await bench.store(ctx, BASE + n * LINE, n)
        ctx.set(csr.ctrl_inject_interval, interval)
        ctx.set(csr.ctrl_inject, 1)
        begin, n = bench.cycle, 0
        while bench.cycle < begin + 40 * interval:
            await bench.store(ctx, BASE + n % 8 * LINE, n)
            n += 1
        ctx.set(csr.ctrl_inject, 0)
        evicted = bench.of(Kind.EVICT)
        assert 20 <= len(evicted) <= 60, "about 40"
        assert {r[3:5] for r in evicted} == {(Cause.INJECTOR, 1)}
        assert len({r[2] % SET_STRIDE for r in evicted}) == 4, "of every set"

    run(testbench)


def test_injector_depends_on_its_seed_only():
    def lines(seed):
        async def testbench(ctx, bench):
            csr = bench.dut.csr
            ctx.set(csr.inject_seed, seed)
            await bench.strobe(ctx, csr, "inject_seed")
            for n in range(8):
                await bench.store(ctx, BASE + n * LINE, n)
            ctx.set(csr.ctrl_inject_interval, 6)
            ctx.set(csr.ctrl_inject, 1)
            for _ in range(96):
                await ctx.tick()
            ctx.set(csr.ctrl_inject, 0)

        return [(r[0], r[2]) for r in run(testbench).of(Kind.EVICT)]

    assert len(lines(5)) == 8 and lines(5) == lines(5) != lines(77)


# --- counters


def test_counters():
    async def testbench(ctx, bench):
        await bench.load(ctx, BASE, length=4)
        for n in range(1, 3):
            await bench.store(ctx, BASE + n * SET_STRIDE, n)
        await bench.load(ctx, BASE)
        await bench.idle(ctx)
        counts = bench.counters.counts
        hits, misses = counts["hits"], counts["misses"]
        records = bench.of(Kind.LOAD, Kind.STORE)
        assert (hits, misses) == (3, 4), "an access that joins a fill is a hit"
        assert hits == sum(r[4] >> 1 for r in records)
        assert counts["stalls"] == 1, "the access behind the first miss, until that has its slot"
        assert counts["evictions"] == len(bench.of(Kind.EVICT)) == 2
        assert counts["writebacks"] == len(bench.of(Kind.WB_DONE)) == 1
        t = [bench.manager.read(BASE + n * LINE) for n in range(16)]
        await bench.manager.wait(ctx, *t)
        assert counts["stalls"] > 0, "more misses than slots"

    run(testbench)
