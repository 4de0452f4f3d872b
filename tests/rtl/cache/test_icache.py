# SPDX-License-Identifier: BSD-2-Clause
"""ICache: exact cycles, replacement, invalidation against fetches and fills, errors, uncached fetches, records, conversion."""

import itertools
import random

import pytest
from amaranth.back import verilog

from rtl import export
from rtl.axi.bus import CACHE_UNCACHED, Burst, Resp
from rtl.cache.icache import ICache
from rtl.probe import Kind

from .icache_bench import BASE, SMALL, run

# ---------------------------------------------------------------------------------------------------- cycles


def test_hit_cycles():
    """R valid two cycles after AR; bursts and single beats at one per cycle."""

    async def body(ctx, b):
        await b.read(ctx, BASE, length=8)
        for addr in (BASE, BASE + 24, BASE + 0x20):
            t = await b.read(ctx, addr)
            b.expect(t)
            assert t.shown == t.accepted + 2
        t = await b.read(ctx, BASE, length=8)
        assert t.cycles == list(range(t.accepted + 2, t.accepted + 10))
        singles = [b.manager.read(BASE + 8 * n) for n in range(8)]
        await b.manager.wait(ctx, *singles)
        assert [t.accepted for t in singles] == list(range(singles[0].accepted, singles[0].accepted + 8))
        assert [t.shown for t in singles] == [t.accepted + 2 for t in singles]

    bench = run(body)
    assert len(bench.memory.reads) == 2


@pytest.mark.parametrize("latency", [1, 2, 9])
def test_miss_cycles_and_critical_word_first(latency):
    async def body(ctx, b):
        t = await b.read(ctx, BASE + 0x50)
        b.expect(t)
        cycle, ar = b.memory.reads[0]
        assert cycle == t.accepted + 3 and t.shown == cycle + latency
        assert (ar.addr, ar.len, ar.burst, ar.size, ar.id) == (BASE + 0x50, 3, Burst.WRAP, 3, 0)
        await ctx.tick().repeat(latency + 10)
        assert [entry[2] for entry in b.reads_seen] == [BASE + a for a in (0x50, 0x58, 0x40, 0x48)]
        installed = b.kinds(Kind.IFILL_INSTALL)[0]
        assert installed[0] == cycle + latency + 4  # the cycle after the last of four beats
        t = await b.read(ctx, BASE + 0x40, length=4)
        b.expect(t)
        assert len(b.memory.reads) == 1

    run(body, latency=latency)


def test_a_missing_burst_streams_through():
    async def body(ctx, b):
        t = await b.read(ctx, BASE + 0x20, length=4)
        b.expect(t)
        assert t.cycles == list(range(t.shown, t.shown + 4)) and len(b.memory.reads) == 1

    run(body, latency=5)


def test_hits_while_a_fill_comes_in():
    config = SMALL.replace(icache__line_bytes=128, dcache__line_bytes=128)

    async def body(ctx, b):
        await b.read(ctx, BASE)
        await ctx.tick().repeat(30)
        miss, hit = b.manager.read(BASE + 128), b.manager.read(BASE + 8)
        await b.manager.wait(ctx, miss, hit)
        b.expect(hit)
        assert hit.shown == miss.shown + 1
        assert b.cycle < miss.shown + 10, "the fill has 16 beats: the hit must not have waited for them"

    run(body, config)


def test_lines_longer_than_a_wrap_burst():
    config = SMALL.replace(data_width=32, icache__line_bytes=128, dcache__line_bytes=128)

    async def body(ctx, b):
        t = await b.read(ctx, BASE + 0x90)
        b.expect(t)
        _, ar = b.memory.reads[0]
        assert (ar.addr, ar.len, ar.burst) == (BASE + 0x80, 31, Burst.INCR)
        b.expect(await b.read(ctx, BASE + 0x80, length=32))
        assert len(b.memory.reads) == 1

    run(body, config)


# ---------------------------------------------------------------------------------------------------- replacement, counters


