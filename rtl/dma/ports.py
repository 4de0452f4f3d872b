# SPDX-License-Identifier: BSD-2-Clause
"""Ports between the DMA engine's parts, and between the engine and the device."""

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "BUS_MASTER_CHANNEL",
    "LENGTH_WIDTH",
    "TAG_WIDTH",
    "BeatLayout",
    "ChannelSignature",
    "DeviceRequestSignature",
    "MoverCommandLayout",
    "MoverKind",
    "MoverStatusLayout",
    "PushLayout",
]

#: Channel number of the bus master in ``DeviceRequestSignature.channel``; 0 to 3 are the system channels.
BUS_MASTER_CHANNEL = 4
#: Bits of a length or count in bytes: transfers have 1 to 2**24-1 bytes.
LENGTH_WIDTH = 24
#: Bits of a transfer number.
TAG_WIDTH = 16


class DeviceRequestSignature(wiring.Signature):
    """Requests of the device, seen from the device: stream ``req`` and ``channel``.

    ``req`` payload: ``length`` bytes (1 to 256), ``addr`` byte offset in the device, ``write_to_device`` (1: memory to
    device), ``last`` (the device asks for no more in this command). ``channel`` (0 to 3 system channel, 4 bus master) is
    static from the cycle in which ``req.valid`` rises until the command's last request has been accepted.

    After a device-to-memory request has been accepted (never before), the device sends exactly ``length`` bytes on its
    stream, packed from byte lane 0, every beat full but the last, ``last`` on the request's last beat. A device that is
    aborted sets ``last`` early, or sends no more and shows its next request with its stream's ``valid`` low: either ends
    the request. The next request may be presented while the data of the one before is still on its way; it is accepted after
    them. For an accepted memory-to-device request the engine moves ``length`` bytes toward offset ``addr``; they arrive when
    their chunk leaves the FIFO, which may be much later (S7).
    """

    def __init__(self):
        layout = data.StructLayout({"length": 9, "addr": 32, "write_to_device": 1, "last": 1})
        self._layout = layout
        super().__init__({"req": Out(stream.Signature(layout)), "channel": Out(3)})

    layout = property(lambda self: self._layout)

    def __eq__(self, other):
        return type(self) is type(other)

    def __repr__(self):
        return "DeviceRequestSignature()"


class MoverKind(enum.Enum, shape=2):
    """Where a mover command reads and writes. Bit 0: from the stream; bit 1: to the stream."""

    MEMORY_TO_MEMORY = 0
    STREAM_TO_MEMORY = 1
    MEMORY_TO_STREAM = 2


class MoverCommandLayout(data.StructLayout):
    """One piece of work for the mover.

    ``read_addr``: memory byte address of the first byte; for STREAM_TO_MEMORY the position of the first byte in the
    stream's packet (only its bits within a beat matter: the lane at which the bytes begin).
    ``write_addr``: memory byte address; for MEMORY_TO_STREAM the byte offset in the device.
    ``length``: bytes; 0 moves nothing. ``tag``: returned in the status. ``kind``: :class:`MoverKind`.
    ``end``: STREAM_TO_MEMORY only: the packet ends with this command, whatever follows in it up to ``last`` is taken
    and dropped. Without ``end`` a beat whose last lanes are not used stays for the next command.
    """

    def __init__(self):
        super().__init__(
            {"read_addr": 32, "write_addr": 32, "length": LENGTH_WIDTH, "tag": TAG_WIDTH, "kind": MoverKind, "end": 1}
        )


class MoverStatusLayout(data.StructLayout):
    """The end of one command: ``tag``, ``error`` (a read or, where the mover waits for it, a write was answered with an error),
    ``length`` bytes moved, ``addr`` memory address of the first error."""

    def __init__(self):
        super().__init__({"tag": TAG_WIDTH, "error": 1, "length": LENGTH_WIDTH, "addr": 32})


class PushLayout(data.StructLayout):
    """A beat in destination space on its way into a chunk FIFO: ``addr`` (of the beat's lane 0), ``strb``, ``data``, ``tag``.

    For cut-through the bursts are planned ahead: ``first`` and ``last`` beat of a burst, its ``len`` (beats minus one) and
    whether it is the ``end`` of its command (both valid with ``first``).
    """

    def __init__(self, data_width: int):
        super().__init__(
            {
                "addr": 32,
                "strb": data_width // 8,
                "data": data_width,
                "tag": TAG_WIDTH,
                "first": 1,
                "last": 1,
                "len": 8,
                "end": 1,
            }
        )


class BeatLayout(data.StructLayout):
    """A beat that leaves a chunk FIFO: as :class:`PushLayout`, plus ``remainder`` (the burst is the open chunk, sent by a flush).
    ``end`` is only set in cut-through."""

    def __init__(self, data_width: int):
        super().__init__({**{name: field.shape for name, field in PushLayout(data_width)}, "remainder": 1})


class ChannelSignature(wiring.Signature):
    """A channel (system channel or bus master), seen from the engine's sequencer.

    ``ready``: the channel can serve a request (within a request: its next segment); ``addr avail tag write_to_device`` are
    valid: ``avail`` bytes from memory address ``addr`` on. ``final``: no bytes follow those ``avail`` ones. ``hold``: the
    channel keeps the engine (block mode). ``wait``: the channel is busy, but not ready yet (a descriptor is being fetched).
    ``begin``: a request was accepted. ``moved`` for one cycle: ``length`` bytes of a segment are in the FIFO, ``error`` if it
    was cut by a bus error. ``finish`` for one cycle, after the last ``moved`` of a request: the request is over, ``last``: it
    was the device's last. ``fault`` for one cycle: a chunk of transfer ``fault_tag`` was lost on a bus error. ``abort`` for
    one cycle: disarm with error.
    """

    def __init__(self):
        super().__init__(
            {
                "ready": In(1),
                "wait": In(1),
                "hold": In(1),
                "write_to_device": In(1),
                "addr": In(32),
                "avail": In(32),
                "final": In(1),
                "tag": In(TAG_WIDTH),
                "begin": Out(1),
                "moved": Out(1),
                "length": Out(LENGTH_WIDTH),
                "error": Out(1),
                "finish": Out(1),
                "last": Out(1),
                "fault": Out(1),
                "fault_tag": Out(TAG_WIDTH),
                "abort": Out(1),
            }
        )

    def __eq__(self, other):
        return type(self) is type(other)

    def __repr__(self):
        return "ChannelSignature()"
