# SPDX-License-Identifier: BSD-2-Clause
"""FlushAdapterBuffers with another length than MapTransfer: one sector instead of the two that were read.

The driver was written for single sectors. When it learned to read two at a time, MapTransfer got the new length and
FlushAdapterBuffers kept the constant.

Mechanism: on a platform where the flush at the end invalidates, it invalidates what it is told, here the first sector. Lines
of the second one that the CPU fetched ahead during the transfer stay in the D-cache, and the driver reads what memory held
before. (With map registers that bounce, the second sector would not be copied back at all.) Without speculation nothing goes
wrong.

Fix: MDL, map register base, address and length of the flush are those of MapTransfer.
"""

from driver.wdk import DeviceDescription, DeviceObject

from ...userdriver.happens import prefetch
from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer, take_channel

EXAMPLE = Example(
    broken=Expect(roots={"R29"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R29"}, severity="corruption possible"),
    source=("S3",),
)

SECTOR = 512  # bytes


async def read_sectors(kernel, device, *, flushed_bytes, speculates):
    """The driver: two sectors, which it returns. ``speculates``: the CPU happens to prefetch them before the start."""
    adapter, map_registers = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=2, maximum_length=4096))
    mdl = locked_buffer(kernel, 2 * SECTOR)
    va, data = kernel.mm_get_mdl_virtual_address(mdl), b""
    await kernel.ke_flush_io_buffers(mdl, True, True)
    base = await take_channel(kernel, adapter, map_registers)
    address, length = await adapter.map_transfer(mdl, base, va, 2 * SECTOR, False)
    if speculates:
        await prefetch(device, va, 2 * SECTOR)
    await device.start_channel(adapter, [(address, length)], False, 0)
    await finished(device)
    if await adapter.flush_adapter_buffers(mdl, base, va, flushed_bytes, False):
        data = await kernel.cpu.load(va, 2 * SECTOR)
    with kernel.raised():
        await adapter.free_adapter_channel()
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def broken(kernel, device):
    return await read_sectors(kernel, device, flushed_bytes=SECTOR, speculates=True)


async def fixed(kernel, device):
    return await read_sectors(kernel, device, flushed_bytes=2 * SECTOR, speculates=True)


async def lucky(kernel, device):
    return await read_sectors(kernel, device, flushed_bytes=SECTOR, speculates=False)
