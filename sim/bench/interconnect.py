# SPDX-License-Identifier: BSD-2-Clause
"""The rows of the interconnect: a 2x2 crossbar of 32 bits between two agents and two ideal memories."""

from collections.abc import Sequence
from functools import cache

from rtl.interconnect.crossbar import Crossbar

from .check import check_data, quotient
from .harness import Harness, Run
from .program import Step, read

__all__ = ["WINDOWS", "harness", "interconnect_rows", "run_pair"]

WIDTH = 32
WINDOWS = [(0x0000_0000, 1 << 31), (0x8000_0000, 1 << 31)]
_LATENCY = 10
_BEATS = 8192


@cache
def harness(managers: int = 2, width: int = WIDTH, targets: int = 2) -> Harness:
    """A crossbar with an agent at each manager port and an ideal memory at each target port."""
    bench = Harness(f"crossbar_{managers}x{targets}_{width}", width)
    bench.add("xbar", Crossbar(data_width=width, managers=managers, id_width=2, targets=WINDOWS[:targets]))
    for n in range(managers):
        bench.manager(f"xbar_s_axi_{n}")
    for n in range(targets):
        bench.memory(f"xbar_m_axi_{n}")
    return bench


def run_pair(programs: Sequence[Sequence[Step]], *, latency: int = _LATENCY) -> Run:
    """Runs one program per manager on the 2x2 crossbar; the data is checked."""
    run = harness().run({f"cpu{n}": program for n, program in enumerate(programs)}, latency=latency)
    for n, program in enumerate(programs):
        check_data(run, [(f"c{n}", program)], WIDTH)
    return run


def _utilisation(length: int) -> float:
    """Payload beats over the cycles from the first address handshake to the last beat: one manager alone, then both, each to a
    target of its own, then both to one target; the worst of them."""
    size = WIDTH // 8
    worst = 1.0
    for homes in ((0,), (0, 1), (0, 0)):
        programs = []
        for n, home in enumerate(homes):
            start = WINDOWS[home][0] + n * 0x8000
            bursts = range(_BEATS // length // (2 if homes == (0, 0) else 1))
            programs.append([read(start + k * length * size % 0x8000, length, size=2, id=k % 4) for k in bursts])
        run = run_pair(programs)
        for home in set(homes):
            ports = [f"c{n}" for n in range(len(homes)) if homes[n] == home]
            beats = sorted(cycle for port in ports for cycle in run.cycles(port, "R"))
            first = min(run.cycles(port, "AR")[0] for port in ports)
            worst = min(worst, quotient(len(beats), beats[-1] - first))
    return worst


def interconnect_rows() -> dict[str, float]:
    """All rows ``xbar.*``."""
    run = run_pair([[read(WINDOWS[1][0] + 64, size=2)]])
    (asked,), (answered,) = run.cycles("c0", "AR"), run.cycles("c0", "R")
    return {
        "xbar.latency": answered - asked - _LATENCY,
        "xbar.util16": _utilisation(16),
        "xbar.util1": _utilisation(1),
    }
