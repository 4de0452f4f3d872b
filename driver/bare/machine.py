# SPDX-License-Identifier: BSD-2-Clause
"""The machine as an embedded developer sees it.

The calls are those of CMSIS-Core (cachel1_armv7.h: ``SCB_CleanDCache_by_Addr`` and its family), in snake case and without
``SCB_``. One thing differs on purpose: CMSIS puts a barrier into each function, while the instructions and registers below them
(DCCMVAC and the like) only start the work. Here a call returns when the maintenance unit has taken the command, and
:meth:`Machine.dsb` waits for it, as on the core itself. A device that is started before reads what memory holds then.
"""

from collections.abc import Sequence
from typing import Any

from ..bounce import check_pairs
from ..bus import Bus
from ..cpu import Cpu
from ..errors import PoolError, check_integer, check_type
from ..hal import Hal
from ..maintenance import Op, Target
from ..platform import Platform
from ..trace import Call, Trace

__all__ = ["Machine"]

_ADDRESSES = 1 << 32


class Machine:
    """One machine.

    Parameters
    ----------
    hal : the machine; its interrupts must be enabled (:meth:`start` does it).
    trace : the call log.

    Members: ``cpu`` (loads, stores, fetches), ``regs`` (register accessors), ``bus``, ``hal``, ``pool``, ``trace``, ``platform``.
    """

    def __init__(self, hal: Hal, trace: Trace):
        self.hal = check_type("hal", hal, Hal)
        self.trace = check_type("trace", trace, Trace)
        self.bus, self.regs, self.platform, self.pool = hal.bus, hal.regs, hal.platform, hal.pool
        self.cpu = Cpu(hal.bus, trace)

    @classmethod
    async def start(cls, bus: Bus, trace: Trace | None = None, *, reserve: int = 0, **beliefs: Any) -> "Machine":
        """Discovers the machine, applies ``beliefs`` (fields of :class:`Platform`), enables interrupts.

        ``reserve`` bytes at the start of memory are never handed out.
        """
        trace = Trace(bus.now) if trace is None else trace
        hal = Hal(bus, await Platform.discover(bus, **beliefs), trace, reserve=reserve)
        await hal.enable_interrupts()
        return cls(hal, trace)

    # -- caches ----------------------------------------------------------------------------------------------------

    async def clean_dcache_by_addr(self, addr: int, dsize: int) -> None:
        """SCB_CleanDCache_by_Addr: starts writing back the dirty lines that hold a byte of ``[addr, addr + dsize)``.

        Like its family it returns when the command is accepted, which is after the end of an earlier one; :meth:`dsb` waits for
        its end. It works on every machine, a coherent one included: you asked for it. ``dsize`` is in bytes; 0 does nothing.

        Raises
        ------
        ArgumentError
            If the range leaves the address space.
        """
        await self._by_addr(Op.CLEAN, addr, dsize, Target.D)

    async def invalidate_dcache_by_addr(self, addr: int, dsize: int) -> None:
        """SCB_InvalidateDCache_by_Addr: starts dropping these lines; dirty bytes in them are lost, neighbours' too."""
        await self._by_addr(Op.INVALIDATE, addr, dsize, Target.D)

    async def clean_invalidate_dcache_by_addr(self, addr: int, dsize: int) -> None:
        """SCB_CleanInvalidateDCache_by_Addr: starts writing back and dropping these lines."""
        await self._by_addr(Op.CLEAN_INVALIDATE, addr, dsize, Target.D)

    async def invalidate_icache_by_addr(self, addr: int, isize: int) -> None:
        """SCB_InvalidateICache_by_Addr: starts dropping these lines of the I-cache."""
        await self._by_addr(Op.INVALIDATE, addr, isize, Target.I)

    async def clean_dcache(self) -> None:
        """SCB_CleanDCache: starts writing back every dirty line."""
        await self.hal.maintenance.post(Op.CLEAN, None, Target.D)

    async def invalidate_dcache(self) -> None:
        """SCB_InvalidateDCache: starts dropping everything; every dirty byte of everybody is lost."""
        await self.hal.maintenance.post(Op.INVALIDATE, None, Target.D)

    async def clean_invalidate_dcache(self) -> None:
        """SCB_CleanInvalidateDCache: starts writing back and dropping everything."""
        await self.hal.maintenance.post(Op.CLEAN_INVALIDATE, None, Target.D)

    async def invalidate_icache(self) -> None:
        """SCB_InvalidateICache: starts dropping the whole I-cache."""
        await self.hal.maintenance.post(Op.INVALIDATE, None, Target.I)

    async def dsb(self) -> None:
        """__DSB: returns when all maintenance given before is complete, its write-backs answered by memory.

        Loads and stores need no waiting: each one is answered before the next. Without maintenance in progress there is no bus
        access.

        Raises
        ------
        MaintenanceError
            If a write-back of the maintenance waited for got a bus error.
        BusTimeout
            If it is not complete after :attr:`HalOptions.maintenance_limit` cycles.
        """
        with self.trace.call("dsb"):
            await self.hal.maintenance.barrier()

    async def isb(self) -> None:
        """__ISB: later instructions are fetched anew. This CPU holds none, so only the log sees it."""
        self.trace.event("isb")

    # -- memory, DMA engine, interrupts ----------------------------------------------------------------------------

    def allocate(
        self,
        length: int,
        *,
        alignment: int | None = None,
        offset: int = 0,
        exclusive: bool = True,
        what: str = "buffer",
    ) -> int:
        """The address of a static buffer of ``length`` bytes; :meth:`driver.memory.MemoryPool.allocate` says what the rest means.

        By default it shares no cache line with anything: ``alignment`` None is the assumed line, at least 64.
        """
        check_integer("length", length, 1, self.platform.memory_size, error=PoolError)
        with self.trace.call("AllocateMemory", length=length, kind="static", what=check_type("what", what, str)) as call:
            address = self.pool.allocate(
                length,
                alignment=max(64, self.platform.line_bytes) if alignment is None else alignment,
                offset=offset,
                exclusive=exclusive,
                what=what,
            )
            call.result = {"address": address, "length": length}
            return address

    def free(self, address: int) -> None:
        """Gives a buffer back; raises :class:`PoolError` if it is not allocated."""
        check_integer("address", address, 0, _ADDRESSES - 1, error=PoolError)
        with self.trace.call("FreeMemory", address=address):
            self.pool.free(address)

    def declare_control(self, address: int, length: int, what: str) -> None:
        """Says that CPU and device share these bytes: descriptors, control or status words. Only the log uses it."""
        ((address, length),) = check_pairs([(address, length)])
        self.trace.event("DeclareControl", address=address, length=length, what=check_type("what", what, str))

    def cpu_copy(self, ranges: Sequence[Sequence[int]]) -> Call:
        """Declares that the CPU itself stores PIO data into ``ranges``: ``with machine.cpu_copy([(address, 3)]): ...``."""
        return self.trace.call("CpuCopy", ranges=[list(pair) for pair in check_pairs(ranges)])

    async def flush_dma(self) -> bool:
        """The DMA controller's own flush: it hands over what it holds back, in both directions. Cache maintenance does not.

        Owed after a transfer that does not end on a chunk. False if bytes are missing: a bus error, or a time-out of the engine.
        """
        return (await self.hal.drain()).ok

    async def wait_interrupt(self, mask: int, limit: int, what: str = "an interrupt") -> int:
        """The interrupt levels in ``mask`` as soon as one is high; raises :class:`BusTimeout` naming ``what`` after ``limit``
        cycles."""
        check_integer("mask", mask, 1, _ADDRESSES - 1)
        check_integer("limit", limit, 1, 1 << 40)
        return await self.bus.wait_interrupt(mask, limit, check_type("what", what, str))

    async def _by_addr(self, op: Op, addr: int, size: int, target: Target) -> None:
        check_integer("addr", addr, 0, _ADDRESSES - 1)
        check_integer("dsize" if target == Target.D else "isize", size, 0, _ADDRESSES - addr)
        if size:
            step = self.platform.line_bytes if self.platform.options.line_loop else None
            await self.hal.maintenance.post(op, [(addr, size)], target, step=step)
