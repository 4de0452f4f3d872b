# SPDX-License-Identifier: BSD-2-Clause
"""What a scenario is: data that names a driver's story, its surroundings, and what must come out.

A scenario does not contain code. ``story`` names a coroutine of :mod:`sim.scenarios.stories` (the driver code people
read), everything else parametrises it. What must come out is data too: a list of :class:`Corruption`, each a symbolic
place (:mod:`sim.scenarios.expect` turns it into byte ranges for one configuration) and the value that will stand there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from rtl.config import SocConfig

__all__ = [
    "COHERENT",
    "Corruption",
    "DISCIPLINES",
    "MODES",
    "NON_COHERENT",
    "PLATFORMS",
    "ROWS",
    "SIZES",
    "Scenario",
    "VALUES",
    "faulty_platform",
    "size_bytes",
    "split_platform",
]

NON_COHERENT, COHERENT = "non-coherent", "coherent"
PLATFORMS = (NON_COHERENT, COHERENT)
_FAULT = "+"  # between a platform and each fault that its hardware has

#: How data moves. The key is the second part of a scenario's name.
MODES = MappingProxyType(
    {
        "system": "system (subordinate) DMA channel, streaming buffer",
        "bus-master": "bus master with a scatter/gather list, streaming buffer",
        "pio": "programmed I/O through a register",
        "common-cached": "common buffer, CacheEnabled=TRUE",
        "common-uncached": "common buffer, CacheEnabled=FALSE",
    }
)

#: Rows of the design's anomaly table, and the groups beside it.
ROWS = MappingProxyType(
    {
        "dma-write": "memory to device: the device gets memory that is older than the D-cache",
        "dma-read": "device to memory: a dirty line written back later overwrites what the DMA wrote",
        "speculation": "device to memory: a prefetch between flush and completion leaves stale lines",
        "remainder": "the last bytes, less than a chunk, stay in the DMA controller's FIFO",
        "common-buffer": "a buffer that CPU and device use again and again",
        "pio": "a PIO read into memory, then executed, DMAed or read around the cache",
        "outcome": "device to memory, by discipline and state of the lines",
        "partial-line": "a line that the buffer shares with the CPU's own data",
        "cpu-data": "memory to device, by what happens to the CPU's bytes before the device reads",
        "multi-transfer": "one IRP, several device transfers",
        "flush-fails": "FlushAdapterBuffers returns FALSE and the driver tries again",
        "code-by-dma": "code loaded by DMA and executed",
        "short": "the device ends a transfer early",
    }
)

#: Flush disciplines of the matrix; the outcome table has its own (the states of RULES.md).
DISCIPLINES = MappingProxyType(
    {
        "all-flushes": "every flush that the pages demand, where they demand it",
        "no-flushes": "no flush at all",
        "no-preflush": "KeFlushIoBuffers before the transfer is left out",
        "preflush-early": "KeFlushIoBuffers is called before the CPU's last stores to the buffer",
        "preflush-late": "KeFlushIoBuffers is called after the transfer",
        "no-adapter-flush": "FlushAdapterBuffers / PutScatterGatherList is left out",
        "adapter-flush-early": "FlushAdapterBuffers is called while the transfer runs, not after it",
        "adapter-flush-late": "FlushAdapterBuffers is called after the data was used and the IRP completed",
        "no-ioflush": "KeFlushIoBuffers at the end of the PIO read is left out",
        "ioflush-early": "KeFlushIoBuffers is called before the PIO read's data is in the buffer",
        "ioflush-late": "KeFlushIoBuffers is called after the data was used",
        "to-the-letter": "v1/v2 taken literally: nothing is invalidated after a read (HAL option off)",
    }
)

#: Values of corrupted bytes, relative to the right byte. The three and the right one differ in every single byte.
VALUES = MappingProxyType(
    {
        "stale": "what memory (or the device's buffer) held before: the complement of the right byte",
        "old": "what the CPU had stored there before the transfer",
    }
)

#: Symbolic sizes; ``telling`` has whole lines, a whole chunk and a remainder.
SIZES = ("1", "chunk-1", "chunk", "chunk+1", "line-1", "line", "line+1", "3line", "telling", "page", "whole")


def size_bytes(size: str, config: SocConfig, payload_bytes: int) -> int:
    """The number of bytes that a symbolic size means on this hardware with this payload."""
    line, chunk = config.dcache.line_bytes, config.dma.chunk_bytes
    values = {
        "1": 1,
        "chunk-1": chunk - 1,
        "chunk": chunk,
        "chunk+1": chunk + 1,
        "line-1": line - 1,
        "line": line,
        "line+1": line + 1,
        "3line": 3 * line,
        "telling": 2 * line + chunk // 2 + 3,
        "page": 4096,
        "whole": payload_bytes,
    }
    if size not in values:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, not {size!r}")
    return values[size]


@dataclass(frozen=True)
class Corruption:
    """Bytes that come out wrong. ``where`` is a place of :data:`sim.scenarios.expect.PLACES`, ``value`` one of :data:`VALUES`.

    ``dirty``: it takes a line that a store has made dirty, so it does not happen with a write-through D-cache.
    """

    where: str
    value: str
    why: str
    dirty: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One entry of the catalogue.

    ``story`` and ``options`` say what the driver and its surroundings do. ``corruption`` is what comes out wrong (nothing:
    intact); ``exact`` false means that only part of the place need be wrong (it depends on natural evictions).
    ``roots`` are the rules of which the flush checker must report a root finding, and no others; ``roots_where`` adds those
    that depend on geometry: place (as in :class:`Corruption`) to rules, expected where the place is not empty.
    ``source`` are the pages' rules (S1..S11) behind it, ``missing`` the call that would have saved the bytes.
    """

    name: str
    row: str
    mode: str
    discipline: str
    platform: str
    story: str
    size: str
    quick_size: str
    offset: int = 0
    device_offset: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    corruption: tuple[Corruption, ...] = ()
    exact: bool = True
    roots: frozenset[str] = frozenset()
    roots_where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    source: tuple[str, ...] = ()
    missing: str = ""
    summary: str = ""

    def __post_init__(self) -> None:
        for what, value, known in (
            ("platform", self.platform, PLATFORMS),
            ("row", self.row, ROWS),
            ("mode", self.mode, MODES),
            ("size", self.size, SIZES),
            ("quick_size", self.quick_size, SIZES),
        ):
            if value not in known:
                raise ValueError(f"{self.name}: {what} must be one of {', '.join(known)}, not {value!r}")

    @property
    def coherent(self) -> bool:
        return self.platform == COHERENT

    def size_for(self, quick: bool) -> str:
        return self.quick_size if quick else self.size

    def to_dict(self) -> dict[str, Any]:
        """What ``list --json`` shows."""
        return {
            "name": self.name,
            "row": self.row,
            "mode": self.mode,
            "discipline": self.discipline,
            "platform": self.platform,
            "story": self.story,
            "size": self.size,
            "quick_size": self.quick_size,
            "offset": self.offset,
            "options": dict(self.options),
            "expectation": [vars(corruption) for corruption in self.corruption] or "intact",
            "roots": sorted(self.roots),
            "roots_where": {place: sorted(rules) for place, rules in self.roots_where.items()},
            "source": list(self.source),
            "missing": self.missing,
            "summary": self.summary,
        }


def faulty_platform(platform: str, faults: Iterable[str]) -> str:
    """The name of a platform whose hardware has these faults (fields of :class:`rtl.config.FaultConfig`)."""
    return _FAULT.join([platform, *sorted(faults)])


def split_platform(name: str) -> tuple[str, tuple[str, ...]]:
    """Platform and faults behind a name that :func:`faulty_platform` made."""
    platform, *faults = name.split(_FAULT)
    return platform, tuple(faults)
