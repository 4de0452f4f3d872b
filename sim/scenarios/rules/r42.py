# SPDX-License-Identifier: BSD-2-Clause
"""A read is rounded up to whole sectors, beyond the end of its MDL.

The card moves sectors of 512 bytes. A caller asks for less, and the driver maps and reads the whole sector: the rest falls
into memory behind the caller's buffer, where another request's record lies.

Mechanism: MapTransfer does not look where the MDL ends. Address and length beyond it go on in the memory that happens to
follow, as far as the page or further, and the device writes there. Nobody sees it if nothing of value lies behind the buffer.

Fix: stay inside the MDL. A driver whose card can only move whole sectors reads the last one into a buffer of its own and
copies.
"""

from ..examples import Example, Expect
from ._adapters import bus_master, finished, take_registers

EXAMPLE = Example(
    broken=Expect(roots={"R42"}, consequences={"R19"}, severity="corruption possible", corrupts=True),
    lucky=Expect(roots={"R42"}, severity="corruption possible"),
)

SECTOR, LENGTH = 512, 384  # bytes that the card moves at a time, and that the caller wants
RECORD_AT = 8192  # where the record stands on the device


async def read(kernel, device, adapter, mdl, length, byte_offset):
    """The driver: reads ``length`` bytes through the MDL."""
    va = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)
    base = await take_registers(kernel, adapter, 1)
    address, mapped = await adapter.map_transfer(mdl, base, va, length, False)
    await device.start_list([(address, mapped)], False, byte_offset, adapter=adapter)
    await finished(device)
    await adapter.flush_adapter_buffers(mdl, base, va, mapped, False)
    with kernel.raised():
        adapter.free_map_registers(base, 1)


async def read_beside(kernel, device, length, *, record):
    """Two requests: a record, then ``length`` bytes into the buffer before it. ``record``: it is still of interest."""
    adapter = bus_master(kernel)
    pool = kernel.ex_allocate_pool(2 * SECTOR, alignment=4096)
    mdls = []
    for start in (pool, pool + LENGTH):
        mdls.append(kernel.io_allocate_mdl(start, LENGTH))
        kernel.mm_build_mdl_for_non_paged_pool(mdls[-1])
    await read(kernel, device, adapter, mdls[1], LENGTH, RECORD_AT)
    await read(kernel, device, adapter, mdls[0], length, 0)
    device.expect_read(0, await kernel.cpu.load(pool, LENGTH))
    if record:
        device.expect_read(RECORD_AT, await kernel.cpu.load(pool + LENGTH, LENGTH))
    for mdl in mdls:
        kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(pool)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await read_beside(kernel, device, SECTOR, record=True)


async def fixed(kernel, device):
    await read_beside(kernel, device, LENGTH, record=True)


async def lucky(kernel, device):
    await read_beside(kernel, device, SECTOR, record=False)
