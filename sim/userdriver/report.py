# SPDX-License-Identifier: BSD-2-Clause
"""What ``check DRIVER`` prints and writes: one run in full, many runs as a table of outcomes and their findings merged."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..checker import (
    Finding,
    Problem,
    ProblemKind,
    Suppressed,
    merge_problems,
    styled,
    styled_all,
    to_sarif,
)
from .check import PlatformRuns
from .options import CheckOptions, PlatformChoice
from .run import DriverRun, Ending
from .timing import Timing

__all__ = ["document", "exit_code", "merge_findings", "print_check", "sarif"]

_STYLES = {"wdk": "WDK", "linux": "Linux", "bare": "bare metal"}
_RANK = {"corruption seen": 3, "corruption possible": 2, "warning": 1, "latent": 0}
_MAX_SEEDS = 8
_MAX_OUTPUT_LINES = 20


def failed(run: DriverRun, *, portable: bool = False) -> bool:
    """Whether a run alone makes the exit code 1: a counted finding, a bad end, wrong bytes, wrong hardware."""
    return bool(run.counted(portable=portable) or not run.ended or run.corrupted or run.hardware or run.error)


def exit_code(results: Sequence[PlatformRuns], *, portable: bool = False) -> int:
    """0 if nothing is worse than a warning in any run, else 1."""
    return int(any(failed(run, portable=portable) for result in results for run in result.runs))


def merge_findings(runs: Iterable[DriverRun]) -> list[dict[str, Any]]:
    """Findings of many runs: one per rule, place in the driver and root rule, with the worst run's severity and evidence.

    Each has ``runs``, the number of runs that have it, and ``seeds``, the first few of them. Links to causes are by rule only.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in runs:
        seen: set[tuple[Any, ...]] = set()
        for finding in run.findings:
            sites = tuple(tuple(access["site"] or ()) for access in finding["accesses"])
            key = (finding["rule"], finding["root"], finding["cause"], finding["party"], sites)
            known = merged.get(key)
            if known is None or _RANK[finding["severity"]] > _RANK[known["severity"]]:
                counts = {"runs": known["runs"], "seeds": known["seeds"]} if known else {"runs": 0, "seeds": []}
                merged[key] = {**finding, "cause_index": None, **counts}
            if key not in seen:
                seen.add(key)
                merged[key]["runs"] += 1
                if len(merged[key]["seeds"]) < _MAX_SEEDS:
                    merged[key]["seeds"].append(run.seed)
    return sorted(merged.values(), key=lambda f: (not f["root"], -_RANK[f["severity"]], f["rule"], f["cycle"]))


def _findings(findings: Iterable[dict[str, Any]]) -> list[Finding]:
    return [Finding.from_dict({k: v for k, v in finding.items() if k not in ("runs", "seeds")}) for finding in findings]


def _place(site: Sequence[Any] | None) -> str:
    return f"{Path(site[0]).name}:{site[1]} in {site[2]}" if site and site[1] else "an unknown line"


_ENDINGS = {
    Ending.RETURNED: "ended",
    Ending.RAISED: "RAISED",
    Ending.HANGS: "HANGS",
    Ending.LOOPS: "LOOPS",
    Ending.CRASHED: "CRASHED",
}


def _ending(run: DriverRun) -> Iterator[str]:
    if run.ended:
        yield f"the driver ended after {run.cycles} cycles and {run.bus_accesses} CPU accesses"
    else:
        yield f"{_ENDINGS[run.ending]}: {run.problem}"
        if run.trouble:
            yield from (f"  {line}" for line in run.trouble)
        elif run.last_site:
            yield f"  it stood at {_place(run.last_site)}"
        if run.last_call:
            yield f"  last call: {run.last_call}"
    yield from run.moved
    if not run.moved and run.ended:
        yield "no bytes to compare: no request was completed, nothing was sent to the device, and the driver returned no bytes"
    if run.held:
        yield f"{'still held at the end' if run.ended else 'held then'}: {'; '.join(run.held)}"
    if run.tasks:
        yield f"still running at the end: {', '.join(run.tasks)}"
    yield from (f"note: {note}" for note in run.notes)
    yield from (f"HARDWARE: {text}" for text in run.hardware)
    if run.error:
        yield f"the check itself failed: {run.error.strip().splitlines()[-1]}"


