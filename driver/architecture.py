# SPDX-License-Identifier: BSD-2-Clause
"""What a synchronisation of the Linux DMA API becomes on each architecture, as data.

The tables say which operation an architecture's kernel port makes over a streaming mapping when it goes to the device and when it
comes back (``arch_sync_dma_for_device`` and ``arch_sync_dma_for_cpu``), and over a page or range that the CPU itself filled
(``flush_dcache_page``, ``flush_icache_range``; Documentation/core-api/cachetlb.rst). They work on the D-cache; only the last two
reach the I-cache. Steps are in order. On a coherent platform all of them are nothing.

=============  ====================================  ======================  ========================
architecture   for_device: to / from / both          for_cpu: from / both    flush_dcache_page
=============  ====================================  ======================  ========================
arm (v7)       clean / invalidate (1) / clean        invalidate              clean+invalidate, then I
arm64          clean / clean / clean                 invalidate              clean, then I
riscv          clean / clean / clean                 invalidate              clean, then I
mips           clean / invalidate / clean+inval.     invalidate              clean+invalidate, then I
=============  ====================================  ======================  ========================

(1) First and last line, where the buffer holds only part of them, are cleaned and invalidated: the neighbours' bytes live.
``for_cpu`` invalidates only where the CPU speculates (:attr:`HalOptions.speculates`), and never after memory-to-device.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .errors import PlatformError
from .maintenance import Op, Target

__all__ = ["ARCHITECTURES", "ARCHITECTURE_NAMES", "Architecture", "DmaDirection", "SyncStep", "linux_architecture", "split_edges"]


class DmaDirection(enum.IntEnum):
    """enum dma_data_direction: from the side of memory, with the kernel's values."""

    DMA_BIDIRECTIONAL = 0
    DMA_TO_DEVICE = 1
    DMA_FROM_DEVICE = 2
    DMA_NONE = 3

    @property
    def label(self) -> str:
        """The name in the call log."""
        return self.name.removeprefix("DMA_")


@dataclass(frozen=True)
class SyncStep:
    """One maintenance operation. ``keep_edges``: lines that the range holds only in part are cleaned and invalidated instead."""

    op: Op
    target: Target = Target.D
    keep_edges: bool = False


_TO, _FROM, _BOTH = DmaDirection.DMA_TO_DEVICE, DmaDirection.DMA_FROM_DEVICE, DmaDirection.DMA_BIDIRECTIONAL
_CLEAN, _DROP = (SyncStep(Op.CLEAN),), (SyncStep(Op.INVALIDATE),)
_DROP_KEEPING_EDGES = (SyncStep(Op.INVALIDATE, keep_edges=True),)
_CLEAN_DROP = (SyncStep(Op.CLEAN_INVALIDATE),)
_DROP_CODE = (SyncStep(Op.INVALIDATE, Target.I),)
_AFTER = MappingProxyType({_TO: (), _FROM: _DROP, _BOTH: _DROP})


@dataclass(frozen=True)
class Architecture:
    """One row of the table; see the module's text."""

    name: str
    for_device: Mapping[DmaDirection, tuple[SyncStep, ...]]
    flush_dcache_page: tuple[SyncStep, ...]
    for_cpu: Mapping[DmaDirection, tuple[SyncStep, ...]] = field(default_factory=lambda: _AFTER)
    flush_icache_range: tuple[SyncStep, ...] = _CLEAN + _DROP_CODE


def _row(
    name: str, before_read: tuple[SyncStep, ...], before_both: tuple[SyncStep, ...], page: tuple[SyncStep, ...]
) -> Architecture:
    return Architecture(name, MappingProxyType({_TO: _CLEAN, _FROM: before_read, _BOTH: before_both}), page + _DROP_CODE)


#: The Linux architectures by name.
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        row.name: row
        for row in (
            _row("arm", _DROP_KEEPING_EDGES, _CLEAN, _CLEAN_DROP),
            _row("arm64", _CLEAN, _CLEAN, _CLEAN),
            _row("riscv", _CLEAN, _CLEAN, _CLEAN),
            _row("mips", _DROP, _CLEAN_DROP, _CLEAN_DROP),
        )
    }
)

#: Values of :attr:`HalOptions.architecture`; ``"wdk"`` is the platform table of :mod:`driver.platform`.
ARCHITECTURE_NAMES = ("wdk", *ARCHITECTURES)


def linux_architecture(name: str) -> Architecture:
    """The table row of a Linux architecture; raises :class:`PlatformError` for any other name."""
    if name not in ARCHITECTURES:
        raise PlatformError(f"HalOptions.architecture must be one of {', '.join(ARCHITECTURES)} for Linux, not {name!r}")
    return ARCHITECTURES[name]


def split_edges(address: int, length: int, line: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """``(edges, middle)`` of a range: the parts in lines that it holds only in part, and the whole lines between, if any."""
    end = address + length
    first, last = -(-address // line) * line, end // line * line
    if first > last:
        return [(address, length)], []
    edges = [(low, high - low) for low, high in ((address, first), (last, end)) if high > low]
    return edges, [(first, last - first)] if last > first else []
