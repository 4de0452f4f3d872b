# SPDX-License-Identifier: BSD-2-Clause
"""Constants and values of the Linux interface, with the kernel's names and numbers (dma-mapping.h, dma-direction.h, gfp.h).

Results that must be looked at log ``ResultChecked`` when the driver does: a DMA address by ``dma_mapping_error`` or by comparing
it with ``DMA_MAPPING_ERROR``, a pointer by testing it, a count by comparing or testing it, an errno by comparing it.
"""

import enum
import sys
from typing import Any

from ..architecture import DmaDirection
from ..checked import Check
from ..errors import ArgumentError, check_integer
from ..site import is_library

__all__ = [
    "DMA_ATTR_NO_WARN",
    "DMA_ATTR_SKIP_CPU_SYNC",
    "DMA_ATTR_WEAK_ORDERING",
    "DMA_BIDIRECTIONAL",
    "DMA_BIT_MASK",
    "DMA_FROM_DEVICE",
    "DMA_MAPPING_ERROR",
    "DMA_NONE",
    "DMA_TO_DEVICE",
    "EINVAL",
    "EIO",
    "ENOMEM",
    "GFP_ATOMIC",
    "GFP_DMA",
    "GFP_KERNEL",
    "CheckedAddress",
    "DmaAttributes",
    "Gfp",
    "attribute_names",
    "check_direction",
    "check_gfp",
    "direction_name",
    "loggable",
]

DMA_BIDIRECTIONAL = DmaDirection.DMA_BIDIRECTIONAL
DMA_TO_DEVICE = DmaDirection.DMA_TO_DEVICE
DMA_FROM_DEVICE = DmaDirection.DMA_FROM_DEVICE
DMA_NONE = DmaDirection.DMA_NONE

#: What a mapping call returns when there is no mapping: all ones.
DMA_MAPPING_ERROR = (1 << 64) - 1

EIO, ENOMEM, EINVAL = 5, 12, 22


class DmaAttributes(enum.IntFlag):
    """The ``attrs`` of the ``_attrs`` calls (Documentation/core-api/dma-attributes.rst). Only SKIP_CPU_SYNC changes anything
    here."""

    WEAK_ORDERING = 1 << 1
    SKIP_CPU_SYNC = 1 << 5  # no cache work and no bounce copy: somebody else does it, or nobody needs it
    NO_WARN = 1 << 8


DMA_ATTR_WEAK_ORDERING = DmaAttributes.WEAK_ORDERING
DMA_ATTR_SKIP_CPU_SYNC = DmaAttributes.SKIP_CPU_SYNC
DMA_ATTR_NO_WARN = DmaAttributes.NO_WARN


class Gfp(enum.IntFlag):
    """Allocation flags. GFP_DMA takes memory that the device reaches; the other two are the same on this machine."""

    GFP_KERNEL = 1
    GFP_ATOMIC = 2
    GFP_DMA = 4


GFP_KERNEL, GFP_ATOMIC, GFP_DMA = Gfp.GFP_KERNEL, Gfp.GFP_ATOMIC, Gfp.GFP_DMA


def DMA_BIT_MASK(bits: int) -> int:
    """The mask of a device with ``bits`` address lines, 1 to 64."""
    return (1 << check_integer("bits", bits, 1, 64)) - 1


def check_direction(direction: Any) -> DmaDirection:
    """``direction``, if data can move that way; the kernel stops (BUG_ON) at anything else."""
    if not isinstance(direction, int) or isinstance(direction, bool) or direction not in (0, 1, 2):
        shown = direction.name if isinstance(direction, DmaDirection) else repr(direction)
        raise ArgumentError(f"direction must be DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL, not {shown}")
    return DmaDirection(direction)


def direction_name(direction: Any) -> Any:
    """As the call log shows it; what is no direction is shown as it is."""
    known = isinstance(direction, int) and not isinstance(direction, bool) and direction in (0, 1, 2, 3)
    return DmaDirection(direction).label if known else repr(direction)


def attribute_names(attrs: Any) -> list[str]:
    """The attributes as the call log shows them; raises :class:`ArgumentError` for one that does not exist."""
    known = 0
    for attribute in DmaAttributes:
        known |= attribute
    if not isinstance(attrs, int) or isinstance(attrs, bool) or attrs & ~known or attrs < 0:
        names = ", ".join(f"DMA_ATTR_{attribute.name}" for attribute in DmaAttributes)
        raise ArgumentError(f"attrs must be 0 or a union of {names}, not {attrs!r}")
    return [attribute.name for attribute in DmaAttributes if attrs & attribute]


def check_gfp(gfp: Any) -> Gfp:
    """``gfp`` as flags; raises :class:`ArgumentError` for anything else."""
    if not isinstance(gfp, int) or isinstance(gfp, bool) or not 1 <= gfp <= 7:
        raise ArgumentError(f"gfp must be a union of GFP_KERNEL, GFP_ATOMIC, GFP_DMA, not {gfp!r}")
    return Gfp(gfp)


def loggable(value: Any) -> Any:
    """``value`` for the call log: what is neither number, text, list nor None is shown as text."""
    if isinstance(value, (list, tuple)):
        return [loggable(item) for item in value]
    return value if value is None or isinstance(value, (int, float, str, dict)) else repr(value)


class CheckedAddress(int):
    """An address that may be NULL or ``DMA_MAPPING_ERROR``; comparing and testing it in the driver's own code is looking at it.

    Arithmetic is not: ``dma + 16`` of a failed mapping is as wrong as ``dma``.
    """

    seen: Check

    def __new__(cls, value: int, log: Any, call: int) -> "CheckedAddress":
        made = super().__new__(cls, value)
        made.seen = Check(log, call, "null")
        return made

    def __hash__(self) -> int:
        return int.__hash__(self)


def _noting(name: str) -> Any:
    operation = getattr(int, name)

    def method(self: CheckedAddress, *others: Any) -> Any:
        if not is_library(sys._getframe(1).f_code.co_filename):
            self.seen.note()
        return operation(self, *others)

    method.__name__ = name
    return method


for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__"):
    setattr(CheckedAddress, _name, _noting(_name))
