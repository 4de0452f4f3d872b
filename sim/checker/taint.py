# SPDX-License-Identifier: BSD-2-Clause
"""R54: a length or pointer that a device wrote is used without a comparison.

The driver's interface follows the values (``UncheckedUse``); here it is decided who wrote the bytes they came from.
"""

from typing import Any

from rtl.probe import Kind, Source

from .book import Book
from .calls import OpenCall
from .findings import Access, site_text
from .ledger import tell, who

__all__ = ["Uses", "begin", "end"]


class Uses:
    """Findings that wait for the call that got the value, and the CPU's copies out of bounce buffers: places in the stream."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str, Any]] = []
        self.copies: list[tuple[int, int]] = []


def begin(book: Book, call: OpenCall) -> None:
    """``UncheckedUse`` is logged just before the call that it names begins."""
    uses = book.of(Uses)
    if call.name == "UncheckedUse":
        _use(book, uses, call)
    elif uses.waiting:
        for thread, name, draft in uses.waiting:
            if thread == call.thread and name == call.name:
                draft.subjects.add(("C", call.number))
                if draft.accesses[-1].what == "UncheckedUse":
                    draft.accesses[-1] = who(call)
        uses.waiting = [use for use in uses.waiting if use[0] != call.thread or use[1] != call.name]


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """Remembers where the CPU copied a bounce buffer out: its stores carry the device's bytes."""
    if call.name == "BounceCopy" and not call.args.get("to_device"):
        book.of(Uses).copies.append((call.position, book.n))


def _use(book: Book, uses: Uses, call: OpenCall) -> None:
    source = call.args.get("source")
    if not source:
        return
    address, length = int(source[0]), int(source[1])
    writer = _last_writer(book, uses, address, length)
    if writer is None:
        return
    used = call.args.get("call") or "a call"
    value = call.args.get("value")
    shown = f"{value:#x}" if isinstance(value, int) else repr(value)
    draft = tell(
        book,
        "R54",
        (call.site, used, call.args.get("argument")),
        f"{shown}, which a device wrote to {address:#010x}, is used unchecked as {call.args.get('argument')} of {used}",
        f"compare the value with its limits before the {used} at {site_text(call.site)}",
        [writer, who(call)],
        subjects=[("C", call.number)],
        ranges=[(address, length)],
    )
    parent = call.parent
    if parent is not None and parent.name == used:
        draft.subjects.add(("C", parent.number))
    else:
        uses.waiting.append((call.thread, used, draft))


def _last_writer(book: Book, uses: Uses, address: int, length: int) -> Access | None:
    """The device's write, if it is the newest write of any of the bytes; None if the CPU wrote them all, or nobody."""
    left = {address + n for n in range(min(length, 64))}
    beat = book.beat
    for n in range(min(book.n, len(book.record.events) - 1), -1, -1):
        event = book.record.events[n]
        where = event[4] & -beat
        if not address - beat < where < address + length:
            continue
        kind = event[1]
        if kind in (Kind.STORE, Kind.UNCACHED_STORE):
            strobes, device = event[5], any(begin <= n <= end for begin, end in uses.copies)
        elif kind == Kind.PUSH and not event[5] >> 31:
            strobes, device = event[5] & 0x7FFF_FFFF, True
        elif kind == Kind.MEM_WRITE and event[5] & 15 == Source.DMA_DATA:
            strobes, device = event[5] >> 8, True
        else:
            continue
        hit = {where + lane for lane in range(beat) if strobes >> lane & 1} & left
        if hit and device:
            transfer = book.by_tag.get(event[3]) if kind == Kind.PUSH else None
            return Access(transfer.what if transfer is not None else "write of the device", event[0], None, min(hit))
        left -= hit
        if not left:
            return None
    return None
