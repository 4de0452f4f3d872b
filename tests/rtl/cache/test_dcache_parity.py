# SPDX-License-Identifier: BSD-2-Clause
"""A D-cache with parity: what a flipped bit makes of loads, stores, write-backs, maintenance and snoops."""

import random

import pytest

from rtl.axi.bus import Resp
from rtl.cache.ports import MaintOp, MaintScope
from rtl.config import CacheConfig, SocConfig
from rtl.probe import Kind

from .bench import BASE, Bench
from .test_dcache_random import GEOMETRIES, Traffic, geometry, soak, soak_options
from .test_dcache_snoop import Snooper

LINE = 32
CLEAN, INVALIDATE, BOTH = MaintOp.CLEAN, MaintOp.INVALIDATE, MaintOp.CLEAN_INVALIDATE
SMALL = SocConfig(dcache=CacheConfig(sets=8, parity=True), icache=CacheConfig(sets=8))
WAY = 8 * LINE  # bytes from a line to the next of its set


class Reports:
    """Counts the latched errors and keeps ``error_addr``; the status bits stay 0, as if software cleared each at once."""

    def __init__(self, bench):
        self.csr = bench.dut.csr
        self.seen = {"fill": 0, "writeback": 0, "parity_tag": 0, "parity_data": 0}

    async def run(self, ctx):
        flags = [getattr(self.csr, f"error_status_{name}_set") for name in self.seen]
        while True:
            for name, value in zip(self.seen, (await ctx.tick().sample(*flags))[2:]):
                self.seen[name] += value

    def take(self):
        """``(parity_tag, parity_data)`` since the last call; bus errors must not be among them."""
        found = self.seen["parity_tag"], self.seen["parity_data"]
        assert self.seen["fill"] == self.seen["writeback"] == 0
        self.seen = dict.fromkeys(self.seen, 0)
        return found


def run(testbench, config=SMALL, **options):
    bench = Bench(config, **options)
    reports = Reports(bench)
    bench.run(lambda ctx, bench: testbench(ctx, bench, reports), reports.run)
    return bench


def place(bench, address):
    """Way and set of a line that was installed."""
    way = next(r[3] >> 8 for r in reversed(bench.of(Kind.FILL_INSTALL)) if r[2] == address)
    return way, (address - BASE) // LINE % bench.config.dcache.sets


