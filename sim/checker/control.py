# SPDX-License-Identifier: BSD-2-Clause
"""Memory that CPU and device share beside the buffers: R14 (uncached accesses), R15 (descriptors), R16 (posted stores)."""

from typing import Any

from rtl.probe import Kind
from sim.record import Event

from .book import Book
from .calls import OpenCall, Transfer
from .findings import Access, Severity, site_text
from .state import Line, Range, intersect, line_masks, subtract

__all__ = ["EVENTS", "begin", "end", "started"]

_DESCRIPTOR_BYTES = 16


def begin(book: Book, call: OpenCall) -> None:
    """DeclareControl: words that the device reads or updates by itself."""
    if call.name == "DeclareControl":
        book.control.append((int(call.args.get("address") or 0), int(call.args.get("length") or 0)))


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """Freed memory holds no control words."""
    if call.name == "FreeMemory":
        book.control = [r for r in book.control if r[0] != call.args.get("address")]


# -- R15, R16: at the hand-off ------------------------------------------------------------------------------------------


def started(book: Book, transfer: Transfer) -> None:
    """Descriptors that the driver placed itself must be in memory, and so must every store before."""
    call = next((c for c in book.calls.values() if c.transfer is transfer), None)
    placed = None if call is None else call.args.get("descriptors")
    descriptors = [(int(placed[0]), int(placed[1]))] if placed else []
    _descriptors(book, transfer, descriptors)
    needed = [*descriptors, *(transfer.ranges if transfer.write else ())]
    for beat, store in book.posted.items():
        if intersect([(beat, book.beat)], needed):
            _r16_posted(book, transfer, book.line(beat), store)


def _descriptor(book: Book, event: Event) -> None:
    """The engine has read one: also those that no StartTransfer names."""
    transfer = book.by_tag.get(event[3])
    if transfer is not None:
        _descriptors(book, transfer, [(event[4], _DESCRIPTOR_BYTES)])


def _descriptors(book: Book, transfer: Transfer, ranges: list[Range]) -> None:
    for address, mask in line_masks(ranges, book.line_bytes).items():
        line = book.lines.get(address >> book.shift)
        if line is not None and line.dirty & mask:
            _r15(book, transfer, line, line.dirty & mask)


def _r15(book: Book, transfer: Transfer, line: Line, bytes_: int) -> None:
    store = book.cpu(line.store)

    def build() -> dict[str, Any]:
        return {
            "detail": f"the device reads descriptors for {transfer.what} that may still be dirty in the D-cache",
            "accesses": [store, book.started(transfer)],
            "missing": f"clean of the descriptors after the store at {site_text(store.site)}, before the start at "
            f"{site_text(transfer.site)} (or descriptors in uncached memory)",
            "transfer": transfer.number,
        }

    waiting = [c for c in book.calls.values() if c.name == "CacheMaintenance" and c.position > line.store_n]
    draft = book.note("R15", ("descriptors", transfer.number), build, line, bytes_, subjects=[transfer.subject])
    if waiting:
        call = waiting[-1]

        def build_posted() -> dict[str, Any]:
            return {
                "detail": f"{transfer.what} starts before the maintenance of its descriptors is known to be done",
                "accesses": [book.called(call), book.started(transfer)],
                "missing": f"a barrier (dsb) between the maintenance at {site_text(call.site)} and the start at "
                f"{site_text(transfer.site)}",
                "transfer": transfer.number,
            }

        book.note("R16", (transfer.number,), build_posted, line, bytes_, subjects=[transfer.subject])
    else:
        draft.never.add("R16")


def _r16_posted(book: Book, transfer: Transfer, line: Line, store: Event) -> None:
    who = book.cpu(store)

    def build() -> dict[str, Any]:
        return {
            "detail": f"{transfer.what} starts before memory has taken a store around the cache",
            "accesses": [who, book.started(transfer)],
            "missing": f"the answer of the store at {site_text(who.site)} before the start at {site_text(transfer.site)}",
            "transfer": transfer.number,
        }

    mask = store[5] << (store[4] & -book.beat & book.low)
    book.note("R16", (transfer.number,), build, line, mask, subjects=[transfer.subject])


# -- R14 -----------------------------------------------------------------------------------------------------------------


def _uncached(book: Book, event: Event) -> None:
    """An access around the cache, a beat at a time: is it a natural one?"""
    if not event[3] or not book.buffers:
        return
    low = (event[5] & -event[5]).bit_length() - 1
    length = event[5].bit_count()
    # the largest power of two that the piece can be an access of
    size = 1 << length.bit_length() - 1 if length else 1
    if low % size == 0:
        return
    address = (event[4] & -book.beat) + low
    for buffer in book.buffers.values():
        if not buffer.cached and buffer.range[0] <= address < buffer.range[0] + buffer.range[1]:
            _r14(book, buffer.number, address, length, book.cpu(event))


def _r14(book: Book, number: Any, address: int, length: int, who: Access) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"{who.what} of {length} bytes at {address:#010x} in an uncached common buffer is not naturally aligned: "
            "many CPUs refuse that on uncached memory, and it is not one access",
            "accesses": [who],
            "missing": f"accesses of their natural alignment at {site_text(who.site)}",
        }

    draft = book.note("R14", (number, who.site), build, severity=Severity.WARNING, subjects=[("U", address)])
    draft.ranges = [*subtract(draft.ranges, [(address, length)]), (address, length)]


EVENTS = {Kind.DESCRIPTOR: _descriptor, Kind.UNCACHED_LOAD: _uncached, Kind.UNCACHED_STORE: _uncached}
