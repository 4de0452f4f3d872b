# SPDX-License-Identifier: BSD-2-Clause
"""What a completed IRP hands to its caller: R25, R26, and whatever harm the bytes carry."""

from typing import Any

from . import harm, pio
from .book import Book
from .calls import OpenCall, Transfer, mdl_ranges, succeeded
from .findings import Access, site_text
from .state import clip, intersect, line_masks

__all__ = ["begin"]


def begin(book: Book, call: OpenCall) -> None:
    """IoCompleteRequest is the only call of this family."""
    if call.name == "IoCompleteRequest":
        _irp_completed(book, call)


def _irp_completed(book: Book, call: OpenCall) -> None:
    args = call.args
    whole = mdl_ranges(args.get("mdl"))
    good, information = succeeded(args.get("status")), args.get("information")
    seen = whole if information is None else clip(whole, 0, int(information))
    who = Access("IoCompleteRequest", call.cycle, call.site)
    masks = line_masks(seen, book.line_bytes)
    for transfer in list(book.open):
        if not transfer.called or transfer.superseded or transfer.auto_init:
            continue
        if whole and not intersect(whole, transfer.source):
            continue
        if transfer.active:
            if good:
                harm.note_r25(book, transfer, who, "the IRP is completed", over=False)
                for address, mask in masks.items() if not transfer.write else ():
                    line, bytes_ = book.line(address), transfer.masks.get(address, 0) & mask
                    if bytes_:
                        harm.undelivered(book, line, transfer, bytes_, who, "the transfer is still running")
        elif transfer.flush is None:
            _completed_unflushed(book, transfer, who, call, masks if good else {})
        elif not transfer.flush_ok and good:
            _completed_after_failure(book, transfer, who, call, masks)
    if not good:
        return
    for address, mask in masks.items():
        line = book.lines.get(address >> book.shift)
        if line is None or not line.hot:
            continue
        harm.observed_by_caller(book, line, mask, call)
        if line.pio & mask:
            pio.handed_on(book, line, mask, who, "completed to the caller", memory=True, fetch=True)


def _completed_unflushed(book: Book, transfer: Transfer, who: Access, call: OpenCall, masks: dict[int, int]) -> None:
    if transfer.owes_adapter_flush:
        harm.note_r25(book, transfer, who, "the IRP is completed")
    if transfer.write:
        return
    for address, mask in masks.items():
        line = book.lines.get(address >> book.shift)
        bytes_ = transfer.masks.get(address, 0) & mask
        if line is not None and bytes_:
            harm.use_in_flight(book, line, transfer, bytes_, who, "reads")


def _completed_after_failure(book: Book, transfer: Transfer, who: Access, call: OpenCall, masks: dict[int, int]) -> None:
    flush = transfer.flush

    def build() -> dict[str, Any]:
        return {
            "detail": f"the IRP of {transfer.what} is completed with success although {flush.name} returned FALSE",
            "accesses": [Access(f"{flush.name} (FALSE)", flush.cycle, flush.site), who],
            "missing": f"retry the {flush.name} at {site_text(flush.site)}, or complete the IRP at {site_text(who.site)} "
            "with an error and the bytes that arrived",
            "transfer": transfer.number,
        }

    draft = book.note("R26", (transfer.number, call.number), build, subjects=[transfer.subject])
    draft.ranges = list(transfer.ranges)
    if transfer.write or transfer.drained:
        return
    for address, mask in masks.items():
        line = book.lines.get(address >> book.shift)
        bytes_ = transfer.masks.get(address, 0) & mask
        if line is not None and bytes_:
            harm.undelivered(book, line, transfer, bytes_, who, "the flush failed, they may never have left the FIFO")
