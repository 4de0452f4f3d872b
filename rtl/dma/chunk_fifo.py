# SPDX-License-Identifier: BSD-2-Clause
"""The chunk FIFO: collects bytes into aligned chunks and lets only whole chunks go.

This is the buffer of the controllers in the source pages (RULES.md, S7): what does not fill a chunk stays, as the
*remainder*, until it is flushed or until a byte for another chunk pushes it out.
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ConfigError
from .ports import TAG_WIDTH, BeatLayout, PushLayout
from .queue import Queue

__all__ = ["ChunkFifo", "popcount"]


def popcount(value: Value) -> Value:
    """Number of ones in ``value``, as a balanced adder tree with sized results."""
    terms = [value[n] for n in range(len(value))]
    while len(terms) > 1:
        terms = [terms[n] + terms[n + 1] if n + 1 < len(terms) else terms[n] for n in range(0, len(terms), 2)]
    return terms[0]


class ChunkFifo(wiring.Component):
    """Chunk FIFO of one direction, in destination space (memory address or device offset).

    A pushed beat is merged into the open chunk if it belongs to it; otherwise the open chunk is closed, full or not, and a new
    one opened in the same cycle. A full chunk closes by itself one cycle after it became full. Closed chunks queue up and
    leave as bursts of beats: from the first to the last beat that holds a byte, one cycle after closing at the earliest.
    A beat without strobes is taken and ignored.

    Flush: while ``flush`` is high pushes are held off; once the queue has run empty the open chunk is sent as a burst marked
    ``remainder``, once. It stays in the open registers until ``commit``, so dropping ``flush`` without ``commit`` keeps it open,
    and the next flush sends it again.
    Discard: while ``discard`` is high nothing leaves at ``o``; one beat per cycle is thrown away (``discarded``, with
    ``o.payload``), the open chunk's included, beats already sent excluded. ``clear`` empties everything at once and wins
    over all else.

    At rest, with the bus not stuck, the queue is empty and ``open_valid open_addr open_strb open_data`` are the whole content.

    With ``cut_through`` it is a plain queue of beats instead: each leaves one cycle after its push (in the same cycle with
    ``bypass``, while the queue is empty), in the bursts that the pusher planned; there is no open chunk and no remainder,
    ``level`` is 0, and a flush does not hold pushes off, since a burst in progress may need them.

    Parameters
    ----------
    data_width : bits of a beat.
    chunk_bytes : bytes of a chunk, a power of two, at least one beat.
    depth : closed chunks that can wait, a power of two from 2.
    cut_through, bypass : see above.

    Members
    -------
    i : pushed beats; accepted while the chunk is the open one or the queue has room, and neither flush nor discard is on.
    o : leaving beats.
    flush, commit, discard, clear : see above (levels flush and discard, pulses commit and clear).
    hold : level, pushes are held off.
    drained : flush is on and all that it sends has left ``o`` (not: has been answered).
    empty : nothing is queued and no chunk is open.
    queued : a closed chunk waits.
    discarded : a beat was thrown away in this cycle.
    level : valid bytes in the open chunk.
    open_valid, open_addr, open_strb, open_data : the open chunk.

    Raises
    ------
    ConfigError
        If a parameter breaks its rule.
    """

    def __init__(self, *, data_width: int, chunk_bytes: int, depth: int = 4, cut_through: bool = False, bypass: bool = False):
        beat = data_width // 8
        if chunk_bytes < beat or chunk_bytes & (chunk_bytes - 1):
            raise ConfigError(
                f"Chunk FIFO chunk_bytes must be a power of two and at least one beat ({beat}), not {chunk_bytes!r}"
            )
        if depth < 2 or depth & (depth - 1):
            raise ConfigError(f"Chunk FIFO depth must be a power of two from 2, not {depth!r}")
        self._data_width, self._chunk, self._depth = data_width, chunk_bytes, depth
        self._cut_through, self._bypass = cut_through, bypass
        super().__init__(
            {
                "i": In(stream.Signature(PushLayout(data_width))),
                "o": Out(stream.Signature(BeatLayout(data_width))),
                "flush": In(1),
                "hold": In(1),
                "commit": In(1),
                "discard": In(1),
                "clear": In(1),
                "drained": Out(1),
                "empty": Out(1),
                "queued": Out(1),
                "discarded": Out(1),
                "level": Out(range(chunk_bytes + 1)),
                "open_valid": Out(1),
                "open_addr": Out(32),
                "open_strb": Out(chunk_bytes),
                "open_data": Out(chunk_bytes * 8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self._cut_through:
            self._pass(m)
        else:
            self._collect(m)
        return m

    def _pass(self, m):
        """Cut-through: a queue of beats, nothing stays."""
        beats = max(2, self._depth * self._chunk * 8 // self._data_width)
        m.submodules.queue = queue = Queue(PushLayout(self._data_width), depth=beats, bypass=self._bypass)
        hold = self.hold | self.discard
        m.d.comb += [
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid & ~hold),
            self.i.ready.eq(queue.i.ready & ~hold),
            self.o.valid.eq(queue.o.valid & ~self.discard),
            queue.o.ready.eq(self.o.ready | self.discard),
            self.discarded.eq(queue.o.valid & self.discard),
            queue.clear.eq(self.clear),
            self.empty.eq(queue.level == 0),
            self.queued.eq(queue.level != 0),
            self.drained.eq(self.flush & (queue.level == 0)),
        ]
        for name, _ in PushLayout(self._data_width):
            m.d.comb += getattr(self.o.payload, name).eq(getattr(queue.o.payload, name))

    def _collect(self, m):
        """Chunks with a remainder."""
        width, lanes, chunk = self._data_width, self._data_width // 8, self._chunk
        beats = chunk // lanes
        beat_bits, offset_bits = (lanes - 1).bit_length(), (chunk - 1).bit_length()
        i, o = self.i.payload, self.o.payload

        # --- the open chunk
        open_tag = Signal(TAG_WIDTH)
        sent = Signal()  # its last beat has left as a remainder and waits for commit
        head_valid, room, hold = Signal(), Signal(), Signal()
        touch, same, full, move, push = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            hold.eq(self.flush | self.hold | self.discard),
            touch.eq(i.strb.any()),
            same.eq(self.open_valid & (self.open_addr[offset_bits:] == i.addr[offset_bits:])),
            full.eq(self.open_strb.all()),
            self.i.ready.eq(~hold & (~self.open_valid | (same & ~full) | room)),
            push.eq(self.i.valid & self.i.ready),
            move.eq(
                self.open_valid & room & ~self.discard & ((full & ~sent) | (self.i.valid & ~hold & touch & ~same)),
            ),
            self.level.eq(Mux(self.open_valid, popcount(self.open_strb), 0)),
        ]
        fresh = Signal()  # the pushed beat opens a chunk
        m.d.comb += fresh.eq(~self.open_valid | move)
        with m.If(move | ((self.commit | self.discard) & sent)):
            m.d.sync += [self.open_valid.eq(0), self.open_strb.eq(0), sent.eq(0)]
        with m.If(push & touch):
            m.d.sync += [self.open_valid.eq(1), open_tag.eq(i.tag)]
            with m.If(fresh):
                m.d.sync += [self.open_addr.eq(Cat(C(0, offset_bits), i.addr[offset_bits:])), self.open_strb.eq(0)]
        for k in range(beats):
            here = push if beats == 1 else push & (i.addr[beat_bits:offset_bits] == k)
            for lane in range(lanes):
                byte = k * lanes + lane
                with m.If(here & i.strb[lane]):
                    # The last assignment wins over the reset of the strobes above; the data needs no merge.
                    m.d.sync += [
                        self.open_strb[byte].eq(1),
                        self.open_data[byte * 8 : byte * 8 + 8].eq(i.data[lane * 8 : lane * 8 + 8]),
                    ]

        # --- the queue of closed chunks
        row = data.StructLayout({"addr": 32 - offset_bits, "strb": chunk, "data": chunk * 8, "tag": TAG_WIDTH})
        m.submodules.queue = queue = Queue(row, depth=self._depth)
        pop = Signal()
        m.d.comb += [
            head_valid.eq(queue.o.valid),
            room.eq(queue.i.ready),
            queue.i.valid.eq(move),
            queue.i.payload.addr.eq(self.open_addr[offset_bits:]),
            queue.i.payload.strb.eq(self.open_strb),
            queue.i.payload.data.eq(self.open_data),
            queue.i.payload.tag.eq(open_tag),
            queue.o.ready.eq(pop),
            queue.clear.eq(self.clear),
        ]

        # --- the burst on its way out
        source = Signal(row)
        remainder, source_valid, advance, last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += remainder.eq(~head_valid)
        with m.If(head_valid):
            m.d.comb += [source.eq(queue.o.payload), source_valid.eq(1)]
        with m.Else():
            m.d.comb += [
                source.addr.eq(self.open_addr[offset_bits:]),
                source.strb.eq(self.open_strb),
                source.data.eq(self.open_data),
                source.tag.eq(open_tag),
                source_valid.eq(self.open_valid & ~sent & (self.discard | (self.flush & ~full))),
            ]
        used = Signal(beats)
        first_beat, last_beat, index, next_beat = (
            Signal(range(max(beats, 2)), name=n) for n in ("first", "last_", "index", "next")
        )
        started = Signal()
        for k in range(beats):
            m.d.comb += used[k].eq(source.strb[k * lanes : (k + 1) * lanes].any())
            with m.If(used[k]):
                m.d.comb += last_beat.eq(k)
        for k in reversed(range(beats)):
            with m.If(used[k]):
                m.d.comb += first_beat.eq(k)
        m.d.comb += [
            index.eq(Mux(started, next_beat, first_beat)),
            last.eq(index == last_beat),
            o.strb.eq(source.strb.word_select(index, lanes)),
            o.data.eq(source.data.word_select(index, width)),
            o.tag.eq(source.tag),
            o.first.eq(~started),
            o.last.eq(last),
            o.len.eq((last_beat - first_beat)[: len(index)]),
            o.remainder.eq(remainder),
            o.addr.eq(Cat(C(0, beat_bits), index[: offset_bits - beat_bits], source.addr)),
            self.o.valid.eq(source_valid & ~self.discard),
            self.discarded.eq(source_valid & self.discard),
            advance.eq(source_valid & (self.o.ready | self.discard)),
            pop.eq(advance & last & head_valid),
            self.empty.eq(~head_valid & ~self.open_valid),
            self.queued.eq(head_valid),
            self.drained.eq(self.flush & ~head_valid & (~self.open_valid | sent)),
        ]
        with m.If(advance):
            m.d.sync += [started.eq(~last), next_beat.eq(index + 1)]
            with m.If(last & remainder):
                m.d.sync += sent.eq(1)
                with m.If(self.discard):
                    m.d.sync += [self.open_valid.eq(0), self.open_strb.eq(0), sent.eq(0)]
        with m.If(~self.flush & ~self.discard):
            m.d.sync += sent.eq(0)  # an uncommitted remainder is an ordinary open chunk again

        with m.If(self.clear):
            m.d.sync += [s.eq(0) for s in (self.open_valid, self.open_strb, sent, started)]
