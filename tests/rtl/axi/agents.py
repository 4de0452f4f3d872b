# SPDX-License-Identifier: BSD-2-Clause
"""An AXI4 manager and an AXI4 memory for Amaranth's simulator; both note the cycle of every handshake.

Cycle *t* is the time before the *t*-th clock edge, counted from 0; all agents of a simulation count alike.
Pauses come from a seeded ``random.Random``; without one an agent is always willing.
"""

import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from amaranth.sim import Simulator

INCR, WRAP, FIXED = 1, 2, 0
OKAY, SLVERR, DECERR = 0, 2, 3


def beat_addresses(addr: int, length: int, size: int, burst: int) -> list[int]:
    """Addresses of all beats, worked out from the specification's formulas rather than step by step."""
    number, beats = 1 << size, length + 1
    aligned = addr // number * number
    if burst == FIXED:
        return [addr] * beats
    if burst == INCR:
        return [addr] + [aligned + n * number for n in range(1, beats)]
    lower = addr // (number * beats) * (number * beats)
    return [lower + (aligned - lower + n * number) % (number * beats) for n in range(beats)]


def lanes(addr: int, size: int, data_bytes: int) -> int:
    """Byte lanes (a mask) of a beat at ``addr``."""
    first = addr % data_bytes
    last = addr // (1 << size) * (1 << size) % data_bytes + (1 << size) - 1
    return ((1 << (last + 1)) - 1) & ~((1 << first) - 1)


@dataclass
class Transfer:
    """One burst and what became of it."""

    write: bool
    addr: int
    length: int
    size: int
    burst: int
    id: int
    data: list[int] = field(default_factory=list)
    strb: list[int] = field(default_factory=list)
    resp: list[int] = field(default_factory=list)
    cache: int = 0
    asked: int = -1  # cycle of the address handshake
    beats: list[int] = field(default_factory=list)  # cycles of the data handshakes
    answered: int = -1  # cycle of the B handshake, or of the last R beat

    @property
    def done(self) -> bool:
        return self.answered >= 0

    def addresses(self) -> list[int]:
        return beat_addresses(self.addr, self.length, self.size, self.burst)


