# SPDX-License-Identifier: BSD-2-Clause
"""Scenarios that are drivers of their own: the examples of the rules and of the historical cases.

A module of :mod:`sim.scenarios.rules` or :mod:`sim.scenarios.cases` has coroutines ``broken``, ``fixed`` and, where luck can hide
the fault, ``lucky``; they are written like a user's driver and run by the same code (:mod:`sim.userdriver`). ``EXAMPLE`` says
how each runs and what must come of it; the module's docstring tells the story. docs/scenarios.md shows how to write one.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from types import MappingProxyType, ModuleType
from typing import Any

from rtl.config import FaultConfig

from ..userdriver.source import style_of
from ..userdriver.timing import Timing
from .model import COHERENT, NON_COHERENT, faulty_platform

__all__ = ["FAMILIES", "VARIANTS", "DriverScenario", "Example", "Expect", "covering", "examples", "source_of", "story_of"]

#: First part of the name, and what the family is.
FAMILIES = MappingProxyType({"rules": "the flush checker's rules, one driver each", "cases": "real, historical bugs, rebuilt"})
VARIANTS = ("broken", "fixed", "lucky")
SEVERITIES = ("corruption seen", "corruption possible", "warning", "latent")
ENDINGS = ("returned", "raised", "hangs", "loops")


@dataclass(frozen=True, kw_only=True)
class Expect:
    """How one variant runs, and what must come of it.

    Parameters
    ----------
    roots : the rules of which there must be a root finding; no others.
    consequences : rules of which there must be a finding that follows from a root; there may be more.
    severity : of the worst root; "" for none.
    corrupts : bytes must go wrong (True), must not (False); None: not looked at.
    ending : how the driver's coroutine ends.
    function : name of the coroutine; "" for the variant's own. A lucky run may be the broken driver under another timing.
    coherent : the hardware snoops. faults : that it has, fields of :class:`rtl.config.FaultConfig`; a build of its own.
    architecture : of the Linux interface. speculates : the CPU may prefetch by itself.
    timing : the hardware's free choices. hal, beliefs : fields of :class:`driver.platform.HalOptions` and
        :class:`driver.platform.Platform` that the HAL is told.
    """

    roots: frozenset[str] = frozenset()
    consequences: frozenset[str] = frozenset()
    severity: str = ""
    corrupts: bool | None = False
    ending: str = "returned"
    function: str = ""
    coherent: bool = False
    faults: frozenset[str] = frozenset()
    architecture: str = ""
    speculates: bool = True
    timing: Timing = field(default_factory=Timing)
    hal: Mapping[str, Any] = field(default_factory=dict)
    beliefs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("roots", "consequences", "faults"):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        known = {field.name for field in fields(FaultConfig)}
        if not self.faults <= known:
            raise ValueError(f"Expect.faults must be of {', '.join(sorted(known))}, not {', '.join(sorted(self.faults - known))}")
        if self.severity and self.severity not in SEVERITIES:
            raise ValueError(f"Expect.severity must be one of {', '.join(SEVERITIES)}, not {self.severity!r}")
        if bool(self.roots) != bool(self.severity):
            raise ValueError(f"Expect.severity must be given exactly where there are roots, not {self.severity!r}")
        if self.ending not in ENDINGS:
            raise ValueError(f"Expect.ending must be one of {', '.join(ENDINGS)}, not {self.ending!r}")

    def but(self, **changes: Any) -> "Expect":
        """The same with changes."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Example:
    """What a module's ``EXAMPLE`` is. ``also`` holds further runs by variant name (``"fixed-coherent"``), which name their
    ``function``. ``source`` are the pages' rules (S1..S11) behind it; ``case`` is the public bug that a case rebuilds."""

    broken: Expect
    fixed: Expect = Expect()
    lucky: Expect | None = None
    also: Mapping[str, Expect] = field(default_factory=dict)
    source: tuple[str, ...] = ()
    case: str = ""

    def runs(self) -> Iterator[tuple[str, Expect]]:
        """Variant names with what is expected."""
        yield "broken", self.broken
        yield "fixed", self.fixed
        if self.lucky is not None:
            yield "lucky", self.lucky
        yield from self.also.items()


