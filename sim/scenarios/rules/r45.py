# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver reads a sample into a local variable.

The sample is 16 bytes, so the driver maps a variable on its stack. Beside it in the frame lies the loop counter.

Mechanism: the stack is no memory for DMA. It may not be contiguous or within reach at all (vmapped stacks), and its lines
belong to whatever else is in the frame: the counter's store made the line dirty while the device was writing the sample, and
when the cache evicts the line, the old bytes of the sample overwrite the new ones. If the counter is not touched meanwhile,
the sample is right.

Fix: kmalloc (or a buffer in the device's own structure that is aligned to ARCH_DMA_MINALIGN): no line of it is shared.
"""

from driver.linux import (
    DMA_FROM_DEVICE,
    ENOMEM,
    devm_kmalloc,
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

SAMPLE = 16  # bytes
LINE_FILLED = 32  # bytes that kmalloc'ed samples are mapped with: whole lines


async def read_sample(dev, device, sample, size, counter, *, counts):
    """The driver: 16 bytes of the device. ``counts``: the counter is stored to during the transfer."""
    dma = await dma_map_single(dev, sample, size, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    if counts:
        await dev.cpu.store_u32(counter, 1)
    await device.start_list([(dma, size)], False, 0, device=dev)
    await finished(device)
    await landed(device)
    await evict(device, counter, 4)  # the cache may do that whenever it likes
    await dma_unmap_single(dev, dma, size, DMA_FROM_DEVICE)
    return await dev.cpu.load(sample, SAMPLE)


async def on_the_stack(dev, device, *, counts):
    frame = stack_memory(dev, 32, alignment=32)  # the sample, then the counter
    return await read_sample(dev, device, frame, SAMPLE, frame + SAMPLE, counts=counts)


async def broken(dev, device):
    return await on_the_stack(dev, device, counts=True)


async def fixed(dev, device):
    sample, counter = devm_kmalloc(dev, LINE_FILLED), stack_memory(dev, 4)
    if not sample:
        return -ENOMEM
    return await read_sample(dev, device, sample, LINE_FILLED, counter, counts=True)


async def lucky(dev, device):
    return await on_the_stack(dev, device, counts=False)
