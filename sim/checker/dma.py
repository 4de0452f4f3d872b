# SPDX-License-Identifier: BSD-2-Clause
"""Transfers, from what the hardware reports and what the driver mapped: hand-off, completion, landing, write-backs (R03)."""

from typing import Any

from rtl.probe import Kind
from sim.record import Event

from . import adapter as adapter_calls
from . import harm, mappings, start
from .book import Book
from .calls import OpenCall, Transfer
from .findings import Access
from .landing import drained, land_line
from .state import Line, intersect

__all__ = ["EVENTS", "written_back"]

_BUS_MASTER = 4


def _handoff(book: Book, event: Event) -> None:
    """A channel was started. The StartTransfer call around it knows the buffer; without one, registers and descriptors do."""
    channel, write = event[5] & 7, bool(event[5] >> 3 & 1)
    call = _start_call(book, channel, event[4])
    number = len(book.transfers) + 1
    if call is None:
        # A bare hand-off: a driver that writes registers itself. A bus master's buffer follows with its descriptors.
        ranges = [(event[4], event[6])] if channel != _BUS_MASTER and event[6] else []
        transfer = Transfer(number, event, write, ranges, book.line_bytes, tag=event[3], called=False)
    else:
        transfer = call.transfer = _new_transfer(book, call, number, event)
    book.transfers.append(transfer)
    book.by_tag[event[3]] = transfer
    book.open.append(transfer)
    _begin(book, transfer, transfer.masks)
    for hook in book.on_started:
        hook(book, transfer)


def _new_transfer(book: Book, call: OpenCall, number: int, event: Event) -> Transfer:
    """The transfer that a StartTransfer call hands off. The adapter's transfer before it should have been flushed (R24)."""
    args = call.args
    adapter = args.get("adapter") or None
    write = bool(event[5] >> 3 & 1)
    ranges = [(int(a), int(n)) for a, n in args.get("ranges") or ()]
    source = mappings.to_source(book, ranges)
    mapping = mappings.find(book, call, source)
    buffer = book.buffers.get(args.get("buffer"))
    if buffer is None:
        buffer = next((b for b in book.buffers.values() if intersect([b.range], ranges)), None)
    number_of = adapter.get("id") if isinstance(adapter, dict) else adapter
    transfer = Transfer(
        number,
        event,
        write,
        ranges,
        book.line_bytes,
        site=call.site,
        tag=event[3],
        adapter=adapter,
        interface=mappings.interface_of(call),
        source=ranges if source == ranges else source,
        mapped=[] if mapping is None else mapping.ranges,
        mapping=mapping,
        buffer=None if buffer is None else buffer.number,
        common=buffer is not None or args.get("buffer") is not None,
        uncached=buffer is not None and not buffer.cached,
        auto_init=bool(book.adapters.get(number_of, {}).get("auto_initialize")),
    )
    for before in adapter_calls.unflushed(book, call):
        parallel = before.mapping is not None and mapping is not None and before.mapping is not mapping
        several = parallel and ((before.list_id, before.mapping.context) != (mapping.list_id, mapping.context))
        if before.complete is not None and not several:
            adapter_calls.no_flush(book, before, Access("StartTransfer", call.cycle, call.site))
    if mapping is not None:
        mapping.transferred = True
        adapter_calls.map_direction(book, transfer, mapping)
    return transfer


def _start_call(book: Book, channel: int, address: int) -> Any:
    best = None
    for call in book.calls.values():
        if call.name != "StartTransfer" or call.transfer is not None:
            continue
        adapter = call.args.get("adapter") or {}
        wanted = _BUS_MASTER if adapter.get("master") else adapter.get("channel")
        if wanted == channel and wanted is not None:
            return call
        if wanted is None:
            best = call
    return best


def _descriptor(book: Book, event: Event) -> None:
    """A bare bus-master transfer learns its buffer piece by piece."""
    transfer = book.by_tag.get(event[3])
    if transfer is not None and not transfer.called:
        before = dict(transfer.masks)
        transfer.ranges.append((event[6] & 0xFFFF_FFFF, event[6] >> 32))
        transfer.remask()
        _begin(book, transfer, {line: mask & ~before.get(line, 0) for line, mask in transfer.masks.items()})