@dataclass(frozen=True, kw_only=True)
class DriverScenario:
    """One run of an example: what :class:`sim.scenarios.Scenario` is to the tables."""

    name: str
    family: str
    subject: str  # a rule's number, or a case's name
    variant: str
    module: str
    style: str
    expect: Expect
    source: tuple[str, ...] = ()
    summary: str = ""

    @property
    def row(self) -> str:
        return self.family

    @property
    def mode(self) -> str:
        return self.subject

    @property
    def discipline(self) -> str:
        return self.variant

    @property
    def coherent(self) -> bool:
        return self.expect.coherent

    @property
    def platform(self) -> str:
        return faulty_platform(COHERENT if self.expect.coherent else NON_COHERENT, self.expect.faults)

    @property
    def function(self) -> str:
        return self.expect.function or self.variant

    @property
    def target(self) -> str:
        """What :func:`sim.userdriver.source.load_function` loads."""
        return f"{self.module}:{self.function}"

    @property
    def roots(self) -> frozenset[str]:
        return self.expect.roots

    def size_for(self, quick: bool) -> str:
        """A symbolic size, for the balance of the sessions only: an example decides itself how much it moves."""
        return "page"

    def to_dict(self) -> dict[str, Any]:
        """What ``list --json`` shows."""
        expect = self.expect
        return {
            "name": self.name,
            "row": self.family,
            "mode": self.subject,
            "discipline": self.variant,
            "platform": self.platform,
            "driver": self.target,
            "style": self.style,
            "architecture": expect.architecture,
            "timing": expect.timing.to_dict(),
            "hal": dict(expect.hal),
            "beliefs": dict(expect.beliefs),
            "expectation": {"corrupts": expect.corrupts, "severity": expect.severity, "ending": expect.ending},
            "roots": sorted(expect.roots),
            "consequences": sorted(expect.consequences),
            "source": list(self.source),
            "summary": self.summary,
        }


@lru_cache
def examples() -> Mapping[str, DriverScenario]:
    """All examples by name, rules first, in the order of their modules' names."""
    found: dict[str, DriverScenario] = {}
    for family in FAMILIES:
        package = importlib.import_module(f"{__package__}.{family}")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
            if info.name.startswith("_"):
                continue
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            subject = info.name.upper() if family == "rules" else info.name.replace("_", "-")
            for scenario in _of_module(module, family, subject):
                found[scenario.name] = scenario
    return MappingProxyType(found)


def _of_module(module: ModuleType, family: str, subject: str) -> Iterator[DriverScenario]:
    example = getattr(module, "EXAMPLE", None)
    if not isinstance(example, Example):
        raise ValueError(f"{module.__name__} must define EXAMPLE, an Example, not {example!r}")
    summary = (module.__doc__ or "").strip().splitlines()
    for variant, expect in example.runs():
        function = expect.function or variant
        entry = getattr(module, function, None)
        if not inspect.iscoroutinefunction(entry):
            raise ValueError(f"{module.__name__}.{function} must be a coroutine, not {entry!r}")
        yield DriverScenario(
            name=f"{family}/{subject}/{variant}",
            family=family,
            subject=subject,
            variant=variant,
            module=module.__name__,
            style=style_of(entry, f"{module.__name__}.{function}"),
            expect=expect,
            source=example.source,
            summary=summary[0] if summary else "",
        )


def story_of(scenario: DriverScenario) -> list[str]:
    """The paragraphs of the module's docstring, each on one line."""
    text = inspect.getdoc(importlib.import_module(scenario.module)) or ""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def source_of(scenario: DriverScenario, function: str) -> list[str]:
    """The lines of one of the module's coroutines; none if there is no such."""
    entry = getattr(importlib.import_module(scenario.module), function, None)
    return inspect.getsource(entry).rstrip().splitlines() if entry is not None else []


def covering(rule: str, scenarios: Iterable[Any]) -> list[Any]:
    """The scenarios that are about a rule: its own examples, and all that must report it as a root."""
    return [
        scenario
        for scenario in scenarios
        if rule in scenario.roots or (isinstance(scenario, DriverScenario) and scenario.subject == rule)
    ]
