# SPDX-License-Identifier: BSD-2-Clause
"""What the driver mapped for a device, on every interface: the books of adapters, mappings, bounce and common buffers.

No rule is decided here. A mapping is what MapTransfer(Ex), a scatter/gather list, or dma_map_* made. Version 3's mappings
and Linux's are themselves the flush before the transfer (PREREAD, PREWRITE); versions 1 and 2 need KeFlushIoBuffers beside them.
"""

from typing import Any

from . import flushes, pio
from .book import Book
from .calls import Bounce, CommonBuffer, Flush, Mapping, OpenCall, adapter_id, mdl_ranges, succeeded
from .state import Range, clip, intersect, line_masks, merge, subtract

__all__ = ["begin", "end", "find", "interface_of", "to_source"]

_LISTS = ("GetScatterGatherList", "BuildScatterGatherList", "GetScatterGatherListEx", "BuildScatterGatherListEx")
_WDK = ("MapTransfer", "MapTransferEx", *_LISTS)
_LINUX_MAPS = ("dma_map_single", "dma_map_page", "dma_map_sg")
_LINUX_UNMAPS = ("dma_unmap_single", "dma_unmap_page", "dma_unmap_sg")
_FOR_CPU = ("dma_sync_single_for_cpu", "dma_sync_single_range_for_cpu", "dma_sync_sg_for_cpu")
_FOR_DEVICE = ("dma_sync_single_for_device", "dma_sync_single_range_for_device", "dma_sync_sg_for_device")
_COHERENT = ("dma_alloc_coherent", "dma_pool_alloc")
_FREES = ("FreeCommonBuffer", "dma_free_coherent", "dma_free_noncoherent", "dma_pool_free")


def begin(book: Book, call: OpenCall) -> None:
    """Lists are known from here on: the driver's list routine may run inside the call."""
    args = call.args
    if call.name in _LISTS:
        _mapped(book, call)
    elif call.name == "ListControl":
        mapping = _waiting(book, call)
        if mapping is not None:
            mapping.list_id = args.get("list")
            book.lists[mapping.list_id] = mapping
            _ready(book, mapping)
    elif call.name == "BounceMap" and args.get("bounce"):
        source = [(int(a), int(n)) for a, n in args.get("source") or ()]
        address, length = args["bounce"]
        whole, write = bool(args.get("whole")), bool(args.get("write_to_device"))
        book.bounces.append(Bounce(call, source, (int(address), int(length)), write, whole))
        if book.coherent and whole:
            flushes.virtual(book, call, [(int(address), int(length))], [(3, 1)])
    elif call.name == "BounceCopy" and not args.get("to_device") and book.coherent:
        flushes.virtual(book, call, [(int(a), int(n)) for a, n in args.get("source") or ()], [(2, 1)])


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """What a call gave or took. One that raised has given nothing; one that releases has released."""
    name = call.name
    if name == "BounceUnmap" and call.args.get("bounce"):
        address = int(call.args["bounce"][0])
        for bounce in [b for b in book.bounces if b.range[0] == address]:
            book.bounces.remove(bounce)
            for line in [book.line(a) for a in bounce.masks(book.line_bytes)]:
                if bounce in line.claims:
                    line.claims.remove(bounce)
    elif name == "BounceCopy" and call.args.get("to_device") and book.coherent:
        for bounce in book.bounces:
            call.position = book.n + 1  # the copy's own stores are cleaned
            target = intersect([(int(a), int(n)) for a, n in call.args.get("target") or ()], [bounce.range])
            flushes.virtual(book, call, target, [(1 if bounce.write else 3, 1)])
    elif error:
        if name in _LISTS:
            book.mappings[_owner(call)] = [m for m in book.mappings.get(_owner(call), []) if m.call is not call]
    elif name == "IoGetDmaAdapter":
        adapter = (result or {}).get("adapter")
        number = adapter.get("id") if isinstance(adapter, dict) else adapter
        book.adapters[number] = call.args.get("description") or {}
    elif name in _LISTS:
        _list_given(book, call, result)
    elif name in _WDK:
        _wdk_mapped(book, call, result)
    elif name in _LINUX_MAPS:
        _linux_mapped(book, call, result)
    elif name in _LINUX_UNMAPS:
        _linux_unmapped(book, call)
    elif name in _FOR_CPU:
        for mapping, ranges in _synced(book, call):
            _to_cpu(book, mapping, ranges, call)
    elif name in _FOR_DEVICE:
        for mapping, ranges in _synced(book, call):
            _to_device(book, mapping, ranges, call)
    elif name in ("AllocateCommonBuffer", "AllocateCommonBufferEx") and result:
        _common(book, result["buffer"], result, bool(call.args.get("cache_enabled")))
    elif name in _COHERENT and result:
        # what the kernel calls coherent never owes a flush, even if it is cached because the platform is coherent
        _common(book, ("L", result["buffer"]), result, False)
    elif name == "dma_alloc_noncoherent" and result:
        ranges = [(int(result["address"]), int(result["length"]))]
        mapping = Mapping(call, ranges, ranges, _direction(call), interface="linux", elements=ranges, number=call.number)
        book.mappings.setdefault(_owner(call), []).append(mapping)
        _own(book, mapping, ranges)
    elif name in _FREES:
        _freed(book, call)


