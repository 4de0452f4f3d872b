# SPDX-License-Identifier: BSD-2-Clause
"""The fill unit alone: exact cycles of AR, which place each beat belongs to, and what holds R."""

import pytest
from amaranth.sim import Simulator

from rtl.axi.bus import Burst, Resp
from rtl.cache.fill import FillUnit
from rtl.config import CacheConfig, SocConfig

CONFIG = SocConfig(data_width=32)  # 8 words a line, 4 demand slots, slot 4 for the prefetch
PREFETCH = 1 << 4


def run(testbench, config=CONFIG):
    dut = FillUnit(config=config)

    async def main(ctx):
        await testbench(ctx, dut)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(main)
    sim.run()


def address(line, word=0):
    return CONFIG.memory.base + line * 32 + word * 4


async def allocate(ctx, dut, line, *, word=0, way=1, prefetch=0, again=0, victim=0):
    """One allocation; returns its slot (one-hot), in the cycle after."""
    for name, value in dict(line=line, word=word, way=way, prefetch=prefetch, again=again, victim=victim, valid=1).items():
        ctx.set(dut.alloc[name], value)
    slot = ctx.get(dut.alloc_slot)
    await ctx.tick()
    ctx.set(dut.alloc.valid, 0)
    return slot


def shown(ctx, dut):
    """Address, ID, beats and burst that AR shows, or None."""
    p = dut.ar.payload
    return (ctx.get(p.addr), ctx.get(p.id), ctx.get(p.len) + 1, Burst(ctx.get(p.burst))) if ctx.get(dut.ar.valid) else None


async def beat(ctx, dut, ident, data, *, last=0, resp=0, ends=True):
    """Offers a beat that is taken at once; returns slot, index, way and word of the beat. ``ends``: takes the end before, too."""
    ctx.set(dut.end_taken, ctx.get(dut.end.valid) and ends)
    for name, value in dict(id=ident, data=data, last=last, resp=resp).items():
        ctx.set(dut.r.payload[name], value)
    ctx.set(dut.r.valid, 1)
    assert ctx.get(dut.r.ready)
    place = tuple(ctx.get(dut.beat[name]) for name in ("slot", "index", "way", "word"))
    await ctx.tick()
    ctx.set(dut.r.valid, 0)
    ctx.set(dut.end_taken, 0)
    return place


def test_a_missed_beat_is_asked_for_one_cycle_later_and_comes_first():
    async def testbench(ctx, dut):
        ctx.set(dut.ar.ready, 1)
        slot = await allocate(ctx, dut, 0x123, word=6, way=0b10)
        assert shown(ctx, dut) == (address(0x123, 6), 0, 8, Burst.WRAP)
        await ctx.tick()
        assert shown(ctx, dut) is None
        for n in range(8):
            assert not ctx.get(dut.end.slot)
            assert await beat(ctx, dut, 0, n, last=n == 7) == (slot, 0x123 & 63, 0b10, (6 + n) % 8)
        assert ctx.get(dut.end.valid) and ctx.get(dut.end.slot) == slot

    run(testbench)


def test_a_line_longer_than_a_wrap_burst_is_fetched_from_its_start():
    config = SocConfig(data_width=32, dcache=CacheConfig(line_bytes=128), icache=CacheConfig(line_bytes=128))

    async def testbench(ctx, dut):
        slot = await allocate(ctx, dut, 3, word=9)
        assert shown(ctx, dut) == (CONFIG.memory.base + 3 * 128, 0, 32, Burst.INCR)
        await ctx.tick()
        assert await beat(ctx, dut, 0, 0) == (slot, 3, 1, 0)

    run(testbench, config)


def test_demand_goes_before_prefetch_but_not_before_one_that_is_shown():
    async def testbench(ctx, dut):
        await allocate(ctx, dut, 1, prefetch=1, word=5)
        assert shown(ctx, dut) == (address(1), 1, 8, Burst.WRAP), "from the line's start"
        await allocate(ctx, dut, 2)
        assert shown(ctx, dut)[0] == address(1), "stays until it is taken"
        ctx.set(dut.ar.ready, 1)
        await ctx.tick()
        assert shown(ctx, dut)[0] == address(2)
        ctx.set(dut.ar.ready, 0)
        ctx.set(dut.finish, PREFETCH)
        await ctx.tick()
        ctx.set(dut.finish, 0)
        await allocate(ctx, dut, 3, prefetch=1)
        assert shown(ctx, dut)[0] == address(2)
        ctx.set(dut.ar.ready, 1)
        await ctx.tick()
        assert shown(ctx, dut)[0] == address(3)
        await ctx.tick()
        assert shown(ctx, dut) is None

    run(testbench)


