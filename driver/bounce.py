# SPDX-License-Identifier: BSD-2-Clause
"""Bounce buffers: memory that the device reaches, in the place of a buffer that it does not.

Behind the map registers of the WDK and the swiotlb of Linux. The CPU copies through its cache, so the bounce bytes owe the
cache work that the buffer itself would owe; the pool does it. The buffer's own lines never meet the device, so they owe none. ::

    slot = await pool.map([(address, 100)], False, reach=16)   # copies in, cleans
    ...                                                        # the device works on [slot.address, slot.address + 100)
    await pool.copy_out(slot)                                  # invalidates, copies back
    pool.unmap(slot)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .bus import Attribute
from .errors import ArgumentError, PoolError, check_flag, check_integer
from .hal import Hal
from .platform import FlushCall
from .trace import Trace

__all__ = ["BouncePool", "BounceSlot", "check_pairs"]

_OWNERS = ("map-registers", "swiotlb")


@dataclass(eq=False)
class BounceSlot:
    """One bounce buffer: ``length`` bytes from ``address`` on, for the bytes of ``source`` in their order."""

    address: int
    length: int
    source: tuple[tuple[int, int], ...]
    write_to_device: bool
    whole: bool
    owned: bool  # the pool allocated it, and frees it at unmap

    def pieces(self, offset: int, length: int) -> list[tuple[int, int]]:
        """The source's ranges behind ``[offset, offset + length)`` of the slot."""
        found, position = [], 0
        for address, size in self.source:
            low, high = max(offset, position), min(offset + length, position + size)
            if low < high:
                found.append((address + low - position, high - low))
            position += size
        return found


