# SPDX-License-Identifier: BSD-2-Clause
"""Ends driver code that runs without letting simulated time pass: no simulator can interrupt it, a signal can."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

__all__ = ["Stuck", "Watchdog"]

_TICK_SECONDS = 1.0
_TICKS = 5


class Stuck(BaseException):
    """Raised inside the driver's loop. No :class:`Exception`, so that a driver that catches everything does not catch it."""


class Watchdog:
    """``with Watchdog(now, path): ...``: raises :class:`Stuck` in code of the file ``path`` after five seconds of processor time
    in which ``now()`` does not change. Processor time, so that a busy machine changes nothing; a driver that sleeps instead
    is ended with its process."""

    def __init__(self, now: Callable[[], int], path: str):
        self._now, self._path = now, path
        self._last, self._ticks = -1, 0

    def __enter__(self) -> "Watchdog":
        self._before = signal.signal(signal.SIGVTALRM, self._tick)
        signal.setitimer(signal.ITIMER_VIRTUAL, _TICK_SECONDS, _TICK_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, self._before)

    def _tick(self, number: int, frame: FrameType | None) -> None:
        now = self._now()
        self._ticks = self._ticks + 1 if now == self._last else 0
        self._last = now
        if self._ticks < _TICKS:
            return
        while frame is not None:
            if frame.f_code.co_filename == self._path:
                self._ticks = 0
                raise Stuck
            frame = frame.f_back
