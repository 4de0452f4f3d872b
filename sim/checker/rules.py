# SPDX-License-Identifier: BSD-2-Clause
"""The catalogue of rules as data, and which rule may be the cause of which.

``kind``: C needs a view of caches and bus, P the order of calls, R resources, A addresses and sizes. ``latent``: on a coherent
platform the rule is about calls that do nothing there, so a finding is latent. ``sources`` are the S rules (the two
pages' own sentences) behind it; empty where the rule follows from how caches work. ``checked``: this checker decides it.
"""

from dataclasses import dataclass

__all__ = ["MAY_CAUSE", "RULES", "SOURCES", "Rule"]


@dataclass(frozen=True)
class Rule:
    """One rule. ``fix`` is the general advice; a finding's ``missing`` is the concrete call and place."""

    id: str
    kind: str
    title: str
    fix: str
    sources: tuple[str, ...] = ()
    latent: bool = False
    checked: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("C", "P", "R", "A"):
            raise ValueError(f"Rule {self.id} kind must be one of 'C', 'P', 'R', 'A', not {self.kind!r}")


#: The pages' rules, one line each.
SOURCES = {
    "S1": "KeFlushIoBuffers before beginning a transfer, either direction (DMA versions 1 and 2)",
    "S2": "a cached common buffer needs it before each transfer too",
    "S3": "system DMA: FlushAdapterBuffers at the end of each device transfer",
    "S4": "bus master: FlushAdapterBuffers at the end of each transfer operation of an IRP",
    "S5": "without the flush before a read, dirty data written back later overwrites what the device wrote",
    "S6": "without the flush before a write, the device gets memory that is older than the cache",
    "S7": "the controller moves fixed-size chunks; what does not fill one stays behind",
    "S8": "FlushAdapterBuffers returns whether the flush succeeded; the status block is set from it",
    "S9": "KeFlushIoBuffers does nothing on a coherent platform",
    "S10": "the rules hold for versions 1 and 2; version 3 has other guidelines",
    "S11": "PIO read: KeFlushIoBuffers at the end of each read operation (D-cache and I-cache)",
}

_FLUSH_BEFORE_WRITE = "KeFlushIoBuffers(Mdl, ReadOperation=FALSE, DmaOperation=TRUE) after the last store, before the start"
_FLUSH_BEFORE_READ = "KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=TRUE) after the last store, before the start"

