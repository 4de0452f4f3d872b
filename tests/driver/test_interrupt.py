# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt service routines and DPCs beside a transfer."""

import pytest

from driver.errors import AdapterError, ArgumentError, BusTimeout, ContextError
from driver.wdk import DISPATCH_LEVEL, DeviceDescription, DeviceObject, IoAllocationAction, Kernel
from driver.wdk.interrupt import STORM_CALLS
from rtl.pio.table import IRQ

from .fake_bus import FakeBus, run

CHANNEL = 1 << IRQ.SYSTEM_CHANNEL
DEVICE = 1 << IRQ.DEVICE
A = 0x8000_0000


async def begin_read(kernel, adapter, device, length):
    """A device-to-memory transfer over the system channel, up to the start."""
    mdl = kernel.io_allocate_mdl(A, length)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    await kernel.ke_flush_io_buffers(mdl, True, True)

    async def adapter_control(device_object, irp, base, context):
        address, size = await adapter.map_transfer(mdl, base, A, length, False)
        async with kernel.start_transfer(adapter, [(address, size)], False):
            await kernel.regs.dev.path.write(channel=0)
            await kernel.regs.dev.length.write(size)
            await kernel.regs.dev.cmd.write(op=1)
        return IoAllocationAction.KEEP_OBJECT

    with kernel.raised(DISPATCH_LEVEL):
        status = await adapter.allocate_adapter_channel(device, 1, adapter_control)
    assert status == 0
    return mdl


def begins(kernel, *names):
    return [r for r in kernel.trace.records if r["phase"] == "begin" and (not names or r["name"] in names)]


def test_a_transfer_ends_in_isr_dpc_and_event():
    bus = FakeBus()
    bus.device[0:64] = bytes(range(64))
    seen = []

    async def story():
        kernel = await Kernel.start(bus)
        device = DeviceObject()
        adapter, _ = kernel.io_get_dma_adapter(device, DeviceDescription())
        assert adapter
        done = kernel.ke_initialize_event(name="the end of the transfer")
        state = {}

        async def isr(interrupt, context):
            assert context == "context" and kernel.ke_get_current_irql() == 5
            seen.append("isr")
            status = await kernel.regs.channel(0).status.read()
            if not status.tc:
                return False
            await kernel.regs.channel(0).status.clear()
            kernel.io_request_dpc(device, None, "from the isr")
            seen.append("isr ends")
            return True

        async def dpc_for_isr(dpc, device_object, irp, context):
            assert device_object is device and context == "from the isr" and kernel.ke_get_current_irql() == DISPATCH_LEVEL
            seen.append("dpc")
            state["flushed"] = await adapter.flush_adapter_buffers(state["mdl"], None, A, 64, False)
            await adapter.free_adapter_channel()
            kernel.ke_set_event(done)
            seen.append("dpc ends")

        kernel.io_initialize_dpc_request(device, dpc_for_isr)
        interrupt = await kernel.io_connect_interrupt(isr, "context", CHANNEL)
        state["mdl"] = await begin_read(kernel, adapter, device, 64)
        await kernel.ke_wait_for_event(done, 10_000)
        seen.append("main")
        assert state["flushed"] is True and interrupt.calls == 1
        assert await kernel.cpu.load(A, 64) == bytes(range(64))
        await kernel.io_disconnect_interrupt(interrupt)
        assert not (await kernel.regs.sys.irq_enable.read()).fields()["enable"] & CHANNEL
        return kernel

    kernel = run(story())
    assert seen == ["isr", "isr ends", "dpc", "dpc ends", "main"]
    numbers = {r["name"]: r["call"] for r in begins(kernel)}
    calls = {r["name"]: r for r in begins(kernel)}
    assert calls["InterruptService"]["role"] == "isr" and calls["InterruptService"]["irql"] == 5
    assert calls["KeInsertQueueDpc"]["parent"] == numbers["InterruptService"]
    flush = calls["FlushAdapterBuffers"]
    assert (flush["parent"], flush["role"], flush["irql"]) == (numbers["DpcRoutine"], "dpc", 2)
    assert calls["KeSetEvent"]["parent"] == numbers["DpcRoutine"]
    wait = calls["KeWaitForSingleObject"]
    assert (wait["parent"], wait["thread"], wait["irql"]) == (None, 0, 0)
    assert calls["InterruptService"]["parent"] is None  # although it ran inside the wait
    assert len({calls[name]["thread"] for name in ("KeWaitForSingleObject", "InterruptService", "DpcRoutine")}) == 3
    begin = calls["KeSetEvent"]["seq"]
    assert wait["seq"] < calls["InterruptService"]["seq"] < flush["seq"] < begin


