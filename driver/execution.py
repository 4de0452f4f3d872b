# SPDX-License-Identifier: BSD-2-Clause
"""Execution contexts: who is running the driver's code right now.

A *context* is one flow of driver code: the main coroutine, an interrupt service routine, a DPC, another thread. A
coroutine runs in a context through :func:`in_context`, which sets the running context around each step of the coroutine. That
works under every event loop, because a loop only ever resumes the outermost coroutine.

A routine that the kernel calls inside a driver's call (AdapterControl, a list routine) runs in the caller's context, under
another role and interrupt level: :meth:`ExecutionContext.acting`.
"""

import types
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any

__all__ = ["ROLES", "ExecutionContext", "current", "in_context"]

#: What a context can be, as the call log names it.
ROLES = ("thread", "isr", "dpc", "adapter-control", "list-control", "completion", "cancel")

_current: "ExecutionContext | None" = None


class ExecutionContext:
    """One flow of driver code.

    Members: ``number`` (0 the driver's main coroutine, then in order of creation), ``role`` (one of :data:`ROLES`, or the name
    of an internal helper that makes no calls), ``irql`` (0 PASSIVE, 1 APC, 2 DISPATCH, from 3 on device levels; None where the
    interface has none), ``calls`` (numbers of its open calls, outermost first), ``what`` (its name in error texts).
    """

    def __init__(self, number: int, role: str = "thread", irql: int | None = None, what: str = ""):
        self.number, self.role, self.irql = number, role, irql
        self.what = what or f"{role} {number}"
        self.calls: list[int] = []

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

    def __repr__(self) -> str:
        return f"<ExecutionContext {self.number}: {self.role} at {self.irql}>"


class Acting:
    """The block of :meth:`ExecutionContext.acting`."""

    def __init__(self, context: ExecutionContext, role: str, irql: int | None):
        self._context, self._role = context, role
        self._irql = irql if irql is None or context.irql is None else max(irql, context.irql)
        self._before: tuple[str, int | None] | None = None

    def __enter__(self) -> ExecutionContext:
        context = self._context
        self._before = context.role, context.irql
        context.role, context.irql = self._role, self._irql
        return context

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._before is not None:
            self._context.role, self._context.irql = self._before


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
