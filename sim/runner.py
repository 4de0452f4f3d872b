# SPDX-License-Identifier: BSD-2-Clause
"""Runs scenarios: builds the models, distributes the scenarios over simulator processes, collects their results.

A session (one simulator process) works through a list of scenarios and appends one line per step to a file, which this
side reads as it grows. If a session dies, the scenario it was in is an error and the rest goes to a new session.
"""

import hashlib
import json
import multiprocessing
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtl.config import SocConfig

from .build import ROOT, Model, Mutation, build_model
from .options import RunOptions
from .report.result import Result
from .scenarios import AnyScenario
from .scenarios.layout import scenario_seed
from .scenarios.model import size_bytes
from .simulator import SessionError, run_session

__all__ = ["RunSummary", "Watcher", "run", "sources_digest"]

_POLL_SECONDS = 0.1
#: Wall time of one scenario on top of its bytes, as a session plans it (only the balance of the sessions depends on it).
_BASE_COST = 2000
_PATIENCE = 300.0


class Watcher:
    """Told what happens during a run; the base class says nothing."""

    def building(self, text: str) -> None:
        """A model is being built."""

    def started(self, total: int) -> None:
        """All models are there; ``total`` scenarios follow."""

    def finished(self, result: Result) -> None:
        """One scenario is done."""


@dataclass
class RunSummary:
    """All results, and what the whole run took (seconds of wall time). ``sources`` changes with any source of hardware, driver or
    testbench (:func:`sources_digest`)."""

    results: list[Result]
    build_seconds: float = 0.0
    run_seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    sources: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def cycles(self) -> int:
        return sum(result.cycles for result in self.results)

    @property
    def rate(self) -> float:
        """Simulated cycles per second of the scenarios' own wall time, per session."""
        seconds = sum(result.seconds for result in self.results)
        return self.cycles / seconds if seconds else 0.0

    @property
    def idle_rate(self) -> float:
        """Cycles per second while the DMA ran and the driver waited for its interrupt, in the scenarios that waited longest.

        A wait of some ten cycles, as most scenarios have, measures the wake-up of Python and not the simulation.
        """
        longest = sorted(self.results, key=lambda result: -result.idle_cycles)[:4]
        seconds = sum(result.idle_seconds for result in longest)
        return sum(result.idle_cycles for result in longest) / seconds if seconds else 0.0


@dataclass
class _Session:
    """Scenarios of one platform for one simulator process."""

    platform: str
    scenarios: list[AnyScenario]
    number: int


def cost(scenario: AnyScenario, config: SocConfig, payload_bytes: int, quick: bool) -> int:
    """A guess of what a scenario costs, in no unit: for an even distribution only."""
    return _BASE_COST + size_bytes(scenario.size_for(quick), config, payload_bytes)


