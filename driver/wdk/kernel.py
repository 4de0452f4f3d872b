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
from ..errors import AdapterError, ArgumentError, IrpError, MdlError, check_flag, check_integer, check_type
from ..hal import Hal
from ..platform import FlushCall, Platform
from ..trace import Call, Trace
from .device import DeviceDescription, DeviceObject
from .dma_adapter import DmaAdapter
from .irp import NTSTATUS, Irp, MajorFunction
from .mdl import Mdl, check_mdl
from .register import RegisterRoutines

__all__ = ["Kernel"]

_FLUSH = {
    (False, True): FlushCall.KE_FLUSH_DMA_WRITE,
    (True, True): FlushCall.KE_FLUSH_DMA_READ,
    (True, False): FlushCall.KE_FLUSH_PIO_READ,
    (False, False): FlushCall.KE_FLUSH_PIO_WRITE,
}


class Kernel(RegisterRoutines):
    """One machine's kernel.

    Parameters
    ----------
    bus : the bus to the machine.
    platform : what the HAL is told; :meth:`Platform.discover` asks the hardware.
    trace : the call log; a new one if None.
    reserve : bytes at the start of memory that the pool never hands out.

    Members: ``hal``, ``regs`` (register accessors), ``maintenance`` (cache maintenance by address), ``pool``.
    Interrupts are enabled by :meth:`start`, or by ``await kernel.hal.enable_interrupts()``.
    """

    def __init__(self, bus: Bus, platform: Platform, trace: Trace | None = None, *, reserve: int = 0):
        self.bus, self.platform = bus, platform
        self.trace = Trace(bus.now) if trace is None else trace
        self.hal = Hal(bus, platform, self.trace, reserve=reserve)
        self.regs, self.maintenance, self.pool = self.hal.regs, self.hal.maintenance, self.hal.pool
        self._numbers = itertools.count(1)
        self.channel_owners: dict[int, DmaAdapter] = {}
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

    # -- flushes ---------------------------------------------------------------------------------------------------

    async def ke_flush_io_buffers(self, mdl: Mdl, read_operation: bool, dma_operation: bool) -> None:
        """KeFlushIoBuffers: brings caches and memory together over the one MDL given, not over those chained to it.

        Before a DMA transfer in either direction, or after a PIO read. What it does to which cache is the platform table's
        business (:data:`driver.platform.FLUSH_TABLE`); it returns when memory has answered. On a coherent platform it does
        nothing: no bus access at all.

        Parameters
        ----------
        mdl : a built MDL; a chain takes one call per MDL.
        read_operation : True if the device's data comes to memory.
        dma_operation : True for DMA, False for PIO.

        Raises
        ------
        MdlError, ArgumentError
            For an MDL that is not built, and flags that are not bools.
        MaintenanceError, BusTimeout
            If the hardware fails.
        """
        check_flag("read_operation", read_operation)
        check_flag("dma_operation", dma_operation)
        check_mdl("mdl", mdl)
        covered = [[mdl.virtual_address, mdl.byte_count]]
        log = {"id": mdl.id, "ranges": covered}  # not the chain: the log says what the call covers
        with self.trace.call("KeFlushIoBuffers", mdl=log, read_operation=read_operation, dma_operation=dma_operation):
            await self.hal.flush_caches(_FLUSH[read_operation, dma_operation], covered)

    # -- memory and MDLs -------------------------------------------------------------------------------------------

    def ex_allocate_pool(self, number_of_bytes: int, *, alignment: int = 64, offset: int = 0, exclusive: bool = False) -> int:
        """The address of a new buffer; see :meth:`driver.memory.MemoryPool.allocate`. Its bytes are whatever memory holds."""
        return self.pool.allocate(number_of_bytes, alignment=alignment, offset=offset, exclusive=exclusive)

    def ex_free_pool(self, address: int) -> None:
        """Gives a buffer back."""
        self.pool.free(address)

    def io_allocate_mdl(
        self,
        virtual_address: int,
        length: int,
        secondary_buffer: bool = False,
        charge_quota: bool = False,
        irp: Irp | None = None,
    ) -> Mdl:
        """IoAllocateMdl: an MDL over ``[virtual_address, virtual_address + length)``.

        With an ``irp`` it becomes the request's MDL, or with ``secondary_buffer`` the last of the request's chain.

        Raises
        ------
        MdlError
            If the length is zero, or the range is not all in memory.
        """
        check_integer("length", length, 1, self.platform.memory_size, error=MdlError)
        check_integer("virtual_address", virtual_address, 0, (1 << 32) - 1, error=MdlError)
        check_flag("secondary_buffer", secondary_buffer, error=MdlError)
        check_flag("charge_quota", charge_quota, error=MdlError)
        if not self.platform.contains(virtual_address, length):
            base, size = self.platform.memory_base, self.platform.memory_size
            raise MdlError(
                f"virtual_address must lie in memory [{base:#010x}, {base + size:#010x}) with all of its {length} bytes, "
                f"not at {virtual_address:#010x}"
            )
        mdl = Mdl(self.number(), virtual_address, length)
        if irp is not None:
            check_type("irp", irp, Irp, error=MdlError)
            if secondary_buffer:
                if irp.mdl_address is None:
                    raise MdlError("secondary_buffer must be False for a request without a first MDL, not True")
                *_, last = irp.mdl_address.chain()
                last.next = mdl
            else:
                irp.mdl_address = mdl
        elif secondary_buffer:
            raise MdlError("secondary_buffer must be False without a request, not True")
        return mdl

    def io_build_partial_mdl(self, source_mdl: Mdl, target_mdl: Mdl, virtual_address: int, length: int) -> None:
        """IoBuildPartialMdl: makes ``target_mdl`` describe a part of ``source_mdl``; length 0 means up to its end.

        Raises
        ------
        MdlError
            If the part is not inside the source, or does not fit the target.
        """
        check_mdl("source_mdl", source_mdl)
        check_type("target_mdl", target_mdl, Mdl, error=MdlError)
        first, end = source_mdl.virtual_address, source_mdl.virtual_address + source_mdl.byte_count
        check_integer("virtual_address", virtual_address, first, end - 1, error=MdlError)
        length = check_integer("length", length, 0, end - virtual_address, error=MdlError) or end - virtual_address
        if length > target_mdl.byte_count:
            raise MdlError(f"length must fit the target MDL ({target_mdl.byte_count} bytes), not {length}")
        replacement = Mdl(target_mdl.id, virtual_address, length)
        target_mdl.start_va, target_mdl.byte_offset = replacement.start_va, replacement.byte_offset
        target_mdl.byte_count, target_mdl.built = length, True

    def mm_build_mdl_for_non_paged_pool(self, mdl: Mdl) -> None:
        """MmBuildMdlForNonPagedPool: the MDL's memory is resident from here on, and the MDL usable."""
        check_type("mdl", mdl, Mdl, error=MdlError)
        if mdl.freed:
            raise MdlError(f"mdl must be allocated, not freed: MDL {mdl.id} went to IoFreeMdl")
        mdl.built = True

    @staticmethod
    def mm_get_mdl_virtual_address(mdl: Mdl) -> int:
        """MmGetMdlVirtualAddress: the address of the first byte; ``current_va`` of a transfer counts from it."""
        return check_type("mdl", mdl, Mdl, error=MdlError).virtual_address

    @staticmethod
    def mm_get_mdl_byte_count(mdl: Mdl) -> int:
        """MmGetMdlByteCount: bytes of this one MDL."""
        return check_type("mdl", mdl, Mdl, error=MdlError).byte_count

    @staticmethod
    def mm_get_mdl_byte_offset(mdl: Mdl) -> int:
        """MmGetMdlByteOffset: offset of the first byte in its page."""
        return check_type("mdl", mdl, Mdl, error=MdlError).byte_offset

    def io_free_mdl(self, mdl: Mdl) -> None:
        """IoFreeMdl: frees this one MDL, not those chained to it; raises :class:`MdlError` if it was freed before."""
        check_type("mdl", mdl, Mdl, error=MdlError)
        if mdl.freed:
            raise MdlError(f"mdl must be allocated to be freed, not freed before: MDL {mdl.id}")
        mdl.freed = True

    # -- requests --------------------------------------------------------------------------------------------------

    def io_allocate_irp(
        self, major_function: MajorFunction, mdl: Mdl | None = None, byte_offset: int = 0, length: int | None = None
    ) -> Irp:
        """IoAllocateIrp, filled in: a request for ``length`` bytes (the whole chain if None) at ``byte_offset`` of the device."""
        check_type("major_function", major_function, MajorFunction, error=IrpError)
        check_integer("byte_offset", byte_offset, 0, (1 << 32) - 1, error=IrpError)
        total = 0 if mdl is None else check_type("mdl", mdl, Mdl, error=IrpError).total
        if length is not None:
            check_integer("length", length, 1, total or (1 << 32) - 1, error=IrpError)
        return Irp(self.number(), major_function, mdl, byte_offset, total if length is None else length)

    def io_complete_request(self, irp: Irp, priority_boost: int = 0) -> None:
        """IoCompleteRequest: from here on the caller owns the request and its buffer.

        Raises
        ------
        IrpError
            If the request was completed before, or its status is still STATUS_PENDING.
        """
        check_type("irp", irp, Irp, error=IrpError)
        check_integer("priority_boost", priority_boost, 0, 127, error=IrpError)
        status = NTSTATUS(irp.io_status.status)
        mdl = None if irp.mdl_address is None else irp.mdl_address.log()
        with self.trace.call("IoCompleteRequest", irp=irp.id, status=status, information=irp.io_status.information, mdl=mdl):
            if irp.completed:
                raise IrpError(f"irp must be completed once, not again: request {irp.id}")
            if status == NTSTATUS.STATUS_PENDING:
                raise IrpError(f"irp.io_status.status must be final, not STATUS_PENDING: request {irp.id}")
            irp.completed = True

    # -- DMA -------------------------------------------------------------------------------------------------------

    def io_get_dma_adapter(
        self, physical_device_object: DeviceObject, device_description: DeviceDescription
    ) -> tuple[DmaAdapter, int]:
        """IoGetDmaAdapter: ``(adapter, number_of_map_registers)``.

        The number is the most that one transfer may use: the pages that ``maximum_length`` bytes can touch.

        Raises
        ------
        AdapterError
            If the description names a channel this machine does not have.
        """
        check_type("physical_device_object", physical_device_object, DeviceObject, error=AdapterError)
        check_type("device_description", device_description, DeviceDescription, error=AdapterError)
        with self.trace.call("IoGetDmaAdapter", description=device_description.log()) as call:
            channels = self.platform.system_channels
            if not device_description.master and device_description.dma_channel >= channels:
                raise AdapterError(
                    f"DeviceDescription.dma_channel must be below the number of system channels ({channels}), "
                    f"not {device_description.dma_channel}"
                )
            adapter = DmaAdapter(self, physical_device_object, device_description)
            call.result = {"adapter": adapter.log(), "map_registers": adapter.map_registers}
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
