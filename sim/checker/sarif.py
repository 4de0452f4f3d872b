# SPDX-License-Identifier: BSD-2-Clause
"""Findings as SARIF 2.1.0, so that editors and code hosts show them at the driver's line, and as plain JSON.

One run of one tool; every rule of the catalogue is listed with its help. A finding lies at the driver's line of its newest
access, the other accesses are related locations.
"""

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .findings import Access, Finding, Severity
from .rules import RULES, SOURCES, Rule
from .suppress import Problem, Suppressed

__all__ = ["to_json", "to_sarif"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_KINDS = {"C": "cache and bus", "P": "order of calls", "R": "resources", "A": "addresses and sizes"}
_LEVELS = {Severity.SEEN: "error", Severity.POSSIBLE: "error", Severity.WARNING: "warning", Severity.LATENT: "note"}
#: Rule id of suppressions that are wrong.
_SUPPRESSION = "suppression"


def to_json(
    findings: Iterable[Finding], suppressed: Sequence[Suppressed] = (), problems: Sequence[Problem] = ()
) -> dict[str, Any]:
    """``{"findings", "suppressed", "problems", "counts"}``: plain values; ``counts`` are roots by severity."""
    findings = list(findings)
    roots = [finding for finding in findings if finding.root]
    return {
        "findings": [finding.to_dict() for finding in findings],
        "suppressed": [entry.to_dict() for entry in suppressed],
        "problems": [problem.to_dict() for problem in problems],
        "counts": {severity.value: sum(finding.severity is severity for finding in roots) for severity in Severity},
    }


def to_sarif(
    findings: Iterable[Finding],
    suppressed: Sequence[Suppressed] = (),
    problems: Sequence[Problem] = (),
    *,
    root: str | Path | None = None,
    driver: str | Path | None = None,
    properties: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A SARIF log (version 2.1.0) as a dict for ``json.dump``.

    Parameters
    ----------
    findings, suppressed, problems : as :func:`apply_suppressions` returns them; suppressed findings are listed with their reason.
    root : folder that paths are relative to (the repository); None: paths as they are.
    driver : the driver's file, for findings that no line of it caused (R38 at the end of the run).
    properties : whatever else belongs to the run: platform, seed.
    """
    places = _Places(root, driver)
    findings = list(findings)
    prints = _fingerprints([*findings, *(entry.finding for entry in suppressed)], places)
    results = [_result(finding, places, mark) for finding, mark in zip(findings, prints)]
    for result, finding in zip(results, findings):
        if finding.cause_index is not None and 0 <= finding.cause_index < len(findings):
            result["properties"]["causeFingerprint"] = prints[finding.cause_index]
    for entry, mark in zip(suppressed, prints[len(findings) :]):
        result = _result(entry.finding, places, mark)
        result["suppressions"] = [
            {
                "kind": "inSource",
                "status": "accepted",
                "justification": entry.reason,
                "location": {"physicalLocation": places.physical(entry.file, entry.line)},
            }
        ]
        results.append(result)
    rules = [_rule(rule) for rule in RULES.values()]
    if problems:
        rules.append(
            {
                "id": _SUPPRESSION,
                "name": "WrongSuppression",
                "shortDescription": {"text": "a suppression has no reason, no finding, or not the right form"},
                "fullDescription": {"text": "A comment that takes out findings must name rules and a reason, and be needed."},
                "help": {"text": "Write '# flushpoint: allow Rnn -- reason' on or above the line, or take the comment out."},
                "defaultConfiguration": {"level": "warning"},
            }
        )
        results += [_problem(problem, places, len(rules) - 1) for problem in problems]
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "flushpoint", "version": _version(), "semanticVersion": _version(), "rules": rules}},
        "columnKind": "utf16CodeUnits",
        "results": results,
    }
    if root is not None:
        run["originalUriBaseIds"] = {"SRCROOT": {"uri": Path(root).resolve().as_uri() + "/"}}
    if properties:
        run["properties"] = properties
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _version() -> str:
    try:
        return importlib.metadata.version("flushpoint")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0.0.0"


class _Places:
    """Files as SARIF names them."""

    def __init__(self, root: str | Path | None, driver: str | Path | None):
        self.root = None if root is None else Path(root).resolve()
        self.driver = None if driver is None else str(driver)

    def artifact(self, file: str) -> dict[str, Any]:
        path = Path(file)
        if self.root is not None:
            try:
                return {"uri": path.resolve().relative_to(self.root).as_posix(), "uriBaseId": "SRCROOT"}
            except ValueError:
                pass
        return {"uri": path.as_uri() if path.is_absolute() else path.as_posix()}

    def physical(self, file: str, line: int) -> dict[str, Any]:
        place: dict[str, Any] = {"artifactLocation": self.artifact(file)}
        if line > 0:
            place["region"] = {"startLine": line}
        return place

    def of(self, access: Access) -> dict[str, Any] | None:
        """The location of an access, None if no source line made it."""
        if access.site is None or access.site[0] in ("?", ""):
            return None
        file, line, function = access.site
        place: dict[str, Any] = {"physicalLocation": self.physical(file, line)}
        if function and function != "?":
            place["logicalLocations"] = [{"name": function, "kind": "function"}]
        return place


def _rule(rule: Rule) -> dict[str, Any]:
    why = " ".join(f"{source}: {SOURCES[source]}." for source in rule.sources)
    text = f"{rule.title[:1].upper()}{rule.title[1:]}. Fix: {rule.fix}." + (f" {why}" if why else "")
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in _words(rule.title)[:6]),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": text},
        "help": {"text": text, "markdown": f"**{rule.title}**\n\nFix: {rule.fix}.\n\n{why}".rstrip()},
        "defaultConfiguration": {"level": "error"},
        "properties": {"kind": _KINDS[rule.kind], "sources": list(rule.sources), "tags": ["dma", "coherence"]},
    }


def _words(title: str) -> list[str]:
    return ["".join(c for c in word if c.isalnum()) for word in title.replace("-", " ").split() if any(map(str.isalnum, word))]


def _fingerprints(findings: Sequence[Finding], places: _Places) -> list[str]:
    """One per finding: the same for the same rule in the same functions, however the lines around it move."""
    counts: Counter[tuple[str, ...]] = Counter()
    out = []
    for finding in findings:
        parts = [finding.rule, finding.party.value]
        for access in finding.accesses:
            if access.site is not None:
                parts += [places.artifact(access.site[0])["uri"], access.site[2]]
        key = tuple(parts)
        counts[key] += 1
        out.append(hashlib.sha256("\0".join([*key, str(counts[key])]).encode()).hexdigest()[:32])
    return out


def _result(finding: Finding, places: _Places, mark: str) -> dict[str, Any]:
    text = finding.detail + (f". Missing: {finding.missing}" if finding.missing else "")
    if finding.evidence:
        text += f". Proof: {finding.evidence}"
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": _LEVELS[finding.severity],
        "kind": "fail",
        "message": {"text": text},
        "partialFingerprints": {"flushpoint/v1": mark},
        "properties": {
            "severity": finding.severity.value,
            "party": finding.party.value,
            "root": finding.root,
            "cause": finding.cause,
            "cycle": finding.cycle,
            "transfer": finding.transfer,
            "ranges": [list(pair) for pair in finding.ranges],
            "sources": list(finding.sources),
        },
    }
    main = next((a for a in reversed(finding.accesses) if places.of(a) is not None), None)
    if main is not None:
        result["locations"] = [places.of(main)]
    elif places.driver is not None:
        result["locations"] = [{"physicalLocation": places.physical(places.driver, 0)}]
    related = [(access, places.of(access)) for access in finding.accesses if access is not main]
    related_places = [
        {"id": n, "message": {"text": str(access)}, **place} for n, (access, place) in enumerate(related, 1) if place is not None
    ]
    if related_places:
        result["relatedLocations"] = related_places
    return result


def _problem(problem: Problem, places: _Places, index: int) -> dict[str, Any]:
    return {
        "ruleId": _SUPPRESSION,
        "ruleIndex": index,
        "level": "warning",
        "kind": "fail",
        "message": {"text": problem.text},
        "locations": [{"physicalLocation": places.physical(problem.file, problem.line)}],
    }
