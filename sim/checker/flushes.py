# SPDX-License-Identifier: BSD-2-Clause
"""What cache maintenance takes away from the may-state, and what it must not: R07's losses, R08, R21."""

from collections.abc import Iterable
from typing import Any

from sim.record import Event

from . import harm, pio
from .book import Book
from .calls import Flush, OpenCall, mdl_ranges, pairs
from .findings import Access, Party, Severity, site_text
from .state import Line, Range, intersect, merge, subtract

__all__ = ["adapter_maintained_when_coherent", "begun", "stored_meanwhile", "end", "maintained", "virtual"]

CLEAN, INVALIDATE = 1, 2
D, I = 1, 2  # noqa: E741 (the cache is called that)
_FLUSHING = ("KeFlushIoBuffers", "FlushAdapterBuffers", "PutScatterGatherList", "MapTransferEx", "FlushAdapterBuffersEx")


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A flush call ended. One that raised has promised nothing."""
    if error:
        return
    if call.name == "KeFlushIoBuffers":
        _ke_flush_done(book, call)
    elif call.name in ("flush_dcache_page", "flush_icache_range"):
        _code_flush_done(book, call)
    elif call.name == "CacheMaintenance" and call.args.get("requested_by") != "hal":
        _by_address_done(book, call)


def maintained(book: Book, begin: Event, at: int) -> None:
    """A maintenance command completed in hardware. ``at``: place of its beginning; later stores are not covered."""
    op, target = begin[5] & 3, begin[5] >> 4 & 3
    call, parent = _context(book, begin)
    for open_call in (call, parent):
        if open_call is not None:
            open_call.maintained += 1
    if parent is None:
        who = Access(f"CacheMaintenance ({_NAMES[op]})", begin[0], call.site if call is not None else None)
    else:
        who = Access(parent.name, parent.cycle, parent.site)
    # on Linux the call may be the one that makes the mapping
    subjects = [*(t.subject for t in parent.flushed), ("M", parent.number)] if parent is not None else []
    by_address = parent is None
    if by_address and call is not None:
        # the driver may rely on it from the call's end on: on bare metal that is the barrier
        call.deferred += [(step, target, ranges, at, who) for step, ranges in _steps(book, begin)]
    else:
        for step, ranges in _steps(book, begin):
            _apply(book, step, target, ranges, at, who, subjects, by_address, real=True)


def _steps(book: Book, begin: Event) -> list[tuple[int, list[Range] | None]]:
    """What the hardware does for a command: operations and their ranges (None: everything), with the platform's faults and its
    treatment of lines that an invalidated range covers only partly."""
    op, scope = begin[5] & 3, begin[5] >> 2 & 3
    if scope == 2:
        return [(op, None)]
    if scope != 1:
        return [(op, [(begin[4], 1)])]
    start, end = begin[4], begin[4] + begin[6]
    if book.ignores_tail and end & book.low:
        end &= -book.line_bytes
    whole = [(start, end - start)] if end > start else []
    if op != INVALIDATE or not book.cleans_edges:
        return [(op, whole)]
    edges = [(edge & -book.line_bytes, book.line_bytes) for edge in dict.fromkeys((start, end)) if whole and edge & book.low]
    return [(CLEAN | INVALIDATE, merge(edges)), (INVALIDATE, subtract(whole, edges))]


def begun(book: Book, begin: Event) -> None:
    """A maintenance command begins. What an invalidate of the driver's own drops may be gone at once."""
    op, target = begin[5] & 3, begin[5] >> 4 & 3
    if op != INVALIDATE or not target & D:
        return
    call, parent = _context(book, begin)
    if call is None or parent is not None or call.args.get("requested_by") == "hal":
        return
    who = Access(f"CacheMaintenance ({_NAMES[op]})", begin[0], call.site)
    ((_, ranges),) = (step for step in _steps(book, begin) if step[0] == INVALIDATE)
    call.dropping.append((ranges, who))
    book.dropping = True
    for line in _touched(book, ranges):
        if line.dirty:
            _lose(book, line, line.dirty, who, [], True)


def stored_meanwhile(book: Book, line: Line, mask: int) -> None:
    """A store while an invalidate of the driver's own is in progress: whether it survives is luck."""
    for call in book.calls.values():
        for ranges, who in call.dropping:
            if ranges is None or intersect(ranges, [(line.addr, book.line_bytes)]):
                _lose(book, line, mask, who, [], True)


