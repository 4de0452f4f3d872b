# SPDX-License-Identifier: BSD-2-Clause
"""IRQL, spin locks, events, threads; StartIo and cancel. What would hang a machine is an error here."""

import pytest

from driver.errors import ArgumentError, BusTimeout, ContextError, IrpError, IrqlError
from driver.wdk import (
    APC_LEVEL,
    DIRQL,
    DISPATCH_LEVEL,
    NTSTATUS,
    PASSIVE_LEVEL,
    DeviceObject,
    EventType,
    Kernel,
    MajorFunction,
)
from driver.wdk.dma_adapter_v3 import DmaAdapterV3
from driver.wdk.irql import IRQL_TABLE
from sim.checker.irql import LEVELS

from .fake_bus import FakeBus, run

A = 0x8000_0000


def kernel_story(story):
    """Runs ``story(kernel, bus)``."""

    async def outer():
        bus = FakeBus()
        return await story(await Kernel.start(bus), bus)

    return run(outer())


def irqls(kernel):
    return [(r["name"], r["irql"]) for r in kernel.trace.records if r["phase"] == "begin"]


# -- IRQL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, lowest, highest, page",
    [
        ("KeFlushIoBuffers", PASSIVE_LEVEL, DISPATCH_LEVEL, "KeFlushIoBuffers function (wdm.h)"),
        ("AllocateAdapterChannel", DISPATCH_LEVEL, DISPATCH_LEVEL, "PALLOCATE_ADAPTER_CHANNEL"),
        ("FlushAdapterBuffersEx", PASSIVE_LEVEL, DISPATCH_LEVEL, "PFLUSH_ADAPTER_BUFFERS_EX"),
        ("GetDmaAlignment", PASSIVE_LEVEL, PASSIVE_LEVEL, "PGET_DMA_ALIGNMENT"),
        ("KeWaitForSingleObject", PASSIVE_LEVEL, APC_LEVEL, "KeWaitForSingleObject function (wdm.h)"),
    ],
)
def test_the_irql_table(name, lowest, highest, page):
    rule = IRQL_TABLE[name]
    assert (rule.lowest, rule.highest, rule.page) == (lowest, highest, page)
    assert rule.allows(lowest) and rule.allows(highest) and not rule.allows(highest + 1)


def test_driver_and_checker_have_read_the_same_pages():
    for name in IRQL_TABLE.keys() & LEVELS.keys():
        assert (IRQL_TABLE[name].lowest, IRQL_TABLE[name].highest) == LEVELS[name], name


def test_every_call_of_the_table_exists():
    for name in IRQL_TABLE:
        snake = "".join("_" + c.lower() if c.isupper() and n else c.lower() for n, c in enumerate(name))
        assert hasattr(Kernel, snake) or hasattr(DmaAdapterV3, snake), snake


def test_raising_and_lowering():
    async def story(kernel, bus):
        assert kernel.ke_get_current_irql() == PASSIVE_LEVEL
        old = kernel.ke_raise_irql(DISPATCH_LEVEL)
        inner = kernel.ke_raise_irql(DIRQL)
        assert (old, inner) == (PASSIVE_LEVEL, DISPATCH_LEVEL) and kernel.ke_get_current_irql() == DIRQL
        kernel.trace.event("High")
        with pytest.raises(
            IrqlError, match=r"KeRaiseIrql: new_irql must be the present IRQL \(DIRQL 5\) or above, not APC_LEVEL"
        ):
            kernel.ke_raise_irql(APC_LEVEL)
        kernel.ke_lower_irql(inner)
        with pytest.raises(IrqlError, match=r"KeLowerIrql: .* the present IRQL \(DISPATCH_LEVEL\) or below, not DIRQL 5"):
            kernel.ke_lower_irql(DIRQL)
        kernel.ke_lower_irql(old)
        with kernel.raised():
            kernel.trace.event("Raised")
        kernel.trace.event("Low")
        assert irqls(kernel) == [("High", 5), ("Raised", 2), ("Low", 0)]
        with pytest.raises(ArgumentError, match="new_irql must be an integer from 0 to 31, not 32"):
            kernel.ke_raise_irql(32)

    kernel_story(story)


