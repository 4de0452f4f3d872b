# SPDX-License-Identifier: BSD-2-Clause
"""The queue inside the DMA parts, against a deque."""

import random
from collections import deque

import pytest
from amaranth.back import verilog

from rtl.config import ConfigError
from rtl.dma.queue import Queue

from .helpers import simulate


@pytest.mark.parametrize("bypass", [False, True])
def test_against_a_deque(bypass):
    dut = Queue(8, depth=4, bypass=bypass)

    async def script(ctx):
        rng, model, full, empty = random.Random(3), deque(), 0, 0
        for n in range(600):
            offer, take, clear = rng.random() < 0.6, rng.random() < (0.3 if n % 200 < 100 else 0.9), rng.random() < 0.01
            ctx.set(dut.i.valid, offer)
            ctx.set(dut.i.payload, n & 0xFF)
            ctx.set(dut.o.ready, take)
            ctx.set(dut.clear, clear)
            assert ctx.get(dut.level) == len(model)
            assert ctx.get(dut.i.ready) == (len(model) < 4)
            assert ctx.get(dut.o.valid) == bool(model or (bypass and offer))
            if ctx.get(dut.o.valid):
                assert ctx.get(dut.o.payload) == (model[0] if model else n & 0xFF)
            accepted = offer and len(model) < 4
            full, empty = full + (len(model) == 4), empty + (not model)
            if model and take:
                model.popleft()
            elif not model and bypass and take:
                accepted = False  # passed by
            if accepted:
                model.append(n & 0xFF)
            if clear:
                model.clear()
            await ctx.tick()
        assert full and empty

    simulate(dut, script)


@pytest.mark.parametrize("depth", [0, 1, 6])
def test_bad_depth(depth):
    with pytest.raises(ConfigError, match=f"Queue depth must be a power of two from 2, not {depth}"):
        Queue(8, depth=depth)


def test_converts():
    assert "module top" in verilog.convert(Queue(8, depth=2, bypass=True))
