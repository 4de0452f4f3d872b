# SPDX-License-Identifier: BSD-2-Clause
"""When the bytes of a device-to-memory transfer are certainly in memory. Only may-state: no rule is decided here."""

from .book import Book
from .calls import Transfer
from .state import Line

__all__ = ["drained", "land", "land_line"]


def drained(book: Book, began: int) -> None:
    """A flush of the FIFO succeeded: the data of transfers that were over when it began is in memory."""
    for transfer in book.open:
        if transfer.complete is not None and not transfer.drained and transfer.complete_n < began:
            land(book, transfer)
    _prune(book)


def land(book: Book, transfer: Transfer) -> None:
    """From here on the transfer's bytes are certainly in memory (or certainly lost)."""
    transfer.drained = True
    for address, mask in transfer.masks.items():
        line = book.lines.get(address >> book.shift)
        if line is None:
            continue
        if transfer in line.flight:
            line.flight.remove(transfer)
            land_line(book, transfer, line, mask)


def land_line(book: Book, transfer: Transfer, line: Line, mask: int) -> None:
    if transfer.write or transfer.uncached:
        return
    if book.speculates or line.fill_n >= 0:
        line.stale |= mask
        line.stale_n, line.stale_of = book.n, transfer
        line.hot = True
    else:
        line.stale &= ~mask
    if book.speculates or line.ifill_n >= 0:
        line.istale |= mask
        line.istale_of = transfer
    else:
        line.istale &= ~mask
    line.lost &= ~mask
    line.pio &= ~mask
    if not line.dirty:
        line.poison &= ~mask


def _prune(book: Book) -> None:
    book.open = [
        t for t in book.open if not (t.drained and (t.superseded or (t.flush is not None and t.flush_ok) or not t.called))
    ]
