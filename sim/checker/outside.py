# SPDX-License-Identifier: BSD-2-Clause
"""Bytes beyond the buffer: R47 (the device's writes; R44 for its reads) and R50 (the slack of a common buffer's last page).

These need the events: what the device really wrote, and which bytes the CPU really touched.
"""

from typing import Any

from rtl.probe import Kind, Source
from sim.record import Event

from .book import Book
from .calls import OpenCall, Transfer
from .drafts import Draft
from .findings import site_text
from .ledger import COMMON_FREE, Buffer, bounced, ledger, owner_of, tell, who
from .state import Range, intersect, mask_ranges, merge, subtract

__all__ = ["EVENTS", "Outside", "begin", "end_of_run", "started"]


class Outside:
    """Per transfer number: the bytes it may use, taken at its hand-off."""

    def __init__(self) -> None:
        self.allowed: dict[int, list[Range]] = {}
        self.beats: dict[int, dict[int, int]] = {}  # transfer's tag -> beat address -> strobes that are allowed


def started(book: Book, transfer: Transfer) -> None:
    """A hand-off. What is mapped, bounced or common now is what the device may use; on bare metal, what the driver starts."""
    known = ledger(book)
    call = next((c for c in book.calls.values() if c.name == "StartTransfer" and c.transfer is transfer), None)
    owned = call is not None and owner_of(call) is not None and known.complete
    allowed = known.reachable() if owned else merge(transfer.ranges)
    outside = book.of(Outside)
    outside.allowed[transfer.number] = allowed
    outside.beats.pop(transfer.tag, None)  # tags come again
    rest = subtract(transfer.ranges, allowed)
    if not owned or not rest:
        return
    if transfer.write:
        tell(
            book,
            "R44",
            ("start", transfer.number),
            f"{transfer.what} takes {rest[0][0]:#010x}, which is not mapped for the device",
            f"address and length of the mapping in the start at {site_text(transfer.site)}",
            [book.started(transfer)],
            subjects=[transfer.subject, ("C", call.number)],
            ranges=rest,
            transfer=transfer.number,
        )
    else:
        draft = _outside(book, transfer, rest)
        draft.subjects.add(("C", call.number))


def begin(book: Book, call: OpenCall) -> None:
    """What is freed is nobody's buffer any more; a start beyond a common buffer's end is R50."""
    if call.name == "StartTransfer":
        _start(book, call)
    elif call.name in COMMON_FREE or call.name == "FreeMemory":
        known, outside = ledger(book), book.of(Outside)
        address = call.args.get("address")
        gone = [(b.dma, b.room) for b in known.buffers if b.freed is None and address in (b.address, b.dma)]
        gone += [(b.address, b.length) for b in known.memory if b.freed is None and b.address == address]
        for transfer in [t for t in book.open if t.active] if gone else ():
            lost = intersect(transfer.ranges, gone) if not transfer.write else []
            if lost:
                draft = _outside(book, transfer, lost)
                draft.detail = f"{call.name} frees memory that {transfer.what} may still write"
                draft.missing = f"wait for the transfer before the {call.name} at {site_text(call.site)}"
                draft.accesses.append(who(call))
            outside.allowed[transfer.number] = subtract(outside.allowed.get(transfer.number, []), gone)
            outside.beats.pop(transfer.tag, None)


def _written(book: Book, event: Event) -> None:
    word = event[5]
    if word >> 31:  # toward the device
        return
    known = book.of(Outside).beats.get(event[3])
    if known is not None:
        good = known.get(event[4])
        if good is not None and not word & ~good:
            return  # the usual case: this must cost next to nothing
    transfer = book.by_tag.get(event[3])
    if transfer is not None:
        _check(book, transfer, event, word)


def _cut_through(book: Book) -> None:
    """There no push announces the bytes: one pass over memory's own records, the newest transfer before each counts."""
    transfers = [t for t in book.transfers if not t.write]
    for event in book.record.events if transfers else ():
        if event[1] == Kind.MEM_WRITE and event[5] & 15 == Source.DMA_DATA and not event[2] & 1:
            newest = next((t for t in reversed(transfers) if t.handoff[0] <= event[0]), None)
            if newest is not None:
                book.cycle = event[0]
                _check(book, newest, event, event[5] >> 8)


