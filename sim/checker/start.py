# SPDX-License-Identifier: BSD-2-Clause
"""The checks at the hand-off: R01, R02, R13 and their causes (R10, R12, R19, R20, R21, R22, R23), R09, R11."""

from typing import Any

from . import harm, pio
from .book import Book
from .calls import Flush, OpenCall, Transfer, flag, pairs
from .findings import Access, Party, Severity, site_text
from .ledger import ledger
from .state import Line, Range, intersect, merge, subtract

__all__ = ["believed_line", "check", "shared"]


def check(book: Book, transfer: Transfer, masks: dict[int, int]) -> None:
    """A transfer starts: are its lines clean, and was the right flush called? ``masks``: its bytes by line address."""
    flushes = _used(book, transfer)
    transfer.flushes_used = flushes
    _check_lines(book, transfer, masks, flushes)
    if transfer.called:
        if transfer.interface == "wdk":
            _check_calls(book, transfer, flushes)
        if not transfer.write and not transfer.common and not any(book.is_control(*item) for item in masks.items()):
            _check_edges(book, transfer)


def shared(book: Book, transfer: Transfer, line: Line, mask: int) -> None:
    """R11: another transfer is active in the line. Harm is possible if the same bytes are concerned and one is written."""
    for other in line.flight:
        if other is transfer or not other.active or (other.write and transfer.write) or other.common or transfer.common:
            continue

        def build(other: Transfer = other) -> dict[str, Any]:
            return {
                "detail": f"{transfer.what} starts while {other.what} is active in the same line",
                "accesses": [book.started(other), book.started(transfer)],
                "missing": f"wait for the transfer started at {site_text(other.site)}, or align both buffers to lines",
                "transfer": transfer.number,
            }

        severity = Severity.POSSIBLE if other.masks.get(line.addr, 0) & mask else Severity.WARNING
        book.note(
            "R11",
            (other.number, transfer.number),
            build,
            line,
            mask | other.masks.get(line.addr, 0),
            severity=severity,
            subjects=[transfer.subject, other.subject],
            latent=False if severity is Severity.POSSIBLE else None,
        )


# -- the flushes that this transfer uses ------------------------------------------------------------------------------


def _used(book: Book, transfer: Transfer) -> list[Flush]:
    """Flush calls over bytes of the transfer that no transfer has used; they are used up for these bytes (not on Linux)."""
    bytes_ = [*transfer.source, *transfer.ranges] if transfer.bounced else transfer.ranges
    used = [flush for flush in book.flushes if intersect(flush.left, bytes_)]
    for flush in used:
        flush.served_dma = True
        flush.mapped = transfer.mapped
        if flush.interface == "linux":
            continue
        flush.left = subtract(flush.left, bytes_)
        if not flush.left:
            book.flushes.remove(flush)
            book.spent = [*book.spent[-7:], flush]
    # a flush that another transfer of the same mapping used up covers less than the mapping (R19)
    if transfer.mapped and not used and transfer.interface == "wdk":
        used = [f for f in (*book.spent, *book.flushes) if f.mapped == transfer.mapped and not intersect(f.ranges, bytes_)]
    return used


def _fits(flush: Flush, transfer: Transfer) -> bool:
    if flush.mapping is not None or flush.by_address or flush.served_pio:
        return True
    return flush.dma and flush.read != transfer.write


def _wanted(transfer: Transfer) -> str:
    """The call that makes the buffer ready (PREREAD, PREWRITE) on the transfer's interface."""
    if transfer.interface == "v3" and not transfer.common:
        name = "MapTransferEx" if transfer.list_id is None else "GetScatterGatherListEx"
        return f"{name}(Adapter, ..., WriteToDevice={flag(transfer.write)})"
    if transfer.interface == "linux":
        way = "DMA_TO_DEVICE" if transfer.write else "DMA_FROM_DEVICE"
        return f"{'dma_map_single' if transfer.mapping is None else 'dma_sync_single_for_device'}(dev, ..., {way})"
    if transfer.interface == "bare":
        return f"{'clean' if transfer.write else 'clean+invalidate'} of the buffer"
    mdl = "Mdl over the common buffer" if transfer.common else "Mdl"
    return f"KeFlushIoBuffers({mdl}, ReadOperation={flag(not transfer.write)}, DmaOperation=TRUE)"


