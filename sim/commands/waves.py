# SPDX-License-Identifier: BSD-2-Clause
"""``waves``: runs one scenario and writes its waves with a GTKWave save file."""

import argparse
import shlex
import shutil
import subprocess
from typing import Any

from ..options import OptionError
from ..report.terminal import console, print_results
from .common import add_run_options, again, prepare_run, simulate

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("waves", help="run one scenario and write its waves with a GTKWave save file")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--open", action="store_true", help="open them in GTKWave")
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 if the scenario went as expected, else 1."""
    gtkwave = shutil.which("gtkwave")
    if arguments.open and gtkwave is None:
        raise OptionError("gtkwave must be on PATH for --open: install it, on Debian with 'apt-get install gtkwave'")
    options = prepare_run(arguments, [arguments.name], waves=True, keep=True)
    out = console()
    (result,) = simulate(options, out).results
    print_results(out, [result], {result.name: again(options, arguments, result.name)}, summary=[])
    if not result.record:
        return 1
    from ..waves.collect import collect_waves

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
