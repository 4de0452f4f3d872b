# SPDX-License-Identifier: BSD-2-Clause
"""Accesses that a mapping or a bounce buffer forbids: R05 outside a transfer, R06, R51.

Linux gives a streaming mapping to the device from the map (or the sync for the device) to the unmap (or the sync for the
CPU), whether a transfer runs or not. Such an access alone is a warning; what it leads to (R01, R02, R07, ...) follows from it
and lifts it.
"""

from typing import Any

from sim.record import Event

from .book import Book
from .calls import Bounce, Mapping, OpenCall, Transfer
from .findings import Severity, site_text
from .state import Line, Range, clip, intersect, line_masks, mask_ranges, subtract

__all__ = ["begin", "copying", "end", "loaded", "started", "stored"]


def loaded(book: Book, line: Line, mask: int, event: Event) -> None:
    """The driver loads bytes of a line that somebody claims. A mapping that the device only reads may be read by all."""
    for claim in line.claims:
        if isinstance(claim, Mapping) and not claim.write and not claim.transferred:
            bytes_ = claim.owned.get(line.addr, 0) & mask
            if bytes_ and not copying(book, event):
                _idle(book, line, claim, bytes_, event, "reads")


def stored(book: Book, line: Line, mask: int, event: Event) -> None:
    """The driver stores bytes of a line that somebody claims."""
    if copying(book, event):
        return
    for claim in tuple(line.claims):
        if isinstance(claim, Bounce):
            _after_the_copy(book, line, claim, mask, event)
            continue
        owned = claim.owned.get(line.addr, 0) & mask
        if owned:
            _idle(book, line, claim, owned, event, "writes")
        given = claim.given.get(line.addr, 0) & mask
        if given and claim.direction == "FROM_DEVICE":
            _r06_store(book, line, claim, given, event)


def copying(book: Book, event: Event) -> bool:
    """Whether the access is part of a bounce buffer's copy."""
    return any(
        call.name == "BounceCopy"
        and any(
            int(a) - book.beat < event[4] < int(a) + int(n) for key in ("source", "target") for a, n in call.args.get(key) or ()
        )
        for call in book.calls.values()
    )


def _idle(book: Book, line: Line, mapping: Mapping, bytes_: int, event: Event, verb: str) -> None:
    """R05 while no transfer is on its way over these bytes (that is :mod:`.access`)."""
    if any(t.active and t.masks.get(line.addr, 0) & bytes_ for t in line.flight):
        return
    who = book.cpu(event)

    def build() -> dict[str, Any]:
        return {
            "detail": f"the CPU {verb} a buffer that the {mapping.call.name} at {site_text(mapping.call.site)} has given to the "
            "device",
            "accesses": [book.called(mapping.call), who],
            "missing": f"dma_unmap_single or dma_sync_single_for_cpu before the access at {site_text(who.site)} (and "
            "dma_sync_single_for_device after it, if the device gets the buffer again)",
        }

    # a load leads to nothing that the mapping's other findings would follow from
    subject = mapping.subject if verb == "writes" else ("L", mapping.number)
    never = () if mapping.misread else ("R04",)
    mapping.misstored |= verb == "writes" and not mapping.misread
    book.note(
        "R05",
        (*mapping.subject, verb),
        build,
        line,
        bytes_,
        severity=Severity.WARNING,
        subjects=[subject],
        never=never,
        watch=False,
    )


def _r06_store(book: Book, line: Line, mapping: Mapping, bytes_: int, event: Event) -> None:
    who = book.cpu(event)

    def build() -> dict[str, Any]:
        return {
            "detail": "the CPU stores into a buffer that is mapped FROM_DEVICE: the next sync or unmap may drop the bytes, and a "
            "write-back may overwrite the device's",
            "accesses": [book.called(mapping.call), who],
            "missing": f"DMA_BIDIRECTIONAL in the {mapping.call.name} at {site_text(mapping.call.site)}, or the store at "
            f"{site_text(who.site)} after the unmap",
        }

    book.note("R06", mapping.subject, build, line, bytes_, severity=Severity.WARNING, subjects=[mapping.subject], watch=False)


def started(book: Book, transfer: Transfer) -> None:
    """R06: the device writes what was mapped for reading only. R51: the device works on an older copy."""
    mapping = transfer.mapping
    if transfer.interface == "linux" and mapping is not None and mapping.direction == "TO_DEVICE" and not transfer.write:
        _r06_device(book, transfer, mapping)
    if transfer.bounced and transfer.write:
        for bounce in book.bounces:
            if bounce.changed and intersect([bounce.range], transfer.ranges):
                _older_copy(book, bounce, transfer)


