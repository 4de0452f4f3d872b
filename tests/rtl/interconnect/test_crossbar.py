# SPDX-License-Identifier: BSD-2-Clause
"""The crossbar: latency, throughput, order, fairness, DECERR, random traffic."""

import random

import pytest
from amaranth.sim import Simulator

from rtl.export import flat_ports, verilog
from rtl.interconnect.arbiter import RoundRobin
from rtl.interconnect.crossbar import Crossbar

from ..axi.agents import DECERR, INCR, OKAY, SLVERR, AxiMemory, Manager, simulate, wait_idle

A, B = 0x8000_0000, 0x9000_0000
WINDOWS = [(A, 0x1_0000), (B, 0x1_0000)]


class Bench:
    """A crossbar with managers and memories all around."""

    def __init__(self, managers=2, targets=WINDOWS, *, id_width=2, data_width=64, outstanding=64):
        self.dut = Crossbar(data_width=data_width, managers=managers, id_width=id_width, targets=targets, outstanding=outstanding)
        self.managers, self.targets = managers, len(targets)

    def run(self, body, *, manager=(), memory=()):
        def build(sim):
            self.m = [Manager(sim, getattr(self.dut, f"s_axi_{n}"), **dict(manager)) for n in range(self.managers)]
            self.t = [AxiMemory(sim, getattr(self.dut, f"m_axi_{n}"), **dict(memory)) for n in range(self.targets)]

            async def test(ctx):
                self.ctx = ctx
                await body(self)

            return test

        simulate(self.dut, build)

    async def idle(self):
        await wait_idle(self.ctx, *self.m)


def test_latency_is_one_cycle():
    async def body(b):
        r = b.m[0].read(A + 8)
        await b.idle()
        bare = 1  # the memory's own latency
        assert r.beats == [r.asked + bare + 1]
        assert b.t[0].seen[0].asked == r.asked + 1
        w = b.m[1].write(B, [1, 2, 3])
        await b.idle()
        assert b.t[1].seen[0].asked == w.asked + 1
        assert w.beats == [w.asked + 2 + n for n in range(3)]
        assert w.answered == w.beats[-1] + 1

    Bench().run(body)


@pytest.mark.parametrize("latency", [1, 10])
@pytest.mark.parametrize("length,bursts", [(15, 32), (0, 400)])
def test_read_utilisation(latency, length, bursts):
    """Payload beats over the cycles from first request to last beat, less the memory's and the crossbar's own latency."""

    async def body(b):
        reads = [b.m[0].read(A + 8 * (length + 1) * n, length, id=n % 4) for n in range(bursts)]
        await b.idle()
        beats = [cycle for t in reads for cycle in t.beats]
        assert beats[0] == reads[0].asked + latency + 1
        assert beats == list(range(beats[0], beats[0] + len(beats)))

    Bench().run(body, memory={"latency": latency})


def test_write_throughput():
    async def body(b):
        bursts = [b.m[0].write(A + 8 * n, [n], id=n % 4) for n in range(50)]
        long = [b.m[0].write(A + 128 * n, list(range(16))) for n in range(8)]
        await b.idle()
        beats = [cycle for t in bursts + long for cycle in t.beats]
        assert beats == list(range(beats[0], beats[0] + len(beats)))

    Bench().run(body)


def test_two_managers_run_at_full_rate_to_two_targets():
    async def body(b):
        reads = [[b.m[n].read([A, B][n] + 128 * k, 15) for k in range(8)] for n in range(2)]
        await b.idle()
        for mine in reads:
            beats = [cycle for t in mine for cycle in t.beats]
            assert beats == list(range(beats[0], beats[0] + 128))

    Bench().run(body)


def test_round_robin_is_fair_and_wastes_nothing():
    async def body(b):
        reads = [[b.m[n].read(A + 128 * k, 15) for k in range(8)] for n in range(3)]
        writes = [[b.m[n].write(A + 0x8000 + 64 * k, [n] * 8) for k in range(8)] for n in range(3)]
        await b.idle()
        order = [t.id >> 2 for t in b.t[0].seen if not t.write]
        assert all(set(order[n : n + 3]) == {0, 1, 2} for n in range(0, 24, 3))
        order = [t.id >> 2 for t in b.t[0].seen if t.write]
        assert all(set(order[n : n + 3]) == {0, 1, 2} for n in range(0, 24, 3))
        beats = sorted(cycle for mine in reads for t in mine for cycle in t.beats)
        assert beats == list(range(beats[0], beats[0] + 3 * 8 * 16))
        beats = sorted(cycle for mine in writes for t in mine for cycle in t.beats)
        assert beats == list(range(beats[0], beats[0] + 3 * 8 * 8))

    Bench(3).run(body)