@pytest.mark.parametrize("ways", [1, 2, 4, 8])
def test_replacement(ways):
    """Ways fill from the first invalid one; then the PLRU victim goes, never the line used last."""
    config = SMALL.replace(icache__ways=ways)
    stride = 4 * 32

    async def body(ctx, b):
        for n in range(ways):
            await b.read(ctx, BASE + n * stride)
        for n in range(ways):
            assert (await b.read(ctx, BASE + n * stride)).shown
        assert len(b.memory.reads) == ways and not b.kinds(Kind.IEVICT)
        await ctx.tick().repeat(10)
        last = 0
        await b.read(ctx, BASE)  # the line used last
        await b.read(ctx, BASE + ways * stride)
        await ctx.tick().repeat(10)
        evicted = [record[3] for record in b.kinds(Kind.IEVICT)]
        assert len(evicted) == 1
        if ways > 1:
            assert evicted != [BASE + last * stride]
            assert (await b.read(ctx, BASE)).shown and len(b.memory.reads) == ways + 1
        request, evict = b.kinds(Kind.IFILL_REQUEST)[-1], b.kinds(Kind.IEVICT)[-1]
        assert evict[0] == request[0] + 1

    run(body, config)


def test_two_way_plru_is_lru():
    async def body(ctx, b):
        a, c, d = BASE, BASE + 128, BASE + 256
        for addr in (a, c, a, d, a):
            await b.read(ctx, addr)
            await ctx.tick().repeat(8)
        assert [record[3] for record in b.kinds(Kind.IEVICT)] == [c] and len(b.memory.reads) == 3

    run(body)


def test_counters_and_tags():
    async def body(ctx, b):
        await b.read(ctx, BASE, length=4, user=5)  # one decides the fill, three wait for its beats
        await ctx.tick().repeat(5)
        await b.read(ctx, BASE, length=4, user=6)
        await b.read(ctx, BASE, cache=CACHE_UNCACHED, user=7)  # neither
        assert b.counters.counts == {"hits": 4, "misses": 4}
        fetches = b.kinds(Kind.FETCH)
        assert [(r[5], r[7]) for r in fetches] == [(0, 5)] * 4 + [(2, 6)] * 4 + [(4, 7)]
        assert all(r[4] == 0xFF for r in fetches)

    run(body)


# ---------------------------------------------------------------------------------------------------- invalidation


def test_stale_until_invalidated():
    async def body(ctx, b):
        for everything in (False, True):
            first = await b.read(ctx, BASE + 0x48)
            other = await b.read(ctx, BASE + 0x100)
            b.memory.bytes[:0x200] = bytes(0x200)
            again = await b.read(ctx, BASE + 0x48)
            assert again.data == first.data != [0], "nothing but an invalidation may show the new bytes"
            await b.invalidate(ctx, None if everything else BASE + 0x5F)
            assert (await b.read(ctx, BASE + 0x48)).data == [0]
            still = await b.read(ctx, BASE + 0x100)
            assert still.data == ([0] if everything else other.data)
            await b.invalidate(ctx)
            b.memory.bytes[:0x200] = bytes(range(256)) * 2

    run(body)


def test_invalidate_of_absent_lines_does_nothing():
    async def body(ctx, b):
        t = await b.read(ctx, BASE)
        for addr in (BASE + 0x20, BASE + 128, 0, 0x1000_0000, BASE + SMALL.memory.size, BASE - 32):
            await b.invalidate(ctx, addr)
        await ctx.tick().repeat(3)
        again = await b.read(ctx, BASE)
        assert again.data == t.data and len(b.memory.reads) == 1

    run(body)


def test_invalidation_rate():
    """One line per cycle while nothing is fetched; every second cycle against a stream of fetches, which keeps half its rate."""

    async def body(ctx, b):
        await b.read(ctx, BASE, length=4)
        await ctx.tick().repeat(10)
        b.invalidations.extend((False, BASE + 0x20 * n) for n in range(1, 9))
        while b.invalidations:
            await ctx.tick()
        cycles = [entry[0] for entry in b.accepted]
        assert cycles == list(range(cycles[0], cycles[0] + 8))
        b.accepted.clear()
        burst = b.manager.read(BASE, length=64, burst=Burst.FIXED)
        await ctx.tick().repeat(6)
        b.invalidations.extend((False, BASE + 0x20 * n) for n in range(1, 9))
        await b.manager.wait(ctx, burst)
        cycles = [entry[0] for entry in b.accepted]
        assert [later - earlier for earlier, later in itertools.pairwise(cycles)] == [2] * 7
        assert burst.cycles[-1] - burst.cycles[0] == 63 + 8

    run(body)


