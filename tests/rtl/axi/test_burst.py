# SPDX-License-Identifier: BSD-2-Clause
"""Burst addresses against the specification's formulas."""

import random
from itertools import pairwise

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from rtl.axi.burst import crosses_window, next_address

from .agents import FIXED, INCR, WRAP, beat_addresses

LIMIT = 0x1_0180


class Arithmetic(wiring.Component):
    addr: In(32)
    size: In(3)
    length: In(8)
    burst: In(2)
    next: Out(32)
    leaves: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.next.eq(next_address(self.addr, self.size, self.length, self.burst)),
            self.leaves.eq(crosses_window(self.addr, self.size, self.length, self.burst, LIMIT)),
        ]
        return m


def check(body):
    dut = Arithmetic()

    async def test(ctx):
        def see(addr, size, length, burst):
            ctx.set(dut.addr, addr)
            ctx.set(dut.size, size)
            ctx.set(dut.length, length)
            ctx.set(dut.burst, burst)
            return ctx.get(dut.next), ctx.get(dut.leaves)

        await body(see)

    sim = Simulator(dut)
    sim.add_testbench(test)
    sim.run()


@pytest.mark.parametrize("burst", [FIXED, INCR, WRAP])
def test_next_address(burst):
    async def body(see):
        rng = random.Random(burst)
        for _ in range(60):
            size = rng.randrange(5)
            length = rng.choice([1, 3, 7, 15]) if burst == WRAP else rng.randrange(32)
            addr = rng.getrandbits(32) & ~0xE00
            addr = addr >> size << size if burst == WRAP else addr
            expected = beat_addresses(addr, length, size, burst)
            for present, following in pairwise(expected):
                assert (see(present, size, length, burst))[0] == following

    check(body)


def test_a_burst_stays_in_its_4_kib_block():
    async def body(see):
        assert (see(0x1234_5FF8, 3, 3, INCR))[0] == 0x1234_5000

    check(body)


def test_crosses_window():
    async def body(see):
        for addr, size, length, leaves in [
            (LIMIT - 8, 3, 0, 0),
            (LIMIT - 8, 3, 1, 1),
            (LIMIT - 1, 0, 0, 0),
            (LIMIT - 1, 0, 1, 1),
            (LIMIT - 1, 3, 0, 0),
            (LIMIT - 13, 3, 1, 0),
            (LIMIT - 128, 3, 15, 0),
            (LIMIT - 127, 3, 15, 0),
            (LIMIT - 128, 3, 16, 1),
            (LIMIT - 2048, 3, 255, 0),
        ]:
            assert (see(addr, size, length, INCR))[1] == leaves, (addr, size, length)
            assert (see(addr, size, length, WRAP))[1] == 0
            assert (see(addr, size, length, FIXED))[1] == 0

    check(body)
