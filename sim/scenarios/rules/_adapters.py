# SPDX-License-Identifier: BSD-2-Clause
"""What WDK examples need around their rule: a locked buffer, a channel, map registers, the end of a transfer."""

from typing import Any

from driver.storage_port import StoragePort
from driver.wdk import DeviceDescription, DeviceObject, IoAllocationAction, Kernel, MapRegisters, Mdl

__all__ = ["bus_master", "finished", "free_buffer", "locked_buffer", "take_channel", "take_registers"]


def bus_master(kernel: Kernel, **fields: Any) -> Any:
    """The adapter of a bus master with scatter/gather; ``fields`` are others of its description."""
    description = DeviceDescription(**{"version": 2, "master": True, "scatter_gather": True, "maximum_length": 4096, **fields})
    adapter, _ = kernel.io_get_dma_adapter(DeviceObject(), description)
    return adapter


def locked_buffer(kernel: Kernel, length: int, **place: Any) -> Mdl:
    """``length`` bytes of nonpaged pool with an MDL over them, beginning on a line of any size (at most 128 bytes).

    ``place`` goes to ExAllocatePool2.
    """
    mdl = kernel.io_allocate_mdl(kernel.ex_allocate_pool(length, **{"alignment": 128, **place}), length)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    return mdl


def free_buffer(kernel: Kernel, mdl: Mdl) -> None:
    """Gives back what :func:`locked_buffer` made."""
    kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(mdl.virtual_address)


async def take_channel(kernel: Kernel, adapter: Any, map_registers: int) -> MapRegisters:
    """AllocateAdapterChannel of a system channel that is free: its map register base."""
    return await _allocate(kernel, adapter, map_registers, IoAllocationAction.KEEP_OBJECT)


async def take_registers(kernel: Kernel, adapter: Any, map_registers: int) -> MapRegisters:
    """AllocateAdapterChannel of a bus master: it keeps the map registers, not the adapter."""
    return await _allocate(kernel, adapter, map_registers, IoAllocationAction.DEALLOCATE_OBJECT_KEEP_REGISTERS)


async def _allocate(kernel: Kernel, adapter: Any, map_registers: int, action: IoAllocationAction) -> MapRegisters:
    bases = []

    def adapter_control(device_object: Any, irp: Any, map_register_base: MapRegisters, context: Any) -> IoAllocationAction:
        bases.append(map_register_base)
        return action

    with kernel.raised():  # to DISPATCH_LEVEL
        await adapter.allocate_adapter_channel(DeviceObject(), map_registers, adapter_control)
    return bases[0]


async def finished(device: StoragePort) -> int:
    """Waits for the transfer's end, and returns how many bytes moved."""
    await device.wait(100_000)
    return await device.acknowledge()
