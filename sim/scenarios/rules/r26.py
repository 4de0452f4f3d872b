# SPDX-License-Identifier: BSD-2-Clause
"""FlushAdapterBuffers returns FALSE, and the driver reports success.

A block whose length is no multiple of the controller's chunk is read on a system DMA channel, through map registers because
it does not fill its cache lines. The flush at the end has to bring the last bytes to memory. Memory answers that one write
with an error, FlushAdapterBuffers returns FALSE, and the driver, which calls it as if it were a void function, completes the
request with STATUS_SUCCESS and the full length.

Mechanism: the last bytes are still in the controller. What the caller finds at the end of its buffer is what was there
before. If that happened to be the same block, read a moment ago, nobody notices; those bytes have never left the controller
all the same, and the checker says so.

Fix: look at the BOOLEAN. After a bus error the bytes are still there, and a second flush may bring them; if it does not, the
request fails with STATUS_DEVICE_DATA_ERROR.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

from ...userdriver.happens import fail_writes, landed
from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer, take_channel

_SURROUNDINGS = {"bounce": "unaligned"}

EXAMPLE = Example(
    broken=Expect(roots={"R26"}, severity="corruption seen", corrupts=True, hal=_SURROUNDINGS),
    fixed=Expect(hal=_SURROUNDINGS),
    lucky=Expect(roots={"R26"}, severity="corruption seen", hal=_SURROUNDINGS),
    source=("S8", "S3", "S7"),
)

BLOCK = 500  # bytes: no multiple of any chunk


async def read_block(kernel, device, adapter, map_registers, mdl, *, checks, fails):
    """The driver: one block of the device into the buffer. ``fails``: memory refuses the last bytes, once."""
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    va, status = kernel.mm_get_mdl_virtual_address(mdl), NTSTATUS.STATUS_SUCCESS
    await kernel.ke_flush_io_buffers(mdl, True, True)
    base = await take_channel(kernel, adapter, map_registers)
    address, length = await adapter.map_transfer(mdl, base, va, BLOCK, False)
    await device.start_channel(adapter, [(address, length)], False, 0)
    moved = await finished(device)
    if fails:
        await landed(device)  # all but the last bytes
        await fail_writes(device, address, length)
    flushed = await adapter.flush_adapter_buffers(mdl, base, va, length, False)
    if checks and not flushed:
        flushed = await adapter.flush_adapter_buffers(mdl, base, va, length, False)
        if not flushed:
            status, moved = NTSTATUS.STATUS_DEVICE_DATA_ERROR, 0
    with kernel.raised():
        await adapter.free_adapter_channel()
    irp.io_status.status, irp.io_status.information = status, moved
    kernel.io_complete_request(irp)


async def read_blocks(kernel, device, *, checks, failures):
    """The caller: the same block as often as there are ``failures`` to say which of the flushes fails."""
    adapter, map_registers = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=2, maximum_length=4096))
    mdl = locked_buffer(kernel, BLOCK)
    for fails in failures:
        await read_block(kernel, device, adapter, map_registers, mdl, checks=checks, fails=fails)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await read_blocks(kernel, device, checks=False, failures=[True])


async def fixed(kernel, device):
    await read_blocks(kernel, device, checks=True, failures=[True])


async def lucky(kernel, device):
    await read_blocks(kernel, device, checks=False, failures=[False, True])
