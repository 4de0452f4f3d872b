# SPDX-License-Identifier: BSD-2-Clause
"""An overlay is loaded by DMA over the start-up code, and the start-up code runs again.

Firmware that does not fit into RAM is loaded in overlays. The first one goes over the start-up code, which has done its work.
The loader does for the D-cache what the reference manual of the DMA controller says, and jumps.

Mechanism: an instruction fetch goes through the I-cache, and nobody has told it that memory has changed: it still holds lines
of the start-up code. Maintenance of the D-cache does not reach it. If the start-up code was not executed this time (or other
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
START_UP = bytes(n % 251 for n in range(OVERLAY))  # code


async def broken(machine, device, *, executed=True):
    overlay = machine.allocate(OVERLAY, what="overlay area")
    await start_up(machine, overlay, executed)

    await load(machine, device, overlay)
    await machine.dsb()
    code = await machine.cpu.fetch(overlay, OVERLAY)  # the overlay runs
    machine.free(overlay)
    return code


async def fixed(machine, device):
    overlay = machine.allocate(OVERLAY, what="overlay area")
    await start_up(machine, overlay, True)

    await load(machine, device, overlay)
    await machine.invalidate_icache_by_addr(overlay, OVERLAY)
    await machine.dsb()
    await machine.isb()
    code = await machine.cpu.fetch(overlay, OVERLAY)
    machine.free(overlay)
    return code


async def start_up(machine, address, executed):
    """The boot loader copies the start-up code to RAM, and runs it there."""
    await machine.cpu.store(address, START_UP)
    await machine.clean_dcache_by_addr(address, OVERLAY)
    await machine.invalidate_icache_by_addr(address, OVERLAY)
    await machine.dsb()
    await machine.isb()
    if executed:
        await machine.cpu.fetch(address, OVERLAY)


async def load(machine, device, overlay):
    """An overlay by DMA, with what the D-cache needs."""
    await machine.clean_invalidate_dcache_by_addr(overlay, OVERLAY)
    await machine.dsb()
    await device.start_list([(overlay, OVERLAY)], False, 0)
    await finished(machine, device)
    await machine.invalidate_dcache_by_addr(overlay, OVERLAY)


async def lucky(machine, device):
    return await broken(machine, device, executed=False)  # a warm start: the start-up code was not needed