def _meant_for_pio(book: Book, flush: Flush) -> bool:
    """KeFlushIoBuffers(TRUE, FALSE) before a PIO read into the same bytes: right for that read, and too early (R17)."""
    if not flush.read or flush.dma or flush.by_address:
        return False
    return any(read.position > flush.position and intersect(read.ranges, flush.ranges) for read in book.pios)


def _check_calls(book: Book, transfer: Transfer, flushes: list[Flush]) -> None:
    """R22, R23: the call is there, its arguments do not fit."""
    for flush in flushes:
        if _fits(flush, transfer) or _meant_for_pio(book, flush):
            continue
        pieces = [r for r in intersect(flush.ranges, transfer.ranges)]
        if not pieces:
            continue
        better = any(_fits(f, transfer) and f.end > flush.end and not subtract(pieces, f.ranges) for f in flushes)
        if better:
            continue
        if flush.read == transfer.write:

            def build(flush: Flush = flush) -> dict[str, Any]:
                return {
                    "detail": f"ReadOperation={flag(flush.read)} before {transfer.what}: ReadOperation must be the opposite of "
                    "WriteToDevice",
                    "accesses": [book.called(flush), book.started(transfer)],
                    "missing": f"{_wanted(transfer)} instead of the call at {site_text(flush.site)}",
                    "transfer": transfer.number,
                }

            draft = book.note(
                "R22", ("ke", flush.number), build, subjects=[transfer.subject, flush.subject], latent=book.coherent
            )
            draft.ranges += pieces
        if not flush.dma:

            def build_dma(flush: Flush = flush) -> dict[str, Any]:
                return {
                    "detail": f"DmaOperation=FALSE before {transfer.what}",
                    "accesses": [book.called(flush), book.started(transfer)],
                    "missing": f"{_wanted(transfer)} instead of the call at {site_text(flush.site)}",
                    "transfer": transfer.number,
                }

            draft = book.note(
                "R23", ("ke", flush.number), build_dma, subjects=[transfer.subject, flush.subject], latent=book.coherent
            )
            draft.ranges += pieces


def _check_lines(book: Book, transfer: Transfer, masks: dict[int, int], flushes: list[Flush]) -> None:
    """R01, R02, R13 and their causes R19, R20, R21; R07, R17 where the device reads what is gone or still in the D-cache."""
    rule = _start_rule(transfer)
    start = book.started(transfer)
    for address, mask in masks.items():
        line = book.lines.get(address >> book.shift)
        if line is None:
            continue
        if transfer.write and line.hot:
            if line.pio & mask:
                pio.handed_on(
                    book, line, mask, start, "read by the device", memory=True, fetch=False,
                    subjects=transfer.subjects,
                )  # fmt: skip
            harm.meets(book, line, mask & ~line.stale, start)
        # the device reads only its own bytes, but a write-back overwrites the whole line
        if line.dirty & mask if transfer.write else line.dirty:
            _dirty_at_start(book, transfer, "R15" if book.is_control(address, mask) else rule, line, mask, flushes)
    if transfer.called and not (transfer.common and transfer.interface in ("v3", "linux")):
        _uncovered(book, transfer, rule, flushes)


def _start_rule(transfer: Transfer) -> str:
    if transfer.common:
        return "R13"
    return "R01" if transfer.write else "R02"


