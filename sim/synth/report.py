# SPDX-License-Identifier: BSD-2-Clause
"""Measures, prints progress and tables, writes the results."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..bench.report import number, print_table, write_results
from .run import SEEDS, BlockMap, results_file, synthesis

__all__ = ["run_synth"]


def _maps(maps: Sequence[BlockMap]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("block", "ECP5: maps", "LUT4", "MHz", "iCE40: maps", "LUT4", "MHz (HX8K)"):
        grid.add_column(title, justify="left" if title == "block" else "right")
    for block in dict.fromkeys(entry.block for entry in maps):
        cells = []
        for chip in ("ecp5", "ice40"):
            (entry,) = (entry for entry in maps if entry.block == block and entry.chip == chip)
            speed = number(entry.mhz) if entry.mhz else "not routed" if entry.fits else "too large"
            cells += ["yes" if entry.mapped else "no", number(entry.luts), speed]
        grid.add_row(block, *cells)
    return grid


def run_synth(names: Sequence[str], out: Console) -> int:
    """Measures, prints progress and the table, writes the results; 0 whether or not the goals are met.

    Raises what :func:`sim.synth.run.synthesis` raises.
    """
    start = time.monotonic()

    def say(text: str) -> None:
        out.print(f"[dim]{time.monotonic() - start:5.0f} s[/]  {escape(text)}", soft_wrap=True)

    metrics, report = synthesis(names, say)
    path = write_results(results_file(), metrics, report.values)
    out.print()
    if report.maps:
        out.print(_maps(report.maps))
        out.print()
    print_table(out, metrics, report.values)
    for name, speeds in report.seeds.items():
        out.print(f"{name}: MHz with seeds {SEEDS[0]} to {SEEDS[-1]}: {', '.join(map(number, speeds))}")
    out.print(f"results: {path}")
    return 0
