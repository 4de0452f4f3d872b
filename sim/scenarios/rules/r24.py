# SPDX-License-Identifier: BSD-2-Clause
"""A memory-to-device transfer on a system DMA channel whose last bytes never arrive.

The driver writes a block to the device. It flushes the caches before the transfer, waits for terminal count, frees the channel
and completes the request. It does not call FlushAdapterBuffers: on the machine where it was written, everything arrived.

Mechanism: the DMA controller moves whole chunks. Terminal count says that the last byte has entered its FIFO, not
that it has left it. What does not fill a chunk stays there until somebody flushes it, so the device waits for the end
of the block. A block whose length is a multiple of the chunk leaves no remainder: the same driver then works, by
luck.

Fix: FlushAdapterBuffers after terminal count, with the arguments of MapTransfer, before the channel is freed. Its BOOLEAN decides
the request's status.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, IoAllocationAction, MajorFunction

from ..examples import Example, Expect

_BROKEN = Expect(roots={"R24"}, severity="corruption seen", corrupts=True)

EXAMPLE = Example(
    broken=_BROKEN,
    lucky=Expect(roots={"R24"}, severity="corruption possible"),
    also={
        "broken-coherent": _BROKEN.but(function="broken", coherent=True),
        "fixed-coherent": Expect(function="fixed", coherent=True),
    },
    source=("S3", "S7"),
)


async def write_block(kernel, device, length, *, flush):
    """The driver: writes ``length`` bytes to the device, with or without the flush at the end."""
    device_object = DeviceObject()
    adapter, registers = kernel.io_get_dma_adapter(device_object, DeviceDescription(version=2, maximum_length=4096))
    buffer = kernel.ex_allocate_pool(length)
    await kernel.bus.write(buffer, bytes(n % 251 for n in range(length)))
    mdl = kernel.io_allocate_mdl(buffer, length)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE, mdl)
    va, bases = kernel.mm_get_mdl_virtual_address(mdl), []
    await kernel.ke_flush_io_buffers(mdl, False, True)

    async def adapter_control(device_object, irp, map_register_base, context):
        bases.append(map_register_base)
        piece = await adapter.map_transfer(mdl, map_register_base, va, length, True)
        await device.start_channel(adapter, [piece], True, 0)
        return IoAllocationAction.KEEP_OBJECT

    with kernel.raised():  # to DISPATCH_LEVEL
        await adapter.allocate_adapter_channel(device_object, registers, adapter_control)
    await device.wait(100_000)
    moved = await device.acknowledge()
    status = NTSTATUS.STATUS_SUCCESS
    if flush and not await adapter.flush_adapter_buffers(mdl, bases[0], va, length, True):
        status = NTSTATUS.STATUS_DEVICE_DATA_ERROR
    with kernel.raised():
        await adapter.free_adapter_channel()
    irp.io_status.status, irp.io_status.information = status, moved
    kernel.io_complete_request(irp)
    kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(buffer)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_block(kernel, device, 997, flush=False)


async def fixed(kernel, device):
    await write_block(kernel, device, 997, flush=True)


async def lucky(kernel, device):
    await write_block(kernel, device, 992, flush=False)  # a whole number of chunks
