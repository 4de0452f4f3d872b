# SPDX-License-Identifier: BSD-2-Clause
"""The engine's sequencer: takes the device's requests, one after the other, and turns each into mover commands."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from .ports import (
    BUS_MASTER_CHANNEL,
    TAG_WIDTH,
    ChannelSignature,
    DeviceRequestSignature,
    MoverCommandLayout,
    MoverKind,
    MoverStatusLayout,
)

__all__ = ["Sequencer", "SequencerPhase"]


class SequencerPhase(enum.Enum, shape=3):
    """IDLE: waiting for a request that can be served; SEGMENT: a command is on offer (or its descriptor on its way); STATUS: its
    bytes move; DROP, DROPPED: the rest of the packet has no place to go; FINISH; CLEAR: after an abort, until all is quiet."""

    IDLE = 0
    SEGMENT = 1
    STATUS = 2
    DROP = 3
    DROPPED = 4
    FINISH = 5
    CLEAR = 6


class Sequencer(wiring.Component):
    """Serves requests in the order in which the device makes them; a request is accepted when its channel is ``ready``, has
    the same direction, and no other channel holds the engine (block mode). A request is one segment, or one per descriptor it
    touches. What exceeds the channel's bytes is dropped: not read (memory to device), or taken from the stream and thrown away.

    ``abort`` (a pulse) ends the request; none is accepted until the mover is idle and the device's packet is over (its
    ``last``, or its next request while it sends nothing).

    Members
    -------
    request, channel_0 .. channel_<n-1>, channel_4 : device and channels. cmd, status : mover.
    stall : no command may be accepted in this cycle. segment : one was (not for a drop command), for the bytes from
    ``device_addr`` on. packet_last : a beat with ``last`` was taken from the device's stream. stream_valid : it offers a beat.
    fault, fault_tag : a chunk of that transfer was lost; passed on to the channels.
    drain : the engine takes and throws away the device's beats. mover_idle : see above.
    """

    def __init__(self, *, system_channels: int):
        self._numbers = [*range(system_channels), BUS_MASTER_CHANNEL]
        super().__init__(
            {
                "request": In(DeviceRequestSignature()),
                **{f"channel_{n}": Out(ChannelSignature()) for n in self._numbers},
                "cmd": Out(stream.Signature(MoverCommandLayout())),
                "status": In(stream.Signature(MoverStatusLayout())),
                "abort": In(1),
                "stall": In(1),
                "segment": Out(1),
                "device_addr": Out(32),
                "packet_last": In(1),
                "stream_valid": In(1),
                "drain": Out(1),
                "mover_idle": In(1),
                "fault": In(1),
                "fault_tag": In(TAG_WIDTH),
            }
        )

    def elaborate(self, platform):
        m = Module()
        channels = {n: getattr(self, f"channel_{n}") for n in self._numbers}
        req = self.request.req
        phase = Signal(SequencerPhase)
        number, left, position, target = Signal(3), Signal(9), Signal(9), Signal(32)
        to_device, last = Signal(), Signal()
        owing = Signal()  # the device has not sent the last beat of an accepted request

        # --- the channel asked for, or being served
        wanted = Signal(3)
        ready, waits, direction, final = (Signal(name=n) for n in ("ready", "waits", "direction", "final"))
        blocked = Signal()
        address, avail, tag = Signal(32), Signal(32), Signal(TAG_WIDTH)
        m.d.comb += wanted.eq(Mux(phase == SequencerPhase.IDLE, self.request.channel, number))
        holders = {n: channels[n].hold for n in self._numbers}
        with m.Switch(wanted):
            for n, channel in channels.items():
                with m.Case(n):
                    others = Cat(*(hold for other, hold in holders.items() if other != n))
                    m.d.comb += [
                        ready.eq(channel.ready),
                        waits.eq(channel.wait),
                        direction.eq(channel.write_to_device),
                        final.eq(channel.final),
                        address.eq(channel.addr),
                        avail.eq(channel.avail),
                        tag.eq(channel.tag),
                        blocked.eq(others.any()),
                    ]
        accept, fits, length = Signal(), Signal(), Signal(9)
        m.d.comb += [
            accept.eq(
                (phase == SequencerPhase.IDLE)
                & req.valid
                & ready
                & ~blocked
                & (direction == req.payload.write_to_device)
                & self.mover_idle
                & ~self.abort
            ),
            req.ready.eq(accept),
            fits.eq(avail >= left),
            length.eq(Mux(fits, left, avail[:9])),
        ]

        # --- the command
        cmd, dropping = self.cmd.payload, Signal()
        m.d.comb += [
            dropping.eq(phase == SequencerPhase.DROP),
            self.cmd.valid.eq(~self.stall & ~self.abort & (((phase == SequencerPhase.SEGMENT) & ready) | dropping)),
            cmd.length.eq(Mux(dropping, 0, length)),
            cmd.tag.eq(tag),
            cmd.end.eq(dropping | fits | final),
            self.device_addr.eq(target),
            self.segment.eq(self.cmd.valid & self.cmd.ready & ~dropping),
        ]
        with m.If(to_device):
            m.d.comb += [cmd.kind.eq(MoverKind.MEMORY_TO_STREAM), cmd.read_addr.eq(address), cmd.write_addr.eq(target)]
        with m.Else():
            m.d.comb += [cmd.kind.eq(MoverKind.STREAM_TO_MEMORY), cmd.read_addr.eq(position), cmd.write_addr.eq(address)]

        ended = Signal()  # the segment in progress is the request's last
        moved, finish = Signal(), Signal()
        with m.If(self.packet_last):
            m.d.sync += owing.eq(0)
        with m.Switch(phase):
            with m.Case(SequencerPhase.IDLE):
                m.d.sync += [
                    number.eq(self.request.channel),
                    left.eq(req.payload.length),
                    position.eq(0),
                    target.eq(req.payload.addr),
                    to_device.eq(req.payload.write_to_device),
                    last.eq(req.payload.last),
                ]
                with m.If(accept):
                    m.d.sync += [phase.eq(SequencerPhase.SEGMENT), owing.eq(~req.payload.write_to_device)]
            with m.Case(SequencerPhase.SEGMENT):
                with m.If(self.cmd.valid & self.cmd.ready):
                    m.d.sync += [phase.eq(SequencerPhase.STATUS), ended.eq(cmd.end)]
                with m.Elif(~ready & ~waits):
                    m.d.sync += phase.eq(Mux(owing, SequencerPhase.DROP, SequencerPhase.FINISH))
            with m.Case(SequencerPhase.STATUS):
                m.d.comb += self.status.ready.eq(1)
                with m.If(self.status.valid):
                    m.d.comb += moved.eq(1)
                    m.d.sync += [
                        left.eq(left - self.status.payload.length),
                        position.eq(position + self.status.payload.length),
                        target.eq(target + self.status.payload.length),
                    ]
                    over = ended | self.status.payload.error | (~to_device & ~owing)
                    m.d.sync += phase.eq(Mux(over, SequencerPhase.FINISH, SequencerPhase.SEGMENT))
            with m.Case(SequencerPhase.DROP):
                with m.If(self.cmd.valid & self.cmd.ready):
                    m.d.sync += phase.eq(SequencerPhase.DROPPED)
            with m.Case(SequencerPhase.DROPPED):
                m.d.comb += self.status.ready.eq(1)
                with m.If(self.status.valid):
                    m.d.sync += phase.eq(SequencerPhase.FINISH)
            with m.Case(SequencerPhase.FINISH):
                m.d.comb += finish.eq(~self.abort)
                m.d.sync += phase.eq(SequencerPhase.IDLE)
            with m.Case(SequencerPhase.CLEAR):
                m.d.comb += [self.drain.eq(owing), self.status.ready.eq(1)]
                with m.If(self.mover_idle & (~owing | (req.valid & ~self.stream_valid))):
                    m.d.sync += [phase.eq(SequencerPhase.IDLE), owing.eq(0)]
        with m.If(self.abort):
            m.d.sync += phase.eq(SequencerPhase.CLEAR)

        for n, channel in channels.items():
            m.d.comb += [
                channel.begin.eq(accept & (wanted == n)),
                channel.moved.eq(moved & (number == n)),
                channel.length.eq(self.status.payload.length),
                channel.error.eq(self.status.payload.error),
                channel.finish.eq(finish & (number == n)),
                channel.last.eq(last),
                channel.abort.eq(self.abort),
                channel.fault.eq(self.fault),
                channel.fault_tag.eq(self.fault_tag),
            ]
        return m
