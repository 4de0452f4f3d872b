# SPDX-License-Identifier: BSD-2-Clause
"""R34: KeFlushIoBuffers for a transfer of a version 3 adapter, whose mapping and flush do the cache work themselves."""

from .book import Book
from .calls import OpenCall, mdl_ranges
from .findings import Severity, site_text
from .ledger import LISTS, MAPPING, ledger, part_of, tell, who
from .state import Range, intersect, subtract

__all__ = ["Flushes", "begin"]


class Flushes:
    """KeFlushIoBuffers(..., DmaOperation=TRUE) calls whose bytes no mapping has taken yet."""

    def __init__(self) -> None:
        self.unused: list[tuple[OpenCall, list[Range]]] = []


def begin(book: Book, call: OpenCall) -> None:
    """A flush over what version 3 has mapped, or a version 3 mapping over what was flushed for it."""
    known, flushes = ledger(book), book.of(Flushes)
    if call.name == "KeFlushIoBuffers" and call.args.get("dma_operation"):
        ranges = mdl_ranges(call.args.get("mdl"))
        for mapping in known.open_maps():
            adapter = known.adapters.get(mapping.owner[1]) if mapping.owner[0] == "A" else None
            if adapter is not None and adapter.version >= 3 and intersect(mapping.source, ranges):
                _needless(book, call, mapping.call, mapping.source)
                return
        flushes.unused = [(c, r) for c, old in flushes.unused if (r := subtract(old, ranges))]
        flushes.unused.append((call, ranges))
        del flushes.unused[:-64]
    elif call.name in (*MAPPING, *LISTS):
        adapter, part = known.adapter(call), part_of(call)
        if known.in_buffer(part):
            return
        for flush, ranges in flushes.unused:
            if adapter is not None and adapter.version >= 3 and intersect(ranges, part):
                _needless(book, flush, call, part)
        flushes.unused = [(c, r) for c, old in flushes.unused if (r := subtract(old, part))]


def _needless(book: Book, flush: OpenCall, mapping: OpenCall, ranges: list[Range]) -> None:
    tell(
        book,
        "R34",
        (flush.number,),
        f"KeFlushIoBuffers for the {mapping.name} at {site_text(mapping.site)} of a version 3 adapter: cache work done twice",
        f"no KeFlushIoBuffers at {site_text(flush.site)}: MapTransferEx and FlushAdapterBuffersEx do it",
        [who(flush), who(mapping)],
        severity=Severity.WARNING,
        subjects=[("C", flush.number), ("C", mapping.number)],
        ranges=ranges,
    )
