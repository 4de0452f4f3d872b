# SPDX-License-Identifier: BSD-2-Clause
"""The device is told to write more than the driver has mapped.

The driver maps a packet buffer of 512 bytes and programs the card for 576, the packet with its trailer, which an older card
kept to itself. Behind the buffer lies a record that was read before.

Mechanism: without an IOMMU nothing stops the device. The trailer goes over the record; no flush of any kind was ever made for
it. A packet that ends early has no trailer, and the same driver then does no harm.

Fix: the length in the device's registers is that of the mapped buffer.
"""

from driver.linux import DMA_FROM_DEVICE, ENOMEM, devm_kmalloc, dma_map_single, dma_mapping_error, dma_unmap_single

from ...userdriver.happens import ends_short
from ..examples import Example, Expect
from ._streaming import finished, receive

EXAMPLE = Example(
    broken=Expect(roots={"R47"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R47"}, severity="corruption possible"),
)

PACKET, TRAILER = 512, 64  # bytes
RECORD, RECORD_AT = 256, 8192  # bytes of the record, and where it stands on the device


async def receive_packet(dev, device, programmed, *, short):
    """The driver: a record, then a packet into the buffer before it. ``short``: the device ends the packet after its data."""
    buf = devm_kmalloc(dev, PACKET + RECORD)
    if not buf:
        return -ENOMEM
    if await receive(dev, device, buf + PACKET, RECORD, RECORD_AT):
        return -ENOMEM
    dma = await dma_map_single(dev, buf, PACKET, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if short:
        await ends_short(device, PACKET)
    await device.start_list([(dma, programmed)], False, 0, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, PACKET, DMA_FROM_DEVICE)
    device.expect_read(RECORD_AT, await dev.cpu.load(buf + PACKET, RECORD))
    return await dev.cpu.load(buf, PACKET)


async def broken(dev, device):
    return await receive_packet(dev, device, PACKET + TRAILER, short=False)


async def fixed(dev, device):
    return await receive_packet(dev, device, PACKET, short=False)


async def lucky(dev, device):
    return await receive_packet(dev, device, PACKET + TRAILER, short=True)
