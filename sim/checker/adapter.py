# SPDX-License-Identifier: BSD-2-Clause
"""The flush at the end of a transfer: R22 (its direction), R24, R27, and the bytes that never left the controller."""

from collections.abc import Iterator
from typing import Any

from . import flushes, landing
from .book import Book
from .calls import Mapping, OpenCall, Transfer, adapter_id, flag, mdl_ranges, succeeded
from .findings import Access, site_text
from .state import Range, clip, intersect, subtract

__all__ = ["begin", "direction", "end", "end_of_run", "no_flush", "unflushed"]

_FLUSHES = ("FlushAdapterBuffers", "PutScatterGatherList", "FlushAdapterBuffersEx")
_LAST_CHANCE = ("FreeAdapterChannel", "FreeMapRegisters", "FreeAdapterObject", "PutDmaAdapter")


def begin(book: Book, call: OpenCall) -> None:
    """A flush begins, or a call after which none can come."""
    if call.name in _FLUSHES:
        _adapter_flush_begins(book, call)
    elif call.name in _LAST_CHANCE:
        for transfer in unflushed(book, call):
            if transfer.complete is not None and transfer.flush is None:  # a flush that failed is R26's, at the IRP's end
                no_flush(book, transfer, Access(call.name, call.cycle, call.site))


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A flush ended; one that returned FALSE, or raised, has promised nothing."""
    if call.name in _FLUSHES:
        good = succeeded(result or 0) if call.name == "FlushAdapterBuffersEx" else result is not False
        _adapter_flush_ends(book, call, good and not error)


def direction(book: Book, transfer: Transfer, call: OpenCall, write: bool) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"{call.name} says WriteToDevice={flag(write)}, the transfer is {transfer.what}",
            "accesses": [Access(call.name, call.cycle, call.site), book.started(transfer)],
            "missing": f"WriteToDevice={flag(transfer.write)} in the {call.name} at {site_text(call.site)}",
            "transfer": transfer.number,
        }

    draft = book.note("R22", ("call", call.number, transfer.number), build, subjects=[transfer.subject])
    draft.ranges += transfer.ranges


def map_direction(book: Book, transfer: Transfer, mapping: Mapping) -> None:
    """R22: mapped for one direction, used for the other. (A Linux device that writes a TO_DEVICE mapping is R06.)"""
    if mapping.direction == "BIDIRECTIONAL" or mapping.write == transfer.write:
        return
    if mapping.interface != "linux":
        direction(book, transfer, mapping.call, mapping.write)
    elif transfer.write:

        def build() -> dict[str, Any]:
            return {
                "detail": f"the mapping is FROM_DEVICE, and {transfer.what} reads it",
                "accesses": [book.called(mapping.call), book.started(transfer)],
                "missing": f"DMA_TO_DEVICE (or DMA_BIDIRECTIONAL) in the {mapping.call.name} at {site_text(mapping.call.site)}",
                "transfer": transfer.number,
            }

        draft = book.note(
            "R22",
            ("call", mapping.number, transfer.number),
            build,
            subjects=[transfer.subject, mapping.subject],
            latent=book.coherent,
        )
        draft.ranges += transfer.source


def unflushed(book: Book, call: OpenCall) -> Iterator[Transfer]:
    """Transfers of the call's adapter that still owe their flush."""
    number = adapter_id(call)
    if number is None:
        return
    for transfer in book.open:
        if (
            transfer.called
            and (transfer.adapter or {}).get("id") == number
            and not transfer.superseded
            and (transfer.flush is None or not transfer.flush_ok)
        ):
            yield transfer


def no_flush(book: Book, transfer: Transfer, who: Access | None, *, exempt: bool = True) -> None:
    """R24: the moment has passed. ``exempt``: a bus master's common buffer owes none."""
    transfer.superseded = True
    if (exempt and not transfer.owes_adapter_flush) or transfer.flush is not None:
        return

    def build() -> dict[str, Any]:
        name = transfer.flush_name
        where = "" if who is None else f", before the {who.what} at {site_text(who.site)}"
        detail = (
            f"no {name} after {transfer.what}: what does not fill a chunk of {book.chunk_bytes} bytes stays in the controller"
        )
        return {
            "detail": detail,
            "accesses": [book.started(transfer), *([] if who is None else [who])],
            "missing": f"{name} (WriteToDevice={flag(transfer.write)}) after the completion of the transfer started at "
            f"{site_text(transfer.site)}{where}",
            "transfer": transfer.number,
        }

    draft = book.note("R24", (transfer.number,), build, subjects=[transfer.subject])
    draft.ranges = list(transfer.ranges)


