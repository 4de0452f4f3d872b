# SPDX-License-Identifier: BSD-2-Clause
"""Common buffers: memory that driver and device share for long."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..bus import Attribute
from ..checked import Null, NullChecked
from ..cpu import Cpu
from ..errors import AdapterError, PoolError, check_flag, check_integer
from ..memory import PAGE_BYTES
from ..platform import FlushCall
from ..taint import DeviceValue
from ..trace import Call
from .adapter_base import AdapterBase, check_int

__all__ = ["CommonBuffer", "CommonBufferRoutines"]


@dataclass(eq=False)
class CommonBuffer(NullChecked):
    """What AllocateCommonBuffer returns; unpacks as ``virtual_address, logical_address``.

    :meth:`read` and :meth:`write` access it with the attribute it was allocated with. Another attribute on the same bytes
    (a cached pointer to an uncached buffer) is the mismatched alias that real CPUs leave undefined. ``length`` is what was asked
    for; the memory behind it is whole pages, and nothing stops an access to the rest of them.
    """

    id: int
    cpu: Cpu
    virtual_address: int
    logical_address: int
    length: int
    cache_enabled: bool
    freed: bool = False

    def __iter__(self) -> Iterator[int]:
        return iter((self.virtual_address, self.logical_address))

    @property
    def attribute(self) -> Attribute:
        """How the CPU accesses it."""
        return Attribute.CACHED if self.cache_enabled else Attribute.UNCACHED

    @property
    def pages(self) -> int:
        """Bytes of the whole pages behind it."""
        return whole_pages(self.length)

    async def read(self, offset: int, length: int) -> bytes:
        """Loads ``length`` bytes at ``offset``; raises :class:`AdapterError` outside its pages or after it was freed."""
        self._check(offset, length)
        load = self.cpu.load if self.cache_enabled else self.cpu.load_uncached
        return await load(self.virtual_address + offset, length)

    async def write(self, offset: int, data: bytes) -> None:
        """Stores ``data`` at ``offset``; raises like :meth:`read`."""
        self._check(offset, len(data))
        store = self.cpu.store if self.cache_enabled else self.cpu.store_uncached
        await store(self.virtual_address + offset, data)

    async def read_ulong(self, offset: int) -> DeviceValue:
        """Loads a little-endian 32-bit word; it remembers that the device may have written it. Raises like :meth:`read`."""
        self._check(offset, 4)
        return await self.cpu.load_u32(self.virtual_address + offset, uncached=not self.cache_enabled)

    async def write_ulong(self, offset: int, value: int) -> None:
        """Stores a little-endian 32-bit word; raises like :meth:`read`."""
        self._check(offset, 4)
        await self.cpu.store_u32(self.virtual_address + offset, value, uncached=not self.cache_enabled)

    def _check(self, offset: Any, length: Any) -> None:
        if self.freed:
            raise AdapterError(f"common buffer {self.id} must be allocated, not freed")
        check_integer("offset", offset, 0, self.pages - 1, error=AdapterError)
        check_integer("length", length, 1, self.pages - offset, error=AdapterError)


def whole_pages(length: int) -> int:
    """``length`` rounded up to pages, bytes."""
    return -(-length // PAGE_BYTES) * PAGE_BYTES


class CommonBufferRoutines(AdapterBase):
    """AllocateCommonBuffer and FreeCommonBuffer."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._buffers: list[CommonBuffer] = []
        self._freed: dict[int, int] = {}  # address -> id, for the log of a double free

    async def allocate_common_buffer(self, length: int, cache_enabled: bool) -> CommonBuffer | Null:
        """AllocateCommonBuffer: whole pages for driver and device; unpacks as ``virtual_address, logical_address``.

        With ``cache_enabled=False`` its range is cleaned and invalidated first, on every platform, because uncached accesses look
        no cache up. With True, KeFlushIoBuffers is owed before each transfer to or from it (through an MDL over the buffer).

        Returns NULL (a value that is false) if the length is zero or no memory in the device's reach is left.
        """
        check_int("length", length)
        check_flag("cache_enabled", cache_enabled, error=AdapterError)
        with self._call("AllocateCommonBuffer", length=length, cache_enabled=cache_enabled) as call:
            return await self._allocate(call, length, cache_enabled, None)

    async def free_common_buffer(self, length: int, logical_address: int, virtual_address: int, cache_enabled: bool) -> None:
        """FreeCommonBuffer: the buffer at ``virtual_address`` goes back, whatever the other values say.

        They should be those of the allocation. If no buffer of this adapter is there (freed before, or foreign), nothing happens.
        """
        for name, value in (("length", length), ("logical_address", logical_address), ("virtual_address", virtual_address)):
            check_int(name, value)
        check_flag("cache_enabled", cache_enabled, error=AdapterError)
        address = int(virtual_address)
        found = next((b for b in self._buffers if b.virtual_address == address), None)
        with self._call(
            "FreeCommonBuffer",
            buffer=self._freed.get(address) if found is None else found.id,
            address=logical_address,
            length=length,
            cache_enabled=cache_enabled,
        ):
            if found is None:
                return
            if not found.cache_enabled:
                self._hal.set_uncached(found.virtual_address, found.pages, False)
            self._hal.pool.free(found.virtual_address)
            self._buffers.remove(found)
            self._freed[address] = found.id
            found.freed = True

    async def _allocate(self, call: Call, length: int, cache_enabled: bool, maximum_address: int | None) -> CommonBuffer | Null:
        size = self._size("length", length)
        below = self._hal.platform.reach_end(self.reach)
        if maximum_address is not None:
            below = min(below, maximum_address + 1)
        try:
            address = self._hal.pool.allocate(size, alignment=PAGE_BYTES, exclusive=True, what="common buffer", below=below)
        except PoolError:
            return Null(self._trace, call.number, call.name)
        if not cache_enabled:
            await self._hal.flush_caches(FlushCall.UNCACHE, [(address, whole_pages(size))])
            self._hal.set_uncached(address, whole_pages(size), True)
        buffer = CommonBuffer(self.kernel.number(), self._cpu, address, address, size, cache_enabled)
        self._buffers.append(buffer)
        call.result = {"buffer": buffer.id, "address": address, "length": size}
        buffer.must_be_checked(self._trace, call.number)
        return buffer
