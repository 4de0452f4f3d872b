# SPDX-License-Identifier: BSD-2-Clause
"""The arbiters of the caches' snoop and invalidation ports."""

import pytest
from amaranth.sim import Simulator

from rtl.cache.ports import BLOCKED_LINES, SnoopOp
from rtl.export import verilog
from rtl.interconnect.arbiter import InvalidateArbiter, SnoopArbiter
from rtl.probe import Cause


def _arbiter(test):
    dut = SnoopArbiter(line_bytes=16, count=2)

    async def body(ctx):
        ctx.set(dut.m.req.ready, 1)
        ctx.set(dut.s_0.req.payload, {"op": SnoopOp.WRITE, "addr": 0x10, "data": 1, "strb": 1, "source": 8})
        ctx.set(dut.s_1.req.payload, {"op": SnoopOp.WRITE, "addr": 0x20, "data": 2, "strb": 2, "source": 4})
        await test(ctx, dut)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(body)
    sim.run()


def test_snoop_arbiter_lets_one_requester_write_at_a_time():
    async def test(ctx, dut):
        ctx.set(dut.s_0.req.valid, 1)
        ctx.set(dut.s_1.req.valid, 1)
        assert ctx.get(dut.m.req.payload.addr) == 0x10 and ctx.get(dut.s_0.req.ready) and not ctx.get(dut.s_1.req.ready)
        await ctx.tick()
        assert not ctx.get(dut.m.req.valid)  # both want to write: the requester's own next one waits too
        ctx.set(dut.s_1.release, 1)  # not the owner
        assert not ctx.get(dut.m.release)
        ctx.set(dut.s_1.release, 0)
        ctx.set(dut.s_1.req.payload.op, SnoopOp.READ)
        assert ctx.get(dut.m.req.valid) and ctx.get(dut.m.req.payload.addr) == 0x20 and ctx.get(dut.s_1.req.ready)
        await ctx.tick()
        ctx.set(dut.s_0.req.valid, 0)
        ctx.set(dut.s_1.req.payload.op, SnoopOp.WRITE)
        # The responses come in order: first the write's to s_0, then the read's to s_1.
        ctx.set(dut.m.rsp.valid, 1)
        ctx.set(dut.m.rsp.payload, {"dirty": 1, "data": 77})
        ctx.set(dut.s_1.rsp.ready, 1)
        assert ctx.get(dut.s_0.rsp.valid) and not ctx.get(dut.s_1.rsp.valid) and not ctx.get(dut.m.rsp.ready)
        ctx.set(dut.s_0.rsp.ready, 1)
        assert ctx.get(dut.m.rsp.ready)
        await ctx.tick()
        assert ctx.get(dut.s_1.rsp.valid) and not ctx.get(dut.s_0.rsp.valid) and ctx.get(dut.s_1.rsp.payload.data) == 77
        await ctx.tick()
        ctx.set(dut.m.rsp.valid, 0)
        await ctx.tick()
        assert not ctx.get(dut.m.req.valid)
        ctx.set(dut.s_0.release, 1)
        assert ctx.get(dut.m.release)
        await ctx.tick()
        ctx.set(dut.s_0.release, 0)
        assert ctx.get(dut.m.req.valid) and ctx.get(dut.s_1.req.ready) and ctx.get(dut.m.req.payload.addr) == 0x20

    _arbiter(test)


def test_snoop_arbiter_passes_writes_of_one_requester_until_the_cache_is_full():
    async def test(ctx, dut):
        ctx.set(dut.s_0.req.valid, 1)
        ctx.set(dut.m.rsp.valid, 1)
        ctx.set(dut.s_0.rsp.ready, 1)
        for _ in range(BLOCKED_LINES):
            assert ctx.get(dut.s_0.req.ready)
            await ctx.tick()
        for _ in range(3):
            assert not ctx.get(dut.m.req.valid)
            await ctx.tick()
        ctx.set(dut.s_0.release, 1)
        await ctx.tick()
        for _ in range(3):  # one in, one out
            assert ctx.get(dut.s_0.req.ready) and ctx.get(dut.m.release)
            await ctx.tick()

    _arbiter(test)


def test_snoop_arbiter_keeps_what_it_offers():
    """A write that the cache has not taken yet stays offered when another requester comes."""

    async def test(ctx, dut):
        ctx.set(dut.s_0.req.valid, 1)
        await ctx.tick()
        ctx.set(dut.m.req.ready, 0)
        await ctx.tick()
        assert ctx.get(dut.m.req.valid) and ctx.get(dut.m.req.payload.addr) == 0x10
        ctx.set(dut.s_1.req.valid, 1)
        for _ in range(3):
            await ctx.tick()
            assert ctx.get(dut.m.req.valid) and ctx.get(dut.m.req.payload.addr) == 0x10
        ctx.set(dut.m.req.ready, 1)
        await ctx.tick()
        await ctx.tick()
        assert not ctx.get(dut.m.req.valid)  # it has two unreleased, and the other one waits

    _arbiter(test)


def test_invalidate_arbiter_takes_turns():
    dut = InvalidateArbiter(count=3)

    async def test(ctx):
        for n in range(3):
            port = getattr(dut, f"s_{n}")
            ctx.set(port.req.valid, 1)
            ctx.set(port.req.payload, {"all": n == 2, "addr": 32 * n, "cause": Cause.SNOOP})
        await ctx.tick().repeat(3)
        assert ctx.get(dut.m.req.payload.addr) == 0  # nothing changes while it is not taken
        ctx.set(dut.m.req.ready, 1)
        for n in (0, 1, 2, 0):
            assert ctx.get(dut.m.req.payload.addr) == 32 * n and ctx.get(dut.m.req.payload.all) == (n == 2)
            assert [ctx.get(getattr(dut, f"s_{k}").req.ready) for k in range(3)] == [k == n for k in range(3)]
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(test)
    sim.run()


def test_converts_to_verilog():
    assert "s_1_rsp_data" in verilog(SnoopArbiter(line_bytes=32, count=2), "arbiter")
    assert "m_req_cause" in verilog(InvalidateArbiter(count=3), "arbiter")


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: SnoopArbiter(line_bytes=32, count=0), "Snoop arbiter count must be an integer from 1 to 16, not 0"),
        (lambda: InvalidateArbiter(count=17), "Invalidate arbiter count must be an integer from 1 to 16, not 17"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
