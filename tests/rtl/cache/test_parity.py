# SPDX-License-Identifier: BSD-2-Clause
"""Parity of tags and bytes: every single flip is found, and nothing is found without one."""

import random

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from rtl.cache.arrays import Arrays
from rtl.cache.native import Geometry
from rtl.cache.parity import parity_of
from rtl.config import CacheConfig, SocConfig

GEOMETRIES = [(32, 2, 4, 16, "none"), (64, 4, 2, 32, "none"), (128, 4, 1, 64, "snoop"), (32, 2, 2, 128, "none")]


def configuration(width, sets, ways, line, coherency="none"):
    cache = CacheConfig(sets=sets, ways=ways, line_bytes=line, parity=True)
    return SocConfig(data_width=width, coherency=coherency, dcache=cache, icache=CacheConfig(line_bytes=line))


def test_parity_of():
    m, value, out = Module(), Signal(16), Signal(2)
    m.d.comb += out.eq(parity_of(value))

    async def testbench(ctx):
        for n in (0, 1, 0xFF, 0x100, 0x8001, 0xFFFE, 0x0301):
            ctx.set(value, n)
            assert ctx.get(out) == (n & 0xFF).bit_count() % 2 | (n >> 8).bit_count() % 2 << 1

    sim = Simulator(m)
    sim.add_testbench(testbench)
    sim.run()


class Memories(wiring.Component):
    """The arrays with their ports as members."""

    def __init__(self, g):
        self.g, self.arrays = g, Arrays(g)
        super().__init__(
            {
                "index": In(g.index_bits),
                "word": In(g.word_bits),
                "tag": In(g.tag_bits),
                "data": In(g.data_width),
                "strobes": In(g.data_bytes),
                "tag_ways": In(g.ways),
                "word_ways": In(g.ways),
                "tag_upset": In(g.ways),
                "byte_upset": In(g.ways),
                "byte": In(range(g.data_bytes)),
                "bad_tags": Out(g.ways),
                "bad_words": Out(g.ways * g.banks),
            }
        )

    def elaborate(self, platform):
        m, g, arrays = Module(), self.g, self.arrays
        arrays.add(m)
        arrays.read_tags(m, self.index, 1)
        for bank in range(g.banks):
            arrays.read_bank(m, bank, g.row_of(self.index, self.word), 1)
        arrays.write_tag(m, self.index, self.tag, self.tag_ways, self.tag_upset)
        arrays.write_word(m, self.index, self.word, self.word_ways, self.data, self.strobes, None)
        arrays.parity.watch(m, self.index, self.word)
        arrays.parity.upset_byte(m, self.index, self.word, self.byte, self.byte_upset)
        m.d.comb += self.bad_tags.eq(arrays.bad_tags)
        for bank in range(g.banks):
            m.d.comb += self.bad_words[bank * g.ways : (bank + 1) * g.ways].eq(arrays.bad_words[bank])
        return m


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda n: "x".join(map(str, n)))
def test_random_flips(geometry):
    """Bits of tags, bytes and both parities flip at random between random writes; an odd number of flips is found, no other."""
    g = Geometry(configuration(*geometry))
    dut, rng = Memories(g), random.Random(1)
    tag_flips, byte_flips = {}, {}  # (set, way), (set, word, way, byte) -> how many
    found = {"tag": 0, "byte": 0}

    async def idle(ctx):
        for name in ("tag_ways", "word_ways", "tag_upset", "byte_upset"):
            ctx.set(getattr(dut, name), 0)

    async def flip(ctx, index, word, way):
        """One bit of the set's tag, or of the word, or of their parity, in the memory itself."""
        if rng.random() < 0.4:
            memory = rng.choice([dut.arrays.tag, dut.arrays.parity.tag])[way]
            row, width = memory.data[index], g.tag_bits if memory is dut.arrays.tag[way] else 1
            tag_flips[index, way] = tag_flips.get((index, way), 0) + 1
            ctx.set(row, ctx.get(row) ^ 1 << rng.randrange(width))
            return
        bank, at = word % g.banks, index * g.words // g.banks + word // g.banks
        byte = rng.randrange(g.data_bytes)
        if rng.random() < 0.5:
            row, bit = dut.arrays.data[way][bank].data[at], 8 * byte + rng.randrange(8)
        else:
            row, bit = dut.arrays.parity.data[way][bank].data[at], byte
        ctx.set(row, ctx.get(row) ^ 1 << bit)
        byte_flips[index, word, way, byte] = byte_flips.get((index, word, way, byte), 0) + 1

    async def testbench(ctx):
        for _ in range(600):
            index, word, way = rng.randrange(g.sets), rng.randrange(g.words), rng.randrange(g.ways)
            ctx.set(dut.index, index)
            ctx.set(dut.word, word)
            await ctx.tick()  # an upset reads before it writes
            what = rng.randrange(8)
            if what == 0:
                tag = rng.getrandbits(g.tag_bits)
                ctx.set(dut.tag, tag)
                ctx.set(dut.tag_ways, 1 << way)
                tag_flips[index, way] = 0
            elif what in (1, 2):
                strobes = rng.getrandbits(g.data_bytes)
                ctx.set(dut.data, rng.getrandbits(g.data_width))
                ctx.set(dut.strobes, strobes)
                ctx.set(dut.word_ways, 1 << way)
                byte_flips.update({(index, word, way, n): 0 for n in range(g.data_bytes) if strobes >> n & 1})
            elif what == 3:
                ctx.set(dut.tag, ctx.get(dut.arrays.tag[way].data[index]))
                if tag_flips.get((index, way), 0) % 2:
                    continue  # the hardware does so only with a tag that it has found good
                ctx.set(dut.tag_upset, 1 << way)
                tag_flips[index, way] = 1
            elif what == 4:
                byte = rng.randrange(g.data_bytes)
                ctx.set(dut.byte, byte)
                ctx.set(dut.byte_upset, 1 << way)
                byte_flips[index, word, way, byte] = byte_flips.get((index, word, way, byte), 0) + 1
            elif what == 5:
                await flip(ctx, index, word, way)
            await ctx.tick()
            await idle(ctx)
            await ctx.tick()
            bad_tags, bad_words = ctx.get(dut.bad_tags), ctx.get(dut.bad_words)
            for w in range(g.ways):
                odd = tag_flips.get((index, w), 0) % 2
                assert bad_tags >> w & 1 == odd
                found["tag"] += odd
                odd = any(byte_flips.get((index, word, w, n), 0) % 2 for n in range(g.data_bytes))
                assert bad_words >> (word % g.banks * g.ways + w) & 1 == odd
                found["byte"] += odd

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
    assert min(found.values()) > 20


