# SPDX-License-Identifier: BSD-2-Clause
"""A cache without time: for each access, is it a hit, and which line does it replace?

Written from docs/dcache.md and docs/replacement.md alone, in plain Python: it shares nothing with the hardware or with the
reference model, so that a mistake in one of them is not repeated here. It holds no data, only which lines are where.
"""

from collections import deque
from dataclasses import dataclass

__all__ = ["POLICIES", "FunctionalCache", "Outcome"]

POLICIES = ("plru", "lru", "random")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an access does. ``way`` holds the line afterwards, or None: a store that missed went through.

    ``victim``: first address of the line that was replaced, or None; ``written_back``: that line was dirty.
    """

    hit: bool
    way: int | None
    victim: int | None = None
    written_back: bool = False


class _Lru:
    """The time of each way's last use."""

    def __init__(self, ways: int):
        self.now, self.last = 0, [0] * ways

    def use(self, way: int) -> None:
        self.now += 1
        self.last[way] = self.now

    def victim(self) -> int:
        return self.last.index(min(self.last))


class _Tree:
    """A half, or one way of it: ``turn`` says which half was used less recently."""

    def __init__(self, low: int, ways: int):
        self.low, self.turn = low, 0
        self.middle = low + ways // 2
        self.halves = [_Tree(low, ways // 2), _Tree(self.middle, ways // 2)] if ways > 1 else []

    def use(self, way: int) -> None:
        if self.halves:
            used = int(way >= self.middle)
            self.turn = 1 - used
            self.halves[used].use(way)

    def victim(self) -> int:
        return self.halves[self.turn].victim() if self.halves else self.low


class _Sequence:
    """The random policy's bits; one sequence for the whole cache."""

    def __init__(self, seed: int, ways: int):
        self.bits = deque((seed >> n & 1 for n in reversed(range(16))), maxlen=16)  # the oldest first
        self.count = ways.bit_length() - 1

    def decide(self) -> int:
        """The way of the next decision."""
        newest_first = list(self.bits)[::-1]
        way = sum(newest_first[i] << i for i in range(self.count))
        for _ in range(self.count):
            self.bits.append(self.bits[-16] ^ self.bits[-14] ^ self.bits[-13] ^ self.bits[-11])
        return way


class FunctionalCache:
    """A cache that performs accesses one after the other, in the order of the program: write-back with write-allocate, or
    write-through without.

    Parameters
    ----------
    sets, ways : powers of two.
    line_bytes : a power of two.
    policy : one of :data:`POLICIES`.
    seed : of the random policy, 1 .. 65535.
    write_through : a store that misses changes nothing, and no line is ever dirty.

    Raises
    ------
    ValueError
        If ``policy`` is another, or a size is not a power of two.
    """

    def __init__(
        self,
        *,
        sets: int,
        ways: int,
        line_bytes: int,
        policy: str = "plru",
        seed: int = 0xACE1,
        write_through: bool = False,
    ):
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(map(repr, POLICIES))}, not {policy!r}")
        for name, value in (("sets", sets), ("ways", ways), ("line_bytes", line_bytes)):
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two, not {value!r}")
        self.sets, self.ways, self.line_bytes, self.policy = sets, ways, line_bytes, policy
        self.write_through = write_through
        #: Per set and way: the line's first address, or None.
        self.lines: list[list[int | None]] = [[None] * ways for _ in range(sets)]
        self._dirty = [[False] * ways for _ in range(sets)]
        self._order = [_Lru(ways) if policy == "lru" else _Tree(0, ways) for _ in range(sets)]
        self._sequence = _Sequence(seed, ways)
        self.hits = self.misses = self.evictions = self.writebacks = 0

    def access(self, address: int, *, write: bool) -> Outcome:
        """An access to bytes of one line; counts it and changes the state."""
        line = address - address % self.line_bytes
        number = line // self.line_bytes % self.sets
        held, dirty, order = self.lines[number], self._dirty[number], self._order[number]
        if line in held:
            way = held.index(line)
            outcome = Outcome(True, way)
            self.hits += 1
        elif write and self.write_through:
            self.misses += 1
            return Outcome(False, None)
        else:
            # A fill is a decision of the random policy also if it finds an invalid way.
            drawn = self._sequence.decide()
            if None in held:
                way = held.index(None)
            else:
                way = drawn if self.policy == "random" else order.victim()
            outcome = Outcome(False, way, held[way], dirty[way])
            self.misses += 1
            self.evictions += held[way] is not None
            self.writebacks += dirty[way]
            held[way], dirty[way] = line, False
        order.use(way)
        dirty[way] |= write and not self.write_through
        return outcome

    def drop(self, address: int) -> None:
        """Another agent makes a line invalid; nothing if it is absent. No use, and nothing is counted."""
        number, way = self._find(address)
        if way is not None:
            self.lines[number][way], self._dirty[number][way] = None, False

    def drop_all(self, *, dirty_too: bool) -> None:
        """Every line, or every clean line, becomes invalid."""
        for held, dirty in zip(self.lines, self._dirty):
            for way in range(self.ways):
                if dirty_too or not dirty[way]:
                    held[way], dirty[way] = None, False

    def clean(self, address: int) -> None:
        """Another agent writes a line back; it stays."""
        number, way = self._find(address)
        if way is not None:
            self._dirty[number][way] = False

    def _find(self, address: int) -> tuple[int, int | None]:
        line = address - address % self.line_bytes
        number = line // self.line_bytes % self.sets
        return number, self.lines[number].index(line) if line in self.lines[number] else None
