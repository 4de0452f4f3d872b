# SPDX-License-Identifier: BSD-2-Clause
"""Bounce buffers: when, where, which bytes, which cache work, and the log."""

import pytest

from driver.bounce import BouncePool
from driver.bus import Attribute
from driver.errors import ArgumentError, PlatformError, PoolError
from driver.hal import Hal
from driver.memory import MemoryPool
from driver.platform import HalOptions, Platform
from driver.trace import Trace

from .fake_bus import FakeBus, run

BASE = 0x8000_0000
FAR = BASE + 0x8000
SHOWN = ("BounceMap", "BounceCopy", "BounceUnmap", "CacheMaintenance")


def machine(*, coherent=False, reserve=0, owner="swiotlb", **options):
    bus = FakeBus(coherent=coherent)
    trace = Trace(bus.now)
    hal = Hal(bus, run(Platform.discover(bus, options=HalOptions(**options))), trace, reserve=reserve)
    run(hal.enable_interrupts())
    bus.ops.clear()
    return bus, hal, BouncePool(hal, trace, owner), trace


def begun(trace):
    """Calls as the log has them: a maintenance operation as (op, ranges), others as (name, args)."""
    out = []
    for r in trace.records:
        if r["phase"] == "begin" and r["name"] in SHOWN:
            a = r["args"]
            out.append((a["op"], a["target"], a["ranges"]) if r["name"] == "CacheMaintenance" else (r["name"], a))
    return out


def cached_write(bus, address, data):
    run(bus.write(address, data))


def test_to_device_copies_the_newest_bytes_and_cleans():
    bus, _, pool, trace = machine()
    cached_write(bus, FAR + 3, bytes(range(1, 101)))  # dirty in the cache only
    slot = run(pool.map([(FAR + 3, 100)], True, reach=15))
    assert slot.address + slot.length <= BASE + 0x8000 and slot.length == 100
    assert bus.peek(slot.address, 100) == bytes(range(1, 101))
    assert begun(trace) == [
        (
            "BounceMap",
            {
                "source": [[FAR + 3, 100]],
                "bounce": [slot.address, 100],
                "write_to_device": True,
                "owner": "swiotlb",
                "whole": False,
            },
        ),
        ("BounceCopy", {"source": [[FAR + 3, 100]], "target": [[slot.address, 100]], "to_device": True}),
        ("clean", "d", [[slot.address, 100]]),
    ]
    trace.records.clear()
    pool.unmap(slot)
    assert begun(trace) == [("BounceUnmap", {"bounce": [slot.address, 100]})]
    assert pool.used_bytes == 0 and pool.slots == []


def test_from_device_comes_back_even_if_a_line_was_prefetched():
    bus, _, pool, trace = machine()
    slot = run(pool.map([(FAR, 64)], False, reach=15))
    assert begun(trace)[2] == ("clean+invalidate", "d", [[slot.address, 64]])
    bus.prefetch(slot.address)  # speculation during the transfer
    bus.poke(slot.address, bytes(range(64)))
    trace.records.clear()
    run(pool.copy_out(slot))
    assert begun(trace) == [
        ("invalidate", "d", [[slot.address, 64]]),
        ("BounceCopy", {"source": [[slot.address, 64]], "target": [[FAR, 64]], "to_device": False}),
    ]
    assert run(bus.read(FAR, 64)) == bytes(range(64))


def test_dirty_bounce_lines_of_an_earlier_user_do_not_reach_the_devices_bytes():
    for whole in (False, True):
        bus, hal, pool, _ = machine(bounce_copies_whole=whole)
        first = hal.pool.allocate(64, exclusive=True)
        cached_write(bus, first, b"\xee" * 64)
        hal.pool.free(first)
        slot = run(pool.map([(FAR, 64)], False, reach=15))
        assert slot.address == first
        bus.poke(slot.address, b"\x11" * 64)
        bus.evict(slot.address)
        bus.evict(slot.address + 32)
        run(pool.copy_out(slot))
        assert run(bus.read(FAR, 64)) == b"\x11" * 64, whole


def test_a_short_device_write_changes_nothing_else_unless_copied_back_whole():
    for whole, rest in ((False, b"\x77" * 90), (True, b"\x55" * 90)):
        bus, _, pool, trace = machine(bounce_copies_whole=whole)
        cached_write(bus, FAR, b"\x77" * 100)
        bus.poke(BASE, b"\x55" * 256)  # what an earlier user of the bounce memory left
        slot = run(pool.map([(FAR, 100)], False, reach=15))
        assert begun(trace)[0][1]["whole"] is whole
        bus.poke(slot.address, b"\x11" * 10)
        run(pool.copy_out(slot, 0, 100))
        assert run(bus.read(FAR, 100)) == b"\x11" * 10 + rest


