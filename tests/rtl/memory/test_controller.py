# SPDX-License-Identifier: BSD-2-Clause
"""The memory controller with its on-chip RAM backend."""

import random
from itertools import pairwise

import pytest

from rtl.config import SocConfig
from rtl.export import memories, verilog
from rtl.memory.controller import MemoryController
from rtl.probe import Kind

from ..axi.agents import DECERR, FIXED, INCR, OKAY, SLVERR, WRAP, Manager, simulate, wait_idle
from ..support.events import EventCounters

BASE = 0x8000_0000
QUIET = SocConfig().replace(memory__size=16384, memory__refresh_interval=0)


class Bench:
    """A controller, a manager on its port, and the probe's records applied to a byte model in file order."""

    def __init__(self, config=QUIET, **manager):
        self.config, self.dut = config, MemoryController(config)
        self.manager_options = manager
        self.counters = EventCounters(self.dut.csr)
        self.bytes = bytearray(config.memory.size)
        self.records = []

    def run(self, body):
        def build(sim):
            self.m = Manager(sim, self.dut.s_axi, **self.manager_options)
            sim.add_testbench(self._watch, background=True)
            sim.add_process(self.counters.run)

            async def test(ctx):
                self.ctx = ctx
                await body(self)

            return test

        simulate(self.dut, build)

    async def _watch(self, ctx):
        probe, cycle, step = self.dut.probe_mem, 0, self.config.data_bytes
        while True:
            _, _, valid, record = await ctx.tick().sample(probe.valid, probe.record)
            if valid:
                kind, error, at = Kind(record.kind), record.flags & 1, record.addr - BASE
                assert at % step == 0
                self.records.append((cycle, kind, error, record.addr, record.aux, record.data))
                if kind == Kind.MEM_READ:
                    expected = 0 if error else int.from_bytes(self.bytes[at : at + step], "little")
                    assert record.data == expected, f"read of {record.addr:#x} in cycle {cycle}"
                else:
                    for n in range(step):
                        if record.aux >> 8 + n & 1 and not error:
                            self.bytes[at + n] = record.data >> 8 * n & 0xFF
            cycle += 1

    @property
    def next_cycle(self):
        """The first cycle in which a transfer asked for now can be on the bus."""
        return self.m.cycle + 1

    async def idle(self):
        await wait_idle(self.ctx, self.m)
        await self.ctx.tick().repeat(2)

    async def fault(self, mode, addr, size, count, stall=0):
        csr, ctx = self.dut.csr, self.ctx
        ctx.set(csr.fault_addr, addr)
        ctx.set(csr.fault_size, size)
        ctx.set(csr.fault_stall, stall)
        ctx.set(csr.fault_ctrl_mode, mode)
        ctx.set(csr.fault_ctrl_count_w, count)
        ctx.set(csr.fault_ctrl_written, 1)
        await ctx.tick()
        ctx.set(csr.fault_ctrl_written, 0)

    def count(self, *names):
        return [self.counters.counts[name] for name in names]


ROWS = ("row_hits", "row_misses", "row_conflicts", "refreshes")


@pytest.mark.parametrize("times", [(3, 6, 9), (1, 1, 1), (1, 2, 5), (2, 2, 2), (4, 255, 255)])
def test_row_timing_is_exact(times):
    config = QUIET.replace(memory__row_hit=times[0], memory__row_miss=times[1], memory__row_conflict=times[2])
    bank = config.memory.row_bytes
    row = bank * config.memory.banks

    async def body(b):
        cases = [(0, 1), (8, 0), (row, 2), (bank, 1), (bank + 64, 0), (row + 8, 0), (0, 2)]
        for offset, kind in cases:
            for write in (True, False):
                wanted = times[kind] if write else times[0]  # the write has opened the row
                if write:
                    t = b.m.write(BASE + offset, [offset, 1, 2])
                else:
                    t = b.m.read(BASE + offset, 2)
                await b.idle()
                assert t.beats == [t.asked + wanted + n for n in range(3)], (offset, write)
                if write:
                    assert t.answered == t.beats[-1] + 1
        kinds = [kind for _, kind in cases]
        assert b.count(*ROWS) == [7 + kinds.count(0), kinds.count(1), kinds.count(2), 0]

    Bench(config).run(body)