def _lose(book: Book, line: Line, bytes_: int, who: Access, subjects: list[tuple[str, int]], real: bool) -> None:
    line.lost |= bytes_ & ~line.hazard  # what the device overwrites anyway is no loss
    whose = [*subjects, *([line.hazard_of.subject] if line.hazard and line.hazard_of else [])]
    whose += [claim.subject for claim in line.claims]
    line.lost_by = (book.cpu(line.store), who, whose, real)
    line.hot = True


_NAMES = {0: "nothing", 1: "clean", 2: "invalidate", 3: "clean+invalidate"}


def _context(book: Book, begin: Event) -> tuple[OpenCall | None, OpenCall | None]:
    """The CacheMaintenance call in progress, and the flush call it belongs to (None if the driver asked by address)."""
    found = [c for c in reversed(book.calls.values()) if c.name == "CacheMaintenance"]
    call = next((c for c in found if intersect(_ranges_of(book, c), [(begin[4], 1)])), found[0] if found else None)
    if call is None:
        # maintenance without a record of its own: it belongs to the flush call in progress
        return None, next((c for c in reversed(book.calls.values()) if c.name in (*_FLUSHING, "AllocateCommonBuffer")), None)
    if call.args.get("requested_by") != "hal":
        return call, None
    parent = call.parent
    while parent is not None and parent.name in ("BounceMap", "BounceCopy", "BounceUnmap") and parent.parent is not None:
        parent = parent.parent
    return call, parent


def _ranges_of(book: Book, call: OpenCall) -> list[Range]:
    ranges = call.args.get("ranges")
    return [(book.memory[0], book.memory[1] - book.memory[0])] if ranges is None else pairs(ranges)


def virtual(book: Book, call: OpenCall, ranges: list[Range], steps: Iterable[tuple[int, int]]) -> None:
    """On a coherent platform a flush does nothing; for the question "and elsewhere?" it has the effect it would have there."""
    who = Access(call.name, call.cycle, call.site)
    for op, target in steps:
        _apply(book, op, target, ranges, call.position, who, [t.subject for t in call.flushed], False, real=False)


def _touched(book: Book, ranges: list[Range] | None) -> Iterable[Line]:
    lines = book.lines
    if ranges is None:
        yield from lines.values()
        return
    for address, length in ranges:
        first, last = address >> book.shift, address + max(length, 1) - 1 >> book.shift
        if last - first > len(lines):
            yield from [line for key, line in lines.items() if first <= key <= last]
        else:
            for key in range(first, last + 1):
                line = lines.get(key)
                if line is not None:
                    yield line


def _apply(
    book: Book,
    op: int,
    target: int,
    ranges: list[Range] | None,
    at: int,
    who: Access,
    subjects: list[tuple[str, int]],
    by_address: bool,
    *,
    real: bool,
) -> None:
    for line in _touched(book, ranges):
        if target & D:
            covered = line.store_n < at
            if op & CLEAN and line.dirty and covered:
                if line.hazard:
                    _commits_old(book, line, who, by_address)
                if real and not book.coherent and (book.unification or line.pending):
                    line.unsure = True  # no answer from memory yet: still counts as dirty
                else:
                    line.dirty, line.unsure = 0, False
            if op & INVALIDATE:
                if line.dirty and covered and not op & CLEAN:
                    _lose(book, line, line.dirty, who, subjects, real)
                    line.dirty = 0
                if line.fill_n < at:
                    line.fill_n, line.fill = -1, None
                if line.stale_n < at:
                    line.stale = 0
            if not line.dirty:
                line.hazard = 0
        if target & I and op & INVALIDATE:
            before = line.ifill_n < at
            if before:
                line.ifill_n, line.ifill = -1, None
            # where the CPU speculates, the I-cache may at once refill from memory that is older than a dirty line
            if book.speculates:
                line.istale &= line.dirty
            elif before:
                line.istale = 0
        if line.hot and line.is_cold():
            line.hot = False


def _commits_old(book: Book, line: Line, who: Access, by_address: bool) -> None:
    """R08. A late KeFlushIoBuffers is a consequence of the one that is missing before (R02); clean by address as the
    operation after a read is an error of its own."""
    transfer = line.hazard_of

    def build() -> dict[str, Any]:
        return {
            "detail": f"{who.what} cleans lines that were dirty before {transfer.what} wrote them: old bytes may go over the "
            "device's",
            "accesses": [book.cpu(line.store), who],
            "missing": f"flush before the transfer started at {site_text(transfer.site)}, and only invalidate at "
            f"{site_text(who.site)}",
            "transfer": transfer.number,
        }

    start = transfer.start_finding
    own = by_address and start is not None and start.rule in ("R02", "R13") and not transfer.flushes_used
    if own:
        start.never.discard("R08")
    book.note(
        "R08",
        (transfer.number, who.cycle),
        build,
        line,
        line.hazard,
        subjects=transfer.subjects,
        never={"R02", "R13"} if own else (),
        party=harm.letter(book, transfer) if start is None else None,
    )
    line.poison |= line.hazard
    line.poison_of = transfer
    line.hot = True