class BouncePool:
    """The bounce buffers of one owner.

    Parameters
    ----------
    hal : gives memory, platform and cache work.
    trace : BounceMap, BounceCopy and BounceUnmap are logged there.
    owner : ``"map-registers"`` or ``"swiotlb"``, for the log.

    Members: ``slots``, those mapped now, by ascending time.
    """

    def __init__(self, hal: Hal, trace: Trace, owner: str):
        if owner not in _OWNERS:
            raise ArgumentError(f"owner must be one of {', '.join(_OWNERS)}, not {owner!r}")
        self._hal, self._trace, self._owner = hal, trace, owner
        self._held: dict[int, int] = {}  # address -> length of what reserve gave
        self.slots: list[BounceSlot] = []

    @property
    def used_bytes(self) -> int:
        """Bytes of bounce memory in use, against :attr:`HalOptions.bounce_bytes`."""
        return sum(self._held.values())

    def needed(
        self,
        ranges: Sequence[Sequence[int]],
        write_to_device: bool,
        *,
        reach: int | None = None,
        contiguous: bool = False,
    ) -> bool:
        """Whether a transfer of ``ranges`` goes through a bounce buffer (:attr:`HalOptions.bounce`).

        Parameters
        ----------
        reach : address bits of the device (the first ``2**reach`` bytes of memory); None reaches everything.
        contiguous : the device takes one range, so a buffer in several pieces needs a bounce.
        """
        platform, mode = self._hal.platform, self._hal.platform.options.bounce
        pairs = check_pairs(ranges)
        if mode == "always" or any(address + length > platform.reach_end(reach) for address, length in pairs):
            return True
        if contiguous and any(a + n != b for (a, n), (b, _) in pairwise(pairs)):
            return True
        if mode != "unaligned" or write_to_device or platform.coherent:
            return False
        return any(edge % platform.line_bytes for address, length in pairs for edge in (address, address + length))

    def reserve(self, length: int, *, reach: int | None = None, alignment: int = 64, offset: int = 0) -> int:
        """The address of bounce memory for :meth:`map`'s ``at``; it shares no line with anybody.

        Raises
        ------
        PoolError
            If the pool's bytes or the memory within reach are used up.
        """
        options = self._hal.platform.options
        check_integer("length", length, 1, 1 << 32, error=PoolError)
        if self.used_bytes + length > options.bounce_bytes:
            raise PoolError(
                f"length must fit the {options.bounce_bytes - self.used_bytes} of {options.bounce_bytes} bytes "
                f"that are left for bounce buffers, not {length}"
            )
        address = self._hal.pool.allocate(
            length,
            alignment=max(alignment, self._hal.platform.line_bytes),
            offset=offset,
            exclusive=True,
            what="bounce buffer",
            below=self._hal.platform.reach_end(reach),
        )
        self._held[address] = length
        return address

    def release(self, address: int) -> None:
        """Gives back what :meth:`reserve` gave."""
        if address not in self._held:
            raise PoolError(f"address must be bounce memory that is reserved, not {address!r}")
        del self._held[address]
        self._hal.pool.free(address)

    async def map(
        self,
        ranges: Sequence[Sequence[int]],
        write_to_device: bool,
        *,
        reach: int | None = None,
        whole: bool | None = None,
        copy: bool = True,
        at: int | None = None,
        alignment: int = 64,
        offset: int = 0,
    ) -> BounceSlot:
        """A bounce buffer for ``ranges``, ready for the device.

        The bytes of the buffer are copied in, in both directions: a device that writes less than the whole then changes nothing
        else when all of it is copied back. The lines are then cleaned (memory-to-device) or cleaned and invalidated.

        Parameters
        ----------
        ranges : pairs of address and length; the slot takes them in their order, without gaps.
        write_to_device : False if the device may write the buffer.
        reach : address bits of the device; None reaches everything.
        whole : device-to-memory without the copy in, and copied back whole whatever is asked for;
            None takes :attr:`HalOptions.bounce_copies_whole`.
        copy : False leaves the bounce bytes and their cache lines alone.
        at : address of memory that :meth:`reserve` gave and that :meth:`unmap` then leaves reserved; None allocates.
        alignment, offset : of the slot's address, as for :meth:`MemoryPool.allocate`; at least a cache line.

        Raises
        ------
        PoolError
            If the pool's bytes or the memory within reach are used up.
        """
        pairs = check_pairs(ranges)
        check_flag("write_to_device", write_to_device)
        whole = self._hal.platform.options.bounce_copies_whole if whole is None else check_flag("whole", whole)
        length = sum(size for _, size in pairs)
        address = self.reserve(length, reach=reach, alignment=alignment, offset=offset) if at is None else at
        slot = BounceSlot(address, length, tuple(pairs), write_to_device, whole and not write_to_device, at is None)
        self._trace.event(
            "BounceMap",
            source=[list(pair) for pair in pairs],
            bounce=[address, length],
            write_to_device=write_to_device,
            owner=self._owner,
            whole=slot.whole,
        )
        self.slots.append(slot)
        if copy and not slot.whole:
            await self.copy_in(slot)
        elif copy:
            await self._hal.flush_caches(FlushCall.BOUNCE_FROM_DEVICE, [(address, length)])
        return slot

    async def copy_in(self, slot: BounceSlot, offset: int = 0, length: int | None = None) -> None:
        """Copies the buffer's bytes to the bounce buffer and makes them ready for the device.

        Raises
        ------
        ArgumentError
            If ``[offset, offset + length)`` leaves the slot, or the slot is not mapped.
        """
        offset, length = self._part(slot, offset, length)
        bounce, source = (slot.address + offset, length), slot.pieces(offset, length)
        await self._copy(source, [bounce], to_device=True)
        call = FlushCall.BOUNCE_TO_DEVICE if slot.write_to_device else FlushCall.BOUNCE_FROM_DEVICE
        await self._hal.flush_caches(call, [bounce])

    async def copy_out(self, slot: BounceSlot, offset: int = 0, length: int | None = None) -> None:
        """Drops the bounce buffer's cache lines and copies its bytes back to the buffer (all of them if the slot is ``whole``).

        Raises as :meth:`copy_in`.
        """
        offset, length = self._part(slot, offset, length)
        if slot.whole:
            offset, length = 0, slot.length
        bounce, source = (slot.address + offset, length), slot.pieces(offset, length)
        await self._hal.flush_caches(FlushCall.BOUNCE_TO_CPU, [bounce])
        await self._copy([bounce], source, to_device=False)

    def unmap(self, slot: BounceSlot) -> None:
        """Gives the slot back, without a copy. Raises :class:`ArgumentError` if it is not mapped."""
        self._part(slot, 0, None)
        self._trace.event("BounceUnmap", bounce=[slot.address, slot.length])
        self.slots.remove(slot)
        if slot.owned:
            self.release(slot.address)

    def find(self, address: int) -> BounceSlot | None:
        """The mapped slot that holds this bounce address, or None."""
        return next((slot for slot in self.slots if slot.address <= address < slot.address + slot.length), None)

    def _part(self, slot: BounceSlot, offset: int, length: int | None) -> tuple[int, int]:
        if slot not in self.slots:
            raise ArgumentError(f"slot must be mapped by this pool, not {slot!r}")
        check_integer("offset", offset, 0, slot.length - 1)
        length = slot.length - offset if length is None else length
        return offset, check_integer("length", length, 1, slot.length - offset)

    async def _copy(self, source: Sequence[tuple[int, int]], target: Sequence[tuple[int, int]], *, to_device: bool) -> None:
        """The CPU's copy, a line of the target at a time."""
        lists = {"source": [list(pair) for pair in source], "target": [list(pair) for pair in target]}
        with self._trace.call("BounceCopy", **lists, to_device=to_device):
            for read, write, length in _steps(source, target, self._hal.platform.line_bytes):
                data = await self._hal.bus.read(read, length, self._attribute(read, length))
                await self._hal.bus.write(write, data, self._attribute(write, length))

    def _attribute(self, address: int, length: int) -> Attribute:
        return Attribute.UNCACHED if self._hal.is_uncached(address, length) else Attribute.CACHED


def _steps(source: Sequence[tuple[int, int]], target: Sequence[tuple[int, int]], line: int) -> list[tuple[int, int, int]]:
    """``(from, to, length)``, cut at the ranges' ends and at the target's lines."""
    steps, left, right = [], list(source), list(target)
    while left:
        (read, available), (write, room) = left[0], right[0]
        length = min(available, room, line - write % line)
        steps.append((read, write, length))
        left[:1] = [(read + length, available - length)] if available > length else []
        right[:1] = [(write + length, room - length)] if room > length else []
    return steps


def check_pairs(ranges: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """``ranges`` as pairs of address and length; raises :class:`ArgumentError` unless they are some, inside 32 bits, none
    empty."""
    pairs = []
    for item in ranges:
        try:
            address, length = item
        except (TypeError, ValueError):
            raise ArgumentError(f"ranges must be pairs of address and length, not {item!r}") from None
        check_integer("address", address, 0, (1 << 32) - 1)
        check_integer("length", length, 1, (1 << 32) - address)
        pairs.append((address, length))
    if not pairs:
        raise ArgumentError("ranges must name at least one range, not none")
    return pairs
