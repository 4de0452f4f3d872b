# SPDX-License-Identifier: BSD-2-Clause
"""Which flushes a driver makes, and when: the experiments of this project as data.

A correct driver is ``Discipline()``. Everything else is a mistake somebody has made.
"""

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from .errors import ArgumentError, check_flag, check_integer, check_type
from .maintenance import Op

__all__ = ["Discipline", "Hooks", "Moment", "When"]


class When(enum.Enum):
    """When one flush call is made."""

    MADE = "where it belongs"
    OMITTED = "not at all"
    EARLY = "too early: before the CPU's last stores, or before the transfer has completed"
    LATE = "too late: after the hand-off, or after the request is completed and its data used"


class Moment(enum.Enum):
    """Points in a transfer at which an experiment may do something. In the order of a correct transfer."""

    STORES = "the CPU's last stores into the buffer; an EARLY flush comes before, the right one after"
    BEFORE_START = "all is programmed, the hand-off comes next"
    STARTED = "just after the hand-off; an EARLY flush of the adapter comes next"
    COMPLETED = "the hardware reported completion; the flush of the adapter comes next"
    FLUSHED = "after the flush of the adapter (or the PIO flush), before the request is completed"
    USE = "the request is completed, its caller uses the data; a LATE flush comes after"


#: What an experiment does at a moment: a function or coroutine of the transfer in progress.
Hooks = Mapping[Moment, Callable[..., Awaitable[None] | None]]


@dataclass(frozen=True, kw_only=True)
class Discipline:
    """The flush discipline of one request.

    Parameters
    ----------
    before : KeFlushIoBuffers before a DMA transfer (for a common buffer: through an MDL over it, only if it is cached).
        EARLY: before the CPU's last stores. LATE: after the hand-off.
    after : FlushAdapterBuffers or PutScatterGatherList at the end of a transfer. EARLY: before the transfer has completed.
        LATE: after the request is completed and its data used.
    pio : KeFlushIoBuffers(Mdl, TRUE, FALSE) after a PIO read. EARLY: before the words are read. LATE: as ``after``.
    each_transfer : False makes ``after`` and ``pio`` once, at the end of the request, instead of after each of its transfers.
    maintenance_before, maintenance_after : an operation by address on the D-cache over the buffer, at the place of ``before``
        and after the one of ``after`` (the cells of the device-to-memory table that no DDI call makes).
    swap_read_operation, swap_dma_operation : the flag is passed inverted (``before`` and ``pio``).
    first_mdl_only : ``before`` and ``pio`` cover only the first MDL of a chain.
    cover_bytes : ``before`` and ``pio`` cover only that many bytes of each MDL (through a partial MDL); None covers all.
    ignore_flush_result : a FALSE of FlushAdapterBuffers does not reach the I/O status block.
    """

    before: When = When.MADE
    after: When = When.MADE
    pio: When = When.MADE
    each_transfer: bool = True
    maintenance_before: Op | None = None
    maintenance_after: Op | None = None
    swap_read_operation: bool = False
    swap_dma_operation: bool = False
    first_mdl_only: bool = False
    cover_bytes: int | None = None
    ignore_flush_result: bool = False

    def __post_init__(self) -> None:
        for name in ("before", "after", "pio"):
            check_type(f"Discipline.{name}", getattr(self, name), When)
        for name in ("maintenance_before", "maintenance_after"):
            check_type(f"Discipline.{name}", getattr(self, name), (Op, type(None)))
        for name in ("each_transfer", "swap_read_operation", "swap_dma_operation", "first_mdl_only", "ignore_flush_result"):
            check_flag(f"Discipline.{name}", getattr(self, name))
        if self.cover_bytes is not None:
            check_integer("Discipline.cover_bytes", self.cover_bytes, 1, 1 << 32)
        if not self.each_transfer and self.after == When.EARLY:
            raise ArgumentError(
                "Discipline.each_transfer must be True for a flush that is EARLY, not False: there is one per transfer"
            )