def test_a_dpc_must_not_lower_below_its_level():
    async def story(kernel, bus):
        def routine(*arguments):
            kernel.ke_lower_irql(PASSIVE_LEVEL)

        kernel.ke_insert_queue_dpc(kernel.ke_initialize_dpc(routine))
        text = r"must not be below the IRQL that the routine \(the DPC routine, dpc\) was called at \(DISPATCH_LEVEL\)"
        with pytest.raises(IrqlError, match=text):
            await kernel.cpu.load(A, 1)

    kernel_story(story)


def test_spin_locks():
    async def story(kernel, bus):
        lock = kernel.ke_initialize_spin_lock("device lock")
        old = await kernel.ke_acquire_spin_lock(lock)
        assert kernel.ke_get_current_irql() == DISPATCH_LEVEL
        with pytest.raises(ContextError, match="the device lock is held by the driver's main coroutine already: a deadlock"):
            await kernel.ke_acquire_spin_lock(lock)
        kernel.ke_release_spin_lock(lock, old)
        assert kernel.ke_get_current_irql() == PASSIVE_LEVEL
        with pytest.raises(ContextError, match="the device lock must be held by the driver's main coroutine to be released"):
            kernel.ke_release_spin_lock(lock, old)
        order = []

        async def thread():
            mine = await kernel.ke_acquire_spin_lock(lock)
            order.append("thread")
            kernel.ke_release_spin_lock(lock, mine)

        old = await kernel.ke_acquire_spin_lock(lock)
        other = kernel.ps_create_system_thread(thread())
        for _ in range(3):
            await kernel.cpu.load(A, 1)
        order.append("main")
        kernel.ke_release_spin_lock(lock, old)
        await other.join()
        assert order == ["main", "thread"]

    kernel_story(story)


# -- waits ------------------------------------------------------------------------------------------------------------


def test_events_of_both_kinds():
    async def story(kernel, bus):
        once = kernel.ke_initialize_event(EventType.SYNCHRONIZATION, True)
        stays = kernel.ke_initialize_event(EventType.NOTIFICATION, name="the door")
        assert await kernel.ke_wait_for_single_object(once, 0) == NTSTATUS.STATUS_SUCCESS
        assert await kernel.ke_wait_for_single_object(once, 0) == NTSTATUS.STATUS_TIMEOUT
        assert kernel.ke_set_event(stays) is False and kernel.ke_set_event(stays) is True
        for _ in range(2):
            await kernel.ke_wait_for_event(stays, 1)
        kernel.ke_clear_event(stays)
        before = bus.now()
        with pytest.raises(BusTimeout, match="gave up after 500 cycles waiting for the door to be set"):
            await kernel.ke_wait_for_event(stays, 500)
        assert bus.now() == before + 500

    kernel_story(story)


def test_one_synchronization_event_wakes_one_thread():
    async def story(kernel, bus):
        event = kernel.ke_initialize_event(EventType.SYNCHRONIZATION, name="a ticket")
        woken = []

        async def thread(n):
            await kernel.ke_wait_for_event(event, 1000)
            woken.append(n)

        threads = [kernel.ps_create_system_thread(thread(n), f"thread {n}") for n in range(2)]
        await kernel.ke_delay_execution_thread(10)
        kernel.ke_set_event(event)
        await threads[0].join()
        assert woken == [0]
        with pytest.raises(BusTimeout, match="a ticket"):
            await threads[1].join()

    kernel_story(story)


def test_joining_a_thread_is_a_wait():
    async def story(kernel, bus):
        async def forever():
            while True:
                await kernel.ke_delay_execution_thread(100)

        thread = kernel.ps_create_system_thread(forever(), "the poller")
        with kernel.raised():
            text = r"a wait for the poller must be at APC_LEVEL or below, not at DISPATCH_LEVEL \(thread\)"
            with pytest.raises(IrqlError, match=text):
                await thread.join()
        before = bus.now()
        with pytest.raises(BusTimeout, match="gave up after 5000 cycles waiting for the poller to end"):
            await thread.join(5000)
        assert bus.now() == before + 5000 and not thread.done
        thread.cancel()
        assert thread.done
        plain = bus.spawn(bus.delay(1000), "the delay")
        with pytest.raises(BusTimeout, match="gave up after 10 cycles waiting for the delay to end"):
            await plain.join(10)
        await plain.join()

    kernel_story(story)


