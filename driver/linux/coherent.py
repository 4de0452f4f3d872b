# SPDX-License-Identifier: BSD-2-Clause
"""Memory that CPU and device share for long: coherent, and noncoherent (cached, with explicit ownership).

On a non-coherent machine coherent memory is uncached memory; its range is zeroed, cleaned and invalidated first, because uncached
accesses look no cache up. On a coherent machine it is ordinary cached memory.
"""

from collections.abc import Iterator
from typing import Any

from ..checked import Null, NullChecked
from ..errors import ArgumentError, PoolError, check_integer
from ..memory import PAGE_BYTES
from ..platform import FlushCall
from .device import Device, check_device
from .values import GFP_KERNEL, CheckedAddress, DmaDirection, check_direction, check_gfp, direction_name

__all__ = [
    "DmaBuffer",
    "dma_alloc_coherent",
    "dma_alloc_noncoherent",
    "dma_free_coherent",
    "dma_free_noncoherent",
    "dmaengine_synchronize",
]


class DmaBuffer(NullChecked):
    """What the allocating calls return; unpacks as ``cpu_addr, dma_handle``.

    Members: ``id``, ``cpu_addr``, ``dma_handle``, ``length`` (what was asked for; the memory behind coherent buffers is whole
    pages), ``cached`` (how the CPU accesses it), ``freed``.
    """

    def __init__(self, dev: Device, address: int, length: int, room: int, call: int):
        self._dev, self._room, self._call = dev, room, call
        self.id = dev.hal.number()
        self.cpu_addr = self.dma_handle = address
        self.length, self.freed = length, False
        self.must_be_checked(dev.trace, call)

    @property
    def cached(self) -> bool:
        """Whether the CPU's accesses go through its cache."""
        return not self._dev.hal.is_uncached(self.cpu_addr, 1)

    def __iter__(self) -> Iterator[int]:
        return iter((CheckedAddress(self.cpu_addr, self._dev.trace, self._call), self.dma_handle))

    async def read(self, offset: int, length: int) -> bytes:
        """Loads ``length`` bytes at ``offset`` the way this memory is mapped; raises :class:`ArgumentError` outside its
        memory."""
        self._check(offset, length)
        return await self._dev.bus.read(self.cpu_addr + offset, length, self._dev.attribute(self.cpu_addr + offset, length))

    async def write(self, offset: int, data: bytes) -> None:
        """Stores ``data`` at ``offset``; as :meth:`read`."""
        self._check(offset, len(data))
        await self._dev.bus.write(self.cpu_addr + offset, data, self._dev.attribute(self.cpu_addr + offset, len(data)))

    def result(self) -> dict[str, Any]:
        """As the call log shows it."""
        shown = {"buffer": self.id, "address": self.cpu_addr, "dma": self.dma_handle, "length": self.length}
        return {**shown, "cached": self.cached}

    def __repr__(self) -> str:
        return f"<DmaBuffer {self.id}: {self.length} bytes at {self.cpu_addr:#010x}>"

    def _check(self, offset: Any, length: Any) -> None:
        if self.freed:
            raise ArgumentError(f"buffer must be allocated to be accessed, not freed: DMA buffer {self.id}")
        check_integer("offset", offset, 0, self._room - 1)
        check_integer("length", length, 1, self._room - offset)


async def dma_alloc_coherent(dev: Device, size: int, gfp: int = GFP_KERNEL) -> DmaBuffer | Null:
    """dma_alloc_coherent: zeroed memory for CPU and device, in whole pages within the coherent mask.

    Returns a :class:`DmaBuffer` (``cpu_addr, dma_handle``), or NULL, a value that is false, if there is no such memory.
    No sync is needed for it. Bytes that the DMA engine holds back are not the cache's: where a transfer does not end on a chunk,
    :func:`dmaengine_synchronize` is.
    """
    check_device(dev)
    with dev.call("dma_alloc_coherent", length=size) as call:
        check_integer("size", size, 1, 1 << 32)
        check_gfp(gfp)
        address = await take_pages(dev, int(size), uncached=not dev.coherent)
        return _handed_out(dev, call, address, int(size))


