# SPDX-License-Identifier: BSD-2-Clause
"""A transfer by scatter/gather list, as WDK examples start and end it."""

from typing import Any

from driver.storage_port import StoragePort
from driver.wdk import DeviceObject, Kernel, Mdl, ScatterGatherList, nt_success

__all__ = ["put_list", "start_by_list"]


async def start_by_list(
    kernel: Kernel, adapter: Any, device: StoragePort, mdl: Mdl, write_to_device: bool, byte_offset: int = 0
) -> ScatterGatherList | None:
    """GetScatterGatherList for all of the chain; its routine starts the device. None if there are no map registers."""
    made = []

    async def list_control(device_object: Any, irp: Any, scatter_gather: ScatterGatherList, context: Any) -> None:
        made.append(scatter_gather)
        await device.start_list(scatter_gather, write_to_device, byte_offset, adapter=adapter)

    with kernel.raised():  # to DISPATCH_LEVEL
        va = kernel.mm_get_mdl_virtual_address(mdl)
        status = await adapter.get_scatter_gather_list(DeviceObject(), mdl, va, mdl.total, list_control, None, write_to_device)
    return made[0] if nt_success(status) else None


async def put_list(kernel: Kernel, adapter: Any, scatter_gather: ScatterGatherList, write_to_device: bool) -> bool:
    """PutScatterGatherList at its level; whether the flush in it succeeded."""
    with kernel.raised():
        await adapter.put_scatter_gather_list(scatter_gather, write_to_device)
    return bool(scatter_gather.flushed)
