# SPDX-License-Identifier: BSD-2-Clause
"""A small stream FIFO on a memory with a synchronous read port."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import ConfigError

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First in, first out, one item per cycle; an item is at ``o`` one cycle after it was taken.

    With ``bypass`` an item is at ``o`` in the same cycle while the queue is empty, and is stored only if it is not taken.
    ``clear`` empties it and wins over a push. ``level`` counts stored items. The items are in the memory ``storage``.

    Parameters
    ----------
    shape : of an item.
    depth : items, a power of two from 2.
    bypass : see above.
    """

    def __init__(self, shape: ShapeLike, *, depth: int, bypass: bool = False):
        if depth < 2 or depth & (depth - 1):
            raise ConfigError(f"Queue depth must be a power of two from 2, not {depth!r}")
        self._shape, self._depth, self._bypass = shape, depth, bypass
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "clear": In(1),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = Memory(shape=self._shape, depth=self._depth, init=[])
        write = storage.write_port()
        read = storage.read_port(transparent_for=(write,))
        head, tail = Signal(range(self._depth)), Signal(range(self._depth))
        filled, store, pop = Signal(), Signal(), Signal()
        m.d.comb += [
            filled.eq(self.level != 0),
            self.i.ready.eq(self.level != self._depth),
            pop.eq(filled & self.o.ready),
            write.addr.eq(tail),
            write.data.eq(self.i.payload),
            write.en.eq(store),
            read.en.eq(1),
            read.addr.eq((head + pop)[: len(head)]),
        ]
        if self._bypass:
            m.d.comb += [
                self.o.valid.eq(filled | self.i.valid),
                self.o.payload.eq(Mux(filled, read.data, self.i.payload)),
                store.eq(self.i.valid & self.i.ready & (filled | ~self.o.ready)),
            ]
        else:
            m.d.comb += [
                self.o.valid.eq(filled),
                self.o.payload.eq(read.data),
                store.eq(self.i.valid & self.i.ready),
            ]
        m.d.sync += [
            head.eq(head + pop),
            tail.eq(tail + store),
            self.level.eq(self.level + store - pop),
        ]
        with m.If(self.clear):
            m.d.sync += [head.eq(0), tail.eq(0), self.level.eq(0)]
        return m
