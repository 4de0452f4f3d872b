# SPDX-License-Identifier: BSD-2-Clause
"""The functional cache model: cases worked out by hand, and laws that hold for any trace."""

import random

import pytest

from sim.trace.functional import FunctionalCache, Outcome

LINE = 32


def lines(cache: FunctionalCache, numbers, write=False) -> list[Outcome]:
    """Accesses to lines of set 0, by number."""
    return [cache.access(number * cache.sets * cache.line_bytes, write=write) for number in numbers]


def victims(outcomes, cache) -> list[int | None]:
    size = cache.sets * cache.line_bytes
    return [None if outcome.victim is None else outcome.victim // size for outcome in outcomes if not outcome.hit]


def make(ways, policy, sets=4, **fields) -> FunctionalCache:
    return FunctionalCache(sets=sets, ways=ways, line_bytes=LINE, policy=policy, **fields)


def test_lru_by_hand():
    cache = make(4, "lru")
    outcomes = lines(cache, [0, 1, 2, 3, 0, 4, 1, 5, 0])
    assert [outcome.hit for outcome in outcomes] == [False] * 4 + [True, False, False, False, True]
    assert victims(outcomes, cache) == [None] * 4 + [1, 2, 3]
    assert [outcome.way for outcome in outcomes] == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_plru_by_hand():
    """After 0, 1, 2, 3 the root points left and there at way 0; its fill turns the root right, where way 2 is next."""
    cache = make(4, "plru")
    outcomes = lines(cache, [0, 1, 2, 3, 4, 5, 1, 6])
    assert victims(outcomes, cache) == [None] * 4 + [0, 2, 3]
    assert [outcome.way for outcome in outcomes] == [0, 1, 2, 3, 0, 2, 1, 3]


def test_random_by_hand():
    """Seed 1: fifteen zeros and a one, so the first numbers are the recurrence's first bits; decisions of an empty set count."""
    bits = [0] * 15 + [1]
    while len(bits) < 100:
        bits.append(bits[-16] ^ bits[-14] ^ bits[-13] ^ bits[-11])
    assert bits[16:40] == [0] * 10 + [1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]
    cache = make(4, "random", seed=1)
    outcomes = lines(cache, range(20))
    expected = [bits[15 + 2 * k] | bits[14 + 2 * k] << 1 for k in range(20)]
    assert [outcome.way for outcome in outcomes] == [0, 1, 2, 3, *expected[4:]]


@pytest.mark.parametrize("policy", ["lru", "plru", "random"])
def test_dirty_lines_are_written_back_once(policy):
    cache = make(1, policy)
    assert lines(cache, [0], write=True) == [Outcome(False, 0)]
    assert lines(cache, [1]) == [Outcome(False, 0, 0, True)]
    assert lines(cache, [2]) == [Outcome(False, 0, 4 * LINE, False)]
    assert (cache.hits, cache.misses, cache.evictions, cache.writebacks) == (0, 3, 2, 1)


@pytest.mark.parametrize("policy", ["lru", "plru", "random"])
def test_write_through(policy):
    """A store that misses leaves all as it was, the random policy's sequence too; one that hits counts as a use."""
    cache, other = make(2, policy, write_through=True), make(2, policy)
    assert lines(cache, [0], write=True) == [Outcome(False, None)]
    outcomes = [lines(cache, [n]) for n in (0, 1)] + [lines(cache, [0, 3, 0], write=True)] + [lines(cache, [2, 0])]
    expected = [lines(other, [n]) for n in (0, 1)] + [lines(other, [0, 0])] + [lines(other, [2, 0])]
    assert outcomes[2].pop(1) == Outcome(False, None)
    assert outcomes == expected and not any(outcome.written_back for part in outcomes for outcome in part)
    assert cache.writebacks == 0 and cache.misses == other.misses + 2 and cache.hits == other.hits


def test_other_agents():
    """A line that was cleaned leaves without a write-back; one that was dropped is invalid, and its way is filled first."""
    cache = make(2, "lru")
    lines(cache, [0, 1], write=True)
    cache.clean(0)
    assert lines(cache, [2]) == [Outcome(False, 0, 0, False)]
    cache.drop(4 * LINE)  # line 1
    cache.drop(4 * LINE)
    assert lines(cache, [3]) == [Outcome(False, 1)]
    lines(cache, [2], write=True)
    cache.drop_all(dirty_too=False)
    assert [outcome.hit for outcome in lines(cache, [2, 3])] == [True, False]
    cache.drop_all(dirty_too=True)
    assert lines(cache, [2]) == [Outcome(False, 0)]


def test_sets_do_not_meet():
    cache = make(1, "plru")
    for number in range(4):
        assert not cache.access(number * LINE + 5, write=False).hit
    for number in range(4):
        assert cache.access(number * LINE + LINE - 1, write=False).hit


def stream(seed: int) -> list[tuple[int, bool]]:
    rng = random.Random(seed)
    return [(min(rng.randrange(4096), rng.randrange(4096)), rng.random() < 0.3) for _ in range(3000)]


@pytest.mark.parametrize("seed", range(3))
def test_more_ways_of_lru_never_lose_a_hit(seed):
    """LRU's inclusion: with the same sets, what n ways hold is held by 2n ways too."""
    before: list[bool] = [False] * 3000
    for ways in (1, 2, 4, 8):
        cache = make(ways, "lru", sets=8)
        hits = [cache.access(address, write=write).hit for address, write in stream(seed)]
        assert all(now or not then for then, now in zip(before, hits))
        assert sum(hits) > sum(before)
        before = hits


@pytest.mark.parametrize("seed", range(3))
def test_two_ways_of_plru_are_lru(seed):
    one, other = make(2, "plru"), make(2, "lru")
    for address, write in stream(seed):
        assert one.access(address, write=write) == other.access(address, write=write)


def test_policies_differ_with_more_ways():
    found = {policy: make(4, policy) for policy in ("lru", "plru", "random")}
    for cache in found.values():
        for address, write in stream(1):
            cache.access(address, write=write)
    assert len({cache.hits for cache in found.values()}) == 3


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"policy": "fifo"}, "policy must be one of 'plru', 'lru', 'random', not 'fifo'"),
        ({"sets": 3}, "sets must be a power of two, not 3"),
        ({"ways": 0}, "ways must be a power of two, not 0"),
    ],
)
def test_refuses(fields, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        FunctionalCache(**({"sets": 4, "ways": 2, "line_bytes": 32} | fields))
