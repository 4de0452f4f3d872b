# SPDX-License-Identifier: BSD-2-Clause
"""The Windows Driver Kit's side of DMA and PIO: DDI names in snake case, DDI argument order, out-parameters returned."""

from .common_buffer import CommonBuffer
from .device import DeviceDescription, DeviceObject, DmaSpeed, DmaWidth, InterfaceType, IoAllocationAction
from .dispatcher import EventType, KEvent, SpinLock
from .dma_adapter import DmaAdapter, MapRegisters, ScatterGatherElement, ScatterGatherList
from .dma_adapter_v3 import DmaAdapterV3
from .interrupt import Dpc, Interrupt
from .irp import NTSTATUS, IoStatusBlock, Irp, MajorFunction, nt_success
from .irql import APC_LEVEL, DIRQL, DISPATCH_LEVEL, PASSIVE_LEVEL
from .kernel import Kernel
from .mdl import Mdl
from .transfer_context import (
    DMA_SYNCHRONOUS_CALLBACK,
    DmaAdapterInfo,
    DmaCompletionStatus,
    DmaTransferContext,
    DmaTransferInfo,
)

__all__ = [
    "APC_LEVEL",
    "CommonBuffer",
    "DIRQL",
    "DMA_SYNCHRONOUS_CALLBACK",
    "DISPATCH_LEVEL",
    "DeviceDescription",
    "DeviceObject",
    "DmaAdapter",
    "DmaAdapterInfo",
    "DmaAdapterV3",
    "DmaCompletionStatus",
    "DmaSpeed",
    "DmaTransferContext",
    "DmaTransferInfo",
    "DmaWidth",
    "Dpc",
    "EventType",
    "InterfaceType",
    "Interrupt",
    "IoAllocationAction",
    "IoStatusBlock",
    "Irp",
    "KEvent",
    "Kernel",
    "MajorFunction",
    "MapRegisters",
    "Mdl",
    "NTSTATUS",
    "PASSIVE_LEVEL",
    "ScatterGatherElement",
    "ScatterGatherList",
    "SpinLock",
    "nt_success",
]