class Manager:
    """Drives a port ``In(AXI4Signature)`` of the device under test; checks IDs, RLAST and that nothing comes unasked."""

    def __init__(
        self, sim: Simulator, port, *, rng: random.Random | None = None, pause: float = 0.0, w_first: bool = False, cache: int = 0
    ):
        self.port, self.rng, self.pause, self.w_first = port, rng, pause, w_first
        self.cache = cache  # AxCACHE of every burst
        self.data_bytes = port.signature.data_width // 8
        self.cycle = 0
        self.to_read: deque[Transfer] = deque()
        self.to_write: deque[Transfer] = deque()
        self.w_beats: deque[tuple[Transfer, int]] = deque()
        self.reading: dict[int, deque[Transfer]] = defaultdict(deque)
        self.writing: dict[int, deque[Transfer]] = defaultdict(deque)
        self.willing: Callable[[], bool] = lambda: True  # extra condition for RREADY and BREADY
        sim.add_testbench(self._run, background=True)

    def read(self, addr, length=0, *, size=None, burst=INCR, id=0) -> Transfer:
        size = (self.data_bytes - 1).bit_length() if size is None else size
        transfer = Transfer(False, addr, length, size, burst, id)
        self.to_read.append(transfer)
        return transfer

    def write(self, addr, data, *, strb=None, size=None, burst=INCR, id=0) -> Transfer:
        size = (self.data_bytes - 1).bit_length() if size is None else size
        transfer = Transfer(True, addr, len(data) - 1, size, burst, id, data=list(data))
        transfer.strb = list(strb) if strb else [lanes(a, size, self.data_bytes) for a in transfer.addresses()]
        self.to_write.append(transfer)
        self.w_beats.extend((transfer, n) for n in range(len(data)))
        return transfer

    @property
    def idle(self) -> bool:
        busy = any(self.reading.values()) or any(self.writing.values())
        return not (self.to_read or self.to_write or self.w_beats or busy)

    def _go(self) -> bool:
        return self.rng is None or self.rng.random() >= self.pause

    def _address(self, t: Transfer) -> dict:
        return {"id": t.id, "addr": t.addr, "len": t.length, "size": t.size, "burst": t.burst, "cache": self.cache}

    async def _run(self, ctx):
        port = self.port
        ar_on = aw_on = w_on = False
        while True:
            # Once VALID is up it stays; the queue's head is what is offered.
            if not ar_on and self.to_read and self._go():
                ar_on = True
                t = self.to_read[0]
                ctx.set(port.ar.payload, self._address(t))
            if not aw_on and self.to_write and self._go():
                aw_on = True
                t = self.to_write[0]
                ctx.set(port.aw.payload, self._address(t))
            if not w_on and self.w_beats and self._go() and (self.w_first or self.w_beats[0][0].asked >= 0 or aw_on):
                w_on = True
                t, n = self.w_beats[0]
                ctx.set(port.w.payload, {"data": t.data[n], "strb": t.strb[n], "last": n == t.length})
            ctx.set(port.ar.valid, ar_on)
            ctx.set(port.aw.valid, aw_on)
            ctx.set(port.w.valid, w_on)
            ctx.set(port.r.ready, self.willing() and self._go())
            ctx.set(port.b.ready, self.willing() and self._go())
            _, _, ar, aw, w, r, b, r_payload, b_payload = await ctx.tick().sample(
                port.ar.valid & port.ar.ready,
                port.aw.valid & port.aw.ready,
                port.w.valid & port.w.ready,
                port.r.valid & port.r.ready,
                port.b.valid & port.b.ready,
                port.r.payload,
                port.b.payload,
            )
            if ar:
                ar_on = False
                t = self.to_read.popleft()
                t.asked = self.cycle
                self.reading[t.id].append(t)
            if aw:
                aw_on = False
                t = self.to_write.popleft()
                t.asked = self.cycle
                self.writing[t.id].append(t)
            if w:
                w_on = False
                t, _n = self.w_beats.popleft()
                t.beats.append(self.cycle)
            if r:
                assert self.reading[r_payload.id], f"R beat of ID {r_payload.id} that was not asked for"
                t = self.reading[r_payload.id][0]
                t.data.append(r_payload.data)
                t.resp.append(int(r_payload.resp.value))
                t.beats.append(self.cycle)
                assert r_payload.last == (len(t.data) == t.length + 1), f"RLAST wrong in {t}"
                if r_payload.last:
                    t.answered = self.cycle
                    self.reading[t.id].popleft()
            if b:
                assert self.writing[b_payload.id], f"B of ID {b_payload.id} that was not asked for"
                t = self.writing[b_payload.id].popleft()
                assert len(t.beats) == t.length + 1 and t.beats[-1] < self.cycle, f"B before the last W beat of {t}"
                t.resp.append(int(b_payload.resp.value))
                t.answered = self.cycle
            self.cycle += 1


