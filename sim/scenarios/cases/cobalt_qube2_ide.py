# SPDX-License-Identifier: BSD-2-Clause
"""Cobalt Qube 2: the IDE driver reads a page of a program by PIO, and it is executed before it has left the D-cache.

The Qube 2 has a MIPS processor and reads its disk by programmed I/O: the CPU itself takes the words from the IDE data port
and stores them into the page cache. Pages of programs were executed while what had been read was still in the D-cache
(linux-mips, 2003).

Mechanism: the words are dirty in the D-cache. The processor fetches instructions through the I-cache, which is filled from
memory and does not look into the D-cache: it finds what was in the page before.

Fix: whoever has filled a page by PIO writes its lines back and drops them from the I-cache before the page is used. The
kernel's call for it is flush_dcache_page(). (Linux for MIPS came to do that work in its own versions of the IDE string input
functions.)
"""

from driver.linux import ENOMEM, flush_dcache_page, ioread32_rep, kfree, kmalloc

from ...userdriver.happens import evict
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R17"}, consequences={"R18"}, severity="corruption seen", corrupts=True, architecture="mips")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="mips"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    source=("S11",),
    case="Cobalt Qube 2 IDE (linux-mips, 2003)",
)

PAGE, SECTOR = 4096, 512


async def broken(dev, device, *, evicted=False):
    page = kmalloc(dev, PAGE, alignment=PAGE)
    if not page:
        return -ENOMEM
    await device.pio_begin(False, 0, SECTOR)  # READ SECTORS
    await device.pio_ready()
    await ioread32_rep(dev, device.data_register, page, SECTOR // 4)  # ide_insl
    await device.pio_end()
    if evicted:
        await evict(device, page, SECTOR)

    code = await dev.cpu.fetch(page, SECTOR)  # the program runs
    kfree(dev, page)
    return code


async def fixed(dev, device):
    page = kmalloc(dev, PAGE, alignment=PAGE)
    if not page:
        return -ENOMEM
    await device.pio_begin(False, 0, SECTOR)  # READ SECTORS
    await device.pio_ready()
    await ioread32_rep(dev, device.data_register, page, SECTOR // 4)  # ide_insl
    await device.pio_end()

    await flush_dcache_page(dev, page)
    code = await dev.cpu.fetch(page, SECTOR)  # the program runs
    kfree(dev, page)
    return code


async def lucky(dev, device):
    return await broken(dev, device, evicted=True)  # the D-cache has needed the lines' places