def _owner(call: OpenCall) -> Any:
    device = call.args.get("device")
    if device is not None:
        return ("D", device.get("id") if isinstance(device, dict) else device)
    return adapter_id(call)


def _direction(call: OpenCall) -> str:
    said = call.args.get("direction")
    return str(said) if said else ("TO_DEVICE" if call.args.get("write_to_device") else "FROM_DEVICE")


def to_source(book: Book, ranges: list[Range]) -> list[Range]:
    """The CPU's buffer behind the device's ranges: bounce bytes stand for the bytes they were copied from."""
    if not book.bounces:
        return ranges
    out: list[Range] = []
    rest = list(ranges)
    for bounce in book.bounces:
        for address, length in intersect(rest, [bounce.range]):
            out += clip(bounce.source, address - bounce.range[0], length)
        rest = subtract(rest, [bounce.range])
    return rest + out if out else ranges


def find(book: Book, call: OpenCall, source: list[Range]) -> Mapping | None:
    """The mapping that a StartTransfer over these bytes of the CPU uses: by its mapped part, else by its MDL chain."""
    known = book.mappings.get(_owner(call), [])
    for mapping in reversed(known):
        if intersect(mapping.part, source):
            return mapping
    return next((m for m in reversed(known) if intersect(m.ranges, source)), None)


# -- the WDK's --------------------------------------------------------------------------------------------------------


def _mapped(book: Book, call: OpenCall) -> Mapping:
    args = call.args
    whole = mdl_ranges(args.get("mdl"))
    part = clip(whole, int(args.get("offset") or 0), int(args.get("length") or 0))
    version = int((args.get("adapter") or {}).get("version") or 0) if isinstance(args.get("adapter"), dict) else 0
    interface = "v3" if version >= 3 or call.name.endswith("Ex") else "wdk"
    mapping = Mapping(call, whole, part, _direction(call), interface=interface, context=args.get("context"), number=call.number)
    known = book.mappings.setdefault(_owner(call), [])
    known.append(mapping)
    del known[:-32]
    return mapping


def _waiting(book: Book, call: OpenCall) -> Mapping | None:
    known = book.mappings.get(_owner(call), [])
    parent = next((m for m in known if m.call is call.parent), None)
    return parent or next((m for m in known if m.call.name in _LISTS and m.list_id is None), None)


def _list_given(book: Book, call: OpenCall, result: Any) -> None:
    mapping = next((m for m in book.mappings.get(_owner(call), []) if m.call is call), None)
    if mapping is None:
        return
    if not isinstance(result, dict) or not succeeded(result.get("status") or 0):
        if mapping.list_id is None:
            book.mappings[_owner(call)].remove(mapping)
        return
    if mapping.list_id is None and result.get("list") is not None:
        mapping.list_id = result["list"]
        book.lists[mapping.list_id] = mapping
        _ready(book, mapping)


def _wdk_mapped(book: Book, call: OpenCall, result: Any) -> None:
    length = None
    if isinstance(result, dict):
        if not succeeded(result.get("status") or 0):
            return
        length = result.get("length")
    elif isinstance(result, (list, tuple)) and len(result) == 2:
        length = result[1]
    mapping = _mapped(book, call)
    if length is not None:
        mapping.part = clip(mapping.part, 0, int(length))
    _ready(book, mapping)


