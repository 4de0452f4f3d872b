# SPDX-License-Identifier: BSD-2-Clause
"""Version 3, a request in two device transfers: MapTransferEx twice, FlushAdapterBuffersEx once.

The device takes at most half of the request at a time, so the driver maps and starts two transfers under one transfer
context. It flushes at the end of the request, with the arguments of the last MapTransferEx.

Mechanism: in version 3 MapTransferEx and FlushAdapterBuffersEx do the cache work, each for the bytes it is given. The first
half is never flushed: what the controller holds of it has nobody who asks for it, and lines that the CPU fetched ahead are
not invalidated. The caller then reads stale bytes in the first half. Without speculation in the wrong moment the run is
right.

Fix: FlushAdapterBuffersEx after each device transfer, before the next MapTransferEx of the context.
"""

from driver.wdk import (
    DMA_SYNCHRONOUS_CALLBACK,
    DeviceDescription,
    DeviceObject,
    IoAllocationAction,
    nt_success,
)

from ...userdriver.happens import prefetch
from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer

EXAMPLE = Example(
    broken=Expect(roots={"R28"}, consequences={"R24"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R28"}, consequences={"R24"}, severity="corruption possible"),
    source=("S10",),
)

HALF = 512  # bytes that the device moves at a time


async def read_in_halves(kernel, device, *, flush_each, speculates):
    """The driver: 1024 bytes, which it returns. ``speculates``: the CPU happens to prefetch them between map and start."""
    device_object = DeviceObject()
    adapter, map_registers = kernel.io_get_dma_adapter(device_object, DeviceDescription(version=3, maximum_length=4096))
    mdl = locked_buffer(kernel, 2 * HALF)
    va = kernel.mm_get_mdl_virtual_address(mdl)
    _, context = adapter.initialize_dma_transfer_context()
    with kernel.raised():
        status, base = await adapter.allocate_adapter_channel_ex(device_object, context, map_registers, DMA_SYNCHRONOUS_CALLBACK)
    if not nt_success(status):
        return b""
    for offset in (0, HALF):
        status, length, elements = await adapter.map_transfer_ex(mdl, base, offset, 0, HALF, False)
        if not nt_success(status) or length < HALF:
            break
        if speculates:
            await prefetch(device, va + offset, HALF)
        await device.start_channel(adapter, elements, False, offset)
        await finished(device)
        if flush_each or offset == HALF:
            status = await adapter.flush_adapter_buffers_ex(mdl, base, offset, HALF, False)
    await adapter.free_adapter_object(IoAllocationAction.DEALLOCATE_OBJECT)
    data = await kernel.cpu.load(va, 2 * HALF) if nt_success(status) else b""
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def broken(kernel, device):
    return await read_in_halves(kernel, device, flush_each=False, speculates=True)


async def fixed(kernel, device):
    return await read_in_halves(kernel, device, flush_each=True, speculates=True)


async def lucky(kernel, device):
    return await read_in_halves(kernel, device, flush_each=False, speculates=False)
