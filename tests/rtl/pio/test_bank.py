# SPDX-License-Identifier: BSD-2-Clause
"""RegisterBank: latency, order, every access kind, same-cycle precedence, errors, interrupts, records, conversion."""

import itertools
import random

import pytest
from amaranth.back import verilog
from amaranth.sim import Simulator

from rtl.config import CSR_BASE, SocConfig
from rtl.pio.bank import RegisterBank
from rtl.pio.signature import CsrSignature, member_name
from rtl.pio.table import IRQ, find, registers
from rtl.probe import Kind

OKAY, SLVERR, DECERR = 0, 2, 3


class Bench:
    """The bank, a clock that counts, and a monitor that keeps the probe's records."""

    def __init__(self, config=None):
        self.dut = RegisterBank(config=config or SocConfig())
        self.cycle = 0
        self.records = []

    def run(self, *testbenches):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def monitor(ctx):
            probe = self.dut.probe_csr
            async for _, reset, valid, record in ctx.tick().sample(probe.valid, probe.record):
                if valid and not reset:
                    self.records.append(
                        (self.cycle, Kind(record.kind.value), int(record.tag), int(record.addr), int(record.data))
                    )
                self.cycle += 1

        sim.add_process(monitor)
        for testbench in testbenches:
            sim.add_testbench(testbench)
        sim.run()

    async def write(self, ctx, address, data, strb=0xF, tag=0, w_delay=0, b_delay=0):
        """Returns ``(response, cycle of acceptance, cycle of B valid)``."""
        bus = self.dut.s_axil
        ctx.set(bus.aw.payload, {"addr": address, "user": tag})
        ctx.set(bus.w.payload, {"data": data, "strb": strb})
        ctx.set(bus.aw.valid, 1)
        for _ in range(w_delay):
            _, _, ready = await ctx.tick().sample(bus.aw.ready)
            assert not ready, "an address alone must not be accepted"
        ctx.set(bus.w.valid, 1)
        ready = 0
        while not ready:  # READY depends on the other kind's VALID, so it is looked at where it counts: at the edge
            _, _, ready, w_ready = await ctx.tick().sample(bus.aw.ready, bus.w.ready)
            assert ready == w_ready
        accepted = self.cycle - 1
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)
        while not ctx.get(bus.b.valid):
            await ctx.tick()
        answered = self.cycle
        for _ in range(b_delay):
            await ctx.tick()
            assert ctx.get(bus.b.valid)
        resp = ctx.get(bus.b.payload.resp).value
        ctx.set(bus.b.ready, 1)
        await ctx.tick()
        ctx.set(bus.b.ready, 0)
        return resp, accepted, answered

    async def read(self, ctx, address, tag=0, r_delay=0):
        """Returns ``(data, response, cycle of acceptance, cycle of R valid)``."""
        bus = self.dut.s_axil
        ctx.set(bus.ar.payload, {"addr": address, "user": tag})
        ctx.set(bus.ar.valid, 1)
        ready = 0
        while not ready:
            _, _, ready = await ctx.tick().sample(bus.ar.ready)
        accepted = self.cycle - 1
        ctx.set(bus.ar.valid, 0)
        while not ctx.get(bus.r.valid):
            await ctx.tick()
        answered = self.cycle
        for _ in range(r_delay):
            await ctx.tick()
            assert ctx.get(bus.r.valid)
        data, resp = ctx.get(bus.r.payload.data), ctx.get(bus.r.payload.resp).value
        ctx.set(bus.r.ready, 1)
        await ctx.tick()
        ctx.set(bus.r.ready, 0)
        return data, resp, accepted, answered

    async def get(self, ctx, name):
        data, resp, _, _ = await self.read(ctx, CSR_BASE + find(name, registers(4)).offset)
        assert resp == OKAY
        return data

    async def put(self, ctx, name, value):
        resp, _, _ = await self.write(ctx, CSR_BASE + find(name, registers(4)).offset, value)
        assert resp == OKAY


