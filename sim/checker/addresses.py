# SPDX-License-Identifier: BSD-2-Clause
"""Which memory a call is about, and whether the device can take it: R42, R43, R44, R45, R46, R48, R49."""

from typing import Any

from .book import Book
from .calls import OpenCall, mdl_ranges
from .findings import Severity, site_text
from .ledger import (
    COMMON,
    LINUX_MAPS,
    LINUX_UNMAPS,
    LISTS,
    MAPPING,
    Ledger,
    Map,
    bounced,
    dead,
    ledger,
    owner_of,
    part_of,
    tell,
    unmapped,
    who,
)
from .state import Range, intersect, merge, subtract

__all__ = ["Calculated", "begin", "end"]

_SYNCS = ("dma_sync_single_for_cpu", "dma_sync_single_for_device", "dma_sync_single_range_for_cpu",
          "dma_sync_single_range_for_device", "dma_sync_sg_for_cpu", "dma_sync_sg_for_device")  # fmt: skip
_TOO_SMALL = 0xC0000023  # STATUS_BUFFER_TOO_SMALL
_NOT_FOR_DMA = {"stack": "on the stack", "vmalloc": "of vmalloc", "module": "of a module's data", "paged": "pageable"}


class Calculated:
    """What CalculateScatterGatherList said a list needs: key of the buffer to bytes and call."""

    def __init__(self) -> None:
        self.needs: dict[tuple[Any, ...], tuple[int, OpenCall]] = {}


def begin(book: Book, call: OpenCall) -> None:
    """A call begins."""
    known, name = ledger(book), call.name
    if dead(book, call):
        return
    if name in (*MAPPING, *LISTS, *LINUX_MAPS):
        part = merge(part_of(call))
        if _empty(book, call, part):
            return
        _outside(book, call)
        if known.complete:
            _mapped_already(book, known, call, part)
        _kind(book, known, call, part)
        _alignment(book, known, call, part)
        if name.startswith("BuildScatterGatherList"):
            _list_room(book, call)
    elif name in COMMON or name in ("AllocateMemory", "StartTransfer"):
        _no_bytes(book, call)
        if name == "StartTransfer":
            _elements(book, known, call)
            _width(book, known, call)
    elif name in _SYNCS or name in LINUX_UNMAPS:
        _sync(book, known, call)
    elif name == "FreeMemory":
        _freed_under_dma(book, known, call)
    elif name == "MmUnlockPages":
        _unlocked_under_dma(book, known, call)


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A call ends: what a list needs, and a list buffer that was too small."""
    if not isinstance(result, dict):
        return
    if call.name == "CalculateScatterGatherList" and result.get("list_bytes"):
        book.of(Calculated).needs[_buffer_key(call)] = (int(result["list_bytes"]), call)
    elif call.name.startswith("BuildScatterGatherList") and result.get("status") == _TOO_SMALL:
        _small_list(book, call, None, None)


# -- lengths --------------------------------------------------------------------------------------------------------------


def _empty(book: Book, call: OpenCall, part: list[Range]) -> bool:
    """R43 of a mapping: nothing is asked for."""
    length = call.args.get("length")
    entries = call.args.get("entries")
    if entries is not None:
        zero = not entries or any(int(n) <= 0 for _, n in entries)
    else:
        zero = length is not None and int(length) <= 0
    if zero:
        _zero(book, call, "maps zero bytes")
    return zero and not part


def _no_bytes(book: Book, call: OpenCall) -> None:
    ranges = call.args.get("ranges")
    length = call.args.get("length")
    if call.name == "StartTransfer":
        if ranges is not None and (not ranges or any(int(n) <= 0 for _, n in ranges)):
            _zero(book, call, "starts a transfer of zero bytes")
    elif call.name != "dma_pool_alloc" and length is not None and int(length) <= 0:
        _zero(book, call, "asks for zero bytes")


def _zero(book: Book, call: OpenCall, how: str) -> None:
    tell(
        book,
        "R43",
        (call.number,),
        f"{call.name} {how}",
        f"complete a request of zero bytes without DMA, before the {call.name} at {site_text(call.site)}",
        [who(call)],
        subjects=[("C", call.number)],
    )


def _buffer_key(call: OpenCall) -> tuple[Any, ...]:
    args = call.args
    return (owner_of(call), (args.get("mdl") or {}).get("id"), args.get("offset"), args.get("length"))


def _list_room(book: Book, call: OpenCall) -> None:
    need = book.of(Calculated).needs.get(_buffer_key(call))
    given = call.args.get("buffer_bytes")
    if need is not None and isinstance(given, int) and given < need[0]:
        _small_list(book, call, need[0], need[1])


def _small_list(book: Book, call: OpenCall, need: int | None, first: OpenCall | None) -> None:
    given = call.args.get("buffer_bytes")
    asked = "" if need is None else f"; CalculateScatterGatherList says {need}"
    tell(
        book,
        "R43",
        (call.number,),
        f"{call.name} gets a list buffer of {given} bytes, which is too small{asked}",
        f"a buffer of the size that CalculateScatterGatherList returns for the {call.name} at {site_text(call.site)}",
        [*([who(first)] if first is not None else []), who(call)],
        subjects=[("C", call.number)],
    )


def _outside(book: Book, call: OpenCall) -> None:
    """R42. The bytes before and after an MDL are somebody else's, to the end of the page and beyond."""
    if not call.args.get("mdl"):
        return
    offset, length = int(call.args.get("offset") or 0), int(call.args.get("length") or 0)
    ranges = mdl_ranges(call.args["mdl"])
    total = sum(n for _, n in ranges)
    if 0 <= offset and offset + length <= total:
        return
    beyond = offset + length - total
    where = f"{-offset} bytes before" if offset < 0 else f"{beyond} bytes beyond"
    page = ""
    if ranges and beyond > 0:
        last = ranges[-1][0] + ranges[-1][1]
        page = ", on another page" if (last - 1) // 4096 != (last + beyond - 1) // 4096 else ""
    tell(
        book,
        "R42",
        (call.number,),
        f"{call.name} of {length} bytes from offset {offset} goes {where} its MDL of {total} bytes{page}",
        f"CurrentVa and Length inside the MDL in the {call.name} at {site_text(call.site)}",
        [who(call)],
        subjects=[("C", call.number)],
        ranges=ranges,
    )


