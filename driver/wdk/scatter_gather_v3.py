# SPDX-License-Identifier: BSD-2-Clause
"""Scatter/gather lists of version 3, and what every allocation under a transfer context goes through."""

from typing import Any

from ..checked import CheckedStatus
from ..errors import AdapterError, check_type
from .adapter_base import check_int
from .device import DeviceObject
from .dma_adapter import DmaAdapter
from .irp import NTSTATUS
from .mdl import Mdl
from .scatter_gather import ListControl, ScatterGatherList
from .transfer_context import DMA_SYNCHRONOUS_CALLBACK, DmaTransferContext

__all__ = ["ListRoutinesV3"]


class ListRoutinesV3(DmaAdapter):
    """Part of :class:`~driver.wdk.dma_adapter_v3.DmaAdapterV3`."""

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
