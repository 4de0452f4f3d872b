# SPDX-License-Identifier: BSD-2-Clause
"""The mover's two ends: bursts of a chunk FIFO to an AXI4 write port, or to an AXI-Stream."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_UNCACHED, AXI4Signature, AXIStreamSignature, Burst
from .ports import TAG_WIDTH, BeatLayout
from .queue import Queue

__all__ = ["BurstWriter", "StreamWriter", "WriterPhase"]


class WriterPhase(enum.Enum, shape=2):
    """IDLE: no burst; DATA: beats of a burst; PAD: the burst's beats are gone, zero strobes take their place."""

    IDLE = 0
    DATA = 1
    PAD = 2


class BurstWriter(wiring.Component):
    """Writes bursts of beats through AXI4: one INCR burst per ``first`` .. ``last``, full-width beats, strobes as given.

    A beat moves from ``i`` into the W register in its handshake's cycle and is on the bus one cycle later; AW appears together
    with the first W beat. One beat per cycle; the next burst's AW does not wait for responses (up to ``outstanding``).
    ``hold`` (a level) keeps beats out of the W register until their AW has been accepted: so a burst that
    memory does not accept hands nothing over. It must end by itself (time-out): AXI subordinates may wait for WVALID before
    AWREADY. ``truncate`` (a pulse): the rest of the burst in progress will not come, beats with no strobes finish it; ``i``
    is not taken in that cycle nor while padding.

    Members
    -------
    i : beats. aw, w, b : the write channels of an AXI4 port.
    done : a burst was answered in this cycle; ``error addr tag remainder end`` belong to it (``addr`` its first beat).
    offered : a response waits for ``accept`` (``error`` and so on are valid).
    idle : no burst is in progress or unanswered, and no beat is in the registers.
    """

    def __init__(self, *, data_width: int, id_width: int = 2, axi_id: int = 0, outstanding: int = 8):
        signature = AXI4Signature(data_width=data_width, id_width=id_width)
        self._signature, self._axi_id, self._outstanding = signature, axi_id, outstanding
        super().__init__(
            {
                "i": In(stream.Signature(BeatLayout(data_width))),
                "aw": Out(stream.Signature(signature.ax_layout)),
                "w": Out(stream.Signature(signature.w_layout)),
                "b": In(stream.Signature(signature.b_layout)),
                "hold": In(1),
                "truncate": In(1),
                "done": Out(1),
                "error": Out(1),
                "addr": Out(32),
                "tag": Out(TAG_WIDTH),
                "remainder": Out(1),
                "end": Out(1),
                "offered": Out(1),
                "accept": In(1, init=1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        i = self.i.payload
        size = (self._signature.data_width // 8 - 1).bit_length()

        row = data.StructLayout({"addr": 32, "tag": TAG_WIDTH, "remainder": 1, "end": 1})
        m.submodules.bursts = bursts = Queue(row, depth=self._outstanding)

        phase = Signal(WriterPhase)
        left = Signal(8)  # beats of the burst in progress after the next one
        aw_free, w_free, begin, take, step = (Signal(name=n) for n in ("aw_free", "w_free", "begin", "take", "step"))
        blocked = Signal()
        beats = Signal(8)  # of the burst that begins here, minus one
        m.d.comb += beats.eq(Mux(i.first, i.len, 0))
        m.d.comb += [
            aw_free.eq(~self.aw.valid | self.aw.ready),
            w_free.eq(~self.w.valid | self.w.ready),
            # A remainder waits for all responses before it, so that the next response after its AW is its own.
            blocked.eq(Mux(i.remainder, bursts.o.valid, ~bursts.i.ready)),
            begin.eq((phase == WriterPhase.IDLE) & self.i.valid & aw_free & ~blocked & ~self.truncate),
        ]
        with m.Switch(phase):
            with m.Case(WriterPhase.IDLE):
                m.d.comb += take.eq(begin & w_free & ~self.hold)
            with m.Case(WriterPhase.DATA):
                m.d.comb += take.eq(self.i.valid & w_free & ~self.truncate & ~(self.hold & ~aw_free))
        m.d.comb += [
            self.i.ready.eq(take),
            step.eq(take | ((phase == WriterPhase.PAD) & w_free)),
            bursts.i.valid.eq(begin),
            bursts.i.payload.addr.eq(i.addr),
            bursts.i.payload.tag.eq(i.tag),
            bursts.i.payload.remainder.eq(i.remainder),
            bursts.i.payload.end.eq(i.end & (i.first | i.last)),
        ]
        with m.If(self.aw.ready):
            m.d.sync += self.aw.valid.eq(0)
        with m.If(begin):
            aw = self.aw.payload
            m.d.sync += [
                self.aw.valid.eq(1),
                aw.id.eq(self._axi_id),
                aw.addr.eq(i.addr),
                aw.len.eq(beats),
                aw.size.eq(size),
                aw.burst.eq(Burst.INCR),
                aw.cache.eq(CACHE_UNCACHED),
            ]
        with m.If(self.w.ready):
            m.d.sync += self.w.valid.eq(0)
        last = Signal()
        m.d.comb += last.eq(Mux(phase == WriterPhase.IDLE, beats == 0, left == 0))
        with m.If(step):
            padding = phase == WriterPhase.PAD
            m.d.sync += [
                self.w.valid.eq(1),
                self.w.payload.data.eq(i.data),
                self.w.payload.strb.eq(Mux(padding, 0, i.strb)),
                self.w.payload.last.eq(last),
            ]
        with m.If(begin):
            m.d.sync += [phase.eq(WriterPhase.DATA), left.eq(beats)]
        with m.Elif(self.truncate & (phase == WriterPhase.DATA)):
            m.d.sync += phase.eq(WriterPhase.PAD)
        with m.If(step):
            m.d.sync += left.eq(Mux(begin, beats, left) - 1)
            with m.If(last):
                m.d.sync += phase.eq(WriterPhase.IDLE)

        # --- responses, in order because all bursts share one ID
        answered = bursts.o.payload
        m.d.comb += [
            self.b.ready.eq(self.accept),
            self.offered.eq(self.b.valid & bursts.o.valid),
            self.done.eq(self.offered & self.accept),
            self.error.eq(self.b.payload.resp.as_value()[1]),
            self.addr.eq(answered.addr),
            self.tag.eq(answered.tag),
            self.remainder.eq(answered.remainder),
            self.end.eq(answered.end),
            bursts.o.ready.eq(self.done),
            self.idle.eq(~bursts.o.valid & (phase == WriterPhase.IDLE)),
        ]
        return m


class StreamWriter(wiring.Component):
    """Sends the beats of a chunk FIFO to the device: ``user`` is the beat's device address, ``keep`` its strobes, ``last``
    the chunk's.

    Combinational, so that a beat has left the FIFO exactly when the device has taken it. A beat without strobes is swallowed.
    A beat that is not ``first`` but meets no burst (its burst was cut) is written as a burst of its own.
    ``truncate`` (a pulse): a beat that waits for the device at that time is not withdrawn but becomes a null beat (``keep`` 0).

    Members
    -------
    i : beats. o : to the device.
    done : the last beat of a burst was taken in this cycle; ``remainder`` belongs to it.
    idle : no null beat waits.
    """

    def __init__(self, *, data_width: int):
        self._data_width = data_width
        super().__init__(
            {
                "i": In(stream.Signature(BeatLayout(data_width))),
                "o": Out(AXIStreamSignature(data_width=data_width, user_width=32)),
                "truncate": In(1),
                "done": Out(1),
                "remainder": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        i, o = self.i.payload, self.o.t
        null, empty, address = Signal(), Signal(), Signal(32)
        m.d.comb += [
            empty.eq(~i.strb.any()),
            o.valid.eq(null | (self.i.valid & ~empty)),
            o.payload.data.eq(i.data),
            o.payload.keep.eq(Mux(null, 0, i.strb)),
            o.payload.last.eq(i.last),
            o.payload.user.eq(Mux(null, address, i.addr)),
            self.i.ready.eq(~null & (o.ready | empty)),
            self.done.eq(self.i.valid & self.i.ready & i.last),
            self.remainder.eq(i.remainder),
            self.idle.eq(~null),
        ]
        m.d.sync += address.eq(o.payload.user)
        with m.If(o.valid & o.ready):
            m.d.sync += null.eq(0)
        with m.Elif(self.truncate & o.valid):
            m.d.sync += null.eq(1)
        return m
