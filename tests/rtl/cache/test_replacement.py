# SPDX-License-Identifier: BSD-2-Clause
"""The replacement policies against naive models: a list of ways, a walk down a tree, a list of bits."""

import random

import pytest
from amaranth import ClockDomain, Module
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from rtl.cache.replacement import replacement_policy
from rtl.config import CacheConfig, ConfigError, SocConfig
from rtl.probe import Kind
from tests.rtl.cache import icache_bench

SETS = 16


class Bench(wiring.Component):
    """A policy with its signals as ports; ``elsewhere``: uses name their set themselves."""

    def __init__(self, cache: CacheConfig, elsewhere: bool = False):
        self.policy, self.elsewhere = replacement_policy(cache), elsewhere
        super().__init__(
            {
                "index": In(range(SETS)),
                "victim": Out(cache.ways),
                "touched": In(range(SETS)),
                "ways": In(cache.ways),
                "enable": In(1),
                "chosen": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()  # one way needs none by itself
        m.d.comb += self.victim.eq(self.policy.victim(m, self.index))
        self.policy.touch(m, self.ways, self.enable, self.chosen, self.touched if self.elsewhere else None)
        return m


class NaiveLru:
    def __init__(self, ways):
        self.order = [list(range(ways)) for _ in range(SETS)]  # the oldest first

    def victim(self, index):
        return self.order[index][0]

    def touch(self, index, way, chosen):
        self.order[index].remove(way)
        self.order[index].append(way)


class NaivePlru:
    def __init__(self, ways):
        self.ways = ways
        self.older = [{} for _ in range(SETS)]  # (first way, ways) of a subtree to its older half

    def victim(self, index):
        low, size = 0, self.ways
        while size > 1:
            half = self.older[index].get((low, size), 0)
            size //= 2
            low += half * size
        return low

    def touch(self, index, way, chosen):
        low, size = 0, self.ways
        while size > 1:
            half = int(way >= low + size // 2)
            self.older[index][low, size] = 1 - half
            size //= 2
            low += half * size


class NaiveRandom:
    def __init__(self, ways, seed=0xACE1):
        self.levels, self.fills = ways.bit_length() - 1, 0
        bits = [seed >> 15 - n & 1 for n in range(16)]
        for n in range(16, 16 + 8000):
            bits.append(bits[n - 16] ^ bits[n - 14] ^ bits[n - 13] ^ bits[n - 11])
        self.bits = bits

    def victim(self, index):
        return sum(self.bits[15 + self.fills * self.levels - i] << i for i in range(self.levels))

    def touch(self, index, way, chosen):
        self.fills += chosen


NAIVE = {"lru": NaiveLru, "plru": NaivePlru, "random": NaiveRandom}


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("ways", [1, 2, 4, 8])
@pytest.mark.parametrize("policy", NAIVE)
def test_against_naive_model(policy, ways, elsewhere):
    """Random uses, with idle cycles in which the inputs move: every victim is the model's."""
    bench = Bench(CacheConfig(sets=SETS, ways=ways, replacement=policy), elsewhere)
    model, rng = NAIVE[policy](ways), random.Random(ways)
    counted = set()

    async def testbench(ctx):
        for step in range(1000):
            index = rng.randrange(SETS)
            touched = rng.randrange(SETS) if elsewhere else index
            ctx.set(bench.index, index)
            await ctx.delay(1e-9)
            victim = model.victim(index)
            assert ctx.get(bench.victim) == 1 << victim, f"step {step}, set {index}"
            counted.add((index, victim))
            way = model.victim(touched) if rng.random() < 0.6 else rng.randrange(ways)
            enable, chosen = rng.random() < 0.8, rng.random() < 0.5
            ctx.set(bench.touched, touched)
            ctx.set(bench.ways, 1 << way)
            ctx.set(bench.enable, enable)
            ctx.set(bench.chosen, chosen)
            await ctx.tick()
            if enable:
                model.touch(touched, way, chosen)

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert len(counted) > 0.9 * SETS * ways  # of all ways of all sets that could have been seen as victims


def test_two_ways_of_plru_are_lru():
    """The same function and the same amount of state."""
    lru, plru = (replacement_policy(CacheConfig(ways=2, replacement=name)) for name in ("lru", "plru"))
    assert lru.bits == plru.bits == 1


@pytest.mark.parametrize(("ways", "lru", "plru"), [(1, 0, 0), (2, 1, 1), (4, 6, 3), (8, 28, 7)])
def test_bits_per_set(ways, lru, plru):
    assert replacement_policy(CacheConfig(ways=ways, replacement="lru")).bits == lru
    assert replacement_policy(CacheConfig(ways=ways, replacement="plru")).bits == plru


def test_period_of_random():
    """All states but 0 are visited: no seed falls into a short cycle."""
    model = NaiveRandom(2)
    state, period = 0xACE1, 0
    while period == 0 or state != 0xACE1:
        state = (state << 1 | (state >> 15 ^ state >> 13 ^ state >> 12 ^ state >> 10) & 1) & 0xFFFF
        period += 1
        assert period > 100 or state & 1 == model.bits[15 + period]
    assert period == 65535


@pytest.mark.parametrize("policy", NAIVE)
def test_converts(policy):
    for ways in (1, 2, 4, 8):
        assert rtlil.convert(Bench(CacheConfig(sets=SETS, ways=ways, replacement=policy)))


def test_seed_starts_the_sequence():
    """Another seed, another first victim."""
    bench = Bench(CacheConfig(sets=SETS, ways=8, replacement="random", replacement_seed=5))

    async def testbench(ctx):
        assert ctx.get(bench.victim) == 1 << 5

    simulator = Simulator(bench)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("cache", ["dcache", "icache"])
def test_configuration_refuses(cache):
    for values, text in (
        ({"replacement": "fifo"}, "replacement must be one of 'plru', 'lru', 'random', not 'fifo'"),
        ({"replacement_seed": 0}, "replacement_seed must be an integer from 1 to 65535, not 0"),
        ({"replacement_seed": 65536}, "replacement_seed must be an integer from 1 to 65535, not 65536"),
    ):
        with pytest.raises(ConfigError, match=f"^{cache}.{text}"):
            SocConfig(**{cache: CacheConfig(**values)})


@pytest.mark.parametrize("policy", NAIVE)
def test_icache(policy):
    """Fetches of seven lines of one set of four ways, one at a time: every install goes where the model says."""
    config = icache_bench.SMALL.replace(icache__ways=4, icache__replacement=policy)
    model, rng = NAIVE[policy](4), random.Random(5)
    numbers = [rng.randrange(7) for _ in range(80)]
    held, expected = [], []
    for number in numbers:
        if number not in held:
            way = len(held) if len(held) < 4 else model.victim(0)
            held[way : way + 1] = [number]
            expected.append((number, way))
            model.touch(0, way, True)
        else:
            model.touch(0, held.index(number), False)

    async def body(ctx, bench):
        stride = config.icache.sets * config.icache.line_bytes
        for number in numbers:
            await bench.read(ctx, icache_bench.BASE + number * stride)
            await ctx.tick().repeat(8)
        installs = bench.kinds(Kind.IFILL_INSTALL)
        assert [((record[3] - icache_bench.BASE) // stride, record[4] >> 8) for record in installs] == expected

    icache_bench.run(body, config)
