# SPDX-License-Identifier: BSD-2-Clause
"""Addresses of the beats of a burst, shared by every block that splits or serves bursts."""

from amaranth.hdl import Cat, Const, Mux, Value, ValueLike

from .bus import Burst

__all__ = ["next_address", "crosses_window"]

#: No burst crosses a 4 KiB boundary (IHI 0022H.c, A3.4.1), so only these address bits change within one.
_PAGE_BITS = 12


def next_address(addr: ValueLike, size: ValueLike, length: ValueLike, burst: ValueLike) -> Value:
    """The address of the beat after the one at ``addr``, combinational, as wide as ``addr``.

    INCR: the next multiple of the beat size, so only the first beat of a burst can be unaligned. WRAP: the same within the
    aligned block of ``(length + 1) << size`` bytes. FIXED, and the reserved code: ``addr``. A burst that breaks the
    4 KiB rule wraps inside its 4 KiB block.

    Parameters
    ----------
    addr : byte address of the present beat.
    size : log2 of bytes per beat (AxSIZE, 3 bits; 0 to 4 are meaningful).
    length : beats minus one (AxLEN, 8 bits); for WRAP 1, 3, 7 or 15.
    burst : :class:`~rtl.axi.bus.Burst`.
    """
    addr, size, length = Value.cast(addr), Value.cast(size), Value.cast(length)
    burst = Value.cast(burst)
    low_bits = min(_PAGE_BITS, len(addr))
    low = addr[:low_bits]
    step = (Const(1, 8) << size)[:low_bits]
    aligned = (low & ~(step - 1)[:low_bits])[:low_bits]
    upward = (aligned + step)[:low_bits]
    block = (((length[:4] + 1) << size)[:low_bits] - 1)[:low_bits]
    wrapped = ((aligned & ~block) | (upward & block))[:low_bits]
    following = Mux(burst == Burst.INCR.value, upward, Mux(burst == Burst.WRAP.value, wrapped, low))
    return Cat(following[:low_bits], addr[low_bits:])


def crosses_window(addr: ValueLike, size: ValueLike, length: ValueLike, burst: ValueLike, limit: int) -> Value:
    """Whether an INCR burst from ``addr`` touches bytes at or beyond ``limit``, given that ``addr`` itself lies below it.

    WRAP and FIXED bursts stay in the aligned block they begin in, which no window of at least that alignment cuts.

    Parameters
    ----------
    limit : byte address behind the window; up to ``1 << len(addr)``.
    """
    addr, size, length = Value.cast(addr), Value.cast(size), Value.cast(length)
    aligned_beats = (addr >> size)[: len(addr)]
    last_beat = (aligned_beats + length)[: len(addr) + 1]
    last = ((last_beat + 1) << size)[: len(addr) + 1]
    return (Value.cast(burst) == Burst.INCR.value) & (last > limit)