def _ke_flush_done(book: Book, call: OpenCall) -> None:
    """End of KeFlushIoBuffers: remembered for the transfer or PIO read it is for."""
    whole = mdl_ranges(call.args.get("mdl"))
    read, dma = bool(call.args.get("read_operation")), bool(call.args.get("dma_operation"))
    if book.coherent:
        steps = {(True, True): [(3, D | I)], (True, False): [(1, D), (2, I)]}.get((read, dma), [(1, D)])
        virtual(book, call, whole, steps)
    cached = subtract(whole, [b.range for b in book.buffers.values() if not b.cached])
    worked = book.coherent or call.maintained > 0 or not cached
    flush = Flush(
        call.number,
        call.name,
        call.site,
        call.cycle,
        call.position,
        book.n,
        merge(whole),
        merge(whole),
        read,
        dma,
        worked=worked,
    )
    if not worked or (book.coherent and call.maintained):
        wrong_flag(book, flush)
    pio.flushed(book, flush)
    remember(book, flush)


def _code_flush_done(book: Book, call: OpenCall) -> None:
    """End of Linux's flush_dcache_page or flush_icache_range: what KeFlushIoBuffers(TRUE, FALSE) is for a PIO read. A transfer's
    flush is its mapping, never this."""
    page, args = call.name == "flush_dcache_page", call.args
    start = int(args.get("address" if page else "start") or 0)
    length = int(args.get("length") or 0) if page else int(args.get("end") or 0) - start
    ranges = [(start, length)] if length > 0 else []
    if book.coherent:
        virtual(book, call, ranges, [(1, D), (2, I)])
    worked = book.coherent or call.maintained > 0 or not ranges
    flush = Flush(
        call.number, call.name, call.site, call.cycle, call.position, book.n, ranges, list(ranges),
        read=True, dma=False, worked=worked, interface="linux",
    )  # fmt: skip
    if not worked or (book.coherent and call.maintained):
        wrong_flag(book, flush)
    pio.flushed(book, flush)


def remember(book: Book, flush: Flush) -> None:
    """A newer flush call over the same bytes replaces the older one."""
    if not flush.served_pio:
        for older in book.flushes:
            older.left = subtract(older.left, flush.left)
        book.flushes = [older for older in book.flushes if older.left]
    book.flushes.append(flush)


def wrong_flag(book: Book, flush: Flush) -> None:
    """R21: the flush did nothing on hardware that is not coherent, or cache work on hardware that is."""

    def build() -> dict[str, Any]:
        if book.coherent:
            detail, missing = "cache maintenance on hardware that is coherent", "the platform flag from sys.features.coherent"
        else:
            detail = f"{flush.text} at {site_text(flush.site)} did nothing, and the hardware is not coherent"
            missing = "the platform flag from sys.features.coherent: the HAL was told that the platform is coherent"
        return {"detail": detail, "accesses": [book.called(flush)], "missing": missing}

    draft = book.note("R21", ("flag",), build, severity=Severity.WARNING, subjects=[flush.subject], party=Party.INTERFACE)
    draft.ranges += flush.ranges


def adapter_maintained_when_coherent(book: Book, call: OpenCall) -> None:
    """FlushAdapterBuffers did cache work on coherent hardware: the same wrong flag."""
    if book.coherent and call.maintained:
        wrong_flag(book, Flush(call.number, call.name, call.site, call.cycle, call.position, book.n, [], []))


def _by_address_done(book: Book, call: OpenCall) -> None:
    """End of maintenance that the driver asked for by address: covers a transfer as a flush does, if it is of the D-cache."""
    args = call.args
    op = {"clean": 1, "invalidate": 2, "clean+invalidate": 3}.get(args.get("op"), 0)
    for done, target, ranges, at, who in call.deferred:
        _apply(book, done, target, ranges, at, who, [], True, real=True)
    call.dropping.clear()
    book.dropping = any(c.dropping for c in book.calls.values())
    covered = _ranges_of(book, call)
    flush = Flush(
        call.number,
        f"maintenance by address ({args.get('op')})",
        call.site,
        call.cycle,
        call.position,
        book.n,
        covered,
        list(covered),
        by_address=True,
        op=op,
    )
    pio.flushed(book, flush)
    if args.get("target") != "i":
        remember(book, flush)
