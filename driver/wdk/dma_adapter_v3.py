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

from ..checked import CheckedStatus, Null
from ..errors import AdapterError, check_flag, check_integer, check_type
from .adapter_base import check_int
from .common_buffer import CommonBuffer
from .device import DeviceObject, IoAllocationAction
from .dma_adapter import AdapterControl
from .irp import NTSTATUS
from .map_registers import MapRegisters, mdl_pieces, pages_of
from .mdl import Mdl
from .scatter_gather import list_bytes
from .scatter_gather_v3 import ListRoutinesV3
from .transfer_context import DMA_SYNCHRONOUS_CALLBACK, DmaAdapterInfo, DmaTransferContext, DmaTransferInfo
from .transfer_v3 import TransferRoutinesV3

__all__ = ["DmaAdapterV3"]

_DEMAND_FUNCTION = 1  # ConfigureAdapterChannel: context is True for demand mode, False for block mode


class DmaAdapterV3(TransferRoutinesV3, ListRoutinesV3):
    """An adapter that IoGetDmaAdapter returned for DEVICE_DESCRIPTION_VERSION3. Members as of
    :class:`~driver.wdk.dma_adapter.DmaAdapter`."""

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
