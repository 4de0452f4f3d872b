# SPDX-License-Identifier: BSD-2-Clause
"""A flash driver "flushes" its page buffer after the read, and thereby destroys the page.

The driver fills its page buffer with 0xff, the value of erased flash, and starts the read. When the page is there it calls
SCB_CleanInvalidateDCache_by_Addr(), because the simpler SCB_InvalidateDCache_by_Addr() "lost data" in another place.

Mechanism: the 0xff bytes are dirty lines. The device writes the page to memory. The clean half of the operation then writes the
dirty lines over it, the invalidate half makes the CPU read memory: 0xff. If the lines had left the cache before the transfer
there is nothing to clean: luck.

Fix: clean and invalidate (or invalidate) before the transfer, so that nothing is dirty while the device writes; afterwards only
invalidate.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._bare import finished

EXAMPLE = Example(
    broken=Expect(roots={"R08"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R08"}, severity="corruption possible"),
    source=("S5",),
)

PAGE = 512  # bytes


async def broken(machine, device, *, evicted=False):
    page = machine.allocate(PAGE)
    await machine.cpu.store(page, b"\xff" * PAGE)
    if evicted:
        await evict(device, page, PAGE)

    await device.start_list([(page, PAGE)], False, 0)
    await finished(machine, device)

    await machine.clean_invalidate_dcache_by_addr(page, PAGE)
    await machine.dsb()
    data = await machine.cpu.load(page, PAGE)
    machine.free(page)
    return data


async def fixed(machine, device):
    page = machine.allocate(PAGE)
    await machine.cpu.store(page, b"\xff" * PAGE)

    await machine.clean_invalidate_dcache_by_addr(page, PAGE)
    await machine.dsb()
    await device.start_list([(page, PAGE)], False, 0)
    await finished(machine, device)

    await machine.invalidate_dcache_by_addr(page, PAGE)
    await machine.dsb()
    data = await machine.cpu.load(page, PAGE)
    machine.free(page)
    return data


async def lucky(machine, device):
    return await broken(machine, device, evicted=True)
