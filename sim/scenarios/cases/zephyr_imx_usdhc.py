# SPDX-License-Identifier: BSD-2-Clause
"""Zephyr's imx_usdhc: an invalidate on a buffer that is only 4-byte aligned drops its neighbours' bytes.

The SD host driver got cache maintenance for its DMA path: a clean before the transfer, and after a receive an invalidate of
exactly the bytes that the user had asked for. The buffer had to be aligned to 4 bytes only, while a cache line of a Cortex-M7
has 32. A reviewer of pull request 108716 saw what that means.

Mechanism: the first and the last line of the buffer also hold somebody else's variables. If the CPU stores to them while the
controller writes its part of the line, the line is dirty and holds old bytes of the buffer. The invalidate then drops it with
the neighbour's bytes in it; a write-back instead would overwrite what the controller has written. No maintenance is right for
both.

Fix: buffers for the controller begin and end on cache lines. In Zephyr the alignment that the SD layer keeps
(SDHC_BUFFER_ALIGNMENT) became the line size; it copies through an aligned buffer of its own where a user's is not.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._controller import finished

EXAMPLE = Example(
    broken=Expect(roots={"R10"}, consequences={"R09"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R10"}, severity="corruption possible"),
    case="Zephyr imx_usdhc (pull request 108716, review)",
)

BLOCK = 512
NOTE = b"sector 0 is read"  # what the application logs meanwhile


async def receive(machine, device, buffer, meanwhile):
    """The driver's receive path; ``meanwhile`` runs while the controller works, and the caller waits for it."""
    await machine.clean_dcache_by_addr(buffer, BLOCK)
    await machine.dsb()
    await device.start_list([(buffer, BLOCK)], False, 0)
    await meanwhile
    await finished(machine, device)
    await machine.invalidate_dcache_by_addr(buffer, BLOCK)
    await machine.dsb()
    device.expect_read(0, await machine.cpu.load(buffer, BLOCK))


async def send(machine, device, data, length):
    """The driver's send path."""
    await machine.clean_dcache_by_addr(data, length)
    await machine.dsb()
    await device.start_list([(data, length)], True, BLOCK)
    await finished(machine, device)
    await device.device_done(100_000)


async def log(machine, device, address, evicted):
    """The application stores its note; the cache may evict it at any time."""
    await machine.cpu.store(address, NOTE)
    if evicted:
        await evict(device, address, len(NOTE))


async def broken(machine, device, *, evicted=False):
    memory = machine.allocate(2 * BLOCK)
    buffer = memory + 4  # all that SDHC_BUFFER_ALIGNMENT asked for
    note = buffer + BLOCK  # the next variable: in the last line of the buffer

    await receive(machine, device, buffer, log(machine, device, note, evicted))
    await send(machine, device, note, len(NOTE))
    machine.free(memory)


async def fixed(machine, device):
    memory = machine.allocate(2 * BLOCK)
    buffer = memory  # a multiple of the line size, and so is its length
    note = buffer + BLOCK  # the next line

    await receive(machine, device, buffer, log(machine, device, note, False))
    await send(machine, device, note, len(NOTE))
    machine.free(memory)


async def lucky(machine, device):
    await broken(machine, device, evicted=True)  # before the controller gets to that line
