# SPDX-License-Identifier: BSD-2-Clause
"""What a version 3 adapter remembers of a transfer: its context, how it completed, and who is told."""

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DMA_SYNCHRONOUS_CALLBACK",
    "CompletionRoutine",
    "DmaAdapterInfo",
    "DmaCompletionStatus",
    "DmaTransferContext",
    "DmaTransferInfo",
]

#: The flag of AllocateAdapterChannelEx, GetScatterGatherListEx and BuildScatterGatherListEx.
DMA_SYNCHRONOUS_CALLBACK = 0x01


class DmaCompletionStatus(enum.IntEnum):
    """DMA_COMPLETION_STATUS: how a system DMA transfer ended."""

    DMA_COMPLETE = 0
    DMA_ABORTED = 1
    DMA_ERROR = 2
    DMA_CANCELLED = 3


#: ``routine(dma_adapter, device_object, completion_context, status)``, a function or coroutine at DISPATCH_LEVEL.
CompletionRoutine = Callable[[Any, Any, Any, DmaCompletionStatus], Awaitable[None] | None]


@dataclass(eq=False)
class DmaTransferContext:
    """What InitializeDmaTransferContext writes into the driver's buffer; opaque to the driver.

    ``used`` once an allocation was asked for under it. ``cancelled`` is set by CancelAdapterChannel and CancelMappedTransfer:
    nothing more is allocated or mapped under it.
    """

    id: int
    used: bool = False
    cancelled: bool = False


@dataclass(frozen=True)
class DmaAdapterInfo:
    """DMA_ADAPTER_INFO_V1: what the adapter's hardware can do."""

    read_dma_counter_available: bool
    scatter_gather_limit: int
    dma_address_width: int  # bits
    flags: int  # none is defined
    minimum_transfer_unit: int  # bytes


@dataclass(frozen=True)
class DmaTransferInfo:
    """DMA_TRANSFER_INFO_V1: what a transfer of this buffer needs."""

    map_register_count: int
    scatter_gather_element_count: int
    scatter_gather_list_size: int  # bytes


@dataclass(eq=False)
class MappedTransfer:
    """A transfer that MapTransferEx has programmed on a system channel. ``ended`` once its completion has been told."""

    context: DmaTransferContext | None
    device_object: Any
    routine: CompletionRoutine | None
    completion_context: Any
    ended: bool = False
