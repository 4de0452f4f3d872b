# SPDX-License-Identifier: BSD-2-Clause
"""IRQL, events, spin locks, threads and waits: what the Windows kernel's dispatcher gives a driver.

Every wait has a limit in cycles and says what it waited for. A wait at DISPATCH_LEVEL or above raises
:class:`~driver.errors.IrqlError`: on a machine with one CPU nobody else would ever run again.
"""

import enum
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..bus import Bus, BusTimeout, Joinable, Signal
from ..errors import ArgumentError, ContextError, IrqlError, check_flag, check_integer, check_type
from ..execution import level_name
from ..processor import Processor
from ..trace import Trace
from .irp import NTSTATUS
from .irql import APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL

__all__ = ["DispatcherRoutines", "EventType", "KEvent", "SpinLock"]

_MAX_LIMIT = 1 << 40


class EventType(enum.Enum):
    """EVENT_TYPE."""

    NOTIFICATION = "stays signalled until it is cleared; wakes everybody"
    SYNCHRONIZATION = "wakes one waiter, which clears it"


class KEvent:
    """KEVENT. ``name`` appears in the text of a wait that ran out of its limit."""

    def __init__(self, signal: Signal, kind: EventType, state: bool, name: str):
        self.signal, self.kind, self.state, self.name = signal, kind, state, name

    def take(self) -> bool:
        """Whether a waiter may go on; clears a synchronization event."""
        state = self.state
        if state and self.kind is EventType.SYNCHRONIZATION:
            self.state = False
        return state


@dataclass(eq=False)
class SpinLock:
    """KSPIN_LOCK. On one CPU it only raises the level; taking it twice is the deadlock it would be on any machine."""

    name: str = "spin lock"
    held_by: Any = None


