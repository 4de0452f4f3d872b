# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's memories: tags, and the lines' words in banks."""

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from .native import Geometry
from .parity import ParityArrays

__all__ = ["Arrays"]


class Arrays:
    """Tags and words of all ways; a helper that adds its logic to the owner's module, so that names stay flat there.

    ``tag_<w>`` has a row per set. ``data_<w>_<b>`` holds the words whose number is ``b`` modulo the number of banks: row
    ``set * (words / banks) + word / banks``. All are read synchronously. A read in the cycle of a write of the same row sees the
    old tag, and any word at all (``no_rw_check`` keeps synthesis from adding logic for it): nobody uses such a word. The access
    behind a store is refused if it loads that word, a beat goes to a line that is not valid, and the place of a line that is
    leaving does not change. Each bank is read at one place per cycle, and one place is written per cycle.

    ``parity`` (None without) holds a parity bit per tag and per byte, which are read and written with them.
    """

    def __init__(self, g: Geometry):
        ways, banks = range(g.ways), range(g.banks)
        self.g = g
        self.tag = [Memory(shape=g.tag_bits, depth=g.sets, init=[]) for _ in ways]
        self.data = [
            [Memory(shape=g.data_width, depth=g.bank_rows, init=[], attrs={"no_rw_check": 1}) for _ in banks] for _ in ways
        ]
        self._tag_read = [memory.read_port() for memory in self.tag]
        self._tag_write = [memory.write_port() for memory in self.tag]
        self._read = [[memory.read_port() for memory in way] for way in self.data]
        self._write = [[memory.write_port(granularity=8) for memory in way] for way in self.data]
        #: Per way, the tag read in the cycle before.
        self.tags = [port.data for port in self._tag_read]
        #: Per way and bank, the word read in the cycle before.
        self.words = [[port.data for port in way] for way in self._read]
        self.parity = ParityArrays(g) if g.parity else None
        #: A bit per way: its tag has wrong parity. Per bank, a bit per way: its word has.
        self.bad_tags: Value = Const(0, g.ways)
        self.bad_words: list[Value] = [Const(0, g.ways) for _ in banks]
        if self.parity is not None:
            self.bad_tags, self.bad_words = self.parity.bad_tags(self.tags), self.parity.bad_words(self.words)

    def add(self, m: Module) -> None:
        for w in range(self.g.ways):
            m.submodules[f"tag_{w}"] = self.tag[w]
            for b in range(self.g.banks):
                m.submodules[f"data_{w}_{b}"] = self.data[w][b]
        if self.parity is not None:
            self.parity.add(m)

    def read_tags(self, m: Module, index: Value, enable: Value) -> None:
        """The tags of a set are read at the end of a cycle with ``enable``."""
        for port in self._tag_read:
            m.d.comb += [port.addr.eq(index), port.en.eq(enable)]
        if self.parity is not None:
            self.parity.read_tags(m, index, enable)

    def read_bank(self, m: Module, bank: int, row: Value, enable: Value) -> None:
        """A bank's row is read, in all ways, at the end of a cycle with ``enable``."""
        for way in self._read:
            m.d.comb += [way[bank].addr.eq(row), way[bank].en.eq(enable)]
        if self.parity is not None:
            self.parity.read_bank(m, bank, row, enable)

    def write_tag(self, m: Module, index: Value, tag: Value, ways: Value, upset: Value | None = None) -> None:
        """``ways`` is a mask; 0 writes nothing. ``upset``: ways that hold ``tag`` and whose parity shall be wrong."""
        for w, port in enumerate(self._tag_write):
            m.d.comb += [port.addr.eq(index), port.data.eq(tag), port.en.eq(ways[w])]
        if self.parity is not None:
            self.parity.write_tag(m, index, tag, ways, Const(0, self.g.ways) if upset is None else upset)

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
            strobes_of = [Mux(ways[w], here, 0) for w in range(g.ways)]
            for w in range(g.ways):
                port = self._write[w][b]
                m.d.comb += [port.addr.eq(row), port.data.eq(value), port.en.eq(strobes_of[w])]
            if self.parity is not None:
                self.parity.write_bank(m, b, row, value, strobes_of)
