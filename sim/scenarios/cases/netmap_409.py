# SPDX-License-Identifier: BSD-2-Clause
"""netmap issue 409: packets of a receive ring are read without a sync for the CPU.

netmap maps the buffers of a network card's rings once, and lends them to applications. Its port to Linux left the
synchronisation of these mappings out; on Intel machines nobody noticed. On ARM, packets that came out of the receive ring
often were not those that had been sent (issue 409).

Mechanism: the application's reads of a packet leave its lines in the D-cache. When the ring has gone round, the card writes
another packet to the same buffer in memory; nobody drops the lines, and the application reads the packet of the last round. A
CPU that fetches ahead may even bring lines in that nobody has read.

Fix: dma_sync_single_for_cpu() before a received packet is handed to the application, and dma_sync_single_for_device() when
the buffer goes back to the card. (The pull requests 410 and 411 added a function for it, called for each packet of both
rings.)
"""

from driver.linux import (
    DMA_BIDIRECTIONAL,
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

_BROKEN = Expect(roots={"R04"}, severity="corruption seen", corrupts=True, architecture="arm")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    case="netmap issue 409",
)

SIZE = 256  # bytes of a packet buffer
ROUNDS = 3  # the ring has one slot here


async def broken(dev, device, *, busy=False):
    slot = kmalloc(dev, SIZE)
    paddr = await dma_map_single(dev, slot, SIZE, DMA_BIDIRECTIONAL)
    if dma_mapping_error(dev, paddr):
        return -ENOMEM
    for n in range(ROUNDS):
        await device.start_list([(paddr, SIZE)], False, n * SIZE, device=dev)
        await device.wait(100_000)
        await device.acknowledge()

        device.expect_read(n * SIZE, await dev.cpu.load(slot, SIZE))  # the application

        if busy:
            await evict(device, slot, SIZE)
    await dma_unmap_single(dev, paddr, SIZE, DMA_BIDIRECTIONAL)
    kfree(dev, slot)
    return 0


async def fixed(dev, device):
    slot = kmalloc(dev, SIZE)
    paddr = await dma_map_single(dev, slot, SIZE, DMA_BIDIRECTIONAL)
    if dma_mapping_error(dev, paddr):
        return -ENOMEM
    for n in range(ROUNDS):
        await device.start_list([(paddr, SIZE)], False, n * SIZE, device=dev)
        await device.wait(100_000)
        await device.acknowledge()
        await dma_sync_single_for_cpu(dev, paddr, SIZE, DMA_BIDIRECTIONAL)
        device.expect_read(n * SIZE, await dev.cpu.load(slot, SIZE))  # the application
        await dma_sync_single_for_device(dev, paddr, SIZE, DMA_BIDIRECTIONAL)
    await dma_unmap_single(dev, paddr, SIZE, DMA_BIDIRECTIONAL)
    kfree(dev, slot)
    return 0


async def lucky(dev, device):
    return await broken(dev, device, busy=True)  # other work has pushed the packet out of the D-cache each time
