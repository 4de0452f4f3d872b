# SPDX-License-Identifier: BSD-2-Clause
"""The command line: ``python -m sim`` or ``flushpoint``.

Exit code 0: all is as expected. 1: a scenario is not, or a recorded run has findings. 2: bad input; one line on standard error
names the option, the rule and the value.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rtl.config import ConfigError

from .explain import explain
from .options import OptionError, RunOptions, check_folder, prepare
from .report.terminal import Progress, console, print_results
from .scenarios import UnknownScenario, select
from .toolchain import SIMULATORS, ToolError

if TYPE_CHECKING:
    from .runner import RunSummary

__all__ = ["main"]

_BAD_INPUT = (OptionError, UnknownScenario, ConfigError, ToolError)


class _Failed(Exception):
    """Something that is not the user's input went wrong; the text says what."""


class _Parser(argparse.ArgumentParser):
    """argparse with one line per error."""

    def error(self, message: str) -> None:
        raise OptionError(f"{message} ('flushpoint {self.prog.partition(' ')[2]} --help' shows the usage)".replace("  ", " "))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="flushpoint", description="Cache flushes around DMA and PIO, shown on real hardware description.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    listing = commands.add_parser("list", help="the scenario catalogue")
    listing.add_argument("names", nargs="*", metavar="NAME", help="names, prefixes or patterns (all without)")
    listing.add_argument("--json", action="store_true", help="everything about them, as JSON")

    running = commands.add_parser("run", help="run scenarios")
    running.add_argument(
        "names", nargs="*", metavar="NAME", help="names, prefixes or patterns like 'dma-read/*/no-*' (all without)"
    )
    running.add_argument("--waves", action="store_true", help="record waves (with exactly one scenario)")
    running.add_argument("--keep", action="store_true", help="keep every run's record, not only those of failures")
    _add_run_options(running)

    waving = commands.add_parser("waves", help="run one scenario and write its waves with a GTKWave save file")
    waving.add_argument("name", metavar="NAME")
    waving.add_argument("--open", action="store_true", help="open them in GTKWave")
    _add_run_options(waving)

    explaining = commands.add_parser("explain", help="what happens in a scenario, step by step")
    explaining.add_argument("name", metavar="NAME")

    checking = commands.add_parser("check", help="run the flush checker over a recorded run")
    checking.add_argument("--replay", required=True, metavar="DIR", help="a run's record (see 'run --keep')")
    checking.add_argument("--portable", action="store_true", help="count latent findings too")

    commands.add_parser("rules", help="the flush checker's rules")

    verilog = commands.add_parser("verilog", help="write the Verilog of the SoC and of every block")
    verilog.add_argument("--config", metavar="FILE.toml", help="hardware configuration")
    verilog.add_argument("--output", default="build/verilog", metavar="DIR", help="folder (default build/verilog)")
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="every scenario at its smallest telling size")
    parser.add_argument("--payload", metavar="FILE", help="the bytes to move, 1 byte to 1 MiB (default: docs/scenarios.md)")
    parser.add_argument("--seed", default="1", metavar="N", help="seed of everything random (default 1)")
    parser.add_argument("--sim", dest="simulator", default="verilator", metavar="|".join(SIMULATORS), help="simulator")
    parser.add_argument("--config", metavar="FILE.toml", help="hardware configuration")
    parser.add_argument("--jobs", default="2", metavar="N", help="simulator processes at a time (default 2)")
    parser.add_argument("--results", default="build/sim", metavar="DIR", help="where results go (default build/sim)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(arguments)
        return _COMMANDS[options.command](options)
    except _BAD_INPUT as error:
        print(f"flushpoint: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except _Failed as error:
        print(f"flushpoint: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `flushpoint list | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("flushpoint: interrupted", file=sys.stderr)
        return 130


def _list(options: argparse.Namespace) -> int:
    scenarios = select(options.names)
    if options.json:
        print(json.dumps([scenario.to_dict() for scenario in scenarios], indent=1))
    else:
        print("\n".join(scenario.name for scenario in scenarios))
    return 0


def _again(run_options: RunOptions, arguments: argparse.Namespace, name: str) -> str:
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


def _summary(summary: "RunSummary", options: RunOptions) -> list[str]:
    lines = [
        f"{summary.cycles} cycles simulated in {summary.run_seconds:.1f} s "
        f"({summary.rate:,.0f} cycles/s in each simulator process; models built or found in {summary.build_seconds:.1f} s)"
    ]
    if summary.idle_rate:
        lines.append(f"while the DMA ran and the driver waited for its interrupt: {summary.idle_rate:,.0f} cycles/s")
    lines.append(f"payload {options.payload_name} ({len(options.payload)} bytes), seed {options.seed}, {options.simulator}")
    return lines


def _simulate(options: RunOptions, out: Console) -> "RunSummary":
    """Runs the scenarios with progress on ``out``."""
    from .build import BuildError  # these take a while to import, and 'list' should not wait for them
    from .runner import run

    progress = Progress(out)
    try:
        return run(options, progress)
    except BuildError as error:
        raise _Failed(str(error)) from None
    finally:
        progress.close()


def _run(arguments: argparse.Namespace) -> int:
    from .report.files import write_json, write_junit

    options = _prepare(arguments, arguments.names, waves=arguments.waves, keep=arguments.keep)
    out = console()
    summary = _simulate(options, out)
    again = {scenario.name: _again(options, arguments, scenario.name) for scenario in options.scenarios}
    about = {
        "payload": options.payload_name,
        "payload_bytes": len(options.payload),
        "seed": options.seed,
        "quick": options.quick,
        "simulator": options.simulator,
        "versions": summary.versions,
        "configurations": {name: config.to_dict() for name, config in options.configs.items()},
        "wall_seconds": round(summary.build_seconds + summary.run_seconds, 3),
        "cycles": summary.cycles,
        "cycles_per_second": round(summary.rate),
        "cycles_per_second_waiting": round(summary.idle_rate),
    }
    files = [
        write_json(options.results / "results.json", summary.results, about),
        write_junit(options.results / "junit.xml", summary.results, about, again),
    ]
    lines = [*_summary(summary, options), f"results: {', '.join(str(path) for path in files)}"]
    print_results(out, summary.results, again, summary=lines)
    return 0 if summary.passed else 1


def _prepare(arguments: argparse.Namespace, names: Sequence[str], **more: Any) -> RunOptions:
    options = ("payload", "config", "seed", "simulator", "quick", "jobs", "results")
    return prepare(names=names, **{name: getattr(arguments, name) for name in options}, **more)


def _waves(arguments: argparse.Namespace) -> int:
    import shutil
    import subprocess

    gtkwave = shutil.which("gtkwave")
    if arguments.open and gtkwave is None:
        raise OptionError("gtkwave must be on PATH for --open: install it, on Debian with 'apt-get install gtkwave'")
    options = _prepare(arguments, [arguments.name], waves=True, keep=True)
    out = console()
    (result,) = _simulate(options, out).results
    print_results(out, [result], {result.name: _again(options, arguments, result.name)}, summary=[])
    if not result.record:
        return 1
    from .waves.collect import collect_waves

    dump, save = collect_waves(result, options)
    if dump.suffix == ".vcd":
        out.print(
            "waves are a VCD: with the headers of lz4 and zlib (Debian: liblz4-dev zlib1g-dev) they would be a much smaller FST"
        )
    out.print(f"waves: {dump}", soft_wrap=True, markup=False)
    out.print(f"open them with: gtkwave {shlex.quote(str(save))}", soft_wrap=True, markup=False)
    if arguments.open:
        subprocess.Popen([gtkwave, str(save)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return 0 if result.passed else 1


def _explain(options: argparse.Namespace) -> int:
    scenarios = select([options.name])
    if len(scenarios) > 1:
        near = ", ".join(scenario.name for scenario in scenarios[:3])
        raise UnknownScenario(f"scenario must be one name, not {options.name!r}: {len(scenarios)} match ({near}, ...)")
    console().print(explain(scenarios[0]), markup=False, soft_wrap=True)
    return 0


def _check(options: argparse.Namespace) -> int:
    from . import checker
    from .record import RecordError

    if not Path(options.replay).is_dir():
        raise OptionError(f"replay must be a folder with a run's record, not {options.replay!r}")
    try:
        findings = checker.check_directory(options.replay)
    except RecordError as error:
        raise OptionError(str(error)) from None
    print(checker.render_all(findings) if findings else "no findings")
    counted = [f for f in findings if f.corrupts or (options.portable and f.severity is checker.Severity.LATENT)]
    return 1 if counted else 0


def _rules(options: argparse.Namespace) -> int:
    from rich.table import Table

    from .checker import RULES

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("rule", "kind", "reported when", "what to do", "pages"):
        grid.add_column(title, overflow="fold", no_wrap=title in ("rule", "kind"))
    for rule in RULES.values():
        if rule.checked:
            grid.add_row(rule.id, rule.kind, rule.title, rule.fix, " ".join(rule.sources))
    console().print(grid)
    return 0


def _verilog(options: argparse.Namespace) -> int:
    from rtl.config import SocConfig

    from .verilog import export_verilog

    config = SocConfig.from_toml(options.config) if options.config else SocConfig()
    folder = check_folder("output", options.output)
    for path in export_verilog(config, folder):
        print(path)
    return 0


_COMMANDS = {
    "list": _list,
    "run": _run,
    "explain": _explain,
    "check": _check,
    "rules": _rules,
    "verilog": _verilog,
    "waves": _waves,
}
