# SPDX-License-Identifier: BSD-2-Clause
"""A measurement counts only if the bytes are right: compares what an agent read with what its program says."""

from collections.abc import Sequence

from .harness import BenchError, Run
from .program import Op, Step, pattern

__all__ = ["beats", "check_data", "quotient"]


def beats(step: Step) -> list[int]:
    """Byte address of each beat of a burst (IHI 0022H.c, A3.4.1)."""
    unit = 1 << step.size
    aligned, total = step.address & -unit, unit * step.length
    low = step.address & -total
    found = [step.address]
    for n in range(1, step.length):
        at = aligned + n * unit
        found.append(step.address if step.burst == 0 else low | (at & (total - 1)) if step.burst == 2 else at)
    return found


def check_data(run: Run, programs: Sequence[tuple[str, Sequence[Step]]], width: int) -> None:
    """Checks every beat that the agents ``(port, program)`` read, and that every burst was answered without error.

    Agents that write the same bytes must be separated by barriers, and are looked at in the order of the list.

    Raises
    ------
    BenchError
        If a byte, a response or the number of beats is wrong.
    """
    memory: dict[int, int] = {}
    size = width // 8

    def word(address: int) -> int:
        return memory.get(address & -4, pattern(address & -4))

    for port, program in programs:
        answers = run.of(port, "R")
        bursts = [step for step in program if step.op in (Op.READ, Op.WRITE)]
        position = 0
        for step in bursts:
            for address in beats(step):
                lanes = range(address % size, (address | ((1 << step.size) - 1)) % size + 1)
                base = address & -size
                if step.op is Op.WRITE:
                    for lane in lanes:
                        at, shift = (base + lane) & -4, (base + lane) % 4 * 8
                        new = pattern(at, step.value) >> shift & 0xFF
                        memory[at] = word(at) & ~(0xFF << shift) | new << shift
                    continue
                if position >= len(answers):
                    raise BenchError(f"{port} must get beat {position + 1} of its reads, not end before")
                _, data, _last, resp = answers[position].fields
                position += 1
                got, mask = int(data, 16), sum(0xFF << lane * 8 for lane in lanes)
                wanted = sum(word(base + 4 * n) << 32 * n for n in range(size // 4))
                if resp != "0" or (got ^ wanted) & mask:
                    raise BenchError(f"{port} must read {wanted & mask:x} at {address:#x}, not {got & mask:x} (response {resp})")
        if position != len(answers):
            raise BenchError(f"{port} must get {position} beats, not {len(answers)}")
        writes = sum(step.op is Op.WRITE for step in bursts)
        answers = [event.fields[1] for event in run.of(port, "B")]
        if answers.count("0") != len(answers) or len(answers) < writes:
            raise BenchError(f"{port} must get {writes} times OKAY for its writes, not {len(answers)} answers {set(answers)}")


def quotient(value: float, count: float) -> float:
    """A ratio as it is reported: six decimals."""
    return round(value / count, 6)
