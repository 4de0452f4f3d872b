# SPDX-License-Identifier: BSD-2-Clause
"""Parity of the D-cache's tags and bytes: what is stored beside them, and whether it still fits."""

from collections.abc import Sequence

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from .native import Geometry

__all__ = ["ParityArrays", "add_spoiled", "parity_of"]


def parity_of(value: Value, granule: int = 8) -> Value:
    """Even parity, one bit per ``granule`` bits: what makes the number of ones in both even."""
    return Cat(value[at : at + granule].xor() for at in range(0, len(value), granule))


class ParityArrays:
    """A parity bit per tag and one per byte of data; a helper of :class:`.arrays.Arrays`, whose ports it follows.

    ``tag_parity_<w>`` and ``data_parity_<w>_<b>`` have the rows of ``tag_<w>`` and ``data_<w>_<b>``. They are memories of their
    own, so that the others keep their widths. A bit that flips in either is found when both are read; so are three in a byte,
    not two.

    An upset inverts a stored bit on demand. It takes the place of a write, so nothing else may be written in its cycle, and
    a lookup that is in the first stage meanwhile does not see it. A byte's parity is read (``watch``) one cycle before.
    """

    def __init__(self, g: Geometry):
        self.g = g
        self.tag = [Memory(shape=1, depth=g.sets, init=[]) for _ in range(g.ways)]
        self.data = [[Memory(shape=g.data_bytes, depth=g.bank_rows, init=[]) for _ in range(g.banks)] for _ in range(g.ways)]
        self._tag_read = [memory.read_port() for memory in self.tag]
        self._tag_write = [memory.write_port() for memory in self.tag]
        self._read = [[memory.read_port() for memory in way] for way in self.data]
        self._watch = [[memory.read_port() for memory in way] for way in self.data]
        self._write = [[memory.write_port(granularity=1) for memory in way] for way in self.data]

    def add(self, m: Module) -> None:
        for w in range(self.g.ways):
            m.submodules[f"tag_parity_{w}"] = self.tag[w]
            for b in range(self.g.banks):
                m.submodules[f"data_parity_{w}_{b}"] = self.data[w][b]

    def bad_tags(self, tags: Sequence[Value]) -> Value:
        """Per way: the tag read in the cycle before does not fit its parity."""
        return Cat(tag.xor() ^ port.data for tag, port in zip(tags, self._tag_read))

    def bad_words(self, words: Sequence[Sequence[Value]]) -> list[Value]:
        """Per bank, a bit per way: the word read in the cycle before has a byte that does not fit its parity."""
        return [
            Cat((parity_of(words[w][b]) ^ self._read[w][b].data).any() for w in range(self.g.ways)) for b in range(self.g.banks)
        ]

    def read_tags(self, m: Module, index: Value, enable: Value) -> None:
        for port in self._tag_read:
            m.d.comb += [port.addr.eq(index), port.en.eq(enable)]

    def read_bank(self, m: Module, bank: int, row: Value, enable: Value) -> None:
        for way in self._read:
            m.d.comb += [way[bank].addr.eq(row), way[bank].en.eq(enable)]

    def watch(self, m: Module, index: Value, word: Value) -> None:
        """The word's parity is read for an upset in the next cycle."""
        for way in self._watch:
            for port in way:
                m.d.comb += [port.addr.eq(self.g.row_of(index, word)), port.en.eq(1)]

    def write_tag(self, m: Module, index: Value, tag: Value, ways: Value, upset: Value) -> None:
        """``upset``: the ways whose tag, which is ``tag``, gets the wrong parity."""
        for w, port in enumerate(self._tag_write):
            m.d.comb += [port.addr.eq(index), port.data.eq(tag.xor() ^ upset[w]), port.en.eq((ways | upset)[w])]

    def write_bank(self, m: Module, bank: int, row: Value, data: Value, strobes: Sequence[Value]) -> None:
        """``strobes``: bytes, per way."""
        for way, here in zip(self._write, strobes):
            m.d.comb += [way[bank].addr.eq(row), way[bank].data.eq(parity_of(data)), way[bank].en.eq(here)]

    def upset_byte(self, m: Module, index: Value, word: Value, byte: Value, ways: Value) -> None:
        """Inverts the parity bit of a byte in the ways of a mask; :meth:`watch` saw this word in the cycle before.

        Added to the module after :meth:`write_bank`, whose place it takes.
        """
        g = self.g
        lane = Signal(g.data_bytes, name="upset_lane")
        m.d.comb += lane.eq(1 << byte)
        for w in range(g.ways):
            for b in range(g.banks):
                port = self._write[w][b]
                with m.If(ways[w] & (g.bank_of(word) == b)):
                    m.d.comb += [
                        port.addr.eq(g.row_of(index, word)),
                        port.data.eq(~self._watch[w][b].data),
                        port.en.eq(lane),
                    ]


def add_spoiled(m: Module, *, reading: Value, bad: Value, pushed: Value, answered: Value) -> Signal:
    """Remembers for the entries of the write-back buffer whether a word had wrong parity; returns that of the entry ``answered``.

    Parameters
    ----------
    reading, bad : the entry whose word is read in this cycle; the parity of the word of the cycle before is wrong.
    pushed, answered : the entry that a line takes, and the one that memory is to answer next. All entries are one-hot, or 0.
    """
    of_word, spoiled = Signal.like(reading, name="word_of"), Signal.like(reading, name="spoiled_entries")
    m.d.sync += [
        of_word.eq(reading),
        spoiled.eq((spoiled & ~pushed) | Mux(bad, of_word, 0)),
    ]
    of_answered = Signal(name="spoiled")
    m.d.comb += of_answered.eq((spoiled & answered).any())
    return of_answered
