# SPDX-License-Identifier: BSD-2-Clause
"""Findings from the recorded files alone: what ``check --replay DIR`` does."""

from pathlib import Path

from sim.record import Run

from .engine import check
from .findings import Finding

__all__ = ["check_directory"]


def check_directory(path: str | Path) -> list[Finding]:
    """Loads a run's directory (``docs/contracts.md``) and checks it.

    Raises
    ------
    RecordError
        If a file is missing or breaks its format; the text names the file, the position and the rule.
    """
    return check(Run.load(path))
