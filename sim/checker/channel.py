# SPDX-License-Identifier: BSD-2-Clause
"""Channels, map registers and their mappings, in the order of calls: R28, R29, R30, R31, R32, R36, R39 (and R44 of flushes)."""

from typing import Any

from .book import Book
from .calls import OpenCall
from .drafts import Draft
from .findings import site_text
from .ledger import (
    ALLOCATES,
    DEALLOCATE,
    FLUSHES,
    KEEP,
    KEEP_REGISTERS,
    MAPPING,
    Adapter,
    Ledger,
    Map,
    dead,
    id_of,
    ledger,
    matching,
    owner_of,
    part_of,
    registers_named,
    tell,
    who,
)
from .state import clip, intersect, merge, subtract

__all__ = ["begin", "end", "end_of_run"]

_MASTER_ONLY = ("GetScatterGatherList", "BuildScatterGatherList", "GetScatterGatherListEx", "BuildScatterGatherListEx")
_SYSTEM_ONLY = ("ReadDmaCounter", "ConfigureAdapterChannel")
_ACTIONS = {1: "KeepObject", 2: "DeallocateObject", 3: "DeallocateObjectKeepRegisters"}


def begin(book: Book, call: OpenCall) -> None:
    """A call begins."""
    known = ledger(book)
    adapter = known.adapter(call)
    if adapter is None or dead(book, call):
        return
    name = call.name
    if name in _SYSTEM_ONLY or name in _MASTER_ONLY:
        _kind(book, adapter, call)
    if name in ALLOCATES:
        _allocate(book, adapter, call)
    elif name in MAPPING:
        _map(book, known, adapter, call)
    elif name in FLUSHES and known.complete:
        _flush(book, known, adapter, call)
    elif name in ("FreeAdapterChannel", "FreeMapRegisters", "FreeAdapterObject"):
        if name != "FreeAdapterObject" or call.args.get("action") != KEEP:
            _free(book, known, adapter, call)
        _cancelled_unflushed(book, known, call)


def end(book: Book, call: OpenCall, result: Any, error: Any) -> None:
    """A call ends: AdapterControl's return."""
    if call.name == "AdapterControl" and not error and not dead(book, call):
        adapter = ledger(book).adapter(call)
        if adapter is not None:
            _returned(book, ledger(book), adapter, call, result)


def end_of_run(book: Book) -> None:
    """A cancelled mapping that nobody flushed."""
    _cancelled_unflushed(book, ledger(book), None)


# -- master or system -----------------------------------------------------------------------------------------------------


def _kind(book: Book, adapter: Adapter, call: OpenCall) -> None:
    """R36."""
    wrong = adapter.master if call.name in _SYSTEM_ONLY else not adapter.master
    if not wrong:
        return
    kind, other = ("bus master", "system DMA") if adapter.master else ("system DMA", "bus master")
    instead = {
        "ReadDmaCounter": "read the residue from the device's own registers",
        "ConfigureAdapterChannel": "program the device itself",
    }.get(call.name, "AllocateAdapterChannel and MapTransfer, which give the channel its one address")
    tell(
        book,
        "R36",
        (call.number,),
        f"{call.name} is for {other}, adapter {adapter.id} is a {kind} adapter",
        f"instead of the {call.name} at {site_text(call.site)}: {instead}",
        [who(call)],
        subjects=[("C", call.number)],
    )


# -- allocation -----------------------------------------------------------------------------------------------------------


def _inside_control(call: OpenCall) -> OpenCall | None:
    parent = call.parent
    while parent is not None:
        if parent.name == "AdapterControl":
            return parent
        parent = parent.parent
    return None


def _allocate(book: Book, adapter: Adapter, call: OpenCall) -> None:
    control = _inside_control(call)
    if control is not None:
        tell(
            book,
            "R30",
            (call.number,),
            f"{call.name} is called inside AdapterControl: the channel it waits for is the one that this routine holds",
            f"return from the AdapterControl of cycle {control.cycle} before the {call.name} at {site_text(call.site)}",
            [who(control), who(call)],
            subjects=[("C", call.number)],
        )
    else:
        held, context = adapter.channel, call.args.get("context")
        waiting = adapter.pending[-1] if adapter.pending else None
        if adapter.version >= 3 and adapter.master:  # each context is an allocation of its own there
            held = next((g for g in adapter.held if g.context is not None and g.context == context), None)
            waiting = next((p for p in adapter.pending if p.args.get("context") == context), None)
        first = held.call if held is not None else waiting
        if first is not None:
            tell(
                book,
                "R30",
                (call.number,),
                f"a second channel is allocated on adapter {adapter.id}, which {'holds' if held else 'waits for'} one",
                f"FreeAdapterChannel between the {first.name} at {site_text(first.site)} and the {call.name} at "
                f"{site_text(call.site)}",
                [who(first), who(call)],
                subjects=[("C", call.number), *([held.subject] if held is not None else [])],
            )
    _count(book, adapter, call)


