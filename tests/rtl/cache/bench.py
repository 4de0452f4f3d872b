# SPDX-License-Identifier: BSD-2-Clause
"""A D-cache with its maintenance unit between a manager, a memory and plain registers; every probe record is replayed."""

import random

from amaranth import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from rtl.axi.bus import CACHE_UNCACHED
from rtl.cache.dcache import DCache
from rtl.cache.maintenance import MaintenanceUnit
from rtl.config import CSR_BASE, SocConfig
from rtl.probe import Kind
from tests.rtl.support.axi import AxiManager, AxiMemory
from tests.rtl.support.events import EventCounters

from .replay import Replay

__all__ = ["BASE", "Bench"]

BASE = SocConfig().memory.base
_D_PROBES = ("cpu", "parked", "d_fill", "d_line", "d_wb", "snoop")


class Bench:
    """``run(testbench)`` simulates ``async def testbench(ctx, bench)`` and then checks that records, arrays and memory agree."""

    def __init__(self, config: SocConfig, *, maint=True, latency=1, stall=0.0, reorder=False, seed=0, overlap=False, fails=None):
        self.config = config
        self.random = random.Random(seed)
        self.dut = DCache(config=config)
        self.unit = MaintenanceUnit(config=config) if maint else None
        self.manager = AxiManager(self.dut.s_axi, stall=stall, seed=seed + 1, overlap=overlap)
        self.memory = AxiMemory(
            self.dut.m_axi,
            base=config.memory.base,
            size=config.memory.size,
            latency=latency,
            stall=stall,
            reorder=reorder,
            seed=seed + 2,
            fails=fails,
            log=self._beat,
        )
        self.memory.bytes[:] = self.random.randbytes(len(self.memory.bytes))
        self.replay = Replay(config, bytes(self.memory.bytes))
        self.cycle = 0
        self.records: list[tuple] = []  # (cycle, Kind, addr, aux, flags, data, tag) of the D-cache and the maintenance unit
        self.csr_writes: list[tuple[int, int, int, int]] = []  # cycle, addr, data, tag
        self.csr_read = lambda addr: (addr * 0x01010101) & 0xFFFFFFFF
        self.csr_error = False
        self.i_lines: list[tuple[int, int, int]] = []  # cycle, all, addr
        self.counters = EventCounters(self.dut.csr)
        self.inv_ready = lambda: True
        self.store_invalidations: list[tuple[int, int]] = []  # cycle, line: accepted on i_inv

    # --- recording
    def _beat(self, cycle, what, addr, ident, data, strb, error):
        kind = Kind.MEM_WRITE if what == "write" else Kind.MEM_READ
        self.replay.add(cycle, "mem", kind, addr=addr, aux=ident | strb << 8, data=data, flags=int(error), tag=0)

    async def _watch(self, ctx):
        probes = [(name, getattr(self.dut, f"probe_{name}")) for name in _D_PROBES]
        if self.unit:
            probes.append(("maint", self.unit.probe_maint))
        valids = [p.valid for _, p in probes]
        inv = [self.unit.inv.req] if self.unit else []
        if self.config.coherent:
            inv.append(self.dut.i_inv.req)
        while True:
            for stream in inv:
                ctx.set(stream.ready, self.inv_ready())
            # records are read before the edge: sample only the valid bits, and the records of those that are set
            values = await ctx.tick().sample(
                *valids, *[p.record for _, p in probes], *[x for s in inv for x in (s.valid, s.ready, s.payload)]
            )
            values = values[2:]
            for n, (name, _) in enumerate(probes):
                if values[n]:
                    r = values[len(probes) + n]
                    fields = {
                        "addr": int(r.addr),
                        "aux": int(r.aux),
                        "data": int(r.data),
                        "flags": int(r.flags),
                        "tag": int(r.tag),
                    }
                    self.records.append(
                        (
                            self.cycle,
                            Kind(int(r.kind)),
                            fields["addr"],
                            fields["aux"],
                            fields["flags"],
                            fields["data"],
                            fields["tag"],
                        )
                    )
                    if name != "maint":
                        self.replay.add(self.cycle, name, r.kind, **fields)
            rest = values[2 * len(probes) :]
            for n, stream in enumerate(inv):
                valid, ready, payload = rest[3 * n : 3 * n + 3]
                if valid and ready and self.config.coherent and stream is self.dut.i_inv.req:
                    self.store_invalidations.append((self.cycle, int(payload.addr)))
                elif valid and ready:
                    self.i_lines.append((self.cycle, int(payload["all"]), int(payload.addr)))
            self.cycle += 1

    async def _registers(self, ctx):
        """AXI4-Lite registers: write and read answered one cycle after the address and data."""
        p = self.dut.m_axil
        for channel in (p.aw, p.w, p.ar):
            ctx.set(channel.ready, 1)
        aw = w = None
        r_up = b_up = False
        cycle = 0
        while True:
            _, _, aw_v, aw_p, w_v, w_p, ar_v, ar_p, b_r, r_r = await ctx.tick().sample(
                p.aw.valid, p.aw.payload, p.w.valid, p.w.payload, p.ar.valid, p.ar.payload, p.b.ready, p.r.ready
            )
            if b_up and b_r:
                b_up = False
            if r_up and r_r:
                r_up = False
            aw = aw_p if aw_v else aw
            w = w_p if w_v else w
            if aw is not None and w is not None:
                self.csr_writes.append((cycle, int(aw.addr), int(w.data), int(aw.user)))
                aw = w = None
                b_up = True
                ctx.set(p.b.payload.resp, 2 if self.csr_error else 0)
            if ar_v:
                r_up = True
                ctx.set(p.r.payload, {"data": self.csr_read(int(ar_p.addr)), "resp": 2 if self.csr_error else 0})
            ctx.set(p.b.valid, b_up)
            ctx.set(p.r.valid, r_up)
            cycle += 1

    # --- driving
    async def load(self, ctx, addr, **options):
        """One transfer; returns it when answered."""
        t = self.manager.read(addr, **options)
        await self.manager.wait(ctx, t)
        return t

    async def store(self, ctx, addr, *beats, **options):
        t = self.manager.write(addr, list(beats), **options)
        await self.manager.wait(ctx, t)
        return t

    async def uncached_load(self, ctx, addr, **options):
        return await self.load(ctx, addr, cache=CACHE_UNCACHED, **options)

    async def csr_load(self, ctx, offset):
        t = await self.load(ctx, CSR_BASE + offset, size=2, cache=CACHE_UNCACHED)
        return t

    async def maintain(self, ctx, op, *, scope=1, target=1, start=0, length=0, wait=True):
        """Writes the registers directly, waits for done; returns (cycles from cmd to MAINT_END, flags)."""
        csr = self.unit.csr
        ctx.set(csr.start, start)
        ctx.set(csr.length, length)
        await ctx.tick()
        await ctx.tick()
        await self.strobe(ctx, csr, "cmd", op=op, scope=scope, target=target)
        begin = self.cycle - 1
        if wait:
            return await self.maintained(ctx, begin)
        return begin

    async def strobe(self, ctx, csr, register, **fields):
        """One write-strobe cycle of a register with ``w`` fields."""
        ctx.set(getattr(csr, f"{register}_written"), 1)
        for name, value in fields.items():
            ctx.set(getattr(csr, f"{register}_{name}"), value)
        await ctx.tick()
        ctx.set(getattr(csr, f"{register}_written"), 0)
        for name in fields:
            ctx.set(getattr(csr, f"{register}_{name}"), 0)

    async def maintained(self, ctx, begin, limit=5000):
        for _ in range(limit):
            for record in reversed(self.records):
                if record[1] == Kind.MAINT_END and record[0] >= begin:
                    return record[0] - begin, record[4]
                if record[0] < begin:
                    break
            await ctx.tick()
        raise AssertionError("maintenance never ended")

    def of(self, *kinds):
        return [record for record in self.records if record[1] in kinds]

    def word(self, addr):
        """What memory holds in a beat."""
        at = addr - self.config.memory.base
        return int.from_bytes(self.memory.bytes[at : at + self.config.data_bytes], "little")

    # --- state
    def array(self, ctx):
        """``{line address: (dirty, bytes)}`` as the hardware holds it."""
        core, cache, g = self.dut.core, self.config.dcache, self.dut.core._g
        live, stained = ctx.get(core.state.live), ctx.get(core.state.stained)
        found = {}
        for w in range(cache.ways):
            for s in range(cache.sets):
                row, bit = s >> g.span_bits, s % g.span
                dirty = stained >> row & 1 and ctx.get(core.state.dirty[w].data[row]) >> bit & 1
                valid = ctx.get(core.state.valid[w].data[row]) >> bit & 1 if live >> row & 1 else dirty
                if valid:
                    line = ctx.get(core.tag[w].data[s]) << g.index_bits | s
                    address = self.config.memory.base + line * cache.line_bytes
                    words = []
                    for n in range(g.words):
                        bank, at = n % g.banks, s * (g.words // g.banks) + n // g.banks
                        words.append(ctx.get(core.data[w][bank].data[at]).to_bytes(g.data_bytes, "little"))
                    if address in found:
                        raise AssertionError(f"line {address:#x} is in two ways")
                    found[address] = (bool(dirty), b"".join(words))
        return found

    def check(self, ctx):
        self.replay.apply()
        if self.replay.problems:
            raise AssertionError("\n".join(self.replay.problems[:5]))
        model = {a: (a in self.replay.dirty, bytes(b)) for a, b in self.replay.lines.items()}
        real = self.array(ctx)
        if model != real:
            wrong = [a for a in model.keys() | real.keys() if model.get(a) != real.get(a)]
            raise AssertionError(f"array: {[(hex(a), model.get(a), real.get(a)) for a in sorted(wrong)[:2]]}")
        if self.replay.memory != self.memory.bytes:
            raise AssertionError("memory differs from the records'")

    async def idle(self, ctx, limit=2000):
        """Waits until nothing is under way in the cache."""
        quiet = 0
        for _ in range(limit):
            core = self.dut.core
            busy = ctx.get(core.occupied) or not ctx.get(core.idle)
            quiet = 0 if busy or (self.records and self.records[-1][0] >= self.cycle - 2) else quiet + 1
            if quiet > 40:
                return
            await ctx.tick()
        raise AssertionError("never idle")

    def run(self, testbench, *extra, processes=()):
        top = Module()
        top.submodules.dut = self.dut
        if self.unit:
            top.submodules.unit = self.unit
            wiring.connect(top, unit=self.unit.dcache, dut=self.dut.maint)
        sim = Simulator(top)
        sim.add_clock(1e-8)

        async def main(ctx):
            await testbench(ctx, self)
            await self.idle(ctx)
            self.check(ctx)

        sim.add_process(self.memory.run)
        sim.add_process(self.manager.run)
        sim.add_process(self._registers)
        sim.add_process(self.counters.run)
        sim.add_process(self._watch)
        for agent in processes:
            sim.add_process(agent)
        for agent in extra:
            sim.add_testbench(agent, background=True)
        sim.add_testbench(main)
        sim.run()
