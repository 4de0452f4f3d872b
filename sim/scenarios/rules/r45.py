# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver reads samples into a local variable.

There are few samples, so the driver maps an array on its stack. Before it in the frame lies the loop counter.

Mechanism: the stack is no memory for DMA. It may not be contiguous or within reach at all (vmapped stacks), and its lines
belong to whatever else is in the frame: the counter's store made the line dirty while the device was writing the samples, and
when the cache evicts the line, the old bytes of the samples overwrite the new ones. If the counter is not touched meanwhile,
the samples are right.

Fix: kmalloc (or a buffer in the device's own structure that is aligned to ARCH_DMA_MINALIGN): no line of it is shared.
"""

from driver.linux import (
    DMA_FROM_DEVICE,
    ENOMEM,
    devm_kmalloc,
    dma_get_cache_alignment,
    dma_map_single,
    dma_mapping_error,
    dma_unmap_single,
    stack_memory,
)

from ...userdriver.happens import evict, landed
from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(
    broken=Expect(roots={"R45"}, consequences={"R09", "R10"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R45"}, consequences={"R09"}, severity="corruption possible"),
)

COUNTER = 16  # bytes of the frame before the array


async def read_samples(dev, device, array, size, counter, *, counts):
    """The driver: fills the array. ``counts``: the counter is stored to during the transfer."""
    dma = await dma_map_single(dev, array, size, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if counts:
        await dev.cpu.store_u32(counter, 1)
    await device.start_list([(dma, size)], False, 0, device=dev)
    await finished(device)
    await landed(device)
    await evict(device, counter, 4)  # the cache may do that whenever it likes
    await dma_unmap_single(dev, dma, size, DMA_FROM_DEVICE)
    return await dev.cpu.load(array, size)


async def on_the_stack(dev, device, *, counts):
    line = dma_get_cache_alignment(dev)
    frame = stack_memory(dev, 2 * line, alignment=line)  # the counter, then the array
    return await read_samples(dev, device, frame + COUNTER, 2 * line - COUNTER, frame, counts=counts)


async def broken(dev, device):
    return await on_the_stack(dev, device, counts=True)


async def fixed(dev, device):
    size = 2 * dma_get_cache_alignment(dev)
    array, counter = devm_kmalloc(dev, size), stack_memory(dev, 4)
    if not array:
        return -ENOMEM
    return await read_samples(dev, device, array, size, counter, counts=True)


async def lucky(dev, device):
    return await on_the_stack(dev, device, counts=False)
