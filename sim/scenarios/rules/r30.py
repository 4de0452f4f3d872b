# SPDX-License-Identifier: BSD-2-Clause
"""A bus master goes on mapping after it has given its map registers back.

A long write is split into pieces that the device takes. FreeMapRegisters stands inside the loop, AllocateAdapterChannel
before it: from the second piece on MapTransfer gets a map register base that belongs to somebody else.

Mechanism: MapTransfer does not allocate, it uses. Where buffers are within the device's reach map registers are a formality,
as on this machine, and the bytes arrive. Where they bounce, the pieces go through pages that the next driver owns too.

Fix: allocate once, map and flush each piece, free after the last one.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer, take_registers

EXAMPLE = Example(broken=Expect(roots={"R30"}, severity="corruption possible"))

LENGTH, PIECE = 1024, 512  # bytes of a request, and of a device transfer


async def write_in_pieces(kernel, device, *, free_in_the_loop):
    """The driver: one request of two device transfers."""
    description = DeviceDescription(version=2, master=True, scatter_gather=True, maximum_length=PIECE)
    adapter, map_registers = kernel.io_get_dma_adapter(DeviceObject(), description)
    mdl = locked_buffer(kernel, LENGTH)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE, mdl)
    va, done = kernel.mm_get_mdl_virtual_address(mdl), 0
    await kernel.cpu.store(va, b"\xa5" * LENGTH)
    await kernel.ke_flush_io_buffers(mdl, False, True)
    base = await take_registers(kernel, adapter, map_registers)
    while done < LENGTH:
        address, length = await adapter.map_transfer(mdl, base, va + done, LENGTH - done, True)
        await device.start_list([(address, length)], True, done, adapter=adapter)
        await finished(device)
        if not await adapter.flush_adapter_buffers(mdl, base, va + done, length, True):
            break
        done += length
        if free_in_the_loop and done == PIECE:
            with kernel.raised():
                adapter.free_map_registers(base, map_registers)
    if not free_in_the_loop:
        with kernel.raised():
            adapter.free_map_registers(base, map_registers)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if done == LENGTH else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = done
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_in_pieces(kernel, device, free_in_the_loop=True)


async def fixed(kernel, device):
    await write_in_pieces(kernel, device, free_in_the_loop=False)
