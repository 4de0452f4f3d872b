# SPDX-License-Identifier: BSD-2-Clause
"""Scatter/gather lists: GetScatterGatherList, CalculateScatterGatherList, BuildScatterGatherList, PutScatterGatherList."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..checked import CheckedStatus
from ..errors import AdapterError, PoolError, check_type
from ..platform import FlushCall
from .adapter_base import AdapterBase, Request, check_int, settled
from .device import DeviceObject
from .irp import NTSTATUS
from .irql import DISPATCH_LEVEL
from .map_registers import MapRegisters, mdl_pieces, pages_of
from .mdl import Mdl

__all__ = ["ListControl", "ListRoutines", "ScatterGatherElement", "ScatterGatherList", "list_bytes"]

#: ``routine(device_object, irp, scatter_gather, context)``, a function or coroutine at DISPATCH_LEVEL.
ListControl = Callable[[DeviceObject, Any, "ScatterGatherList", Any], Awaitable[None] | None]

_HEADER_BYTES, _ELEMENT_BYTES = 16, 24  # SCATTER_GATHER_LIST and SCATTER_GATHER_ELEMENT of a 64-bit kernel


@dataclass(frozen=True)
class ScatterGatherElement:
    """One contiguous range for the device."""

    address: int
    length: int


@dataclass(eq=False)
class ScatterGatherList:
    """SCATTER_GATHER_LIST; iterates over its elements. ``flushed`` is None until the list is put; then it says whether the engine
    drained without error, which the DDI's PutScatterGatherList has no way to return."""

    id: int
    elements: tuple[ScatterGatherElement, ...]
    mdl: Mdl
    offset: int
    length: int
    write_to_device: bool
    registers: MapRegisters
    flushed: bool | None = None
    put: bool = False

    @property
    def number_of_elements(self) -> int:
        return len(self.elements)

    def __iter__(self) -> Iterator[ScatterGatherElement]:
        return iter(self.elements)

    def __len__(self) -> int:
        return len(self.elements)

    def log(self) -> list[list[int]]:
        """The elements as the call log shows them."""
        return [[element.address, element.length] for element in self.elements]


def list_bytes(elements: int) -> int:
    """Bytes of a scatter/gather list with that many elements."""
    return _HEADER_BYTES + _ELEMENT_BYTES * elements


