# SPDX-License-Identifier: BSD-2-Clause
"""A forwarded packet leaves with its old hop count: the driver patched it in a buffer that was mapped for the device's writes.

A router's driver receives a packet, synchronises the buffer for the CPU, decrements the hop count in place, unmaps the buffer
and maps it again for sending.

Mechanism: a FROM_DEVICE mapping says that only the device writes the buffer. The CPU's store is a dirty byte in the D-cache,
and the unmap invalidates the buffer's lines, because a CPU that fetches ahead may have filled them: the store is dropped. The
send then takes memory, with the old hop count. If the line was evicted in between, memory has the new one: luck.

Fix: unmap first, then store; the map for sending writes the line back. (Or map the buffer DMA_BIDIRECTIONAL.)
"""

from driver.linux import (
    DMA_FROM_DEVICE,
    DMA_TO_DEVICE,
    ENOMEM,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_unmap_single,
    kfree,
    kmalloc,
)

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(
    broken=Expect(roots={"R06"}, consequences={"R07"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R06"}, severity="corruption possible"),
)

PACKET, HOPS, OUT = 128, 8, 4096  # bytes; where the hop count stands; where the device takes packets for the other side


async def broken(dev, device, *, evicted=False):
    buf = kmalloc(dev, PACKET)
    dma = await dma_map_single(dev, buf, PACKET, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, PACKET)], False, 0, device=dev)
    await finished(device)

    await dma_sync_single_for_cpu(dev, dma, PACKET, DMA_FROM_DEVICE)
    hops = await dev.cpu.load_u8(buf + HOPS)
    await dev.cpu.store_u8(buf + HOPS, hops - 1 & 0xFF)
    if evicted:
        await evict(device, buf, PACKET)
    await dma_unmap_single(dev, dma, PACKET, DMA_FROM_DEVICE)

    error = await send(dev, device, buf)
    kfree(dev, buf)
    return error


async def fixed(dev, device):
    buf = kmalloc(dev, PACKET)
    dma = await dma_map_single(dev, buf, PACKET, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, PACKET)], False, 0, device=dev)
    await finished(device)

    await dma_unmap_single(dev, dma, PACKET, DMA_FROM_DEVICE)
    hops = await dev.cpu.load_u8(buf + HOPS)
    await dev.cpu.store_u8(buf + HOPS, hops - 1 & 0xFF)

    error = await send(dev, device, buf)
    kfree(dev, buf)
    return error


async def send(dev, device, buf):
    """The packet goes out on the other side."""
    dma = await dma_map_single(dev, buf, PACKET, DMA_TO_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, PACKET)], True, OUT, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, PACKET, DMA_TO_DEVICE)
    return 0


async def lucky(dev, device):
    return await broken(dev, device, evicted=True)
