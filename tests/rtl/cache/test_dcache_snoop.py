# SPDX-License-Identifier: BSD-2-Clause
"""Coherency: snoops against CPU traffic, and the invalidation of I-cache lines before a store's response."""

import random

import pytest

from rtl.axi.bus import CACHE_UNCACHED
from rtl.cache.ports import BLOCKED_LINES, SnoopOp
from rtl.config import CacheConfig, SocConfig
from rtl.probe import Kind, Source

from .bench import BASE, Bench
from .test_dcache_random import GEOMETRIES, geometry, soak_options

SMALL = SocConfig(coherency="snoop", dcache=CacheConfig(sets=4), icache=CacheConfig(sets=4))


class Snooper:
    """The DMA's side of the snoop port. A write goes to memory after its snoop and releases the line then; with ``writes``
    the next ones are looked up meanwhile, if their sets are not blocked."""

    def __init__(self, bench, *, stall=0.0, seed=0, writes=1):
        self.bench, self.stall, self.random, self.writes = bench, stall, random.Random(seed), writes
        self.todo, self.done, self.most = [], [], 0
        self.write_delay = lambda: 3

    def read(self, addr):
        self.todo.append({"op": SnoopOp.READ, "addr": addr, "data": 0, "strb": 0, "source": Source.DMA_DATA})
        return self.todo[-1]

    def write(self, addr, data, strb):
        self.todo.append({"op": SnoopOp.WRITE, "addr": addr, "data": data, "strb": strb, "source": Source.DMA_DATA})
        return self.todo[-1]

    async def wait(self, ctx, job, limit=2000):
        for _ in range(limit):
            if job in self.done:
                return
            await ctx.tick()
        raise AssertionError(f"a snoop was never answered: {job}")

    def _memory(self, cycle, job):
        bench, line = self.bench, self.bench.config.dcache.line_bytes
        at = job["addr"] - bench.config.memory.base
        if job["op"] == SnoopOp.READ:
            job["result"] = bytes(bench.memory.bytes[at : at + line])
            return
        for n in range(line):
            if job["strb"] >> n & 1:
                bench.memory.bytes[at + n] = job["data"] >> 8 * n & 0xFF
        beat = bench.config.data_bytes
        for n in range(0, line, beat):
            strb = job["strb"] >> n & ((1 << beat) - 1)
            data = job["data"] >> 8 * n & ((1 << 8 * beat) - 1)
            fields = {"addr": job["addr"] + n, "aux": Source.DMA_DATA | strb << 8, "data": data, "flags": 0, "tag": 0}
            bench.replay.add(cycle, "mem", Kind.MEM_WRITE, **fields)

    async def run(self, ctx):
        s, bench = self.bench.dut.snoop, self.bench
        cycle, job, state, due = 0, None, "idle", 0
        blocked = []  # jobs whose lines are blocked, with the cycles in which memory has answered
        ctx.set(s.rsp.ready, 1)
        while True:
            release = False
            if state == "idle" and self.todo and self._free(blocked, self.todo[0]) and self.random.random() >= self.stall:
                job, state = self.todo.pop(0), "request"
                job["begin"] = cycle
                fields = {k: job[k] for k in ("op", "addr", "data", "strb", "source")}
                if job["op"] == SnoopOp.WRITE:
                    bench.replay.snooped.append((job["addr"], job["data"], job["strb"]))
                ctx.set(s.req.payload, fields)
            if state == "memory" and cycle >= due:
                self._memory(cycle - 1, job)
                job["end"] = cycle
                self.done.append(job)
                state = "idle"
            if blocked and cycle >= blocked[0][0]:
                written = blocked.pop(0)[1]
                self._memory(cycle - 1, written)
                written["end"] = cycle
                release = True
                self.done.append(written)
            ctx.set(s.req.valid, state == "request")
            ctx.set(s.release, release)
            ready = self.random.random() >= self.stall
            ctx.set(s.rsp.ready, ready)
            _, _, taken, answered, rsp = await ctx.tick().sample(s.req.ready, s.rsp.valid, s.rsp.payload)
            if state == "request" and taken:
                job["taken"], state = cycle, "response"
            elif state == "response" and answered and ready:
                job["dirty"], job["answered"] = int(rsp.dirty), cycle
                if job["op"] == SnoopOp.READ and rsp.dirty:
                    job["result"] = int(rsp.data).to_bytes(bench.config.dcache.line_bytes, "little")
                    job["end"] = cycle
                    self.done.append(job)
                    state = "idle"
                elif job["op"] == SnoopOp.WRITE:
                    blocked.append((cycle + 1 + self.write_delay(), job))
                    self.most = max(self.most, len(blocked))
                    state = "idle"
                else:
                    state, due = "memory", cycle + 1 + self.write_delay()
            cycle += 1

    def _free(self, blocked, job):
        cache = self.bench.config.dcache
        index = job["addr"] // cache.line_bytes % cache.sets
        taken = [other["addr"] // cache.line_bytes % cache.sets for _, other in blocked]
        return job["op"] == SnoopOp.READ or (len(blocked) < self.writes and index not in taken)


def run(config, testbench, *, writes=1, **options):
    bench = Bench(config, **options)
    snooper = Snooper(bench, stall=options.get("stall", 0.0), seed=options.get("seed", 0), writes=writes)

    async def main(ctx, bench):
        await testbench(ctx, bench, snooper)

    bench.run(main, processes=[snooper.run])
    return bench


def test_read_of_a_dirty_line_forwards_it():
    async def testbench(ctx, bench, snooper):
        await bench.store(ctx, BASE + 0x40, 0x1111)
        job = snooper.read(BASE + 0x40)
        await snooper.wait(ctx, job)
        assert job["dirty"] and job["result"][:8] == (0x1111).to_bytes(8, "little")
        assert job["answered"] - job["begin"] == 3, "two stages behind the first, response"
        assert bench.array(ctx)[BASE + 0x40][0], "the line stays dirty"

    bench = run(SMALL, testbench)
    assert [(r[1], r[4]) for r in bench.of(Kind.SNOOP_READ)] == [(Kind.SNOOP_READ, 1)]


def test_read_of_a_clean_or_absent_line_is_left_to_memory():
    async def testbench(ctx, bench, snooper):
        await bench.load(ctx, BASE + 0x40)
        for addr in (BASE + 0x40, BASE + 0x400, 0x2000_0040):
            job = snooper.read(addr) if addr >= BASE else None
            if job:
                await snooper.wait(ctx, job)
                assert not job["dirty"]

    run(SMALL, testbench)


def test_read_finds_the_write_back_buffer_while_the_bus_is_held():
    async def testbench(ctx, bench, snooper):
        await bench.store(ctx, BASE + 0x40, 0x77)
        bench.memory.accept_aw = False
        csr = bench.dut.csr
        ctx.set(csr.inject_addr, BASE + 0x40)
        await bench.strobe(ctx, csr, "inject_cmd", evict=1)
        for _ in range(10):
            await ctx.tick()
        assert BASE + 0x40 not in bench.array(ctx) and ctx.get(csr.inject_cmd_busy)
        job = snooper.read(BASE + 0x40)
        await snooper.wait(ctx, job, limit=20)
        assert job["dirty"] and job["result"][0] == 0x77
        bench.memory.accept_aw = True

    run(SMALL, testbench)


def test_write_merges_into_a_dirty_line():
    async def testbench(ctx, bench, snooper):
        await bench.store(ctx, BASE + 0x40, 0x1111111111111111)
        job = snooper.write(BASE + 0x40, 0xABCD, 0x3)
        await snooper.wait(ctx, job)
        assert job["dirty"]
        dirty, content = bench.array(ctx)[BASE + 0x40]
        assert dirty and content[:8].hex() == "cdab111111111111"
        t = await bench.load(ctx, BASE + 0x40)
        assert t.data == [0x111111111111ABCD]

    run(SMALL, testbench)


def test_write_drops_a_clean_line():
    async def testbench(ctx, bench, snooper):
        await bench.load(ctx, BASE + 0x40)
        job = snooper.write(BASE + 0x40, 0xABCD, 0x3)
        await snooper.wait(ctx, job)
        assert not job["dirty"] and BASE + 0x40 not in bench.array(ctx)
        t = await bench.load(ctx, BASE + 0x40)
        assert t.data[0] & 0xFFFF == 0xABCD

    bench = run(SMALL, testbench)
    assert bench.of(Kind.SNOOP_WRITE)[0][4] == 2


def test_write_blocks_the_line_until_release():
    async def testbench(ctx, bench, snooper):
        snooper.write_delay = lambda: 30
        job = snooper.write(BASE + 0x40, 0x55, 1)
        while "answered" not in job:
            await ctx.tick()
        same = bench.manager.read(BASE + 0x40)
        for _ in range(15):
            await ctx.tick()
        assert not same.done, "no fill while the line is blocked"
        other = snooper.read(BASE + 0x400)
        await bench.manager.wait(ctx, same)
        assert same.data[0] & 0xFF == 0x55 and same.cycles[0] > job["end"]
        await snooper.wait(ctx, other)

    run(SMALL, testbench)


def test_several_writes_block_their_lines_until_each_is_released():
    """Released in their order: the access of a line ends after its own release, one of a free set before all."""

    async def testbench(ctx, bench, snooper):
        snooper.write_delay = lambda: 60
        jobs = [snooper.write(BASE + 32 * n, 0x51 + n, 1) for n in range(3)]
        while "answered" not in jobs[-1]:
            await ctx.tick()
        assert snooper.most == 3 and not snooper.done
        reads = [bench.manager.read(BASE + 32 * n, ident=n) for n in (3, 2, 1, 0)]
        await bench.manager.wait(ctx, *reads)
        free, third, second, first = reads
        assert free.cycles[0] < jobs[0]["end"]
        for load, job, byte in zip((first, second, third), jobs, (0x51, 0x52, 0x53)):
            assert load.cycles[0] > job["end"] and load.data[0] & 0xFF == byte

    run(SMALL, testbench, writes=BLOCKED_LINES)


def test_a_fifth_write_waits_for_a_release_and_reads_pass():
    async def testbench(ctx, bench, snooper):
        snooper.write_delay = lambda: 100
        jobs = [snooper.write(BASE + 32 * n, n, 1) for n in range(BLOCKED_LINES + 1)]
        for _ in range(60):
            await ctx.tick()
        assert "taken" in jobs[-2] and "taken" not in jobs[-1] and snooper.most == BLOCKED_LINES
        await snooper.wait(ctx, jobs[-1])
        assert jobs[-1]["taken"] > jobs[0]["end"]

    run(SocConfig(coherency="snoop"), testbench, writes=BLOCKED_LINES + 1)


def test_write_drops_a_fill_in_flight_without_waiting_for_it():
    async def testbench(ctx, bench, snooper):
        bench.memory.accept_ar = False
        for _ in range(2):
            await ctx.tick()
        load = bench.manager.read(BASE + 0x40)
        while not bench.of(Kind.FILL_REQUEST):
            await ctx.tick()
        job = snooper.write(BASE + 0x40, 0x99, 1)
        await snooper.wait(ctx, job, limit=20)
        bench.memory.accept_ar = True
        await bench.manager.wait(ctx, load)
        assert load.data[0] & 0xFF == 0x99

    bench = run(SMALL, testbench)
    assert len(bench.of(Kind.FILL_DROP)) == 1 and len(bench.of(Kind.FILL_REQUEST)) == 2


def test_store_invalidates_the_i_cache_before_its_response():
    async def testbench(ctx, bench, snooper):
        bench.inv_ready = lambda: bench.cycle % 9 == 8
        for cache in (0xF, CACHE_UNCACHED):
            t = await bench.store(ctx, BASE + 0x40, 1, 2, 3, 4, 5, 6, cache=cache)
            lines = {addr: cycle for cycle, addr in bench.store_invalidations if cycle > t.accepted}
            assert set(lines) == {BASE + 0x40, BASE + 0x60}
            assert max(lines.values()) < t.shown

    bench = run(SMALL, testbench)
    assert len(bench.store_invalidations) <= 4 + 6, "stores to one line join"


def test_a_burst_longer_than_the_queue_gets_its_invalidations_sent():
    """A store that waits for an invalidation has not found its line yet: the one that is owed must be sent all the same."""

    async def testbench(ctx, bench, snooper):
        await bench.store(ctx, BASE + 0x1000, *range(1, 33))

    bench = run(SocConfig(coherency="snoop"), testbench)
    assert {line for _, line in bench.store_invalidations} == {BASE + 0x1000 + 0x20 * n for n in range(8)}


def test_a_burst_costs_one_invalidation_per_line():
    async def testbench(ctx, bench, snooper):
        await bench.load(ctx, BASE)
        await bench.store(ctx, BASE, 1, 2, 3, 4)
        assert len(bench.store_invalidations) == 1

    run(SMALL, testbench)


class History:
    """Who wrote which byte when; what a read in ``[begin, end]`` may return."""

    def __init__(self, initial):
        self.initial, self.writes = initial, {}

    def add(self, at, begin, end, value):
        self.writes.setdefault(at, []).append((begin, end, value))

    def allowed(self, at, begin, end):
        writes = self.writes.get(at, [])
        before = [w for w in writes if w[1] < begin]
        newest = max((w[0] for w in before), default=-1)
        # completed before, and not followed by another that was completed before too
        values = {w[2] for w in before if w[1] >= newest} if before else {self.initial[at]}
        values |= {w[2] for w in writes if w[1] >= begin and w[0] <= end}
        return values


def snoop_soak(config, *, seed, count, **options):
    """The CPU stores even bytes, the DMA odd ones, in the same lines; every read must see what had been completed."""

    async def testbench(ctx, bench, snooper):
        rng = random.Random(seed)
        snooper.write_delay = lambda: rng.choice([0, 1, 5, 20])
        n, line = config.data_bytes, config.dcache.line_bytes
        span = min(3 * config.dcache.size_bytes, config.memory.size)
        initial = bytes(bench.memory.bytes)
        csr = bench.dut.csr
        ctx.set(csr.ctrl_prefetch, 1)
        ctx.set(csr.ctrl_inject, 1)
        ctx.set(csr.ctrl_inject_interval, 20)
        even = sum(1 << k for k in range(0, n, 2))
        even_line = sum(1 << k for k in range(0, line, 2))
        cpu, jobs = [], []
        for k in range(count):
            addr = BASE + rng.randrange(span) & -n
            length = rng.choice([1, 1, 2, 4])
            if addr + length * n > BASE + span:
                length = 1
            if rng.random() < 0.5:
                cpu.append(bench.manager.read(addr, length=length, ident=rng.randrange(2)))
            else:
                cpu.append(bench.manager.write(addr, [(rng.getrandbits(8 * n), even) for _ in range(length)]))
            if k % 2:
                at = BASE + rng.randrange(span) & -line
                if rng.random() < 0.5:
                    jobs.append(snooper.read(at))
                else:
                    jobs.append(snooper.write(at, rng.getrandbits(8 * line), even_line << 1 & rng.getrandbits(line)))
            if k % 7 == 3:
                await bench.maintain(
                    ctx, rng.choice([1, 3]), scope=rng.randrange(3), start=BASE + rng.randrange(span), length=100
                )
            while len(bench.manager.todo) > 3:
                await ctx.tick()
        await bench.manager.wait(ctx, *cpu, limit=20000)
        for job in jobs:
            await snooper.wait(ctx, job)
        ctx.set(csr.ctrl_inject, 0)
        history = History(initial)
        for t in cpu:
            for (data, strb), addr in zip(t.beats, t.addresses):
                for k in range(n):
                    if strb >> k & 1:
                        history.add(addr - BASE + k, t.accepted, t.shown, data >> 8 * k & 0xFF)
        for job in jobs:
            if job["op"] == SnoopOp.WRITE:
                for k in range(line):
                    if job["strb"] >> k & 1:
                        history.add(job["addr"] - BASE + k, job["begin"], job["end"], job["data"] >> 8 * k & 0xFF)
        for t in cpu:
            for data, addr, end in zip(t.data, t.addresses, t.cycles):
                for k in range(n):
                    allowed = history.allowed(addr - BASE + k, t.accepted, end)
                    assert data >> 8 * k & 0xFF in allowed, f"{addr + k:#x} {t}"
            for cycle_line in {a & -line for a in t.addresses} if t.write else ():
                assert any(t.accepted < c < t.shown and a == cycle_line for c, a in bench.store_invalidations), t
        for job in jobs:
            if job["op"] == SnoopOp.READ:
                for k, value in enumerate(job["result"]):
                    assert value in history.allowed(job["addr"] - BASE + k, job["begin"], job["end"]), f"{k} {job}"

    return run(config, testbench, seed=seed, writes=BLOCKED_LINES, **options)


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_snoop_soak(number):
    options = soak_options(50 + number, 0.4 * (number % 2))
    snoop_soak(geometry(*GEOMETRIES[number], coherency="snoop"), count=40, **options)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GEOMETRIES)))
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_long_snoop_soak(number, stall):
    snoop_soak(geometry(*GEOMETRIES[number], coherency="snoop"), count=250, **soak_options(70 + number, stall))