def test_an_isr_runs_between_two_accesses_and_the_dpc_before_the_thread_goes_on():
    async def story():
        bus = FakeBus()
        kernel = await Kernel.start(bus)
        order = []

        async def isr(interrupt, context):
            await kernel.regs.dev.status.clear()
            order.append("isr")
            kernel.ke_insert_queue_dpc(dpc)
            await kernel.cpu.store(A, b"i")
            order.append("isr")
            return True

        async def routine(dpc, context, one, two):
            for _ in range(2):
                await kernel.cpu.store(A + 64, b"d")
                order.append("dpc")

        dpc = kernel.ke_initialize_dpc(routine)
        await kernel.io_connect_interrupt(isr, None, DEVICE)
        for n in range(6):
            await kernel.cpu.store(A + 128, b"m")
            order.append("main")
            if n == 1:
                bus._set("dev.status", done=1)
                bus._levels_moved.fire()
        return order

    # One access of the thread is on the bus when the line rises.
    assert run(story()) == ["main"] * 3 + ["isr"] * 2 + ["dpc"] * 2 + ["main"] * 3


def test_a_raised_thread_keeps_dpcs_out_and_a_synchronized_one_the_isr():
    async def story():
        bus = FakeBus()
        kernel = await Kernel.start(bus)
        order = []

        async def isr(interrupt, context):
            order.append("isr begins")
            await kernel.regs.dev.status.clear()
            order.append("isr")
            return True

        interrupt = await kernel.io_connect_interrupt(isr, None, DEVICE)
        dpc = kernel.ke_initialize_dpc(lambda *arguments: order.append("dpc"))
        with kernel.raised():
            assert kernel.ke_insert_queue_dpc(dpc) and not kernel.ke_insert_queue_dpc(dpc)
            bus._set("dev.status", done=1)
            bus._levels_moved.fire()
            for _ in range(3):
                await kernel.cpu.store(A, b"m")
                order.append("raised")
        await kernel.cpu.store(A, b"m")
        order.append("main")
        assert order == ["isr begins", "raised", "isr", "raised", "raised", "dpc", "main"]
        order.clear()
        await kernel.ke_delay_execution_thread(20)

        async def critical(context):
            assert kernel.ke_get_current_irql() == 5 and context == 3
            bus._set("dev.status", done=1)
            bus._levels_moved.fire()
            for _ in range(context):
                await kernel.cpu.store(A, b"m")
                order.append("critical")
            return True

        assert await kernel.ke_synchronize_execution(interrupt, critical, 3) is True
        await kernel.cpu.store(A, b"m")
        await kernel.cpu.store(A, b"m")
        assert order == ["critical"] * 3 + ["isr begins", "isr"] and kernel.ke_get_current_irql() == 0

    run(story())


