# SPDX-License-Identifier: BSD-2-Clause
"""What the driver holds, told from the call log alone: adapters, channels, map registers, mappings, buffers, memory.

:class:`Ledger` is the memory of the rules about order, resources and addresses; :mod:`.bookkeeping` keeps it.

Logs without ``interface`` in ``platform.json`` are older or partial: they tell no channels, locks or checked results, so the
rules that judge what is *missing* stay silent on them (:attr:`Ledger.complete`).
"""

from dataclasses import dataclass, field
from typing import Any

from .book import Book
from .calls import OpenCall, mdl_ranges
from .drafts import Draft
from .findings import Access, Severity
from .state import Range, clip, intersect, merge, subtract

__all__ = ["Adapter", "Block", "Buffer", "Grant", "Ledger", "Map", "ledger", "tell", "who"]

KEEP, DEALLOCATE, KEEP_REGISTERS = 1, 2, 3
PAGE = 4096

#: Calls that map a buffer, by how they do it.
MAPPING = ("MapTransfer", "MapTransferEx")
LISTS = ("GetScatterGatherList", "BuildScatterGatherList", "GetScatterGatherListEx", "BuildScatterGatherListEx")
LINUX_MAPS = ("dma_map_single", "dma_map_page", "dma_map_sg")
LINUX_UNMAPS = ("dma_unmap_single", "dma_unmap_page", "dma_unmap_sg")
FLUSHES = ("FlushAdapterBuffers", "FlushAdapterBuffersEx")
ALLOCATES = ("AllocateAdapterChannel", "AllocateAdapterChannelEx")
COMMON = ("AllocateCommonBuffer", "AllocateCommonBufferEx", "dma_alloc_coherent", "dma_alloc_noncoherent", "dma_pool_alloc")
COMMON_FREE = ("FreeCommonBuffer", "dma_free_coherent", "dma_free_noncoherent", "dma_pool_free")


@dataclass(eq=False)
class Grant:
    """A channel, its map registers, or both. ``channel`` and ``registers_held`` say what of it is still held."""

    number: int
    call: OpenCall
    registers: Any
    count: int
    context: Any = None
    channel: bool = True
    registers_held: bool = True

    @property
    def subject(self) -> tuple[str, int]:
        return ("G", self.number)


@dataclass(eq=False)
class Adapter:
    """One adapter object. ``limit``: map registers that IoGetDmaAdapter allows, None where the log does not say."""

    id: Any
    version: int
    master: bool
    call: OpenCall | None = None
    description: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    released: OpenCall | None = None
    alignment: tuple[int, OpenCall] | None = None
    grants: list[Grant] = field(default_factory=list)
    pending: list[OpenCall] = field(default_factory=list)

    @property
    def channel(self) -> Grant | None:
        """The newest grant that still holds the channel."""
        return next((grant for grant in reversed(self.grants) if grant.channel), None)

    @property
    def held(self) -> list[Grant]:
        """Grants of which anything is still held."""
        return [grant for grant in self.grants if grant.channel or grant.registers_held]


@dataclass(eq=False)
class Map:
    """A mapping of a buffer for the device.

    ``owner`` is ``("A", adapter id)`` or ``("D", device id)``; ``source`` the CPU's ranges, ``elements`` those of the device;
    ``asked`` the length that was asked for, ``length`` the mapped one. ``flushed``: the newest flush, put or unmap of it, ``ok``
    whether that one succeeded.
    """

    call: OpenCall
    owner: tuple[str, Any]
    source: list[Range]
    elements: list[Range]
    direction: str
    length: int
    asked: int
    mdl: Any = None
    registers: Any = None
    context: Any = None
    list_id: Any = None
    flushed: OpenCall | None = None
    ok: bool = False
    cancelled: OpenCall | None = None
    freed_early: Draft | None = None
    transfers: list[Any] = field(default_factory=list)

    @property
    def subjects(self) -> list[tuple[str, int]]:
        number = self.call.number
        return [("C", number), ("M", number), *(transfer.subject for transfer in self.transfers)]

    @property
    def device_writes(self) -> bool:
        return self.direction != "TO_DEVICE"


