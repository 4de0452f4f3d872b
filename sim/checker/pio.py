# SPDX-License-Identifier: BSD-2-Clause
"""PIO reads into memory and instruction fetches: R17, R18, and R19, R22, R23 of the flush after a PIO read.

The flush is KeFlushIoBuffers(Mdl, TRUE, FALSE), on Linux flush_dcache_page or flush_icache_range, on bare metal maintenance by
address.
"""

from collections.abc import Iterable
from typing import Any

from sim.record import Event

from . import harm
from .book import Book
from .calls import Flush, OpenCall, Pio, flag, pairs
from .findings import Access, Party, Severity, site_text
from .state import Line, intersect, line_masks, mask_ranges, subtract

__all__ = ["begin", "end", "fetch", "flushed", "handed_on"]


def begin(book: Book, call: OpenCall) -> None:
    if call.name == "CpuCopy":
        _declare(book, call)


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    if call.name == "ReadRegisterBuffer":  # what it stored before it raised is stored
        _declare(book, call)


def _declare(book: Book, call: OpenCall) -> None:
    """The CPU stored PIO data: a register-buffer routine ended, or the driver says so (CpuCopy)."""
    read = Pio(len(book.pios) + 1, call.name, call.site, call.cycle, book.n, pairs(call.args.get("ranges")))
    book.pios.append(read)
    for address, mask in line_masks(read.ranges, book.line_bytes).items():
        line = book.line(address)
        line.pio |= mask
        line.pio_of = read
        line.hot = True


def _linux(book: Book) -> bool:
    return book.platform.get("interface") != "bare" and book.platform.get("architecture", "wdk") != "wdk"


def _wanted(book: Book) -> str:
    """The call that a PIO read owes."""
    if book.platform.get("interface") == "bare":
        return "clean of the D-cache, then invalidate of the I-cache,"
    if _linux(book):
        return "flush_dcache_page() (or flush_icache_range())"
    return "KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=FALSE)"


def flushed(book: Book, flush: Flush) -> None:
    """A flush call came after the PIO reads whose bytes it covers. Only the call of :func:`_wanted` pays what they owe."""
    for read in book.pios:
        common = intersect(read.ranges, flush.ranges)
        if not common:
            continue
        owing = False
        for address, mask in line_masks(common, book.line_bytes).items():
            line = book.lines.get(address >> book.shift)
            if line is not None and line.pio & mask:  # the line's other bytes may be of another read
                owing = True
                if flush.read and not flush.dma and not flush.by_address:
                    # what the hardware left behind in spite of the call stays owed
                    line.pio &= ~mask | line.dirty | line.istale
        if owing:
            read.flushes.append(flush)
            if flush.read and not flush.dma:
                flush.served_pio = True


def handed_on(
    book: Book,
    line: Line,
    mask: int,
    who: Access,
    how: str,
    *,
    memory: bool,
    fetch: bool,
    subjects: Iterable[tuple[str, int]] = (),
) -> None:
    """R17: PIO bytes meet somebody who does not look the D-cache up (``memory``) or looks the I-cache up (``fetch``)."""
    bytes_, read = line.pio & mask, line.pio_of
    if not bytes_ or read is None:
        return
    risk = bytes_ & ((line.dirty if memory or fetch else 0) | (line.istale if fetch else 0))
    if not risk and any(flush.by_address or flush.mapping is not None for flush in read.flushes):
        return
    own = [f for f in read.flushes if not f.by_address and f.mapping is None]
    right = [f for f in own if f.read and not f.dma]
    never = {"R12", "R19", "R20", "R21", "R22", "R23"}
    about: list[tuple[str, int]] = [read.subject, *subjects]
    if right:
        flush = right[-1]
        about.append(flush.subject)
        if subtract(mask_ranges(line.addr, bytes_), flush.ranges):
            _short(book, read, flush)
            never.discard("R19")
        elif not flush.worked:
            never.discard("R21")
        elif line.unsure:
            never.discard("R20")
            _unanswered(book, read, flush, line, bytes_)
    else:
        wrong = [f for f in own if not f.served_dma]
        if wrong:
            flush = wrong[-1]
            about.append(flush.subject)
            never -= _wrong(book, read, flush)
            if not risk:
                return  # the wrong call is the finding; it has done what was needed

    def build() -> dict[str, Any]:
        wanted = _wanted(book)
        return {
            "detail": f"bytes that {read.name} at {site_text(read.site)} stored are {how}, and no {wanted.rstrip(',')} came "
            "between: they may be in the D-cache only, and the I-cache may hold older ones",
            "accesses": [book.called(read), who],
            "missing": f"{wanted} after the {read.name} at {site_text(read.site)}, before {who.what} at {site_text(who.site)}",
        }

    severity = Severity.POSSIBLE if risk else Severity.WARNING
    book.note("R17", (read.number,), build, line, bytes_, severity=severity, subjects=about, never=never)


