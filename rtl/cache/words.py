# SPDX-License-Identifier: BSD-2-Clause
"""The words of lines on their way from the array to memory: a queue, or with snoops a store where every line keeps its place."""

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import Geometry
from .ring import Ring

__all__ = ["LineStore", "WordQueue", "kept_lines"]


def kept_lines(config: SocConfig) -> int:
    """How many lines have room between array and bus: all that the buffer holds if a snoop may ask for them, else 16 words' worth
    but two lines at least, so that one is read while the other is sent."""
    entries, words = config.dcache.write_buffer_lines, config.dcache.line_bytes // config.data_bytes
    return entries if config.coherent else min(entries, max(2, 16 // words))


class WordQueue(wiring.Component):
    """A queue of words: what is put in can be taken out from the next cycle on.

    Members
    -------
    put, data : appends a word; the owner knows that there is room.
    valid, word : the oldest one. take : removes it.
    """

    def __init__(self, *, config: SocConfig):
        g = Geometry(config)
        super().__init__(
            {"put": In(1), "data": In(g.data_width), "valid": Out(1), "word": Out(g.data_width), "take": In(1)},
        )
        # A power of two, for the sake of the rings.
        self._depth = 1 << (kept_lines(config) * g.words - 1).bit_length()
        self._words = Memory(shape=g.data_width, depth=self._depth, init=[])

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self._words
        write, read = self._words.write_port(), self._words.read_port(domain="comb")
        put_at, get_at = Ring(self._depth, name="put_at"), Ring(self._depth, name="get_at")
        # A word is known late: it is written a cycle later, and may be the oldest one before it is.
        late, late_at, writes, word_is_late = Signal.like(self.data, reset_less=True), Signal.like(put_at.row), Signal(), Signal()
        runs_out = Signal()  # but for what is put in
        m.d.comb += [
            write.addr.eq(late_at),
            write.data.eq(late),
            write.en.eq(writes),
            read.addr.eq(get_at.row),
            self.word.eq(Mux(word_is_late, late, read.data)),
            runs_out.eq(self.take & (get_at.following() == put_at.row)),
        ]
        m.d.sync += [
            late.eq(self.data),
            late_at.eq(put_at.row),
            writes.eq(self.put),
            word_is_late.eq(~self.valid | runs_out),
            self.valid.eq(self.put | (self.valid & ~runs_out)),
        ]
        with m.If(self.put):
            m.d.sync += put_at.row.eq(put_at.following())
        with m.If(self.take):
            m.d.sync += get_at.row.eq(get_at.following())
        return m


class LineStore(wiring.Component):
    """A place for every line of the buffer, where its words stay until the next line is put there.

    Members
    -------
    put, line, index, data : word ``index`` of the line at place ``line``, in their order.
    valid, word, take : as in :class:`WordQueue`.
    peek_line, peek_data : all words of the line at a place, in the same cycle.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        n = self._places = config.dcache.write_buffer_lines
        super().__init__(
            {
                "put": In(1),
                "line": In(range(n)),
                "index": In(g.word_bits),
                "data": In(g.data_width),
                "valid": Out(1),
                "word": Out(g.data_width),
                "take": In(1),
                "peek_line": In(range(n)),
                "peek_data": Out(g.line_bytes * 8),
            }
        )
        self._words = [Memory(shape=g.data_width, depth=1 << (n - 1).bit_length(), init=[]) for _ in range(g.words)]

    def elaborate(self, platform):
        m = Module()
        g = self._g
        get_line, get_index = Ring(self._places, name="get_line"), Signal(g.word_bits)
        level = Signal(range(self._places * g.words + 1))
        word = Const(0)
        for n, memory in enumerate(self._words):
            m.submodules[f"memory_{n}"] = memory
            write = memory.write_port()
            read, peek = memory.read_port(domain="comb"), memory.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(self.line),
                write.data.eq(self.data),
                write.en.eq(self.put & (self.index == n)),
                read.addr.eq(get_line.row),
                peek.addr.eq(self.peek_line),
                self.peek_data.word_select(n, g.data_width).eq(peek.data),
            ]
            word = word | Mux(get_index == n, read.data, 0)
        m.d.comb += [self.word.eq(word), self.valid.eq(level != 0)]
        m.d.sync += level.eq(level + self.put - self.take)
        with m.If(self.take):
            m.d.sync += get_index.eq(get_index + 1)
            with m.If(get_index == g.words - 1):
                m.d.sync += get_line.row.eq(get_line.following())
        return m
