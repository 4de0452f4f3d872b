# SPDX-License-Identifier: BSD-2-Clause
"""How fast the simulation runs. These coroutines are entries of :func:`sim.simulator.run_session`; they write ``rates.json``."""

import json
import time
from pathlib import Path
from typing import Any

from driver.registers import IRQ, Registers

__all__ = ["driven", "idle"]

_TRANSFERS = 12


async def idle(tb: Any, arguments: dict[str, Any]) -> None:
    """Cycles per second of wall time while the DMA fills memory and the driver waits for its interrupt."""
    config = tb.config
    await tb.reset(bytes(config.memory.size), bytes(config.device.buffer_bytes), 1)
    regs = await Registers.discover(tb.bus) if hasattr(Registers, "discover") else Registers(tb.bus)
    await regs.sys.irq_enable.write(enable=(1 << IRQ.WIDTH) - 1)
    base, size = config.memory.base, config.device.buffer_bytes
    rates = []
    for _ in range(_TRANSFERS):
        await tb.bus.write(base, b"".join(w.to_bytes(4, "little") for w in (base + 0x1000, size, 1, 0)), 0b0011)
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
        rates.append((tb.bus.now() - cycle) / (time.process_time() - start))
    await tb.finish()
    Path("rates.json").write_text(json.dumps({"idle": sorted(rates)[len(rates) // 2], "all": rates, "cycles": tb.cycles}))


async def driven(tb: Any, arguments: dict[str, Any]) -> None:
    """Single accesses per second, the driver's bus against the whole SoC: hits of the D-cache, reads and writes in turn."""
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
    Path("rates.json").write_text(json.dumps({"driven": count / seconds}))
