# SPDX-License-Identifier: BSD-2-Clause
"""Two halves of a log buffer overlap by 16 bytes, and two transfers are active in the same cache line.

The driver's buffer has two halves: one is sent while the other is filled, over two paths: a system channel to the device, a bus
master from it. Both are armed early, and the device serves them when it likes. Half a buffer is 256 bytes; the sending side
still counts a trailer of 16 bytes to it that moved elsewhere long ago.

Mechanism: the two mappings share a line, and the device writes it. What is sent of these bytes depends on which path the device
serves first: the log's last bytes, or what the other transfer has just written there. No flush decides that. If the device asks
for the log first, the right bytes leave: luck.

Fix: transfers that are active at the same time share no line; here each half is as long as it says. (Two mappings that share a
line but no byte are a warning: one of them owns bytes that a flush of the other moves.)
"""

from driver.wdk import DeviceDescription, DeviceObject
from rtl.pio.table import IRQ

from ..examples import Example, Expect
from ._adapters import bus_master, take_channel
from ._lists import put_list

EXAMPLE = Example(
    broken=Expect(roots={"R11"}, severity="corruption possible", corrupts=True),
    lucky=Expect(roots={"R11"}, severity="corruption possible"),
)

HALF, TRAILER, LOG = 256, 16, 8192  # bytes; where the device takes the log
READ, WRITE = 1, 2  # dev.cmd.op
BUS_MASTER_PATH = 4


async def broken(kernel, device, *, log_first=False):
    await send_and_fill(kernel, device, HALF + TRAILER, log_first)


async def fixed(kernel, device):
    await send_and_fill(kernel, device, HALF, False)


async def send_and_fill(kernel, device, length, log_first):
    """The driver: sends ``length`` bytes from the first half, and fills the second."""
    sender, registers = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=2, maximum_length=4096))
    filler = bus_master(kernel)
    ring = await filler.allocate_common_buffer(64, False)
    buffer = kernel.ex_allocate_pool(2 * HALF, alignment=128)
    first, second = described(kernel, buffer, length), described(kernel, buffer + HALF, HALF)
    text = bytes(n % 251 for n in range(length))
    await kernel.cpu.store(buffer, text)
    await kernel.ke_flush_io_buffers(second, True, True)
    await kernel.ke_flush_io_buffers(first, False, True)

    base = await take_channel(kernel, sender, registers)
    piece = await sender.map_transfer(first, base, buffer, length, True)
    async with kernel.start_transfer(sender, [piece], True):  # arms the channel
        pass
    lists = []

    async def list_control(device_object, irp, scatter_gather, context):
        lists.append(scatter_gather)
        elements = [(element.address, element.length) for element in scatter_gather]
        await device.write_descriptors(elements, ring.logical_address, cached=False)
        async with kernel.start_transfer(filler, elements, False):
            await kernel.regs.bm.desc.write(ring.logical_address)
            await kernel.regs.bm.mode.write(write_to_device=0)
            await kernel.regs.bm.ctrl.write(start=1)

    with kernel.raised():
        await filler.get_scatter_gather_list(DeviceObject(), second, buffer + HALF, HALF, list_control, None, False)

    channel = (sender.channel, WRITE, LOG, length, IRQ.SYSTEM_CHANNEL + sender.channel, kernel.regs.channel(sender.channel))
    master = (BUS_MASTER_PATH, READ, 0, HALF, IRQ.BUS_MASTER, kernel.regs.bm)
    for path in (channel, master) if log_first else (master, channel):
        await serve(kernel, *path)
        if path is channel:
            await sender.flush_adapter_buffers(first, base, buffer, length, True)
        else:
            await put_list(kernel, filler, lists[0], False)
    device.expect_read(0, await kernel.cpu.load(buffer + HALF, HALF))
    device.expect_write(LOG, text)

    with kernel.raised():
        await sender.free_adapter_channel()
    kernel.io_free_mdl(first)
    kernel.io_free_mdl(second)
    kernel.ex_free_pool(buffer)
    await filler.free_common_buffer(64, ring.logical_address, ring.virtual_address, False)
    sender.put_dma_adapter()
    filler.put_dma_adapter()


async def serve(kernel, path, op, byte_offset, length, irq, engine):
    """The device serves one path; until its transfer is over."""
    dev = kernel.regs.dev
    await dev.status.clear()
    await dev.path.write(channel=path)
    await dev.addr.write(byte_offset)
    await dev.length.write(length)
    await dev.cmd.write(op=op)
    await kernel.bus.wait_interrupt(1 << irq, 100_000, "the end of a transfer")
    await engine.status.clear()


def described(kernel, address, length):
    """An MDL over a part of the buffer."""
    mdl = kernel.io_allocate_mdl(address, length)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    return mdl


async def lucky(kernel, device):
    await broken(kernel, device, log_first=True)
