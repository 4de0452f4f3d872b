# SPDX-License-Identifier: BSD-2-Clause
"""Streaming mappings of one piece of memory: map, sync, unmap.

What the kernel documentation (Documentation/core-api/dma-api.rst, part Id) says about ownership becomes, on this machine:

- *to the device* (map, ``sync_for_device``): the architecture's cache work, or a copy to a bounce buffer and its cache work;
- *to the CPU* (unmap, ``sync_for_cpu``): the DMA engine hands over what it holds back, then the cache work, or the copy back.

Nothing is refused that breaks a rule of the API: the calls do what a retail kernel does, and the checker speaks. ``size`` and
``offset`` are bytes. ``DMA_NONE`` stops a kernel; here it raises :class:`~driver.errors.ArgumentError`.
"""

from typing import Any

from ..errors import PoolError, check_integer
from ..memory import PAGE_BYTES
from ..platform import FlushCall
from .device import Device, check_device
from .values import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_FROM_DEVICE,
    DMA_MAPPING_ERROR,
    DMA_TO_DEVICE,
    CheckedAddress,
    DmaDirection,
    attribute_names,
    check_direction,
    direction_name,
)

__all__ = [
    "dma_map_page",
    "dma_map_page_attrs",
    "dma_map_single",
    "dma_map_single_attrs",
    "dma_mapping_error",
    "dma_sync_single_for_cpu",
    "dma_sync_single_for_device",
    "dma_sync_single_range_for_cpu",
    "dma_sync_single_range_for_device",
    "dma_unmap_page",
    "dma_unmap_page_attrs",
    "dma_unmap_single",
    "dma_unmap_single_attrs",
]

_ADDRESSES = 1 << 32


async def dma_map_single(dev: Device, cpu_addr: int, size: int, direction: DmaDirection) -> int:
    """dma_map_single: hands ``size`` bytes at ``cpu_addr`` to the device, and returns their DMA address.

    The address is ``cpu_addr`` itself, or that of a bounce buffer where the device does not reach the memory (its mask, or
    :attr:`HalOptions.bounce`). ``DMA_MAPPING_ERROR`` if there is no room for one, and for memory that this call cannot map
    (vmalloc, or no memory at all): ``dma_mapping_error`` must be asked.
    """
    return await _map(dev, "dma_map_single", cpu_addr, size, direction, 0)


async def dma_map_single_attrs(dev: Device, cpu_addr: int, size: int, direction: DmaDirection, attrs: int) -> int:
    """dma_map_single_attrs: with ``DMA_ATTR_SKIP_CPU_SYNC`` neither cache work nor copy is done. Logged as ``dma_map_single``."""
    return await _map(dev, "dma_map_single", cpu_addr, size, direction, attrs)


async def dma_map_page(dev: Device, page: int, offset: int, size: int, direction: DmaDirection) -> int:
    """dma_map_page: as :func:`dma_map_single`, for ``size`` bytes at ``offset`` of a page (named by its first address)."""
    return await dma_map_page_attrs(dev, page, offset, size, direction, 0)


async def dma_map_page_attrs(dev: Device, page: int, offset: int, size: int, direction: DmaDirection, attrs: int) -> int:
    """dma_map_page_attrs: as :func:`dma_map_single_attrs`."""
    check_integer("page", page, 0, _ADDRESSES - PAGE_BYTES, multiple_of=PAGE_BYTES)
    check_integer("offset", offset, 0, _ADDRESSES - 1 - page)
    return await _map(dev, "dma_map_page", page + offset, size, direction, attrs)


async def dma_unmap_single(dev: Device, dma_addr: int, size: int, direction: DmaDirection) -> None:
    """dma_unmap_single: takes the memory back for good; the arguments must be those of the mapping."""
    await _unmap(dev, "dma_unmap_single", dma_addr, size, direction, 0)


