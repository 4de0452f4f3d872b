# SPDX-License-Identifier: BSD-2-Clause
"""The write-back buffer alone: exact cycles from push to bus, room, uncached writes between lines, errors."""

import pytest
from amaranth.sim import Simulator

from rtl.axi.bus import CACHE_NORMAL, CACHE_UNCACHED, Resp
from rtl.cache.writeback import WriteBackBuffer
from rtl.config import CacheConfig, SocConfig

CONFIG = SocConfig(data_width=32)  # 8 words a line, 4 entries, room for the words of 2 lines
COHERENT = SocConfig(data_width=32, coherency="snoop")
BASE = CONFIG.memory.base


def word_of(line, word):
    return line << 8 | word


class Bench:
    """A buffer between an array that reads what is wanted and a log of AW and W; B is the test's."""

    def __init__(self, config=CONFIG):
        self.dut = WriteBackBuffer(config=config)
        self.cycle = 0
        self.reads, self.aw, self.w = [], [], []  # (cycle, ...) of the handshakes
        self.reading = {}  # set: line

    async def tick(self, ctx, count=1):
        """Passes cycles, in which the array answers and handshakes are noted."""
        dut = self.dut
        for _ in range(count):
            word, data = None, 0
            assert ctx.get(dut.room) == (ctx.get(dut.space) != 0)
            ctx.set(dut.read_grant, ctx.get(dut.read.valid))
            if ctx.get(dut.read.valid):
                line, word = self.reading[ctx.get(dut.read.index)], ctx.get(dut.read.word)
                self.reads.append((self.cycle, line, word, ctx.get(dut.read.way)))
                data = word_of(line, word)
            if ctx.get(dut.aw.valid) and ctx.get(dut.aw.ready):
                p = dut.aw.payload
                self.aw.append((self.cycle, *(ctx.get(p[name]) for name in ("addr", "id", "len", "size", "cache"))))
            if ctx.get(dut.w.valid) and ctx.get(dut.w.ready):
                p = dut.w.payload
                self.w.append((self.cycle, *(ctx.get(p[name]) for name in ("data", "strb", "last"))))
            await ctx.tick()
            self.cycle += 1
            ctx.set(dut.push.valid, 0)
            ctx.set(dut.read_data, 0 if word is None else data)

    async def push(self, ctx, line, way=1):
        dut = self.dut
        assert ctx.get(dut.space)
        self.reading[line & 63] = line
        ctx.set(dut.push, {"valid": 1, "line": line, "way": way})
        await self.tick(ctx)

    def ready(self, ctx, value=1):
        for stream in (self.dut.aw, self.dut.w):
            ctx.set(stream.ready, value)

    def run(self, testbench):
        async def main(ctx):
            await testbench(ctx, self, self.dut)

        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_testbench(main)
        sim.run()


def beats(lines, start):
    """What W carries for whole lines without a gap."""
    words = [(line, word) for line in lines for word in range(8)]
    return [(start + n, word_of(line, word), 0xF, int(word == 7)) for n, (line, word) in enumerate(words)]


@pytest.mark.parametrize("config", [CONFIG, COHERENT])
def test_a_line_is_read_from_the_next_cycle_on_and_sent_without_a_gap(config):
    async def testbench(ctx, bench, dut):
        bench.ready(ctx)
        await bench.push(ctx, 0x105, way=2)
        await bench.push(ctx, 0x206)
        assert ctx.get(dut.occupied) == ctx.get(dut.unread) == 3
        await bench.tick(ctx, 25)
        assert bench.reads == [(1 + n, 0x105, n, 2) for n in range(8)] + [(9 + n, 0x206, n, 1) for n in range(8)]
        assert bench.aw == [(2, BASE + 0x105 * 32, 2, 7, 2, CACHE_NORMAL), (3, BASE + 0x206 * 32, 2, 7, 2, CACHE_NORMAL)]
        assert bench.w == beats([0x105, 0x206], 3)
        assert ctx.get(dut.occupied) == 3 and not ctx.get(dut.unread), "until memory has answered"

    Bench(config).run(testbench)


def test_what_was_pushed_is_read_whatever_memory_does():
    """A fill's beats wait for it, and memory may take no write before it got rid of those."""

    async def testbench(ctx, bench, dut):
        pushed = 0
        while ctx.get(dut.space):
            await bench.push(ctx, 0x100 + pushed)
            pushed += 1
        assert pushed == 2, "room for 16 words"
        await bench.tick(ctx, 20)
        assert len(bench.reads) == 16 and not ctx.get(dut.unread)
        assert not bench.aw and not bench.w and ctx.get(dut.aw.valid)
        bench.ready(ctx)
        await bench.tick(ctx, 8)
        assert ctx.get(dut.space) == 1, "the words of one line have left"

    Bench().run(testbench)


@pytest.mark.parametrize("words", [8, 16, 32])
def test_room_is_two_lines_at_least(words):
    config = SocConfig(data_width=32, dcache=CacheConfig(line_bytes=words * 4), icache=CacheConfig(line_bytes=words * 4))

    async def testbench(ctx, bench, dut):
        assert ctx.get(dut.space) == 2
        await bench.push(ctx, 1)
        assert ctx.get(dut.space) == 1
        await bench.push(ctx, 2)
        await bench.tick(ctx, 2 * words)
        assert not ctx.get(dut.unread)

    Bench(config).run(testbench)