@dataclass(eq=False)
class Buffer:
    """A common, coherent or pool buffer. ``dma`` is the device's address, ``room`` all bytes up to the end of its page."""

    number: Any
    call: OpenCall
    owner: tuple[str, Any]
    address: int
    dma: int
    length: int
    cached: bool
    pool: Any = None
    freed: OpenCall | None = None
    first: int = 0
    last: int | None = None

    @property
    def range(self) -> Range:
        return (self.address, self.length)

    @property
    def room(self) -> int:
        return self.length if self.pool is not None else -(-self.length // PAGE) * PAGE


@dataclass(eq=False)
class Block:
    """Memory that the driver allocated."""

    call: OpenCall
    address: int
    length: int
    kind: str
    freed: OpenCall | None = None


class Ledger:
    """What the driver holds at one point of the run; ended things stay in the lists, so that a second end is recognised."""

    def __init__(self) -> None:
        self.complete = False
        self.adapters: dict[Any, Adapter] = {}
        self.maps: list[Map] = []
        self.buffers: list[Buffer] = []
        self.memory: list[Block] = []
        self.locked: dict[Any, list[Range]] = {}
        self.bounces: list[tuple[Range, OpenCall]] = []
        self.devices: dict[Any, OpenCall] = {}
        self.released_devices: dict[Any, OpenCall] = {}
        self.pools: dict[Any, OpenCall] = {}
        self.waiting: dict[int, Map] = {}  # mapping calls in progress
        self.grants = 0

    def adapter(self, call: OpenCall) -> Adapter | None:
        """The adapter that a call is about, or None."""
        shown = call.args.get("adapter")
        if not isinstance(shown, dict):
            return self.adapters.get(shown) if shown is not None else None
        known = self.adapters.get(shown.get("id"))
        if known is None:
            known = Adapter(shown.get("id"), int(shown.get("version") or 0), bool(shown.get("master")))
            self.adapters[known.id] = known
        return known

    def open_maps(self, owner: tuple[str, Any] | None = None) -> list[Map]:
        """Mappings that nobody has flushed, put or unmapped yet."""
        return [m for m in self.maps if m.flushed is None and (owner is None or m.owner == owner)]

    def buffer_at(self, address: int, *, dma: bool = False) -> Buffer | None:
        """The live common buffer whose pages hold ``address``."""
        for buffer in reversed(self.buffers):
            start = buffer.dma if dma else buffer.address
            if buffer.freed is None and start <= address < start + buffer.room:
                return buffer
        return None

    def in_buffer(self, ranges: list[Range]) -> bool:
        """Whether all bytes lie in live common buffers."""
        return bool(ranges) and not subtract(ranges, [(b.address, b.room) for b in self.buffers if b.freed is None])

    def reachable(self) -> list[Range]:
        """All that the device may touch now: mapped elements, as far as their MDL goes (R42), bounce pages, common buffers."""
        elements = [(r, m.source) for m in self.maps if m.flushed is None for r in m.elements]
        ranges = [part for element, source in elements for part in intersect([element], source) or [element]]
        ranges += [bounce for bounce, _ in self.bounces]
        return merge([*ranges, *((b.dma, b.room) for b in self.buffers if b.freed is None)])


def bounced(known: Ledger, ranges: list[Range]) -> list[tuple[str, int]]:
    """Subjects of the bounce buffers that stand for these bytes of the CPU."""
    out = []
    for _, call in known.bounces:
        if intersect(((int(a), int(n)) for a, n in call.args.get("source") or ()), ranges):
            out.append(("B", call.number))
    return out


def ledger(book: Book) -> Ledger:
    """The run's ledger."""
    known = book.memories.get(Ledger)
    if known is None:
        known = book.of(Ledger)
        known.complete = "interface" in book.platform
    return known


def who(call: OpenCall) -> Access:
    """A call as one side of a finding."""
    return Access(call.name, call.cycle, call.site)


def tell(
    book: Book,
    rule: str,
    key: tuple[Any, ...],
    detail: str,
    missing: str,
    accesses: list[Access],
    *,
    severity: Severity = Severity.POSSIBLE,
    subjects: Any = (),
    ranges: Any = (),
    transfer: int | None = None,
) -> Draft:
    """Reports a rule of this family once per ``key``."""
    known = (rule, *key) in book.drafts
    values = {"detail": detail, "accesses": accesses, "missing": missing, "transfer": transfer}
    draft = book.note(rule, key, lambda: values, severity=severity, subjects=subjects)
    if not known:
        draft.ranges += [(int(a), int(n)) for a, n in ranges if n > 0]
    return draft


def dead(book: Book, call: OpenCall) -> bool:
    """Whether the call's adapter was released before: that is R40's, and nothing else is said of the call."""
    adapter = ledger(book).adapter(call)
    return adapter is not None and adapter.released is not None


def id_of(value: Any) -> Any:
    """The id of something that the log shows as an object or by its id."""
    return value.get("id") if isinstance(value, dict) else value


def owner_of(call: OpenCall) -> tuple[str, Any] | None:
    """Adapter or Linux device of a call."""
    for letter, name in (("A", "adapter"), ("D", "device")):
        shown = call.args.get(name)
        if isinstance(shown, dict):
            return (letter, shown.get("id"))
        if shown is not None:
            return (letter, shown)
    return None


def part_of(call: OpenCall) -> list[Range]:
    """The CPU's ranges that a mapping or flush call names."""
    args = call.args
    if args.get("entries") is not None:
        return [(int(a), int(n)) for a, n in args["entries"]]
    if args.get("mdl"):
        return clip(mdl_ranges(args["mdl"]), int(args.get("offset") or 0), int(args.get("length") or 0))
    if args.get("address") is not None:
        return [(int(args["address"]), int(args.get("length") or 0))]
    return []


def direction_of(call: OpenCall) -> str:
    """TO_DEVICE, FROM_DEVICE or BIDIRECTIONAL, whatever the interface calls it."""
    said = call.args.get("direction")
    return str(said) if said else ("TO_DEVICE" if call.args.get("write_to_device") else "FROM_DEVICE")


# -- what a call means ----------------------------------------------------------------------------------------------------


def registers_named(adapter: Adapter, call: OpenCall) -> Grant | None:
    """The grant that a FreeMapRegisters means: by its id, else the newest whose registers are held."""
    wanted = id_of(call.args.get("registers"))
    if wanted is not None:
        return next((g for g in reversed(adapter.grants) if g.registers == wanted), None)
    return next((g for g in reversed(adapter.grants) if g.registers_held), None)


def matching(known: Ledger, call: OpenCall) -> tuple[list[Map], list[Map]]:
    """``(exact, overlapping)`` mappings that a FlushAdapterBuffers(Ex) means; a failed flush may be repeated."""
    owner, part = owner_of(call), merge(part_of(call))
    usable = [m for m in known.maps if m.owner == owner and m.list_id is None and (m.flushed is None or not m.ok)]
    exact = [m for m in usable if merge(m.source) == part]
    if exact:
        return exact[-1:], []
    inside = [m for m in usable if not subtract(m.source, part)]
    if inside and merge(r for m in inside for r in m.source) == part:
        return inside, []
    return [], [m for m in usable if intersect(m.source, part)]


def unmapped(known: Ledger, call: OpenCall) -> Map | None:
    """The Linux mapping that an unmap means: live if there is one, else the newest ended one."""
    owner, found = owner_of(call), None
    for mapping in known.maps:
        if mapping.owner != owner or mapping.call.name not in LINUX_MAPS:
            continue
        if call.name == "dma_unmap_sg":
            entries = [(int(a), int(n)) for a, n in call.args.get("entries") or ()]
            same = bool(entries) and bool(mapping.source) and entries[0][0] == mapping.source[0][0]
        else:
            same = bool(mapping.elements) and mapping.elements[0][0] == call.args.get("dma")
        if same and (found is None or found.flushed is not None or mapping.flushed is None):
            found = mapping
    return found


def buffer_named(known: Ledger, call: OpenCall) -> Buffer | None:
    """The buffer that a free means: by its number, else by an address; a live one if there is one."""
    number = call.args.get("buffer")
    best = None
    for buffer in known.buffers:
        same = (number is not None and buffer.number == number) or (
            number is None and call.args.get("address") is not None and call.args["address"] in (buffer.address, buffer.dma)
        )
        if same and (best is None or best.freed is not None or buffer.freed is None):
            best = buffer
    return best
