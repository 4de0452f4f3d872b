# SPDX-License-Identifier: BSD-2-Clause
"""A scatter/gather element is longer than the device takes.

The card's length field has nine bits: 512 bytes per element. Its description says so (MaximumLength), and the driver hands
each element of GetScatterGatherList to the card as it comes.

Mechanism: MaximumLength decides how many map registers there are; a list's elements are as long as the buffer's contiguous
pieces. A real card would move the length modulo its field. The engine of this machine takes any length, so that here the
bytes arrive and only the checker, which knows the description, speaks.

Fix: split elements at the card's limit. MapTransfer does that by itself, piece by piece.
"""

from driver.wdk import NTSTATUS, DeviceObject, MajorFunction

from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list

EXAMPLE = Example(broken=Expect(roots={"R46"}, severity="corruption possible"))

LENGTH, LIMIT = 1024, 512  # bytes of the request, and of an element


async def write_list(kernel, device, *, split):
    """The driver: writes a request by a scatter/gather list."""
    adapter, mdl, lists = bus_master(kernel, maximum_length=LIMIT), locked_buffer(kernel, LENGTH), []
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE, mdl)
    va = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.cpu.store(va, b"\xa5" * LENGTH)
    await kernel.ke_flush_io_buffers(mdl, False, True)

    async def list_control(device_object, irp, scatter_gather, context):
        lists.append(scatter_gather)
        elements = [(element.address, element.length) for element in scatter_gather]
        if split:
            elements = [(a + n, min(LIMIT, size - n)) for a, size in elements for n in range(0, size, LIMIT)]
        await device.start_list(elements, True, 0, adapter=adapter)

    with kernel.raised():
        await adapter.get_scatter_gather_list(DeviceObject(), mdl, va, LENGTH, list_control, None, True)
    moved = await finished(device)
    flushed = await put_list(kernel, adapter, lists[0], True)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = moved
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_list(kernel, device, split=False)


async def fixed(kernel, device):
    await write_list(kernel, device, split=True)
