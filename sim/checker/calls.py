# SPDX-License-Identifier: BSD-2-Clause
"""Bookkeeping of the driver's calls: transfers, flushes, PIO reads, adapters, common buffers."""

from dataclasses import dataclass, field
from typing import Any

from sim.record import Event

from .findings import Site
from .state import Range, line_masks, merge

__all__ = ["CommonBuffer", "Flush", "Mapping", "OpenCall", "Pio", "Transfer", "adapter_id", "mdl_ranges", "pairs", "succeeded"]

Draft = Any


@dataclass
class OpenCall:
    """A call between its begin and end records.

    ``parent`` is the enclosing call of the same execution context (in logs without ``parent``: the newest call in progress).
    ``thread``, ``role`` and ``irql`` describe the context; ``irql`` is None where the interface has none. ``maintained``: how
    many maintenance commands completed inside. ``site`` is ``(file, line, function)``.
    """

    number: int
    name: str
    args: dict[str, Any]
    site: Site | None
    cycle: int
    position: int
    parent: "OpenCall | None" = None
    thread: int = 0
    role: str = "thread"
    irql: int | None = None
    maintained: int = 0
    transfer: "Transfer | None" = None
    flushed: list["Transfer"] = field(default_factory=list)
    cache_calls: list["OpenCall"] = field(default_factory=list)


@dataclass(eq=False)
class Transfer:
    """A DMA transfer: from its hand-off to its flush.

    ``masks``: line address to bytes. ``residue`` bytes at its end did not move. ``complete`` is the event; ``drained``: a flush
    that began after completion left nothing in the FIFO; ``flush``: the interface call that ended it, with its result.
    """

    number: int
    handoff: Event
    write: bool
    ranges: list[Range]
    line_bytes: int
    site: Site | None = None
    tag: int = 0
    adapter: dict[str, Any] | None = None
    mapped: list[Range] = field(default_factory=list)
    list_id: Any = None
    buffer: int | None = None
    common: bool = False
    uncached: bool = False
    auto_init: bool = False
    called: bool = True
    masks: dict[int, int] = field(default_factory=dict)
    complete: Event | None = None
    complete_n: int = -1
    drained: bool = False
    early_flush: OpenCall | None = None
    flush: OpenCall | None = None
    flush_ok: bool = True
    superseded: bool = False
    reads: list[Event] = field(default_factory=list)
    start_finding: Draft = None
    flushes_used: list["Flush"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.remask()

    def remask(self) -> None:
        """Recomputes ``masks`` from ``ranges``."""
        self.masks = line_masks(self.ranges, self.line_bytes)

    def shorten(self, residue: int) -> None:
        """Takes ``residue`` bytes off the end: they did not move."""
        ranges = list(self.ranges)
        while residue > 0 and ranges:
            address, length = ranges.pop()
            if length > residue:
                ranges.append((address, length - residue))
            residue -= length
        self.ranges = ranges
        self.remask()

    @property
    def what(self) -> str:
        direction = "memory to device" if self.write else "device to memory"
        return f"DMA transfer {self.number} ({direction})"

    @property
    def subject(self) -> tuple[str, int]:
        return ("T", self.number)

    @property
    def active(self) -> bool:
        """Between hand-off and completion."""
        return self.complete is None

    @property
    def version(self) -> int:
        return int((self.adapter or {}).get("version", 0) or 0)

    @property
    def master(self) -> bool:
        return bool((self.adapter or {}).get("master", False))

    @property
    def owes_adapter_flush(self) -> bool:
        """S3, S4: every transfer of an adapter but a bus master's on its common buffer; version 3 has its own rules."""
        return self.called and self.adapter is not None and self.version < 3 and not (self.common and self.master)

    @property
    def flush_name(self) -> str:
        if self.version >= 3:
            return "FlushAdapterBuffersEx"
        return "FlushAdapterBuffers"


@dataclass(eq=False)
class Flush:
    """A KeFlushIoBuffers call, or maintenance that the driver asked for by address. ``left``: bytes no transfer has used yet."""

    number: int
    name: str
    site: Site | None
    cycle: int
    position: int
    end: int
    ranges: list[Range]
    left: list[Range]
    read: bool = False
    dma: bool = True
    by_address: bool = False
    op: int = 0
    worked: bool = True
    served_pio: bool = False
    served_dma: bool = False
    mapped: list[Range] = field(default_factory=list)

    @property
    def subject(self) -> tuple[str, int]:
        return ("F", self.number)

    @property
    def text(self) -> str:
        if self.by_address:
            return self.name
        return f"KeFlushIoBuffers(Mdl, ReadOperation={flag(self.read)}, DmaOperation={flag(self.dma)})"


@dataclass(eq=False)
class Pio:
    """A PIO read: bytes that the CPU stored from a register."""

    number: int
    name: str
    site: Site | None
    cycle: int
    position: int
    ranges: list[Range]
    flushes: list[Flush] = field(default_factory=list)

    @property
    def subject(self) -> tuple[str, int]:
        return ("P", self.number)


@dataclass
class Mapping:
    """MapTransfer or GetScatterGatherList: ``ranges`` is the whole MDL chain, ``part`` the mapped bytes of it."""

    call: OpenCall
    ranges: list[Range]
    part: list[Range]
    write: bool
    list_id: Any = None


@dataclass
class CommonBuffer:
    """AllocateCommonBuffer."""

    number: Any
    range: Range
    cached: bool


def flag(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def pairs(ranges: Any) -> list[Range]:
    """A logged list of ``[address, length]`` as merged tuples; None gives nothing."""
    return merge((int(a), int(n)) for a, n in ranges or ())


def mdl_ranges(mdl: Any) -> list[Range]:
    """Ranges of a logged MDL chain, in the chain's order; None gives nothing."""
    return [] if not mdl else [(int(a), int(n)) for a, n in mdl.get("ranges", ())]


def adapter_id(call: "OpenCall") -> Any:
    """Id of the adapter that a call is about."""
    adapter = call.args.get("adapter")
    return adapter.get("id") if isinstance(adapter, dict) else adapter


def succeeded(status: Any) -> bool:
    """NT_SUCCESS of a logged status: an integer (signed or not), a name, or a bool."""
    if isinstance(status, bool):
        return status
    if isinstance(status, int):
        return not status & 0x8000_0000 if status >= 0 else False
    text = str(status).upper()
    return text in ("STATUS_SUCCESS", "SUCCESS", "0", "STATUS_PENDING") or text.startswith("STATUS_SUCCESS")