def test_reads_have_the_row_timing_too():
    config = QUIET
    row = config.memory.row_bytes * config.memory.banks

    async def body(b):
        for offset, wanted in [(0, 6), (1016, 3), (row, 9), (row + 1024, 6), (0, 9)]:
            t = b.m.read(BASE + offset)
            await b.idle()
            assert t.beats == [t.asked + wanted]

    Bench(config).run(body)


def test_occupation_by_back_to_back_bursts():
    """A burst of n beats occupies the controller for L + n - 1 (read) or L + n (write) cycles."""

    async def body(b):
        first = b.m.read(BASE)
        await b.idle()
        reads = [b.m.read(BASE + 32 * n, 3) for n in range(4)]
        await b.idle()
        assert [t.asked - reads[0].asked for t in reads] == [0, 6, 12, 18]
        assert all(t.beats == [t.asked + 3 + n for n in range(4)] for t in reads)
        writes = [b.m.write(BASE + 32 * n, [1, 2, 3, 4]) for n in range(3)]
        await b.idle()
        assert [t.asked - writes[0].asked for t in writes] == [0, 7, 14]
        assert first.resp == [OKAY]

    Bench().run(body)


def test_a_burst_into_the_next_row_is_not_delayed_and_opens_it():
    async def body(b):
        t = b.m.read(BASE + 1024 - 16, 3)
        await b.idle()
        assert t.beats == [t.asked + 6 + n for n in range(4)]
        t = b.m.read(BASE + 1024)
        await b.idle()
        assert t.beats == [t.asked + 3]
        assert b.count(*ROWS) == [1, 1, 0, 0]

    Bench().run(body)


@pytest.mark.parametrize("cycles", [0, 1, 2, 7])
def test_refresh_closes_rows_and_stalls(cycles):
    interval = 50
    config = QUIET.replace(memory__refresh_interval=interval, memory__refresh_cycles=cycles)

    async def body(b):
        warm = b.m.read(BASE)
        await b.idle()
        assert warm.beats == [warm.asked + 6]
        await b.ctx.tick().repeat(interval - b.next_cycle)
        t = b.m.read(BASE)  # offered in the cycle in which the refresh starts
        await b.idle()
        assert t.asked == interval + cycles
        assert t.beats == [t.asked + 6]
        hit = b.m.read(BASE)
        await b.idle()
        assert hit.beats == [hit.asked + 3]
        assert b.count(*ROWS) == [1, 2, 0, 1]

    Bench(config).run(body)


def test_refresh_waits_for_the_burst_in_progress():
    config = QUIET.replace(memory__refresh_interval=40, memory__refresh_cycles=7)

    async def body(b):
        await b.ctx.tick().repeat(35)
        long = b.m.read(BASE, 15)
        after = b.m.read(BASE + 8)
        await b.idle()
        assert long.beats == [long.asked + 6 + n for n in range(16)]
        assert after.asked == long.asked + 6 + 15 + 7
        assert after.beats == [after.asked + 6]

    Bench(config).run(body)


@pytest.mark.parametrize("addr", [0x7FFF_FFF8, BASE + 16384, 0x1000_0000, 0])
def test_outside_the_window_answers_decerr(addr):
    async def body(b):
        inside = b.m.read(BASE, 7)
        r = b.m.read(addr, 3, id=5)
        w = b.m.write(addr, [1, 2, 3], id=6)
        last = b.m.write(BASE + 8, [0x55])
        check = b.m.read(BASE + 8)
        await b.idle()
        assert inside.resp == [OKAY] * 8
        assert r.resp == [DECERR] * 4 and r.data == [0] * 4
        assert r.beats[0] == r.asked + 1
        assert w.resp == [DECERR] and last.resp == [OKAY]
        check = b.m.read(BASE + 8)
        await b.idle()
        assert check.data == [0x55]
        assert all(BASE <= record[3] < BASE + 16384 for record in b.records)

    Bench().run(body)


