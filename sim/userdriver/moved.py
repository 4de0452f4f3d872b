# SPDX-License-Identifier: BSD-2-Clause
"""Did the bytes arrive? Payload in against payload out, for a driver that nobody told how to move them.

What a run shows is compared with what an ideal machine would hold, where every store and every DMA write is seen at once:

- the device's buffer after the run, with what the CPU had stored where each transfer to the device took its bytes;
- the buffer of each request that was completed with success, as its caller reads it, with the device's bytes;
- what the driver says itself: bytes that it returns, :meth:`StoragePort.expect_read`, :meth:`StoragePort.expect_write`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from driver.storage_port import PortTransfer
from rtl.config import SocConfig
from rtl.probe import Kind, Source

from ..record import Event

__all__ = ["MEMORY", "Bytes", "Comparison", "Request", "compare"]

MEMORY, DEVICE = "memory", "device"
_SHOWN = 8


@dataclass(frozen=True)
class Request:
    """A request that was completed with success: its buffer, cut to the bytes it reports, and what the caller reads there."""

    ranges: list[tuple[int, int]]
    write_to_device: bool
    byte_offset: int
    cycle: int
    seen: bytes = b""  # of a read, by the harness, after the run


@dataclass
class Comparison:
    """``lines`` for people; ``checked`` and ``corrupted`` count bytes; ``wrong``: the first few, (space, address, right, got)."""

    lines: list[str] = field(default_factory=list)
    checked: int = 0
    corrupted: int = 0
    wrong: list[list[Any]] = field(default_factory=list)

    def add(self, what: str, space: str, places: Iterable[int], right: bytes, got: bytes) -> None:
        """Compares two strings of bytes at their places, and says it in one line."""
        differ = [(place, a, b) for place, a, b in zip(places, right, got) if a != b]
        self.checked += len(right)
        self.corrupted += len(differ)
        self.wrong += [[space, place, a, b] for place, a, b in differ[: _SHOWN - len(self.wrong)]]
        if differ:
            place, a, b = differ[0]
            where = f"{'device ' if space == DEVICE else ''}{place:#x}"
            self.lines.append(f"{what}: {len(differ)} of {len(right)} bytes are wrong, first at {where}: {b:#04x}, not {a:#04x}")
        else:
            self.lines.append(f"{what}: {len(right)} bytes intact")


class Bytes:
    """The ideal machine: memory and device as they would be without caches and FIFOs, at the cycles that are asked for."""

    def __init__(self, config: SocConfig, memory: bytes, device: bytes):
        self._base, self._beat = config.memory.base, config.data_bytes
        self.memory, self.device = bytearray(memory), bytearray(device)
        self.delivered: dict[int, int] = {}  # memory address: the device's byte that belongs there

    def at(self, address: int, length: int) -> bytes:
        """Memory at an address; what lies outside the window reads as nothing."""
        start = max(address - self._base, 0)
        return bytes(self.memory[start : start + length]) if address >= self._base else b""

    def replay(self, events: Iterable[Event], moments: Iterable[tuple[int, Callable[[], None]]]) -> None:
        """Goes through a run; each moment's function is called when all events up to its cycle have been applied."""
        waiting = sorted(moments, key=lambda moment: moment[0])
        position = 0
        for event in events:
            while position < len(waiting) and waiting[position][0] < event.cycle:
                waiting[position][1]()
                position += 1
            if event.kind in (Kind.STORE, Kind.UNCACHED_STORE):
                self._put(event, event.aux, by_cpu=True)
            elif event.kind == Kind.MEM_WRITE and event.aux & 0xFF == Source.DMA_DATA and not event.flags & 1:
                self._put(event, event.aux >> 8, by_cpu=False)
        for _, moment in waiting[position:]:
            moment()

    def _put(self, event: Event, strobes: int, *, by_cpu: bool) -> None:
        start = event.addr - self._base
        if event.flags & 1 or not 0 <= start < len(self.memory):
            return
        for lane in range(self._beat):
            if strobes >> lane & 1:
                value = event.data >> 8 * lane & 0xFF
                self.memory[start + lane] = value
                if by_cpu and event.addr + lane in self.delivered:
                    self.delivered[event.addr + lane] = value

    def take(self, transfer: PortTransfer) -> None:
        """A transfer's hand-off: the device's bytes become what the CPU has stored, or memory is owed the device's."""
        left, offset = transfer.moved or 0, transfer.byte_offset
        for address, length in transfer.elements:
            count = min(left, length)
            if transfer.write_to_device:
                self.device[offset : offset + count] = self.at(address, count)
            else:
                self.delivered |= {address + n: self.device[offset + n] for n in range(min(count, len(self.device) - offset))}
            left, offset = left - count, offset + count


def compare(
    config: SocConfig,
    memory: bytes,
    device: bytes,
    events: Iterable[Event],
    transfers: list[PortTransfer],
    requests: list[Request],
    got: list[tuple[int, int, bytes]],
    put: list[tuple[int, int, bytes]],
    device_after: bytes,
) -> Comparison:
    """Compares everything that can be compared; ``memory`` and ``device`` are the images at cycle 0."""
    ideal, result = Bytes(config, memory, device), Comparison()
    sent: dict[int, int] = {}  # device offset: the byte that must be there at the end
    reads: list[tuple[str, range, bytes, bytes]] = []

    def handoff(transfer: PortTransfer) -> Callable[[], None]:
        def moment() -> None:
            ideal.take(transfer)
            if transfer.write_to_device:
                first = transfer.byte_offset
                sent.update({n: ideal.device[n] for n in range(first, min(first + (transfer.moved or 0), len(ideal.device)))})

        return moment

    def completed(request: Request) -> Callable[[], None]:
        def moment() -> None:
            if request.write_to_device:
                data = b"".join(ideal.at(address, length) for address, length in request.ranges)
                end = min(request.byte_offset + len(data), len(ideal.device))
                sent.update(zip(range(request.byte_offset, end), data))
                ideal.device[request.byte_offset : end] = data[: end - request.byte_offset]
                return
            offset = request.byte_offset
            for address, length in request.ranges:
                owed = ideal.device[offset : offset + length]
                for n, value in enumerate(owed, address):
                    ideal.delivered.setdefault(n, value)
                offset += length

        return moment

    def declared(offset: int, data: bytes) -> Callable[[], None]:
        def moment() -> None:
            right = bytes(ideal.device[offset : offset + len(data)])
            reads.append(("what the driver got from the device", range(offset, offset + len(data)), right, data))

        return moment

    moments = [(transfer.started, handoff(transfer)) for transfer in transfers if transfer.moved]
    moments += [(request.cycle, completed(request)) for request in requests]
    moments += [(cycle, declared(offset, data)) for cycle, offset, data in got]
    ideal.replay(events, moments)
    for number, request in enumerate(requests, 1):  # they are read after the run: what the CPU stored since then counts
        places = [address + n for address, length in request.ranges for n in range(length)]
        if not request.write_to_device:
            right = bytes(ideal.delivered.get(place, 0) for place in places)
            result.add(f"request {number}, read by its caller", MEMORY, places, right, request.seen)
    for what, places, right, seen in reads:
        result.add(what, DEVICE, places, right, seen)
    for _, offset, data in put:
        sent.update(zip(range(offset, min(offset + len(data), len(device_after))), data))
    if sent:
        places = sorted(sent)
        right, seen = bytes(sent[n] for n in places), bytes(device_after[n] for n in places)
        result.add("what the device was sent", DEVICE, places, right, seen)
    return result
