# SPDX-License-Identifier: BSD-2-Clause
"""Line fills: a ring of slots for demand fills and one for prefetches, and the read channels of ``m_axi``."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, AXI4Signature, Burst, Resp
from ..config import SocConfig
from ..probe import Cause
from .native import Geometry

__all__ = ["DEMAND_ID", "PREFETCH_ID", "FillUnit", "SlotLayout", "pick"]

DEMAND_ID, PREFETCH_ID, _DIRECT_ID = 0, 1, 3


def pick(select, values):
    """The value whose bit is set in the one-hot ``select`` (0 if none is)."""
    result = Const(0)
    for n, value in enumerate(values):
        value = value.as_value() if hasattr(value, "as_value") else value
        result = result | Mux(select[n], value, 0)
    return result


class SlotLayout(data.StructLayout):
    """What a fill slot fetches."""

    def __init__(self, g: Geometry):
        super().__init__(
            {
                "cause": Cause,
                "line": g.line_bits,
                "way": g.ways,  # one-hot
                "word": g.word_bits,  # the first to come
            }
        )


class FillUnit(wiring.Component):
    """Fetches lines and single uncached beats over AR and R. The last slot is for prefetches, all others for demand fills.

    An allocation makes AR valid in the next cycle: a WRAP burst from the missed beat, or an INCR burst from the line's start
    where a line has more beats than a WRAP burst may have (16). Demand slots have ID 0, so their beats come in the order of their
    ARs; the prefetch slot has ID 1. A demand AR goes before an uncached one, that before a prefetch's. A beat is written to the
    array in the cycle of its handshake; the slot keeps no data.

    Members
    -------
    alloc : ``valid prefetch line word way cause``: only while ``free`` (``free_prefetch``); or with ``again``: a slot (one-hot)
        that is ``held`` and not ``filling`` fetches its line once more. alloc_slot : the slot, one-hot.
    slots : what each fetches.
    filling, held, complete, error, dropped, used : per slot: from the allocation to ``finish`` / accesses of the CPU refer to
        it / every beat has come / one came with a bus error / must not be installed, serves nobody / an access waited for it.
    beat : the beat that is offered: ``valid slot word error data line way`` (fills only; ``slot`` and ``way`` one-hot).
    look, word, came : ``word`` of the line of ``look`` (a demand slot, one-hot) could be read from the array in the cycle before.
    hold : R is not taken in this cycle. taken : ``beat`` was.
    finish, drop, use, park, release : per slot, one cycle each: the fill is over / must not be installed / somebody waited for
        it / an access refers to it from now on / none does any more.
    direct : an uncached read ``addr size``; its response is ``direct_rsp`` ``valid data resp``, until ``direct_take``.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        self.demand = config.dcache.fill_slots
        n = self.count = self.demand + 1
        beat = data.StructLayout(
            {
                "valid": 1,
                "slot": n,
                "word": g.word_bits,
                "error": 1,
                "data": g.data_width,
                "line": g.line_bits,
                "way": g.ways,
            }
        )
        alloc = data.StructLayout(
            {"valid": 1, "prefetch": 1, "again": n, "line": g.line_bits, "word": g.word_bits, "way": g.ways, "cause": Cause}
        )
        axi = AXI4Signature(data_width=g.data_width, id_width=2)
        super().__init__(
            {
                "alloc": In(alloc),
                "alloc_slot": Out(n),
                "free": Out(1),
                "free_prefetch": Out(1),
                "slots": Out(data.ArrayLayout(SlotLayout(g), n)),
                "filling": Out(n),
                "held": Out(n),
                "complete": Out(n),
                "error": Out(n),
                "dropped": Out(n),
                "used": Out(n),
                "beat": Out(beat),
                "look": In(n),
                "word": In(g.word_bits),
                "came": Out(1),
                "hold": In(1),
                "taken": Out(1),
                "finish": In(n),
                "drop": In(n),
                "use": In(n),
                "park": In(n),
                "release": In(n),
                "direct": In(stream.Signature(data.StructLayout({"addr": 32, "size": 3}))),
                "direct_rsp": Out(data.StructLayout({"valid": 1, "data": g.data_width, "resp": Resp})),
                "direct_take": In(1),
                "ar": Out(stream.Signature(axi.ax_layout)),
                "r": In(stream.Signature(axi.r_layout)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g, count, last = self._g, self.count, self.count - 1
        wraps = g.words <= 16
        slots = [self.slots[n] for n in range(count)]
        active = self.filling | self.held

        todo = Signal(count)  # AR still to be issued
        unused = Signal(self.demand)
        m.d.comb += [
            unused.eq(~active[:last]),
            self.free.eq(unused.any()),
            self.free_prefetch.eq(~active[last]),
            self.alloc_slot.eq(
                Mux(self.alloc.again.any(), self.alloc.again, Mux(self.alloc.prefetch, 1 << last, unused & -unused))
            ),
        ]

        # --- demand slots in the order of their ARs, which is that of their beats
        m.submodules.order = order = Memory(shape=self.demand, depth=self.demand, init=[])
        order_in, order_out = order.write_port(), order.read_port(domain="comb")
        asked_at, get_at = Signal(range(self.demand)), Signal(self.demand)
        m.d.comb += [order_in.addr.eq(asked_at), get_at.eq(order_out.data)]

        def step(pointer):
            return Mux(pointer == self.demand - 1, 0, pointer + 1) if self.demand & (self.demand - 1) else pointer + 1

        # --- AR: a payload that was shown stays until it is taken
        direct_busy = Signal()  # its R has not come
        want = Signal(3)  # demand, direct, prefetch
        shown, choice, held = Signal(), Signal(3), Signal(3)
        ask_at, held_at = Signal(self.demand), Signal(self.demand)  # the demand slot whose turn it is
        m.d.comb += [
            want.eq(Cat(todo[:last].any(), self.direct.valid & ~direct_busy, todo[last])),
            choice.eq(Mux(shown, held, want & -want)),
            ask_at.eq(Mux(shown, held_at, todo[:last] & -todo[:last])),
            self.ar.valid.eq(want.any()),
        ]
        m.d.sync += [shown.eq(self.ar.valid & ~self.ar.ready), held.eq(choice), held_at.eq(ask_at)]
        asks = Signal(count)
        ask_line, ask_word = Signal(g.line_bits), Signal(g.word_bits)
        m.d.comb += [
            asks.eq(Mux(choice[2], 1 << last, ask_at)),
            order_in.data.eq(ask_at),
            ask_line.eq(pick(asks, [slot.line for slot in slots])),
            ask_word.eq(pick(ask_at, [slot.word for slot in slots[:last]]) if wraps else 0),
        ]
        ar = self.ar.payload
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
        with m.Else():
            m.d.comb += [
                ar.id.eq(choice[2]),
                ar.addr.eq(g.address_of(ask_line) | (Mux(choice[2], 0, ask_word) << g.byte_bits)),
                ar.len.eq(g.words - 1),
                ar.size.eq(g.size_code),
                ar.burst.eq(Burst.WRAP if wraps else Burst.INCR),
                ar.cache.eq(CACHE_NORMAL),
            ]
            with m.If(self.ar.valid & self.ar.ready):
                m.d.sync += todo.eq(todo & ~asks)
                with m.If(choice[0]):
                    m.d.comb += order_in.en.eq(1)
                    m.d.sync += asked_at.eq(step(asked_at))

        # --- R
        r = self.r.payload
        got, got_prefetch = Signal(range(g.words)), Signal(range(g.words))  # beats of the line that have come
        got_before, ahead = Signal(range(g.words)), Signal(g.word_bits)
        bad, gets = Signal(), Signal(count)
        ends = Signal()
        first = pick(get_at, [slot.word for slot in slots[:last]]) if wraps else 0
        m.d.comb += [
            bad.eq(r.resp.as_value()[1]),
            gets.eq(Mux(r.id[0], 1 << last, get_at)),
            self.beat.valid.eq(self.r.valid & ~r.id[1]),
            self.beat.slot.eq(gets),
            self.beat.word.eq(Mux(r.id[0], got_prefetch, (first + got)[: g.word_bits])),
            self.beat.error.eq(bad),
            self.beat.data.eq(r.data),
            self.beat.line.eq(pick(gets, [slot.line for slot in slots])),
            self.beat.way.eq(pick(gets, [slot.way for slot in slots])),
            self.r.ready.eq(Mux(r.id[1], self.direct_take, ~self.hold)),
            self.taken.eq(self.beat.valid & ~self.hold),
            ends.eq(Mux(r.id[0], got_prefetch, got) == g.words - 1),
            self.direct_rsp.valid.eq(self.r.valid & (r.id == _DIRECT_ID)),
            self.direct_rsp.data.eq(r.data),
            self.direct_rsp.resp.eq(r.resp),
        ]
        complete = self.complete[:last]
        complete_before = Signal(self.demand)
        m.d.sync += [got_before.eq(got), complete_before.eq(complete)]
        readable = self.filling & ~self.error & ~self.dropped & self.look
        m.d.comb += [
            ahead.eq(self.word - (pick(self.look, [slot.word for slot in slots[:last]]) if wraps else 0)),
            self.came.eq(
                (readable[:last] & complete & (complete_before | (ahead != g.words - 1).replicate(self.demand))).any()
                | ((readable[:last] & ~complete & get_at).any() & (ahead < got) & (ahead < got_before))
            ),
        ]
        with m.If(self.direct_rsp.valid & self.direct_take):
            m.d.sync += direct_busy.eq(0)
        with m.If(self.taken):
            with m.If(r.id[0]):
                m.d.sync += got_prefetch.eq(got_prefetch + 1)
            with m.Else():
                m.d.sync += got.eq(got + 1)
                with m.If(ends):
                    m.d.sync += order_out.addr.eq(step(order_out.addr))

        for n, slot in enumerate(slots):
            with m.If(self.taken & gets[n]):
                m.d.sync += self.complete[n].eq(ends)
                with m.If(bad):
                    m.d.sync += self.error[n].eq(1)
            with m.If(self.use[n]):
                m.d.sync += self.used[n].eq(1)
            with m.If(self.drop[n]):
                m.d.sync += self.dropped[n].eq(1)
            with m.If(self.finish[n]):
                m.d.sync += [self.filling[n].eq(0), self.complete[n].eq(0)]
            with m.If(self.park[n]):
                m.d.sync += self.held[n].eq(1)
            with m.Elif(self.release[n]):
                m.d.sync += self.held[n].eq(0)
            with m.If(self.alloc.valid & self.alloc_slot[n]):
                m.d.sync += [
                    self.filling[n].eq(1),
                    self.error[n].eq(0),
                    self.dropped[n].eq(0),
                    self.used[n].eq(0),
                    slot.cause.eq(self.alloc.cause),
                    slot.line.eq(self.alloc.line),
                    slot.way.eq(self.alloc.way),
                    slot.word.eq(self.alloc.word),
                    todo[n].eq(1),
                ]
        return m