# -- mapped or not --------------------------------------------------------------------------------------------------------


def _mapped_already(book: Book, known: Ledger, call: OpenCall, part: list[Range]) -> None:
    """R44, first half: by the same adapter or device, unless both only let the device read."""
    writes = not call.args.get("write_to_device") if "write_to_device" in call.args else call.args.get("direction") != "TO_DEVICE"
    for mapping in known.open_maps(owner_of(call)):
        both = intersect(mapping.source, part)
        if not both or not (writes or mapping.device_writes or mapping.call.name in MAPPING):
            continue
        if mapping.call.name == "MapTransferEx" and mapping.context == call.args.get("context") and call.name == "MapTransferEx":
            continue  # R28
        end = {"dma_map_single": "dma_unmap_single", "dma_map_page": "dma_unmap_page", "dma_map_sg": "dma_unmap_sg"}.get(
            mapping.call.name, "PutScatterGatherList" if mapping.call.name in LISTS else "FlushAdapterBuffers"
        )
        tell(
            book,
            "R44",
            (call.number,),
            f"{call.name} of a range that the {mapping.call.name} at {site_text(mapping.call.site)} has mapped already",
            f"{end} between the {mapping.call.name} at {site_text(mapping.call.site)} and the {call.name} at "
            f"{site_text(call.site)}",
            [who(mapping.call), who(call)],
            subjects=[*mapping.subjects, ("C", call.number)],
            ranges=both,
        )
        return


def _sync(book: Book, known: Ledger, call: OpenCall) -> None:
    """R44, second half, and R22 of syncs and unmaps. An ended mapping that is ended again is R37."""
    mapping, part = _synced(known, call)
    if mapping is None or (mapping.flushed is not None and call.name in _SYNCS):
        again = "" if mapping is None or mapping.flushed is None else f" any more, since the {mapping.flushed.name}"
        tell(
            book,
            "R44",
            (call.number,),
            f"{call.name} of a range that is not mapped{again}",
            f"no {call.name} at {site_text(call.site)}, or a mapping before it",
            [*([who(mapping.call)] if mapping is not None else []), who(call)],
            subjects=[("C", call.number), *(mapping.subjects if mapping is not None else [])],
            ranges=part,
        )
        return
    if mapping.flushed is None:
        rest = subtract(part, mapping.elements) if call.name in _SYNCS and part else []
        if rest:
            tell(
                book,
                "R44",
                (call.number,),
                f"{call.name} reaches beyond the mapping of {mapping.asked} bytes",
                f"offset and length inside the {mapping.call.name} at {site_text(mapping.call.site)}",
                [who(mapping.call), who(call)],
                subjects=[*mapping.subjects, ("C", call.number)],
                ranges=rest,
            )
        _direction(book, mapping, call)