def test_decerr_waits_for_earlier_read_beats():
    async def body(b):
        b.m.willing = lambda: False
        inside, outside = b.m.read(BASE, 1), b.m.read(0, 1)
        await b.ctx.tick().repeat(40)
        assert inside.asked >= 0 and outside.asked == -1
        b.m.willing = lambda: True
        await b.idle()
        assert inside.resp == [OKAY] * 2 and outside.resp == [DECERR] * 2

    Bench().run(body)


def test_write_error_changes_nothing_and_is_counted_down():
    async def body(b):
        b.m.write(BASE + 0x100, [0x11] * 4)
        await b.idle()
        await b.fault(1, BASE + 0x108, 8, 2)
        writes = [b.m.write(BASE + at, [0x22], id=3) for at in (0x100, 0x108, 0x110, 0x10F, 0x108)]
        await b.idle()
        assert [t.resp[0] for t in writes] == [OKAY, SLVERR, OKAY, SLVERR, OKAY]
        assert b.ctx.get(b.dut.csr.fault_ctrl_count) == 0
        read = b.m.read(BASE + 0x100, 3)
        await b.idle()
        assert read.data == [0x22, 0x22, 0x22, 0x11]
        errors = [(kind, addr, aux) for _, kind, error, addr, aux, _ in b.records if error]
        assert errors == [(Kind.MEM_WRITE, BASE + 0x108, 3 | 0xFF << 8), (Kind.MEM_WRITE, BASE + 0x108, 3 | 0x80 << 8)]

    Bench().run(body)


def test_write_error_leaves_memory_alone():
    async def body(b):
        b.m.write(BASE, [0x1111, 0x2222])
        await b.idle()
        await b.fault(1, BASE, 64, 1)
        bad = b.m.write(BASE, [0x3333, 0x4444])
        await b.idle()
        r = b.m.read(BASE, 1)
        await b.idle()
        assert bad.resp == [SLVERR] and r.data == [0x1111, 0x2222] and r.resp == [OKAY] * 2

    Bench().run(body)


def test_read_error():
    async def body(b):
        b.m.write(BASE, [7, 8])
        await b.idle()
        await b.fault(2, BASE, 64, 1)
        w = b.m.write(BASE + 16, [9])  # mode 2 does not touch writes
        await b.idle()
        bad = b.m.read(BASE, 1, id=9)
        good = b.m.read(BASE, 1)
        await b.idle()
        assert w.resp == [OKAY]
        assert bad.resp == [SLVERR] * 2 and bad.data == [0, 0]
        assert good.resp == [OKAY] * 2 and good.data == [7, 8]
        reads = [(error, addr, aux, data) for _, kind, error, addr, aux, data in b.records if kind == Kind.MEM_READ]
        assert reads == [(1, BASE, 9, 0), (1, BASE + 8, 9, 0), (0, BASE, 0, 7), (0, BASE + 8, 0, 8)]

    Bench().run(body)


def test_write_stall_lets_reads_pass():
    async def body(b):
        b.m.read(BASE)
        await b.idle()
        await b.fault(3, BASE, 64, 1, stall=100)
        start = b.next_cycle
        w = b.m.write(BASE, [1])
        r = b.m.read(BASE)
        await b.idle()
        assert w.asked == start + 100 and w.resp == [OKAY]
        assert r.asked == start and r.data == [0]
        start = b.next_cycle
        w = b.m.write(BASE, [2])
        await b.idle()
        assert w.asked == start

    Bench().run(body)


def test_a_register_write_of_the_count_wins():
    async def body(b):
        await b.fault(2, BASE, 64, 1)
        b.m.read(BASE)  # hit in the very cycle of the next register write
        await b.ctx.tick()
        await b.fault(2, BASE, 64, 5)
        await b.idle()
        assert b.ctx.get(b.dut.csr.fault_ctrl_count) == 5

    Bench().run(body)


def test_reads_and_writes_take_turns():
    async def body(b):
        for n in range(4):
            b.m.read(BASE + 8 * n)
            b.m.write(BASE + 8 * n, [n])
        await b.idle()
        kinds = [record[1] for record in b.records]
        assert all(x != y for x, y in pairwise(kinds))

    Bench().run(body)


