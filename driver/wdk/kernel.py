# SPDX-License-Identifier: BSD-2-Clause
"""The kernel as a driver sees it: DDI routines that are not methods of a DMA adapter.

Names are the DDI names in snake case, arguments keep the DDI order, out-parameters are returned. A routine that can touch
the hardware is a coroutine (``await kernel.ke_flush_io_buffers(mdl, True, True)``); one that cannot is a plain function.
"""

import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from ..bus import Bus
from ..checked import Null, NullChecked
from ..cpu import Cpu
from ..errors import AdapterError, ArgumentError, check_flag, check_integer, check_type
from ..hal import Hal
from ..memory import KindedMemory
from ..platform import FlushCall, Platform
from ..processor import Processor
from ..trace import Call, Trace
from .adapters import KNOWN_VERSIONS, make_adapter
from .device import DeviceDescription, DeviceObject
from .dispatcher import DispatcherRoutines
from .dma_adapter import DmaAdapter
from .interrupt import InterruptRoutines
from .irql import PASSIVE_LEVEL
from .mdl import Mdl, check_mdl
from .memory import MemoryRoutines
from .register import RegisterRoutines
from .requests import RequestRoutines

__all__ = ["Kernel"]

_FLUSH = {
    (False, True): FlushCall.KE_FLUSH_DMA_WRITE,
    (True, True): FlushCall.KE_FLUSH_DMA_READ,
    (True, False): FlushCall.KE_FLUSH_PIO_READ,
    (False, False): FlushCall.KE_FLUSH_PIO_WRITE,
}


