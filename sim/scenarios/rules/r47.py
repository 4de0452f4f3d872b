# SPDX-License-Identifier: BSD-2-Clause
"""The device is told to write more than the driver has mapped.

The driver maps a packet buffer of 512 bytes and programs the card for 576, the packet with its trailer, which an older card
kept to itself. Behind the buffer lies a beacon, which is sent again and again.

Mechanism: without an IOMMU nothing stops the device. The trailer goes over the beacon, and the next beacon is sent as it now
stands in memory. A packet that ends early has no trailer, and the same driver then does no harm.

Fix: the length in the device's registers is that of the mapped buffer.
"""

from driver.linux import DMA_FROM_DEVICE, ENOMEM, devm_kmalloc, dma_map_single, dma_mapping_error, dma_unmap_single

from ...userdriver.happens import ends_short
from ..examples import Example, Expect
from ._streaming import finished, send

EXAMPLE = Example(
    broken=Expect(roots={"R47"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R47"}, severity="corruption possible"),
)

PACKET, TRAILER = 512, 64  # bytes
BEACON, BEACON_AT = bytes(range(128)), 8192  # what is sent, and where to on the device


async def receive_packet(dev, device, programmed, *, short):
    """The driver: a packet between two beacons. ``short``: the device ends the packet after its data."""
    buf = devm_kmalloc(dev, PACKET + len(BEACON))
    if not buf:
        return -ENOMEM
    beacon = buf + PACKET
    await dev.cpu.store(beacon, BEACON)
    await send(dev, device, beacon, len(BEACON), BEACON_AT)
    dma = await dma_map_single(dev, buf, PACKET, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if short:
        await ends_short(device, PACKET)
    await device.start_list([(dma, programmed)], False, 0, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, PACKET, DMA_FROM_DEVICE)
    await send(dev, device, beacon, len(BEACON), BEACON_AT)
    device.expect_write(BEACON_AT, BEACON)
    return await dev.cpu.load(buf, PACKET)


async def broken(dev, device):
    return await receive_packet(dev, device, PACKET + TRAILER, short=False)


async def fixed(dev, device):
    return await receive_packet(dev, device, PACKET, short=False)


async def lucky(dev, device):
    return await receive_packet(dev, device, PACKET + TRAILER, short=True)