def test_an_interrupt_storm_stops_the_machine_and_says_why():
    async def story():
        bus = FakeBus()
        kernel = await Kernel.start(bus)

        async def lazy_isr(interrupt, context):
            await kernel.regs.dev.status.read()
            return True

        interrupt = await kernel.io_connect_interrupt(lazy_isr, None, DEVICE)
        bus._set("dev.status", done=1)
        bus._levels_moved.fire()
        event = kernel.ke_initialize_event(name="an event that never comes")
        with pytest.raises(ContextError, match=r"interrupt storm: the ISR lazy_isr was called 100 times in a row and its level"):
            await kernel.ke_wait_for_event(event, 1_000_000)
        assert interrupt.calls == STORM_CALLS and bus.now() < 2000
        assert isinstance(kernel.failure, ContextError)
        with pytest.raises(ContextError, match="interrupt storm"):
            await kernel.cpu.load(A, 4)
        (record,) = begins(kernel, "Unhandled")
        assert record["role"] == "isr" and "storm" in record["args"]["error"]

    run(story())


def test_many_interrupts_are_no_storm():
    async def story():
        bus = FakeBus()
        kernel = await Kernel.start(bus)

        async def isr(interrupt, context):
            await kernel.regs.dev.status.clear()
            return True

        interrupt = await kernel.io_connect_interrupt(isr, None, DEVICE)
        for _ in range(2 * STORM_CALLS):
            bus._set("dev.status", done=1)
            bus._levels_moved.fire()
            await kernel.ke_delay_execution_thread(20)
        assert interrupt.calls == 2 * STORM_CALLS and kernel.failure is None

    run(story())


@pytest.mark.parametrize("where", ["isr", "dpc"])
def test_an_exception_stops_the_machine(where):
    async def story():
        kernel = await Kernel.start(bus := FakeBus())

        def routine(*arguments):
            if where == "dpc" and len(arguments) == 2:
                kernel.ke_insert_queue_dpc(dpc)
                bus._set("dev.status", done=0)
                return True
            raise AdapterError(f"wrong in the {where}")

        dpc = kernel.ke_initialize_dpc(routine)
        await kernel.io_connect_interrupt(routine, None, DEVICE)
        bus._set("dev.status", done=1)
        bus._levels_moved.fire()
        with pytest.raises(AdapterError, match=f"wrong in the {where}"):
            await kernel.ke_delay_execution_thread(1000)
        assert bus.now() < 100

    run(story())


def test_bad_arguments_and_a_bad_return():
    async def story():
        kernel = await Kernel.start(bus := FakeBus())
        for arguments, text in (
            (("isr", None, DEVICE), "service_routine must be callable, not 'isr'"),
            ((print, None, 0), "mask must be an integer from 1 to"),
            ((print, None, 1 << IRQ.MAINT), r"mask must leave out the HAL's own lines"),
        ):
            with pytest.raises(ArgumentError, match=text):
                await kernel.io_connect_interrupt(*arguments)
        with pytest.raises(ArgumentError, match="deferred_routine must be callable, not None"):
            kernel.ke_initialize_dpc(None)
        with pytest.raises(ArgumentError, match="IoRequestDpc must follow IoInitializeDpcRequest"):
            kernel.io_request_dpc(DeviceObject(), None)

        def forgetful(interrupt, context):
            pass

        await kernel.io_connect_interrupt(forgetful, None, DEVICE)
        bus._set("dev.status", done=1)
        bus._levels_moved.fire()
        with pytest.raises(ArgumentError, match="the ISR forgetful must return True or False, not None"):
            await kernel.ke_delay_execution_thread(100)

    run(story())


def test_a_disconnected_routine_is_not_called():
    async def story():
        kernel = await Kernel.start(bus := FakeBus())
        interrupt = await kernel.io_connect_interrupt(lambda *arguments: True, None, DEVICE)
        await kernel.io_disconnect_interrupt(interrupt)
        bus._set("dev.status", done=1)
        bus._levels_moved.fire()
        await kernel.ke_delay_execution_thread(100)
        with pytest.raises(BusTimeout):
            await kernel.bus.wait_interrupt(DEVICE, 10, "a disabled line")
        await kernel.hal.enable_interrupts()  # somebody else's use of the line
        await kernel.ke_delay_execution_thread(100)
        assert interrupt.calls == 0
        assert bus.cancel_tasks() == []  # the service is nobody's leak

    run(story())
