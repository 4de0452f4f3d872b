# SPDX-License-Identifier: BSD-2-Clause
"""What makes a manager's accesses coherent with the caches: the snoop bridge. (The caches' ports are shared by :mod:`.arbiter`.)

Hazards, and how each is resolved:

* *The CPU fills or evicts a line between its lookup and the memory write.* The cache blocks the line from the snoop on, and the
  bridge releases it only when memory has answered.
* *The I-cache fetches the line again before the new bytes are in memory.* Its line is invalidated after memory has answered,
  and before the manager gets its response; a fill that is in flight then is not installed.
* *A snoop waits for the bus and the bus for the snoop.* A write's beats are all here before its line is looked up, its
  address goes out after the answer, so no grant is held in between; the answer to a read's lookup always finds a free place.
* *Several lines blocked at a time.* Their writes go to memory in the order of the lookups, and are answered and released in
  it: they have one ID (a write with another one waits for all releases before it), and only one requester has any (the arbiter).
* *Writes to one set without a pause.* What is in a blocked set is looked up after its release, so that the CPU comes between;
  but the next words of the line that was looked up last follow at once (the chunks of a DMA engine).
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.buffer import ShiftQueue
from ..axi.burst import next_address
from ..axi.bus import AXI4Signature, Burst, Resp
from ..cache.ports import BLOCKED_LINES, InvalidateSignature, SnoopOp, SnoopSignature
from ..cache.ring import Ring
from ..config import SocConfig
from ..probe import Cause
from .arbiter import SnoopArbiter

__all__ = ["LineSplitter", "SnoopBridge"]


class LineSplitter(wiring.Component):
    """Splits bursts into segments that stay within one cache line each.

    A segment is itself a burst: FIXED and WRAP bursts within one line pass as they are, all others become INCR segments, in
    the order of the beats. The first segment is out one cycle after the burst, then one per cycle.

    Parameters
    ----------
    ax_layout : layout of the address payload.
    line_bytes : a power of two, at least one beat.

    Members
    -------
    i : ``In`` stream of ``ax_layout``; o : ``Out`` stream of ``ax`` (the segment) and ``final`` (the burst's last one).
    """

    def __init__(self, ax_layout: data.StructLayout, *, line_bytes: int):
        self._line_bits = (line_bytes - 1).bit_length()
        self._ax_layout = ax_layout
        super().__init__(
            {
                "i": In(stream.Signature(ax_layout)),
                "o": Out(stream.Signature(data.StructLayout({"ax": ax_layout, "final": 1}))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        line_bits = self._line_bits
        busy = Signal()
        ax = Signal(self._ax_layout)  # `addr` is the next segment's, `len` what is left
        whole_len = Signal(8)
        m.d.comb += [self.i.ready.eq(~busy | (self.o.ready & self.o.payload.final)), self.o.valid.eq(busy)]
        with m.If(self.i.ready):
            m.d.sync += busy.eq(self.i.valid)
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += [ax.eq(self.i.payload), whole_len.eq(self.i.payload.len)]

        block = Signal(12)  # a WRAP burst's block, less one
        whole = Signal()
        room = Signal(line_bits)  # beats to the line's end, less one
        following = Signal(12)
        m.d.comb += [
            block.eq(((whole_len[:4] + 1) << ax.size) - 1),
            whole.eq((ax.burst == Burst.FIXED) | ((ax.burst == Burst.WRAP) & ~block[line_bits:].any())),
            room.eq((~ax.addr[:line_bits])[:line_bits] >> ax.size),
            following.eq(Cat(Const(0, line_bits), (ax.addr[line_bits:12] + 1)[: 12 - line_bits])),
            self.o.payload.ax.eq(ax),
            self.o.payload.final.eq(whole | (ax.len <= room)),
        ]
        with m.If(~whole):
            m.d.comb += self.o.payload.ax.burst.eq(Burst.INCR)
        with m.If(~self.o.payload.final):
            m.d.comb += self.o.payload.ax.len.eq(room)
            with m.If(self.o.ready & busy):
                m.d.sync += [
                    ax.addr[:12].eq(Mux(ax.burst == Burst.WRAP, (ax.addr[:12] & ~block) | (following & block), following)),
                    ax.len.eq(ax.len - room - 1),
                ]
        return m


class _ReadSide(wiring.Component):
    """Reads, line by line: look the cache up, then answer from its dirty line or from the bus. See :class:`SnoopBridge`."""

    def __init__(self, axi: AXI4Signature, line_bytes: int, port: int):
        self._axi, self._line_bytes, self._port = axi, line_bytes, port
        super().__init__({"s_axi": In(axi), "m_axi": Out(axi), "snoop": Out(SnoopSignature(line_bytes))})

    def elaborate(self, platform):
        m = Module()
        axi, line_bytes = self._axi, self._line_bytes
        beat_bits, line_bits = (axi.data_width // 8 - 1).bit_length(), (line_bytes - 1).bit_length()
        m.submodules.splitter = splitter = LineSplitter(axi.ax_layout, line_bytes=line_bytes)
        # `asked` holds a segment from its lookup until it is on its way, so `answers`, as deep, always has room.
        m.submodules.asked = asked = ShiftQueue(splitter.o.payload.shape(), depth=2)
        m.submodules.answers = answers = ShiftQueue(self.snoop.rsp.payload.shape(), depth=2)
        m.submodules.on_bus = on_bus = ShiftQueue(data.StructLayout({"final": 1}), depth=8)
        connect(m, bus=flipped(self.s_axi.ar), splitter=splitter.i)
        connect(m, cache=flipped(self.snoop.rsp), answers=answers.i)

        segment, request = splitter.o.payload, self.snoop.req
        m.d.comb += [
            request.valid.eq(splitter.o.valid & asked.i.ready),
            request.payload.op.eq(SnoopOp.READ),
            request.payload.addr.eq(Cat(Const(0, line_bits), segment.ax.addr[line_bits:])),
            request.payload.source.eq(self._port << 2 | segment.ax.id),
            asked.i.payload.eq(segment),
            asked.i.valid.eq(splitter.o.valid & request.ready),
            splitter.o.ready.eq(request.ready & asked.i.ready),
        ]

        # --- segments that the bus answers; different IDs would not come back in order
        head, known, dirty = asked.o.payload, Signal(), Signal()
        last_id = Signal(axi.id_width)
        finished = Signal()
        ar = self.m_axi.ar
        m.d.comb += [
            known.eq(asked.o.valid & answers.o.valid),
            dirty.eq(answers.o.payload.dirty),
            ar.valid.eq(known & ~dirty & on_bus.i.ready & (~on_bus.o.valid | (last_id == head.ax.id))),
            ar.payload.eq(head.ax),
            on_bus.i.valid.eq(ar.valid & ar.ready),
            on_bus.i.payload.final.eq(head.final),
            asked.o.ready.eq((ar.valid & ar.ready) | finished),
            answers.o.ready.eq((ar.valid & ar.ready) | finished),
        ]
        with m.If(ar.valid & ar.ready):
            m.d.sync += last_id.eq(head.ax.id)

        # --- segments that the dirty line answers, after all earlier ones
        started = Signal()
        addr, left = Signal(axi.addr_width), Signal(8)
        addr_now, left_now = Signal(axi.addr_width), Signal(8)
        r, bus_r = self.s_axi.r, self.m_axi.r
        m.d.comb += [addr_now.eq(Mux(started, addr, head.ax.addr)), left_now.eq(Mux(started, left, head.ax.len))]
        with m.If(on_bus.o.valid):
            m.d.comb += [
                r.valid.eq(bus_r.valid),
                r.payload.eq(bus_r.payload),
                r.payload.last.eq(bus_r.payload.last & on_bus.o.payload.final),
                bus_r.ready.eq(r.ready),
                on_bus.o.ready.eq(bus_r.valid & r.ready & bus_r.payload.last),
            ]
        with m.Elif(known & dirty):
            m.d.comb += [
                r.valid.eq(1),
                r.payload.id.eq(head.ax.id),
                r.payload.data.eq(answers.o.payload.data.word_select(addr_now[beat_bits:line_bits], axi.data_width)),
                r.payload.last.eq((left_now == 0) & head.final),
                finished.eq(r.ready & (left_now == 0)),
            ]
            with m.If(r.ready):
                m.d.sync += [
                    started.eq(left_now != 0),
                    addr.eq(next_address(addr_now, head.ax.size, head.ax.len, head.ax.burst)),
                    left.eq(left_now - 1),
                ]
        return m


class _WriteState(enum.Enum, shape=2):
    """The lookup of a write's line."""

    IDLE = 0
    SNOOP = 1  # offered
    ANSWER = 2
    KEEP = 3  # answered; the line before is still on its way to memory


class _WriteSide(wiring.Component):
    """Writes, line by line: collect, look up, write; after memory's answer invalidate, release. See :class:`SnoopBridge`."""

    def __init__(self, axi: AXI4Signature, line_bytes: int, sets: int, port: int):
        self._axi, self._line_bytes, self._sets, self._port = axi, line_bytes, sets, port
        super().__init__(
            {
                "s_axi": In(axi),
                "m_axi": Out(axi),
                "snoop": Out(SnoopSignature(line_bytes)),
                "i_inv": Out(InvalidateSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi, line_bytes, data_width = self._axi, self._line_bytes, self._axi.data_width
        data_bytes = data_width // 8
        beat_bits, line_bits = (data_bytes - 1).bit_length(), (line_bytes - 1).bit_length()
        words = line_bytes // data_bytes
        layout = data.StructLayout(
            {
                "id": axi.id_width,
                "line": axi.addr_width - line_bits,
                "cache": 4,
                "final": 1,
                "low": range(words),  # first and last word that a beat lay in
                "high": range(words),
                "data": data.ArrayLayout(data_width, words),
                "strb": data.ArrayLayout(data_bytes, words),
            }
        )

        # --- collect the beats of a segment
        m.submodules.splitter = splitter = LineSplitter(axi.ax_layout, line_bytes=line_bytes)
        connect(m, bus=flipped(self.s_axi.aw), splitter=splitter.i)
        segment, w = splitter.o.payload, self.s_axi.w
        gathered, full, take = Signal(layout), Signal(), Signal()
        started = Signal()
        addr, left = Signal(axi.addr_width), Signal(8)
        addr_now, left_now = Signal(axi.addr_width), Signal(8)
        word = Signal(range(words))
        m.d.comb += [
            addr_now.eq(Mux(started, addr, segment.ax.addr)),
            left_now.eq(Mux(started, left, segment.ax.len)),
            word.eq(addr_now[beat_bits:line_bits]),
            w.ready.eq(splitter.o.valid & (~full | take)),
            splitter.o.ready.eq(w.valid & w.ready & (left_now == 0)),
        ]
        with m.If(take):
            m.d.sync += [full.eq(0), gathered.strb.eq(0)]
        with m.If(w.valid & w.ready):
            m.d.sync += [
                started.eq(left_now != 0),
                full.eq(left_now == 0),
                addr.eq(next_address(addr_now, segment.ax.size, segment.ax.len, segment.ax.burst)),
                left.eq(left_now - 1),
                gathered.id.eq(segment.ax.id),
                gathered.line.eq(segment.ax.addr[line_bits:]),
                gathered.cache.eq(segment.ax.cache),
                gathered.final.eq(segment.final),
            ]
            with m.If(~started | (word < gathered.low)):
                m.d.sync += gathered.low.eq(word)
            with m.If(~started | (word > gathered.high)):
                m.d.sync += gathered.high.eq(word)
            for n in range(words):
                with m.If(word == n):
                    for lane in range(data_bytes):
                        with m.If(w.payload.strb[lane]):
                            m.d.sync += [
                                gathered.data[n].word_select(lane, 8).eq(w.payload.data.word_select(lane, 8)),
                                gathered.strb[n][lane].eq(1),
                            ]

        # --- look it up
        now, writing = Signal(layout), Signal(layout)
        state = Signal(_WriteState)
        writes, written, leaves = Signal(), Signal(), Signal()  # `writing` is on its way, and through; `now` becomes it
        # Segments that memory has not answered, or whose lines are not released yet.
        owed_layout = data.StructLayout({"id": axi.id_width, "line": axi.addr_width - line_bits, "final": 1})
        m.submodules.owed = owed = ShiftQueue(owed_layout, depth=BLOCKED_LINES)
        last_id = Signal(axi.id_width)
        # Their sets, by their turn; the oldest one goes first.
        put_at, get_at = Ring(BLOCKED_LINES, name="put_at"), Ring(BLOCKED_LINES, name="get_at")
        held = Signal(BLOCKED_LINES)
        sets = [Signal(range(self._sets), name=f"held_set_{n}") for n in range(BLOCKED_LINES)]
        now_set = now.line[: len(sets[0])]
        last_line, last_high = Signal(len(now.line)), Signal(len(now.high))
        may, goes_on, set_held = Signal(), Signal(), Signal()
        m.d.comb += [
            leaves.eq(
                (((state == _WriteState.ANSWER) & self.snoop.rsp.valid) | (state == _WriteState.KEEP)) & (~writes | written)
            ),
            take.eq(full & ((state == _WriteState.IDLE) | leaves)),
            goes_on.eq((last_line == now.line) & (now.low > last_high)),
            set_held.eq(Cat(held[n] & (sets[n] == now_set) for n in range(BLOCKED_LINES)).any()),
            may.eq(owed.i.ready & (~owed.o.valid | (last_id == now.id)) & (~set_held | goes_on)),
            owed.i.payload.id.eq(now.id),
            owed.i.payload.line.eq(now.line),
            owed.i.payload.final.eq(now.final),
            self.snoop.req.payload.op.eq(SnoopOp.WRITE),
            self.snoop.req.payload.addr.eq(Cat(Const(0, line_bits), now.line)),
            self.snoop.req.payload.data.eq(now.data),
            self.snoop.req.payload.strb.eq(now.strb),
            self.snoop.req.payload.source.eq(self._port << 2 | now.id),
            self.snoop.req.valid.eq((state == _WriteState.SNOOP) & may),
            self.snoop.rsp.ready.eq(state == _WriteState.ANSWER),
            owed.i.valid.eq(self.snoop.req.valid & self.snoop.req.ready),
        ]
        with m.If(owed.i.valid):
            m.d.sync += [
                state.eq(_WriteState.ANSWER),
                last_id.eq(now.id),
                last_line.eq(now.line),
                last_high.eq(now.high),
                held.bit_select(put_at.row, 1).eq(1),
                Array(sets)[put_at.row].eq(now_set),
                put_at.row.eq(put_at.following()),
            ]
        with m.If((state == _WriteState.ANSWER) & self.snoop.rsp.valid):
            m.d.sync += state.eq(_WriteState.KEEP)
        with m.If(leaves):
            m.d.sync += state.eq(_WriteState.IDLE)
        with m.If(take):
            m.d.sync += [now.eq(gathered), state.eq(_WriteState.SNOOP)]

        # --- write it
        aw, out = self.m_axi.aw, self.m_axi.w
        sent, all_sent = Signal(), Signal()  # the address is out; and so is the data
        index = Signal(range(words))
        m.d.comb += [
            aw.valid.eq(writes & ~sent),
            aw.payload.id.eq(writing.id),
            aw.payload.addr.eq(Cat(Const(0, beat_bits), writing.low, writing.line)),
            aw.payload.len.eq((writing.high - writing.low)[: len(writing.high)]),
            aw.payload.size.eq(beat_bits),
            aw.payload.burst.eq(Burst.INCR),
            aw.payload.cache.eq(writing.cache),
            out.valid.eq(writes & ~all_sent),
            out.payload.data.eq(writing.data[index]),
            out.payload.strb.eq(writing.strb[index]),
            out.payload.last.eq(index == writing.high),
            written.eq((sent | aw.ready) & (all_sent | (out.ready & out.payload.last))),
        ]
        with m.If(aw.ready):
            m.d.sync += sent.eq(1)
        with m.If(out.ready & ~all_sent):
            m.d.sync += [index.eq(index + 1), all_sent.eq(out.payload.last)]
        with m.If(written):
            m.d.sync += writes.eq(0)
        with m.If(leaves):
            m.d.sync += [writes.eq(1), writing.eq(now), sent.eq(0), all_sent.eq(0), index.eq(now.low)]

        # --- memory has answered: the I-cache drops the oldest line, the D-cache's is released, the manager hears of the burst
        answered = Signal()
        worst, resp = Signal(Resp), Signal(Resp)  # of the burst's earlier segments; and of this one
        oldest, b, b_free = owed.o.payload, self.s_axi.b, Signal()
        m.d.comb += [
            b_free.eq(~b.valid | b.ready),
            self.m_axi.b.ready.eq(~answered),
            self.i_inv.req.valid.eq(answered & (~oldest.final | b_free)),
            self.i_inv.req.payload.addr.eq(Cat(Const(0, line_bits), oldest.line)),
            self.i_inv.req.payload.cause.eq(Cause.SNOOP),
            self.snoop.release.eq(self.i_inv.req.valid & self.i_inv.req.ready),
            owed.o.ready.eq(self.snoop.release),
        ]
        with m.If(b.ready):
            m.d.sync += b.valid.eq(0)
        with m.If(~answered & self.m_axi.b.valid):
            m.d.sync += [answered.eq(1), resp.eq(self.m_axi.b.payload.resp)]
            with m.If(worst.as_value() > self.m_axi.b.payload.resp.as_value()):
                m.d.sync += resp.eq(worst)
        with m.If(self.snoop.release):
            m.d.sync += [
                answered.eq(0),
                held.bit_select(get_at.row, 1).eq(0),
                get_at.row.eq(get_at.following()),
                worst.eq(Mux(oldest.final, Resp.OKAY, resp)),
            ]
            with m.If(oldest.final):
                m.d.sync += [b.valid.eq(1), b.payload.id.eq(oldest.id), b.payload.resp.eq(resp)]
        return m


class SnoopBridge(wiring.Component):
    """Makes the accesses of the manager at ``s_axi`` coherent with the D-cache, and its writes with the I-cache.

    Bursts are taken apart into segments within one line, in order.

    Reads: the line is looked up (READ); a dirty one supplies the beats, else they are read downstream, as a burst of the
    same ID and beat size. Lookups run up to two segments ahead; a dirty segment is answered when all before it are, and those
    behind it go out after it. With an idle cache that answers *s* cycles after the request, and an idle bus that answers *r*
    cycles after the address, the first beat comes *2 + s + r* cycles after the address handshake, *2 + s* from a dirty line.

    Writes: all beats of the segment are collected; the lookup (WRITE) hands them to the cache; then they go to memory, as full
    words with strobes from the first to the last word that was touched; when memory has answered, the I-cache drops the line,
    and in the same cycle the D-cache's line is released and, after the last segment, the response is ready for the manager.
    Memory's answers overlap: up to :data:`~rtl.cache.ports.BLOCKED_LINES` segments of one ID are between lookup and release, of
    different sets or ascending in one line. So a segment of *w* words takes the bridge as long as collecting it, as its lookup
    (*1 + s* cycles) or as its words (*w*), whichever is longest.

    Errors: a read beat keeps the response it got downstream, a write the worst of its segments' (DECERR over SLVERR over
    OKAY). All responses come in the order of the addresses, whatever their IDs.

    Parameters
    ----------
    config : the SoC's configuration; ``data_width`` and the line size count.
    port : the manager's port at the crossbar, 0 to 3; ``port << 2 | id`` is a lookup's source.
    id_width : 0 to 2.
    write : False for a manager that only reads: its write channels are passed through, and ``i_inv`` is not there.

    Members
    -------
    s_axi : ``In(AXI4Signature(id_width))``; m_axi : ``Out`` of the same; snoop : ``Out(SnoopSignature)``;
    i_inv : ``Out(InvalidateSignature)``.

    Raises
    ------
    ValueError
        If ``port`` or ``id_width`` is out of range.
    """

    def __init__(self, config: SocConfig, *, port: int, id_width: int = 2, write: bool = True):
        for name, value, high in (("port", port, 3), ("id_width", id_width, 2)):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
                raise ValueError(f"Snoop bridge {name} must be an integer from 0 to {high}, not {value!r}")
        self._port, self._write = port, write
        self._line_bytes, self._sets = config.dcache.line_bytes, config.dcache.sets
        self._axi = AXI4Signature(data_width=config.data_width, id_width=id_width)
        members = {"s_axi": In(self._axi), "m_axi": Out(self._axi), "snoop": Out(SnoopSignature(self._line_bytes))}
        if write:
            members["i_inv"] = Out(InvalidateSignature())
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.reads = reads = _ReadSide(self._axi, self._line_bytes, self._port)
        for name in ("ar", "r"):
            self._pass(m, name, reads)
        if not self._write:
            connect(m, side=reads.snoop, outside=flipped(self.snoop))
            for name in ("aw", "w", "b"):
                up, down = getattr(self.s_axi, name), getattr(self.m_axi, name)
                source, sink = (down, up) if name == "b" else (up, down)
                m.d.comb += [sink.valid.eq(source.valid), sink.payload.eq(source.payload), source.ready.eq(sink.ready)]
            return m
        m.submodules.writes = writes = _WriteSide(self._axi, self._line_bytes, self._sets, self._port)
        for name in ("aw", "w", "b"):
            self._pass(m, name, writes)
        m.submodules.arbiter = arbiter = SnoopArbiter(line_bytes=self._line_bytes, count=2)
        connect(m, reads=reads.snoop, arbiter=arbiter.s_0)
        connect(m, writes=writes.snoop, arbiter=arbiter.s_1)
        connect(m, arbiter=arbiter.m, outside=flipped(self.snoop))
        connect(m, writes=writes.i_inv, outside=flipped(self.i_inv))
        return m

    def _pass(self, m: Module, name: str, side: wiring.Component) -> None:
        """Connects one channel of both buses to the side that handles it."""
        connect(m, bus=flipped(getattr(self.s_axi, name)), side=getattr(side.s_axi, name))
        connect(m, side=getattr(side.m_axi, name), bus=flipped(getattr(self.m_axi, name)))
