# SPDX-License-Identifier: BSD-2-Clause
"""What the flush checker says: one :class:`Finding` per broken rule, transfer and place in the driver."""

import enum
from dataclasses import dataclass, field
from typing import Any

from .rules import RULES

__all__ = ["Access", "Finding", "Party", "Severity", "site_text"]

Site = tuple[str, int, str]


class Severity(enum.Enum):
    """How bad it is. The order of the members is the order of :attr:`rank`.

    ``SEEN``: this run's own bytes prove the corruption. ``POSSIBLE``: another timing of the same driver corrupts.
    ``WARNING``: a rule is broken, yet nothing that this run's driver did before makes harm possible. ``LATENT``: harmless on this
    coherent platform, broken elsewhere.
    """

    SEEN = "corruption seen"
    POSSIBLE = "corruption possible"
    WARNING = "warning"
    LATENT = "latent"

    @property
    def rank(self) -> int:
        """3 for ``SEEN`` down to 0 for ``LATENT``."""
        return _RANK[self]


_RANK = {severity: 3 - n for n, severity in enumerate(Severity)}


class Party(enum.Enum):
    """Whose fault a root is: the driver's, or the interface's (HAL options to the letter, platform flags, hardware faults)."""

    DRIVER = "driver"
    INTERFACE = "interface"


def site_text(site: Site | None) -> str:
    """``file:line`` with the file's name only, ``"?"`` where the line is unknown."""
    if site is None or site[0] == "?":
        return "?"
    return f"{site[0].replace(chr(92), '/').rsplit('/', 1)[-1]}:{site[1]}"


@dataclass(frozen=True)
class Access:
    """One of the two accesses or calls in conflict.

    ``what`` says who did it ("store", "load", "fetch", "DMA transfer 3", "prefetch", "KeFlushIoBuffers"), ``cycle`` when,
    ``site`` the driver's ``(file, line, function)`` or None (DMA, fill, test harness), ``address`` the first byte or None.
    """

    what: str
    cycle: int
    site: Site | None = None
    address: int | None = None

    def __str__(self) -> str:
        place = f" at {site_text(self.site)}" if self.site is not None and self.site[0] != "?" else ""
        where = f" of {self.address:#010x}" if self.address is not None else ""
        return f"{self.what}{where}{place}, cycle {self.cycle}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "cycle": self.cycle,
            "site": None if self.site is None else list(self.site),
            "address": self.address,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Access":
        site = values["site"]
        return cls(values["what"], values["cycle"], None if site is None else tuple(site), values["address"])


@dataclass
class Finding:
    """One broken rule.

    Parameters
    ----------
    rule, title : catalogue entry (``"R02"`` and its one-line text).
    detail : what happened here, one sentence.
    severity, party : see the enumerations.
    root : true for a root; else ``cause`` names the rule of the root, ``cause_index`` its place in the result list.
    ranges : ``[(address, length), ...]`` of the bytes concerned, ascending, merged.
    lines : line addresses touched.
    cycle : when the rule was broken.
    accesses : the two conflicting accesses, older first (one where only one exists).
    cache, memory : what the D-cache and memory held.
    missing : the missing or misplaced call and where it belongs.
    sources : the S rules behind it.
    transfer : number of the DMA transfer concerned, or None.
    evidence : the bytes that prove a seen corruption, or "".
    """

    rule: str
    title: str
    detail: str
    severity: Severity
    party: Party
    root: bool
    cycle: int
    cause: str | None = None
    cause_index: int | None = None
    ranges: list[tuple[int, int]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)
    cache: str = ""
    memory: str = ""
    missing: str = ""
    sources: list[str] = field(default_factory=list)
    transfer: int | None = None
    evidence: str = ""

    @property
    def address(self) -> int | None:
        """First byte concerned, or None."""
        return self.ranges[0][0] if self.ranges else None

    @property
    def site(self) -> Site | None:
        """The driver's line to show in an editor: of the newest access that has one."""
        for access in reversed(self.accesses):
            if access.site is not None and access.site[0] != "?":
                return access.site
        return None

    @property
    def kind(self) -> str:
        """C, P, R or A: the kind of its rule."""
        return RULES[self.rule].kind

    @property
    def corrupts(self) -> bool:
        """Whether this finding says that bytes can go wrong on this platform."""
        return self.severity in (Severity.SEEN, Severity.POSSIBLE)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; :meth:`from_dict` is its inverse."""
        return {
            "rule": self.rule,
            "title": self.title,
            "detail": self.detail,
            "severity": self.severity.value,
            "party": self.party.value,
            "root": self.root,
            "cause": self.cause,
            "cause_index": self.cause_index,
            "cycle": self.cycle,
            "ranges": [list(pair) for pair in self.ranges],
            "lines": list(self.lines),
            "accesses": [access.to_dict() for access in self.accesses],
            "cache": self.cache,
            "memory": self.memory,
            "missing": self.missing,
            "sources": list(self.sources),
            "transfer": self.transfer,
            "evidence": self.evidence,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Finding":
        return cls(
            **{
                **values,
                "severity": Severity(values["severity"]),
                "party": Party(values["party"]),
                "ranges": [(address, length) for address, length in values["ranges"]],
                "accesses": [Access.from_dict(access) for access in values["accesses"]],
            }
        )