def _dirty_at_start(book: Book, transfer: Transfer, rule: str, line: Line, mask: int, flushes: list[Flush]) -> None:
    """One line of R01, R02 or R13. ``never`` collects the rules that are no excuse: a cause must explain every line."""
    store = book.cpu(line.store)
    touching = [f for f in flushes if intersect(f.ranges, [(line.addr, book.line_bytes)])]
    in_time = [f for f in touching if f.end > line.store_n]
    subjects = [*transfer.subjects, *(f.subject for f in flushes)]
    never = {"R05", "R06", "R08", "R10", "R12", "R16", "R17", "R19", "R20", "R21", "R22", "R23"}
    party = None
    if waiting := _unawaited(book, line):
        _r16_maintenance(book, transfer, line, mask, waiting, subjects)
        never.discard("R16")
    elif in_time and _to_the_letter(book, transfer, in_time[-1]):
        party = Party.INTERFACE
    elif in_time:
        never -= {_unfinished(book, transfer, line, mask, in_time[-1], subjects)}
    elif flushes and not touching:
        never.discard("R19")
    elif touching and not transfer.write and not line.dirty & mask:
        _edge_store(book, transfer, line, mask, store)
        never.discard("R10")
    elif line.pio & mask and transfer.write:
        subjects += [p.subject for p in book.pios if intersect(p.ranges, [(line.addr, book.line_bytes)])]
        never.discard("R17")
    if transfer.mapping is not None and transfer.interface == "linux":
        never -= {"R05", "R06", "R22"}  # noted at the store, and at the start

    def build() -> dict[str, Any]:
        wanted = f"{_wanted(transfer)} after the store at {site_text(store.site)}, before the StartTransfer at "
        wanted += site_text(transfer.site)
        detail = f"{transfer.what} starts while stores to its buffer may still be dirty in the D-cache"
        if party is not None:
            detail += "; the map cleans nothing before a read (version 3 to the letter)"
            wanted = "the HAL's option clean_before_read: clean+invalidate when a buffer is mapped for a read"
        elif touching and not in_time:
            flush = touching[-1]
            detail += f"; the {flush.name} at {site_text(flush.site)} came before the store at {site_text(store.site)}"
            wanted = f"{wanted} (the one at {site_text(flush.site)} is too early)"
        elif not transfer.called:
            wanted = f"{_wanted(transfer)} after the store at {site_text(store.site)}, before the start"
        return {"detail": detail, "accesses": [store, book.started(transfer)], "missing": wanted, "transfer": transfer.number}

    transfer.start_finding = book.note(rule, (transfer.number,), build, line, mask, subjects=subjects, never=never, party=party)


def _to_the_letter(book: Book, transfer: Transfer, flush: Flush) -> bool:
    """Version 3 to the letter does nothing before a read."""
    return flush.interface == "v3" and not transfer.write and not book.hal.get("clean_before_read", True)


def _unawaited(book: Book, line: Line) -> OpenCall | None:
    """Maintenance of the line that has begun after the last store, and that nobody has waited for."""
    for call in book.calls.values():
        if call.name == "CacheMaintenance" and call.position > line.store_n and call.args.get("target") != "i":
            ranges = call.args.get("ranges")
            if ranges is None or intersect(pairs(ranges), [(line.addr, book.line_bytes)]):
                return call
    return None


def _r16_maintenance(
    book: Book, transfer: Transfer, line: Line, mask: int, call: OpenCall, subjects: list[tuple[str, int]]
) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"{transfer.what} starts before the maintenance of its buffer is known to be done",
            "accesses": [book.called(call), book.started(transfer)],
            "missing": f"a barrier (dsb) between the maintenance at {site_text(call.site)} and the start at "
            f"{site_text(transfer.site)}",
            "transfer": transfer.number,
        }

    book.note("R16", (transfer.number,), build, line, mask, subjects=subjects)


