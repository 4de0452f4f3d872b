# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver believes the length that stands in the packet's header.

The device puts a packet's length, in units of 64 bytes, into a status word of coherent memory. The driver maps a receive
buffer for that much and starts the device. The buffer has 512 bytes; behind it lies a beacon, which is sent again and again.

Mechanism: what a device wrote is input like any other; a broken or hostile device (a plugged-in one, a guest's) may say
anything. The length is masked to five bits, which protects nothing: it is still larger than the buffer, and the packet runs
over the beacon. With a buffer for the largest packet that the field can name the driver works, by luck, until the field
grows.

Fix: compare the length with the buffer's before it is used, and cut or drop what does not fit.
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
from ._streaming import finished, send

EXAMPLE = Example(
    broken=Expect(roots={"R54"}, severity="corruption possible", corrupts=True),
    lucky=Expect(roots={"R54"}, severity="corruption possible"),
)

STATUS, UNIT = 64, 64  # bytes of the status word's memory, and of a unit of length
SMALLEST = 0x10  # units: a bit of the length that is always set, so that packets have 16 to 31
BEACON, BEACON_AT = bytes(range(256)) * 4, 8192  # what is sent, and where to on the device


async def receive_packet(dev, device, room, *, checks):
    """The driver: a packet as long as the device says, into a buffer of ``room`` bytes, between two beacons."""
    buf, status = devm_kmalloc(dev, room + len(BEACON)), await dma_alloc_coherent(dev, STATUS)
    if not buf or not status:
        return -ENOMEM
    beacon, (cpu_addr, dma_handle) = buf + room, status
    await dev.cpu.store(beacon, BEACON)
    await send(dev, device, beacon, len(BEACON), BEACON_AT)
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
    await send(dev, device, beacon, len(BEACON), BEACON_AT)
    device.expect_write(BEACON_AT, BEACON)
    await dma_free_coherent(dev, STATUS, cpu_addr, dma_handle)
    return await dev.cpu.load(buf, min(int(length), room))


async def broken(dev, device):
    return await receive_packet(dev, device, 512, checks=False)


async def fixed(dev, device):
    return await receive_packet(dev, device, 512, checks=True)


async def lucky(dev, device):
    return await receive_packet(dev, device, 2048, checks=False)
