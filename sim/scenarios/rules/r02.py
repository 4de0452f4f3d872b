# SPDX-License-Identifier: BSD-2-Clause
"""A block is read from the device into a buffer that the driver has just filled with a pattern.

So that old data is never taken for new, the driver fills its buffer with 0xcc and then reads a block into it, without
KeFlushIoBuffers: "the device overwrites it anyway".

Mechanism: the pattern is in dirty lines of the D-cache. The device writes its block to memory. When the cache later needs the
lines for something else, it writes the pattern back, over the block; the invalidate at the end of the transfer then makes the
CPU read memory, and memory is what went wrong. If the lines leave the cache before the device's data comes, all is well: luck.

Fix: KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=TRUE) after the last store and before the transfer: no dirty line is
left that could be written back.
"""

from ...userdriver.happens import evict, landed
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R02"}, consequences={"R03"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R02"}, severity="corruption possible"),
    source=("S1", "S5"),
)

BLOCK = 256  # bytes


async def broken(kernel, device, *, early=False):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.cpu.store(block, b"\xcc" * BLOCK)  # RtlFillMemory
    if early:
        await evict(device, block, BLOCK)

    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    await finished(device)
    await landed(device)
    await evict(device, block, BLOCK)
    await put_list(kernel, adapter, scatter_gather, False)

    data = await kernel.cpu.load(block, BLOCK)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def fixed(kernel, device):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.cpu.store(block, b"\xcc" * BLOCK)  # RtlFillMemory

    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    await finished(device)
    await landed(device)
    await evict(device, block, BLOCK)
    await put_list(kernel, adapter, scatter_gather, False)

    data = await kernel.cpu.load(block, BLOCK)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def lucky(kernel, device):
    return await broken(kernel, device, early=True)  # the lines are gone before the device's data comes
