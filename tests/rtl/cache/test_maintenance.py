# SPDX-License-Identifier: BSD-2-Clause
"""The maintenance unit and the walk: each operation and scope, what "done" means, cost, faults."""

import pytest
from amaranth.back import verilog

from rtl.cache.maintenance import MaintenanceUnit
from rtl.cache.native import AUX_LATENCY
from rtl.cache.ports import MaintOp, MaintScope
from rtl.config import CacheConfig, FaultConfig, SocConfig
from rtl.probe import Cause, Kind

from .bench import BASE, Bench

CLEAN, INVALIDATE, BOTH = MaintOp.CLEAN, MaintOp.INVALIDATE, MaintOp.CLEAN_INVALIDATE
LINE_SCOPE, RANGE, ALL = MaintScope.LINE, MaintScope.RANGE, MaintScope.ALL
LINE = 32
SMALL = SocConfig(dcache=CacheConfig(sets=8), icache=CacheConfig(sets=8))


def run(testbench, config=SMALL, **options):
    bench = Bench(config, **options)
    bench.run(testbench)
    return bench


async def fill(ctx, bench, dirty, clean=(), base=BASE):
    """Lines (by number) that are then in the cache."""
    for n in clean:
        await bench.load(ctx, base + n * LINE)
    for n in dirty:
        await bench.store(ctx, base + n * LINE, 0xD000 + n)
    await bench.idle(ctx)


