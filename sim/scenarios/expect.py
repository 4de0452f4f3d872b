# SPDX-License-Identifier: BSD-2-Clause
"""From a scenario's symbolic corruption to byte ranges and bytes, for one hardware and one payload.

Nothing here looks at a simulation: this is what the pages, the tables of RULES.md and the geometry say must come out.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from rtl.config import SocConfig

from .model import Scenario

__all__ = ["Expectation", "PLACES", "Range", "Setting", "complement", "differing", "earlier"]


def complement(data: bytes) -> bytes:
    """The stale pattern: every byte differs from the right one."""
    return bytes(byte ^ 0xFF for byte in data)


def earlier(data: bytes) -> bytes:
    """What the CPU stored in the buffer before the transfer: differs from the right byte and from its complement."""
    return bytes(byte ^ 0x5A for byte in data)


_VALUE: dict[str, Callable[[bytes], bytes]] = {"stale": complement, "old": earlier}


@dataclass(frozen=True)
class Range:
    """Bytes ``[start, end)`` of the payload that will hold ``value`` instead of the right bytes, because of ``why``."""

    start: int
    end: int
    value: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A scenario made concrete: where its bytes lie and what they are.

    ``address`` is the memory address of the buffer's first byte, ``device_address`` the offset in the device's buffer,
    ``payload`` the right bytes.
    """

    scenario: Scenario
    config: SocConfig
    address: int
    device_address: int
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.payload)

    @property
    def write_to_device(self) -> bool:
        return bool(self.scenario.options.get("write_to_device", False))

    @property
    def delivered(self) -> int:
        """Bytes that the device delivers: all, or fewer in a short transfer."""
        return self.size - self.size // 2 if self.scenario.options.get("short") else self.size

    @property
    def split(self) -> int:
        """Where the scenario cuts its bytes in two: CPU's and device's, first and second transfer, covered or not.

        On a line, or (``split: "chunk"``) inside a chunk, or (``split: "line-part"``) inside a line.
        """
        line, chunk = self.config.dcache.line_bytes, self.config.dma.chunk_bytes
        how = self.scenario.options.get("split", "line")
        first_line = line - self.address % line
        if how == "line-part":
            return line // 2 - self.address % line if self.address % line < line // 2 else line // 2
        if how == "chunk":
            return line + chunk // 2
        return first_line if first_line < self.size else self.size // 2

    @property
    def expected_roots(self) -> frozenset[str]:
        """The rules of which the checker must report root findings here."""
        roots = set(self.scenario.roots)
        for place, rules in self.scenario.roots_where.items():
            if any(start < end for start, end in PLACES[place](self)):
                roots |= rules
        return frozenset(roots)

    def remainder(self, end: int | None = None, start: int = 0) -> tuple[int, int]:
        """The bytes of the last chunk if not all of it was written: what stays in the FIFO until a flush.

        Chunks are aligned in destination space: memory addresses toward memory, device offsets toward the device. A chunk that
        begins before the transfer does is not whole either. The transfer is ``[start, end)`` of the payload.
        """
        chunk = self.config.dma.chunk_bytes
        base = self.device_address if self.write_to_device else self.address
        end = self.delivered if end is None else end
        if self.config.dma.cut_through:
            return end, end
        first = (base + end - 1) // chunk * chunk - base
        whole = first >= start and (base + end) % chunk == 0
        return (end, end) if whole else (max(start, first), end)

    def loose_ends(self) -> list[tuple[int, int]]:
        """The bytes in lines that are not wholly the buffer's."""
        line = self.config.dcache.line_bytes
        head = -self.address % line
        tail = max(0, self.size - (self.address + self.size) % line)
        return [(0, min(head, self.size)), (tail, self.size)]

    def resident(self) -> tuple[int, int]:
        """The bytes whose lines can still be in the D-cache after the CPU went through the buffer once."""
        capacity, line = self.config.dcache.size_bytes, self.config.dcache.line_bytes
        last = (self.address + self.size - 1) // line * line + line
        return max(0, last - capacity - self.address), self.size


