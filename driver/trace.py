# SPDX-License-Identifier: BSD-2-Clause
"""What the driver did, for those who judge it: begin and end of each interface call, with cycle and source line.

The driver writes to a :class:`Trace`; it never reads from one. A *site* is the user's source line that made a call or an
access: the innermost Python frame outside the libraries (this package and whatever :func:`library_folder` names).
"""

import itertools
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Call", "Trace", "caller_site", "driver_source", "library_folder"]

_LIBRARY: list[str] = [str(Path(__file__).parent)]
_DRIVERS: set[str] = set()


def library_folder(path: str | Path) -> None:
    """Declares a folder (or file) whose frames are never a site: the BFM, the runner."""
    text = str(path)
    if text not in _LIBRARY:
        _LIBRARY.append(text)


def driver_source(path: str | Path) -> None:
    """Declares one file inside a library folder to be a driver: its lines are sites. (The storage driver of this package.)"""
    _DRIVERS.add(str(path))


def caller_site() -> tuple[str, int, str]:
    """``(file, line, function)`` of the innermost frame outside the libraries; ``("?", 0, "?")`` if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name in _DRIVERS or not (name.startswith("<") or any(_inside(name, folder) for folder in _LIBRARY)):
            return name, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
    return "?", 0, "?"


def _inside(name: str, folder: str) -> bool:
    return name == folder or name.startswith(folder.rstrip(os.sep) + os.sep)


class Call:
    """One interface call in progress; ``result`` is set by the callee before the block ends."""

    def __init__(self, trace: "Trace", number: int, name: str):
        self._trace, self.number, self.name, self.result = trace, number, name, None

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._trace.end(self, error)


class Trace:
    """Ordered log of driver calls. ``clock`` gives the current cycle (``bus.now``).

    ``records`` is a list of dicts, ready for JSON: ``{"seq", "phase": "begin" | "end", "call", "name", "cycle",
    "site": [file, line, function], "args" | "result", "error"}``. ``call`` is the same number in begin and end.
    """

    def __init__(self, clock=lambda: 0):
        self.clock = clock
        self.records: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    def call(self, name: str, **args: Any) -> Call:
        """Logs the beginning of a call; use as ``with trace.call("KeFlushIoBuffers", mdl=...) as call: ...``."""
        call = Call(self, next(self._numbers), name)
        self.records.append(
            {
                "seq": len(self.records),
                "phase": "begin",
                "call": call.number,
                "name": name,
                "cycle": self.clock(),
                "site": list(caller_site()),
                "args": args,
            }
        )
        return call

    def end(self, call: Call, error: BaseException | None) -> None:
        """Logs the end of a call."""
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

    def event(self, name: str, **args: Any) -> None:
        """Logs a call that has no duration."""
        with self.call(name, **args):
            pass