def test_latency_and_rate():
    """Performed one cycle, answered two cycles after acceptance; accepted again in the cycle of the response's handshake."""
    bench = Bench()

    async def stimulus(ctx):
        resp, accepted, answered = await bench.write(ctx, CSR_BASE + 0x300, 0x8000_0000, tag=7)
        assert (resp, answered - accepted) == (OKAY, 2)
        data, resp, accepted, answered = await bench.read(ctx, CSR_BASE + 0x300, tag=8)
        assert (data, resp, answered - accepted) == (0x8000_0000, OKAY, 2)
        assert bench.records == [
            (1, Kind.CSR_WRITE, 7, 0x300, 0x8000_0000),
            (accepted + 1, Kind.CSR_READ, 8, 0x300, 0x8000_0000),
        ]
        bus = bench.dut.s_axil
        ctx.set(bus.r.ready, 1)
        ctx.set(bus.ar.payload.addr, CSR_BASE)
        ctx.set(bus.ar.valid, 1)
        accepts = []
        for _ in range(9):
            if ctx.get(bus.ar.ready):
                accepts.append(bench.cycle)
            await ctx.tick()
        assert [b - a for a, b in itertools.pairwise(accepts)] == [2] * 4

    bench.run(stimulus)


def test_written_pulse_comes_with_the_new_value():
    bench = Bench()
    csr = bench.dut.csr_maint
    seen = []

    async def watch(ctx):
        async for _, _, written, value in ctx.tick().sample(csr.start_written, csr.start):
            seen.append((written, value))
            if len(seen) == 12:
                return

    async def stimulus(ctx):
        await bench.write(ctx, CSR_BASE + 0x300, 0x1234)  # accepted in cycle 0

    bench.run(stimulus, watch)
    assert seen[:4] == [(0, 0), (0, 0), (1, 0x1234), (0, 0x1234)]


def test_rw_registers_hold_their_bits_and_reset_values():
    """Every rw field of every block: reset value, all ones, zero; nothing else changes it."""
    config = SocConfig().replace(dma__system_channels=4)
    bench = Bench(config)
    table = registers(4)

    async def stimulus(ctx):
        for register in table:
            fields = [field for field in register.fields if field.access == "rw"]
            if not fields or register.full_name == "mem.fault_ctrl":
                continue
            mask = sum(field.mask for field in fields)
            reset = sum(field.reset << field.low for field in fields)
            assert await bench.get(ctx, register.full_name) & mask == reset, register.full_name
            await bench.put(ctx, register.full_name, 0xFFFF_FFFF)
            assert await bench.get(ctx, register.full_name) & mask == mask
            for field in fields:
                if register.block != "sys":
                    port = getattr(bench.dut, f"csr_{register.block}")
                    assert ctx.get(getattr(port, member_name(register, field))) == (1 << field.width) - 1
            await bench.put(ctx, register.full_name, 0)
            assert await bench.get(ctx, register.full_name) & mask == 0

    bench.run(stimulus)


def test_read_only_and_reserved():
    config = SocConfig().replace(dma__chunk_bytes=32, memory__size=1 << 20, dcache__prefetcher=False, coherency="snoop")
    config = config.replace(dcache__partial_lines="clean", dcache__write_policy="through", dcache__parity=True)
    bench = Bench(config)

    async def stimulus(ctx):
        assert await bench.get(ctx, "sys.id") == 0x4650_5431
        assert await bench.get(ctx, "sys.features") == 0x20_20_08_99
        assert await bench.get(ctx, "sys.mem_base") == 0x8000_0000
        assert await bench.get(ctx, "sys.mem_size") == 1 << 20
        assert await bench.get(ctx, "sys.dcache_geometry") == 1 << 24 | 2 << 16 | 64
        await bench.put(ctx, "sys.id", 0)  # ignored, OKAY
        assert await bench.get(ctx, "sys.id") == 0x4650_5431
        await bench.put(ctx, "ch0.mode", 0xFFFF_FFFF)  # reserved bits read as zero
        assert await bench.get(ctx, "ch0.mode") == 0b111
        ctx.set(bench.dut.csr_dma.level_to_memory, 0xABCD)
        ctx.set(bench.dut.csr_dma.level_to_device, 0x1234)
        assert await bench.get(ctx, "dma.level") == 0x1234_ABCD
        first, _, accepted, _ = await bench.read(ctx, CSR_BASE + 0x18)
        assert first == accepted + 1  # the counter is 0 in the first cycle; the read is performed one cycle after acceptance

    bench.run(stimulus)