def test_whole_copies_back_everything_whatever_is_asked_for():
    _, _, pool, trace = machine()
    slot = run(pool.map([(FAR, 100)], False, reach=15, whole=True))
    assert [name for name, *_ in begun(trace)] == ["BounceMap", "clean+invalidate"]  # no copy in
    trace.records.clear()
    run(pool.copy_out(slot, 32, 8))
    assert begun(trace)[1][1]["source"] == [[slot.address, 100]]
    assert not run(pool.map([(FAR, 100)], True, reach=15, whole=True)).whole  # only the device's bytes are copied back


def test_partial_copies_move_exactly_their_bytes():
    bus, _, pool, trace = machine()
    slot = run(pool.map([(FAR, 30), (FAR + 64, 40)], False, reach=15))
    assert slot.length == 70
    cached_write(bus, FAR, b"\xaa" * 128)
    bus.poke(slot.address, bytes(range(70)))
    trace.records.clear()
    run(pool.copy_out(slot, 20, 15))
    assert begun(trace)[1] == (
        "BounceCopy",
        {"source": [[slot.address + 20, 15]], "target": [[FAR + 20, 10], [FAR + 64, 5]], "to_device": False},
    )
    expected = bytearray(b"\xaa" * 128)
    expected[20:30], expected[64:69] = range(20, 30), range(30, 35)
    assert run(bus.read(FAR, 128)) == expected
    cached_write(bus, FAR, b"\xbb" * 128)
    trace.records.clear()
    run(pool.copy_in(slot, 28, 4))
    assert begun(trace)[0][1]["source"] == [[FAR + 28, 2], [FAR + 64, 2]]
    assert bus.peek(slot.address, 70) == bytes(range(28)) + b"\xbb" * 4 + bytes(range(32, 70))


def test_copies_go_a_line_of_the_target_at_a_time():
    bus, _, pool, _ = machine()
    slot = run(pool.map([(FAR + 8, 70)], True, reach=15))
    accesses = [op[:3] for op in bus.ops if op[0] in ("read", "write")]
    assert accesses == [
        ("read", FAR + 8, 32),
        ("write", slot.address, 32),
        ("read", FAR + 40, 32),
        ("write", slot.address + 32, 32),
        ("read", FAR + 72, 6),
        ("write", slot.address + 64, 6),
    ]
    assert all(op[3] == Attribute.CACHED for op in bus.ops if op[0] in ("read", "write"))
    bus.ops.clear()
    run(pool.copy_out(slot))  # now the buffer is the target, and begins inside a line
    assert [op[:3] for op in bus.ops if op[0] == "write"] == [
        ("write", FAR + 8, 24),
        ("write", FAR + 32, 32),
        ("write", FAR + 64, 14),
    ]


def test_uncached_buffers_are_copied_uncached():
    bus, hal, pool, _ = machine()
    hal.set_uncached(FAR, 4096, True)
    slot = run(pool.map([(FAR, 16)], True))
    assert [op[3] for op in bus.ops if op[0] == "read"] == [Attribute.UNCACHED]
    assert [op[3] for op in bus.ops if op[:2] == ("write", slot.address)] == [Attribute.CACHED]


def test_no_cache_work_on_a_coherent_platform_and_none_without_a_copy():
    _, _, pool, trace = machine(coherent=True)
    slot = run(pool.map([(FAR, 64)], False))
    run(pool.copy_out(slot))
    assert [name for name, *_ in begun(trace)] == ["BounceMap", "BounceCopy", "BounceCopy"]
    bus, _, pool, trace = machine()
    run(pool.map([(FAR, 64)], False, copy=False))
    assert [name for name, *_ in begun(trace)] == ["BounceMap"] and bus.ops == []


