# SPDX-License-Identifier: BSD-2-Clause
"""What the hardware reports of DMA transfers, and the checks at the hand-off: R01, R02, R03, R09, R13, R19, R20, R22, R23."""

from typing import TYPE_CHECKING, Any

from sim.record import Event

from . import access, pio
from .calls import Flush, Transfer, flag
from .findings import Access, Party, Severity, site_text
from .state import Line, intersect, subtract

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["aborted", "complete", "descriptor", "drained", "handoff", "written_back"]

_BUS_MASTER = 4


def handoff(engine: "Engine", event: Event) -> None:
    """A channel was started. The StartTransfer call around it knows the buffer; without one, registers and descriptors do."""
    channel, write = event[5] & 7, bool(event[5] >> 3 & 1)
    call = _start_call(engine, channel, event[4])
    number = len(engine.transfers) + 1
    if call is None:
        # A bare hand-off: a driver that writes registers itself. A bus master's buffer follows with its descriptors.
        ranges = [(event[4], event[6])] if channel != _BUS_MASTER and event[6] else []
        transfer = Transfer(number, event, write, ranges, engine.line_bytes, tag=event[3], called=False)
    else:
        from .protocol import new_transfer

        transfer = call.transfer = new_transfer(engine, call, number, event)
    engine.transfers.append(transfer)
    engine.by_tag[event[3]] = transfer
    engine.open.append(transfer)
    _begin(engine, transfer, transfer.masks)


def _start_call(engine: "Engine", channel: int, address: int) -> Any:
    best = None
    for call in engine.calls.values():
        if call.name != "StartTransfer" or call.transfer is not None:
            continue
        adapter = call.args.get("adapter") or {}
        wanted = _BUS_MASTER if adapter.get("master") else adapter.get("channel")
        if wanted == channel and wanted is not None:
            return call
        if wanted is None:
            best = call
    return best


def descriptor(engine: "Engine", event: Event) -> None:
    """A bare bus-master transfer learns its buffer piece by piece."""
    transfer = engine.by_tag.get(event[3])
    if transfer is not None and not transfer.called:
        before = dict(transfer.masks)
        transfer.ranges.append((event[6] & 0xFFFF_FFFF, event[6] >> 32))
        transfer.remask()
        _begin(engine, transfer, {line: mask & ~before.get(line, 0) for line, mask in transfer.masks.items()})


def _begin(engine: "Engine", transfer: Transfer, masks: dict[int, int]) -> None:
    """The checks at the hand-off, then the lines are in flight."""
    if not masks:
        return
    if not transfer.uncached:
        flushes = _used(engine, transfer)
        transfer.flushes_used = flushes
        _check_lines(engine, transfer, masks, flushes)
        if transfer.called:
            _check_calls(engine, transfer, flushes)
            if not transfer.write and not transfer.common:
                _check_edges(engine, transfer)
    for address, mask in masks.items():
        line = engine.line(address)
        for other in [t for t in line.flight if not t.active and not t.write]:
            if transfer.write and other.masks.get(address, 0) & mask:
                access.use_in_flight(engine, line, other, other.masks[address] & mask, engine.started(transfer), "sends")
            elif not transfer.write:
                # the FIFO keeps its order: before the new data arrives, the old has
                _land(engine, other, line, other.masks.get(address, 0))
                line.flight.remove(other)
        if line.flight:
            _shared(engine, transfer, line, mask)
        if not transfer.write and not transfer.uncached and line.dirty:
            line.hazard |= mask
            line.hazard_of = transfer
        line.flight.append(transfer)
        line.hot = True


