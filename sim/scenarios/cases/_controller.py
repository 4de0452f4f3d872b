# SPDX-License-Identifier: BSD-2-Clause
"""What the bare-metal cases share: the end of a DMA transfer."""


async def finished(machine, device):
    """The completion interrupt: waits for it, takes it back, and makes the controller hand over what it still holds."""
    await device.wait(100_000)
    await device.acknowledge()
    await machine.flush_dma()
