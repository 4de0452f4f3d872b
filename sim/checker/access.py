# SPDX-License-Identifier: BSD-2-Clause
"""Accesses to lines that need care: R04, R05, R07, R10, R25, and the evidence that turns "possible" into "seen".

Accesses of the test harness (tag 0) are facts: they dirty and fill lines. They are never blamed (no R04, R05, R07, R25 of
their own), but what they read is evidence for findings that already stand.
"""

from typing import TYPE_CHECKING, Any

from sim.record import Event

from .calls import OpenCall, Transfer
from .findings import Access, Party, Severity, site_text
from .state import Line, line_masks

if TYPE_CHECKING:
    from .engine import Engine

__all__ = [
    "evidence",
    "harm",
    "note_r25",
    "observed_by_caller",
    "read",
    "store",
    "touched",
    "uncached_read",
    "undelivered",
    "uncached_store",
    "use_in_flight",
]


def read(engine: "Engine", line: Line, event: Event) -> None:
    """A cached load of a hot line."""
    mask = event[5] << (event[4] & -engine.beat & engine.low)
    if event[3]:
        who = engine.cpu(event)
        for transfer in tuple(line.flight):
            bytes_ = transfer.masks.get(line.addr, 0) & mask
            if bytes_:
                _touch(engine, line, transfer, bytes_, who, event, "reads")
        harm(engine, line, mask, who)
    if line.watch:
        evidence(engine, line, event, event[5], f"{engine.cpu(event)} returned")


def store(engine: "Engine", line: Line, mask: int, event: Event) -> None:
    """A cached store into a hot line; its own may-state is already updated."""
    who = engine.cpu(event)
    line.hazard &= ~mask
    for transfer in tuple(line.flight):
        bytes_ = transfer.masks.get(line.addr, 0)
        if bytes_ & mask:
            if event[3]:
                _touch(engine, line, transfer, bytes_ & mask, who, event, "writes")
        elif not transfer.write and not transfer.uncached:
            _neighbour(engine, line, transfer, bytes_, mask, who)
        if not transfer.write and not transfer.uncached and bytes_ & ~mask:
            line.hazard |= bytes_ & ~mask
            line.hazard_of = transfer
    line.stale &= ~mask
    line.lost &= ~mask
    line.poison &= ~mask
    if line.stale:  # the write-back of this store may take stale bytes along: whoever reads them later gets them (R04)
        line.poison |= line.stale
        line.poison_of = line.stale_of


def uncached_read(engine: "Engine", line: Line, event: Event) -> None:
    """An uncached load: sees memory, not the D-cache."""
    from . import pio  # rules of one family call another's where their subjects meet

    mask = event[5] << (event[4] & -engine.beat & engine.low)
    if event[3]:
        who = engine.cpu(event)
        for transfer in tuple(line.flight):
            bytes_ = transfer.masks.get(line.addr, 0) & mask
            if bytes_:
                _touch(engine, line, transfer, bytes_, who, event, "reads")
        if line.pio & mask:
            pio.handed_on(engine, line, mask, who, "read around the cache", memory=True, fetch=False)
        harm(engine, line, mask & ~line.stale, who)  # a stale copy in the D-cache is none of its business
    if line.watch:
        evidence(engine, line, event, event[5], f"{engine.cpu(event)} returned")


def uncached_store(engine: "Engine", line: Line, mask: int, event: Event) -> None:
    """An uncached store goes to memory: it races with the device like a cached one."""
    if event[3]:
        for transfer in tuple(line.flight):
            bytes_ = transfer.masks.get(line.addr, 0) & mask
            if bytes_:
                _touch(engine, line, transfer, bytes_, engine.cpu(event), event, "writes")


def touched(engine: "Engine", line: Line, transfer: Transfer, mask: int, who: Access, event: Event) -> None:
    """A fetch of bytes of a transfer that is not over."""
    bytes_ = transfer.masks.get(line.addr, 0) & mask
    if bytes_:
        _touch(engine, line, transfer, bytes_, who, event, "reads")


def _touch(engine: "Engine", line: Line, transfer: Transfer, bytes_: int, who: Access, event: Event, verb: str) -> None:
    """The CPU touches bytes of a transfer that is not over."""
    if transfer.active:
        if transfer.common:
            return  # polling and copying while the device runs is what common buffers are for
        severity = Severity.POSSIBLE
        if transfer.write and verb == "reads":
            severity = Severity.WARNING  # both sides only read

        def build() -> dict[str, Any]:
            return {
                "detail": f"the CPU {verb} the buffer of {transfer.what} between its hand-off and its completion",
                "accesses": [engine.started(transfer), who],
                "missing": f"wait for the completion of the transfer started at {site_text(transfer.site)} "
                f"before the access at {site_text(who.site)}",
                "transfer": transfer.number,
            }

        if verb == "reads" and not transfer.write:
            transfer.reads.append(event)  # what the device delivers later tells whether this was old
        engine.note("R05", (transfer.number, verb), build, line, bytes_, severity=severity, subjects=[transfer.subject])
    elif not transfer.write:
        use_in_flight(engine, line, transfer, bytes_, who, verb)