@pytest.mark.parametrize("slots", [1, 3, 4, 8])
def test_beats_belong_to_the_fills_in_the_order_of_their_ars(slots):
    """Also where a slot is used again before an older one, and with a prefetch's beats in between."""

    async def testbench(ctx, dut):
        ctx.set(dut.ar.ready, 1)
        count = 2 * slots + 1
        taken = [await allocate(ctx, dut, n, word=n % 8, way=1 + n % 2) for n in range(slots)]
        assert not ctx.get(dut.free)
        assert await allocate(ctx, dut, 99, prefetch=1) == 1 << slots
        for n in range(count):
            for k in range(8):
                assert await beat(ctx, dut, 0, k, last=k == 7) == (taken[n], n, 1 + n % 2, (n + k) % 8)
                if n < 8 and not k:
                    assert await beat(ctx, dut, 1, k, last=n == 7) == (1 << slots, 99 & 63, 1, n)
            assert ctx.get(dut.end.slot) == taken[n]
            ctx.set(dut.end_taken, 1)
            ctx.set(dut.finish, taken[n])
            await ctx.tick()
            ctx.set(dut.end_taken, 0)
            ctx.set(dut.finish, 0)
            assert not ctx.get(dut.end.slot)
            taken.append(await allocate(ctx, dut, n + slots, word=(n + slots) % 8, way=1 + (n + slots) % 2))
            assert taken[-1] == taken[n], "the only free one"
            await ctx.tick()

    run(testbench, CONFIG.replace(dcache__fill_slots=slots))


def test_the_next_line_does_not_end_before_the_end_was_taken():
    async def testbench(ctx, dut):
        ctx.set(dut.ar.ready, 1)
        slots = [await allocate(ctx, dut, 0x123, way=0b10), await allocate(ctx, dut, 0x145)]
        for n in range(8):
            assert not ctx.get(dut.end.valid)
            await beat(ctx, dut, 0, n, last=n == 7)
        for n in range(7):
            assert ctx.get(dut.end.valid)
            assert (ctx.get(dut.end.slot), ctx.get(dut.end.line), ctx.get(dut.end.way)) == (slots[0], 0x123, 0b10)
            await beat(ctx, dut, 0, n, ends=False)
        ctx.set(dut.r.payload.last, 1)
        ctx.set(dut.r.valid, 1)
        assert not ctx.get(dut.r.ready) and not ctx.get(dut.taken)
        ctx.set(dut.end_taken, 1)
        await ctx.tick()
        ctx.set(dut.end_taken, 0)
        assert ctx.get(dut.r.ready) and ctx.get(dut.taken) and not ctx.get(dut.end.valid)
        await ctx.tick()
        assert ctx.get(dut.end.valid)
        assert (ctx.get(dut.end.slot), ctx.get(dut.end.line), ctx.get(dut.end.way)) == (slots[1], 0x145, 0b01)

    run(testbench)


def test_a_held_slot_fetches_its_line_again():
    async def testbench(ctx, dut):
        ctx.set(dut.ar.ready, 1)
        slot = await allocate(ctx, dut, 5)
        ctx.set(dut.park, slot)
        ctx.set(dut.finish, slot)
        await ctx.tick()
        ctx.set(dut.park, 0)
        ctx.set(dut.finish, 0)
        await allocate(ctx, dut, 6)
        for n in range(16):  # the fill that was finished, and the one behind it
            await beat(ctx, dut, 0, n, last=n % 8 == 7)
        assert await allocate(ctx, dut, 5, word=2, again=slot) == slot
        assert shown(ctx, dut)[0] == address(5, 2)
        await ctx.tick()
        assert await beat(ctx, dut, 0, 0) == (slot, 5, 1, 2)
        assert ctx.get(dut.filling) & slot

    run(testbench)