def distribute(options: RunOptions) -> list[_Session]:
    """Sessions of even cost: as many per platform as keep every job busy to the end.

    The distribution depends on names only, never on time, but no result depends on it either.
    """
    sessions: list[_Session] = []
    for platform, config in options.configs.items():
        mine = [scenario for scenario in options.scenarios if scenario.platform == platform]
        if not mine:
            continue
        count = max(1, min(options.jobs, len(mine) // 20))
        lots: list[tuple[int, list[AnyScenario]]] = [(0, []) for _ in range(count)]
        weight = {each.name: cost(each, config, len(options.payload), options.quick) for each in mine}
        for scenario in sorted(mine, key=lambda each: (-weight[each.name], each.name)):
            n = min(range(count), key=lambda k: lots[k][0])
            lots[n] = (lots[n][0] + weight[scenario.name], [*lots[n][1], scenario])
        sessions += [_Session(platform, lot, 0) for _, lot in lots]
    for number, session in enumerate(sessions):
        session.number = number
    return sessions


def run(options: RunOptions, watcher: Watcher | None = None, *, mutation: Mutation | None = None) -> RunSummary:
    """Runs ``options.scenarios``; results are in catalogue order.

    ``mutation`` breaks the hardware on purpose, for tests of this testbench.

    Raises
    ------
    ToolError, BuildError
        If a model cannot be built. A failing session is no exception: its scenarios are errors.
    """
    watcher = watcher or Watcher()
    start = time.monotonic()
    platforms = [name for name in options.configs if any(each.platform == name for each in options.scenarios)]
    models = _models(options, platforms, watcher, mutation)
    built = time.monotonic()
    watcher.started(len(options.scenarios))
    folder = options.results / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    payload = folder / f"payload-{zlib.crc32(options.payload):08x}.bin"
    payload.write_bytes(options.payload)
    lock = threading.Lock()
    found: dict[str, Result] = {}

    def report(result: Result) -> None:
        with lock:
            found[result.name] = result
            watcher.finished(result)

    def work(session: _Session) -> None:
        _run_session(session, models[session.platform], options, payload.absolute(), folder, report)

    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        list(pool.map(work, distribute(options)))
    from .toolchain import versions

    return RunSummary(
        results=[found[scenario.name] for scenario in options.scenarios],
        build_seconds=built - start,
        run_seconds=time.monotonic() - built,
        versions=versions(options.simulator),
        sources=sources_digest(),
    )


def sources_digest() -> str:
    """Twelve hex digits that change with any Python or Verilog source of this checkout: results of others are old."""
    digest = hashlib.sha256()
    for folder in ("rtl", "driver", "sim"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".v"):
                digest.update(str(path.relative_to(ROOT)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class _Missing(Exception):
    """There is no model yet."""


def _models(options: RunOptions, platforms: Sequence[str], watcher: Watcher, mutation: Mutation | None) -> dict[str, Model]:
    """The model of each platform; those that must be built are built at the same time, as far as jobs allow."""

    def nothing_yet(text: str) -> None:
        raise _Missing(text)

    found: dict[str, Model] = {}
    missing: list[str] = []
    alone = options.jobs == 1 or mutation is not None  # what a mutation does to the elaboration stays in this process
    for name in platforms:
        progress = watcher.building if alone else nothing_yet
        try:
            found[name] = build_model(
                options.configs[name], options.simulator, waves=options.waves, mutation=mutation, progress=progress
            )
        except _Missing as text:
            watcher.building(str(text))
            missing.append(name)
    if missing:
        # Elaboration is plain Python: only processes of their own can share the work, and they start from nothing.
        with ProcessPoolExecutor(len(missing), mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = {
                name: pool.submit(build_model, options.configs[name], options.simulator, waves=options.waves) for name in missing
            }
            found |= {name: future.result() for name, future in waiting.items()}
    return found


def patience(options: RunOptions) -> float:
    """Seconds of wall time that one scenario may take before its simulator process is stopped: far more than any needs."""
    per_byte = 0.02 if options.simulator == "icarus" else 0.002
    return _PATIENCE + per_byte * len(options.payload)


def _run_session(
    session: _Session, model: Model, options: RunOptions, payload: Path, folder: Path, report: Callable[[Result], None]
) -> None:
    """Works through a session's scenarios, starting a new process after a crash."""
    waiting = {scenario.name: scenario for scenario in session.scenarios}
    attempt = 0
    while waiting:
        run_dir = folder / f"{session.platform}-{session.number}{f'-{attempt}' if attempt else ''}"
        attempt += 1
        run_dir.mkdir(parents=True, exist_ok=True)
        lines = run_dir / "results.jsonl"
        lines.unlink(missing_ok=True)
        arguments: dict[str, Any] = {
            "scenarios": list(waiting),
            "payload": str(payload),
            "seed": options.seed,
            "quick": options.quick,
            "keep": options.keep or options.waves,
            "results": str(lines.absolute()),
            "folder": str((options.results / session.platform).absolute()),
        }
        failure: list[str] = []

        def simulate(
            run_dir: Path = run_dir,
            lines: Path = lines,
            arguments: dict[str, Any] = arguments,
            failure: list[str] = failure,
        ) -> None:
            try:
                run_session(
                    model,
                    "sim.execute:execute",
                    arguments,
                    run_dir,
                    waves=options.waves,
                    timeout=patience(options),
                    progress=lines,
                )
            except SessionError as error:
                failure.append(str(error))

        thread = threading.Thread(target=simulate, daemon=True)
        thread.start()
        reader = _Lines(lines)
        current = ""
        ended = False
        while not ended:
            thread.join(_POLL_SECONDS)
            ended = not thread.is_alive()
            for line in reader.read():
                if "start" in line:
                    current = line["start"]
                elif waiting.pop(line["name"], None) is not None:
                    current = ""
                    report(Result.from_dict(line))
        if waiting:
            text = failure[0] if failure else f"the session ended early; see {run_dir / 'session.log'}"
            # Without a scenario in progress the process did not even start: trying again would not help.
            lost = [current] if current in waiting else list(waiting)
            for name in lost:
                scenario = waiting.pop(name)
                report(_lost(scenario, options.seed, text))


def _lost(scenario: AnyScenario, seed: int, text: str) -> Result:
    return Result(
        name=scenario.name,
        row=scenario.row,
        mode=scenario.mode,
        discipline=scenario.discipline,
        platform=scenario.platform,
        seed=scenario_seed(seed, scenario),
        happened="nothing",
        error=f"the simulator process failed: {text}",
    )


class _Lines:
    """Whole JSON lines of a growing file."""

    def __init__(self, path: Path):
        self._path, self._offset = path, 0

    def read(self) -> Sequence[dict[str, Any]]:
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            blob = file.read()
        end = blob.rfind(b"\n") + 1
        self._offset += end
        return [json.loads(line) for line in blob[:end].splitlines()]
