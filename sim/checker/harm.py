# SPDX-License-Identifier: BSD-2-Clause
"""Harm that earlier mistakes left in a line, when somebody meets it: R04, R07, R25, the rare R03, and the evidence."""

from typing import Any

from sim.record import Event

from .book import Book
from .calls import Bounce, OpenCall, Transfer
from .findings import Access, Party, site_text
from .state import Line, line_masks

__all__ = [
    "between_rounds",
    "evidence",
    "letter",
    "meets",
    "note_r25",
    "observed_by_caller",
    "read_too_early",
    "remainder",
    "undelivered",
    "use_in_flight",
]


def meets(book: Book, line: Line, mask: int, who: Access) -> None:
    """A reader meets what earlier mistakes have left in the line: stale copies, overwritten memory, discarded stores."""
    for claim in line.claims:
        if isinstance(claim, Bounce) and claim.waiting.get(line.addr, 0) & mask and claim.waiting_of is not None:
            bytes_, transfer = claim.waiting[line.addr] & mask, claim.waiting_of
            if transfer.adapter is not None:
                note_r25(book, transfer, who, "the CPU reads its data", line, bytes_)
            _r04(book, line, transfer, bytes_, who, "the data is still in the bounce buffer", latent=False)
    stale = line.stale & mask
    if stale and line.stale_of is not None:
        fill = _filled_before(line, line.stale_of)
        why = "a speculating CPU may have filled the line before" if fill is None else f"{book.cpu(fill)} came before"
        _r04(book, line, line.stale_of, stale, who, why)
    poison = line.poison & mask
    if poison and line.poison_of is not None:
        _r04(book, line, line.poison_of, poison, who, "an old copy of the line may have been written back over them")
    lost = line.lost & mask
    if lost and line.lost_by is not None:
        store_, dropped, subjects, real = line.lost_by

        def build() -> dict[str, Any]:
            return {
                "detail": f"bytes that the CPU stored were discarded by {dropped.what} and are read now",
                "accesses": [store_, dropped],
                "missing": f"clean+invalidate (or clean) instead of invalidate at {site_text(dropped.site)}, or store after it",
            }

        book.note("R07", (dropped.what, dropped.cycle), build, line, lost, subjects=subjects, latent=False if real else None)


def _r04(
    book: Book,
    line: Line,
    transfer: Transfer,
    bytes_: int,
    who: Access,
    why: str,
    latent: bool | None = None,
) -> None:
    fill = _filled_before(line, transfer)

    def build() -> dict[str, Any]:
        if transfer.drained and not transfer.bounced:
            where = f"after the completion of the transfer started at {site_text(transfer.site)}, before the read"
            missing = f"an invalidate of the buffer {where} (HAL option invalidate_after_read, or maintenance by address)"
            waiting = next((c for c in book.calls.values() if c.name == "CacheMaintenance" and c.deferred), None)
            if waiting is not None:
                missing = f"a barrier (dsb) after the maintenance at {site_text(waiting.site)}, before the read"
            elif transfer.interface in ("linux", "bare"):
                what = f"{transfer.flush_call}" if transfer.interface == "linux" else "an invalidate of the buffer"
                missing = f"{what} {where}"
            elif transfer.common:
                missing = f"KeFlushIoBuffers(Mdl over the common buffer, TRUE, TRUE) {where}"
        else:
            missing = f"{transfer.flush_call} before the read at {site_text(who.site)}"
        return {
            "detail": f"{who.what} of bytes that {transfer.what} wrote: {why}",
            "accesses": [book.started(transfer) if fill is None else book.cpu(fill), who],
            "missing": missing,
            "transfer": transfer.number,
        }

    never: tuple[str, ...] = ()
    if transfer.interface == "linux" and transfer.mapping is not None and not transfer.mapping.misstored:
        transfer.mapping.misread, never = True, ("R05",)
    book.note(
        "R04",
        (transfer.number,),
        build,
        line,
        bytes_,
        subjects=transfer.subjects,
        latent=latent,
        party=letter(book, transfer),
        never=never,
    )


def _filled_before(line: Line, transfer: Transfer) -> Event | None:
    """What is known to have brought the line in before the transfer was over; None if only speculation can have."""
    if line.fill_n >= 0 and line.fill is not None and (transfer.complete is None or line.fill[0] <= transfer.complete[0]):
        return line.fill
    return None


def letter(book: Book, transfer: Transfer) -> Party | None:
    """INTERFACE if the driver made every call that its interface demands and the HAL left out the invalidate."""
    if transfer.interface == "linux":
        synced = transfer.flush is not None and not book.hal.get("speculates", True)
        return Party.INTERFACE if synced else None
    if transfer.adapter is None or transfer.interface == "v3":
        return None
    if any(flush.by_address for flush in transfer.flushes_used):
        return None
    to_the_letter = not book.hal.get("invalidate_after_read", True)
    return Party.INTERFACE if to_the_letter or (transfer.common and transfer.master) else None