def _ready(book: Book, mapping: Mapping) -> None:
    """Version 3: mapping is the flush. Bounce bytes are made ready by the mapping on every version."""
    call = mapping.call
    inside = [b for b in book.bounces if b.call.number > call.number and intersect(b.source, mapping.part)]
    bounced = [b.range for b in inside]
    mapping.bounced = intersect([r for b in inside for r in b.source], mapping.part)
    if mapping.interface == "v3":
        covered = merge([*mapping.part, *bounced])
        if book.coherent:
            steps = [(1, 1)] if mapping.write else [(3, 3)] if book.hal.get("clean_before_read", True) else []
            flushes.virtual(book, call, subtract(mapping.part, mapping.bounced), steps)
        nothing = not mapping.write and not book.hal.get("clean_before_read", True)
        worked = book.coherent or call.maintained > 0 or not _cached(book, mapping.part) or nothing or bool(bounced)
        _covers(book, mapping, covered, call, worked=worked)
    elif bounced:
        _covers(book, mapping, bounced, call)


def _cached(book: Book, ranges: list[Range]) -> list[Range]:
    """Without what the CPU only accesses around the cache."""
    return subtract(ranges, [b.range for b in book.buffers.values() if not b.cached])


def _covers(book: Book, mapping: Mapping, ranges: list[Range], call: OpenCall, *, worked: bool = True) -> None:
    flush = Flush(
        call.number, call.name, call.site, call.cycle, call.position, book.n, merge(ranges), merge(ranges),
        read=not mapping.write, worked=worked, interface=mapping.interface, mapping=mapping,
    )  # fmt: skip
    pio.flushed(book, flush)
    flushes.remember(book, flush)
    if (book.coherent and call.maintained) or not worked:
        flushes.wrong_flag(book, flush)


# -- Linux ----------------------------------------------------------------------------------------------------------------


def _linux_mapped(book: Book, call: OpenCall, result: Any) -> None:
    args = call.args
    if call.name == "dma_map_sg":
        elements = [(int(a), int(n)) for a, n in (result or {}).get("elements") or ()]
        part = [(int(a), int(n)) for a, n in args.get("entries") or ()]
    else:
        part = [(int(args.get("address") or 0), int(args.get("length") or 0))]
        elements = [] if result is None else [(int(result), part[0][1])]
    if not elements:
        return
    mapping = Mapping(call, part, part, _direction(call), interface="linux", elements=elements, number=call.number)
    mapping.bounced = intersect([r for b in book.bounces for r in b.source if b.call.number > call.number], part)
    book.mappings.setdefault(_owner(call), []).append(mapping)
    if "SKIP_CPU_SYNC" in (args.get("attrs") or ()):
        _own(book, mapping, part)
    else:
        _to_device(book, mapping, part, call)


def _linux_unmapped(book: Book, call: OpenCall) -> None:
    args, owner = call.args, _owner(call)
    known = book.mappings.get(owner, [])
    if call.name == "dma_unmap_sg":
        entries = [(int(a), int(n)) for a, n in args.get("entries") or ()]
        mapping = next((m for m in reversed(known) if entries and m.part and m.part[0][0] == entries[0][0]), None)
    else:
        mapping = next((m for m in reversed(known) if m.elements and m.elements[0][0] == args.get("dma")), None)
    if mapping is None:
        return
    known.remove(mapping)
    _to_cpu(book, mapping, mapping.part, call, synced="SKIP_CPU_SYNC" not in (args.get("attrs") or ()))
    book.flushes = [flush for flush in book.flushes if flush.mapping is not mapping]
    _let_go(book, mapping)


def _let_go(book: Book, mapping: Mapping) -> None:
    for address in line_masks(mapping.part, book.line_bytes):
        line = book.line(address)
        if mapping in line.claims:
            line.claims.remove(mapping)
    mapping.owned, mapping.given = {}, {}


