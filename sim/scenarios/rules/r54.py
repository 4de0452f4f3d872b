# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver believes the length that stands in the packet's header.

The device puts a packet's length, in units of 64 bytes, into a status word of coherent memory. The driver maps a receive
buffer for that much, starts the device, and hands the packet on. The buffer has 512 bytes.

Mechanism: what a device wrote is input like any other; a broken or hostile device (a plugged-in one, a guest's) may say
anything. The length is masked to five bits, which protects nothing: it is still larger than the buffer, and the packet runs
over a record behind it. With a buffer for the largest packet that the field can name the driver works, by luck, until the
field grows.

Fix: compare the length with the buffer's before it is used, and drop what does not fit.
"""

from driver.linux import (
    DMA_FROM_DEVICE,
    ENOMEM,
    devm_kmalloc,
    dma_alloc_coherent,
    dma_free_coherent,
    dma_map_single,
    dma_mapping_error,
    dma_unmap_single,
    dmaengine_synchronize,
)

from ..examples import Example, Expect
from ._streaming import finished, receive

EXAMPLE = Example(
    broken=Expect(roots={"R54"}, severity="corruption possible", corrupts=True),
    lucky=Expect(roots={"R54"}, severity="corruption possible"),
)

STATUS, RECORD, RECORD_AT = 64, 1024, 8192  # bytes of status word and record; where the record stands on the device
UNIT, SMALLEST = 64, 0x10  # bytes per unit; the header's fixed bit: packets have 16 to 31 units


async def receive_packet(dev, device, room, *, checks):
    """The driver: a packet as long as the device says, into a buffer of ``room`` bytes with a record behind it."""
    buf, status = devm_kmalloc(dev, room + RECORD), await dma_alloc_coherent(dev, STATUS)
    if not buf or not status:
        return -ENOMEM
    if await receive(dev, device, buf + room, RECORD, RECORD_AT):
        return -ENOMEM
    cpu_addr, dma_handle = status
    await device.start_list([(dma_handle, STATUS)], False, 0, device=dev, buffer=status)
    await finished(device)
    await dmaengine_synchronize(dev)
    length = (await dev.cpu.load_u8(cpu_addr, uncached=True) & 0xF | SMALLEST) * UNIT
    if checks and length > room:
        length = room
    dma = await dma_map_single(dev, buf, length, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, length)], False, 0, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, length, DMA_FROM_DEVICE)
    device.expect_read(RECORD_AT, await dev.cpu.load(buf + room, RECORD))
    await dma_free_coherent(dev, STATUS, cpu_addr, dma_handle)
    return await dev.cpu.load(buf, min(int(length), room))


async def broken(dev, device):
    return await receive_packet(dev, device, 512, checks=False)


async def fixed(dev, device):
    return await receive_packet(dev, device, 512, checks=True)


async def lucky(dev, device):
    return await receive_packet(dev, device, 2048, checks=False)
