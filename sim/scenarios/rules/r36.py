# SPDX-License-Identifier: BSD-2-Clause
"""A bus master's driver asks ReadDmaCounter how many bytes are left.

The driver was ported from a system DMA channel to a card that is a bus master. How much of a request was transferred it still
computes as before: length less ReadDmaCounter.

Mechanism: ReadDmaCounter reads the counter of a system channel. A bus master has none, and the routine returns 0: nothing
left. When the card ends a transfer early, the request is completed with the full length all the same, and the caller takes
the old bytes of its buffer for data. As long as every transfer is complete, 0 is right by luck.

Fix: ask the card itself. Only its own registers know how far it got.
"""

from driver.wdk import NTSTATUS, MajorFunction

from ...userdriver.happens import ends_short
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R36"}, consequences={"R53"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R36"}, severity="corruption possible"),
)

LENGTH, SHORT = 1024, 512  # bytes of the request, and what the card has


async def read_packet(kernel, device, *, by_counter, short):
    """The driver: reads a packet of at most LENGTH bytes. ``short``: the card has only SHORT."""
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, LENGTH)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    if short:
        await ends_short(device, SHORT)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, False)
    moved = await finished(device)
    if by_counter:
        moved = LENGTH - await adapter.read_dma_counter()
    flushed = await put_list(kernel, adapter, scatter_gather, False)
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = moved
    kernel.io_complete_request(irp)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await read_packet(kernel, device, by_counter=True, short=True)


async def fixed(kernel, device):
    await read_packet(kernel, device, by_counter=False, short=True)


async def lucky(kernel, device):
    await read_packet(kernel, device, by_counter=True, short=False)
