# SPDX-License-Identifier: BSD-2-Clause
"""One CPU for all execution contexts: who may access the bus when.

A context of higher interrupt level preempts the others from one bus access to the next, as an interrupt preempts between two
instructions: while it runs, or is about to, accesses of lower contexts wait. Contexts at the same level share the CPU access by
access up to APC_LEVEL; from DISPATCH_LEVEL on, where no thread switch happens, the one that came first holds it. Waiting for
an interrupt line or for time holds the CPU (that is what a polling loop does), waiting for an event does not.

A driver with one context never waits here, and no access costs a cycle more.
"""

import traceback
from collections.abc import Coroutine
from typing import Any

from .bus import Attribute, Bus, BusTimeout, Joinable, Signal
from .errors import ContextError, IrqlError
from .execution import ExecutionContext, in_context, level_name
from .tasks import JOIN_LIMIT
from .trace import Trace

__all__ = ["DISPATCH_LEVEL", "HOLD_LIMIT", "ContextTask", "Processor", "ProcessorBus"]

#: Cycles that a context may keep the CPU from another; more than the longest wait of the HAL.
HOLD_LIMIT = 10_000_000
#: From this level on there are no thread switches.
DISPATCH_LEVEL = 2


class _Ticket:
    """A context that waits for its turn to access the bus."""

    def __init__(self, context: ExecutionContext, signal: Signal):
        self.context, self.signal, self.granted = context, signal, False