def use_in_flight(engine: "Engine", line: Line, transfer: Transfer, bytes_: int, who: Access, verb: str) -> None:
    """Bytes of a completed device-to-memory transfer are used before the FIFO was flushed."""
    if transfer.flush is not None:
        return  # over; what a failed flush means is decided when the IRP is completed (R26)
    if transfer.common and not transfer.owes_adapter_flush:
        bytes_ &= remainder(engine, transfer).get(line.addr, 0)  # exempt from R24: whole chunks leave by themselves
    if not bytes_:
        return
    if transfer.called:
        note_r25(
            engine,
            transfer,
            who,
            "another transfer sends its data" if verb == "sends" else f"the CPU {verb} its data",
            line,
            bytes_,
        )
    if transfer.drained:
        return
    if verb == "writes":
        _r03(engine, line, transfer, bytes_, who)
    else:
        _r04(engine, line, transfer, bytes_, who, "the data may still be in the DMA controller's FIFO", latent=False)


def note_r25(
    engine: "Engine",
    transfer: Transfer,
    who: Access,
    how: str,
    line: Line | None = None,
    bytes_: int = 0,
    *,
    over: bool = True,
) -> None:
    """Data used, or IRP completed, before the flush at the end of the transfer."""

    def build() -> dict[str, Any]:
        return {
            "detail": f"{transfer.what} is {'over' if over else 'still running'}, and {how} before {transfer.flush_name}",
            "accesses": [engine.started(transfer), who],
            "missing": f"{_adapter_flush(transfer)} before {who.what} at {site_text(who.site)}",
            "transfer": transfer.number,
        }

    engine.note("R25", (transfer.number,), build, line, bytes_, subjects=[transfer.subject])


def _adapter_flush(transfer: Transfer) -> str:
    direction = "TRUE" if transfer.write else "FALSE"
    return f"{transfer.flush_name}(Adapter, Mdl, ..., WriteToDevice={direction})"


def remainder(engine: "Engine", transfer: Transfer) -> dict[int, int]:
    """Bytes that no later byte of the transfer pushes out of the FIFO: those of the last chunk, if it is not full."""
    if engine.cut_through or not transfer.ranges or transfer.write:
        return {}
    address, length = transfer.ranges[-1]
    end = address + length
    last = (end - 1) & -engine.chunk_bytes
    if last >= address and end == last + engine.chunk_bytes:
        return {}
    start = max(address, last)
    return line_masks([(start, end - start)], engine.line_bytes)


def undelivered(engine: "Engine", line: Line, transfer: Transfer, bytes_: int, who: Access, why: str) -> None:
    """The caller gets bytes of a transfer that is not over, or whose flush failed."""
    _r04(engine, line, transfer, bytes_, who, why, latent=False)


def _neighbour(engine: "Engine", line: Line, transfer: Transfer, bytes_: int, mask: int, who: Access) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"the CPU stores beside bytes that {transfer.what} writes in the same line: whoever writes the line last "
            "overwrites the other, and an invalidate drops the CPU's bytes",
            "accesses": [engine.started(transfer), who],
            "missing": f"align the buffer to {engine.line_bytes} bytes (or bounce it): no flush saves a shared line",
            "transfer": transfer.number,
        }

    never = {"R24", "R25", "R27"} if transfer.active else ()
    engine.note("R10", (transfer.number,), build, line, bytes_ | mask, subjects=[transfer.subject], never=never)


def harm(engine: "Engine", line: Line, mask: int, who: Access) -> None:
    """A reader meets what earlier mistakes have left in the line: stale copies, overwritten memory, discarded stores."""
    stale = line.stale & mask
    if stale and line.stale_of is not None:
        fill = filled_before(line, line.stale_of)
        why = "a speculating CPU may have filled the line before" if fill is None else f"{engine.cpu(fill)} came before"
        _r04(engine, line, line.stale_of, stale, who, why)
    poison = line.poison & mask
    if poison and line.poison_of is not None:
        _r04(engine, line, line.poison_of, poison, who, "an old copy of the line may have been written back over them")
    lost = line.lost & mask
    if lost and line.lost_by is not None:
        store_, dropped, subjects, real = line.lost_by

        def build() -> dict[str, Any]:
            return {
                "detail": f"bytes that the CPU stored were discarded by {dropped.what} and are read now",
                "accesses": [store_, dropped],
                "missing": f"clean+invalidate (or clean) instead of invalidate at {site_text(dropped.site)}, or store after it",
            }

        engine.note("R07", (dropped.what, dropped.cycle), build, line, lost, subjects=subjects, latent=False if real else None)


