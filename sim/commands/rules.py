# SPDX-License-Identifier: BSD-2-Clause
"""``rules``: the flush checker's rules."""

import argparse
from typing import Any

from ..report.terminal import console

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Declares the command."""
    commands.add_parser("rules", help="the flush checker's rules")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table."""
    from rich.table import Table

    from ..checker import RULES

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("rule", "kind", "reported when", "what to do", "pages"):
        grid.add_column(title, overflow="fold", no_wrap=title in ("rule", "kind"))
    for rule in RULES.values():
        if rule.checked:
            grid.add_row(rule.id, rule.kind, rule.title, rule.fix, " ".join(rule.sources))
    console().print(grid)
    return 0