def test_write_strobe_fields():
    """A ``w`` field shows its value for the one cycle of ``written`` and is zero otherwise; it reads as zero."""
    bench = Bench()
    csr = bench.dut.csr_maint
    seen = []

    async def watch(ctx):
        async for _, _, written, op, scope in ctx.tick().sample(csr.cmd_written, csr.cmd_op, csr.cmd_scope):
            seen.append((written, op, scope))
            if len(seen) == 14:
                return

    async def stimulus(ctx):
        await bench.put(ctx, "maint.cmd", 0b01_0111)
        assert await bench.get(ctx, "maint.cmd") == 0

    bench.run(stimulus, watch)
    assert [entry for entry in seen if any(entry)] == [(1, 3, 1)]
    assert seen[2] == (1, 3, 1)


def test_rwh_fields():
    """The bank shows the written value with ``written`` and reads back what the block holds; the rw neighbour is stored."""
    bench = Bench()
    csr = bench.dut.csr_mem
    seen = []

    async def watch(ctx):
        async for _, _, written, value in ctx.tick().sample(csr.fault_ctrl_written, csr.fault_ctrl_count_w):
            if written:
                seen.append(value)
            if bench.cycle > 12:
                return

    async def stimulus(ctx):
        ctx.set(csr.fault_ctrl_count, 0x5A)
        await bench.put(ctx, "mem.fault_ctrl", 0x0702)
        assert await bench.get(ctx, "mem.fault_ctrl") == 0x5A02

    bench.run(stimulus, watch)
    assert seen == [7]


@pytest.mark.parametrize("set_in", range(5))
@pytest.mark.parametrize("bits", [0b10, 0b100])
def test_w1c_races(set_in, bits):
    """A set in any cycle around the clearing write: in the write's cycle (1) and later it wins, before it is cleared."""
    bench = Bench()
    csr = bench.dut.csr_dma
    result = []

    async def hardware(ctx):
        for _ in range(set_in):
            await ctx.tick()
        ctx.set(csr.flush_status_done_set, 1)
        await ctx.tick()
        ctx.set(csr.flush_status_done_set, 0)

    async def stimulus(ctx):
        await bench.put(ctx, "dma.flush_status", bits)  # accepted in cycle 0, performed in cycle 1
        await ctx.tick().repeat(4)
        result.append(await bench.get(ctx, "dma.flush_status"))
        result.append(ctx.get(csr.flush_status_done))

    bench.run(hardware, stimulus)
    # bits 0b100 is a read-only neighbour: it clears nothing.
    expected = int(set_in >= 1 or bits != 0b10)
    assert result == [expected << 1, expected]


