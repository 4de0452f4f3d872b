# SPDX-License-Identifier: BSD-2-Clause
"""``verilog``: writes the Verilog of the SoC and of every block."""

import argparse
from typing import Any

from ..options import check_folder

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("verilog", help="write the Verilog of the SoC and of every block")
    parser.add_argument("--config", metavar="FILE.toml", help="hardware configuration")
    parser.add_argument("--output", default="build/verilog", metavar="DIR", help="folder (default build/verilog)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the paths written."""
    from rtl.config import SocConfig

    from ..verilog import export_verilog

    config = SocConfig.from_toml(arguments.config) if arguments.config else SocConfig()
    folder = check_folder("output", arguments.output)
    for path in export_verilog(config, folder):
        print(path)
    return 0