def print_check(out: Console, options: CheckOptions, results: Sequence[PlatformRuns], *, verbose: bool = False) -> None:
    """Everything that a person wants to see."""

    def say(text: str = "") -> None:
        out.print(text, markup=False, soft_wrap=True)

    for result in results:
        say(_headline(options, result.platform))
        if options.explore:
            _print_many(out, say, options, result, verbose)
        else:
            _print_one(out, say, options, result, verbose)
        say()


def _headline(options: CheckOptions, platform: PlatformChoice) -> str:
    driver = options.driver
    what = f"{_STYLES[driver.style]}, {driver.name}"
    return f"{driver.path} ({what}) on {platform.name} ({'coherent' if platform.coherent else 'non-coherent'})"


def _print_one(out: Console, say: Any, options: CheckOptions, result: PlatformRuns, verbose: bool) -> None:
    (run,) = result.runs
    say(f"seed {run.seed}: {Timing.from_dict(run.timing).describe()}")
    for line in _ending(run):
        say(line)
    if run.output:
        lines = run.output.splitlines()
        shown = lines if verbose else lines[:_MAX_OUTPUT_LINES]
        say("\n".join(f"| {line}" for line in shown))
        if len(lines) > len(shown):
            say(f"| ... {len(lines) - len(shown)} more lines (--verbose shows them)")
    say()
    out.print(styled_all(_findings(run.findings), verbose=verbose), soft_wrap=True)
    _print_suppressed(say, result.runs)
    say()
    say(_verdict([run], options))
    if run.record:
        say(f"record: {_shown(run.record)} (python -m sim check --replay {_shown(run.record)})")
        waves = [path for path in sorted(Path(run.record).glob("waves.*")) if path.suffix in (".fst", ".vcd")]
        if waves:
            say(f"waves: gtkwave {_shown(str(waves[0].with_suffix('.gtkw')))}")
    say(f"again: {options.reproduce(run.seed, result.platform)}")


