# SPDX-License-Identifier: BSD-2-Clause
"""``list``: the scenario catalogue."""

import argparse
import json
from typing import Any

from ..scenarios import select

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("list", help="the scenario catalogue")
    parser.add_argument("names", nargs="*", metavar="NAME", help="names, prefixes or patterns (all without)")
    parser.add_argument("--json", action="store_true", help="everything about them, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints names, one a line, or JSON."""
    scenarios = select(arguments.names)
    if arguments.json:
        print(json.dumps([scenario.to_dict() for scenario in scenarios], indent=1))
    else:
        print("\n".join(scenario.name for scenario in scenarios))
    return 0
