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
    array when no ``stained`` bit is set. A change of a line writes its row, so the rows are read twice: where a set is looked
    up, and where it is changed.
    """

    def __init__(self, g: Geometry):
        self.g = g
        ways, rows = range(g.ways), g.state_rows
        self.valid = [Memory(shape=g.span, depth=rows, init=[]) for _ in ways]
        self.dirty = [Memory(shape=g.span, depth=rows, init=[]) for _ in ways]
        self.fresh = [Memory(shape=g.span, depth=rows, init=[]) for _ in ways]
        self.live, self.stained = Signal(rows, name="live"), Signal(rows, name="stained")
        self._old: dict[str, list[Signal]] = {}

    def _row_of(self, index: Value) -> Value:
        return index[self.g.span_bits :]

    def of_row(self, bits: Signal, row: Value) -> Value:
        """A row's bit of ``live`` or ``stained``."""
        return bits.bit_select(row, 1) if self.g.state_rows > 1 else bits

    def _read(self, m: Module, memory: Memory, row: Value) -> Value:
        port = memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(row)
        return port.data

    def _of_set(self, bits: Value, index: Value) -> Value:
        return bits.bit_select(index[: self.g.span_bits], 1) if self.g.span_bits else bits[0]

    def _read_row_bit(self, m: Module, bits: Signal, name: str, index: Value, before: Value) -> Value:
        """A row's bit of ``bits``, as it was in the cycle before; the last step of the selection is behind the edge."""
        rows = self.g.state_rows
        low = max((rows - 1).bit_length() - 1, 0)
        if rows == 1:
            bit = Signal(name=name)
            m.d.sync += bit.eq(bits)
            return bit
        parts, high = Signal(rows >> low, name=name), self._row_of(before)[low:]
        row = self._row_of(index)
        m.d.sync += [parts[n].eq(bits.word_select(n, 1 << low).bit_select(row[:low], 1)) for n in range(rows >> low)]
        return parts.bit_select(high, 1)

    def lookup(self, m: Module, index: Value, before: Value) -> tuple[Value, Value]:
        """Adds the memories and the lookup of a set; returns its valid and dirty bits, one per way, in the next cycle.

        Parameters
        ----------
        index : the set. before : the set of the cycle before, whose bits are returned.
        """
        g, row = self.g, self._row_of(index)
        live, stained = Signal(name="row_live"), Signal(name="row_stained")
        is_valid, is_dirty = Signal(g.ways, name="is_valid"), Signal(g.ways, name="is_dirty")
        m.d.comb += [
            live.eq(self._read_row_bit(m, self.live, "live_parts", index, before)),
            stained.eq(self._read_row_bit(m, self.stained, "stained_parts", index, before)),
        ]
        self._looked_at = (row, self._row_of(before), live, stained)
        for w in range(g.ways):
            for name in ("valid", "dirty", "fresh"):
                m.submodules[f"{name}_{w}"] = getattr(self, name)[w]
            valid, dirty = (self._of_set(self._read(m, memory[w], row), index) for memory in (self.valid, self.dirty))
            valid_bit, dirty_bit = Signal(name=f"valid_bit_{w}"), Signal(name=f"dirty_bit_{w}")
            m.d.sync += [valid_bit.eq(valid), dirty_bit.eq(dirty)]
            m.d.comb += [is_dirty[w].eq(stained & dirty_bit), is_valid[w].eq(Mux(live, valid_bit, is_dirty[w]))]
        return is_valid, is_dirty

    def fresh_ways(self, m: Module, index: Value) -> Value:
        """The fresh bits of the set that :meth:`change` writes, one per way, in the same cycle. Call it once, before."""
        row = self._row_of(index)
        self._old["fresh"] = [self._read(m, memory, row) for memory in self.fresh]
        return Cat(self._of_set(bits, index) for bits in self._old["fresh"])

    def change(self, m: Module, *, index: Value, ways: Value, valid, dirty, fresh, flash, flash_keeps_dirty) -> None:
        """Changes lines of one set; a lookup sees it in the next cycle. Call it last.

        Parameters
        ----------
        index : the set, which is the ``before`` of :meth:`lookup` in the cycle before.
        ways : the lines, a mask.
        valid, dirty, fresh : for each kind of bit ``(enable, value)``: with ``enable`` the lines take the value. A line that
            is made invalid is made clean too.
        flash : every line becomes invalid, but for dirty ones with ``flash_keeps_dirty``; not together with an ``enable``.
        """
        g, row, low = self.g, self._row_of(index), index[: self.g.span_bits]
        live, stained = Signal(name="old_live"), Signal(name="old_stained")
        here = Signal(g.span, name="place_in_row")
        m.d.comb += here.eq(Cat(low == k for k in range(g.span)) if g.span_bits else 1)
        stains = []
        for w in range(g.ways):
            old_dirty = Signal(g.span, name=f"old_dirty_{w}")
            old_valid = Signal(g.span, name=f"old_valid_{w}")
            m.d.comb += [
                old_dirty.eq(Mux(stained, self._read(m, self.dirty[w], row), 0)),
                old_valid.eq(Mux(live, self._read(m, self.valid[w], row), old_dirty)),
            ]
            mine = Mux(ways[w], here, 0)
            for name, old, (enable, value) in (
                ("valid", old_valid, valid),
                ("dirty", old_dirty, dirty),
                ("fresh", self._old["fresh"][w], fresh),
            ):
                new = Signal(g.span, name=f"new_{name}_{w}")
                port = getattr(self, name)[w].write_port()
                m.d.comb += [
                    # As gates: a multiplexer of what was read would be taken for write enables, with a memory for each bit.
                    new.eq(Cat((mine[k] & value) | (~mine[k] & old[k]) for k in range(g.span))),
                    port.addr.eq(row),
                    port.data.eq(new),
                    port.en.eq(enable),
                ]
                if name == "dirty":
                    stains.append(new)
        any_dirty = Signal(name="row_becomes_stained")
        m.d.comb += any_dirty.eq(Cat(*stains).any())
        # The row is written whether it changes or not: so its number alone decides which flip-flops take a value. Its old bits
        # come with the lookup, unless the row was written beside the lookup (``was_same``) or behind it (``same``).
        new_live, new_stained = Signal(name="new_live"), Signal(name="new_stained")
        row_next, row_before, live_before, stained_before = self._looked_at
        same = Signal(name="third_has_row")
        m.d.comb += same.eq(row == row_before)
        for old, new, looked, gone, name in (
            (live, new_live, live_before, flash, "live"),
            (stained, new_stained, stained_before, flash & ~flash_keeps_dirty, "stained"),
        ):
            was_same, was = Signal(name=f"{name}_was_same"), Signal(name=f"{name}_was")
            m.d.sync += [was_same.eq((row == row_next) | gone), was.eq(new), old.eq(Mux(same, new, Mux(was_same, was, looked)))]
            with m.If(gone):
                m.d.sync += [was.eq(0), old.eq(0)]
        m.d.comb += [new_live.eq(live | valid[0]), new_stained.eq(Mux(dirty[0], any_dirty, stained))]
        for r in range(g.state_rows):
            with m.If((row == r) if g.state_rows > 1 else 1):
                m.d.sync += [self.live[r].eq(new_live), self.stained[r].eq(new_stained)]
        # Written last, these are the flip-flops' own resets.
        with m.If(flash):
            m.d.sync += self.live.eq(0)
        with m.If(flash & ~flash_keeps_dirty):
            m.d.sync += self.stained.eq(0)