def _shared(engine: "Engine", transfer: Transfer, line: Line, mask: int) -> None:
    """R11: another transfer is active in the line. Harm is possible if the same bytes are concerned and one is written."""
    for other in line.flight:
        if other is transfer or not other.active or (other.write and transfer.write) or other.common or transfer.common:
            continue

        def build(other: Transfer = other) -> dict[str, Any]:
            return {
                "detail": f"{transfer.what} starts while {other.what} is active in the same line",
                "accesses": [engine.started(other), engine.started(transfer)],
                "missing": f"wait for the transfer started at {site_text(other.site)}, or align both buffers to lines",
                "transfer": transfer.number,
            }

        severity = Severity.POSSIBLE if other.masks.get(line.addr, 0) & mask else Severity.WARNING
        engine.note(
            "R11",
            (other.number, transfer.number),
            build,
            line,
            mask | other.masks.get(line.addr, 0),
            severity=severity,
            subjects=[transfer.subject, other.subject],
            latent=False if severity is Severity.POSSIBLE else None,
        )


# -- the flushes that this transfer uses ------------------------------------------------------------------------------


def _used(engine: "Engine", transfer: Transfer) -> list[Flush]:
    """Flush calls over bytes of the transfer that no transfer has used; they are used up for these bytes."""
    used = [flush for flush in engine.flushes if intersect(flush.left, transfer.ranges)]
    for flush in used:
        flush.left = subtract(flush.left, transfer.ranges)
        flush.served_dma = True
        flush.mapped = transfer.mapped
        if not flush.left:
            engine.flushes.remove(flush)
            engine.spent = [*engine.spent[-7:], flush]
    # a flush that another transfer of the same mapping used up covers less than the mapping (R19)
    if transfer.mapped and not used:
        used = [
            f
            for f in (*engine.spent, *engine.flushes)
            if f.mapped == transfer.mapped and not intersect(f.ranges, transfer.ranges)
        ]
    return used


def _fits(flush: Flush, transfer: Transfer) -> bool:
    return flush.by_address or flush.served_pio or (flush.dma and flush.read != transfer.write)


def _wanted(transfer: Transfer) -> str:
    mdl = "Mdl over the common buffer" if transfer.common else "Mdl"
    return f"KeFlushIoBuffers({mdl}, ReadOperation={flag(not transfer.write)}, DmaOperation=TRUE)"


def _check_calls(engine: "Engine", transfer: Transfer, flushes: list[Flush]) -> None:
    """R22, R23: the call is there, its arguments do not fit."""
    for flush in flushes:
        if _fits(flush, transfer):
            continue
        pieces = [r for r in intersect(flush.ranges, transfer.ranges)]
        if not pieces:
            continue
        better = any(_fits(f, transfer) and f.end > flush.end and not subtract(pieces, f.ranges) for f in flushes)
        if better:
            continue
        if flush.read == transfer.write:

            def build(flush: Flush = flush) -> dict[str, Any]:
                return {
                    "detail": f"ReadOperation={flag(flush.read)} before {transfer.what}: ReadOperation must be the opposite of "
                    "WriteToDevice",
                    "accesses": [engine.called(flush), engine.started(transfer)],
                    "missing": f"{_wanted(transfer)} instead of the call at {site_text(flush.site)}",
                    "transfer": transfer.number,
                }

            draft = engine.note(
                "R22", ("ke", flush.number), build, subjects=[transfer.subject, flush.subject], latent=engine.coherent
            )
            draft.ranges += pieces
        if not flush.dma:

            def build_dma(flush: Flush = flush) -> dict[str, Any]:
                return {
                    "detail": f"DmaOperation=FALSE before {transfer.what}",
                    "accesses": [engine.called(flush), engine.started(transfer)],
                    "missing": f"{_wanted(transfer)} instead of the call at {site_text(flush.site)}",
                    "transfer": transfer.number,
                }

            draft = engine.note(
                "R23", ("ke", flush.number), build_dma, subjects=[transfer.subject, flush.subject], latent=engine.coherent
            )
            draft.ranges += pieces


