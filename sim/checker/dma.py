# SPDX-License-Identifier: BSD-2-Clause
"""What the hardware reports of DMA transfers: hand-off, completion, landing of the data, write-backs (R03)."""

from typing import TYPE_CHECKING, Any

from sim.record import Event

from . import access, start
from .calls import Transfer
from .state import Line

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
        start.check(engine, transfer, masks)
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
            start.shared(engine, transfer, line, mask)
        if not transfer.write and not transfer.uncached and line.dirty:
            line.hazard |= mask
            line.hazard_of = transfer
        line.flight.append(transfer)
        line.hot = True


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
            if line is None:
                continue
            if line.hazard_of is transfer:
                line.hazard &= ~mask | transfer.masks.get(address, 0)
            if address not in transfer.masks and transfer in line.flight:
                line.flight.remove(transfer)
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