def _edge_store(book: Book, transfer: Transfer, line: Line, mask: int, store: Access) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"a line that {transfer.what} writes in part holds other bytes that the CPU stored after the flush",
            "accesses": [store, book.started(transfer)],
            "missing": f"align the buffer to {book.line_bytes} bytes (or bounce it): no flush saves a shared line",
            "transfer": transfer.number,
        }

    book.note("R10", (transfer.number,), build, line, mask, subjects=transfer.subjects, never={"R24", "R25", "R27"})
    believed_line(book, transfer, line, mask, store)


def believed_line(book: Book, transfer: Transfer, line: Line, mask: int, store: Access) -> None:
    """R12 behind R10: the buffer begins and ends on lines, of the size that software believes in."""
    believed = book.assumed_line_bytes
    ranges = transfer.mapped or transfer.source
    if transfer.interface == "linux":
        ranges = merge([*ranges, *_padding(book, ranges)])
    if believed >= book.line_bytes or any(a % believed or (a + n) % believed for a, n in ranges):
        return

    def build() -> dict[str, Any]:
        return {
            "detail": f"the buffer of {transfer.what} is aligned to {believed} bytes, which software takes for a line; the "
            f"cache's have {book.line_bytes}: its neighbours share them",
            "accesses": [store, book.started(transfer)],
            "missing": f"the line size from sys.features.line_bytes, and an alignment of {book.line_bytes} bytes",
            "transfer": transfer.number,
        }

    book.note("R12", ("align", transfer.number), build, line, mask, subjects=transfer.subjects, party=Party.INTERFACE)


def _unfinished(book: Book, transfer: Transfer, line: Line, mask: int, flush: Flush, subjects: list[tuple[str, int]]) -> str:
    """A flush call covers the line, came after the store, and yet the line may be dirty: its hardware work is missing.

    Returns the rule that explains it.
    """
    if not flush.worked:
        return "R21"  # reported at the call itself
    rule, detail, missing = (
        "R19",
        f"the maintenance behind the {flush.name} at {site_text(flush.site)} left out lines of its range",
        "maintenance of every line of the range",
    )
    if book.assumed_line_bytes != book.line_bytes:
        rule, detail, missing = (
            "R12",
            f"software assumes lines of {book.assumed_line_bytes} bytes, the cache has {book.line_bytes}: some are skipped",
            "the line size from sys.features.line_bytes",
        )
    elif line.unsure:
        rule, detail, missing = (
            "R20",
            "maintenance was reported done before memory had answered the write-backs",
            f"maintenance to the point of coherency in the {flush.name} at {site_text(flush.site)}",
        )

    def build() -> dict[str, Any]:
        accesses = [book.called(flush), book.started(transfer)]
        return {"detail": detail, "accesses": accesses, "missing": missing, "transfer": transfer.number}

    book.note(rule, ("hw", flush.number), build, line, mask, subjects=subjects, party=Party.INTERFACE)
    return rule