def test_when_a_bounce_is_needed():
    _, _, pool, _ = machine()
    assert not pool.needed([(FAR, 8)], True) and not pool.needed([(FAR - 8, 8)], True, reach=15)
    assert pool.needed([(FAR - 8, 9)], True, reach=15)
    assert not pool.needed([(FAR, 8), (FAR + 8, 8)], True, contiguous=True)
    assert pool.needed([(FAR, 8), (FAR + 9, 8)], True, contiguous=True)
    assert not pool.needed([(FAR, 8), (FAR + 9, 8)], True)
    _, _, pool, _ = machine(bounce="always")
    assert pool.needed([(FAR, 32)], True)
    _, _, pool, _ = machine(bounce="unaligned")
    assert not pool.needed([(FAR, 64)], False) and not pool.needed([(FAR + 4, 8)], True)
    assert pool.needed([(FAR, 40)], False) and pool.needed([(FAR + 4, 28)], False)
    _, _, pool, _ = machine(bounce="unaligned", coherent=True)
    assert not pool.needed([(FAR + 4, 8)], False)


def test_slots_share_no_line_and_keep_an_offset():
    _, hal, pool, _ = machine(reserve=256)
    a = run(pool.map([(FAR, 10)], False))
    b = run(pool.map([(FAR + 64, 10)], False, alignment=4096, offset=100))
    assert (a.address, b.address) == (BASE + 256, BASE + 4096 + 100)
    assert pool.find(a.address + 9) is a and pool.find(a.address + 10) is None
    assert hal.pool.allocate(16, alignment=1) == BASE + 320


def test_reserved_memory_stays_until_it_is_released():
    _, hal, pool, _ = machine()
    at = pool.reserve(8192, reach=15, alignment=4096)
    slot = run(pool.map([(FAR, 10)], False, at=at))
    assert slot.address == at
    pool.unmap(slot)
    assert pool.used_bytes == 8192 and hal.pool.find(at)
    pool.release(at)
    assert pool.used_bytes == 0 and hal.pool.find(at) is None
    with pytest.raises(PoolError, match="address must be bounce memory that is reserved, not 7"):
        pool.release(7)


def test_bounce_memory_ends():
    _, _, pool, trace = machine(bounce_bytes=128)
    run(pool.map([(FAR, 100)], False))
    with pytest.raises(PoolError, match="length must fit the 28 of 128 bytes that are left for bounce buffers, not 29"):
        run(pool.map([(FAR, 29)], False))
    assert len([1 for name, *_ in begun(trace) if name == "BounceMap"]) == 1
    _, _, pool, _ = machine(reserve=4096)
    with pytest.raises(PoolError, match=r"not 100 \(for the bounce buffer, below 0x80001000\)"):
        run(pool.map([(FAR, 100)], False, reach=12))


def test_errors_name_what_is_wrong():
    _, hal, pool, trace = machine()
    with pytest.raises(ArgumentError, match="owner must be one of map-registers, swiotlb, not 'me'"):
        BouncePool(hal, trace, "me")
    with pytest.raises(ArgumentError, match="ranges must name at least one range, not none"):
        run(pool.map([], False))
    with pytest.raises(ArgumentError, match="ranges must be pairs of address and length, not 3"):
        run(pool.map([3], False))
    with pytest.raises(ArgumentError, match="write_to_device must be True or False, not 1"):
        run(pool.map([(FAR, 4)], 1))
    slot = run(pool.map([(FAR, 4)], False))
    with pytest.raises(ArgumentError, match="offset must be an integer from 0 to 3, not 4"):
        run(pool.copy_out(slot, 4, 1))
    with pytest.raises(ArgumentError, match="length must be an integer from 1 to 2, not 3"):
        run(pool.copy_in(slot, 2, 3))
    pool.unmap(slot)
    with pytest.raises(ArgumentError, match="slot must be mapped by this pool, not BounceSlot"):
        pool.unmap(slot)
    with pytest.raises(PlatformError, match=r"HalOptions.bounce must be one of needed, unaligned, always, not 'never'"):
        HalOptions(bounce="never")
    with pytest.raises(PlatformError, match=r"HalOptions.bounce_bytes must be an integer from 0"):
        HalOptions(bounce_bytes=-1)


def test_the_pool_keeps_bounds():
    pool = MemoryPool(BASE, 0x10000)
    assert pool.allocate(64, above=BASE + 0x100) == BASE + 0x100
    assert pool.allocate(64, above=BASE + 0xF0) == BASE + 0x140
    assert pool.allocate(64, below=BASE + 0x40) == BASE
    with pytest.raises(PoolError, match=r"not 128 \(for the buffer, above 0x80000040, below 0x800000a0\)"):
        pool.allocate(128, above=BASE + 0x40, below=BASE + 0xA0)
