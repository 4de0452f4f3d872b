# SPDX-License-Identifier: BSD-2-Clause
"""Inside a simulator process: runs an example of the catalogue as a user's driver, and compares with what it expects."""

import shutil
from pathlib import Path
from typing import Any

from ..report.result import Result
from ..scenarios.examples import DriverScenario
from ..scenarios.layout import scenario_seed
from .execute import run_driver
from .run import DriverJob, DriverRun

__all__ = ["job_of", "judge", "run_example"]

_RANK = {"corruption seen": 3, "corruption possible": 2, "warning": 1, "latent": 0}
_SHORT = 256  # bytes: a shorter payload is repeated by the device, and too uniform to show a fault


def job_of(scenario: DriverScenario, *, seed: int = 1, keep: str = "") -> DriverJob:
    """The run that an example is."""
    expect = scenario.expect
    return DriverJob(
        name=scenario.name,
        target=scenario.target,
        seed=scenario_seed(seed, scenario),
        timing=expect.timing.to_dict(),
        architecture=expect.architecture,
        speculates=expect.speculates,
        hal=dict(expect.hal),
        beliefs=dict(expect.beliefs),
        keep=keep,
    )


async def run_example(tb: Any, scenario: DriverScenario, payload: bytes, *, seed: int, keep: bool, folder: Path) -> Result:
    """Runs one example on a testbench and gives its verdicts; never raises for what the driver does."""
    run_folder = folder / f"{scenario.name.replace('/', '.')}-{seed}-{tb.config.digest}"
    shutil.rmtree(run_folder, ignore_errors=True)
    if len(payload) < _SHORT:
        from ..options import DEFAULT_PAYLOAD

        payload = DEFAULT_PAYLOAD.read_bytes()
    run = await run_driver(tb, job_of(scenario, seed=seed, keep=str(run_folder)), payload)
    result = judge(scenario, run)
    if result.passed and not keep:
        shutil.rmtree(run_folder, ignore_errors=True)
    elif run_folder.exists():
        result.record = str(run_folder)
    return result


def judge(scenario: DriverScenario, run: DriverRun) -> Result:
    """A run against the example's expectation."""
    expect = scenario.expect
    result = Result(
        name=scenario.name,
        row=scenario.row,
        mode=scenario.mode,
        discipline=scenario.discipline,
        platform=scenario.platform,
        size=run.checked,
        seed=run.seed,
        expectation=_expectation(scenario),
        happened=_happened(run),
        corrupted=run.corrupted,
        wrong=run.wrong,
        findings=run.findings,
        roots=sorted({finding["rule"] for finding in run.roots()}),
        expected_roots=sorted(expect.roots),
        hardware=run.hardware,
        error=run.error or run.refused,
        cycles=run.cycles,
        seconds=run.seconds,
        bus_accesses=run.bus_accesses,
        epoch_ns=run.epoch_ns,
    )
    if run.wrong:
        result.first_address = run.wrong[0][1]
    if run.ending != expect.ending:
        trouble = f" ({'; '.join([run.problem, *run.trouble])})" if run.problem else ""
        result.unexpected.append(f"the driver {run.ending}{trouble}, expected {expect.ending}")
    missing, extra = set(expect.roots) - set(result.roots), set(result.roots) - set(expect.roots)
    if missing:
        result.unexpected.append(f"the flush checker did not report {', '.join(sorted(missing))}")
    if extra:
        result.unexpected.append(f"the flush checker reported {', '.join(sorted(extra))}, which was not expected")
    unseen = set(expect.consequences) - {finding["rule"] for finding in run.findings if not finding["root"]}
    if unseen:
        result.unexpected.append(f"the flush checker did not report {', '.join(sorted(unseen))} as a consequence")
    worst = max((finding["severity"] for finding in run.roots()), key=_RANK.__getitem__, default="")
    if worst != expect.severity and not missing and not extra:
        result.unexpected.append(f"the worst root finding is {worst!r}, expected {expect.severity!r}")
    if expect.corrupts is not None and bool(run.corrupted) != expect.corrupts:
        seen = "; ".join(run.moved) or "nothing could be compared"
        result.unexpected.append(f"bytes must {'' if expect.corrupts else 'not '}go wrong, but: {seen}")
    if scenario.variant == "fixed" and run.held:
        result.unexpected.append(f"the corrected driver still holds {'; '.join(run.held)}")
    if scenario.variant == "fixed" and run.notes:
        result.unexpected += run.notes
    return result


def _expectation(scenario: DriverScenario) -> str:
    expect = scenario.expect
    words = {True: ["corrupted"], False: ["intact"], None: []}[expect.corrupts]
    if expect.ending != "returned":
        words.append(expect.ending)
    if expect.severity:
        words.append(expect.severity)
    return ", ".join(words) or "any"


def _happened(run: DriverRun) -> str:
    if not run.ended:
        return f"{run.ending}: {run.problem}"
    if not run.checked:
        return "no bytes to compare"
    return f"{run.corrupted} of {run.checked} B corrupted" if run.corrupted else f"{run.checked} B intact"