def _uncovered(book: Book, transfer: Transfer, rule: str, flushes: list[Flush]) -> None:
    """Bytes that no flush call covers: no call at all, or (R19) a call that is too short."""
    if book.control and rule != "R13" and not subtract(transfer.ranges, book.control):
        return  # control words: only what is dirty counts
    flushes = [f for f in flushes if f.interface == transfer.interface or f.by_address or transfer.interface == "v3"]
    covered = [r for f in flushes for r in f.ranges]
    waiting = [c for c in book.calls.values() if c.name == "CacheMaintenance"]
    covered += [r for c in waiting for r in (transfer.source if c.args.get("ranges") is None else pairs(c.args["ranges"]))]
    missing = subtract(transfer.source, covered)
    if not missing or not subtract(transfer.ranges, covered):  # the second: bounce bytes, which the mapping made ready
        return
    partly = [f for f in flushes if _fits(f, transfer)] or flushes
    if partly:
        flush = partly[-1]

        def build_short() -> dict[str, Any]:
            done = sum(n for _, n in flush.ranges)
            whole = max(sum(n for _, n in ranges) for ranges in (transfer.mapped or [], transfer.source))
            return {
                "detail": f"the {flush.name} at {site_text(flush.site)} covers {done} of {whole} bytes of the buffer of "
                f"{transfer.what}",
                "accesses": [book.called(flush), book.started(transfer)],
                "missing": f"{_wanted(transfer)} over the whole buffer at {site_text(flush.site)}",
                "transfer": transfer.number,
            }

        draft = book.note(
            "R19", (flush.number,), build_short, severity=Severity.WARNING, subjects=[transfer.subject, flush.subject]
        )
        draft.ranges += missing
        return

    def build() -> dict[str, Any]:
        return {
            "detail": f"{transfer.what} starts without a flush of its buffer; nothing the CPU did in this run left it dirty",
            "accesses": [book.started(transfer)],
            "missing": f"{_wanted(transfer)} before the StartTransfer at {site_text(transfer.site)}",
            "transfer": transfer.number,
        }

    draft = book.note(
        rule, (transfer.number,), build, severity=Severity.WARNING, subjects=transfer.subjects, never={"R08", "R10", "R19"}
    )
    draft.ranges += missing
    transfer.start_finding = draft


def _keeps_what_it_asked(book: Book, transfer: Transfer, ranges: list[Range]) -> bool:
    """On a coherent platform: the driver asked GetDmaAlignment and keeps to it. Elsewhere the answer is the line."""
    known = ledger(book).adapters.get((transfer.adapter or {}).get("id"))
    if not book.coherent or known is None or known.alignment is None:
        return False
    unit = max(known.alignment[0], 1)
    return not any(address % unit or length % unit for address, length in ranges)


def _check_edges(book: Book, transfer: Transfer) -> None:
    """R09: bytes of somebody else in the first or last line. Pieces of one MDL may share a line with each other.

    Bounce bytes share their lines with nobody. On bare metal, what the driver maintains by address is its buffer. On Linux, the
    rest of the last line of a kmalloc allocation is nobody's.
    """
    ranges = transfer.mapped or transfer.source
    if transfer.interface == "bare":
        own = [r for f in transfer.flushes_used for r in f.ranges if intersect([r], ranges)]
        ranges = merge([*ranges, *own])
    elif transfer.interface == "linux":
        ranges = merge([*ranges, *_padding(book, ranges)])
    if transfer.bounced:
        direct = intersect(transfer.source, transfer.ranges)
        ranges = [r for r in ranges if intersect([r], direct)]
    loose = [(a, n) for a, n in ranges if a & book.low or (a + n) & book.low]
    loose = [
        (a, n)
        for a, n in loose
        if (a & book.low and not any(b + k == a for b, k in ranges))
        or ((a + n) & book.low and not any(b == a + n for b, _ in ranges))
    ]
    if not loose or _keeps_what_it_asked(book, transfer, loose):
        return

    def build() -> dict[str, Any]:
        address, length = loose[0]
        return {
            "detail": f"the buffer of {transfer.what} at {address:#010x}, {length} bytes, does not begin and end on a line of "
            f"{book.line_bytes} bytes",
            "accesses": [book.started(transfer)],
            "missing": f"a buffer aligned to {book.line_bytes} bytes in start and length, or a bounce buffer",
            "transfer": transfer.number,
        }

    draft = book.note("R09", (tuple(ranges),), build, severity=Severity.WARNING, subjects=transfer.subjects)
    draft.ranges = loose


def _padding(book: Book, ranges: list[Range]) -> list[Range]:
    """What follows these ranges up to the end of their line, where they end with a kmalloc allocation."""
    blocks = [block for block in ledger(book).memory if block.freed is None]
    ends = {block.address + block.length for block in blocks if block.kind == "kmalloc"}
    tails = [(a + n, -(a + n) & book.low) for a, n in ranges if a + n in ends]
    return subtract(tails, [(block.address, block.length) for block in blocks])
