# SPDX-License-Identifier: BSD-2-Clause
"""The command ``bench``: measures what is asked for, prints the table, writes ``build/bench/results.json`` and the curves."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from .dcache import dcache_rows, maintenance_rows, rate_while_cleaning
from .harness import ROOT
from .interconnect import interconnect_rows
from .metrics import BENCH, find
from .rates import rate_rows
from .report import print_table, write_results
from .system import curve, system_rows

__all__ = ["RESULTS", "measure", "run_bench"]

RESULTS = ROOT / "results.json"

Progress = Callable[[str], None]


def measure(names: set[str], progress: Progress, root: Path = ROOT) -> tuple[dict[str, float], dict[str, dict[int, int]]]:
    """Values of the metrics called ``names`` (and of those measured with them), and the curve's points if it was measured."""
    values: dict[str, float] = {}
    points: dict[str, dict[int, int]] = {}

    def wanted(*prefixes: str) -> bool:
        return any(name.startswith(prefix) for name in names for prefix in prefixes)

    if wanted("dcache."):
        progress("D-cache")
        values |= dcache_rows()
    if wanted("maint."):
        progress("maintenance")
        values |= {**maintenance_rows(), **rate_while_cleaning()}
    if wanted("xbar."):
        progress("interconnect")
        values |= interconnect_rows()
    if wanted("sys."):
        progress("system")
        points = curve()
        values |= system_rows(points)
    values |= rate_rows(names, progress, root)
    return {name: value for name, value in values.items() if name in names}, points


def run_bench(names: Sequence[str], out: Console) -> int:
    """Measures and prints; 0 whether or not the goals are met.

    Raises
    ------
    ValueError
        If a name is no metric.
    ToolError, BenchError, BuildError, SessionError
        If a program is missing or fails.
    """
    metrics = find(BENCH, list(names))
    start = time.monotonic()

    def say(text: str) -> None:
        out.print(f"[dim]{time.monotonic() - start:5.0f} s[/]  {escape(text)}", soft_wrap=True)

    values, points = measure({metric.name for metric in metrics}, say)
    path = write_results(RESULTS, metrics, values)
    out.print()
    print_table(out, metrics, values)
    out.print(f"results: {path}")
    if points:
        from .plot import draw

        for drawn in draw(points, ROOT):
            out.print(f"curve: {drawn}")
    return 0
