# SPDX-License-Identifier: BSD-2-Clause
"""What the driver did, for those who judge it: begin and end of each interface call, with cycle and source line.

The driver writes to a :class:`Trace`; it never reads from one.
"""

import itertools
from types import TracebackType
from typing import Any

from .checked import note_start
from .execution import ExecutionContext, current
from .site import caller_site, driver_source, is_library, library_folder
from .taint import unchecked_uses

__all__ = ["Call", "Trace", "caller_site", "driver_source", "is_library", "library_folder"]


class Call:
    """One interface call in progress; ``result`` is set by the callee before the block ends."""

    def __init__(self, trace: "Trace", number: int, name: str, context: ExecutionContext):
        self._trace, self.number, self.name, self.result = trace, number, name, None
        self.context = context

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._trace.end(self, error)


class Trace:
    """Ordered log of driver calls. ``clock`` gives the current cycle (``bus.now``).

    ``records`` is a list of dicts, ready for JSON: ``{"seq", "phase": "begin" | "end", "call", "name", "cycle",
    "site": [file, line, function], "parent", "thread", "role", "irql", "args" | "result", "error"}``. ``call`` is the same
    number in begin and end; ``parent`` is the enclosing call of the same context, or None. Calls of several contexts overlap.

    ``main`` is the context of the driver's main coroutine. An interface that has interrupt levels sets ``main.irql``.
    """

    def __init__(self, clock=lambda: 0):
        self.clock = clock
        self.records: list[dict[str, Any]] = []
        self.main = ExecutionContext(0, what="the driver's main coroutine")
        self._numbers = itertools.count(1)
        self._contexts = itertools.count(1)

    @property
    def context(self) -> ExecutionContext:
        """The context that runs now."""
        return current() or self.main

    def new_context(self, role: str, irql: int | None = None, what: str = "") -> ExecutionContext:
        """Another context with the next number; run code in it by :func:`driver.execution.in_context`."""
        return ExecutionContext(next(self._contexts), role, irql, what)

    def call(self, name: str, **args: Any) -> Call:
        """Logs the beginning of a call; use as ``with trace.call("KeFlushIoBuffers", mdl=...) as call: ...``.

        An argument that came from memory (:class:`driver.taint.DeviceValue`) and was never compared is logged first, as
        ``UncheckedUse``; a mapped length that the transfer is started with counts as looked at.
        """
        self.note_use(name, **args)
        if name == "StartTransfer":
            note_start(args)
        context = current() or self.main
        call = Call(self, next(self._numbers), name, context)
        self.records.append(
            {
                "seq": len(self.records),
                "phase": "begin",
                "call": call.number,
                "name": name,
                "cycle": self.clock(),
                "site": list(caller_site()),
                "parent": context.calls[-1] if context.calls else None,
                "thread": context.number,
                "role": context.role,
                "irql": context.irql,
                "args": args,
            }
        )
        context.calls.append(call.number)
        return call

    def end(self, call: Call, error: BaseException | None) -> None:
        """Logs the end of a call."""
        if call.number in call.context.calls:
            call.context.calls.remove(call.number)
        self.records.append(
            {
                "seq": len(self.records),
                "phase": "end",
                "call": call.number,
                "name": call.name,
                "cycle": self.clock(),
                "result": call.result,
                "error": None if error is None else f"{type(error).__name__}: {error}",
            }
        )

    def note_use(self, name: str, **args: Any) -> None:
        """Logs ``UncheckedUse`` for every value among ``args`` that was loaded from memory and never compared, once per load."""
        for argument, value, source in unchecked_uses(args):
            self.event("UncheckedUse", source=source, value=value, call=name, argument=argument)

    def event(self, name: str, **args: Any) -> None:
        """Logs a call that has no duration."""
        with self.call(name, **args):
            pass
