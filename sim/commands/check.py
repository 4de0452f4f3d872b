# SPDX-License-Identifier: BSD-2-Clause
"""``check``: runs your own driver and reports every rule it breaks, or checks the record of an earlier run."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from ..options import OptionError
from ..report.terminal import console
from ..toolchain import SIMULATORS
from .common import CommandFailed

__all__ = ["add", "run"]

_PLAIN_SECONDS = 5.0
_ONLY_DRIVER = ("platform", "config", "payload", "seed", "explore", "simulator", "limit", "json", "sarif", "waves", "results")


def add(commands: Any) -> None:
    """Declares the command."""
    from ..userdriver.options import PLATFORMS
    from ..userdriver.run import DEFAULT_LIMIT

    parser = commands.add_parser("check", help="run your own driver, or replay a record, and report every rule it breaks")
    parser.add_argument("driver", nargs="?", metavar="DRIVER.py", help="defines driver_entry, probe or main")
    parser.add_argument("--replay", metavar="DIR", help="instead of a driver: a run's record")
    parser.add_argument(
        "--platform", action="append", metavar="NAME", help=f"{', '.join(PLATFORMS)}; several with commas (default: the driver's)"
    )
    parser.add_argument("--config", metavar="FILE.toml", help="hardware configuration")
    parser.add_argument("--payload", metavar="FILE", help="what the device holds (default: docs/scenarios.md)")
    parser.add_argument("--seed", metavar="N", help="timing of hardware and device; 1 is the calm machine (default 1)")
    parser.add_argument("--explore", metavar="N", help="run N seeds, each another timing")
    parser.add_argument("--sim", dest="simulator", metavar="|".join(SIMULATORS), help="simulator (default verilator)")
    parser.add_argument("--limit", metavar="CYCLES", help=f"a driver that takes longer hangs (default {DEFAULT_LIMIT})")
    parser.add_argument("--portable", action="store_true", help="count latent findings too")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    parser.add_argument("--sarif", metavar="FILE", help="write the findings as SARIF, for editors and code hosts")
    parser.add_argument("--verbose", action="store_true", help="findings, the driver's output and failing seeds in full")
    parser.add_argument("--waves", action="store_true", help="record waves (one run)")
    parser.add_argument("--results", metavar="DIR", help="where records go (default build/check)")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 1 if a root finding is more than a warning, or the driver does not come to its end; else 0."""
    if (arguments.driver is None) == (arguments.replay is None):
        raise OptionError("check must have either a driver or --replay DIR ('flushpoint check --help' shows the usage)")
    if arguments.replay is not None:
        for name in _ONLY_DRIVER:
            if getattr(arguments, name):
                raise OptionError(f"{name} must be given with a driver, not with --replay: a record is checked as it is")
        return _replay(arguments)
    return _driver(arguments)


def _replay(arguments: argparse.Namespace) -> int:
    from .. import checker
    from ..record import RecordError

    if not Path(arguments.replay).is_dir():
        raise OptionError(f"replay must be a folder with a run's record, not {arguments.replay!r}")
    try:
        findings = checker.check_directory(arguments.replay)
    except RecordError as error:
        raise OptionError(str(error)) from None
    console().print(checker.styled_all(findings, verbose=True), soft_wrap=True)
    counted = [f for f in findings if f.corrupts or (arguments.portable and f.severity is checker.Severity.LATENT)]
    return 1 if counted else 0


def _driver(arguments: argparse.Namespace) -> int:
    from ..build import BuildError
    from ..simulator import SessionError
    from ..userdriver.check import check_driver
    from ..userdriver.options import prepare_check
    from ..userdriver.report import document, exit_code, print_check, sarif
    from ..userdriver.source import DriverFileError

    given = {name: getattr(arguments, name) for name in ("seed", "explore", "simulator", "limit", "results")}
    options = prepare_check(
        arguments.driver,
        platforms=arguments.platform,
        config=arguments.config,
        payload=arguments.payload,
        waves=arguments.waves,
        portable=arguments.portable,
        **{name: value for name, value in given.items() if value is not None},
    )
    for name in ("json", "sarif"):
        _check_file(name, getattr(arguments, name))
    out = console()
    progress = _Progress(out)
    try:
        results = check_driver(options, building=progress.building, started=progress.started, finished=progress.finished)
    except (BuildError, SessionError) as error:
        raise CommandFailed(str(error)) from None
    finally:
        progress.close()
    refused = next((run.refused for result in results for run in result.runs if run.refused), "")
    if refused:
        raise DriverFileError(refused)
    print_check(out, options, results, verbose=arguments.verbose)
    if arguments.json:
        _write(arguments.json, json.dumps(document(options, results), indent=1) + "\n")
    if arguments.sarif:
        _write(arguments.sarif, json.dumps(sarif(options, results), indent=1) + "\n")
    return exit_code(results, portable=options.portable)


def _check_file(name: str, path: str | None) -> None:
    if path is None:
        return
    file = Path(path)
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise OptionError(f"{name} must be a file in a folder that exists, not {path!r}")


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"file must be writable, not {path!r}: {error.strerror}") from None


class _Progress:
    """How far an exploration is: a bar on a terminal, else a line every few seconds; nothing for one run."""

    def __init__(self, out: Console):
        self._out = out
        self._total = self._done = 0
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def building(self, text: str) -> None:
        self._out.print(text, markup=False)

    def started(self, total: int) -> None:
        self._start = self._last = time.monotonic()
        if total < 2:
            return
        self._total = total
        self._out.print(f"running {total} times")
        if self._out.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self._bar = Bar(*columns, console=self._out, transient=True)
            self._task = self._bar.add_task("runs", total=total)
            self._bar.start()

    def finished(self, run: Any) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
        elif self._total and time.monotonic() - self._last > _PLAIN_SECONDS:
            self._last = time.monotonic()
            self._out.print(f"{self._done} of {self._total} done after {self._last - self._start:.0f} s")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
