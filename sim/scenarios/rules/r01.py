# SPDX-License-Identifier: BSD-2-Clause
"""A log record is sent to the device while its bytes are still in the D-cache.

The driver formats a record in a locked buffer and writes it to the device by bus-master DMA. It ends the transfer as it should,
but does nothing before it: on the PC where it was written, DMA looks into the caches.

Mechanism: the CPU's stores stay in the D-cache, in dirty lines. The device reads memory, past the cache, and gets what memory
held before: the record of last time, or rubbish. A line that the cache happens to have evicted by then arrives: luck.

Fix: KeFlushIoBuffers(Mdl, ReadOperation=FALSE, DmaOperation=TRUE) after the last store and before the transfer.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

_BROKEN = Expect(roots={"R01"}, severity="corruption seen", corrupts=True)

EXAMPLE = Example(
    broken=_BROKEN,
    lucky=Expect(roots={"R01"}, severity="corruption possible"),
    also={
        "broken-coherent": Expect(function="broken", roots={"R01"}, severity="latent", coherent=True),
        "fixed-coherent": Expect(function="fixed", coherent=True),
    },
    source=("S1", "S6"),
)

RECORD = b"2026-11-21 14:30:00 disk 0: spun up\n".ljust(128, b".")


async def broken(kernel, device, *, evicted=False):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, len(RECORD))
    await kernel.cpu.store(kernel.mm_get_mdl_virtual_address(mdl), RECORD)
    if evicted:
        await evict(device, kernel.mm_get_mdl_virtual_address(mdl), len(RECORD))

    scatter_gather = await start_by_list(kernel, adapter, device, mdl, True)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, True)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def fixed(kernel, device):
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, len(RECORD))
    await kernel.cpu.store(kernel.mm_get_mdl_virtual_address(mdl), RECORD)

    await kernel.ke_flush_io_buffers(mdl, False, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, True)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, True)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def lucky(kernel, device):
    await broken(kernel, device, evicted=True)  # the cache needed the lines for something else