class ListRoutines(AdapterBase):
    """The list routines of versions 1 and 2, for bus masters. (A system channel takes one address: STATUS_INVALID_PARAMETER.)"""

    #: What the platform owes before a mapping (nothing: KeFlushIoBuffers is the driver's) and after a read.
    _map_flush: tuple[FlushCall, FlushCall] | None = None
    _read_flush = FlushCall.FLUSH_ADAPTER_READ

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._lists: list[ScatterGatherList] = []

    async def get_scatter_gather_list(
        self,
        device_object: DeviceObject,
        mdl: Mdl,
        current_va: int,
        length: int,
        execution_routine: ListControl,
        context: Any,
        write_to_device: bool,
    ) -> CheckedStatus:
        """GetScatterGatherList: maps the buffer and calls ``execution_routine(device_object, irp, list, context)``.

        One element per contiguous piece, one per MDL of the chain; a device without scatter/gather gets one element in bounce
        memory. Bytes that are bounced are copied here. The routine may be a coroutine; it waits while the adapter is held.

        Returns STATUS_INSUFFICIENT_RESOURCES if the buffer touches more pages than the adapter has map registers or bounce memory
        is used up, STATUS_INVALID_PARAMETER for a length of zero or a system channel; the routine is not called then.

        Raises
        ------
        AdapterError, MdlError
            For arguments of a wrong type, a freed MDL, and ranges that are no addresses.
        """
        self._check_mdl(mdl, write_to_device, current_va=current_va, length=length)
        offset = current_va - mdl.virtual_address
        with self._call(
            "GetScatterGatherList", mdl=mdl.log(), offset=offset, length=length, write_to_device=write_to_device
        ) as call:
            check_type("device_object", device_object, DeviceObject, error=AdapterError)
            self._check_routine(execution_routine)
            status, made = await self._make_list(mdl, offset, length, write_to_device)
            if made is not None:
                call.result = {"list": made.id, "elements": made.log()}
                await self._offer(made, device_object, execution_routine, context)
            return self._checked_status(call, status)

    def calculate_scatter_gather_list(self, mdl: Mdl | None, current_va: int, length: int) -> tuple[CheckedStatus, int, int]:
        """CalculateScatterGatherList, from version 2 on: ``(status, scatter_gather_list_size, number_of_map_registers)``.

        The bytes that BuildScatterGatherList needs for its list. Without an MDL the most that such a buffer can need: an element
        per page. STATUS_BUFFER_TOO_SMALL if the MDL does not hold that length, STATUS_INSUFFICIENT_RESOURCES if the adapter has
        too few map registers.
        """
        self._from_version(2, "calculate_scatter_gather_list")
        if mdl is not None:
            self._check_mdl(mdl, current_va=current_va, length=length)
        check_int("current_va", current_va)
        check_int("length", length)
        first = current_va if mdl is None else mdl.virtual_address
        shown = None if mdl is None else mdl.log()
        with self._call("CalculateScatterGatherList", mdl=shown, offset=current_va - first, length=length) as call:
            size = self._size("length", length)
            if mdl is None:
                pages = pages_of([(int(current_va), size)]) if size else 0
                elements, status = pages, NTSTATUS.STATUS_SUCCESS
            else:
                offset = int(current_va) - mdl.virtual_address
                inside = 0 <= offset and offset + size <= mdl.total
                pieces = mdl_pieces(mdl, offset, size)
                pages, elements = pages_of(pieces), self._element_count(len(pieces))
                status = NTSTATUS.STATUS_SUCCESS if inside else NTSTATUS.STATUS_BUFFER_TOO_SMALL
            if status == NTSTATUS.STATUS_SUCCESS and pages > self.map_registers:
                status = NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
            call.result = {"status": int(status), "list_bytes": list_bytes(elements), "map_registers": pages}
            return self._checked_status(call, status), list_bytes(elements), pages

    async def build_scatter_gather_list(
        self,
        device_object: DeviceObject,
        mdl: Mdl,
        current_va: int,
        length: int,
        execution_routine: ListControl,
        context: Any,
        write_to_device: bool,
        scatter_gather_buffer: Any,
        scatter_gather_buffer_length: int,
    ) -> CheckedStatus:
        """BuildScatterGatherList, from version 2 on: GetScatterGatherList into memory of the driver.

        The list is a Python object, so nothing is stored in ``scatter_gather_buffer``; its length in bytes is what counts:
        STATUS_BUFFER_TOO_SMALL if the list does not fit. Returns and raises otherwise as :meth:`get_scatter_gather_list`.
        """
        self._from_version(2, "build_scatter_gather_list")
        integers = {"current_va": current_va, "length": length, "scatter_gather_buffer_length": scatter_gather_buffer_length}
        self._check_mdl(mdl, write_to_device, **integers)
        offset = current_va - mdl.virtual_address
        with self._call(
            "BuildScatterGatherList",
            mdl=mdl.log(),
            offset=offset,
            length=length,
            write_to_device=write_to_device,
            buffer_bytes=scatter_gather_buffer_length,
        ) as call:
            check_type("device_object", device_object, DeviceObject, error=AdapterError)
            self._check_routine(execution_routine)
            room = self._size("scatter_gather_buffer_length", scatter_gather_buffer_length)
            status, made = await self._make_list(mdl, offset, length, write_to_device, room=room)
            call.result = self._list_result(status, made)
            if made is not None:
                await self._offer(made, device_object, execution_routine, context)
            return self._checked_status(call, status)

    async def put_scatter_gather_list(self, scatter_gather: ScatterGatherList, write_to_device: bool) -> None:
        """PutScatterGatherList: frees the list, after doing what FlushAdapterBuffers does for all of its buffer.

        Nothing is returned; ``scatter_gather.flushed`` and the call log have the BOOLEAN. A failed one cannot be repeated: the
        list is gone, with what was in its bounce pages. A list that was put before is left alone.
        """
        check_type("scatter_gather", scatter_gather, ScatterGatherList, error=AdapterError)
        self._check_mdl(scatter_gather.mdl, write_to_device)
        with self._call("PutScatterGatherList", list=scatter_gather.id, write_to_device=write_to_device) as call:
            if scatter_gather.put:
                return
            self._forget(scatter_gather)
            ok = (await self._hal.drain()).ok
            call.result = scatter_gather.flushed = ok
            registers = scatter_gather.registers
            rest = await registers.adapter._mapper.flush(
                registers, scatter_gather.mdl, scatter_gather.offset, scatter_gather.length, write_to_device, done=ok
            )
            self._drop_registers(registers)
            if not write_to_device and rest:
                await self._hal.flush_caches(self._read_flush, rest)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _element_count(self, pieces: int) -> int:
        return pieces if self.description.scatter_gather else min(pieces, 1)

    async def _make_list(
        self, mdl: Mdl, offset: int, length: int, write_to_device: bool, *, room: int | None = None, context: Any = None
    ) -> tuple[NTSTATUS, ScatterGatherList | None]:
        size, offset = self._size("length", length), int(offset)
        if not self.master or size == 0:
            return NTSTATUS.STATUS_INVALID_PARAMETER, None
        pieces = mdl_pieces(mdl, offset, size)
        if room is not None and room < list_bytes(self._element_count(len(pieces))):
            return NTSTATUS.STATUS_BUFFER_TOO_SMALL, None
        pages = pages_of(pieces)
        if pages > self.map_registers + len(pieces) - 1:
            return NTSTATUS.STATUS_INSUFFICIENT_RESOURCES, None
        registers = self._new_registers(pages, context)
        try:
            device, direct = await self._mapper.map(registers, mdl, offset, pieces, write_to_device)
        except PoolError:
            self._drop_registers(registers)
            return NTSTATUS.STATUS_INSUFFICIENT_RESOURCES, None
        await self._before_transfer(direct, write_to_device)
        elements = tuple(ScatterGatherElement(address, n) for address, n in device)
        made = ScatterGatherList(self.kernel.number(), elements, mdl, offset, size, write_to_device, registers)
        self._lists.append(made)
        return NTSTATUS.STATUS_SUCCESS, made

    async def _before_transfer(self, ranges: list[tuple[int, int]], write_to_device: bool) -> None:
        """The cache work that the platform owes for a mapping of this version."""
        if self._map_flush is not None and ranges:
            await self._hal.flush_caches(self._map_flush[write_to_device], ranges)

    @staticmethod
    def _list_result(status: NTSTATUS, made: ScatterGatherList | None) -> dict[str, Any]:
        return {
            "status": int(status),
            "list": None if made is None else made.id,
            "elements": [] if made is None else made.log(),
        }

    async def _offer(
        self,
        made: ScatterGatherList,
        device_object: DeviceObject,
        routine: ListControl,
        routine_context: Any,
        transfer_context: Any = None,
    ) -> None:
        """Calls the list routine, once the adapter is free."""

        async def run() -> None:
            with self._trace.context.acting("list-control", DISPATCH_LEVEL), self._call("ListControl", list=made.id):
                await settled(routine(device_object, device_object.current_irp, made, routine_context))

        await self._when_free(Request(self, run, transfer_context, lambda: self._withdraw(made)))

    def _withdraw(self, made: ScatterGatherList) -> None:
        """The list was cancelled before its routine was called."""
        self._forget(made)
        self._drop_registers(made.registers)

    @staticmethod
    def _forget(scatter_gather: ScatterGatherList) -> None:
        scatter_gather.put = True
        scatter_gather.registers.adapter._lists.remove(scatter_gather)
