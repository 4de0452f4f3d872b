# SPDX-License-Identifier: BSD-2-Clause
"""The order of calls: R22, R24, R25, R26, R27, and what a completed IRP lets the caller see."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.record import Event

from . import access, dma, flushes, pio
from .calls import OpenCall, Transfer, flag, mdl_ranges, succeeded
from .findings import Access, site_text
from .state import Range, clip, intersect, line_masks

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["CommonBuffer", "Mapping", "begin", "end", "end_of_run", "new_transfer"]


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


def _adapter_id(call: OpenCall) -> Any:
    adapter = call.args.get("adapter")
    return adapter.get("id") if isinstance(adapter, dict) else adapter


# -- begin of a call ----------------------------------------------------------------------------------------------------


def begin(engine: "Engine", call: OpenCall) -> None:
    """A call begins."""
    if call.name in ("FlushAdapterBuffers", "PutScatterGatherList", "FlushAdapterBuffersEx"):
        _adapter_flush_begins(engine, call)
    elif call.name == "IoCompleteRequest":
        _irp_completed(engine, call)
    elif call.name in ("FreeAdapterChannel", "FreeMapRegisters", "PutDmaAdapter"):
        for transfer in _unflushed(engine, call):
            if transfer.complete is not None and transfer.flush is None:  # a flush that failed is R26's, at the IRP's end
                _no_flush(engine, transfer, Access(call.name, call.cycle, call.site))
    elif call.name == "CpuCopy":
        pio.declare(engine, call)


def end(engine: "Engine", call: OpenCall, result: Any, error: Any) -> None:
    """A call ends. One that raised has promised nothing."""
    if call.name in ("FlushAdapterBuffers", "PutScatterGatherList", "FlushAdapterBuffersEx"):
        _adapter_flush_ends(engine, call, result is not False and not error)
        return
    if error and call.name != "ReadRegisterBuffer":
        return
    if call.name == "KeFlushIoBuffers":
        flushes.ke_flush_done(engine, call)
    elif call.name == "CacheMaintenance":
        if call.args.get("requested_by") != "hal":
            flushes.by_address_done(engine, call)
    elif call.name == "ReadRegisterBuffer":
        pio.declare(engine, call)
    elif call.name == "IoGetDmaAdapter":
        adapter = (result or {}).get("adapter")
        number = adapter.get("id") if isinstance(adapter, dict) else adapter
        engine.adapters[number] = call.args.get("description") or {}
    elif call.name in ("MapTransfer", "GetScatterGatherList"):
        _mapped(engine, call, result)
    elif call.name == "AllocateCommonBuffer":
        if result:
            buffer = CommonBuffer(
                result["buffer"], (int(result["address"]), int(result["length"])), bool(call.args.get("cache_enabled"))
            )
            engine.buffers[buffer.number] = buffer
    elif call.name == "FreeCommonBuffer":
        engine.buffers.pop(call.args.get("buffer"), None)


def _mapped(engine: "Engine", call: OpenCall, result: Any) -> None:
    args = call.args
    whole = mdl_ranges(args.get("mdl"))
    mapping = Mapping(
        call,
        whole,
        clip(whole, int(args.get("offset") or 0), int(args.get("length") or 0)),
        bool(args.get("write_to_device")),
    )
    if call.name == "GetScatterGatherList":
        mapping.list_id = (result or {}).get("list")
        engine.lists[mapping.list_id] = mapping
    engine.mappings.setdefault(_adapter_id(call), []).append(mapping)
    del engine.mappings[_adapter_id(call)][:-16]


# -- start ----------------------------------------------------------------------------------------------------------------


def new_transfer(engine: "Engine", call: OpenCall, number: int, event: Event) -> Transfer:
    """The transfer that a StartTransfer call hands off. The adapter's transfer before it should have been flushed (R24)."""
    args = call.args
    adapter = args.get("adapter") or {}
    write = bool(event[5] >> 3 & 1)
    ranges = [(int(a), int(n)) for a, n in args.get("ranges") or ()]
    for before in _unflushed(engine, call):
        if before.complete is not None:
            _no_flush(engine, before, Access("StartTransfer", call.cycle, call.site))
    mapping = next((m for m in reversed(engine.mappings.get(adapter.get("id"), [])) if intersect(m.ranges, ranges)), None)
    buffer = engine.buffers.get(args.get("buffer"))
    if buffer is None:
        buffer = next((b for b in engine.buffers.values() if intersect([b.range], ranges)), None)
    transfer = Transfer(
        number,
        event,
        write,
        ranges,
        engine.line_bytes,
        site=call.site,
        tag=event[3],
        adapter=adapter,
        mapped=[] if mapping is None else mapping.ranges,
        buffer=None if buffer is None else buffer.number,
        common=buffer is not None or args.get("buffer") is not None,
        uncached=buffer is not None and not buffer.cached,
        auto_init=bool(engine.adapters.get(adapter.get("id"), {}).get("auto_initialize")),
    )
    if mapping is not None:
        transfer.list_id = mapping.list_id
        if mapping.write != write:
            _direction(engine, transfer, mapping.call, mapping.write)
    return transfer


