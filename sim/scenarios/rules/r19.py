# SPDX-License-Identifier: BSD-2-Clause
"""A packet is a chain of two MDLs, and the driver flushes the first.

A network packet comes as a chain: one MDL for the header that the protocol driver has built, one for the user's data. The
driver calls KeFlushIoBuffers once, with the packet's MDL, and sends the whole chain by scatter/gather.

Mechanism: KeFlushIoBuffers works on the one MDL that it is given, not on those that are chained to it. The header is cleaned;
the data stays in the D-cache, and the device sends a right header with what memory held before behind it. If the cache has
evicted the data's lines, the packet is whole: luck.

Fix: one KeFlushIoBuffers for each MDL of the chain.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

EXAMPLE = Example(
    broken=Expect(roots={"R19"}, consequences={"R01"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R19"}, severity="corruption possible"),
    source=("S1", "S6"),
)

HEADER, DATA = 64, 192  # bytes


async def broken(kernel, device, *, evicted=False):
    adapter = bus_master(kernel)
    packet = await build_packet(kernel)
    if evicted:
        await evict(device, packet.next.virtual_address, DATA)

    await kernel.ke_flush_io_buffers(packet, False, True)
    scatter_gather = await start_by_list(kernel, adapter, device, packet, True)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, True)
    for mdl in list(packet.chain()):
        free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def fixed(kernel, device):
    adapter = bus_master(kernel)
    packet = await build_packet(kernel)

    for mdl in packet.chain():
        await kernel.ke_flush_io_buffers(mdl, False, True)
    scatter_gather = await start_by_list(kernel, adapter, device, packet, True)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, True)
    for mdl in list(packet.chain()):
        free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def build_packet(kernel):
    """What comes down from the protocol driver."""
    header, data = locked_buffer(kernel, HEADER), locked_buffer(kernel, DATA)
    await kernel.cpu.store(header.virtual_address, b"HEAD" * (HEADER // 4))
    await kernel.cpu.store(data.virtual_address, b"data, " * (DATA // 6))
    header.next = data
    return header


async def lucky(kernel, device):
    await broken(kernel, device, evicted=True)
