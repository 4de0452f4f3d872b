# SPDX-License-Identifier: BSD-2-Clause
"""The one way from the driver to hardware: an asynchronous bus.

Nothing in this package knows what is behind it: the cocotb bus-functional model, the in-memory model of the tests, or a
board. Addresses are bytes, times are cycles of the SoC clock.
"""

import enum
from collections.abc import Coroutine
from typing import Any, Protocol, runtime_checkable

__all__ = ["Attribute", "Bus", "BusError", "BusTimeout", "FlushpointError", "Joinable", "Signal"]


class FlushpointError(Exception):
    """Base of all errors the driver package raises on purpose."""


class BusError(FlushpointError):
    """The bus answered SLVERR or DECERR. ``address`` is the access's, ``response`` the AXI name."""

    def __init__(self, operation: str, address: int, response: str):
        self.operation, self.address, self.response = operation, address, response
        super().__init__(f"{operation} at {address:#010x} answered {response}")


class BusTimeout(FlushpointError):
    """A wait ran into its limit. The text says what was waited for and how long."""

    def __init__(self, what: str, cycles: int):
        self.what, self.cycles = what, cycles
        super().__init__(f"gave up after {cycles} cycles waiting for {what}")


class Attribute(enum.IntEnum):
    """Memory attribute of an access; the value is its AxCACHE."""

    CACHED = 0b1111
    UNCACHED = 0b0011


class Joinable(Protocol):
    """A coroutine that runs beside its starter."""

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        ...

    async def join(self, limit: int = ...) -> Any:
        """Waits for the end; returns the coroutine's result or raises its exception. May be awaited several times.

        Raises :class:`BusTimeout` after ``limit`` cycles (by default :data:`driver.tasks.JOIN_LIMIT`).
        """
        ...

    def cancel(self) -> None:
        """Ends it where it waits; a later :meth:`join` raises :class:`FlushpointError`. Nothing if it has ended."""
        ...


class Signal(Protocol):
    """Wakes coroutines that wait for something: it has no memory, so a waiter looks at its condition again."""

    def fire(self) -> None:
        """Wakes everybody who waits now, in the order of their coming."""
        ...

    async def wait(self, limit: int | None = None) -> bool:
        """True when fired, False after ``limit`` cycles; None waits for ever (only where somebody is bound to fire)."""
        ...


@runtime_checkable
class Bus(Protocol):
    """One in-order CPU on the bus. Several coroutines may use it; accesses take effect in the order of the calls."""

    async def read(self, address: int, length: int, attribute: Attribute = Attribute.CACHED) -> bytes:
        """Loads ``length`` bytes, exactly those; raises :class:`BusError`."""
        ...

    async def write(self, address: int, data: bytes, attribute: Attribute = Attribute.CACHED) -> None:
        """Stores ``data``, and returns when the store is answered; raises :class:`BusError`."""
        ...

    async def fetch(self, address: int, length: int) -> bytes:
        """Fetches instructions through the I-cache; raises :class:`BusError`."""
        ...

    async def read32(self, address: int) -> int:
        """One uncached, aligned 32-bit access: a register read."""
        ...

    async def write32(self, address: int, value: int) -> None:
        """One uncached, aligned 32-bit access: a register write; returns when the register has answered."""
        ...

    async def wait_interrupt(self, mask: int, limit: int, what: str) -> int:
        """Returns the interrupt levels in ``mask`` as soon as one is high (at once if one already is).

        ``limit`` is in cycles; raises :class:`BusTimeout` naming ``what``.
        """
        ...

    async def delay(self, cycles: int) -> None:
        """Lets that many cycles pass without a CPU access."""
        ...

    def now(self) -> int:
        """Cycles since reset."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, Any], what: str = "", *, service: bool = False) -> Joinable:
        """Starts ``coroutine`` beside the caller, from the next step of the event loop on.

        ``what`` names it in reports. Its exception waits for :meth:`Joinable.join`. What still runs at the end of a run is
        cancelled and reported, but for a ``service``, which is expected to run for ever.
        """
        ...

    def signal(self) -> Signal:
        """A new signal of this bus's event loop."""
        ...