def _r04(
    engine: "Engine",
    line: Line,
    transfer: Transfer,
    bytes_: int,
    who: Access,
    why: str,
    latent: bool | None = None,
) -> None:
    fill = filled_before(line, transfer)

    def build() -> dict[str, Any]:
        if transfer.drained:
            where = f"after the completion of the transfer started at {site_text(transfer.site)}, before the read"
            missing = f"an invalidate of the buffer {where} (HAL option invalidate_after_read, or maintenance by address)"
            if transfer.common:
                missing = f"KeFlushIoBuffers(Mdl over the common buffer, TRUE, TRUE) {where}"
        else:
            missing = f"{_adapter_flush(transfer)} before the read at {site_text(who.site)}"
        return {
            "detail": f"{who.what} of bytes that {transfer.what} wrote: {why}",
            "accesses": [engine.started(transfer) if fill is None else engine.cpu(fill), who],
            "missing": missing,
            "transfer": transfer.number,
        }

    engine.note(
        "R04",
        (transfer.number,),
        build,
        line,
        bytes_,
        subjects=[transfer.subject],
        latent=latent,
        party=letter(engine, transfer),
    )


def filled_before(line: Line, transfer: Transfer) -> Event | None:
    """What is known to have brought the line in before the transfer was over; None if only speculation can have."""
    if line.fill_n >= 0 and line.fill is not None and (transfer.complete is None or line.fill[0] <= transfer.complete[0]):
        return line.fill
    return None


def letter(engine: "Engine", transfer: Transfer) -> Party | None:
    """INTERFACE if the driver made every call that versions 1 and 2 demand and the HAL left out the invalidate."""
    if transfer.adapter is None or transfer.version >= 3:
        return None
    if any(flush.by_address for flush in transfer.flushes_used):
        return None
    to_the_letter = not engine.hal.get("invalidate_after_read", True)
    return Party.INTERFACE if to_the_letter or (transfer.common and transfer.master) else None


def _r03(engine: "Engine", line: Line, transfer: Transfer, bytes_: int, who: Access) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"the store dirties a line of {transfer.what}, whose data may still be on its way: the write-back or the "
            "data comes last by chance",
            "accesses": [engine.started(transfer), who],
            "missing": f"{_adapter_flush(transfer)} before the store at {site_text(who.site)}",
            "transfer": transfer.number,
        }

    engine.note("R03", (transfer.number,), build, line, bytes_, subjects=[transfer.subject])


def evidence(engine: "Engine", line: Line, event: Event, strobes: int, how: str, *, devices: bool = False) -> None:
    """Compares the bytes of a record with the newest ones; findings that watch bytes that differ are proven."""
    address = event[4] & -engine.beat
    wrong = engine.newest.differing(address, strobes, event[6])
    if not wrong:
        return
    shift = address & engine.low
    for draft in line.watch:
        bytes_ = draft.masks.get(line.addr, 0) >> shift & wrong
        if bytes_ and not draft.latent:
            n = (bytes_ & -bytes_).bit_length() - 1
            right, got = engine.newest.value(address, n), event[6] >> 8 * n & 0xFF
            text = f"{how} {got:#04x} for byte {address + n:#010x}, newest is {right:#04x} (cycle {event[0]})"
            if devices:
                text = f"{how} returned {got:#04x} for byte {address + n:#010x}, newest is {right:#04x} (cycle {event[0]})"
            if draft.rule == "R04" and not draft.evidence:
                # speak of the line that went wrong, not of the first that could have
                draft.cache, draft.memory = engine.describe(line)
                transfer = line.stale_of
                if transfer is not None and filled_before(line, transfer) is not None:
                    draft.accesses[0] = engine.cpu(line.fill)
            draft.see(text)


def read_too_early(engine: "Engine", transfer: Transfer) -> None:
    """The transfer is over: were the bytes that the CPU read meanwhile (R05) the device's?"""
    draft = engine.drafts.get(("R05", transfer.number, "reads"))
    for event in transfer.reads if draft is not None else ():
        address = event[4] & -engine.beat
        mask = transfer.masks.get(address & -engine.line_bytes, 0) >> (address & engine.low)
        if engine.newest.differing(address, event[5] & mask, event[6]):
            draft.see(f"{engine.cpu(event)} returned other bytes than the device then wrote")
            return


def observed_by_caller(engine: "Engine", line: Line, mask: int, call: OpenCall) -> None:
    """The IRP is completed: the caller may read these bytes at once."""
    harm(engine, line, mask, Access("IoCompleteRequest (the caller reads)", call.cycle, call.site))
