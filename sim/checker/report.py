# SPDX-License-Identifier: BSD-2-Clause
"""Findings as short text."""

from collections.abc import Iterable

from .findings import Finding
from .rules import SOURCES

__all__ = ["render", "render_all"]


def _bytes(finding: Finding) -> str:
    if not finding.ranges:
        return ""
    total = sum(length for _, length in finding.ranges)
    first, (last, length) = finding.ranges[0][0], finding.ranges[-1]
    text = f"{total} byte{'s' if total != 1 else ''} in {first:#010x}..{last + length - 1:#010x}"
    if finding.lines:
        text += f", {len(finding.lines)} line{'s' if len(finding.lines) != 1 else ''} from {finding.lines[0]:#010x}"
    return text


def render(finding: Finding) -> str:
    """One finding on a few lines, no trailing newline."""
    role = "root" if finding.root else f"follows from {finding.cause}"
    head = f"{finding.rule} {finding.severity.value} ({role}, {finding.party.value}), cycle {finding.cycle}: {finding.title}"
    rows = [("what", finding.detail), ("bytes", _bytes(finding))]
    rows += [("first" if n == 0 else "then", str(access)) for n, access in enumerate(finding.accesses)]
    rows += [("cache", finding.cache), ("memory", finding.memory), ("proof", finding.evidence), ("missing", finding.missing)]
    rows += [("rule", "; ".join(f"{source} ({SOURCES[source]})" for source in finding.sources))]
    return "\n".join([head, *(f"  {name:<8}{text}" for name, text in rows if text)])


def render_all(findings: Iterable[Finding]) -> str:
    """Roots first, each followed by its consequences; ``"no findings"`` if there are none."""
    findings = list(findings)
    if not findings:
        return "no findings"
    out = []
    for number, finding in enumerate(findings):
        if finding.root:
            out.append(render(finding))
            out += ["\n".join("    " + row for row in render(f).splitlines()) for f in findings if f.cause_index == number]
    return "\n".join(out)