def _check_lines(engine: "Engine", transfer: Transfer, masks: dict[int, int], flushes: list[Flush]) -> None:
    """R01, R02, R13 and their causes R19, R20, R21; R07, R17 where the device reads what is gone or still in the D-cache."""
    rule = _start_rule(transfer)
    start = engine.started(transfer)
    for address, mask in masks.items():
        line = engine.lines.get(address >> engine.shift)
        if line is None:
            continue
        if transfer.write and line.hot:
            if line.pio & mask:
                pio.handed_on(
                    engine, line, mask, start, "read by the device", memory=True, fetch=False,
                    subjects=[transfer.subject],
                )  # fmt: skip
            access.harm(engine, line, mask & ~line.stale, start)
        # the device reads only its own bytes, but a write-back overwrites the whole line
        if line.dirty & mask if transfer.write else line.dirty:
            _dirty_at_start(engine, transfer, rule, line, mask, flushes)
    if transfer.called and transfer.version < 3:
        _uncovered(engine, transfer, rule, flushes)


def _start_rule(transfer: Transfer) -> str:
    if transfer.common:
        return "R13"
    return "R01" if transfer.write else "R02"


def _dirty_at_start(engine: "Engine", transfer: Transfer, rule: str, line: Line, mask: int, flushes: list[Flush]) -> None:
    """One line of R01, R02 or R13. ``never`` collects the rules that are no excuse: a cause must explain every line."""
    store = engine.cpu(line.store)
    touching = [f for f in flushes if intersect(f.ranges, [(line.addr, engine.line_bytes)])]
    in_time = [f for f in touching if f.end > line.store_n]
    subjects = [transfer.subject, *(f.subject for f in flushes)]
    never = {"R08", "R10", "R12", "R17", "R19", "R20", "R21", "R22", "R23"}
    if in_time:
        never -= {_unfinished(engine, transfer, line, mask, in_time[-1], subjects)}
    elif flushes and not touching:
        never.discard("R19")
    elif touching and not transfer.write and not line.dirty & mask:
        _edge_store(engine, transfer, line, mask, store)
        never.discard("R10")
    elif line.pio & mask and transfer.write:
        subjects += [p.subject for p in engine.pios if intersect(p.ranges, [(line.addr, engine.line_bytes)])]
        never.discard("R17")

    def build() -> dict[str, Any]:
        wanted = f"{_wanted(transfer)} after the store at {site_text(store.site)}, before the StartTransfer at {site_text(transfer.site)}"
        detail = f"{transfer.what} starts while stores to its buffer may still be dirty in the D-cache"
        if touching and not in_time:
            flush = touching[-1]
            detail += f"; the {flush.name} at {site_text(flush.site)} came before the store at {site_text(store.site)}"
            wanted = f"{wanted} (the one at {site_text(flush.site)} is too early)"
        elif not transfer.called:
            what = "clean" if transfer.write else "clean+invalidate"
            wanted = f"{what} of the buffer after the store at {site_text(store.site)}, before the start"
        return {"detail": detail, "accesses": [store, engine.started(transfer)], "missing": wanted, "transfer": transfer.number}

    transfer.start_finding = engine.note(rule, (transfer.number,), build, line, mask, subjects=subjects, never=never)


def _edge_store(engine: "Engine", transfer: Transfer, line: Line, mask: int, store: Access) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"a line that {transfer.what} writes in part holds other bytes that the CPU stored after the flush",
            "accesses": [store, engine.started(transfer)],
            "missing": f"align the buffer to {engine.line_bytes} bytes (or bounce it): no flush saves a shared line",
            "transfer": transfer.number,
        }

    engine.note("R10", (transfer.number,), build, line, mask, subjects=[transfer.subject], never={"R24", "R25", "R27"})


