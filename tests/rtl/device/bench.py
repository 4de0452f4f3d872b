# SPDX-License-Identifier: BSD-2-Clause
"""Harness of the device's tests: registers, both streams, and a byte model fed by the probe's records alone."""

from amaranth.sim import Simulator

from rtl.config import SocConfig
from rtl.device.storage import DeviceOp, StorageDevice
from rtl.probe import Kind


class Bench:
    """``model`` is the buffer as the records tell it; every DEV_READ is checked against it. ``flags`` plays the bank's w1c."""

    def __init__(self, config: SocConfig | None = None, **changes):
        self.config = config or SocConfig().replace(device__buffer_bytes=1024, **changes)
        self.dut = StorageDevice(config=self.config)
        self.n = self.config.data_bytes
        self.cycle = 0
        self.records = []
        self.model = bytearray(self.config.device.buffer_bytes)
        self.done = self.error = 0
        self.done_cycle = None

    def run(self, *testbenches, background=()):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_process(self._monitor)
        for testbench in background:
            sim.add_testbench(testbench, background=True)
        for testbench in testbenches:
            sim.add_testbench(testbench)
        sim.run()

    async def _monitor(self, ctx):
        csr, probe = self.dut.csr, self.dut.probe_dev
        samples = (probe.valid, probe.record, csr.status_done_set, csr.status_error_set)
        async for _, reset, valid, record, done, error in ctx.tick().sample(*samples):
            if not reset:
                if valid:
                    self._record(Kind(record.kind.value), int(record.addr), int(record.aux), int(record.data))
                if done:
                    self.done, self.done_cycle = self.done + 1, self.cycle
                self.error += error
            self.cycle += 1

    def _record(self, kind, addr, strobes, data):
        assert addr % self.n == 0 and 0 < strobes < 1 << self.n
        for lane in range(self.n):
            if strobes >> lane & 1:
                byte = data >> 8 * lane & 0xFF
                if kind is Kind.DEV_WRITE:
                    self.model[addr + lane] = byte
                else:
                    assert byte == self.model[addr + lane], "a read must see what the records before it wrote"
        self.records.append((self.cycle, kind, addr, strobes))

    def setup(self, ctx, **registers):
        for name, value in registers.items():
            ctx.set(getattr(self.dut.csr, name), value)

    async def command(self, ctx, op, **registers):
        """Gives a command; returns the cycle in which it was given (``cmd_written`` high)."""
        self.setup(ctx, **registers)
        ctx.set(self.dut.csr.cmd_op, op)
        ctx.set(self.dut.csr.cmd_written, 1)
        await ctx.tick()
        ctx.set(self.dut.csr.cmd_op, 0)
        ctx.set(self.dut.csr.cmd_written, 0)
        return self.cycle - 1

    async def finish(self, ctx, limit=4000):
        """Waits until the device is idle."""
        for _ in range(limit):
            if not ctx.get(self.dut.csr.status_busy):
                return
            await ctx.tick()
        raise AssertionError("the device stayed busy")

    async def accept(self, ctx, delay=0):
        """Waits for a request, accepts it ``delay`` cycles later; returns it and the cycles it rose and was accepted in."""
        req = self.dut.request.req
        while not ctx.get(req.valid):
            await ctx.tick()
        rose = self.cycle
        payload = ctx.get(req.payload)
        for _ in range(delay):
            await ctx.tick()
            assert ctx.get(req.valid) and ctx.get(req.payload) == payload, "a request must hold still"
        ctx.set(req.ready, 1)
        await ctx.tick()
        ctx.set(req.ready, 0)
        return payload, rose, self.cycle - 1

    async def collect(self, ctx, pause=lambda: 0):
        """Takes one request's packet; returns its bytes and the cycles of the beats."""
        t = self.dut.m_axis.t
        data, cycles = b"", []
        while True:
            while not ctx.get(t.valid):
                await ctx.tick()
            beat = ctx.get(t.payload)
            for _ in range(pause()):
                await ctx.tick()
                assert ctx.get(t.valid) and ctx.get(t.payload) == beat, "a beat must hold still"
            count = int(beat.keep).bit_count()
            assert beat.keep == (1 << count) - 1 and count and (beat.last or count == self.n)
            data += int(beat.data).to_bytes(self.n, "little")[:count]
            ctx.set(t.ready, 1)
            cycles.append(self.cycle)
            await ctx.tick()
            ctx.set(t.ready, 0)
            if beat.last:
                return data, cycles

    async def send(self, ctx, offset, data, pause=lambda: 0):
        """Sends bytes toward a device offset, beat by beat; returns the cycle of the last beat."""
        t = self.dut.s_axis.t
        end = offset + len(data)
        base = offset - offset % self.n
        while base < end:
            lanes = range(max(offset, base), min(end, base + self.n))
            await self.beat(ctx, base, {at - base: data[at - offset] for at in lanes}, last=base + self.n >= end)
            base += self.n
            for _ in range(pause()):
                await ctx.tick()
        ctx.set(t.valid, 0)
        return self.cycle - 1

    async def beat(self, ctx, base, lanes, last=1):
        """One beat toward the device; ``lanes`` maps lane to byte. Leaves VALID high."""
        t = self.dut.s_axis.t
        word = sum(value << 8 * lane for lane, value in lanes.items())
        keep = sum(1 << lane for lane in lanes)
        ctx.set(t.payload, {"data": word, "keep": keep, "last": last, "user": base})
        ctx.set(t.valid, 1)
        ready = 0
        while not ready:
            _, _, ready = await ctx.tick().sample(t.ready)
        ctx.set(t.valid, 0)

    async def fill(self, ctx, data):
        """Gives the whole buffer a content, by beats that belong to no command."""
        await self.send(ctx, 0, data)

    async def pio_access(self, ctx, value=None):
        """One data-port access in one cycle; returns ``(data, error)``."""
        csr = self.dut.csr
        strobe = csr.pio_data_r_strobe if value is None else csr.pio_data_w_strobe
        ctx.set(csr.pio_data_w_data, value or 0)
        ctx.set(strobe, 1)
        result = ctx.get(csr.pio_data_r_data), ctx.get(csr.pio_data_error)
        await ctx.tick()
        ctx.set(strobe, 0)
        return result

    async def dma_read(self, ctx, pause=lambda: 0, delay=lambda: 0):
        """Serves device-to-memory requests until the one with ``last``; returns requests and bytes."""
        requests, data = [], b""
        while True:
            request, _, _ = await self.accept(ctx, delay())
            assert not request.write_to_device
            part, _ = await self.collect(ctx, pause)
            assert len(part) == request.length
            requests.append((int(request.length), int(request.addr)))
            data += part
            if request.last:
                return requests, data


__all__ = ["Bench", "DeviceOp"]
