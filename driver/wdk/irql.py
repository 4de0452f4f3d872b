# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt request levels, and the levels at which each routine may be called.

The table is the public documentation's, routine by routine (the requirements section of the named page). Nothing here refuses a
call: a wrong level is logged with the call, and the checker's to report. Only a wait that would stop a real machine for ever
raises an error (:mod:`driver.wdk.dispatcher`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["APC_LEVEL", "DIRQL", "DISPATCH_LEVEL", "HIGH_LEVEL", "IRQL_TABLE", "PASSIVE_LEVEL", "IrqlRule"]

PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL = 0, 1, 2
#: The level of this machine's device interrupts.
DIRQL = 5
HIGH_LEVEL = 31


@dataclass(frozen=True)
class IrqlRule:
    """Levels ``lowest`` to ``highest``, both allowed; ``page`` is the documentation page that says so."""

    lowest: int
    highest: int
    page: str

    def allows(self, irql: int) -> bool:
        return self.lowest <= irql <= self.highest


def _rules(lowest: int, highest: int, pages: Mapping[str, str]) -> dict[str, IrqlRule]:
    return {name: IrqlRule(lowest, highest, page) for name, page in pages.items()}


def _operation(*names: str) -> dict[str, str]:
    """Routines of DMA_OPERATIONS: the page is that of the routine's pointer type."""
    return {name: f"P{''.join('_' + c if c.isupper() and n else c for n, c in enumerate(name)).upper()}" for name in names}


def _function(*names: str) -> dict[str, str]:
    return {name: f"{name} function (wdm.h)" for name in names}


#: Name in the call log -> levels.
IRQL_TABLE: Mapping[str, IrqlRule] = MappingProxyType(
    {
        **_rules(PASSIVE_LEVEL, PASSIVE_LEVEL, _function("IoGetDmaAdapter", "IoConnectInterrupt", "IoDisconnectInterrupt")),
        **_rules(
            PASSIVE_LEVEL,
            PASSIVE_LEVEL,
            _operation("GetDmaAlignment", "AllocateCommonBuffer", "AllocateCommonBufferEx", "FreeCommonBuffer"),
        ),
        **_rules(
            DISPATCH_LEVEL,
            DISPATCH_LEVEL,
            _operation(
                "AllocateAdapterChannel",
                "FreeAdapterChannel",
                "FreeMapRegisters",
                "GetScatterGatherList",
                "BuildScatterGatherList",
                "PutScatterGatherList",
                "AllocateAdapterChannelEx",
                "BuildScatterGatherListEx",
            ),
        ),
        **_rules(
            PASSIVE_LEVEL,
            DISPATCH_LEVEL,
            _operation(
                "MapTransfer",
                "FlushAdapterBuffers",
                "ReadDmaCounter",
                "PutDmaAdapter",
                "GetDmaAdapterInfo",
                "GetDmaTransferInfo",
                "InitializeDmaTransferContext",
                "ConfigureAdapterChannel",
                "MapTransferEx",
                "FlushAdapterBuffersEx",
                "CancelAdapterChannel",
                "CancelMappedTransfer",
                "FreeAdapterObject",
                "GetScatterGatherListEx",
            ),
        ),
        **_rules(
            PASSIVE_LEVEL,
            DISPATCH_LEVEL,
            _function(
                "KeFlushIoBuffers",
                "IoCompleteRequest",
                "IoStartPacket",
                "IoCancelIrp",
                "MmBuildMdlForNonPagedPool",
                "MmProbeAndLockPages",
                "MmUnlockPages",
                "KeSetEvent",
                "KeAcquireSpinLock",
            ),
        ),
        **_rules(DISPATCH_LEVEL, DISPATCH_LEVEL, _function("IoStartNextPacket", "KeReleaseSpinLock")),
        **_rules(PASSIVE_LEVEL, APC_LEVEL, _function("KeDelayExecutionThread", "KeWaitForSingleObject")),
        **_rules(PASSIVE_LEVEL, HIGH_LEVEL, _function("KeInsertQueueDpc")),
        "CalculateScatterGatherList": IrqlRule(PASSIVE_LEVEL, HIGH_LEVEL, "PCALCULATE_SCATTER_GATHER_LIST_SIZE"),
        **_rules(PASSIVE_LEVEL, DIRQL, _function("KeSynchronizeExecution")),
    }
)
