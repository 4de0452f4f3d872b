# SPDX-License-Identifier: BSD-2-Clause
"""Lines on their way from the array to memory, and the write channels of ``m_axi``."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, AXI4Signature, Burst, Resp
from ..config import SocConfig
from .fill import pick
from .native import Geometry

__all__ = ["WriteBackBuffer"]

_WRITEBACK_ID, _DIRECT_ID = 2, 3


class WriteBackBuffer(wiring.Component):
    """Lines on their way to memory, in the order in which they were pushed; and single uncached writes.

    A pushed line is read from the array word by word, from the next cycle on, one word per cycle that ``read`` gets; until then
    (``unread``) its place in the array must not change. AW is valid in the cycle after the push, W two cycles after a word was
    read. AW may run ahead of W, never behind. Beats follow each other without a gap, also from line to line. An
    entry is occupied until memory has answered. No two entries are of one set: the owner asks :meth:`match_set` before a push.

    An uncached write waits until the bursts that were shown to the interconnect have been sent, and goes before the others.

    Members
    -------
    push : ``valid line way`` (one-hot); only while ``space`` is not 0.
    read : the word of the array that is wanted: ``valid line word way``; ``read_grant``: it is read in this cycle, and
        ``read_data`` is its value in the next.
    space : free entries.
    occupied, unread, lines : per entry.
    done : in the cycle of the B handshake: ``valid index line error`` (index one-hot).
    peek_index, peek_data, peek_ready : the bytes of an entry (combinational), for snoops; ``peek_ready``: all have been read.
    direct : an uncached write ``addr size data strb``; ``direct_rsp`` ``valid resp`` until ``direct_take``.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        self._coherent = config.coherent
        n = self._entries = config.dcache.write_buffer_lines
        axi = AXI4Signature(data_width=g.data_width, id_width=2)
        direct = data.StructLayout({"addr": 32, "size": 3, "data": g.data_width, "strb": g.data_bytes})
        super().__init__(
            {
                "push": In(data.StructLayout({"valid": 1, "line": g.line_bits, "way": g.ways})),
                "read": Out(data.StructLayout({"valid": 1, "line": g.line_bits, "word": g.word_bits, "way": g.ways})),
                "read_grant": In(1),
                "read_data": In(g.data_width),
                "space": Out(range(n + 1), init=n),
                "occupied": Out(n),
                "unread": Out(n),
                "lines": Out(data.ArrayLayout(g.line_bits, n)),
                "done": Out(data.StructLayout({"valid": 1, "index": n, "line": g.line_bits, "error": 1})),
                "peek_index": In(range(max(n, 2))),
                "peek_data": Out(g.line_bytes * 8),
                "peek_ready": Out(1),
                "direct": In(stream.Signature(direct)),
                "direct_rsp": Out(data.StructLayout({"valid": 1, "resp": Resp})),
                "direct_take": In(1),
                "aw": Out(stream.Signature(axi.ax_layout)),
                "w": Out(stream.Signature(axi.w_layout)),
                "b": In(stream.Signature(axi.b_layout)),
            }
        )
        # Words between array and bus. With snoops every entry keeps its line here until memory has answered, and all words of a
        # line can be read at once; without, it is a plain FIFO.
        self._depth = n * g.words if self._coherent else max(16, g.words)
        banks = g.words if self._coherent else 1
        self._words = [Memory(shape=g.data_width, depth=self._depth // banks, init=[]) for _ in range(banks)]
        self._bank_bits = (banks - 1).bit_length()

    def match(self, line: Value) -> Value:
        """Entries (a mask) that hold the line."""
        return Cat(self.occupied[n] & (self.lines[n] == line) for n in range(self._entries))

    def match_set(self, index: Value) -> Value:
        """Entries (a mask) that hold a line of the set."""
        return Cat(self.occupied[n] & (self._g.set_of(self.lines[n]) == index) for n in range(self._entries))

    def unread_in(self, index: Value) -> Value:
        """Is a line of the set still being read from the array?"""
        return Cat(self.unread[n] & (self._g.set_of(self.lines[n]) == index) for n in range(self._entries)).any()

    def elaborate(self, platform):
        m = Module()
        g, entries, depth = self._g, self._entries, self._depth

        def ring(name: str) -> Signal:
            return Signal(entries, init=1, name=name)

        tail, read_at, aw_at, w_at, b_at = ring("tail"), ring("read_at"), ring("aw_at"), ring("w_at"), ring("b_at")
        way = [Signal(g.ways, name=f"way_{n}") for n in range(entries)]
        aw_todo, w_todo = Signal(entries), Signal(entries)
        freed = Signal()

        # --- entries
        for n in range(entries):
            with m.If(freed & b_at[n]):
                m.d.sync += self.occupied[n].eq(0)
            with m.If(self.push.valid & tail[n]):
                m.d.sync += [
                    self.lines[n].eq(self.push.line),
                    way[n].eq(self.push.way),
                    self.occupied[n].eq(1),
                    self.unread[n].eq(1),
                    aw_todo[n].eq(1),
                    w_todo[n].eq(1),
                ]
        with m.If(self.push.valid):
            m.d.sync += tail.eq(tail.rotate_left(1))
        with m.If(freed):
            m.d.sync += b_at.eq(b_at.rotate_left(1))
        m.d.sync += self.space.eq(self.space + freed - self.push.valid)

        # --- from the array to the words between
        claimed = Signal(range(depth + 1))  # words asked for and not yet sent
        stored = Signal(range(depth + 1))  # words here
        put_at, get_at = Signal(range(depth)), Signal(range(depth))
        storing, sent = Signal(), Signal()
        read_word = Signal(g.word_bits)
        m.d.comb += [
            self.read.valid.eq((self.unread & read_at).any() & ((claimed != depth) if not self._coherent else 1)),
            self.read.line.eq(pick(read_at, [self.lines[n] for n in range(entries)])),
            self.read.way.eq(pick(read_at, way)),
            self.read.word.eq(read_word),
        ]
        m.d.sync += [
            storing.eq(self.read_grant),
            claimed.eq(claimed + self.read_grant - sent),
            stored.eq(stored + storing - sent),
        ]
        with m.If(self.read_grant):
            m.d.sync += read_word.eq(read_word + 1)
            with m.If(read_word == g.words - 1):
                m.d.sync += read_at.eq(read_at.rotate_left(1))
                for n in range(entries):
                    with m.If(read_at[n]):
                        m.d.sync += self.unread[n].eq(0)

        def step(pointer: Signal) -> Value:
            return (pointer + 1)[: len(pointer)] if depth & (depth - 1) == 0 else Mux(pointer == depth - 1, 0, pointer + 1)

        with m.If(storing):
            m.d.sync += put_at.eq(step(put_at))
        with m.If(sent):
            m.d.sync += get_at.eq(step(get_at))
        out_word = Const(0)
        for n, memory in enumerate(self._words):
            m.submodules[f"words_{n}"] = memory
            write, read = memory.write_port(), memory.read_port(domain="comb")
            here = (put_at[: self._bank_bits] == n) if self._bank_bits else 1
            m.d.comb += [
                write.addr.eq(put_at[self._bank_bits :]),
                write.data.eq(self.read_data),
                write.en.eq(storing & here),
                read.addr.eq(get_at[self._bank_bits :]),
            ]
            out_word = out_word | (Mux(get_at[: self._bank_bits] == n, read.data, 0) if self._bank_bits else read.data)
            if self._coherent:
                peek = memory.read_port(domain="comb")
                m.d.comb += [peek.addr.eq(self.peek_index), self.peek_data.word_select(n, g.data_width).eq(peek.data)]
        m.d.comb += self.peek_ready.eq(~self.unread.any() & ~storing)

        # --- uncached writes take the channels when nothing of a line is under way
        beat = Signal(g.word_bits)
        aw_shown = Signal()
        direct_aw, direct_w, direct_b = Signal(), Signal(), Signal()  # still to be done
        turn = Signal()  # the channels belong to the uncached write
        quiet = Signal()
        m.d.comb += [
            turn.eq(direct_aw | direct_w),
            quiet.eq(((aw_todo ^ w_todo) == 0) & (beat == 0) & ~aw_shown),
        ]
        with m.If(self.direct.valid & ~direct_b & quiet):
            m.d.sync += [direct_aw.eq(1), direct_w.eq(1), direct_b.eq(1)]

        # --- AW and W
        aw, w = self.aw.payload, self.w.payload
        line_aw, line_w = Signal(), Signal()
        waiting = Signal()
        m.d.comb += [
            waiting.eq((self.direct.valid & ~direct_b) | turn),
            line_aw.eq((aw_todo & aw_at).any() & (aw_shown | ~waiting)),
            line_w.eq((stored != 0) & (~(aw_todo & w_at).any() | (line_aw & (aw_at == w_at)))),
            sent.eq(~turn & line_w & self.w.ready),
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
                aw.addr.eq(g.address_of(pick(aw_at, [self.lines[n] for n in range(entries)]))),
                aw.len.eq(g.words - 1),
                aw.size.eq(g.size_code),
                aw.burst.eq(Burst.INCR),
                aw.cache.eq(CACHE_NORMAL),
                self.w.valid.eq(line_w),
                w.data.eq(out_word),
                w.strb.eq(-1),
                w.last.eq(beat == g.words - 1),
            ]
            with m.If(line_aw & self.aw.ready):
                m.d.sync += aw_at.eq(aw_at.rotate_left(1))
                for n in range(entries):
                    with m.If(aw_at[n]):
                        m.d.sync += aw_todo[n].eq(0)
            m.d.sync += aw_shown.eq(line_aw & ~self.aw.ready)
            with m.If(sent):
                m.d.sync += beat.eq(beat + 1)
                with m.If(beat == g.words - 1):
                    m.d.sync += w_at.eq(w_at.rotate_left(1))
                    for n in range(entries):
                        with m.If(w_at[n]):
                            m.d.sync += w_todo[n].eq(0)

        # --- B
        b = self.b.payload
        m.d.comb += [
            self.b.ready.eq(Mux(b.id[0], self.direct_take, 1)),
            freed.eq(self.b.valid & (b.id == _WRITEBACK_ID)),
            self.done.valid.eq(freed),
            self.done.index.eq(b_at),
            self.done.line.eq(pick(b_at, [self.lines[n] for n in range(entries)])),
            self.done.error.eq(b.resp.as_value()[1]),
            self.direct_rsp.valid.eq(self.b.valid & (b.id == _DIRECT_ID)),
            self.direct_rsp.resp.eq(b.resp),
            self.direct.ready.eq(self.direct_rsp.valid & self.direct_take),
        ]
        with m.If(self.direct.ready):
            m.d.sync += direct_b.eq(0)
        return m
