# SPDX-License-Identifier: BSD-2-Clause
"""A bus master's driver looks at the data first and puts the scatter/gather list afterwards.

A block is read by a scatter/gather list. Its first bytes are a header, and the driver checks it as soon as the device reports
the end of the transfer. PutScatterGatherList comes later, with the rest of the clean-up: by its name it frees a list, nothing
else.

Mechanism: PutScatterGatherList also does what FlushAdapterBuffers does. Before it the controller may hold the last bytes, and
the D-cache may hold lines that the CPU fetched ahead while the device was working. Here the CPU prefetched the header between
the flush before the transfer and the device's data; the driver checks stale bytes. Nothing prefetched, the data is right by
luck.

Fix: PutScatterGatherList first, then the first look at the data, then the completion of the request.
"""

from ...userdriver.happens import prefetch
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R25"}, consequences={"R04"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R25"}, severity="corruption possible"),
    source=("S4",),
)

BLOCK, HEADER = 512, 64  # bytes


async def read_block(kernel, device, *, look_first, speculates):
    """The driver: returns the header that it saw. ``speculates``: the CPU happens to prefetch it before the data comes."""
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block, header = kernel.mm_get_mdl_virtual_address(mdl), b""
    await kernel.ke_flush_io_buffers(mdl, True, True)
    if speculates:
        await prefetch(device, block, HEADER)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    await finished(device)
    if look_first:
        header = await kernel.cpu.load(block, HEADER)
    await put_list(kernel, adapter, scatter_gather, False)
    if not look_first:
        header = await kernel.cpu.load(block, HEADER)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return header


async def broken(kernel, device):
    return await read_block(kernel, device, look_first=True, speculates=True)


async def fixed(kernel, device):
    return await read_block(kernel, device, look_first=False, speculates=True)


async def lucky(kernel, device):
    return await read_block(kernel, device, look_first=True, speculates=False)
