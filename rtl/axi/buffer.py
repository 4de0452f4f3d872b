# SPDX-License-Identifier: BSD-2-Clause
"""Small stream helpers. For deep queues, which should live in RAM, take ``amaranth.lib.fifo.SyncFIFOBuffered``."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ShiftQueue"]


class ShiftQueue(wiring.Component):
    """A first-in first-out queue of a few elements in flip-flops, whose outputs all come straight from flip-flops.

    One element per cycle in and out; an element is at the output one cycle after its arrival in an empty queue. ``i.ready``
    does not depend on ``o.ready``: a full queue that gives an element takes the next one a cycle later.

    Parameters
    ----------
    shape : shape of an element.
    depth : elements, 1 to 64 (full throughput needs 2 or more).

    Members
    -------
    i, o : ``In`` / ``Out`` streams of ``shape``.
    level : ``Out``, elements held.

    Raises
    ------
    ValueError
        If ``depth`` is out of range.
    """

    def __init__(self, shape, *, depth: int):
        if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= 64:
            raise ValueError(f"Queue depth must be an integer from 1 to 64, not {depth!r}")
        self._shape, self._depth = shape, depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))})

    def elaborate(self, platform):
        m = Module()
        slots = [Signal(self._shape, name=f"slot_{n}") for n in range(self._depth)]
        held = [Signal(name=f"held_{n}") for n in range(self._depth)]
        push = Signal()
        pop = Signal()
        m.d.comb += [
            self.i.ready.eq(~held[-1]),
            self.o.valid.eq(held[0]),
            self.o.payload.eq(slots[0]),
            push.eq(self.i.valid & self.i.ready),
            pop.eq(self.o.valid & self.o.ready),
        ]
        for n in range(self._depth):
            below = held[n - 1] if n else 1  # with `held` a thermometer code, the first free slot is above the last held one
            beyond = n + 1 < self._depth
            with m.If(pop):
                m.d.sync += held[n].eq((held[n + 1] if beyond else 0) | (push & held[n]))
                if beyond:
                    m.d.sync += slots[n].eq(slots[n + 1])
                with m.If(push & held[n] & ~(held[n + 1] if beyond else Const(0))):
                    m.d.sync += slots[n].eq(self.i.payload)
            with m.Elif(push & below & ~held[n]):
                m.d.sync += [held[n].eq(1), slots[n].eq(self.i.payload)]
        with m.If(push & ~pop):
            m.d.sync += self.level.eq(self.level + 1)
        with m.Elif(pop & ~push):
            m.d.sync += self.level.eq(self.level - 1)
        return m
