# SPDX-License-Identifier: BSD-2-Clause
"""The end of a DMA transfer without an operating system, for the part of bare-metal examples that is not about their rule."""

from driver.bare import Machine
from driver.storage_port import StoragePort

__all__ = ["finished"]


async def finished(machine: Machine, device: StoragePort) -> int:
    """Waits for the transfer's end, makes the controller hand over what it still holds; returns how many bytes moved."""
    await device.wait(100_000)
    moved = await device.acknowledge()
    await machine.flush_dma()
    return moved
