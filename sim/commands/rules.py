# SPDX-License-Identifier: BSD-2-Clause
"""``rules``: the flush checker's rules, the scenarios that cover each, and how these went."""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import OptionError, check_folder
from ..report.terminal import console
from .common import add_run_options, again, prepare_run, simulate, write_results

if TYPE_CHECKING:
    from ..checker import Rule

__all__ = ["Coverage", "add", "coverage", "known_results", "run"]

_NAMES_SHOWN = 3


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("rules", help="the flush checker's rules, the scenarios that cover them and their results")
    parser.add_argument("names", nargs="*", metavar="RULE", help="rules like R24 (all without)")
    parser.add_argument(
        "--run", action="store_true", help="run these scenarios now (into build/rules unless --results says else)"
    )
    parser.add_argument("--json", action="store_true", help="everything about them, as JSON")
    add_run_options(parser)
    parser.set_defaults(results=None)


@dataclass(frozen=True)
class Coverage:
    """One rule, the scenarios that are about it or must report it as a root, and the verdict of each ("" if unknown)."""

    rule: "Rule"
    scenarios: dict[str, str]

    @property
    def result(self) -> str:
        """``ok``, ``failed``, ``not run`` or ``no scenario``, with counts where they say more."""
        counts = Counter("ok" if verdict == "ok" else "failed" if verdict else "not run" for verdict in self.scenarios.values())
        if not counts:
            return "no scenario"
        return ", ".join(f"{counts[word]} {word}" for word in ("ok", "failed", "not run") if counts[word])

    def to_dict(self) -> dict[str, Any]:
        rule = self.rule
        return {
            "rule": rule.id,
            "kind": rule.kind,
            "title": rule.title,
            "fix": rule.fix,
            "sources": list(rule.sources),
            "checked": rule.checked,
            "result": self.result,
            "scenarios": self.scenarios,
        }


def coverage(verdicts: Mapping[str, str], rules: Sequence[str] = ()) -> list[Coverage]:
    """All rules (or the named ones) with their scenarios, under the verdicts that are known."""
    from ..checker import RULES
    from ..scenarios import everything
    from ..scenarios.examples import covering

    scenarios = list(everything().values())
    chosen = [rule for rule in RULES.values() if not rules or rule.id in rules]
    return [Coverage(rule, {s.name: verdicts.get(s.name, "") for s in covering(rule.id, scenarios)}) for rule in chosen]


def known_results(path: Path) -> tuple[dict[str, str], str]:
    """Verdicts by scenario from a result file, and where they are from in a few words; none from another state of the sources."""
    from ..runner import sources_digest

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        verdicts = {result["name"]: result["verdict"] for result in document["results"]}
    except OSError:
        return {}, f"there is no {path}: 'python -m sim run' makes it, 'python -m sim rules --run' runs what is needed"
    except (ValueError, KeyError, TypeError):
        return {}, f"{path} is no result file"
    if document.get("sources") != sources_digest():
        return {}, f"{path} is of other sources and is not used: 'python -m sim run' makes it anew"
    return verdicts, f"results from {path} ({document.get('simulator')}, seed {document.get('seed')})"


def run(arguments: argparse.Namespace) -> int:
    """Prints the table; exit code 1 if a scenario that was run just now, or whose result is known, failed."""
    from ..checker import RULES

    names = [name.upper() for name in arguments.names]
    for name, given in zip(names, arguments.names):
        if name not in RULES:
            raise OptionError(f"rule must be one of {next(iter(RULES))} to {list(RULES)[-1]}, not {given!r}")
    out = console()
    if arguments.run:
        verdicts, where = _run(arguments, names)
    else:
        results = check_folder("results", arguments.results or "build/sim")
        verdicts, where = known_results(results / "results.json")
    rows = coverage(verdicts, names)
    if arguments.json:
        print(json.dumps({"from": where, "rules": [row.to_dict() for row in rows]}, indent=1))
    else:
        out.print(_table(rows))
        out.print()
        out.print(where, markup=False, soft_wrap=True)
        out.print(_summary(rows), markup=False, soft_wrap=True)
    return int(any(verdict not in ("ok", "") for row in rows for verdict in row.scenarios.values()))


def _run(arguments: argparse.Namespace, names: Sequence[str]) -> tuple[dict[str, str], str]:
    wanted = list(dict.fromkeys(name for row in coverage({}, names) for name in row.scenarios))
    if not wanted:
        return {}, "no scenario covers these rules"
    arguments.results = arguments.results or "build/rules"
    options = prepare_run(arguments, wanted)
    # JSON on standard output must stay JSON.
    from rich.console import Console

    summary = simulate(options, Console(stderr=True, highlight=False))
    reproduce = {scenario.name: again(options, arguments, scenario.name) for scenario in options.scenarios}
    path, _ = write_results(options, summary, summary.results, reproduce)
    return {result.name: result.verdict for result in summary.results}, f"run just now; results: {path}"


def _shown(scenarios: Sequence[str]) -> str:
    """Names of examples, and how many others there are."""
    examples = [name for name in scenarios if name.startswith(("rules/", "cases/"))]
    groups = list(dict.fromkeys("/".join(name.split("/")[:2]) for name in examples))
    shown = groups[:_NAMES_SHOWN]
    if len(groups) > len(shown):
        shown.append(f"{len(groups) - len(shown)} more cases")
    others = len(scenarios) - len(examples)
    if others:
        shown.append(f"{others} of the tables")
    return ", ".join(shown) or "-"


def _table(rows: Sequence[Coverage]) -> Any:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("rule", "kind", "reported when", "what to do", "pages", "scenarios", "result"):
        grid.add_column(title, overflow="fold", no_wrap=title in ("rule", "kind"))
    for row in rows:
        rule = row.rule
        names = list(row.scenarios)
        result = row.result if rule.checked else "not decided yet"
        grid.add_row(rule.id, rule.kind, rule.title, rule.fix, " ".join(rule.sources), _shown(names), result)
    return grid


def _summary(rows: Sequence[Coverage]) -> str:
    covered = sum(bool(row.scenarios) for row in rows)
    good = sum(bool(row.scenarios) and all(verdict == "ok" for verdict in row.scenarios.values()) for row in rows)
    return f"{len(rows)} rules: {covered} with scenarios, {good} with every scenario run and as expected"
