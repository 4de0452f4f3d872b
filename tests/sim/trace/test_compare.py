# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's hardware against the functional model, access by access, on recorded programs."""

from dataclasses import replace

import pytest

import sim.trace.replay as replay
from sim.trace.cli import TRACES
from sim.trace.format import TraceError, beats, read_trace
from sim.trace.matrix import GEOMETRIES, configuration, run_matrix
from sim.trace.replay import Pace, compare

CONFIGS = (
    configuration(16, 4, 32, 64, "plru"),
    configuration(8, 8, 16, 64, "lru"),
    configuration(16, 2, 64, 64, "random"),
    configuration(8, 4, 64, 64, "random").replace(dcache__write_policy="through"),
)
ACCESSES = 3000


def trace(name: str, count: int | None = None):
    return read_trace(TRACES / f"{name}.trace.gz").accesses[:count]


@pytest.fixture(scope="module")
def stream():
    return list(beats(trace("gzip", ACCESSES), CONFIGS[0]))


@pytest.mark.parametrize("pace", Pace)
def test_hits_misses_and_victims_are_the_models(stream, pace):
    """With misses in flight as without: what hits and what is replaced depends on the order of the program alone."""
    results = compare(CONFIGS, stream, pace=pace, latency=7, stall=20 if pace == Pace.MIXED else 0)
    for config, result in zip(CONFIGS, results):
        assert result.differences == (), config.dcache
        assert result.misses > 200
        assert result.writebacks == 0 if config.dcache.write_through else result.writebacks > 20
        assert result.hits + result.misses == result.accesses == len(stream)


@pytest.mark.parametrize(
    "change",
    [{"replacement": "lru"}, {"ways": 2, "sets": 32}, {"replacement_seed": 7}, {"write_policy": "through"}],
)
def test_a_difference_is_seen(stream, change, monkeypatch):
    """The model of another cache does not agree: neither the policy, nor the geometry, nor the seed could be wrong unseen."""
    original = replay.expected
    monkeypatch.setattr(
        replay, "expected", lambda config, beats: original(config.replace(dcache=replace(config.dcache, **change)), beats)
    )
    changed = CONFIGS[2 if "replacement_seed" in change else 0]
    result = dict(zip(CONFIGS, compare(CONFIGS, stream)))[changed]
    text = " ".join(result.differences)
    assert "access" in text and "the model says" in text
    assert "eviction" in text and "counters hits, misses, evictions, writebacks" in text


def test_refuses(stream):
    with pytest.raises(TraceError, match="beats of a replay must be 1 to 120000, not 0"):
        compare(CONFIGS, [])
    with pytest.raises(TraceError, match="must be alike in data_width and memory"):
        compare((*CONFIGS, configuration(16, 4, 32, 32, "plru")), stream)


def test_matrix_has_all_ways_with_all_lines():
    assert {shape[1:3] for shape in GEOMETRIES} >= {(ways, line) for ways in (1, 2, 4, 8) for line in (16, 32, 64, 128)}
    assert {shape[3] for shape in GEOMETRIES} == {32, 64, 128}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gzip", "sort", "python"])
def test_whole_matrix(name):
    """Every policy, geometry and pace on every trace."""
    rows = list(run_matrix(trace(name)))
    assert len(rows) == 3 * sum(1 if shape[1] == 1 else 3 for shape in GEOMETRIES)
    assert [(row.config.dcache, row.pace, row.result.differences) for row in rows if row.result.differences] == []
