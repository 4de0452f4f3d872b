# SPDX-License-Identifier: BSD-2-Clause
"""The rows of ``make synth``: which designs, which jobs, what the values are."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.lib import wiring

from rtl.cache.dcache import DCache
from rtl.catalog import blocks
from rtl.config import SocConfig
from rtl.interconnect.crossbar import Crossbar

from ..bench.metrics import SYNTH, Metric, find
from . import tools
from .wrapper import registered, serial

__all__ = ["BlockMap", "Report", "SEEDS", "synthesis"]

SEEDS = (1, 2, 3)
#: What an iCE40 HX8K has.
_HX8K = {"SB_LUT4": 7680, "SB_RAM40_4K": 32}
#: What an LFE5U-85F has.
_LFE5U_85F = {"LUT4": 83640, "DP16KD": 208}
#: Larger blocks are only mapped: a routing run would take many minutes and tell nothing more.
_ROUTED_LUTS = 12000

#: Options of ``synth_ecp5`` by design. ``-nowidelut`` builds no LUTs of 5 to 7 inputs from several LUT4s: the crossbar takes 644
#: LUT4s instead of 889, at 124 MHz instead of 138.
_OPTIONS = {"dcache": "-nowidelut", "xbar": "-nowidelut"}
#: Scripts of abc9 by design, in the place of its own. This one balances for depth before it maps, and counts a wire as 0.9 ns,
#: which is what nextpnr finds on this chip. It is reported what the design is without it, too.
_MAPPING = {"dcache": "+&if -g -K 6;&synch2;&if -W 900;&mfs"}

Progress = Callable[[str], None]


def _dcache() -> wiring.Component:
    """The D-cache of the area row: 4 KiB, 2 ways, 32-byte lines, 32 bits, the SoC's default features."""
    return DCache(config=SocConfig(data_width=32))


def _crossbar() -> wiring.Component:
    return Crossbar(data_width=32, managers=2, id_width=2, targets=[(0x0000_0000, 1 << 31), (0x8000_0000, 1 << 31)])


@dataclass(frozen=True)
class BlockMap:
    """How one block of the catalogue maps on one chip: ``mapped`` says that every cell is one of the chip's."""

    block: str
    chip: str
    mapped: bool
    luts: int
    fits: bool
    mhz: float | None


@dataclass
class Report:
    """All that was found: ``values`` by metric, ``seeds`` (MHz of each seed by design and mapping), ``maps``."""

    values: dict[str, float] = field(default_factory=dict)
    seeds: dict[str, list[float]] = field(default_factory=dict)
    used: dict[str, dict[str, int]] = field(default_factory=dict)
    maps: list[BlockMap] = field(default_factory=list)


def _measure(name: str, make: Callable[[], wiring.Component], pool: ThreadPoolExecutor, report: Report, say: Progress) -> None:
    source = registered(make(), name)

    def place(mapping: str, which: str) -> list[tools.Placed]:
        netlist = pool.submit(tools.synthesise, source, name, "ecp5", _OPTIONS[name], mapping).result()
        say(f"{which}: netlist of {netlist.cells.get('LUT4', 0)} LUT4 cells; placing with seeds {', '.join(map(str, SEEDS))}")
        placed = list(pool.map(lambda seed: tools.route_ecp5(netlist, seed), SEEDS))
        report.seeds[which] = [round(run.mhz, 1) for run in placed]
        say(f"{which}: {placed[0].lut4} LUT4, {', '.join(f'{run.mhz:.1f}' for run in placed)} MHz")
        return placed

    placed = place(_MAPPING.get(name, ""), name)
    report.values[f"fpga.{name}.lut4"] = placed[0].lut4
    report.values[f"fpga.{name}.mhz"] = round(max(run.mhz for run in placed), 1)
    report.used[name] = placed[0].used
    if name in _MAPPING:  # for comparison only
        place("", f"{name}, usual mapping")


def _catalogue() -> dict[str, Callable[[], wiring.Component]]:
    """Every block once: those of the default configuration, and what only a coherent one has."""
    return {**blocks(SocConfig(coherency="snoop")), **blocks(SocConfig())}


def _map(block: str, chip: str, source: str, say: Progress) -> BlockMap:
    top = block.removeprefix("flushpoint_")
    netlist = tools.synthesise(source, top, chip)
    limits = _LFE5U_85F if chip == "ecp5" else _HX8K
    luts = netlist.cells.get("LUT4" if chip == "ecp5" else "SB_LUT4", 0)
    fits = all(netlist.cells.get(kind, 0) <= limit for kind, limit in limits.items())
    mhz = None
    if not netlist.foreign and fits and luts <= _ROUTED_LUTS:
        try:
            placed = tools.route_ecp5(netlist, SEEDS[0]) if chip == "ecp5" else tools.route_ice40(netlist, SEEDS[0])
            mhz = round(placed.mhz, 1)
        except tools.SynthesisError:
            if chip == "ecp5":
                raise
            fits = False  # carry chains and control sets may need more than the LUTs say
    result = BlockMap(block, chip, not netlist.foreign, luts, fits, mhz)
    route = f", {mhz} MHz" if mhz else "" if fits else ", does not fit this chip"
    say(f"{block} on {chip}: {'maps' if result.mapped else f'has {netlist.foreign}'}, {luts} LUT4{route}")
    return result


def synthesis(names: Sequence[str] = (), progress: Progress = lambda text: None) -> tuple[list[Metric], Report]:
    """Measures the rows of :data:`~sim.bench.metrics.SYNTH` that ``names`` selects (all for none).

    Two tools run at a time; what was done before, with the same sources and tools, is not done again.

    Raises
    ------
    ValueError
        If a name is no metric.
    ToolError
        If a tool is not installed.
    SynthesisError
        If a tool fails.
    """
    metrics = find(SYNTH, list(names))
    wanted = {metric.name for metric in metrics}
    tools.check_tools()
    lock = threading.Lock()

    def say(text: str) -> None:
        with lock:
            progress(text)

    report = Report()
    with ThreadPoolExecutor(max_workers=2) as pool:
        for name, make in (("dcache", _dcache), ("xbar", _crossbar)):
            if wanted & {f"fpga.{name}.lut4", f"fpga.{name}.mhz"}:
                _measure(name, make, pool, report, say)
        if "fpga.maps" in wanted:
            jobs = []
            for block, make in _catalogue().items():
                top = block.removeprefix("flushpoint_")
                jobs.append(pool.submit(_map, block, "ecp5", registered(make(), top), say))
                jobs.append(pool.submit(_map, block, "ice40", serial(make(), top), say))
            report.maps = [job.result() for job in jobs]
            count = len(report.maps) / 2
            good = {m.block for m in report.maps} - {m.block for m in report.maps if not m.mapped}
            report.values["fpga.maps"] = len(good) / count
    return metrics, report


def results_file() -> Path:
    """Where the values go."""
    return tools.ROOT / "results.json"
