# SPDX-License-Identifier: BSD-2-Clause
"""A driver reads a block's header while the device is still writing the block.

The header stands at the beginning of the block, so it must be there long before the block is complete: the driver reads it
after the start, and prepares the next request meanwhile. No test failed: the driver used to have so much to do in between that
the header had come by then.

Mechanism: the device owns the buffer from the start to the end of the transfer. When the driver reads the header the device has
perhaps not written it yet: it is whatever memory held. And its line is now in the D-cache, so that the driver sees the same old
header again until somebody invalidates it. If the first bytes are already in memory the header is right, by luck.

Fix: read the header when the transfer is over and flushed (PutScatterGatherList). Who really needs it earlier reads it with a
transfer of its own.
"""

from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R05"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R05"}, severity="corruption possible"),
)

BLOCK, HEADER = 1024, 32  # bytes


async def broken(kernel, device, *, delay=0):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    if delay:
        await kernel.bus.delay(delay)

    header = await kernel.cpu.load(block, HEADER)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, False)

    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return header


async def fixed(kernel, device):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)

    await finished(device)
    await put_list(kernel, adapter, scatter_gather, False)
    header = await kernel.cpu.load(block, HEADER)

    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return header


async def lucky(kernel, device):
    return await broken(kernel, device, delay=200)  # the device has written the header, and is writing the rest
