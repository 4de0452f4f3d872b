# SPDX-License-Identifier: BSD-2-Clause
"""Accesses of the CPU that have been looked up but not answered yet, in their order."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import Geometry

__all__ = ["CompletionQueue", "EntryLayout"]


class EntryLayout(data.StructLayout):
    """An access: ``parked`` until its line has come (``slots``: the fill it waits for, one-hot), or performed already."""

    def __init__(self, g: Geometry, *, slots: int, meta_width: int):
        super().__init__(
            {
                "parked": 1,
                "we": 1,
                "line": g.line_bits,
                "word": g.word_bits,
                "strb": g.data_bytes,
                "slots": slots,
                "meta": meta_width,
            }
        )


class CompletionQueue(wiring.Component):
    """A FIFO of accesses whose first entry is visible; what its responses carry can be replaced at the head.

    Members
    -------
    push, entry, data, tag, primary : appends an entry in the next cycle; only while not ``full``. ``data``: what a store
        writes, or what a load has returned. ``tag`` and ``primary`` (it started a fill) are for records only.
    settle : the head's ``data`` becomes the pushed ``data`` (so not together with ``push``).
    pop : removes the head.
    empty, full, head, head_data, head_tag, head_primary : the oldest entry.
    head_at, tail_at : positions of the head and of the next push.
    """

    DEPTH = 16

    def __init__(self, *, config: SocConfig, slots: int, meta_width: int):
        g = Geometry(config)
        depth = self.DEPTH
        self._shape = EntryLayout(g, slots=slots, meta_width=meta_width)
        super().__init__(
            {
                "push": In(1),
                "entry": In(self._shape),
                "data": In(g.data_width),
                "tag": In(16),
                "primary": In(1),
                "settle": In(1),
                "pop": In(1),
                "empty": Out(1, init=1),
                "full": Out(1),
                "head": Out(self._shape),
                "head_data": Out(g.data_width),
                "head_tag": Out(16),
                "head_primary": Out(1),
                "head_at": Out(range(depth)),
                "tail_at": Out(range(depth)),
            }
        )
        self._entries = Memory(shape=self._shape, depth=depth, init=[])
        self._data = Memory(shape=g.data_width, depth=depth, init=[])
        # Apart, so that it costs nothing where records are not looked at.
        self._notes = Memory(shape=17, depth=depth, init=[])

    def elaborate(self, platform):
        m = Module()
        m.submodules.entries, m.submodules.data, m.submodules.notes = self._entries, self._data, self._notes
        put, get = self._entries.write_port(), self._entries.read_port(domain="comb")
        put_data, get_data = self._data.write_port(), self._data.read_port(domain="comb")
        put_note, get_note = self._notes.write_port(), self._notes.read_port(domain="comb")
        level = Signal(range(self.DEPTH + 1))
        after = Signal(range(self.DEPTH + 1))
        m.d.comb += after.eq(level + self.push - self.pop)
        m.d.sync += [level.eq(after), self.empty.eq(after == 0), self.full.eq(after == self.DEPTH)]
        with m.If(self.push):
            m.d.sync += self.tail_at.eq(self.tail_at + 1)
        with m.If(self.pop):
            m.d.sync += self.head_at.eq(self.head_at + 1)
        m.d.comb += [
            put.addr.eq(self.tail_at),
            put.data.eq(self.entry),
            put.en.eq(self.push),
            put_note.addr.eq(self.tail_at),
            put_note.data.eq(Cat(self.tag, self.primary)),
            put_note.en.eq(self.push),
            put_data.addr.eq(self.tail_at),
            put_data.data.eq(self.data),
            put_data.en.eq(self.push | self.settle),
            get.addr.eq(self.head_at),
            get_data.addr.eq(self.head_at),
            get_note.addr.eq(self.head_at),
            self.head.eq(get.data),
            self.head_data.eq(get_data.data),
            self.head_tag.eq(get_note.data[:16]),
            self.head_primary.eq(get_note.data[16]),
        ]
        with m.If(self.settle):
            m.d.comb += put_data.addr.eq(self.head_at)
        return m