@pytest.mark.parametrize("level, name", [(DISPATCH_LEVEL, "DISPATCH_LEVEL"), (DIRQL, "DIRQL 5")])
def test_a_wait_at_dispatch_level_is_an_error_not_a_hang(level, name):
    async def story(kernel, bus):
        event = kernel.ke_initialize_event(name="the end")
        with kernel.raised(level):
            text = f"KeWaitForSingleObject must be called at APC_LEVEL or below to wait for the end, not at {name}"
            for wait in (kernel.ke_wait_for_event(event, 100), kernel.ke_wait_for_single_object(event, 100)):
                with pytest.raises(IrqlError, match=text):
                    await wait
            with pytest.raises(IrqlError, match=f"KeDelayExecutionThread must be .* to wait 7 cycles, not at {name}"):
                await kernel.ke_delay_execution_thread(7)
            assert await kernel.ke_wait_for_single_object(event, 0) == NTSTATUS.STATUS_TIMEOUT
            await kernel.ke_stall_execution_processor(7)
        ends = [r for r in kernel.trace.records if r["phase"] == "end"]
        assert ends[0]["error"].startswith("IrqlError: KeWaitForSingleObject") and bus.now() < 20

    kernel_story(story)


def test_other_wrong_levels_go_on_and_are_logged():
    async def story(kernel, bus):
        mdl = kernel.io_allocate_mdl(A, 64)
        kernel.mm_build_mdl_for_non_paged_pool(mdl)
        with kernel.raised(DIRQL):
            await kernel.ke_flush_io_buffers(mdl, False, True)
        flush = next(r for r in kernel.trace.records if r["name"] == "KeFlushIoBuffers")
        assert flush["irql"] == DIRQL and not IRQL_TABLE["KeFlushIoBuffers"].allows(flush["irql"])

    kernel_story(story)


def test_bad_arguments():
    async def story(kernel, bus):
        event = kernel.ke_initialize_event()
        for limit in (0, -1, 1.5):
            with pytest.raises(ArgumentError, match="limit must be an integer from 1 to"):
                await kernel.ke_wait_for_event(event, limit)
        with pytest.raises(ArgumentError, match="event must be a KEvent, not None"):
            kernel.ke_set_event(None)
        with pytest.raises(ArgumentError, match="start_routine must be a coroutine, not"):
            kernel.ps_create_system_thread(test_bad_arguments)
        with pytest.raises(ArgumentError, match="cycles must be an integer from 1"):
            await kernel.ke_delay_execution_thread(0)

    kernel_story(story)


# -- StartIo ----------------------------------------------------------------------------------------------------------


def request(kernel):
    mdl = kernel.io_allocate_mdl(A, 64)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    return kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)


def test_start_io_serves_one_request_after_the_other():
    async def story(kernel, bus):
        served = []

        async def start_io(device_object, irp):
            assert kernel.ke_get_current_irql() == DISPATCH_LEVEL and device_object.current_irp is irp
            served.append(irp.id)
            await kernel.cpu.load(A, 4)

        async def finish(dpc, device_object, irp, context):
            irp = device_object.current_irp
            irp.io_status.status, irp.io_status.information = NTSTATUS.STATUS_SUCCESS, 4
            kernel.io_complete_request(irp)
            await kernel.io_start_next_packet(device_object)

        device = DeviceObject(start_io=start_io)
        kernel.io_initialize_dpc_request(device, finish)
        one, two = request(kernel), request(kernel)
        await kernel.io_start_packet(device, one)
        await kernel.io_start_packet(device, two)
        assert served == [one.id] and device.busy and device.queue == [two]
        kernel.io_request_dpc(device, None)
        await kernel.cpu.load(A, 1)
        assert served == [one.id, two.id] and one.completed and not two.completed and device.current_irp is two
        kernel.io_request_dpc(device, None)
        await kernel.cpu.load(A, 1)
        assert two.completed and not device.busy and device.current_irp is None
        starts = [r for r in kernel.trace.records if r["phase"] == "begin" and r["name"] == "StartIo"]
        assert [(r["role"], r["irql"], r["thread"]) for r in starts] == [("thread", 2, 0), ("dpc", 2, 1)]
        assert starts[0]["parent"] and starts[1]["parent"]
        with pytest.raises(IrpError, match=r"device_object.start_io must be the driver's StartIo routine, not None"):
            await kernel.io_start_packet(DeviceObject(), request(kernel))

    kernel_story(story)


