# SPDX-License-Identifier: BSD-2-Clause
"""Map registers: bounce pages between a buffer and a device that cannot take it as it lies.

A map register stands for one page. Where the device reaches the buffer, and takes it in pieces or finds it in one, a
mapping costs nothing and the device gets the buffer's own addresses. Otherwise the mapping is a range of bounce memory with
the buffer's offset in its page: the CPU copies into it when it is mapped and, after device-to-memory, out of it when it is
flushed. :attr:`HalOptions.bounce` can ask for more of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..bounce import BouncePool, BounceSlot
from ..errors import AdapterError
from ..hal import Hal
from ..memory import PAGE_BYTES
from ..platform import FlushCall
from ..trace import Trace
from .mdl import Mdl

__all__ = ["MapRegisters", "Mapper", "mdl_pieces", "pages_of"]

_ADDRESSES = 1 << 32


@dataclass(eq=False)
class Mapping:
    """One bounced piece: bytes ``[offset, offset + length)`` of the MDL chain, in ``slot``."""

    mdl: Mdl
    offset: int
    length: int
    slot: BounceSlot


@dataclass(eq=False)
class MapRegisters:
    """The handle that AdapterControl gets as MapRegisterBase. ``context`` is the version 3 context it was allocated under."""

    id: int
    adapter: Any
    count: int
    context: Any = None
    freed: bool = False
    mappings: list[Mapping] = field(default_factory=list)

    def log(self) -> dict[str, int]:
        """As the call log shows it."""
        return {"id": self.id, "count": self.count}

    def __repr__(self) -> str:
        return f"<MapRegisters {self.id}: {self.count}{', freed' if self.freed else ''}>"


def mdl_pieces(mdl: Mdl, offset: int, length: int) -> list[tuple[int, int]]:
    """``(address, length)`` of each contiguous piece of ``[offset, offset + length)`` of the chain.

    A range that leaves the chain goes on in the memory before its first or after its last byte: there is no check in a retail
    kernel either, only whatever page stands there.

    Raises
    ------
    AdapterError
        If that is no address any more.
    """
    parts = [(part.virtual_address, part.byte_count) for part in mdl.chain()]
    total = sum(size for _, size in parts)
    if offset < 0:
        parts[0] = (parts[0][0] + offset, parts[0][1] - offset)
        total, offset = total - offset, 0
    if offset + length > total:
        parts[-1] = (parts[-1][0], parts[-1][1] + offset + length - total)
    pieces, position = [], 0
    for address, size in parts:
        low, high = max(offset, position), min(offset + length, position + size)
        if low < high:
            pieces.append((address + low - position, high - low))
        position += size
    for address, size in pieces:
        if address < 0 or address + size > _ADDRESSES:
            raise AdapterError(f"current_va and length must name addresses from 0 to 0xffffffff, not {address:#x} + {size}")
    return pieces


def pages_of(pieces: Sequence[tuple[int, int]]) -> int:
    """Pages that the pieces touch: the map registers they need."""
    return sum((address + size - 1) // PAGE_BYTES - address // PAGE_BYTES + 1 for address, size in pieces)


class Mapper:
    """Maps and flushes the buffers of one adapter.

    Parameters
    ----------
    reach : address bits of the device.
    contiguous : the device takes one range, so a buffer in pieces is gathered in bounce memory.
    """

    def __init__(self, hal: Hal, trace: Trace, *, reach: int, contiguous: bool):
        self._reach, self.contiguous = reach, contiguous
        self._hal, self._pool = hal, BouncePool(hal, trace, "map-registers")

    async def map(
        self, registers: MapRegisters | None, mdl: Mdl, offset: int, pieces: Sequence[tuple[int, int]], write_to_device: bool
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Maps ``pieces``, the bytes from ``offset`` of the chain on; copies what is bounced into its bounce pages.

        Returns the ranges for the device, and those of ``pieces`` that are not bounced (their cache lines meet the device).

        Raises
        ------
        AdapterError
            If a bounce is needed and there are no map registers.
        PoolError
            If no bounce memory is left.
        """
        if not pieces:
            return [], []
        groups = [list(pieces)] if self.contiguous else [[piece] for piece in pieces]
        device: list[tuple[int, int]] = []
        direct: list[tuple[int, int]] = []
        for group in groups:
            length = sum(size for _, size in group)
            if not self._pool.needed(group, write_to_device, reach=self._reach, contiguous=self.contiguous):
                device.append((group[0][0], length))  # one piece, or several that follow each other
                direct += group
            else:
                if registers is None:
                    raise AdapterError("map_register_base must be map registers for a buffer that is bounced, not None")
                start = group[0][0] % PAGE_BYTES
                self._make_room(registers, pages_of([(start, length)]))
                slot = await self._pool.map(group, write_to_device, reach=self._reach, alignment=PAGE_BYTES, offset=start)
                registers.mappings.append(Mapping(mdl, offset, length, slot))
                device.append((slot.address, length))
            offset += length
        return device, direct

    async def flush(
        self, registers: MapRegisters | None, mdl: Mdl, offset: int, length: int, write_to_device: bool, *, done: bool
    ) -> list[tuple[int, int]]:
        """After the transfer: copies back what was bounced of ``[offset, offset + length)``, unless ``write_to_device``.

        Returns the ranges of the rest, whose cache lines met the device. With ``done`` the bounce pages that lie in the range
        with all of their bytes are given back; without, a second flush can copy again.
        """
        direct, position, end = [], offset, offset + length
        mappings = [] if registers is None else [m for m in registers.mappings if m.mdl is mdl]
        for mapping in sorted(mappings, key=lambda m: m.offset):
            low, high = max(mapping.offset, offset), min(mapping.offset + mapping.length, end)
            if low >= high:
                continue
            if position < low:
                direct += mdl_pieces(mdl, position, low - position)
            position = max(position, high)
            if not write_to_device:
                await self._pool.copy_out(mapping.slot, low - mapping.offset, high - low)
                # The copy is dirty, and the I-cache knows nothing of it. A direct transfer leaves the buffer in memory and in no
                # cache; a driver cannot know that it was bounced, so this one has to leave it fit to be fetched and sent on too.
                await self._hal.flush_caches(FlushCall.BOUNCED_READ, mdl_pieces(mdl, low, high - low))
            if done and high - low == mapping.length:
                self._unmap(registers, mapping)
        return direct + (mdl_pieces(mdl, position, end - position) if position < end else [])

    def release(self, registers: MapRegisters) -> None:
        """The registers are given back: what is still in their bounce pages is lost."""
        for mapping in list(registers.mappings):
            self._unmap(registers, mapping)

    def _make_room(self, registers: MapRegisters, pages: int) -> None:
        """A mapping that finds the registers full takes the pages of earlier ones that nobody flushed."""
        while registers.mappings and registers.count and self._used(registers) + pages > registers.count:
            self._unmap(registers, registers.mappings[0])

    @staticmethod
    def _used(registers: MapRegisters) -> int:
        return sum(pages_of([(mapping.slot.address, mapping.length)]) for mapping in registers.mappings)

    def _unmap(self, registers: MapRegisters | None, mapping: Mapping) -> None:
        if registers is not None:
            registers.mappings.remove(mapping)
        self._pool.unmap(mapping.slot)
