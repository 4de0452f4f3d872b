# SPDX-License-Identifier: BSD-2-Clause
"""What the driver holds, told from the call log alone: adapters, channels, map registers, mappings, buffers, memory.

:class:`Ledger` is the memory of the rules about order, resources and addresses (``book.of(Ledger)``). As a rule family it comes
after theirs: at the begin and at the end of a call the rules still see the state before it.

Logs without ``interface`` in ``platform.json`` are older or partial: they tell no channels, locks or checked results, so the
rules that judge what is *missing* stay silent on them (:attr:`Ledger.complete`).
"""

from dataclasses import dataclass, field
from typing import Any

from .book import Book
from .calls import OpenCall, mdl_ranges, succeeded
from .drafts import Draft
from .findings import Access, Severity
from .state import Range, clip, intersect, merge, subtract

__all__ = ["Adapter", "Block", "Buffer", "Grant", "Ledger", "Map", "begin", "end", "ledger", "tell", "who"]

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
        """All that the device may touch now: mapped elements, bounce pages, common buffers."""
        ranges = [r for m in self.maps if m.flushed is None for r in m.elements]
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


# -- keeping it -----------------------------------------------------------------------------------------------------------


def begin(book: Book, call: OpenCall) -> None:
    """A call begins: what is true from now on, for calls nested inside too."""
    known, name = ledger(book), call.name
    if name in ALLOCATES:
        adapter = known.adapter(call)
        if adapter is not None:
            adapter.pending.append(call)
    elif name == "AdapterControl":
        _granted(known, call)
    elif name in (*MAPPING, *LISTS, *LINUX_MAPS):
        owner, source = owner_of(call), part_of(call)
        if owner is not None:
            asked = sum(n for _, n in source)
            new = Map(call, owner, source, list(source), direction_of(call), asked, asked)
            args = call.args
            new.mdl = (args.get("mdl") or {}).get("id")
            new.registers, new.context = id_of(args.get("registers")), args.get("context")
            known.waiting[call.number] = new
            known.maps.append(new)
            if len(known.maps) > 160:  # ended mappings are only kept to recognise a second end
                known.maps = [m for m in known.maps[:-64] if m.flushed is None] + known.maps[-64:]
    elif name == "ListControl":
        _list_ready(known, call)
    elif name == "BounceMap":
        bounce = call.args.get("bounce")
        if bounce:
            known.bounces.append(((int(bounce[0]), int(bounce[1])), call))
    elif name == "MmProbeAndLockPages":
        known.locked[(call.args.get("mdl") or {}).get("id")] = mdl_ranges(call.args.get("mdl"))


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A call ends: what it gave, or took away."""
    known, name = ledger(book), call.name
    handler = _ENDS.get(name)
    if call.number in known.waiting:
        _mapped(known, call, result, error)
    elif handler is not None:
        handler(book, known, call, None if error else result, error)


def _granted(known: Ledger, call: OpenCall) -> None:
    adapter = known.adapter(call)
    if adapter is None:
        return
    pending = call.parent if call.parent in adapter.pending else (adapter.pending[0] if adapter.pending else None)
    if pending is not None:
        adapter.pending.remove(pending)
    registers = call.args.get("registers")
    registers = registers if isinstance(registers, dict) else {"id": registers}
    known.grants += 1
    count = registers.get("count")
    if count is None and pending is not None:
        count = pending.args.get("map_registers")
    context = pending.args.get("context") if pending is not None else call.args.get("context")
    adapter.grants.append(Grant(known.grants, pending or call, registers.get("id"), int(count or 0), context))


def _control_done(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter = known.adapter(call)
    wanted = id_of(call.args.get("registers"))
    grant = next((g for g in reversed(adapter.grants) if g.registers == wanted), None) if adapter is not None else None
    if grant is None or error:
        return
    if result == DEALLOCATE:
        grant.channel = grant.registers_held = False
    elif result == KEEP_REGISTERS:
        grant.channel = False


def _allocated(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter = known.adapter(call)
    if adapter is None or call not in adapter.pending:
        return
    if error or (result is not None and not succeeded(result)):
        adapter.pending.remove(call)
    elif call.args.get("synchronous"):
        adapter.pending.remove(call)
        known.grants += 1
        adapter.grants.append(Grant(known.grants, call, None, int(call.args.get("map_registers") or 0), call.args.get("context")))


def _channel_cancelled(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter = known.adapter(call)
    if adapter is not None and result:
        adapter.pending = [p for p in adapter.pending if p.args.get("context") != call.args.get("context")]


def _channel_freed(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter = known.adapter(call)
    if adapter is not None and not error:
        for grant in adapter.grants:
            if grant.channel:
                grant.channel = grant.registers_held = False
        _abandon(known, adapter, call)


def _registers_freed(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter = known.adapter(call)
    if adapter is not None and not error:
        grant = registers_named(adapter, call)
        if grant is not None:
            grant.registers_held = False
        _abandon(known, adapter, call)


def registers_named(adapter: Adapter, call: OpenCall) -> Grant | None:
    """The grant that a FreeMapRegisters means: by its id, else the newest whose registers are held."""
    wanted = id_of(call.args.get("registers"))
    if wanted is not None:
        return next((g for g in reversed(adapter.grants) if g.registers == wanted), None)
    return next((g for g in reversed(adapter.grants) if g.registers_held), None)


def _object_freed(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter, action = known.adapter(call), call.args.get("action")
    if adapter is None or error or action == KEEP:
        return
    for grant in adapter.grants:
        if grant.channel:
            grant.channel = False
            if action == DEALLOCATE:
                grant.registers_held = False
    if action == DEALLOCATE:
        _abandon(known, adapter, call)


def _abandon(known: Ledger, adapter: Adapter, call: OpenCall) -> None:
    """Mappings without registers are no mappings any more."""
    if not adapter.held:
        for mapping in known.open_maps(("A", adapter.id)):
            if mapping.list_id is None:
                mapping.flushed = call


def _mapped(known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    mapping = known.waiting.pop(call.number)
    failed = bool(error) or result is None
    elements: list[Any] | None = None
    if isinstance(result, dict):
        elements = result.get("elements")
        failed = failed or ("status" in result and result["status"] is not None and not succeeded(result["status"]))
        mapping.list_id = result.get("list", mapping.list_id)
        if result.get("length") is not None:
            mapping.length = int(result["length"])
        if call.name in LISTS and mapping.list_id is None:
            failed = failed or not succeeded(result.get("status", 0))
        if call.name == "dma_map_sg":
            failed = failed or not elements
    elif isinstance(result, (list, tuple)) and len(result) == 2:
        elements, mapping.length = [list(result)], int(result[1])
    elif isinstance(result, int) and call.name in LINUX_MAPS:
        elements = [[result, mapping.asked]]
    if failed:
        if mapping in known.maps:
            known.maps.remove(mapping)
        return
    if elements:
        mapping.elements = [(int(a), int(n)) for a, n in elements]
    if mapping.length < mapping.asked:
        mapping.source = clip(mapping.source, 0, mapping.length)


def _list_ready(known: Ledger, call: OpenCall) -> None:
    """The list routine runs: its list is known from here on, before the call that asked for it has ended."""
    owner = owner_of(call)
    parent = call.parent
    if parent is not None and parent.number in known.waiting:
        known.waiting[parent.number].list_id = call.args.get("list")
        return
    for mapping in known.maps:
        if mapping.owner == owner and mapping.call.name in LISTS and mapping.list_id is None:
            mapping.list_id = call.args.get("list")
            return


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


def _flushed(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    ok = not error and result is not False and (isinstance(result, bool) or result is None or succeeded(result))
    exact, near = matching(known, call)
    for mapping in exact or near:
        mapping.flushed, mapping.ok = call, ok


def _list_put(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    if not error:
        for mapping in known.maps:
            if mapping.list_id is not None and mapping.list_id == call.args.get("list"):
                mapping.flushed, mapping.ok = call, True


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


def _linux_unmapped(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    mapping = unmapped(known, call)
    if mapping is not None and mapping.flushed is None and not error:
        mapping.flushed, mapping.ok = call, True


def _adapter_made(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    shown = (result or {}).get("adapter") if isinstance(result, dict) else None
    description = call.args.get("description") or {}
    if shown is None:
        return
    if not isinstance(shown, dict):
        shown = {"id": shown, **description}
    adapter = Adapter(shown.get("id"), int(shown.get("version") or 0), bool(shown.get("master")), call, description)
    limit = result.get("map_registers")
    adapter.limit = int(limit) if limit is not None else None
    known.adapters[adapter.id] = adapter


def _adapter_put(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter = known.adapter(call)
    if adapter is not None and adapter.released is None:
        adapter.released = call


def _aligned(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    adapter = known.adapter(call)
    if adapter is not None and isinstance(result, int):
        adapter.alignment = (result, call)


def _buffer_made(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    if not isinstance(result, dict) or result.get("address") is None:
        return
    address = int(result["address"])
    length = int(call.args.get("length") or result.get("length") or 0)
    if call.name == "dma_pool_alloc":
        length = int(result.get("length") or length)
    cached = bool(result.get("cached", call.args.get("cache_enabled", False)))
    owner = owner_of(call) or ("A", None)
    dma = int(result.get("dma", address))
    new = Buffer(result.get("buffer"), call, owner, address, dma, length, cached, call.args.get("pool"), first=book.n)
    known.buffers.append(new)


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


def _buffer_freed(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    buffer = buffer_named(known, call)
    if buffer is not None and buffer.freed is None:
        buffer.freed, buffer.last = call, book.n


def _memory_made(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    if isinstance(result, dict) and result.get("address") is not None:
        length = int(result.get("length") or call.args.get("length") or 0)
        known.memory.append(Block(call, int(result["address"]), length, str(call.args.get("kind"))))


def _memory_freed(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    for block in known.memory:
        if block.freed is None and block.address == call.args.get("address"):
            block.freed = call


def _unlocked(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    known.locked.pop((call.args.get("mdl") or {}).get("id"), None)


def _unbounced(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    bounce = call.args.get("bounce")
    if bounce:
        known.bounces = [(r, c) for r, c in known.bounces if r[0] != int(bounce[0])]


def _started(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    """Which mappings the transfer uses."""
    ranges = [(int(a), int(n)) for a, n in call.args.get("ranges") or ()]
    if call.transfer is None:
        return
    for mapping in known.open_maps(owner_of(call)):
        if intersect(mapping.elements, ranges) and call.transfer not in mapping.transfers:
            mapping.transfers.append(call.transfer)
            for draft in book.drafts.values():  # what is wrong with the mapping explains what goes wrong in the transfer
                if ("C", mapping.call.number) in draft.subjects:
                    draft.subjects.add(call.transfer.subject)


def _cancelled(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    owner, context = owner_of(call), call.args.get("context")
    for mapping in known.open_maps(owner):
        if mapping.call.name == "MapTransferEx" and mapping.context == context:
            mapping.cancelled = call


def _pool_made(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    if isinstance(result, dict) and result.get("pool") is not None:
        known.pools[result["pool"]] = call


def _pool_gone(book: Book, known: Ledger, call: OpenCall, result: Any, error: Any) -> None:
    known.pools.pop(call.args.get("pool"), None)


_ENDS = {
    "AdapterControl": _control_done,
    "AllocateAdapterChannel": _allocated,
    "AllocateAdapterChannelEx": _allocated,
    "CancelAdapterChannel": _channel_cancelled,
    "FreeAdapterChannel": _channel_freed,
    "FreeMapRegisters": _registers_freed,
    "FreeAdapterObject": _object_freed,
    "FlushAdapterBuffers": _flushed,
    "FlushAdapterBuffersEx": _flushed,
    "PutScatterGatherList": _list_put,
    "CancelMappedTransfer": _cancelled,
    "IoGetDmaAdapter": _adapter_made,
    "PutDmaAdapter": _adapter_put,
    "GetDmaAlignment": _aligned,
    "AllocateMemory": _memory_made,
    "FreeMemory": _memory_freed,
    "MmUnlockPages": _unlocked,
    "BounceUnmap": _unbounced,
    "StartTransfer": _started,
    "dma_pool_create": _pool_made,
    "dma_pool_destroy": _pool_gone,
    **dict.fromkeys(LINUX_UNMAPS, _linux_unmapped),
    **dict.fromkeys(COMMON, _buffer_made),
    **dict.fromkeys(COMMON_FREE, _buffer_freed),
}
