# SPDX-License-Identifier: BSD-2-Clause
"""FlushAdapterBuffers straight after the start: the channel is flushed while the transfer runs.

The driver writes a record on a system DMA channel. Its author took FlushAdapterBuffers for a kind of memory barrier, put it
right behind the start of the device, and waits for the terminal count afterwards.

Mechanism: a flush covers the bytes that have entered the controller by then. What comes later is not flushed any more: the
last bytes of the record, less than a chunk, stay in the controller. A record of whole chunks leaves no remainder, and the
same driver works by luck.

Fix: wait for the terminal count (or cancel the transfer), then flush.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer, take_channel

EXAMPLE = Example(
    broken=Expect(roots={"R27"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R27"}, severity="corruption possible"),
    source=("S3", "S7"),
)


async def write_record(kernel, device, length, *, early):
    """The driver: writes ``length`` bytes to the device, with the flush before or after the end of the transfer."""
    adapter, map_registers = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=2, maximum_length=4096))
    mdl = locked_buffer(kernel, length)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE, mdl)
    va, flushed = kernel.mm_get_mdl_virtual_address(mdl), False
    await kernel.cpu.store(va, bytes(n % 251 for n in range(length)))
    await kernel.ke_flush_io_buffers(mdl, False, True)
    base = await take_channel(kernel, adapter, map_registers)
    address, mapped = await adapter.map_transfer(mdl, base, va, length, True)
    await device.start_channel(adapter, [(address, mapped)], True, 0)
    if early:
        flushed = await adapter.flush_adapter_buffers(mdl, base, va, mapped, True)
    moved = await finished(device)
    if not early:
        flushed = await adapter.flush_adapter_buffers(mdl, base, va, mapped, True)
    with kernel.raised():
        await adapter.free_adapter_channel()
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = moved
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_record(kernel, device, 997, early=True)


async def fixed(kernel, device):
    await write_record(kernel, device, 997, early=False)


async def lucky(kernel, device):
    await write_record(kernel, device, 992, early=True)  # a whole number of chunks
