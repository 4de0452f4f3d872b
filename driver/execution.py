# SPDX-License-Identifier: BSD-2-Clause
"""Execution contexts: who is running the driver's code right now.

A *context* is one flow of driver code: the main coroutine, an interrupt service routine, a DPC, another thread. A
coroutine runs in a context through :func:`in_context`, which sets the running context around each step of the coroutine. That
works under every event loop, because a loop only ever resumes the outermost coroutine.

A routine that the kernel calls inside a driver's call (AdapterControl, a list routine) runs in the caller's context, under
another role and interrupt level: :meth:`ExecutionContext.acting`.
"""

import itertools
import types
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any

__all__ = ["ROLES", "ExecutionContext", "current", "in_context", "level_name"]

#: What a context can be, as the call log names it.
ROLES = ("thread", "isr", "dpc", "adapter-control", "list-control", "completion", "cancel")

_current: "ExecutionContext | None" = None
_order = itertools.count(1)


def level_name(irql: int | None) -> str:
    """``"PASSIVE_LEVEL"``, ``"APC_LEVEL"``, ``"DISPATCH_LEVEL"``, ``"DIRQL 5"``; ``"no IRQL"`` where the interface has none."""
    if irql is None:
        return "no IRQL"
    return ("PASSIVE_LEVEL", "APC_LEVEL", "DISPATCH_LEVEL")[irql] if irql < 3 else f"DIRQL {irql}"


class ExecutionContext:
    """One flow of driver code.

    Members: ``number`` (0 the driver's main coroutine, then in order of creation), ``role`` (one of :data:`ROLES`, or the name
    of an internal helper that makes no calls), ``irql`` (0 PASSIVE, 1 APC, 2 DISPATCH, from 3 on device levels; None where the
    interface has none), ``calls`` (numbers of its open calls, outermost first), ``what`` (its name in error texts), ``since``
    (grows with each change of level: who came to a level first), ``waits`` (it waits and does not hold the CPU), ``floor`` (the
    level its present routine was called at), ``moved`` (called after each change of level), ``holds_cancel_lock`` (a cancel
    routine that has not given the lock back).
    """

    def __init__(self, number: int, role: str = "thread", irql: int | None = None, what: str = ""):
        self.number, self.role = number, role
        self.what = what or f"{role} {number}"
        self.calls: list[int] = []
        self.waits = self.holds_cancel_lock = False
        self.moved: Callable[[], None] | None = None
        self._locks = self._unlocked = 0
        self._irql, self.since, self.floor = irql, next(_order), irql or 0

    @property
    def irql(self) -> int | None:
        """The interrupt level. Setting it does not check anything; see :mod:`driver.wdk.dispatcher`."""
        return self._irql

    @irql.setter
    def irql(self, value: int | None) -> None:
        changed = value != self._irql
        self._irql, self.since = value, next(_order) if changed else self.since
        if changed and self.moved is not None:
            self.moved()

    @property
    def level(self) -> int:
        """The interrupt level as a number: 0 where the interface has none."""
        return self.irql or 0

    def acting(self, role: str, irql: int | None) -> "Acting":
        """Role and level of a routine that is called in this context: ``with context.acting("adapter-control", 2): ...``.

        They come back at the end of the block, also after an error. The level is lowered only as far as it was raised: an
        ``irql`` below the present one leaves the level as it is.
        """
        return Acting(self, role, irql)

    def lock(self, irql: int) -> None:
        """Runs at ``irql`` at least until :meth:`unlock`: a spin lock of the HAL is held. Nothing without levels."""
        if self.irql is not None:
            if not self._locks:
                self._unlocked = self.irql
            self._locks += 1
            self.irql = max(self.irql, irql)

    def unlock(self) -> None:
        """Gives one lock back; with the last one the level of before."""
        if self.irql is not None:
            self._locks -= 1
            if not self._locks:
                self.irql = self._unlocked

    def __repr__(self) -> str:
        return f"<ExecutionContext {self.number}: {self.role} at {self.irql}>"


class Acting:
    """The block of :meth:`ExecutionContext.acting`."""

    def __init__(self, context: ExecutionContext, role: str, irql: int | None):
        self._context, self._role = context, role
        self._irql = irql if irql is None or context.irql is None else max(irql, context.irql)
        self._before: tuple[str, int | None, int] | None = None

    def __enter__(self) -> ExecutionContext:
        context = self._context
        self._before = context.role, context.irql, context.floor
        context.role, context.irql, context.floor = self._role, self._irql, self._irql or 0
        return context

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._before is not None:
            self._context.role, self._context.irql, self._context.floor = self._before


def current() -> ExecutionContext | None:
    """The context that runs now; None in code that runs in no context of its own, which is the driver's main coroutine."""
    return _current


@types.coroutine
def in_context(context: ExecutionContext, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Runs ``coroutine`` with ``context`` as the running one: ``result = await in_context(context, routine())``.

    Results and exceptions pass through. Closing or cancelling it closes the coroutine.
    """
    global _current
    value: Any = None
    error: BaseException | None = None
    while True:
        outer, _current = _current, context
        try:
            item = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            _current = outer
        value = error = None
        try:
            value = yield item
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as thrown:
            error = thrown
