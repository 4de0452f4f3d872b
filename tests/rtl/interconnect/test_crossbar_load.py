# SPDX-License-Identifier: BSD-2-Clause
"""The exported crossbar under load: random bursts of every kind and random back-pressure, and how long a manager waits."""

import random

import pytest

from sim.bench.check import beats, check_data
from sim.bench.harness import Run
from sim.bench.interconnect import WINDOWS, harness
from sim.bench.program import Op, Step, delay, read, wait, write

MANAGERS = 3
LONGEST = 256
BOUND = MANAGERS * LONGEST
_REGION = 0x1_0000


def _burst(rng: random.Random, start: int, make, **fields) -> Step:
    """A legal burst somewhere in the 64 KiB from ``start``: any kind, size and alignment, inside one 4 KiB block."""
    kind, size = rng.choice((0, 1, 1, 1, 2)), rng.choice((0, 1, 2, 2, 2))
    block = start + rng.randrange(_REGION // 4096) * 4096
    if kind == 2:
        length = rng.choice((2, 4, 8, 16))
        address = rng.randrange(4096 >> size) << size
    else:
        length = rng.choice((1, 1, 2, 3, 7, 16)) if kind == 0 else rng.choice((1, 1, 1, 2, 5, 16, 64, 256))
        address = rng.randrange(4096 - ((length << size) if kind else 0) + 1) & 0xFFF
    return make(block + address, length, size=size, burst=kind, id=rng.randrange(4), **fields)


def _program(number: int, seed: int) -> list[Step]:
    """Reads of what nobody writes, writes, and at last reads of all that was written; regions are the manager's own."""
    rng = random.Random(f"{number} {seed}")
    home = [base + number * 4 * _REGION for base, _ in WINDOWS]
    steps, written = [], []
    for n in range(120):
        target = rng.choice(home)
        if rng.random() < 0.5:
            steps.append(_burst(rng, target, read))
        else:
            # A burst of its own 4 KiB: the order of two writes to one address is not what this test is about.
            step = _burst(rng, target + _REGION, write, seed=n + 1)
            written.append(step)
            steps.append(step)
        if rng.random() < 0.1:
            steps.append(delay(rng.randrange(1, 40)))
    again = [Step(Op.READ, s.address, length=s.length, size=s.size, burst=s.burst, id=s.id) for s in written]
    return [*steps, wait(), *again, wait()]


def _target(address: int) -> int:
    return next(n for n, (base, size) in enumerate(WINDOWS) if base <= address < base + size)


def _waits(run: Run, number: int, program: list[Step], operation: Op) -> list[int]:
    """For each burst of a manager: beats that its target moved for others while this was the manager's oldest burst."""
    asked, own = ("AR", "R") if operation is Op.READ else ("AW", "W")
    bursts = [step for step in program if step.op is operation]
    mine = run.cycles(f"c{number}", own)
    moved = {t: run.cycles(f"m{t}", own) for t in range(len(WINDOWS))}
    found, position, free = [], 0, 0
    for step, cycle in zip(bursts, run.cycles(f"c{number}", asked), strict=True):
        first, last = mine[position], mine[position + step.length - 1]
        since = max(cycle, free)
        found.append(sum(since < moment < first for moment in moved[_target(step.address)]))
        position, free = position + step.length, last
    return found


@pytest.mark.parametrize("latency,stall,back", [(1, 0, 0), (3, 40, 0), (1, 0, 60), (12, 25, 25)])
def test_every_burst_is_answered_right_and_in_time_under_any_back_pressure(latency, stall, back):
    programs = [_program(n, latency) for n in range(MANAGERS)]
    run = harness(MANAGERS).run(
        {f"cpu{n}": program for n, program in enumerate(programs)}, latency=latency, stall=stall, back=back
    )
    for n, program in enumerate(programs):
        check_data(run, [(f"c{n}", program)], 32)
        for operation in (Op.READ, Op.WRITE):
            assert max(_waits(run, n, program, operation)) <= BOUND
    for t in range(len(WINDOWS)):
        for kind in ("AR", "AW"):
            seen = [(int(e.fields[0]) >> 2, int(e.fields[0]) & 3, int(e.fields[1], 16)) for e in run.of(f"m{t}", kind)]
            for n, program in enumerate(programs):
                operation = Op.READ if kind == "AR" else Op.WRITE
                wanted = [(n, s.id, s.address) for s in program if s.op is operation and _target(s.address) == t]
                assert [burst for burst in seen if burst[0] == n] == wanted


@pytest.mark.parametrize("operation,worst", [(Op.READ, 766), (Op.WRITE, 767)])
def test_the_longest_wait_behind_managers_that_never_stop(operation, worst):
    """Managers 0 and 2 ask for the longest bursts without a pause; manager 1 asks just after both have been served."""
    make = read if operation is Op.READ else write
    greedy = [make(0x1000 * n % 0x8000, LONGEST, size=2) for n in range(30)]
    modest = [step for n in range(250, 260) for step in (delay(n), make(0x1_0000 + 64 * n, size=2), wait())]
    programs = [greedy, modest, [Step(s.op, s.address + 0x2_0000, length=s.length, size=2) for s in greedy]]
    run = harness(MANAGERS).run({f"cpu{n}": program for n, program in enumerate(programs)})
    waits = _waits(run, 1, modest, operation)
    assert max(waits) == worst <= BOUND


def test_beats_of_each_kind_of_burst():
    """The check's own arithmetic: IHI 0022H.c, A3.4.1."""
    assert beats(read(0x1002, 3, size=2)) == [0x1002, 0x1004, 0x1008]
    assert beats(read(0x1008, 4, size=2, burst=2)) == [0x1008, 0x100C, 0x1000, 0x1004]
    assert beats(read(0x1003, 2, size=1, burst=0)) == [0x1003, 0x1003]
