# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 agents for Amaranth's simulator: a memory and a manager, both random or exact as the test wants.

Both are background testbenches (``sim.add_testbench(agent.run, background=True)``) that sample just before each clock
edge and drive just after it, so that a cycle number is the same for all of them: the first cycle is 0.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from rtl.axi.bus import CACHE_NORMAL, Burst, Resp

__all__ = ["AxiManager", "AxiMemory", "Transfer", "beat_addresses", "lanes"]


def beat_addresses(addr: int, length: int, size: int, burst: Burst) -> list[int]:
    """Start address of each beat of a burst of ``length`` beats (IHI 0022H.c, A3.4.1)."""
    step = 1 << size
    aligned = addr & -step
    if burst == Burst.FIXED:
        return [addr] * length
    if burst == Burst.WRAP:
        span = step * length
        low = addr & -span
        return [low + (aligned - low + n * step) % span for n in range(length)]
    return [addr if n == 0 else aligned + n * step for n in range(length)]


def lanes(addr: int, size: int, data_bytes: int) -> int:
    """Byte lanes (a mask) that a beat at ``addr`` may use."""
    low = addr % data_bytes
    high = (addr & -(1 << size)) % data_bytes + (1 << size)
    return (1 << high) - (1 << low)


class AxiMemory:
    """An AXI4 memory: R ``latency`` cycles after AR and then a beat per cycle, B one cycle after the last W.

    A read beat's bytes are taken one cycle before it is shown; a write beat is performed in the cycle of its handshake,
    or of AW if that is later. Bursts are answered in order; with ``reorder`` reads of different IDs may overtake each
    other and their beats interleave.

    Parameters
    ----------
    port : the manager's port.
    latency : cycles from the AR handshake to the first R beat, at least 1; or a callable that draws it.
    stall : probability, per channel and cycle, that ready or valid is withheld.
    fails : ``fails(addr, write)`` says whether a beat answers SLVERR (nothing is written then).
    log : called as ``log(cycle, "read" | "write", addr, id, data, strb, error)`` for every beat, in the order of performance.
    """

    def __init__(self, port, *, base=0, size=0x10000, latency=1, stall=0.0, reorder=False, seed=0, fails=None, log=None):
        self.port, self.base, self.latency, self.stall, self.reorder = port, base, latency, stall, reorder
        self.bytes = bytearray(size)
        self.random = random.Random(seed)
        self.fails = fails or (lambda addr, write: False)
        self.log = log or (lambda *args: None)
        self.reads: list[tuple[int, object]] = []  # (cycle of the AR handshake, payload)
        self.writes: list[tuple[int, object]] = []
        self.accept_ar = self.accept_aw = self.accept_w = True  # a test may hold a channel
        self.data_bytes = len(port.w.payload.data) // 8

    def _perform(self, cycle, addr, ident, write, data=0, strb=0):
        n = self.data_bytes
        at = (addr & -n) - self.base
        if not 0 <= at < len(self.bytes):
            resp = Resp.DECERR
        else:
            resp = Resp.SLVERR if self.fails(addr, write) else Resp.OKAY
        error = resp != Resp.OKAY
        if write and not error:
            for lane in range(n):
                if strb >> lane & 1:
                    self.bytes[at + lane] = data >> 8 * lane & 0xFF
        elif not write and not error:
            data = int.from_bytes(self.bytes[at : at + n], "little")
        self.log(cycle, "write" if write else "read", addr & -n, ident, data, strb, error)
        return data, resp

    def _go(self):
        return self.random.random() >= self.stall

    async def run(self, ctx):
        p, cycle = self.port, 0
        reading: list[list] = []  # [cycle of the next beat at the earliest, id, addresses left]
        aws, ws, bs = deque(), deque(), deque()  # bs: (cycle at the earliest, id, resp)
        write_resp = Resp.OKAY
        shown_r = shown_b = None
        ctx.set(p.ar.ready, self.accept_ar)
        ctx.set(p.aw.ready, self.accept_aw)
        ctx.set(p.w.ready, self.accept_w)
        while True:
            _, _, ar_v, ar, ar_r, aw_v, aw, aw_r, w_v, w, w_r, r_r, b_r = await ctx.tick().sample(
                p.ar.valid, p.ar.payload, p.ar.ready, p.aw.valid, p.aw.payload, p.aw.ready,
                p.w.valid, p.w.payload, p.w.ready, p.r.ready, p.b.ready,
            )  # fmt: skip
            if shown_r and r_r:
                shown_r = None
            if shown_b and b_r:
                shown_b = None
            if ar_v and ar_r:
                self.reads.append((cycle, ar))
                wait = self.latency() if callable(self.latency) else self.latency
                reading.append([cycle + wait, int(ar.id), deque(beat_addresses(ar.addr, ar.len + 1, ar.size, Burst(ar.burst)))])
            if aw_v and aw_r:
                self.writes.append((cycle, aw))
                aws.append((int(aw.id), deque(beat_addresses(aw.addr, aw.len + 1, aw.size, Burst(aw.burst)))))
            if w_v and w_r:
                ws.append(w)
            while aws and ws:
                ident, addresses = aws[0]
                beat = ws.popleft()
                _, resp = self._perform(cycle, addresses.popleft(), ident, True, int(beat.data), int(beat.strb))
                if resp != Resp.OKAY:
                    write_resp = resp
                if bool(beat.last) != (not addresses):
                    raise AssertionError(f"cycle {cycle}: WLAST must be on the last beat")
                if not addresses:
                    bs.append((cycle + 1, ident, write_resp))
                    aws.popleft()
                    write_resp = Resp.OKAY
            cycle += 1
            # what to show in the new cycle
            if shown_r is None:
                ready = [n for n, burst in enumerate(reading) if burst[0] <= cycle]
                ready = [n for n in ready if all(reading[k][1] != reading[n][1] for k in range(n))]
                if not self.reorder:
                    ready = [n for n in ready if n == 0]
                if ready and self._go():
                    n = self.random.choice(ready)
                    _, ident, addresses = reading[n]
                    data, resp = self._perform(cycle - 1, addresses.popleft(), ident, False)
                    shown_r = {"id": ident, "data": data, "resp": resp, "last": int(not addresses)}
                    if not addresses:
                        reading.pop(n)
                    ctx.set(p.r.payload, shown_r)
            ctx.set(p.r.valid, shown_r is not None)
            if shown_b is None and bs and bs[0][0] <= cycle and self._go():
                _, ident, resp = bs.popleft()
                shown_b = {"id": ident, "resp": resp}
                ctx.set(p.b.payload, shown_b)
            ctx.set(p.b.valid, shown_b is not None)
            ctx.set(p.ar.ready, self.accept_ar and self._go())
            ctx.set(p.aw.ready, self.accept_aw and self._go())
            ctx.set(p.w.ready, self.accept_w and self._go())