def _check(book: Book, transfer: Transfer, event: Event, strobes: int) -> None:
    outside = book.of(Outside)
    allowed = outside.allowed.get(transfer.number)
    if allowed is None:
        return
    address = event[4] & -book.beat
    cache = outside.beats.setdefault(transfer.tag, {})
    good = cache.get(address)
    if good is None:
        good = 0
        for start, length in allowed:
            low, high = max(start - address, 0), min(start + length - address, book.beat)
            if low < high:
                good |= (1 << high) - (1 << low)
        cache[address] = good
    wrong = strobes & ~good
    if wrong:
        _wrote(book, transfer, event, address, wrong)


def _outside(book: Book, transfer: Transfer, ranges: list[Range]) -> Draft:
    draft = tell(
        book,
        "R47",
        (transfer.number,),
        f"{transfer.what} writes {ranges[0][0]:#010x}, which belongs to no buffer that is mapped for the device",
        f"address and length of the mapped buffer in the start at {site_text(transfer.site)}",
        [book.started(transfer)],
        subjects=[transfer.subject, *bounced(ledger(book), transfer.ranges)],
        transfer=transfer.number,
    )
    draft.ranges = merge([*draft.ranges, *ranges])
    return draft


def _wrote(book: Book, transfer: Transfer, event: Event, address: int, wrong: int) -> None:
    ranges = list(mask_ranges(address, wrong))
    value = event[6] >> 8 * (ranges[0][0] - address) & 0xFF
    _outside(book, transfer, ranges).see(f"the device wrote {value:#04x} to byte {ranges[0][0]:#010x} (cycle {event[0]})")


EVENTS = {Kind.PUSH: _written}


# -- R50 ------------------------------------------------------------------------------------------------------------------


def _slack(buffer: Buffer, *, dma: bool = False) -> Range:
    start = buffer.dma if dma else buffer.address
    return (start + buffer.length, buffer.room - buffer.length)


def _start(book: Book, call: OpenCall) -> None:
    ranges = [(int(a), int(n)) for a, n in call.args.get("ranges") or ()]
    for buffer in ledger(book).buffers:
        if buffer.freed is None and intersect(ranges, [(buffer.dma, buffer.length)]):
            beyond = intersect(ranges, [_slack(buffer, dma=True)])
            if beyond:
                draft = _beyond(book, buffer, who(call), "the transfer", beyond)
                draft.subjects.add(("C", call.number))


def _beyond(book: Book, buffer: Buffer, access: Any, what: str, ranges: list[Range]) -> Any:
    draft = tell(
        book,
        "R50",
        (buffer.call.number,),
        f"{what} goes beyond the {buffer.length} bytes that the {buffer.call.name} at {site_text(buffer.call.site)} asked for",
        f"a longer {buffer.call.name} at {site_text(buffer.call.site)}: what follows in the page is not the driver's",
        [who(buffer.call), access],
        subjects=[("C", buffer.call.number)],
    )
    draft.ranges = merge([*draft.ranges, *ranges])
    return draft


_CPU = frozenset({int(Kind.LOAD), int(Kind.STORE), int(Kind.UNCACHED_LOAD), int(Kind.UNCACHED_STORE), int(Kind.FETCH)})


def end_of_run(book: Book) -> None:
    """R50 of the CPU: one pass over the events, only if there is a common buffer with slack. R47 of a cut-through FIFO."""
    if book.cut_through:
        _cut_through(book)
    slack = [(b, *_slack(b)) for b in ledger(book).buffers if b.room > b.length]
    if not slack:
        return
    low, high = min(start for _, start, _ in slack), max(start + length for _, start, length in slack)
    for n, event in enumerate(book.record.events):
        if not low - book.beat < event[4] < high or event[1] not in _CPU or not event[3]:
            continue  # tag 0 is the test harness
        address = event[4] & -book.beat
        for buffer, start, length in slack:
            if buffer.first <= n and (buffer.last is None or n < buffer.last):
                touched = intersect(mask_ranges(address, event[5] & (1 << book.beat) - 1), [(start, length)])
                if touched:
                    book.cycle = event[0]
                    _beyond(book, buffer, book.cpu(event), f"the {book.cpu(event).what}", touched)