def test_port_register():
    """Strobes are high in the cycle in which the access is performed; ``error`` turns it into SLVERR without a record."""
    bench = Bench()
    csr = bench.dut.csr_dev
    strobes = []

    async def watch(ctx):
        async for _, _, w, r, data in ctx.tick().sample(csr.pio_data_w_strobe, csr.pio_data_r_strobe, csr.pio_data_w_data):
            if w or r:
                strobes.append((bench.cycle, w, r, data if w else None))
            if bench.cycle > 40:
                return

    async def stimulus(ctx):
        ctx.set(csr.pio_data_r_data, 0xCAFE_F00D)
        resp, first, _ = await bench.write(ctx, CSR_BASE + 0x828, 0x0102_0304)
        assert resp == OKAY
        data, resp, second, _ = await bench.read(ctx, CSR_BASE + 0x828)
        assert (data, resp) == (0xCAFE_F00D, OKAY)
        ctx.set(csr.pio_data_error, 1)
        resp, third, _ = await bench.write(ctx, CSR_BASE + 0x828, 5)
        assert resp == SLVERR
        data, resp, fourth, _ = await bench.read(ctx, CSR_BASE + 0x828)
        assert (data, resp) == (0, SLVERR)
        # The same error line means nothing to another register.
        assert await bench.get(ctx, "dev.gap") == 0
        strobed = [(cycle, bool(w)) for cycle, w, _, _ in strobes]
        # watch and monitor both count the edge, in either order: compare distances.
        assert [cycle - strobed[0][0] for cycle, _ in strobed] == [0, second - first, third - first, fourth - first]
        assert [data for _, _, _, data in strobes] == [0x0102_0304, None, 5, None]
        assert [record[1] for record in bench.records] == [Kind.CSR_WRITE, Kind.CSR_READ, Kind.CSR_READ]

    bench.run(stimulus, watch)


def test_counters_count_each_event_and_ignore_writes():
    """A read has the events of the cycles before the one in which it is performed."""
    bench = Bench()
    counters = [register for register in registers(1) if register.fields[0].access == "count"]

    async def stimulus(ctx):
        for register in counters:
            pulse = getattr(getattr(bench.dut, f"csr_{register.block}"), f"{register.name}_incr")
            for events in (1, 2):
                ctx.set(pulse, 1)
                await ctx.tick().repeat(events)
                ctx.set(pulse, 0)
            assert await bench.get(ctx, register.full_name) == 3
            await bench.put(ctx, register.full_name, 0xFFFF_FFFF)
            ctx.set(pulse, 1)
            begin = bench.cycle
            count, _, accepted, _ = await bench.read(ctx, CSR_BASE + register.offset)
            ctx.set(pulse, 0)
            assert count == 3 + (accepted + 1 - begin)
        assert len(counters) == 13 and await bench.get(ctx, "dma.bytes_to_memory") == 0

    bench.run(stimulus)


def test_refused_accesses_change_nothing():
    bench = Bench()

    async def stimulus(ctx):
        await bench.put(ctx, "maint.start", 0x1111_1111)
        done = len(bench.records)
        for strb in range(15):
            assert (await bench.write(ctx, CSR_BASE + 0x300, 0x2222_2222, strb=strb))[0] == SLVERR
        for address, resp in (
            (CSR_BASE + 0x301, SLVERR),
            (CSR_BASE + 0x302, SLVERR),
            (CSR_BASE + 0x314, SLVERR),  # a gap
            (CSR_BASE + 0xFFC, SLVERR),
            (CSR_BASE + 0x540, SLVERR),  # ch1, which this configuration does not have
            (CSR_BASE + 0x1300, DECERR),
            (CSR_BASE - 0x1000 + 0x300, DECERR),
            (0x300, DECERR),
        ):
            assert (await bench.write(ctx, address, 0x3333_3333))[0] == resp, hex(address)
            data, got, _, _ = await bench.read(ctx, address)
            assert (data, got) == (0, resp), hex(address)
        assert len(bench.records) == done, "a refused access must leave no record"
        assert await bench.get(ctx, "maint.start") == 0x1111_1111

    bench.run(stimulus)