def _r06_device(book: Book, transfer: Transfer, mapping: Mapping) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"{transfer.what} writes a buffer that is mapped TO_DEVICE: nothing is invalidated after it",
            "accesses": [book.called(mapping.call), book.started(transfer)],
            "missing": f"DMA_FROM_DEVICE (or DMA_BIDIRECTIONAL) in the {mapping.call.name} at {site_text(mapping.call.site)}",
            "transfer": transfer.number,
        }

    draft = book.note("R06", mapping.subject, build, severity=Severity.WARNING, subjects=[mapping.subject, transfer.subject])
    draft.ranges += transfer.source


# -- bounce buffers: R51 ------------------------------------------------------------------------------------------------


def begin(book: Book, call: OpenCall) -> None:
    """The copy back: what the CPU stored into the source meanwhile is gone, but for bytes that the device delivered."""
    if call.name != "BounceCopy" or call.args.get("to_device"):
        return
    for bounce, part in _pieces(book, call, "source"):
        kept = subtract([part], bounce.delivered)
        old = {a: m for r in kept for a, m in line_masks(_behind(bounce, r), book.line_bytes).items()}
        for address, mask in bounce.changed.items():
            gone = mask & old.get(address, 0)
            if gone:
                _r51(book, book.line(address), bounce, gone, None)


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """The copy to the bounce buffer is made: from here on a store into the source does not reach the device."""
    if call.name != "BounceCopy" or error or not call.args.get("to_device"):
        return
    for bounce, part in _pieces(book, call, "target"):
        bounce.copied.append(part)
        for address, mask in line_masks(_behind(bounce, part), book.line_bytes).items():
            line = book.line(address)
            bounce.changed[address] = bounce.changed.get(address, 0) & ~mask
            if bounce not in line.claims:
                line.claims.append(bounce)
            line.hot = True


def _pieces(book: Book, call: OpenCall, key: str) -> list[tuple[Bounce, Range]]:
    wanted = [(int(a), int(n)) for a, n in call.args.get(key) or ()]
    return [(bounce, part) for bounce in book.bounces for part in intersect(wanted, [bounce.range])]


def _behind(bounce: Bounce, part: Range) -> list[Range]:
    return clip(bounce.source, part[0] - bounce.range[0], part[1])


def _after_the_copy(book: Book, line: Line, bounce: Bounce, mask: int, event: Event) -> None:
    copied = [r for part in bounce.copied for r in _behind(bounce, part)]
    bytes_ = mask & line_masks(copied, book.line_bytes).get(line.addr, 0)
    if bytes_:
        bounce.changed[line.addr] = bounce.changed.get(line.addr, 0) | bytes_
        if bounce.given:
            return  # a sync for the device will copy again; a transfer before that takes the older copy
        _r51(book, line, bounce, bytes_, event, severity=Severity.WARNING)


def _r51(book: Book, line: Line, bounce: Bounce, bytes_: int, event: Event | None, severity: Severity = Severity.POSSIBLE) -> Any:
    who = book.cpu(event or line.store)

    def build() -> dict[str, Any]:
        return {
            "detail": f"the CPU stores into the buffer after the {bounce.owner.name} at {site_text(bounce.owner.site)} has "
            "copied it: the device works on the copy",
            "accesses": [book.called(bounce.owner), who],
            "missing": f"the store at {site_text(who.site)} belongs before the {bounce.owner.name}, or after its flush or unmap",
        }

    return book.note("R51", bounce.subject, build, line, bytes_, severity=severity, subjects=[bounce.subject], watch=False)


def _older_copy(book: Book, bounce: Bounce, transfer: Transfer) -> None:
    for address, mask in bounce.changed.items():
        if not mask:
            continue
        draft = _r51(book, book.line(address), bounce, mask, None)
        draft.subjects.add(transfer.subject)
        for start, length in mask_ranges(address, mask):
            for n in range(length):
                copy = _copy_of(bounce, start + n)
                right, got = book.byte(start + n), None if copy is None else book.byte(copy)
                if right is not None and got is not None and right != got and not draft.evidence:
                    draft.see(
                        f"{transfer.what} takes {got:#04x} from {copy:#010x} for byte {start + n:#010x}, newest is {right:#04x}"
                    )


def _copy_of(bounce: Bounce, address: int) -> int | None:
    position = bounce.range[0]
    for start, length in bounce.source:
        if start <= address < start + length:
            return position + address - start
        position += length
    return None
