# SPDX-License-Identifier: BSD-2-Clause
"""Which way of a set a fill replaces: LRU, tree pseudo-LRU or random, behind one interface (docs/replacement.md).

A cache asks for a victim only when all ways of the set are valid, and every way becomes valid by a fill, which counts as a use.
So whatever the state of a set was before, it has been overwritten by the time it matters: the state needs no reset, no sweep
when everything is invalidated, and fits in a small memory that is read within the cycle.
"""

from abc import ABC, abstractmethod

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from ..config import CacheConfig

__all__ = ["Lru", "RandomReplacement", "Replacement", "TreePlru", "replacement_policy"]


class Replacement(ABC):
    """A replacement policy; a helper that adds its logic to the owner's module.

    Call :meth:`victim` once, then :meth:`touch` once.

    Parameters
    ----------
    sets, ways : powers of two; a cache of one way has no state and no choice.
    """

    def __init__(self, sets: int, ways: int):
        self.sets, self.ways = sets, ways
        self.levels = (ways - 1).bit_length()

    @abstractmethod
    def victim(self, m: Module, index: Value, following: Value | None = None, same: Value | None = None) -> Value:
        """The way to replace in a set as a mask with one bit, in the same cycle; meaningful if all of its ways are valid.

        ``following``: what ``index`` will be in the next cycle, and ``same``: it is the set of now. With them the state is read
        one cycle ahead, so the answer comes early in its cycle; then uses are of ``index`` too.
        """

    @abstractmethod
    def touch(self, m: Module, ways: Value, enable: Value, chosen: Value, index: Value | None = None) -> None:
        """With ``enable`` a way of a set is used: a hit, or a fill that was decided.

        Parameters
        ----------
        ways : the way, a mask with one bit.
        enable : for one cycle per use. The next cycle's victim takes it into account.
        chosen : this use is a fill whose way was chosen in this cycle, by the policy or because it was invalid; only with
            ``enable``.
        index : the set, if it is not the one that :meth:`victim` looks at (this costs a second read port; without ``following``).
        """


