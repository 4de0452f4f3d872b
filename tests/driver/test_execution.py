# SPDX-License-Identifier: BSD-2-Clause
"""Execution contexts: the running one, tasks, and what the call log says about who called."""

import asyncio

import pytest

from driver.bus import Bus, FlushpointError
from driver.execution import current, in_context
from driver.trace import Trace

from .fake_bus import FakeBus, run


def test_the_context_is_set_around_every_step():
    trace = Trace()
    seen = []

    async def routine(context):
        for _ in range(2):
            seen.append(current() is context)
            await asyncio.sleep(1)
        return current() is context

    async def story():
        isr, dpc = trace.new_context("isr", 5), trace.new_context("dpc", 2)
        assert current() is None and trace.context is trace.main
        results = await asyncio.gather(in_context(isr, routine(isr)), in_context(dpc, routine(dpc)))
        assert current() is None
        return results

    assert run(story()) == [True, True] and seen == [True] * 4


def test_results_exceptions_and_cancellation_pass_through():
    trace = Trace()
    ended = []

    async def fails():
        try:
            await asyncio.sleep(1)
            raise KeyError("inside")
        except KeyError:
            ended.append(current().number)
            raise

    async def sleeps():
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(current().number)

    async def story():
        with pytest.raises(KeyError, match="inside"):
            await in_context(trace.new_context("isr", 5), fails())

        async def outer():
            await in_context(trace.new_context("dpc", 2), sleeps())

        task = asyncio.create_task(outer())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert current() is None

    run(story())
    assert ended == [1, 2]


def test_calls_of_two_contexts_nest_by_context_not_by_order():
    async def story():
        bus = FakeBus()
        trace = Trace(bus.now)

        async def routine(name, cycles):
            with trace.call(name):
                await bus.delay(cycles)
                with trace.call(name + "Inner"):
                    await bus.delay(cycles)

        one = trace.new_context("isr", 5)
        task = bus.spawn(in_context(one, routine("Isr", 3)))
        await routine("Main", 4)
        await task.join()
        return trace.records

    records = run(story())
    assert [(r["cycle"], r["phase"], r["name"]) for r in records] == [
        (0, "begin", "Main"),
        (0, "begin", "Isr"),
        (3, "begin", "IsrInner"),
        (4, "begin", "MainInner"),
        (6, "end", "IsrInner"),
        (6, "end", "Isr"),
        (8, "end", "MainInner"),
        (8, "end", "Main"),
    ]
    begins = {r["name"]: (r["parent"], r["thread"], r["role"], r["irql"]) for r in records if r["phase"] == "begin"}
    numbers = {r["name"]: r["call"] for r in records}
    assert begins == {
        "Main": (None, 0, "thread", None),
        "MainInner": (numbers["Main"], 0, "thread", None),
        "Isr": (None, 1, "isr", 5),
        "IsrInner": (numbers["Isr"], 1, "isr", 5),
    }


def test_a_routine_called_inside_a_call_acts_under_its_own_role():
    trace = Trace()
    trace.main.irql = 0
    with trace.call("AllocateAdapterChannel"), trace.context.acting("adapter-control", 2):
        trace.event("MapTransfer")
        with trace.context.acting("list-control", 0):  # never below the level there is
            trace.event("Inner")
    trace.event("After")
    begins = [r for r in trace.records if r["phase"] == "begin"]
    assert [(r["name"], r["parent"], r["thread"], r["role"], r["irql"]) for r in begins] == [
        ("AllocateAdapterChannel", None, 0, "thread", 0),
        ("MapTransfer", 1, 0, "adapter-control", 2),
        ("Inner", 1, 0, "list-control", 2),
        ("After", None, 0, "thread", 0),
    ]


def test_a_spawned_tasks_result_and_error_wait_for_join():
    async def story():
        bus = FakeBus()
        assert isinstance(bus, Bus)

        async def good():
            await bus.delay(10)
            return bus.now()

        async def bad():
            await bus.delay(5)
            raise KeyError("gone wrong")

        one, two = bus.spawn(good()), bus.spawn(bad(), "the bad one")
        await bus.delay(20)
        assert one.done and two.done
        assert [await one.join(), await one.join()] == [10, 10]
        for _ in range(2):
            with pytest.raises(KeyError, match="gone wrong"):
                await two.join()
        late = bus.spawn(good())
        assert not late.done
        assert await late.join() == 30

    run(story())


def test_cancelled_tasks_say_so_and_are_reported():
    async def story():
        bus = FakeBus()

        async def forever():
            while True:
                await bus.delay(1000)

        tasks = [bus.spawn(forever(), "the poller"), bus.spawn(forever(), "the service", service=True), bus.spawn(bus.delay(1))]
        await bus.delay(10)
        assert bus.cancel_tasks() == ["the poller"] and bus.cancel_tasks() == []
        with pytest.raises(FlushpointError, match="the poller was cancelled before its end"):
            await tasks[0].join()
        never = bus.spawn(forever(), "never started")
        never.cancel()
        with pytest.raises(FlushpointError, match="never started was cancelled"):
            await never.join()

    run(story())


def test_a_signal_has_no_memory_and_a_limit():
    async def story():
        bus = FakeBus()
        signal = bus.signal()
        signal.fire()
        assert await signal.wait(25) is False and bus.now() == 25

        async def fire():
            await bus.delay(7)
            signal.fire()

        task = bus.spawn(fire())
        assert await signal.wait(100) is True and bus.now() == 32
        await task.join()

    run(story())