def test_order_of_arrival():
    """Both kinds always waiting: they alternate. One that waits alone is served before a later one of the other kind."""
    bench = Bench()
    order = []

    async def stimulus(ctx):
        bus = bench.dut.s_axil
        ctx.set(bus.b.ready, 1)
        ctx.set(bus.r.ready, 1)
        ctx.set(bus.aw.payload.addr, CSR_BASE + 0x300)
        ctx.set(bus.ar.payload.addr, CSR_BASE + 0x300)
        ctx.set(bus.w.payload.strb, 0xF)
        for signal in (bus.aw.valid, bus.w.valid, bus.ar.valid):
            ctx.set(signal, 1)
        for _ in range(12):
            if ctx.get(bus.aw.ready):
                order.append("w")
            if ctx.get(bus.ar.ready):
                order.append("r")
            await ctx.tick()
        assert order == ["w", "r", "w", "r", "w", "r"]
        for signal in (bus.aw.valid, bus.w.valid, bus.ar.valid):
            ctx.set(signal, 0)
        await ctx.tick().repeat(4)

        # A write is performed and its response is held back; a read comes, then a write: the read is older.
        for first, second in (("r", "w"), ("w", "r")):
            ctx.set(bus.r.ready, 0)
            ctx.set(bus.ar.valid, 1)
            assert ctx.get(bus.ar.ready)
            await ctx.tick()
            ctx.set(bus.ar.valid, 0)
            for kind in (first, second):
                ctx.set(bus.ar.valid if kind == "r" else bus.aw.valid, 1)
                if kind == "w":
                    ctx.set(bus.w.valid, 1)
                await ctx.tick().repeat(2)
            ctx.set(bus.r.ready, 1)
            served = []
            while len(served) < 2:
                write, read = ctx.get(bus.aw.ready), ctx.get(bus.ar.ready)
                await ctx.tick()
                if write:
                    served.append("w")
                    ctx.set(bus.aw.valid, 0)
                    ctx.set(bus.w.valid, 0)
                if read:
                    served.append("r")
                    ctx.set(bus.ar.valid, 0)
            assert served == [first, second]
            await ctx.tick().repeat(3)

    bench.run(stimulus)


def test_address_without_data_blocks_nothing():
    bench = Bench()

    async def stimulus(ctx):
        bus = bench.dut.s_axil
        ctx.set(bus.aw.payload.addr, CSR_BASE + 0x300)
        ctx.set(bus.aw.valid, 1)
        for _ in range(3):
            assert await bench.get(ctx, "maint.start") == 0
        await bench.write(ctx, CSR_BASE + 0x300, 9, w_delay=3)
        assert await bench.get(ctx, "maint.start") == 9

    bench.run(stimulus)


def test_interrupts():
    bench = Bench(SocConfig().replace(dma__system_channels=4))
    dut = bench.dut
    sources = {
        "csr_maint.status_done": IRQ.MAINT,
        "csr_dma.flush_status_done": IRQ.FLUSH,
        "csr_bm.status_done": IRQ.BUS_MASTER,
        "csr_bm.status_error": IRQ.BUS_MASTER,
        "csr_dev.status_done": IRQ.DEVICE,
        "csr_dev.status_error": IRQ.DEVICE,
        "csr_dcache.error_status_fill": IRQ.ERROR,
        "csr_dcache.error_status_writeback": IRQ.ERROR,
        "csr_dcache.error_status_parity_tag": IRQ.ERROR,
        "csr_dcache.error_status_parity_data": IRQ.ERROR,
        "csr_icache.error_status_fill": IRQ.ERROR,
        "csr_dma.error_status_read": IRQ.ERROR,
        "csr_dma.error_status_write": IRQ.ERROR,
        "csr_dma.error_status_descriptor": IRQ.ERROR,
        "csr_dma.error_status_aborted": IRQ.ERROR,
        **{f"csr_ch{n}.status_tc": IRQ.SYSTEM_CHANNEL + n for n in range(4)},
        **{f"csr_ch{n}.status_error": IRQ.SYSTEM_CHANNEL + n for n in range(4)},
    }
    silent = ("csr_maint.status_error", "csr_maint.status_aborted", "csr_ch0.status_stopped", "csr_bm.status_stopped")

    async def stimulus(ctx):
        async def pulse(path):
            port, name = path.split(".")
            line = getattr(getattr(dut, port), f"{name}_set")
            ctx.set(line, 1)
            await ctx.tick()
            ctx.set(line, 0)

        clear = ("maint.status", "dma.flush_status", "bm.status", "dev.status", "dcache.error_status", "icache.error_status")
        clear += ("dma.error_status", "ch0.status", "ch1.status", "ch2.status", "ch3.status")
        for path, bit in [*sources.items(), *((path, None) for path in silent)]:
            await bench.put(ctx, "sys.irq_enable", 0)
            await pulse(path)
            level = 0 if bit is None else 1 << bit
            assert await bench.get(ctx, "sys.irq_raw") == level, path
            assert ctx.get(dut.irq) == 0
            await bench.put(ctx, "sys.irq_enable", 0xFFF & ~level)
            assert ctx.get(dut.irq) == 0
            await bench.put(ctx, "sys.irq_enable", 0xFFFF_FFFF)
            assert ctx.get(dut.irq) == level, path
            for name in clear:
                await bench.put(ctx, name, 0xFFFF_FFFF)
            assert ctx.get(dut.irq) == 0, path

    bench.run(stimulus)


