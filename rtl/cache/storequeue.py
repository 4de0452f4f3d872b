# SPDX-License-Identifier: BSD-2-Clause
"""Stores on their way to memory in a write-through cache, and the write channels of ``m_axi``."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, Burst
from ..config import SocConfig
from .native import Geometry
from .outgoing import Outgoing

__all__ = ["StoreQueue"]

_STORE_ID, _DIRECT_ID = 2, 3


class StoreQueue(Outgoing):
    """Stores in the order in which they were pushed, each a write of one beat with just its strobes; and single uncached writes.

    It stands in the place of :class:`~rtl.cache.writeback.WriteBackBuffer` where the write policy is "through". AW and W of a
    store are valid in the cycle after its push, one store per cycle while memory takes them; AW may run ahead of W, never
    behind. All stores have the same ID, so memory performs and answers them in their order. An entry is occupied until memory
    has answered.

    Members
    -------
    push : ``valid line word data strb``; only while ``space`` is not 0.
    space : free entries; one that is freed counts from the next cycle on.
    occupied, lines : per entry, a ring.
    done : in the cycle of the B handshake: ``valid index line error`` (index one-hot; ``spoiled`` never). failed_line :
        ``done.line``.
    direct : an uncached write ``addr size data strb``, held until ``ready``; only while nothing is ``occupied``, and nothing is
        pushed before its answer. AW and W are valid one cycle later; ``direct_rsp`` ``valid resp`` until ``direct_take``.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        n = self._entries = config.dcache.write_entries
        push = {"valid": 1, "line": g.line_bits, "word": g.word_bits, "data": g.data_width, "strb": g.data_bytes}
        super().__init__(g, n, {"push": In(data.StructLayout(push))})
        # Two copies of the places: AW and B look at different stores.
        self._places = [Memory(shape=g.line_bits + g.word_bits, depth=n, init=[]) for _ in range(2)]
        self._data = Memory(shape=g.data_width + g.data_bytes, depth=n, init=[])

    def elaborate(self, platform):
        m = Module()
        g, entries, push = self._g, self._entries, self.push
        tail, b_at = Signal(entries, init=1), Signal(entries, init=1)
        tail_at, aw_at, w_at, b_number = (Signal(range(entries), name=name) for name in ("tail_at", "aw_at", "w_at", "b_number"))
        aw_left, w_left = Signal(range(entries + 1)), Signal(range(entries + 1))  # stores whose AW, W has not been taken
        freed, aw_taken, w_taken = Signal(), Signal(), Signal()

        def step(pointer: Signal) -> None:
            if entries & (entries - 1):
                with m.If(pointer == entries - 1):
                    m.d.sync += pointer.eq(0)
                with m.Else():
                    m.d.sync += pointer.eq(pointer + 1)
            else:
                m.d.sync += pointer.eq(pointer + 1)

        # --- entries
        for n in range(entries):
            with m.If(freed & b_at[n]):
                m.d.sync += self.occupied[n].eq(0)
            with m.If(push.valid & tail[n]):
                m.d.sync += [self.occupied[n].eq(1), self.lines[n].eq(push.line)]
        with m.If(push.valid):
            m.d.sync += tail.eq(tail.rotate_left(1))
            step(tail_at)
        with m.If(freed):
            m.d.sync += b_at.eq(b_at.rotate_left(1))
            step(b_number)
        with m.If(aw_taken):
            step(aw_at)
        with m.If(w_taken):
            step(w_at)
        m.d.comb += self.room.eq(self.space != 0)
        m.d.sync += [
            self.space.eq(self.space + freed - push.valid),
            aw_left.eq(aw_left + push.valid - aw_taken),
            w_left.eq(w_left + push.valid - w_taken),
        ]
        m.submodules.places_aw, m.submodules.places_b, m.submodules.data = *self._places, self._data
        places = []
        for memory, at in zip(self._places, (aw_at, b_number)):
            put, get = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [put.addr.eq(tail_at), put.data.eq(Cat(push.word, push.line)), put.en.eq(push.valid), get.addr.eq(at)]
            places.append(get.data)
        put, get = self._data.write_port(), self._data.read_port(domain="comb")
        m.d.comb += [put.addr.eq(tail_at), put.data.eq(Cat(push.data, push.strb)), put.en.eq(push.valid), get.addr.eq(w_at)]

        # --- AW and W
        aw, w = self.aw.payload, self.w.payload
        direct = self.direct.payload
        direct_aw, direct_w, direct_b = Signal(), Signal(), Signal()  # still to be done
        with m.If(self.direct.valid & ~direct_b):
            m.d.sync += [direct_aw.eq(1), direct_w.eq(1), direct_b.eq(1)]
        m.d.comb += [aw.burst.eq(Burst.INCR), w.last.eq(1)]
        with m.If(direct_b):
            m.d.comb += [
                self.aw.valid.eq(direct_aw),
                aw.id.eq(_DIRECT_ID),
                aw.addr.eq(direct.addr),
                aw.size.eq(direct.size),
                aw.cache.eq(CACHE_UNCACHED),
                self.w.valid.eq(direct_w),
                w.data.eq(direct.data),
                w.strb.eq(direct.strb),
            ]
            with m.If(self.aw.ready):
                m.d.sync += direct_aw.eq(0)
            with m.If(self.w.ready):
                m.d.sync += direct_w.eq(0)
        with m.Else():
            place = places[0]
            m.d.comb += [
                self.aw.valid.eq(aw_left != 0),
                aw_taken.eq(self.aw.valid & self.aw.ready),
                aw.id.eq(_STORE_ID),
                aw.addr.eq(g.address_of(place[g.word_bits :]) | (place[: g.word_bits] << g.byte_bits)),
                aw.size.eq(g.size_code),
                aw.cache.eq(CACHE_NORMAL),
                # Its address has been taken, or is shown with it.
                self.w.valid.eq((w_left != 0) & (w_left >= aw_left)),
                w_taken.eq(self.w.valid & self.w.ready),
                w.data.eq(get.data[: g.data_width]),
                w.strb.eq(get.data[g.data_width :]),
            ]

        # --- B
        b = self.b.payload
        direct_answer = Signal()
        m.d.comb += [
            direct_answer.eq(b.id == _DIRECT_ID),
            self.b.ready.eq(~direct_answer | self.direct_take),
            freed.eq(self.b.valid & ~direct_answer),
            self.done.valid.eq(freed),
            self.done.index.eq(b_at),
            self.done.line.eq(places[1][g.word_bits :]),
            self.failed_line.eq(self.done.line),
            self.done.error.eq(b.resp.as_value()[1]),
            self.direct_rsp.valid.eq(self.b.valid & direct_answer),
            self.direct_rsp.resp.eq(b.resp),
            self.direct.ready.eq(self.direct_rsp.valid & self.direct_take),
        ]
        with m.If(self.direct.ready):
            m.d.sync += direct_b.eq(0)
        return m