def _direction(engine: "Engine", transfer: Transfer, call: OpenCall, write: bool) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"{call.name} says WriteToDevice={flag(write)}, the transfer is {transfer.what}",
            "accesses": [Access(call.name, call.cycle, call.site), engine.started(transfer)],
            "missing": f"WriteToDevice={flag(transfer.write)} in the {call.name} at {site_text(call.site)}",
            "transfer": transfer.number,
        }

    draft = engine.note("R22", ("call", call.number, transfer.number), build, subjects=[transfer.subject])
    draft.ranges += transfer.ranges


def _unflushed(engine: "Engine", call: OpenCall) -> Iterator[Transfer]:
    """Transfers of the call's adapter that still owe their flush."""
    number = _adapter_id(call)
    for transfer in engine.open:
        if (
            transfer.called
            and (transfer.adapter or {}).get("id") == number
            and not transfer.superseded
            and (transfer.flush is None or not transfer.flush_ok)
        ):
            yield transfer


def _no_flush(engine: "Engine", transfer: Transfer, who: Access | None) -> None:
    """R24: the moment has passed."""
    transfer.superseded = True
    if not transfer.owes_adapter_flush or transfer.flush is not None:
        return

    def build() -> dict[str, Any]:
        name = "PutScatterGatherList" if transfer.list_id is not None else "FlushAdapterBuffers"
        where = "" if who is None else f", before the {who.what} at {site_text(who.site)}"
        detail = (
            f"no {name} after {transfer.what}: what does not fill a chunk of {engine.chunk_bytes} bytes stays in the controller"
        )
        return {
            "detail": detail,
            "accesses": [engine.started(transfer), *([] if who is None else [who])],
            "missing": f"{name} (WriteToDevice={flag(transfer.write)}) after the completion of the transfer started at "
            f"{site_text(transfer.site)}{where}",
            "transfer": transfer.number,
        }

    draft = engine.note("R24", (transfer.number,), build, subjects=[transfer.subject])
    draft.ranges = list(transfer.ranges)


# -- FlushAdapterBuffers, PutScatterGatherList ----------------------------------------------------------------------------


def _adapter_flush_begins(engine: "Engine", call: OpenCall) -> None:
    wanted = call.args.get("list")
    candidates = list(_unflushed(engine, call))
    if call.name == "PutScatterGatherList" and any(t.list_id == wanted for t in candidates):
        candidates = [t for t in candidates if t.list_id == wanted]
    for transfer in candidates:
        said = call.args.get("write_to_device")
        if said is not None and bool(said) != transfer.write:
            _direction(engine, transfer, call, bool(said))
        if not transfer.active or transfer.auto_init:  # the flush may be what stops auto-init
            call.flushed.append(transfer)
        else:
            transfer.early_flush = call
            _too_early(engine, transfer, call)


def _too_early(engine: "Engine", transfer: Transfer, call: OpenCall) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"{call.name} while {transfer.what} is still running: what comes after it is not flushed",
            "accesses": [engine.started(transfer), Access(call.name, call.cycle, call.site)],
            "missing": f"the {call.name} at {site_text(call.site)} belongs after the completion of the transfer",
            "transfer": transfer.number,
        }

    draft = engine.note("R27", (transfer.number,), build, subjects=[transfer.subject])
    draft.ranges = list(transfer.ranges)


def _adapter_flush_ends(engine: "Engine", call: OpenCall, ok: bool) -> None:
    for transfer in call.flushed:
        if transfer.active:
            continue
        transfer.flush, transfer.flush_ok = call, ok
        if ok and not transfer.drained:
            dma.land(engine, transfer)
    flushes.adapter_maintained_when_coherent(engine, call)
    said = call.args.get("write_to_device")
    if ok and engine.coherent and engine.hal.get("invalidate_after_read", True) and said is False:
        if call.name == "PutScatterGatherList":
            mapping = engine.lists.get(call.args.get("list"))
            ranges = mapping.part if mapping is not None else []
        else:
            args = call.args
            ranges = clip(mdl_ranges(args.get("mdl")), int(args.get("offset") or 0), int(args.get("length") or 0))
        call.position = engine.n + 1
        flushes.virtual(engine, call, ranges, [(flushes.INVALIDATE, flushes.D | flushes.I)])
    engine.open = [t for t in engine.open if not (t.drained and t.flush is not None and t.flush_ok)]


