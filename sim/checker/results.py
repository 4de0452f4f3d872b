# SPDX-License-Identifier: BSD-2-Clause
"""R35: results that the driver must look at before it goes on.

A mapped length and a DMA address may be wrong in *some* run, so using one without a look is reported in every run. A NULL or a
failed status is reported where this run returned it: Python's ``is None`` leaves no trace, so a look that was not needed
cannot be asked for.
"""

from dataclasses import dataclass
from typing import Any

from .book import Book
from .calls import OpenCall, succeeded
from .findings import site_text
from .ledger import COMMON, FLUSHES, LINUX_MAPS, LINUX_UNMAPS, LISTS, MAPPING, Map, ledger, owner_of, tell, unmapped, who
from .state import intersect

__all__ = ["Results", "begin", "end", "end_of_run"]

_STATUS = ("AllocateAdapterChannel", "AllocateAdapterChannelEx", "CalculateScatterGatherList", "GetDmaTransferInfo",
           "MapTransferEx", *LISTS, "dma_set_mask", "dma_set_coherent_mask", "AllocateMemory")  # fmt: skip
_SYNC = "dma_sync_"


@dataclass(eq=False)
class _Failure:
    """A NULL or a failed status that nobody has looked at yet."""

    call: OpenCall
    what: str
    owner: Any


class Results:
    """What was looked at: ``(call number, what)``; mappings given to dma_mapping_error; failures that wait for a look."""

    def __init__(self) -> None:
        self.looked: set[tuple[int, str]] = set()
        self.asked: set[int] = set()
        self.failures: dict[int, _Failure] = {}


def begin(book: Book, call: OpenCall) -> None:
    """A call begins: a look, or the use of something that nobody looked at."""
    known, results = ledger(book), book.of(Results)
    if not known.complete:
        return
    args, name = call.args, call.name
    if name == "ResultChecked":
        results.looked.add((args.get("call"), args.get("what")))
        results.failures.pop(args.get("call"), None)
    elif name == "dma_mapping_error":
        for mapping in known.maps:
            if mapping.owner == owner_of(call) and mapping.elements and mapping.elements[0][0] == args.get("dma"):
                results.asked.add(mapping.call.number)
        if args.get("dma") is None:
            for number in [n for n, f in results.failures.items() if f.what == "the DMA address"]:
                del results.failures[number]
    elif name == "StartTransfer":
        ranges = [(int(a), int(n)) for a, n in args.get("ranges") or ()]
        for mapping in known.open_maps(owner_of(call)):
            if intersect(mapping.elements, ranges):
                _used(book, results, mapping, call)
    elif name in FLUSHES:
        for mapping in known.open_maps(owner_of(call)):
            if mapping.list_id is None and mapping.transfers:
                _used(book, results, mapping, call)
    elif name in LINUX_UNMAPS:
        mapping = unmapped(known, call)
        if mapping is not None and mapping.flushed is None:
            _used(book, results, mapping, call)
    elif name.startswith(_SYNC):
        for mapping in known.open_maps(owner_of(call)):
            part = [(int(args.get("dma") or 0) + int(args.get("offset") or 0), max(int(args.get("length") or 0), 1))]
            if intersect(mapping.elements, part):
                _used(book, results, mapping, call)
    _after_failure(book, results, call)


def _used(book: Book, results: Results, mapping: Map, call: OpenCall) -> None:
    made = mapping.call
    subjects = [*mapping.subjects, ("C", call.number)]
    if made.name in MAPPING:
        if (made.number, "length") in results.looked:
            return
        short = f" (it is {mapping.length} of {mapping.asked} here)" if mapping.length < mapping.asked else ""
        detail = f"the length that {made.name} returned is not looked at{short}: it may be shorter than what was asked for"
        fix = f"use the length that the {made.name} at {site_text(made.site)} returned"
    elif made.name in LINUX_MAPS:
        if made.number in results.asked or any((made.number, w) in results.looked for w in ("null", "status", "length")):
            return
        subjects = [("E", made.number)]  # whatever else is wrong with this transfer: a mapping error is not why
        if made.name == "dma_map_sg":
            detail = "the number of elements that dma_map_sg returned is not looked at: it is 0 on an error"
            fix = f"test the result of the dma_map_sg at {site_text(made.site)}"
        else:
            detail = f"{made.name} may return DMA_MAPPING_ERROR, and nobody asks"
            fix = f"dma_mapping_error() after the {made.name} at {site_text(made.site)}"
    else:
        return
    tell(
        book,
        "R35",
        (made.number,),
        detail,
        f"{fix}, before the {call.name} at {site_text(call.site)}",
        [who(made), who(call)],
        subjects=subjects,
        ranges=mapping.source,
    )


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A call ends: did it fail?"""
    if error or not ledger(book).complete:
        return
    name, failed = call.name, ""
    if name == "IoGetDmaAdapter":
        if isinstance(result, dict) and result.get("adapter") is None:
            failed = "the adapter"
    elif name in COMMON or name == "AllocateMemory":
        if result is None or (isinstance(result, dict) and result.get("address") is None):
            failed = "the address"
    elif name in LINUX_MAPS and name != "dma_map_sg":
        if result is None:
            failed = "the DMA address"
    elif name == "dma_map_sg":
        if not isinstance(result, dict) or not result.get("elements"):
            failed = "the number of elements"
    elif name in _STATUS:
        status = result.get("status") if isinstance(result, dict) else result
        if name in LISTS and result is None:
            failed = "the status"
        elif status is not None and not succeeded(status):
            failed = "the status"
    if failed and not any((call.number, what) in book.of(Results).looked for what in ("null", "status", "length")):
        book.of(Results).failures[call.number] = _Failure(call, failed, owner_of(call))


_PASSIVE = (
    "ResultChecked",
    "dma_mapping_error",
    "UncheckedUse",
    "Unhandled",
    "HarnessRead",
    "CacheMaintenance",
    "CpuCopy",
    "dsb",
    "isb",
)


def _after_failure(book: Book, results: Results, call: OpenCall) -> None:
    """The next call about the same adapter or device comes, and the failure was not noticed."""
    owner = owner_of(call)
    for number, failure in list(results.failures.items()):
        if call.name in _PASSIVE or call.parent is failure.call:
            continue
        if (
            failure.call.name in ("IoGetDmaAdapter", "AllocateMemory")
            and call.name != "StartTransfer"
            and call.name not in MAPPING
        ):
            continue
        if failure.owner is None or failure.owner == owner:
            _unseen(book, failure, call)
            del results.failures[number]


def _unseen(book: Book, failure: _Failure, call: OpenCall | None) -> None:
    made = failure.call
    where = "" if call is None else f", before the {call.name} at {site_text(call.site)}"
    tell(
        book,
        "R35",
        (made.number,),
        f"{made.name} failed, and the driver does not look at {failure.what}",
        f"test the result of the {made.name} at {site_text(made.site)}{where}",
        [who(made), *([who(call)] if call is not None else [])],
        subjects=[("C", made.number), *([("C", call.number)] if call is not None else [])],
    )


def end_of_run(book: Book) -> None:
    """Failures that nobody ever looked at."""
    for failure in book.of(Results).failures.values():
        _unseen(book, failure, None)
