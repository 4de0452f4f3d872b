# SPDX-License-Identifier: BSD-2-Clause
"""Transfers of version 3: MapTransferEx, the flush that ends it, the completion routine, cancelling."""

from typing import Any

from ..bus import BusTimeout
from ..checked import CheckedInt, CheckedStatus
from ..errors import AdapterError, PoolError, check_type
from ..platform import FlushCall
from .completion import CompletionWatch
from .dma_adapter import DmaAdapter
from .irp import NTSTATUS
from .map_registers import MapRegisters, mdl_pieces
from .mdl import Mdl
from .scatter_gather import ScatterGatherElement, list_bytes
from .transfer_context import CompletionRoutine, DmaCompletionStatus, DmaTransferContext, MappedTransfer

__all__ = ["TransferRoutinesV3"]


class TransferRoutinesV3(DmaAdapter):
    """Part of :class:`~driver.wdk.dma_adapter_v3.DmaAdapterV3`."""

    _map_flush = FlushCall.MAP_EX_READ, FlushCall.MAP_EX_WRITE
    _read_flush = FlushCall.FLUSH_EX_READ

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._transfer: MappedTransfer | None = None
        self._watch = CompletionWatch(self)

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
        master, STATUS_IO_TIMEOUT if the device is stuck in the middle of a request.
        """
        check_type("dma_transfer_context", dma_transfer_context, DmaTransferContext, error=AdapterError)
        with self._call("CancelMappedTransfer", context=dma_transfer_context.id) as call:
            transfer = self._transfer
            if self.channel is None:
                status = NTSTATUS.STATUS_INVALID_PARAMETER
            elif transfer is None or transfer.context is not dma_transfer_context or transfer.ended:
                status = NTSTATUS.STATUS_UNSUCCESSFUL
            else:
                dma_transfer_context.cancelled = True
                try:
                    await self._stop_channel()
                    status = NTSTATUS.STATUS_SUCCESS
                except BusTimeout:
                    status = NTSTATUS.STATUS_IO_TIMEOUT
                if not transfer.ended and status == NTSTATUS.STATUS_SUCCESS:  # else it came to its end meanwhile
                    self._watch.tell(transfer, DmaCompletionStatus.DMA_CANCELLED)
            call.result = int(status)
            return self._checked_status(call, status)
