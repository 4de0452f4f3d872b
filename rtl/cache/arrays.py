# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's memories: tags, and the lines' words in banks."""

from amaranth import Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from .native import Geometry

__all__ = ["Arrays"]


class Arrays:
    """Tags and words of all ways; a helper that adds its logic to the owner's module, so that names stay flat there.

    ``tag_<w>`` has a row per set. ``data_<w>_<b>`` holds the words whose number is ``b`` modulo the number of banks: row
    ``set * (words / banks) + word / banks``. All are read synchronously and without transparency: a read in the
    cycle of a write sees the old word. Each bank is read at one place per cycle, and one place is written per cycle.
    """

    def __init__(self, g: Geometry):
        ways, banks = range(g.ways), range(g.banks)
        self.g = g
        self.tag = [Memory(shape=g.tag_bits, depth=g.sets, init=[]) for _ in ways]
        self.data = [[Memory(shape=g.data_width, depth=g.bank_rows, init=[]) for _ in banks] for _ in ways]
        self._tag_read = [memory.read_port() for memory in self.tag]
        self._tag_write = [memory.write_port() for memory in self.tag]
        self._read = [[memory.read_port() for memory in way] for way in self.data]
        self._write = [[memory.write_port(granularity=8) for memory in way] for way in self.data]
        #: Per way, the tag read in the cycle before.
        self.tags = [port.data for port in self._tag_read]
        #: Per way and bank, the word read in the cycle before.
        self.words = [[port.data for port in way] for way in self._read]

    def add(self, m: Module) -> None:
        for w in range(self.g.ways):
            m.submodules[f"tag_{w}"] = self.tag[w]
            for b in range(self.g.banks):
                m.submodules[f"data_{w}_{b}"] = self.data[w][b]

    def read_tags(self, m: Module, index: Value, enable: Value) -> None:
        """The tags of a set are read at the end of a cycle with ``enable``."""
        for port in self._tag_read:
            m.d.comb += [port.addr.eq(index), port.en.eq(enable)]

    def read_bank(self, m: Module, bank: int, row: Value, enable: Value) -> None:
        """A bank's row is read, in all ways, at the end of a cycle with ``enable``."""
        for way in self._read:
            m.d.comb += [way[bank].addr.eq(row), way[bank].en.eq(enable)]

    def write_tag(self, m: Module, index: Value, tag: Value, ways: Value) -> None:
        """``ways`` is a mask; 0 writes nothing."""
        for w, port in enumerate(self._tag_write):
            m.d.comb += [port.addr.eq(index), port.data.eq(tag), port.en.eq(ways[w])]

    def write_word(self, m: Module, index: Value, word: Value, ways: Value, data: Value, strobes: Value, wide) -> None:
        """Writes one word of a set, or with ``wide`` (``(enable, data, strobes)`` of a whole line, or None) a line."""
        g = self.g
        bank, row = Signal(max(g.bank_bits, 1), name="write_bank"), Signal(range(max(g.bank_rows, 2)), name="write_row")
        m.d.comb += [bank.eq(g.bank_of(word) if g.bank_bits else 0), row.eq(g.row_of(index, word))]
        for b in range(g.banks):
            here = Signal(g.data_bytes, name=f"write_strobes_{b}")
            value = data
            m.d.comb += here.eq(Mux(bank == b, strobes, 0))
            if wide is not None:
                enable, line, line_strobes = wide
                value = Mux(enable, line.word_select(b, g.data_width), data)
                with m.If(enable):
                    m.d.comb += here.eq(line_strobes.word_select(b, g.data_bytes))
            for w in range(g.ways):
                port = self._write[w][b]
                m.d.comb += [port.addr.eq(row), port.data.eq(value), port.en.eq(Mux(ways[w], here, 0))]
