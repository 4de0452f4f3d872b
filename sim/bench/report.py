# SPDX-License-Identifier: BSD-2-Clause
"""Measured values as a table and as ``results.json``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .metrics import Metric

__all__ = ["number", "print_table", "write_results"]


def number(value: float) -> str:
    """At most three decimals, thousands apart: exact values keep all their digits."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}".rstrip("0")


def write_results(path: Path, metrics: Sequence[Metric], values: Mapping[str, float]) -> Path:
    """A list of ``{"metric", "value", "unit", "goal", "met"}``: ``goal`` null where a value is only published.

    Rows of an earlier run that were not measured this time are kept, so that one metric can be repeated alone.
    """
    kept = {}
    if path.exists():
        kept = {row["metric"]: row for row in json.loads(path.read_text())}
    for metric in metrics:
        if metric.name in values:
            value = values[metric.name]
            kept[metric.name] = {
                "metric": metric.name,
                "value": value,
                "unit": metric.unit,
                "goal": metric.goal or None,
                "met": metric.met(value),
            }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
    part.replace(path)
    return path


def print_table(out: Console, metrics: Sequence[Metric], values: Mapping[str, float]) -> None:
    """Metric, ours, floor, best open core, goal, met or not."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("block", "left"),
        ("what", "left"),
        ("metric", "left"),
        ("ours", "right"),
        ("unit", "left"),
        ("floor", "left"),
        ("best open core", "left"),
        ("goal", "left"),
        ("", "left"),
    ):
        grid.add_column(title, justify=justify, overflow="fold", no_wrap=title in ("metric", "ours", "goal", ""))
    for metric in metrics:
        if metric.name not in values:
            continue
        met = metric.met(values[metric.name])
        verdict = "" if met is None else "[green]met[/]" if met else "[red]missed[/]"
        cells = (metric.block, metric.text, metric.name, number(values[metric.name]), metric.unit)
        cells += (metric.floor or "-", metric.peer or "-", metric.goal or "publish")
        grid.add_row(*map(escape, cells), verdict)
    out.print(grid)
