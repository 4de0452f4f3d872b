# SPDX-License-Identifier: BSD-2-Clause
"""Cache maintenance by address: commands, order of the register accesses, log, errors."""

import asyncio

import pytest

from driver.bus import BusTimeout
from driver.errors import ArgumentError, MaintenanceError
from driver.maintenance import Op, Target
from driver.platform import HalOptions
from driver.wdk import Kernel
from rtl.pio.table import IRQ

from .fake_bus import FakeBus, run

A = 0x8000_1000


def kernel(bus, **beliefs):
    made = run(Kernel.start(bus, **beliefs))
    bus.ops.clear()
    return made


def test_one_range_command_is_exactly_these_accesses():
    bus = FakeBus()
    k = kernel(bus)
    run(k.maintenance.range(Op.CLEAN_INVALIDATE, A + 3, 70, Target.BOTH))
    assert bus.ops == [
        ("w32", "maint.status", 0b1110),
        ("w32", "maint.start", A + 3),
        ("w32", "maint.length", 70),
        ("w32", "maint.cmd", 3 | 1 << 2 | 3 << 4),
        ("wait", 1 << IRQ.MAINT),
        ("r32", "maint.status"),
        ("w32", "maint.status", 0b1110),
    ]
    begin, end = k.trace.records
    assert (begin["name"], begin["phase"], end["phase"]) == ("CacheMaintenance", "begin", "end")
    assert begin["args"] == {"op": "clean+invalidate", "target": "both", "ranges": [[A + 3, 70]], "requested_by": "driver"}
    assert end["result"] is None and end["error"] is None


def test_line_and_everything():
    bus = FakeBus()
    k = kernel(bus)
    run(k.maintenance.line(Op.CLEAN, A + 5))
    assert ("w32", "maint.cmd", 1 | 0 << 2 | 1 << 4) in bus.ops and "maint.length" not in bus.writes()
    bus.ops.clear()
    run(k.maintenance.everything(Op.INVALIDATE, Target.I))
    assert ("w32", "maint.cmd", 2 | 2 << 2 | 2 << 4) in bus.ops and "maint.start" not in bus.writes()
    assert [r["args"]["ranges"] for r in k.trace.records if r["phase"] == "begin"] == [[[A + 5, 1]], None]


def test_line_loop_steps_by_the_assumed_line():
    bus = FakeBus(line=32)
    k = kernel(bus)
    run(k.maintenance.by_lines(Op.CLEAN, A + 30, 35))
    assert [op[2] for op in bus.ops if op[:2] == ("w32", "maint.start")] == [A, A + 32, A + 64]
    bus.ops.clear()
    run(k.maintenance.by_lines(Op.CLEAN, A + 30, 35, line_bytes=64))
    assert [op[2] for op in bus.ops if op[:2] == ("w32", "maint.start")] == [A, A + 64]


def test_clean_invalidate_do_what_they_say():
    bus = FakeBus()
    k = kernel(bus)

    async def story():
        await bus.write(A, b"new bytes")
        await k.maintenance.range(Op.INVALIDATE, A, 1)
        assert await bus.read(A, 9) == bytes(9)
        await bus.write(A, b"new bytes")
        await k.maintenance.range(Op.CLEAN, A, 1)
        assert bus.peek(A, 9) == b"new bytes" and A in bus.dcache
        await k.maintenance.everything(Op.CLEAN_INVALIDATE)
        assert not bus.dcache

    run(story())


def test_a_bus_error_on_a_write_back_is_an_exception_with_its_line():
    bus = FakeBus()
    k = kernel(bus)
    bus.maintenance_faults = ["error"]
    bus.regs["dcache.error_status"], bus.regs["dcache.error_addr"] = 2, A
    with pytest.raises(MaintenanceError, match=r"clean at 0x80001000\) got a bus error .* line at 0x80001000") as caught:
        run(k.maintenance.range(Op.CLEAN, A, 64))
    assert caught.value.address == A
    assert k.trace.records[-1]["error"].startswith("MaintenanceError")


def test_a_unit_that_never_finishes_is_aborted():
    bus = FakeBus()
    k = kernel(bus, options=HalOptions(maintenance_limit=77))
    bus.maintenance_faults = ["hang"]
    with pytest.raises(BusTimeout, match="gave up after 77 cycles waiting for cache maintenance"):
        run(k.maintenance.range(Op.CLEAN, A, 64))
    assert bus.ops[-1] == ("w32", "maint.cmd", 1 << 8)


def test_two_coroutines_take_turns():
    bus = FakeBus()
    k = kernel(bus)
    waits = 0

    async def story():
        nonlocal waits
        original = bus.wait_interrupt

        async def slow(*args):
            nonlocal waits
            waits += 1
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return await original(*args)

        bus.wait_interrupt = slow
        await asyncio.gather(k.maintenance.range(Op.CLEAN, A, 8), k.maintenance.range(Op.INVALIDATE, A + 64, 8))

    run(story())
    names = [op[1] for op in bus.ops if op[0] == "w32"]
    assert waits == 2 and names == ["maint.status", "maint.start", "maint.length", "maint.cmd", "maint.status"] * 2


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda m: m.range(Op.CLEAN, A, 0), "length must be an integer from 1 to"),
        (lambda m: m.range(Op.CLEAN, -4, 4), "address must be an integer from 0 to 0xffffffff, not -4"),
        (lambda m: m.range("clean", A, 4), "op must be an Op, not 'clean'"),
        (lambda m: m.range(Op.CLEAN, A, 4, "d"), "target must be a Target, not 'd'"),
        (lambda m: m.run(Op.CLEAN, [A]), "ranges must be pairs of address and length"),
        (lambda m: m.run(Op.CLEAN, None, requested_by="me"), "requested_by must be 'driver' or 'hal', not 'me'"),
        (lambda m: m.by_lines(Op.CLEAN, A, 4, line_bytes=0), "line_bytes must be an integer from 1 to 0x1000, not 0"),
    ],
)
def test_bad_arguments_reach_no_register(call, text):
    bus = FakeBus()
    k = kernel(bus)
    with pytest.raises(ArgumentError, match=text):
        run(call(k.maintenance))
    assert bus.ops == [] and k.trace.records == []