async def dma_unmap_single_attrs(dev: Device, dma_addr: int, size: int, direction: DmaDirection, attrs: int) -> None:
    """dma_unmap_single_attrs: with ``DMA_ATTR_SKIP_CPU_SYNC`` there is neither cache work nor copy back (the engine is
    drained)."""
    await _unmap(dev, "dma_unmap_single", dma_addr, size, direction, attrs)


async def dma_unmap_page(dev: Device, dma_addr: int, size: int, direction: DmaDirection) -> None:
    """dma_unmap_page: as :func:`dma_unmap_single`, for a mapping of :func:`dma_map_page`."""
    await _unmap(dev, "dma_unmap_page", dma_addr, size, direction, 0)


async def dma_unmap_page_attrs(dev: Device, dma_addr: int, size: int, direction: DmaDirection, attrs: int) -> None:
    """dma_unmap_page_attrs: as :func:`dma_unmap_single_attrs`."""
    await _unmap(dev, "dma_unmap_page", dma_addr, size, direction, attrs)


async def dma_sync_single_for_cpu(dev: Device, dma_addr: int, size: int, direction: DmaDirection) -> None:
    """dma_sync_single_for_cpu: lends the memory to the CPU, still mapped. ``dma_addr`` and ``size`` may name a part of the
    mapping; the cache work then covers the lines of that part."""
    await _sync(dev, "dma_sync_single_for_cpu", dma_addr, 0, size, direction)


async def dma_sync_single_for_device(dev: Device, dma_addr: int, size: int, direction: DmaDirection) -> None:
    """dma_sync_single_for_device: gives the memory (or a part of it) back to the device."""
    await _sync(dev, "dma_sync_single_for_device", dma_addr, 0, size, direction)


async def dma_sync_single_range_for_cpu(dev: Device, dma_addr: int, offset: int, size: int, direction: DmaDirection) -> None:
    """dma_sync_single_range_for_cpu: ``size`` bytes at ``offset`` of the mapping at ``dma_addr``."""
    await _sync(dev, "dma_sync_single_range_for_cpu", dma_addr, offset, size, direction)


async def dma_sync_single_range_for_device(dev: Device, dma_addr: int, offset: int, size: int, direction: DmaDirection) -> None:
    """dma_sync_single_range_for_device: ``size`` bytes at ``offset`` of the mapping at ``dma_addr``."""
    await _sync(dev, "dma_sync_single_range_for_device", dma_addr, offset, size, direction)


def dma_mapping_error(dev: Device, dma_addr: int) -> bool:
    """dma_mapping_error: whether a mapping call failed. It must be asked for every mapping. (The kernel returns an errno.)"""
    check_device(dev)
    with dev.call("dma_mapping_error", dma=_shown(dma_addr)) as call:
        check_integer("dma_addr", dma_addr, 0, DMA_MAPPING_ERROR)
        if isinstance(dma_addr, CheckedAddress):
            dma_addr.seen.note()
        call.result = int(dma_addr) == DMA_MAPPING_ERROR
        return call.result


# -- inside, and for scatter lists --------------------------------------------------------------------------------------------


async def map_bytes(dev: Device, address: int, size: int, direction: DmaDirection, *, skip: bool) -> int:
    """The DMA address of ``[address, address + size)``, or ``DMA_MAPPING_ERROR``."""
    if not dev.platform.contains(address, size):
        return DMA_MAPPING_ERROR
    if size == 0:
        return address
    if dev.swiotlb.needed([(address, size)], direction == DMA_TO_DEVICE, reach=dev.dma_bits):
        try:
            slot = await dev.swiotlb.map(
                [(address, size)],
                direction == DMA_TO_DEVICE,
                reach=dev.dma_bits,
                copy=not skip,
                alignment=max(64, dev.min_align),
                offset=address % dev.min_align,
            )
        except PoolError:
            return DMA_MAPPING_ERROR
        return slot.address
    if not skip:
        await dev.hal.sync_for_device(direction, [(address, size)])
    return address