def _count(book: Book, adapter: Adapter, call: OpenCall) -> None:
    """R39: more than the adapter may have, by itself or together with what is held."""
    wanted = call.args.get("map_registers")
    if adapter.limit is None or not isinstance(wanted, int):
        return
    held = sum(grant.count for grant in adapter.grants if grant.registers_held)
    if wanted <= adapter.limit and (wanted + held <= adapter.limit or not wanted):
        return
    more = "" if wanted > adapter.limit else f", beside {held} that are held"
    first = [who(adapter.call)] if adapter.call is not None else []
    tell(
        book,
        "R39",
        (call.number,),
        f"{wanted} map registers are asked for{more}; IoGetDmaAdapter returned {adapter.limit}",
        f"at most {adapter.limit} map registers in the {call.name} at {site_text(call.site)}; split the transfer",
        [*first, who(call)],
        subjects=[("C", call.number)],
    )


def _returned(book: Book, known: Ledger, adapter: Adapter, call: OpenCall, action: Any) -> None:
    """R31. DeallocateObject is right where the routine has decided not to transfer anything."""
    wanted = id_of(call.args.get("registers"))
    grant = next((g for g in reversed(adapter.grants) if g.registers == wanted), None)
    if grant is not None and not grant.channel and not grant.registers_held:
        return  # the routine itself gave everything back
    mapped = [m for m in known.open_maps(("A", adapter.id)) if m.list_id is None and m.registers in (None, wanted)]
    right = KEEP_REGISTERS if adapter.master else KEEP
    if action == right or (action == DEALLOCATE and not mapped):
        return
    shown = _ACTIONS.get(action, repr(action)) if isinstance(action, int) else repr(action)
    kind = "bus master" if adapter.master else "system DMA"
    harm = {
        KEEP: "the adapter object stays allocated, and the next request waits for it",
        DEALLOCATE: "channel and map registers are freed under the transfer",
        KEEP_REGISTERS: "the channel is given to the next driver while this transfer uses it",
    }.get(action if isinstance(action, int) else 0, "there is no such action")
    subjects = [("C", call.number), *(s for m in mapped for s in m.subjects)]
    if grant is not None:
        subjects += [grant.subject, ("C", grant.call.number)]
    tell(
        book,
        "R31",
        (call.number,),
        f"AdapterControl of a {kind} adapter returns {shown}: {harm}",
        f"return {_ACTIONS[right]} from the AdapterControl that began in cycle {call.cycle}",
        [who(call)],
        subjects=subjects,
    )


# -- mapping and flushing -------------------------------------------------------------------------------------------------


def _map(book: Book, known: Ledger, adapter: Adapter, call: OpenCall) -> None:
    if known.complete:
        _without_channel(book, adapter, call)
    if call.name == "MapTransferEx":
        for mapping in known.open_maps(("A", adapter.id)):
            if mapping.call.name == "MapTransferEx" and mapping.context == call.args.get("context"):
                _not_flushed(book, mapping, call)


def _without_channel(book: Book, adapter: Adapter, call: OpenCall) -> None:
    """R30. A bus master needs its map registers, a system channel the channel."""
    held = adapter.held if adapter.master else [g for g in adapter.grants if g.channel]
    if held:
        return
    freed = adapter.grants[-1] if adapter.grants else None
    subjects = [("A", adapter.id), ("C", call.number), *([freed.subject] if freed is not None else [])]
    what = "holds neither channel nor map registers" if adapter.master else "holds no channel"
    before = "AllocateAdapterChannelEx" if call.name.endswith("Ex") else "AllocateAdapterChannel"
    tell(
        book,
        "R30",
        ("map", call.site or call.number),  # once per line: every mapping of a loop lacks the same channel
        f"{call.name} on adapter {adapter.id}, which {what}",
        f"{before} before the {call.name} at {site_text(call.site)}, and the {call.name} in or after its AdapterControl",
        [who(call)],
        subjects=subjects,
    )


def _not_flushed(book: Book, mapping: Map, call: OpenCall | None) -> None:
    """R28."""
    if mapping.cancelled is not None:
        detail = f"no FlushAdapterBuffersEx after the CancelMappedTransfer at {site_text(mapping.cancelled.site)}"
        first = mapping.cancelled
    else:
        detail = f"MapTransferEx again on context {mapping.context}, and what it mapped before is not flushed"
        first = mapping.call
    where = (
        "the end" if call is None else f"the {'next ' if call.site == first.site else ''}{call.name} at {site_text(call.site)}"
    )
    tell(
        book,
        "R28",
        (mapping.call.number,),
        detail,
        f"FlushAdapterBuffersEx between the {first.name} at {site_text(first.site)} and {where}",
        [who(first), *([who(call)] if call is not None else [])],
        subjects=[*mapping.subjects, *([("C", call.number)] if call is not None else [])],
        ranges=mapping.source,
        transfer=mapping.transfers[-1].number if mapping.transfers else None,
    )


def _cancelled_unflushed(book: Book, known: Ledger, call: OpenCall | None) -> None:
    for mapping in known.open_maps(None if call is None else owner_of(call)):
        if mapping.cancelled is not None:
            _not_flushed(book, mapping, call)


