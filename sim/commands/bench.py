# SPDX-License-Identifier: BSD-2-Clause
"""``bench``: measures each block alone and the whole SoC."""

import argparse
from typing import Any

from ..bench.metrics import BENCH, find
from ..options import OptionError
from ..report.terminal import console
from .common import CommandFailed

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("bench", help="measure each block alone and the whole SoC, and compare with the goals")
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help="names or first words, like 'dcache' (all without)")


def run(arguments: argparse.Namespace) -> int:
    """0 when everything was measured, met or not."""
    try:
        find(BENCH, arguments.metrics)
    except ValueError as error:
        raise OptionError(str(error)) from None
    from ..bench.harness import BenchError  # these take a while to import
    from ..bench.run import run_bench
    from ..build import BuildError
    from ..simulator import SessionError

    try:
        return run_bench(arguments.metrics, console())
    except (BenchError, BuildError, SessionError) as error:
        raise CommandFailed(str(error)) from None