def undelivered(book: Book, line: Line, transfer: Transfer, bytes_: int, who: Access, why: str) -> None:
    """The caller gets bytes of a transfer that is not over, or whose flush failed."""
    _r04(book, line, transfer, bytes_, who, why, latent=False)


def use_in_flight(book: Book, line: Line, transfer: Transfer, bytes_: int, who: Access, verb: str) -> None:
    """Bytes of a completed device-to-memory transfer are used before the FIFO was flushed."""
    if transfer.flush is not None:
        return  # over; what a failed flush means is decided when the IRP is completed (R26)
    if transfer.common and not transfer.owes_adapter_flush:
        bytes_ &= remainder(book, transfer).get(line.addr, 0)  # exempt from R24: whole chunks leave by themselves
    if not bytes_:
        return
    if transfer.called and transfer.adapter is not None:
        note_r25(
            book,
            transfer,
            who,
            "another transfer sends its data" if verb == "sends" else f"the CPU {verb} its data",
            line,
            bytes_,
        )
    if transfer.drained:
        return
    if verb == "writes":
        _r03(book, line, transfer, bytes_, who)
    else:
        _r04(book, line, transfer, bytes_, who, "the data may still be in the DMA controller's FIFO", latent=False)


def between_rounds(book: Book, line: Line, transfer: Transfer, bytes_: int, who: Access) -> None:
    """A reloading channel has ended a round, and its data is read before a flush: the round's remainder may not have come.

    Whole chunks leave by themselves, as with a bus master's common buffer.
    """
    bytes_ &= remainder(book, transfer).get(line.addr, 0)
    if bytes_:
        note_r25(book, transfer, who, "the CPU reads a round's last bytes", line, bytes_, over=False)


def note_r25(
    book: Book,
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
            "accesses": [book.started(transfer), who],
            "missing": f"{transfer.flush_call} before {who.what} at {site_text(who.site)}",
            "transfer": transfer.number,
        }

    book.note("R25", (transfer.number,), build, line, bytes_, subjects=transfer.subjects)


def remainder(book: Book, transfer: Transfer) -> dict[int, int]:
    """Bytes that no later byte of the transfer pushes out of the FIFO: those of the last chunk, if it is not full."""
    if book.cut_through or not transfer.ranges or transfer.write:
        return {}
    address, length = transfer.ranges[-1]
    end = address + length
    last = (end - 1) & -book.chunk_bytes
    if last >= address and end == last + book.chunk_bytes:
        return {}
    start = max(address, last)
    return line_masks([(start, end - start)], book.line_bytes)


def _r03(book: Book, line: Line, transfer: Transfer, bytes_: int, who: Access) -> None:
    def build() -> dict[str, Any]:
        return {
            "detail": f"the store dirties a line of {transfer.what}, whose data may still be on its way: the write-back or the "
            "data comes last by chance",
            "accesses": [book.started(transfer), who],
            "missing": f"{transfer.flush_call} before the store at {site_text(who.site)}",
            "transfer": transfer.number,
        }

    book.note("R03", (transfer.number,), build, line, bytes_, subjects=transfer.subjects)


def observed_by_caller(book: Book, line: Line, mask: int, call: OpenCall) -> None:
    """The IRP is completed: the caller may read these bytes at once."""
    meets(book, line, mask, Access("IoCompleteRequest (the caller reads)", call.cycle, call.site))


def read_too_early(book: Book, transfer: Transfer) -> None:
    """The transfer is over: were the bytes that the CPU read meanwhile (R05) the device's?"""
    draft = book.drafts.get(("R05", transfer.number, "reads"))
    for event in transfer.reads if draft is not None else ():
        address = event[4] & -book.beat
        mask = transfer.masks.get(address & -book.line_bytes, 0) >> (address & book.low)
        if book.newest.differing(address, event[5] & mask, event[6]):
            draft.see(f"{book.cpu(event)} returned other bytes than the device then wrote")
            return


def evidence(book: Book, line: Line, event: Event, strobes: int, how: str, *, devices: bool = False) -> None:
    """Compares the bytes of a record with the newest ones; findings that watch bytes that differ are proven."""
    address = event[4] & -book.beat
    wrong = book.newest.differing(address, strobes, event[6])
    if not wrong:
        return
    shift = address & book.low
    for draft in line.watch:
        bytes_ = draft.masks.get(line.addr, 0) >> shift & wrong
        if bytes_ and not draft.latent:
            n = (bytes_ & -bytes_).bit_length() - 1
            right, got = book.newest.value(address, n), event[6] >> 8 * n & 0xFF
            origin = book.origin(address + n)
            newest = f"{right:#04x}" + (f" ({origin})" if origin else "")
            text = f"{how}{' returned' if devices else ''} {got:#04x} for byte {address + n:#010x} (cycle {event[0]})"
            text += f", newest is {newest}"
            if draft.rule == "R04" and not draft.evidence:
                # speak of the line that went wrong, not of the first that could have
                draft.cache, draft.memory = book.describe(line)
                transfer = line.stale_of
                if transfer is not None and _filled_before(line, transfer) is not None:
                    draft.accesses[0] = book.cpu(line.fill)
            draft.see(text)