@pytest.mark.parametrize("geometry", GEOMETRIES[:2], ids=lambda n: "x".join(map(str, n)))
def test_every_bit_of_a_tag_and_of_a_word_is_covered(geometry):
    g = Geometry(configuration(*geometry))
    dut = Memories(g)

    async def testbench(ctx):
        ctx.set(dut.tag, 0x155 & (1 << g.tag_bits) - 1)
        ctx.set(dut.data, 0x0123456789ABCDEF & (1 << g.data_width) - 1)
        ctx.set(dut.strobes, -1)
        ctx.set(dut.tag_ways, 1)
        ctx.set(dut.word_ways, 1)
        await ctx.tick()
        ctx.set(dut.tag_ways, 0)
        ctx.set(dut.word_ways, 0)
        await ctx.tick()
        await ctx.tick()
        assert ctx.get(dut.bad_tags) & 1 == ctx.get(dut.bad_words) & 1 == 0
        for row, width, bad in (
            (dut.arrays.tag[0].data[0], g.tag_bits, dut.bad_tags),
            (dut.arrays.parity.tag[0].data[0], 1, dut.bad_tags),
            (dut.arrays.data[0][0].data[0], g.data_width, dut.bad_words),
            (dut.arrays.parity.data[0][0].data[0], g.data_bytes, dut.bad_words),
        ):
            right = ctx.get(row)
            for bit in range(width):
                ctx.set(row, right ^ 1 << bit)
                await ctx.tick()
                assert ctx.get(bad) & 1, bit
            ctx.set(row, right)
            await ctx.tick()
            assert not ctx.get(bad) & 1

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
