# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt service routines and deferred procedure calls.

An interrupt is a level: its routine is called again as long as one of its lines is high, one call at a time, at DIRQL. It runs
between two bus accesses of whatever it interrupts. A DPC runs at DISPATCH_LEVEL, after all interrupts, before any thread
goes on; DPCs run one after the other, in the order they were queued.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ..bus import Bus, BusTimeout
from ..errors import ArgumentError, ContextError, check_integer, check_type
from ..execution import ExecutionContext, in_context
from ..hal import Hal
from ..processor import Processor
from ..registers import IRQ
from ..trace import Trace
from .device import DeviceObject
from .irql import DIRQL, DISPATCH_LEVEL

__all__ = ["Dpc", "Interrupt", "InterruptRoutines", "STORM_CALLS"]

#: Calls of one ISR in a row, its level never seen low, that count as an interrupt storm.
STORM_CALLS = 100
_EXIT_CYCLES = 8  # from the end of an ISR to the next look at the level
_FOREVER = 1 << 40
_HAL_LINES = 1 << IRQ.MAINT | 1 << IRQ.FLUSH

#: ``isr(interrupt, service_context)`` -> whether the interrupt was the device's.
ServiceRoutine = Callable[["Interrupt", Any], bool | Awaitable[bool]]


class Interrupt:
    """KINTERRUPT: a connected routine. ``mask`` are its lines, ``irql`` its level, ``calls`` counts the routine's calls."""

    def __init__(self, routine: ServiceRoutine, service_context: Any, mask: int, execution: ExecutionContext):
        self.routine, self.service_context, self.mask, self.execution = routine, service_context, mask, execution
        self.irql = DIRQL
        self.connected = True
        self.calls = 0


class Dpc:
    """KDPC. ``queued`` from its insertion until it starts."""

    def __init__(self, routine: Callable[..., Any], deferred_context: Any, execution: ExecutionContext):
        self.routine, self.deferred_context, self.execution = routine, deferred_context, execution
        self.queued = False