class Kernel(MemoryRoutines, RequestRoutines, RegisterRoutines, DispatcherRoutines, InterruptRoutines):
    """One machine's kernel.

    Parameters
    ----------
    bus : the bus to the machine.
    platform : what the HAL is told; :meth:`Platform.discover` asks the hardware.
    trace : the call log; a new one if None.
    reserve : bytes at the start of memory that the pool never hands out.

    Members: ``bus`` (the given one, as a context of this CPU sees it), ``cpu`` (loads and stores of driver code), ``hal``,
    ``regs`` (register accessors), ``maintenance`` (cache maintenance by address), ``pool`` and ``memory``, ``processor``.
    Interrupts are enabled by :meth:`start`, or by ``await kernel.hal.enable_interrupts()``.
    """

    def __init__(self, bus: Bus, platform: Platform, trace: Trace | None = None, *, reserve: int = 0):
        self.platform = platform
        self.trace = Trace(bus.now) if trace is None else trace
        self.trace.main.irql = PASSIVE_LEVEL
        self.processor = Processor(bus, self.trace)
        self.bus: Bus = self.processor.bus
        self.hal = Hal(self.bus, platform, self.trace, reserve=reserve)
        self.cpu = Cpu(self.bus, self.trace)
        self.regs, self.maintenance, self.pool = self.hal.regs, self.hal.maintenance, self.hal.pool
        self.memory = KindedMemory(self.pool, self.trace)
        self._numbers = itertools.count(1)
        self.channel_owners: dict[int, Any] = {}
        self.channel_queue: dict[int, list[Any]] = {}

    @classmethod
    async def start(cls, bus: Bus, trace: Trace | None = None, *, reserve: int = 0, **beliefs: Any) -> "Kernel":
        """Discovers the platform, applies ``beliefs`` (fields of :class:`Platform`), enables interrupts."""
        kernel = cls(bus, await Platform.discover(bus, **beliefs), trace, reserve=reserve)
        await kernel.hal.enable_interrupts()
        return kernel

    def number(self) -> int:
        """The next object number: MDLs, adapters, lists, buffers and requests share one sequence."""
        return next(self._numbers)

    @property
    def failure(self) -> BaseException | None:
        """What stopped the machine: an exception in an ISR or DPC, an interrupt storm. Every access and wait raises it."""
        return self.processor.failure

    # -- flushes ---------------------------------------------------------------------------------------------------

    async def ke_flush_io_buffers(self, mdl: Mdl, read_operation: bool, dma_operation: bool) -> None:
        """KeFlushIoBuffers: brings caches and memory together over the one MDL given, not over those chained to it.

        Before a DMA transfer in either direction, or after a PIO read. What it does to which cache is the platform table's
        business (:data:`driver.platform.FLUSH_TABLE`); it returns when memory has answered. On a coherent platform it does
        nothing: no bus access at all.

        Parameters
        ----------
        mdl : one MDL; a chain takes one call per MDL.
        read_operation : True if the device's data comes to memory.
        dma_operation : True for DMA, False for PIO.

        Raises
        ------
        MdlError, ArgumentError
            For an MDL that was freed, and flags that are not bools.
        MaintenanceError, BusTimeout
            If the hardware fails.
        """
        check_flag("read_operation", read_operation)
        check_flag("dma_operation", dma_operation)
        check_mdl("mdl", mdl)
        log = mdl.log_one()  # not the chain: the log says what the call covers
        with self.trace.call("KeFlushIoBuffers", mdl=log, read_operation=read_operation, dma_operation=dma_operation):
            await self.hal.flush_caches(_FLUSH[read_operation, dma_operation], log["ranges"])

    # -- DMA -------------------------------------------------------------------------------------------------------

    def io_get_dma_adapter(
        self, physical_device_object: DeviceObject, device_description: DeviceDescription
    ) -> tuple[DmaAdapter, int]:
        """IoGetDmaAdapter: ``(adapter, number_of_map_registers)``.

        The number is the most that one transfer may use: the pages that ``maximum_length`` bytes can touch. For a description of
        a version that does not exist the adapter is NULL (:class:`~driver.checked.Null`) and the number 0; a driver has to
        test it (``if not adapter``) whatever it asked for.

        Raises
        ------
        AdapterError
            If the description names a channel this machine does not have.
        """
        check_type("physical_device_object", physical_device_object, DeviceObject, error=AdapterError)
        check_type("device_description", device_description, DeviceDescription, error=AdapterError)
        with self.trace.call("IoGetDmaAdapter", description=device_description.log()) as call:
            if device_description.version not in KNOWN_VERSIONS:
                call.result = {"adapter": None, "map_registers": 0}
                return Null(self.trace, call.number, "IoGetDmaAdapter"), 0  # type: ignore[return-value]
            channels = self.platform.system_channels
            if not device_description.master and device_description.dma_channel >= channels:
                raise AdapterError(
                    f"DeviceDescription.dma_channel must be below the number of system channels ({channels}), "
                    f"not {device_description.dma_channel}"
                )
            adapter = make_adapter(self, physical_device_object, device_description)
            call.result = {"adapter": adapter.log(), "map_registers": adapter.map_registers}
            if isinstance(adapter, NullChecked):
                adapter.must_be_checked(self.trace, call.number)
            return adapter, adapter.map_registers

    def start_transfer(
        self, adapter: DmaAdapter, ranges: Sequence[Sequence[int]], write_to_device: bool, buffer: int | None = None
    ) -> "StartTransfer":
        """Marks the register writes that start a transfer: ``async with kernel.start_transfer(...): <start the device>``.

        On a system channel this also arms the channel that MapTransfer programmed, first thing: arming is the hand-off on this
        controller, and a driver still owns the buffer between MapTransfer and the start of its device.

        Parameters
        ----------
        ranges : pairs of address and length, what the device may touch.
        buffer : id of the common buffer they lie in, or None.

        Raises
        ------
        AdapterError
            If no range is given; inside the block, if MapTransfer has not programmed the system channel.
        """
        check_type("adapter", adapter, DmaAdapter, error=AdapterError)
        check_flag("write_to_device", write_to_device, error=AdapterError)
        log = [[address, length] for address, length in ranges]
        if not log:
            raise AdapterError("ranges must name at least one range, not none")
        return StartTransfer(self.trace, adapter, log, write_to_device, buffer)

    def cpu_copy(self, ranges: Sequence[Sequence[int]]) -> Call:
        """Declares that the CPU itself stores PIO data into ``ranges``: ``with kernel.cpu_copy([(address, 3)]): ...``."""
        log = [[check_integer("address", a, 0, (1 << 32) - 1), check_integer("length", n, 1, 1 << 32)] for a, n in ranges]
        if not log:
            raise ArgumentError("ranges must name at least one range, not none")
        return self.trace.call("CpuCopy", ranges=log)


class StartTransfer:
    """The block of :meth:`Kernel.start_transfer`. (A plain class: a frame of the standard library between the driver's line
    and the log would become the *site*.)"""

    def __init__(self, trace: Trace, adapter: DmaAdapter, ranges: list[list[int]], write_to_device: bool, buffer: int | None):
        self._trace, self._adapter = trace, adapter
        self._args = {"ranges": ranges, "write_to_device": write_to_device, "buffer": buffer}
        self._call: Call | None = None

    async def __aenter__(self) -> None:
        self._call = self._trace.call("StartTransfer", adapter=self._adapter.log(), **self._args)
        try:
            await self._adapter.arm()
        except BaseException as error:
            self._trace.end(self._call, error)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._call is not None:
            self._trace.end(self._call, error)
