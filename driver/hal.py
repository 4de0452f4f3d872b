# SPDX-License-Identifier: BSD-2-Clause
"""The hardware abstraction layer: the only part between the operating-system interfaces and the registers.

It knows which cache work a flush becomes (:mod:`driver.platform`), how the DMA engine's chunk FIFO is drained, and how a system
channel is programmed. It does not know what a driver is.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from .architecture import DmaDirection, SyncStep, linux_architecture, split_edges
from .bus import Bus, BusTimeout
from .errors import DeviceError, check_integer, check_type
from .maintenance import CacheMaintenance, Op, Target
from .memory import MemoryPool
from .platform import FlushCall, Platform, flush_table
from .registers import IRQ, Registers
from .serial import Serial
from .trace import Trace

__all__ = ["MAX_CHANNEL_COUNT", "DrainResult", "Hal"]

#: Largest count of a system channel, bytes.
MAX_CHANNEL_COUNT = (1 << 24) - 1


@dataclass(frozen=True)
class DrainResult:
    """How a flush of the DMA engine ended. Exactly one of ``ok``, ``bus_error``, ``timeout`` and ``no_answer`` is true.

    ``discarded`` is the number of bytes that a time-out threw away. After ``bus_error`` the remainder is still in the
    engine, so a retry makes sense; ``no_answer`` means that the engine did not finish within the HAL's limit.
    """

    ok: bool
    bus_error: bool = False
    timeout: bool = False
    no_answer: bool = False
    discarded: int = 0


class Hal:
    """HAL of one machine.

    Parameters
    ----------
    bus : the bus to the machine.
    platform : what the HAL is told about it.
    trace : the call log.
    reserve : bytes at the start of memory that the pool never hands out.
    """

    def __init__(self, bus: Bus, platform: Platform, trace: Trace, *, reserve: int = 0):
        check_type("platform", platform, Platform)
        check_type("trace", trace, Trace)
        self.bus, self.platform, self.trace = bus, platform, trace
        self.regs = Registers(bus, system_channels=platform.system_channels)
        self.maintenance = CacheMaintenance(
            bus, self.regs, trace, line_bytes=platform.line_bytes, limit=platform.options.maintenance_limit
        )
        self.pool = MemoryPool(platform.memory_base, platform.memory_size, reserve=reserve)
        self.flushes = flush_table(platform.options)
        self._uncached: list[tuple[int, int]] = []
        self._numbers = itertools.count(1)
        self._engine = Serial(bus, "the flush of the DMA engine")

    async def enable_interrupts(self) -> None:
        """Opens the interrupt gate for every source; waits of this package need it. One bus access."""
        await self.regs.sys.irq_enable.write(enable=(1 << IRQ.WIDTH) - 1)

    # -- caches ----------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """The next object number of this machine: devices, buffers and pools of the Linux interface share one sequence."""
        return next(self._numbers)

    async def flush_caches(self, call: FlushCall, ranges: Sequence[Sequence[int]]) -> None:
        """The cache work that ``call`` owes over ``ranges`` on this platform.

        On a coherent platform that is nothing: no bus access at all. The exception is :attr:`FlushCall.UNCACHE`, because an
        uncached access looks no cache up on any machine: dirty lines left behind would be written over it later.
        Ranges inside memory that is only accessed uncached are skipped, but for that same call.
        """
        check_type("call", call, FlushCall)
        if call is not FlushCall.UNCACHE:
            ranges = self._cached(ranges)
        for cache_step in self.flushes[call]:
            await self._maintain(cache_step.op, ranges, cache_step.target)

    async def sync(self, steps: Sequence[SyncStep], ranges: Sequence[Sequence[int]]) -> None:
        """The cache work of one call of the Linux DMA API (a cell of :mod:`driver.architecture`) over ``ranges``.

        Nothing on a coherent platform, and for ranges in memory that is only accessed uncached.
        """
        ranges = self._cached(ranges)
        for step in steps:
            if not step.keep_edges:
                await self._maintain(step.op, ranges, step.target)
                continue
            split = [split_edges(address, length, self.platform.line_bytes) for address, length in ranges]
            await self._maintain(Op.CLEAN_INVALIDATE, [edge for edges, _ in split for edge in edges], step.target)
            await self._maintain(step.op, [middle for _, middles in split for middle in middles], step.target)

    async def sync_for_device(self, direction: DmaDirection, ranges: Sequence[Sequence[int]]) -> None:
        """``arch_sync_dma_for_device``: the streaming mapping goes to the device."""
        await self.sync(linux_architecture(self.platform.options.architecture).for_device[direction], ranges)

    async def sync_for_cpu(self, direction: DmaDirection, ranges: Sequence[Sequence[int]]) -> None:
        """``arch_sync_dma_for_cpu``: the streaming mapping comes back to the CPU."""
        if self.platform.options.speculates:
            await self.sync(linux_architecture(self.platform.options.architecture).for_cpu[direction], ranges)

    def _cached(self, ranges: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """The ranges that flushes have to look at."""
        if self.platform.coherent:
            return []
        return [(address, length) for address, length in ranges if not self.is_uncached(address, length)]

    async def _maintain(self, op: Op, ranges: Sequence[Sequence[int]], target: Target) -> None:
        if ranges:
            step = self.platform.line_bytes if self.platform.options.line_loop else None
            await self.maintenance.run(op, ranges, target, requested_by="hal", step=step)

    def set_uncached(self, address: int, length: int, uncached: bool) -> None:
        """Keeps the books of which ranges the CPU accesses uncached only."""
        if uncached:
            self._uncached.append((address, length))
        else:
            self._uncached.remove((address, length))

    def is_uncached(self, address: int, length: int) -> bool:
        """Whether all of ``[address, address + length)`` is uncached memory."""
        return any(base <= address and address + length <= base + size for base, size in self._uncached)

    # -- DMA engine ------------------------------------------------------------------------------------------------

    async def drain(self) -> DrainResult:
        """Flushes the chunk FIFO in both directions and waits until memory and device have taken the bytes.

        Needed on every platform: the remainder is the controller's, not the cache's.
        """
        dma = self.regs.dma
        async with self._engine:
            await dma.flush_status.clear()
            await dma.ctrl.write(flush=1)
            try:
                await self.bus.wait_interrupt(1 << IRQ.FLUSH, self.platform.options.drain_limit, "the DMA engine's flush")
            except BusTimeout:
                return DrainResult(ok=False, no_answer=True)
            status = await dma.flush_status.read()
            await dma.flush_status.clear()
            if status.ok:
                return DrainResult(ok=True)
            discarded = int(await dma.flush_discarded.read()) if status.timeout else 0
            return DrainResult(
                ok=False,
                bus_error=bool(status.bus_error),
                timeout=bool(status.timeout) and not status.bus_error,
                no_answer=not (status.bus_error or status.timeout),
                discarded=discarded,
            )

    async def program_channel(
        self, channel: int, address: int, count: int, *, write_to_device: bool, demand: bool, auto_init: bool
    ) -> None:
        """Programs a system channel and unmasks it; it moves nothing before :meth:`arm_channel`.

        Raises
        ------
        ArgumentError
            If the count is not 1 to 2**24-1 bytes.
        DeviceError
            If the channel still runs a transfer; nothing is written then.
        """
        check_integer("count", count, 1, MAX_CHANNEL_COUNT)
        regs = self.regs.channel(channel)
        if (await regs.status.read()).busy:
            raise DeviceError(f"system channel {channel} must be idle to be programmed, but it runs a transfer")
        await regs.mask.write(mask=1)
        await regs.status.clear()
        await regs.addr.write(address)
        await regs.count.write(count)
        await regs.mode.write(write_to_device=int(write_to_device), demand=int(demand), auto_init=int(auto_init))
        await regs.mask.write(mask=0)

    async def arm_channel(self, channel: int) -> None:
        """Arms a programmed channel: the hand-off. From here on device requests are served."""
        await self.regs.channel(channel).ctrl.write(start=1)

    async def mask_channel(self, channel: int) -> None:
        """Holds the device's requests off."""
        await self.regs.channel(channel).mask.write(mask=1)

    async def stop_channel(self, channel: int) -> None:
        """Disarms a channel after the device request in progress; the residue stays."""
        await self.regs.channel(channel).ctrl.write(stop=1)

    async def residue(self, channel: int) -> int:
        """Bytes that the channel has not moved."""
        return int(await self.regs.channel(channel).residue.read())
