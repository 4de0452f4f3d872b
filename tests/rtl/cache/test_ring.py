# SPDX-License-Identifier: BSD-2-Clause
"""Rings, unary levels and the functions of masks beside them, against plain numbers."""

import random

import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from rtl.cache.ring import Ring, add_level, at_least, encoded


def run(m, testbench, *, clocked=True):
    sim = Simulator(m)
    if clocked:
        sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 8, 16, 64])
def test_a_ring_visits_every_row_once_per_round_and_starts_at_row_0(rows):
    m, ring = Module(), Ring(rows, name="ring")
    m.d.sync += ring.row.eq(ring.following())
    where, position = Signal(rows), Signal(range(max(rows, 2)))
    at, later = Signal(range(max(rows, 2))), Signal(range(max(rows, 2)))
    m.d.comb += later.eq(ring.following(min(2, rows)))
    m.d.comb += [where.eq(ring.one_hot()), at.eq(ring.row_of(position))]

    async def testbench(ctx):
        visited = []
        expected = []
        for n in range(2 * rows):
            visited.append(ctx.get(ring.row))
            expected.append(ctx.get(later))
            assert ctx.get(where) == 1 << n % rows
            ctx.set(position, n % rows)
            assert ctx.get(at) == visited[-1]
            await ctx.tick()
        assert expected[:-2] == (visited[2:] if rows > 1 else visited[:-2])
        assert visited[0] == 0 and sorted(visited[:rows]) == list(range(rows)) and visited[:rows] == visited[rows:]

    run(m, testbench)


def test_with_a_power_of_two_of_rows_each_row_is_the_one_before_shifted():
    for rows in (2, 4, 8, 16, 32, 64, 128):
        codes = Ring(rows, name="ring").codes
        assert all(after >> 1 == before % (rows // 2) for before, after in zip(codes, codes[1:] + codes[:1], strict=True))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_level_counts_in_unary(size):
    m, level, up, down = Module(), Signal(size), Signal(), Signal()
    add_level(m, level, up, down)

    async def testbench(ctx):
        rng, count = random.Random(size), 0
        for _ in range(200):
            raise_it, lower_it = rng.random() < 0.6 and count < size, rng.random() < 0.5 and count > 0
            ctx.set(up, raise_it)
            ctx.set(down, lower_it)
            await ctx.tick()
            count += raise_it - lower_it
            assert ctx.get(level) == (1 << count) - 1

    run(m, testbench)


def test_masks():
    m, mask = Module(), Signal(5)
    enough = Signal(6)
    number = Signal(3)
    m.d.comb += [enough[n].eq(at_least(mask, n)) for n in range(6)]
    m.d.comb += number.eq(encoded(mask))

    async def testbench(ctx):
        for value in range(32):
            ctx.set(mask, value)
            assert ctx.get(enough) == sum((value.bit_count() >= n) << n for n in range(6))
        for n in range(5):
            ctx.set(mask, 1 << n)
            assert ctx.get(number) == n

    run(m, testbench, clocked=False)
