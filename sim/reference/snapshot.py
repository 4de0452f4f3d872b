# SPDX-License-Identifier: BSD-2-Clause
"""What the simulation's sink dumped of the real arrays, in the form the model compares."""

import enum
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["NOT_SEEN", "CacheLine", "NotSeen", "Remainder", "Snapshot"]


class NotSeen(enum.Enum):
    """Type of :data:`NOT_SEEN`: the snapshot says nothing about this part (None would say "empty")."""

    NOT_SEEN = "not seen"

    def __repr__(self) -> str:
        return "NOT_SEEN"


NOT_SEEN = NotSeen.NOT_SEEN


class CacheLine(NamedTuple):
    """A valid line: ``dirty``, its bytes, and the way it lies in (None: not looked at)."""

    dirty: bool
    data: bytes
    way: int | None = None


class Remainder(NamedTuple):
    """An open chunk: its aligned address (memory, or offset in the device) and the valid bytes by offset in the chunk."""

    addr: int
    data: dict[int, int]


@dataclass(kw_only=True)
class Snapshot:
    """State of the hardware after ``cycle``; every part is optional.

    Parameters
    ----------
    memory : bytes from ``memory_base`` on (None for the base: the memory window's).
    device : the whole device buffer.
    dcache, icache : all valid lines by line address. The I-cache's are plain bytes.
    fifo_to_memory, fifo_to_device : the open chunk, or None when it is empty.
    final : the run is over and quiet, so that every duty must have been done: no write-back, chunk, flush or maintenance
        command may be unfinished, and on a coherent platform no cache may hold stale bytes.
    """

    cycle: int = 0
    memory: bytes | NotSeen = NOT_SEEN
    memory_base: int | None = None
    device: bytes | NotSeen = NOT_SEEN
    dcache: dict[int, CacheLine | tuple[bool, bytes]] | NotSeen = NOT_SEEN
    icache: dict[int, bytes] | NotSeen = NOT_SEEN
    fifo_to_memory: Remainder | tuple[int, dict[int, int]] | NotSeen | None = NOT_SEEN
    fifo_to_device: Remainder | tuple[int, dict[int, int]] | NotSeen | None = NOT_SEEN
    final: bool = False
