# SPDX-License-Identifier: BSD-2-Clause
"""A list is put back with the wrong direction, and the caller reads lines that the CPU had fetched ahead.

The driver's clean-up routine was written for writes. It calls PutScatterGatherList with WriteToDevice=TRUE for every request,
reads included; the flag was taken for a mere statistic.

Mechanism: after a read the flush has to invalidate the buffer's lines, after a write it has not. With the wrong flag the lines
stay. The CPU had fetched some of them ahead while the device was writing: they hide the device's data. If nothing was fetched
ahead, the data is right: luck.

Fix: the direction of the map, of the transfer and of the flush is the same one, taken from the request. (And ReadOperation of
KeFlushIoBuffers is its opposite.)
"""

from driver.wdk import NTSTATUS, MajorFunction

from ...userdriver.happens import prefetch
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R22"}, consequences={"R04"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R22"}, severity="corruption possible"),
)

BLOCK = 512  # bytes


async def broken(kernel, device, *, ahead=True):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    await kernel.ke_flush_io_buffers(mdl, not irp.write_to_device, True)
    if ahead:
        await prefetch(device, kernel.mm_get_mdl_virtual_address(mdl) + 128, 64)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, irp.write_to_device)
    moved = await finished(device)

    flushed = await put_list(kernel, adapter, scatter_gather, True)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = moved if flushed else 0
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def fixed(kernel, device):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    await kernel.ke_flush_io_buffers(mdl, not irp.write_to_device, True)
    await prefetch(device, kernel.mm_get_mdl_virtual_address(mdl) + 128, 64)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, irp.write_to_device)
    moved = await finished(device)

    flushed = await put_list(kernel, adapter, scatter_gather, irp.write_to_device)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = moved if flushed else 0
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def lucky(kernel, device):
    await broken(kernel, device, ahead=False)
