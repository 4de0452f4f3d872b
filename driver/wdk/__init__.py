# SPDX-License-Identifier: BSD-2-Clause
"""The Windows Driver Kit's side of DMA and PIO: DDI names in snake case, DDI argument order, out-parameters returned."""

from .common_buffer import CommonBuffer
from .device import DeviceDescription, DeviceObject, IoAllocationAction
from .dma_adapter import DmaAdapter, MapRegisters, ScatterGatherElement, ScatterGatherList
from .irp import NTSTATUS, IoStatusBlock, Irp, MajorFunction, nt_success
from .kernel import Kernel
from .mdl import Mdl

__all__ = [
    "CommonBuffer",
    "DeviceDescription",
    "DeviceObject",
    "DmaAdapter",
    "IoAllocationAction",
    "IoStatusBlock",
    "Irp",
    "Kernel",
    "MajorFunction",
    "MapRegisters",
    "Mdl",
    "NTSTATUS",
    "ScatterGatherElement",
    "ScatterGatherList",
    "nt_success",
]
