# SPDX-License-Identifier: BSD-2-Clause
"""Progress and tables for the terminal; plain lines where there is none."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from ..scenarios.model import split_platform
from .result import Result

__all__ = ["Progress", "print_results"]

_PLAIN_SECONDS = 5.0
_STYLES = {"ok": "green", "UNEXPECTED": "red", "HARDWARE": "bold red", "ERROR": "red"}


def console() -> Console:
    """Standard output; as wide as the table where it is not a terminal (a log wraps better than it truncates)."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=200)


class Progress:
    """A watcher (:class:`sim.runner.Watcher`) that shows how far the run is: a bar, or a line every few seconds."""

    def __init__(self, out: Console):
        self._out = out
        self._bar: Bar | None = None
        self._task = None
        self._lock = threading.Lock()
        self._done = self._failed = self._total = 0
        self._last = self._start = time.monotonic()

    def building(self, text: str) -> None:
        self._out.print(escape(text))

    def started(self, total: int) -> None:
        self._total, self._start = total, time.monotonic()
        self._last = self._start
        self._out.print(f"running {total} scenario{'s' if total != 1 else ''}")
        if self._out.is_terminal and total > 1:
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self._bar = Bar(*columns, console=self._out, transient=True)
            self._task = self._bar.add_task("scenarios", total=total)
            self._bar.start()

    def finished(self, result: Result) -> None:
        with self._lock:
            self._done += 1
            self._failed += not result.passed
            failed = f", {self._failed} failed" if self._failed else ""
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done, description=f"scenarios{failed}")
            if not result.passed:
                self._out.print(f"[red]{result.verdict}[/] {escape(result.name)}")
            elif self._bar is None and time.monotonic() - self._last > _PLAIN_SECONDS:
                self._last = time.monotonic()
                self._out.print(f"{self._done} of {self._total} done{failed} after {self._last - self._start:.0f} s")

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _findings(result: Result) -> str:
    if not result.findings:
        return "-"
    shown = []
    for finding in result.findings:
        text = finding["rule"]
        if not finding.get("root", True):
            text = f"({text})"
        if text not in shown:
            shown.append(text)
    return " ".join(sorted(shown, key=lambda text: (text.startswith("("), text)))


def table(results: Sequence[Result]) -> Table:
    """One row per run. Findings in parentheses are consequences of the others."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title, options in (
        ("scenario", {"overflow": "fold"}),
        ("flush discipline", {"overflow": "fold"}),
        ("platform", {"no_wrap": True}),
        ("expectation", {"overflow": "fold"}),
        ("what happened", {"overflow": "fold"}),
        ("findings", {"overflow": "fold"}),
        ("cycles", {"justify": "right"}),
        ("ms", {"justify": "right"}),
        ("", {"no_wrap": True}),
    ):
        grid.add_column(title, **options)
    for result in results:
        variant = "/".join(result.name.split("/")[4:])
        grid.add_row(
            escape("/".join([result.row, result.mode, *([variant] if variant else [])])),
            result.discipline,
            _platform(result.platform),
            escape(result.expectation),
            escape(result.happened),
            _findings(result),
            f"{result.cycles}",
            f"{result.seconds * 1000:.0f}",
            f"[{_STYLES[result.verdict]}]{result.verdict}[/]",
        )
    return grid


def _platform(name: str) -> str:
    platform, faults = split_platform(name)
    return f"{platform}, faulty" if faults else platform


def _failures(out: Console, results: Sequence[Result], reproduce: Mapping[str, str]) -> None:
    failed = [result for result in results if not result.passed]
    if not failed:
        return
    out.print(f"\n[bold red]{len(failed)} failed[/]")
    for result in failed:
        out.print(f"\n[red]{result.verdict}[/] {escape(result.name)} (seed {result.seed})")
        for line in result.reasons:
            out.print(f"  {escape(line)}")
        if result.record:
            out.print(f"  record: {escape(result.record)}")
        out.print(f"  again:  {escape(reproduce[result.name])}", soft_wrap=True)


def _costs(out: Console, results: Sequence[Result]) -> None:
    """What the flush routines cost, by platform: bus accesses and cycles per call."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("cost of", "platform", "calls", "bus accesses per call", "cycles per call"):
        grid.add_column(title, justify="left" if title in ("cost of", "platform") else "right")
    total: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        # A HAL that was told the wrong platform is an experiment of its own, not what this platform costs.
        told = result.name.rpartition("/")[2]
        platform = f"{result.platform}, {told}" if told.startswith("told-") else result.platform
        for routine, cost in result.costs.items():
            total.setdefault((routine, platform), Counter()).update(cost)
    for (routine, platform), cost in sorted(total.items()):
        calls = cost["calls"]
        grid.add_row(routine, platform, f"{calls}", f"{cost['accesses'] / calls:.1f}", f"{cost['cycles'] / calls:.1f}")
    if total:
        out.print()
        out.print(grid)


def print_results(
    out: Console, results: Sequence[Result], reproduce: Mapping[str, str], *, summary: Sequence[str], full: bool = True
) -> None:
    """The table, the cost of the flushes, the failures with the command that repeats each, the summary."""
    if full:
        out.print(table(results))
    _costs(out, results)
    _failures(out, results, reproduce)
    out.print()
    counts = Counter(result.verdict for result in results)
    intact = sum(1 for result in results if result.passed and not result.corrupted)
    corrupted = sum(1 for result in results if result.passed and result.corrupted)
    line = f"{counts['ok']} of {len(results)} as expected: {intact} intact, {corrupted} corrupted as predicted"
    rest = ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()) if verdict != "ok")
    out.print(f"[bold]{line}[/]" + (f"; [red]{rest}[/]" if rest else ""))
    for text in summary:
        out.print(escape(text))