def reference(memory, t, step):
    """Applies one transfer to a byte model; the data a read returns."""
    result = []
    for n, addr in enumerate(t.addresses()):
        at = addr // step * step - BASE
        if t.write:
            for lane in range(step):
                if t.strb[n] >> lane & 1:
                    memory[at + lane] = t.data[n] >> 8 * lane & 0xFF
        else:
            result.append(int.from_bytes(memory[at : at + step], "little"))
    return result


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_random_bursts_against_a_byte_model(width, pause):
    rng = random.Random(width)
    config = SocConfig().replace(
        data_width=width,
        dma__chunk_bytes=16,
        memory__size=4096,
        memory__row_bytes=128,
        memory__refresh_interval=97,
        memory__row_hit=1,
        memory__row_miss=2,
    )
    step = width // 8

    async def body(b):
        model, done = bytearray(4096), []
        for _ in range(80):
            size, burst = rng.randrange((step - 1).bit_length() + 1), rng.choice([FIXED, INCR, WRAP])
            length = rng.choice([1, 3, 7, 15]) if burst == WRAP else rng.randrange(16)
            addr = BASE + rng.randrange(4096 - 300)
            if burst == WRAP:
                addr = addr >> size << size
            if rng.random() < 0.5:
                data = [rng.getrandbits(width) for _ in range(length + 1)]
                t = b.m.write(addr, data, size=size, burst=burst, id=rng.randrange(16))
                if rng.random() < 0.3:
                    t.strb = [s & rng.getrandbits(step) for s in t.strb]
                reference(model, t, step)
                expected = None
            else:
                t = b.m.read(addr, length, size=size, burst=burst, id=rng.randrange(16))
                expected = reference(model, t, step)
            done.append((t, expected))
            await b.idle()  # AXI promises no order between reads and writes in flight
        await b.idle()
        for t, expected in done:
            if expected is not None:
                assert t.data == expected, t
        assert bytes(b.bytes) == bytes(model)

    Bench(config, rng=rng, pause=pause).run(body)


def test_concurrent_reads_and_writes_keep_the_probe_exact():
    """The watcher compares every MEM_READ with what the records before it have built."""
    rng = random.Random(5)
    config = QUIET.replace(memory__row_hit=1, memory__row_miss=1, memory__row_conflict=1, memory__row_bytes=128)

    async def body(b):
        for _ in range(150):
            addr = BASE + 8 * rng.randrange(8)
            if rng.random() < 0.5:
                b.m.write(addr, [rng.getrandbits(64) for _ in range(rng.randrange(1, 5))], id=rng.randrange(16))
            else:
                b.m.read(addr, rng.randrange(4), id=rng.randrange(16))
        await b.idle()
        assert len({record[1] for record in b.records}) == 2

    Bench(config, rng=rng, pause=0.3).run(body)


def test_probe_names_the_source_and_the_strobes():
    async def body(b):
        b.m.write(BASE + 3, [0x11223344_00000000, 0xFF], size=0, id=2)
        b.m.read(BASE + 3, id=8, size=0)
        await b.idle()
        assert {record[1:] for record in b.records} == {
            (Kind.MEM_WRITE, 0, BASE, 2 | 0b1000 << 8, 0x11223344_00000000),
            (Kind.MEM_WRITE, 0, BASE, 2 | 0b10000 << 8, 0xFF),
            (Kind.MEM_READ, 0, BASE, 8, b.records[-1][5]),
        }

    Bench().run(body)


@pytest.mark.parametrize(
    "changes",
    [{}, {"memory__size": 16 << 20}, {"memory__size": 4096, "memory__row_bytes": 65536}, {"memory__banks": 1, "data_width": 32}],
)
def test_converts_to_verilog(changes):
    config = SocConfig().replace(**changes)
    text = verilog(MemoryController(config), "mem")
    (ram,) = memories(text, "mem")
    assert (ram.path, ram.width) == ("mem.dut.backend.ram", config.data_width)
    assert ram.depth == config.memory.size // config.data_bytes


@pytest.mark.parametrize("value", [-1, 9, None, True])
def test_id_width_is_checked(value):
    with pytest.raises(ValueError, match="id_width must be an integer from 0 to 8"):
        MemoryController(SocConfig(), id_width=value)