def state(ctx, bench):
    return {(a - BASE) // LINE: dirty for a, (dirty, _) in bench.array(ctx).items()}


@pytest.mark.parametrize("config", [SocConfig(), SocConfig(faults=FaultConfig(maintenance_ignores_tail=True))])
def test_converts(config):
    assert "module" in verilog.convert(MaintenanceUnit(config=config))


# --- what each operation does

DIRTY, CLEANED = [1, 2, 3, 9], [0, 4, 5]


@pytest.mark.parametrize(
    ("scope", "start", "length", "covered"),
    [
        (LINE_SCOPE, BASE + 2 * LINE + 5, 0, {2}),
        (RANGE, BASE + 2 * LINE, 2 * LINE, {2, 3}),
        (RANGE, BASE + 2 * LINE - 1, 2, {1, 2}),
        (RANGE, BASE + 2 * LINE, 1, {2}),
        (RANGE, BASE + LINE + 31, 2 * LINE + 2, {1, 2, 3, 4}),
        (RANGE, BASE + 2 * LINE, 0x100000, {2, 3, 4, 5, 9}),
        (RANGE, 0, 0xFFFFFFFF, {0, 1, 2, 3, 4, 5, 9}),
        (RANGE, BASE + 3 * LINE, 0xFFFFFFFF, {3, 4, 5, 9}),
        (RANGE, 0x2000, 0x4000, set()),
        (RANGE, BASE + 2 * LINE, 0, set()),
        (ALL, 0, 0, {0, 1, 2, 3, 4, 5, 9}),
    ],
)
def test_scopes_of_each_operation(scope, start, length, covered):
    async def testbench(ctx, bench):
        for op in (CLEAN, BOTH, INVALIDATE):
            await bench.maintain(ctx, BOTH, scope=ALL)
            await fill(ctx, bench, DIRTY, CLEANED)
            before = state(ctx, bench)
            memory = bytes(bench.memory.bytes)
            _, flags = await bench.maintain(ctx, op, scope=scope, start=start, length=length)
            assert flags == 0
            after = state(ctx, bench)
            for n, dirty in before.items():
                if n not in covered:
                    assert after[n] == dirty
                elif op == CLEAN:
                    assert after[n] is False
                else:
                    assert n not in after
            if op == INVALIDATE:
                assert bytes(bench.memory.bytes) == memory
            else:
                for n in covered & set(DIRTY):
                    assert bench.word(BASE + n * LINE) == 0xD000 + n

    run(testbench)


def test_invalidate_discards_and_the_cpu_then_sees_memory():
    async def testbench(ctx, bench):
        old = bench.word(BASE)
        await bench.store(ctx, BASE, 0x77)
        await bench.maintain(ctx, INVALIDATE, start=BASE, length=8)
        assert (await bench.load(ctx, BASE)).data == [old]

    bench = run(testbench)
    assert [(r[2], r[3], r[4]) for r in bench.of(Kind.INVALIDATE)] == [(BASE, Cause.MAINTENANCE, 1)]


# --- what "done" means


@pytest.mark.parametrize("op", [CLEAN, INVALIDATE, BOTH])
def test_done_waits_for_a_write_back_that_was_buffered_before(op):
    async def testbench(ctx, bench):
        await fill(ctx, bench, [0])
        bench.memory.accept_aw = False
        ctx.set(bench.dut.csr.inject_addr, BASE)
        await bench.strobe(ctx, bench.dut.csr, "inject_cmd", evict=1)
        for _ in range(6):
            await ctx.tick()
        begin = await bench.maintain(ctx, op, start=BASE, length=LINE, wait=False)
        for _ in range(40):
            await ctx.tick()
        assert not bench.of(Kind.MAINT_END)
        bench.memory.accept_aw = True
        await bench.maintained(ctx, begin)
        assert bench.word(BASE) == 0xD000

    run(testbench)


@pytest.mark.parametrize(("op", "invalidates"), [(CLEAN, False), (INVALIDATE, True), (BOTH, True)])
def test_a_fill_in_flight_does_not_survive_an_invalidate(op, invalidates):
    """An invalidating command waits for it; its line is then found by the walk."""

    async def testbench(ctx, bench):
        bench.memory.accept_ar = False
        await ctx.tick()
        await ctx.tick()
        ctx.set(bench.dut.csr.inject_addr, BASE + LINE)
        await bench.strobe(ctx, bench.dut.csr, "inject_cmd", prefetch=1)
        load = bench.manager.read(BASE)
        for _ in range(8):
            await ctx.tick()
        assert len(bench.of(Kind.FILL_REQUEST)) == 2
        begin = await bench.maintain(ctx, op, start=BASE, length=2 * LINE, wait=False)
        for _ in range(10):
            await ctx.tick()
        assert bool(bench.of(Kind.MAINT_END)) == (op == CLEAN)
        bench.memory.bytes[:8] = bytes(8)
        bench.replay.memory[:8] = bytes(8)
        bench.memory.accept_ar = True
        await bench.manager.wait(ctx, load)
        await bench.maintained(ctx, begin)
        assert load.data == [0]
        await bench.idle(ctx)
        assert (BASE + LINE in bench.array(ctx)) != invalidates and (BASE in bench.array(ctx)) != invalidates

    bench = run(testbench)
    assert len(bench.of(Kind.FILL_REQUEST)) == len(bench.of(Kind.FILL_INSTALL)) == 2
    assert len(bench.of(Kind.INVALIDATE)) == 2 * invalidates


def test_write_back_error_is_reported_with_done():
    async def testbench(ctx, bench):
        await fill(ctx, bench, [0, 1, 2])
        bench.memory.fails = lambda addr, write: write and addr < BASE + LINE
        _, flags = await bench.maintain(ctx, CLEAN, start=BASE + LINE, length=2 * LINE)
        assert flags == 0, "not of this range"
        _, flags = await bench.maintain(ctx, CLEAN, start=BASE, length=2 * LINE)
        assert flags == 1

    run(testbench)


def test_stores_during_the_walk_are_never_lost_by_a_clean_and_invalidate():
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(16))
        begin = await bench.maintain(ctx, BOTH, scope=ALL, wait=False)
        stores = [bench.manager.write(BASE + n % 16 * LINE + 8, [0xE000 + n]) for n in range(64)]
        await bench.manager.wait(ctx, *stores)
        await bench.maintained(ctx, begin)
        await bench.maintain(ctx, CLEAN, scope=ALL)
        assert [bench.word(BASE + n * LINE + 8) for n in range(16)] == [0xE000 + 48 + n for n in range(16)]

    run(testbench)