@pytest.mark.parametrize("entries", [1, 3, 4, 8])
def test_entries_are_freed_in_their_order(entries):
    config = SocConfig(data_width=128, dcache=CacheConfig(write_buffer_lines=entries))

    async def testbench(ctx, bench, dut):
        bench.ready(ctx)
        assert ctx.get(dut.space) == entries
        for n in range(3 * entries):
            await bench.push(ctx, n)
            if n < entries - 1:
                assert ctx.get(dut.space) == entries - 1 - n
                continue
            await bench.tick(ctx, 20)
            assert ctx.get(dut.space) == 0 and ctx.get(dut.occupied) == (1 << entries) - 1
            ctx.set(dut.b.payload, {"id": 2, "resp": Resp.OKAY})
            ctx.set(dut.b.valid, 1)
            assert ctx.get(dut.b.ready) and ctx.get(dut.done.valid) and not ctx.get(dut.done.error)
            assert ctx.get(dut.done.line) == n - entries + 1
            assert ctx.get(dut.lines[ctx.get(dut.done.index).bit_length() - 1]) == n - entries + 1
            await bench.tick(ctx)
            ctx.set(dut.b.valid, 0)
            assert ctx.get(dut.space) == 1

    Bench(config).run(testbench)


def test_w_is_never_ahead_of_the_aw_that_is_shown():
    async def testbench(ctx, bench, dut):
        ctx.set(dut.w.ready, 1)
        await bench.push(ctx, 1)
        await bench.push(ctx, 2)
        await bench.tick(ctx, 30)
        assert len(bench.w) == 8, "the second line's AW is not shown before the first has been taken"
        ctx.set(dut.aw.ready, 1)
        await bench.tick(ctx, 20)
        assert bench.w == beats([1], 3) + beats([2], bench.aw[0][0] + 1)

    Bench().run(testbench)


@pytest.mark.parametrize("config", [CONFIG, COHERENT])
def test_an_uncached_write_goes_behind_the_lines_before_it_and_before_later_ones(config):
    async def testbench(ctx, bench, dut):
        bench.ready(ctx)
        direct = dut.direct
        await bench.push(ctx, 1)
        ctx.set(direct.payload, {"addr": 0x4000_0006, "size": 1, "data": 0xABCD0000, "strb": 0b1100})
        ctx.set(direct.valid, 1)
        while not ctx.get(direct.ready):
            assert ctx.get(dut.space) == 0
            await bench.tick(ctx)
        ready = bench.cycle
        assert ready == bench.w[-1][0] + 1 + (not config.coherent) == 12 - config.coherent
        await bench.tick(ctx)
        ctx.set(direct.valid, 0)
        await bench.push(ctx, 2)
        await bench.tick(ctx, 20)
        assert bench.aw[1] == (ready + 1, 0x4000_0006, 3, 0, 1, CACHE_UNCACHED)
        assert bench.w == [*beats([1], 3), (ready + 1, 0xABCD0000, 0b1100, 1), *beats([2], ready + 4)]
        assert bench.aw[2][1:] == (BASE + 2 * 32, 2, 7, 2, CACHE_NORMAL)
        ctx.set(dut.b.payload, {"id": 3, "resp": Resp.DECERR})
        ctx.set(dut.b.valid, 1)
        assert not ctx.get(dut.b.ready) and not ctx.get(dut.done.valid)
        ctx.set(dut.direct_take, 1)
        assert ctx.get(dut.b.ready) and ctx.get(dut.direct_rsp.valid)
        assert Resp(ctx.get(dut.direct_rsp.resp)) == Resp.DECERR

    Bench(config).run(testbench)


def test_an_answer_that_is_an_error_waits_one_cycle_and_names_its_line():
    async def testbench(ctx, bench, dut):
        bench.ready(ctx)
        await bench.push(ctx, 0x123)
        await bench.push(ctx, 0x456)
        await bench.tick(ctx, 20)
        ctx.set(dut.b.payload, {"id": 2, "resp": Resp.OKAY})
        ctx.set(dut.b.valid, 1)
        await bench.tick(ctx)
        ctx.set(dut.b.payload, {"id": 2, "resp": Resp.SLVERR})
        assert not ctx.get(dut.b.ready) and not ctx.get(dut.done.valid)
        await bench.tick(ctx)
        assert ctx.get(dut.b.ready) and ctx.get(dut.done.valid) and ctx.get(dut.done.error)
        assert ctx.get(dut.done.index) == 0b10 and ctx.get(dut.failed_line) == ctx.get(dut.done.line) == 0x456
        await bench.tick(ctx)
        ctx.set(dut.b.valid, 0)
        assert not ctx.get(dut.occupied)

    Bench().run(testbench)


def test_a_snoop_sees_all_words_of_an_entry_once_they_have_been_read():
    async def testbench(ctx, bench, dut):
        for n in range(4):
            await bench.push(ctx, n + 1)
        assert not ctx.get(dut.peek_ready)
        await bench.tick(ctx, 30)
        assert ctx.get(dut.peek_ready), "32 words, one per cycle, from the first push on"
        for n in range(4):
            ctx.set(dut.peek_index, n)
            words = [ctx.get(dut.peek_data) >> 32 * k & 0xFFFFFFFF for k in range(8)]
            assert words == [word_of(n + 1, k) for k in range(8)]

    Bench(COHERENT).run(testbench)
