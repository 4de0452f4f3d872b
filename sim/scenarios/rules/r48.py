# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver gives the device the buffer's own address instead of the DMA address.

The device has 17 address lines and says so with dma_set_mask. The buffer lies beyond what it reaches, so dma_map_single
copies it into a bounce buffer and returns the address of that. The driver programs the device with virt_to_phys of the
buffer, as it always did.

Mechanism: the device is given an address that it cannot drive. Whatever the upper lines do on a real board, it does not read
the bounce buffer; here it reads the buffer itself, whose lines nobody has cleaned, and gets what memory held before. If the
cache happened to have written them back, the data is right.

Fix: the device gets the address that the mapping returned, and no other.
"""

from driver.linux import (
    DMA_BIT_MASK,
    DMA_TO_DEVICE,
    EIO,
    ENOMEM,
    devm_kmalloc,
    dma_map_single,
    dma_mapping_error,
    dma_set_mask,
    dma_unmap_single,
)

from ...userdriver.happens import write_back
from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(
    broken=Expect(roots={"R48"}, consequences={"R44"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R48"}, consequences={"R44"}, severity="corruption possible"),
)

BLOCK = 512  # bytes
LINES = 17  # address lines of the device: the first 128 KiB of memory


async def send(dev, device, *, own_address, written_back):
    """The driver: sends a block. ``written_back``: the cache happens to clean it before the start."""
    if dma_set_mask(dev, DMA_BIT_MASK(LINES)) != 0:
        return -EIO
    buf = devm_kmalloc(dev, BLOCK, above=dev.platform.reach_end(LINES))
    if not buf:
        return -ENOMEM
    await dev.cpu.store(buf, b"\xa5" * BLOCK)
    dma = await dma_map_single(dev, buf, BLOCK, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if written_back:
        await write_back(device, buf, BLOCK)
    await device.start_list([(buf if own_address else dma, BLOCK)], True, 0, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, BLOCK, DMA_TO_DEVICE)
    return 0


async def broken(dev, device):
    return await send(dev, device, own_address=True, written_back=False)


async def fixed(dev, device):
    return await send(dev, device, own_address=False, written_back=False)


async def lucky(dev, device):
    return await send(dev, device, own_address=True, written_back=True)