def _begin(book: Book, transfer: Transfer, masks: dict[int, int]) -> None:
    """The checks at the hand-off, then the lines are in flight."""
    if not masks:
        return
    if not transfer.uncached:
        start.check(book, transfer, masks)
    for address, mask in masks.items():
        line = book.line(address)
        for other in [t for t in line.flight if not t.active and not t.write]:
            if transfer.write and other.masks.get(address, 0) & mask:
                harm.use_in_flight(book, line, other, other.masks[address] & mask, book.started(transfer), "sends")
            elif not transfer.write:
                # the FIFO keeps its order: before the new data arrives, the old has
                land_line(book, other, line, other.masks.get(address, 0))
                line.flight.remove(other)
        if line.flight:
            start.shared(book, transfer, line, mask)
        if not transfer.write and not transfer.uncached and line.dirty:
            line.hazard |= mask
            line.hazard_of = transfer
        line.flight.append(transfer)
        line.hot = True


# -- completion and draining --------------------------------------------------------------------------------------------


def _complete(book: Book, event: Event) -> None:
    """The last byte is in the FIFO, or the transfer ended early. Auto-init goes on until it is stopped."""
    transfer = book.by_tag.get(event[3])
    if transfer is None or transfer.complete is not None:
        return
    if transfer.auto_init and not event[2] & 3:
        transfer.rounds += 1
        return
    transfer.complete, transfer.complete_n = event, book.n
    if event[6] and not transfer.auto_init:
        before = dict(transfer.masks)
        transfer.shorten(event[6])
        for address, mask in before.items():
            line = book.lines.get(address >> book.shift)
            if line is None:
                continue
            if line.hazard_of is transfer:
                line.hazard &= ~mask | transfer.masks.get(address, 0)
            if address not in transfer.masks and transfer in line.flight:
                line.flight.remove(transfer)
    harm.read_too_early(book, transfer)
    if transfer.common and not transfer.owes_adapter_flush and not transfer.write:
        _leave_by_themselves(book, transfer)
    if transfer.write:
        for address in transfer.masks:
            line = book.lines.get(address >> book.shift)
            if line is not None and transfer in line.flight:
                line.flight.remove(transfer)
    for hook in book.on_completed:
        hook(book, transfer)


def _leave_by_themselves(book: Book, transfer: Transfer) -> None:
    """A bus master's common buffer owes no flush (R24): its whole chunks count as landed, only the remainder stays in flight."""
    rest = harm.remainder(book, transfer)
    for address, mask in transfer.masks.items():
        line = book.lines.get(address >> book.shift)
        if line is not None and transfer in line.flight:
            left = rest.get(address, 0)
            land_line(book, transfer, line, mask & ~left)
            if not left:
                line.flight.remove(transfer)
    transfer.masks = rest
    transfer.drained = not rest


def _aborted(book: Book, event: Event) -> None:
    """Everything stops; what was in the FIFOs is gone."""
    for transfer in book.open:
        if transfer.active:
            transfer.complete, transfer.complete_n = event, book.n - 1
            for hook in book.on_completed:
                hook(book, transfer)
    drained(book, book.n)


def written_back(book: Book, line: Line, event: Event) -> None:
    """R03, as it really happened: a dirty line leaves the cache while, or after, the device writes the same bytes."""
    transfer = line.hazard_of
    if transfer is None:
        return

    def build() -> dict[str, Any]:
        return {
            "detail": f"a dirty line of the buffer of {transfer.what} is written back: old bytes may go over the device's",
            "accesses": [book.cpu(line.store), book.cpu(event)],
            "missing": "see the root: no dirty line may be left when the transfer starts",
            "transfer": transfer.number,
        }

    book.note("R03", (transfer.number,), build, line, line.hazard, subjects=transfer.subjects)


def _flush_begin(book: Book, event: Event) -> None:
    book.flush_begin = book.n


def _flush_end(book: Book, event: Event) -> None:
    if event[2] & 1 and book.flush_begin is not None:
        drained(book, book.flush_begin)
    book.flush_begin = None


EVENTS = {
    Kind.HANDOFF: _handoff,
    Kind.DESCRIPTOR: _descriptor,
    Kind.COMPLETE: _complete,
    Kind.FLUSH_BEGIN: _flush_begin,
    Kind.FLUSH_END: _flush_end,
    Kind.DMA_ABORT: _aborted,
}
