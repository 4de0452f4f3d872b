# SPDX-License-Identifier: BSD-2-Clause
"""Counters that cost little where only their order matters: rows of a table in turn, and levels kept in unary."""

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value

__all__ = ["Ring", "add_level", "encoded", "at_least"]


def _order(rows: int) -> list[int]:
    """Row numbers in the order in which a :class:`Ring` visits them, from 0."""
    bits = (rows - 1).bit_length()
    if rows & (rows - 1):
        return list(range(rows))
    order, seen = [0], {0}
    while len(order) < rows:
        # A De Bruijn sequence: shift a 1 in wherever that gives a new number. It ends where a 0 leads back to 0.
        shifted = order[-1] << 1 & (rows - 1)
        order.append(shifted | 1 if shifted | 1 not in seen else shifted)
        seen.add(order[-1])
    return order if bits else [0]


class Ring:
    """A pointer that visits the rows of a table in turn: a signal of the owner's module, and what can be asked about it.

    With a power of two of rows it is a shift register whose new bit is one function of the old ones: a single look-up table
    instead of an adder. The order is not that of the numbers, so only rings of the same length can be compared.

    Attributes
    ----------
    row : the row's number. codes : the numbers in their order; the first is 0, where the ring starts.
    """

    def __init__(self, rows: int, *, name: str):
        self.codes = _order(rows)
        self.row = Signal(range(rows), name=name)

    def following(self, steps: int = 1) -> Value:
        """The row after this one, or some ``steps`` after it."""
        rows, bits = len(self.codes), len(self.row)
        follows = dict(zip(self.codes, self.codes[steps:] + self.codes[:steps], strict=True))
        if rows & (rows - 1):
            return Array(Const(follows[n], bits) for n in range(rows))[self.row]
        new = [Const(sum((follows[n] >> bit & 1) << n for n in range(rows)), rows) for bit in range(min(steps, bits))]
        return Cat((table.bit_select(self.row, 1) for table in new), self.row)[:bits]

    def points(self, n: int) -> Value:
        """Is it at the ``n``-th of its rows?"""
        return self.row == self.codes[n]

    def one_hot(self) -> Value:
        """Bit ``n``: :meth:`points` of ``n``."""
        return Cat(self.points(n) for n in range(len(self.codes)))

    def row_of(self, position: Value) -> Value:
        """The row at a position (an unsigned value)."""
        return Array(Const(code, len(self.row)) for code in self.codes)[position]


def add_level(m: Module, level: Signal, up: Value, down: Value) -> None:
    """Makes ``level`` count in unary, bit ``n`` high if it is above ``n``: ``up`` and ``down`` are in ``m``'s next cycle."""
    with m.If(up ^ down):
        m.d.sync += level.eq(Mux(up, Cat(Const(1, 1), level[:-1]), Cat(level[1:], Const(0, 1))))


def at_least(mask: Value, count: int) -> Value:
    """Are at least ``count`` bits of ``mask`` high?"""
    size = len(mask)
    return Const(sum((n.bit_count() >= count) << n for n in range(1 << size)), 1 << size).bit_select(mask, 1)


def encoded(one_hot: Value) -> Value:
    """The number of the bit that is high in ``one_hot`` (0 if none is)."""
    size = len(one_hot)
    bits = (size - 1).bit_length()
    return Cat(Cat(one_hot[n] for n in range(size) if n >> bit & 1).any() for bit in range(bits))
