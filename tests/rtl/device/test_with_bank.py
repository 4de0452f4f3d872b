# SPDX-License-Identifier: BSD-2-Clause
"""Register bank and device together: the data port at the bank's full rate, status, interrupt, commands while busy."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator

from rtl.axi.bus import AXI4LiteSignature
from rtl.config import CSR_BASE, SocConfig
from rtl.device.storage import DeviceOp, StorageDevice
from rtl.pio.bank import RegisterBank
from rtl.pio.table import IRQ, find

CONFIG = SocConfig().replace(device__buffer_bytes=256)
OKAY, SLVERR = 0, 2
DONE, ERROR, DRQ = 0b10, 0b100, 0b1000


class Pair(wiring.Component):
    s_axil: In(AXI4LiteSignature(data_width=32, user_width=16))
    irq: Out(12)

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = RegisterBank(config=CONFIG)
        m.submodules.device = device = StorageDevice(config=CONFIG)
        connect(m, flipped(self.s_axil), bank.s_axil)
        connect(m, bank=bank.csr_dev, device=device.csr)
        m.d.comb += self.irq.eq(bank.irq)
        return m


def run(body):
    dut = Pair()
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def main(ctx):
        await body(ctx, dut)

    sim.add_testbench(main)
    sim.run()


def offset(name):
    return CSR_BASE + find(name).offset


async def reads(ctx, dut, *names):
    """Reads back to back, as fast as the bank takes them; returns ``(data, response)`` of each and the cycles they took."""
    bus = dut.s_axil
    todo, found, cycles = [offset(name) for name in names], [], 0
    ctx.set(bus.r.ready, 1)
    while len(found) < len(names):
        ctx.set(bus.ar.valid, bool(todo))
        if todo:
            ctx.set(bus.ar.payload.addr, todo[0])
        _, _, ready, valid, payload = await ctx.tick().sample(bus.ar.ready, bus.r.valid, bus.r.payload)
        if todo and ready:
            todo.pop(0)
        if valid:
            found.append((int(payload.data), payload.resp.value))
        cycles += 1
    return found, cycles


async def writes(ctx, dut, *pairs):
    """Writes back to back; returns the responses and the cycles they took."""
    bus = dut.s_axil
    todo, found, cycles = [(offset(name), value) for name, value in pairs], [], 0
    ctx.set(bus.b.ready, 1)
    ctx.set(bus.w.payload.strb, 0xF)
    while len(found) < len(pairs):
        ctx.set(bus.aw.valid, bool(todo))
        ctx.set(bus.w.valid, bool(todo))
        if todo:
            ctx.set(bus.aw.payload.addr, todo[0][0])
            ctx.set(bus.w.payload.data, todo[0][1])
        _, _, ready, valid, resp = await ctx.tick().sample(bus.aw.ready, bus.b.valid, bus.b.payload.resp)
        if todo and ready:
            todo.pop(0)
        if valid:
            found.append(resp.value)
        cycles += 1
    return found, cycles


def test_the_data_port_keeps_up_with_the_bank():
    """Every alignment; straddling accesses too: no access is refused, none takes longer than the bank's two cycles."""

    async def body(ctx, dut):
        for address in range(9):
            words = [0x0101_0101 * (address + n) ^ 0x3020_1000 for n in range(10)]
            start = [("dev.addr", address), ("dev.length", 40), ("dev.cmd", DeviceOp.PIO_WRITE)]
            responses, _ = await writes(ctx, dut, *start, *(("dev.pio_data", word) for word in words))
            assert responses == [OKAY] * 13
            await ctx.tick().repeat(4)
            await writes(ctx, dut, ("dev.cmd", DeviceOp.PIO_READ))
            found, cycles = await reads(ctx, dut, "dev.status", *["dev.pio_data"] * 10, "dev.pio_data", "dev.bytes_done")
            assert found[0] == (0b1 | DONE | DRQ, OKAY)
            assert found[1:11] == [(word, OKAY) for word in words]
            assert found[11] == (0, SLVERR) and found[12] == (40, OKAY)
            assert cycles == 2 * 13 + 1
            await writes(ctx, dut, ("dev.status", 0xFFFF_FFFF))

    run(body)


def test_status_and_interrupt():
    async def body(ctx, dut):
        await writes(ctx, dut, ("sys.irq_enable", 1 << IRQ.DEVICE), ("dev.length", 4), ("dev.cmd", DeviceOp.DMA_WRITE))
        assert (await reads(ctx, dut, "dev.status"))[0] == [(1, OKAY)] and not ctx.get(dut.irq)
        await writes(ctx, dut, ("dev.cmd", DeviceOp.PIO_READ))  # while busy
        found, _ = await reads(ctx, dut, "dev.status", "dev.status")
        assert found[-1] == (1 | ERROR, OKAY) and ctx.get(dut.irq) == 1 << IRQ.DEVICE
        await writes(ctx, dut, ("dev.status", ERROR), ("dev.cmd", DeviceOp.ABORT))
        found, _ = await reads(ctx, dut, "dev.status", "dev.status")
        assert found[-1] == (ERROR, OKAY)
        await writes(ctx, dut, ("dev.status", ERROR), ("dev.stall", 1000), ("dev.cmd", DeviceOp.NONE))
        found, _ = await reads(ctx, dut, "dev.stall", "dev.stall", "dev.status")
        assert found[0][0] - found[1][0] == 2 and found[2] == (0, OKAY) and not ctx.get(dut.irq)

    run(body)