@pytest.mark.parametrize("seed", range(3))
def test_random_traffic_against_a_dictionary(seed):
    """Two independent masters, one writes, one reads, with pauses and back-pressure; the records linearise what both saw."""
    rng = random.Random(seed)
    bench = Bench()
    names = ["maint.start", "maint.length", "ch0.addr", "ch0.count", "bm.desc", "dev.addr", "dev.gap", "mem.fault_stall"]
    offsets = [find(name).offset for name in names] + [0x314]
    reads, writes = [], []

    async def writer(ctx):
        for n in range(120):
            offset = rng.choice(offsets)
            value = rng.getrandbits(32)
            strb = 0xF if rng.random() < 0.8 else rng.randrange(15)
            resp, _, _ = await bench.write(ctx, CSR_BASE + offset, value, strb, n, rng.randrange(3), rng.randrange(3))
            assert resp == (OKAY if strb == 0xF and offset != 0x314 else SLVERR)
            if resp == OKAY:
                writes.append((n, offset, value))
            await ctx.tick().repeat(rng.randrange(1, 4))

    async def reader(ctx):
        for n in range(120):
            offset = rng.choice(offsets)
            data, resp, _, _ = await bench.read(ctx, CSR_BASE + offset, n, rng.randrange(3))
            assert resp == (SLVERR if offset == 0x314 else OKAY)
            if resp == OKAY:
                reads.append((n, offset, data))
            await ctx.tick().repeat(rng.randrange(1, 4))

    bench.run(writer, reader)
    model = dict.fromkeys(offsets, 0)
    seen_reads, seen_writes = [], []
    for _, kind, tag, offset, data in bench.records:
        if kind is Kind.CSR_WRITE:
            model[offset] = data
            seen_writes.append((tag, offset, data))
        else:
            assert data == model[offset], "a read must see every write recorded before it, and no other"
            seen_reads.append((tag, offset, data))
    assert seen_writes == writes and seen_reads == reads


def test_members_follow_the_configuration():
    dut = RegisterBank(config=SocConfig().replace(dma__system_channels=3))
    assert {name for name in dut.signature.members if name.startswith("csr_")} == {
        f"csr_{block}" for block in ("dcache", "icache", "maint", "dma", "ch0", "ch1", "ch2", "bm", "mem", "dev")
    }
    assert dut.csr_ch2.signature == CsrSignature("ch2")
    with pytest.raises(ValueError, match="CSR block must be one of the register table's blocks, not 'cpu'"):
        CsrSignature("cpu")


@pytest.mark.parametrize("channels", [1, 4])
def test_converts(channels):
    text = verilog.convert(RegisterBank(config=SocConfig().replace(dma__system_channels=channels, data_width=32)))
    assert "module top" in text