def _synced(known: Ledger, call: OpenCall) -> tuple[Map | None, list[Range]]:
    if call.name in LINUX_UNMAPS:
        return unmapped(known, call), []
    args, owner = call.args, owner_of(call)
    if "sg" in call.name:
        part = [(int(a), int(n)) for a, n in args.get("entries") or ()]
        found = [m for m in known.maps if m.owner == owner and m.call.name == "dma_map_sg" and intersect(m.source, part)]
        part = []
    else:
        start, length = int(args.get("dma") or 0) + int(args.get("offset") or 0), int(args.get("length") or 0)
        part = [(start, length)]
        probe = [(start, max(length, 1))]
        found = [m for m in known.maps if m.owner == owner and m.call.name in LINUX_MAPS and intersect(m.elements, probe)]
        if not found and known.buffer_at(start, dma=True) is not None:
            buffer = known.buffer_at(start, dma=True)
            if buffer is not None and buffer.call.name == "dma_alloc_noncoherent":  # synced all its life
                return Map(buffer.call, buffer.owner, [buffer.range], [(buffer.dma, buffer.room)], "BIDIRECTIONAL", 0, 0), part
    live = [m for m in found if m.flushed is None]
    return (live or found or [None])[-1], part


def _direction(book: Book, mapping: Map, call: OpenCall) -> None:
    """R22. A BIDIRECTIONAL mapping may be synced for one direction; an unmap names the mapping's own."""
    said = call.args.get("direction")
    if said is None or said == mapping.direction or (mapping.direction == "BIDIRECTIONAL" and call.name in _SYNCS):
        return
    tell(
        book,
        "R22",
        ("linux", call.number),
        f"{call.name} says {said}, the {mapping.call.name} at {site_text(mapping.call.site)} said {mapping.direction}",
        f"{mapping.direction} in the {call.name} at {site_text(call.site)}",
        [who(mapping.call), who(call)],
        subjects=[*mapping.subjects, ("C", call.number)],
        ranges=mapping.source,
    )


# -- memory ---------------------------------------------------------------------------------------------------------------


def _kind(book: Book, known: Ledger, call: OpenCall, part: list[Range]) -> None:
    """R45."""
    mdl = call.args.get("mdl") or {}
    if mdl.get("locked") is False:
        _unfit(book, call, call, "the buffer's pages are not locked", "MmProbeAndLockPages", part)
        return
    locked = merge(r for ranges in known.locked.values() for r in ranges)
    for block in known.memory:
        both = intersect(part, [(block.address, block.length)])
        if block.freed is not None or not both or block.kind not in _NOT_FOR_DMA:
            continue
        if block.kind == "paged" and not subtract(both, locked):
            continue
        fix = "MmProbeAndLockPages" if block.kind == "paged" else "a buffer of nonpaged pool (kmalloc)"
        _unfit(book, call, block.call, f"the buffer is memory {_NOT_FOR_DMA[block.kind]}", fix, both)
        return


def _unfit(book: Book, call: OpenCall, first: OpenCall, how: str, fix: str, ranges: list[Range]) -> None:
    tell(
        book,
        "R45",
        (call.number,),
        f"{call.name}: {how}",
        f"{fix} {'before' if fix.startswith('Mm') else 'for'} the {call.name} at {site_text(call.site)}",
        [*([who(first)] if first is not call else []), who(call)],
        subjects=[("C", call.number)],
        ranges=ranges,
    )


def _freed_under_dma(book: Book, known: Ledger, call: OpenCall) -> None:
    for block in known.memory:
        if block.freed is None and block.address == call.args.get("address"):
            _taken_away(book, known, call, [(block.address, block.length)], "freed")


def _unlocked_under_dma(book: Book, known: Ledger, call: OpenCall) -> None:
    number = (call.args.get("mdl") or {}).get("id")
    others = [r for other, ranges in known.locked.items() if other != number for r in ranges]
    _taken_away(book, known, call, subtract(mdl_ranges(call.args.get("mdl")), others), "unlocked")


def _taken_away(book: Book, known: Ledger, call: OpenCall, ranges: list[Range], how: str) -> None:
    for mapping in known.open_maps():
        both = intersect(mapping.source, ranges)
        if both:
            tell(
                book,
                "R45",
                (call.number,),
                f"{call.name}: memory that is mapped for the device is {how}",
                f"end the mapping of the {mapping.call.name} at {site_text(mapping.call.site)} before the {call.name} at "
                f"{site_text(call.site)}",
                [who(mapping.call), who(call)],
                subjects=[*mapping.subjects, ("C", call.number)],
                ranges=both,
            )
            return


