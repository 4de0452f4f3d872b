# SPDX-License-Identifier: BSD-2-Clause
"""Rows ``dma-write``, ``dma-read``, ``speculation`` and ``remainder``: each flush there, left out, too early, too late.

The tables give, per discipline, what the driver does (options of the story), what comes out wrong on the non-coherent and
on the coherent platform, and the checker's root findings.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from .make import ADAPTER_FLUSH, FLUSH_BEFORE_READ, FLUSH_BEFORE_WRITE, both
from .model import Corruption, Scenario

__all__ = ["scenarios"]

_STREAMING = ("system", "bus-master")
_MODES = ("system", "bus-master", "common-cached", "common-uncached")

_OLD_MEMORY = "the CPU's newer bytes were still dirty in the D-cache when the device read memory (S6)"
_OLD_DRAFT = "the flush cleaned an earlier version; the bytes stored after it were still dirty (S6)"
_OVERWRITTEN = "the lines were dirty and were written back after the device's data had arrived (S5)"
_FLUSH_OVERWROTE = "the late flush itself wrote the dirty lines over the device's data (S5)"
_REMAINDER = "the remainder was still in the DMA controller's FIFO (S7)"
_NEVER_SEEN = "the D-cache still held the line filled before the device's data arrived"


class _Case(NamedTuple):
    """One discipline of a row: what the driver does and what comes of it."""

    discipline: str
    options: dict[str, Any]
    wrong: tuple[Corruption, ...] = ()
    wrong_coherent: tuple[Corruption, ...] = ()
    roots: tuple[str, ...] = ()
    missing: str = ""
    quick_size: str = "telling"


_DIRTY_MEMORY = Corruption("all", "stale", _OLD_MEMORY, dirty=True)
_DIRTY_DRAFT = Corruption("all", "old", _OLD_DRAFT, dirty=True)
_OVER_ALL = Corruption("all", "old", _OVERWRITTEN, dirty=True)
_OVER_DRAINED = Corruption("drained", "old", _OVERWRITTEN, dirty=True)
_FLUSHED_OVER = Corruption("drained", "old", _FLUSH_OVERWROTE, dirty=True)
_REST_STALE = (Corruption("remainder", "stale", _REMAINDER),)
_REST_OLD = (Corruption("remainder", "old", _REMAINDER),)

#: Memory to device. The CPU has just stored the payload; memory and the device's buffer hold its complement.
_WRITE = (
    _Case("all-flushes", {}),
    _Case("no-flushes", {"pre": "none", "post": "none"},
          (*_REST_STALE, _DIRTY_MEMORY), _REST_STALE, ("R01", "R24"), FLUSH_BEFORE_WRITE),
    _Case("no-preflush", {"pre": "none"}, (_DIRTY_MEMORY,), (), ("R01",), FLUSH_BEFORE_WRITE, "1"),
    _Case("preflush-early", {"pre": "early"}, (_DIRTY_DRAFT,), (), ("R01",), FLUSH_BEFORE_WRITE, "1"),
    _Case("preflush-late", {"pre": "late"}, (_DIRTY_MEMORY,), (), ("R01",), FLUSH_BEFORE_WRITE, "1"),
    _Case("no-adapter-flush", {"post": "none"}, _REST_STALE, _REST_STALE, ("R24",), "adapter", "1"),
    _Case("adapter-flush-early", {"post": "early"}, _REST_STALE, _REST_STALE, ("R27",), "adapter"),
    _Case("adapter-flush-late", {"post": "late"}, (), (), ("R25",), "adapter"),
)  # fmt: skip

#: Device to memory. The CPU has used the buffer before: its lines are dirty with older bytes; they are evicted after *w*.
_READ = (
    _Case("all-flushes", {"evict": "after"}),
    _Case("no-flushes", {"pre": "none", "post": "none", "evict": "after"},
          (*_REST_OLD, _OVER_ALL), _REST_OLD, ("R02", "R24"), FLUSH_BEFORE_READ),
    _Case("no-preflush", {"pre": "none", "evict": "after"}, (_OVER_DRAINED,), (),
          ("R02",), FLUSH_BEFORE_READ, "chunk"),
    _Case("preflush-early", {"pre": "early", "evict": "after"}, (_OVER_DRAINED,), (),
          ("R02",), FLUSH_BEFORE_READ, "chunk"),
    _Case("preflush-late", {"pre": "late"}, (_FLUSHED_OVER,), (),
          ("R02",), FLUSH_BEFORE_READ, "chunk"),
    _Case("no-adapter-flush", {"post": "none", "evict": "after"}, _REST_OLD, _REST_OLD, ("R24",), "adapter", "1"),
    _Case("adapter-flush-early", {"post": "early", "evict": "after"}, _REST_OLD, _REST_OLD, ("R27",), "adapter"),
    _Case("adapter-flush-late", {"post": "late", "evict": "after"}, _REST_OLD, _REST_OLD, ("R25",), "adapter", "1"),
)  # fmt: skip

_PREFETCHED = {"state": "absent", "prefetch": "in-flight"}

#: Device to memory with a CPU that prefetches the buffer while the device's first data is on its way.
_SPECULATION = (
    _Case("all-flushes", _PREFETCHED),
    _Case("to-the-letter", {**_PREFETCHED, "invalidate_after_read": False}, (Corruption("all", "stale", _NEVER_SEEN),), (),
          ("R04",), "an invalidate after the transfer (the HAL's option; v3's FlushAdapterBuffersEx)"),
    _Case("no-adapter-flush", {**_PREFETCHED, "post": "none"}, (Corruption("all", "stale", _NEVER_SEEN),), _REST_STALE,
          ("R24",), "adapter"),
    _Case("adapter-flush-late", {**_PREFETCHED, "post": "late"}, (Corruption("all", "stale", _NEVER_SEEN),), _REST_STALE,
          ("R25",), "adapter"),
)  # fmt: skip

#: Sizes and where the buffer begins in its line, in turn.
_SIZES = (
    ("1", 0),
    ("1", 5),
    ("chunk-1", 1),
    ("chunk", 0),
    ("chunk+1", 0),
    ("line-1", 1),
    ("line+1", 0),
    ("line+1", 13),
    ("page", 0),
)


def _in(mode: str, case: _Case, write: bool) -> _Case:
    """The case in its mode: a common buffer's early flush comes before the only copy into it, so nothing earlier was cleaned."""
    if mode == "common-cached" and write and case.discipline == "preflush-early":
        return case._replace(wrong=(_DIRTY_MEMORY,))
    return case