class Processor:
    """The CPU.

    Parameters
    ----------
    bus : the machine's bus.
    trace : the call log, whose main context is the one that runs at first.

    Members: ``bus`` (the same bus, seen from a context of this CPU), ``failure`` (what stopped the machine, or None: every
    further access and wait raises it).
    """

    def __init__(self, bus: Bus, trace: Trace):
        self.raw, self.trace = bus, trace
        self.bus = ProcessorBus(self)
        self.failure: BaseException | None = None
        self._running: list[ExecutionContext] = []
        self._pending: list[int] = []  # levels of routines that will run as soon as the CPU's level is below theirs
        self._tickets: list[_Ticket] = []
        self._sleeping: list[Signal] = []
        self._busy = False
        self._changed = bus.signal()
        self._enter(trace.main)

    # -- contexts --------------------------------------------------------------------------------------------------

    @property
    def context(self) -> ExecutionContext:
        """The context that runs now."""
        return self.trace.context

    async def run(self, context: ExecutionContext, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs ``coroutine`` in ``context``, which holds the CPU against lower ones until it ends."""
        self._enter(context)
        try:
            return await in_context(context, coroutine)
        finally:
            self._leave(context)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], context: ExecutionContext) -> "ContextTask":
        """Starts ``coroutine`` in ``context`` beside the caller; its exception waits for ``join``."""
        return ContextTask(self, self.raw.spawn(self.run(context, coroutine), context.what), context)

    def deliver(self, coroutine: Coroutine[Any, Any, Any], context: ExecutionContext) -> Joinable:
        """Runs ``coroutine`` in ``context`` as soon as the CPU's level is below the context's: a DPC, a completion routine.

        Until then lower contexts get no access to the bus. Those delivered at one level run in the order of their delivery. An
        exception stops the machine (:meth:`fail`).
        """
        self._pending.append(context.level)
        return self.raw.spawn(self._deliver(coroutine, context), context.what)

    async def _deliver(self, coroutine: Coroutine[Any, Any, Any], context: ExecutionContext) -> None:
        level, entered = context.level, False
        try:
            await self.below(level)
            self._enter(context)
            entered = True
            self._pending.remove(level)  # not before it has entered: nobody lower may come between
            await in_context(context, self.guarded(coroutine))
        finally:
            if entered:
                self._leave(context)
            else:
                coroutine.close()
                self._pending.remove(level)
                self._moved()

    async def guarded(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a routine that nobody joins; None after an exception, which stops the machine.

        It must return at the level that it was called at.
        """
        context = self.context
        level = context.irql
        try:
            result = await coroutine
            if context.irql != level:
                raise IrqlError(
                    f"{context.what} must return at the IRQL it was called at ({level_name(level)}), not at "
                    f"{level_name(context.irql)}"
                )
            return result
        except Exception as error:
            self.fail(error)
        finally:
            context.irql = level
        return None

    async def below(self, level: int) -> None:
        """Returns when no context runs at ``level`` or above. Until then lower contexts get no access to the bus."""
        while True:
            self.check_failure()
            if max(self._pending, default=0) <= level:
                if not any(context.level >= level for context in self._running if not context.waits):
                    return
            self._pending.append(level)
            try:
                if not await self._changed.wait(HOLD_LIMIT):
                    raise ContextError(f"the CPU must fall below {level_name(level)}: {self._holders(level)}")
            finally:
                self._pending.remove(level)

    async def sleep(self, signal: Signal, limit: int) -> bool:
        """Waits for ``signal`` without holding the CPU; False after ``limit`` cycles."""
        context = self.context
        self.check_failure()
        context.waits = True
        self._moved()
        self._sleeping.append(signal)
        try:
            fired = await signal.wait(limit)
        finally:
            self._sleeping.remove(signal)
            context.waits = False
        self.check_failure()
        return fired

    def fail(self, error: BaseException) -> None:
        """Stops the machine: every context gets ``error`` at its next access or wait. Logged as ``Unhandled`` of the running
        context. The first failure counts."""
        if self.failure is None:
            self.failure = error
            lines = [line.rstrip() for line in traceback.format_exception(error)]
            self.trace.event("Unhandled", error=f"{type(error).__name__}: {error}", traceback=lines)
            for signal in [ticket.signal for ticket in self._tickets] + self._sleeping + [self._changed]:
                signal.fire()

    def check_failure(self) -> None:
        """Raises what stopped the machine, if anything did."""
        if self.failure is not None:
            raise self.failure

    def _enter(self, context: ExecutionContext) -> None:
        context.moved = self._moved
        self._running.append(context)

    def _leave(self, context: ExecutionContext) -> None:
        context.moved = None
        self._running.remove(context)
        self._moved()

    def _moved(self) -> None:
        """Some context's level changed: others may go on."""
        self._changed.fire()
        self._grant()

    # -- accesses --------------------------------------------------------------------------------------------------

    async def acquire(self) -> None:
        """Waits until the running context may access the bus; :meth:`release` must follow."""
        self.check_failure()
        context = self.context
        if not self._busy and not self._outranked(context):
            if not any(ticket.context.level >= context.level for ticket in self._tickets):
                self._busy = True
                return
        ticket = _Ticket(context, self.raw.signal())
        self._tickets.append(ticket)
        self._grant()  # those before it may all be outranked
        try:
            while not ticket.granted:
                fired = await ticket.signal.wait(HOLD_LIMIT)
                self.check_failure()
                if not fired:
                    raise ContextError(f"{context.what} must get an access to the bus: {self._holders(context.level)}")
        except BaseException:
            if ticket.granted:
                self.release()
            else:
                self._tickets.remove(ticket)
            raise

    async def turn(self) -> None:
        """Returns when the running context is not interrupted; what it does before its next ``await`` is done at once."""
        while True:
            await self.acquire()
            self.release()
            if not self._outranked(self.context):
                return

    def release(self) -> None:
        """The access is over: the highest context that waits goes on, first come first served."""
        self._busy = False
        self._grant()

    def _grant(self) -> None:
        if self._busy or not self._tickets:
            return
        ready = [ticket for ticket in self._tickets if not self._outranked(ticket.context)]
        if ready:
            ticket = max(ready, key=lambda item: item.context.level)  # the first of the highest
            self._tickets.remove(ticket)
            self._busy = ticket.granted = True
            ticket.signal.fire()

    def _holders(self, level: int) -> str:
        names = [other.what for other in self._running if other.level >= level and not other.waits]
        return f"{' and '.join(names) or 'nobody'} held the CPU for {HOLD_LIMIT} cycles"

    def _outranked(self, context: ExecutionContext) -> bool:
        level = context.level
        if self._pending and max(self._pending) > level:
            return True
        for other in self._running:
            if other is not context and not other.waits and other.level >= level:
                if other.level > level or (level >= DISPATCH_LEVEL and other.since < context.since):
                    return True
        return False


class ContextTask:
    """A :class:`driver.bus.Joinable` that runs on this CPU. Joining it is a wait: not at DISPATCH_LEVEL or above."""

    def __init__(self, processor: Processor, task: Any, context: ExecutionContext):
        self._cpu, self._task, self.context = processor, task, context

    @property
    def done(self) -> bool:
        """See :class:`driver.bus.Joinable`."""
        return self._task.done

    async def join(self, limit: int = JOIN_LIMIT) -> Any:
        """See :class:`driver.bus.Joinable`; raises :class:`IrqlError` where the caller must not wait."""
        waiter = self._cpu.context
        if not self._task.done and waiter.level >= DISPATCH_LEVEL:
            raise IrqlError(
                f"a wait for {self.context.what} must be at {level_name(DISPATCH_LEVEL - 1)} or below, "
                f"not at {level_name(waiter.irql)} ({waiter.role}): nobody else would ever run again"
            )
        deadline = self._cpu.raw.now() + limit
        while not self._task.done:
            if not await self._cpu.sleep(self._task.signal, max(1, deadline - self._cpu.raw.now())):
                raise BusTimeout(f"{self.context.what} to end", limit)
        return self._task.result()

    def cancel(self) -> None:
        """See :class:`driver.bus.Joinable`."""
        self._task.cancel()


class ProcessorBus:
    """A :class:`driver.bus.Bus` of one CPU: each access waits for its context's turn. Errors are those of the bus behind it."""

    def __init__(self, processor: Processor):
        self._cpu, self._bus = processor, processor.raw

    @property
    def context(self) -> ExecutionContext:
        """The context that runs now."""
        return self._cpu.context

    async def read(self, address: int, length: int, attribute: Attribute = Attribute.CACHED) -> bytes:
        await self._cpu.acquire()
        try:
            return await self._bus.read(address, length, attribute)
        finally:
            self._cpu.release()

    async def write(self, address: int, data: bytes, attribute: Attribute = Attribute.CACHED) -> None:
        await self._cpu.acquire()
        try:
            await self._bus.write(address, data, attribute)
        finally:
            self._cpu.release()

    async def fetch(self, address: int, length: int) -> bytes:
        await self._cpu.acquire()
        try:
            return await self._bus.fetch(address, length)
        finally:
            self._cpu.release()

    async def read32(self, address: int) -> int:
        await self._cpu.acquire()
        try:
            return await self._bus.read32(address)
        finally:
            self._cpu.release()

    async def write32(self, address: int, value: int) -> None:
        await self._cpu.acquire()
        try:
            await self._bus.write32(address, value)
        finally:
            self._cpu.release()

    async def turn(self) -> None:
        """See :meth:`Processor.turn`."""
        await self._cpu.turn()

    async def wait_interrupt(self, mask: int, limit: int, what: str) -> int:
        self._cpu.check_failure()
        try:
            return await self._bus.wait_interrupt(mask, limit, what)
        except BusTimeout:
            self._cpu.check_failure()  # which is why nothing came
            raise

    async def delay(self, cycles: int) -> None:
        self._cpu.check_failure()
        await self._bus.delay(cycles)

    def now(self) -> int:
        return self._bus.now()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], what: str = "", *, service: bool = False) -> Joinable:
        """As of any bus; the coroutine runs in a context of its own, as a thread. A ``service`` runs in none: it sets its own."""
        if service:
            return self._bus.spawn(coroutine, what, service=True)
        context = self._cpu.trace.new_context("thread", None if self._cpu.trace.main.irql is None else 0, what)
        return self._cpu.spawn(coroutine, context)

    def signal(self) -> Signal:
        return self._bus.signal()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)  # what a particular bus has beyond the protocol
