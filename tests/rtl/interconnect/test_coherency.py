# SPDX-License-Identifier: BSD-2-Clause
"""Snoop bridge and its line splitter, against a model of the caches."""

import random
from collections import deque
from itertools import pairwise

import pytest
from amaranth.sim import Simulator

from rtl.axi.bus import AXI4Signature
from rtl.cache.ports import BLOCKED_LINES, SnoopOp
from rtl.config import SocConfig
from rtl.export import verilog
from rtl.interconnect.coherency import LineSplitter, SnoopBridge
from rtl.probe import Cause

from ..axi.agents import DECERR, FIXED, INCR, OKAY, SLVERR, WRAP, AxiMemory, Manager, beat_addresses, simulate, wait_idle

BASE = 0x8000_0000


class Caches:
    """The D-cache's snoop port and the I-cache's invalidation port: dirty lines as bytes, rules of the ports as assertions.

    With ``restless`` it evicts dirty lines and takes up clean ones whenever it likes, as a CPU would: never a blocked one.
    """

    def __init__(self, sim, bridge, memory, *, line=32, sets=64, latency=1, rng=None, pause=0.0, restless=False):
        self.bridge, self.memory, self.line = bridge, memory, line
        self.latency, self.rng, self.pause, self.restless = latency, rng, pause, restless
        self.dirty: dict[int, bytearray] = {}
        self.blocked: deque[int] = deque()  # lines, in the order of their writes
        self.sets, self.most = sets, 0
        self.cycle = 0
        self.requests: list[tuple[int, str, int, int]] = []  # cycle, operation, line, source
        self.releases: list[tuple[int, int]] = []
        self.invalidated: list[tuple[int, int]] = []
        self.candidates: list[int] = []
        sim.add_testbench(self._run, background=True)

    def view(self, addr):
        """A byte as the CPU sees it."""
        line = addr // self.line * self.line
        return self.dirty[line][addr - line] if line in self.dirty else self.memory.byte(addr)

    def make_dirty(self, line, content=None):
        self.dirty[line] = bytearray(content or (self.memory.byte(line + n) for n in range(self.line)))

    def _live(self):
        for line in self.candidates:
            if line not in self.blocked and self.rng.random() < 0.02:
                if line in self.dirty:
                    self.memory.bytes.update({line + n: byte for n, byte in enumerate(self.dirty.pop(line))})
                else:
                    self.make_dirty(line)

    async def _run(self, ctx):
        snoop, inv = self.bridge.snoop, getattr(self.bridge, "i_inv", None)
        answers, on = deque(), False
        while True:
            if self.restless:
                self._live()
            go = (lambda: True) if self.rng is None else (lambda: self.rng.random() >= self.pause)
            if not on and answers and answers[0][0] <= self.cycle:
                on = True
                ctx.set(snoop.rsp.payload, {"dirty": answers[0][1], "data": answers[0][2]})
            ctx.set(snoop.rsp.valid, on)
            ctx.set(snoop.req.ready, go() and (len(self.blocked) < BLOCKED_LINES or not self.only_write(ctx)))
            if inv is not None:
                ctx.set(inv.req.ready, go())
            signals = [snoop.req.valid & snoop.req.ready, snoop.rsp.valid & snoop.rsp.ready, snoop.release, snoop.req.payload]
            if inv is not None:
                signals += [inv.req.valid & inv.req.ready, inv.req.payload]
            _, _, req, rsp, release, payload, *invalidate = await ctx.tick().sample(*signals)
            if rsp:
                on = False
                answers.popleft()
            if release:
                assert self.blocked, "release without a blocked line"
                self.releases.append((self.cycle, self.blocked.popleft()))
            if req:
                line = payload.addr
                assert line % self.line == 0
                dirty = line in self.dirty
                self.requests.append((self.cycle, payload.op.name, line, payload.source))
                content = int.from_bytes(self.dirty[line], "little") if dirty else 0
                if payload.op == SnoopOp.WRITE:
                    others = [other for other in self.blocked if other != line]
                    assert line // self.line % self.sets not in [n // self.line % self.sets for n in others], "two lines of a set"
                    self.blocked.append(line)
                    self.most = max(self.most, len(self.blocked))
                    for n in range(self.line):
                        if dirty and payload.strb >> n & 1:
                            self.dirty[line][n] = payload.data >> 8 * n & 0xFF
                answers.append((self.cycle + self.latency, dirty, content))
            if invalidate and invalidate[0]:
                assert not invalidate[1].all and invalidate[1].cause == Cause.SNOOP
                self.invalidated.append((self.cycle, invalidate[1].addr))
            self.cycle += 1

    def only_write(self, ctx):
        return ctx.get(self.bridge.snoop.req.payload.op) == SnoopOp.WRITE


