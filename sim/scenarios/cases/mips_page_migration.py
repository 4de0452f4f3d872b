# SPDX-License-Identifier: BSD-2-Clause
"""MIPS: page migration copies a page of code, and the program goes on with old instructions.

The kernel moves pages about in memory while programs use them: it copies the contents to a new page and maps that instead. On
MIPS the copy of a page of code was not written back (2018).

Mechanism: the CPU makes the copy, so the instructions are dirty in the D-cache. The program goes on in the new page: the
I-cache is filled from memory, which holds what was in that page before.

Fix: the copy is written back to memory, and its lines are dropped from the I-cache, before the program may run in it.
"""

from driver.linux import (
    DMA_FROM_DEVICE,
    ENOMEM,
    dma_map_single,
    dma_mapping_error,
    dma_unmap_single,
    flush_icache_range,
    kfree,
    kmalloc,
)

from ...userdriver.happens import evict
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R17"}, consequences={"R18"}, severity="corruption seen", corrupts=True, architecture="mips")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="mips"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    case="MIPS page migration (2018)",
)

CODE = 512  # bytes of code in the page


async def load_program(dev, device):
    """A page of code, read from disk by DMA and ready to run; None without memory."""
    page = kmalloc(dev, CODE)
    dma = await dma_map_single(dev, page, CODE, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return None
    await device.start_list([(dma, CODE)], False, 0, device=dev)
    await device.wait(100_000)
    await device.acknowledge()
    await dma_unmap_single(dev, dma, CODE, DMA_FROM_DEVICE)
    await flush_icache_range(dev, page, page + CODE)
    return page


async def copy_page(dev, new, old):
    """The CPU copies the code; ``cpu_copy`` tells the checker that somebody else will want these bytes."""
    with dev.cpu_copy([(new, CODE)]):
        await dev.cpu.store(new, await dev.cpu.load(old, CODE))


async def broken(dev, device, *, evicted=False):
    old = await load_program(dev, device)
    new = kmalloc(dev, CODE)
    if not old or not new:
        return -ENOMEM
    await copy_page(dev, new, old)
    kfree(dev, old)
    if evicted:
        await evict(device, new, CODE)
    code = await dev.cpu.fetch(new, CODE)  # the program goes on
    kfree(dev, new)
    return code


async def fixed(dev, device):
    old = await load_program(dev, device)
    new = kmalloc(dev, CODE)
    if not old or not new:
        return -ENOMEM
    await copy_page(dev, new, old)
    kfree(dev, old)
    await flush_icache_range(dev, new, new + CODE)
    code = await dev.cpu.fetch(new, CODE)  # the program goes on
    kfree(dev, new)
    return code


async def lucky(dev, device):
    return await broken(dev, device, evicted=True)  # the D-cache has needed the lines' places
