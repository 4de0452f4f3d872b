# SPDX-License-Identifier: BSD-2-Clause
"""``explain`` for an example: the story of its module, what must come of it, and the broken driver beside the corrected one."""

import difflib
import textwrap
from collections.abc import Iterator, Sequence

from .scenarios.examples import DriverScenario, examples, source_of, story_of
from .scenarios.model import split_platform

__all__ = ["explain_example"]

_STYLES = {"wdk": "WDK", "linux": "Linux DMA API", "bare": "bare metal"}
_NARROW = 100  # columns below which two drivers do not fit side by side


def _wrap(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent)


def _expected(scenario: DriverScenario) -> Iterator[str]:
    expect = scenario.expect
    if expect.ending != "returned":
        yield f"The driver {expect.ending}."
    if expect.corrupts:
        yield "Bytes go wrong in this run."
    elif expect.corrupts is not None:
        yield "Every byte is right" + (" in this run: luck." if expect.roots else ".")
    if not expect.roots:
        yield "The flush checker has nothing to say."


def _surroundings(scenario: DriverScenario) -> Iterator[str]:
    """What is not as a run has it by default."""
    expect = scenario.expect
    if expect.faults:
        yield f"  faults of the hardware: {', '.join(sorted(expect.faults))}"
    told = ", ".join(f"{name}={value}" for name, value in {**expect.beliefs, **expect.hal}.items())
    if told:
        yield f"  the HAL is told: {told}"
    if not expect.speculates:
        yield "  the CPU fetches nothing ahead"


def _siblings(scenario: DriverScenario) -> dict[str, DriverScenario]:
    mine = (scenario.family, scenario.subject)
    return {each.variant: each for each in examples().values() if (each.family, each.subject) == mine}


def explain_example(scenario: DriverScenario, *, width: int = 160) -> str:
    """The whole explanation as text; the drivers stand side by side if ``width`` columns are enough, else as a difference."""
    from .checker import RULES, SOURCES

    title, *story = story_of(scenario)
    lines = [
        scenario.name,
        "",
        *_wrap(title),
        f"  {_STYLES[scenario.style]} driver, {split_platform(scenario.platform)[0]} platform",
    ]
    lines.append(f"  timing: {scenario.expect.timing.describe()}")
    lines += _surroundings(scenario)
    for paragraph in story:
        head, colon, rest = paragraph.partition(": ")
        if colon and head in ("Mechanism", "Fix"):
            lines += ["", head, *_wrap(rest[:1].upper() + rest[1:])]
        else:
            lines += ["", *_wrap(paragraph)]
    lines += ["", "What comes out", *(f"  {text}" for text in _expected(scenario))]
    if scenario.roots:
        lines += ["", f"What the flush checker says ({scenario.expect.severity})"]
        for number in sorted(scenario.roots):
            rule = RULES[number]
            advice = f" What to do: {rule.fix}." if scenario.style == "wdk" else ""  # the calls are the WDK's
            lines += _wrap(f"{number}: {rule.title}.{advice}")
        for number in sorted(scenario.expect.consequences):
            lines += _wrap(f"{number} follows from it: {RULES[number].title}.")
    if scenario.source:
        lines += ["", "The pages' rules"]
        for source in scenario.source:
            lines += _wrap(f"{source}: {SOURCES[source]}.")
    lines += ["", *_drivers(scenario, width)]
    others = [each.name for each in _siblings(scenario).values() if each.name != scenario.name]
    lines += ["", f"Run it: python -m sim run {scenario.name}", f"With:   {', '.join(others)}"]
    return "\n".join(lines)


def _drivers(scenario: DriverScenario, width: int) -> list[str]:
    shared = _shared(scenario)
    wrong, right = source_of(scenario, "broken"), source_of(scenario, "fixed")
    where = f"({scenario.module.replace('.', '/')}.py)"
    if width < _NARROW:
        diff = difflib.unified_diff(wrong, right, "broken", "fixed", n=100, lineterm="")
        text = [f"The drivers {where}", "", *(f"  {line}" for line in diff)]
    else:
        half = min(78, (width - 3) // 2)
        text = [f"The drivers, broken and fixed {where}", "", *side_by_side(wrong, right, half)]
    return [*text, *(["", "Both use", "", *(f"  {line}" for line in shared)] if shared else [])]


def _shared(scenario: DriverScenario) -> list[str]:
    """The module's other coroutines that the drivers call, without docstrings' weight: as they stand."""
    import importlib
    import inspect

    module = importlib.import_module(scenario.module)
    used = "\n".join(source_of(scenario, "broken") + source_of(scenario, "fixed"))
    lines: list[str] = []
    for name, value in vars(module).items():
        own = inspect.isfunction(value) and value.__module__ == module.__name__ and name not in ("broken", "fixed", "lucky")
        if own and f"{name}(" in used:
            lines += [*inspect.getsource(value).rstrip().splitlines(), ""]
    return lines[:-1]


def side_by_side(left: Sequence[str], right: Sequence[str], half: int) -> list[str]:
    """Two texts in columns of ``half`` characters; ``|`` marks lines that differ, ``<`` and ``>`` lines that one side lacks."""
    rows: list[str] = []

    def add(a: str | None, mark: str, b: str | None) -> None:
        one = textwrap.wrap(a, half, subsequent_indent="    ", drop_whitespace=False) if a else [""]
        two = textwrap.wrap(b, half, subsequent_indent="    ", drop_whitespace=False) if b else [""]
        for n in range(max(len(one), len(two))):
            x, y = one[n] if n < len(one) else "", two[n] if n < len(two) else ""
            rows.append(f"{x:<{half}} {mark} {y}".rstrip())

    for op, a0, a1, b0, b1 in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for n in range(max(a1 - a0, b1 - b0)):
            a = left[a0 + n] if a0 + n < a1 else None
            b = right[b0 + n] if b0 + n < b1 else None
            mark = " " if op == "equal" else "|" if a is not None and b is not None else "<" if b is None else ">"
            add(a, mark, b)
    return rows