def _places() -> dict[str, Callable[[Setting], list[tuple[int, int]]]]:
    return {
        "all": lambda s: [(0, s.size)],
        "remainder": lambda s: [s.remainder()],
        "drained": lambda s: [(0, s.remainder()[0])],
        "delivered": lambda s: [(0, s.delivered)],
        "undelivered": lambda s: [(s.delivered, s.size)],
        "resident": lambda s: [s.resident()],
        "first-part": lambda s: [(0, s.split)],
        "second-part": lambda s: [(s.split, s.size)],
        "first-part-dropped": lambda s: [] if s.config.dcache.partial_lines == "clean" else [(0, s.split)],
        "second-part-cleaned": lambda s: [(s.split, s.size)] if s.config.dcache.partial_lines == "clean" else [],
        "second-part-drained": lambda s: [(s.split, s.remainder(start=s.split)[0])],
        "first-remainder": lambda s: [s.remainder(s.split)],
        "loose-ends": lambda s: s.loose_ends(),
    }


#: Symbolic places of :class:`~sim.scenarios.model.Corruption`: each gives ranges of the payload, possibly empty.
PLACES = _places()


@dataclass(frozen=True)
class Expectation:
    """What must come out: ``predicted`` byte for byte if ``exact``, else right bytes with some of ``ranges`` wrong."""

    setting: Setting
    ranges: tuple[Range, ...]
    exact: bool

    @classmethod
    def of(cls, setting: Setting) -> "Expectation":
        """Resolves the scenario's corruption; later entries win where places overlap. Empty places vanish."""
        marks: list[tuple[str, str] | None] = [None] * setting.size
        through = setting.config.dcache.write_through
        for corruption in setting.scenario.corruption:
            if corruption.dirty and through:
                continue
            for start, end in PLACES[corruption.where](setting):
                for position in range(max(start, 0), min(end, setting.size)):
                    marks[position] = (corruption.value, corruption.why)
        ranges, position = [], 0
        for mark, group in itertools.groupby(marks):
            length = sum(1 for _ in group)
            if mark is not None:
                ranges.append(Range(position, position + length, *mark))
            position += length
        return cls(setting, tuple(ranges), setting.scenario.exact)

    @property
    def intact(self) -> bool:
        return not self.ranges

    @property
    def predicted(self) -> bytes:
        """The bytes that come out if every range is wrong."""
        out = bytearray(self.setting.payload)
        for item in self.ranges:
            out[item.start : item.end] = _VALUE[item.value](self.setting.payload[item.start : item.end])
        return bytes(out)

    def describe(self) -> str:
        """One line: ``intact`` or what will be wrong where."""
        if self.intact:
            return "intact"
        total = sum(item.end - item.start for item in self.ranges)
        first = self.ranges[0]
        bound = "" if self.exact else "up to "
        return f"corrupted: {bound}{total} B {first.value} from +{first.start:#x}"

    def judge(self, actual: bytes) -> str:
        """Empty if ``actual`` is as expected, else one line that says where it first is not."""
        predicted, payload = self.predicted, self.setting.payload
        if len(actual) != len(predicted):
            return f"{len(actual)} bytes arrived, {len(predicted)} were expected"
        if self.exact or self.intact:
            if actual == predicted:
                return ""
            at = next(n for n, (a, b) in enumerate(zip(actual, predicted)) if a != b)
            return (
                f"byte +{at:#x} is {actual[at]:#04x}, expected {predicted[at]:#04x} "
                f"(right is {payload[at]:#04x}); {len(differing(actual, predicted))} bytes differ from the expectation"
            )
        for at, (a, right, wrong) in enumerate(zip(actual, payload, predicted)):
            if a not in (right, wrong):
                return f"byte +{at:#x} is {a:#04x}, expected {right:#04x} or {wrong:#04x}"
        if actual == payload:
            return "nothing is corrupted, some bytes were expected to be"
        return ""


def differing(left: bytes, right: bytes) -> list[int]:
    """Positions at which two equally long byte strings differ."""
    if left == right:
        return []
    return [n for n, (a, b) in enumerate(zip(left, right)) if a != b]
