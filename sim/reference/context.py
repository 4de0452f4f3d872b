# SPDX-License-Identifier: BSD-2-Clause
"""What the parts of the model share: configuration, memory, the sequence number of the event, and the list of mismatches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtl.config import SocConfig
from sim.record import Event

from .words import StrobeMasks, lanes, to_words

if TYPE_CHECKING:
    from .dcache import DCacheModel
    from .device import DeviceModel
    from .dma import DmaModel
    from .icache import ICacheModel
    from .maintenance import MaintenanceModel
    from .registers import RegisterModel

__all__ = ["Context", "Mismatch"]


@dataclass(frozen=True)
class Mismatch:
    """One way in which the hardware is not what it must be.

    ``cycle``: when it was noticed. ``what``: where and which rule. ``address``: a byte address, or None. ``expected`` and
    ``got``: texts, or None when the rule has no values. ``record``: the probe record at fault, or None for a snapshot.
    """

    cycle: int
    what: str
    address: int | None = None
    expected: str | None = None
    got: str | None = None
    record: Event | None = None

    def __str__(self) -> str:
        text = f"cycle {self.cycle}: {self.what}"
        if self.expected is not None or self.got is not None:
            text += f": expected {self.expected}, got {self.got}"
        return text


class Context:
    """Shared state; ``seq`` numbers the events from 1, so that "before" and "after" a command are integers."""

    dcache: "DCacheModel"
    icache: "ICacheModel"
    maintenance: "MaintenanceModel"
    registers: "RegisterModel"
    dma: "DmaModel"
    device: "DeviceModel"

    def __init__(self, config: SocConfig, memory: bytes, limit: int):
        self.config = config
        self.beat = config.data_bytes
        self.beat_shift = self.beat.bit_length() - 1
        self.beat_mask = ~(self.beat - 1)
        self.full_strobes = (1 << self.beat) - 1
        self.line_bytes = config.dcache.line_bytes
        self.line_mask = ~(self.line_bytes - 1)
        self.line_beats = self.line_bytes // self.beat
        self.base, self.size = config.memory.base, config.memory.size
        self.end = self.base + self.size
        self.masks = StrobeMasks()
        self.memory = to_words(memory, self.beat)
        self.seq = 0
        self.limit = limit
        self.total = 0
        self.mismatches: list[Mismatch] = []

    def report(self, event: Event, what: str, address: int | None = None, expected: Any = None, got: Any = None) -> None:
        """Adds a mismatch; beyond the limit it is only counted, for one error in hardware can make thousands."""
        self.total += 1
        if self.total <= self.limit:
            text = [None if value is None else str(value) for value in (expected, got)]
            self.mismatches.append(Mismatch(event[0], what, address, *text, event))

    def show(self, word: int, strobes: int | None = None) -> str:
        """A beat for an error text."""
        return lanes(word, self.full_strobes if strobes is None else strobes, self.beat)

    def in_memory(self, address: int) -> bool:
        return self.base <= address < self.end

    def line_words(self, line: int) -> list[int]:
        """The line's beats in memory."""
        index = (line - self.base) >> self.beat_shift
        return list(self.memory[index : index + self.line_beats])
