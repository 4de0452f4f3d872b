# SPDX-License-Identifier: BSD-2-Clause
"""A Linux network driver unmaps the length of the packet instead of the length that it mapped.

A receive buffer of 1024 bytes is mapped, a packet comes, and the driver unmaps as much as the packet is long: "why invalidate
more?" A packet that was cut, whose header says 64 bytes while the device wrote more, is then passed on whole for diagnosis.

Mechanism: dma_unmap_single takes the buffer back from the device, all of it or nothing that can be relied upon. The lines
behind the length that it was told are not invalidated (a bounce buffer would not be copied back), and what the CPU fetched
ahead of them stays. An IOMMU would keep the rest of the mapping for ever. Without speculation in the wrong moment all bytes
are right.

Fix: unmap with the address, size and direction of the map. To look at a part only, dma_sync_single_for_cpu takes a part.
"""

from driver.linux import DMA_FROM_DEVICE, ENOMEM, devm_kmalloc, dma_map_single, dma_mapping_error, dma_unmap_single

from ...userdriver.happens import prefetch
from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(
    broken=Expect(roots={"R41"}, consequences={"R04"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R41"}, severity="corruption possible"),
)

MAPPED, PACKET = 1024, 64  # bytes of the buffer, and what the packet's header says


async def receive_packet(dev, device, unmapped, *, speculates):
    """The driver: returns the buffer. ``speculates``: the CPU happens to prefetch it before the data comes."""
    buf = devm_kmalloc(dev, MAPPED)
    if not buf:
        return -ENOMEM
    dma = await dma_map_single(dev, buf, MAPPED, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if speculates:
        await prefetch(device, buf, MAPPED)
    await device.start_list([(dma, MAPPED)], False, 0, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, unmapped, DMA_FROM_DEVICE)
    return await dev.cpu.load(buf, MAPPED)


async def broken(dev, device):
    return await receive_packet(dev, device, PACKET, speculates=True)


async def fixed(dev, device):
    return await receive_packet(dev, device, MAPPED, speculates=True)


async def lucky(dev, device):
    return await receive_packet(dev, device, PACKET, speculates=False)
