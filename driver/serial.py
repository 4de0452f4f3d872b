# SPDX-License-Identifier: BSD-2-Clause
"""Mutual exclusion between coroutines without knowing whose event loop runs them."""

from types import TracebackType

from .bus import Bus, BusTimeout

__all__ = ["Serial"]


class Serial:
    """One user of a hardware unit at a time: ``async with serial: ...``.

    The package runs under any scheduler, so it cannot use one scheduler's lock; a second user waits in steps of
    ``step`` cycles of the bus. An uncontended entry costs no cycle and no bus access. Not re-entrant.

    Parameters
    ----------
    bus : gives the time.
    what : named by the :class:`~driver.bus.BusTimeout` that is raised after ``limit`` cycles of waiting.
    """

    def __init__(self, bus: Bus, what: str, *, step: int = 16, limit: int = 10_000_000):
        self._bus, self._what, self._step, self._limit, self._taken = bus, what, step, limit, False

    async def __aenter__(self) -> "Serial":
        waited = 0
        while self._taken:
            if waited >= self._limit:
                raise BusTimeout(f"{self._what} to become free", waited)
            await self._bus.delay(self._step)
            waited += self._step
        self._taken = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._taken = False
