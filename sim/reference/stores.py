# SPDX-License-Identifier: BSD-2-Clause
"""Stores of a write-through D-cache on their way to memory: in the order of the program, nothing in front of them."""

from collections import deque

from sim.record import Event

from .context import Context
from .lines import Command

__all__ = ["StoreModel"]


class _Store:
    """A store that memory has not answered. ``since``: its event number; ``written``: it has reached memory."""

    __slots__ = ("address", "data", "error", "line", "since", "strobes", "written")

    def __init__(self, address: int, line: int, strobes: int, data: int, since: int):
        self.address, self.line, self.strobes, self.data, self.since = address, line, strobes, data, since
        self.written = self.error = False


class StoreModel:
    """What :class:`~sim.reference.dcache.DCacheModel` knows of queued stores; empty for ever in a write-back cache."""

    def __init__(self, context: Context):
        self.c = context
        self.queue: deque[_Store] = deque()

    def push(self, event: Event) -> None:
        """A store was performed: it must reach memory with just its strobes."""
        c = self.c
        self.queue.append(_Store(event.addr & c.beat_mask, event.addr & c.line_mask, event.aux, event.data, c.seq))

    def beat(self, event: Event, addr: int, error: bool) -> tuple[int, int] | None:
        """A store reached memory; returns the strobes and the word that it must have."""
        c = self.c
        store = next((store for store in self.queue if not store.written), None)
        if store is None:
            c.report(event, f"memory {addr:#010x}: a write by the store queue, which is empty", addr)
            return None
        if store.address != addr:
            what = f"memory {addr:#010x}: a write by the store queue out of order"
            c.report(event, what, addr, f"{store.address:#010x}", f"{addr:#010x}")
            return None
        store.written, store.error = True, error
        return store.strobes, store.data

    def done(self, event: Event) -> None:
        """Memory answered the oldest store."""
        c = self.c
        what = f"D-cache line {event.addr:#010x}: store answered"
        if not self.queue or self.queue[0].line != event.addr:
            expected = f"{self.queue[0].line:#010x}" if self.queue else "none"
            c.report(event, f"{what} although it is not the oldest one", event.addr, expected, f"{event.addr:#010x}")
            return
        store = self.queue.popleft()
        if not store.written:
            c.report(event, f"{what} before it reached memory", event.addr)
        elif store.error != bool(event.flags & 1):
            c.report(event, f"{what}: bus error", event.addr, store.error, bool(event.flags & 1))
        if store.error:
            c.maintenance.store_error(event, store.since)

    def passed(self, event: Event, line: int, what: str) -> None:
        """Something reads the line around the queue: no store to it may be there."""
        if any(store.line == line for store in self.queue):
            self.c.report(event, f"D-cache line {line:#010x}: {what} although memory has not answered a store to it", line)

    def overtaken(self, event: Event, what: str) -> None:
        """An uncached access of the CPU comes after all its stores."""
        if self.queue:
            what = f"{what} before memory had answered an older store to {self.queue[0].address:#010x}"
            self.c.report(event, what, event.addr)

    def unfinished(self, command: Command) -> list[tuple[int, str]]:
        """As :meth:`DCacheModel.unfinished`."""
        if command.buffered_is_done:
            return []
        lines = {store.line for store in self.queue if command.covers(store.line) and store.since < command.begin}
        return [(line, "has a store that memory has not answered") for line in lines]
