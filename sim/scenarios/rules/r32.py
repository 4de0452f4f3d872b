# SPDX-License-Identifier: BSD-2-Clause
"""Map registers are freed before the flush, and take the device's data with them.

When the device reports the end of a read, the driver's interrupt half frees the map registers, so that the next request can
have them. The flush follows in the half that completes the request.

Mechanism: a buffer that the device does not reach is bounced: the device writes into the pages behind the map registers, and
FlushAdapterBuffers copies them into the buffer. Once the registers are free the pages are gone, and the flush finds nothing
to copy. A buffer within the device's reach is written directly; the same order of calls then does no harm.

Fix: FlushAdapterBuffers first, then FreeMapRegisters.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer, take_registers

_BOUNCED = {"bounce": "always"}

EXAMPLE = Example(
    broken=Expect(roots={"R32"}, severity="corruption seen", corrupts=True, hal=_BOUNCED),
    fixed=Expect(hal=_BOUNCED),
    lucky=Expect(roots={"R32"}, severity="corruption possible", function="broken"),
    source=("S4",),
)

BLOCK = 512  # bytes


async def read_block(kernel, device, *, free_first):
    """The driver: one read by a bus master."""
    description = DeviceDescription(version=2, master=True, scatter_gather=True, maximum_length=BLOCK)
    adapter, map_registers = kernel.io_get_dma_adapter(DeviceObject(), description)
    mdl = locked_buffer(kernel, BLOCK)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    va = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    base = await take_registers(kernel, adapter, map_registers)
    address, length = await adapter.map_transfer(mdl, base, va, BLOCK, False)
    await device.start_list([(address, length)], False, 0, adapter=adapter)
    moved = await finished(device)
    if free_first:
        with kernel.raised():
            adapter.free_map_registers(base, map_registers)
    flushed = await adapter.flush_adapter_buffers(mdl, base, va, length, False)
    if not free_first:
        with kernel.raised():
            adapter.free_map_registers(base, map_registers)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = moved
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await read_block(kernel, device, free_first=True)


async def fixed(kernel, device):
    await read_block(kernel, device, free_first=False)
