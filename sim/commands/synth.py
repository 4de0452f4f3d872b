# SPDX-License-Identifier: BSD-2-Clause
"""``synth``: area and clock of the blocks on FPGAs, with open tools."""

import argparse
from typing import Any

from ..bench.metrics import SYNTH, find
from ..options import OptionError
from ..report.terminal import console
from .common import CommandFailed

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("synth", help="map the blocks on FPGAs with open tools: area and clock")
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help="names or first words, like 'fpga.dcache' (all without)")


def run(arguments: argparse.Namespace) -> int:
    """0 when everything was measured, met or not."""
    try:
        find(SYNTH, arguments.metrics)
    except ValueError as error:
        raise OptionError(str(error)) from None
    from ..synth.report import run_synth  # these take a while to import
    from ..synth.tools import SynthesisError

    try:
        return run_synth(arguments.metrics, console())
    except SynthesisError as error:
        raise CommandFailed(str(error)) from None