def _flush(book: Book, known: Ledger, adapter: Adapter, call: OpenCall) -> None:
    """R29, and R44 where nothing is mapped. Common buffers are flushed without a mapping; direction is R22's."""
    part = merge(part_of(call))
    if not part or known.in_buffer(part):
        return
    exact, near = matching(known, call)
    registers = id_of(call.args.get("registers"))
    for mapping in exact or near:
        _late(book, mapping)
    if exact and not any(m.registers is not None and registers is not None and m.registers != registers for m in exact):
        return
    if exact:
        _arguments(book, exact[0], call, f"map registers {registers} instead of {exact[0].registers}")
        return
    for mapping in near:
        if _only_what_moved(mapping, part):
            return
    if near:
        mapping = near[-1]
        first, length = mapping.source[0][0], sum(n for _, n in mapping.source)
        shown = sum(n for _, n in part)
        _arguments(book, mapping, call, f"{shown} bytes from {part[0][0]:#010x}; mapped are {length} bytes from {first:#010x}")
        return
    owner = ("A", adapter.id)
    if any(m.owner == owner and m.list_id is not None and not subtract(part, m.source) for m in known.open_maps(owner)):
        return  # of a list that is still held: more than is owed, not less
    flushed = [m for m in known.maps if m.owner == owner and m.list_id is None and m.ok and not subtract(part, m.source)]
    late = flushed[-1] if flushed else None
    detail = f"{call.name} over a range that is not mapped" + (
        f" any more: it was flushed at {site_text(late.flushed.site)}" if late is not None and late.flushed else ""
    )
    tell(
        book,
        "R44",
        (call.number,),
        detail,
        f"one {call.name} for each mapping; none at {site_text(call.site)}",
        [*([who(late.call)] if late is not None else []), who(call)],
        subjects=[("C", call.number), *(late.subjects if late is not None else [])],
        ranges=part,
    )


def _only_what_moved(mapping: Map, part: list[Any]) -> bool:
    """A transfer that ended short may be flushed at its real length, also where the device wrote bounce bytes."""
    if subtract(part, mapping.source) or not mapping.transfers or part[0][0] != merge(mapping.source)[0][0]:
        return False
    moved, position = [], 0
    for address, length in mapping.elements:
        for transfer in mapping.transfers:
            for a, n in intersect(transfer.ranges, [(address, length)]):
                moved += clip(mapping.source, position + a - address, n)
        position += length
    return not subtract(moved, part)


def _arguments(book: Book, mapping: Map, call: OpenCall, how: str) -> None:
    tell(
        book,
        "R29",
        (call.number,),
        f"{call.name} is told {how}",
        f"the values of the {mapping.call.name} at {site_text(mapping.call.site)} in the {call.name} at {site_text(call.site)}",
        [who(mapping.call), who(call)],
        subjects=[*mapping.subjects, ("C", call.number)],
        ranges=part_of(call),
        transfer=mapping.transfers[-1].number if mapping.transfers else None,
    )


# -- freeing --------------------------------------------------------------------------------------------------------------


def _free(book: Book, known: Ledger, adapter: Adapter, call: OpenCall) -> None:
    """R32: what is mapped loses its channel or its registers."""
    grants = [g for g in adapter.grants if g.channel]
    if call.name == "FreeMapRegisters":
        named = registers_named(adapter, call)
        grants = [named] if named is not None else []
        if call.args.get("registers") is None and adapter.held == grants:
            grants = adapter.held
    ids = {g.registers for g in grants}
    for mapping in known.open_maps(("A", adapter.id)):
        if mapping.list_id is not None or (mapping.registers is not None and ids and mapping.registers not in ids):
            continue
        if mapping.cancelled is not None:
            continue  # R28
        flush = "FlushAdapterBuffersEx" if mapping.call.name.endswith("Ex") else "FlushAdapterBuffers"
        draft = tell(
            book,
            "R32",
            (call.number, mapping.call.number),
            f"{call.name} while the {mapping.call.name} at {site_text(mapping.call.site)} is not flushed",
            f"{flush} after the transfer, before the {call.name} at {site_text(call.site)}",
            [who(mapping.call), who(call)],
            subjects=[*mapping.subjects, ("C", call.number), *(g.subject for g in grants)],
            ranges=mapping.source,
            transfer=mapping.transfers[-1].number if mapping.transfers else None,
        )
        mapping.freed_early = draft
        for r24 in _unflushed(book, mapping):
            r24.never.add("R32")  # until a flush comes after all, the missing flush is the root


def _unflushed(book: Book, mapping: Map) -> list[Draft]:
    about = {transfer.subject for transfer in mapping.transfers}
    return [draft for draft in book.drafts.values() if draft.rule == "R24" and draft.subjects & about]


def _late(book: Book, mapping: Map) -> None:
    """The flush comes after the registers are gone: freeing too early is the root, and R24 its consequence."""
    if mapping.freed_early is not None:
        mapping.freed_early.never.add("R24")
        for r24 in _unflushed(book, mapping):
            r24.never.discard("R32")
