# SPDX-License-Identifier: BSD-2-Clause
"""Accesses to hot lines: R05, R10, and what they meet (R04, R07, R17, R25 by :mod:`.harm` and :mod:`.pio`).

Accesses of the test harness (tag 0) are facts: they dirty and fill lines. They are never blamed (no R04, R05, R07, R25 of
their own), but what they read is evidence for findings that already stand.
"""

from typing import Any

from sim.record import Event

from . import harm, ownership, pio
from .book import Book
from .calls import Transfer
from .findings import Access, Severity, site_text
from .start import believed_line
from .state import Line

__all__ = ["fetch", "read", "store", "uncached_read", "uncached_store"]


def read(book: Book, line: Line, event: Event) -> None:
    """A cached load of a hot line."""
    mask = event[5] << (event[4] & -book.beat & book.low)
    if event[3]:
        who = book.cpu(event)
        _in_flight(book, line, mask, who, event, "reads")
        if line.claims:
            ownership.loaded(book, line, mask, event)
        harm.meets(book, line, mask, who)
    if line.watch:
        harm.evidence(book, line, event, event[5], f"{book.cpu(event)} returned")


def uncached_read(book: Book, line: Line, event: Event) -> None:
    """An uncached load: sees memory, not the D-cache."""
    mask = event[5] << (event[4] & -book.beat & book.low)
    if event[3]:
        who = book.cpu(event)
        _in_flight(book, line, mask, who, event, "reads")
        if line.pio & mask:
            pio.handed_on(book, line, mask, who, "read around the cache", memory=True, fetch=False)
        harm.meets(book, line, mask & ~line.stale, who)  # a stale copy in the D-cache is none of its business
    if line.watch:
        harm.evidence(book, line, event, event[5], f"{book.cpu(event)} returned")


def fetch(book: Book, line: Line, event: Event) -> None:
    """An instruction fetch, hot line or not: the I-cache may hold older bytes than memory."""
    mask = event[5] << (event[4] & -book.beat & book.low)
    if event[3] and line.hot:
        who = book.cpu(event)
        _in_flight(book, line, mask, who, event, "reads")
        if line.pio & mask:
            pio.handed_on(book, line, mask, who, "fetched", memory=True, fetch=True)
        harm.meets(book, line, mask & ~line.stale, who)
    pio.fetch(book, line, mask, event)


def store(book: Book, line: Line, mask: int, event: Event) -> None:
    """A cached store into a hot line; its own may-state is already updated."""
    who = book.cpu(event)
    line.hazard &= ~mask
    if event[3]:
        _in_flight(book, line, mask, who, event, "writes")
        if line.claims:
            ownership.stored(book, line, mask, event)
    for transfer in line.flight:
        bytes_ = transfer.masks.get(line.addr, 0)
        if transfer.write or transfer.uncached:
            continue
        if not bytes_ & mask:
            _neighbour(book, line, transfer, bytes_, mask, who)
        if bytes_ & ~mask:
            line.hazard |= bytes_ & ~mask
            line.hazard_of = transfer
    line.stale &= ~mask
    line.lost &= ~mask
    line.poison &= ~mask
    if line.stale:  # the write-back of this store may take stale bytes along: whoever reads them later gets them (R04)
        line.poison |= line.stale
        line.poison_of = line.stale_of


def uncached_store(book: Book, line: Line, mask: int, event: Event) -> None:
    """An uncached store goes to memory: it races with the device like a cached one."""
    if event[3]:
        _in_flight(book, line, mask, book.cpu(event), event, "writes")
        if line.claims:
            ownership.stored(book, line, mask, event)


def _in_flight(book: Book, line: Line, mask: int, who: Access, event: Event, verb: str) -> None:
    """The transfers whose bytes the CPU touches before they are over."""
    for transfer in tuple(line.flight):
        bytes_ = transfer.masks.get(line.addr, 0) & mask
        if bytes_:
            _touch(book, line, transfer, bytes_, who, event, verb)


def _touch(book: Book, line: Line, transfer: Transfer, bytes_: int, who: Access, event: Event, verb: str) -> None:
    """The CPU touches bytes of a transfer that is not over."""
    if transfer.active:
        if transfer.auto_init and transfer.rounds and verb == "reads":
            harm.between_rounds(book, line, transfer, bytes_, who)
        if transfer.common or book.is_control(line.addr, bytes_):
            return  # polling and copying while the device runs is what common buffers and control words are for
        severity = Severity.POSSIBLE
        if transfer.write and verb == "reads":
            severity = Severity.WARNING  # both sides only read
        elif transfer.bounced and ownership.copying(book, event):
            severity = Severity.WARNING  # harm is done when somebody reads what was copied too early

        def build() -> dict[str, Any]:
            return {
                "detail": f"the CPU {verb} the buffer of {transfer.what} between its hand-off and its completion",
                "accesses": [book.started(transfer), who],
                "missing": f"wait for the completion of the transfer started at {site_text(transfer.site)} "
                f"before the access at {site_text(who.site)}",
                "transfer": transfer.number,
            }

        if verb == "reads" and severity is not Severity.WARNING:
            transfer.reads.append(event)  # what the device delivers later tells whether this was old
        book.note("R05", (transfer.number, verb), build, line, bytes_, severity=severity, subjects=transfer.subjects)
    elif not transfer.write and not (transfer.bounced and ownership.copying(book, event)):
        # what a flush copies out of map registers after its drain failed is that flush's result (R26), not the driver's use
        harm.use_in_flight(book, line, transfer, bytes_, who, verb)


def _neighbour(book: Book, line: Line, transfer: Transfer, bytes_: int, mask: int, who: Access) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"the CPU stores beside bytes that {transfer.what} writes in the same line: whoever writes the line last "
            "overwrites the other, and an invalidate drops the CPU's bytes",
            "accesses": [book.started(transfer), who],
            "missing": f"align the buffer to {book.line_bytes} bytes (or bounce it): no flush saves a shared line",
            "transfer": transfer.number,
        }

    never = {"R24", "R25", "R27"} if transfer.active else ()
    rule = "R15" if book.is_control(line.addr, bytes_ | mask) else "R10"
    book.note(rule, (transfer.number,), build, line, bytes_ | mask, subjects=transfer.subjects, never=never)
    if rule == "R10":
        believed_line(book, transfer, line, bytes_ | mask, who)