def _synced(book: Book, call: OpenCall) -> list[tuple[Mapping, list[Range]]]:
    """The mappings, and the bytes of the CPU, that a sync call is about."""
    args, owner = call.args, _owner(call)
    if args.get("entries") is not None:
        wanted = [(int(a), int(n)) for a, n in args["entries"]]
    else:
        device_side = [(int(args.get("dma") or 0) + int(args.get("offset") or 0), int(args.get("length") or 0))]
        wanted = to_source(book, device_side)
    found = [(m, intersect(m.part, wanted)) for m in book.mappings.get(owner, []) if m.interface == "linux"]
    return [(mapping, ranges) for mapping, ranges in found if ranges]


def _own(book: Book, mapping: Mapping, ranges: list[Range]) -> None:
    """The device owns these bytes of the CPU from here on; bounced ones it does not touch."""
    for address, mask in line_masks(subtract(ranges, mapping.bounced), book.line_bytes).items():
        mapping.owned[address] = mapping.owned.get(address, 0) | mask
        mapping.given[address] = mapping.given.get(address, 0) & ~mask
        line = book.line(address)
        if mapping not in line.claims:
            line.claims.append(mapping)
        line.hot = True


def _to_device(book: Book, mapping: Mapping, ranges: list[Range], call: OpenCall) -> None:
    """PREREAD / PREWRITE."""
    _own(book, mapping, ranges)
    _lend(book, ranges, False)
    if book.coherent:
        keeps = mapping.direction == "TO_DEVICE" or book.platform.get("architecture") in ("arm64", "riscv")
        flushes.virtual(book, call, subtract(ranges, mapping.bounced), [(1 if keeps else 3, 1)])
    bounced = [b.range for b in book.bounces if intersect(b.source, ranges)]
    worked = book.coherent or call.maintained > 0 or not _cached(book, ranges)
    _covers(book, mapping, [*subtract(ranges, mapping.bounced), *bounced], call, worked=worked)


def _to_cpu(book: Book, mapping: Mapping, ranges: list[Range], call: OpenCall, *, synced: bool = True) -> None:
    """POSTREAD / POSTWRITE."""
    for address, mask in line_masks(ranges, book.line_bytes).items():
        if address in mapping.owned:
            mapping.given[address] = mapping.given.get(address, 0) | mapping.owned[address] & mask
            mapping.owned[address] &= ~mask
    for flush in book.flushes:
        if flush.interface == "linux":
            flush.left = subtract(flush.left, [*ranges, *(b.range for b in book.bounces if intersect(b.source, ranges))])
    book.flushes = [flush for flush in book.flushes if flush.left]
    if not synced:
        return
    _lend(book, ranges, True)
    for transfer in [t for t in book.open if not t.active and intersect(t.source, ranges)]:
        transfer.flush = call
    if book.coherent and mapping.direction != "TO_DEVICE" and book.hal.get("speculates", True):
        call.position = book.n + 1
        flushes.virtual(book, call, subtract(ranges, mapping.bounced), [(2, 1)])
    book.open = [t for t in book.open if not (t.drained and t.flush is not None and t.flush_ok)]


def _lend(book: Book, ranges: list[Range], given: bool) -> None:
    for bounce in book.bounces:
        if intersect(bounce.source, ranges):
            bounce.given = given


# -- common buffers -------------------------------------------------------------------------------------------------------


def _common(book: Book, number: Any, result: dict[str, Any], cached: bool) -> None:
    book.buffers[number] = CommonBuffer(number, (int(result["address"]), int(result["length"])), cached)


def _freed(book: Book, call: OpenCall) -> None:
    if call.name == "FreeCommonBuffer":
        book.buffers.pop(call.args.get("buffer"), None)
        return
    address = call.args.get("address")
    for number in [n for n, buffer in book.buffers.items() if buffer.range[0] == address]:
        del book.buffers[number]
    for mapping in [m for m in book.mappings.get(_owner(call), []) if m.part and m.part[0][0] == address]:
        if call.name == "dma_free_noncoherent":
            book.mappings[_owner(call)].remove(mapping)
            _let_go(book, mapping)


def interface_of(call: OpenCall) -> str:
    """``"wdk"`` (versions 1 and 2), ``"v3"``, ``"linux"`` or ``"bare"``: whose rules a StartTransfer follows."""
    adapter = call.args.get("adapter")
    if adapter:
        return "v3" if isinstance(adapter, dict) and int(adapter.get("version") or 0) >= 3 else "wdk"
    return "linux" if call.args.get("device") is not None else "bare"