# -- IRP ------------------------------------------------------------------------------------------------------------------


def _irp_completed(engine: "Engine", call: OpenCall) -> None:
    args = call.args
    whole = mdl_ranges(args.get("mdl"))
    good, information = succeeded(args.get("status")), args.get("information")
    seen = whole if information is None else clip(whole, 0, int(information))
    who = Access("IoCompleteRequest", call.cycle, call.site)
    masks = line_masks(seen, engine.line_bytes)
    for transfer in list(engine.open):
        if not transfer.called or transfer.superseded or transfer.auto_init:
            continue
        if whole and not intersect(whole, transfer.ranges):
            continue
        if transfer.active:
            if good:
                access.note_r25(engine, transfer, who, "the IRP is completed", over=False)
                for address, mask in masks.items() if not transfer.write else ():
                    line, bytes_ = engine.line(address), transfer.masks.get(address, 0) & mask
                    if bytes_:
                        access.undelivered(engine, line, transfer, bytes_, who, "the transfer is still running")
        elif transfer.flush is None:
            _completed_unflushed(engine, transfer, who, call, masks if good else {})
        elif not transfer.flush_ok and good:
            _completed_after_failure(engine, transfer, who, call, masks)
    if not good:
        return
    for address, mask in masks.items():
        line = engine.lines.get(address >> engine.shift)
        if line is None or not line.hot:
            continue
        access.observed_by_caller(engine, line, mask, call)
        if line.pio & mask:
            pio.handed_on(engine, line, mask, who, "completed to the caller", memory=True, fetch=True)


def _completed_unflushed(engine: "Engine", transfer: Transfer, who: Access, call: OpenCall, masks: dict[int, int]) -> None:
    if transfer.owes_adapter_flush:
        access.note_r25(engine, transfer, who, "the IRP is completed")
    if transfer.write:
        return
    for address, mask in masks.items():
        line = engine.lines.get(address >> engine.shift)
        bytes_ = transfer.masks.get(address, 0) & mask
        if line is not None and bytes_:
            access.use_in_flight(engine, line, transfer, bytes_, who, "reads")


def _completed_after_failure(engine: "Engine", transfer: Transfer, who: Access, call: OpenCall, masks: dict[int, int]) -> None:
    flush = transfer.flush

    def build() -> dict[str, Any]:
        return {
            "detail": f"the IRP of {transfer.what} is completed with success although {flush.name} returned FALSE",
            "accesses": [Access(f"{flush.name} (FALSE)", flush.cycle, flush.site), who],
            "missing": f"retry the {flush.name} at {site_text(flush.site)}, or complete the IRP at {site_text(who.site)} "
            "with an error and the bytes that arrived",
            "transfer": transfer.number,
        }

    draft = engine.note("R26", (transfer.number, call.number), build, subjects=[transfer.subject])
    draft.ranges = list(transfer.ranges)
    if transfer.write or transfer.drained:
        return
    for address, mask in masks.items():
        line = engine.lines.get(address >> engine.shift)
        bytes_ = transfer.masks.get(address, 0) & mask
        if line is not None and bytes_:
            access.undelivered(engine, line, transfer, bytes_, who, "the flush failed, they may never have left the FIFO")


# -- end ------------------------------------------------------------------------------------------------------------------


def end_of_run(engine: "Engine") -> None:
    """What was owed and never came; bytes that never left the FIFO are proof."""
    for transfer in engine.open:
        if transfer.complete is not None and not transfer.superseded and transfer.flush is None:
            _no_flush(engine, transfer, None)
    blamed = ("R24", "R25", "R26", "R27")
    stuck = engine.fifo[1]
    for transfer in reversed(engine.transfers):
        drafts = [d for d in engine.drafts.values() if d.rule in blamed and transfer.subject in d.subjects]
        if not drafts:
            continue
        if transfer.write:
            left = sum(bits.bit_count() for bits in stuck.values())
            stuck = {}  # the newest unflushed transfer's bytes are the ones that are left
        else:
            left = 0
            for address, bits in engine.fifo[0].items():
                mask = 0 if address & -engine.line_bytes in engine.merged else transfer.masks.get(address & -engine.line_bytes, 0)
                left += (bits << (address & engine.low) & mask).bit_count()
        for draft in drafts if left else ():
            draft.see(f"{left} bytes of {transfer.what} never left the DMA controller's FIFO")
