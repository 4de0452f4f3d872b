# SPDX-License-Identifier: BSD-2-Clause
"""One CPU: who gets the bus when. Every access of the fake machine costs one cycle."""

import asyncio

import pytest

from driver import processor as module
from driver.bus import Bus
from driver.errors import ContextError, IrqlError
from driver.processor import Processor
from driver.serial import Serial
from driver.trace import Trace

from .fake_bus import FakeBus, run

A = 0x8000_0000


class Machine:
    """A processor on a fake bus. ``order`` lists who made each access, with its cycle."""

    def __init__(self):
        self.raw = FakeBus()
        self.trace = Trace(self.raw.now)
        self.trace.main.irql = 0
        self.cpu = Processor(self.raw, self.trace)
        self.bus = self.cpu.bus
        self.order = []

    async def accesses(self, name, count, then=None):
        for n in range(count):
            await self.bus.write(A + 64 * n, b"x")
            self.order.append((name, self.raw.now()))
        if then is not None:
            then()

    def start(self, name, irql, count, role="thread"):
        context = self.trace.new_context(role, irql, name)
        return self.cpu.spawn(self.accesses(name, count), context)

    def names(self):
        return " ".join(name for name, _ in self.order)


def test_it_is_a_bus_and_costs_nothing_alone():
    async def story():
        m = Machine()
        assert isinstance(m.bus, Bus)
        await m.bus.write(A, b"abcd")
        assert await m.bus.read(A, 4) == b"abcd" and await m.bus.fetch(A, 2) == b"\0\0"
        await m.bus.write32(0x1000_0000, 0)
        assert m.bus.now() == 4 and m.bus.poke and m.raw.ops == m.bus.ops

    run(story())


def test_a_higher_context_preempts_from_one_access_to_the_next():
    async def story():
        m = Machine()

        async def interrupt():
            await m.raw.delay(3)
            await m.start("isr", 5, 3, "isr").join()

        m.raw.spawn(interrupt())
        await m.accesses("main", 6)
        return m.order

    # The fourth access began in the cycle in which the interrupt came, and ends; then the ISR has the bus to itself.
    order = ["main"] * 4 + ["isr"] * 3 + ["main"] * 2
    assert run(story()) == [(name, n) for n, name in enumerate(order, 1)]


def test_levels_nest():
    async def story():
        m = Machine()

        async def later(cycles, name, irql, count):
            await m.raw.delay(cycles)
            await m.start(name, irql, count).join()

        m.raw.spawn(later(2, "dpc", 2, 5))
        m.raw.spawn(later(4, "isr", 5, 2))
        await m.accesses("main", 4)
        return m.names()

    assert run(story()) == "main main main dpc dpc isr isr dpc dpc dpc main"


def test_threads_take_turns():
    async def story():
        m = Machine()
        tasks = [m.start("a", 0, 3), m.start("b", 0, 3)]
        await m.accesses("main", 3)
        for task in tasks:
            await task.join()
        return m.names()

    assert run(story()) == "main a b main a b main a b"


def test_from_dispatch_level_on_the_first_holds_the_cpu():
    async def story():
        m = Machine()
        tasks = [m.start("a", 2, 3), m.start("b", 2, 3), m.start("thread", 1, 2)]
        await m.accesses("main", 2)
        for task in tasks:
            await task.join()
        return m.names()

    assert run(story()) == "main a a a b b b thread thread main"


def test_raising_and_lowering_moves_the_others():
    async def story():
        m = Machine()
        context = m.trace.main
        context.irql = 2
        dpc = m.start("dpc", 2, 2)
        await m.accesses("main", 3)
        context.irql = 0
        await m.accesses("main", 1)
        await dpc.join()
        return m.names()

    assert run(story()) == "main main main dpc dpc main"


def test_delivered_routines_run_in_order_before_anybody_lower():
    async def story():
        m = Machine()
        await m.accesses("main", 1)
        dpcs = [m.cpu.deliver(m.accesses(f"dpc{n}", 2), m.trace.new_context("dpc", 2, f"dpc{n}")) for n in range(3)]
        await m.accesses("main", 2)
        assert all(dpc.done for dpc in dpcs)
        return m.names()

    assert run(story()) == "main dpc0 dpc0 dpc1 dpc1 dpc2 dpc2 main main"


def test_of_two_routines_the_higher_begins_first():
    async def story():
        m = Machine()
        began = []

        async def routine(name):
            began.append(name)
            await m.accesses(name, 1)

        m.cpu.deliver(routine("dpc"), m.trace.new_context("dpc", 2))
        m.cpu.deliver(routine("isr"), m.trace.new_context("isr", 5))
        await m.accesses("main", 1)
        return began, m.names()

    assert run(story()) == (["isr", "dpc"], "isr dpc main")


def test_a_delivered_routine_waits_for_the_level_to_fall():
    async def story():
        m = Machine()
        m.trace.main.irql = 2
        m.cpu.deliver(m.accesses("dpc", 2), m.trace.new_context("dpc", 2, "dpc"))
        await m.accesses("main", 3)
        m.trace.main.irql = 0
        await m.accesses("main", 1)
        return m.names()

    assert run(story()) == "main main main dpc dpc main"