@pytest.mark.parametrize("op", [CLEAN, BOTH])
def test_a_line_that_is_stored_to_in_every_cycle_leaves_with_all_bytes(op):
    """The replay of the records knows which bytes each write-back must carry."""

    async def testbench(ctx, bench):
        await fill(ctx, bench, [0])
        stores = [bench.manager.write(BASE, [n + k for k in range(4)]) for n in range(20)]
        while not all(t.done for t in stores):
            await bench.maintain(ctx, op, scope=LINE_SCOPE, start=BASE)
            for _ in range(20 if op == BOTH else 0):  # or each command would drop the fill that the store waits for
                await ctx.tick()

    bench = run(testbench)
    assert len(bench.of(Kind.WB_DONE)) >= 3


# --- cost (64-bit bus, 4 KiB, 2 ways, 32-byte lines, memory latency 1)

DEFAULT = SocConfig()
# Cycles after the last lookup of a walk until "done", and before and after the operation on everything.
WALK, FLASH = 1 + AUX_LATENCY, 2 + AUX_LATENCY


def test_dirty_lines_leave_at_bus_speed():
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(128))
        cycles, _ = await bench.maintain(ctx, CLEAN, scope=ALL)
        assert cycles == 4 * 128 + 5 + AUX_LATENCY
        await fill(ctx, bench, range(32))
        cycles, _ = await bench.maintain(ctx, CLEAN, start=BASE, length=1024)
        assert cycles == 4 * 32 + 4 + AUX_LATENCY

    run(testbench, DEFAULT)


def test_cost_without_dirty_lines():
    async def testbench(ctx, bench):
        await fill(ctx, bench, [], range(128))
        costs = {
            "clean all": (await bench.maintain(ctx, CLEAN, scope=ALL))[0],
            "absent": (await bench.maintain(ctx, CLEAN, start=BASE + 0x4000, length=100 * LINE))[0],
            "present": (await bench.maintain(ctx, CLEAN, start=BASE, length=100 * LINE))[0],
            "huge clean": (await bench.maintain(ctx, CLEAN, start=0, length=0xFFFFFFFF))[0],
            "huge invalidate": (await bench.maintain(ctx, INVALIDATE, start=BASE, length=0x7FFFFFFF))[0],
        }
        await fill(ctx, bench, [], range(128))
        costs["invalidate all"] = (await bench.maintain(ctx, INVALIDATE, scope=ALL))[0]
        costs["length 0"] = (await bench.maintain(ctx, CLEAN, start=BASE, length=0))[0]
        assert not state(ctx, bench)
        assert costs == {
            "clean all": 2,
            "absent": 100 + WALK,
            "present": 100 + WALK,
            "huge clean": 2,
            "huge invalidate": 128 + WALK,
            "invalidate all": FLASH,
            "length 0": 1,
        }

    run(testbench, DEFAULT)


def test_the_cpu_is_served_during_the_walk():
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(32), [64, 65, 66, 67])
        begin = await bench.maintain(ctx, CLEAN, start=BASE, length=1024, wait=False)
        first = len(bench.of(Kind.LOAD))
        reads = [bench.manager.read(BASE + 64 * LINE, length=16) for _ in range(40)]
        cycles, _ = await bench.maintained(ctx, begin)
        served = [r[0] for r in bench.of(Kind.LOAD)[first:] if r[0] < begin + cycles]
        share = len(served) / (begin + cycles - served[0])
        assert cycles <= 2 * 4.2 * 32 and share >= 0.8, (cycles, share)
        await bench.manager.wait(ctx, *reads)

    run(testbench, DEFAULT)


def test_an_access_to_a_line_the_walk_has_not_reached_is_served_at_once():
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(32))
        await bench.maintain(ctx, BOTH, start=BASE, length=1024, wait=False)
        while len(bench.of(Kind.EVICT)) < 3:
            await ctx.tick()
        t = [bench.manager.read(BASE + 30 * LINE), bench.manager.write(BASE + 31 * LINE + 8, [0x77])]
        await bench.manager.wait(ctx, *t)
        assert t[0].data == [0xD000 + 30] and t[0].shown - t[0].accepted <= 2 + 2, "a slot of the walk, and a bank it reads"
        assert len(bench.of(Kind.EVICT)) < 8, "the walk was nowhere near"
        while not bench.of(Kind.MAINT_END):
            await ctx.tick()
        assert bench.word(BASE + 31 * LINE) == 0xD000 + 31 and bench.word(BASE + 31 * LINE + 8) == 0x77
        assert not state(ctx, bench)

    run(testbench, DEFAULT)


