# SPDX-License-Identifier: BSD-2-Clause
"""Network drivers on arm64 that relied on the wrong sync call to invalidate their receive buffers.

Until 2022, arm64 invalidated the buffer when it was handed to a device that writes it. Commit c50f11c6196f made that a clean:
bytes that the device does not write must not become stale, and old contents must not show through. Drivers that had called
dma_sync_single_for_device() where they meant "now the CPU reads" had been right by accident, and no longer were.

Mechanism: for_device cleans the lines of the buffer, but leaves them in the D-cache. Lines of the last packet, or lines that
the CPU has fetched ahead, hide what the network card has written to memory since.

Fix: dma_sync_single_for_cpu() before the CPU reads a packet; dma_sync_single_for_device() when the buffer goes back to the
card.
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

from ...userdriver.happens import evict
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R04"}, severity="corruption seen", corrupts=True, architecture="arm64")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm64"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    case="NIC drivers after arm64 c50f11c6196f",
)

SIZE = 256  # bytes of a receive buffer


async def broken(dev, device, *, busy=False):
    buffer = kmalloc(dev, SIZE)
    dma = await dma_map_single(dev, buffer, SIZE, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    for n in range(3):
        await device.start_list([(dma, SIZE)], False, n * SIZE, device=dev)
        await device.wait(100_000)
        await device.acknowledge()
        await dma_sync_single_for_device(dev, dma, SIZE, DMA_FROM_DEVICE)
        device.expect_read(n * SIZE, await dev.cpu.load(buffer, SIZE))

        if busy:
            await evict(device, buffer, SIZE)
    await dma_unmap_single(dev, dma, SIZE, DMA_FROM_DEVICE)
    kfree(dev, buffer)
    return 0


async def fixed(dev, device):
    buffer = kmalloc(dev, SIZE)
    dma = await dma_map_single(dev, buffer, SIZE, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    for n in range(3):
        await device.start_list([(dma, SIZE)], False, n * SIZE, device=dev)
        await device.wait(100_000)
        await device.acknowledge()
        await dma_sync_single_for_cpu(dev, dma, SIZE, DMA_FROM_DEVICE)
        device.expect_read(n * SIZE, await dev.cpu.load(buffer, SIZE))
        await dma_sync_single_for_device(dev, dma, SIZE, DMA_FROM_DEVICE)
    await dma_unmap_single(dev, dma, SIZE, DMA_FROM_DEVICE)
    kfree(dev, buffer)
    return 0


async def lucky(dev, device):
    return await broken(dev, device, busy=True)  # other work has pushed the packet out of the D-cache each time
