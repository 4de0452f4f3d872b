# SPDX-License-Identifier: BSD-2-Clause
"""A driver invalidates the whole D-cache at its start, and another module's message is gone.

Before its first transfer an SD card driver calls SCB_InvalidateDCache(), "to begin with a clean cache". In the board's old
firmware that was the first thing after reset. In the new one the console runs before it: its message waits in a buffer to be
sent.

Mechanism: an invalidate drops lines with all that is in them. The console's message was in dirty lines only; memory never had
it. When the message is sent, cleaned as it should be, there is nothing dirty any more: the device gets what memory held. If the
cache happens to have evicted the lines, the message survives: luck.

Fix: invalidate only the bytes of the buffer that a device is about to write, by address; whoever wants the whole cache empty
cleans and invalidates it.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._bare import finished

EXAMPLE = Example(
    broken=Expect(roots={"R07"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R07"}, severity="corruption possible"),
    also={"broken-coherent": Expect(function="broken", roots={"R07"}, severity="corruption seen", corrupts=True, coherent=True)},
)

MESSAGE = b"boot: 64 MiB RAM, card in slot 0\r\n".ljust(64, b"\0")
SECTOR, CONSOLE = 512, 8192  # bytes; where the device takes the console's output


async def broken(machine, device, *, evicted=False):
    console = machine.allocate(len(MESSAGE))
    await machine.cpu.store(console, MESSAGE)
    if evicted:
        await evict(device, console, len(MESSAGE))

    await machine.invalidate_dcache()  # the card driver's initialisation
    await machine.dsb()
    sector = await read_sector(machine, device)

    await send(machine, device, console, len(MESSAGE))
    machine.free(console)
    return sector


async def fixed(machine, device):
    console = machine.allocate(len(MESSAGE))
    await machine.cpu.store(console, MESSAGE)

    await machine.clean_invalidate_dcache()
    await machine.dsb()
    sector = await read_sector(machine, device)

    await send(machine, device, console, len(MESSAGE))
    machine.free(console)
    return sector


async def read_sector(machine, device):
    """The card driver."""
    buffer = machine.allocate(SECTOR)
    await machine.invalidate_dcache_by_addr(buffer, SECTOR)
    await machine.dsb()
    await device.start_list([(buffer, SECTOR)], False, 0)
    await finished(machine, device)
    await machine.invalidate_dcache_by_addr(buffer, SECTOR)
    await machine.dsb()
    sector = await machine.cpu.load(buffer, SECTOR)
    machine.free(buffer)
    return sector


async def send(machine, device, address, length):
    """The console: its message goes out."""
    await machine.clean_dcache_by_addr(address, length)
    await machine.dsb()
    await device.start_list([(address, length)], True, CONSOLE)
    await finished(machine, device)
    await device.device_done(100_000)


async def lucky(machine, device):
    return await broken(machine, device, evicted=True)
