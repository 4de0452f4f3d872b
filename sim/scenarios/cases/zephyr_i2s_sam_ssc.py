# SPDX-License-Identifier: BSD-2-Clause
"""Zephyr's i2s_sam_ssc: the receive path invalidates only after the transfer, and dirty lines overwrite samples.

The audio driver of Atmel's SAM chips lets the DMA controller fill blocks of samples, and invalidated a block's lines when it
had been received, so that the CPU would read what the DMA had written. Now and then the received data was corrupted in part,
which was heard as clicks and noise (Zephyr issue 42205, pull request 42206).

Mechanism: the application gives a block back after it has used it, and its lines may be dirty. The cache may write a dirty
line back whenever it needs its place; if that happens when samples have arrived, they are overwritten. The invalidate at the
end comes too late: it makes the CPU read memory, and memory is what went wrong.

Fix: no line of the block may be dirty when the transfer starts. The pull request moved the invalidate there. A CPU that
fetches ahead needs both: the corrected driver also invalidates after the transfer (the run "published" does not).
"""

from ...userdriver.happens import evict, landed
from ..examples import Example, Expect
from ._controller import finished

EXAMPLE = Example(
    broken=Expect(roots={"R02"}, consequences={"R03"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R02"}, severity="corruption possible"),
    also={
        "published": Expect(function="published", roots={"R04"}, severity="corruption possible"),
        "published-no-speculation": Expect(function="published", speculates=False),
    },
    source=("S5",),
    case="Zephyr i2s_sam_ssc (pull request 42206)",
)

BLOCK = 512  # bytes of one receive block


async def broken(machine, device, *, unlucky=True):
    block = machine.allocate(BLOCK)
    await machine.cpu.store(block, bytes(BLOCK))  # the application has cleared the block, and gives it back

    await device.start_list([(block, BLOCK)], False, 0)
    await finished(machine, device)
    await landed(device)
    if unlucky:
        await evict(device, block, BLOCK)

    await machine.invalidate_dcache_by_addr(block, BLOCK)  # dma_rx_callback
    await machine.dsb()
    samples = await machine.cpu.load(block, BLOCK)
    machine.free(block)
    return samples


async def fixed(machine, device):
    block = machine.allocate(BLOCK)
    await machine.cpu.store(block, bytes(BLOCK))
    await machine.invalidate_dcache_by_addr(block, BLOCK)
    await machine.dsb()
    await device.start_list([(block, BLOCK)], False, 0)
    await finished(machine, device)
    await landed(device)
    await evict(device, block, BLOCK)

    await machine.invalidate_dcache_by_addr(block, BLOCK)
    await machine.dsb()
    samples = await machine.cpu.load(block, BLOCK)
    machine.free(block)
    return samples


async def lucky(machine, device):
    return await broken(machine, device, unlucky=False)


async def published(machine, device):
    block = machine.allocate(BLOCK)
    await machine.cpu.store(block, bytes(BLOCK))
    await machine.invalidate_dcache_by_addr(block, BLOCK)
    await machine.dsb()
    await device.start_list([(block, BLOCK)], False, 0)
    await finished(machine, device)

    samples = await machine.cpu.load(block, BLOCK)
    machine.free(block)
    return samples
