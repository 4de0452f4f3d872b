# SPDX-License-Identifier: BSD-2-Clause
"""What several commands share: the argument parser, the options of a run, how a run is started and repeated."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..options import OptionError, RunOptions, prepare
from ..report.terminal import Progress
from ..toolchain import SIMULATORS

if TYPE_CHECKING:
    from ..report.result import Result
    from ..runner import RunSummary

__all__ = [
    "CommandFailed",
    "Parser",
    "about",
    "add_run_options",
    "again",
    "prepare_run",
    "simulate",
    "write_results",
]


class CommandFailed(Exception):
    """Something that is not the user's input went wrong; the text says what."""


class Parser(argparse.ArgumentParser):
    """argparse with one line per error."""

    def error(self, message: str) -> None:
        raise OptionError(f"{message} ('flushpoint {self.prog.partition(' ')[2]} --help' shows the usage)".replace("  ", " "))


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of everything that runs scenarios."""
    parser.add_argument("--quick", action="store_true", help="every scenario at its smallest telling size")
    parser.add_argument("--payload", metavar="FILE", help="the bytes to move, 1 byte to 1 MiB (default: docs/scenarios.md)")
    parser.add_argument("--seed", default="1", metavar="N", help="seed of everything random (default 1)")
    parser.add_argument("--sim", dest="simulator", default="verilator", metavar="|".join(SIMULATORS), help="simulator")
    parser.add_argument("--config", metavar="FILE.toml", help="hardware configuration")
    parser.add_argument("--jobs", default="2", metavar="N", help="simulator processes at a time (default 2)")
    parser.add_argument("--results", default="build/sim", metavar="DIR", help="where results go (default build/sim)")


def prepare_run(arguments: argparse.Namespace, names: Sequence[str], **more: Any) -> RunOptions:
    """The checked options of a run."""
    options = ("payload", "config", "seed", "simulator", "quick", "jobs", "results")
    return prepare(names=names, **{name: getattr(arguments, name) for name in options}, **more)


def again(run_options: RunOptions, arguments: argparse.Namespace, name: str) -> str:
    """The command that repeats one scenario of this run."""
    words = ["python", "-m", "sim", "run", name, "--seed", str(run_options.seed), "--keep"]
    for option, value in (("--payload", arguments.payload), ("--config", arguments.config)):
        if value:
            words += [option, value]
    if run_options.simulator != "verilator":
        words += ["--sim", run_options.simulator]
    if run_options.quick:
        words.append("--quick")
    return shlex.join(words)


def simulate(options: RunOptions, out: Console) -> "RunSummary":
    """Runs the scenarios with progress on ``out``."""
    from ..build import BuildError  # these take a while to import, and 'list' should not wait for them
    from ..runner import run

    progress = Progress(out)
    try:
        return run(options, progress)
    except BuildError as error:
        raise CommandFailed(str(error)) from None
    finally:
        progress.close()


def about(options: RunOptions, summary: "RunSummary") -> dict[str, Any]:
    """What a result file says about the run as a whole."""
    return {
        "payload": options.payload_name,
        "payload_bytes": len(options.payload),
        "seed": options.seed,
        "quick": options.quick,
        "simulator": options.simulator,
        "versions": summary.versions,
        "sources": summary.sources,
        "configurations": {name: config.to_dict() for name, config in options.configs.items()},
        "wall_seconds": round(summary.build_seconds + summary.run_seconds, 3),
        "cycles": summary.cycles,
        "cycles_per_second": round(summary.rate),
        "cycles_per_second_waiting": round(summary.idle_rate),
    }


def write_results(
    options: RunOptions, summary: "RunSummary", results: "Sequence[Result]", reproduce: Mapping[str, str]
) -> list[Any]:
    """``results.json`` and ``junit.xml``; returns their paths."""
    from ..report.files import write_json, write_junit

    text = about(options, summary)
    return [
        write_json(options.results / "results.json", results, text),
        write_junit(options.results / "junit.xml", results, text, reproduce),
    ]
