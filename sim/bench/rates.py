# SPDX-License-Identifier: BSD-2-Clause
"""How fast the simulation runs. Coroutines that are entries of :func:`sim.simulator.run_session`, and what calls them.

Times are processor time of the simulator process, so that other work on the machine counts as little as it can.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driver.registers import IRQ, Registers
from rtl.config import SocConfig

__all__ = ["checked", "driven", "idle", "rate_rows"]

_TRANSFERS = 12
_ACCESSES = 8000
_ROUNDS = 3
_SCENARIOS = (
    "dma-read/system/all-flushes/non-coherent",
    "dma-read/system/no-flushes/non-coherent",
    "dma-write/bus-master/all-flushes/non-coherent",
    "dma-write/bus-master/no-flushes/non-coherent",
)


def _report(**values: float) -> None:
    Path("rates.json").write_text(json.dumps(values))


async def idle(tb: Any, arguments: dict[str, Any]) -> None:
    """Cycles per second while the DMA fills memory and the driver waits for its interrupt; the best of some transfers."""
    config = tb.config
    await tb.reset(bytes(config.memory.size), bytes(config.device.buffer_bytes), 1)
    regs = Registers(tb.bus)
    await regs.sys.irq_enable.write(enable=(1 << IRQ.WIDTH) - 1)
    base, size = config.memory.base, config.device.buffer_bytes
    best = 0.0
    for _ in range(_TRANSFERS):
        await tb.bus.write(base, b"".join(word.to_bytes(4, "little") for word in (base + 0x1000, size, 1, 0)), 0b0011)
        await regs.dev.status.clear()
        await regs.dev.path.write(channel=4)
        await regs.dev.addr.write(0)
        await regs.dev.length.write(size)
        await regs.bm.status.clear()
        await regs.bm.desc.write(base)
        await regs.bm.mode.write(write_to_device=0)
        await regs.bm.ctrl.write(start=1)
        await regs.dev.cmd.write(op=1)
        start, cycle = time.process_time(), tb.bus.now()
        await tb.bus.wait_interrupt(1 << IRQ.BUS_MASTER, 1_000_000, "the bus master")
        best = max(best, (tb.bus.now() - cycle) / (time.process_time() - start))
    await tb.finish()
    _report(rate=best)


async def driven(tb: Any, arguments: dict[str, Any]) -> None:
    """Single accesses per second of the driver's bus on the whole SoC: hits of the D-cache, writes and reads in turn."""
    config = tb.config
    await tb.reset(bytes(config.memory.size), bytes(config.device.buffer_bytes), 1)
    base, count = config.memory.base, arguments["accesses"]
    await tb.bus.write(base, bytes(64))
    start = time.process_time()
    for n in range(count // 2):
        await tb.bus.write(base + n % 8 * 8, bytes(8))
        await tb.bus.read(base + n % 8 * 8, 8)
    seconds = time.process_time() - start
    await tb.finish()
    _report(rate=count / seconds)


async def checked(tb: Any, arguments: dict[str, Any]) -> None:
    """Time of some scenarios with all their verdicts, and the flush checker's part of it."""
    from .. import execute
    from ..scenarios import catalogue

    spent = 0.0
    check: Callable[..., Any] = execute.check

    def timed(*values: Any, **options: Any) -> Any:
        nonlocal spent
        start = time.process_time()
        try:
            return check(*values, **options)
        finally:
            spent += time.process_time() - start

    execute.check = timed
    payload = Path(arguments["payload"]).read_bytes()
    start = time.process_time()
    try:
        for name in _SCENARIOS:
            result = await execute.run_scenario(
                tb, catalogue()[name], payload, seed=1, quick=False, keep=False, folder=Path("scenarios")
            )
            if not result.passed:
                raise AssertionError(f"{name} must pass: {result.reasons}")
    finally:
        execute.check = check
    _report(total=time.process_time() - start, checker=spent)


def rate_rows(names: set[str], progress: Callable[[str], None], root: Path) -> dict[str, float]:
    """The rows ``sim.rate.*`` and ``checker.cost`` that ``names`` holds; simulates in folders below ``root``."""
    from ..build import build_model
    from ..options import DEFAULT_PAYLOAD
    from ..simulator import run_session
    from .bare import build_bare

    if not names & {"sim.rate.idle", "sim.rate.driven", "checker.cost"}:
        return {}
    model = build_model(SocConfig(), progress=progress)
    folder = root / "runs" / "rates"

    def run(entry: str, **arguments: Any) -> dict[str, float]:
        progress(f"simulating: {entry}")
        run_session(model, f"{__name__}:{entry}", arguments, folder)
        return json.loads((folder / "rates.json").read_text())

    values = {}
    if "sim.rate.idle" in names:
        values["sim.rate.idle"] = round(run("idle")["rate"])
    if "sim.rate.driven" in names:
        bare_model = build_bare()
        ours, bare = [], []
        for _ in range(_ROUNDS):
            ours.append(run("driven", accesses=_ACCESSES)["rate"])
            progress("simulating: bare RAM")
            run_session(bare_model, "", {"accesses": _ACCESSES}, folder, module=f"{__package__}.bare")
            bare.append(json.loads((folder / "rates.json").read_text())["rate"])
        # Rounds of both in turn, and their total times: what else the machine does then meets both alike.
        seconds = [sum(_ACCESSES / rate for rate in rates) for rates in (ours, bare)]
        rates = [_ROUNDS * _ACCESSES / total for total in seconds]
        progress(f"single accesses per second: {rates[0]:,.0f}; on the bare RAM {rates[1]:,.0f}")
        values["sim.rate.driven"] = round(rates[0] / rates[1], 3)
    if "checker.cost" in names:
        times = run("checked", payload=str(DEFAULT_PAYLOAD))
        values["checker.cost"] = round(times["total"] / (times["total"] - times["checker"]), 3)
    return values