class InterruptRoutines:
    """Part of :class:`~driver.wdk.kernel.Kernel`."""

    bus: Bus
    trace: Trace
    hal: Hal
    processor: Processor

    # -- interrupts ------------------------------------------------------------------------------------------------

    async def io_connect_interrupt(self, service_routine: ServiceRoutine, service_context: Any, mask: int) -> Interrupt:
        """IoConnectInterrupt: from here on ``service_routine(interrupt, service_context)`` is called at DIRQL while a line of
        ``mask`` (bits of the interrupt vector, :class:`driver.registers.IRQ`) is high. One bus access, which enables the lines.

        The routine, a function or coroutine, returns whether the interrupt was its device's. It has to make the line fall
        before it returns: a line that never falls is an interrupt storm, which stops the machine with a
        :class:`~driver.errors.ContextError` in every context. So does an exception in the routine, with that exception.

        Raises
        ------
        ArgumentError
            If the mask is empty, or names lines that belong to the HAL (cache maintenance, flush of the DMA engine).
        """
        if not callable(service_routine):
            raise ArgumentError(f"service_routine must be callable, not {service_routine!r}")
        check_integer("mask", mask, 1, (1 << IRQ.WIDTH) - 1)
        if mask & _HAL_LINES:
            raise ArgumentError(f"mask must leave out the HAL's own lines ({_HAL_LINES:#x}), not {mask:#x}")
        with self.trace.call("IoConnectInterrupt", mask=mask):
            name = getattr(service_routine, "__name__", "the service routine")
            interrupt = Interrupt(service_routine, service_context, mask, self.trace.new_context("isr", DIRQL, f"the ISR {name}"))
            enable = self.hal.regs.sys.irq_enable
            await enable.write(int(await enable.read()) | mask)
            line = ExecutionContext(-1, "interrupt line", 0, f"interrupt {mask:#x}")
            self.processor.raw.spawn(in_context(line, self._serve(interrupt)), line.what, service=True)
            return interrupt

    async def io_disconnect_interrupt(self, interrupt: Interrupt) -> None:
        """IoDisconnectInterrupt: the routine is not called any more, its lines are disabled. A call in progress ends first."""
        check_type("interrupt", interrupt, Interrupt)
        with self.trace.call("IoDisconnectInterrupt", mask=interrupt.mask):
            interrupt.connected = False
            enable = self.hal.regs.sys.irq_enable
            await enable.write(int(await enable.read()) & ~interrupt.mask)

    async def _serve(self, interrupt: Interrupt) -> None:
        """Calls the routine while its level is high: what a processor looks at between two instructions."""
        bus, cpu, in_a_row = self.processor.raw, self.processor, 0
        what = f"interrupt {interrupt.mask:#x}"
        while interrupt.connected and cpu.failure is None:
            looked = bus.now()
            try:
                await bus.wait_interrupt(interrupt.mask, _FOREVER, what)
            except BusTimeout:
                continue
            if bus.now() > looked:
                in_a_row = 0
            risen = bus.now()
            try:
                await cpu.below(interrupt.irql)
            except Exception as error:
                cpu.fail(error)  # unless it is what has stopped the machine already
                return
            if not interrupt.connected or (bus.now() > risen and not await self._still_high(interrupt)):
                continue
            await cpu.run(interrupt.execution, cpu.guarded(self._service(interrupt)))
            in_a_row += 1
            if in_a_row >= STORM_CALLS and cpu.failure is None:
                await in_context(interrupt.execution, self._storm(interrupt))
            await bus.delay(_EXIT_CYCLES)

    async def _still_high(self, interrupt: Interrupt) -> bool:
        try:
            await self.processor.raw.wait_interrupt(interrupt.mask, 1, "the interrupt level")
        except BusTimeout:
            return False
        return True

    async def _service(self, interrupt: Interrupt) -> None:
        interrupt.calls += 1
        with self.trace.call("InterruptService", mask=interrupt.mask) as call:
            claimed = interrupt.routine(interrupt, interrupt.service_context)
            if inspect.isawaitable(claimed):
                claimed = await claimed
            if not isinstance(claimed, bool):
                raise ArgumentError(f"{interrupt.execution.what} must return True or False, not {claimed!r}")
            call.result = claimed

    async def _storm(self, interrupt: Interrupt) -> None:
        self.processor.fail(
            ContextError(
                f"interrupt storm: {interrupt.execution.what} was called {STORM_CALLS} times in a row and its level (lines "
                f"{interrupt.mask:#x}) never fell; an ISR must clear its device's interrupt before it returns"
            )
        )

    async def ke_synchronize_execution(
        self, interrupt: Interrupt, synchronize_routine: Callable[[Any], bool | Awaitable[bool]], synchronize_context: Any
    ) -> bool:
        """KeSynchronizeExecution: calls ``synchronize_routine(synchronize_context)`` at the interrupt's level: its ISR does not
        run meanwhile. Returns what the routine returns."""
        check_type("interrupt", interrupt, Interrupt)
        with self.trace.call("KeSynchronizeExecution", mask=interrupt.mask):
            context = self.trace.context
            if context.level < interrupt.irql:
                await self.processor.below(interrupt.irql)
            with context.acting(context.role, interrupt.irql):
                result = synchronize_routine(synchronize_context)
                return await result if inspect.isawaitable(result) else result

    # -- DPCs ------------------------------------------------------------------------------------------------------

    def ke_initialize_dpc(self, deferred_routine: Callable[..., Any], deferred_context: Any = None) -> Dpc:
        """KeInitializeDpc: ``deferred_routine(dpc, deferred_context, argument1, argument2)``, a function or coroutine."""
        if not callable(deferred_routine):
            raise ArgumentError(f"deferred_routine must be callable, not {deferred_routine!r}")
        name = getattr(deferred_routine, "__name__", "a routine")
        return Dpc(deferred_routine, deferred_context, self.trace.new_context("dpc", DISPATCH_LEVEL, f"the DPC {name}"))

    def ke_insert_queue_dpc(self, dpc: Dpc, argument1: Any = None, argument2: Any = None) -> bool:
        """KeInsertQueueDpc: has the DPC's routine called as soon as the CPU's level is below DISPATCH_LEVEL.

        Returns False, and does nothing, if it is queued already. An exception in the routine stops the machine.
        """
        check_type("dpc", dpc, Dpc)
        with self.trace.call("KeInsertQueueDpc", dpc=dpc.execution.number) as call:
            call.result = not dpc.queued
            if not dpc.queued:
                dpc.queued = True
                self.processor.deliver(self._run_dpc(dpc, argument1, argument2), dpc.execution)
            return call.result

    async def _run_dpc(self, dpc: Dpc, argument1: Any, argument2: Any) -> None:
        dpc.queued = False
        with self.trace.call("DpcRoutine", dpc=dpc.execution.number):
            result = dpc.routine(dpc, dpc.deferred_context, argument1, argument2)
            if inspect.isawaitable(result):
                await result

    def io_initialize_dpc_request(self, device_object: DeviceObject, dpc_routine: Callable[..., Any]) -> None:
        """IoInitializeDpcRequest: the device's DpcForIsr, ``dpc_routine(dpc, device_object, irp, context)``."""
        check_type("device_object", device_object, DeviceObject)
        device_object.dpc = self.ke_initialize_dpc(dpc_routine, device_object)

    def io_request_dpc(self, device_object: DeviceObject, irp: Any, context: Any = None) -> None:
        """IoRequestDpc: queues the device's DpcForIsr, once; an ISR's last act."""
        check_type("device_object", device_object, DeviceObject)
        if device_object.dpc is None:
            raise ArgumentError("IoRequestDpc must follow IoInitializeDpcRequest: the device object has no DPC")
        self.ke_insert_queue_dpc(device_object.dpc, irp, context)
