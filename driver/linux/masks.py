# SPDX-License-Identifier: BSD-2-Clause
"""DMA masks and alignment: what the device reaches, and what it wants kept.

A mask of ``n`` bits means the first ``2**n`` bytes of the memory window, as behind a bus offset. Memory beyond is bounced
(``dma_map_*``) or not used (``dma_alloc_*``).
"""

from typing import Any

from ..checked import CheckedStatus
from ..errors import ArgumentError, check_integer
from ..memory import PAGE_BYTES
from .device import Device, check_device
from .values import DMA_BIT_MASK, EIO

__all__ = [
    "dma_get_cache_alignment",
    "dma_get_mask",
    "dma_get_required_mask",
    "dma_max_mapping_size",
    "dma_need_sync",
    "dma_set_coherent_mask",
    "dma_set_mask",
    "dma_set_mask_and_coherent",
    "dma_get_max_seg_size",
    "dma_get_seg_boundary",
    "dma_set_max_seg_size",
    "dma_set_min_align_mask",
    "dma_set_seg_boundary",
]


def dma_set_mask(dev: Device, mask: int) -> int:
    """dma_set_mask: streaming mappings reach what ``mask`` (``DMA_BIT_MASK(n)``) covers. 0, or ``-EIO`` if that is less than a
    page; the result must be looked at."""
    return _set(dev, "dma_set_mask", mask)


def dma_set_coherent_mask(dev: Device, mask: int) -> int:
    """dma_set_coherent_mask: the same for ``dma_alloc_*`` and pools."""
    return _set(dev, "dma_set_coherent_mask", mask)


def dma_set_mask_and_coherent(dev: Device, mask: int) -> int:
    """dma_set_mask_and_coherent: both, logged as both."""
    status = dma_set_mask(dev, mask)
    if int(status) == 0:
        dma_set_coherent_mask(dev, mask)
    return status


def dma_get_mask(dev: Device) -> int:
    """dma_get_mask: the streaming mask."""
    return DMA_BIT_MASK(check_device(dev).dma_bits)


def dma_get_required_mask(dev: Device) -> int:
    """dma_get_required_mask: the smallest mask that covers all of memory."""
    return DMA_BIT_MASK(max((check_device(dev).platform.memory_size - 1).bit_length(), 1))


def dma_max_mapping_size(dev: Device) -> int:
    """dma_max_mapping_size: the most bytes of one mapping: what bounce buffers hold, if any mapping may be bounced."""
    check_device(dev)
    platform = dev.platform
    bounced = platform.options.bounce == "always" or platform.reach_end(dev.dma_bits) < platform.reach_end(None)
    return platform.options.bounce_bytes if bounced else platform.memory_size


def dma_need_sync(dev: Device, dma_addr: int) -> bool:
    """dma_need_sync: whether syncs of this mapping do anything to caches or bounce buffers. (The engine's drain is needed
    anyway.)"""
    check_device(dev)
    check_integer("dma_addr", dma_addr, 0, (1 << 64) - 1)
    return not dev.coherent or dev.swiotlb.find(int(dma_addr)) is not None


def dma_get_cache_alignment(dev: Device) -> int:
    """dma_get_cache_alignment: what start and length of a mapping should be multiples of: the assumed cache line, bytes."""
    return check_device(dev).platform.line_bytes


def dma_set_min_align_mask(dev: Device, min_align_mask: int) -> None:
    """dma_set_min_align_mask: a bounce buffer keeps these low address bits of the memory it stands for."""
    check_device(dev)
    check_integer("min_align_mask", min_align_mask, 0, PAGE_BYTES - 1)
    if min_align_mask & (min_align_mask + 1):
        raise ArgumentError(f"min_align_mask must be a power of two minus one, not {min_align_mask}")
    dev.min_align = min_align_mask + 1


def dma_set_max_seg_size(dev: Device, size: int) -> None:
    """dma_set_max_seg_size: the longest element of a list, bytes, that the device takes. A longer one given to it is rule R46."""
    check_device(dev).maximum_segment = check_integer("size", size, 1, (1 << 32) - 1)


def dma_get_max_seg_size(dev: Device) -> int:
    """dma_get_max_seg_size: 64 KiB where nobody has set it (then nothing is checked: the limit is only the kernel's default)."""
    return check_device(dev).maximum_segment or 1 << 16


def dma_set_seg_boundary(dev: Device, mask: int) -> None:
    """dma_set_seg_boundary: no element of a list crosses a multiple of ``mask + 1`` bytes. One that does is rule R46."""
    check_device(dev)
    check_integer("mask", mask, 1, (1 << 32) - 1)
    if mask & (mask + 1):
        raise ArgumentError(f"mask must be a power of two minus one, not {mask:#x}")
    dev.segment_boundary = mask + 1


def dma_get_seg_boundary(dev: Device) -> int:
    """dma_get_seg_boundary: the mask; 4 GiB minus one where nobody has set it."""
    return (check_device(dev).segment_boundary or 1 << 32) - 1


def _set(dev: Device, name: str, mask: Any) -> int:
    check_device(dev)
    check_integer("mask", mask, 1, (1 << 64) - 1)
    bits = int(mask).bit_length()
    if int(mask) != DMA_BIT_MASK(bits):
        raise ArgumentError(f"mask must be DMA_BIT_MASK(n), not {int(mask):#x}")
    with dev.call(name, bits=bits) as call:
        call.result = 0 if 1 << bits >= PAGE_BYTES else -EIO
        if call.result == 0:
            setattr(dev, "dma_bits" if name == "dma_set_mask" else "coherent_bits", bits)
        return CheckedStatus(call.result, dev.trace, call.number)