def test_ids_and_fields_reach_the_target():
    async def body(b):
        b.m[2].read(A + 0x48, 3, size=2, burst=2, id=3)
        b.m[1].write(B + 3, [0xFF << 24], size=0, burst=0, id=1)
        await b.idle()
        (r,), (w,) = b.t[0].seen, b.t[1].seen
        assert r.cache == w.cache == 0b1010
        assert (r.id, r.addr, r.length, r.size, r.burst) == (2 << 2 | 3, A + 0x48, 3, 2, 2)
        assert (w.id, w.addr, w.length, w.size, w.burst, w.strb) == (1 << 2 | 1, B + 3, 0, 0, 0, [8])

    Bench(3).run(body, manager={"cache": 0b1010})


@pytest.mark.parametrize("addr,length", [(0, 0), (A - 8, 15), (A + 0x1_0000, 3), (0xFFFF_FFF8, 0), (0x1000_0000, 255)])
def test_unmapped_addresses_answer_decerr(addr, length):
    async def body(b):
        good = b.m[0].read(A, 3, id=1)
        r = b.m[0].read(addr, length, id=2)
        w = b.m[0].write(addr, [5] * (length + 1), id=3)
        after_w, after = b.m[0].write(A, [9], id=3), b.m[0].read(B, id=2)
        await b.idle()
        assert good.resp == [OKAY] * 4 and after.resp == [OKAY] and after_w.resp == [OKAY]
        assert r.resp == [DECERR] * (length + 1) and r.data == [0] * (length + 1)
        assert w.resp == [DECERR]
        assert b.t[0].word(A) == 9
        assert all(addr not in (t.addr for t in target.seen) for target in b.t)

    Bench().run(body)


def test_a_burst_that_would_leave_its_window_answers_decerr():
    windows = [(A, 0x180), (A + 0x180, 0x80)]

    async def body(b):
        fits = [b.m[0].read(A + 0x170, 1), b.m[0].read(A + 0x17F, 7, size=0, burst=0), b.m[0].read(A + 0x100, 15)]
        leaves = [b.m[0].read(A + 0x178, 1), b.m[0].read(A + 0x17F, 1, size=0), b.m[0].read(A + 0x1F0, 2)]
        wraps = b.m[0].read(A + 0x178, 15, burst=2)
        await b.idle()
        assert all(set(t.resp) == {OKAY} for t in [*fits, wraps])
        assert all(set(t.resp) == {DECERR} for t in leaves)

    Bench(1, windows).run(body)


def test_errors_of_the_target_pass():
    async def body(b):
        r = b.m[0].read(A, 1)
        w = b.m[1].write(A, [1])
        await b.idle()
        assert r.resp == [SLVERR] * 2 and w.resp == [SLVERR]

    Bench().run(body, memory={"fail": lambda t: SLVERR})


def test_a_burst_to_another_target_waits_for_earlier_answers():
    async def body(b):
        b.t[0].hold = True
        r1, r2 = b.m[0].read(A, id=1), b.m[0].read(B, id=1)
        other = b.m[1].read(B)
        w1, w2 = b.m[0].write(A, [1], id=1), b.m[0].write(B, [2], id=1)
        await b.ctx.tick().repeat(40)
        assert other.done and not (r1.done or r2.done or w1.done or w2.done)
        assert [t.id for t in b.t[1].seen] == [1 << 2]
        b.t[0].hold = False
        await b.idle()
        assert r1.answered < r2.answered and w1.answered < w2.answered

    Bench().run(body)


def test_outstanding_limit():
    async def body(b):
        b.t[0].hold = True
        for n in range(10):
            b.m[0].read(A + 8 * n)
        await b.ctx.tick().repeat(30)
        assert len(b.t[0].seen) == 3
        b.t[0].hold = False
        await b.idle()
        assert len(b.t[0].seen) == 10

    Bench(outstanding=3).run(body)


def test_write_data_before_its_address_waits():
    async def body(b):
        writes = [b.m[n].write(A + 64 * n + 8 * k, [n * 16 + k]) for n in range(2) for k in range(4)]
        await b.idle()
        assert [t.resp for t in writes] == [[OKAY]] * 8
        assert [b.t[0].word(A + 64 * n + 8 * k) for n in range(2) for k in range(4)] == [
            n * 16 + k for n in range(2) for k in range(4)
        ]

    Bench().run(body, manager={"w_first": True, "rng": random.Random(1), "pause": 0.6})