_ALL = (
    Rule("R01", "C", "memory-to-device transfer starts while a line of its buffer may be dirty", _FLUSH_BEFORE_WRITE,
         ("S1", "S6"), True, True),
    Rule("R02", "C", "device-to-memory transfer starts while a line of its buffer may be dirty", _FLUSH_BEFORE_READ,
         ("S1", "S5"), True, True),
    Rule("R03", "C", "a dirty line of the buffer is written back during or after the DMA", "see the root", ("S5",), True, True),
    Rule("R04", "C", "the CPU reads a line that may have been filled before the device's data reached memory",
         "invalidate after completion, before the first read", ("S1",), True, True),
    Rule("R05", "C", "the CPU touches a streaming buffer while the device owns it",
         "wait for completion, or use another buffer", (), False, True),
    Rule("R06", "C", "the CPU stores into a mapped buffer after its sync for the CPU, or the device writes a TO_DEVICE mapping",
         "sync for the device before the next use; map with the right direction", (), True, True),
    Rule("R07", "C", "an invalidate discards bytes of the CPU that are read later",
         "clean instead, or clean+invalidate", (), True, True),
    Rule("R08", "C", "a clean after device-to-memory writes old dirty bytes over the device's",
         "flush before the transfer; afterwards only invalidate", ("S5",), True, True),
    Rule("R09", "C", "a device-to-memory buffer does not begin and end on a cache line",
         "align the buffer and its length to the line, or bounce it", (), True, True),
    Rule("R10", "C", "CPU data shares a line with bytes that the device writes",
         "align the buffer to lines, or bounce it", (), True, True),
    Rule("R11", "C", "two active mappings share a line and the device writes one",
         "align both mappings to lines", (), True, True),
    Rule("R12", "C", "the assumed line size differs from the cache's", "read the line size from the hardware", (), True, True),
    Rule("R13", "C", "a cached common buffer is used without KeFlushIoBuffers",
         "KeFlushIoBuffers with an MDL over the common buffer before each transfer", ("S2",), True, True),
    Rule("R14", "C", "an uncached common buffer is accessed misaligned", "access it by its natural alignment",
         (), False, True),
    Rule("R15", "C", "a descriptor in cached memory is not cleaned, or is written back over the device's update",
         "clean descriptors before the doorbell, or keep them uncached", (), True, True),
    Rule("R16", "C", "the device is started before earlier stores reached memory", "wait for the stores before the doorbell",
         (), True, True),
    Rule("R17", "C", "PIO data is handed on without KeFlushIoBuffers(TRUE, FALSE)",
         "KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=FALSE) at the end of the PIO read", ("S11",), True, True),
    Rule("R18", "C", "an instruction fetch may hit a line older than the newest data",
         "clean the D-cache and invalidate the I-cache before the first fetch", ("S11",), True, True),
    Rule("R19", "C", "a flush covers less than the buffer", "flush the whole MDL chain at its full length", ("S1",), True, True),
    Rule("R20", "C", "a flush is reported done before memory has answered its write-backs",
         "maintain to the point of coherency, wait for the responses", ("S1",), True, True),
    Rule("R21", "C", "the platform flag is wrong: the flush does nothing on non-coherent hardware, or works on coherent hardware",
         "take the flag from the hardware", ("S9",), False, True),
    Rule("R22", "P", "the direction differs between map, flush, transfer and unmap",
         "ReadOperation is the opposite of WriteToDevice", ("S1",), False, True),
    Rule("R23", "P", "DmaOperation does not fit the transfer", "TRUE for DMA, FALSE for PIO", ("S1", "S11"), False, True),
    Rule("R24", "P", "no FlushAdapterBuffers after a transfer", "FlushAdapterBuffers (or PutScatterGatherList) after completion",
         ("S3", "S4", "S7"), False, True),
    Rule("R25", "P", "data used, or IRP completed, before FlushAdapterBuffers",
         "FlushAdapterBuffers first, then use the data or complete the IRP", ("S3", "S4", "S7"), False, True),
    Rule("R26", "P", "IRP completed with success although the last flush returned FALSE",
         "set the status block from the BOOLEAN; retry or fail", ("S8",), False, True),
    Rule("R27", "P", "channel flushed before the transfer completed",
         "wait for completion, then flush", ("S3", "S4"), False, True),
    Rule("R28", "P", "MapTransferEx twice without FlushAdapterBuffersEx, or none after CancelMappedTransfer",
         "FlushAdapterBuffersEx between them", ("S10",), checked=True),
    Rule("R29", "P", "flush arguments differ from the map's", "pass what was mapped", checked=True),
    Rule("R30", "P", "MapTransfer without a channel, or a second channel on one adapter",
         "allocate the channel first, once", checked=True),
    Rule("R31", "P", "AdapterControl's return does not fit master or subordinate",
         "DeallocateObjectKeepRegisters / KeepObject", checked=True),
    Rule("R32", "P", "channel or map registers freed before flush or while mapped", "flush, then free", checked=True),
    Rule("R33", "P", "wrong IRQL", "call at the documented IRQL", checked=True),
    Rule("R34", "P", "KeFlushIoBuffers for a transfer of a version 3 adapter",
         "leave it out: version 3 does it", ("S10",), checked=True),
    Rule("R35", "P", "map error, NULL or shortened length not checked", "check the result", checked=True),
    Rule("R36", "P", "call does not fit master or system DMA", "use the call of the adapter's kind", checked=True),
    Rule("R37", "R", "double free", "free once", checked=True),
    Rule("R38", "R", "leak when the adapter is released", "free everything before PutDmaAdapter", checked=True),
    Rule("R39", "R", "too many map registers", "ask for at most what IoGetDmaAdapter returned", checked=True),
    Rule("R40", "R", "adapter used after PutDmaAdapter, or unknown description version",
         "release the adapter last", checked=True),
    Rule("R41", "R", "freed with other parameters than allocated", "pass what was allocated", checked=True),
    Rule("R42", "A", "address outside the MDL, or extra length across a page", "stay inside the MDL", checked=True),
    Rule("R43", "A", "zero length, or list buffer too small", "check the length first", checked=True),
    Rule("R44", "A", "range already mapped, or flush of a range never mapped", "map once, flush what is mapped", checked=True),
    Rule("R45", "A", "buffer not locked, on the stack, or not DMA-able", "use locked memory that DMA can reach", checked=True),
    Rule("R46", "A", "scatter/gather element too long, across a boundary, or not a multiple of the unit",
         "split elements", checked=True),
    Rule("R47", "A", "the device writes outside its buffer", "program the right address and count", checked=True),
    Rule("R48", "A", "address beyond the adapter's address width", "bounce, or describe the adapter rightly", checked=True),
    Rule("R49", "A", "start or length not a multiple of GetDmaAlignment", "align the buffer", checked=True),
    Rule("R50", "A", "access beyond the requested length of a common buffer", "allocate what is used", checked=True),
    Rule("R51", "C", "CPU writes the source after MapTransfer copied it to map registers", "store before MapTransfer",
         (), False, True),
    Rule("R52", "C", "short device write through a bounce buffer changes bytes the device never wrote",
         "copy only what was transferred", (), False, True),
    Rule("R53", "C", "residual counter wrong, so that a wrong length is copied", "read the counter after the stop",
         (), False, True),
    Rule("R54", "A", "a length or pointer written by the device is used unchecked",
         "compare it with its limits first", checked=True),
)  # fmt: skip

