# SPDX-License-Identifier: BSD-2-Clause
"""An overlay manager loads new code by DMA over old code, and the old code runs again.

Firmware that does not fit into RAM is loaded in overlays, all to the same address. The loader invalidates the D-cache as the
reference manual of the DMA controller says, and jumps.

Mechanism: an instruction fetch goes through the I-cache, and nobody has told it that memory has changed: it still holds lines
of the overlay that ran before. Maintenance of the D-cache does not reach it. If the overlay before was never executed (or other
code has pushed it out of the I-cache), the fetch goes to memory: luck.

Fix: SCB_InvalidateICache_by_Addr() over the overlay after the transfer (and __ISB()), before the jump.
"""

from ..examples import Example, Expect
from ._bare import finished

EXAMPLE = Example(
    broken=Expect(roots={"R18"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R18"}, severity="corruption possible"),
)

OVERLAY = 256  # bytes


async def broken(machine, device, *, executed=True):
    overlay = machine.allocate(OVERLAY, what="overlay area")
    for number in range(2):
        await load(machine, device, overlay, number)
        await machine.dsb()

        if executed or number:
            device.expect_read(number * OVERLAY, await machine.cpu.fetch(overlay, OVERLAY))  # the overlay runs
    machine.free(overlay)


async def fixed(machine, device):
    overlay = machine.allocate(OVERLAY, what="overlay area")
    for number in range(2):
        await load(machine, device, overlay, number)
        await machine.invalidate_icache_by_addr(overlay, OVERLAY)
        await machine.dsb()
        await machine.isb()
        device.expect_read(number * OVERLAY, await machine.cpu.fetch(overlay, OVERLAY))
    machine.free(overlay)


async def load(machine, device, overlay, number):
    """An overlay by DMA, with what the D-cache needs."""
    await machine.clean_invalidate_dcache_by_addr(overlay, OVERLAY)
    await machine.dsb()
    await device.start_list([(overlay, OVERLAY)], False, number * OVERLAY)
    await finished(machine, device)
    await machine.invalidate_dcache_by_addr(overlay, OVERLAY)


async def lucky(machine, device):
    await broken(machine, device, executed=False)  # something else was chosen from the menu
