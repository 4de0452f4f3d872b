# SPDX-License-Identifier: BSD-2-Clause
"""Linux IIO: transfer buffers aligned to a constant that is smaller than the cache line that matters.

Drivers of sensors and converters kept their transfer buffers in their own structures, aligned with ____cacheline_aligned, and
the IIO core aligned the structures to L1_CACHE_BYTES. There are ARM machines without coherent DMA whose outer caches have
lines of 128 bytes: twice that. A long series of 2022 corrected some dozens of drivers.

Mechanism: a buffer that is aligned to less than a line shares its line with the member before it. The CPU stores to that
member during a transfer: the line is dirty, with the buffer's old bytes in it. Evicted late, it overwrites what the device
has written; invalidated, the member is lost. (Here software believes in lines of 8 bytes; the cache's are longer.)

Fix: IIO_DMA_MINALIGN, which is the architecture's ARCH_KMALLOC_MINALIGN and large enough for those lines.
"""

from driver.linux import DMA_FROM_DEVICE, ENOMEM, dma_map_single, dma_mapping_error, dma_unmap_single, kfree, kmalloc

from ...userdriver.happens import evict, landed
from ...userdriver.timing import Timing
from ..examples import Example, Expect

_BROKEN = Expect(
    roots={"R12"},
    consequences={"R10"},
    severity="corruption seen",
    corrupts=True,
    architecture="arm64",
    beliefs={"line_bytes": 8},
)

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm64", beliefs={"line_bytes": 8}),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False, timing=Timing(gap=100)),
    case="IIO alignment series (2022)",
)

L1_CACHE_BYTES = 8
IIO_DMA_MINALIGN = 128
MEMBERS = 24  # bytes of the structure before its buffer
SCAN = 16  # bytes that the converter sends


def align(offset, to):
    """The next offset that is a multiple of ``to``."""
    return -(-offset // to) * to


async def read_scan(dev, device, state, rx, *, evicted_early=False):
    """One transfer into the buffer at offset ``rx`` of the driver's structure; the CPU stores to the member before it."""
    dma = await dma_map_single(dev, state + rx, SCAN, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, SCAN)], False, 0, device=dev)
    await dev.cpu.store_u32(state + rx - 4, 1)
    if evicted_early:
        await evict(device, state + rx - 4, 4)
    await device.wait(100_000)
    await device.acknowledge()
    await landed(device)
    await evict(device, state + rx - 4, 4)
    await dma_unmap_single(dev, dma, SCAN, DMA_FROM_DEVICE)
    return await dev.cpu.load(state + rx, SCAN)


async def broken(dev, device, *, evicted_early=False):
    rx = align(MEMBERS, L1_CACHE_BYTES)  # ____cacheline_aligned
    state = kmalloc(dev, rx + SCAN)
    scan = await read_scan(dev, device, state, rx, evicted_early=evicted_early)
    kfree(dev, state)
    return scan


async def fixed(dev, device):
    rx = align(MEMBERS, IIO_DMA_MINALIGN)  # __aligned(IIO_DMA_MINALIGN)
    state = kmalloc(dev, rx + SCAN, alignment=IIO_DMA_MINALIGN)
    scan = await read_scan(dev, device, state, rx)
    kfree(dev, state)
    return scan


async def lucky(dev, device):
    return await broken(dev, device, evicted_early=True)  # before the device has written to that line