async def dma_alloc_noncoherent(dev: Device, size: int, direction: DmaDirection, gfp: int = GFP_KERNEL) -> DmaBuffer | Null:
    """dma_alloc_noncoherent: cached, zeroed pages that the device reaches.

    They are owned in turn as a streaming mapping that is never unmapped: ``dma_sync_single_for_device`` before the device uses
    them, ``dma_sync_single_for_cpu`` before the CPU does. Returns as :func:`dma_alloc_coherent`.
    """
    check_device(dev)
    with dev.call("dma_alloc_noncoherent", length=size, direction=direction_name(direction)) as call:
        check_integer("size", size, 1, 1 << 32)
        check_direction(direction)
        check_gfp(gfp)
        address = await take_pages(dev, int(size), uncached=False)
        return _handed_out(dev, call, address, int(size))


async def dma_free_coherent(dev: Device, size: int, cpu_addr: int, dma_handle: int) -> None:
    """dma_free_coherent: gives the memory back; the arguments must be those of the allocation. Unknown memory is only logged."""
    _free(dev, "dma_free_coherent", size, cpu_addr, dma_handle)


async def dma_free_noncoherent(dev: Device, size: int, cpu_addr: int, dma_handle: int, direction: DmaDirection) -> None:
    """dma_free_noncoherent: as :func:`dma_free_coherent`; ``direction`` is that of the allocation."""
    check_direction(direction)
    _free(dev, "dma_free_noncoherent", size, cpu_addr, dma_handle)


async def dmaengine_synchronize(dev: Device) -> bool:
    """dmaengine_synchronize: makes the DMA engine hand over what it holds back, in both directions.

    Needed for coherent memory where a transfer does not end on a chunk; ``dma_unmap_*`` and ``dma_sync_*_for_cpu`` do it by
    themselves. False if bytes are missing: after a bus error, or a time-out of the engine. (The kernel's returns nothing.)
    """
    check_device(dev)
    with dev.call("dmaengine_synchronize") as call:
        await dev.drain()
        call.result = dev.drained.ok
        return call.result


# -- inside, and for pools ----------------------------------------------------------------------------------------------------


async def take_pages(dev: Device, size: int, *, uncached: bool) -> int | None:
    """The address of zeroed pages, or None."""
    room = -(-size // PAGE_BYTES) * PAGE_BYTES
    try:
        address = dev.hal.pool.allocate(
            room,
            alignment=PAGE_BYTES,
            exclusive=True,
            what="DMA memory",
            below=dev.platform.reach_end(dev.coherent_bits),
        )
    except PoolError:
        return None
    line = dev.platform.line_bytes
    for start in range(0, size, line):
        await dev.bus.write(address + start, bytes(min(line, size - start)))
    if uncached:
        await dev.hal.flush_caches(FlushCall.UNCACHE, [(address, room)])
        dev.hal.set_uncached(address, room, True)
    return address


def give_back(dev: Device, address: int, size: int) -> None:
    room = -(-size // PAGE_BYTES) * PAGE_BYTES
    if dev.hal.is_uncached(address, room):
        dev.hal.set_uncached(address, room, False)
    dev.hal.pool.free(address)


def _handed_out(dev: Device, call: Any, address: int | None, size: int) -> DmaBuffer | Null:
    if address is None:
        return Null(dev.trace, call.number, call.name)
    buffer = DmaBuffer(dev, address, size, -(-size // PAGE_BYTES) * PAGE_BYTES, call.number)
    dev.buffers[address] = buffer
    call.result = buffer.result()
    return buffer


def _free(dev: Device, name: str, size: Any, cpu_addr: Any, dma_handle: Any) -> None:
    check_device(dev)
    with dev.call(name, address=cpu_addr, dma=dma_handle, length=size):
        for what, value in (("size", size), ("cpu_addr", cpu_addr), ("dma_handle", dma_handle)):
            check_integer(what, value, 0, 1 << 32)
        buffer = dev.buffers.pop(int(cpu_addr), None)
        if buffer is not None:
            buffer.freed = True
            give_back(dev, buffer.cpu_addr, buffer.length)
