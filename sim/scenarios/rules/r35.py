# SPDX-License-Identifier: BSD-2-Clause
"""MapTransfer returns a shorter length than was asked for, and the driver starts the device with what it asked for.

The driver reads a block on a system DMA channel. It was tested with buffers in one piece, where MapTransfer maps all of it.
Then a file system passes a chain of two MDLs. (``broken-linux`` is the same mistake in its most frequent form: the result of
dma_map_single goes to the device without dma_mapping_error.)

Mechanism: a system channel has one address. MapTransfer maps up to the end of the first MDL and says so in the length it
returns; the channel is programmed for that much. The rest of the block never arrives, and the request reports all of it. With
a buffer in one piece the length is what was asked for, by luck.

Fix: use the length that came back: start, flush and count by it, and map again until nothing is left.
"""

from driver.linux import (
    DMA_TO_DEVICE,
    ENOMEM,
    devm_kmalloc,
    dma_map_single,
    dma_mapping_error,
    dma_unmap_single,
)
from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

from ..examples import Example, Expect
from ._adapters import finished, take_channel

EXAMPLE = Example(
    broken=Expect(roots={"R35"}, consequences={"R47"}, severity="corruption possible", corrupts=True),
    lucky=Expect(roots={"R35"}, severity="corruption possible"),
    also={
        "broken-linux": Expect(roots={"R35"}, severity="corruption possible", function="broken_linux"),
        "fixed-linux": Expect(function="fixed_linux"),
    },
)

BLOCK = 1024  # bytes


async def read_block(kernel, device, pieces, *, trusting):
    """The driver: BLOCK bytes into a buffer of so many ``pieces``."""
    adapter, map_registers = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=2, maximum_length=4096))
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ)
    for n in range(pieces):
        part = kernel.ex_allocate_pool(BLOCK // pieces)
        mdl = kernel.io_allocate_mdl(part, BLOCK // pieces, n > 0, False, irp)
        kernel.mm_build_mdl_for_non_paged_pool(mdl)
        await kernel.ke_flush_io_buffers(mdl, True, True)
    first = irp.mdl_address
    va, done = kernel.mm_get_mdl_virtual_address(first), 0
    base = await take_channel(kernel, adapter, map_registers)
    while done < BLOCK:
        address, length = await adapter.map_transfer(first, base, va + done, BLOCK - done, False)
        if trusting:
            length = BLOCK - done
        await device.start_channel(adapter, [(address, length)], False, done)
        moved = await finished(device)
        if not await adapter.flush_adapter_buffers(first, base, va + done, length, False):
            break
        done += moved
    with kernel.raised():
        await adapter.free_adapter_channel()
    irp.io_status.status = NTSTATUS.STATUS_SUCCESS if done == BLOCK else NTSTATUS.STATUS_DEVICE_DATA_ERROR
    irp.io_status.information = done
    kernel.io_complete_request(irp)
    for mdl in list(first.chain()):
        kernel.ex_free_pool(mdl.virtual_address)
        kernel.io_free_mdl(mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await read_block(kernel, device, 2, trusting=True)


async def fixed(kernel, device):
    await read_block(kernel, device, 2, trusting=False)


async def lucky(kernel, device):
    await read_block(kernel, device, 1, trusting=True)


async def send(dev, device, *, asks):
    """The Linux driver: sends BLOCK bytes."""
    buf = devm_kmalloc(dev, BLOCK)
    if not buf:
        return -ENOMEM
    await dev.cpu.store(buf, b"\xa5" * BLOCK)
    dma = await dma_map_single(dev, buf, BLOCK, DMA_TO_DEVICE)
    if asks and dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, BLOCK)], True, 0, device=dev)
    await finished(device)
    await dma_unmap_single(dev, dma, BLOCK, DMA_TO_DEVICE)
    return 0


async def broken_linux(dev, device):
    return await send(dev, device, asks=False)


async def fixed_linux(dev, device):
    return await send(dev, device, asks=True)
