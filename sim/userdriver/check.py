# SPDX-License-Identifier: BSD-2-Clause
"""Runs a user's driver: builds the models, spreads the runs over simulator processes, collects their results.

A driver may end its simulator process or hold it for ever; its run then says so, and the others go on in a new process.
"""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..build import Model, build_model
from ..simulator import SessionError, SessionTimeout, run_session
from .options import CheckOptions, PlatformChoice
from .run import DriverJob, DriverRun, Ending
from .timing import Timing, alternative_config

__all__ = ["Lot", "PlatformRuns", "check_driver", "run_jobs"]

_PROCESSES = 2
_FEW = 6  # runs that are not worth a second process
_POLL_SECONDS = 0.05
_STUCK = "stuck.txt"


@dataclass
class PlatformRuns:
    """All runs on one platform, by ascending seed."""

    platform: PlatformChoice
    runs: list[DriverRun] = field(default_factory=list)


@dataclass(frozen=True)
class Lot:
    """Jobs for one simulator process."""

    model: Model
    jobs: list[DriverJob]
    folder: Path


def check_driver(
    options: CheckOptions,
    *,
    building: Callable[[str], None] = lambda text: None,
    started: Callable[[int], None] = lambda total: None,
    finished: Callable[[DriverRun], None] = lambda run: None,
) -> list[PlatformRuns]:
    """All runs that ``options`` ask for.

    Raises
    ------
    ToolError, BuildError, SessionError
        If a model cannot be built, or no simulator process can be started.
    """
    work = options.results / "sessions" / f"{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    payload = work / "payload.bin"
    payload.write_bytes(options.payload)
    lots: list[Lot] = []
    for platform in options.platforms:
        by_config: dict[bool, list[DriverJob]] = {}
        for seed in options.seeds:
            timing = Timing.of_seed(seed, speculates=platform.speculates)
            by_config.setdefault(timing.alternative_chunk, []).append(_job(options, platform, seed, timing))
        for alternative, jobs in sorted(by_config.items()):
            config = alternative_config(platform.config) if alternative else platform.config
            model = build_model(config, options.simulator, waves=options.waves, progress=building)
            parts = min(_PROCESSES, -(-len(jobs) // _FEW))
            lots += [Lot(model, jobs[n::parts], work / f"{platform.name}-{int(alternative)}-{n}") for n in range(parts)]
    started(sum(len(lot.jobs) for lot in lots))
    runs = run_jobs(lots, payload, patience=_patience(options), waves=options.waves, finished=finished)
    result = [
        PlatformRuns(platform, [runs[_name(platform, seed)] for seed in options.seeds if _name(platform, seed) in runs])
        for platform in options.platforms
    ]
    if options.waves and result[0].runs[0].record:
        _waves(result[0].runs[0], lots)
    shutil.rmtree(work, ignore_errors=True)
    return result


def _waves(run: DriverRun, lots: Sequence[Lot]) -> None:
    """Takes the one run's waves to its record, with a save file for GTKWave."""
    from ..waves.collect import save_for

    for lot in lots:
        for source in (lot.folder / "dump.fst", lot.folder / "dump.vcd"):
            if source.exists():
                dump = Path(run.record) / f"waves{source.suffix}"
                shutil.move(source, dump)
                save_for(dump, lot.model.config.data_width, run.wrong, run.epoch_ns, run.cycles)


def _name(platform: PlatformChoice, seed: int) -> str:
    return f"{platform.name}/{seed}"


def _job(options: CheckOptions, platform: PlatformChoice, seed: int, timing: Timing) -> DriverJob:
    folder = options.results / f"{Path(options.driver.path).stem}-{platform.name}-{seed}"
    return DriverJob(
        name=_name(platform, seed),
        target=str(Path(options.driver.path).resolve()),
        seed=seed,
        timing=timing.to_dict(),
        architecture=platform.architecture,
        speculates=platform.speculates,
        limit=options.limit,
        keep="" if options.explore else str(folder.absolute()),
    )


def _patience(options: CheckOptions) -> float:
    """Seconds without a finished run after which a simulator process is stopped: several times what the slowest run can take."""
    rate = 1000 if options.simulator == "icarus" else 5000
    return 40 + options.limit / rate


def run_jobs(
    lots: Sequence[Lot],
    payload: Path,
    *,
    patience: float,
    waves: bool = False,
    finished: Callable[[DriverRun], None] = lambda run: None,
) -> dict[str, DriverRun]:
    """Runs lots of jobs, two simulator processes at a time; results by job name."""
    found: dict[str, DriverRun] = {}
    lock = threading.Lock()

    def report(run: DriverRun) -> None:
        with lock:
            found[run.name] = run
            finished(run)

    with ThreadPoolExecutor(_PROCESSES) as pool:
        list(pool.map(lambda lot: _run_lot(lot, payload, patience, waves, report), lots))
    return found


def _run_lot(lot: Lot, payload: Path, patience: float, waves: bool, report: Callable[[DriverRun], None]) -> None:
    waiting = {job.name: job for job in lot.jobs}
    while waiting:
        lot.folder.mkdir(parents=True, exist_ok=True)
        lines = lot.folder / "results.jsonl"
        lines.write_bytes(b"")
        arguments = {
            "jobs": [job.to_dict() for job in waiting.values()],
            "payload": str(payload.absolute()),
            "results": str(lines.absolute()),
            "stuck": str((lot.folder / _STUCK).absolute()),
            "stuck_seconds": patience * 0.8,
        }
        failure: list[SessionError] = []
        thread = threading.Thread(target=_simulate, args=(lot, arguments, lines, patience, waves, failure), daemon=True)
        thread.start()
        current, offset, ended = "", 0, False
        while not ended:
            thread.join(_POLL_SECONDS)
            ended = not thread.is_alive()
            blob = lines.read_bytes()[offset:]
            end = blob.rfind(b"\n") + 1
            offset += end
            for line in blob[:end].splitlines():
                value = json.loads(line)
                if "start" in value:
                    current = value["start"]
                elif waiting.pop(value["name"], None) is not None:
                    current = ""
                    report(DriverRun.from_dict(value))
        if waiting:
            error = failure[0] if failure else SessionError("the simulator process ended early")
            if current not in waiting:
                raise error  # without a run in progress the process did not even start: trying again would not help
            report(_lost(waiting.pop(current), error, lot.folder / _STUCK))


def _simulate(
    lot: Lot, arguments: dict[str, Any], lines: Path, patience: float, waves: bool, failure: list[SessionError]
) -> None:
    try:
        entry = "sim.userdriver.execute:execute"
        run_session(lot.model, entry, arguments, lot.folder, waves=waves, timeout=patience, progress=lines)
    except SessionError as error:
        failure.append(error)


def _stuck_at(path: Path, target: str) -> list[Any] | None:
    """The driver's line in the stacks that the process wrote shortly before it was stopped."""
    if not path.exists():
        return None
    match = re.search(rf'File "{re.escape(target)}", line (\d+) in (\w+)', path.read_text(errors="replace"))
    return [target, int(match[1]), match[2]] if match else None


def _lost(job: DriverJob, error: SessionError, stuck: Path) -> DriverRun:
    if isinstance(error, SessionTimeout):
        text = "the driver neither ended nor let simulated time pass, and its simulator process was stopped"
        site = _stuck_at(stuck, job.target)
        return DriverRun(name=job.name, seed=job.seed, timing=job.timing, ending=Ending.LOOPS, problem=text, last_site=site)
    first = (str(error).strip().splitlines() or [""])[0].partition(";")[0]
    text = f"the driver ended its simulator process: {first}"
    return DriverRun(name=job.name, seed=job.seed, timing=job.timing, ending=Ending.CRASHED, problem=text)