def _unfinished(
    engine: "Engine", transfer: Transfer, line: Line, mask: int, flush: Flush, subjects: list[tuple[str, int]]
) -> str:
    """A flush call covers the line, came after the store, and yet the line may be dirty: its hardware work is missing.

    Returns the rule that explains it.
    """
    if not flush.worked:
        return "R21"  # reported at the call itself
    rule, detail, missing = (
        "R19",
        f"the maintenance behind the {flush.name} at {site_text(flush.site)} left out lines of its range",
        "maintenance of every line of the range",
    )
    if line.unsure:
        rule, detail, missing = (
            "R20",
            "maintenance was reported done before memory had answered the write-backs",
            f"maintenance to the point of coherency in the {flush.name} at {site_text(flush.site)}",
        )

    def build() -> dict[str, Any]:
        accesses = [engine.called(flush), engine.started(transfer)]
        return {"detail": detail, "accesses": accesses, "missing": missing, "transfer": transfer.number}

    engine.note(rule, ("hw", flush.number), build, line, mask, subjects=subjects, party=Party.INTERFACE)
    return rule


def _uncovered(engine: "Engine", transfer: Transfer, rule: str, flushes: list[Flush]) -> None:
    """Bytes that no flush call covers: no call at all, or (R19) a call that is too short."""
    covered = [r for f in flushes for r in f.ranges]
    missing = subtract(transfer.ranges, covered)
    if not missing:
        return
    partly = [f for f in flushes if _fits(f, transfer)] or flushes
    if partly:
        flush = partly[-1]

        def build_short() -> dict[str, Any]:
            done, whole = sum(n for _, n in flush.ranges), sum(n for _, n in transfer.mapped or transfer.ranges)
            return {
                "detail": f"the {flush.name} at {site_text(flush.site)} covers {done} of {whole} bytes of the buffer of {transfer.what}",
                "accesses": [engine.called(flush), engine.started(transfer)],
                "missing": f"{_wanted(transfer)} over the whole MDL chain at {site_text(flush.site)}",
                "transfer": transfer.number,
            }

        draft = engine.note(
            "R19", (flush.number,), build_short, severity=Severity.WARNING, subjects=[transfer.subject, flush.subject]
        )
        draft.ranges += missing
        return

    def build() -> dict[str, Any]:
        return {
            "detail": f"{transfer.what} starts without a flush of its buffer; nothing the CPU did in this run left it dirty",
            "accesses": [engine.started(transfer)],
            "missing": f"{_wanted(transfer)} before the StartTransfer at {site_text(transfer.site)}",
            "transfer": transfer.number,
        }

    draft = engine.note(
        rule, (transfer.number,), build, severity=Severity.WARNING, subjects=[transfer.subject], never={"R08", "R10", "R19"}
    )
    draft.ranges += missing
    transfer.start_finding = draft


def _check_edges(engine: "Engine", transfer: Transfer) -> None:
    """R09: bytes of somebody else in the first or last line. Pieces of one MDL may share a line with each other."""
    ranges = transfer.mapped or transfer.ranges
    loose = [(a, n) for a, n in ranges if a & engine.low or (a + n) & engine.low]
    loose = [
        (a, n)
        for a, n in loose
        if (a & engine.low and not any(b + k == a for b, k in ranges))
        or ((a + n) & engine.low and not any(b == a + n for b, _ in ranges))
    ]
    if not loose:
        return

    def build() -> dict[str, Any]:
        address, length = loose[0]
        return {
            "detail": f"the buffer of {transfer.what} at {address:#010x}, {length} bytes, does not begin and end on a line of "
            f"{engine.line_bytes} bytes",
            "accesses": [engine.started(transfer)],
            "missing": f"a buffer aligned to {engine.line_bytes} bytes in start and length, or a bounce buffer",
            "transfer": transfer.number,
        }

    draft = engine.note("R09", (tuple(ranges),), build, severity=Severity.WARNING, subjects=[transfer.subject])
    draft.ranges = loose


# -- completion and draining --------------------------------------------------------------------------------------------


