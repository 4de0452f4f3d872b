# SPDX-License-Identifier: BSD-2-Clause
"""The mover's middle: shifts bytes from where they lie in a source beat to where they belong in a destination beat."""

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXIStreamSignature
from .chunk_fifo import popcount
from .ports import LENGTH_WIDTH, TAG_WIDTH, MoverCommandLayout, MoverStatusLayout, PushLayout

__all__ = ["Realigner"]


class Realigner(wiring.Component):
    """Takes the source beats of one command after the other and gives the destination's beats.

    A source beat is rotated by the difference of the two addresses; the lanes that belong to the next destination beat wait in a
    register. So the first output comes in the cycle of the first input (combinationally), one beat per cycle follows,
    and one more cycle is needed only where the destination has one beat more than the source.

    A read error ends the movement: bytes of that beat and of all later ones of the command are taken and dropped,
    ``status.error`` is set. An early ``last`` of the stream ends the command short. ``status.length`` counts the bytes that
    were pushed.

    A command's destination beats are all given, those without bytes too (after an error or an early end), so that bursts
    can be planned ahead: they end at multiples of ``burst_beats`` beats and at the command's end.

    Members
    -------
    i : commands (:class:`~rtl.dma.ports.MoverCommandLayout`). beats : from the memory reader. packet : from the device.
    to_memory, to_stream : beats out. status : one per command, in the cycle after its last push; ``pending`` says
    that it pushed something to memory.
    clear : drop the command in progress and be ready for another one.
    idle : no command is in progress.
    """

    def __init__(self, *, data_width: int, burst_beats: int = 16):
        self._data_width, self._burst = data_width, burst_beats
        super().__init__(
            {
                "i": In(stream.Signature(MoverCommandLayout())),
                "beats": In(stream.Signature(data.StructLayout({"data": data_width, "error": 1}))),
                "packet": In(AXIStreamSignature(data_width=data_width)),
                "to_memory": Out(stream.Signature(PushLayout(data_width))),
                "to_stream": Out(stream.Signature(PushLayout(data_width))),
                "status": Out(stream.Signature(MoverStatusLayout())),
                "pending": Out(1),
                "clear": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width, lanes = self._data_width, self._data_width // 8
        bits = (lanes - 1).bit_length()
        c, packet = self.i.payload, self.packet.t

        # --- the command in progress
        active, from_packet, to_stream, whole = (Signal(name=n) for n in ("active", "from_packet", "to_stream", "whole"))
        tail, drop, poison = Signal(), Signal(), Signal()
        early = Signal()  # the first source beat only fills the register
        start = Signal()  # a burst starts
        beats = Signal(LENGTH_WIDTH - bits + 2)  # destination beats not given yet
        rotation, offset = Signal(bits), Signal(bits)
        remaining, moved = Signal(LENGTH_WIDTH), Signal(LENGTH_WIDTH)
        source, target = Signal(32 - bits), Signal(32 - bits)  # beat numbers
        tag, error_addr = Signal(TAG_WIDTH), Signal(32)
        kept, kept_strb = Signal(width), Signal(lanes)

        # --- the source beat and which of its lanes are wanted
        valid, beat, wanted, fault, ends = Signal(), Signal(width), Signal(lanes), Signal(), Signal()
        stop = Signal(range(2 * lanes + 1))  # lane after the last wanted one, saturated
        mask = Signal(lanes)
        with m.If(from_packet):
            m.d.comb += [valid.eq(packet.valid), beat.eq(packet.payload.data), ends.eq(packet.payload.last)]
            m.d.comb += mask.eq(packet.payload.keep)
        with m.Else():
            m.d.comb += [valid.eq(self.beats.valid), beat.eq(self.beats.payload.data), fault.eq(self.beats.payload.error)]
            m.d.comb += mask.eq(C(-1, lanes))
        plenty = remaining[bits + 1 :].any()
        m.d.comb += stop.eq(Mux(plenty, lanes, (offset + remaining[: bits + 1])[: len(stop)]))
        for lane in range(lanes):
            m.d.comb += wanted[lane].eq((lane >= offset) & (lane < stop) & mask[lane] & ~poison & ~fault)
        final, consumed = Signal(), Signal()  # last beat of the command; the beat is not needed by the next one
        m.d.comb += [
            final.eq((stop <= lanes) & ~plenty | ends),
            consumed.eq(~from_packet | whole | plenty | (stop >= lanes)),
        ]

        # --- rotate: lanes at and above the rotation belong to this destination beat, the others to the next one
        turned, turned_strb, low = Signal(width), Signal(lanes), Signal(lanes)
        m.d.comb += [
            turned.eq(Cat(beat, beat).bit_select((Const(lanes, bits + 1) - rotation)[: bits + 1] << 3, width)),
            turned_strb.eq(Cat(wanted, wanted).bit_select((Const(lanes, bits + 1) - rotation)[: bits + 1], lanes)),
        ]
        for lane in range(lanes):
            m.d.comb += low[lane].eq(lane < rotation)
        out, room, step, rest = Signal(PushLayout(width)), Signal(), Signal(), Signal(lanes)
        running, skip = Signal(), Signal()
        after = Signal.like(beats)
        block = (self._burst - 1).bit_length()
        to_boundary, to_end = Signal(8), Signal.like(beats)
        m.d.comb += [
            running.eq(active & ~tail & ~drop & (remaining != 0)),
            skip.eq(running & valid & early),
            rest.eq(turned_strb & low),
            after.eq(beats - ~(early & ~tail)),
            to_boundary.eq(~target[:block]),
            to_end.eq(beats - 1),
            out.addr.eq(Cat(C(0, bits), target)),
            out.tag.eq(tag),
            out.strb.eq(Mux(tail, kept_strb, kept_strb | (turned_strb & ~low))),
            out.first.eq(start),
            out.end.eq(to_end <= to_boundary),
            out.len.eq(Mux(out.end, to_end[:8], to_boundary)),
            out.last.eq((to_end == 0) | (to_boundary == 0)),
        ]
        for lane in range(lanes):
            byte = slice(lane * 8, lane * 8 + 8)
            m.d.comb += out.data[byte].eq(Mux(kept_strb[lane], kept[byte], turned[byte]))
        pushing = Signal()
        m.d.comb += [
            pushing.eq(tail | (running & valid & ~early)),
            self.to_memory.payload.eq(out),
            self.to_stream.payload.eq(out),
        ]

        # --- the end of a command needs the status register
        status_free, finish = Signal(), Signal()
        m.d.comb += status_free.eq(~self.status.valid | self.status.ready)
        pushes = Signal()  # the command has destination beats
        ending = Signal()  # this push would be the command's last
        need_drop, dropping = Signal(), Signal()
        m.d.comb += [
            need_drop.eq(from_packet & whole & ~ends),
            ending.eq((after == 0) & Mux(tail, ~drop, final & ~need_drop)),
            dropping.eq(active & drop & ~tail),
        ]
        go = Signal()
        m.d.comb += [
            go.eq(pushing & (~ending | status_free)),
            self.to_memory.valid.eq(go & ~to_stream),
            self.to_stream.valid.eq(go & to_stream),
            room.eq(Mux(to_stream, self.to_stream.ready, self.to_memory.ready)),
            step.eq(skip | (go & room)),
        ]
        with m.If(from_packet):
            m.d.comb += packet.ready.eq(Mux(dropping, status_free | ~packet.payload.last, step & ~tail & consumed))
        with m.Else():
            m.d.comb += self.beats.ready.eq(step & ~tail)

        count = Signal(range(lanes + 1))
        total = Signal(LENGTH_WIDTH)
        error = Signal()
        m.d.comb += [
            count.eq(popcount(out.strb)),
            total.eq(moved + Mux(step, count, 0)),
            error.eq(poison | (running & valid & fault)),
        ]
        dropped_all = Signal()
        m.d.comb += [
            dropped_all.eq(dropping & packet.valid & packet.payload.last & status_free),
            finish.eq((step & ending) | dropped_all | (active & ~tail & ~drop & (remaining == 0) & status_free)),
        ]
        with m.If(step):
            m.d.sync += [moved.eq(total), target.eq(target + 1), kept_strb.eq(0), beats.eq(after), early.eq(0)]
            with m.If(~skip):
                m.d.sync += start.eq(out.last)
            with m.If(~tail):
                m.d.sync += [
                    source.eq(source + 1),
                    offset.eq(0),
                    remaining.eq(Mux(final, 0, remaining - lanes + offset)),
                    kept.eq(turned),
                    kept_strb.eq(rest),
                    poison.eq(error),
                ]
                with m.If(fault & ~poison):
                    m.d.sync += error_addr.eq(Cat(C(0, bits), source))
                with m.If(final):
                    m.d.sync += [tail.eq(after != 0), drop.eq(need_drop)]
            with m.Else():
                m.d.sync += tail.eq(after != 0)
        with m.If(self.status.ready):
            m.d.sync += self.status.valid.eq(0)
        with m.If(finish):
            s = self.status.payload
            m.d.sync += [
                active.eq(0),
                drop.eq(0),
                self.status.valid.eq(1),
                self.pending.eq(~to_stream & pushes),
                s.tag.eq(tag),
                s.error.eq(error),
                s.length.eq(total),
                s.addr.eq(Mux(poison, error_addr, Cat(C(0, bits), source))),
            ]
        m.d.comb += [self.i.ready.eq(~active | finish), self.idle.eq(~active)]
        with m.If(self.i.valid & self.i.ready):
            shift = Signal(bits + 1)
            m.d.comb += shift.eq(c.write_addr[:bits] - c.read_addr[:bits])
            is_packet = c.kind.as_value()[0]
            m.d.sync += [
                active.eq(1),
                tail.eq(0),
                poison.eq(0),
                from_packet.eq(is_packet),
                to_stream.eq(c.kind.as_value()[1]),
                whole.eq(c.end),
                drop.eq(is_packet & c.end & (c.length == 0)),
                rotation.eq(shift[:bits]),
                offset.eq(c.read_addr[:bits]),
                source.eq(c.read_addr[bits:]),
                # Where the source's offset is the larger one, the first beat's bytes all wait for the next output.
                target.eq(c.write_addr[bits:] - (c.write_addr[:bits] < c.read_addr[:bits])),
                remaining.eq(c.length),
                moved.eq(0),
                tag.eq(c.tag),
                kept_strb.eq(0),
                early.eq(c.write_addr[:bits] < c.read_addr[:bits]),
                start.eq(1),
                pushes.eq(c.length != 0),
                beats.eq((c.length + c.write_addr[:bits] + (lanes - 1)) >> bits),
            ]
        with m.If(self.clear):
            m.d.sync += [active.eq(0), tail.eq(0), drop.eq(0), kept_strb.eq(0), self.status.valid.eq(0)]
        return m
