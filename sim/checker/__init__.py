# SPDX-License-Identifier: BSD-2-Clause
"""The flush checker: driver calls, probe events and the platform description in, findings out.

It imports no scenario, no reference model and no simulator. :func:`check` decides by may-state: what some timing of this
driver could do, not what this run's luck did.
"""

from .engine import check
from .findings import Access, Finding, Party, Severity
from .replay import check_directory
from .report import render, render_all, styled, styled_all, summary
from .rules import MAY_CAUSE, RULES, SOURCES, Rule
from .sarif import to_json, to_sarif
from .suppress import Problem, ProblemKind, Suppressed, apply_suppressions, merge_problems

__all__ = [
    "MAY_CAUSE",
    "RULES",
    "SOURCES",
    "Access",
    "Finding",
    "Party",
    "Problem",
    "ProblemKind",
    "Rule",
    "Severity",
    "Suppressed",
    "apply_suppressions",
    "check",
    "check_directory",
    "merge_problems",
    "render",
    "render_all",
    "styled",
    "styled_all",
    "summary",
    "to_json",
    "to_sarif",
]
