# SPDX-License-Identifier: BSD-2-Clause
"""A sequence number that is stored after MapTransfer never reaches the device.

The device is a bus master without scatter/gather, so that a packet of two MDLs goes through map registers. The driver maps the
packet, then learns its sequence number, stores it in the header, flushes (again, to be sure) and starts the device.

Mechanism: MapTransfer has copied the packet into the map registers' pages; the device reads the copy. What is stored into the
buffer after that is not in it, and KeFlushIoBuffers cleans the buffer's lines, which the device never looks at. On a machine
where the buffer needs no map registers the same driver works; it also works if the header held the same number already: luck.

Fix: the packet is complete before MapTransfer.
"""

from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer, take_registers

EXAMPLE = Example(
    broken=Expect(roots={"R51"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R51"}, severity="corruption possible"),
)

HEADER, DATA = 64, 128  # bytes
REGISTERS = 2


async def broken(kernel, device, *, number=7):
    adapter, packet = bus_master(kernel, scatter_gather=False), await build_packet(kernel)
    header, length = kernel.mm_get_mdl_virtual_address(packet), packet.total
    await flush_chain(kernel, packet)
    base = await take_registers(kernel, adapter, REGISTERS)
    piece = await adapter.map_transfer(packet, base, header, length, True)

    await kernel.cpu.store_u32(header, number)
    await flush_chain(kernel, packet)
    await device.start_list([piece], True, 0, adapter=adapter)
    await finished(device)
    await adapter.flush_adapter_buffers(packet, base, header, length, True)
    device.expect_write(0, await kernel.cpu.load(header, HEADER))

    release(kernel, adapter, base, packet)


async def fixed(kernel, device):
    adapter, packet = bus_master(kernel, scatter_gather=False), await build_packet(kernel)
    header, length = kernel.mm_get_mdl_virtual_address(packet), packet.total
    await kernel.cpu.store_u32(header, 7)
    await flush_chain(kernel, packet)
    base = await take_registers(kernel, adapter, REGISTERS)
    piece = await adapter.map_transfer(packet, base, header, length, True)

    await device.start_list([piece], True, 0, adapter=adapter)
    await finished(device)
    await adapter.flush_adapter_buffers(packet, base, header, length, True)
    device.expect_write(0, await kernel.cpu.load(header, HEADER))

    release(kernel, adapter, base, packet)


async def build_packet(kernel):
    """A header without its number, and data."""
    header, data = locked_buffer(kernel, HEADER), locked_buffer(kernel, DATA, alignment=4096)  # in another page
    await kernel.cpu.store(header.virtual_address, bytes(HEADER))
    await kernel.cpu.store(data.virtual_address, b"data" * (DATA // 4))
    header.next = data
    return header


async def flush_chain(kernel, packet):
    """KeFlushIoBuffers for each MDL."""
    for mdl in packet.chain():
        await kernel.ke_flush_io_buffers(mdl, False, True)


def release(kernel, adapter, base, packet):
    """Everything is given back."""
    with kernel.raised():
        adapter.free_map_registers(base, REGISTERS)
    for mdl in list(packet.chain()):
        free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def lucky(kernel, device):
    await broken(kernel, device, number=0)  # the packet's number is what the header held
