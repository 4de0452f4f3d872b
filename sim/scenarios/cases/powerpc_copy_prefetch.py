# SPDX-License-Identifier: BSD-2-Clause
"""PowerPC: the kernel's copy routines prefetch beyond their source, into a neighbour's DMA buffer.

On PowerPCs without coherent caches the kernel invalidated a buffer before a device wrote it. Nobody was to touch it until the
transfer was over. The kernel's copy routines (copy_page, __copy_tofrom_user) prefetched up to four cache lines past the end
of the source, to be fast (linuxppc-embedded, September 2003).

Mechanism: two pages lie side by side. One is given to a device, and invalidated. Somebody who knows nothing of it copies the
other page: the prefetch instruction at its end brings the first lines of the buffer back into the D-cache, from memory that
the device has not written yet. When the transfer is over the CPU reads these lines.

Fix: no prefetch past the end of the source where DMA is not coherent. (The architecture here is mips, whose map invalidates
as the PowerPC's did; the CPU does not fetch ahead by itself, and so nothing is invalidated when the buffer comes back.)
"""

from driver.linux import DMA_FROM_DEVICE, ENOMEM, dma_map_single, dma_mapping_error, dma_unmap_single, kfree, kmalloc

from ...userdriver.happens import landed, prefetch
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R04"}, severity="corruption seen", corrupts=True, architecture="mips", speculates=False)

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="mips", speculates=False),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    case="PowerPC copy prefetch (linuxppc-embedded, 2003)",
)

LENGTH = 256  # bytes of the source, and of the buffer behind it
MAX_COPY_PREFETCH = 4 * 32  # four lines


async def copy_to_user(dev, device, source, length, *, past):
    """The CPU reads the source line by line, and prefetches (dcbt) ``past`` bytes beyond its end."""
    if past:
        await prefetch(device, source + length, past)
    await dev.cpu.load(source, length)


async def broken(dev, device, *, late=False):
    pages = kmalloc(dev, 2 * LENGTH)
    page, buffer = pages, pages + LENGTH  # unrelated, but neighbours
    dma = await dma_map_single(dev, buffer, LENGTH, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if not late:
        await copy_to_user(dev, device, page, LENGTH, past=MAX_COPY_PREFETCH)
    await device.start_list([(dma, LENGTH)], False, 0, device=dev)
    await device.wait(100_000)
    await device.acknowledge()
    if late:
        await landed(device)
        await copy_to_user(dev, device, page, LENGTH, past=MAX_COPY_PREFETCH)
    await dma_unmap_single(dev, dma, LENGTH, DMA_FROM_DEVICE)
    data = await dev.cpu.load(buffer, LENGTH)
    kfree(dev, pages)
    return data


async def fixed(dev, device):
    pages = kmalloc(dev, 2 * LENGTH)
    page, buffer = pages, pages + LENGTH
    dma = await dma_map_single(dev, buffer, LENGTH, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM

    await copy_to_user(dev, device, page, LENGTH, past=0)
    await device.start_list([(dma, LENGTH)], False, 0, device=dev)
    await device.wait(100_000)
    await device.acknowledge()

    await dma_unmap_single(dev, dma, LENGTH, DMA_FROM_DEVICE)
    data = await dev.cpu.load(buffer, LENGTH)
    kfree(dev, pages)
    return data


async def lucky(dev, device):
    return await broken(dev, device, late=True)  # the device has written those lines when they are prefetched