@dataclass
class Transfer:
    """One burst. Cycles are -1 until they happened; ``data`` collects read beats, ``resps`` their responses (a write: one)."""

    write: bool
    addr: int
    beats: list[tuple[int, int]]  # a write: (data, strb) per beat
    length: int
    size: int
    burst: Burst
    cache: int
    ident: int
    user: int
    accepted: int = -1
    data: list[int] = field(default_factory=list)
    resps: list[Resp] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)  # of each response handshake
    done: bool = False
    shown: int = -1  # first cycle with a valid response

    @property
    def addresses(self) -> list[int]:
        return beat_addresses(self.addr, self.length, self.size, self.burst)


class AxiManager:
    """Drives bursts as fast as the subordinate takes them, or with random pauses.

    Transfers are offered in the order of the calls; the next AR or AW is offered while earlier ones run, reads and
    writes at once only with ``overlap``. ``order`` lists all transfers in the order in which their addresses were accepted.

    Parameters
    ----------
    stall : probability, per channel and cycle, that valid or ready is withheld.
    on_accept : called with each transfer in the cycle of its address handshake.
    """

    def __init__(self, port, *, stall=0.0, seed=0, overlap=False, on_accept=None):
        self.port, self.stall, self.overlap = port, stall, overlap
        self.random = random.Random(seed)
        self.todo: deque[Transfer] = deque()
        self.order: list[Transfer] = []
        self.on_accept = on_accept or (lambda transfer: None)
        self.cycle = 0
        self.data_bytes = len(port.w.payload.data) // 8
        self.gap = 0  # the next offer waits that many cycles

    def _add(self, write, addr, beats, length, size, burst, cache, ident, user):
        size = (self.data_bytes - 1).bit_length() if size is None else size
        transfer = Transfer(write, addr, beats, length, size, burst, cache, ident, user)
        self.todo.append(transfer)
        return transfer

    def read(self, addr, *, length=1, size=None, burst=Burst.INCR, cache=CACHE_NORMAL, ident=0, user=0) -> Transfer:
        return self._add(False, addr, [], length, size, burst, cache, ident, user)

    def write(self, addr, beats, *, size=None, burst=Burst.INCR, cache=CACHE_NORMAL, ident=0, user=0) -> Transfer:
        """``beats``: ``(data, strb)`` pairs in bus lanes, or plain data with the strobes of the beat's lanes."""
        code = (self.data_bytes - 1).bit_length() if size is None else size
        addresses = beat_addresses(addr, len(beats), code, burst)
        pairs = [b if isinstance(b, tuple) else (b, lanes(a, code, self.data_bytes)) for a, b in zip(addresses, beats)]
        return self._add(True, addr, pairs, len(beats), code, burst, cache, ident, user)

    async def wait(self, ctx, *transfers: Transfer, limit: int = 5000) -> None:
        for _ in range(limit):
            if all(t.done for t in transfers):
                return
            await ctx.tick()
        raise AssertionError(f"gave up after {limit} cycles: {[t for t in transfers if not t.done][:1]}")

    def _go(self):
        return self.random.random() >= self.stall

    async def run(self, ctx):
        p = self.port
        offered = {False: None, True: None}
        reading: dict[int, deque] = {}
        writing: dict[int, deque] = {}
        w_queue: deque = deque()
        shown_w = None
        last_r = last_b = False
        ctx.set(p.r.ready, 1)
        ctx.set(p.b.ready, 1)
        while True:
            for write, channel in ((False, p.ar), (True, p.aw)):
                if offered[write] is None and self.todo and self.todo[0].write == write and self.gap <= 0 and self._go():
                    if not self.overlap and offered[not write] is not None:
                        continue
                    t = offered[write] = self.todo.popleft()
                    ctx.set(
                        channel.payload,
                        {
                            "id": t.ident, "addr": t.addr, "len": t.length - 1, "size": t.size, "burst": t.burst,
                            "cache": t.cache, "user": t.user,
                        },
                    )  # fmt: skip
                    if write:
                        w_queue.extend((d, s, n == t.length - 1) for n, (d, s) in enumerate(t.beats))
                ctx.set(channel.valid, offered[write] is not None)
            self.gap -= 1
            if shown_w is None and w_queue and self._go():
                shown_w = w_queue.popleft()
                ctx.set(p.w.payload, {"data": shown_w[0], "strb": shown_w[1], "last": int(shown_w[2])})
            ctx.set(p.w.valid, shown_w is not None)
            _, _, ar_r, aw_r, w_r, r_v, r, r_r, b_v, b, b_r = await ctx.tick().sample(
                p.ar.ready, p.aw.ready, p.w.ready, p.r.valid, p.r.payload, p.r.ready, p.b.valid, p.b.payload, p.b.ready
            )
            if (last_r and not r_v) or (last_b and not b_v):
                raise AssertionError(f"cycle {self.cycle}: a response was withdrawn")
            last_r, last_b = bool(r_v and not r_r), bool(b_v and not b_r)
            for write, ready in ((False, ar_r), (True, aw_r)):
                t = offered[write]
                if t is not None and ready:
                    t.accepted = self.cycle
                    self.order.append(t)
                    self.on_accept(t)
                    (writing if write else reading).setdefault(t.ident, deque()).append(t)
                    offered[write] = None
            if shown_w is not None and w_r:
                shown_w = None
            if r_v:
                t = reading[int(r.id)][0]
                if t.shown < 0:
                    t.shown = self.cycle
                if r_r:
                    t.data.append(int(r.data))
                    t.resps.append(Resp(r.resp))
                    t.cycles.append(self.cycle)
                    if bool(r.last) != (len(t.data) == t.length):
                        raise AssertionError(f"cycle {self.cycle}: RLAST must be on the last beat of {t}")
                    if r.last:
                        t.done = True
                        reading[int(r.id)].popleft()
            if b_v:
                t = writing[int(b.id)][0]
                if t.shown < 0:
                    t.shown = self.cycle
                if b_r:
                    t.resps.append(Resp(b.resp))
                    t.cycles.append(self.cycle)
                    t.done = True
                    writing[int(b.id)].popleft()
            ctx.set(p.r.ready, self._go())
            ctx.set(p.b.ready, self._go())
            self.cycle += 1