def byte_rows(bench, address):
    """Rows of the memory that holds a byte, and of its parity; with the place of the byte in them."""
    g, core = bench.dut.core._g, bench.dut.core
    way, index = place(bench, address & -LINE)
    word, byte = address % LINE // g.data_bytes, address % g.data_bytes
    row = index * (g.words // g.banks) + word // g.banks
    return core.data[way][word % g.banks].data[row], core._arrays.parity.data[way][word % g.banks].data[row], byte


def flip(ctx, bench, row, bit, address, *, tag=False):
    """Inverts a stored bit behind the hardware's back; the replay is told which byte, or line, has the wrong parity then."""
    ctx.set(row, ctx.get(row) ^ 1 << bit)
    bench.replay.add(bench.cycle, "d_line", Kind.UPSET, addr=address, aux=int(tag), data=0, flags=0, tag=0)


async def inject(ctx, bench, address, kind):
    """``inject_cmd`` at an address; waits until it is done."""
    csr = bench.dut.csr
    ctx.set(csr.inject_addr, address)
    await bench.strobe(ctx, csr, "inject_cmd", **{kind: 1})
    while ctx.get(csr.inject_cmd_busy):
        await ctx.tick()
    await ctx.tick()


async def load(ctx, bench, address):
    t = await bench.load(ctx, address)
    return t.resps[0], t.data[0]


@pytest.mark.parametrize("bit", range(8))
def test_a_load_sees_every_bit_of_a_byte(bit):
    async def testbench(ctx, bench, reports):
        value = bench.word(BASE + 8)
        await load(ctx, bench, BASE)
        await bench.idle(ctx)
        for byte in range(8):
            data, _, lane = byte_rows(bench, BASE + 8 + byte)
            flip(ctx, bench, data, 8 * lane + bit, BASE + 8 + byte)
            assert await load(ctx, bench, BASE) == (Resp.OKAY, bench.word(BASE)), "the word beside it"
            assert reports.take() == (0, 0)
            assert await load(ctx, bench, BASE + 8) == (Resp.SLVERR, value ^ 1 << 8 * byte + bit)
            await ctx.tick()
            assert reports.take() == (0, 1)
            assert ctx.get(bench.dut.csr.error_addr) == BASE
            flip(ctx, bench, data, 8 * lane + bit, BASE + 8 + byte)
        assert await load(ctx, bench, BASE + 8) == (Resp.OKAY, value)
        assert reports.take() == (0, 0)

    run(testbench)


def test_parity_bits_are_covered_and_a_store_makes_them_right():
    async def testbench(ctx, bench, reports):
        await load(ctx, bench, BASE + 8)
        await inject(ctx, bench, BASE + 11, "flip_data")
        assert (await load(ctx, bench, BASE + 8))[0] == Resp.SLVERR
        await bench.store(ctx, BASE + 8, (0x55 << 32, 1 << 4))
        assert (await load(ctx, bench, BASE + 8))[0] == Resp.SLVERR, "the store was of another byte"
        await bench.store(ctx, BASE + 8, (0x66 << 24, 1 << 3))
        assert (await load(ctx, bench, BASE + 8))[0] == Resp.OKAY
        await ctx.tick()
        assert reports.take() == (0, 2), "a store reads nothing"

    bench = run(testbench)
    assert [r[1:4] for r in bench.of(Kind.UPSET)] == [(Kind.UPSET, BASE + 11, 0)]


@pytest.mark.parametrize("where", ["tag", "parity"])
def test_a_bad_tag_makes_every_access_of_its_set_an_error(where):
    async def testbench(ctx, bench, reports):
        await bench.store(ctx, BASE, 0x77)
        await load(ctx, bench, BASE + LINE)
        await bench.idle(ctx)
        way, index = place(bench, BASE)
        memory = bench.dut.core.tag[way] if where == "tag" else bench.dut.core._arrays.parity.tag[way]
        flip(ctx, bench, memory.data[index], 0, BASE, tag=True)
        fills = len(bench.of(Kind.FILL_REQUEST))
        for address in (BASE, BASE + WAY, BASE + 4 * WAY):
            assert (await load(ctx, bench, address))[0] == Resp.SLVERR
            await ctx.tick()
            assert reports.take() == (1, 0)
            assert ctx.get(bench.dut.csr.error_addr) == address
            assert (await bench.store(ctx, address, 0x99)).resps == [Resp.SLVERR]
            await ctx.tick()
            assert reports.take() == (1, 0)
        assert (await load(ctx, bench, BASE + LINE))[0] == Resp.OKAY
        assert len(bench.of(Kind.FILL_REQUEST)) == fills, "no hit, and no miss either"
        flip(ctx, bench, memory.data[index], 0, BASE, tag=True)
        assert await load(ctx, bench, BASE) == (Resp.OKAY, 0x77), "no store was performed"
        assert reports.take() == (0, 0)

    run(testbench)


def test_every_bit_of_a_tag_is_covered():
    async def testbench(ctx, bench, reports):
        lines = [BASE, BASE + WAY, BASE + LINE]
        for address in lines:
            await load(ctx, bench, address)
        await bench.idle(ctx)
        core, bits = bench.dut.core, bench.dut.core._g.tag_bits
        for address in lines[:2]:
            way, index = place(bench, address)
            rows = [(core.tag[way].data[index], bit) for bit in range(bits)] + [(core._arrays.parity.tag[way].data[index], 0)]
            for row, bit in rows:
                flip(ctx, bench, row, bit, address, tag=True)
                assert [(await load(ctx, bench, a))[0] for a in lines] == [Resp.SLVERR, Resp.SLVERR, Resp.OKAY], bit
                await ctx.tick()
                assert reports.take() == (2, 0)
                flip(ctx, bench, row, bit, address, tag=True)
        assert [(await load(ctx, bench, a))[0] for a in lines] == [Resp.OKAY] * 3

    run(testbench)


def test_a_write_through_store_to_a_bad_set_is_not_sent_to_memory():
    async def testbench(ctx, bench, reports):
        old = bench.word(BASE)
        for address in (BASE, BASE + LINE):
            await load(ctx, bench, address)
        await inject(ctx, bench, BASE, "flip_tag")
        stores = [bench.manager.write(BASE + at, [0x99]) for at in (0, WAY, LINE)]
        await bench.manager.wait(ctx, *stores)
        assert [t.resps for t in stores] == [[Resp.SLVERR], [Resp.SLVERR], [Resp.OKAY]]
        await bench.idle(ctx)
        assert bench.word(BASE) == old and bench.word(BASE + LINE) == 0x99
        assert reports.take() == (2, 0)

    run(testbench, SMALL.replace(dcache__write_policy="through"))


def test_an_invalid_way_is_not_looked_at():
    async def testbench(ctx, bench, reports):
        await load(ctx, bench, BASE)
        await bench.idle(ctx)
        way, index = place(bench, BASE)
        await bench.maintain(ctx, INVALIDATE, scope=MaintScope.LINE, start=BASE)
        tag = bench.dut.core.tag[way].data[index]
        ctx.set(tag, ctx.get(tag) ^ 2)
        assert (await load(ctx, bench, BASE + WAY))[0] == (await load(ctx, bench, BASE))[0] == Resp.OKAY
        await ctx.tick()
        assert reports.take() == (0, 0)

    run(testbench)


def test_accesses_behind_each_other_each_get_their_own_answer():
    """Hits that wait in the queue behind a miss keep their errors."""

    async def testbench(ctx, bench, reports):
        for n in range(4):
            await load(ctx, bench, BASE + n * LINE)
        await inject(ctx, bench, BASE + 8, "flip_data")
        await inject(ctx, bench, BASE + 2 * LINE, "flip_tag")
        bench.memory.accept_ar = False
        addresses = [BASE + 5 * LINE, BASE, BASE + 8, BASE + LINE, BASE + 2 * LINE + 8, BASE + 3 * LINE]
        reads = [bench.manager.read(address) for address in addresses]
        for _ in range(20):
            await ctx.tick()
        bench.memory.accept_ar = True
        await bench.manager.wait(ctx, *reads)
        good, bad = Resp.OKAY, Resp.SLVERR
        assert [t.resps[0] for t in reads] == [good, good, bad, good, bad, good]
        await ctx.tick()
        assert reports.take() == (1, 1)

    run(testbench)


def test_a_parked_access_whose_set_turns_bad_is_answered():
    """The head of the queue is looked up again after its fill: a store, and a load whose word has passed by."""

    async def testbench(ctx, bench, reports):
        await load(ctx, bench, BASE + WAY)
        await bench.idle(ctx)
        way, index = place(bench, BASE + WAY)
        bench.memory.accept_ar = False
        accesses = [bench.manager.write(BASE, [0x11]), bench.manager.read(BASE + 16), bench.manager.read(BASE + LINE)]
        for _ in range(12):
            await ctx.tick()
        parity = bench.dut.core._arrays.parity.tag[way]
        flip(ctx, bench, parity.data[index], 0, BASE + WAY, tag=True)
        bench.memory.accept_ar = True
        await bench.manager.wait(ctx, *accesses)
        assert [t.resps[0] for t in accesses] == [Resp.SLVERR, Resp.SLVERR, Resp.OKAY]
        flip(ctx, bench, parity.data[index], 0, BASE + WAY, tag=True)

    run(testbench)


@pytest.mark.parametrize("op", [CLEAN, BOTH])
def test_a_spoiled_line_is_written_and_reported(op):
    async def testbench(ctx, bench, reports):
        for n in range(4):
            await bench.store(ctx, BASE + n * LINE, 0xD000 + n)
        await inject(ctx, bench, BASE + LINE + 31, "flip_data")
        _, flags = await bench.maintain(ctx, op, start=BASE, length=LINE)
        assert flags == 0 and reports.take() == (0, 0)
        _, flags = await bench.maintain(ctx, op, start=BASE + LINE, length=2 * LINE)
        assert flags == 1
        await ctx.tick()
        assert reports.take() == (0, 1) and ctx.get(bench.dut.csr.error_addr) == BASE + LINE
        assert [bench.word(BASE + n * LINE) for n in range(3)] == [0xD000 + n for n in range(3)]
        _, flags = await bench.maintain(ctx, op, start=BASE + 3 * LINE, length=LINE)
        assert flags == 0

    bench = run(testbench)
    assert [(r[2], r[4]) for r in bench.of(Kind.WB_DONE)] == [
        (BASE, 0), (BASE + LINE, 2), (BASE + 2 * LINE, 0), (BASE + 3 * LINE, 0)
    ]  # fmt: skip


def test_a_spoiled_victim_is_written_and_reported():
    async def testbench(ctx, bench, reports):
        await bench.store(ctx, BASE, 0xD0)
        await inject(ctx, bench, BASE + 17, "flip_data")
        for n in range(1, 4):
            await load(ctx, bench, BASE + n * WAY)
        await bench.idle(ctx)
        assert bench.word(BASE) == 0xD0 and reports.take() == (0, 1)
        assert (await load(ctx, bench, BASE + 16))[0] == Resp.OKAY, "fetched again, it is whole"

    run(testbench)


@pytest.mark.parametrize("op", [CLEAN, INVALIDATE, BOTH])
@pytest.mark.parametrize("many", [False, True])
def test_maintenance_of_a_set_with_a_bad_tag(op, many):
    """The set is left alone; the others are maintained, and the command ends with an error."""

    async def testbench(ctx, bench, reports):
        for n in range(4):
            await bench.store(ctx, BASE + n * LINE, 0xD000 + n)
        old = bench.word(BASE + LINE)
        await inject(ctx, bench, BASE + LINE, "flip_tag")
        _, flags = await bench.maintain(ctx, op, start=BASE + 2 * LINE, length=LINE)
        assert flags == 0 and reports.take() == (0, 0), "another set"
        _, flags = await bench.maintain(ctx, op, start=BASE, length=64 * LINE if many else 4 * LINE)
        assert flags == 1 and reports.take()[0] > 0
        dirty = {(a - BASE) // LINE: dirty for a, (dirty, _) in bench.array(ctx).items()}
        assert dirty == ({0: False, 1: True, 2: False, 3: False} if op == CLEAN else {1: True})
        assert bench.word(BASE + LINE) == old
        # only a command that looks at no tag gets rid of it
        _, flags = await bench.maintain(ctx, INVALIDATE, scope=MaintScope.ALL)
        assert flags == 0 and not bench.array(ctx)
        assert await load(ctx, bench, BASE + LINE) == (Resp.OKAY, old)

    run(testbench)


def test_injector_prefetcher_and_commands_pass_a_bad_set_by():
    async def testbench(ctx, bench, reports):
        csr = bench.dut.csr
        await bench.store(ctx, BASE, 0xD0)
        await inject(ctx, bench, BASE, "flip_tag")
        for kind in ("evict", "writeback", "prefetch", "flip_data"):
            await inject(ctx, bench, BASE, kind)
        await inject(ctx, bench, BASE + WAY, "prefetch")
        ctx.set(csr.ctrl_prefetch, 1)
        await load(ctx, bench, BASE + 7 * LINE)  # the next line is of the bad set
        ctx.set(csr.ctrl_inject, 1)
        ctx.set(csr.ctrl_inject_interval, 4)
        for _ in range(100):
            await ctx.tick()
        ctx.set(csr.ctrl_inject, 0)
        await bench.idle(ctx)
        assert reports.take()[0] >= 6
        assert bench.array(ctx)[BASE][0], "still there, still dirty"
        await inject(ctx, bench, BASE, "flip_tag")
        assert bench.replay.counts.get(Kind.UPSET, 0) <= 1

    bench = run(testbench)
    assert len(bench.of(Kind.UPSET)) == 1 and not bench.of(Kind.EVICT, Kind.CLEAN)


def test_a_snoop_forwards_a_wrong_byte_and_reports_it():
    bench = Bench(SMALL.replace(coherency="snoop"))
    snooper, reports = Snooper(bench), Reports(bench)

    async def testbench(ctx, bench):
        await bench.store(ctx, BASE, 0xD0)
        await bench.store(ctx, BASE + LINE, 0xD1)
        await load(ctx, bench, BASE + 2 * LINE)
        for n in range(3):
            await inject(ctx, bench, BASE + n * LINE + 21, "flip_data")
        job = snooper.read(BASE)
        await snooper.wait(ctx, job)
        assert job["dirty"] and job["result"][0] == 0xD0 and reports.take() == (0, 1)
        await snooper.wait(ctx, snooper.read(BASE + 2 * LINE))
        await snooper.wait(ctx, snooper.write(BASE + LINE, 0, 0xFF))
        await ctx.tick()
        assert reports.take() == (0, 0), "a clean line is not forwarded, and a write reads nothing"

    bench.run(testbench, reports.run, processes=[snooper.run])


def test_a_snoop_finds_nothing_in_a_set_with_a_bad_tag():
    bench = Bench(SMALL.replace(coherency="snoop"))
    snooper, reports = Snooper(bench), Reports(bench)

    async def testbench(ctx, bench):
        await bench.store(ctx, BASE, 0xD0)
        await inject(ctx, bench, BASE, "flip_tag")
        for job in (snooper.read(BASE), snooper.write(BASE, 0, 0xFF)):
            await snooper.wait(ctx, job)
            assert not job["dirty"]
        await ctx.tick()
        assert reports.take() == (2, 0) and ctx.get(bench.dut.csr.error_addr) == BASE
        dirty, data = bench.array(ctx)[BASE]
        assert dirty and data[0] == 0xD0, "nothing was merged"

    bench.run(testbench, reports.run, processes=[snooper.run])


def test_upsets_of_lines_that_are_not_there_do_nothing():
    async def testbench(ctx, bench, reports):
        for kind in ("flip_data", "flip_tag"):
            await inject(ctx, bench, BASE, kind)
            await inject(ctx, bench, 0x1000, kind)
        assert (await load(ctx, bench, BASE))[0] == Resp.OKAY

    assert not run(testbench).of(Kind.UPSET)


def test_without_parity_the_flags_do_nothing():
    async def testbench(ctx, bench, reports):
        await load(ctx, bench, BASE)
        for kind in ("flip_data", "flip_tag"):
            await inject(ctx, bench, BASE, kind)
        assert (await load(ctx, bench, BASE))[0] == Resp.OKAY
        assert reports.take() == (0, 0)

    assert not run(testbench, SMALL.replace(dcache__parity=False)).of(Kind.UPSET)


# --- at random


class UpsetTraffic(Traffic):
    """Accesses that may be answered with an error; any other answer must be right. ``errors`` counts them."""

    errors = 0

    def check(self, t, expected):
        assert set(t.resps) <= {Resp.OKAY, Resp.SLVERR}
        if Resp.SLVERR in t.resps:
            self.errors += 1
        assert t.write is False or Resp.SLVERR not in t.resps, "a wrong byte stops no store"
        for got, (want, mask), resp in zip(t.data, expected, t.resps):
            bits = sum(0xFF << 8 * n for n in range(16) if mask >> n & 1)
            assert got & bits == want & bits, f"{t} {resp}: got {got:#x}, want {want:#x}"


def soak_with_upsets(config, seed, count, **options):
    """Bytes flip all the time, beside traffic, maintenance and random evictions; the replay knows which loads must fail."""
    rng = random.Random(seed)
    bench, reports = Bench(config, seed=seed, **options), None
    span = min(2 * config.dcache.size_bytes, config.memory.size)
    finished = []
    reports = Reports(bench)

    traffic = UpsetTraffic(bench, random.Random(seed + 1), span=span, count=count)

    async def upsets(ctx):
        while not finished:
            # Half of them where the CPU has just been: of a cache of four lines most others would be gone before they are read.
            recent = [a for t, _ in traffic.checks[-1:] for a in t.addresses] if rng.random() < 0.5 else []
            await inject(ctx, bench, rng.choice(recent) if recent else BASE + rng.randrange(span), "flip_data")
            for _ in range(rng.randrange(30)):
                await ctx.tick()

    async def main(ctx, bench):
        csr = bench.dut.csr
        ctx.set(csr.ctrl_prefetch, 1)
        ctx.set(csr.ctrl_inject, 1)
        ctx.set(csr.ctrl_inject_interval, 100)
        await traffic.run(ctx)
        finished.append(True)
        ctx.set(csr.ctrl_inject, 0)
        for _ in range(100):
            await ctx.tick()
        await bench.maintain(ctx, CLEAN, scope=MaintScope.ALL)
        assert bench.memory.bytes == traffic.model
        loads = sum(bool(r[4] & 1) for r in bench.of(Kind.LOAD))
        spoiled = sum(bool(r[4] & 2) for r in bench.of(Kind.WB_DONE))
        assert loads and traffic.errors
        tag, data = reports.take()
        assert tag == 0 and loads <= data + spoiled and data <= loads + spoiled

    bench.run(main, upsets, reports.run)


@pytest.mark.parametrize("number, policy", [(0, "back"), (2, "back"), (0, "through")])
def test_random_upsets(number, policy):
    config = geometry(*GEOMETRIES[number]).replace(dcache__parity=True, dcache__write_policy=policy)
    soak_with_upsets(config, count=120, **soak_options(300 + number, 0.0))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GEOMETRIES)), ids=lambda n: "x".join(map(str, GEOMETRIES[n])))
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_random_upsets_at_length(number, stall):
    options = soak_options(400 + number, stall)
    soak_with_upsets(geometry(*GEOMETRIES[number]).replace(dcache__parity=True), count=300, **options)


@pytest.mark.parametrize("number", [1, 4])
def test_nothing_is_reported_without_a_flip(number):
    config = geometry(*GEOMETRIES[number]).replace(dcache__parity=True)
    bench = soak(config, count=40, **soak_options(500 + number, 0.4))
    assert not any(r[4] & 2 for r in bench.of(Kind.WB_DONE)) and not any(r[4] & 1 for r in bench.of(Kind.LOAD, Kind.STORE))
    assert bench.of(Kind.WB_DONE) and bench.of(Kind.LOAD)