def _roots(mode: str, case: _Case, write: bool) -> dict[str, Any]:
    """The checker's roots in this mode.

    A common buffer is not mapped for streaming: a missing KeFlushIoBuffers is R13 there, one for both directions (S2). Its bus
    master is exempt from R24 because whole chunks leave by themselves. A remainder does not: what the CPU reads while it is still
    in the FIFO is R25, and what never leaves toward the device is R24 all the same.
    """
    if not mode.startswith("common"):
        return {"roots": case.roots}
    roots = {root for root in case.roots if root not in ("R24", "R25")}
    if mode == "common-cached":
        roots = {"R13" if root in ("R01", "R02") else root for root in roots}
    else:
        roots -= {"R01", "R02"}
    if write:
        return {"roots": roots, "roots_where": {"remainder": ("R24",)} if "R24" in case.roots else {}}
    return {"roots": roots, "roots_where": {"remainder": ("R25",)} if {"R24", "R25"} & set(case.roots) else {}}


def _source(case: _Case, mode: str, write: bool) -> tuple[str, ...]:
    adapter = "S4" if mode == "bus-master" else "S3"
    if case.discipline == "all-flushes":
        return ("S2" if mode.startswith("common") else "S1", adapter)
    if "adapter" in case.discipline:
        return (adapter, "S7")
    if case.discipline == "to-the-letter":
        return ("S1",)
    return ("S2" if mode == "common-cached" else "S1", "S6" if write else "S5")


