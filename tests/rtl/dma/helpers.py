# SPDX-License-Identifier: BSD-2-Clause
"""Fakes for the DMA tests: an AXI4 memory that also checks the protocol, and recorders of probes."""

import random
from collections import deque
from dataclasses import dataclass, field

from amaranth.hdl import Value
from amaranth.sim import Simulator

from rtl.axi.bus import Resp
from rtl.probe import Kind

BASE = 0x8000_0000


class ProtocolError(AssertionError):
    """A port broke an AXI rule."""


def stable(name: str, before: tuple | None, valid: int, ready: int, payload: tuple) -> tuple | None:
    """Checks that a channel that was valid and not ready is still valid with the same payload; returns the new state."""
    if before is not None and (not valid or payload != before):
        raise ProtocolError(f"{name} was withdrawn or changed before its handshake: {before} -> {valid} {payload}")
    return payload if valid and not ready else None


async def accepted(ctx, ready) -> None:
    """Waits for the edge at which ``ready`` is high. (``ctx.tick().until`` would leave an open generator in a background
    bench.)"""
    while not (await ctx.tick().sample(ready))[2]:
        pass


@dataclass
class Memory:
    """AXI4 memory: ``latency`` cycles from AR to the first R beat, one beat per cycle; B one cycle after WLAST.

    ``pressure``: probability that a ready or an R beat is withheld in a cycle. ``read_faults`` / ``write_faults``: addresses of
    beats that answer SLVERR (a write with one of them changes nothing). ``aw_stall``: while true AWREADY stays low.
    ``allowed``: byte ranges that may be read; anything else is a ProtocolError.
    """

    size: int = 0x4000
    latency: int = 1
    pressure: float = 0.0
    seed: int = 0
    data: bytearray = field(default_factory=bytearray)
    read_faults: set = field(default_factory=set)
    write_faults: set = field(default_factory=set)
    aw_stall: bool = False
    b_stall: bool = False
    r_stall: bool = False
    reads: list = field(default_factory=list)  # (cycle, id, addr, beats)
    writes: list = field(default_factory=list)  # (cycle, addr, beats)
    beats: list = field(default_factory=list)  # (addr, strb, data, error)
    cycle: int = 0

    def __post_init__(self):
        if not self.data:
            self.data = bytearray((n * 7 + n // 256 + 3) & 0xFF for n in range(self.size))

    def peek(self, addr: int, length: int) -> bytes:
        return bytes(self.data[addr - BASE : addr - BASE + length])

    def poke(self, addr: int, blob: bytes) -> None:
        self.data[addr - BASE : addr - BASE + len(blob)] = blob

    async def run(self, ctx, port):
        rng = random.Random(self.seed)
        lanes = len(port.w.payload.strb)
        reads, bursts, answers = deque(), deque(), deque()
        w_queue = deque()
        held = {}
        ar, aw, w, r, b = port.ar, port.aw, port.w, port.r, port.b
        # Sampled as plain integers and only decoded when valid: decoding dominates the simulation otherwise.
        raw = [Value.cast(v) for c in (ar, aw, w) for v in (c.valid, c.payload)] + [r.valid, r.ready, b.valid, b.ready]
        r_busy = b_busy = False
        last_due = 0
        while True:
            go = lambda: self.pressure == 0 or rng.random() >= self.pressure  # noqa: E731
            ready = (go(), go() and not self.aw_stall, go())
            ctx.set(ar.ready, ready[0])
            ctx.set(aw.ready, ready[1])
            ctx.set(w.ready, ready[2])
            if not r_busy and reads and reads[0][0] <= self.cycle and go() and not self.r_stall:
                _, ident, addr, last = reads.popleft()
                error = (addr in self.read_faults) or not (BASE <= addr < BASE + self.size)
                offset = addr - BASE
                value = 0xBAD if error else int.from_bytes(self.data[offset : offset + lanes], "little")
                ctx.set(r.payload, {"id": ident, "data": value, "resp": Resp.SLVERR if error else Resp.OKAY, "last": last})
                ctx.set(r.valid, 1)
                r_busy = True
            elif not r_busy:
                ctx.set(r.valid, 0)
            if not b_busy and answers and answers[0][0] <= self.cycle and go() and not self.b_stall:
                _, ident, resp = answers.popleft()
                ctx.set(b.payload, {"id": ident, "resp": resp})
                ctx.set(b.valid, 1)
                b_busy = True
            elif not b_busy:
                ctx.set(b.valid, 0)
            samples = await ctx.tick().sample(*raw)
            self.cycle += 1
            (_, _, ar_v, ar_p, aw_v, aw_p, w_v, w_p, r_v, r_r, b_v, b_r) = samples
            ar_t = aw_t = w_t = ()
            if ar_v:
                p = ar.payload.shape().from_bits(ar_p)
                ar_t = (p.id, p.addr, p.len, p.size)
            if aw_v:
                p = aw.payload.shape().from_bits(aw_p)
                aw_t = (p.id, p.addr, p.len, p.size)
            if w_v:
                p = w.payload.shape().from_bits(w_p)
                w_t = (p.data, p.strb, p.last)
            held["ar"] = stable("AR", held.get("ar"), ar_v, ready[0], ar_t)
            held["aw"] = stable("AW", held.get("aw"), aw_v, ready[1], aw_t)
            held["w"] = stable("W", held.get("w"), w_v, ready[2], w_t)
            if r_v and r_r:
                r_busy = False
            if b_v and b_r:
                b_busy = False
            for valid, ok, t in ((ar_v, ready[0], ar_t), (aw_v, ready[1], aw_t)):
                if valid and ok:
                    _, addr, length, size = t
                    if 1 << size != lanes or (addr // 4096) != ((addr // lanes * lanes + (length + 1) * lanes - 1) // 4096):
                        raise ProtocolError(f"burst {t} is narrow or crosses 4 KiB")
            if ar_v and ready[0]:
                ident, addr, length, _ = ar_t
                self.reads.append((self.cycle, ident, addr, length + 1))
                first = addr // lanes * lanes
                for n in range(length + 1):
                    last_due = max(last_due + 1, self.cycle + self.latency - 1)
                    reads.append((last_due, ident, first + n * lanes, n == length))
            if aw_v and ready[1]:
                ident, addr, length, _ = aw_t
                self.writes.append((self.cycle, addr, length + 1))
                bursts.append([ident, addr // lanes * lanes, length + 1, False])
            if w_v and ready[2]:
                w_queue.append(w_t)
            while w_queue and bursts:
                value, strobes, last = w_queue.popleft()
                burst = bursts[0]
                error = burst[1] in self.write_faults or not (BASE <= burst[1] < BASE + self.size)
                self.beats.append((burst[1], strobes, value, error))
                if not error:
                    for lane in range(lanes):
                        if strobes >> lane & 1:
                            self.data[burst[1] - BASE + lane] = value >> 8 * lane & 0xFF
                burst[3] |= error
                burst[1] += lanes
                burst[2] -= 1
                if bool(last) != (burst[2] == 0):
                    raise ProtocolError(f"WLAST is {last} with {burst[2]} beats to come")
                if not burst[2]:
                    bursts.popleft()
                    answers.append((self.cycle, burst[0], Resp.SLVERR if burst[3] else Resp.OKAY))


@dataclass
class Recorder:
    """Collects ``(cycle, kind, flags, tag, addr, aux, data)`` of probes in file order."""

    events: list = field(default_factory=list)

    async def run(self, ctx, *probes):
        cycle = 0
        raw = [v for p in probes for v in (p.valid, Value.cast(p.record))]
        layouts = [p.record.shape() for p in probes]
        while True:
            values = (await ctx.tick().sample(*raw))[2:]
            for n, layout in enumerate(layouts):
                if values[2 * n]:
                    rec = layout.from_bits(values[2 * n + 1])
                    self.events.append((cycle, Kind(rec.kind), rec.flags, rec.tag, rec.addr, rec.aux, rec.data))
            cycle += 1

    def of(self, *kinds):
        return [e for e in self.events if e[1] in kinds]


def simulate(dut, *benches, background=(), deadline: int = 20000):
    """Runs testbenches to their end, at most ``deadline`` cycles of 1 us."""
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    finished = []

    async def limit(ctx):
        for _ in range(deadline):
            await ctx.tick()
        if len(finished) != len(benches):
            raise AssertionError(f"no end after {deadline} cycles")

    for bench in background:
        sim.add_testbench(bench, background=True)
    for bench in benches:

        async def guarded(ctx, bench=bench):
            await bench(ctx)
            finished.append(bench)

        sim.add_testbench(guarded)
    sim.add_testbench(limit, background=True)
    sim.run()
