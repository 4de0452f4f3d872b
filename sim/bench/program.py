# SPDX-License-Identifier: BSD-2-Clause
"""What the bench's agents carry out: a list of steps per agent, written as a hexadecimal file that the agent reads at start.

A step is 160 bits: operation (159:152), ID (151:148), kind of burst (146:145), log2 of the beat's bytes (144:142), cacheable
(141), beats less one (135:128), address (127:96), value (95:64), mask (63:32), argument (31:0).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

__all__ = [
    "Op",
    "Step",
    "barrier",
    "delay",
    "interrupt",
    "maintain",
    "pattern",
    "poll",
    "read",
    "store",
    "wait",
    "write",
    "write_program",
]


class Op(IntEnum):
    """Operations; the numbers stand in the agents' Verilog too."""

    END = 0
    READ = 1  # one burst
    WRITE = 2  # one burst of the pattern with seed ``value``
    WAIT = 3  # until every burst of this agent is answered
    BARRIER = 4  # until every agent has reached ``argument`` or its end
    DELAY = 5  # ``argument`` cycles
    POLL = 6  # single reads, one after the other, until the masked value is seen
    STORE = 7  # one beat with ``value`` in each 32-bit lane
    MAINTAIN = 8  # a maintenance command, until it is done
    IRQ = 9  # until an interrupt of ``mask`` is there


@dataclass(frozen=True)
class Step:
    """One step; fields that the operation does not use are ignored."""

    op: Op
    address: int = 0
    value: int = 0
    mask: int = 0
    argument: int = 0
    length: int = 1
    size: int = 3
    burst: int = 1
    id: int = 0
    cached: bool = True

    def word(self) -> int:
        """The step's 160 bits."""
        word = self.op << 152 | self.id << 148 | self.burst << 145 | self.size << 142 | self.cached << 141
        return word | (self.length - 1) << 128 | self.address << 96 | self.value << 64 | self.mask << 32 | self.argument


def read(address: int, length: int = 1, **fields: int) -> Step:
    """A read burst of ``length`` beats; other fields as in :class:`Step`."""
    return Step(Op.READ, address, length=length, **fields)


def write(address: int, length: int = 1, *, seed: int = 0, **fields: int) -> Step:
    """A write burst of ``length`` beats of :func:`pattern` with ``seed``."""
    return Step(Op.WRITE, address, value=seed, length=length, **fields)


def store(address: int, value: int) -> Step:
    """An uncached write of one 32-bit word: a register."""
    return Step(Op.STORE, address, value=value, size=2, cached=False)


def poll(address: int, mask: int, value: int) -> Step:
    """Uncached reads of one 32-bit word until ``word & mask == value``."""
    return Step(Op.POLL, address, value=value, mask=mask, size=2, cached=False)


def wait() -> Step:
    """Until all that this agent asked for is answered."""
    return Step(Op.WAIT)


def barrier(number: int) -> Step:
    """Until all agents have come to this number; numbers rise from 1."""
    return Step(Op.BARRIER, argument=number)


def interrupt(mask: int) -> Step:
    """Until one of these interrupt levels is high."""
    return Step(Op.IRQ, mask=mask)


def delay(cycles: int) -> Step:
    """Nothing for some cycles."""
    return Step(Op.DELAY, argument=cycles)


def maintain(op: int, scope: int, start: int = 0, length: int = 0, target: int = 1) -> Step:
    """A command of the maintenance unit, as its register ``cmd`` has it (``target`` 1: the D-cache)."""
    return Step(Op.MAINTAIN, start, value=op | scope << 2 | target << 4, mask=length)


def pattern(address: int, seed: int = 0) -> int:
    """The 32-bit word at a byte address; memory that nobody wrote holds the words of seed 0."""
    return ((address >> 2) * 0x9E3779B1 & 0xFFFFFFFF) ^ seed


def write_program(path: Path, steps: Sequence[Step]) -> None:
    """The file that an agent reads; an end is added."""
    path.write_text("".join(f"{step.word():040x}\n" for step in (*steps, Step(Op.END))))