def _shown(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _verdict(runs: Sequence[DriverRun], options: CheckOptions) -> str:
    if len(runs) == 1:
        roots = runs[0].roots()
    else:
        roots = merge_findings(DriverRun(name="", findings=run.roots(), seed=run.seed) for run in runs)
    counts = {severity: sum(1 for root in roots if root["severity"] == severity) for severity in _RANK}
    words = [f"{number} {severity}" for severity, number in counts.items() if number]
    bad = sum(failed(run, portable=options.portable) for run in runs)
    text = f"{len(roots)} root finding{'s' if len(roots) != 1 else ''}" + (f" ({', '.join(words)})" if words else "")
    if len(runs) > 1:
        return f"{text}; {bad} of {len(runs)} runs fail" if bad else f"{text}; all {len(runs)} runs pass"
    return f"{text}: {'FAILED' + _why(runs[0], options) if bad else 'passed'}"


def _why(run: DriverRun, options: CheckOptions) -> str:
    reasons = [
        "" if run.ended else f"the driver {run.ending}",
        f"{run.corrupted} bytes are wrong" if run.corrupted else "",
        "the hardware differs from its model" if run.hardware else "",
        "the check itself failed" if run.error else "",
    ]
    text = ", ".join(reason for reason in reasons if reason)
    return f" ({text})" if text else ""


def _print_many(out: Console, say: Any, options: CheckOptions, result: PlatformRuns, verbose: bool) -> None:
    runs = result.runs
    groups: dict[tuple[Any, ...], list[DriverRun]] = {}
    for run in runs:
        groups.setdefault(run.outcome(), []).append(run)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("runs", "ending", "bytes", "root findings", "cycles", "seeds"):
        grid.add_column(title, overflow="fold", justify="right" if title == "runs" else "left")
    for group in sorted(groups.values(), key=lambda group: -len(group)):
        first, cycles = group[0], [run.cycles for run in group]
        roots = sorted({f"{f['rule']} {f['severity']}" for f in first.roots()}) or ["-"]
        corrupted = max(run.corrupted for run in group)
        seen = f"up to {corrupted} of {first.checked} wrong" if corrupted else "intact" if first.checked else "-"
        if first.hardware:
            seen += ", HARDWARE"
        seeds = ", ".join(str(run.seed) for run in group[:_MAX_SEEDS]) + (", ..." if len(group) > _MAX_SEEDS else "")
        ending = _ENDINGS[first.ending]
        span = f"{min(cycles)}" if min(cycles) == max(cycles) else f"{min(cycles)} to {max(cycles)}"
        grid.add_row(f"{len(group)}", ending, seen, escape("; ".join(roots)), span, seeds)
    out.print(grid)
    say()
    bad = [run for run in runs if run.corrupted or not run.ended or run.hardware]
    for run in bad if verbose else bad[:_MAX_SEEDS]:
        what = _ENDINGS[run.ending] if not run.ended else f"{run.corrupted} bytes wrong" if run.corrupted else "HARDWARE"
        say(f"seed {run.seed}: {what}: {run.problem or '; '.join([*run.hardware, *run.moved])}")
        say(f"  {Timing.from_dict(run.timing).describe()}")
        say(f"  again: {options.reproduce(run.seed, result.platform)}")
    if len(bad) > _MAX_SEEDS and not verbose:
        say(f"... and {len(bad) - _MAX_SEEDS} more seeds that fail (--verbose shows them)")
    merged = merge_findings(runs)
    say()
    for finding in merged:
        text = styled(_findings([finding])[0], verbose=verbose)
        if not finding["root"] and not verbose:
            out.print(Text("    ") + text.split("\n")[0], soft_wrap=True)
            continue
        say(f"in {finding['runs']} of {len(runs)} runs (seeds {', '.join(map(str, finding['seeds']))}):")
        out.print(text, soft_wrap=True)
    if not merged:
        say("no findings")
    _print_suppressed(say, runs)
    say()
    say(_verdict(runs, options))


def _problems(runs: Iterable[DriverRun]) -> list[Problem]:
    """Comments that are wrong: those that no run needed, and those of a wrong form."""
    lists = [[Problem(ProblemKind(p["kind"]), p["file"], p["line"], p["text"]) for p in run.problems] for run in runs]
    return merge_problems(lists)


def _suppressed(runs: Iterable[DriverRun]) -> list[Suppressed]:
    """Suppressed findings of all runs, each place and rule once."""
    found: dict[tuple[Any, ...], Suppressed] = {}
    for run in runs:
        for values in run.suppressed:
            comment = values["suppressed"]
            finding = Finding.from_dict({key: value for key, value in values.items() if key != "suppressed"})
            entry = Suppressed(finding, comment["file"], comment["line"], comment["reason"])
            found.setdefault((finding.rule, entry.file, entry.line), entry)
    return list(found.values())


def _print_suppressed(say: Any, runs: Sequence[DriverRun]) -> None:
    for entry in _suppressed(runs):
        say(f"suppressed: {entry.finding.rule} by {Path(entry.file).name}:{entry.line}: {entry.reason}")
    for problem in _problems(runs):
        say(f"note: {problem}")


def sarif(options: CheckOptions, results: Sequence[PlatformRuns]) -> dict[str, Any]:
    """What ``--sarif`` writes: the findings of all runs, merged, with paths relative to the working directory."""
    runs = [run for result in results for run in result.runs]
    return to_sarif(
        _findings(merge_findings(runs)),
        _suppressed(runs),
        _problems(runs),
        root=Path.cwd(),
        driver=Path(options.driver.path).resolve(),
        properties={"platforms": [result.platform.name for result in results], "seeds": [run.seed for run in runs]},
    )


def document(options: CheckOptions, results: Sequence[PlatformRuns]) -> dict[str, Any]:
    """What ``--json`` writes."""
    return {
        "driver": options.driver.path,
        "style": options.driver.style,
        "entry": options.driver.name,
        "payload": options.payload_name,
        "payload_bytes": len(options.payload),
        "simulator": options.simulator,
        "portable": options.portable,
        "exit_code": exit_code(results, portable=options.portable),
        "platforms": [
            {
                "platform": result.platform.name,
                "coherent": result.platform.coherent,
                "architecture": result.platform.architecture,
                "configuration": result.platform.config.to_dict(),
                "findings": merge_findings(result.runs),
                "corrupting_seeds": [run.seed for run in result.runs if run.corrupted],
                "runs": [{**run.to_dict(), "reproduce": options.reproduce(run.seed, result.platform)} for run in result.runs],
            }
            for result in results
        ],
    }
