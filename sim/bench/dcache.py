# SPDX-License-Identifier: BSD-2-Clause
"""The rows of the D-cache (4 KiB, 2 ways, 32-byte lines, 64 bits) and of the maintenance unit.

One instance each for all rows: the D-cache with its native port, and with its AXI port, both beside the maintenance unit.
The prefetcher is built and off, as after reset.
"""

from collections.abc import Sequence
from functools import cache

from rtl.cache.dcache import DCache
from rtl.cache.maintenance import MaintenanceUnit
from rtl.cache.ports import MaintOp, MaintScope
from rtl.config import SocConfig

from .check import check_data, quotient
from .harness import Harness, Run
from .program import Step, barrier, delay, maintain, read, wait, write

__all__ = ["dcache_rows", "harness", "maintenance_rows", "rate_while_cleaning"]

CONFIG = SocConfig()
BASE, LINE, LINES = CONFIG.memory.base, CONFIG.dcache.line_bytes, CONFIG.dcache.lines
WORD = CONFIG.data_bytes
_LATENCY = 10


@cache
def harness(native: bool) -> Harness:
    """The D-cache and its maintenance unit between one CPU agent and one ideal memory."""
    bench = Harness("dcache_native" if native else "dcache_axi", CONFIG.data_width)
    bench.add("dcache", DCache(config=CONFIG, native=native))
    bench.add("unit", MaintenanceUnit(config=CONFIG))
    bench.join("unit_dcache", "dcache_maint")
    bench.connect("unit_inv_req_ready", "1'b1")
    if native:
        bench.native("dcache_cpu")
    else:
        bench.manager("dcache_s_axi")
    bench.memory("dcache_m_axi")
    bench.maintenance("unit_csr")
    return bench


def _run(cpu: Sequence[Step], maint: Sequence[Step] = (), *, native: bool = True, latency: int = 1) -> Run:
    run = harness(native).run({"cpu0": cpu, "maint": maint}, latency=latency)
    check_data(run, [("c0", cpu)], CONFIG.data_width)
    return run


def _fill(lines: int = LINES, *, dirty: bool = False, start: int = BASE) -> list[Step]:
    """One access to each of some lines in a row, then rest."""
    touch = (lambda at: write(at, seed=3)) if dirty else read
    return [*(touch(start + n * LINE) for n in range(lines)), wait()]


def dcache_rows() -> dict[str, float]:
    """All rows ``dcache.*``."""
    return {**_hits(), **_bursts(), "dcache.miss.overhead": _miss(), **_streams()}


