# SPDX-License-Identifier: BSD-2-Clause
"""A scatter/gather list is built into an array for one element, and the buffer has two pieces.

The driver avoids an allocation per request by BuildScatterGatherList into a fixed array. Its size was taken from a request in
one piece.

Mechanism: a list needs a header and an element per contiguous piece. BuildScatterGatherList refuses what does not fit
(STATUS_BUFFER_TOO_SMALL) and never calls the list routine, so requests of more than one piece fail. (A zero length is of the
same kind: nothing can be mapped.)

Fix: CalculateScatterGatherList says how many bytes this buffer's list needs. No byte goes wrong here, the request fails.
"""

from driver.wdk import NTSTATUS, DeviceObject, MajorFunction, nt_success

from ..examples import Example, Expect
from ._adapters import bus_master, finished
from ._lists import put_list

EXAMPLE = Example(broken=Expect(roots={"R43"}, severity="corruption possible"))

PIECE = 512  # bytes of each of the buffer's two pieces
FIXED_ARRAY = 40  # bytes: a list of one element


async def write_chain(kernel, device, *, fixed_array):
    """The driver: writes a request whose buffer is in two pieces."""
    adapter, irp, lists = bus_master(kernel), kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE), []
    for n in range(2):
        mdl = kernel.io_allocate_mdl(kernel.ex_allocate_pool(PIECE), PIECE, n > 0, False, irp)
        kernel.mm_build_mdl_for_non_paged_pool(mdl)
        await kernel.cpu.store(kernel.mm_get_mdl_virtual_address(mdl), b"\xa5" * PIECE)
        await kernel.ke_flush_io_buffers(mdl, False, True)
    first, status, size = irp.mdl_address, NTSTATUS.STATUS_SUCCESS, FIXED_ARRAY
    va = kernel.mm_get_mdl_virtual_address(first)
    if not fixed_array:
        status, size, _ = adapter.calculate_scatter_gather_list(first, va, first.total)

    async def list_control(device_object, irp, scatter_gather, context):
        lists.append(scatter_gather)
        await device.start_list(scatter_gather, True, 0, adapter=adapter)

    if nt_success(status):
        with kernel.raised():
            status = await adapter.build_scatter_gather_list(
                DeviceObject(), first, va, first.total, list_control, None, True, bytearray(size), size
            )
    if nt_success(status):
        irp.io_status.information = await finished(device)
        if not await put_list(kernel, adapter, lists[0], True):
            status = NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.status = status
    kernel.io_complete_request(irp)
    for mdl in list(first.chain()):
        kernel.ex_free_pool(mdl.virtual_address)
        kernel.io_free_mdl(mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_chain(kernel, device, fixed_array=True)


async def fixed(kernel, device):
    await write_chain(kernel, device, fixed_array=False)
