# SPDX-License-Identifier: BSD-2-Clause
"""What a real machine may do at any moment, on demand: for examples, where luck must strike in a certain moment.

Each function is the test harness's doing (tag 0): it carries no source line, and nobody is blamed for it. ``device`` is the
driver's :class:`~driver.storage_port.StoragePort`; its ``hal`` leads to the registers.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from driver.errors import BusTimeout
from driver.storage_port import StoragePort

__all__ = ["ends_short", "evict", "fail_writes", "landed", "memory_held", "prefetch", "refetch", "write_back"]

_FAIL_WRITES, _STALL_WRITES = 1, 3  # mem.fault_ctrl.mode
_FOR_EVER = 1_000_000
_LANDING_CYCLES = 150  # a full chunk FIFO into the slowest rows, a refresh included
_TRIES = 1000


def _harness(device: StoragePort) -> Any:
    harness = getattr(device.hal.bus, "harness", None)
    return contextlib.nullcontext() if harness is None else harness()


def _lines(device: StoragePort, address: int, length: int) -> Iterator[int]:
    # The hardware's line, whatever the HAL was told: a command for a line that was done already changes nothing.
    step = 16
    return iter(range(address - address % step, address + length, step))


async def _inject(device: StoragePort, address: int, length: int, **command: int) -> None:
    dcache = device.hal.regs.dcache
    with _harness(device):
        for line in _lines(device, address, length):
            await dcache.inject_addr.write(line)
            await dcache.inject_cmd.write(**command)
            for _ in range(_TRIES):
                if not (await dcache.inject_cmd.read()).busy:
                    break
            else:
                raise BusTimeout(f"the D-cache to finish a command for line {line:#010x}", _TRIES)


async def evict(device: StoragePort, address: int, length: int) -> None:
    """The CPU evicts the lines of ``[address, address + length)``: dirty ones are written back, and all leave the D-cache."""
    await _inject(device, address, length, evict=1)


async def write_back(device: StoragePort, address: int, length: int) -> None:
    """The CPU writes the lines back that are dirty; they stay, clean."""
    await _inject(device, address, length, writeback=1)


async def prefetch(device: StoragePort, address: int, length: int) -> None:
    """The CPU prefetches the lines: they hold what memory holds now. (A prefetch waits for its fill; not inside
    :func:`memory_held` on a coherent platform.)"""
    await _inject(device, address, length, prefetch=1)


async def refetch(device: StoragePort, address: int, length: int) -> None:
    """The CPU fetches the bytes as instructions, as a branch predictor may."""
    with _harness(device):
        await device.hal.bus.fetch(address, length)


async def landed(device: StoragePort) -> None:
    """Lets the chunks that have left the DMA engine reach memory or the device: 150 cycles."""
    await device.hal.bus.delay(_LANDING_CYCLES)


@contextlib.asynccontextmanager
async def memory_held(device: StoragePort, address: int, length: int) -> Any:
    """``async with memory_held(device, address, length): ...``: memory takes no write to these bytes meanwhile; reads go on.

    The device's data is then certain not to have arrived. Not for a coherent platform, where a snooping write blocks its line.
    """
    mem = device.hal.regs.mem
    with _harness(device):
        await mem.fault_addr.write(address)
        await mem.fault_size.write(length)
        await mem.fault_stall.write(_FOR_EVER)
        await mem.fault_ctrl.write(mode=_STALL_WRITES, count=1)
    try:
        yield
    finally:
        with _harness(device):
            await mem.fault_ctrl.write(mode=0, count=0)


async def fail_writes(device: StoragePort, address: int, length: int, count: int = 1) -> None:
    """Memory answers the next ``count`` writes to these bytes with an error (SLVERR), and takes none of their bytes."""
    mem = device.hal.regs.mem
    with _harness(device):
        await mem.fault_addr.write(address)
        await mem.fault_size.write(length)
        await mem.fault_stall.write(0)
        await mem.fault_ctrl.write(mode=_FAIL_WRITES, count=count)


async def ends_short(device: StoragePort, length: int) -> None:
    """The device ends each DMA command that is longer than ``length`` bytes after that many; 0 lets them run to their end."""
    with _harness(device):
        await device.hal.regs.dev.short.write(length)
