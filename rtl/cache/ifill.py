# SPDX-License-Identifier: BSD-2-Clause
"""The I-cache's line fill: a slot that collects the beats of a line, and the read channels of ``m_axi``."""

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, AXI4Signature, Burst, Resp
from ..config import SocConfig
from .native import Geometry

__all__ = ["FetchFill", "SlotLayout"]

_FILL_ID, _DIRECT_ID = 0, 3


class SlotLayout(data.StructLayout):
    """A fill slot. ``active`` from allocation to ``finish``; ``have`` marks the beats that have come without error."""

    def __init__(self, g: Geometry):
        super().__init__(
            {
                "active": 1,
                "complete": 1,  # every beat has come
                "error": 1,  # one came with a bus error
                "drop": 1,  # must not be installed
                "line": g.line_bits,
                "way": g.ways,  # one-hot
                "have": g.words,
                "data": g.line_bytes * 8,
            }
        )


class FetchFill(wiring.Component):
    """Fetches one line at a time, and single uncached beats, over AR and R.

    An allocation makes AR valid in the next cycle: a WRAP burst from the missed beat, or an INCR burst from the line's start
    where a line has more beats than a WRAP burst may have (16). A fill's AR goes before an uncached one. R is always ready.

    Members
    -------
    alloc : ``valid line word way``: the slot must be inactive.
    slot : its state; a beat is in ``data`` one cycle after its R handshake.
    beat : the beat that arrives in this cycle: ``valid word error data`` (fills only).
    finish, drop : one cycle: free the slot / do not install it.
    direct : an uncached read ``addr size``; its response follows as ``direct_rsp`` ``valid data resp`` for one cycle.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        axi = AXI4Signature(data_width=g.data_width, id_width=2)
        super().__init__(
            {
                "alloc": In(data.StructLayout({"valid": 1, "line": g.line_bits, "word": g.word_bits, "way": g.ways})),
                "slot": Out(SlotLayout(g)),
                "beat": Out(data.StructLayout({"valid": 1, "word": g.word_bits, "error": 1, "data": g.data_width})),
                "finish": In(1),
                "drop": In(1),
                "direct": In(stream.Signature(data.StructLayout({"addr": 32, "size": 3}))),
                "direct_rsp": Out(data.StructLayout({"valid": 1, "data": g.data_width, "resp": Resp})),
                "ar": Out(stream.Signature(axi.ax_layout)),
                "r": In(stream.Signature(axi.r_layout)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g, slot = self._g, self.slot
        wraps = g.words <= 16
        todo = Signal()  # AR still to be issued
        first, left = Signal(g.word_bits), Signal(range(g.words + 1))  # word of the next beat; beats to come

        # --- AR: a payload that was shown stays until it is taken
        direct_busy = Signal()  # its R has not come
        shown, held, fill = Signal(), Signal(), Signal()
        ar = self.ar.payload
        m.d.comb += [fill.eq(Mux(shown, held, todo)), self.ar.valid.eq(todo | (self.direct.valid & ~direct_busy))]
        m.d.sync += [shown.eq(self.ar.valid & ~self.ar.ready), held.eq(fill)]
        with m.If(fill):
            m.d.comb += [
                ar.id.eq(_FILL_ID),
                ar.addr.eq(g.address_of(slot.line) | (first << g.byte_bits if wraps else Const(0))),
                ar.len.eq(g.words - 1),
                ar.size.eq(g.size_code),
                ar.burst.eq(Burst.WRAP if wraps else Burst.INCR),
                ar.cache.eq(CACHE_NORMAL),
            ]
            with m.If(self.ar.ready):
                m.d.sync += todo.eq(0)
        with m.Else():
            m.d.comb += [
                ar.id.eq(_DIRECT_ID),
                ar.addr.eq(self.direct.payload.addr),
                ar.size.eq(self.direct.payload.size),
                ar.burst.eq(Burst.INCR),
                ar.cache.eq(CACHE_UNCACHED),
                self.direct.ready.eq(self.ar.ready & ~direct_busy),
            ]
            with m.If(self.ar.valid & self.ar.ready):
                m.d.sync += direct_busy.eq(1)

        # --- R
        r = self.r.payload
        bad = Signal()
        m.d.comb += [
            self.r.ready.eq(1),
            bad.eq(r.resp.as_value()[1]),
            self.beat.valid.eq(self.r.valid & (r.id == _FILL_ID)),
            self.beat.word.eq(first),
            self.beat.error.eq(bad),
            self.beat.data.eq(r.data),
            self.direct_rsp.valid.eq(self.r.valid & (r.id == _DIRECT_ID)),
            self.direct_rsp.data.eq(r.data),
            self.direct_rsp.resp.eq(r.resp),
        ]
        with m.If(self.direct_rsp.valid):
            m.d.sync += direct_busy.eq(0)
        with m.If(self.beat.valid):
            m.d.sync += [first.eq(first + 1), left.eq(left - 1), slot.complete.eq(left == 1)]
            with m.If(bad):
                m.d.sync += slot.error.eq(1)
            for word in range(g.words):
                with m.If(first == word):
                    m.d.sync += [slot.have[word].eq(~bad), slot.data.word_select(word, g.data_width).eq(r.data)]
        with m.If(self.drop):
            m.d.sync += slot.drop.eq(1)
        with m.If(self.finish):
            m.d.sync += slot.active.eq(0)
        with m.If(self.alloc.valid):
            m.d.sync += [
                slot.active.eq(1),
                slot.complete.eq(0),
                slot.error.eq(0),
                slot.drop.eq(0),
                slot.line.eq(self.alloc.line),
                slot.way.eq(self.alloc.way),
                slot.have.eq(0),
                todo.eq(1),
                first.eq(self.alloc.word if wraps else 0),
                left.eq(g.words),
            ]
        return m