def complete(engine: "Engine", event: Event) -> None:
    """The last byte is in the FIFO, or the transfer ended early. Auto-init goes on until it is stopped."""
    transfer = engine.by_tag.get(event[3])
    if transfer is None or transfer.complete is not None:
        return
    if transfer.auto_init and not event[2] & 3:
        return
    transfer.complete, transfer.complete_n = event, engine.n
    if event[6] and not transfer.auto_init:
        before = dict(transfer.masks)
        transfer.shorten(event[6])
        for address, mask in before.items():
            line = engine.lines.get(address >> engine.shift)
            if line is not None and line.hazard_of is transfer:
                line.hazard &= ~mask | transfer.masks.get(address, 0)
    access.read_too_early(engine, transfer)
    if transfer.common and not transfer.owes_adapter_flush and not transfer.write:
        _leave_by_themselves(engine, transfer)
    if transfer.write:
        for address in transfer.masks:
            line = engine.lines.get(address >> engine.shift)
            if line is not None and transfer in line.flight:
                line.flight.remove(transfer)


def _leave_by_themselves(engine: "Engine", transfer: Transfer) -> None:
    """A bus master's common buffer owes no flush (R24): its whole chunks count as landed, only the remainder stays in flight."""
    rest = access.remainder(engine, transfer)
    for address, mask in transfer.masks.items():
        line = engine.lines.get(address >> engine.shift)
        if line is not None and transfer in line.flight:
            left = rest.get(address, 0)
            _land(engine, transfer, line, mask & ~left)
            if not left:
                line.flight.remove(transfer)
    transfer.masks = rest
    transfer.drained = not rest


def aborted(engine: "Engine", event: Event) -> None:
    """Everything stops; what was in the FIFOs is gone."""
    for transfer in engine.open:
        if transfer.active:
            transfer.complete, transfer.complete_n = event, engine.n - 1
    drained(engine, engine.n)


def drained(engine: "Engine", began: int) -> None:
    """A flush of the FIFO succeeded: the data of transfers that were over when it began is in memory."""
    for transfer in engine.open:
        if transfer.complete is not None and not transfer.drained and transfer.complete_n < began:
            land(engine, transfer)
    _prune(engine)


def land(engine: "Engine", transfer: Transfer) -> None:
    """From here on the transfer's bytes are certainly in memory (or certainly lost)."""
    transfer.drained = True
    for address, mask in transfer.masks.items():
        line = engine.lines.get(address >> engine.shift)
        if line is None:
            continue
        if transfer in line.flight:
            line.flight.remove(transfer)
            _land(engine, transfer, line, mask)


def _land(engine: "Engine", transfer: Transfer, line: Line, mask: int) -> None:
    if transfer.write or transfer.uncached:
        return
    if engine.speculates or line.fill_n >= 0:
        line.stale |= mask
        line.stale_n, line.stale_of = engine.n, transfer
        line.hot = True
    else:
        line.stale &= ~mask
    if engine.speculates or line.ifill_n >= 0:
        line.istale |= mask
        line.istale_of = transfer
    else:
        line.istale &= ~mask
    line.lost &= ~mask
    line.pio &= ~mask
    if not line.dirty:
        line.poison &= ~mask


def _prune(engine: "Engine") -> None:
    engine.open = [
        t for t in engine.open if not (t.drained and (t.superseded or (t.flush is not None and t.flush_ok) or not t.called))
    ]


def written_back(engine: "Engine", line: Line, event: Event) -> None:
    """R03, as it really happened: a dirty line leaves the cache while, or after, the device writes the same bytes."""
    transfer = line.hazard_of
    if transfer is None:
        return

    def build() -> dict[str, Any]:
        return {
            "detail": f"a dirty line of the buffer of {transfer.what} is written back: old bytes may go over the device's",
            "accesses": [engine.cpu(line.store), engine.cpu(event)],
            "missing": "see the root: no dirty line may be left when the transfer starts",
            "transfer": transfer.number,
        }

    engine.note("R03", (transfer.number,), build, line, line.hazard, subjects=[transfer.subject])
