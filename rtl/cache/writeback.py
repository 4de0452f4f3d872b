# SPDX-License-Identifier: BSD-2-Clause
"""The write-back buffer, and the write channels of ``m_axi``."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, AXI4Signature, Burst, Resp
from ..config import SocConfig
from .native import Geometry

__all__ = ["WriteBackBuffer"]

_WRITEBACK_ID, _DIRECT_ID = 2, 3


class WriteBackBuffer(wiring.Component):
    """Lines on their way to memory, in the order in which they were pushed; and single uncached writes.

    A pushed line's AW and first W beat are valid in the next cycle. AW may run ahead of W, never behind. Beats follow
    each other without a gap, also from line to line. An entry is occupied until memory has answered. A line is never in
    the buffer twice: the owner asks :meth:`match` before it pushes.

    An uncached write waits until the bursts that were shown to the interconnect have been sent, and goes before the others.

    Members
    -------
    push : ``valid line data``; only while ``space`` is not 0.
    space : free entries.
    occupied, lines : per entry.
    done : in the cycle of the B handshake: ``valid index line error`` (index one-hot).
    peek_index, peek_data : the bytes of an entry (combinational), for snoops.
    direct : an uncached write ``addr size data strb``; ``direct_rsp`` ``valid resp`` for one cycle.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        self._coherent = config.coherent
        n = self._entries = config.dcache.write_buffer_lines
        axi = AXI4Signature(data_width=g.data_width, id_width=2)
        direct = data.StructLayout({"addr": 32, "size": 3, "data": g.data_width, "strb": g.data_bytes})
        super().__init__(
            {
                "push": In(data.StructLayout({"valid": 1, "line": g.line_bits, "data": g.line_bytes * 8})),
                "space": Out(range(n + 1), init=n),
                "occupied": Out(n),
                "lines": Out(data.ArrayLayout(g.line_bits, n)),
                "done": Out(data.StructLayout({"valid": 1, "index": n, "line": g.line_bits, "error": 1})),
                "peek_index": In(range(max(n, 2))),
                "peek_data": Out(g.line_bytes * 8),
                "direct": In(stream.Signature(direct)),
                "direct_rsp": Out(data.StructLayout({"valid": 1, "resp": Resp})),
                "aw": Out(stream.Signature(axi.ax_layout)),
                "w": Out(stream.Signature(axi.w_layout)),
                "b": In(stream.Signature(axi.b_layout)),
            }
        )
        #: The lines' bytes, one row per entry.
        self.data = Memory(shape=g.line_bytes * 8, depth=n, init=[])
        self._write = self.data.write_port()
        self._read = self.data.read_port(domain="comb")
        self._peek = self.data.read_port(domain="comb") if self._coherent else None

    def match(self, line: Value) -> Value:
        """Entries (a mask) that hold the line."""
        return Cat(self.occupied[n] & (self.lines[n] == line) for n in range(self._entries))

    def elaborate(self, platform):
        m = Module()
        g, entries = self._g, self._entries
        m.submodules.data = self.data

        def step(pointer: Signal) -> Value:
            return Mux(pointer == entries - 1, 0, pointer + 1)

        pointer_shape = range(max(entries, 2))
        tail, aw_at, w_at, b_at = (Signal(pointer_shape, name=name) for name in ("tail", "aw_at", "w_at", "b_at"))
        aw_sent, w_sent = Signal(entries), Signal(entries)
        freed = Signal()

        # --- entries
        m.d.comb += [
            self._write.addr.eq(tail),
            self._write.data.eq(self.push.data),
            self._write.en.eq(self.push.valid),
            self._read.addr.eq(w_at),
        ]
        if self._peek is not None:
            m.d.comb += [self._peek.addr.eq(self.peek_index), self.peek_data.eq(self._peek.data)]
        with m.If(self.push.valid):
            m.d.sync += [
                self.lines[tail].eq(self.push.line),
                self.occupied.bit_select(tail, 1).eq(1),
                aw_sent.bit_select(tail, 1).eq(0),
                w_sent.bit_select(tail, 1).eq(0),
                tail.eq(step(tail)),
            ]
        with m.If(freed):
            m.d.sync += [self.occupied.bit_select(b_at, 1).eq(0), b_at.eq(step(b_at))]
        m.d.sync += self.space.eq(self.space + freed - self.push.valid)

        # --- uncached writes take the channels when nothing of a line is under way
        beat = Signal(g.word_bits)
        aw_shown = Signal()
        direct_aw, direct_w, direct_b = Signal(), Signal(), Signal()  # still to be done
        turn = Signal()  # the channels belong to the uncached write
        quiet = Signal()
        m.d.comb += [
            turn.eq(direct_aw | direct_w),
            quiet.eq((((aw_sent ^ w_sent) & self.occupied) == 0) & (beat == 0) & ~aw_shown),
        ]
        with m.If(self.direct.valid & ~direct_b & quiet):
            m.d.sync += [direct_aw.eq(1), direct_w.eq(1), direct_b.eq(1)]

        # --- AW and W
        aw, w = self.aw.payload, self.w.payload
        line_aw, line_w = Signal(), Signal()
        waiting = Signal()
        m.d.comb += [
            waiting.eq((self.direct.valid & ~direct_b) | turn),
            line_aw.eq(self.occupied.bit_select(aw_at, 1) & ~aw_sent.bit_select(aw_at, 1) & (aw_shown | ~waiting)),
            line_w.eq(
                self.occupied.bit_select(w_at, 1)
                & ~w_sent.bit_select(w_at, 1)
                & (aw_sent.bit_select(w_at, 1) | (line_aw & (aw_at == w_at)))
            ),
        ]
        with m.If(turn):
            m.d.comb += [
                self.aw.valid.eq(direct_aw),
                aw.id.eq(_DIRECT_ID),
                aw.addr.eq(self.direct.payload.addr),
                aw.size.eq(self.direct.payload.size),
                aw.burst.eq(Burst.INCR),
                aw.cache.eq(CACHE_UNCACHED),
                self.w.valid.eq(direct_w),
                w.data.eq(self.direct.payload.data),
                w.strb.eq(self.direct.payload.strb),
                w.last.eq(1),
            ]
            with m.If(self.aw.ready):
                m.d.sync += direct_aw.eq(0)
            with m.If(self.w.ready):
                m.d.sync += direct_w.eq(0)
        with m.Else():
            m.d.comb += [
                self.aw.valid.eq(line_aw),
                aw.id.eq(_WRITEBACK_ID),
                aw.addr.eq(g.address_of(self.lines[aw_at])),
                aw.len.eq(g.words - 1),
                aw.size.eq(g.size_code),
                aw.burst.eq(Burst.INCR),
                aw.cache.eq(CACHE_NORMAL),
                self.w.valid.eq(line_w),
                w.data.eq(self._read.data.word_select(beat, g.data_width)),
                w.strb.eq(-1),
                w.last.eq(beat == g.words - 1),
            ]
            with m.If(line_aw & self.aw.ready):
                m.d.sync += [aw_sent.bit_select(aw_at, 1).eq(1), aw_at.eq(step(aw_at))]
            m.d.sync += aw_shown.eq(line_aw & ~self.aw.ready)
            with m.If(line_w & self.w.ready):
                m.d.sync += beat.eq(beat + 1)
                with m.If(beat == g.words - 1):
                    m.d.sync += [w_sent.bit_select(w_at, 1).eq(1), w_at.eq(step(w_at))]

        # --- B
        b = self.b.payload
        m.d.comb += [
            self.b.ready.eq(1),
            freed.eq(self.b.valid & (b.id == _WRITEBACK_ID)),
            self.done.valid.eq(freed),
            self.done.index.eq(1 << b_at),
            self.done.line.eq(self.lines[b_at]),
            self.done.error.eq(b.resp.as_value()[1]),
            self.direct_rsp.valid.eq(self.b.valid & (b.id == _DIRECT_ID)),
            self.direct_rsp.resp.eq(b.resp),
            self.direct.ready.eq(self.direct_rsp.valid),
        ]
        with m.If(self.direct_rsp.valid):
            m.d.sync += direct_b.eq(0)
        return m