def _one(row: str, mode: str, case: _Case, *, write: bool, variant: tuple[str, ...] = (), **changes: Any) -> Iterator[Scenario]:
    uncached = mode == "common-uncached"
    case = _in(mode, case, write)
    yield from both(
        row=row,
        mode=mode,
        discipline=case.discipline,
        story="transfer",
        variant=variant,
        options={"write_to_device": write, **({} if write else {"state": "dirty"}), **case.options},
        wrong=case.wrong_coherent if uncached else case.wrong,
        wrong_coherent=case.wrong_coherent,
        **_roots(mode, case, write),
        source=_source(case, mode, write),
        missing=ADAPTER_FLUSH[mode] if case.missing == "adapter" else case.missing,
        **{"quick_size": case.quick_size, **changes},
    )


def _matrix() -> Iterator[Scenario]:
    """Every discipline in every mode at the telling size."""
    for mode in _MODES:
        for row, cases, write in (("dma-write", _WRITE, True), ("dma-read", _READ, False), ("speculation", _SPECULATION, False)):
            for case in cases:
                if mode == "common-uncached" and ("preflush" in case.discipline or case.discipline == "to-the-letter"):
                    continue  # S2: nothing is cached, nothing is owed (listed in the catalogue's NOT_APPLICABLE)
                yield from _one(row, mode, case, write=write)


def _sizes() -> Iterator[Scenario]:
    """The flushes before a transfer, at all sizes and offsets."""
    for mode in _STREAMING:
        for row, cases, write in (("dma-write", _WRITE, True), ("dma-read", _READ, False)):
            for case in cases:
                if case.discipline not in ("all-flushes", "no-preflush"):
                    continue
                for size, offset in _SIZES:
                    variant = (size + (f"@{offset}" if offset else ""),)
                    quick = "3line" if size == "page" else size
                    yield from _one(row, mode, case, write=write, variant=variant, size=size, quick_size=quick, offset=offset)


def _remainders() -> Iterator[Scenario]:
    """The flush after a transfer, at all sizes and offsets, in all modes and both directions."""
    for mode in _MODES:
        for direction, cases in (("write", _WRITE), ("read", _READ)):
            for case in cases:
                if case.discipline not in ("all-flushes", "no-adapter-flush"):
                    continue
                sizes = _SIZES if mode in _STREAMING else tuple(pair for pair in _SIZES if pair[1] == 0)
                if mode in _STREAMING and case.discipline == "all-flushes":
                    continue  # the same runs are in dma-write and dma-read
                for size, offset in sizes:
                    variant = (direction, size + (f"@{offset}" if offset else ""))
                    yield from _one(
                        "remainder",
                        mode,
                        case,
                        write=direction == "write",
                        variant=variant,
                        size=size,
                        quick_size="3line" if size == "page" else size,
                        offset=offset,
                        device_offset=offset if direction == "write" else 0,
                    )


def _whole() -> Iterator[Scenario]:
    """The whole payload: larger than the D-cache, so that natural evictions have their say."""
    for mode in _STREAMING:
        for row, cases, write in (("dma-write", _WRITE, True), ("dma-read", _READ, False)):
            for case in cases:
                changes: dict[str, Any] = {"size": "whole", "quick_size": "3line", "variant": ("whole",)}
                if case.discipline == "no-preflush":
                    place = "resident"
                    if not write:
                        continue  # the natural evictions come before w: nothing to show beyond the page
                    case = case._replace(wrong=(Corruption(place, "stale", _OLD_MEMORY, dirty=True),))
                    changes["exact"] = False
                elif case.discipline not in ("all-flushes", "no-adapter-flush"):
                    continue
                else:
                    case = case._replace(options={key: value for key, value in case.options.items() if key != "evict"})
                yield from _one(row, mode, case, write=write, **changes)


def scenarios() -> Iterator[Scenario]:
    """All scenarios of these rows."""
    yield from _matrix()
    yield from _sizes()
    yield from _remainders()
    yield from _whole()
