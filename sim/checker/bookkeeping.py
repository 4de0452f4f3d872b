# SPDX-License-Identifier: BSD-2-Clause
"""Keeps the :class:`.Ledger`: what each call gives the driver, or takes away.

As a rule family it comes after those that read the ledger: at the begin and at the end of a call they still see the state before
it. It decides no rule.
"""

from typing import Any

from .book import Book
from .calls import OpenCall, mdl_ranges, succeeded
from .ledger import (
    ALLOCATES,
    COMMON,
    COMMON_FREE,
    DEALLOCATE,
    KEEP,
    KEEP_REGISTERS,
    LINUX_MAPS,
    LINUX_UNMAPS,
    LISTS,
    MAPPING,
    Adapter,
    Block,
    Buffer,
    Grant,
    Ledger,
    Map,
    buffer_named,
    direction_of,
    id_of,
    ledger,
    matching,
    owner_of,
    part_of,
    registers_named,
    unmapped,
)
from .state import clip, intersect

__all__ = ["begin", "end"]


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
