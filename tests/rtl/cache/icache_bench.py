# SPDX-License-Identifier: BSD-2-Clause
"""Harness of the I-cache's tests: manager, memory, invalidations, and a byte model fed by the probe's records."""

import random
from collections import deque

from amaranth.sim import Simulator

from rtl.axi.bus import Resp
from rtl.cache.icache import ICache
from rtl.config import SocConfig
from rtl.probe import Cause, Kind
from tests.rtl.support.axi import AxiManager, AxiMemory, lanes
from tests.rtl.support.events import EventCounters

__all__ = ["BASE", "SMALL", "Bench", "run"]

BASE = SocConfig().memory.base
SMALL = SocConfig().replace(memory__size=16384, icache__sets=4)


class Bench:
    """An I-cache between a manager and a memory. :meth:`run` also replays the records (:meth:`_replay`)."""

    def __init__(self, config=SMALL, *, latency=1, stall=0.0, seed=0, fails=None):
        self.config = config
        self.dut = ICache(config=config)
        self.line, self.n = config.icache.line_bytes, config.data_bytes
        self.manager = AxiManager(self.dut.s_axi, stall=stall, seed=seed + 1)
        self.reads_seen = []
        self.memory = AxiMemory(
            self.dut.m_axi,
            base=BASE,
            size=config.memory.size,
            latency=latency,
            stall=stall,
            seed=seed + 2,
            fails=fails,
            log=lambda *entry: self.reads_seen.append(entry),
        )
        self.memory.bytes[:] = random.Random(seed).randbytes(config.memory.size)
        self.counters = EventCounters(self.dut.csr)
        self.cycle = 0
        self.records = []  # (cycle, order in the cycle, Kind, addr, aux, flags, data, tag)
        self.invalidations = deque()
        self.accepted = []  # (cycle, all, addr)
        self.flag_sets = []

    def run(self, testbench, *, replay=True):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_process(self.counters.run)
        for background in (self.manager.run, self.memory.run, self._watch, self._invalidate):
            sim.add_testbench(background, background=True)

        async def main(ctx):
            await testbench(ctx, self)
            await ctx.tick().repeat(60)

        sim.add_testbench(main)
        sim.run()
        if replay:
            self._replay()

    async def _watch(self, ctx):
        dut = self.dut
        probes = (dut.probe_i_line, dut.probe_fetch)
        samples = [s for p in probes for s in (p.valid, p.record)]
        while True:
            values = await ctx.tick().sample(*samples, dut.csr.error_status_fill_set, dut.inv.req.valid, dut.inv.req.ready)
            for order in range(2):
                valid, r = values[2 + 2 * order], values[3 + 2 * order]
                if valid:
                    fields = (Kind(r.kind.value), int(r.addr), int(r.aux), int(r.flags), int(r.data), int(r.tag))
                    self.records.append((self.cycle, order + 1, *fields))
            if values[6]:
                self.flag_sets.append(self.cycle)
                ctx.set(dut.csr.error_status_fill, 1)
            self.cycle += 1

    async def _invalidate(self, ctx):
        """Presents the queued invalidations ``(all, addr)``, one after the other without a pause."""
        req, cycle = self.dut.inv.req, 0
        while True:
            shown = self.invalidations[0] if self.invalidations else None
            ctx.set(req.valid, shown is not None)
            if shown:
                ctx.set(req.payload, {"all": shown[0], "addr": shown[1], "cause": Cause.MAINTENANCE})
            _, _, ready = await ctx.tick().sample(req.ready)
            if shown and ready:
                self.accepted.append((cycle, *shown))
                self.invalidations.popleft()
            cycle += 1

    async def read(self, ctx, addr, **options):
        """One finished read; returns the transfer."""
        transfer = self.manager.read(addr, **options)
        await self.manager.wait(ctx, transfer)
        return transfer

    async def invalidate(self, ctx, addr=None):
        self.invalidations.append((addr is None, addr or 0))
        while self.invalidations:
            await ctx.tick()

    def expect(self, transfer):
        """The bytes of a read agree with memory as it is now, in the lanes each beat asked for."""
        for addr, got, resp in zip(transfer.addresses, transfer.data, transfer.resps):
            at = (addr & -self.n) - BASE
            mask = sum(0xFF << 8 * n for n in range(self.n) if lanes(addr, transfer.size, self.n) >> n & 1)
            assert resp == Resp.OKAY
            assert got & mask == int.from_bytes(self.memory.bytes[at : at + self.n], "little") & mask, hex(addr)

    def kinds(self, *kinds):
        return [record for record in self.records if record[2] in kinds]

    def _replay(self):
        """A byte model that knows only the records and the beats memory gave: every fetch is explained, no line is doubled."""
        events = [(c, 0, "read", addr, data, error) for c, _, addr, ident, data, _, error in self.reads_seen if ident == 0]
        events += [(r[0], r[1], *r[2:]) for r in self.records]
        events.sort(key=lambda event: event[:2])
        lines, fills, ways = {}, [], {}  # ways: (set, way) -> line last installed there, and line -> (set, way)
        for event in events:
            cycle, _, kind, addr = event[:4]
            where = f"cycle {cycle}: {kind} {addr:#x}"
            number = addr & -self.line
            index = number // self.line % self.config.icache.sets
            if kind == "read":
                fill = next(f for f in fills if f["line"] == number and addr not in f["data"])
                fill["data"][addr] = event[4]
                fill["error"] |= event[5]
            elif kind is Kind.IFILL_REQUEST:
                assert addr == number and addr not in lines, where
                fills = [f for f in fills if not (f["dropped"] and len(f["data"]) == self.line // self.n)]
                assert not fills, f"{where}: one fill at a time"
                fills.append({"line": addr, "data": {}, "dropped": False, "error": False})
            elif kind is Kind.IEVICT:
                del lines[addr]
            elif kind is Kind.IINVALIDATE:
                assert event[4] >> 1 == Cause.MAINTENANCE
                gone = list(lines) if event[4] & 1 else [number] if number in lines else []
                for line in gone:
                    del lines[line]
                for fill in fills:
                    fill["dropped"] |= bool(event[4] & 1) or fill["line"] == number
            elif kind is Kind.IFILL_INSTALL:
                fill = fills.pop()
                assert fill["line"] == addr and not fill["dropped"] and len(fill["data"]) == self.line // self.n, where
                assert fill["error"] == bool(event[5] & 1), where
                if not fill["error"]:
                    way = event[4] >> 8
                    before = ways.get((index, way))
                    assert before not in lines or ways.get(before) != (index, way), f"{where}: way {way} is taken"
                    ways[index, way], ways[addr] = addr, (index, way)
                    lines[addr] = fill["data"]
                    assert sum(line // self.line % self.config.icache.sets == index for line in lines) <= self.config.icache.ways
            else:
                assert kind is Kind.FETCH, where
                aux, flags, data = event[4:7]
                if flags & 0b101:
                    continue  # an error or an uncached beat
                source = lines.get(number) or next(f["data"] for f in fills if f["line"] == number)
                mask = sum(0xFF << 8 * n for n in range(self.n) if aux >> n & 1)
                assert aux and not (source[addr] ^ data) & mask, where
                if flags & 2:
                    assert number in lines, f"{where}: a hit without the line"


def run(testbench, *args, replay=True, **options):
    bench = Bench(*args, **options)
    bench.run(testbench, replay=replay)
    return bench