class DispatcherRoutines:
    """Part of :class:`~driver.wdk.kernel.Kernel`."""

    bus: Bus
    trace: Trace
    processor: Processor

    # -- IRQL ------------------------------------------------------------------------------------------------------

    def ke_get_current_irql(self) -> int:
        """KeGetCurrentIrql: the level of the running context."""
        return self.trace.context.level

    def ke_raise_irql(self, new_irql: int) -> int:
        """KeRaiseIrql: the level before, for :meth:`ke_lower_irql`.

        Raises
        ------
        IrqlError
            If the new level is below the present one (a bug check on Windows).
        """
        check_integer("new_irql", new_irql, PASSIVE_LEVEL, HIGH_LEVEL)
        old = self.ke_get_current_irql()
        if new_irql < old:
            raise IrqlError(
                f"KeRaiseIrql: new_irql must be the present IRQL ({level_name(old)}) or above, not {level_name(new_irql)}"
            )
        self.trace.context.irql = new_irql
        return old

    def ke_lower_irql(self, new_irql: int) -> None:
        """KeLowerIrql: back to the level that :meth:`ke_raise_irql` returned.

        Raises
        ------
        IrqlError
            If the new level is above the present one, or below the level that the running routine was called at.
        """
        check_integer("new_irql", new_irql, PASSIVE_LEVEL, HIGH_LEVEL)
        context = self.trace.context
        if new_irql > context.level:
            raise IrqlError(
                f"KeLowerIrql: new_irql must be the present IRQL ({level_name(context.level)}) or below, "
                f"not {level_name(new_irql)}"
            )
        if new_irql < context.floor:
            raise IrqlError(
                f"KeLowerIrql: new_irql must not be below the IRQL that the routine ({context.what}, {context.role}) was called "
                f"at ({level_name(context.floor)}), not {level_name(new_irql)}"
            )
        context.irql = new_irql

    def raised(self, irql: int = DISPATCH_LEVEL) -> "Raised":
        """``with kernel.raised(): ...``: KeRaiseIrql and KeLowerIrql around a block."""
        return Raised(self, irql)

    # -- spin locks ------------------------------------------------------------------------------------------------

    @staticmethod
    def ke_initialize_spin_lock(name: str = "spin lock") -> SpinLock:
        """KeInitializeSpinLock."""
        return SpinLock(name)

    async def ke_acquire_spin_lock(self, lock: SpinLock) -> int:
        """KeAcquireSpinLock: raises to DISPATCH_LEVEL and returns the level before.

        Raises
        ------
        ContextError
            If the lock is held by a context that this one has interrupted, or by itself: its holder would never run again.
        """
        check_type("lock", lock, SpinLock)
        await self.processor.turn()
        if lock.held_by is not None:
            raise ContextError(f"KeAcquireSpinLock: the {lock.name} is held by {lock.held_by.what} already: a deadlock")
        old = self.ke_raise_irql(max(DISPATCH_LEVEL, self.ke_get_current_irql()))
        lock.held_by = self.trace.context
        return old

    def ke_release_spin_lock(self, lock: SpinLock, old_irql: int) -> None:
        """KeReleaseSpinLock: gives the lock back and the level too.

        Raises
        ------
        ContextError
            If the running context does not hold it.
        """
        check_type("lock", lock, SpinLock)
        if lock.held_by is not self.trace.context:
            raise ContextError(f"KeReleaseSpinLock: the {lock.name} must be held by {self.trace.context.what} to be released")
        lock.held_by = None
        self.ke_lower_irql(old_irql)

    # -- events ----------------------------------------------------------------------------------------------------

    def ke_initialize_event(
        self, kind: EventType = EventType.NOTIFICATION, state: bool = False, *, name: str = "an event"
    ) -> KEvent:
        """KeInitializeEvent: a new event. ``name`` is for the text of a wait that runs out of its limit."""
        check_type("kind", kind, EventType)
        check_flag("state", state)
        return KEvent(self.bus.signal(), kind, state, name)

    def ke_set_event(self, event: KEvent, increment: int = 0, wait: bool = False) -> bool:
        """KeSetEvent: wakes who waits; returns the state before. ``increment`` and ``wait`` have no effect here."""
        check_type("event", event, KEvent)
        check_integer("increment", increment, 0, 127)
        check_flag("wait", wait)
        before, event.state = event.state, True
        self.trace.event("KeSetEvent", event=event.name)
        event.signal.fire()
        return before

    def ke_clear_event(self, event: KEvent) -> None:
        """KeClearEvent."""
        check_type("event", event, KEvent).state = False

    async def ke_wait_for_single_object(self, event: KEvent, timeout: int) -> NTSTATUS:
        """KeWaitForSingleObject: STATUS_SUCCESS when the event is set, STATUS_TIMEOUT after ``timeout`` cycles.

        A time-out of 0 looks at the event and does not wait; only that is allowed at DISPATCH_LEVEL and above.

        Raises
        ------
        IrqlError
            For a wait at DISPATCH_LEVEL or above.
        """
        check_type("event", event, KEvent)
        check_integer("timeout", timeout, 0, _MAX_LIMIT)
        with self.trace.call("KeWaitForSingleObject", event=event.name, timeout=timeout) as call:
            status = NTSTATUS.STATUS_SUCCESS if await self._wait(event, timeout) else NTSTATUS.STATUS_TIMEOUT
            call.result = int(status)
            return status

    async def ke_wait_for_event(self, event: KEvent, limit: int) -> None:
        """The same for drivers that have no other plan: raises :class:`BusTimeout`, naming the event, after ``limit`` cycles."""
        check_type("event", event, KEvent)
        check_integer("limit", limit, 1, _MAX_LIMIT)
        with self.trace.call("KeWaitForSingleObject", event=event.name, timeout=limit):
            if not await self._wait(event, limit):
                raise BusTimeout(f"{event.name} to be set", limit)

    async def _wait(self, event: KEvent, limit: int) -> bool:
        if limit:
            self.may_wait("KeWaitForSingleObject", f"for {event.name}")
        deadline = self.bus.now() + limit
        while not event.take():
            left = deadline - self.bus.now()
            if left <= 0:
                return False
            await self.processor.sleep(event.signal, left)
        return True

    def may_wait(self, call: str, what: str) -> None:
        """Raises :class:`IrqlError` if the running context must not wait now. ``call`` and ``what`` are for its text."""
        irql = self.ke_get_current_irql()
        if irql >= DISPATCH_LEVEL:
            raise IrqlError(
                f"{call} must be called at {level_name(APC_LEVEL)} or below to wait {what}, not at {level_name(irql)} "
                f"({self.trace.context.role}): nobody else would ever run again"
            )

    # -- threads and time ------------------------------------------------------------------------------------------

    def ps_create_system_thread(self, start_routine: Coroutine[Any, Any, Any], name: str = "") -> Joinable:
        """PsCreateSystemThread: ``start_routine`` (a coroutine) runs at PASSIVE_LEVEL beside the caller, access by access.

        ``await thread.join()`` waits for it and raises its exception.
        """
        if not isinstance(start_routine, Coroutine):
            raise ArgumentError(f"start_routine must be a coroutine, not {start_routine!r}")
        return self.processor.spawn(start_routine, self.trace.new_context("thread", PASSIVE_LEVEL, name))

    async def ke_delay_execution_thread(self, cycles: int) -> None:
        """KeDelayExecutionThread: lets ``cycles`` pass; others run. Raises :class:`IrqlError` at DISPATCH_LEVEL or above."""
        check_integer("cycles", cycles, 1, _MAX_LIMIT)
        with self.trace.call("KeDelayExecutionThread", cycles=cycles):
            self.may_wait("KeDelayExecutionThread", f"{cycles} cycles")
            await self.processor.sleep(self.bus.signal(), cycles)

    async def ke_stall_execution_processor(self, cycles: int) -> None:
        """KeStallExecutionProcessor: ``cycles`` pass at any level; lower contexts do not run meanwhile."""
        check_integer("cycles", cycles, 1, _MAX_LIMIT)
        await self.bus.delay(cycles)


class Raised:
    """The block of :meth:`DispatcherRoutines.raised`."""

    def __init__(self, kernel: DispatcherRoutines, irql: int):
        self._kernel, self._irql, self._old = kernel, irql, 0

    def __enter__(self) -> None:
        self._old = self._kernel.ke_raise_irql(self._irql)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._kernel.ke_lower_irql(self._old)