def _alignment(book: Book, known: Ledger, call: OpenCall, part: list[Range]) -> None:
    """R49: the driver was told the alignment, and does not keep it."""
    adapter = known.adapter(call)
    if adapter is None or adapter.alignment is None or known.in_buffer(part):
        return
    unit, asked = adapter.alignment
    odd = [(a, n) for a, n in part if unit > 1 and (a % unit or n % unit)]
    if odd:
        tell(
            book,
            "R49",
            (call.number,),
            f"{call.name} of {odd[0][1]} bytes from {odd[0][0]:#010x}; GetDmaAlignment returned {unit}",
            f"a buffer that begins and ends on a multiple of {unit} for the {call.name} at {site_text(call.site)}",
            [who(asked), who(call)],
            subjects=[("C", call.number)],
            ranges=odd,
        )


# -- what the device is given ---------------------------------------------------------------------------------------------


def _limits(book: Book, known: Ledger, call: OpenCall) -> tuple[int | None, int | None, int]:
    """``(longest element, boundary, unit)`` in bytes, from the description or the Linux device."""
    adapter = known.adapter(call)
    if adapter is not None:
        told = adapter.description
        longest = told.get("maximum_segment") or told.get("maximum_length")
    else:
        told = call.args.get("device")
        told = told if isinstance(told, dict) else {}
        longest = told.get("maximum_segment")
    boundary, unit = told.get("segment_boundary"), int(told.get("segment_unit") or 1)
    if adapter is not None and not adapter.master:  # DMA_WIDTH: 0 is 8 bits, each step doubles
        unit = max(unit, 1 << min(int(told.get("dma_width") or 0), 3))
    return (int(longest) if longest else None, int(boundary) if boundary else None, unit)


def _elements(book: Book, known: Ledger, call: OpenCall) -> None:
    """R46."""
    longest, boundary, unit = _limits(book, known, call)
    for address, length in ((int(a), int(n)) for a, n in call.args.get("ranges") or ()):
        if length <= 0:
            continue
        if longest is not None and length > longest:
            how, fix = f"is {length} bytes long, the device takes {longest}", "split it"
        elif boundary is not None and address // boundary != (address + length - 1) // boundary:
            how, fix = f"crosses a boundary of {boundary} bytes", "split it there"
        elif unit > 1 and (address % unit or length % unit):
            how, fix = f"of {length} bytes is not a multiple of {unit} bytes", f"use multiples of {unit}"
        else:
            continue
        tell(
            book,
            "R46",
            (call.number,),
            f"the element at {address:#010x} {how}",
            f"{fix} before the {call.name} at {site_text(call.site)}",
            [who(call)],
            subjects=_about(known, call),
            ranges=[(address, length)],
        )
        return


def _about(known: Ledger, call: OpenCall) -> list[tuple[str, int]]:
    ranges = [(int(a), int(n)) for a, n in call.args.get("ranges") or ()]
    maps = [m for m in known.open_maps(owner_of(call)) if intersect(m.elements, ranges)]
    return [("C", call.number), *(s for m in maps for s in m.subjects), *bounced(known, ranges)]


def _width(book: Book, known: Ledger, call: OpenCall) -> None:
    """R48: data and descriptors that the device cannot reach."""
    adapter, device = known.adapter(call), call.args.get("device")
    if adapter is not None:
        bits, whose = adapter.description.get("dma_address_width"), f"adapter {adapter.id}"
    elif isinstance(device, dict):
        bits, whose = device.get("mask"), f"device {device.get('id')}"
    else:
        return
    if not isinstance(bits, int) or bits <= 0 or bits >= 64:
        return
    if isinstance(device, dict) and call.args.get("buffer") is not None:
        bits = device.get("coherent_mask") or bits
    end = book.memory[0] + (1 << bits)
    given = [(int(a), int(n)) for a, n in call.args.get("ranges") or ()]
    if call.args.get("descriptors"):
        given.append((int(call.args["descriptors"][0]), int(call.args["descriptors"][1])))
    beyond = [(max(a, end), a + n - max(a, end)) for a, n in given if n > 0 and a + n > end]
    if not beyond:
        return
    tell(
        book,
        "R48",
        (call.number,),
        f"{whose} reaches {bits} address bits, up to {end - 1:#010x}; it is given {beyond[0][0]:#010x}",
        f"the address that the mapping returned in the {call.name} at {site_text(call.site)}, or a wider device description",
        [who(call)],
        severity=Severity.POSSIBLE,
        subjects=_about(known, call),
        ranges=beyond,
    )