class AxiMemory:
    """Serves a port ``Out(AXI4Signature)``: a byte-addressed dict, one R beat per cycle, ``latency`` cycles from AR to the first.

    B comes ``write_latency`` cycles after the last W beat at the earliest. ``seen`` holds every accepted burst. With ``mix``
    beats of different IDs are interleaved at random. ``fail(transfer)`` names the response of a burst.
    """

    def __init__(
        self, sim: Simulator, port, *, latency=1, write_latency=1, rng=None, pause=0.0, mix=False, fail=None, default=None
    ):
        self.port, self.latency, self.write_latency, self.rng, self.pause, self.mix = (
            port,
            latency,
            write_latency,
            rng,
            pause,
            mix,
        )
        self.fail = fail or (lambda transfer: OKAY)
        self.default = default or (lambda address: address * 7 & 0xFF)
        self.data_bytes = port.signature.data_width // 8
        self.bytes: dict[int, int] = {}
        self.cycle = 0
        self.seen: list[Transfer] = []
        self.hold = False  # True: no response of any kind
        sim.add_testbench(self._run, background=True)

    def byte(self, address: int) -> int:
        return self.bytes.get(address, self.default(address))

    def word(self, address: int) -> int:
        base = address // self.data_bytes * self.data_bytes
        return sum(self.byte(base + n) << 8 * n for n in range(self.data_bytes))

    def _go(self) -> bool:
        return self.rng is None or self.rng.random() >= self.pause

    def _store(self, address: int, data: int, strb: int) -> None:
        base = address // self.data_bytes * self.data_bytes
        for n in range(self.data_bytes):
            if strb >> n & 1:
                self.bytes[base + n] = data >> 8 * n & 0xFF

    async def _run(self, ctx):
        port = self.port
        reads: list[Transfer] = []
        writes: deque[Transfer] = deque()
        early: deque[tuple[int, int, bool]] = deque()  # W beats that came before their address
        answers: deque[Transfer] = deque()
        r_now: Transfer | None = None
        b_on = False
        while True:
            if r_now is None and not self.hold and self._go():
                ready = [t for t in reads if t.asked + self.latency <= self.cycle]
                ready = [t for n, t in enumerate(ready) if all(t.id != other.id for other in ready[:n])]
                if ready:
                    r_now = self.rng.choice(ready) if self.mix else (ready[0] if ready[0] is reads[0] else None)
                if r_now is not None:
                    n = len(r_now.data)
                    resp = self.fail(r_now)
                    beat = {"id": r_now.id, "resp": resp, "last": n == r_now.length}
                    beat["data"] = 0 if resp else self.word(r_now.addresses()[n])
                    ctx.set(port.r.payload, beat)
            ctx.set(port.r.valid, r_now is not None)
            if not b_on and answers and answers[0].beats[-1] + self.write_latency <= self.cycle and not self.hold and self._go():
                b_on = True
                ctx.set(port.b.payload, {"id": answers[0].id, "resp": self.fail(answers[0])})
            ctx.set(port.b.valid, b_on)
            ctx.set(port.ar.ready, self._go())
            ctx.set(port.aw.ready, self._go())
            ctx.set(port.w.ready, self._go())
            _, _, ar, aw, w, r, b, ar_payload, aw_payload, w_payload = await ctx.tick().sample(
                port.ar.valid & port.ar.ready,
                port.aw.valid & port.aw.ready,
                port.w.valid & port.w.ready,
                port.r.valid & port.r.ready,
                port.b.valid & port.b.ready,
                port.ar.payload,
                port.aw.payload,
                port.w.payload,
            )
            if r:
                r_now.data.append(0)
                if len(r_now.data) == r_now.length + 1:
                    reads.remove(r_now)
                r_now = None
            if b:
                b_on = False
                answers.popleft().answered = self.cycle
            for write, shaken, p in ((False, ar, ar_payload), (True, aw, aw_payload)):
                if shaken:
                    t = Transfer(write, p.addr, p.len, p.size, int(p.burst.value), p.id, cache=p.cache, asked=self.cycle)
                    self.seen.append(t)
                    (writes if write else reads).append(t)
            if w:
                early.append((w_payload.data, w_payload.strb, bool(w_payload.last)))
            while early and writes:
                t = writes[0]
                data, strb, last = early.popleft()
                address = t.addresses()[len(t.beats)]
                t.data.append(data)
                t.strb.append(strb)
                t.beats.append(self.cycle)
                if self.fail(t) == OKAY:
                    self._store(address, data, strb)
                assert last == (len(t.beats) == t.length + 1), f"WLAST wrong in {t}"
                if last:
                    answers.append(writes.popleft())
            self.cycle += 1


async def wait_idle(ctx, *managers: Manager, limit: int = 20_000) -> int:
    """Runs until all managers have nothing left to do; the number of cycles it took."""
    for cycle in range(limit):
        if all(manager.idle for manager in managers):
            return cycle
        await ctx.tick()
    raise AssertionError(f"bus still busy after {limit} cycles")


def simulate(component, build, *, limit: int = 200_000) -> None:
    """Runs ``build(sim)``, an async function or a callable that returns one, against ``component`` until it ends."""
    sim = Simulator(component)
    sim.add_clock(1e-6)
    body = build(sim)

    async def guarded(ctx):
        await body(ctx)

    sim.add_testbench(guarded)
    sim.run()
