# SPDX-License-Identifier: BSD-2-Clause
"""Accesses of the CPU that have been looked up but not answered yet, in their order."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import Geometry
from .ring import Ring

__all__ = ["CompletionQueue", "EntryLayout"]


class EntryLayout(data.StructLayout):
    """An access: ``parked`` until its line has come, or performed already (with parity: or found ``bad``, and answered so)."""

    def __init__(self, g: Geometry, *, meta_width: int):
        bad = {"bad": 1} if g.parity else {}
        super().__init__(
            {"parked": 1, "we": 1, "line": g.line_bits, "word": g.word_bits, "strb": g.data_bytes, "meta": meta_width} | bad
        )


class CompletionQueue(wiring.Component):
    """A FIFO of accesses whose first entry is visible; what its responses carry can be replaced at the head.

    Members
    -------
    push, entry, data : appends an entry in the next cycle; only while not ``full``. ``data``: what a store writes, or what a
        load has returned.
    mark, mark_at, slots, tag, primary : writes what is known about a parked entry only later: ``slots``, the fill that it waits
        for (one-hot). ``tag`` and ``primary`` (it started a fill) are for records only.
    settle : the head's ``data`` becomes the pushed ``data`` (so not together with ``push``).
    pop : removes the head.
    empty, full, single : no entry, no place, one entry.
    late, head_is_late : the head's data were written in the cycle before, and stand here, not yet in ``head_data``.
    head, head_data, head_slots, head_tag, head_primary : the oldest entry.
    head_at, tail_at : rows of the head and of the next push (a :class:`~rtl.cache.ring.Ring`'s).
    """

    DEPTH = 16

    def __init__(self, *, config: SocConfig, slots: int, meta_width: int):
        g = Geometry(config)
        depth = self.DEPTH
        self._shape = EntryLayout(g, meta_width=meta_width)
        super().__init__(
            {
                "push": In(1),
                "entry": In(self._shape),
                "data": In(g.data_width),
                "mark": In(1),
                "mark_at": In(range(depth)),
                "slots": In(slots),
                "tag": In(16),
                "primary": In(1),
                "settle": In(1),
                "pop": In(1),
                "empty": Out(1, init=1),
                "full": Out(1),
                "single": Out(1),
                "head": Out(self._shape),
                "head_data": Out(g.data_width),
                "late": Out(g.data_width),
                "head_is_late": Out(1),
                "head_slots": Out(slots),
                "head_tag": Out(16),
                "head_primary": Out(1),
                "head_at": Out(range(depth)),
                "tail_at": Out(range(depth)),
            }
        )
        self._entries = Memory(shape=self._shape, depth=depth, init=[])
        self._data = Memory(shape=g.data_width, depth=depth, init=[])
        self._slots = Memory(shape=slots, depth=depth, init=[])
        # Apart, so that it costs nothing where records are not looked at.
        self._notes = Memory(shape=17, depth=depth, init=[])

    def elaborate(self, platform):
        m = Module()
        memories = {"entries": self._entries, "data": self._data, "slots": self._slots, "notes": self._notes}
        # Data are known late, and there are many: they are written a cycle later.
        late, late_at, writes_late = Signal.like(self.data, reset_less=True), Signal.like(self.tail_at), Signal()
        put, get = {}, {}
        for name, memory in memories.items():
            m.submodules[name] = memory
            put[name], get[name] = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [put[name].addr.eq(self.tail_at), get[name].addr.eq(self.head_at)]
        # Whether an entry comes or goes is known late, so what follows in either case is prepared.
        tail, head = Ring(self.DEPTH, name="tail"), Ring(self.DEPTH, name="head")
        m.d.comb += [self.tail_at.eq(tail.row), self.head_at.eq(head.row)]
        grows, shrinks, stays = self.push & ~self.pop, self.pop & ~self.push, ~(self.push ^ self.pop)
        m.d.sync += [
            self.empty.eq((self.empty | self.pop) & ~self.push & (self.single | ~self.pop)),
            self.single.eq((grows & self.empty) | (shrinks & (head.following(2) == tail.row)) | (stays & self.single)),
            self.full.eq((grows & (tail.following() == head.row)) | (stays & self.full)),
        ]
        with m.If(self.push):
            m.d.sync += tail.row.eq(tail.following())
        with m.If(self.pop):
            m.d.sync += head.row.eq(head.following())
        m.d.comb += [
            put["entries"].data.eq(self.entry),
            put["entries"].en.eq(self.push),
            put["data"].addr.eq(late_at),
            put["data"].data.eq(late),
            put["data"].en.eq(writes_late),
            put["slots"].addr.eq(self.mark_at),
            put["slots"].data.eq(self.slots),
            put["slots"].en.eq(self.mark),
            put["notes"].addr.eq(self.mark_at),
            put["notes"].data.eq(Cat(self.tag, self.primary)),
            put["notes"].en.eq(self.mark),
            self.head.eq(get["entries"].data),
            self.head_data.eq(get["data"].data),
            self.head_slots.eq(get["slots"].data),
            self.head_tag.eq(get["notes"].data[:16]),
            self.head_primary.eq(get["notes"].data[16]),
        ]
        m.d.sync += [
            late.eq(self.data),
            writes_late.eq(self.push | self.settle),
            late_at.eq(Mux(self.settle, self.head_at, self.tail_at)),
            self.head_is_late.eq(self.settle | self.empty | (self.single & self.pop)),
        ]
        m.d.comb += self.late.eq(late)
        return m
