# SPDX-License-Identifier: BSD-2-Clause
"""What the D-cache knows about each line: valid, dirty, and brought by a prefetch that nobody has used yet."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from .native import Geometry

__all__ = ["LineState"]


class LineState:
    """State bits of all lines; a helper that adds its logic to the owner's module, so that names stay flat there.

    The bits of ``span`` neighbouring sets are one row of small memories ``valid_<w>``, ``dirty_<w>`` and ``fresh_<w>`` that
    are read within the cycle (on an FPGA: distributed RAM, a tenth of what flip-flops and their wide multiplexers cost). Two
    flip-flops per row make a change of everything take one edge and need no sweep:

    - ``live[row]``: the row's ``valid`` bits count. Where it is 0, exactly the dirty lines are valid.
    - ``stained[row]``: the row's ``dirty`` bits count, and one of them is set. Where it is 0, nothing is dirty.

    So reset and "invalidate everything" clear both, "invalidate what is clean" clears ``live``, and nothing is dirty in the
    array when no ``stained`` bit is set. A change writes all bits of its row.
    """

    def __init__(self, g: Geometry, *, scans: int):
        self.g = g
        ways, rows = range(g.ways), g.state_rows
        self.valid = [Memory(shape=g.span, depth=rows, init=[]) for _ in ways]
        self.dirty = [Memory(shape=g.span, depth=rows, init=[]) for _ in ways]
        self.fresh = [Memory(shape=g.span, depth=rows, init=[]) for _ in ways]
        self.live, self.stained = Signal(rows, name="live"), Signal(rows, name="stained")
        self._reads = {n: [memory.read_port(domain="comb") for memory in getattr(self, n)] for n in ("valid", "dirty", "fresh")}
        self._writes = {n: [memory.write_port() for memory in getattr(self, n)] for n in ("valid", "dirty", "fresh")}
        self._scans = [[memory.read_port(domain="comb") for memory in self.dirty] for _ in range(scans)]
        self._old: dict[str, list[Signal]] = {}

    def _of_row(self, bits: Signal, row: Value) -> Value:
        return bits.bit_select(row, 1) if self.g.state_rows > 1 else bits

    def add(self, m: Module, index: Value) -> tuple[Value, Value, Value]:
        """Adds the memories and the lookup of a set; returns its valid, dirty and fresh bits, one per way, in the same cycle."""
        g = self.g
        row = self.row_of(index)
        live, stained = Signal(name="row_live"), Signal(name="row_stained")
        m.d.comb += [live.eq(self._of_row(self.live, row)), stained.eq(self._of_row(self.stained, row))]
        self._old = {n: [Signal(g.span, name=f"{n}_row_{w}") for w in range(g.ways)] for n in ("valid", "dirty", "fresh")}
        for w in range(g.ways):
            for name in ("valid", "dirty", "fresh"):
                m.submodules[f"{name}_{w}"] = getattr(self, name)[w]
                m.d.comb += self._reads[name][w].addr.eq(row)
            old, dirty = self._old, self._reads["dirty"][w].data
            m.d.comb += [
                old["dirty"][w].eq(Mux(stained, dirty, 0)),
                old["valid"][w].eq(Mux(live, self._reads["valid"][w].data, old["dirty"][w])),
                old["fresh"][w].eq(self._reads["fresh"][w].data),
            ]
        return tuple(
            Cat(bits.bit_select(index[: g.span_bits], 1) if g.span_bits else bits[0] for bits in self._old[n])
            for n in ("valid", "dirty", "fresh")
        )

    def row_of(self, index: Value) -> Value:
        return index[self.g.span_bits :]

    def scan(self, m: Module, number: int, row: Value) -> list[Value]:
        """Per way, the dirty bits of a row, in the same cycle. ``number``: which of the ``scans`` read ports."""
        stained = self._of_row(self.stained, row)
        ports = self._scans[number]
        for port in ports:
            m.d.comb += port.addr.eq(row)
        return [Mux(stained, port.data, 0) for port in ports]

    def change(
        self, m: Module, *, index: Value, enable: Value, ways: Value, valid, dirty, fresh, flash, flash_keeps_dirty
    ) -> None:
        """With ``enable`` the lines of ``ways`` (a mask) in the set that is being looked up take ``valid dirty fresh``.

        ``flash``: every line becomes invalid, but for dirty ones with ``flash_keeps_dirty``; not together with ``enable``.
        """
        g = self.g
        row, low = self.row_of(index), index[: g.span_bits]
        new_dirty = []
        for name, value in (("valid", valid), ("dirty", dirty), ("fresh", fresh)):
            for w in range(g.ways):
                new = Signal(g.span, name=f"new_{name}_{w}")
                for k in range(g.span):
                    mine = ways[w] & ((low == k) if g.span_bits else 1)
                    m.d.comb += new[k].eq(Mux(mine, value, self._old[name][w][k]))
                port = self._writes[name][w]
                m.d.comb += [port.addr.eq(row), port.data.eq(new), port.en.eq(enable)]
                if name == "dirty":
                    new_dirty.append(new)
        any_dirty = Signal(name="row_becomes_stained")
        m.d.comb += any_dirty.eq(Cat(*new_dirty).any())
        with m.If(flash):
            m.d.sync += self.live.eq(0)
            with m.If(~flash_keeps_dirty):
                m.d.sync += self.stained.eq(0)
        for r in range(g.state_rows):
            with m.If(enable & ((row == r) if g.state_rows > 1 else 1)):
                m.d.sync += [self.live[r].eq(1), self.stained[r].eq(any_dirty)]
