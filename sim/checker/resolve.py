# SPDX-License-Identifier: BSD-2-Clause
"""From drafts to findings: roots, consequences, severities, parties."""

from collections.abc import Iterable
from typing import Any

from .drafts import Draft
from .findings import Finding, Party, Severity
from .rules import MAY_CAUSE, RULES
from .state import mask_ranges, merge

__all__ = ["resolve"]


_ORDER = {rule: n for n, rule in enumerate(MAY_CAUSE)}


def _parent(draft: Draft, drafts: list[Draft]) -> Draft | None:
    """The finding that explains this one: by the may-cause table, about the same thing; earlier rows of the table win."""
    best: Draft | None = None
    for other in drafts:
        if (
            other is not draft
            and draft.rule in MAY_CAUSE.get(other.rule, ())
            and other.rule not in draft.never
            and draft.subjects & other.subjects
            and (best is None or (_ORDER[other.rule], other.cycle) < (_ORDER[best.rule], best.cycle))
        ):
            best = other
    return best


def _root(draft: Draft, parents: dict[int, Draft | None]) -> Draft:
    seen = {id(draft)}
    while (parent := parents[id(draft)]) is not None and id(parent) not in seen:
        seen.add(id(parent))
        draft = parent
    return draft


def _break_circles(drafts: list[Draft], parents: dict[int, Draft | None]) -> None:
    """Where findings explain each other (over several transfers of one mapping), the oldest is the root."""
    for draft in drafts:
        walked: list[Draft] = []
        at: Draft | None = draft
        while at is not None and all(at is not other for other in walked):
            walked.append(at)
            at = parents[id(at)]
        if at is not None:
            circle = walked[next(n for n, other in enumerate(walked) if other is at) :]
            parents[id(min(circle, key=lambda d: d.cycle))] = None


def resolve(drafts: Iterable[Draft]) -> list[Finding]:
    """Findings in the order in which they happened; a root carries the worst severity of its consequences."""
    drafts = sorted((d for d in drafts if not d.dropped), key=lambda d: (d.cycle, d.rule))
    # Only findings with a common subject can be linked: look them up by subject, not by trying all pairs.
    by_subject: dict[tuple[str, int], list[Draft]] = {}
    for draft in drafts:
        for subject in draft.subjects:
            by_subject.setdefault(subject, []).append(draft)
    parents: dict[int, Draft | None] = {}
    for draft in drafts:
        near = {id(other): other for subject in draft.subjects for other in by_subject[subject]}
        parents[id(draft)] = _parent(draft, list(near.values()))
    _break_circles(drafts, parents)
    # R03 is never a root: a write-back harms only where something else has gone wrong before it.
    drafts = [draft for draft in drafts if draft.rule != "R03" or parents[id(draft)] is not None]
    roots = {id(draft): _root(draft, parents) for draft in drafts}
    for draft in drafts:
        root = roots[id(draft)]
        # A consequence that really harms on a coherent platform (bytes left in the FIFO) also lifts a latent root.
        if not draft.latent and draft.severity.rank > root.severity.rank:
            root.severity = draft.severity
            root.evidence = root.evidence or draft.evidence
    places = {id(draft): n for n, draft in enumerate(drafts)}
    return [_finding(draft, roots[id(draft)], places) for draft in drafts]


def _finding(draft: Draft, root: Draft, places: dict[int, int]) -> Finding:
    rule, is_root = RULES[draft.rule], root is draft
    values: dict[str, Any] = {}
    if not is_root:
        values.update(cause=root.rule, cause_index=places[id(root)])
    ranges = merge([*draft.ranges, *(pair for line, mask in draft.masks.items() for pair in mask_ranges(line, mask))])
    return Finding(
        rule=draft.rule,
        title=rule.title,
        detail=draft.detail,
        severity=Severity.LATENT if draft.latent else draft.severity,
        party=root.party or Party.DRIVER,
        root=is_root,
        cycle=draft.cycle,
        ranges=ranges,
        lines=sorted(draft.masks),
        accesses=draft.accesses,
        cache=draft.cache,
        memory=draft.memory,
        missing=draft.missing,
        sources=list(rule.sources),
        transfer=draft.transfer,
        evidence=draft.evidence,
        **values,
    )
