# SPDX-License-Identifier: BSD-2-Clause
"""A driver that was ported to DMA version 3 and kept its KeFlushIoBuffers.

Version 1 and 2 demand KeFlushIoBuffers before each transfer, so the call was there, and it stayed when the adapter's
description went to version 3. The data is right; the request takes longer than it must.

Mechanism: in version 3 MapTransferEx does the cache work before the transfer and FlushAdapterBuffersEx the work after it. The
driver's own flush walks all lines of the buffer once more, in every request: no byte goes wrong, cycles do.

Fix: leave KeFlushIoBuffers out where the adapter is of version 3.
"""

from driver.wdk import (
    DMA_SYNCHRONOUS_CALLBACK,
    NTSTATUS,
    DeviceDescription,
    DeviceObject,
    IoAllocationAction,
    MajorFunction,
    nt_success,
)

from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer

EXAMPLE = Example(broken=Expect(roots={"R34"}, severity="warning"), source=("S10",))

BLOCK = 1024  # bytes


async def write_block(kernel, device, *, flush_too):
    """The driver: one block to the device, by a version 3 system channel."""
    device_object = DeviceObject()
    adapter, map_registers = kernel.io_get_dma_adapter(device_object, DeviceDescription(version=3, maximum_length=4096))
    mdl = locked_buffer(kernel, BLOCK)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE, mdl)
    await kernel.cpu.store(kernel.mm_get_mdl_virtual_address(mdl), b"\xa5" * BLOCK)
    if flush_too:
        await kernel.ke_flush_io_buffers(mdl, False, True)
    _, context = adapter.initialize_dma_transfer_context()
    with kernel.raised():
        status, base = await adapter.allocate_adapter_channel_ex(device_object, context, map_registers, DMA_SYNCHRONOUS_CALLBACK)
    if nt_success(status):
        status, length, elements = await adapter.map_transfer_ex(mdl, base, 0, 0, BLOCK, True)
        if nt_success(status):
            await device.start_channel(adapter, elements, True, 0)
            irp.io_status.information = await finished(device)
            status = await adapter.flush_adapter_buffers_ex(mdl, base, 0, length, True)
        await adapter.free_adapter_object(IoAllocationAction.DEALLOCATE_OBJECT)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if nt_success(status) else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_block(kernel, device, flush_too=True)


async def fixed(kernel, device):
    await write_block(kernel, device, flush_too=False)
