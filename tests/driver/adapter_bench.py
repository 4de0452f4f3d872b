# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of DMA adapters share: a machine, a kernel, an adapter, an MDL, and a device that moves bytes."""

from driver.wdk import DeviceDescription, DeviceObject, IoAllocationAction, Kernel, MajorFunction
from rtl.pio.table import IRQ

from .fake_bus import FakeBus, run

A = 0x8000_2003
KEEP, FREE, REGISTERS = IoAllocationAction


class Bench:
    """A kernel, an adapter of the given description, and an MDL of 100 bytes at ``A``."""

    def __init__(self, bus=None, *, beliefs=None, **description):
        self.bus = FakeBus() if bus is None else bus
        self.kernel = run(Kernel.start(self.bus, **(beliefs or {})))
        self.device = DeviceObject()
        self.adapter, self.registers = self.kernel.io_get_dma_adapter(self.device, DeviceDescription(**description))
        self.mdl = self.kernel.io_allocate_mdl(A, 100)
        self.kernel.mm_build_mdl_for_non_paged_pool(self.mdl)
        self.base = None
        self.descriptors = 0x8000_F000
        self.bus.ops.clear()
        self.kernel.trace.records.clear()

    def chain(self, *pieces):
        """A chain of built MDLs over ``(address, length)`` pieces."""
        irp = self.kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ)
        for n, (address, length) in enumerate(pieces):
            mdl = self.kernel.io_allocate_mdl(address, length, n > 0, False, irp)
            self.kernel.mm_build_mdl_for_non_paged_pool(mdl)
        return irp.mdl_address

    async def allocate(self, action=KEEP, count=2):
        def control(device_object, irp, base, context):
            assert device_object is self.device
            self.base = base
            return action

        return await self.adapter.allocate_adapter_channel(self.device, count, control)

    async def start_device(self, op, length=100, path=0, offset=0):
        dev = self.kernel.regs.dev
        await dev.path.write(channel=path)
        await dev.addr.write(offset)
        await dev.length.write(length)
        await dev.cmd.write(op=op)

    async def move(self, ranges, write, *, offset=0):
        """Starts the adapter's path over ``ranges`` and waits until all bytes are in the engine."""
        length = sum(n for _, n in ranges)
        op = 2 if write else 1
        if self.adapter.channel is not None:
            async with self.kernel.start_transfer(self.adapter, ranges, write):
                await self.start_device(op, length, self.adapter.channel, offset)
            bit = 1 << (IRQ.SYSTEM_CHANNEL + self.adapter.channel)
        else:
            words = []
            for n, (address, size) in enumerate(ranges):
                last = n == len(ranges) - 1
                words += [address, size, int(last), 0 if last else self.descriptors + 16 * (n + 1)]
            self.bus.poke(self.descriptors, b"".join(int(word).to_bytes(4, "little") for word in words))
            bm = self.kernel.regs.bm
            await bm.status.clear()
            await bm.desc.write(self.descriptors)
            await bm.mode.write(write_to_device=int(write))
            async with self.kernel.start_transfer(self.adapter, ranges, write):
                await bm.ctrl.write(start=1)
                await self.start_device(op, length, 4, offset)
            bit = 1 << IRQ.BUS_MASTER
        await self.bus.wait_interrupt(bit, 10_000, "the transfer")
        await self.kernel.regs.dev.status.clear()

    # -- the log ---------------------------------------------------------------------------------------------------

    def records(self, name, phase="begin"):
        return [r for r in self.kernel.trace.records if r["phase"] == phase and r["name"] == name]

    def names(self, phase="begin"):
        """Names of the calls in order, without what the HAL does and without what the driver looked at."""
        hidden = {"CacheMaintenance", "ResultChecked", "MmBuildMdlForNonPagedPool"}
        return [r["name"] for r in self.kernel.trace.records if r["phase"] == phase and r["name"] not in hidden]

    def result(self, name):
        return self.records(name, "end")[-1]["result"]

    def args(self, name):
        return self.records(name)[-1]["args"]

    def maintenance(self):
        """``(op, target, ranges)`` of each maintenance, in order."""
        return [(r["args"]["op"], r["args"]["target"], r["args"]["ranges"]) for r in self.records("CacheMaintenance")]
