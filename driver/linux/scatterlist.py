# SPDX-License-Identifier: BSD-2-Clause
"""Scatter lists: several pieces of memory in one mapping.

A list is a Python list of :class:`Scatterlist`. Nothing is merged: ``dma_map_sg`` returns as many elements as went in, or none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..checked import CheckedInt
from ..errors import ArgumentError, check_integer, check_type
from ..memory import PAGE_BYTES
from .device import Device, check_device
from .streaming import map_bytes, sync_bytes_for_cpu, sync_bytes_for_device, unmap_bytes
from .values import DMA_ATTR_SKIP_CPU_SYNC, DMA_MAPPING_ERROR, DmaDirection, attribute_names, check_direction, direction_name

__all__ = [
    "Scatterlist",
    "dma_map_sg",
    "dma_map_sg_attrs",
    "dma_sync_sg_for_cpu",
    "dma_sync_sg_for_device",
    "dma_unmap_sg",
    "dma_unmap_sg_attrs",
    "for_each_sg",
    "sg_dma_address",
    "sg_dma_len",
    "sg_init_table",
    "sg_set_buf",
    "sg_set_page",
]


@dataclass(eq=False)
class Scatterlist:
    """struct scatterlist: the CPU's piece, and after a mapping the device's."""

    address: int = 0
    length: int = 0
    dma_address: int | None = None
    dma_length: int = 0


def sg_init_table(nents: int) -> list[Scatterlist]:
    """sg_init_table: a list of ``nents`` empty entries."""
    return [Scatterlist() for _ in range(check_integer("nents", nents, 1, 1 << 16))]


def sg_set_buf(sg: Scatterlist, buf: int, buflen: int) -> None:
    """sg_set_buf: the entry is ``buflen`` bytes at ``buf``."""
    check_type("sg", sg, Scatterlist)
    check_integer("buf", buf, 0, (1 << 32) - 1)
    sg.address, sg.length = buf, check_integer("buflen", buflen, 0, (1 << 32) - buf)


def sg_set_page(sg: Scatterlist, page: int, length: int, offset: int) -> None:
    """sg_set_page: the entry is ``length`` bytes at ``offset`` of a page (named by its first address)."""
    check_integer("page", page, 0, (1 << 32) - PAGE_BYTES, multiple_of=PAGE_BYTES)
    sg_set_buf(sg, page + check_integer("offset", offset, 0, (1 << 32) - 1 - page), length)


def for_each_sg(sglist: Sequence[Scatterlist], nents: int) -> Iterator[Scatterlist]:
    """for_each_sg: the first ``nents`` entries."""
    return iter(_entries(sglist, nents))


def sg_dma_address(sg: Scatterlist) -> int:
    """sg_dma_address: where the device finds the entry; only after ``dma_map_sg``."""
    if check_type("sg", sg, Scatterlist).dma_address is None:
        raise ArgumentError("sg must be mapped (dma_map_sg) before its DMA address is asked for")
    return sg.dma_address


def sg_dma_len(sg: Scatterlist) -> int:
    """sg_dma_len: how many bytes the device finds there."""
    return check_type("sg", sg, Scatterlist).dma_length


async def dma_map_sg(dev: Device, sglist: Sequence[Scatterlist], nents: int, direction: DmaDirection) -> int:
    """dma_map_sg: maps every entry and fills in its DMA address and length. Returns the number of elements for the device, 0 if
    it failed (then nothing is mapped); the number must be looked at."""
    return await dma_map_sg_attrs(dev, sglist, nents, direction, 0)


async def dma_map_sg_attrs(dev: Device, sglist: Sequence[Scatterlist], nents: int, direction: DmaDirection, attrs: int) -> int:
    """dma_map_sg_attrs: as :func:`dma_map_sg`, with attributes. Logged as ``dma_map_sg``."""
    with _call(dev, "dma_map_sg", sglist, nents, direction, attrs=attribute_names(attrs)) as call:
        way, skip, mapped = check_direction(direction), bool(attrs & DMA_ATTR_SKIP_CPU_SYNC), []
        for sg in _entries(sglist, nents):
            dma = await map_bytes(dev, sg.address, sg.length, way, skip=skip)
            if dma == DMA_MAPPING_ERROR:
                for done in mapped:
                    await unmap_bytes(dev, done.dma_address, done.dma_length, way, skip=True)
                    done.dma_address, done.dma_length = None, 0
                mapped = []
                break
            sg.dma_address, sg.dma_length = dma, sg.length
            mapped.append(sg)
        call.result = {"elements": [[sg.dma_address, sg.dma_length] for sg in mapped]}
        return CheckedInt(len(mapped), dev.trace, call.number, "null")


async def dma_unmap_sg(dev: Device, sglist: Sequence[Scatterlist], nents: int, direction: DmaDirection) -> None:
    """dma_unmap_sg: takes the memory back for good; ``nents`` is what was passed to ``dma_map_sg``, not what it returned."""
    await dma_unmap_sg_attrs(dev, sglist, nents, direction, 0)


async def dma_unmap_sg_attrs(dev: Device, sglist: Sequence[Scatterlist], nents: int, direction: DmaDirection, attrs: int) -> None:
    """dma_unmap_sg_attrs: as :func:`dma_unmap_sg`, with attributes."""
    with _call(dev, "dma_unmap_sg", sglist, nents, direction, attrs=attribute_names(attrs)):
        way, skip = check_direction(direction), bool(attrs & DMA_ATTR_SKIP_CPU_SYNC)
        await dev.drain()
        for sg in _entries(sglist, nents):
            if sg.dma_address is not None:
                await unmap_bytes(dev, sg.dma_address, sg.dma_length, way, skip=skip)
                sg.dma_address, sg.dma_length = None, 0


async def dma_sync_sg_for_cpu(dev: Device, sglist: Sequence[Scatterlist], nents: int, direction: DmaDirection) -> None:
    """dma_sync_sg_for_cpu: lends all of the list to the CPU, still mapped. The arguments are those of ``dma_map_sg``."""
    with _call(dev, "dma_sync_sg_for_cpu", sglist, nents, direction):
        way = check_direction(direction)
        await dev.drain()
        for sg in _entries(sglist, nents):
            if sg.dma_address is not None:
                await sync_bytes_for_cpu(dev, sg.dma_address, sg.dma_length, way)


async def dma_sync_sg_for_device(dev: Device, sglist: Sequence[Scatterlist], nents: int, direction: DmaDirection) -> None:
    """dma_sync_sg_for_device: gives all of the list back to the device."""
    with _call(dev, "dma_sync_sg_for_device", sglist, nents, direction):
        way = check_direction(direction)
        for sg in _entries(sglist, nents):
            if sg.dma_address is not None:
                await sync_bytes_for_device(dev, sg.dma_address, sg.dma_length, way)


def _call(dev: Device, name: str, sglist: Any, nents: Any, direction: Any, **more: Any) -> Any:
    check_device(dev)
    entries = [[sg.address, sg.length] for sg in _entries(sglist, nents)]
    return dev.call(name, entries=entries, direction=direction_name(direction), **more)


def _entries(sglist: Any, nents: Any) -> list[Scatterlist]:
    check_type("sglist", sglist, (list, tuple))
    for sg in sglist:
        check_type("sglist's entries", sg, Scatterlist)
        check_integer("sg.address", sg.address, 0, (1 << 32) - 1)
        check_integer("sg.length", sg.length, 0, (1 << 32) - sg.address)
    return list(sglist[: check_integer("nents", nents, 1, len(sglist))])
