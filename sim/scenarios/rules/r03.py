# SPDX-License-Identifier: BSD-2-Clause
"""A debugging mark in the last line of a buffer is written back over the data that the device has put there.

R03 is never the mistake itself: it is the harm of one, here of R05. While the driver was being debugged its author let it write
a mark at the end of the buffer right after the start, to see later whether the device had come that far. The mark stayed in.

Mechanism: the store makes the last line dirty while the device owns the buffer. The device writes its bytes to memory; then the
cache evicts the line and writes it back: the mark, and with it the line's other bytes as they were before the transfer (R03).
If the line is not evicted, the invalidate after the transfer drops the mark, and nobody notices.

Fix: no store into the buffer between the start and the end of the transfer (R05). Who wants a mark writes it before
KeFlushIoBuffers.
"""

from ...userdriver.happens import evict, landed
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R05"}, consequences={"R03"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R05"}, severity="corruption possible"),
    source=("S5",),
)

BLOCK, MARK = 256, b"\xde\xad\xbe\xef"


async def broken(kernel, device, *, evicted=True):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)

    await kernel.cpu.store(block + BLOCK - len(MARK), MARK)  # has the device come that far?
    await finished(device)
    await landed(device)
    if evicted:
        await evict(device, block + BLOCK - len(MARK), len(MARK))

    await put_list(kernel, adapter, scatter_gather, False)
    data = await kernel.cpu.load(block, BLOCK)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def fixed(kernel, device):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, BLOCK)
    block = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.cpu.store(block + BLOCK - len(MARK), MARK)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)

    await finished(device)
    await landed(device)
    await evict(device, block + BLOCK - len(MARK), len(MARK))

    await put_list(kernel, adapter, scatter_gather, False)
    data = await kernel.cpu.load(block, BLOCK)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()
    return data


async def lucky(kernel, device):
    return await broken(kernel, device, evicted=False)
