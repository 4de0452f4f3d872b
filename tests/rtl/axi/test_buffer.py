# SPDX-License-Identifier: BSD-2-Clause
"""The shift queue."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from rtl.axi.buffer import ShiftQueue
from rtl.export import verilog


def run(dut, body):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(body)
    sim.run()


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_against_a_deque(depth):
    rng = random.Random(depth)
    dut = ShiftQueue(8, depth=depth)

    async def body(ctx):
        model = deque()
        for step in range(400):
            eager = 0.2 + 0.6 * (step // 100 % 2)
            value, push, pop = rng.randrange(256), rng.random() < eager, rng.random() < 1 - eager
            ctx.set(dut.i.payload, value)
            ctx.set(dut.i.valid, push)
            ctx.set(dut.o.ready, pop)
            assert ctx.get(dut.level) == len(model)
            assert ctx.get(dut.i.ready) == (len(model) < depth)
            assert ctx.get(dut.o.valid) == bool(model)
            if model:
                assert ctx.get(dut.o.payload) == model[0]
            accepted = push and len(model) < depth
            if pop and model:
                model.popleft()
            if accepted:
                model.append(value)
            await ctx.tick()

    run(dut, body)


def test_one_element_per_cycle_after_one_cycle():
    dut = ShiftQueue(8, depth=2)

    async def body(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.o.valid)
        for value in range(20):
            ctx.set(dut.i.payload, value)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            assert ctx.get(dut.o.valid) and ctx.get(dut.o.payload) == value

    run(dut, body)


@pytest.mark.parametrize("depth", [0, 65, None, True])
def test_depth_is_checked(depth):
    with pytest.raises(ValueError, match="Queue depth must be an integer from 1 to 64"):
        ShiftQueue(8, depth=depth)


def test_converts_to_verilog():
    assert "module queue(" in verilog(ShiftQueue(8, depth=4), "queue")
