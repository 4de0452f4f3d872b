# SPDX-License-Identifier: BSD-2-Clause
"""How many bytes are copied, and which: R52 (a bounce buffer copied back whole) and R53 (the residual counter)."""

from dataclasses import dataclass, field
from typing import Any

from rtl.probe import Kind
from sim.record import Event

from .book import Book
from .calls import Bounce, OpenCall, Transfer, adapter_id, mdl_ranges
from .findings import Access, Party, Severity, site_text
from .state import Range, clip, intersect, line_masks, merge, subtract

__all__ = ["EVENTS", "begin", "completed", "end"]


def completed(book: Book, transfer: Transfer) -> None:
    """What the device has written into bounce buffers."""
    if transfer.bounced and not transfer.write:
        for bounce in book.bounces:
            parts = intersect(transfer.ranges, [bounce.range])
            bounce.delivered += parts
            _wait(book, bounce, transfer, parts)


def _wait(book: Book, bounce: Bounce, transfer: Transfer, parts: list[Range]) -> None:
    """These bytes of the bounce buffer are not in the buffer yet."""
    if parts:
        bounce.waiting_of = transfer
    for address, mask in line_masks(_behind(bounce, parts), book.line_bytes).items():
        bounce.waiting[address] = bounce.waiting.get(address, 0) | mask
        line = book.line(address)
        line.hot = True
        if bounce not in line.claims:
            line.claims.append(bounce)


_NEVER_COPIED = ("R24", "R28", "R29", "R32", "R41")


def _given_back(book: Book, call: OpenCall) -> None:
    """What the device wrote and nobody copied back is lost with the bounce buffer."""
    address = int((call.args.get("bounce") or [0])[0])
    for bounce in [b for b in book.bounces if b.range[0] == address and b.waiting_of is not None]:
        transfer, left = bounce.waiting_of, sum(mask.bit_count() for mask in bounce.waiting.values())
        for draft in book.drafts.values() if left and transfer is not None else ():
            if draft.rule in _NEVER_COPIED and transfer.subject in draft.subjects:
                draft.see(f"{left} bytes of {transfer.what} were never copied out of their bounce buffer")


def _behind(bounce: Bounce, parts: list[Range]) -> list[Range]:
    return [r for a, n in parts for r in clip(bounce.source, a - bounce.range[0], n)]


# -- R52 -----------------------------------------------------------------------------------------------------------------


def _copy_begins(book: Book, call: OpenCall) -> None:
    copies = [(int(a), int(n)) for a, n in call.args.get("source") or ()]
    for bounce in book.bounces:
        for address, mask in line_masks(_behind(bounce, intersect(copies, [bounce.range])), book.line_bytes).items():
            bounce.waiting[address] = bounce.waiting.get(address, 0) & ~mask
        for transfer in book.open:
            if transfer.active and transfer.bounced and not transfer.write:
                _wait(book, bounce, transfer, intersect(copies, intersect(transfer.ranges, [bounce.range])))
        known = merge([*bounce.copied, *bounce.delivered])
        foreign = subtract(intersect(copies, [bounce.range]), known)
        if foreign:
            behind = _behind(bounce, foreign)
            before = {a + k: book.byte(a + k) for a, n in behind for k in range(n)}
            book.of(_Memory).copies[call.number] = (bounce, behind, before)


def _copy_ends(book: Book, call: OpenCall) -> None:
    bounce, behind, before = book.of(_Memory).copies.pop(call.number)

    def build() -> dict[str, Any]:
        moved, whole = sum(n for _, n in merge(bounce.delivered)), sum(n for _, n in bounce.source)
        return {
            "detail": f"a bounce buffer is copied back although the device wrote {moved} of {whole} bytes: the rest "
            "of the buffer gets what was in the bounce buffer before",
            "accesses": [book.called(bounce.owner), book.called(call.parent or call)],
            "missing": "copy back only what was transferred, or fill the bounce buffer from the buffer at the map",
        }

    party = Party.INTERFACE if bounce.whole else None
    draft = book.note("R52", bounce.subject, build, subjects=[bounce.subject], party=party)
    draft.ranges += behind
    for address, old in before.items():
        new = book.byte(address)
        if old is not None and new is not None and old != new:
            draft.see(f"byte {address:#010x} was {old:#04x} and is {new:#04x} after the copy; the device never wrote it")
            return


def _unmapped_too_early(book: Book, call: OpenCall) -> None:
    """What the device still writes into the bounce buffer reaches nobody: the copy that was too early (R05) was the last."""
    bounce = [(int(a), int(n)) for a, n in [call.args.get("bounce") or (0, 0)]]
    for transfer in book.open:
        draft = book.drafts.get(("R05", transfer.number, "reads"))
        if draft is not None and transfer.active and not transfer.write and intersect(transfer.ranges, bounce):
            draft.severity = max(draft.severity, Severity.POSSIBLE, key=lambda severity: severity.rank)


# -- R53 -----------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Reading:
    """ReadDmaCounter's result ``left`` for a transfer of ``size`` bytes; ``early``: the transfer was still running."""

    call: OpenCall
    transfer: Transfer
    size: int
    left: int
    early: bool


