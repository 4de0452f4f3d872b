# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver maps the header and sends header and payload.

Both lie in one buffer, the payload behind the header. The descriptor that goes to the device covers the frame, the mapping
only the header: the constant of an older version, in which the payload went out in a transfer of its own.

Mechanism: dma_map_single cleans the lines that it is given. The payload's lines stay dirty in the D-cache, and the device
reads what memory held before. (An IOMMU would stop the transfer.) If the cache happened to have written the lines back by
then, the frame is right.

Fix: map what the device is given.
"""

from driver.linux import DMA_TO_DEVICE, ENOMEM, devm_kmalloc, dma_map_single, dma_mapping_error, dma_unmap_single

from ...userdriver.happens import write_back
from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(
    broken=Expect(roots={"R44"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R44"}, severity="corruption possible"),
)

HEADER, FRAME = 64, 512  # bytes


async def send_frame(dev, device, mapped, *, written_back):
    """The driver: sends a frame of which it maps ``mapped`` bytes. ``written_back``: the cache happens to clean the frame."""
    frame = devm_kmalloc(dev, FRAME)
    if not frame:
        return -ENOMEM
    await dev.cpu.store(frame, b"\x5a" * HEADER + b"\xa5" * (FRAME - HEADER))
    dma = await dma_map_single(dev, frame, mapped, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if written_back:
        await write_back(device, frame, FRAME)
    await device.start_list([(dma, FRAME)], True, 0, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, mapped, DMA_TO_DEVICE)
    return 0


async def broken(dev, device):
    return await send_frame(dev, device, HEADER, written_back=False)


async def fixed(dev, device):
    return await send_frame(dev, device, FRAME, written_back=False)


async def lucky(dev, device):
    return await send_frame(dev, device, HEADER, written_back=True)
