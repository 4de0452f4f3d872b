# SPDX-License-Identifier: BSD-2-Clause
"""A whole, correct streaming transfer, for the part of Linux examples that is not about their rule."""

from driver.linux import DMA_TO_DEVICE, ENOMEM, Device, dma_map_single, dma_mapping_error, dma_unmap_single
from driver.storage_port import StoragePort

__all__ = ["finished", "send"]


async def finished(device: StoragePort) -> int:
    """Waits for the transfer's end, and returns how many bytes moved."""
    await device.wait(100_000)
    return await device.acknowledge()


async def send(dev: Device, device: StoragePort, buf: int, size: int, byte_offset: int) -> int:
    """Sends ``size`` bytes at ``buf`` to the device. 0 or a negative errno."""
    dma = await dma_map_single(dev, buf, size, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, size)], True, byte_offset, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, size, DMA_TO_DEVICE)
    return 0
