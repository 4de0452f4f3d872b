# SPDX-License-Identifier: BSD-2-Clause
"""The AdapterControl routine of a bus master returns KeepObject, as the one for system DMA did that it was copied from.

The first request works: the device is started, the data comes, the map registers are freed with FreeMapRegisters as they
should be. The second request never gets its AdapterControl call and runs into its time-out.

Mechanism: KeepObject keeps the adapter object allocated until FreeAdapterChannel, which a bus master's driver never calls:
nothing on a bus master needs the object, only the map registers. The next AllocateAdapterChannel on the adapter waits for
ever.

Fix: a bus master's AdapterControl returns DeallocateObjectKeepRegisters; KeepObject is for system channels.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, IoAllocationAction, MajorFunction

from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer

EXAMPLE = Example(broken=Expect(roots={"R31"}, severity="corruption possible"))

BLOCK = 512  # bytes
_PATIENCE = 2_000  # cycles


async def read_blocks(kernel, device, action):
    """The driver: two requests, one after the other; AdapterControl returns ``action``."""
    description = DeviceDescription(version=2, master=True, scatter_gather=True, maximum_length=BLOCK)
    adapter, map_registers = kernel.io_get_dma_adapter(DeviceObject(), description)
    for offset in (0, BLOCK):
        mdl = locked_buffer(kernel, BLOCK)
        irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl, offset)
        await read_block(kernel, device, adapter, map_registers, irp, action)
        free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def read_block(kernel, device, adapter, map_registers, irp, action):
    """One request."""
    mdl, bases, called = irp.mdl_address, [], kernel.ke_initialize_event()
    va = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)

    async def adapter_control(device_object, irp, map_register_base, context):
        bases.append(map_register_base)
        kernel.ke_set_event(called)
        return action

    with kernel.raised():
        await adapter.allocate_adapter_channel(DeviceObject(), map_registers, adapter_control)
    if await kernel.ke_wait_for_single_object(called, _PATIENCE) == NTSTATUS.STATUS_TIMEOUT:
        irp.io_status.status = NTSTATUS.STATUS_IO_TIMEOUT
    else:
        address, length = await adapter.map_transfer(mdl, bases[0], va, BLOCK, False)
        await device.start_list([(address, length)], False, irp.byte_offset, adapter=adapter)
        moved = await finished(device)
        flushed = await adapter.flush_adapter_buffers(mdl, bases[0], va, length, False)
        with kernel.raised():
            adapter.free_map_registers(bases[0], map_registers)
        irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
        irp.io_status.information = moved
    kernel.io_complete_request(irp)


async def broken(kernel, device):
    await read_blocks(kernel, device, IoAllocationAction.KEEP_OBJECT)


async def fixed(kernel, device):
    await read_blocks(kernel, device, IoAllocationAction.DEALLOCATE_OBJECT_KEEP_REGISTERS)
