# SPDX-License-Identifier: BSD-2-Clause
"""Findings in the making: what the rules write and :mod:`.resolve` turns into findings."""

from dataclasses import dataclass, field

from .findings import Access, Party, Severity

__all__ = ["Draft"]


@dataclass(eq=False)
class Draft:
    """A finding in the making.

    ``subjects``: the transfers, PIO reads and flushes it is about. ``never``: rules that are not its cause.
    """

    rule: str
    cycle: int
    severity: Severity
    detail: str
    accesses: list[Access]
    missing: str
    transfer: int | None = None
    party: Party | None = None
    masks: dict[int, int] = field(default_factory=dict)
    subjects: set[tuple[str, int]] = field(default_factory=set)
    never: set[str] = field(default_factory=set)
    latent: bool = False
    cache: str = ""
    memory: str = ""
    evidence: str = ""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    dropped: bool = False

    def see(self, evidence: str) -> None:
        """This run's bytes prove the corruption."""
        if not self.evidence:
            self.evidence = evidence
        self.severity = Severity.SEEN
