# SPDX-License-Identifier: BSD-2-Clause
"""DMA channels and the segments of work the mover accepts for them."""

from collections import deque

__all__ = ["Channel", "Segment", "describe"]


def describe(number: int) -> str:
    """A channel's name in error texts."""
    return "the bus master" if number == 4 else f"system channel {number}"


class Channel:
    """One system channel, or the bus master (number 4), whose length grows with each descriptor.

    ``count``: bytes of the transfer; ``residue``: bytes not yet accepted; ``taken`` / ``pushed``: bytes the mover accepted / that
    entered the FIFO; ``error``: something that may end the transfer with an error has happened.
    """

    def __init__(self, number: int):
        self.number = number
        self.armed = self.reloaded = False
        self.stop_cycle = 0
        self.started: tuple[int, int, int, bool] | None = None
        self.arm(-1, 0, 0, 0)
        self.armed = False

    def arm(self, tag: int, start: int, count: int, to_device: int) -> None:
        """The hand-off: ``start`` is a memory address, or the first descriptor's."""
        self.tag, self.to_device = tag, to_device
        self.taken = self.pushed = 0
        self.stop = self.error = self.reloaded = False
        self.armed = True
        self.next, self.count = start, count
        self.residue = count
        self.last = self.number != 4
        self.extents: deque[list[int]] = deque() if self.number == 4 else deque([[start, count]])

    def rearm(self, start: int, count: int) -> None:
        """Auto-init at terminal count. A stop written just before may still belong to the transfer that goes on."""
        stop = self.stop
        self.arm(self.tag, start, count, self.to_device)
        self.reloaded, self.stop = True, stop

    def describe(self, addr: int, length: int, last: bool, following: int) -> None:
        """A descriptor was read."""
        self.error |= length == 0
        self.extents.append([addr, length])
        self.count += length
        self.residue += length
        self.last, self.next = last, following

    def advance(self, addr: int, length: int) -> str | None:
        """The mover accepts ``length`` bytes at ``addr``; gives the rule this breaks."""
        self.reloaded = False
        self.taken += length
        self.residue = max(self.residue - length, 0)
        while self.extents and not self.extents[0][1]:
            self.extents.popleft()
        if not self.extents:
            return "the transfer has no bytes left"
        extent = self.extents[0]
        problem = None
        if not length:
            problem = "a segment must have at least one byte"
        elif addr != extent[0]:
            problem = f"the next byte is at {extent[0]:#010x}"
        elif length > extent[1]:
            problem = f"only {extent[1]} bytes are left there"
        extent[:] = addr + length, max(extent[1] - length, 0)
        return problem


class Segment:
    """Bytes between a memory address and a device offset; ``read`` and ``pushed`` count how far they have come."""

    __slots__ = ("addr", "channel", "dead", "device", "failed", "length", "pushed", "read", "tag")

    def __init__(self, addr: int, device: int, length: int, tag: int, channel: Channel):
        self.addr, self.device, self.length, self.tag, self.channel = addr, device, length, tag, channel
        self.read = self.pushed = 0
        self.dead = self.failed = False
