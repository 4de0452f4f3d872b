# SPDX-License-Identifier: BSD-2-Clause
"""The mover's read side: turns an address and a length into AXI4 read bursts and returns the beats in order."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_UNCACHED, AXI4Signature, Burst
from ..config import ConfigError
from .ports import LENGTH_WIDTH
from .queue import Queue

__all__ = ["BurstReader"]


class BurstReader(wiring.Component):
    """Reads ``length`` bytes from ``addr``: only beats that hold one of them, in INCR bursts that end at multiples of
    ``burst_beats`` beats (so never beyond 256 beats or across 4 KiB).

    ARVALID rises one cycle after a command's handshake, and a command is accepted in the cycle in which the last burst of the one
    before is (one single-burst command per cycle). A burst is only requested when the buffer has room for all of it, counting
    what is still on its way, so ``r`` is always ready and several reads are in flight. A beat passes to ``o`` in the cycle
    in which it arrives when the buffer is empty.

    ``clear`` (a pulse) drops the commands, what is buffered and everything still to come: an AR already presented is finished,
    its beats are taken and ignored. Until ``idle`` no command is accepted.

    Parameters
    ----------
    data_width, id_width, axi_id : of the AXI4 port.
    buffer_beats : beats that can be in flight or buffered, a power of two.
    burst_beats : longest burst, a power of two up to 256 and up to ``buffer_beats``, at most 4 KiB.
    """

    def __init__(self, *, data_width: int, id_width: int = 2, axi_id: int = 0, buffer_beats: int = 128, burst_beats: int = 16):
        for name, value, high in (("buffer_beats", buffer_beats, 4096), ("burst_beats", burst_beats, min(256, buffer_beats))):
            if value < 1 or value > high or value & (value - 1):
                raise ConfigError(f"Reader {name} must be a power of two from 1 to {high}, not {value!r}")
        if buffer_beats < 2:
            raise ConfigError(f"Reader buffer_beats must be a power of two from 2 to 4096, not {buffer_beats!r}")
        self._axi = AXI4Signature(data_width=data_width, id_width=id_width)
        self._axi_id, self._buffer, self._burst = axi_id, buffer_beats, burst_beats
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"addr": 32, "length": LENGTH_WIDTH}))),
                "o": Out(stream.Signature(data.StructLayout({"data": data_width, "error": 1}))),
                "ar": Out(stream.Signature(self._axi.ax_layout)),
                "r": In(stream.Signature(self._axi.r_layout)),
                "clear": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat_bits = (self._axi.data_width // 8 - 1).bit_length()
        block_bits = beat_bits + (self._burst - 1).bit_length()  # bursts end at multiples of this many bytes
        page_bits = LENGTH_WIDTH + 1

        # --- the command in progress: bytes [addr, end], counted from the block that holds addr
        valid = Signal()
        block = Signal(32 - block_bits)
        offset = Signal(block_bits)  # of the first byte in its block
        end = Signal(page_bits)  # of the last byte, from the same block's start
        closing, draining = Signal(), Signal()
        in_flight = Signal(range(self._buffer + 1))  # beats requested and not yet handed to o (while draining: not yet arrived)
        final, last_beat, first_beat = Signal(), Signal(block_bits - beat_bits), Signal(block_bits - beat_bits)
        beats = Signal(range(self._burst + 1))
        issue, room, load, popped = Signal(), Signal(), Signal(), Signal()
        ar_free = Signal()
        start_end = Signal(page_bits)
        m.d.comb += [
            final.eq(end[block_bits:] == 0),
            last_beat.eq(Mux(final, end[beat_bits:block_bits], self._burst - 1)),
            first_beat.eq(offset[beat_bits:]),
            beats.eq(last_beat - first_beat + 1),
            room.eq(in_flight <= self._buffer - self._burst),
            self.ar.valid.eq(valid & (room | closing)),
            self.ar.payload.id.eq(self._axi_id),
            self.ar.payload.addr.eq(Cat(C(0, beat_bits), first_beat, block)),
            self.ar.payload.len.eq(last_beat - first_beat),
            self.ar.payload.size.eq(beat_bits),
            self.ar.payload.burst.eq(Burst.INCR),
            self.ar.payload.cache.eq(CACHE_UNCACHED),
            issue.eq(self.ar.valid & self.ar.ready),
            ar_free.eq(~valid | (issue & final)),
            self.i.ready.eq(ar_free & ~draining & ~closing & ~self.clear),
            load.eq(self.i.valid & self.i.ready & (self.i.payload.length != 0)),
            start_end.eq(self.i.payload.addr[:block_bits] + self.i.payload.length - 1),
        ]
        with m.If(issue):
            m.d.sync += [block.eq(block + 1), offset.eq(0), end.eq(end - (1 << block_bits))]
            with m.If(final | closing):
                m.d.sync += valid.eq(0)
        with m.If(load):
            m.d.sync += [
                valid.eq(1),
                offset.eq(self.i.payload.addr[:block_bits]),
                block.eq(self.i.payload.addr[block_bits:]),
                end.eq(start_end),
            ]

        # --- the buffer, with a way past it
        entry = data.StructLayout({"data": self._axi.data_width, "error": 1})
        m.submodules.buffer = buffer = Queue(entry, depth=self._buffer, bypass=True)
        m.d.comb += [
            self.r.ready.eq(1),  # there is room for all that was asked for
            buffer.i.payload.data.eq(self.r.payload.data),
            buffer.i.payload.error.eq(self.r.payload.resp.as_value()[1]),
            buffer.i.valid.eq(self.r.valid & ~draining),
            buffer.clear.eq(self.clear),
            self.o.valid.eq(buffer.o.valid),
            self.o.payload.eq(buffer.o.payload),
            buffer.o.ready.eq(self.o.ready),
            popped.eq(self.o.valid & self.o.ready),
            self.idle.eq(~valid & ~draining & ~closing & (in_flight == 0)),
        ]

        gone = Signal()
        m.d.comb += gone.eq(Mux(draining, self.r.valid, popped))
        m.d.sync += in_flight.eq(in_flight + Mux(issue, beats, 0) - gone)

        # --- clear: what is in flight is only counted from here on
        with m.If(self.clear):
            m.d.sync += draining.eq(1)
            # Beats in the buffer have arrived: after this cycle only those that have not count.
            pending = in_flight - Mux(draining, 0, buffer.level)
            m.d.sync += in_flight.eq(pending + Mux(issue, beats, 0) - self.r.valid)
            with m.If(self.ar.valid & ~self.ar.ready):
                m.d.sync += closing.eq(1)
            with m.Else():
                m.d.sync += valid.eq(0)
        with m.Elif(closing):
            with m.If(issue):
                m.d.sync += closing.eq(0)
        with m.Elif(draining & (in_flight == 0)):
            m.d.sync += draining.eq(0)
        return m