def test_invalidation_of_the_line_being_fetched():
    """It waits for the hit of its own cycle and comes next, however fast the line is fetched."""

    async def body(ctx, b):
        await b.read(ctx, BASE, length=4)
        await ctx.tick().repeat(10)
        burst = b.manager.read(BASE, length=64, burst=Burst.FIXED)
        await ctx.tick().repeat(10)
        start = b.cycle
        b.memory.bytes[:32] = bytes(32)
        b.invalidations.append((False, BASE))
        await b.manager.wait(ctx, burst)
        assert b.accepted[0][0] <= start + 3
        assert burst.data[-1] == 0 and burst.data[0] != 0

    run(body)


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("line_bytes", [32, 128])  # the long line is still coming in when the next fetch looks
def test_invalidate_around_a_fill(line_bytes, everything):
    """In every cycle from before the fetch to after the install: later fetches see memory's newest bytes."""

    async def body(ctx, b):
        outcomes = set()
        for delay in range(12 + line_bytes // 8):
            await b.invalidate(ctx)
            await ctx.tick().repeat(30)
            installs, accepted = len(b.kinds(Kind.IFILL_INSTALL)), len(b.accepted)
            b.memory.bytes[0x60:0x80] = b"\x55" * 32
            waiting = b.manager.read(BASE + 0x68)
            for _ in range(delay):
                await ctx.tick()
            b.memory.bytes[0x60:0x80] = b"\xaa" * 32
            await b.invalidate(ctx, None if everything else BASE + 0x60)
            accepted = b.accepted[accepted][0]
            await b.manager.wait(ctx, waiting)
            for t in (await b.read(ctx, BASE + 0x68), await b.read(ctx, BASE + 0x60, length=4)):
                assert t.accepted > accepted
                b.expect(t)
            await ctx.tick().repeat(30)
            outcomes.add(len(b.kinds(Kind.IFILL_INSTALL)) - installs)
        assert outcomes == {1, 2}, "some fills were dropped, some installed and then invalidated"

    config = SMALL.replace(icache__line_bytes=line_bytes, dcache__line_bytes=line_bytes)
    run(body, config, latency=4)


def test_a_storm_of_invalidations_starves_no_fetch():
    async def body(ctx, b):
        b.invalidations.extend([(True, 0)] * 400)
        for n in range(6):
            t = await b.read(ctx, BASE + 0x20 * n, length=4)
            b.expect(t)
        assert b.invalidations, "the storm must outlast the fetches"

    run(body, latency=3)


# ---------------------------------------------------------------------------------------------------- errors and other accesses


def test_fill_errors():
    """The beat with the error answers SLVERR and latches; its line is fetched again next time; the first address stays."""
    bad = {BASE + 0x48, BASE + 0x88}

    async def body(ctx, b):
        csr = b.dut.csr
        t = await b.read(ctx, BASE + 0x40)
        assert t.resps == [Resp.OKAY]
        await ctx.tick().repeat(10)
        assert ctx.get(csr.error_status_fill) and ctx.get(csr.error_addr) == BASE + 0x40
        assert [r[5] for r in b.kinds(Kind.IFILL_INSTALL)] == [1]
        t = await b.read(ctx, BASE + 0x80, length=4)
        assert t.resps == [Resp.OKAY, Resp.SLVERR, Resp.OKAY, Resp.OKAY]
        assert ctx.get(csr.error_addr) == BASE + 0x40
        ctx.set(csr.error_status_fill, 0)
        bad.clear()
        t = await b.read(ctx, BASE + 0x80, length=4)
        b.expect(t)
        assert not ctx.get(csr.error_status_fill)
        assert [r[5] & 1 for r in b.kinds(Kind.FETCH)] == [0, 0, 1, 0, 0, 0, 0, 0, 0]
        bad.add(BASE + 0x108)
        t = await b.read(ctx, BASE + 0x108)
        assert t.resps == [Resp.SLVERR]
        await ctx.tick()
        assert ctx.get(csr.error_addr) == BASE + 0x100

    run(body, fails=lambda addr, write: addr & -8 in bad)


def test_uncached_fetches():
    async def body(ctx, b):
        for size, addr in ((3, BASE + 8), (0, BASE + 13), (1, BASE + 0x22), (2, BASE + 4)):
            t = await b.read(ctx, addr, size=size, cache=CACHE_UNCACHED)
            b.expect(t)
            _, ar = b.memory.reads[-1]
            assert (ar.addr, ar.size, ar.len, ar.id, ar.cache) == (addr, size, 0, 3, CACHE_UNCACHED)
        before = len(b.memory.reads)
        t = await b.read(ctx, BASE, length=4, cache=CACHE_UNCACHED)
        b.expect(t)
        assert len(b.memory.reads) == before + 4
        # It neither fills nor looks the array up.
        await b.read(ctx, BASE)
        await ctx.tick().repeat(10)
        b.memory.bytes[:8] = bytes(8)
        assert (await b.read(ctx, BASE, cache=CACHE_UNCACHED)).data == [0]
        assert (await b.read(ctx, BASE)).data != [0]

    bench = run(body)
    assert len(bench.kinds(Kind.IFILL_REQUEST)) == 1


def test_outside_the_memory_window():
    async def body(ctx, b):
        for addr in (0x1000_0000, BASE + SMALL.memory.size, BASE - 16, 0):
            t = await b.read(ctx, addr, length=2, user=3)
            assert t.resps[0] == Resp.DECERR
        assert not ctx.get(b.dut.csr.error_status_fill)
        assert not b.kinds(Kind.IFILL_REQUEST, Kind.IFILL_INSTALL) and len(b.kinds(Kind.FETCH)) == 8
        t = await b.read(ctx, BASE)
        b.expect(t)

    run(body)


def test_writes_answer_slverr():
    async def body(ctx, b):
        before = bytes(b.memory.bytes)
        writes = [b.manager.write(BASE + 8 * n, [0] * (n + 1), ident=n) for n in range(4)]
        read = b.manager.read(BASE)
        await b.manager.wait(ctx, *writes, read)
        assert [t.resps for t in writes] == [[Resp.SLVERR]] * 4 and not b.memory.writes
        b.expect(read)
        assert before == b.memory.bytes and len(b.kinds(Kind.FETCH)) == 1

    run(body)


# ---------------------------------------------------------------------------------------------------- random traffic

CONFIGS = {
    "32": SMALL.replace(data_width=32),
    "64": SMALL,
    "64 direct mapped, two sets": SMALL.replace(icache__ways=1, icache__sets=2),
    "64 four ways": SMALL.replace(icache__ways=4, icache__sets=2),
    "128": SMALL.replace(data_width=128, icache__ways=8, icache__sets=2),
    "32 long lines": SMALL.replace(data_width=32, icache__line_bytes=128, dcache__line_bytes=128),
}


def random_read(rng, bench, span):
    code = rng.randrange((bench.n - 1).bit_length() + 1)
    size = 1 << code
    burst = rng.choice((Burst.INCR, Burst.INCR, Burst.FIXED, Burst.WRAP))
    addr = BASE + rng.randrange(span)
    length = rng.randrange(1, 9)
    if burst == Burst.WRAP:
        addr, length = addr & -size, rng.choice((2, 4, 8))
    cache = CACHE_UNCACHED if rng.random() < 0.1 else 0xF
    return bench.manager.read(addr, length=length, size=code, burst=burst, cache=cache, ident=rng.randrange(16))


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_reads(name, stall):
    """Every burst kind, size and alignment, with invalidations in between: data always equals memory, which does not change."""
    rng = random.Random(f"{name} {stall}")

    async def body(ctx, b):
        reads = [random_read(rng, b, 0x300) for _ in range(70)]
        for _ in range(30):
            b.invalidations.append((rng.random() < 0.1, BASE + rng.randrange(0x300)))
            await ctx.tick().repeat(rng.randrange(1, 12))
        await b.manager.wait(ctx, *reads, limit=20000)
        for t in reads:
            b.expect(t)

    run(body, CONFIGS[name], latency=lambda: rng.randrange(1, 8), stall=stall, seed=len(name))


@pytest.mark.parametrize("seed", range(4))
def test_random_versions(seed):
    """Memory's lines carry version numbers that grow. A fetch whose address handshake came after an invalidation was accepted
    must not return a version older than the one memory held then, and never one that memory did not hold yet."""
    rng = random.Random(seed)
    lines = 12

    async def body(ctx, b):
        history = {n: [(-1, 0)] for n in range(lines)}  # (cycle of the change, version)

        def store(n):
            version = history[n][-1][1] + 1
            history[n].append((b.cycle, version))
            b.memory.bytes[32 * n : 32 * n + 32] = version.to_bytes(8, "little") * 4

        for n in range(lines):
            b.memory.bytes[32 * n : 32 * n + 32] = bytes(32)
        reads = []
        for _ in range(150):
            for _ in range(rng.randrange(3)):
                reads.append(b.manager.read(BASE + 32 * rng.randrange(lines) + 8 * rng.randrange(4)))
            n = rng.randrange(lines)
            if rng.random() < 0.6:
                store(n)
                if rng.random() < 0.8:
                    b.invalidations.append((rng.random() < 0.1, BASE + 32 * n))
            await ctx.tick().repeat(rng.randrange(1, 10))
        await b.manager.wait(ctx, *reads, limit=20000)
        checked = 0
        for t in reads:
            n = (t.addr - BASE) // 32
            covers = [c for c, everything, addr in b.accepted if c < t.accepted and (everything or addr == BASE + 32 * n)]
            least = max((v for c, v in history[n] if covers and c <= covers[-1]), default=0)
            most = max(v for c, v in history[n] if c <= t.shown)
            assert least <= t.data[0] <= most, f"line {n}, fetched at {t.accepted}"
            checked += least > 0
        assert checked > 30

    run(body, latency=lambda: rng.randrange(1, 9), stall=rng.choice((0.0, 0.3)), seed=seed)


def test_random_errors():
    """Bus errors here and there: SLVERR exactly where memory gave one for the beat's own fill, data right everywhere else."""
    rng = random.Random(1)

    async def body(ctx, b):
        reads = [b.manager.read(BASE + 8 * rng.randrange(64), length=rng.randrange(1, 5)) for _ in range(150)]
        await b.manager.wait(ctx, *reads, limit=20000)
        answers = [pair for t in reads for pair in zip(t.addresses, t.data, t.resps)]
        assert {resp for _, _, resp in answers} == {Resp.OKAY, Resp.SLVERR}
        for addr, got, resp in answers:
            if resp == Resp.OKAY:
                assert got == int.from_bytes(b.memory.bytes[addr - BASE : addr - BASE + 8], "little")

    run(body, latency=2, stall=0.2, fails=lambda addr, write: rng.random() < 0.1)


# ---------------------------------------------------------------------------------------------------- export


def test_names_for_the_testbench():
    text = export.verilog(ICache(config=SMALL), "icache")
    arrays = {array.path: (array.width, array.depth) for array in export.memories(text, "icache")}
    assert arrays == {
        "icache.dut.tag_0": (7, 4),
        "icache.dut.tag_1": (7, 4),
        "icache.dut.data_0": (256, 4),
        "icache.dut.data_1": (256, 4),
        "icache.dut.replacement": (1, 4),
    }
    for way in range(2):
        assert f"reg [3:0] valid_{way} =" in text


@pytest.mark.parametrize("name", CONFIGS)
def test_converts(name):
    assert "module top" in verilog.convert(ICache(config=CONFIGS[name]))
