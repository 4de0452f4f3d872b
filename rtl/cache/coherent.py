# SPDX-License-Identifier: BSD-2-Clause
"""What coherency adds to the D-cache: the snoop port, and the invalidation of I-cache lines that the CPU stores to."""

from amaranth import Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from ..probe import Cause
from .native import AuxOp, AuxSignature, Geometry, add_pending
from .ports import BLOCKED_LINES, InvalidateSignature, SnoopOp, SnoopSignature
from .ring import Ring

__all__ = ["SnoopPort", "StoreInvalidator"]


class SnoopPort(wiring.Component):
    """Turns snoop requests into pipeline operations; one at a time, response one cycle after the operation.

    A write blocks its line from its lookup on until its ``release``; with :data:`~rtl.cache.ports.BLOCKED_LINES` of them a
    further write waits for one, reads do not. Addresses outside the memory window are answered "not dirty" without a lookup;
    a write there is released like any other.

    Members
    -------
    dirty, data : the pipeline's result, sampled with ``aux.done``.
    blocked, blocked_sets : which places hold a write that has not been released, and the sets of their lines.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        super().__init__(
            {
                "snoop": In(SnoopSignature(g.line_bytes)),
                "aux": Out(AuxSignature(g.line_bits)),
                "dirty": In(1),
                "data": In(g.line_bytes * 8),
                "blocked": Out(BLOCKED_LINES),
                "blocked_sets": Out(data.ArrayLayout(g.index_bits, BLOCKED_LINES)),
            }
        )

    def blocks(self, index: Value) -> list[Value]:
        """Per place: does it refuse operations on the set ``index``?"""
        return [self.blocked[n] & (self.blocked_sets[n] == index) for n in range(BLOCKED_LINES)]

    def elaborate(self, platform):
        m = Module()
        g, aux = self._g, self.aux
        req, rsp = self.snoop.req, self.snoop.rsp
        write, window, ready, may = Signal(), Signal(), Signal(), Signal()
        pending = add_pending(m, aux)
        m.d.comb += [
            write.eq(req.payload.op == SnoopOp.WRITE),
            window.eq(g.in_window(req.payload.addr)),
            ready.eq(req.valid & ~rsp.valid),
            aux.line.eq(g.line_of(req.payload.addr)),
            may.eq(ready & ~(write & self.blocked.all())),
            aux.valid.eq(may & window & ~pending),
            req.ready.eq(aux.done | (may & ~window)),
        ]
        with m.If(write):
            m.d.comb += aux.op.eq(AuxOp.SNOOP_WRITE)
        with m.Else():
            m.d.comb += aux.op.eq(AuxOp.SNOOP_READ)
        with m.If(rsp.ready):
            m.d.sync += rsp.valid.eq(0)
        with m.If(req.ready):
            m.d.sync += [rsp.valid.eq(1), rsp.payload.dirty.eq(window & self.dirty), rsp.payload.data.eq(self.data)]
        put_at, get_at = Ring(BLOCKED_LINES, name="put_at"), Ring(BLOCKED_LINES, name="get_at")
        with m.If(self.snoop.release):
            m.d.sync += [self.blocked.bit_select(get_at.row, 1).eq(0), get_at.row.eq(get_at.following())]
        with m.If(req.ready & write):
            m.d.sync += [
                self.blocked.bit_select(put_at.row, 1).eq(1),
                self.blocked_sets[put_at.row].eq(g.set_of(aux.line)),
                put_at.row.eq(put_at.following()),
            ]
        return m


class StoreInvalidator(wiring.Component):
    """Remembers one line that the CPU has stored to, until the I-cache has dropped it.

    Stores to the remembered line join it, so a burst costs one invalidation. The request is sent once the burst's last
    beat was stored, or when ``flush`` says that someone waits; then it stays until accepted.

    Members
    -------
    line, want, free : a store to ``line`` wants to be performed; ``free``: it may.
    note, last : it was performed; it was the last beat of its burst.
    flush : send now. busy : an invalidation is owed.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        super().__init__(
            {
                "want": In(1),
                "note": In(1),
                "line": In(g.line_bits),
                "last": In(1),
                "flush": In(1),
                "free": Out(1),
                "busy": Out(1),
                "inv": Out(InvalidateSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        remembered = Signal(self._g.line_bits)
        send = Signal()
        m.d.comb += [
            self.free.eq(~self.busy | (remembered == self.line)),
            self.inv.req.valid.eq(self.busy & send),
            self.inv.req.payload.addr.eq(self._g.address_of(remembered)),
            self.inv.req.payload.cause.eq(Cause.SNOOP),
        ]
        with m.If(self.flush | (self.want & ~self.free)):
            m.d.sync += send.eq(1)
        with m.If(self.inv.req.valid & self.inv.req.ready):
            m.d.sync += [self.busy.eq(0), send.eq(0)]
        with m.If(self.note):
            m.d.sync += [self.busy.eq(1), remembered.eq(self.line)]
            with m.If(self.last):
                m.d.sync += send.eq(1)
        return m
