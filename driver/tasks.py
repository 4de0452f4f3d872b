# SPDX-License-Identifier: BSD-2-Clause
"""Coroutines beside the caller's, whatever the event loop: what :meth:`driver.bus.Bus.spawn` returns."""

from collections.abc import Callable, Coroutine
from typing import Any

from .bus import BusTimeout, FlushpointError, Signal

__all__ = ["JOIN_LIMIT", "SpawnedTask"]

#: Cycles that a join waits unless told otherwise.
JOIN_LIMIT = 10_000_000


class SpawnedTask:
    """A :class:`driver.bus.Joinable`. A bus starts :meth:`run` on its event loop and sets ``stop``.

    Parameters
    ----------
    coroutine : what runs. Its exception is kept for :meth:`join`; it never reaches the event loop.
    what : its name in reports.
    signal : fires when it has ended.
    service : expected to run for ever: not reported when it is cancelled at the end of a run.

    Members: ``done``, ``error`` (None while it runs and after a good end), ``stop`` (ends it on its event loop), ``signal``.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], what: str, signal: Signal, *, service: bool = False):
        self._coroutine, self.signal = coroutine, signal
        self.what = what or getattr(coroutine, "__qualname__", "a coroutine")
        self.service = service
        self.stop: Callable[[], object] = coroutine.close
        self.done = False
        self.error: Exception | None = None
        self._result: Any = None
        self._started = False

    async def run(self) -> None:
        """The coroutine to its end. Cancellation passes through."""
        self._started = True
        try:
            self._result = await self._coroutine
        except Exception as error:
            if not self.done:
                self.error = error
        finally:
            self._ended()

    async def join(self, limit: int = JOIN_LIMIT) -> Any:
        """See :meth:`driver.bus.Joinable.join`."""
        if not self.done and not await self.signal.wait(limit):
            raise BusTimeout(f"{self.what} to end", limit)
        return self.result()

    def result(self) -> Any:
        """What it returned; raises what it raised. Only once it is done."""
        if self.error is not None:
            raise self.error
        return self._result

    def cancel(self) -> None:
        """See :meth:`driver.bus.Joinable.cancel`."""
        if not self.done:
            self.error = FlushpointError(f"{self.what} was cancelled before its end")
            self._ended()
            self.stop()
            if not self._started:
                self._coroutine.close()  # nobody else will

    def _ended(self) -> None:
        if not self.done:
            self.done = True
            self.signal.fire()
