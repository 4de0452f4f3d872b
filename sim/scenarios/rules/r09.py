# SPDX-License-Identifier: BSD-2-Clause
"""The device writes into the middle of the driver's device extension.

The extension is one allocation: a few pointers, the data that INQUIRY returns, counters. The driver lets the device write the
inquiry data straight into its place, 40 bytes from the beginning. All flushes are made.

Mechanism: the first and the last line of the data also hold the neighbours. As long as nobody stores to them between the flush
before the transfer and its end, nothing goes wrong, and this driver is careful; hence only a warning. The next engineer adds a
counter that an interrupt increments: then the same layout is R10, and no flush can save it.

Fix: memory of its own, whole cache lines, for whatever a device writes (or let map registers bounce it: the run "bounced").
"""

from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R09"}, severity="warning"),
    also={"fixed-bounced": Expect(function="broken", hal={"bounce": "unaligned"})},
)

EXTENSION, INQUIRY_AT, INQUIRY = 256, 40, 128  # bytes; INQUIRY_AT: offset of the inquiry data


async def broken(kernel, device):
    adapter = bus_master(kernel)
    extension = kernel.ex_allocate_pool(EXTENSION, what="device extension")
    mdl = kernel.io_allocate_mdl(extension + INQUIRY_AT, INQUIRY)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)

    data = await inquiry(kernel, device, adapter, mdl)

    kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(extension)
    adapter.put_dma_adapter()
    return data


async def fixed(kernel, device):
    adapter = bus_master(kernel)
    extension = kernel.ex_allocate_pool(EXTENSION, what="device extension")
    mdl = locked_buffer(kernel, INQUIRY, what="inquiry data")  # begins on a line, and fills its lines

    data = await inquiry(kernel, device, adapter, mdl)

    free_buffer(kernel, mdl)
    kernel.ex_free_pool(extension)
    adapter.put_dma_adapter()
    return data


async def inquiry(kernel, device, adapter, mdl):
    """Reads the inquiry data; returns it."""
    await kernel.ke_flush_io_buffers(mdl, True, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, False)
    return await kernel.cpu.load(kernel.mm_get_mdl_virtual_address(mdl), INQUIRY)
