# SPDX-License-Identifier: BSD-2-Clause
"""Who frees what, when, and with which values: R37, R38, R40, R41."""

from typing import Any

from .book import Book
from .calls import OpenCall
from .findings import Access, Severity, site_text
from .ledger import (
    COMMON_FREE,
    KEEP,
    LINUX_UNMAPS,
    Adapter,
    Buffer,
    Ledger,
    buffer_named,
    ledger,
    owner_of,
    registers_named,
    tell,
    unmapped,
    who,
)

__all__ = ["begin", "end", "end_of_run"]

_VERSIONS = (0, 1, 2, 3)


def begin(book: Book, call: OpenCall) -> None:
    """A call begins."""
    known, name = ledger(book), call.name
    if name == "IoGetDmaAdapter":
        _version(book, call)
        return
    adapter = known.adapter(call)
    if adapter is not None and adapter.released is not None:
        _released(book, adapter, call)
        return
    if name in ("FreeAdapterChannel", "FreeMapRegisters", "FreeAdapterObject") and adapter is not None:
        _free(book, known, adapter, call)
    elif name in COMMON_FREE:
        _free_buffer(book, known, call)
    elif name == "PutScatterGatherList":
        _put_list(book, known, call)
    elif name in LINUX_UNMAPS:
        _unmap(book, known, call)
    elif name == "FreeMemory":
        _free_memory(book, known, call)
    elif name == "PutDmaAdapter" and adapter is not None:
        _leaks(book, known, ("A", adapter.id), who(call))
    elif name == "device_release":
        _release(book, known, call)
    elif name == "dma_pool_destroy":
        _pool_gone(book, known, call)


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A call ends."""
    known = ledger(book)
    if call.name == "device_release":
        known.released_devices[_device(call)] = call
    elif call.name.startswith("dma_") and _device(call) is not None:
        known.devices.setdefault(_device(call), call)


def end_of_run(book: Book) -> None:
    """What nobody gave back. Adapters and devices that were released had their turn then."""
    known = ledger(book)
    if not known.complete:
        return
    for adapter in known.adapters.values():
        if adapter.released is None and adapter.call is not None:
            _leaks(book, known, ("A", adapter.id), None)
            tell(
                book,
                "R38",
                ("adapter", adapter.call.number),
                f"adapter {adapter.id} is never released",
                f"PutDmaAdapter for the IoGetDmaAdapter at {site_text(adapter.call.site)}, when the driver unloads",
                [who(adapter.call)],
                severity=Severity.WARNING,
                subjects=[("C", adapter.call.number)],
            )
    for device in known.devices:
        if device not in known.released_devices:
            _leaks(book, known, ("D", device), None)


def _device(call: OpenCall) -> Any:
    shown = call.args.get("device")
    return shown.get("id") if isinstance(shown, dict) else shown


# -- adapters -------------------------------------------------------------------------------------------------------------


def _version(book: Book, call: OpenCall) -> None:
    """R40, first half."""
    version = (call.args.get("description") or {}).get("version")
    if version is None or version in _VERSIONS:
        return
    tell(
        book,
        "R40",
        (call.number,),
        f"IoGetDmaAdapter with description version {version}, which does not exist",
        f"version 0, 1, 2 or 3 in the IoGetDmaAdapter at {site_text(call.site)}",
        [who(call)],
        subjects=[("C", call.number)],
    )


def _released(book: Book, adapter: Adapter, call: OpenCall) -> None:
    """R40, second half; releasing it again is R37."""
    put = adapter.released
    again = call.name == "PutDmaAdapter"
    tell(
        book,
        "R37" if again else "R40",
        (call.number,) if again else ("adapter", adapter.id),
        f"adapter {adapter.id} is released again" if again else f"{call.name} on adapter {adapter.id}, which was released before",
        f"no {call.name} at {site_text(call.site)} after the PutDmaAdapter at {site_text(put.site)}"
        + ("" if again else "; release the adapter last"),
        [who(put), who(call)],
        subjects=[("C", call.number)],
    )


def _double(book: Book, call: OpenCall, what: str, first: OpenCall | None, subjects: Any = ()) -> None:
    """R37."""
    before = f", it was at {site_text(first.site)} before" if first is not None else ": it is not held"
    tell(
        book,
        "R37",
        (call.number,),
        f"{call.name} frees {what} again{before}" if first is not None else f"{call.name} frees {what}{before}",
        f"one free of {what}; none at {site_text(call.site)}",
        [*([who(first)] if first is not None else []), who(call)],
        subjects=[("C", call.number), *subjects],
    )


def _free(book: Book, known: Ledger, adapter: Adapter, call: OpenCall) -> None:
    """Channel and map registers: R37, and R41 of the count."""
    if call.name == "FreeMapRegisters":
        grant = registers_named(adapter, call)
        if grant is None:
            if known.complete:
                _double(book, call, "map registers", None, [g.subject for g in adapter.grants])
        elif not grant.registers_held:
            _double(book, call, f"map registers {grant.registers}", grant.call, [grant.subject])
        elif isinstance(call.args.get("count"), int) and call.args["count"] != grant.count:
            _other_values(book, call, grant.call, f"{call.args['count']} map registers", f"{grant.count} were allocated")
        return
    if call.name == "FreeAdapterObject" and call.args.get("action") == KEEP:
        return
    if adapter.channel is None and (known.complete or adapter.grants):
        newest = adapter.grants[-1] if adapter.grants else None
        if call.name == "FreeAdapterObject" and any(m.list_id is not None for m in known.maps if m.owner == ("A", adapter.id)):
            return  # it gives back what a list routine took
        subjects = [newest.subject] if newest is not None else [("A", adapter.id)]
        _double(book, call, f"the channel of adapter {adapter.id}", newest.call if newest is not None else None, subjects)


def _other_values(book: Book, call: OpenCall, first: OpenCall, given: str, right: str, subjects: Any = ()) -> None:
    """R41."""
    tell(
        book,
        "R41",
        (call.number,),
        f"{call.name} with {given}; {right} at {site_text(first.site)}",
        f"the values of the {first.name} at {site_text(first.site)} in the {call.name} at {site_text(call.site)}",
        [who(first), who(call)],
        subjects=[("C", first.number), ("C", call.number), *subjects],
    )


# -- buffers, lists, mappings, memory -------------------------------------------------------------------------------------


def _free_buffer(book: Book, known: Ledger, call: OpenCall) -> None:
    buffer = buffer_named(known, call)
    if buffer is None:
        near = known.buffer_at(int(call.args.get("address") or 0)) or known.buffer_at(int(call.args.get("dma") or 0), dma=True)
        if near is not None:
            _other_values(book, call, near.call, f"address {_hex(call.args.get('address'))}", f"it was {_hex(near.address)}")
        elif known.complete:
            _double(book, call, "a buffer", None)
        return
    if buffer.freed is not None:
        _double(book, call, f"the buffer at {_hex(buffer.address)}", buffer.freed)
        return
    wrong = _differences(buffer, call)
    if wrong:
        given, right = ", ".join(f"{n} {a}" for n, a, _ in wrong), ", ".join(f"{n} {b}" for n, _, b in wrong)
        _other_values(book, call, buffer.call, given, f"it was allocated with {right}")


def _hex(value: Any) -> str:
    return f"{value:#010x}" if isinstance(value, int) else repr(value)


def _differences(buffer: Buffer, call: OpenCall) -> list[tuple[str, Any, Any]]:
    args, out = call.args, []
    virtual = buffer.dma if call.name == "FreeCommonBuffer" else buffer.address
    if args.get("address") is not None and args["address"] != virtual:
        out.append(("address", _hex(args["address"]), _hex(virtual)))
    if args.get("dma") is not None and args["dma"] != buffer.dma:
        out.append(("dma", _hex(args["dma"]), _hex(buffer.dma)))
    if args.get("length") is not None and buffer.pool is None and args["length"] != buffer.length:
        out.append(("length", args["length"], buffer.length))
    said = args.get("cache_enabled")
    if said is not None and bool(said) != buffer.cached:
        out.append(("cache_enabled", said, buffer.cached))
    if buffer.pool is not None and args.get("pool") is not None and args["pool"] != buffer.pool:
        out.append(("pool", args["pool"], buffer.pool))
    owner = owner_of(call)
    if owner is not None and call.name != "dma_pool_free" and owner[1] != buffer.owner[1]:
        out.append(("adapter" if owner[0] == "A" else "device", owner[1], buffer.owner[1]))
    made = buffer.call.name
    if call.name.startswith("dma_free_") and made.startswith("dma_alloc_") and call.name[9:] != made[10:]:
        out.append(("kind", call.name[9:], made[10:]))
    return out


def _put_list(book: Book, known: Ledger, call: OpenCall) -> None:
    wanted = call.args.get("list")
    mapping = next((m for m in reversed(known.maps) if m.list_id is not None and m.list_id == wanted), None)
    if mapping is not None and mapping.flushed is not None:
        _double(book, call, f"list {wanted}", mapping.flushed, mapping.subjects)
    elif mapping is None and known.complete:
        _double(book, call, f"list {wanted}", None)


def _unmap(book: Book, known: Ledger, call: OpenCall) -> None:
    mapping = unmapped(known, call)
    if mapping is None:
        return  # R44
    if mapping.flushed is not None:
        _double(book, call, "a mapping", mapping.flushed, mapping.subjects)
        return
    args = call.args
    if (call.name == "dma_unmap_sg") != (mapping.call.name == "dma_map_sg"):
        _other_values(book, call, mapping.call, "another kind of mapping", f"it is of {mapping.call.name}")
    elif call.name == "dma_unmap_sg":
        if [(int(a), int(n)) for a, n in args.get("entries") or ()] != mapping.source:
            _other_values(
                book,
                call,
                mapping.call,
                f"{len(args.get('entries') or ())} entries",
                f"{len(mapping.source)} others",
                mapping.subjects,
            )
    elif args.get("length") is not None and args["length"] != mapping.asked:
        _other_values(
            book, call, mapping.call, f"length {args['length']}", f"{mapping.asked} bytes were mapped", mapping.subjects
        )


def _free_memory(book: Book, known: Ledger, call: OpenCall) -> None:
    address = call.args.get("address")
    block = next((b for b in reversed(known.memory) if b.address == address), None)
    if block is not None and block.freed is not None:
        _double(book, call, f"the memory at {_hex(address)}", block.freed)
    elif block is None and known.memory:
        inside = next(
            (b for b in known.memory if b.freed is None and b.address <= int(address or 0) < b.address + b.length), None
        )
        if inside is not None:
            _other_values(book, call, inside.call, f"address {_hex(address)}", f"it was {_hex(inside.address)}")


# -- leaks ----------------------------------------------------------------------------------------------------------------


def _leaks(book: Book, known: Ledger, owner: tuple[str, Any], end: Access | None) -> None:
    """R38: whatever of an adapter or device is still held. Unflushed packet mappings end with their registers."""
    before = "the end of the driver" if end is None else f"the {end.what} at {site_text(end.site)}"

    def leak(what: str, first: OpenCall, free: str, subjects: Any) -> None:
        tell(
            book,
            "R38",
            (first.number, what),
            f"{what} is still held at {before}",
            f"{free} for the {first.name} at {site_text(first.site)}, before {before}",
            [who(first), *([end] if end is not None else [])],
            severity=Severity.WARNING,
            subjects=subjects,
        )

    if owner[0] == "A":
        adapter = known.adapters[owner[1]]
        for grant in adapter.held:
            what = "a channel" if grant.channel else f"{grant.count} map registers"
            free = "FreeAdapterChannel" if grant.channel else "FreeMapRegisters"
            leak(f"{what} of adapter {adapter.id}", grant.call, free, [grant.subject, ("C", grant.call.number)])
    for mapping in known.open_maps(owner):
        if mapping.list_id is not None:
            leak(f"scatter/gather list {mapping.list_id}", mapping.call, "PutScatterGatherList", mapping.subjects)
        elif owner[0] == "D":
            free = mapping.call.name.replace("dma_map", "dma_unmap")
            start = mapping.source[0][0] if mapping.source else 0
            leak(f"the mapping of {_hex(start)}", mapping.call, free, mapping.subjects)
    for buffer in known.buffers:
        if buffer.owner == owner and buffer.freed is None:
            name = buffer.call.name
            free = {"dma_pool_alloc": "dma_pool_free"}.get(name, name.replace("alloc", "free"))
            free = "FreeCommonBuffer" if name.startswith("AllocateCommonBuffer") else free
            leak(f"the buffer at {_hex(buffer.address)}", buffer.call, free, [("C", buffer.call.number)])


def _release(book: Book, known: Ledger, call: OpenCall) -> None:
    device = _device(call)
    first = known.released_devices.get(device)
    if first is not None:
        _double(book, call, f"device {device}", first)
    else:
        _leaks(book, known, ("D", device), who(call) if call.site is not None and call.site[1] else None)


def _pool_gone(book: Book, known: Ledger, call: OpenCall) -> None:
    for buffer in known.buffers:
        if buffer.pool is not None and buffer.pool == call.args.get("pool") and buffer.freed is None:
            tell(
                book,
                "R38",
                (buffer.call.number, "pool"),
                f"the pool is destroyed while the block at {_hex(buffer.address)} is still held",
                f"dma_pool_free for the dma_pool_alloc at {site_text(buffer.call.site)}, before the {call.name} at "
                f"{site_text(call.site)}",
                [who(buffer.call), who(call)],
                severity=Severity.WARNING,
                subjects=[("C", buffer.call.number)],
            )
