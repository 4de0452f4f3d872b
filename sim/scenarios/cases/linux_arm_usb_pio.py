# SPDX-License-Identifier: BSD-2-Clause
"""ARM: code read from USB mass storage by PIO is in the D-cache, and the I-cache is filled again from stale memory.

Some USB host controllers have a FIFO that the CPU reads itself, into a page of the page cache. When such a page is mapped for
a program, ARM Linux invalidates the I-cache; it also cleans the D-cache, but only for pages that somebody has marked by
flush_dcache_page(). On the way of mass storage over USB nobody did (lkml, 2010).

Mechanism: the instructions are dirty in the D-cache. The I-cache is empty after the invalidate, and is filled again from
memory, which still holds the page's old contents: the program executes those. Invalidating the I-cache alone does not help.

Fix: flush_dcache_page() after the PIO read: it cleans the D-cache before the I-cache is invalidated. (The thread weighs this
against a mapping call for PIO, and against treating every new page as not clean.)
"""

from driver.linux import ENOMEM, flush_dcache_page, ioread32_rep, kfree, kmalloc
from driver.maintenance import Op, Target

from ...userdriver.happens import evict
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R17"}, consequences={"R18"}, severity="corruption seen", corrupts=True, architecture="arm")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    source=("S11",),
    case="ARM USB mass storage over PIO (lkml 2010)",
)

PAGE, PACKET, COUNT = 4096, 64, 8  # bytes of a bulk packet, and how many


async def read_packets(dev, device, page):
    """The host controller's driver: packet by packet out of the controller's FIFO."""
    for n in range(COUNT):
        await device.pio_begin(False, n * PACKET, PACKET)
        await device.pio_ready()
        await ioread32_rep(dev, device.data_register, page + n * PACKET, PACKET // 4)
        await device.pio_end()


async def execute(dev, page):
    """The page is mapped for a program (update_mmu_cache), which runs."""
    await dev.maintenance.run(Op.INVALIDATE, [(page, COUNT * PACKET)], Target.I)
    return await dev.cpu.fetch(page, COUNT * PACKET)


async def broken(dev, device, *, evicted=False):
    page = kmalloc(dev, PAGE, alignment=PAGE)
    if not page:
        return -ENOMEM
    await read_packets(dev, device, page)
    if evicted:
        await evict(device, page, COUNT * PACKET)
    code = await execute(dev, page)
    kfree(dev, page)
    return code


async def fixed(dev, device):
    page = kmalloc(dev, PAGE, alignment=PAGE)
    if not page:
        return -ENOMEM
    await read_packets(dev, device, page)
    await flush_dcache_page(dev, page)
    code = await execute(dev, page)
    kfree(dev, page)
    return code


async def lucky(dev, device):
    return await broken(dev, device, evicted=True)  # the D-cache has needed the lines' places
