# SPDX-License-Identifier: BSD-2-Clause
"""The memory that every figure of the bench rests on does what its definition says, to the cycle."""

from functools import cache

import pytest

from sim.bench.check import check_data
from sim.bench.harness import BenchError, Harness
from sim.bench.program import barrier, delay, pattern, read, store, wait, write

from .passage import Passage

BASE = 0x1000


@cache
def harness() -> Harness:
    bench = Harness("passage", 64)
    bench.add("wires", Passage())
    bench.manager("wires_s_axi")
    bench.memory("wires_m_axi")
    return bench


def run(program, **options):
    result = harness().run({"cpu0": program}, **options)
    check_data(result, [("c0", program)], 64)
    return result


@pytest.mark.parametrize("latency", [1, 2, 10])
def test_first_beat_after_the_latency_then_one_per_cycle(latency):
    result = run([read(BASE + 128 * n, 16) for n in range(6)], latency=latency)
    asked, beats = result.cycles("c0", "AR"), result.cycles("c0", "R")
    assert asked == list(range(asked[0], asked[0] + 6))  # accepted every cycle
    assert beats == list(range(asked[0] + latency, asked[0] + latency + 96))


def test_sixty_four_addresses_wait_and_no_more():
    result = run([read(BASE + 8 * n) for n in range(70)], latency=200)
    asked, beats = result.cycles("c0", "AR"), result.cycles("c0", "R")
    assert asked[:64] == list(range(asked[0], asked[0] + 64))
    assert asked[64] == beats[0] + 1 == asked[0] + 201  # a place is free in the cycle after the answer
    result = run([write(BASE + 8 * n) for n in range(8)])
    assert result.cycles("c0", "AW") == list(range(result.cycles("c0", "AW")[0], result.cycles("c0", "AW")[0] + 8))


@pytest.mark.parametrize("latency", [1, 10])
def test_writes_one_beat_per_cycle_and_b_one_cycle_after_the_last(latency):
    program = [*(write(BASE + 128 * n, 16, seed=n) for n in range(4)), wait(), *(read(BASE + 8 * n) for n in range(64))]
    result = run(program, latency=latency)
    beats, answers = result.cycles("c0", "W"), result.cycles("c0", "B")
    assert beats == list(range(beats[0], beats[0] + 64))
    assert answers == [cycle + 1 for cycle in beats[15::16]]


def test_reads_and_writes_do_not_wait_for_each_other():
    program = [step for n in range(32) for step in (read(BASE + 256 * n, 2), write(0x8000 + 256 * n, 2))]
    result = run(program)
    assert result.cycles("c0", "AR")[-1] - result.cycles("c0", "AR")[0] == 62
    for kind in ("R", "W"):
        beats = result.cycles("c0", kind)
        assert beats == list(range(beats[0], beats[0] + 64))


def test_every_kind_of_burst():
    program = [write(0x2004, 5, size=2, seed=1), write(0x2101, 3, size=1, seed=2), write(0x2210, 4, burst=2, seed=3)]
    program += [write(0x2300, 4, burst=0, size=2, seed=4), write(0x2403, 2, size=3, seed=5), wait()]
    program += [read(0x2000 + 8 * n) for n in range(160)]
    program += [read(0x2210, 4, burst=2), read(0x2403, 3, size=3), read(0x2101, 9, size=0), read(0x2300, 3, burst=0)]
    run(program)
    run(program, stall=40, back=40)


def test_untouched_memory_holds_the_pattern():
    result = run([read(0x3008)])
    (event,) = result.of("c0", "R")
    assert int(event.fields[1], 16) == pattern(0x3008) | pattern(0x300C) << 32


def test_the_check_sees_a_wrong_byte():
    """What a program writes is not what another one would have read."""
    result = harness().run({"cpu0": [write(BASE, seed=1), wait(), read(BASE)]})
    with pytest.raises(BenchError, match=f"c0 must read .* at {BASE:#x}"):
        check_data(result, [("c0", [write(BASE, seed=2), wait(), read(BASE)])], 64)
    with pytest.raises(BenchError, match="c0 must get beat 2"):
        check_data(result, [("c0", [write(BASE, seed=1), wait(), read(BASE), read(BASE)])], 64)


def test_a_run_that_does_not_end_is_an_error():
    with pytest.raises(BenchError, match="LIMIT"):
        harness().run({"cpu0": [delay(5000)]}, limit=1000)
    with pytest.raises(BenchError, match="LIMIT"):
        harness().run({"cpu0": [store(BASE, 1), barrier(1), read(BASE), delay(100_000)]}, limit=2000)


def test_back_pressure_changes_cycles_and_not_bytes():
    program = [write(BASE + 64 * n, 8, seed=n) for n in range(20)] + [wait()] + [read(BASE + 64 * n, 8) for n in range(20)]
    quick, slow = run(program), run(program, stall=50, back=50)
    assert [e.fields[1] for e in quick.of("c0", "R")] == [e.fields[1] for e in slow.of("c0", "R")]
    assert slow.events[-1].cycle > 2 * quick.events[-1].cycle - 800
    assert run(program, stall=50, back=50).events == slow.events  # the same each time