class Bench:
    def __init__(self, config=None, *, port=2, **bridge):
        self.config = config or SocConfig()
        self.dut = SnoopBridge(self.config, port=port, **bridge)

    def run(self, body, *, manager=(), memory=(), caches=()):
        def build(sim):
            self.m = Manager(sim, self.dut.s_axi, **dict(manager))
            self.memory = AxiMemory(sim, self.dut.m_axi, **dict(memory))
            self.caches = Caches(
                sim,
                self.dut,
                self.memory,
                line=self.config.dcache.line_bytes,
                **{"sets": self.config.dcache.sets, **dict(caches)},
            )

            async def test(ctx):
                self.ctx = ctx
                await body(self)

            return test

        simulate(self.dut, build)

    async def idle(self, limit=20_000):
        await wait_idle(self.ctx, self.m, limit=limit)

    def words(self, t):
        step = self.config.data_bytes
        return [
            int.from_bytes(bytes(self.caches.view(a // step * step + n) for n in range(step)), "little") for a in t.addresses()
        ]


def test_clean_read_latency_and_segments():
    async def body(b):
        t = b.m.read(BASE + 0x10, 7, id=1)
        await b.idle()
        assert t.beats[0] == t.asked + 2 + 1 + 1
        assert t.data == b.words(t) and t.resp == [OKAY] * 8
        assert [r[1:] for r in b.caches.requests] == [("READ", BASE + at, 2 << 2 | 1) for at in (0, 0x20, 0x40)]
        assert [(s.addr, s.length, s.id) for s in b.memory.seen] == [
            (BASE + 0x10, 1, 1),
            (BASE + 0x20, 3, 1),
            (BASE + 0x40, 1, 1),
        ]

    Bench().run(body)


def test_a_dirty_line_answers_without_the_bus():
    async def body(b):
        b.caches.make_dirty(BASE + 0x20, bytes(range(100, 132)))
        t = b.m.read(BASE + 0x28, 2, id=3)
        await b.idle()
        assert t.beats == [t.asked + 2 + 1 + n for n in range(3)]
        assert t.data == b.words(t) == [int.from_bytes(bytes(range(n, n + 8)), "little") for n in (108, 116, 124)]
        assert b.memory.seen == []

    Bench().run(body)


def test_mixed_lines_come_in_order():
    async def body(b):
        for line in (0x20, 0x60, 0x80):
            b.caches.make_dirty(BASE + line, bytes(line + n & 0xFF for n in range(32)))
        reads = [b.m.read(BASE, 23), b.m.read(BASE + 0x60, 3, id=1), b.m.read(BASE, 3, id=2), b.m.read(BASE + 0x20, id=3)]
        await b.idle()
        for t in reads:
            assert t.data == b.words(t)
        beats = [cycle for t in reads for cycle in t.beats]
        assert beats == sorted(beats)
        assert len(b.memory.seen) == 3 + 1

    Bench().run(body)


def test_clean_read_throughput():
    """Lookups run ahead, so a long burst of clean lines keeps the bus busy: a 32-byte line is 4 beats."""

    async def body(b):
        t = b.m.read(BASE, 63)
        await b.idle()
        assert t.beats == list(range(t.beats[0], t.beats[0] + 64))

    Bench().run(body, memory={"latency": 1})


def test_dirty_read_throughput():
    async def body(b):
        for line in range(0, 512, 32):
            b.caches.make_dirty(BASE + line)
        t = b.m.read(BASE, 63)
        await b.idle()
        assert t.data == b.words(t)
        assert t.beats == list(range(t.beats[0], t.beats[0] + 64))

    Bench().run(body)


def test_write_order_snoop_memory_invalidate_release_response():
    async def body(b):
        w = b.m.write(BASE + 0x38, [1, 2], id=2)
        await b.idle()
        first, second = b.caches.requests
        assert [first[1:], second[1:]] == [("WRITE", BASE + 0x20, 10), ("WRITE", BASE + 0x40, 10)]
        assert [(s.addr, s.length, s.strb) for s in b.memory.seen] == [(BASE + 0x38, 0, [0xFF]), (BASE + 0x40, 0, [0xFF])]
        for (asked, _, line, _), written, (gone, i_line), (free, d_line) in zip(
            b.caches.requests, b.memory.seen, b.caches.invalidated, b.caches.releases
        ):
            assert line == i_line == d_line
            assert asked < written.asked <= written.beats[0] < written.answered < gone == free < w.answered
        assert b.memory.word(BASE + 0x38) == 1 and b.memory.word(BASE + 0x40) == 2

    Bench().run(body)


def test_write_latency_step_by_step():
    """W handshake at t: taken t+1, lookup t+2, answer t+3, address t+4, memory's answer t+5, invalidation t+6, response t+7."""

    async def body(b):
        w = b.m.write(BASE, [1])
        await b.idle()
        t = w.beats[0]
        assert b.caches.requests[0][0] == t + 2
        assert b.memory.seen[0].asked == b.memory.seen[0].beats[0] == t + 4
        assert b.memory.seen[0].answered == t + 5
        assert b.caches.releases[0][0] == t + 6
        assert w.answered == t + 7

    Bench().run(body)


def test_a_write_merges_into_a_dirty_line_and_reaches_memory():
    async def body(b):
        b.caches.make_dirty(BASE, bytes([0xEE] * 32))
        b.m.write(BASE + 9, [0x44 << 8, 0x55 << 16], size=0)
        await b.idle()
        assert b.caches.dirty[BASE] == bytes([0xEE] * 9 + [0x44, 0x55] + [0xEE] * 21)
        assert b.memory.byte(BASE + 9) == 0x44 and b.memory.byte(BASE + 10) == 0x55
        assert b.memory.byte(BASE + 8) == b.memory.default(BASE + 8)

    Bench().run(body)


def test_a_write_without_strobes_is_harmless():
    async def body(b):
        w = b.m.write(BASE, [1, 2])
        w.strb[:] = [0, 0]
        await b.idle()
        assert w.resp == [OKAY] and b.memory.bytes == {}

    Bench().run(body)


@pytest.mark.parametrize("code", [SLVERR, DECERR])
def test_errors_are_kept(code):
    async def body(b):
        b.memory.fail = lambda t: code if t.addr // 32 * 32 == BASE + 0x20 else OKAY
        r, w, good = b.m.read(BASE, 11), b.m.write(BASE, [7] * 12), b.m.write(BASE + 0x40, [1])
        await b.idle()
        assert r.resp == [OKAY] * 4 + [code] * 4 + [OKAY] * 4
        assert w.resp == [code] and good.resp == [OKAY]
        assert len(b.caches.releases) == 4

    Bench().run(body)


def test_no_bus_grant_is_held_while_the_cache_is_silent():
    async def body(b):
        w, r = b.m.write(BASE, [1]), b.m.read(BASE + 0x100)
        await b.ctx.tick().repeat(50)
        assert not b.memory.seen and not w.done and not r.done
        await b.idle()
        assert w.done and r.done

    Bench().run(body, caches={"latency": 100})


def test_reads_pass_a_write_that_waits_for_memory():
    async def body(b):
        b.caches.make_dirty(BASE + 0x100, bytes(range(32)))
        b.memory.hold = True
        w = b.m.write(BASE, [1])
        await b.ctx.tick().repeat(20)
        r = b.m.read(BASE + 0x100)
        await b.ctx.tick().repeat(20)
        assert r.done and not w.done and list(b.caches.blocked) == [BASE]
        b.memory.hold = False
        await b.idle()

    Bench().run(body)


def test_writes_overlap_in_memory():
    """A line of four words comes in four cycles, is looked up in two and goes in four, however long memory takes to answer."""

    async def body(b):
        w = b.m.write(BASE, list(range(32)))
        await b.idle()
        asked = [cycle for cycle, *_ in b.caches.requests]
        assert [later - sooner for sooner, later in pairwise(asked)] == [4] * 7
        assert b.caches.most == BLOCKED_LINES and w.answered == b.caches.releases[-1][0] + 1
        assert [line for _, line in b.caches.releases] == [BASE + 32 * n for n in range(8)]
        assert [b.memory.word(BASE + 8 * n) for n in range(32)] == list(range(32))

    Bench().run(body, memory={"write_latency": 7})


def test_chunks_of_one_line_follow_each_other():
    async def body(b):
        b.memory.hold = True
        for n in range(4):
            b.m.write(BASE + 8 * n, [n])
        await b.ctx.tick().repeat(60)
        assert list(b.caches.blocked) == [BASE] * 4 and [line for *_, line, _ in b.caches.requests] == [BASE] * 4
        b.memory.hold = False
        await b.idle()
        assert [b.memory.word(BASE + 8 * n) for n in range(4)] == list(range(4))

    Bench().run(body)


def test_no_more_lines_are_blocked_than_the_cache_has_places_for():
    async def body(b):
        b.memory.hold = True
        w = b.m.write(BASE, [1] * 4 * (BLOCKED_LINES + 2))
        await b.ctx.tick().repeat(100)
        assert list(b.caches.blocked) == [BASE + 32 * n for n in range(BLOCKED_LINES)] and not w.done
        b.memory.hold = False
        await b.idle()
        assert len(b.caches.releases) == BLOCKED_LINES + 2 and b.caches.most == BLOCKED_LINES

    Bench().run(body)


@pytest.mark.parametrize(
    "offset, ident",
    [(32, 2), (64 * 32, 1), (0, 1), (-8, 1)],
    ids=["another ID", "another line of the set", "same words", "words before"],
)
def test_a_write_that_waits_for_all_releases_before_it(offset, ident):
    """Answers of different IDs may change places; and between two writes to one set the CPU has a turn."""

    async def body(b):
        b.memory.hold = True
        b.m.write(BASE + 8, [1], id=1)
        b.m.write(BASE + 8 + offset, [2], id=ident)
        await b.ctx.tick().repeat(60)
        assert list(b.caches.blocked) == [BASE] and len(b.caches.requests) == 1
        b.memory.hold = False
        await b.idle()
        assert b.caches.releases[0][0] < b.caches.requests[1][0] and b.caches.most == 1

    Bench().run(body)


def test_the_cache_gets_rid_of_read_answers_while_the_bus_stands_still():
    """Both lookups that may be under way are answered even when nothing can go out; so the cache serves others."""

    async def body(b):
        b.memory.hold = True
        b.m.willing = lambda: False
        b.m.read(BASE, 63)
        await b.ctx.tick().repeat(60)
        assert b.ctx.get(b.dut.snoop.rsp.valid) == 0
        b.memory.hold = False
        b.m.willing = lambda: True
        await b.idle()

    Bench().run(body)


def test_read_only_bridge():
    async def body(b):
        b.caches.make_dirty(BASE, bytes(range(32)))
        t, u = b.m.read(BASE, 3), b.m.read(BASE + 0x20, 3)
        await b.idle()
        assert t.data == b.words(t) and u.data == b.words(u)
        assert [r[1:] for r in b.caches.requests] == [("READ", BASE, 4), ("READ", BASE + 0x20, 4)]
        b.m.write(BASE, [5])
        await b.idle()
        assert b.memory.word(BASE) == 5 and len(b.caches.requests) == 2

    bench = Bench(port=1, write=False)
    assert not hasattr(bench.dut, "i_inv")
    bench.run(body)


@pytest.mark.parametrize("width,line,seed", [(64, 32, 1), (32, 16, 2), (128, 64, 3), (32, 128, 4)])
@pytest.mark.parametrize("pause,latency", [(0.0, 1), (0.4, 3)])
def test_random_traffic_with_a_restless_cache(width, line, seed, pause, latency):
    """Whatever the cache evicts or takes up meanwhile, the manager sees what the CPU sees, and leaves what it wrote."""
    rng = random.Random(seed)
    config = SocConfig().replace(data_width=width, dcache__line_bytes=line, icache__line_bytes=line, dma__chunk_bytes=16)
    step, span = width // 8, 1024

    async def body(b):
        b.caches.candidates = [BASE + n for n in range(0, span, line)]
        model = {BASE + n: b.memory.byte(BASE + n) for n in range(span)}
        pending, busy = [], set()
        for _ in range(60):
            size, burst = rng.randrange((step - 1).bit_length() + 1), rng.choice([INCR, INCR, WRAP, FIXED])
            length = rng.choice([1, 3, 7, 15]) if burst == WRAP else rng.randrange(12)
            addr = BASE + rng.randrange(span - 256)
            if burst == WRAP:
                addr = addr >> size << size
            touched = {a // step * step + n for a in beat_addresses(addr, length, size, burst) for n in range(step)}
            if touched & busy:
                await b.idle()
                busy.clear()
            busy |= touched
            if rng.random() < 0.5:
                t = b.m.write(
                    addr, [rng.getrandbits(width) for _ in range(length + 1)], size=size, burst=burst, id=rng.randrange(4)
                )
                for a, data, strb in zip(t.addresses(), t.data, t.strb):
                    for n in range(step):
                        if strb >> n & 1:
                            model[a // step * step + n] = data >> 8 * n & 0xFF
            else:
                t = b.m.read(addr, length, size=size, burst=burst, id=rng.randrange(4))
                pending.append(
                    (
                        t,
                        [
                            int.from_bytes(bytes(model[a // step * step + n] for n in range(step)), "little")
                            for a in t.addresses()
                        ],
                    )
                )
        await b.idle()
        for t, expected in pending:
            assert t.data == expected, t
        assert all(b.caches.view(a) == byte for a, byte in model.items())
        assert {line for _, line in b.caches.releases} == {line for _, line in b.caches.invalidated}
        for segment in b.memory.seen:
            assert segment.addr // line == max(segment.addresses()) // line

    Bench(config).run(
        body,
        manager={"rng": rng, "pause": pause},
        memory={"rng": rng, "pause": pause, "latency": latency, "write_latency": 3 * latency, "mix": True},
        caches={"rng": rng, "pause": pause, "latency": latency, "restless": True},
    )


@pytest.mark.parametrize("burst", [FIXED, INCR, WRAP])
def test_splitter_keeps_every_beat(burst):
    rng = random.Random(burst)
    layout = AXI4Signature(data_width=64).ax_layout
    dut = LineSplitter(layout, line_bytes=32)

    async def test(ctx):
        ctx.set(dut.o.ready, 1)
        for _ in range(100):
            size = rng.randrange(4)
            length = rng.choice([1, 3, 7, 15]) if burst == WRAP else rng.randrange(256 if burst == INCR else 16)
            addr = rng.randrange(1 << 32)
            addr = addr >> size << size if burst == WRAP else addr
            if burst == INCR and (addr & 4095) + ((length + 1) << size) > 4096:
                addr &= ~4095
            ctx.set(dut.i.payload, {"id": 5, "addr": addr, "len": length, "size": size, "burst": burst, "cache": 3})
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            got, final = [], False
            while not final:
                assert ctx.get(dut.o.valid)  # one segment per cycle
                ax, final = ctx.get(dut.o.payload.ax), ctx.get(dut.o.payload.final)
                assert (ax.id, ax.size, ax.cache) == (5, size, 3)
                part = beat_addresses(ax.addr, ax.len, ax.size, ax.burst.value)
                assert len({a // 32 for a in part}) == 1
                got += part
                await ctx.tick()
            assert got == beat_addresses(addr, length, size, burst)
            assert not ctx.get(dut.o.valid)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(test)
    sim.run()


@pytest.mark.parametrize("changes", [{}, {"data_width": 32, "dcache__line_bytes": 128, "icache__line_bytes": 128}])
def test_converts_to_verilog(changes):
    config = SocConfig().replace(**changes)
    assert "i_inv_req_addr" in verilog(SnoopBridge(config, port=2), "bridge")
    text = verilog(SnoopBridge(config, port=1, write=False), "bridge")
    assert "i_inv" not in text and "m_axi_awaddr" in text


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: SnoopBridge(SocConfig(), port=4), "port must be an integer from 0 to 3, not 4"),
        (lambda: SnoopBridge(SocConfig(), port=0, id_width=3), "id_width must be an integer from 0 to 2, not 3"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
