# SPDX-License-Identifier: BSD-2-Clause
"""An interrupt service routine flushes and completes the request, instead of leaving that to its DPC.

The driver is interrupt-driven. To save the DPC its ISR does everything: it acknowledges the device, calls FlushAdapterBuffers
and IoCompleteRequest, and sets the event that the thread waits for.

Mechanism: an ISR runs at DIRQL. It interrupts code that holds the locks which these routines need; on one processor in one
run it may work, as here, on another it deadlocks. Each routine documents the level at which it may be called.

Fix: the ISR acknowledges the interrupt and asks for the DPC (IoRequestDpc); the DPC runs at DISPATCH_LEVEL and does the rest.
No byte goes wrong in either run: this rule is about the machine, not about the data.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

from ..examples import Example, Expect
from ._adapters import free_buffer, locked_buffer, take_channel

EXAMPLE = Example(broken=Expect(roots={"R33"}, severity="corruption possible"))

BLOCK = 512  # bytes


async def read_block(kernel, device, *, in_the_isr):
    """The driver: one read on a system channel; an interrupt ends it."""
    device_object = DeviceObject()
    adapter, map_registers = kernel.io_get_dma_adapter(device_object, DeviceDescription(version=2, maximum_length=4096))
    mdl, done = locked_buffer(kernel, BLOCK), kernel.ke_initialize_event()
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    va = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    base = await take_channel(kernel, adapter, map_registers)

    async def finish():
        flushed = await adapter.flush_adapter_buffers(mdl, base, va, BLOCK, False)
        irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
        kernel.io_complete_request(irp)
        kernel.ke_set_event(done)

    async def service(interrupt, context):
        if not await device.is_pending():
            return False
        irp.io_status.information = await device.acknowledge()
        if in_the_isr:
            await finish()
        else:
            kernel.io_request_dpc(device_object, irp)
        return True

    async def dpc_for_isr(dpc, device_object, irp, context):
        await finish()

    kernel.io_initialize_dpc_request(device_object, dpc_for_isr)
    interrupt = await kernel.io_connect_interrupt(service, None, device.irq_mask)
    address, length = await adapter.map_transfer(mdl, base, va, BLOCK, False)
    await device.start_channel(adapter, [(address, length)], False, 0)
    await kernel.ke_wait_for_event(done, 100_000)
    with kernel.raised():
        await adapter.free_adapter_channel()
    await kernel.io_disconnect_interrupt(interrupt)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await read_block(kernel, device, in_the_isr=True)


async def fixed(kernel, device):
    await read_block(kernel, device, in_the_isr=False)
