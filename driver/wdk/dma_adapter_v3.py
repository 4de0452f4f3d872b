# SPDX-License-Identifier: BSD-2-Clause
"""DMA adapters, version 3 of DMA_OPERATIONS: transfer contexts, synchronous allocation, one call per buffer.

KeFlushIoBuffers is not needed here: MapTransferEx and the list routines do the cache work that the platform owes before a
transfer, FlushAdapterBuffersEx and PutScatterGatherList what it owes after one. Routines of version 1 and 2 work on these
adapters too, with the same cache work.

Routines with an NTSTATUS and out-parameters return a tuple, the status first::

    system channel    initialize_dma_transfer_context -> allocate_adapter_channel_ex
                      -> (map_transfer_ex -> start -> completion routine -> flush_adapter_buffers_ex)* -> free_adapter_object
    bus master        the same, or get_scatter_gather_list_ex -> start -> ... -> put_scatter_gather_list
"""

from typing import Any

from ..checked import CheckedInt, CheckedStatus, Null
from ..errors import AdapterError, PoolError, check_flag, check_integer, check_type
from ..platform import FlushCall
from .adapter_base import check_int
from .common_buffer import CommonBuffer
from .completion import CompletionWatch
from .device import DeviceObject, IoAllocationAction
from .dma_adapter import AdapterControl, DmaAdapter
from .irp import NTSTATUS
from .map_registers import MapRegisters, mdl_pieces, pages_of
from .mdl import Mdl
from .scatter_gather import ListControl, ScatterGatherElement, ScatterGatherList, list_bytes
from .transfer_context import (
    DMA_SYNCHRONOUS_CALLBACK,
    CompletionRoutine,
    DmaAdapterInfo,
    DmaCompletionStatus,
    DmaTransferContext,
    DmaTransferInfo,
    MappedTransfer,
)

__all__ = ["DmaAdapterV3"]

_DEMAND_FUNCTION = 1  # ConfigureAdapterChannel: context is True for demand mode, False for block mode


