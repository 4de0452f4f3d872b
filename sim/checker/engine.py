# SPDX-License-Identifier: BSD-2-Clause
"""One pass over a run: keeps the may-state of :class:`.Book`, calls the rule families, links consequences to roots.

Hot paths (loads, stores, memory beats) touch a line's fields only; everything else happens where a line is ``hot``.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rtl.probe import Cause, Kind, Source
from sim.record import Event, Run

from . import (
    access,
    adapter,
    addresses,
    bookkeeping,
    channel,
    control,
    copies,
    dma,
    flushes,
    harm,
    irp,
    irql,
    mappings,
    outside,
    ownership,
    pio,
    resources,
    results,
    taint,
    versions,
)
from .book import Book
from .calls import OpenCall
from .findings import Finding
from .resolve import resolve
from .state import Line
from .validate import bounded, check_calls

__all__ = ["FAMILIES", "Engine", "check"]

#: The rule families, in the order in which they hear of a call. A family is a module with any of the functions
#: ``begin(book, call)``, ``end(book, call, result, error)``, ``started(book, transfer)``, ``completed(book, transfer)`` and
#: ``end_of_run(book)``, and a table ``EVENTS`` of probe kinds to functions ``(book, event)``. Bookkeeping comes last: the others
#: see what the driver held before the call.
FAMILIES = (
    mappings,
    dma,
    flushes,
    pio,
    adapter,
    irp,
    ownership,
    copies,
    control,
    irql,
    taint,
    resources,
    channel,
    addresses,
    versions,
    results,
    outside,
    bookkeeping,
)

Handler = Callable[[Event], None]


def _hooks(name: str) -> tuple[Callable[..., None], ...]:
    return tuple(getattr(family, name) for family in FAMILIES if hasattr(family, name))


_BEGIN, _END, _END_OF_RUN, _STARTED, _COMPLETED = map(_hooks, ("begin", "end", "end_of_run", "started", "completed"))


def check(run: Run) -> list[Finding]:
    """All findings of one run, in the order in which the rules were broken; empty for a correct driver.

    Raises
    ------
    RecordError
        If the call log breaks its format; the text names the record, the field, its rule and the value.
    """
    check_calls(run.calls)
    size = int((run.platform.get("memory") or (0, run.config.memory.size))[1])
    calls = bounded(run.calls, size + 8192)
    return Engine(run if calls is run.calls else replace(run, calls=list(calls))).run()


class Engine(Book):
    """Checks one run; :meth:`run` returns the findings."""

    def __init__(self, run: Run):
        super().__init__(run)
        self.on_started, self.on_completed = _STARTED, _COMPLETED

    # -- the pass --------------------------------------------------------------------------------------------------

    def run(self) -> list[Finding]:
        """Goes over events and calls in order (a call at cycle c stands after all events of cycles <= c)."""
        table: list[Handler | None] = [None] * 256
        for kind, handler in {
            Kind.LOAD: self._load,
            Kind.STORE: self._store,
            Kind.UNCACHED_LOAD: self._uncached_load,
            Kind.UNCACHED_STORE: self._uncached_store,
            Kind.UNCACHED_STORE_DONE: self._uncached_store_done,
            Kind.FETCH: self._fetch,
            Kind.IFILL_REQUEST: self._ifill,
            Kind.FILL_REQUEST: self._fill,
            Kind.FILL_INSTALL: self._install,
            Kind.EVICT: self._evict,
            Kind.CLEAN: self._clean,
            Kind.INVALIDATE: self._invalidate,
            Kind.WB_DONE: self._wb_done,
            Kind.MEM_READ: self._mem_read,
            Kind.MEM_WRITE: self._mem_write,
            Kind.MAINT_BEGIN: self._maint_begin,
            Kind.MAINT_END: self._maint_end,
            Kind.PUSH: self._push,
            Kind.DRAIN: self._drain,
            Kind.SNOOP_WRITE: self._snoop_write,
        }.items():
            table[kind] = handler
        for family in FAMILIES:
            for kind, handler in getattr(family, "EVENTS", {}).items():
                table[kind] = self._chain(table[kind], handler)
        calls = self.record.calls
        count, position = len(calls), 0
        due = calls[0]["cycle"] if calls else float("inf")
        for n, event in enumerate(self.record.events):
            while event[0] > due:
                self.n = n
                self._call(calls[position])
                position += 1
                due = calls[position]["cycle"] if position < count else float("inf")
            handler = table[event[1]]
            if handler is not None:
                self.n = n
                handler(event)
        self.n = len(self.record.events)
        for call in calls[position:]:
            self._call(call)
        for end_of_run in _END_OF_RUN:
            end_of_run(self)
        return resolve(self.drafts.values())

    def _chain(self, first: Handler | None, handler: Callable[[Book, Event], None]) -> Handler:
        def run(event: Event) -> None:
            if first is not None:
                first(event)
            self.cycle = event[0]
            handler(self, event)

        return run

    # -- CPU -------------------------------------------------------------------------------------------------------

    def _load(self, event: Event) -> None:
        address = event[4]
        line = self.lines.get(address >> self.shift) or self.line(address)
        if event[2] & 1:
            return
        if line.fill_n < 0:
            line.fill = event
        if line.hot:
            self.cycle = event[0]
            access.read(self, line, event)
        line.fill_n = self.n

    def _store(self, event: Event) -> None:
        if event[2] & 1:
            return
        address, strobes = event[4] & -self.beat, event[5]
        line = self.lines.get(address >> self.shift) or self.line(address)
        mask = strobes << (address & self.low)
        if not line.dirty:
            line.dirty_first = event
        line.dirty |= mask
        line.store = event
        line.store_n = self.n
        if line.fill_n < 0:
            line.fill = event
        line.fill_n = self.n
        if self.speculates or line.ifill_n >= 0:
            line.istale |= mask
            line.istale_of = None
        self.newest.put(address, strobes, event[6], event)
        if line.hot:
            self.cycle = event[0]
            access.store(self, line, mask, event)
        if self.dropping:
            flushes.stored_meanwhile(self, line, mask)

    def _uncached_load(self, event: Event) -> None:
        if self.memory[0] <= event[4] < self.memory[1] and not event[2] & 1:
            line = self.lines.get(event[4] >> self.shift)
            if line is not None and line.hot:
                self.cycle = event[0]
                access.uncached_read(self, line, event)

    def _uncached_store(self, event: Event) -> None:
        if self.memory[0] <= event[4] < self.memory[1]:
            address = event[4] & -self.beat
            self.newest.put(address, event[5], event[6], event)
            self.posted[address] = event
            line = self.lines.get(address >> self.shift)
            if line is not None and line.hot:
                self.cycle = event[0]
                access.uncached_store(self, line, event[5] << (address & self.low), event)

    def _uncached_store_done(self, event: Event) -> None:
        self.posted.pop(event[4] & -self.beat, None)

    def _fetch(self, event: Event) -> None:
        if event[2] & 1:
            return
        self.cycle = event[0]
        line = self.line(event[4])
        access.fetch(self, line, event)
        if line.ifill_n < 0:
            line.ifill = event
        line.ifill_n = self.n

    def _ifill(self, event: Event) -> None:
        line = self.line(event[4])
        if line.ifill_n < 0:
            line.ifill = event
        line.ifill_n = self.n
        line.istale |= line.dirty

    # -- what the caches really did ---------------------------------------------------------------------------------

    def _fill(self, event: Event) -> None:
        line = self.line(event[4])
        if line.fill_n < 0:
            line.fill = event
        line.fill_n = self.n

    def _install(self, event: Event) -> None:
        line = self.line(event[4])
        line.present, line.left = event, None

    def _evict(self, event: Event) -> None:
        line = self.line(event[4])
        line.present, line.left = None, event
        if event[2] & 1:
            self._write_back(line, event)

    def _clean(self, event: Event) -> None:
        self._write_back(self.line(event[4]), event)

    def _write_back(self, line: Line, event: Event) -> None:
        line.pending += 1
        if line.hazard and event[5] & 15 != Cause.MAINTENANCE and not self.coherent:
            self.cycle = event[0]
            dma.written_back(self, line, event)

    def _invalidate(self, event: Event) -> None:
        line = self.line(event[4])
        line.present, line.left = None, event

    def _wb_done(self, event: Event) -> None:
        line = self.line(event[4])
        line.pending = max(0, line.pending - 1)

    # -- memory and DMA data ----------------------------------------------------------------------------------------

    def _mem_read(self, event: Event) -> None:
        source = event[5] & 15
        if source >= Source.DMA_DATA and not event[2] & 1:
            line = self.lines.get(event[4] >> self.shift)
            if line is not None and line.watch:
                # the record of a read names no strobes; the watched bytes of the transfer are those that count
                how = "the DMA read" if source == Source.DMA_DATA else "the descriptor fetch"
                harm.evidence(self, line, event, (1 << self.beat) - 1, how, devices=True)

    def _mem_write(self, event: Event) -> None:
        if event[2] & 1:
            return
        address, source, strobes = event[4] & -self.beat, event[5] & 15, event[5] >> 8
        line = self.lines.get(address >> self.shift)
        if source == Source.DMA_DATA:
            fifo = self.fifo[0]
            have = fifo.get(address, 0)
            fresh = strobes & ~have
            if fresh:  # cut-through: no push announced these bytes
                self.newest.put(address, fresh, event[6], event)
            if have & ~strobes:
                fifo[address] = have & ~strobes
            elif have:
                del fifo[address]
        elif source == Source.D_WRITEBACK and line is not None and line.watch:
            on_the_way = self.fifo[0].get(address, 0)
            harm.evidence(self, line, event, strobes & ~on_the_way, "the write-back put into memory")
        elif source == Source.D_UNCACHED:
            self.posted.pop(address, None)
        if line is not None:
            line.memory = event

    def _push(self, event: Event) -> None:
        write, strobes = event[5] >> 31, event[5] & 0x7FFF_FFFF
        address = event[4] & -self.beat
        fifo = self.fifo[write]
        fifo[address] = fifo.get(address, 0) | strobes
        if not write:
            self.newest.put(address, strobes, event[6], event)

    def _drain(self, event: Event) -> None:
        # Toward memory the memory's own record counts. Discarded bytes have no record here: they stay owed for good.
        if event[5] >> 31:
            address = event[4] & -self.beat
            left = self.fifo[1].get(address, 0) & ~event[5]
            if left:
                self.fifo[1][address] = left
            else:
                self.fifo[1].pop(address, None)

    def _snoop_write(self, event: Event) -> None:
        if event[2] & 1:  # merged into a dirty line: the CPU sees the bytes, whatever memory answers
            self.merged.add(event[4] & -self.line_bytes)

    # -- maintenance ------------------------------------------------------------------------------------------------

    def _maint_begin(self, event: Event) -> None:
        self.maint = (event, self.n)
        self.cycle = event[0]
        flushes.begun(self, event)

    def _maint_end(self, event: Event) -> None:
        if self.maint is None:
            return
        begin, at = self.maint
        self.maint = None
        self.cycle = event[0]
        if not event[2] & 3:
            flushes.maintained(self, begin, at)

    # -- calls -----------------------------------------------------------------------------------------------------

    def _call(self, record: dict[str, Any]) -> None:
        self.cycle = record["cycle"]
        name, number = record.get("name", ""), record.get("call", 0)
        if record["phase"] == "begin":
            site = record.get("site")
            call = OpenCall(
                number,
                name,
                record.get("args") or {},
                tuple(site) if site else None,
                record["cycle"],
                self.n,
                self._parent(record),
                record.get("thread", 0),
                record.get("role", "thread"),
                record.get("irql"),
            )
            self.calls[number] = call
            for begin in _BEGIN:
                begin(self, call)
        else:
            open_call = self.calls.pop(number, None)
            if open_call is not None:
                for end in _END:
                    end(self, open_call, record.get("result"), record.get("error"))

    def _parent(self, record: dict[str, Any]) -> OpenCall | None:
        """The enclosing call. Logs of one coroutine need not name it: there it is the newest call in progress."""
        if "parent" in record:
            return self.calls.get(record["parent"])
        return next(reversed(self.calls.values()), None)
