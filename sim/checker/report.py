# SPDX-License-Identifier: BSD-2-Clause
"""Findings as text: short, or in full with ``verbose``; plain, or with colours for a terminal.

:func:`render` and :func:`render_all` give plain strings, :func:`styled` and :func:`styled_all` the same characters as
:class:`rich.text.Text`.
"""

from collections.abc import Iterable, Sequence

from rich.text import Text

from .findings import Finding, Party, Severity, site_text
from .rules import SOURCES

__all__ = ["render", "render_all", "styled", "styled_all", "summary"]

_STYLES = {
    Severity.SEEN: "bold red",
    Severity.POSSIBLE: "bold yellow",
    Severity.WARNING: "yellow",
    Severity.LATENT: "cyan",
}
_ROW_STYLES = {"missing": "green", "proof": "red"}


def _bytes(finding: Finding) -> str:
    if not finding.ranges:
        return ""
    total = sum(length for _, length in finding.ranges)
    first, (last, length) = finding.ranges[0][0], finding.ranges[-1]
    text = f"{total} byte{'s' if total != 1 else ''} in {first:#010x}..{last + length - 1:#010x}"
    if finding.lines:
        text += f", {len(finding.lines)} line{'s' if len(finding.lines) != 1 else ''} from {finding.lines[0]:#010x}"
    return text


def _rows(finding: Finding, verbose: bool) -> list[tuple[str, str]]:
    if not verbose:
        return [("what", finding.detail), ("proof", finding.evidence), ("missing", finding.missing)]
    rows = [("what", finding.detail), ("bytes", _bytes(finding))]
    rows += [("first" if n == 0 else "then", str(access)) for n, access in enumerate(finding.accesses)]
    rows += [("cache", finding.cache), ("memory", finding.memory), ("proof", finding.evidence), ("missing", finding.missing)]
    return [*rows, ("rule", "; ".join(f"{source} ({SOURCES[source]})" for source in finding.sources))]


def _head(finding: Finding, verbose: bool) -> tuple[str, str]:
    """What stands before and after the severity."""
    if verbose:
        role = "root" if finding.root else f"follows from {finding.cause}"
        return f"{finding.rule} ", f" ({role}, {finding.party.value}), cycle {finding.cycle}: {finding.title}"
    place = f", {site_text(finding.site)}" if finding.site is not None else ""
    whose = " (interface)" if finding.party is Party.INTERFACE else ""
    role = "" if finding.root else f", follows from {finding.cause}"
    return f"{finding.rule} ", f"{whose}{place}{role}: {finding.title}"


def styled(finding: Finding, *, verbose: bool = False) -> Text:
    """One finding on a few lines, no trailing newline, with colours.

    Short: headline (rule, severity, the driver's line), what happened, the bytes that prove it, the missing call. ``verbose``
    adds role, cycle, bytes, both accesses, what cache and memory held, and the pages' rules.
    """
    before, after = _head(finding, verbose)
    text = Text()
    text.append(before, "bold")
    text.append(finding.severity.value, _STYLES[finding.severity])
    text.append(after)
    for name, value in _rows(finding, verbose):
        if value:
            text.append(f"\n  {name:<8}", "dim")
            text.append(value, _ROW_STYLES.get(name, ""))
    return text


def render(finding: Finding, *, verbose: bool = False) -> str:
    """:func:`styled` as a plain string."""
    return styled(finding, verbose=verbose).plain


def _indented(text: Text) -> Text:
    out = Text()
    for n, line in enumerate(text.split("\n")):
        out.append("\n    " if n else "    ")
        out.append_text(line)
    return out


def styled_all(findings: Iterable[Finding], *, verbose: bool = False) -> Text:
    """Roots first, each followed by its consequences (one line each, in full with ``verbose``); ``"no findings"`` if none."""
    findings = list(findings)
    if not findings:
        return Text("no findings")
    parts: list[Text] = []
    shown: set[int] = set()
    for number, finding in enumerate(findings):
        if not finding.root:
            continue
        parts.append(styled(finding, verbose=verbose))
        shown.add(number)
        for place, other in enumerate(findings):
            if other.cause_index == number and not other.root:
                shown.add(place)
                text = styled(other, verbose=verbose)
                parts.append(_indented(text if verbose else text.split("\n")[0]))
    # consequences whose root is not in this list: it was suppressed, or this is a part of a run's findings
    parts += [styled(finding, verbose=verbose) for number, finding in enumerate(findings) if number not in shown]
    return Text("\n").join(parts)


def render_all(findings: Iterable[Finding], *, verbose: bool = False) -> str:
    """:func:`styled_all` as a plain string."""
    return styled_all(findings, verbose=verbose).plain


def summary(findings: Iterable[Finding], suppressed: Sequence[object] = (), problems: Sequence[object] = ()) -> str:
    """One line: how many roots of which severity, how many findings a comment suppresses, how many such comments are wrong."""
    roots = [finding for finding in findings if finding.root]
    counts = [(severity.value, sum(f.severity is severity for f in roots)) for severity in Severity]
    words = ", ".join(f"{number} {name}" for name, number in counts if number)
    text = f"{len(roots)} root finding{'s' if len(roots) != 1 else ''}" + (f" ({words})" if words else "")
    if suppressed:
        text += f"; {len(suppressed)} suppressed"
    if problems:
        text += f"; {len(problems)} wrong suppression{'s' if len(problems) != 1 else ''}"
    return text
