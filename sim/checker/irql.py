# SPDX-License-Identifier: BSD-2-Clause
"""R33: the interrupt level that each routine documents, as data.

Levels are those of the public documentation of wdm.h, routine by routine; where a page names a set ("<= DISPATCH_LEVEL"), the
row is the set's two ends.
"""

from .book import Book
from .calls import OpenCall
from .findings import site_text
from .ledger import tell, who

__all__ = ["LEVELS", "begin", "level_text"]

PASSIVE, APC, DISPATCH, DIRQL, HIGH = 0, 1, 2, 5, 31


def _rules(low: int, high: int, *names: str) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(names, (low, high))


#: Routine -> lowest and highest level at which it may be called. Routines not named here may be called at any level.
LEVELS: dict[str, tuple[int, int]] = {
    **_rules(PASSIVE, PASSIVE, "IoGetDmaAdapter", "IoConnectInterrupt", "IoDisconnectInterrupt", "GetDmaAlignment",
             "AllocateCommonBuffer", "AllocateCommonBufferEx", "FreeCommonBuffer"),
    **_rules(DISPATCH, DISPATCH, "AllocateAdapterChannel", "FreeAdapterChannel", "FreeMapRegisters", "GetScatterGatherList",
             "BuildScatterGatherList", "PutScatterGatherList", "AllocateAdapterChannelEx", "BuildScatterGatherListEx",
             "IoStartNextPacket", "KeReleaseSpinLock"),
    **_rules(PASSIVE, DISPATCH, "MapTransfer", "FlushAdapterBuffers", "ReadDmaCounter", "PutDmaAdapter", "GetDmaAdapterInfo",
             "GetDmaTransferInfo", "InitializeDmaTransferContext", "ConfigureAdapterChannel", "MapTransferEx",
             "FlushAdapterBuffersEx", "CancelAdapterChannel", "CancelMappedTransfer", "FreeAdapterObject",
             "GetScatterGatherListEx"),
    **_rules(PASSIVE, DISPATCH, "KeFlushIoBuffers", "IoCompleteRequest", "IoStartPacket", "IoCancelIrp",
             "MmBuildMdlForNonPagedPool", "MmProbeAndLockPages", "MmUnlockPages", "KeSetEvent", "KeAcquireSpinLock",
             "AllocateMemory", "FreeMemory"),
    **_rules(PASSIVE, APC, "KeDelayExecutionThread", "KeWaitForSingleObject"),
    **_rules(PASSIVE, DIRQL, "KeSynchronizeExecution"),
}  # fmt: skip

_NAMES = {0: "PASSIVE_LEVEL", 1: "APC_LEVEL", 2: "DISPATCH_LEVEL"}


def level_text(irql: int) -> str:
    """``"DISPATCH_LEVEL"``, ``"DIRQL 5"``."""
    return _NAMES.get(irql, f"DIRQL {irql}")


def begin(book: Book, call: OpenCall) -> None:
    """A call begins. One level too many is one finding per source line."""
    irql = call.irql
    if irql is None:
        return
    low, high = LEVELS.get(call.name, (PASSIVE, HIGH))
    if call.name == "AllocateMemory" and call.args.get("kind") == "paged":
        high = APC
    if low <= irql <= high:
        return
    wanted = level_text(low) if low == high else f"{level_text(high)} or below"
    if irql < low:
        how = f"KeRaiseIrql to {level_text(low)} before the {call.name} at {site_text(call.site)}"
    else:
        how = f"the {call.name} at {site_text(call.site)} belongs where the level is {wanted}: " + (
            "queue a DPC" if irql > DISPATCH else "a work item, or before the level is raised"
        )
    tell(
        book,
        "R33",
        (call.name, call.site, irql),
        f"{call.name} at {level_text(irql)}; it must be called at {wanted}",
        how,
        [who(call)],
        subjects=[("C", call.number)],
    )