# -- cancel -----------------------------------------------------------------------------------------------------------


def test_a_cancel_routine_completes_the_request_beside_the_transfer():
    async def story(kernel, bus):
        def on_cancel(device_object, irp):
            assert kernel.trace.context.role == "cancel" and kernel.ke_get_current_irql() == DISPATCH_LEVEL
            kernel.io_release_cancel_spin_lock(irp.cancel_irql)
            assert kernel.ke_get_current_irql() == PASSIVE_LEVEL
            irp.io_status.status = NTSTATUS.STATUS_CANCELLED
            kernel.io_complete_request(irp)

        irp = request(kernel)
        assert kernel.io_set_cancel_routine(irp, on_cancel) is None
        with pytest.raises(IrpError, match=r"irp.cancel_routine must be taken back"):
            irp.io_status.status = NTSTATUS.STATUS_SUCCESS
            kernel.io_complete_request(irp)

        async def canceller():
            return await kernel.io_cancel_irp(irp)

        thread = kernel.ps_create_system_thread(canceller(), "the canceller")
        await kernel.cpu.load(A, 64)
        assert await thread.join() is True
        assert irp.cancel and irp.completed and irp.io_status.status == NTSTATUS.STATUS_CANCELLED
        done = [r for r in kernel.trace.records if r["phase"] == "begin" and r["name"] == "IoCompleteRequest"][-1]
        assert (done["role"], done["irql"], done["thread"]) == ("cancel", 0, 1)
        assert await kernel.io_cancel_irp(irp) is False

    kernel_story(story)


def test_a_cancel_routine_must_give_the_lock_back():
    async def story(kernel, bus):
        irp = request(kernel)
        kernel.io_set_cancel_routine(irp, lambda device_object, irp: None)
        with pytest.raises(IrpError, match="must give the cancel spin lock back"):
            await kernel.io_cancel_irp(irp)
        assert kernel.ke_get_current_irql() == PASSIVE_LEVEL
        with pytest.raises(IrpError, match="IoReleaseCancelSpinLock must be called by a cancel routine that holds the lock"):
            kernel.io_release_cancel_spin_lock(0)

    kernel_story(story)


# -- PIO in StartIo and in a DPC ----------------------------------------------------------------------------------------


def test_pio_in_start_io_and_in_a_dpc():
    async def story(kernel, bus):
        bus.device[0:64] = bytes(range(64))
        port = kernel.regs.dev.pio_data.address

        async def start_io(device_object, irp):
            await kernel.regs.dev.length.write(64)
            await kernel.regs.dev.cmd.write(op=3)
            await kernel.read_register_buffer_ulong(port, A, 8)
            kernel.io_request_dpc(device_object, irp)

        async def rest(dpc, device_object, irp, context):
            await kernel.read_register_buffer_ulong(port, A + 32, 8)
            await kernel.ke_flush_io_buffers(irp.mdl_address, True, False)
            irp.io_status.status, irp.io_status.information = NTSTATUS.STATUS_SUCCESS, 64
            kernel.io_complete_request(irp)

        device = DeviceObject(start_io=start_io)
        kernel.io_initialize_dpc_request(device, rest)
        irp = request(kernel)
        await kernel.io_start_packet(device, irp)
        assert await kernel.bus.fetch(A, 64) == bytes(range(64)) and irp.completed
        reads = [r for r in kernel.trace.records if r["phase"] == "begin" and r["name"] == "ReadRegisterBuffer"]
        assert [(r["role"], r["irql"]) for r in reads] == [("thread", 2), ("dpc", 2)]

    kernel_story(story)
