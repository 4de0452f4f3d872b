# SPDX-License-Identifier: BSD-2-Clause
"""Raspberry Pi issue 575: USB audio drops out, because pieces of 32 bytes of old data are sent.

The USB controller's driver (dwc_otg) copies data that is not aligned to 32 bits to an aligned buffer of its own, and lets the
controller fetch it from there. In a USB audio stream, 32-byte chunks of old data were seen on the wire. With the D-cache off
they were gone (Raspberry Pi Linux issue 575).

Mechanism: the copy is made by the CPU, so the new samples are in the D-cache. Lines that have been evicted by then are in
memory, others are not: for each of those the controller fetches 32 bytes of the transfer before.

Fix: after the copy, and before the controller starts, the buffer goes back to the device (dma_sync_single_for_device): that
cleans its lines. In the thread it is left open why the sync calls of that kernel did not help.
"""

from driver.linux import (
    DMA_TO_DEVICE,
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

_BROKEN = Expect(roots={"R01"}, severity="corruption seen", corrupts=True, architecture="arm")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    source=("S6",),
    case="Raspberry Pi Linux issue 575",
)

EVICTED = ((0, 64), (96, 32))  # (offset, length) of what has left the D-cache when the controller starts
PACKET = 192  # bytes: one millisecond of 48 kHz stereo
SOUND = [bytes(n * step % 256 for n in range(PACKET)) for step in (3, 5, 7)]


async def broken(dev, device, *, evicted=EVICTED):
    align_buf = kmalloc(dev, PACKET)
    dma = await dma_map_single(dev, align_buf, PACKET, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    for number, samples in enumerate(SOUND):
        await dma_sync_single_for_cpu(dev, dma, PACKET, DMA_TO_DEVICE)
        await dev.cpu.store(align_buf, samples)  # memcpy
        for offset, length in evicted:
            await evict(device, align_buf + offset, length)

        await device.start_list([(dma, PACKET)], True, number * PACKET, device=dev)
        await device.wait(100_000)
        await device.acknowledge()
        await device.device_done(100_000)
    await dma_unmap_single(dev, dma, PACKET, DMA_TO_DEVICE)
    kfree(dev, align_buf)
    return 0


async def fixed(dev, device):
    align_buf = kmalloc(dev, PACKET)
    dma = await dma_map_single(dev, align_buf, PACKET, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    for number, samples in enumerate(SOUND):
        await dma_sync_single_for_cpu(dev, dma, PACKET, DMA_TO_DEVICE)
        await dev.cpu.store(align_buf, samples)  # memcpy
        for offset, length in EVICTED:
            await evict(device, align_buf + offset, length)
        await dma_sync_single_for_device(dev, dma, PACKET, DMA_TO_DEVICE)
        await device.start_list([(dma, PACKET)], True, number * PACKET, device=dev)
        await device.wait(100_000)
        await device.acknowledge()
        await device.device_done(100_000)
    await dma_unmap_single(dev, dma, PACKET, DMA_TO_DEVICE)
    kfree(dev, align_buf)
    return 0


async def lucky(dev, device):
    return await broken(dev, device, evicted=((0, PACKET),))  # all of it has left the D-cache by itself
