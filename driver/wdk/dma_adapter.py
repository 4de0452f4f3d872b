# SPDX-License-Identifier: BSD-2-Clause
"""DMA adapters, versions 1 and 2 of DMA_OPERATIONS: channels, transfers, the flush at their end.

Methods are the DDI's function pointers without the adapter argument, which is ``self``; arguments keep the DDI order and
out-parameters are returned. Methods that can touch the hardware are coroutines. The routines of version 3 are in
:mod:`driver.wdk.dma_adapter_v3`; ``docs/wdk.md`` has the table of all.

The order the DDI wants, per request (KeFlushIoBuffers comes first, on the kernel)::

    system channel    allocate_adapter_channel -> (map_transfer -> start -> ... -> flush_adapter_buffers)* -> free_adapter_channel
    bus master        the same with free_map_registers at the end
    bus master, list  get_scatter_gather_list -> start -> ... -> put_scatter_gather_list
    auto-init         the first line, once: the channel reloads until flush_adapter_buffers stops it
"""

from collections.abc import Awaitable, Callable
from typing import Any

from ..bus import BusTimeout
from ..checked import CheckedInt, CheckedStatus
from ..errors import AdapterError, check_type
from ..hal import MAX_CHANNEL_COUNT
from ..memory import PAGE_BYTES
from .adapter_base import Request, RoutineError, check_int, settled
from .common_buffer import CommonBufferRoutines
from .device import DeviceObject, IoAllocationAction
from .irp import NTSTATUS
from .irql import DISPATCH_LEVEL
from .map_registers import MapRegisters, mdl_pieces, pages_of
from .mdl import Mdl
from .scatter_gather import ListRoutines, ScatterGatherElement, ScatterGatherList

__all__ = ["AdapterControl", "DmaAdapter", "MapRegisters", "ScatterGatherElement", "ScatterGatherList"]

#: ``routine(device_object, irp, map_register_base, context)``, a function or coroutine at DISPATCH_LEVEL.
AdapterControl = Callable[[DeviceObject, Any, MapRegisters, Any], IoAllocationAction | Awaitable[IoAllocationAction]]

_VERSION_3 = {
    "allocate_adapter_channel_ex",
    "allocate_common_buffer_ex",
    "build_scatter_gather_list_ex",
    "cancel_adapter_channel",
    "cancel_mapped_transfer",
    "configure_adapter_channel",
    "flush_adapter_buffers_ex",
    "free_adapter_object",
    "get_dma_adapter_info",
    "get_dma_transfer_info",
    "get_scatter_gather_list_ex",
    "initialize_dma_transfer_context",
    "map_transfer_ex",
}


