# SPDX-License-Identifier: BSD-2-Clause
"""A driver asks for as many map registers as its request has pages, whatever the adapter has.

The adapter was got for transfers of one page. IoGetDmaAdapter returned how many map registers that gives; the driver ignores
the number and computes its own from the request.

Mechanism: AllocateAdapterChannel cannot give more than there are. It returns STATUS_INSUFFICIENT_RESOURCES, every time: this
is no shortage that passes, and large requests never work. Nothing is transferred.

Fix: ask for at most what IoGetDmaAdapter returned, and split the request into transfers that fit.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, IoAllocationAction, MajorFunction, nt_success

from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer

EXAMPLE = Example(broken=Expect(roots={"R39"}, severity="corruption possible"))

PAGE, LENGTH = 4096, 8192  # bytes of a page, and of the request


async def write_pages(kernel, device, *, at_most):
    """The driver: a request of several pages. ``at_most``: it keeps to the adapter's number."""
    description = DeviceDescription(version=2, master=True, scatter_gather=True, maximum_length=PAGE)
    adapter, available = kernel.io_get_dma_adapter(DeviceObject(), description)
    mdl = locked_buffer(kernel, LENGTH, alignment=PAGE)
    irp, bases, done = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE, mdl), [], 0
    va, wanted = kernel.mm_get_mdl_virtual_address(mdl), LENGTH // PAGE + 1
    await kernel.cpu.store(va, b"\xa5" * LENGTH)
    await kernel.ke_flush_io_buffers(mdl, False, True)
    if at_most:
        wanted = min(wanted, available)

    def adapter_control(device_object, irp, map_register_base, context):
        bases.append(map_register_base)
        return IoAllocationAction.DEALLOCATE_OBJECT_KEEP_REGISTERS

    with kernel.raised():
        status = await adapter.allocate_adapter_channel(DeviceObject(), wanted, adapter_control)
    if nt_success(status):
        while done < LENGTH:
            address, length = await adapter.map_transfer(mdl, bases[0], va + done, LENGTH - done, True)
            await device.start_list([(address, length)], True, done, adapter=adapter)
            await finished(device)
            if not await adapter.flush_adapter_buffers(mdl, bases[0], va + done, length, True):
                status = NTSTATUS.STATUS_DEVICE_DATA_ERROR
                break
            done += length
        with kernel.raised():
            adapter.free_map_registers(bases[0], wanted)
    irp.io_status.status, irp.io_status.information = status, done
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_pages(kernel, device, at_most=False)


async def fixed(kernel, device):
    await write_pages(kernel, device, at_most=True)