def _short(book: Book, read: Pio, flush: Flush) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"the flush at {site_text(flush.site)} covers less than the PIO read at {site_text(read.site)} stored",
            "accesses": [book.called(read), book.called(flush)],
            "missing": f"{_wanted(book)} over all of it",
        }

    draft = book.note("R19", (flush.number,), build, severity=Severity.WARNING, subjects=[read.subject, flush.subject])
    draft.ranges = subtract(read.ranges, flush.ranges)


def _unanswered(book: Book, read: Pio, flush: Flush, line: Line, bytes_: int) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": "maintenance was reported done before memory had answered the write-backs",
            "accesses": [book.called(read), book.called(flush)],
            "missing": f"maintenance to the point of coherency in the flush at {site_text(flush.site)}",
        }

    book.note("R20", ("hw", flush.number), build, line, bytes_, subjects=[read.subject, flush.subject], party=Party.INTERFACE)


def _wrong(book: Book, read: Pio, flush: Flush) -> set[str]:
    rules = set()
    for rule, wrong, what in (
        ("R22", not flush.read, f"ReadOperation={flag(flush.read)}"),
        ("R23", flush.dma, f"DmaOperation={flag(flush.dma)}"),
    ):
        if not wrong:
            continue
        rules.add(rule)

        def build(what: str = what) -> dict[str, Any]:
            return {
                "detail": f"{what} after the PIO read at {site_text(read.site)}",
                "accesses": [book.called(read), book.called(flush)],
                "missing": f"KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=FALSE) at {site_text(flush.site)}",
            }

        draft = book.note(rule, ("ke", flush.number), build, subjects=[read.subject, flush.subject], latent=book.coherent)
        draft.ranges = intersect(read.ranges, flush.ranges)
    return rules


def fetch(book: Book, line: Line, mask: int, event: Event) -> None:
    """An instruction fetch looks the I-cache up and memory, never the D-cache."""
    old = (line.dirty | line.istale) & mask
    if event[3] and old:
        _r18(book, line, old, book.cpu(event), event)
    line.istale |= line.dirty  # a fill takes the whole line, and memory is older than the dirty bytes
    if line.watch:
        harm.evidence(book, line, event, event[5], f"{book.cpu(event)} returned")


def _r18(book: Book, line: Line, old: int, who: Access, event: Event) -> None:
    subjects = []
    if line.pio & old and line.pio_of is not None:
        subjects.append(line.pio_of.subject)
        subjects += [flush.subject for flush in line.pio_of.flushes]
    for transfer in (line.istale_of, line.hazard_of):
        if transfer is not None:
            subjects.append(transfer.subject)
    dirty = bool(line.dirty & old)

    def build() -> dict[str, Any]:
        transfer = line.istale_of
        if dirty:
            detail, before = "the newest bytes may be in the D-cache only, memory is older", book.cpu(line.store)
        elif transfer is not None:
            detail, before = f"the I-cache may hold a line filled before {transfer.what} wrote it", book.started(transfer)
        else:
            detail, before = "the I-cache may hold a line older than the newest store", book.cpu(line.store)
        return {
            "detail": f"instruction fetch: {detail}",
            "accesses": [before, who],
            "missing": f"clean of the D-cache and invalidate of the I-cache after {before.what} at {site_text(before.site)}, "
            f"before the fetch at {site_text(who.site)}"
            + ("" if transfer is not None and not dirty else f" ({_wanted(book).rstrip(',')})"),
            "transfer": None if transfer is None else transfer.number,
        }

    party = harm.letter(book, line.istale_of) if line.istale_of is not None and not dirty else None
    book.note("R18", tuple(sorted(subjects)), build, line, old, subjects=subjects, party=party)