@pytest.mark.parametrize("managers,targets,width,seed", [(2, 2, 64, 1), (3, 1, 32, 2), (3, 2, 64, 3), (1, 2, 128, 4)])
@pytest.mark.parametrize("pause,latency", [(0.0, 1), (0.5, 3)])
def test_random_traffic(managers, targets, width, seed, pause, latency):
    rng = random.Random(seed)
    step, windows = width // 8, WINDOWS[:targets]

    async def body(b):
        model, reads, writes = {}, [], []
        for phase in range(3):  # between which everything has been answered
            for n in range(managers):
                for _ in range(25):
                    # A manager writes in a part of its own in each phase, and reads parts of earlier phases.
                    base = rng.choice([0x4000_0000, *(window[0] for window in windows)])
                    length, size = rng.randrange(8), rng.randrange((step - 1).bit_length() + 1)
                    if rng.random() < 0.5:
                        addr = base + 0x4000 * (phase + 1) + 0x1000 * n + rng.randrange(0xE00)
                        t = b.m[n].write(
                            addr, [rng.getrandbits(width) for _ in range(length + 1)], size=size, id=rng.randrange(4)
                        )
                        writes.append((base, t))
                    else:
                        addr = base + 0x4000 * rng.randrange(phase + 1) + 0x1000 * rng.randrange(3) + rng.randrange(0xE00)
                        reads.append((base, b.m[n].read(addr, length, size=size, id=rng.randrange(4))))
            await b.idle()
        for base, t in writes:
            assert t.resp == [DECERR if base == 0x4000_0000 else OKAY]
            if base != 0x4000_0000:
                for addr, data, strb in zip(t.addresses(), t.data, t.strb):
                    for lane in range(step):
                        if strb >> lane & 1:
                            model[addr // step * step + lane] = data >> 8 * lane & 0xFF
        for base, t in reads:
            unmapped = base == 0x4000_0000
            assert t.resp == [DECERR if unmapped else OKAY] * (t.length + 1)
            memory = b.t[0 if base == A else 1] if targets > 1 else b.t[0]
            assert t.data == [0 if unmapped else memory.word(addr) for addr in t.addresses()]
        for target in b.t:
            for addr, value in target.bytes.items():
                assert model[addr] == value
        assert sum(len(target.bytes) for target in b.t) == len(model)

    Bench(managers, windows, data_width=width).run(
        body, manager={"rng": rng, "pause": pause}, memory={"rng": rng, "pause": pause, "latency": latency, "mix": True}
    )


def test_arbiter_keeps_its_grant_and_takes_turns():
    dut = RoundRobin(3)

    async def test(ctx):
        def see(request, done):
            ctx.set(dut.request, request)
            ctx.set(dut.done, done)
            return ctx.get(dut.grant)

        assert see(0b110, 0) == 1
        await ctx.tick()
        assert see(0b111, 0) == 1  # kept, although 0 is asking now
        await ctx.tick()
        assert see(0b111, 1) == 1
        await ctx.tick()
        for expected in (2, 0, 1, 2):
            assert see(0b111, 1) == expected
            await ctx.tick()
        assert see(0b101, 1) == 0
        await ctx.tick()
        assert see(0b001, 1) == 0

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(test)
    sim.run()


@pytest.mark.parametrize("managers,id_width", [(1, 2), (2, 0), (3, 2), (5, 4)])
def test_converts_to_verilog(managers, id_width):
    def block():
        return Crossbar(data_width=64, managers=managers, id_width=id_width, targets=WINDOWS)

    widths = {port.name: port.width for port in flat_ports(block())}
    number = (managers - 1).bit_length()
    assert widths.get("m_axi_1_arid", 0) == id_width + number
    assert widths.get("s_axi_0_bid", 0) == id_width
    assert "module xbar(" in verilog(block(), "xbar")


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"managers": 0}, "managers must be an integer from 1 to 16, not 0"),
        ({"id_width": None}, "id_width must be an integer from 0 to 12, not None"),
        ({"outstanding": 0}, "outstanding must be an integer from 1 to 255, not 0"),
        ({"targets": []}, "targets must be 1 to 16 windows, not 0"),
        ({"targets": [(64, 128)]}, "must be a window of whole 128-byte blocks"),
        ({"targets": [(0, 0x2000), (0x1000, 0x1000)]}, r"must be disjoint, not \[0x0, 0x2000\) and 0x1000"),
        ({"data_width": 16}, "data_width must be one of 32, 64, 128, not 16"),
    ],
)
def test_bad_parameters(changes, message):
    arguments = {"data_width": 64, "managers": 2, "id_width": 2, "targets": WINDOWS, **changes}
    with pytest.raises(ValueError, match=message):
        Crossbar(**arguments)


@pytest.mark.parametrize("count", [0, 17, True])
def test_arbiter_count(count):
    with pytest.raises(ValueError, match="Arbiter count must be an integer from 1 to 16"):
        RoundRobin(count)


def test_length_of_unmapped_read_bursts_is_kept_under_back_pressure():
    async def body(b):
        reads = [b.m[0].read(0, n, id=n % 4) for n in (0, 1, 7, 255)]
        await b.idle()
        assert [len(t.data) for t in reads] == [1, 2, 8, 256]
        assert all(t.burst == INCR for t in reads)

    Bench().run(body, manager={"rng": random.Random(3), "pause": 0.5})
