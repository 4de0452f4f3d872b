# SPDX-License-Identifier: BSD-2-Clause
"""The walk alone, before a pipeline that grants and refuses at will: each line of a range exactly as asked, for any latency."""

import random

import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from rtl.cache import native, walker
from rtl.cache.native import AuxOp
from rtl.cache.ports import MaintOp
from rtl.config import CacheConfig, SocConfig

CLEAN, INVALIDATE, BOTH = MaintOp.CLEAN, MaintOp.INVALIDATE, MaintOp.CLEAN_INVALIDATE
CONFIG = SocConfig(dcache=CacheConfig(sets=16, ways=2, write_buffer_lines=2), icache=CacheConfig(sets=16))
BASE, LINE = CONFIG.memory.base, CONFIG.dcache.line_bytes


class Pipeline:
    """A cache of lines and dirty bits behind the walker's port, with a write-back buffer that answers after ``drain`` cycles."""

    def __init__(self, latency, *, lines, refuses=0.0, grants=1.0, drain=6, seed=1, config=CONFIG):
        self.latency, self.refuses, self.grants, self.drain = latency, refuses, grants, drain
        self.rng = random.Random(seed)
        self.dut = walker.MaintenanceWalker(config=config)
        self.sets, self.ways = config.dcache.sets, config.dcache.ways
        self.places = {}  # (set, way): [line, dirty]
        for line, dirty in lines.items():
            ways = [way for way in range(self.ways) if (line % self.sets, way) not in self.places]
            self.places[line % self.sets, ways[0]] = [line, dirty]
        self.buffer = [None] * config.dcache.write_buffer_lines  # [line, cycles until it is answered]
        self.visits, self.pushed = [], []  # lines and places of performed visits, in order
        self.progress = None

    @property
    def dirty(self):
        return {line for line, dirty in self.places.values() if dirty}

    @property
    def lines(self):
        return {line for line, _ in self.places.values()}

    def _perform(self, op, line, way, command):
        """Performs an operation; returns (done, dirty)."""
        if op == AuxOp.FLASH.value:
            self.places = {at: found for at, found in self.places.items() if found[1] and command["op"] & 1}
            return True, False
        wanted = [(line % self.sets, w) for w in range(self.ways) if op == AuxOp.WALK_LINE.value or w == way]
        place = next((at for at in wanted if at in self.places), None)
        if op == AuxOp.WALK_LINE.value:
            place = next((at for at in wanted if at in self.places and self.places[at][0] == line), None)
        elif place and not command["first"] <= self.places[place][0] <= command["last"]:
            place = None
        dirty = place is not None and self.places[place][1]
        pushes = dirty and command["op"] & 1
        if self.rng.random() < self.refuses or (pushes and None not in self.buffer):
            return False, dirty
        self.visits.append(line if op == AuxOp.WALK_LINE.value else (line % self.sets, way))
        if place:
            if pushes:
                self.buffer[self.buffer.index(None)] = [self.places[place][0], self.drain]
                self.pushed.append(self.places[place][0])
            self.places[place][1] = False
            if command["op"] & 2:
                del self.places[place]
        return True, dirty

    def run(self, op, first=0, last=0, *, everything=False, many=False, abort_at=None, limit=3000):
        """One command; returns the cycles from its acceptance to ``done``."""
        m = Module()
        m.submodules.dut = dut = self.dut
        go = Signal()
        m.d.comb += dut.aux.grant.eq(dut.aux.valid & go)
        result = []

        async def testbench(ctx):
            stages = [None] * self.latency
            request = {"op": op, "all": everything, "many": many, "first": BASE + first * LINE, "last": BASE + last * LINE}
            for cycle in range(limit):
                ctx.set(dut.maint.req.valid, cycle == 0)
                ctx.set(dut.maint.req.payload, request)
                ctx.set(dut.maint.abort, abort_at is not None and cycle >= abort_at)
                ctx.set(go, self.rng.random() < self.grants)
                command = {"op": int(ctx.get(dut.op)), "first": ctx.get(dut.first), "last": ctx.get(dut.last)}
                # the write-back buffer, as it is before this cycle's visit
                ctx.set(dut.occupied, sum(1 << n for n, entry in enumerate(self.buffer) if entry))
                ctx.set(dut.space, self.buffer.count(None))
                answered = next((n for n, entry in enumerate(self.buffer) if entry and entry[1] <= 0), None)
                ctx.set(dut.wb_done.valid, answered is not None)
                if answered is not None:
                    ctx.set(dut.wb_done.index, 1 << answered)
                    ctx.set(dut.wb_done.line, self.buffer[answered][0])
                row = ctx.get(dut.row)
                ctx.set(dut.stained, any(line % self.sets // 4 == row for line in self.dirty))
                ctx.set(dut.any_dirty, bool(self.dirty))
                # the visit that was granted `latency` cycles ago
                operation = stages[-1]
                done, dirty = self._perform(*operation, command) if operation else (False, False)
                ctx.set(dut.aux.done, bool(operation) and done)
                ctx.set(dut.aux.retry, bool(operation) and not done)
                ctx.set(dut.visited.dirty, dirty)
                if answered is not None:
                    self.buffer[answered] = None
                for entry in self.buffer:
                    if entry:
                        entry[1] -= 1
                granted = None
                if ctx.get(dut.aux.grant):
                    way = ctx.get(dut.way).bit_length() - 1
                    granted = (ctx.get(dut.aux.op).value, ctx.get(dut.aux.line), way)
                stages = [granted, *stages[:-1]]
                if ctx.get(dut.maint.done):
                    assert stages == [None] * self.latency and operation is None, "nothing is under way"
                    self.progress = ctx.get(dut.maint.progress)
                    result.append(cycle)
                    return
                await ctx.tick()
            raise AssertionError("the command never ended")

        simulator = Simulator(m)
        simulator.add_clock(1e-8)
        simulator.add_testbench(testbench)
        simulator.run()
        return result[0]


@pytest.fixture(params=[1, 2, 3])
def latency(request, monkeypatch):
    monkeypatch.setattr(native, "AUX_LATENCY", request.param)
    monkeypatch.setattr(walker, "AUX_LATENCY", request.param)
    return request.param


def test_a_range_costs_a_cycle_per_line(latency):
    pipeline = Pipeline(latency, lines={n: False for n in range(4, 20)})
    assert pipeline.run(BOTH, 2, 29) == 28 + 1 + latency
    assert pipeline.visits == list(range(2, 30)) and pipeline.lines == set()


def test_the_array_is_walked_way_after_way_where_lines_are_many(latency):
    pipeline = Pipeline(latency, lines={n: False for n in range(8)} | {n + 16: False for n in range(8)})
    assert pipeline.run(INVALIDATE, 3, 17, many=True) == 32 + 1 + latency
    assert pipeline.visits == [(s, w) for w in range(2) for s in range(16)]
    assert pipeline.lines == {0, 1, 2, *range(18, 24)}


def test_clean_rows_are_passed_in_a_cycle_and_a_clean_array_ends_the_walk(latency):
    pipeline = Pipeline(latency, lines={n: n == 13 for n in range(16)})
    # Three rows are passed in cycles 1 to 3, and the next is looked at in cycle 4: set 12 is asked for in cycle 5, then set 13,
    # and others until the row is known to be clean. Memory answers seven cycles after the visit of set 13.
    assert pipeline.run(CLEAN, everything=True) == 6 + latency + 6
    assert pipeline.visits[:2] == [(12, 0), (13, 0)] and len(pipeline.visits) == 2 + latency and pipeline.pushed == [13]
    assert pipeline.run(CLEAN, everything=True) == 2
    assert pipeline.run(INVALIDATE, everything=True) == 2 + latency and not pipeline.lines


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("op", [CLEAN, INVALIDATE, BOTH])
def test_refusals_and_waits_lose_nothing(latency, op, seed):
    rng = random.Random(seed)
    lines = {n: rng.random() < 0.5 for n in rng.sample(range(64), 32) if n % 16 != 5}
    lines = {n: dirty for n, dirty in lines.items() if sum(m % 16 == n % 16 for m in lines if m <= n) <= 2}
    for first, last, options in ((7, 40, {}), (7, 40, {"many": True}), (0, 0, {"everything": True})):
        pipeline = Pipeline(latency, lines=lines, refuses=0.3, grants=0.6, drain=rng.choice([1, 9]), seed=seed)
        before = pipeline.dirty
        covered = set(range(64)) if options.get("everything") else set(range(first, last + 1))
        pipeline.run(op, first, last, **options)
        assert pipeline.lines == (set(lines) if op == CLEAN else set(lines) - covered)
        assert sorted(pipeline.pushed) == (sorted(before & covered) if op & 1 else [])
        assert pipeline.dirty == before - covered and not any(pipeline.buffer), "answered before done"


@pytest.mark.parametrize("abort_at", range(1, 12))
def test_an_aborted_range_has_visited_all_lines_before_its_progress(latency, abort_at):
    pipeline = Pipeline(latency, lines={n: True for n in range(16)}, refuses=0.3, seed=abort_at)
    pipeline.run(CLEAN, 0, 15, abort_at=abort_at)
    assert pipeline.progress % LINE == 0
    assert set(range((pipeline.progress - BASE) // LINE)) <= set(pipeline.visits)