class DmaAdapterV3(DmaAdapter):
    """An adapter that IoGetDmaAdapter returned for DEVICE_DESCRIPTION_VERSION3. Members as of :class:`DmaAdapter`."""

    _map_flush = FlushCall.MAP_EX_READ, FlushCall.MAP_EX_WRITE
    _read_flush = FlushCall.FLUSH_EX_READ

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._transfer: MappedTransfer | None = None
        self._watch = CompletionWatch(self)

    # -- information -----------------------------------------------------------------------------------------------

    def initialize_dma_transfer_context(self) -> tuple[CheckedStatus, DmaTransferContext]:
        """InitializeDmaTransferContext: ``(status, dma_transfer_context)``, a new context for one allocation."""
        with self._call("InitializeDmaTransferContext") as call:
            context = DmaTransferContext(self.kernel.number())
            call.result = {"context": context.id}
            return self._checked_status(call, NTSTATUS.STATUS_SUCCESS), context

    def get_dma_adapter_info(self, version: int = 1) -> tuple[CheckedStatus, DmaAdapterInfo | None]:
        """GetDmaAdapterInfo: ``(status, adapter_info)`` of DMA_ADAPTER_INFO version 1, else STATUS_NOT_SUPPORTED and None.

        A system channel has a counter and takes one element per transfer; a bus master takes as many as there are map registers.
        """
        check_int("version", version)
        with self._call("GetDmaAdapterInfo") as call:
            if version != 1:
                call.result = {"status": int(NTSTATUS.STATUS_NOT_SUPPORTED)}
                return self._checked_status(call, NTSTATUS.STATUS_NOT_SUPPORTED), None
            single = self.channel is not None or self._mapper.contiguous
            info = DmaAdapterInfo(self.channel is not None, 1 if single else self.map_registers, self.reach, 0, 1)
            call.result = {"status": 0, **vars(info)}
            return self._checked_status(call, NTSTATUS.STATUS_SUCCESS), info

    def get_dma_transfer_info(
        self, mdl: Mdl, offset: int, length: int, write_only: bool, version: int = 1
    ) -> tuple[CheckedStatus, DmaTransferInfo | None]:
        """GetDmaTransferInfo: ``(status, transfer_info)``: map registers, elements and list bytes that this buffer needs.

        STATUS_NOT_SUPPORTED for another version of DMA_TRANSFER_INFO, STATUS_INVALID_PARAMETER for a length of zero.
        """
        self._check_mdl(mdl, write_only, offset=offset, length=length, version=version)
        with self._call("GetDmaTransferInfo", mdl=mdl.log(), offset=offset, length=length, write_to_device=write_only) as call:
            size = self._size("length", length)
            info, status = None, NTSTATUS.STATUS_SUCCESS
            if version != 1:
                status = NTSTATUS.STATUS_NOT_SUPPORTED
            elif size == 0:
                status = NTSTATUS.STATUS_INVALID_PARAMETER
            else:
                pieces = mdl_pieces(mdl, int(offset), size)
                count = self._element_count(len(pieces)) if self.master else len(pieces)
                info = DmaTransferInfo(pages_of(pieces), count, list_bytes(count))
            call.result = {
                "status": int(status),
                "map_registers": info and info.map_register_count,
                "elements": info and info.scatter_gather_element_count,
                "list_bytes": info and info.scatter_gather_list_size,
            }
            return self._checked_status(call, status), info

    # -- channel ---------------------------------------------------------------------------------------------------

    async def allocate_adapter_channel_ex(
        self,
        device_object: DeviceObject,
        dma_transfer_context: DmaTransferContext,
        number_of_map_registers: int,
        flags: int,
        execution_routine: AdapterControl | None = None,
        execution_context: Any = None,
    ) -> tuple[CheckedStatus, MapRegisters | None]:
        """AllocateAdapterChannelEx: ``(status, map_register_base)``.

        Asynchronous (``flags`` 0): as AllocateAdapterChannel, and CancelAdapterChannel can take a waiting request back; the map
        registers go to ``execution_routine(device_object, irp, map_register_base, execution_context)``, the second value is None.
        With DMA_SYNCHRONOUS_CALLBACK nothing waits: STATUS_INSUFFICIENT_RESOURCES if the channel is busy; without a routine the
        caller keeps channel and map registers until :meth:`free_adapter_object`.

        Other values: STATUS_INVALID_PARAMETER (neither flag nor routine, or unknown flags), STATUS_INSUFFICIENT_RESOURCES (more
        map registers than the adapter may have), STATUS_CANCELLED (the context was cancelled).

        Raises
        ------
        AdapterError
            For arguments of a wrong type, and if the routine returns something else than an :class:`IoAllocationAction`.
        """
        self._check_context(device_object, dma_transfer_context, flags, execution_routine)
        check_int("number_of_map_registers", number_of_map_registers)
        synchronous = flags == DMA_SYNCHRONOUS_CALLBACK
        with self._call(
            "AllocateAdapterChannelEx",
            context=dma_transfer_context.id,
            map_registers=number_of_map_registers,
            synchronous=synchronous,
        ) as call:
            status, registers = self._admit(dma_transfer_context, flags, execution_routine), None
            if status == NTSTATUS.STATUS_SUCCESS and execution_routine is not None:
                status = await self._allocate_channel(
                    device_object, number_of_map_registers, execution_routine, execution_context, dma_transfer_context
                )
            elif status == NTSTATUS.STATUS_SUCCESS:
                count = self._size("number_of_map_registers", number_of_map_registers)
                if count > self.map_registers:
                    status = NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
                else:
                    registers = self._new_registers(count, dma_transfer_context)
                    self._take(registers)
            call.result = int(status)
            return self._checked_status(call, status), registers

    def cancel_adapter_channel(self, device_object: DeviceObject, dma_transfer_context: DmaTransferContext) -> bool:
        """CancelAdapterChannel: True if an allocation under this context waited and is gone, or if none was made yet (a later one
        then returns STATUS_CANCELLED); False if its routine has been called."""
        self._check_context(device_object, dma_transfer_context, 0, None)
        with self._call("CancelAdapterChannel", context=dma_transfer_context.id) as call:
            queue = self.kernel.channel_queue.get(self._key, [])
            waiting = next((request for request in queue if request.context is dma_transfer_context), None)
            if waiting is not None:
                queue.remove(waiting)
                if waiting.withdraw is not None:
                    waiting.withdraw()
            call.result = waiting is not None or not dma_transfer_context.used
            dma_transfer_context.cancelled |= call.result
            return call.result

    async def free_adapter_object(self, allocation_action: IoAllocationAction) -> None:
        """FreeAdapterObject: gives back what a synchronous allocation without a routine holds.

        DEALLOCATE_OBJECT the channel and its map registers, DEALLOCATE_OBJECT_KEEP_REGISTERS the channel only, KEEP_OBJECT
        nothing. Nothing either if no channel is held.
        """
        try:
            action = IoAllocationAction(allocation_action)
        except ValueError:
            raise AdapterError(f"allocation_action must be an IoAllocationAction, not {allocation_action!r}") from None
        with self._call("FreeAdapterObject", action=int(action)):
            if self._current is not None and action != IoAllocationAction.KEEP_OBJECT:
                await self._stop_reloading()
                await self._release_channel(keep_registers=action == IoAllocationAction.DEALLOCATE_OBJECT_KEEP_REGISTERS)

    async def configure_adapter_channel(self, function_number: int, context: Any) -> CheckedStatus:
        """ConfigureAdapterChannel: a function of this DMA controller, for transfers that are mapped from now on.

        Function 1 selects demand mode (``context`` True) or block mode (False); others return STATUS_NOT_IMPLEMENTED. A bus
        master has no channel: STATUS_INVALID_PARAMETER.
        """
        check_int("function_number", function_number)
        with self._call("ConfigureAdapterChannel", function=function_number) as call:
            if self.channel is None:
                status = NTSTATUS.STATUS_INVALID_PARAMETER
            elif function_number != _DEMAND_FUNCTION:
                status = NTSTATUS.STATUS_NOT_IMPLEMENTED
            else:
                self.demand_mode = check_flag("context", context, error=AdapterError)
                status = NTSTATUS.STATUS_SUCCESS
            call.result = int(status)
            return self._checked_status(call, status)

    # -- transfers -------------------------------------------------------------------------------------------------

    async def map_transfer_ex(
        self,
        mdl: Mdl,
        map_register_base: MapRegisters | None,
        offset: int,
        device_offset: int,
        length: int,
        write_to_device: bool,
        scatter_gather_buffer: Any = None,
        scatter_gather_buffer_length: int = 0,
        dma_completion_routine: CompletionRoutine | None = None,
        completion_context: Any = None,
    ) -> tuple[CheckedStatus, CheckedInt, tuple[ScatterGatherElement, ...]]:
        """MapTransferEx: ``(status, length, elements)`` for all of the buffer that map registers and list buffer can hold.

        Cleans the buffer's lines before memory-to-device, cleans and invalidates them before device-to-memory
        (:attr:`HalOptions.clean_before_read`), copies what is bounced. A bus master gets an element per contiguous piece. A
        system channel takes one address, so the length is shortened to the first piece; programmed here, armed by the start.

        Parameters
        ----------
        offset : bytes from the start of the MDL chain.
        device_offset : of the device's FIFO; this controller's requests name no FIFO, so it is only logged.
        scatter_gather_buffer : None is NULL, which a system channel may pass. Elements are returned, nothing is stored in it.
        scatter_gather_buffer_length : its bytes (:meth:`get_dma_transfer_info`); the length is shortened to what it holds.
        dma_completion_routine : ``routine(dma_adapter, device_object, completion_context, status)``, called at DISPATCH_LEVEL
            when the system channel's transfer has ended. Not for bus masters.

        Statuses: STATUS_INVALID_PARAMETER (length zero, a bus master without list buffer, one that holds no element, a routine
        for a bus master), STATUS_CANCELLED, STATUS_INSUFFICIENT_RESOURCES (no bounce memory), STATUS_DEVICE_BUSY.

        Raises
        ------
        AdapterError, MdlError
            As :meth:`map_transfer`.
        """
        integers = {"offset": offset, "device_offset": device_offset, "length": length}
        self._check_mdl(mdl, write_to_device, **integers, scatter_gather_buffer_length=scatter_gather_buffer_length)
        self._check_routine(dma_completion_routine, optional=True)
        registers_id = self._registers_id(map_register_base)
        context = None if map_register_base is None else map_register_base.context
        with self._call(
            "MapTransferEx",
            context=None if context is None else context.id,
            registers=registers_id,
            mdl=mdl.log(),
            offset=offset,
            length=length,
            write_to_device=write_to_device,
            device_offset=device_offset,
            completion=dma_completion_routine is not None,
        ) as call:
            size = self._size("length", length)
            room = None if scatter_gather_buffer is None else self._size("buffer length", scatter_gather_buffer_length)
            if context is not None and context.cancelled:
                status = NTSTATUS.STATUS_CANCELLED
            elif size == 0 or (room is not None and room < list_bytes(1)):
                status = NTSTATUS.STATUS_INVALID_PARAMETER
            elif self.master and (room is None or dma_completion_routine is not None):
                status = NTSTATUS.STATUS_INVALID_PARAMETER
            else:
                status = NTSTATUS.STATUS_SUCCESS
            device: list[tuple[int, int]] = []
            if status == NTSTATUS.STATUS_SUCCESS:
                pieces = self._fit(self._cut(mdl_pieces(mdl, int(offset), size), map_register_base), room)
                status, device = await self._map(mdl, map_register_base, int(offset), pieces, write_to_device)
            if device and self.channel is not None:
                self._transfer = MappedTransfer(context, self.device_object, dma_completion_routine, completion_context)
            mapped = sum(n for _, n in device)
            call.result = {"status": int(status), "length": mapped, "elements": [[a, n] for a, n in device]}
            checked = self._checked_length(call, mapped)
            elements = tuple(ScatterGatherElement(address, checked.part(n)) for address, n in device)
            return self._checked_status(call, status), checked, elements

    def _fit(self, pieces: list[tuple[int, int]], room: int | None) -> list[tuple[int, int]]:
        """The pieces as far as the channel, or the list buffer, takes them."""
        if self.channel is not None:
            return pieces[:1]
        if self._mapper.contiguous or room is None:
            return pieces
        most = len(pieces)
        while list_bytes(most) > room:
            most -= 1
        return pieces[:most]

    async def _map(
        self, mdl: Mdl, registers: MapRegisters | None, offset: int, pieces: list[tuple[int, int]], write_to_device: bool
    ) -> tuple[NTSTATUS, list[tuple[int, int]]]:
        if self.channel is not None and (await self._hal.regs.channel(self.channel).status.read()).busy:
            return NTSTATUS.STATUS_DEVICE_BUSY, []
        try:
            device, direct = await self._mapper.map(registers, mdl, offset, pieces, write_to_device)
        except PoolError:
            return NTSTATUS.STATUS_INSUFFICIENT_RESOURCES, []
        await self._before_transfer(direct, write_to_device)
        if self.channel is not None:
            await self._program(*device[0], write_to_device)
        return NTSTATUS.STATUS_SUCCESS, device

    async def arm(self) -> None:
        """Arms the system channel, and watches for the end of a transfer that has a completion routine."""
        await super().arm()
        if self._transfer is not None:
            self._watch.start(self._transfer)

    async def flush_adapter_buffers_ex(
        self, mdl: Mdl, map_register_base: MapRegisters | None, offset: int, length: int, write_to_device: bool
    ) -> CheckedStatus:
        """FlushAdapterBuffersEx: drains the DMA engine, copies back what was bounced, invalidates the rest after a read.

        Needed on every platform after each MapTransferEx, also after a cancelled one, with its values.
        STATUS_DEVICE_DATA_ERROR if bytes are missing: what the BOOLEAN of FlushAdapterBuffers says.

        Raises
        ------
        AdapterError, MdlError, BusTimeout
            As :meth:`flush_adapter_buffers`.
        """
        self._check_mdl(mdl, write_to_device, offset=offset, length=length)
        registers = self._registers_id(map_register_base)
        context = None if map_register_base is None else map_register_base.context
        with self._call(
            "FlushAdapterBuffersEx",
            context=None if context is None else context.id,
            registers=registers,
            mdl=mdl.log(),
            offset=offset,
            length=length,
            write_to_device=write_to_device,
        ) as call:
            ok = await self._finish(mdl, map_register_base, int(offset), length, write_to_device)
            status = NTSTATUS.STATUS_SUCCESS if ok else NTSTATUS.STATUS_DEVICE_DATA_ERROR
            call.result = int(status)
            return self._checked_status(call, status)

    async def cancel_mapped_transfer(self, dma_transfer_context: DmaTransferContext) -> CheckedStatus:
        """CancelMappedTransfer: stops the system channel, after the device's request in progress.

        The completion routine is called with DMA_CANCELLED, nothing more is mapped under the context, and FlushAdapterBuffersEx
        is still owed. STATUS_UNSUCCESSFUL if no transfer is mapped under it or it has ended, STATUS_INVALID_PARAMETER on a bus
        master.
        """
        check_type("dma_transfer_context", dma_transfer_context, DmaTransferContext, error=AdapterError)
        with self._call("CancelMappedTransfer", context=dma_transfer_context.id) as call:
            transfer = self._transfer
            if self.channel is None:
                status = NTSTATUS.STATUS_INVALID_PARAMETER
            elif transfer is None or transfer.context is not dma_transfer_context or transfer.ended:
                status = NTSTATUS.STATUS_UNSUCCESSFUL
            else:
                status = NTSTATUS.STATUS_SUCCESS
                dma_transfer_context.cancelled = transfer.ended = True
                await self._stop_channel()
                self._watch.tell(transfer, DmaCompletionStatus.DMA_CANCELLED)
            call.result = int(status)
            return self._checked_status(call, status)

    # -- lists -----------------------------------------------------------------------------------------------------

    async def get_scatter_gather_list_ex(
        self,
        device_object: DeviceObject,
        dma_transfer_context: DmaTransferContext,
        mdl: Mdl,
        offset: int,
        length: int,
        flags: int,
        execution_routine: ListControl | None,
        context: Any,
        write_to_device: bool,
        dma_completion_routine: None = None,
        completion_context: None = None,
    ) -> tuple[CheckedStatus, ScatterGatherList | None]:
        """GetScatterGatherListEx: ``(status, scatter_gather_list)``; MapTransferEx's cache work and copies, for bus masters.

        The list goes to ``execution_routine(device_object, irp, list, context)`` too, unless DMA_SYNCHRONOUS_CALLBACK is given
        without a routine: then the caller holds the adapter until :meth:`free_adapter_object` (which should keep the map
        registers: they go with the list). PutScatterGatherList ends the transfer. The completion arguments are not used, as in
        the original.

        Statuses as of :meth:`get_scatter_gather_list` and :meth:`allocate_adapter_channel_ex`; the list is None then.
        """
        return await self._list_ex(
            "GetScatterGatherListEx",
            (device_object, dma_transfer_context, flags, execution_routine),
            (mdl, offset, length, write_to_device),
            context,
        )

    async def build_scatter_gather_list_ex(
        self,
        device_object: DeviceObject,
        dma_transfer_context: DmaTransferContext,
        mdl: Mdl,
        offset: int,
        length: int,
        flags: int,
        execution_routine: ListControl | None,
        context: Any,
        write_to_device: bool,
        scatter_gather_buffer: Any,
        scatter_gather_buffer_length: int,
        dma_completion_routine: None = None,
        completion_context: None = None,
    ) -> tuple[CheckedStatus, ScatterGatherList | None]:
        """BuildScatterGatherListEx: GetScatterGatherListEx into memory of the driver; STATUS_BUFFER_TOO_SMALL if it does not fit.

        Nothing is stored in ``scatter_gather_buffer``; its length in bytes is what counts.
        """
        check_int("scatter_gather_buffer_length", scatter_gather_buffer_length)
        return await self._list_ex(
            "BuildScatterGatherListEx",
            (device_object, dma_transfer_context, flags, execution_routine),
            (mdl, offset, length, write_to_device),
            context,
            buffer_bytes=scatter_gather_buffer_length,
        )

    async def _list_ex(
        self,
        name: str,
        how: tuple[DeviceObject, DmaTransferContext, int, ListControl | None],
        what: tuple[Mdl, int, int, bool],
        routine_context: Any,
        **more: int,
    ) -> tuple[CheckedStatus, ScatterGatherList | None]:
        (device_object, transfer_context, flags, routine), (mdl, offset, length, write) = how, what
        self._check_context(*how)
        self._check_mdl(mdl, write, offset=offset, length=length)
        arguments = {"context": transfer_context.id, "mdl": mdl.log(), "offset": offset, "length": length}
        with self._call(name, **arguments, write_to_device=write, **more) as call:
            status, made = self._admit(transfer_context, flags, routine), None
            if status == NTSTATUS.STATUS_SUCCESS:
                room = more.get("buffer_bytes")
                room = None if room is None else self._size("scatter_gather_buffer_length", room)
                status, made = await self._make_list(mdl, offset, length, write, room=room, context=transfer_context)
            call.result = self._list_result(status, made)
            if made is not None and routine is not None:
                await self._offer(made, device_object, routine, routine_context, transfer_context)
            elif made is not None:
                self._take(made.registers)
            return self._checked_status(call, status), made

    # -- common buffers --------------------------------------------------------------------------------------------

    async def allocate_common_buffer_ex(
        self, maximum_address: int | None, length: int, cache_enabled: bool, preferred_node: int = 0
    ) -> CommonBuffer | Null:
        """AllocateCommonBufferEx: AllocateCommonBuffer with a bound: no byte lies above ``maximum_address`` (None: no bound).

        There is one memory node: ``preferred_node`` must be 0. NULL if nothing fits.
        """
        check_type("maximum_address", maximum_address, (int, type(None)), error=AdapterError)
        check_int("length", length)
        check_flag("cache_enabled", cache_enabled, error=AdapterError)
        check_integer("preferred_node", preferred_node, 0, 0, error=AdapterError)
        with self._call(
            "AllocateCommonBufferEx", length=length, cache_enabled=cache_enabled, maximum_address=maximum_address
        ) as call:
            return await self._allocate(call, length, cache_enabled, maximum_address)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check_context(self, device_object: Any, context: Any, flags: Any, routine: Any) -> None:
        check_type("device_object", device_object, DeviceObject, error=AdapterError)
        check_type("dma_transfer_context", context, DmaTransferContext, error=AdapterError)
        check_int("flags", flags)
        self._check_routine(routine, optional=True)

    def _admit(self, context: DmaTransferContext, flags: int, routine: Any) -> NTSTATUS:
        """Whether an allocation may go on, and if it may wait."""
        synchronous = flags == DMA_SYNCHRONOUS_CALLBACK
        if flags not in (0, DMA_SYNCHRONOUS_CALLBACK) or (routine is None and not synchronous):
            return NTSTATUS.STATUS_INVALID_PARAMETER
        context.used = True
        if context.cancelled:
            return NTSTATUS.STATUS_CANCELLED
        if synchronous and self._busy:
            return NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
        return NTSTATUS.STATUS_SUCCESS
