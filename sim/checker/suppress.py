# SPDX-License-Identifier: BSD-2-Clause
"""Findings that the driver's author accepts, with a reason, in the driver's source.

A comment on a line of the statement, or on a comment line directly above it::

    # flushpoint: allow R09 -- the tail is padding, nobody reads it
    await adapter.map_transfer(mdl, base, va, length, False)

Several rules are separated by commas. It takes out the findings of these rules that name a line of that statement, and what
follows from them. A comment without a reason takes out nothing and is reported; so is one that no finding needs.
"""

import ast
import enum
import io
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .findings import Finding
from .rules import RULES

__all__ = ["Problem", "ProblemKind", "Suppressed", "apply_suppressions", "merge_problems"]

_FORM = "'# flushpoint: allow Rnn -- reason'"
_COMMENT = re.compile(r"#\s*flushpoint\s*:\s*(.*)$", re.IGNORECASE)
_ALLOW = re.compile(r"allow\s+(?P<rules>[^-\s][^-]*?)\s*(?:--+\s*(?P<reason>.*))?$", re.IGNORECASE)


class ProblemKind(enum.Enum):
    """What is wrong with a suppression."""

    UNUSED = "unused"
    REASON = "no reason"
    FORM = "form"


@dataclass(frozen=True)
class Problem:
    """A suppression that does not do what its author thinks. ``file``, ``line``: where the comment stands."""

    kind: ProblemKind
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}: {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"kind": self.kind.value, "file": self.file, "line": self.line, "text": self.text}


@dataclass(frozen=True)
class Suppressed:
    """A finding that a comment takes out: its place and its reason."""

    finding: Finding
    file: str
    line: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The finding's values, and ``suppressed`` with the comment's."""
        return {**self.finding.to_dict(), "suppressed": {"file": self.file, "line": self.line, "reason": self.reason}}


@dataclass(frozen=True)
class _Comment:
    file: str
    line: int
    rules: tuple[str, ...]
    reason: str
    lines: range  # of the statement it belongs to


def apply_suppressions(
    findings: Iterable[Finding], files: Iterable[str | Path] = (), *, sources: Mapping[str, str] | None = None
) -> tuple[list[Finding], list[Suppressed], list[Problem]]:
    """``(kept, suppressed, problems)``: the findings that remain, those taken out, and comments that are wrong.

    Parameters
    ----------
    findings : of one run, as :func:`check` returns them; ``cause_index`` of the kept ones is that of the new list.
    files : source files that are searched for comments although no finding names them: the driver's own.
    sources : text of files by name, instead of reading them. A file that cannot be read has no comments.
    """
    findings = list(findings)
    texts = dict(sources or {})
    named = [str(file) for file in files]
    named += [access.site[0] for finding in findings for access in finding.accesses if access.site is not None]
    comments: list[_Comment] = []
    problems: list[Problem] = []
    for file in dict.fromkeys(named):
        text = texts.get(file)
        if text is None:
            text = _read(file)
        if text is not None and "flushpoint" in text.lower():
            found, wrong = _comments(file, text)
            comments += found
            problems += wrong
    taken: dict[int, _Comment] = {}
    used: set[_Comment] = set()
    for number, finding in enumerate(findings):
        comment = next((c for c in comments if finding.rule in c.rules and _about(finding, c)), None)
        if comment is not None:
            taken[number] = comment
            used.add(comment)
    for number, finding in enumerate(findings):
        if number not in taken and finding.cause_index is not None and finding.cause_index in taken:
            taken[number] = taken[finding.cause_index]
    for comment in comments:
        if comment not in used:
            text = f"no finding of {', '.join(comment.rules)} here: take the suppression out"
            problems.append(Problem(ProblemKind.UNUSED, comment.file, comment.line, text))
    kept_at = {number: place for place, number in enumerate(n for n in range(len(findings)) if n not in taken)}
    kept = [
        replace(f, cause_index=kept_at.get(f.cause_index)) if f.cause_index is not None else f
        for number, f in enumerate(findings)
        if number not in taken
    ]
    suppressed = [Suppressed(findings[n], c.file, c.line, c.reason) for n, c in sorted(taken.items(), key=lambda item: item[0])]
    return kept, suppressed, sorted(problems, key=lambda p: (p.file, p.line))


def merge_problems(runs: Sequence[Iterable[Problem]]) -> list[Problem]:
    """Problems of several runs of one driver: a suppression is unused only if no run needed it."""
    lists = [list(run) for run in runs]
    out: list[Problem] = []
    for problem in dict.fromkeys(problem for run in lists for problem in run):
        if problem.kind is not ProblemKind.UNUSED or all(problem in run for run in lists):
            out.append(problem)
    return out


def _about(finding: Finding, comment: _Comment) -> bool:
    sites = [access.site for access in finding.accesses if access.site is not None]
    return any(site[0] == comment.file and site[1] in comment.lines for site in sites)


def _read(file: str) -> str | None:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def _comments(file: str, text: str) -> tuple[list[_Comment], list[Problem]]:
    """The file's suppressions, and comments that look like one and are none."""
    found: list[_Comment] = []
    problems: list[Problem] = []
    spans, alone = _statements(text), _comment_lines(text)
    for line, comment in _tokens(text):
        match = _COMMENT.match(comment)
        if match is None:
            continue
        allow = _ALLOW.match(match[1].strip())
        rules = tuple(part.strip().upper() for part in allow["rules"].split(",") if part.strip()) if allow else ()
        unknown = [rule for rule in rules if rule not in RULES]
        if not rules:
            problems.append(Problem(ProblemKind.FORM, file, line, f"a suppression must be {_FORM}, not {comment.strip()!r}"))
        elif unknown:
            known = f"one of {next(iter(RULES))} to {next(reversed(RULES))}"
            problems.append(Problem(ProblemKind.FORM, file, line, f"rule must be {known}, not {unknown[0]!r}"))
        elif not (allow["reason"] or "").strip():
            what = f"a suppression must have a reason: {_FORM}; it takes out nothing"
            problems.append(Problem(ProblemKind.REASON, file, line, what))
        else:
            found.append(_Comment(file, line, rules, allow["reason"].strip(), _lines_of(line, spans, alone)))
    return found, problems


def _tokens(text: str) -> list[tuple[int, str]]:
    """``(line, comment)``; without tokens where the file is no Python, every line with a ``#``."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return [(n, line[line.index("#") :]) for n, line in enumerate(text.splitlines(), 1) if "#" in line]


def _comment_lines(text: str) -> set[int]:
    return {n for n, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("#")}


def _statements(text: str) -> list[range]:
    """Lines of each statement; of one with a body, the lines before the body."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    lines, spans = text.splitlines(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body: list[ast.stmt] = getattr(node, "body", [])
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            while body and last > node.lineno and (not (line := lines[last - 1].strip()) or line.startswith("#")):
                last -= 1  # a comment above the first statement of the body is that statement's
            spans.append(range(node.lineno, last + 1))
    return sorted(spans, key=lambda span: (span.start, -len(span)))


def _lines_of(line: int, spans: list[range], alone: set[int]) -> range:
    """The lines that a comment is about: its statement's, or those of the statement below a block of comment lines."""
    inside = [span for span in spans if line in span]
    if line in alone and not any(span.start < line for span in inside):
        below = line
        while below in alone:
            below += 1
        return next((span for span in reversed(spans) if span.start == below), range(below, below + 1))
    return inside[-1] if inside else range(line, line + 1)
