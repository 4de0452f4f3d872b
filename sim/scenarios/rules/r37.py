# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver unmaps its buffer twice: once where the transfer ends, once more on its way out.

The send function has one exit with a label ``out_unmap`` for its errors. When the success path learned to unmap as soon as
the device was done, the label stayed behind it.

Mechanism: the second dma_unmap_single frees what is not the driver's any more. Without a bounce buffer or an IOMMU it only
repeats the cache work, and no byte goes wrong; with one it takes the mapping of whoever got that DMA address in the meantime.

Fix: one unmap for each map.
"""

from driver.linux import DMA_TO_DEVICE, ENOMEM, devm_kmalloc, dma_map_single, dma_mapping_error, dma_unmap_single

from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(broken=Expect(roots={"R37"}, severity="corruption possible"))

BLOCK = 512  # bytes


async def send(dev, device, *, unmap_early):
    """The driver: sends a block."""
    buf = devm_kmalloc(dev, BLOCK)
    if not buf:
        return -ENOMEM
    await dev.cpu.store(buf, b"\xa5" * BLOCK)
    dma = await dma_map_single(dev, buf, BLOCK, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, BLOCK)], True, 0, device=dev)
    await finished(device)
    if unmap_early:
        await dma_unmap_single(dev, dma, BLOCK, DMA_TO_DEVICE)
    # out_unmap:
    await dma_unmap_single(dev, dma, BLOCK, DMA_TO_DEVICE)
    return 0


async def broken(dev, device):
    return await send(dev, device, unmap_early=True)


async def fixed(dev, device):
    return await send(dev, device, unmap_early=False)
