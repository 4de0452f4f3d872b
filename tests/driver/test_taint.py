# SPDX-License-Identifier: BSD-2-Clause
"""Values loaded from memory: how far they are followed, what counts as looking, what the log says. The CPU's accesses."""

import json

import pytest

from driver.bus import Attribute
from driver.cpu import Cpu
from driver.errors import ArgumentError, check_integer
from driver.taint import DeviceValue
from driver.trace import Trace

from .fake_bus import FakeBus, run

A = 0x8000_0000


def machine():
    bus = FakeBus()
    trace = Trace(bus.now)
    return bus, trace, Cpu(bus, trace)


def uses(trace):
    return [r["args"] for r in trace.records if r["phase"] == "begin" and r["name"] == "UncheckedUse"]


def loaded(value=100, address=A):
    return DeviceValue.loaded(value, address, 4)


@pytest.mark.parametrize(
    "compute",
    [
        lambda v: v + 1,
        lambda v: 1 + v,
        lambda v: v - 1,
        lambda v: 4096 - v,
        lambda v: 2 * v,
        lambda v: v // 2,
        lambda v: v % 64,
        lambda v: v & 0xFF,
        lambda v: v >> 1 << 1,
        lambda v: -(~v),
        lambda v: divmod(v, 8)[0],
        lambda v: divmod(1000, v)[0],
        lambda v: abs(v) | 1,
    ],
)
def test_arithmetic_keeps_the_origin(compute):
    trace = Trace()
    value = compute(loaded())
    assert isinstance(value, DeviceValue) and not value.checked
    with trace.call("StartTransfer", ranges=[[A + 64, value]]):
        pass
    assert uses(trace) == [{"source": [A, 4], "value": int(value), "call": "StartTransfer", "argument": "ranges"}]
    assert [r["name"] for r in trace.records if r["phase"] == "begin"] == ["UncheckedUse", "StartTransfer"]
    assert json.loads(json.dumps(trace.records)) == trace.records


@pytest.mark.parametrize(
    "look",
    [
        lambda v: v < 5,
        lambda v: 5 >= v,
        lambda v: v == 3,
        lambda v: 3 != v,
        lambda v: min(v, 64),
        lambda v: max(4, v),
        lambda v: (v + 4) > 4096,
        lambda v: v in (1, 2),
    ],
)
def test_a_comparison_clears_all_that_comes_from_the_load(look):
    trace = Trace()
    value = loaded()
    sum_before = value + 7
    look(value)
    assert value.checked and sum_before.checked
    trace.event("StartTransfer", ranges=[[A, sum_before]])
    assert uses(trace) == []


def test_what_does_not_count_as_looking():
    trace = Trace()
    value = loaded()
    assert bool(value) and value & 0xFF and f"{value:#x}" == "0x64"
    check_integer("length", value, 0, 4096)  # the library's check, not the driver's
    assert not value.checked
    trace.event("MapTransfer", offset=0, length=value)
    assert [use["argument"] for use in uses(trace)] == ["length"]


def test_each_load_is_reported_once_and_for_itself():
    trace = Trace()
    one, two = loaded(1, A), loaded(2, A + 4)
    trace.event("KeFlushIoBuffers", mdl={"id": 1, "ranges": [[one, 4 + two]]})
    trace.event("KeFlushIoBuffers", mdl={"id": 1, "ranges": [[one, two]]})
    assert [(use["source"], use["value"]) for use in uses(trace)] == [([A, 4], 1), ([A + 4, 4], 6)]
    three = loaded(3, A + 8)
    mixed = one + three
    assert three < 4 and not mixed.checked  # the other load was never compared


def test_words_are_loaded_and_stored_little_endian():
    bus, trace, cpu = machine()

    async def story():
        await cpu.store(A, bytes(range(8)))
        values = [await load(A) for load in (cpu.load_u8, cpu.load_u16, cpu.load_u32, cpu.load_u64)]
        assert values == [0, 0x0100, 0x03020100, 0x0706050403020100]
        await cpu.store_u32(A + 4, 0xDEADBEEF)
        await cpu.store_u8(A, 0xAB, uncached=True)
        assert await cpu.load_u8(A) == 0 and await cpu.load_u8(A, uncached=True) == 0xAB
        assert await cpu.load(A + 4, 4) == bytes.fromhex("efbeadde")
        assert await cpu.load_uncached(A, 1) == b"\xab" and await cpu.fetch(A, 1) == b"\xab"
        await cpu.store_uncached(A, b"\x01")

    run(story())
    assert {op[3] for op in bus.ops if op[0] == "write"} == {Attribute.CACHED, Attribute.UNCACHED}
    assert trace.records == []


def test_a_pointer_from_memory_is_logged_when_it_is_followed():
    bus, trace, cpu = machine()
    bus.poke(A, (A + 0x100).to_bytes(4, "little"))

    async def story():
        pointer = await cpu.load_u32(A)
        await cpu.load(pointer, 4)
        length = await cpu.load_u32(pointer + 4)
        if length <= 64:
            await cpu.load(A, 1 + length)

    run(story())
    assert uses(trace) == [{"source": [A, 4], "value": A + 0x100, "call": "load", "argument": "address"}]
    assert trace.records[0]["site"][2] == "story"


def test_bad_arguments():
    bus, _, cpu = machine()
    for arguments, text in (
        ((A, 0), "length must be an integer from 1 to"),
        ((-1, 4), "address must be an integer from 0 to 0xffffffff, not -1"),
        ((0xFFFF_FFFE, 4), "length must be an integer from 1 to 2, not 4"),
        (("buffer", 4), "address must be an integer"),
    ):
        with pytest.raises(ArgumentError, match=text):
            run(cpu.load(*arguments))
    with pytest.raises(ArgumentError, match="value must be an integer from 0 to 0xffff, not 0x10000"):
        run(cpu.store_u16(A, 1 << 16))
    assert bus.ops == []