@dataclass
class _Memory:
    copies: dict[int, Any] = field(default_factory=dict)
    taken: dict[int, tuple[int, int]] = field(default_factory=dict)  # bytes accepted: without the last piece, and with it
    sizes: dict[int, int] = field(default_factory=dict)
    readings: dict[Any, _Reading] = field(default_factory=dict)  # newest by adapter
    at_begin: dict[int, tuple[Transfer, int | None, bool]] = field(default_factory=dict)


def _segment(book: Book, event: Event) -> None:
    transfer = book.by_tag.get(event[3])
    if transfer is not None:
        taken = book.of(_Memory).taken
        _, before = taken.get(transfer.number, (0, 0))
        taken[transfer.number] = (before, before + (event[5] >> 1))


def started(book: Book, transfer: Transfer) -> None:
    """The size before hardware cuts it short."""
    book.of(_Memory).sizes[transfer.number] = sum(n for _, n in transfer.ranges)


def begin(book: Book, call: OpenCall) -> None:
    """A counter is about to be read, or a length used."""
    if call.name == "ReadDmaCounter":
        transfer = next((t for t in reversed(book.transfers) if (t.adapter or {}).get("id") == adapter_id(call)), None)
        if transfer is not None:
            book.of(_Memory).at_begin[call.number] = (transfer, _left(book, transfer)[1], transfer.active)
    elif call.name == "IoCompleteRequest" and call.args.get("information") is not None:
        whole = mdl_ranges(call.args.get("mdl"))
        for reading in list(book.of(_Memory).readings.values()):
            if intersect(whole, reading.transfer.mapped or reading.transfer.source):
                _used(book, reading, call, int(call.args["information"]))
    elif call.name in ("FlushAdapterBuffers", "FlushAdapterBuffersEx") and call.args.get("length") is not None:
        reading = book.of(_Memory).readings.get(adapter_id(call))
        if reading is not None and reading.transfer.bounced:
            _used(book, reading, call, int(call.args["length"]))
    elif call.name == "BounceCopy" and not call.args.get("to_device"):
        _copy_begins(book, call)
    elif call.name == "BounceUnmap":
        _unmapped_too_early(book, call)
        _given_back(book, call)


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A counter was read."""
    memory = book.of(_Memory)
    if call.name == "BounceCopy" and call.number in memory.copies:
        _copy_ends(book, call)
    if call.number not in memory.at_begin:
        return
    transfer, most, early = memory.at_begin.pop(call.number)
    if error or not isinstance(result, int) or transfer.auto_init:
        return
    size = memory.sizes.get(transfer.number, 0)
    least = _left(book, transfer)[0]
    before = memory.readings.get(adapter_id(call))
    backwards = before is not None and before.transfer is transfer and result > before.left
    wrong = result > size or backwards or (most is not None and result > most) or (least is not None and result < least)
    memory.readings[adapter_id(call)] = _Reading(call, transfer, size, result, early and transfer.active)
    if not wrong:
        return
    older = before.call if backwards and before is not None else None

    def build() -> dict[str, Any]:
        known = f"{least} to {most}" if least != most else f"{least}"
        detail = f"ReadDmaCounter returned {result}, more than the {before.left} of before" if older is not None else (
            f"ReadDmaCounter returned {result}, {known} bytes were left"
        )  # fmt: skip
        return {
            "detail": f"{detail} ({transfer.what})",
            "accesses": [book.called(older) if older is not None else book.started(transfer), book.called(call)],
            "missing": "a counter that is right: read it again after the stop",
            "transfer": transfer.number,
        }

    book.note("R53", (transfer.number,), build, subjects=[transfer.subject, ("C", call.number)], party=Party.INTERFACE)


def _left(book: Book, transfer: Transfer) -> tuple[int | None, int | None]:
    """The least and the most bytes that may not have moved, where known: the counter may or may not count the last piece."""
    memory = book.of(_Memory)
    if transfer.complete is not None:
        exact = int(transfer.complete[6]) if transfer.complete[1] == Kind.COMPLETE else None
        return exact, exact
    taken, size = memory.taken.get(transfer.number), memory.sizes.get(transfer.number, 0)
    return (None, None) if taken is None else (max(0, size - taken[1]), max(0, size - taken[0]))


def _used(book: Book, reading: _Reading, call: OpenCall, length: int) -> None:
    """A length that was computed from the counter is used: right only if the counter was read after the end."""
    transfer = reading.transfer
    moved = sum(n for _, n in transfer.ranges)
    if length <= 0 or length != reading.size - reading.left or (length == moved and not reading.early):
        return
    who = Access(call.name, call.cycle, call.site)

    def build() -> dict[str, Any]:
        when = "while the transfer was running" if reading.early else "and the counter was wrong"
        return {
            "detail": f"{call.name} uses {length} bytes, by a ReadDmaCounter at {site_text(reading.call.site)} {when}; "
            f"{transfer.what} moved {moved}",
            "accesses": [book.called(reading.call), who],
            "missing": f"ReadDmaCounter after the transfer has stopped, instead of at {site_text(reading.call.site)}",
            "transfer": transfer.number,
        }

    draft = book.note("R53", (transfer.number,), build, subjects=[transfer.subject, ("C", reading.call.number)])
    draft.ranges += clip(transfer.mapped or transfer.source, 0, max(length, moved))
    if not reading.early:
        draft.party = Party.INTERFACE
    if length != moved and not transfer.active:
        draft.see(f"{call.name} says {length} bytes, the device moved {moved}")


EVENTS = {Kind.SEGMENT: _segment}
