# SPDX-License-Identifier: BSD-2-Clause
"""``explain``: what happens in a scenario, step by step."""

import argparse
from typing import Any

from ..explain import explain
from ..report.terminal import console
from ..scenarios import UnknownScenario, select

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("explain", help="what happens in a scenario, step by step")
    parser.add_argument("name", metavar="NAME")


def run(arguments: argparse.Namespace) -> int:
    """Prints the story."""
    scenarios = select([arguments.name])
    if len(scenarios) > 1:
        near = ", ".join(scenario.name for scenario in scenarios[:3])
        raise UnknownScenario(f"scenario must be one name, not {arguments.name!r}: {len(scenarios)} match ({near}, ...)")
    out = console()
    out.print(explain(scenarios[0], width=out.width), markup=False, soft_wrap=True)
    return 0
