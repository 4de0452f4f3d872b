# SPDX-License-Identifier: BSD-2-Clause
"""A request counter lives in the same cache line as the end of a receive buffer, and loses counts.

The device extension holds a receive buffer and, right behind it, a counter of requests. While the device fills the buffer,
other requests arrive, and the dispatch routine increments the counter. Now and then the device's log shows a count that is too
low.

Mechanism: the buffer ends in the middle of a line; the counter is in its other half. The store makes the line dirty, with old
bytes of the buffer in it. If it is written back, they overwrite what the device has written. If it is not, the invalidate after
the transfer (in PutScatterGatherList) drops it, and the new count with it. No order of flushes is right for both. If the line
is evicted before the device gets to it, both survive: luck.

Fix: the buffer ends on a line; the counter stands in another one.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._adapters import bus_master, finished
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R10"}, consequences={"R07", "R09"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R10"}, severity="corruption possible"),
)

DATA = 232  # bytes of the receive buffer
LOG = 8192  # where the device takes the log


async def broken(kernel, device, *, evicted=False):
    adapter = bus_master(kernel)
    extension = kernel.ex_allocate_pool(2 * 256, alignment=128)
    counter = extension + DATA  # struct { UCHAR Data[232]; ULONG Requests; }

    await receive(kernel, device, adapter, extension, counter, evicted=evicted)
    await write_log(kernel, device, adapter, counter)
    kernel.ex_free_pool(extension)
    adapter.put_dma_adapter()


async def fixed(kernel, device):
    adapter = bus_master(kernel)
    extension = kernel.ex_allocate_pool(2 * 256, alignment=128)
    counter = extension + 256  # struct { DECLSPEC_CACHEALIGN UCHAR Data[256]; ULONG Requests; }

    await receive(kernel, device, adapter, extension, counter, size=256)
    await write_log(kernel, device, adapter, counter)
    kernel.ex_free_pool(extension)
    adapter.put_dma_adapter()


async def receive(kernel, device, adapter, data, counter, *, size=DATA, evicted=False):
    """The device fills the buffer; meanwhile three requests are counted."""
    mdl = kernel.io_allocate_mdl(data, size)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    await kernel.cpu.store_u32(counter, 100)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    for n in range(1, 4):
        await kernel.cpu.store_u32(counter, 100 + n)
    if evicted:
        await evict(device, counter, 4)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, False)
    device.expect_read(0, await kernel.cpu.load(data, size))
    kernel.io_free_mdl(mdl)


async def write_log(kernel, device, adapter, counter):
    """The counter goes to the device."""
    mdl = kernel.io_allocate_mdl(counter, 4)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    await kernel.ke_flush_io_buffers(mdl, False, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, True, LOG)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, True)
    kernel.io_free_mdl(mdl)


async def lucky(kernel, device):
    await broken(kernel, device, evicted=True)
