# SPDX-License-Identifier: BSD-2-Clause
"""A cancelled read loses bytes: the driver read the DMA counter before it stopped the channel.

A read takes too long, and the driver gives up: it asks the counter how far the transfer has come, writes a line to the log,
stops the device, flushes the bytes that the counter stood for and completes the request with what is there.

Mechanism: the transfer goes on until it is stopped. Bytes that come between the counter and the stop are in the map registers'
pages; the flush copies back only as many as the old count says. The request's length is right, from the counter after the stop:
its last bytes are not the device's. If nothing comes in between, the two counts are equal: luck.

Fix: stop first, then read the counter, once, and use that count for both.
"""

from driver.bus import BusTimeout
from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

from ...userdriver.timing import Timing
from ..examples import Example, Expect
from ._adapters import free_buffer, locked_buffer, take_channel

_SLOW = Expect(hal={"bounce": "always"}, timing=Timing(sizes=(16,), gap=60))

EXAMPLE = Example(
    broken=_SLOW.but(roots={"R53"}, severity="corruption seen", corrupts=True),
    fixed=_SLOW,
    lucky=_SLOW.but(roots={"R53"}, severity="corruption possible", timing=Timing(sizes=(128, 16), gap=5000)),
)

SIZE = 1024  # bytes
PATIENCE, LOGGING = 1200, 150  # cycles


async def broken(kernel, device):
    adapter, mdl, base = await start_read(kernel, device)
    va, left = kernel.mm_get_mdl_virtual_address(mdl), 0
    try:
        await device.wait(PATIENCE)
    except BusTimeout:
        left = await adapter.read_dma_counter()
        await kernel.bus.delay(LOGGING)  # DbgPrint: "only %u of %u bytes in time"
        await stop(kernel, device, adapter)

    await adapter.flush_adapter_buffers(mdl, base, va, SIZE - left, False)
    await complete(kernel, device, adapter, mdl, SIZE - await adapter.read_dma_counter())


async def fixed(kernel, device):
    adapter, mdl, base = await start_read(kernel, device)
    va = kernel.mm_get_mdl_virtual_address(mdl)
    try:
        await device.wait(PATIENCE)
    except BusTimeout:
        await kernel.bus.delay(LOGGING)  # DbgPrint
        await stop(kernel, device, adapter)
    left = await adapter.read_dma_counter()

    await adapter.flush_adapter_buffers(mdl, base, va, SIZE - left, False)
    await complete(kernel, device, adapter, mdl, SIZE - left)


async def start_read(kernel, device):
    """A read of a block over the system channel: adapter, MDL, map registers."""
    adapter, registers = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=2, maximum_length=4096))
    mdl = locked_buffer(kernel, SIZE)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    base = await take_channel(kernel, adapter, registers)
    piece = await adapter.map_transfer(mdl, base, kernel.mm_get_mdl_virtual_address(mdl), SIZE, False)
    await device.start_channel(adapter, [piece], False, 0)
    return adapter, mdl, base


async def stop(kernel, device, adapter):
    """Stops device and channel; returns when the request in progress is over."""
    await device.stop()
    while (await kernel.regs.channel(adapter.channel).status.read()).busy:
        await kernel.bus.delay(8)


async def complete(kernel, device, adapter, mdl, length):
    """The request ends with the bytes that have come."""
    await device.acknowledge()
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    irp.io_status.status, irp.io_status.information = NTSTATUS.STATUS_SUCCESS, length
    with kernel.raised():
        await adapter.free_adapter_channel()
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def lucky(kernel, device):
    await broken(kernel, device)
