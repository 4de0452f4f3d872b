# SPDX-License-Identifier: BSD-2-Clause
"""NuttX's stm32h7 SDMMC: the receive path invalidates before the DMA only, and speculation brings the previous sector back.

File downloads from a flight controller (STM32H743) were corrupted now and then: windows of exactly 32 bytes, aligned to cache
lines, that were byte for byte the sector read before into the same 512-byte buffer of the FAT file system. With the D-cache
off they were gone (NuttX pull request 19506).

Mechanism: stm32_dmarecvsetup() invalidated the buffer before the transfer. Between that and the end of the DMA the Cortex-M7
speculatively read some of its lines again: they then held what memory held, the previous sector. The DMA controller wrote the
new sector to memory, past the cache, and the CPU read the old lines.

Fix: stm32_recvdma() invalidates again when the aligned transfer is complete, before anybody reads the buffer.
"""

from ...userdriver.happens import prefetch
from ..examples import Example, Expect
from ._controller import finished

EXAMPLE = Example(
    broken=Expect(roots={"R04"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R04"}, severity="corruption possible"),
    case="NuttX STM32H7 SDMMC (pull request 19506)",
)

SECTOR = 512


async def broken(machine, device, *, speculates=True):
    buffer = machine.allocate(SECTOR)
    for number in (0, 1):
        await machine.invalidate_dcache_by_addr(buffer, SECTOR)  # stm32_dmarecvsetup
        await machine.dsb()
        if number and speculates:
            await prefetch(device, buffer + 0x40, 32)
            await prefetch(device, buffer + 0x160, 32)
        await device.start_list([(buffer, SECTOR)], False, number * SECTOR)
        await finished(machine, device)

        device.expect_read(number * SECTOR, await machine.cpu.load(buffer, SECTOR))
    machine.free(buffer)


async def fixed(machine, device):
    buffer = machine.allocate(SECTOR)
    for number in (0, 1):
        await machine.invalidate_dcache_by_addr(buffer, SECTOR)
        await machine.dsb()
        if number:
            await prefetch(device, buffer + 0x40, 32)
            await prefetch(device, buffer + 0x160, 32)
        await device.start_list([(buffer, SECTOR)], False, number * SECTOR)
        await finished(machine, device)
        await machine.invalidate_dcache_by_addr(buffer, SECTOR)  # stm32_recvdma
        await machine.dsb()
        device.expect_read(number * SECTOR, await machine.cpu.load(buffer, SECTOR))
    machine.free(buffer)


async def lucky(machine, device):
    await broken(machine, device, speculates=False)