RULES: dict[str, Rule] = {rule.id: rule for rule in _ALL}

#: cause -> consequences. Two findings are linked only if they also concern the same transfer, PIO read or flush.
#: Where two rows compete for a consequence, the earlier row wins. R02 and R08 stand in both directions: the finding itself says
#: which way it is not (``Draft.never``).
MAY_CAUSE: dict[str, frozenset[str]] = {
    "R54": frozenset({"R35", "R42", "R43", "R44", "R46", "R47", "R48", "R50"}),
    "R42": frozenset({"R09", "R10", "R19", "R29", "R44", "R45", "R47", "R49"}),
    "R43": frozenset({"R29", "R32", "R35", "R44"}),
    "R45": frozenset({"R09", "R10", "R32", "R38"}),
    "R35": frozenset({"R29", "R42", "R44", "R46", "R47", "R50"}),
    "R49": frozenset({"R09", "R10", "R46"}),
    "R50": frozenset({"R47"}),
    "R48": frozenset({"R44", "R47", "R52"}),
    "R31": frozenset({"R30", "R32", "R37", "R38"}),
    "R30": frozenset({"R32", "R37", "R38", "R39"}),
    "R28": frozenset({"R24", "R25", "R29", "R32", "R38", "R44"}),
    "R53": frozenset({"R04", "R25", "R29"}),
    "R29": frozenset({"R03", "R04", "R18", "R24", "R25", "R32", "R44"}),
    "R40": frozenset({"R35"}),
    "R36": frozenset({"R53"}),
    "R37": frozenset({"R41"}),
    "R41": frozenset({"R04"}),
    "R21": frozenset({"R01", "R02", "R03", "R04", "R07", "R08", "R13", "R15", "R17", "R18"}),
    "R20": frozenset({"R01", "R02", "R03", "R13", "R15", "R17", "R18"}),
    "R16": frozenset({"R01", "R02", "R03", "R04", "R07", "R08", "R13", "R15", "R18"}),
    "R12": frozenset({"R01", "R02", "R03", "R04", "R09", "R10", "R13", "R15", "R17", "R18"}),
    "R19": frozenset({"R01", "R02", "R03", "R04", "R08", "R13", "R15", "R17", "R18"}),
    "R22": frozenset({"R01", "R02", "R03", "R04", "R07", "R08", "R13", "R17", "R18", "R24"}),
    "R23": frozenset({"R01", "R02", "R03", "R04", "R13", "R17", "R18"}),
    "R17": frozenset({"R18", "R01"}),
    "R08": frozenset({"R02", "R03", "R04"}),
    "R27": frozenset({"R03", "R04", "R05", "R10", "R18", "R24", "R25", "R26", "R32", "R44", "R47", "R53"}),
    "R24": frozenset({"R03", "R04", "R10", "R18", "R25", "R32", "R38", "R44"}),
    "R26": frozenset({"R04", "R18"}),
    "R25": frozenset({"R03", "R04", "R07", "R10", "R18", "R44", "R47"}),
    "R13": frozenset({"R03", "R04", "R07", "R08", "R18"}),
    "R15": frozenset({"R03", "R04", "R07", "R08", "R18"}),
    "R11": frozenset({"R09"}),
    "R10": frozenset({"R02", "R03", "R04", "R07", "R08", "R09", "R13", "R15"}),
    "R06": frozenset({"R01", "R02", "R03", "R04", "R07", "R08", "R10", "R18"}),
    "R05": frozenset({"R01", "R02", "R03", "R04", "R07", "R08", "R10", "R18"}),
    "R02": frozenset({"R03", "R04", "R07", "R08", "R18"}),
    "R04": frozenset({"R05", "R18"}),
    "R07": frozenset({"R18"}),
    "R32": frozenset({"R24", "R25", "R44", "R47"}),
    "R44": frozenset({"R01", "R02", "R13", "R19"}),
    "R47": frozenset({"R02", "R03", "R04", "R07", "R09", "R10", "R11", "R13", "R19", "R44", "R52"}),
}
