# SPDX-License-Identifier: BSD-2-Clause
"""A short frame is padded with somebody else's memory: its bounce buffer was copied back whole.

The card has 16 address bits; the driver's buffer lies above them, so it is mapped through swiotlb. The driver clears the
buffer, so that short frames end in zeros, receives into it and forwards it at its full size. To save a copy it maps with
DMA_ATTR_SKIP_CPU_SYNC, and only makes the caches ready by a sync before each transfer: the device overwrites the buffer anyway.
(Linux had such a leak itself, CVE-2022-0854.)

Mechanism: without the copy at the map the bounce buffer holds what its last user left there. The card ends the frame early. The
unmap copies all of the mapping back: what the device has written, and behind it the leftovers. Bytes of the buffer that no
device ever wrote have changed, and leave with the frame. If the last user left zeros, nobody sees it: luck.

Fix: map without the attribute: the bounce buffer then begins with the buffer's own bytes, and a short frame changes nothing
else.
"""

from driver.linux import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_BIT_MASK,
    DMA_FROM_DEVICE,
    DMA_TO_DEVICE,
    EIO,
    ENOMEM,
    dma_map_single,
    dma_map_single_attrs,
    dma_mapping_error,
    dma_set_mask,
    dma_sync_single_for_device,
    dma_unmap_single,
    kfree,
    kmalloc,
)

from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(
    broken=Expect(roots={"R52"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R52"}, severity="corruption possible"),
)

FRAME, SHORT = 256, 84  # bytes: asked for, and what the card has
OUT, ZEROS = 8192, 12288  # where the device takes frames


async def broken(dev, device):
    return await forward(dev, device, DMA_ATTR_SKIP_CPU_SYNC)


async def fixed(dev, device):
    return await forward(dev, device, 0)


async def forward(dev, device, attrs, *, zeros_before=False):
    """The driver: receives a frame into a cleared buffer, mapped with ``attrs``, and sends the buffer."""
    if dma_set_mask(dev, DMA_BIT_MASK(16)):
        return -EIO
    buf = kmalloc(dev, FRAME, above=dev.platform.memory_base + (1 << 16))
    await dev.cpu.store(buf, bytes(FRAME))
    if zeros_before:
        await send(dev, device, buf, ZEROS)

    dma = await dma_map_single_attrs(dev, buf, FRAME, DMA_FROM_DEVICE, attrs)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await dma_sync_single_for_device(dev, dma, FRAME, DMA_FROM_DEVICE)
    await device.hal.regs.dev.short.write(SHORT)  # the card ends the frame here
    await device.start_list([(dma, FRAME)], False, 0, device=dev)
    await finished(device)
    await device.hal.regs.dev.short.write(0)
    await dma_unmap_single(dev, dma, FRAME, DMA_FROM_DEVICE)

    device.expect_read(0, await dev.cpu.load(buf, SHORT))
    error = await send(dev, device, buf, OUT)
    device.expect_write(OUT + SHORT, bytes(FRAME - SHORT))
    kfree(dev, buf)
    return error


async def send(dev, device, buf, byte_offset):
    """A whole frame goes out."""
    dma = await dma_map_single(dev, buf, FRAME, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, FRAME)], True, byte_offset, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, FRAME, DMA_TO_DEVICE)
    return 0


async def lucky(dev, device):
    return await forward(dev, device, DMA_ATTR_SKIP_CPU_SYNC, zeros_before=True)  # the bounce buffer's last user sent zeros