def test_a_beat_waits_for_the_words_of_the_line_that_it_replaces():
    async def testbench(ctx, dut):
        ctx.set(dut.ar.ready, 1)
        await allocate(ctx, dut, 1, victim=0b0100)
        await allocate(ctx, dut, 2, prefetch=1)
        ctx.set(dut.unread, 0b0100)
        ctx.set(dut.r.payload.id, 0)
        ctx.set(dut.r.valid, 1)
        for _ in range(3):
            assert not ctx.get(dut.r.ready) and not ctx.get(dut.taken)
            await ctx.tick()
        await beat(ctx, dut, 1, 0)  # it replaces nothing that is unread
        ctx.set(dut.unread, 0b1011)
        await beat(ctx, dut, 0, 0)

    run(testbench)


def test_a_beat_answers_who_asked_for_its_word_and_its_slot():
    """The demand fill's beat and the prefetch's, right and wrong words, slots and responses, in each cycle of a line."""

    async def testbench(ctx, dut):
        ctx.set(dut.ar.ready, 1)
        slot = await allocate(ctx, dut, 5, word=6)
        await allocate(ctx, dut, 6, prefetch=1)
        await ctx.tick().repeat(2)
        for ident, mine, first in ((0, slot, 6), (1, PREFETCH, 0)):
            for n in range(8):
                ctx.set(dut.r.valid, 1)
                ctx.set(dut.r.payload, {"id": ident, "data": n, "resp": Resp.OKAY, "last": n == 7})
                for slots in (mine, 0b11111 & ~mine, 0b11111):
                    for word in range(8):
                        ctx.set(dut.asked, {"slots": slots, "word": word})
                        assert ctx.get(dut.answers) == (bool(slots & mine) and word == (first + n) % 8)
                ctx.set(dut.asked.word, (first + n) % 8)
                ctx.set(dut.r.payload.resp, Resp.SLVERR)
                assert not ctx.get(dut.answers)
                ctx.set(dut.r.payload, {"id": 3, "resp": Resp.OKAY})
                assert not ctx.get(dut.answers)
                ctx.set(dut.r.valid, 0)
                assert not ctx.get(dut.answers)
                await beat(ctx, dut, ident, n, last=n == 7)

    run(testbench)


def test_an_uncached_read_goes_when_no_line_waits_and_is_shown_one_cycle_later():
    async def testbench(ctx, dut):
        direct, p = dut.direct, dut.ar.payload
        await allocate(ctx, dut, 1)
        ctx.set(direct.payload, {"addr": 0x4000_1236, "size": 1})
        ctx.set(direct.valid, 1)
        for _ in range(3):
            await ctx.tick()
            assert shown(ctx, dut) == (address(1), 0, 8, Burst.WRAP)
            assert ctx.get(p.size) == 2
        ctx.set(dut.ar.ready, 1)
        await ctx.tick()
        assert shown(ctx, dut) is None
        ctx.set(dut.ar.ready, 0)
        await ctx.tick()
        for _ in range(2):
            assert shown(ctx, dut) == (0x4000_1236, 3, 1, Burst.INCR)
            assert ctx.get(p.size) == 1 and ctx.get(p.cache) == 3
            await allocate(ctx, dut, 2)
        ctx.set(dut.ar.ready, 1)
        assert ctx.get(direct.ready)
        await ctx.tick()
        ctx.set(direct.valid, 0)
        assert shown(ctx, dut) == (address(2), 0, 8, Burst.WRAP)
        assert ctx.get(p.size) == 2
        ctx.set(dut.r.payload, {"id": 3, "data": 0x5A, "resp": 2, "last": 1})
        ctx.set(dut.r.valid, 1)
        assert not ctx.get(dut.r.ready) and not ctx.get(dut.beat.valid)
        ctx.set(dut.direct_take, 1)
        assert ctx.get(dut.r.ready)
        assert (ctx.get(dut.direct_rsp.valid), ctx.get(dut.direct_rsp.data), Resp(ctx.get(dut.direct_rsp.resp))) == (
            1,
            0x5A,
            Resp.SLVERR,
        )

    run(testbench)


def test_an_error_in_any_beat_marks_the_slot_until_it_is_used_again():
    async def testbench(ctx, dut):
        ctx.set(dut.ar.ready, 1)
        slot = await allocate(ctx, dut, 1)
        for n in range(8):
            await beat(ctx, dut, 0, n, last=n == 7, resp=2 if n == 3 else 0)
        assert ctx.get(dut.error) == slot
        ctx.set(dut.finish, slot)
        await ctx.tick()
        ctx.set(dut.finish, 0)
        assert ctx.get(dut.error) == slot
        assert await allocate(ctx, dut, 2) == slot
        assert ctx.get(dut.error) == 0

    run(testbench)