class _StateInMemory(Replacement):
    """A policy with some bits per set, kept in the memory ``replacement``; ``span`` neighbouring sets are one row."""

    def __init__(self, sets: int, ways: int, bits: int):
        super().__init__(sets, ways)
        self.bits = bits
        # Distributed RAM comes in blocks of 16 rows of 4 bits: one bit per set would leave three quarters of them empty.
        self.span = 4 if bits == 1 and sets >= 8 else 1
        self.state = Memory(shape=bits * self.span, depth=sets // self.span, init=[]) if bits else None

    @abstractmethod
    def _oldest(self, state: Value) -> list[Value]:
        """Per way: is it the victim?"""

    @abstractmethod
    def _used(self, state: Value, ways: Value) -> list[Value]:
        """The state's bits after a use."""

    def _split(self, index: Value) -> tuple[Value, Value]:
        """Row of a set, and its place there."""
        bits = (self.span - 1).bit_length()
        return index[bits:], index[:bits]

    def _read(self, m: Module, index: Value, name: str) -> tuple[Value, Value]:
        """The row of a set, and the set's bits."""
        row, place = self._split(index)
        port = self.state.read_port(domain="comb")
        found = Signal(self.bits, name=name)
        m.d.comb += [port.addr.eq(row), found.eq(port.data.word_select(place, self.bits))]
        return port.data, found

    def _read_ahead(self, m: Module, index: Value, following: Value, same: Value, name: str) -> tuple[Value, Value]:
        """The same, from registers, with what is written now."""
        row, _ = self._split(index)
        next_row, next_place = self._split(following)
        port, write = self.state.read_port(domain="comb"), self._write
        old, found = Signal(self.bits * self.span, name=f"{name}_row"), Signal(self.bits, name=name)
        m.d.comb += port.addr.eq(next_row)
        m.d.sync += [
            old.eq(Mux(write.en & (row == next_row), write.data, port.data)),
            found.eq(Mux(write.en & same, self._after, port.data.word_select(next_place, self.bits))),
        ]
        return old, found

    def victim(self, m: Module, index: Value, following: Value | None = None, same: Value | None = None) -> Value:
        if self.state is None:
            return Const(1, 1)
        m.submodules.replacement = self.state
        self._write, self._after = self.state.write_port(), Signal(self.bits, name="replacement_after")
        name = "replacement_state"
        self._index = index
        self._looked_at = self._read(m, index, name) if following is None else self._read_ahead(m, index, following, same, name)
        return Cat(self._oldest(self._looked_at[1]))

    def touch(self, m: Module, ways: Value, enable: Value, chosen: Value, index: Value | None = None) -> None:
        if self.state is None:
            return
        old, before = self._looked_at if index is None else self._read(m, index, "replacement_touched")
        row, place = self._split(self._index if index is None else index)
        after, port = self._after, self._write
        m.d.comb += [
            after.eq(Cat(self._used(before, ways))),
            port.addr.eq(row),
            port.data.eq(Cat(Mux(place == k, after, old.word_select(k, self.bits)) for k in range(self.span))),
            port.en.eq(enable),
        ]


class Lru(_StateInMemory):
    """The way whose last use is longest ago.

    One bit per pair of ways ``a < b``: ``a`` was used after ``b``. A use sets or clears the bits of its pairs, and the oldest way
    is the one that every pair calls the older: one small function per bit, where an ordered list needs comparators.
    """

    def __init__(self, sets: int, ways: int):
        self.pairs = [(a, b) for b in range(ways) for a in range(b)]
        super().__init__(sets, ways, len(self.pairs))

    def _oldest(self, state: Value) -> list[Value]:
        newer = dict(zip(self.pairs, state))
        return [
            Cat(~bit if way == a else bit for (a, b), bit in newer.items() if way in (a, b)).all() for way in range(self.ways)
        ]

    def _used(self, state: Value, ways: Value) -> list[Value]:
        return [ways[a] | (bit & ~ways[b]) for (a, b), bit in zip(self.pairs, state)]


class TreePlru(_StateInMemory):
    """Tree pseudo-LRU: a bit per inner node of a binary tree names the half that was used less recently.

    ``ways - 1`` nodes in heap order: node 1 is the root, the children of n are 2n and 2n + 1. A use turns the nodes on its way's
    path to their other halves; with two ways this is LRU.
    """

    def __init__(self, sets: int, ways: int):
        super().__init__(sets, ways, ways - 1)

    def _oldest(self, state: Value) -> list[Value]:
        chosen = []
        for way in range(self.ways):
            path, node = [], 1
            for level in reversed(range(self.levels)):
                right = way >> level & 1
                path.append(state[node - 1] if right else ~state[node - 1])
                node = 2 * node + right
            chosen.append(Cat(path).all())
        return chosen

    def _used(self, state: Value, ways: Value) -> list[Value]:
        after = []
        for node in range(1, self.ways):
            depth = node.bit_length() - 1
            half = self.ways >> (depth + 1)
            low = (node - (1 << depth)) * 2 * half
            left, right = ways[low : low + half].any(), ways[low + half : low + 2 * half].any()
            # A way is on one side of the root or on the other.
            after.append(left | (state[node - 1] & ~right) if node > 1 else left)
        return after


class RandomReplacement(Replacement):
    """A way of a repeatable pseudo-random sequence, whatever was used.

    The bits are those of the recurrence ``b[n] = b[n-16] ^ b[n-14] ^ b[n-13] ^ b[n-11]`` (period 65,535); ``b[15] .. b[0]``
    are the seed's bits 0 .. 15. The k-th fill since reset (k from 0) that is decided would replace the way whose number has bit
    i equal to ``b[15 + k * L - i]``, L being log2 of the ways. The sequence goes on at each fill, also when it took
    an invalid way; cycles, hits and reset of anything else do not move it.

    Parameters
    ----------
    seed : 1 .. 65535.
    """

    TAPS = (16, 14, 13, 11)

    def __init__(self, sets: int, ways: int, seed: int):
        super().__init__(sets, ways)
        self.sequence = Signal(16, init=seed, name="replacement_sequence")

    def victim(self, m: Module, index: Value, following: Value | None = None, same: Value | None = None) -> Value:
        number = self.sequence[: self.levels]
        return Cat(number == way for way in range(self.ways)) if self.levels else Const(1, 1)

    def touch(self, m: Module, ways: Value, enable: Value, chosen: Value, index: Value | None = None) -> None:
        bits = list(self.sequence)  # the newest first
        for _ in range(self.levels):
            new = bits[self.TAPS[0] - 1]
            for tap in self.TAPS[1:]:
                new = new ^ bits[tap - 1]
            bits = [new, *bits[:-1]]
        if self.levels:
            m.d.sync += self.sequence.eq(Mux(enable & chosen, Cat(bits), self.sequence))


def replacement_policy(cache: CacheConfig) -> Replacement:
    """The policy that the configuration of a cache names."""
    if cache.replacement == "lru":
        return Lru(cache.sets, cache.ways)
    if cache.replacement == "random":
        return RandomReplacement(cache.sets, cache.ways, cache.replacement_seed)
    return TreePlru(cache.sets, cache.ways)