class DmaAdapter(CommonBufferRoutines, ListRoutines):
    """One adapter object; made by :meth:`Kernel.io_get_dma_adapter`.

    Members: ``id``, ``version``, ``master``, ``channel`` (None for a bus master), ``map_registers`` (the most per transfer),
    ``reach`` (address bits of the device), ``demand_mode`` (of the system channel; from
    version 2 on), ``released`` (PutDmaAdapter was called).
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.demand_mode = self.description.demand_mode and self.version >= 2
        self._reloading = False  # an auto-init channel that nobody has stopped yet
        self.released = False

    def __getattr__(self, name: str) -> Any:
        if name in _VERSION_3:
            self._from_version(3, name)
            raise RoutineError(f"{name} must be called on an adapter that IoGetDmaAdapter returned for version 3")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- channel ---------------------------------------------------------------------------------------------------

    async def allocate_adapter_channel(
        self,
        device_object: DeviceObject,
        number_of_map_registers: int,
        execution_routine: AdapterControl,
        context: Any = None,
    ) -> CheckedStatus:
        """AllocateAdapterChannel: calls ``execution_routine(device_object, irp, map_register_base, context)`` once the
        channel (of a bus master: the adapter) is free.

        Returns at once: STATUS_SUCCESS if the routine ran or waits in the queue of a busy channel (it then runs inside the call
        that gives the channel back), STATUS_INSUFFICIENT_RESOURCES if more map registers are wanted than the adapter may have.
        The routine may be a coroutine; it runs at DISPATCH_LEVEL and returns an :class:`IoAllocationAction`.

        Raises
        ------
        AdapterError
            For arguments of a wrong type, and if the routine returns something else.
        """
        check_type("device_object", device_object, DeviceObject, error=AdapterError)
        check_int("number_of_map_registers", number_of_map_registers)
        self._check_routine(execution_routine)
        with self._call("AllocateAdapterChannel", map_registers=number_of_map_registers) as call:
            status = await self._allocate_channel(device_object, number_of_map_registers, execution_routine, context)
            call.result = int(status)
            return self._checked_status(call, status)

    async def _allocate_channel(
        self, device_object: DeviceObject, number: int, routine: AdapterControl, context: Any, transfer_context: Any = None
    ) -> NTSTATUS:
        count = self._size("number_of_map_registers", number)
        if count > self.map_registers:
            return NTSTATUS.STATUS_INSUFFICIENT_RESOURCES

        async def run() -> None:
            registers = self._new_registers(count, transfer_context)
            self._take(registers)
            with self._trace.context.acting("adapter-control", DISPATCH_LEVEL):
                with self._call("AdapterControl", registers=registers.log()) as call:
                    call.result = await settled(routine(device_object, device_object.current_irp, registers, context))
            if self._current is registers:  # else the routine freed the channel itself
                await self._granted(call.result)

        await self._when_free(Request(self, run, transfer_context))
        return NTSTATUS.STATUS_SUCCESS

    async def _granted(self, action: Any) -> None:
        """Does what AdapterControl's return says."""
        try:
            action = IoAllocationAction(action)
        except ValueError:
            await self._release_channel(keep_registers=False)
            raise AdapterError(f"AdapterControl must return an IoAllocationAction, not {action!r}") from None
        if action != IoAllocationAction.KEEP_OBJECT:
            await self._release_channel(keep_registers=action == IoAllocationAction.DEALLOCATE_OBJECT_KEEP_REGISTERS)

    async def free_adapter_channel(self) -> None:
        """FreeAdapterChannel: gives the channel and its map registers back; a system channel is masked, a reloading one stopped.

        The next adapter that waits for the channel has its AdapterControl called in here. Nothing if no channel is held.
        """
        with self._call("FreeAdapterChannel", registers=None if self._current is None else self._current.id):
            if self._current is not None:
                await self._stop_reloading()
                await self._release_channel(keep_registers=False)

    def free_map_registers(self, map_register_base: MapRegisters | None, number_of_map_registers: int) -> None:
        """FreeMapRegisters: a bus master's counterpart, after DEALLOCATE_OBJECT_KEEP_REGISTERS.

        Frees them all, whatever the number says; nothing if they were freed before. Raises :class:`AdapterError` for arguments
        of a wrong type.
        """
        number = check_int("number_of_map_registers", number_of_map_registers)
        with self._call("FreeMapRegisters", registers=self._registers_id(map_register_base), count=number):
            if map_register_base is not None:
                self._drop_registers(map_register_base)

    # -- transfers -------------------------------------------------------------------------------------------------

    async def map_transfer(
        self, mdl: Mdl, map_register_base: MapRegisters | None, current_va: int, length: int, write_to_device: bool
    ) -> tuple[int, CheckedInt]:
        """MapTransfer: ``(logical_address, length)`` of the next piece of the buffer, at most ``length`` bytes.

        The length comes back shortened to the contiguous piece (an MDL's end), the map registers, and the adapter's
        maximum. A bus master without scatter/gather gets the pieces of a chain as one range in bounce memory instead. What is
        bounced is copied here. On a system channel this programs the channel (address, count, mode) and unmasks it; the transfer
        begins when :meth:`Kernel.start_transfer` arms it.

        Parameters
        ----------
        current_va : MmGetMdlVirtualAddress(mdl) plus the bytes already transferred; an index into the chain.
        map_register_base : what AdapterControl got.

        Raises
        ------
        AdapterError, MdlError
            For arguments of a wrong type, a freed MDL, ranges that are no addresses, and if a buffer that must be bounced comes
            without map registers.
        PoolError
            If no bounce memory is left.
        DeviceError
            If the system channel still runs a transfer.
        """
        self._check_mdl(mdl, write_to_device, current_va=current_va, length=length)
        registers, offset = self._registers_id(map_register_base), current_va - mdl.virtual_address
        with self._call(
            "MapTransfer",
            mdl=mdl.log(),
            registers=registers,
            offset=offset,
            length=length,
            write_to_device=write_to_device,
        ) as call:
            size = self._size("length", length)
            pieces = self._cut(mdl_pieces(mdl, int(offset), size), map_register_base)
            if not self._mapper.contiguous:
                pieces = pieces[:1]
            device, direct = await self._mapper.map(map_register_base, mdl, int(offset), pieces, write_to_device)
            await self._before_transfer(direct, write_to_device)
            address, piece = device[0] if device else (int(current_va), 0)
            await self._program(address, piece, write_to_device)
            call.result = [address, piece]
            return address, self._checked_length(call, piece)

    def _cut(self, pieces: list[tuple[int, int]], registers: MapRegisters | None) -> list[tuple[int, int]]:
        """The pieces as far as the map registers and the adapter's maximum go. Without a count there is no limit."""
        most = min(self.description.maximum_length, MAX_CHANNEL_COUNT)
        pages = registers.count if registers is not None and registers.count else 1 << 20
        position = pieces[0][0] if pieces else 0  # of one range in bounce memory, with the buffer's offset in its page
        kept = []
        for address, size in pieces:
            start = position if self._mapper.contiguous else address
            length = min(size, most, pages * PAGE_BYTES - start % PAGE_BYTES)
            if length <= 0:
                break
            kept.append((address, length))
            if length < size:
                break
            most -= length
            position += length
            pages -= position // PAGE_BYTES - start // PAGE_BYTES if self._mapper.contiguous else pages_of([(address, length)])
        return kept

    async def _program(self, address: int, count: int, write_to_device: bool) -> None:
        """Address, count and mode of the system channel; nothing on a bus master, nor for a length of zero."""
        if self.channel is None or not count:
            return
        await self._hal.program_channel(
            self.channel,
            address,
            count,
            write_to_device=write_to_device,
            demand=self.demand_mode,
            auto_init=self.description.auto_initialize,
        )
        self._programmed = True

    async def arm(self) -> None:
        """Arms the system channel that MapTransfer programmed; nothing on a bus master. Called by whoever logs StartTransfer.

        Raises :class:`AdapterError` if MapTransfer has not programmed the channel: there is no address to start at.
        """
        if self.channel is None:
            return
        if not self._programmed:
            raise AdapterError("a system channel must be programmed by MapTransfer before its transfer starts")
        self._programmed = False
        self._reloading = self.description.auto_initialize
        await self._hal.arm_channel(self.channel)

    async def flush_adapter_buffers(
        self, mdl: Mdl, map_register_base: MapRegisters | None, current_va: int, length: int, write_to_device: bool
    ) -> bool:
        """FlushAdapterBuffers: drains what the DMA engine holds back; True if all of it reached memory or device.

        Needed on every platform, at the end of each device transfer, with the values of its MapTransfer. An auto-init channel
        is stopped first: this is the flush that is owed at its stop. After a device-to-memory transfer what was bounced is copied
        back, and on a non-coherent platform the lines of the rest are invalidated (:attr:`HalOptions.invalidate_after_read`).
        Over a bus master's common buffer ``map_register_base`` is None.

        False means that bytes are missing: after a bus error they are still in the engine and a second call tries again; after
        a time-out they are gone. The driver's I/O status block has to say so.

        Raises
        ------
        AdapterError, MdlError
            As :meth:`map_transfer`.
        BusTimeout
            If a reloading channel does not stop: the device is in the middle of a request.
        """
        self._check_mdl(mdl, write_to_device, current_va=current_va, length=length)
        registers, offset = self._registers_id(map_register_base), current_va - mdl.virtual_address
        with self._call(
            "FlushAdapterBuffers",
            mdl=mdl.log(),
            registers=registers,
            offset=offset,
            length=length,
            write_to_device=write_to_device,
        ) as call:
            call.result = await self._finish(mdl, map_register_base, int(offset), length, write_to_device)
            return call.result

    async def _finish(self, mdl: Mdl, registers: MapRegisters | None, offset: int, length: int, write_to_device: bool) -> bool:
        """What both flushes do: drain, copy back, invalidate."""
        size = self._size("length", length)
        await self._stop_reloading()
        ok = (await self._hal.drain()).ok
        rest = await self._mapper.flush(registers, mdl, offset, size, write_to_device, done=ok)
        if not write_to_device and rest:
            await self._hal.flush_caches(self._read_flush, rest)
        return ok

    async def _stop_reloading(self) -> None:
        """Takes an auto-init channel back: masks it, stops it after the request in progress."""
        if self._reloading:
            await self._stop_channel()

    async def _stop_channel(self) -> None:
        """Masks the system channel and stops it; returns when it is idle."""
        assert self.channel is not None
        await self._hal.mask_channel(self.channel)
        await self._hal.stop_channel(self.channel)
        status, bus = self._hal.regs.channel(self.channel).status, self._hal.bus
        deadline = bus.now() + self._hal.platform.options.drain_limit
        while (await status.read()).busy:
            if bus.now() >= deadline:
                raise BusTimeout(f"system channel {self.channel} to stop", self._hal.platform.options.drain_limit)
            await bus.delay(8)
        self._reloading = False

    async def read_dma_counter(self) -> int:
        """ReadDmaCounter: bytes of the programmed transfer (auto-init: of the current round) that a system channel has not moved.

        0 on a bus master, which has no such counter.
        """
        with self._call("ReadDmaCounter") as call:
            call.result = 0 if self.channel is None else await self._hal.residue(self.channel)
            return call.result

    # -- the adapter itself ----------------------------------------------------------------------------------------

    def get_dma_alignment(self) -> int:
        """GetDmaAlignment: bytes that a buffer's start and length should be multiples of.

        1 on a coherent platform (the engine takes any address); else the assumed cache line, because a line that the device
        writes in part cannot be kept right by any flush.
        """
        with self._call("GetDmaAlignment") as call:
            call.result = 1 if self._hal.platform.coherent else self._hal.platform.line_bytes
            return call.result

    def put_dma_adapter(self) -> None:
        """PutDmaAdapter: the adapter must not be used again (it works on: nobody looks). What it still holds leaks, as in the
        original; see :meth:`held`."""
        with self._call("PutDmaAdapter"):
            self.released = True

    def held(self) -> list[str]:
        """What the adapter has not given back, in words; an adapter that is put should hold nothing."""
        lists = {sg.registers for sg in self._lists}
        held = [f"{registers.count} map registers" for registers in self._registers if registers not in lists]
        held += [f"scatter/gather list {sg.id}" for sg in self._lists]
        return held + [f"common buffer {buffer.id}" for buffer in self._buffers]
