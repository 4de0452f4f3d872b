# SPDX-License-Identifier: BSD-2-Clause
"""A network driver looks at a packet's header before it has synchronised the buffer for the CPU.

The card writes packets into a buffer that stays mapped. At each interrupt the driver reads the header to learn what kind of
packet it is, then calls dma_sync_single_for_cpu() and copies the packet. On x86, where the sync does nothing, the order does
not matter.

Mechanism: while the card writes to memory, a CPU that fetches ahead may bring lines of the buffer into its D-cache, with what
memory held then. The header that the driver reads is that of the packet before. The sync invalidates the lines, so the copy is
right and the header is not. If other work has pushed the line out of the cache, the CPU reads memory: luck.

Fix: dma_sync_single_for_cpu() first; nothing of the buffer may be looked at before it.
"""

from driver.linux import (
    DMA_FROM_DEVICE,
    ENOMEM,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_single,
    kfree,
    kmalloc,
)

from ...userdriver.happens import evict, prefetch
from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(
    broken=Expect(roots={"R04"}, severity="corruption seen", corrupts=True, architecture="arm64"),
    fixed=Expect(architecture="arm64"),
    lucky=Expect(roots={"R04"}, severity="corruption possible", architecture="arm64"),
)

PACKET, HEADER = 256, 16  # bytes


async def broken(dev, device, *, busy=False):
    buf = kmalloc(dev, PACKET)
    dma = await dma_map_single(dev, buf, PACKET, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    for n in range(2):
        await (evict if busy else prefetch)(device, buf, HEADER)
        await device.start_list([(dma, PACKET)], False, n * PACKET, device=dev)
        await finished(device)
        header = await dev.cpu.load(buf, HEADER)
        device.expect_read(n * PACKET, header)
        await dma_sync_single_for_cpu(dev, dma, PACKET, DMA_FROM_DEVICE)
        device.expect_read(n * PACKET, await dev.cpu.load(buf, PACKET))
        await dma_sync_single_for_device(dev, dma, PACKET, DMA_FROM_DEVICE)
    await dma_unmap_single(dev, dma, PACKET, DMA_FROM_DEVICE)
    kfree(dev, buf)
    return 0


async def fixed(dev, device):
    buf = kmalloc(dev, PACKET)
    dma = await dma_map_single(dev, buf, PACKET, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    for n in range(2):
        await prefetch(device, buf, HEADER)
        await device.start_list([(dma, PACKET)], False, n * PACKET, device=dev)
        await finished(device)
        await dma_sync_single_for_cpu(dev, dma, PACKET, DMA_FROM_DEVICE)
        header = await dev.cpu.load(buf, HEADER)
        device.expect_read(n * PACKET, header)
        device.expect_read(n * PACKET, await dev.cpu.load(buf, PACKET))
        await dma_sync_single_for_device(dev, dma, PACKET, DMA_FROM_DEVICE)
    await dma_unmap_single(dev, dma, PACKET, DMA_FROM_DEVICE)
    kfree(dev, buf)
    return 0


async def lucky(dev, device):
    return await broken(dev, device, busy=True)  # other work has pushed the line out of the D-cache each time
