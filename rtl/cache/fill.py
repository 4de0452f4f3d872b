# SPDX-License-Identifier: BSD-2-Clause
"""Line fills: two slots (demand, prefetch) that collect the beats of a line, and the read channels of ``m_axi``."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, AXI4Signature, Burst, Resp
from ..config import SocConfig
from ..probe import Cause
from .native import Geometry

__all__ = ["DEMAND", "PREFETCH", "FillUnit", "SlotLayout"]

#: Slot numbers; also their AxID.
DEMAND, PREFETCH = 0, 1
_DIRECT_ID = 3


class SlotLayout(data.StructLayout):
    """A fill slot. ``active`` from allocation to ``finish``; ``have`` marks the beats that have come without error."""

    def __init__(self, g: Geometry):
        super().__init__(
            {
                "active": 1,
                "complete": 1,  # every beat has come
                "error": 1,  # one came with a bus error
                "drop": 1,  # must not be installed, serves nobody
                "used": 1,  # a CPU access waited for it (prefetch slot)
                "cause": Cause,
                "line": g.line_bits,
                "way": g.ways,  # one-hot
                "have": g.words,
                "data": g.line_bytes * 8,
            }
        )


class FillUnit(wiring.Component):
    """Fetches lines and single uncached beats over AR and R.

    An allocation makes AR valid in the next cycle: a WRAP burst from the missed beat, or an INCR burst from the line's start
    where a line has more beats than a WRAP burst may have (16). A demand AR goes before an uncached one, that before a
    prefetch's. R is always ready.

    Members
    -------
    alloc : ``valid slot line word way cause``: the slot must be inactive.
    slots : state of both slots; a beat is in ``data`` one cycle after its R handshake.
    beat : the beat that arrives in this cycle: ``valid slot word error data`` (fills only).
    finish, drop, use : per slot, one cycle each: free it / do not install it / mark it as used.
    direct : an uncached read ``addr size``; its response follows as ``direct_rsp`` ``valid data resp`` for one cycle.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        beat = data.StructLayout({"valid": 1, "slot": 1, "word": g.word_bits, "error": 1, "data": g.data_width})
        alloc = data.StructLayout(
            {"valid": 1, "slot": 1, "line": g.line_bits, "word": g.word_bits, "way": g.ways, "cause": Cause}
        )
        axi = AXI4Signature(data_width=g.data_width, id_width=2)
        super().__init__(
            {
                "alloc": In(alloc),
                "slots": Out(data.ArrayLayout(SlotLayout(g), 2)),
                "beat": Out(beat),
                "finish": In(2),
                "drop": In(2),
                "use": In(2),
                "direct": In(stream.Signature(data.StructLayout({"addr": 32, "size": 3}))),
                "direct_rsp": Out(data.StructLayout({"valid": 1, "data": g.data_width, "resp": Resp})),
                "ar": Out(stream.Signature(axi.ax_layout)),
                "r": In(stream.Signature(axi.r_layout)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g = self._g
        wraps = g.words <= 16
        todo = Signal(2)  # AR still to be issued
        first = [Signal(g.word_bits, name=f"first_{n}") for n in range(2)]  # word of the next beat
        left = [Signal(range(g.words + 1), name=f"left_{n}") for n in range(2)]
        slots = [self.slots[n] for n in range(2)]

        # --- AR: a payload that was shown stays until it is taken
        direct_busy = Signal()  # its R has not come
        want = Signal(3)  # demand, direct, prefetch
        shown, choice, held = Signal(), Signal(3), Signal(3)
        m.d.comb += [
            want.eq(Cat(todo[DEMAND], self.direct.valid & ~direct_busy, todo[PREFETCH])),
            choice.eq(Mux(shown, held, want & -want)),
            self.ar.valid.eq(want.any()),
        ]
        m.d.sync += [shown.eq(self.ar.valid & ~self.ar.ready), held.eq(choice)]
        ar = self.ar.payload
        m.d.comb += [
            ar.id.eq(DEMAND),
            ar.len.eq(g.words - 1),
            ar.size.eq(g.size_code),
            ar.burst.eq(Burst.WRAP if wraps else Burst.INCR),
            ar.cache.eq(CACHE_NORMAL),
        ]
        for n, bit in ((DEMAND, 0), (PREFETCH, 2)):
            with m.If(choice[bit]):
                start = first[n] << g.byte_bits if wraps else Const(0)
                m.d.comb += [ar.id.eq(n), ar.addr.eq(g.address_of(slots[n].line) | start)]
                with m.If(self.ar.ready):
                    m.d.sync += todo[n].eq(0)
        with m.If(choice[1]):
            m.d.comb += [
                ar.id.eq(_DIRECT_ID),
                ar.addr.eq(self.direct.payload.addr),
                ar.len.eq(0),
                ar.size.eq(self.direct.payload.size),
                ar.burst.eq(Burst.INCR),
                ar.cache.eq(CACHE_UNCACHED),
                self.direct.ready.eq(self.ar.ready),
            ]
            with m.If(self.ar.ready):
                m.d.sync += direct_busy.eq(1)

        # --- R
        r = self.r.payload
        bad = Signal()
        m.d.comb += [
            self.r.ready.eq(1),
            bad.eq(r.resp.as_value()[1]),
            self.beat.valid.eq(self.r.valid & ~r.id[1]),
            self.beat.slot.eq(r.id[0]),
            self.beat.word.eq(Mux(r.id[0], first[PREFETCH], first[DEMAND])),
            self.beat.error.eq(bad),
            self.beat.data.eq(r.data),
            self.direct_rsp.valid.eq(self.r.valid & (r.id == _DIRECT_ID)),
            self.direct_rsp.data.eq(r.data),
            self.direct_rsp.resp.eq(r.resp),
        ]
        with m.If(self.direct_rsp.valid):
            m.d.sync += direct_busy.eq(0)
        for n, slot in enumerate(slots):
            arrives = Signal(name=f"arrives_{n}")
            m.d.comb += arrives.eq(self.r.valid & (r.id == n))
            with m.If(arrives):
                m.d.sync += [first[n].eq(first[n] + 1), left[n].eq(left[n] - 1), slot.complete.eq(left[n] == 1)]
                with m.If(bad):
                    m.d.sync += slot.error.eq(1)
                for word in range(g.words):
                    with m.If(first[n] == word):
                        m.d.sync += [slot.have[word].eq(~bad), slot.data.word_select(word, g.data_width).eq(r.data)]
            with m.If(self.use[n]):
                m.d.sync += slot.used.eq(1)
            with m.If(self.drop[n]):
                m.d.sync += slot.drop.eq(1)
            with m.If(self.finish[n]):
                m.d.sync += slot.active.eq(0)
            with m.If(self.alloc.valid & (self.alloc.slot == n)):
                m.d.sync += [
                    slot.active.eq(1),
                    slot.complete.eq(0),
                    slot.error.eq(0),
                    slot.drop.eq(0),
                    slot.used.eq(0),
                    slot.cause.eq(self.alloc.cause),
                    slot.line.eq(self.alloc.line),
                    slot.way.eq(self.alloc.way),
                    slot.have.eq(0),
                    todo[n].eq(1),
                    first[n].eq(self.alloc.word if wraps else 0),
                    left[n].eq(g.words),
                ]
        return m