def test_a_sleeping_context_does_not_hold_the_cpu():
    async def story():
        m = Machine()
        signal = m.raw.signal()

        async def sleeper():
            assert await m.cpu.sleep(signal, 1000)
            await m.accesses("sleeper", 2)

        task = m.cpu.spawn(sleeper(), m.trace.new_context("thread", 1, "sleeper"))
        await m.accesses("main", 3, signal.fire)
        await m.accesses("main", 1)
        await task.join()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(m.cpu.sleep(signal, 1000), 10)
        before = m.raw.now()
        assert await m.cpu.sleep(signal, 7) is False and m.raw.now() == before + 7
        return m.names()

    assert run(story()) == "main main main main sleeper sleeper"


def test_a_failure_reaches_every_context_and_is_logged_with_its_own():
    async def story():
        m = Machine()

        async def bad():
            await m.accesses("dpc", 1)
            raise ValueError("broken")

        m.cpu.deliver(bad(), m.trace.new_context("dpc", 2, "the DPC bad"))
        waiting = m.cpu.spawn(m.cpu.sleep(m.raw.signal(), 10_000), m.trace.new_context("thread", 0, "waiter"))
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                await m.accesses("main", 10)
        for wait in (m.bus.wait_interrupt(1, 10, "x"), m.bus.delay(3), waiting.join()):
            with pytest.raises(ValueError, match="broken"):
                await wait
        assert m.raw.now() < 10
        (record,) = [r for r in m.trace.records if r["phase"] == "begin"]
        return record

    record = run(story())
    assert (record["name"], record["role"], record["irql"]) == ("Unhandled", "dpc", 2)
    assert record["args"]["error"] == "ValueError: broken" and any("raise ValueError" in t for t in record["args"]["traceback"])


def test_a_wait_for_an_interrupt_that_a_failure_prevented_says_the_failure():
    async def story():
        m = Machine()

        async def bad():
            await m.raw.delay(5)
            raise ValueError("broken")

        m.cpu.deliver(bad(), m.trace.new_context("dpc", 2))
        with pytest.raises(ValueError, match="broken"):
            await m.bus.wait_interrupt(1, 50, "terminal count")

    run(story())


def test_a_routine_must_return_at_its_level():
    async def story():
        m = Machine()

        async def raises_and_forgets():
            m.trace.context.irql = 7

        context = m.trace.new_context("dpc", 2, "the DPC careless")
        m.cpu.deliver(raises_and_forgets(), context)
        with pytest.raises(
            IrqlError, match=r"the DPC careless must return at the IRQL it was called at \(DISPATCH_LEVEL\), not at DIRQL 7"
        ):
            await m.accesses("main", 3)
        assert context.irql == 2

    run(story())


def test_who_keeps_the_cpu_is_named(monkeypatch):
    monkeypatch.setattr(module, "HOLD_LIMIT", 1000)

    async def story():
        m = Machine()

        async def endless():
            while True:
                await m.bus.delay(100)

        m.cpu.deliver(endless(), m.trace.new_context("dpc", 2, "the DPC endless"))
        text = "the driver's main coroutine must get an access to the bus: .* the DPC endless held the CPU for 1000 cycles"
        with pytest.raises(ContextError, match=text):
            await m.bus.read(A, 1)
        with pytest.raises(ContextError, match="the CPU must fall below DISPATCH_LEVEL: the DPC endless held the CPU for 1000"):
            await m.cpu.below(2)
        assert m.raw.now() == 2000

    run(story())


def test_the_hals_units_are_spin_locks():
    async def story():
        m = Machine()
        unit = Serial(m.bus, "the maintenance unit")

        async def use(name, count):
            async with unit:
                assert m.trace.context.irql >= 2
                await m.accesses(name, count)

        async def later():
            await m.raw.delay(2)
            m.cpu.deliver(use("dpc", 1), m.trace.new_context("dpc", 2, "the DPC"))

        m.raw.spawn(later())
        await use("main", 4)
        assert m.trace.main.irql == 0
        await m.accesses("main", 1)
        assert m.names() == "main main main main dpc main"

        async def isr():
            await m.raw.delay(2)
            m.cpu.deliver(use("isr", 1), m.trace.new_context("isr", 5, "the ISR hasty"))

        m.raw.spawn(isr())
        with pytest.raises(ContextError, match=r"the ISR hasty must not use the maintenance unit that .* is using, which it has"):
            await use("main", 10)

    run(story())


def test_an_interrupted_context_takes_no_lock():
    async def story():
        m = Machine()
        unit = Serial(m.bus, "the maintenance unit")

        async def dpc():
            await m.accesses("dpc", 2)
            async with unit:
                await m.accesses("dpc", 1)

        m.cpu.deliver(dpc(), m.trace.new_context("dpc", 2, "the DPC"))
        await m.raw.delay(1)  # the DPC is in the middle of its accesses
        async with unit:
            await m.accesses("main", 1)
        return m.names()

    assert run(story()) == "dpc dpc dpc main"


def test_a_cancelled_wait_for_the_bus_leaves_nothing_behind():
    async def story():
        m = Machine()
        isr = m.start("isr", 5, 5)
        task = m.raw.spawn(m.accesses("other", 3), "other")
        await m.raw.delay(2)
        task.cancel()
        await m.accesses("main", 2)
        await isr.join()
        return m.names()

    assert run(story()) == "isr isr isr isr isr main main"
