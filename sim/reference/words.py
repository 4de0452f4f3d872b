# SPDX-License-Identifier: BSD-2-Clause
"""Bytes as bus beats: the model computes on whole beats (Python integers), which is an order of magnitude faster than bytes."""

import sys
from array import array
from collections.abc import MutableSequence

__all__ = ["StrobeMasks", "lanes", "to_bytes", "to_words"]


def to_words(data: bytes, beat: int) -> MutableSequence[int]:
    """Little-endian beats of ``beat`` bytes (4, 8 or 16); ValueError if ``data`` is not a whole number of them."""
    if len(data) % beat:
        raise ValueError(f"Image must be a multiple of the beat size {beat}, not {len(data)} bytes")
    if beat == 16:
        low_high = to_words(data, 8)
        return [low | high << 64 for low, high in zip(low_high[0::2], low_high[1::2])]
    words = array({4: "I", 8: "Q"}[beat])
    words.frombytes(bytes(data))
    if sys.byteorder == "big":
        words.byteswap()
    return words


def to_bytes(words: MutableSequence[int], beat: int) -> bytes:
    """The inverse of :func:`to_words`, for any sequence of beats."""
    return b"".join([word.to_bytes(beat, "little") for word in words])


class StrobeMasks(dict):
    """Byte strobes to the bit mask of their lanes; computed once per value."""

    def __missing__(self, strobes: int) -> int:
        mask = 0
        for lane in range(strobes.bit_length()):
            if strobes >> lane & 1:
                mask |= 0xFF << 8 * lane
        self[strobes] = mask
        return mask


def lanes(word: int, strobes: int, beat: int) -> str:
    """A beat as hex bytes in address order; lanes without a strobe are shown as ``--``."""
    return " ".join(f"{word >> 8 * n & 0xFF:02x}" if strobes >> n & 1 else "--" for n in range(beat))
