# SPDX-License-Identifier: BSD-2-Clause
"""I/O request packets and their status block."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..checked import CheckedStatus, look
from .mdl import Mdl

__all__ = ["NTSTATUS", "IoStatusBlock", "Irp", "MajorFunction", "nt_success"]


class NTSTATUS(enum.IntEnum):
    """The status values this package uses, with their public numbers."""

    STATUS_SUCCESS = 0x0000_0000
    STATUS_TIMEOUT = 0x0000_0102
    STATUS_PENDING = 0x0000_0103
    STATUS_DEVICE_BUSY = 0x8000_0011
    STATUS_UNSUCCESSFUL = 0xC000_0001
    STATUS_NOT_IMPLEMENTED = 0xC000_0002
    STATUS_INVALID_PARAMETER = 0xC000_000D
    STATUS_INVALID_DEVICE_REQUEST = 0xC000_0010
    STATUS_BUFFER_TOO_SMALL = 0xC000_0023
    STATUS_INSUFFICIENT_RESOURCES = 0xC000_009A
    STATUS_DEVICE_DATA_ERROR = 0xC000_009C
    STATUS_DEVICE_NOT_READY = 0xC000_00A3
    STATUS_IO_TIMEOUT = 0xC000_00B5
    STATUS_NOT_SUPPORTED = 0xC000_00BB
    STATUS_CANCELLED = 0xC000_0120
    STATUS_IO_DEVICE_ERROR = 0xC000_0185

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CheckedStatus):
            other.check.seen_from(1)
        return int.__eq__(self, other) if isinstance(other, int) else NotImplemented

    def __ne__(self, other: object) -> bool:
        if isinstance(other, CheckedStatus):
            other.check.seen_from(1)
        return int.__ne__(self, other) if isinstance(other, int) else NotImplemented

    def __hash__(self) -> int:
        return int.__hash__(self)


def nt_success(status: int) -> bool:
    """Success and informational values: those below 0x80000000 (the macro NT_SUCCESS)."""
    return int(look(status)) < 0x8000_0000


class MajorFunction(enum.IntEnum):
    """What a request wants."""

    IRP_MJ_READ = 0x03  # device to memory
    IRP_MJ_WRITE = 0x04  # memory to device


@dataclass
class IoStatusBlock:
    """How a request ended: ``status``, and ``information``, the bytes transferred."""

    status: NTSTATUS = NTSTATUS.STATUS_PENDING
    information: int = 0


@dataclass(eq=False)
class Irp:
    """One request.

    ``byte_offset`` is the position on the device, ``length`` the bytes wanted (those of ``mdl_address``'s chain unless
    given). ``cancel`` is set by IoCancelIrp, ``cancel_irql`` is what the cancel routine gives to IoReleaseCancelSpinLock.
    ``detail`` is a sentence for people about a status that is not success; the interface has no such field.
    """

    id: int
    major_function: MajorFunction
    mdl_address: Mdl | None = None
    byte_offset: int = 0
    length: int = 0
    io_status: IoStatusBlock = field(default_factory=IoStatusBlock)
    completed: bool = False
    cancel: bool = False
    cancel_irql: int = 0
    cancel_routine: Callable[..., Any] | None = None
    device_object: Any = None
    detail: str = ""

    @property
    def write_to_device(self) -> bool:
        return self.major_function == MajorFunction.IRP_MJ_WRITE
