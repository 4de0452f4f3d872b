# SPDX-License-Identifier: BSD-2-Clause
"""Line fills: slots for demand fills and one for prefetches, and the read channels of ``m_axi``."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, AXI4Signature, Burst, Resp
from ..config import SocConfig
from ..probe import Cause
from .native import Geometry
from .onehot import lowest
from .ring import Ring, add_level, encoded

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
            }
        )


class FillUnit(wiring.Component):
    """Fetches lines and single uncached beats over AR and R. The last slot is for prefetches, all others for demand fills.

    An allocation makes AR valid in the next cycle: a WRAP burst from the missed beat, or an INCR burst from the line's start
    where a line has more beats than a WRAP burst may have (16). The first beat comes a cycle after that at the earliest. Demand
    slots have ID 0, so their beats come in the order of their ARs; the prefetch slot has ID 1, and is fetched from its line's
    start. A demand AR goes before a prefetch's; an uncached one goes when no AR of a line waits. A beat is written to the array
    in the cycle of its handshake, or before; the slot keeps no data.

    What AR and R need of a fill stands in two small tables, in the order of the ARs, so that neither channel looks at the slots.

    Members
    -------
    alloc : ``valid prefetch line word way cause victim``: only while ``free`` (``free_prefetch``); or with ``again``: a slot
        (one-hot) that is ``held`` and not ``filling`` fetches its line once more. ``victim``: the write-back entry that was
        pushed for the line that is replaced (one-hot, or 0). alloc_slot : the slot, one-hot.
    slots : what each fetches; ``cause`` of a demand slot is always ``DEMAND``.
    filling, held, error, dropped, used : per slot: from the allocation to ``finish`` / accesses of the CPU refer to it / a beat
        came with a bus error / must not be installed, serves nobody / an access waited for it.
    unread : write-back entries whose words are still being read: a beat waits on R until its line's ``victim`` has been.
    end : a fill whose beats have all come, ``valid slot line way`` (``slot`` one-hot, 0 if not ``valid``), until ``end_taken``;
        meanwhile a beat that is the last of its line waits on R.
    beat : the beat that is offered: ``valid slot word error data index way`` (fills only; ``slot`` and ``way`` one-hot).
    asked, answers : slots and the number of a word; ``beat`` is that word of one of them, and not in error.
    hold : R is not taken in this cycle. taken : ``beat`` was. lands : its place is free, so it may be written; known earlier,
        and a beat that is written and not taken is offered again.
    finish, drop, use, park, release : per slot, one cycle each: the fill is over / must not be installed / somebody waited for
        it / an access refers to it from now on / none does any more.
    direct : an uncached read ``addr size``; AR is valid in the next cycle if no other waits. The address stays until
        ``ready`` (the AR handshake). Its response is ``direct_rsp`` ``valid data resp``, until ``direct_take``.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        self.demand = config.dcache.fill_slots
        n = self.count = self.demand + 1
        entries = config.dcache.write_buffer_lines
        beat = data.StructLayout(
            {
                "valid": 1,
                "slot": n,
                "word": g.word_bits,
                "error": 1,
                "data": g.data_width,
                "index": g.index_bits,
                "way": g.ways,
            }
        )
        alloc = data.StructLayout(
            {
                "valid": 1,
                "prefetch": 1,
                "again": n,
                "line": g.line_bits,
                "word": g.word_bits,
                "way": g.ways,
                "cause": Cause,
                "victim": entries,
            }
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
                "error": Out(n),
                "dropped": Out(n),
                "used": Out(n),
                "unread": In(entries),
                "end": Out(data.StructLayout({"valid": 1, "slot": n, "line": g.line_bits, "way": g.ways})),
                "end_taken": In(1),
                "beat": Out(beat),
                "asked": In(data.StructLayout({"slots": n, "word": g.word_bits})),
                "answers": Out(1),
                "hold": In(1),
                "lands": Out(1),
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
        # Rows of demand fills in the order of their ARs; behind them AR has one for the prefetch.
        self._row_bits = (self.demand - 1).bit_length()
        depth = (1 << self._row_bits) + 1
        self._wanted = Memory(shape=data.StructLayout({"line": g.line_bits, "word": g.word_bits}), depth=depth, init=[])
        coming = {
            "line": g.line_bits,
            "word": g.word_bits,
            "way": (g.ways - 1).bit_length(),
            "slot": self._row_bits,
            "victim": entries,
        }
        self._coming = Memory(shape=data.StructLayout(coming), depth=1 << self._row_bits, init=[])

    def _row(self, row, prefetch):
        """The row of a demand fill, or that of the prefetch."""
        return Cat(row & ~prefetch.replicate(len(row)), prefetch)

    def elaborate(self, platform):
        m = Module()
        g, demand, last = self._g, self.demand, self.count - 1
        alloc = self.alloc
        wraps = g.words <= 16
        m.submodules.wanted, m.submodules.coming = self._wanted, self._coming
        tail, ask_at, get_at = Ring(demand, name="tail"), Ring(demand, name="ask_at"), Ring(demand, name="get_at")

        # --- allocation
        unused, first_unused = Signal(demand), Signal(demand)
        fresh = Signal()  # a demand slot of its own
        into_last = Signal()
        m.d.comb += [
            unused.eq(~(self.filling | self.held)[:last]),
            first_unused.eq(lowest(unused)),
            self.free.eq(unused.any()),
            self.free_prefetch.eq(~(self.filling | self.held)[last]),
            fresh.eq(~alloc.again.any() & ~alloc.prefetch),
            self.alloc_slot.eq(alloc.again | Mux(fresh, first_unused, alloc.prefetch << last)),
            into_last.eq(self.alloc_slot[last]),
        ]
        allocates = Signal()
        wanted_row, coming_row = self._wanted.write_port(), self._coming.write_port()
        m.d.comb += [
            allocates.eq(alloc.valid & ~into_last),
            wanted_row.addr.eq(self._row(tail.row, into_last)),
            wanted_row.en.eq(alloc.valid),
            wanted_row.data.word.eq(Mux(into_last, 0, alloc.word) if wraps else 0),
            wanted_row.data.line.eq(alloc.line),
            coming_row.addr.eq(tail.row),
            coming_row.en.eq(allocates),
            coming_row.data.line.eq(alloc.line),
            coming_row.data.word.eq(alloc.word if wraps else 0),
            coming_row.data.way.eq(encoded(alloc.way)),
            coming_row.data.slot.eq(encoded(self.alloc_slot[:last])),
            coming_row.data.victim.eq(alloc.victim),
        ]
        with m.If(allocates):
            m.d.sync += tail.row.eq(tail.following())

        # --- AR: a payload that was shown stays until it is taken
        waiting, waiting_last = Signal(demand), Signal()  # demand fills (in unary), and the prefetch, whose AR has not gone
        turn, next_turn = Signal(), Signal()  # AR belongs to the uncached read
        prefetch, prefetch_shown = Signal(), Signal()
        asked = Signal()  # a demand AR goes
        wanted = self._wanted.read_port(domain="comb")
        address, straight = Signal(32), self.direct.payload.addr
        ar = self.ar.payload
        m.d.comb += [
            prefetch.eq(prefetch_shown | (waiting_last & ~waiting[0] & ~turn)),
            wanted.addr.eq(self._row(ask_at.row, prefetch)),
            address.eq(Cat(Const(0, g.byte_bits), wanted.data.word, wanted.data.line)),
            self.ar.valid.eq(turn | waiting[0] | waiting_last),
            asked.eq(self.ar.ready & waiting[0] & ~prefetch_shown & ~turn),
            next_turn.eq(Mux(turn, ~self.ar.ready, self.direct.valid & ~waiting[0] & ~waiting_last)),
            self.direct.ready.eq(turn & self.ar.ready),
        ]
        add_level(m, waiting, allocates, asked)
        with m.If(asked):
            m.d.sync += ask_at.row.eq(ask_at.following())
        with m.If(self.ar.ready & prefetch):
            m.d.sync += waiting_last.eq(0)
        with m.If(alloc.valid & into_last):
            m.d.sync += waiting_last.eq(1)
        m.d.sync += [
            prefetch_shown.eq(prefetch & ~self.ar.ready),
            turn.eq(next_turn),
        ]
        # The bits that no line's address has are registers that fall back to what a line's have: no choice behind them.
        high = Signal(32 - g.window_bits, init=g.base >> g.window_bits, reset_less=True)
        low, size = Signal(g.byte_bits, reset_less=True), Signal(3, init=g.size_code, reset_less=True)
        m.d.sync += [high.eq(straight[g.window_bits :]), low.eq(straight), size.eq(self.direct.payload.size)]
        with m.If(~next_turn):
            m.d.sync += [high.eq(high.init), low.eq(low.init), size.eq(size.init)]
        m.d.comb += [
            ar.addr.eq(Cat(low, Mux(turn, straight, address)[g.byte_bits : g.window_bits], high)),
            ar.id.eq(Mux(turn, _DIRECT_ID, Mux(prefetch, PREFETCH_ID, DEMAND_ID))),
            ar.len.eq(Mux(turn, 0, g.words - 1)),
            ar.size.eq(size),
            ar.burst.eq(Mux(turn | (not wraps), Burst.INCR, Burst.WRAP)),
            ar.cache.eq(Mux(turn, CACHE_UNCACHED, CACHE_NORMAL)),
        ]

        # --- R
        r, beat = self.r.payload, self.beat
        # Where the next beat of either kind goes is in registers: a beat finds out late enough what else it does.
        place = data.StructLayout({"line": g.line_bits, "word": g.word_bits, "way": g.ways, "victim": len(self.unread)})
        demanded, prefetched = Signal(place), Signal(place)
        demanded_slot = Signal(demand)
        begins = Signal(init=1)  # the next beat of a demand fill is its line's first
        ends = Signal()  # ... is its last, and is offered
        coming = self._coming.read_port(domain="comb")
        ahead = Signal()  # of the words of the line that is replaced
        early = Signal()  # the end before has not been taken
        line = Signal(g.line_bits)
        # Compared for either kind of beat before it is known which one comes.
        by_demand, by_prefetch = Signal(), Signal()
        m.d.comb += [
            by_demand.eq((demanded_slot & self.asked.slots).any() & (demanded.word == self.asked.word)),
            by_prefetch.eq(self.asked.slots[last] & (prefetched.word == self.asked.word)),
            self.answers.eq(beat.valid & ~beat.error & Mux(r.id[0], by_prefetch, by_demand)),
            ends.eq(self.r.valid & ~r.id.any() & r.last),
            coming.addr.eq(Mux(ends, get_at.following(), get_at.row)),
            beat.valid.eq(self.r.valid & ~r.id[1]),
            beat.error.eq(r.resp.as_value()[1]),
            beat.data.eq(r.data),
            line.eq(Mux(r.id[0], prefetched.line, demanded.line)),
            beat.index.eq(g.set_of(line)),
            beat.way.eq(Mux(r.id[0], prefetched.way, demanded.way)),
            beat.slot.eq(Mux(r.id[0], 1 << last, demanded_slot)),
            beat.word.eq(Mux(r.id[0], prefetched.word, demanded.word)),
            ahead.eq((Mux(r.id[0], prefetched.victim, demanded.victim) & self.unread).any()),
            self.lands.eq(beat.valid & ~ahead),
            early.eq(self.end.valid & r.last),
            self.taken.eq(self.lands & ~self.hold & ~early),
            self.r.ready.eq(Mux(r.id[1], self.direct_take, ~self.hold & ~ahead & ~early)),
            self.direct_rsp.valid.eq(self.r.valid & r.id[1]),
            self.direct_rsp.data.eq(r.data),
            self.direct_rsp.resp.eq(r.resp),
        ]
        with m.If(~ends | self.taken):
            # The row may still be written: it is read until its line begins.
            m.d.sync += [
                demanded.line.eq(coming.data.line),
                demanded.way.eq(1 << coming.data.way),
                demanded.victim.eq(coming.data.victim),
                demanded_slot.eq(1 << coming.data.slot),
            ]
        # Whether the beat is taken is known last.
        if_taken, if_not = Signal(g.word_bits), Signal(g.word_bits)
        m.d.comb += [
            if_not.eq(Mux(begins & ~ends, coming.data.word, demanded.word)),
            if_taken.eq(Mux(r.id[0], if_not, Mux(r.last, coming.data.word, demanded.word + 1))),
        ]
        m.d.sync += demanded.word.eq(Mux(self.taken, if_taken, if_not))
        with m.If(self.taken & ~r.id[0]):
            m.d.sync += begins.eq(r.last)
        with m.If(self.taken & ends):
            m.d.sync += get_at.row.eq(get_at.following())
        # A prefetch begins at its line's start, and so its number is 0 again at the end.
        with m.If(self.taken & r.id[0]):
            m.d.sync += prefetched.word.eq(prefetched.word + 1)
        with m.If(alloc.valid & into_last):
            m.d.sync += [
                prefetched.line.eq(alloc.line),
                prefetched.way.eq(alloc.way),
                prefetched.victim.eq(alloc.victim),
            ]

        with m.If(self.taken & r.last):
            m.d.sync += [self.end.valid.eq(1), self.end.slot.eq(beat.slot), self.end.line.eq(line), self.end.way.eq(beat.way)]
        with m.If(self.end_taken):
            m.d.sync += [self.end.valid.eq(0), self.end.slot.eq(0)]

        # --- the slots
        for n in range(self.count):
            slot = self.slots[n]
            with m.If(self.lands & beat.error & beat.slot[n]):
                m.d.sync += self.error[n].eq(1)
            with m.If(self.use[n]):
                m.d.sync += self.used[n].eq(1)
            with m.If(self.drop[n]):
                m.d.sync += self.dropped[n].eq(1)
            m.d.sync += self.held[n].eq((self.held[n] & ~self.release[n]) | self.park[n])
            with m.If(alloc.valid & self.alloc_slot[n]):
                m.d.sync += [self.filling[n].eq(1), slot.line.eq(alloc.line), slot.way.eq(alloc.way)]
                m.d.sync += [self.error[n].eq(0), self.dropped[n].eq(0), self.used[n].eq(0)]
                if n == last:
                    m.d.sync += slot.cause.eq(alloc.cause)
            with m.If(self.finish[n]):
                m.d.sync += self.filling[n].eq(0)
        return m
