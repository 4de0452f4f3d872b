# SPDX-License-Identifier: BSD-2-Clause
"""Mutual exclusion between coroutines without knowing whose event loop runs them."""

from types import TracebackType

from .bus import Bus, BusTimeout
from .errors import ContextError
from .execution import ExecutionContext

__all__ = ["Serial"]

_DISPATCH_LEVEL = 2


class Serial:
    """One user of a hardware unit at a time: ``async with serial: ...``.

    The package runs under any scheduler, so it cannot use one scheduler's lock; a second user waits in steps of
    ``step`` cycles of the bus. An uncontended entry costs no cycle and no bus access. Not re-entrant.

    Where contexts have interrupt levels (:class:`driver.processor.ProcessorBus`) it is a spin lock: its holder runs at
    DISPATCH_LEVEL at least, so that no DPC can find it taken. A context above that, an ISR, can: it has interrupted the
    holder, which will never give it back, and gets a :class:`~driver.errors.ContextError`.

    Parameters
    ----------
    bus : gives the time.
    what : named by the :class:`~driver.bus.BusTimeout` that is raised after ``limit`` cycles of waiting.
    """

    def __init__(self, bus: Bus, what: str, *, step: int = 16, limit: int = 10_000_000):
        self._bus, self._what, self._step, self._limit, self._taken = bus, what, step, limit, False
        self._holder: ExecutionContext | None = None

    async def __aenter__(self) -> "Serial":
        waited = 0
        context: ExecutionContext | None = getattr(self._bus, "context", None)
        if context is not None:
            await self._bus.turn()  # type: ignore[attr-defined]  # an interrupted context takes nothing
        while self._taken:
            holder = self._holder
            if context is not None and holder is not None and holder is not context and context.level >= _DISPATCH_LEVEL:
                raise ContextError(
                    f"{context.what} must not use {self._what} that {holder.what} is using, which it has interrupted: a deadlock"
                )
            if waited >= self._limit:
                raise BusTimeout(f"{self._what} to become free", waited)
            await self._bus.delay(self._step)
            waited += self._step
        self._taken, self._holder = True, context
        if context is not None:
            context.lock(_DISPATCH_LEVEL)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        holder, self._holder, self._taken = self._holder, None, False
        if holder is not None:
            holder.unlock()