def test_an_aborted_range_goes_on_at_progress():
    async def testbench(ctx, bench):
        csr, end = bench.unit.csr, BASE + 32 * LINE
        await fill(ctx, bench, range(32))
        at, visits = BASE, 0
        while at < end:
            begin = await bench.maintain(ctx, CLEAN, start=at, length=end - at, wait=False)
            for _ in range(20):
                await ctx.tick()
            if ctx.get(csr.status_busy):
                await bench.strobe(ctx, csr, "cmd", abort=1)
            await bench.maintained(ctx, begin)
            assert ctx.get(csr.progress) > at
            at, visits = ctx.get(csr.progress), visits + 1
        assert visits > 3 and len(bench.of(Kind.CLEAN)) == 32, "each line once"
        assert not any(state(ctx, bench).values())
        assert all(bench.word(BASE + n * LINE) == 0xD000 + n for n in range(32))

    run(testbench, DEFAULT)


# --- registers


def test_start_while_busy_is_refused_and_length_0_completes():
    async def testbench(ctx, bench):
        csr = bench.unit.csr
        await fill(ctx, bench, range(8))
        begin = await bench.maintain(ctx, CLEAN, start=BASE, length=8 * LINE, wait=False)
        assert ctx.get(csr.status_busy)
        ctx.set(csr.cmd_op, 2)
        ctx.set(csr.cmd_scope, 2)
        ctx.set(csr.cmd_target, 1)
        ctx.set(csr.cmd_written, 1)
        assert ctx.get(csr.status_error_set)
        await ctx.tick()
        ctx.set(csr.cmd_written, 0)
        assert not ctx.get(csr.status_error_set)
        done = 0
        while ctx.get(csr.status_busy):
            done += ctx.get(csr.status_done_set)
            await ctx.tick()
        assert done == 1
        await bench.maintained(ctx, begin)
        assert len(state(ctx, bench)) == 8, "the refused command has invalidated nothing"
        # op 0 does nothing at all
        await bench.strobe(ctx, csr, "cmd", op=0, scope=2, target=3)
        assert not ctx.get(csr.status_busy)

    bench = run(testbench)
    assert len(bench.of(Kind.MAINT_BEGIN)) == 1


def test_abort_stops_the_walk_and_waits_for_what_is_under_way():
    async def testbench(ctx, bench):
        csr = bench.unit.csr
        await fill(ctx, bench, range(16))
        begin = await bench.maintain(ctx, CLEAN, start=BASE, length=16 * LINE, wait=False)
        while len(bench.of(Kind.CLEAN)) < 3:
            await ctx.tick()
        await bench.strobe(ctx, csr, "cmd", abort=1)
        _, flags = await bench.maintained(ctx, begin)
        assert flags == 2
        cleaned = len(bench.of(Kind.CLEAN))
        assert 3 <= cleaned <= 5 and len(bench.of(Kind.WB_DONE)) == cleaned
        assert sum(state(ctx, bench).values()) == 16 - cleaned
        _, flags = await bench.maintain(ctx, CLEAN, start=BASE, length=16 * LINE)
        assert flags == 0 and not any(state(ctx, bench).values())

    run(testbench)


def test_progress_names_the_next_line():
    async def testbench(ctx, bench):
        csr = bench.unit.csr
        await fill(ctx, bench, range(16))
        begin = await bench.maintain(ctx, CLEAN, start=BASE, length=16 * LINE, wait=False)
        seen = []
        while not bench.of(Kind.MAINT_END):
            if ctx.get(csr.status_busy):
                seen.append(ctx.get(csr.progress))
            await ctx.tick()
        assert seen[-1] == BASE + 16 * LINE and len(set(seen)) > 8
        assert all(s % LINE == 0 for s in seen)
        await bench.maintained(ctx, begin)

    run(testbench)


