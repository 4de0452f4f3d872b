# SPDX-License-Identifier: BSD-2-Clause
"""The command line: ``python -m sim`` or ``flushpoint``. The commands are in :mod:`sim.commands`, one module each.

Exit code 0: all is as expected. 1: a scenario is not, or a driver or a recorded run has findings. 2: bad input; one line on
standard error names the option, the rule and the value.
"""

import argparse
import sys
from collections.abc import Sequence

from rtl.config import ConfigError

from .commands import bench, check, explaining, listing, new_driver, rules, running, synth, verilog, waves
from .commands.common import CommandFailed, Parser
from .options import OptionError
from .scenarios import UnknownScenario
from .toolchain import ToolError
from .userdriver.source import DriverFileError

__all__ = ["main"]

_BAD_INPUT = (OptionError, UnknownScenario, ConfigError, DriverFileError, ToolError)

_COMMANDS = {
    "list": listing,
    "run": running,
    "waves": waves,
    "explain": explaining,
    "check": check,
    "new-driver": new_driver,
    "rules": rules,
    "verilog": verilog,
    "bench": bench,
    "synth": synth,
}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="flushpoint", description="Cache flushes around DMA and PIO, shown on real hardware description.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for module in _COMMANDS.values():
        module.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(arguments)
        return _COMMANDS[options.command].run(options)
    except _BAD_INPUT as error:
        print(f"flushpoint: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except CommandFailed as error:
        print(f"flushpoint: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `flushpoint list | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("flushpoint: interrupted", file=sys.stderr)
        return 130
