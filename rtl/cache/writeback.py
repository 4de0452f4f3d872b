# SPDX-License-Identifier: BSD-2-Clause
"""Lines on their way from the array to memory, and the write channels of ``m_axi``."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_NORMAL, CACHE_UNCACHED, Burst
from ..config import SocConfig
from .fill import pick
from .native import Geometry
from .outgoing import Outgoing
from .parity import add_spoiled
from .ring import Ring, add_level, at_least
from .words import LineStore, WordQueue, kept_lines

__all__ = ["WriteBackBuffer"]

_WRITEBACK_ID, _DIRECT_ID = 2, 3


class WriteBackBuffer(Outgoing):
    """Lines on their way to memory, in the order in which they were pushed; and single uncached writes.

    A pushed line is read from the array word by word, from the next cycle on, one word per cycle that ``read`` gets; until then
    (``unread``) its place in the array must not change. There is room for its words, so reading waits for nothing that
    memory does: a fill may wait for it on R, also where memory takes no write before it has got rid of what was read.

    AW is valid two cycles after the push, and so is W of a word after it was read. AW may run ahead of W, never behind. Beats
    follow each other without a gap, also from line to line. An entry is occupied until memory has answered. No two entries
    are of one set: the owner sees to it.

    An uncached write waits until all lines that were pushed have been sent, and without snoops one cycle longer; from its
    ``valid`` to its ``ready`` there is no ``space`` for others. Its AW and W are valid one cycle after ``ready``.

    Members
    -------
    push : ``valid line way`` (one-hot); only while ``space`` is not 0. tail : the entry that it takes (one-hot).
    read : the word of the array that is wanted: ``valid index word way``; ``read_grant``: it is read in this cycle, and
        ``read_data`` is its value in the next.
    space : how many lines may be pushed.
    occupied, unread, lines : per entry.
    done : in the cycle of the B handshake: ``valid index line error spoiled`` (index one-hot; ``spoiled``: the parity of a word
        was wrong, which ``read_bad`` said with ``read_data``). Either error waits one cycle on B.
    failed_line : the same as ``done.line`` if ``done.error`` or ``done.spoiled``, and cheaper.
    peek_index, peek_data, peek_ready : the bytes of an entry (combinational), for snoops; ``peek_ready``: all have been read.
    direct : an uncached write ``addr size data strb``, which stays until ``ready``; without snoops ``data`` stands from the
        cycle before ``valid`` on, and ``read_data`` is 0 while ``valid`` is high and no word comes.
        direct_rsp : its answer, ``valid resp`` until ``direct_take``.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        self._config, self._coherent = config, config.coherent
        n = self._entries = config.dcache.write_buffer_lines
        super().__init__(
            g,
            n,
            {
                "push": In(data.StructLayout({"valid": 1, "line": g.line_bits, "way": g.ways})),
                "tail": Out(n),
                "read": Out(data.StructLayout({"valid": 1, "index": g.index_bits, "word": g.word_bits, "way": g.ways})),
                "read_grant": In(1),
                "read_data": In(g.data_width),
                "read_bad": In(1),
                "unread": Out(n),
                "peek_index": In(range(max(n, 2))),
                "peek_data": Out(g.line_bytes * 8),
                "peek_ready": Out(1),
            },
        )
        # The registers of `lines` are there to be compared; who needs one line at a time takes it from here.
        depth = 1 << (n - 1).bit_length()
        self._lines = Memory(shape=g.line_bits, depth=depth, init=[])
        self._places = Memory(shape=data.StructLayout({"index": g.index_bits, "way": g.ways}), depth=depth, init=[])

    def elaborate(self, platform):
        m = Module()
        g, entries, push = self._g, self._entries, self.push
        tail, read_at, aw_at, b_at = (Ring(entries, name=name) for name in ("tail_at", "read_at", "aw_at", "b_at"))
        m.submodules.line_table, m.submodules.place_table = self._lines, self._places
        unsent = Signal(kept_lines(self._config))  # lines whose last word has not been sent, in unary
        shown = Signal(len(unsent))  # of these, the lines whose AW has been valid, in unary
        freed, all_read, all_sent = Signal(), Signal(), Signal()

        # --- entries
        m.d.comb += self.tail.eq(tail.one_hot())
        for memory, value in ((self._lines, push.line), (self._places, Cat(g.set_of(push.line), push.way))):
            write = memory.write_port()
            m.d.comb += [write.addr.eq(tail.row), write.data.eq(value), write.en.eq(push.valid)]
        for n in range(entries):
            with m.If(push.valid & self.tail[n]):
                m.d.sync += [self.lines[n].eq(push.line), self.occupied[n].eq(1), self.unread[n].eq(1)]
            with m.If(freed & b_at.points(n)):
                m.d.sync += self.occupied[n].eq(0)
            with m.If(all_read & read_at.points(n)):
                m.d.sync += self.unread[n].eq(0)
        add_level(m, unsent, push.valid, all_sent)
        for ring, steps in ((tail, push.valid), (read_at, all_read), (b_at, freed)):
            with m.If(steps):
                m.d.sync += ring.row.eq(ring.following())
        # All entries are occupied: who pushes asks for it, late, so it must be known at once.
        full, push_only, free_only = Signal(), push.valid & ~freed, freed & ~push.valid
        m.d.sync += full.eq((push_only & (tail.following() == b_at.row)) | (full & ~free_only))
        room = [
            ~(full if n == 0 else at_least(self.occupied, entries - n)) & ~unsent[len(unsent) - 1 - n] & ~self.direct.valid
            for n in range(len(unsent))
        ]
        m.d.comb += [self.space.eq(0), self.room.eq(room[0])]
        for n, free in enumerate(room):
            with m.If(free):
                m.d.comb += self.space.eq(n + 1)

        # --- from the array to the words between
        storing = Signal()
        read_word = Signal(g.word_bits)
        place = self._places.read_port(domain="comb")
        m.d.comb += [
            place.addr.eq(read_at.row),
            self.read.valid.eq(self.unread.any()),
            self.read.index.eq(place.data.index),
            self.read.way.eq(place.data.way),
            self.read.word.eq(read_word),
            all_read.eq(self.read_grant & (read_word == g.words - 1)),
        ]
        m.d.sync += storing.eq(self.read_grant)
        with m.If(self.read_grant):
            m.d.sync += read_word.eq(read_word + 1)
        direct_turn = Signal()  # AW and W become the uncached write's
        if self._coherent:
            m.submodules.words = words = LineStore(config=self._config)
            m.d.sync += [words.line.eq(read_at.row), words.index.eq(read_word)]
            m.d.comb += [
                words.put.eq(storing),
                words.peek_line.eq(tail.row_of(self.peek_index)),
                self.peek_data.eq(words.peek_data),
                self.peek_ready.eq(~self.unread.any() & ~storing),
            ]
        else:
            m.submodules.words = words = WordQueue(config=self._config)
            m.d.comb += words.put.eq(storing | direct_turn)
        words_data, kept_valid = self.read_data, Const(1)
        if not self._coherent:
            # A register that is 0 while words of lines come, so that it takes no choice between them.
            kept, kept_valid = Signal(g.data_width, reset_less=True), Signal(init=1)
            m.d.sync += [kept.eq(self.direct.payload.data), kept_valid.eq(~unsent[0])]
            with m.If(unsent[0]):
                m.d.sync += kept.eq(0)
            words_data = words_data | kept
        m.d.comb += words.data.eq(words_data)

        # --- AW: a register, so that the table is free when memory's answer needs it
        aw, address = self.aw.payload, self.direct.payload.addr
        aw_free, aw_line, failing = Signal(), Signal(), Signal()
        line = self._lines.read_port(domain="comb")
        middle = Signal(g.window_bits - g.byte_bits, reset_less=True)
        # The bits that no line's address has fall back to what a line's have.
        high = Signal(32 - g.window_bits, init=g.base >> g.window_bits, reset_less=True)
        low, size = Signal(g.byte_bits, reset_less=True), Signal(3, init=g.size_code, reset_less=True)
        direct_aw = Signal()
        m.d.comb += [
            line.addr.eq(Mux(failing, b_at.row, aw_at.row)),
            aw_free.eq(~self.aw.valid | self.aw.ready),
            aw_line.eq((unsent & ~shown).any() & aw_free & ~failing),
            direct_turn.eq(self.direct.valid & ~unsent[0] & kept_valid & aw_free),
            self.direct.ready.eq(direct_turn),
            aw.addr.eq(Cat(low, middle, high)),
            aw.id.eq(Mux(direct_aw, _DIRECT_ID, _WRITEBACK_ID)),
            aw.len.eq(Mux(direct_aw, 0, g.words - 1)),
            aw.size.eq(size),
            aw.burst.eq(Burst.INCR),
            aw.cache.eq(Mux(direct_aw, CACHE_UNCACHED, CACHE_NORMAL)),
        ]
        with m.If(aw_free):
            m.d.sync += [
                self.aw.valid.eq(aw_line | direct_turn),
                direct_aw.eq(~unsent[0]),
                high.eq(address[g.window_bits :]),
                middle.eq(Mux(unsent[0], g.address_of(line.data)[g.byte_bits :], address[g.byte_bits :])),
                low.eq(address),
                size.eq(self.direct.payload.size),
            ]
            with m.If(unsent[0]):
                m.d.sync += [high.eq(high.init), low.eq(low.init), size.eq(size.init)]
        with m.If(aw_line):
            m.d.sync += aw_at.row.eq(aw_at.following())
        add_level(m, shown, aw_line, all_sent)

        # --- W
        w = self.w.payload
        beat = Ring(g.words, name="beat")
        direct_w = Signal()
        strb = Signal(g.data_bytes, init=-1, reset_less=True)
        sent = Signal()
        m.d.comb += [
            self.w.valid.eq((words.valid & shown[0]) | direct_w),
            sent.eq(self.w.valid & self.w.ready),
            all_sent.eq(sent & ~direct_w & beat.points(g.words - 1)),
            w.data.eq(words.word),
            w.strb.eq(strb),
            w.last.eq(direct_w | beat.points(g.words - 1)),
            words.take.eq(sent),
        ]
        if self._coherent:
            kept = Signal(g.data_width, reset_less=True)
            with m.If(direct_turn):
                m.d.sync += kept.eq(self.direct.payload.data)
            with m.If(direct_w):
                m.d.comb += [w.data.eq(kept), words.take.eq(0)]
        with m.If(sent & ~direct_w):
            m.d.sync += beat.row.eq(beat.following())
        with m.If(direct_turn):
            m.d.sync += [direct_w.eq(1), strb.eq(self.direct.payload.strb)]
        with m.If(direct_w & self.w.ready):
            m.d.sync += [direct_w.eq(0), strb.eq(strb.init)]

        # --- B
        b = self.b.payload
        bus_error, spoiled = b.resp.as_value()[1], Const(0)
        if g.parity:
            spoiled = add_spoiled(
                m,
                reading=Mux(self.read_grant, read_at.one_hot(), 0),
                bad=self.read_bad,
                pushed=Mux(push.valid, self.tail, 0),
                answered=b_at.one_hot(),
            )
        m.d.sync += failing.eq(self.b.valid & ~b.id[0] & (bus_error | spoiled) & ~failing)
        m.d.comb += [
            self.b.ready.eq(Mux(b.id[0], self.direct_take, ~(bus_error | spoiled) | failing)),
            freed.eq(self.b.valid & self.b.ready & ~b.id[0]),
            self.done.valid.eq(freed),
            self.done.index.eq(b_at.one_hot()),
            self.done.line.eq(pick(b_at.one_hot(), [self.lines[n] for n in range(entries)])),
            self.done.error.eq(failing & (bus_error | ~spoiled)),
            self.done.spoiled.eq(failing & spoiled),
            self.failed_line.eq(line.data),
            self.direct_rsp.valid.eq(self.b.valid & b.id[0]),
            self.direct_rsp.resp.eq(b.resp),
        ]
        return m