async def sync_bytes_for_cpu(dev: Device, dma: int, size: int, direction: DmaDirection) -> None:
    """The cache work or the copy back; the engine must have been drained."""
    slot = dev.swiotlb.find(dma)
    if slot is None:
        if size:
            await dev.hal.sync_for_cpu(direction, [(dma, size)])
        return
    offset = dma - slot.address
    length = min(size, slot.length - offset)
    if length and direction != DMA_TO_DEVICE:
        await dev.swiotlb.copy_out(slot, offset, length)


async def sync_bytes_for_device(dev: Device, dma: int, size: int, direction: DmaDirection) -> None:
    """The cache work or the copy to the bounce buffer."""
    slot = dev.swiotlb.find(dma)
    if slot is None:
        if size:
            await dev.hal.sync_for_device(direction, [(dma, size)])
        return
    offset = dma - slot.address
    length = min(size, slot.length - offset)
    if length and direction == DMA_FROM_DEVICE:
        await dev.hal.flush_caches(FlushCall.BOUNCE_FROM_DEVICE, [(dma, length)])
    elif length:
        await dev.swiotlb.copy_in(slot, offset, length)


async def unmap_bytes(dev: Device, dma: int, size: int, direction: DmaDirection, *, skip: bool) -> None:
    """Takes a piece back; the engine must have been drained."""
    if not skip:
        await sync_bytes_for_cpu(dev, dma, size, direction)
    slot = dev.swiotlb.find(dma)
    if slot is not None:
        dev.swiotlb.unmap(slot)


async def _map(dev: Device, name: str, address: Any, size: Any, direction: Any, attrs: Any) -> int:
    check_device(dev)
    shown = {"direction": direction_name(direction), "attrs": attribute_names(attrs)}
    with dev.call(name, address=address, length=size, **shown) as call:
        check_integer("cpu_addr", address, 0, _ADDRESSES - 1)
        check_integer("size", size, 0, _ADDRESSES - address)
        way = check_direction(direction)
        dma = DMA_MAPPING_ERROR
        if name == "dma_map_page" or dev.kind(address) != "vmalloc":
            dma = await map_bytes(dev, int(address), int(size), way, skip=bool(attrs & DMA_ATTR_SKIP_CPU_SYNC))
        call.result = _shown(dma)
        return CheckedAddress(dma, dev.trace, call.number)


async def _unmap(dev: Device, name: str, dma: Any, size: Any, direction: Any, attrs: Any) -> None:
    check_device(dev)
    shown = {"direction": direction_name(direction), "attrs": attribute_names(attrs)}
    with dev.call(name, dma=_shown(dma), length=size, **shown):
        way = _check_part(dma, 0, size, direction)
        await dev.drain()
        if _shown(dma) is not None:
            await unmap_bytes(dev, int(dma), int(size), way, skip=bool(attrs & DMA_ATTR_SKIP_CPU_SYNC))


async def _sync(dev: Device, name: str, dma: Any, offset: Any, size: Any, direction: Any) -> None:
    check_device(dev)
    with dev.call(name, dma=_shown(dma), offset=offset, length=size, direction=direction_name(direction)):
        way = _check_part(dma, offset, size, direction)
        if name.endswith("for_cpu"):
            await dev.drain()
        if _shown(dma) is not None:
            sync = sync_bytes_for_cpu if name.endswith("for_cpu") else sync_bytes_for_device
            await sync(dev, int(dma) + int(offset), int(size), way)


def _check_part(dma: Any, offset: Any, size: Any, direction: Any) -> DmaDirection:
    failed = check_integer("dma_addr", dma, 0, DMA_MAPPING_ERROR) == DMA_MAPPING_ERROR
    if not failed:
        check_integer("dma_addr", dma, 0, _ADDRESSES - 1)
        check_integer("offset", offset, 0, _ADDRESSES - 1 - dma)
        check_integer("size", size, 0, _ADDRESSES - dma - offset)
    return check_direction(direction)


def _shown(dma: Any) -> Any:
    """A DMA address as the call log shows it: null for ``DMA_MAPPING_ERROR``."""
    if not isinstance(dma, int):
        return repr(dma)
    return None if int(dma) == DMA_MAPPING_ERROR else dma
