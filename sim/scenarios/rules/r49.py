# SPDX-License-Identifier: BSD-2-Clause
"""A driver asks for the DMA alignment and then aligns to eight.

A request's structure holds a reference count of 8 bytes, then the data buffer. The driver calls GetDmaAlignment, finds that
the structure is aligned as it says, and starts the transfer behind the count.

Mechanism: the count and the first bytes of the data share a cache line. While the device writes, somebody takes a reference:
the store makes the line dirty, with the old data in it, and when the cache evicts it those bytes overwrite the device's. If
nobody touches the count meanwhile, the data is right.

Fix: the buffer itself begins and ends on a multiple of what GetDmaAlignment returned.
"""

from ...userdriver.happens import evict, landed
from ..examples import Example, Expect
from ._adapters import bus_master, finished
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R49"}, consequences={"R09", "R10"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R49"}, consequences={"R09"}, severity="corruption possible"),
)

COUNT, LINES = 8, 512  # bytes of the reference count, and of the structure


async def read_into_structure(kernel, device, *, aligned, referenced):
    """The driver: returns the data. ``referenced``: somebody takes a reference while the device writes."""
    adapter = bus_master(kernel)
    unit = adapter.get_dma_alignment()
    structure = kernel.ex_allocate_pool(LINES, alignment=unit)
    data = structure + (unit if aligned else COUNT)
    mdl = kernel.io_allocate_mdl(data, structure + LINES - data)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    if referenced:
        await kernel.cpu.store_u64(structure, 2)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    await finished(device)
    await landed(device)
    await evict(device, structure, COUNT)  # the cache may do that whenever it likes
    await put_list(kernel, adapter, scatter_gather, False)
    read = await kernel.cpu.load(data, mdl.byte_count)
    kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(structure)
    adapter.put_dma_adapter()
    return read


async def broken(kernel, device):
    return await read_into_structure(kernel, device, aligned=False, referenced=True)


async def fixed(kernel, device):
    return await read_into_structure(kernel, device, aligned=True, referenced=True)


async def lucky(kernel, device):
    return await read_into_structure(kernel, device, aligned=False, referenced=False)
