# SPDX-License-Identifier: BSD-2-Clause
"""The rows of the whole SoC: what a device-to-memory transfer costs with all flushes that it owes.

The CPU is an agent that does one register access after the other, each answered before the next, and waits for interrupts by
their level: what the driver of this repository does (bus master, one descriptor), without Python in between. The buffer's lines
are dirty before, as many as the D-cache holds. A run starts with the first flush and ends with the answer to the last access.
"""

from collections.abc import Sequence
from functools import cache

from rtl.config import CSR_BASE, SocConfig
from rtl.pio.table import IRQ, registers
from rtl.soc import Soc

from .check import quotient
from .harness import BenchError, Harness
from .program import Op, Step, interrupt, poll, read, store, wait, write

__all__ = ["METHODS", "SIZES", "curve", "harness", "system_rows", "transfer"]

#: How the flushes are done: one line after the other in software, one command per range, or not at all.
METHODS = ("line loop", "hardware range", "snoop")
SIZES = tuple(64 << n for n in range(11))

_CLEAN_INVALIDATE, _INVALIDATE = 3, 2
_LINE, _RANGE = 0, 1
_BOTH = 3
_DESCRIPTOR = 0x3_0000  # byte offset in memory, behind every buffer
_REGISTERS = {register.full_name: CSR_BASE + register.offset for register in registers()}


def config(coherent: bool) -> SocConfig:
    """The default SoC."""
    return SocConfig(coherency="snoop" if coherent else "none")


@cache
def harness(coherent: bool) -> Harness:
    """The SoC with an agent as its CPU; instruction fetches are idle."""
    soc = config(coherent)
    bench = Harness("soc_snoop" if coherent else "soc", soc.data_width)
    bench.add("soc", Soc(config=soc))
    bench.manager("soc_s_axi_d", f"{{{32 - IRQ.WIDTH}'d0, soc_irq}}")
    return bench


def _set(name: str, value: int) -> list[Step]:
    return [store(_REGISTERS[name], value), wait()]


def _get(name: str) -> list[Step]:
    return [read(_REGISTERS[name], size=2, cached=False), wait()]


def _flush_range(op: int, start: int, length: int) -> list[Step]:
    """As driver/maintenance.py does it."""
    steps = _set("maint.status", 0b1110) + _set("maint.start", start) + _set("maint.length", length)
    steps += _set("maint.cmd", op | _RANGE << 2 | _BOTH << 4)
    return [*steps, interrupt(1 << IRQ.MAINT), *_get("maint.status"), *_set("maint.status", 0b1110)]


def _flush_lines(op: int, start: int, length: int, line: int) -> list[Step]:
    """The shortest loop there is: two stores and one look per line."""
    steps: list[Step] = []
    for address in range(start, start + length, line):
        steps += _set("maint.start", address) + _set("maint.cmd", op | _LINE << 2 | _BOTH << 4)
        steps += [poll(_REGISTERS["maint.status"], 1, 0), wait()]
    return steps


def _dma(start: int, length: int, base: int) -> list[Step]:
    """Descriptor, bus master, device; until the last byte is in the chunk FIFO."""
    steps: list[Step] = []
    for n, word in enumerate((start, length, 1, 0)):
        steps += [store(base + _DESCRIPTOR + 4 * n, word), wait()]
    steps += _get("dev.status") + _set("dev.status", 0b110) + _set("dev.path", 4) + _set("dev.addr", 0)
    steps += _set("dev.length", length) + _set("bm.status", 0b1111) + _set("bm.desc", base + _DESCRIPTOR) + _set("bm.mode", 0)
    steps += _set("bm.ctrl", 1) + _set("dev.cmd", 1)
    return [*steps, interrupt(1 << IRQ.BUS_MASTER), *_get("bm.status"), *_get("bm.bytes_done")]


def _drain() -> list[Step]:
    steps = _set("dma.flush_status", 0b10) + _set("dma.ctrl", 1)
    return [*steps, interrupt(1 << IRQ.FLUSH), *_get("dma.flush_status"), *_set("dma.flush_status", 0b10)]


def transfer(method: str, length: int) -> int:
    """Cycles of a device-to-memory transfer of ``length`` bytes, from the first flush to the end of the last.

    Raises
    ------
    BenchError
        If the CPU does not find the device's bytes in the buffer afterwards.
    """
    soc = config(method == "snoop")
    base, line = soc.memory.base, soc.dcache.line_bytes

    def flush(op: int) -> list[Step]:
        if method == "snoop":
            return []
        if method == "hardware range":
            return _flush_range(op, base, length)
        return _flush_lines(op, base, length, line)

    before = [*_set("sys.irq_enable", (1 << IRQ.WIDTH) - 1), *_set("dev.sizes", 0)]
    beats = min(256, length // soc.data_bytes)
    before += [write(base + at, beats, seed=0x5A5A5A5A) for at in range(0, length, beats * soc.data_bytes)] + [wait()]
    # An uncached read of the identification: its answer is the moment at which the transfer begins.
    before += _get("sys.id")
    steps = [*flush(_CLEAN_INVALIDATE), *_dma(base, length, base), *_drain(), *flush(_INVALIDATE)]
    after = [read(base + at, size=3) for at in range(0, length, soc.data_bytes)]
    run = harness(method == "snoop").run({"cpu0": [*before, *steps, *after]})

    bus = [event for event in run.events if event.port == "c0" and event.kind in ("R", "B")]
    count = len(after)
    # The device's buffer holds zeros after reset.
    if any(int(event.fields[1], 16) for event in bus[-count:]):
        raise BenchError(f"{method}: the buffer must hold the device's bytes after the last flush")
    last = [event for event in bus[:-count] if event.kind in ("R", "B")][-1].cycle
    first_read = sum(1 for step in before if step.op is Op.READ)
    first = run.cycles("c0", "R")[first_read - 1]
    return last - first


def curve(sizes: Sequence[int] = SIZES) -> dict[str, dict[int, int]]:
    """Cycles by method and size."""
    return {method: {size: transfer(method, size) for size in sizes} for method in METHODS}


def system_rows(points: dict[str, dict[int, int]]) -> dict[str, float]:
    """The rows ``sys.*`` from the curve."""
    page = 4096
    return {
        "sys.dma4k.flush": points["hardware range"][page],
        "sys.dma4k.snoop": points["snoop"][page],
        "sys.dma4k.lines": points["line loop"][page],
        "sys.range.speedup": quotient(points["line loop"][page], points["hardware range"][page]),
    }
