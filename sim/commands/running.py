# SPDX-License-Identifier: BSD-2-Clause
"""``run``: runs scenarios and prints what each flush saves."""

import argparse
from typing import TYPE_CHECKING, Any

from ..options import RunOptions
from ..report.terminal import console, print_results
from .common import add_run_options, again, prepare_run, simulate, write_results

if TYPE_CHECKING:
    from ..runner import RunSummary

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("run", help="run scenarios")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="names, prefixes or patterns like 'dma-read/*/no-*' (all without)"
    )
    parser.add_argument("--waves", action="store_true", help="record waves (with exactly one scenario)")
    parser.add_argument("--keep", action="store_true", help="keep every run's record, not only those of failures")
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 if every scenario went as expected, else 1."""
    options = prepare_run(arguments, arguments.names, waves=arguments.waves, keep=arguments.keep)
    out = console()
    summary = simulate(options, out)
    reproduce = {scenario.name: again(options, arguments, scenario.name) for scenario in options.scenarios}
    files = write_results(options, summary, summary.results, reproduce)
    lines = [*_summary(summary, options), f"results: {', '.join(str(path) for path in files)}"]
    print_results(out, summary.results, reproduce, summary=lines)
    return 0 if summary.passed else 1


def _summary(summary: "RunSummary", options: RunOptions) -> list[str]:
    lines = [
        f"{summary.cycles} cycles simulated in {summary.run_seconds:.1f} s "
        f"({summary.rate:,.0f} cycles/s in each simulator process; models built or found in {summary.build_seconds:.1f} s)"
    ]
    if summary.idle_rate:
        lines.append(f"while the DMA ran and the driver waited for its interrupt: {summary.idle_rate:,.0f} cycles/s")
    lines.append(f"payload {options.payload_name} ({len(options.payload)} bytes), seed {options.seed}, {options.simulator}")
    return lines
