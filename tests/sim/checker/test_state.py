# SPDX-License-Identifier: BSD-2-Clause
"""Byte ranges, masks and newest values against naive models."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sim.checker.state import Bytes, clip, intersect, line_masks, mask_ranges, merge, subtract

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=5)


def as_set(ranges):
    return {a + n for a, length in ranges for n in range(length)}


@given(RANGES, RANGES)
def test_ranges(left, right):
    assert as_set(merge(left)) == as_set(left)
    assert as_set(intersect(left, right)) == as_set(left) & as_set(right)
    assert as_set(subtract(left, right)) == as_set(left) - as_set(right)
    merged = merge(left)
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(merged))


@given(RANGES, st.integers(0, 50), st.integers(0, 50))
def test_clip(ranges, offset, length):
    flat = [a + n for a, size in ranges for n in range(size)]
    assert [a + n for a, size in clip(ranges, offset, length) for n in range(size)] == flat[offset : offset + length]


@given(RANGES)
def test_line_masks(ranges):
    masks = line_masks(ranges, 16)
    assert {line + n for line, mask in masks.items() for n in range(16) if mask >> n & 1} == as_set(ranges)
    assert as_set([pair for line, mask in masks.items() for pair in mask_ranges(line, mask)]) == as_set(ranges)


@given(st.lists(st.tuples(st.sampled_from((0, 8)), st.integers(0, 255), st.binary(min_size=8, max_size=8)), max_size=6))
def test_newest(writes):
    newest, model = Bytes(8), {}
    for address, strobes, data in writes:
        newest.put(address, strobes, int.from_bytes(data, "little"))
        model.update({address + n: data[n] for n in range(8) if strobes >> n & 1})
    for address in (0, 8):
        wrong = newest.differing(address, 0xFF, 0)
        assert wrong == sum(1 << n for n in range(8) if model.get(address + n, 0))
        assert [newest.value(address, n) for n in range(8)] == [model.get(address + n) for n in range(8)]
