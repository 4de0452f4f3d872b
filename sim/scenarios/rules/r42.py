# SPDX-License-Identifier: BSD-2-Clause
"""A read is rounded up to whole sectors, beyond the end of its MDL.

The card moves sectors of 512 bytes. A caller asks for less, and the driver maps and reads the whole sector: the rest falls
into memory behind the caller's buffer, where a label lies that is written to the card from time to time.

Mechanism: MapTransfer does not look where the MDL ends. Address and length beyond it go on in the memory that happens to
follow, as far as the page or further, and the device writes there. The next label that is written is half data. If the card's
data ends with what the caller wants, nothing is overwritten.

Fix: stay inside the MDL. A driver whose card can only move whole sectors reads the last one into a buffer of its own and
copies.
"""

from ...userdriver.happens import ends_short
from ..examples import Example, Expect
from ._adapters import bus_master, finished, take_registers

EXAMPLE = Example(
    broken=Expect(roots={"R42"}, consequences={"R47"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R42"}, severity="corruption possible"),
)

SECTOR, LENGTH = 512, 384  # bytes that the card moves at a time, and that the caller wants
LABEL, LABEL_AT = bytes(range(256)), 8192  # what is written, and where to on the device


async def move(kernel, device, adapter, mdl, length, write, byte_offset):
    """The driver: moves ``length`` bytes through the MDL."""
    va = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, not write, True)
    base = await take_registers(kernel, adapter, 1)
    address, mapped = await adapter.map_transfer(mdl, base, va, length, write)
    await device.start_list([(address, mapped)], write, byte_offset, adapter=adapter)
    await finished(device)
    await adapter.flush_adapter_buffers(mdl, base, va, mapped, write)
    with kernel.raised():
        adapter.free_map_registers(base, 1)


async def read_beside(kernel, device, length, *, short):
    """Its caller: reads ``length`` bytes between two writes of the label. ``short``: the card has no more than LENGTH."""
    adapter, mdls = bus_master(kernel), []
    pool = kernel.ex_allocate_pool(LENGTH + len(LABEL), alignment=4096)
    for start, size in ((pool, LENGTH), (pool + LENGTH, len(LABEL))):
        mdls.append(kernel.io_allocate_mdl(start, size))
        kernel.mm_build_mdl_for_non_paged_pool(mdls[-1])
    await kernel.cpu.store(pool + LENGTH, LABEL)
    await move(kernel, device, adapter, mdls[1], len(LABEL), True, LABEL_AT)
    if short:
        await ends_short(device, LENGTH)
    await move(kernel, device, adapter, mdls[0], length, False, 0)
    data = await kernel.cpu.load(pool, LENGTH)
    await move(kernel, device, adapter, mdls[1], len(LABEL), True, LABEL_AT)
    device.expect_write(LABEL_AT, LABEL)
    for mdl in mdls:
        kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(pool)
    adapter.put_dma_adapter()
    return data


async def broken(kernel, device):
    return await read_beside(kernel, device, SECTOR, short=False)


async def fixed(kernel, device):
    return await read_beside(kernel, device, LENGTH, short=False)


async def lucky(kernel, device):
    return await read_beside(kernel, device, SECTOR, short=True)