def _hits() -> dict[str, float]:
    """Latency of one hit; 512 hits in a row at the native port, loads and then stores, each over the whole cache."""
    words = [BASE + n * WORD for n in range(LINES * LINE // WORD)]
    run = _run([*_fill(), read(BASE + WORD), wait(), *(read(at) for at in words), wait(), *(write(at, seed=9) for at in words)])
    asked, answered = run.cycles("c0", "AR")[LINES:], run.cycles("c0", "R")[LINES:]
    stores, stored = run.cycles("c0", "AW"), run.cycles("c0", "B")
    return {
        "dcache.hit.latency": answered[0] - asked[0],
        # Words over the cycles from the first request to the last completion.
        "dcache.read.rate": quotient(len(words), answered[-1] - asked[1]),
        "dcache.write.rate": quotient(len(words), stored[-1] - stores[0]),
    }


def _bursts() -> dict[str, float]:
    """Through AXI: one hit; then 32 bursts of 16 beats, reads and then writes, all hits."""
    bursts = [BASE + n * 16 * WORD for n in range(32)]
    program = [*_fill(), read(BASE), wait(), *(read(at, 16) for at in bursts), wait()]
    program += [write(at, 16, seed=7) for at in bursts]
    run = _run(program, native=False)
    asked, answered = run.cycles("c0", "AR")[LINES:], run.cycles("c0", "R")[LINES:]
    data = run.cycles("c0", "W")
    rates = [quotient(len(beats) - 1, beats[-1] - beats[0]) for beats in (answered[1:], data)]
    return {"dcache.axi.hit": answered[0] - asked[0], "dcache.axi.rate": min(rates)}


def _miss() -> float:
    """Cycles of a load that misses beyond the memory's latency: the worst of the words of a line, which is the same for all
    if the critical word comes first. The memory is at rest before each."""
    program = [step for n in range(LINE // WORD) for step in (read(BASE + n * (LINE + WORD)), wait(), delay(4 * LINE))]
    run = _run(program, latency=_LATENCY)
    return max(r - ar for ar, r in zip(run.cycles("c0", "AR"), run.cycles("c0", "R"))) - _LATENCY


def _streams() -> dict[str, float]:
    """128 loads of 128 lines in a row that are all absent: into an empty cache, and into one full of other, dirty lines."""
    run = _run(_fill(), latency=_LATENCY)
    empty = run.cycles("c0", "R")[-1] - run.cycles("c0", "AR")[0]
    run = _run([*_fill(dirty=True), *_fill(start=BASE + LINES * LINE)], latency=_LATENCY)
    dirty = run.cycles("c0", "R")[-1] - run.cycles("c0", "AR")[0]
    return {"dcache.stream.miss": quotient(empty, LINES), "dcache.stream.dirty": quotient(dirty, LINES)}


def _command(prepare: Sequence[Step], command: Step) -> int:
    """Cycles of one maintenance command, from the write strobe of ``cmd`` to ``status.done``, the CPU idle."""
    run = _run([*prepare, barrier(1)], [barrier(1), command])
    (begin,), (end,) = run.cycles("maint", "COMMAND"), run.cycles("maint", "DONE")
    return end - begin


def maintenance_rows() -> dict[str, float]:
    """All rows ``maint.*`` but those of :func:`rate_while_cleaning`; memory latency 1."""
    kib, lines = 1024, 1024 // LINE
    clean, both = MaintOp.CLEAN, MaintOp.CLEAN_INVALIDATE
    everything, area = MaintScope.ALL, MaintScope.RANGE
    dirty = _fill(dirty=True)
    present = _command(_fill(), maintain(both, area, BASE, kib))
    absent = _command(_fill(), maintain(both, area, BASE + 64 * kib, kib))
    return {
        "maint.all.dirty": quotient(_command(dirty, maintain(clean, everything)), LINES),
        "maint.range.dirty": quotient(_command(_fill(lines, dirty=True), maintain(clean, area, BASE, kib)), lines),
        "maint.range.clean": quotient(max(present, absent), lines),
        "maint.range.huge": _command(_fill(), maintain(both, area, BASE, 64 * kib)) - LINES,
        "maint.all.clean": _command(_fill(), maintain(clean, everything)),
        "maint.invalidate.all": _command(dirty, maintain(MaintOp.INVALIDATE, everything)),
    }


def rate_while_cleaning() -> dict[str, float]:
    """Hits per cycle that the CPU gets elsewhere while 32 dirty lines of a range are cleaned, and what that clean costs."""
    lines = 1024 // LINE
    elsewhere = BASE + 2048
    hits = [read(elsewhere + n % 64 * WORD) for n in range(1000)]
    cpu = [*_fill(lines, dirty=True), *_fill(16, start=elsewhere), barrier(1), *hits]
    run = _run(cpu, [barrier(1), maintain(MaintOp.CLEAN, MaintScope.RANGE, BASE, 1024)])
    (begin,), (end,) = run.cycles("maint", "COMMAND"), run.cycles("maint", "DONE")
    served = [cycle for cycle in run.cycles("c0", "R") if begin <= cycle < end]
    if run.cycles("c0", "R")[-1] < end:
        raise AssertionError("the CPU's hits must outlast the clean")
    return {"maint.cpu.rate": quotient(len(served), end - begin), "maint.cpu.clean": quotient(end - begin, lines)}
