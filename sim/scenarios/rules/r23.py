# SPDX-License-Identifier: BSD-2-Clause
"""KeFlushIoBuffers for PIO before a DMA read: the old lines stay in the D-cache.

A driver was converted from PIO to DMA. Its KeFlushIoBuffers(Mdl, TRUE, FALSE) stayed as it was, only its place changed: before
the transfer now. The machine's HAL does what versions 1 and 2 say and no more, and its CPU never fetches ahead.

Mechanism: DmaOperation tells the platform who moves the data. For PIO, where the CPU's own stores are the newest bytes, it
cleans the D-cache and keeps the lines. For DMA it must clean and drop them: a block that the CPU has looked at before is still
in its cache, and hides what the device writes to memory. If the lines have left the cache, the block is right: luck. (Where the
HAL also invalidates after a read, as it must if the CPU fetches ahead, that covers the mistake: the run "covered".)

Fix: DmaOperation=TRUE before a DMA transfer, FALSE after a PIO read.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

_LETTER = Expect(hal={"invalidate_after_read": False}, speculates=False)
_BROKEN = _LETTER.but(roots={"R23"}, consequences={"R04"}, severity="corruption seen", corrupts=True)

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=_LETTER,
    lucky=_LETTER.but(roots={"R23"}, severity="corruption possible"),
    also={"covered": Expect(function="broken", roots={"R23"}, severity="corruption possible")},
    source=("S1", "S11"),
)

BLOCK = 256  # bytes


async def broken(kernel, device, *, evicted=False):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.cpu.store(block, b"\xa5" * BLOCK)  # an earlier use of the buffer

    await kernel.ke_flush_io_buffers(mdl, True, False)
    if evicted:
        await evict(device, block, BLOCK)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, False)
    data = await kernel.cpu.load(block, BLOCK)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def fixed(kernel, device):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.cpu.store(block, b"\xa5" * BLOCK)  # an earlier use of the buffer

    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, False)
    data = await kernel.cpu.load(block, BLOCK)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def lucky(kernel, device):
    return await broken(kernel, device, evicted=True)
