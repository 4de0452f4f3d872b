# SPDX-License-Identifier: BSD-2-Clause
"""One-hot selects, as trees of gates."""

from amaranth import Cat, Value

__all__ = ["lowest"]


def lowest(bits: Value) -> Value:
    """The lowest bit that is set, alone (0 if none is).

    Written out bit by bit: ``bits & -bits`` says the same, but a subtraction becomes a carry chain, which for a few bits costs
    more than these gates and is slower to enter and to leave.
    """
    return Cat(bits[n] & ~bits[:n].any() if n else bits[0] for n in range(len(bits)))