# -- FlushAdapterBuffers, PutScatterGatherList ----------------------------------------------------------------------------


def _adapter_flush_begins(book: Book, call: OpenCall) -> None:
    wanted = call.args.get("list")
    candidates = list(unflushed(book, call))
    if call.name == "PutScatterGatherList" and any(t.list_id == wanted for t in candidates):
        candidates = [t for t in candidates if t.list_id == wanted]
    elif call.name == "FlushAdapterBuffersEx":
        # an adapter of version 3 may have several transfers in flight: the flush means those of its bytes
        part = _part(call)
        candidates = [t for t in candidates if intersect(t.source, part)] or candidates
    for transfer in candidates:
        said = call.args.get("write_to_device")
        if said is not None and bool(said) != transfer.write:
            direction(book, transfer, call, bool(said))
        if not transfer.active or transfer.auto_init:  # the flush may be what stops auto-init
            call.flushed.append(transfer)
        else:
            transfer.early_flush = call
            _too_early(book, transfer, call)


def _too_early(book: Book, transfer: Transfer, call: OpenCall) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"{call.name} while {transfer.what} is still running: what comes after it is not flushed",
            "accesses": [book.started(transfer), Access(call.name, call.cycle, call.site)],
            "missing": f"the {call.name} at {site_text(call.site)} belongs after the completion of the transfer",
            "transfer": transfer.number,
        }

    draft = book.note("R27", (transfer.number,), build, subjects=[transfer.subject])
    draft.ranges = list(transfer.ranges)


def _adapter_flush_ends(book: Book, call: OpenCall, ok: bool) -> None:
    for transfer in call.flushed:
        if transfer.active:
            continue
        transfer.flush, transfer.flush_ok = call, ok
        if ok and not transfer.drained:
            landing.land(book, transfer)
    flushes.adapter_maintained_when_coherent(book, call)
    said = call.args.get("write_to_device")
    drops = call.name == "FlushAdapterBuffersEx" or book.hal.get("invalidate_after_read", True)
    if ok and book.coherent and drops and said is False:
        if call.name == "PutScatterGatherList":
            mapping = book.lists.get(call.args.get("list"))
            ranges = mapping.part if mapping is not None else []
        else:
            ranges = _part(call)
        call.position = book.n + 1
        bounced = [r for t in call.flushed if t.mapping is not None for r in t.mapping.bounced]
        flushes.virtual(book, call, subtract(ranges, bounced), [(flushes.INVALIDATE, flushes.D | flushes.I)])
    book.open = [t for t in book.open if not (t.drained and t.flush is not None and t.flush_ok)]


def _part(call: OpenCall) -> list[Range]:
    """The bytes that a flush call names."""
    args = call.args
    return clip(mdl_ranges(args.get("mdl")), int(args.get("offset") or 0), int(args.get("length") or 0))


# -- end ------------------------------------------------------------------------------------------------------------------


def end_of_run(book: Book) -> None:
    """What was owed and never came; bytes that never left the FIFO are proof."""
    for transfer in book.open:
        if transfer.complete is not None and not transfer.superseded and transfer.flush is None:
            no_flush(book, transfer, None)
    # A bus master's common buffer owes no flush because whole chunks leave by themselves. What has not left when the run is over
    # was no whole chunk: there the exemption ends.
    newest = next((t for t in reversed(book.transfers) if t.write), None)
    if newest is not None and newest.adapter is not None and newest.common and newest.complete is not None and book.fifo[1]:
        no_flush(book, newest, None, exempt=False)
    blamed = ("R24", "R25", "R26", "R27")
    stuck = book.fifo[1]
    for transfer in reversed(book.transfers):
        drafts = [d for d in book.drafts.values() if d.rule in blamed and transfer.subject in d.subjects]
        if not drafts:
            continue
        if transfer.write:
            left = sum(bits.bit_count() for bits in stuck.values())
            stuck = {}  # the newest unflushed transfer's bytes are the ones that are left
        else:
            left = 0
            for address, bits in book.fifo[0].items():
                mask = 0 if address & -book.line_bytes in book.merged else transfer.masks.get(address & -book.line_bytes, 0)
                left += (bits << (address & book.low) & mask).bit_count()
        for draft in drafts if left else ():
            draft.see(f"{left} bytes of {transfer.what} never left the DMA controller's FIFO")
