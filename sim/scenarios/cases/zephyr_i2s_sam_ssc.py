# SPDX-License-Identifier: BSD-2-Clause
"""Zephyr's i2s_sam_ssc: the receive path invalidates only after the transfer, and dirty lines overwrite samples.

The audio driver reused its receive blocks. The application had written into a block (it cleared it), then gave it back, and the
driver started the next reception into it. After the reception the driver invalidated the block's lines, so that the CPU would
read what the DMA had written. Every now and then some samples were zeros (Zephyr pull request 42206).

Mechanism: the application's zeros were still dirty in the D-cache when the DMA began. The cache may evict a dirty
line whenever it needs its place; a line that is written back after the device's data has arrived overwrites it. The
invalidate at the end comes too late: it makes the CPU read memory, and memory is what went wrong.

Fix: no line of the block may be dirty when the transfer starts: clean and invalidate (or invalidate) it before the start too. The
corrected driver does both.
"""

from driver.maintenance import Op
from driver.wdk import DeviceDescription, DeviceObject, IoAllocationAction

from ...userdriver.happens import evict, landed
from ..examples import Example, Expect

EXAMPLE = Example(
    broken=Expect(roots={"R02"}, consequences={"R03"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R02"}, severity="corruption possible"),
    source=("S1", "S5"),
    case="Zephyr pull request 42206",
)

BLOCK = 512  # bytes of one receive block


async def receive(kernel, device, *, before, unlucky):
    """The driver: one reception into a block that the application has cleared.

    ``before``: the corrected driver's call. ``unlucky``: the cache happens to evict the block when the samples have arrived.
    """
    device_object = DeviceObject()
    adapter, registers = kernel.io_get_dma_adapter(device_object, DeviceDescription(version=2, maximum_length=BLOCK))
    block = kernel.ex_allocate_pool(BLOCK, alignment=64)
    mdl = kernel.io_allocate_mdl(block, BLOCK)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    bases = []

    async def adapter_control(device_object, irp, map_register_base, context):
        bases.append(map_register_base)
        piece = await adapter.map_transfer(mdl, map_register_base, block, BLOCK, False)
        await device.start_channel(adapter, [piece], False, 0)
        return IoAllocationAction.KEEP_OBJECT

    await kernel.bus.write(block, bytes(BLOCK))  # the application clears the block and gives it back
    if before:
        await kernel.maintenance.run(Op.CLEAN_INVALIDATE, [(block, BLOCK)])
    with kernel.raised():
        await adapter.allocate_adapter_channel(device_object, registers, adapter_control)
    await device.wait(100_000)
    await device.acknowledge()
    await landed(device)
    if unlucky:
        await evict(device, block, BLOCK)
    await adapter.flush_adapter_buffers(mdl, bases[0], block, BLOCK, False)
    await kernel.maintenance.run(Op.INVALIDATE, [(block, BLOCK)])
    samples = await kernel.bus.read(block, BLOCK)

    with kernel.raised():
        await adapter.free_adapter_channel()
    kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(block)
    adapter.put_dma_adapter()
    return samples


async def broken(kernel, device):
    return await receive(kernel, device, before=False, unlucky=True)


async def fixed(kernel, device):
    return await receive(kernel, device, before=True, unlucky=True)


async def lucky(kernel, device):
    return await receive(kernel, device, before=False, unlucky=False)
