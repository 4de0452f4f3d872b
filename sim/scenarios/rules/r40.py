# SPDX-License-Identifier: BSD-2-Clause
"""A request comes after the driver has released its adapter.

On removal the driver calls PutDmaAdapter and frees what it holds. A read that was queued before still reaches the start
routine, which uses the adapter as ever.

Mechanism: PutDmaAdapter gives up the last reference: the adapter object may be gone, and its function pointers with it. Here,
as often in practice, the object still works; on a real machine it is a jump into freed memory.

Fix: stop the queue and let the requests in it finish (or fail them), then release the adapter, last of all.
"""

from driver.wdk import NTSTATUS, MajorFunction

from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(broken=Expect(roots={"R40"}, severity="corruption possible"))

BLOCK = 512  # bytes


async def start_read(kernel, device, adapter):
    """The start routine: one read."""
    mdl = locked_buffer(kernel, BLOCK)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    moved = await finished(device)
    flushed = await put_list(kernel, adapter, scatter_gather, False)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = moved
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)


async def broken(kernel, device):
    adapter = bus_master(kernel)
    adapter.put_dma_adapter()  # the device is removed
    await start_read(kernel, device, adapter)  # what was still in the queue


async def fixed(kernel, device):
    adapter = bus_master(kernel)
    await start_read(kernel, device, adapter)  # the queue is stopped and runs empty
    adapter.put_dma_adapter()