# --- I-cache


def test_the_i_cache_is_invalidated_after_the_d_cache_is_done():
    async def testbench(ctx, bench):
        bench.inv_ready = lambda: bench.cycle % 3 == 0
        await fill(ctx, bench, [1, 2])
        begin = await bench.maintain(ctx, BOTH, start=BASE + LINE + 4, length=2 * LINE, target=3, wait=False)
        await bench.maintained(ctx, begin)
        done = max(r[0] for r in bench.of(Kind.WB_DONE))
        assert [(whole, addr) for _, whole, addr in bench.i_lines] == [(0, BASE + n * LINE) for n in (1, 2, 3)]
        assert min(cycle for cycle, _, _ in bench.i_lines) > done

    run(testbench)


@pytest.mark.parametrize(
    ("op", "scope", "target", "length", "expected"),
    [
        (INVALIDATE, ALL, 2, 0, [(1, 0)]),
        (INVALIDATE, RANGE, 2, 17 * LINE, [(1, 0)]),
        (INVALIDATE, RANGE, 2, 2 * LINE, [(0, BASE), (0, BASE + LINE)]),
        (INVALIDATE, LINE_SCOPE, 3, 0, [(0, BASE)]),
        (CLEAN, RANGE, 3, 2 * LINE, []),
        (INVALIDATE, RANGE, 1, 2 * LINE, []),
        (INVALIDATE, RANGE, 2, 0, []),
        (INVALIDATE, RANGE, 0, 64, []),
    ],
)
def test_what_the_i_cache_is_told(op, scope, target, length, expected):
    async def testbench(ctx, bench):
        await fill(ctx, bench, [0])
        await bench.maintain(ctx, op, scope=scope, target=target, start=BASE, length=length)
        assert [(whole, addr) for _, whole, addr in bench.i_lines] == expected
        if not target & 1:
            assert state(ctx, bench) == {0: True}

    run(testbench)


# --- faults of the platform


def test_fault_ignored_tail():
    config = SMALL.replace(faults__maintenance_ignores_tail=True)

    async def testbench(ctx, bench):
        await fill(ctx, bench, [0, 1, 2])
        await bench.maintain(ctx, CLEAN, start=BASE, length=2 * LINE + 1, target=1)
        assert state(ctx, bench) == {0: False, 1: False, 2: True}
        await bench.maintain(ctx, CLEAN, start=BASE + 2 * LINE, length=LINE - 1)
        assert state(ctx, bench)[2], "nothing is left of a range inside one line"
        await bench.maintain(ctx, CLEAN, start=BASE + 2 * LINE + 8, length=LINE - 8)
        assert not state(ctx, bench)[2]

    run(testbench, config)


def test_fault_point_of_unification():
    config = SMALL.replace(faults__maintenance_point_of_unification=True)

    async def testbench(ctx, bench):
        await fill(ctx, bench, [0])
        old = bench.word(BASE)
        bench.memory.accept_aw = False
        await bench.maintain(ctx, CLEAN, start=BASE, length=1)
        assert bench.word(BASE) == old and not state(ctx, bench)[0]
        bench.memory.accept_aw = True

    run(testbench, config)


def test_records_of_a_command():
    async def testbench(ctx, bench):
        await fill(ctx, bench, [1])
        await bench.maintain(ctx, CLEAN, start=BASE + 4, length=2 * LINE)

    bench = run(testbench)
    records = [r[1:5] for r in bench.of(Kind.MAINT_BEGIN, Kind.MAINT_STEP, Kind.MAINT_END)]
    assert records == [
        (Kind.MAINT_BEGIN, BASE + 4, CLEAN | RANGE << 2 | 1 << 4, 0),
        (Kind.MAINT_STEP, BASE, 0, 0),
        (Kind.MAINT_STEP, BASE + LINE, 0, 3),
        (Kind.MAINT_STEP, BASE + 2 * LINE, 0, 0),
        (Kind.MAINT_END, BASE, 0, 0),
    ]
    assert bench.of(Kind.MAINT_BEGIN)[0][5] == 2 * LINE
