# SPDX-License-Identifier: BSD-2-Clause
"""Bookkeeping of the driver's calls: transfers, flushes, PIO reads, adapters, common buffers."""

from dataclasses import dataclass, field
from typing import Any

from sim.record import Event

from .findings import Site
from .state import Range, line_masks, merge

__all__ = [
    "Bounce",
    "CommonBuffer",
    "Flush",
    "Mapping",
    "OpenCall",
    "Pio",
    "Transfer",
    "adapter_id",
    "mdl_ranges",
    "pairs",
    "succeeded",
]

Draft = Any


@dataclass
class OpenCall:
    """A call between its begin and end records.

    ``parent`` is the enclosing call of the same execution context (in logs without ``parent``: the newest call in progress).
    ``thread``, ``role`` and ``irql`` describe the context; ``irql`` is None where the interface has none. ``maintained``: how
    many maintenance commands completed inside; ``deferred``: those of the driver's own, which count from the call's end on;
    ``dropping``: what its invalidates may drop meanwhile. ``site`` is ``(file, line, function)``.
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
    deferred: list[tuple[Any, ...]] = field(default_factory=list)
    dropping: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(eq=False)
class Transfer:
    """A DMA transfer: from its hand-off to its flush.

    ``interface``: ``"wdk"`` (versions 1 and 2), ``"v3"``, ``"linux"`` or ``"bare"``. ``ranges`` are the device's, ``source`` the
    CPU's buffer: the same, but where it is bounced. ``mapped`` is the whole MDL chain. ``masks``: line address to bytes.
    ``residue`` bytes at its end did not move. ``complete`` is the event; ``drained``: a flush that began after completion left
    nothing in the FIFO; ``flush``: the interface call that ended it, with its result.
    """

    number: int
    handoff: Event
    write: bool
    ranges: list[Range]
    line_bytes: int
    site: Site | None = None
    tag: int = 0
    adapter: dict[str, Any] | None = None
    interface: str = "bare"
    source: list[Range] = field(default_factory=list)
    mapped: list[Range] = field(default_factory=list)
    mapping: "Mapping | None" = None
    buffer: Any = None
    common: bool = False
    uncached: bool = False
    auto_init: bool = False
    rounds: int = 0
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
        self.source = self.source or self.ranges
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
        if self.source is self.ranges:
            self.source = ranges
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
    def subjects(self) -> list[tuple[str, int]]:
        """The transfer, and on Linux the mapping, whose misuse is noted apart."""
        mapping = self.mapping if self.interface == "linux" else None
        return [self.subject] if mapping is None else [self.subject, mapping.subject]

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
    def list_id(self) -> Any:
        """The scatter/gather list that it uses, or None."""
        return None if self.mapping is None else self.mapping.list_id

    @property
    def bounced(self) -> bool:
        """Whether the device works on bounce bytes."""
        return self.source is not self.ranges

    @property
    def owes_adapter_flush(self) -> bool:
        """S3, S4: every transfer of an adapter, but a bus master's on its common buffer."""
        return self.called and self.adapter is not None and not (self.common and self.master)

    @property
    def flush_name(self) -> str:
        """What ends it on its interface."""
        if self.interface == "linux":
            return "dma_unmap_single or dma_sync_single_for_cpu"
        if self.interface == "bare":
            return "a flush of the DMA controller"
        if self.list_id is not None:
            return "PutScatterGatherList"
        return "FlushAdapterBuffersEx" if self.interface == "v3" else "FlushAdapterBuffers"

    @property
    def flush_call(self) -> str:
        """The same, as code."""
        if self.interface == "linux":
            return f"dma_unmap_single(dev, ..., DMA_{'TO' if self.write else 'FROM'}_DEVICE) or dma_sync_single_for_cpu"
        if self.interface == "bare":
            return self.flush_name
        return f"{self.flush_name}(Adapter, ..., WriteToDevice={flag(self.write)})"


@dataclass(eq=False)
class Flush:
    """What made bytes ready for a device: KeFlushIoBuffers, maintenance that the driver asked for by address, or a ``mapping``.

    ``left``: bytes that no transfer has used yet; Linux: bytes that the device still owns.
    """

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
    interface: str = "wdk"
    mapping: "Mapping | None" = None

    @property
    def subject(self) -> tuple[str, int]:
        return ("F", self.number)

    @property
    def text(self) -> str:
        if self.by_address or self.mapping is not None or self.interface == "linux":
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


@dataclass(eq=False)
class Mapping:
    """MapTransfer(Ex), a scatter/gather list or dma_map_*: ``ranges`` is the whole MDL chain, ``part`` the mapped bytes of it.

    ``elements`` are the device's ranges where the log names them, ``bounced`` the bytes behind bounce buffers. Linux: ``owned``
    are the bytes (by line) that the device owns, from map or sync for the device to unmap or sync for the CPU, ``given`` those
    that a sync gave back to the CPU while mapped. ``transferred``: a transfer has used it. ``misread``, ``misstored``: the CPU
    has read (R04) or stored (R05) what it had not got back; the first of them is the cause of the other.
    """

    call: OpenCall
    ranges: list[Range]
    part: list[Range]
    direction: str
    number: int
    interface: str = "wdk"
    list_id: Any = None
    context: Any = None
    elements: list[Range] = field(default_factory=list)
    bounced: list[Range] = field(default_factory=list)
    owned: dict[int, int] = field(default_factory=dict)
    given: dict[int, int] = field(default_factory=dict)
    transferred: bool = False
    misread: bool = False
    misstored: bool = False

    @property
    def write(self) -> bool:
        """Whether the device only reads."""
        return self.direction == "TO_DEVICE"

    @property
    def subject(self) -> tuple[str, int]:
        return ("M", self.number)


@dataclass(eq=False)
class Bounce:
    """A bounce buffer: ``range`` stands for the bytes ``source``.

    ``copied`` are its bytes that were copied in, ``delivered`` those that the device wrote, ``changed`` (line of the source to
    bytes) what the CPU stored into the source since the copy, ``waiting`` (the same) what ``waiting_of`` has delivered and
    nobody has copied back. ``given``: a sync lends the source to the CPU.
    """

    call: OpenCall
    source: list[Range]
    range: Range
    write: bool
    whole: bool
    copied: list[Range] = field(default_factory=list)
    delivered: list[Range] = field(default_factory=list)
    changed: dict[int, int] = field(default_factory=dict)
    given: bool = False
    waiting: dict[int, int] = field(default_factory=dict)
    waiting_of: "Transfer | None" = None

    @property
    def subject(self) -> tuple[str, int]:
        return ("B", self.call.number)

    @property
    def owner(self) -> OpenCall:
        """The call that mapped it: the driver's, where the log names it."""
        return self.call.parent or self.call

    def masks(self, line_bytes: int) -> dict[int, int]:
        """Bytes of the source by line."""
        return line_masks(self.source, line_bytes)


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
