# SPDX-License-Identifier: BSD-2-Clause
"""``partial_lines``: what an invalidate does to lines that its range covers only partly, exact to the line and to the cycle."""

import random

import pytest
from amaranth.back import verilog
from amaranth.sim import Simulator

from rtl.cache.edges import EdgeCleaner
from rtl.cache.ports import MaintOp, MaintScope
from rtl.config import CacheConfig, SocConfig
from rtl.probe import Kind

from .bench import BASE, Bench
from .test_dcache_random import GEOMETRIES, geometry

CLEAN, INVALIDATE, BOTH = MaintOp.CLEAN, MaintOp.INVALIDATE, MaintOp.CLEAN_INVALIDATE
LINE = 32
SMALL = SocConfig(dcache=CacheConfig(sets=8, partial_lines="clean"), icache=CacheConfig(sets=8))
DROP = SMALL.replace(dcache__partial_lines="drop")


def run(testbench, config=SMALL, **options):
    bench = Bench(config, **options)
    bench.run(testbench)
    return bench


async def fill(ctx, bench, lines):
    for n in lines:
        await bench.store(ctx, BASE + n * LINE, 0xD000 + n)
    await bench.idle(ctx)


# --- the splitter alone


class Commands:
    """A D-cache that takes ``cycles`` per command and notes ``(cycle, op, first, last)``; those in ``failing`` end in error."""

    def __init__(self, cycles=5, failing=()):
        self.dut, self.cycles, self.failing = EdgeCleaner(line_bytes=LINE), cycles, failing
        self.taken = []
        self.cycle = 0

    async def _dcache(self, ctx):
        port, left = self.dut.dcache, 0
        ctx.set(port.req.ready, 1)
        while True:
            _, _, valid, ready, request, abort = await ctx.tick().sample(
                port.req.valid, port.req.ready, port.req.payload, port.abort
            )
            ctx.set(port.done, 0)
            if left:
                left -= 1
                if left == 0 or abort:
                    left = 0
                    ctx.set(port.done, 1)
                    ctx.set(port.error, len(self.taken) - 1 in self.failing)
                    ctx.set(port.req.ready, 1)
            elif valid and ready:
                self.taken.append((self.cycle, MaintOp(request.op), request.first, request.last))
                left = self.cycles - 1
                ctx.set(port.req.ready, 0)
            self.cycle += 1

    async def command(self, ctx, op, first, last, *, clean_first=0, clean_last=0, abort_at=None):
        """Returns ``(cycles from request to done, error, aborted, parts)``; a part is ``(cycle, op, first line, last line)``."""
        dut, port = self.dut, self.dut.command
        self.taken.clear()
        ctx.set(port.req.payload, {"op": op, "all": 0, "first": first, "last": last})
        ctx.set(dut.clean_first, clean_first)
        ctx.set(dut.clean_last, clean_last)
        ctx.set(port.req.valid, 1)
        assert ctx.get(port.req.ready)
        begin = self.cycle
        await ctx.tick()
        ctx.set(port.req.valid, 0)
        for _ in range(100):
            ctx.set(port.abort, abort_at is not None and self.cycle - begin >= abort_at)
            if ctx.get(port.done):
                result = self.cycle - begin, ctx.get(port.error), ctx.get(port.aborted)
                await ctx.tick()
                ctx.set(port.abort, 0)
                return *result, [(at - begin, op, a // LINE, b // LINE) for at, op, a, b in self.taken]
            await ctx.tick()
        raise AssertionError("never done")

    def run(self, testbench):
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        sim.add_testbench(testbench)
        sim.add_process(self._dcache)
        sim.run()


def test_converts():
    assert "module" in verilog.convert(EdgeCleaner(line_bytes=LINE))


@pytest.mark.parametrize(
    ("first", "last", "edges", "parts"),
    [
        # the first part begins one cycle after the request, and each other one cycle after the part before is done
        (4, 9, (0, 0), [(0, INVALIDATE, 4, 9)]),
        (4, 9, (1, 0), [(1, BOTH, 4, 4), (7, INVALIDATE, 5, 9)]),
        (4, 9, (0, 1), [(1, INVALIDATE, 4, 8), (7, BOTH, 9, 9)]),
        (4, 9, (1, 1), [(1, BOTH, 4, 4), (7, INVALIDATE, 5, 8), (13, BOTH, 9, 9)]),
        (4, 5, (1, 1), [(1, BOTH, 4, 4), (7, BOTH, 5, 5)]),
        (4, 5, (0, 1), [(1, INVALIDATE, 4, 4), (7, BOTH, 5, 5)]),
        (4, 5, (1, 0), [(1, BOTH, 4, 4), (7, INVALIDATE, 5, 5)]),
        (4, 4, (1, 0), [(1, BOTH, 4, 4)]),
        (4, 4, (0, 1), [(1, BOTH, 4, 4)]),
        (4, 4, (1, 1), [(1, BOTH, 4, 4)]),
        (2**27 - 2, 2**27 - 1, (1, 1), [(1, BOTH, 2**27 - 2, 2**27 - 2), (7, BOTH, 2**27 - 1, 2**27 - 1)]),
        (2**27 - 1, 2**27 - 1, (1, 1), [(1, BOTH, 2**27 - 1, 2**27 - 1)]),
        (0, 2**27 - 1, (1, 1), [(1, BOTH, 0, 0), (7, INVALIDATE, 1, 2**27 - 2), (13, BOTH, 2**27 - 1, 2**27 - 1)]),
    ],
)
def test_parts_of_a_command(first, last, edges, parts):
    commands = Commands(cycles=5)

    async def testbench(ctx):
        for _ in range(2):  # the second time finds the splitter as the first
            got = await commands.command(ctx, INVALIDATE, first * LINE, last * LINE, clean_first=edges[0], clean_last=edges[1])
            assert got == (parts[-1][0] + 5, 0, 0, parts)

    commands.run(testbench)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_of_any_part_is_the_commands(failing):
    commands = Commands(failing=(failing,))

    async def testbench(ctx):
        _, error, _, parts = await commands.command(ctx, INVALIDATE, 0, 4 * LINE, clean_first=1, clean_last=1)
        assert error and len(parts) == 3
        commands.failing = ()
        _, error, _, _ = await commands.command(ctx, INVALIDATE, 0, 4 * LINE, clean_first=1, clean_last=1)
        assert not error, "it is not kept for the next command"

    commands.run(testbench)


@pytest.mark.parametrize("abort_at", range(1, 19))
def test_abort_ends_the_command_with_the_part_in_progress(abort_at):
    commands = Commands(cycles=5)

    async def testbench(ctx):
        cycles, _, aborted, parts = await commands.command(
            ctx, INVALIDATE, 0, 4 * LINE, clean_first=1, clean_last=1, abort_at=abort_at
        )
        assert aborted and cycles <= abort_at + 2
        assert len(parts) == len([at for at in (1, 7, 13) if at < abort_at])
        whole = await commands.command(ctx, INVALIDATE, 0, 4 * LINE, clean_first=1, clean_last=1)
        assert whole[2] == 0 and len(whole[3]) == 3

    commands.run(testbench)


# --- the whole


RANGE = MaintScope.RANGE
INVALIDATED = [  # scope, start, length, lines dropped, lines that "clean" writes
    (RANGE, 2 * LINE, 3 * LINE, {2, 3, 4}, set()),
    (RANGE, 2 * LINE + 1, 3 * LINE - 1, {2, 3, 4}, {2}),
    (RANGE, 2 * LINE, 3 * LINE - 1, {2, 3, 4}, {4}),
    (RANGE, 2 * LINE + 8, 3 * LINE, {2, 3, 4, 5}, {2, 5}),
    (RANGE, 2 * LINE + 8, LINE, {2, 3}, {2, 3}),
    (RANGE, 2 * LINE + 8, 8, {2}, {2}),
    (RANGE, 2 * LINE, 8, {2}, {2}),
    (RANGE, 3 * LINE - 1, 1, {2}, {2}),
    (RANGE, 2 * LINE + 8, 64 * LINE, {2, 3, 4, 5}, {2}),  # longer than the cache: the array is walked
    (RANGE, -64 * LINE, 67 * LINE + 1, {0, 1, 2, 3}, {3}),
    (RANGE, -0x8000_0000, 0x8000_0000 + 2 * LINE + 1, {0, 1, 2}, {2}),
    (MaintScope.LINE, 2 * LINE + 8, 3, {2}, set()),  # a line, and everything, are never partial
    (MaintScope.ALL, 8, 3, {0, 1, 2, 3, 4, 5}, set()),
]


@pytest.mark.parametrize("config", [SMALL, DROP], ids=["clean", "drop"])
def test_lines_written_by_an_invalidate(config):
    async def testbench(ctx, bench):
        for number, (scope, start, length, dropped, cleaned) in enumerate(INVALIDATED):
            old = {n: bench.word(BASE + n * LINE) for n in range(6)}
            value = 0xD000 + 16 * number
            for n in range(6):
                await bench.store(ctx, BASE + n * LINE, value + n)
            before = len(bench.of(Kind.EVICT))
            _, flags = await bench.maintain(ctx, INVALIDATE, scope=scope, start=BASE + start, length=length)
            assert flags == 0
            written = cleaned if config is SMALL else set()
            assert {(r[2] - BASE) // LINE for r in bench.of(Kind.EVICT)[before:]} == written
            assert {(line - BASE) // LINE for line in bench.array(ctx)} == set(range(6)) - dropped
            for n in range(6):
                assert bench.word(BASE + n * LINE) == (value + n if n in written else old[n])

    bench = run(testbench, config)
    assert len(bench.of(Kind.MAINT_BEGIN)) == len(bench.of(Kind.MAINT_END)) == len(INVALIDATED)


@pytest.mark.parametrize("op", [CLEAN, BOTH])
def test_the_other_operations_are_the_same(op):
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(6))
        await bench.maintain(ctx, op, start=BASE + LINE + 8, length=3 * LINE)

    ends = [[r for r in run(testbench, config).records if r[1] in (Kind.MAINT_STEP, Kind.MAINT_END)] for config in (SMALL, DROP)]
    assert ends[0] == ends[1] and len(ends[0]) == 5


def test_a_range_of_whole_lines_costs_nothing_more():
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(6))
        return_cycles.append((await bench.maintain(ctx, INVALIDATE, start=BASE + LINE, length=3 * LINE))[0])

    return_cycles = []
    run(testbench, SMALL)
    run(testbench, DROP)
    assert return_cycles[0] == return_cycles[1]


def test_ignored_tail_leaves_the_last_partial_line_alone():
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(6))
        await bench.maintain(ctx, INVALIDATE, start=BASE + LINE + 8, length=3 * LINE)
        assert {(line - BASE) // LINE for line in bench.array(ctx)} == {0, 4, 5}
        assert not bench.of(Kind.EVICT)[1:] and bench.of(Kind.EVICT)[0][2] == BASE + LINE

    run(testbench, SMALL.replace(faults__maintenance_ignores_tail=True))


def test_error_of_an_edge_is_reported():
    async def testbench(ctx, bench):
        await fill(ctx, bench, range(6))
        bench.memory.fails = lambda addr, write: write and addr < BASE + 2 * LINE
        _, flags = await bench.maintain(ctx, INVALIDATE, start=BASE + LINE + 8, length=3 * LINE)
        assert flags == 1

    run(testbench)


def test_an_aborted_range_goes_on_at_progress():
    """``progress`` is the line that was next, or one before: going on there, or at ``start`` if that is later, ends the range."""
    aborted = set()

    async def testbench(ctx, bench):
        csr, start, end = bench.unit.csr, BASE + 8, BASE + 7 * LINE + 8
        for wait in range(1, 40):
            await fill(ctx, bench, range(8))
            before = len(bench.of(Kind.EVICT))
            begin = await bench.maintain(ctx, INVALIDATE, start=start, length=end - start, wait=False)
            for _ in range(wait):
                await ctx.tick()
            if ctx.get(csr.status_busy):
                await bench.strobe(ctx, csr, "cmd", abort=1)
            _, flags = await bench.maintained(ctx, begin)
            assert flags in (0, 2)
            if flags:
                at = max(ctx.get(csr.progress), start)
                aborted.add(at)
                await bench.maintain(ctx, INVALIDATE, start=at, length=end - at)
            assert not bench.array(ctx)
            assert sorted((r[2] - BASE) // LINE for r in bench.of(Kind.EVICT)[before:]) == [0, 7]

    run(testbench)
    assert len(aborted) >= 7, "at nearly every line"


def soak(config, *, seed, rounds):
    """Stores, loads and invalidates of random ranges in a span that fits the cache, against a byte model of memory and lines."""
    rng = random.Random(seed)
    line = config.dcache.line_bytes
    span = min(config.dcache.size_bytes, config.memory.size // 2)

    async def testbench(ctx, bench):
        memory, newest, dirty = bytearray(bench.memory.bytes), bytearray(bench.memory.bytes), set()
        for _ in range(rounds):
            for _ in range(rng.randrange(1, 12)):
                at = rng.randrange(span) & -config.data_bytes
                value = rng.getrandbits(config.data_width)
                await bench.store(ctx, BASE + at, value)
                newest[at : at + config.data_bytes] = value.to_bytes(config.data_bytes, "little")
                dirty.add(at // line)
            start = rng.randrange(span)
            end = start + rng.choice([rng.randrange(1, line), rng.randrange(1, span), 2 * config.dcache.size_bytes])
            start, end = (n & -line if rng.random() < 0.3 else n for n in (start, end))
            if end <= start:
                continue
            _, flags = await bench.maintain(ctx, INVALIDATE, start=BASE + start, length=end - start)
            assert flags == 0
            for n in range(start // line, (end - 1) // line + 1):
                cut = slice(n * line, (n + 1) * line)
                partial = n * line < start or (n + 1) * line > end
                if partial and config.dcache.partial_lines == "clean":
                    memory[cut] = newest[cut]
                newest[cut] = memory[cut]
                dirty.discard(n)
            assert bench.memory.bytes == memory
            assert {(a - BASE) // line for a, (is_dirty, _) in bench.array(ctx).items() if is_dirty} == dirty
            at = rng.randrange(span) & -config.data_bytes
            want = int.from_bytes(newest[at : at + config.data_bytes], "little")
            assert (await bench.load(ctx, BASE + at)).data == [want]

    run(testbench, config)


@pytest.mark.parametrize("policy", ["clean", "drop"])
def test_random_ranges(policy):
    soak(geometry(*GEOMETRIES[0]).replace(dcache__partial_lines=policy), seed=1, rounds=20)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GEOMETRIES)), ids=lambda n: "x".join(map(str, GEOMETRIES[n])))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_ranges_at_length(number, seed):
    soak(geometry(*GEOMETRIES[number]).replace(dcache__partial_lines="clean"), seed=100 * seed + number, rounds=80)
