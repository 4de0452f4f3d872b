# SPDX-License-Identifier: BSD-2-Clause
"""Inside a simulator process: runs scenarios one after the other and judges each.

One failing scenario never stops the others; each result is a JSON line, written as soon as it is there.
"""

import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driver.bus import BusTimeout
from driver.trace import library_folder

from .bfm import PERIOD_NS
from .checker import check
from .hardware import differences
from .report.result import Result
from .scenarios import AnyScenario, DriverScenario, Expectation, Scenario, everything
from .scenarios.context import Context
from .scenarios.expect import differing
from .scenarios.layout import images, make_setting, scenario_seed
from .scenarios.stories import STORIES
from .userdriver.example import run_example

__all__ = ["execute", "run_scenario"]

library_folder(__file__)

#: A scenario that takes longer hangs; the slowest of the catalogue take a tenth.
_STORY_CYCLES, _STORY_CYCLES_PER_BYTE = 50_000, 64


async def execute(tb: Any, arguments: Mapping[str, Any]) -> None:
    """Entry of a session: ``arguments`` are those of :func:`sim.runner._run_session`."""
    payload = Path(arguments["payload"]).read_bytes()
    with open(arguments["results"], "a", encoding="utf-8") as lines:

        def put(value: Mapping[str, Any]) -> None:
            lines.write(json.dumps(value) + "\n")
            lines.flush()

        for name in arguments["scenarios"]:
            put({"start": name})
            result = await run_scenario(
                tb,
                everything()[name],
                payload,
                seed=arguments["seed"],
                quick=arguments["quick"],
                keep=arguments["keep"],
                folder=Path(arguments["folder"]),
            )
            put(result.to_dict())


async def _in_time(story: Any, size: int) -> Any:
    """Awaits a story, but not for ever: a bus access that the hardware never answers has no limit of its own."""
    from cocotb.triggers import SimTimeoutError, with_timeout

    cycles = _STORY_CYCLES + _STORY_CYCLES_PER_BYTE * size
    try:
        return await with_timeout(story, cycles * PERIOD_NS, "ns")
    except SimTimeoutError:
        raise BusTimeout("the scenario to end: the hardware does not answer an access", cycles) from None


async def run_scenario(
    tb: Any, scenario: AnyScenario, payload: bytes, *, seed: int, quick: bool, keep: bool, folder: Path
) -> Result:
    """Runs one scenario on a testbench and gives its verdicts; never raises for what the scenario does."""
    if isinstance(scenario, DriverScenario):
        return await run_example(tb, scenario, payload, seed=seed, keep=keep, folder=folder)
    start = time.perf_counter()
    own_seed = scenario_seed(seed, scenario)
    result = Result(
        name=scenario.name,
        row=scenario.row,
        mode=scenario.mode,
        discipline=scenario.discipline,
        platform=scenario.platform,
        seed=own_seed,
    )
    run_folder = folder / f"{scenario.name.replace('/', '.')}-{seed}-{tb.config.digest}"
    shutil.rmtree(run_folder, ignore_errors=True)
    try:
        setting = make_setting(scenario, tb.config, payload, quick=quick, seed=seed)
        result.size = setting.size
        result.expected_roots = sorted(setting.expected_roots)
        expectation = Expectation.of(setting)
        result.expectation = expectation.describe()
        result.sha256_in = hashlib.sha256(setting.payload).hexdigest()
        filled = images(setting, own_seed)
        await tb.reset(filled.memory, filled.device, own_seed)
        context = Context(tb, setting, len(payload))
        received: bytes | None = None
        try:
            await context.prepare()
            received = await _in_time(STORIES[scenario.story](context), setting.size)
        except Exception:
            result.error = traceback.format_exc()
        await tb.finish()
        if received is None and not result.error:  # the device has it
            at = setting.device_address
            received = bytes(tb.snapshot.device[at : at + setting.size])
        result.cycles = tb.cycles
        result.bus_accesses = tb.bus_accesses
        result.epoch_ns = tb.bus.epoch_ns
        result.idle_cycles, result.idle_seconds = tb.bus.idle_cycles, tb.bus.idle_seconds
        result.costs = {name: cost for name, cost in context.costs.items() if cost["calls"]}
        if received is not None:
            _judge_bytes(result, expectation, received)
        result.hardware = differences(tb, filled.memory, filled.device)
        _judge_driver(result, tb)
        _judge_cost(result, scenario)
        result.unexpected += context.problems
        if received is not None:
            run_folder.mkdir(parents=True, exist_ok=True)
            (run_folder / "received.bin").write_bytes(received)
            result.received = str(run_folder / "received.bin")
        if keep or not result.passed:
            tb.run_record().save(run_folder)
            result.record = str(run_folder)
    except Exception:
        result.error = "\n".join(filter(None, [result.error, traceback.format_exc()]))
        result.happened = result.happened or "nothing"
    result.seconds = time.perf_counter() - start
    return result


def _judge_bytes(result: Result, expectation: Expectation, received: bytes) -> None:
    """Payload in against payload out."""
    setting = expectation.setting
    result.sha256_out = hashlib.sha256(received).hexdigest()
    wrong = differing(received, setting.payload)
    result.corrupted = len(wrong)
    if wrong:
        result.first_offset = wrong[0]
        base = setting.device_address if setting.write_to_device else setting.address
        result.first_address = base + wrong[0]
        where = "device " if setting.write_to_device else ""
        result.happened = f"{len(wrong)} of {setting.size} B corrupted, first at {where}{result.first_address:#x}"
    else:
        result.happened = f"{setting.size} B intact"
    text = expectation.judge(received)
    if text:
        result.unexpected.append(text)


def _judge_driver(result: Result, tb: Any) -> None:
    """The flush checker's findings against those the scenario expects: root findings by rule, neither more nor fewer."""
    findings = check(tb.run_record())
    result.findings = [finding.to_dict() for finding in findings]
    roots = {str(finding.rule) for finding in findings if finding.root}
    result.roots = sorted(roots)
    expected = set(result.expected_roots)
    missing, extra = expected - roots, roots - expected
    if missing:
        result.unexpected.append(f"the flush checker did not report {', '.join(sorted(missing))}")
    if extra:
        result.unexpected.append(f"the flush checker reported {', '.join(sorted(extra))}, which was not expected")


def _judge_cost(result: Result, scenario: Scenario) -> None:
    """On a coherent platform KeFlushIoBuffers is free (S9), unless the HAL was told otherwise."""
    told = scenario.options.get("coherent_flag")
    accesses = result.costs.get("KeFlushIoBuffers", {}).get("accesses", 0)
    if (scenario.coherent if told is None else told) and accesses:
        result.unexpected.append(f"KeFlushIoBuffers made {accesses} bus accesses on a coherent platform, 0 were expected")
