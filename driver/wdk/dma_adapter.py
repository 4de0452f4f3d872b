# SPDX-License-Identifier: BSD-2-Clause
"""DMA adapters, versions 1 and 2 of DMA_OPERATIONS.

Methods are the DDI's function pointers without the adapter argument, which is ``self``; arguments keep the DDI order and
out-parameters are returned. Methods that can touch the hardware are coroutines. Map registers are bookkeeping on
this machine: every device reaches all of memory, so nothing is bounced.

The order the DDI wants, per request (KeFlushIoBuffers comes first, on the kernel)::

    system channel    allocate_adapter_channel -> (map_transfer -> start -> ... -> flush_adapter_buffers)* -> free_adapter_channel
    bus master        the same with free_map_registers at the end
    bus master, list  get_scatter_gather_list -> start -> ... -> put_scatter_gather_list
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import AdapterError, check_flag, check_integer, check_type, show
from ..hal import MAX_CHANNEL_COUNT
from ..memory import PAGE_BYTES
from ..platform import FlushCall
from .common_buffer import CommonBuffer
from .device import DeviceDescription, DeviceObject, IoAllocationAction
from .irp import NTSTATUS
from .mdl import Mdl, check_mdl

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["DmaAdapter", "MapRegisters", "ScatterGatherElement", "ScatterGatherList"]

AdapterControl = Callable[[DeviceObject, Any, "MapRegisters", Any], IoAllocationAction | Awaitable[IoAllocationAction]]
ListControl = Callable[[DeviceObject, Any, "ScatterGatherList", Any], Awaitable[None] | None]


@dataclass(eq=False)
class MapRegisters:
    """The handle that AdapterControl gets as MapRegisterBase."""

    adapter: "DmaAdapter"
    count: int
    freed: bool = False


@dataclass(frozen=True)
class ScatterGatherElement:
    """One contiguous range for the device."""

    address: int
    length: int


@dataclass(eq=False)
class ScatterGatherList:
    """SCATTER_GATHER_LIST. ``flushed`` is None until the list is put; then it says whether the engine drained without error,
    which the DDI's PutScatterGatherList has no way to return."""

    id: int
    elements: tuple[ScatterGatherElement, ...]
    mdl: Mdl
    offset: int
    length: int
    write_to_device: bool
    flushed: bool | None = None

    @property
    def number_of_elements(self) -> int:
        return len(self.elements)


class DmaAdapter:
    """One adapter object; made by :meth:`Kernel.io_get_dma_adapter`.

    Members: ``id``, ``version``, ``master``, ``channel`` (None for a bus master), ``map_registers`` (the most per transfer).
    """

    def __init__(self, kernel: "Kernel", device_object: DeviceObject, description: DeviceDescription):
        self.id = kernel.number()
        self.kernel, self.device_object, self.description = kernel, device_object, description
        self.version, self.master = description.version, description.master
        self.channel = None if description.master else description.dma_channel
        self.map_registers = -(-description.maximum_length // PAGE_BYTES) + 1
        self._hal, self._trace = kernel.hal, kernel.trace
        self._registers: list[MapRegisters] = []
        self._current: MapRegisters | None = None  # the channel allocated now
        self._programmed = False
        self._lists: list[ScatterGatherList] = []
        self._buffers: list[CommonBuffer] = []
        self._released = False

    def log(self) -> dict[str, Any]:
        """As the call log shows it."""
        return {"id": self.id, "version": self.version, "master": self.master, "channel": self.channel}

    def __repr__(self) -> str:
        return f"<DmaAdapter {self.id}: version {self.version}, {'bus master' if self.master else f'channel {self.channel}'}>"

    # -- channel and map registers ---------------------------------------------------------------------------------

    async def allocate_adapter_channel(
        self,
        device_object: DeviceObject,
        number_of_map_registers: int,
        execution_routine: AdapterControl,
        context: Any = None,
    ) -> NTSTATUS:
        """AllocateAdapterChannel: calls ``execution_routine(device_object, irp, map_register_base, context)`` once the
        channel is free.

        Returns at once: STATUS_SUCCESS if the routine ran or waits in the queue of a busy channel (it then runs inside the
        FreeAdapterChannel of the adapter that holds it), STATUS_INSUFFICIENT_RESOURCES if more map registers are wanted than the
        adapter may have. The routine may be a coroutine; it returns an :class:`IoAllocationAction`.

        Raises
        ------
        AdapterError
            If this adapter already holds a channel, or the routine returns something else.
        """
        with self._call("AllocateAdapterChannel", map_registers=number_of_map_registers):
            check_type("device_object", device_object, DeviceObject, error=AdapterError)
            check_integer("number_of_map_registers", number_of_map_registers, 0, 1 << 20, error=AdapterError)
            if not callable(execution_routine):
                raise AdapterError(f"execution_routine must be callable, not {execution_routine!r}")
            if self._current is not None:
                raise AdapterError(
                    "AllocateAdapterChannel must wait for the channel this adapter holds to be freed: one at a time"
                )
            if number_of_map_registers > self.map_registers:
                return NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
            grant = (self, device_object, number_of_map_registers, execution_routine, context)
            if self.channel is not None:
                owner = self.kernel.channel_owners.get(self.channel)
                if owner is not None:
                    self.kernel.channel_queue.setdefault(self.channel, []).append(grant)
                    return NTSTATUS.STATUS_SUCCESS
            await _run_adapter_control(*grant)
            return NTSTATUS.STATUS_SUCCESS

    async def map_transfer(
        self, mdl: Mdl, map_register_base: MapRegisters, current_va: int, length: int, write_to_device: bool
    ) -> tuple[int, int]:
        """MapTransfer: ``(logical_address, length)`` of the next piece of the buffer, at most ``length`` bytes.

        The length comes back shortened to the contiguous piece (an MDL's end), the map registers, and the adapter's
        maximum. On a system channel this programs the channel (address, count, mode) and unmasks it; the transfer
        begins when :meth:`Kernel.start_transfer` arms it.

        Parameters
        ----------
        current_va : MmGetMdlVirtualAddress(mdl) plus the bytes already transferred; an index into the chain.
        map_register_base : what AdapterControl got.

        Raises
        ------
        AdapterError, MdlError
            Without a channel or map registers, and for a range outside the MDL.
        """
        offset = self._offset(mdl, current_va, length, write_to_device)
        with self._call("MapTransfer", mdl=mdl.log(), offset=offset, length=length, write_to_device=write_to_device) as call:
            registers = self._check_registers(map_register_base)
            if self.channel is not None and self._current is not registers:
                raise AdapterError("MapTransfer must follow AllocateAdapterChannel: this adapter holds no channel")
            address, piece = mdl.ranges(offset, length)[0]
            room = registers.count * PAGE_BYTES - address % PAGE_BYTES if registers.count else piece
            piece = min(piece, room, self.description.maximum_length, MAX_CHANNEL_COUNT)
            if self.channel is not None:
                await self._hal.program_channel(
                    self.channel,
                    address,
                    piece,
                    write_to_device=write_to_device,
                    demand=self.description.demand_mode,
                    auto_init=self.description.auto_initialize,
                )
                self._programmed = True
            call.result = [address, piece]
            return address, piece

    async def arm(self) -> None:
        """Arms the system channel that MapTransfer programmed; nothing on a bus master. Called by ``start_transfer``."""
        self._alive()
        if self.channel is None:
            return
        if not self._programmed:
            raise AdapterError("a system channel must be programmed by MapTransfer before its transfer starts")
        self._programmed = False
        await self._hal.arm_channel(self.channel)

    async def flush_adapter_buffers(
        self, mdl: Mdl, map_register_base: MapRegisters | None, current_va: int, length: int, write_to_device: bool
    ) -> bool:
        """FlushAdapterBuffers: drains what the DMA engine holds back; True if all of it reached memory or device.

        Needed on every platform, at the end of each device transfer, with the values of its MapTransfer. After a
        device-to-memory transfer on a non-coherent platform it also invalidates the buffer's lines
        (:attr:`HalOptions.invalidate_after_read`). Over a common buffer ``map_register_base`` is None.

        False means that bytes are missing: after a bus error they are still in the engine and a second call tries again; after
        a time-out they are gone. The driver's I/O status block has to say so.
        """
        offset = self._offset(mdl, current_va, length, write_to_device)
        with self._call(
            "FlushAdapterBuffers", mdl=mdl.log(), offset=offset, length=length, write_to_device=write_to_device
        ) as call:
            if map_register_base is not None:
                self._check_registers(map_register_base)
            call.result = (await self._hal.drain()).ok
            if not write_to_device:
                await self._hal.flush_caches(FlushCall.FLUSH_ADAPTER_READ, mdl.ranges(offset, length))
            return call.result

    async def free_adapter_channel(self) -> None:
        """FreeAdapterChannel: gives the channel and its map registers back; a system channel is masked.

        The next adapter that waits for the channel has its AdapterControl called in here.
        """
        with self._call("FreeAdapterChannel"):
            if self._current is None:
                raise AdapterError("FreeAdapterChannel must follow AllocateAdapterChannel: this adapter holds no channel")
            await self._release_channel(keep_registers=False)

    def free_map_registers(self, map_register_base: MapRegisters, number_of_map_registers: int) -> None:
        """FreeMapRegisters: a bus master's counterpart, after DEALLOCATE_OBJECT_KEEP_REGISTERS.

        Raises
        ------
        AdapterError
            If they were freed before, or the number is not the allocated one.
        """
        with self._call("FreeMapRegisters", count=number_of_map_registers):
            registers = self._check_registers(map_register_base)
            if number_of_map_registers != registers.count:
                raise AdapterError(
                    f"number_of_map_registers must be the number allocated ({registers.count}), not {number_of_map_registers!r}"
                )
            if registers is self._current:
                raise AdapterError(
                    "FreeMapRegisters must not be called for a channel that is kept; FreeAdapterChannel frees both"
                )
            registers.freed = True
            self._registers.remove(registers)

    async def read_dma_counter(self) -> int:
        """ReadDmaCounter: bytes of the programmed transfer that a system channel has not moved."""
        with self._call("ReadDmaCounter") as call:
            if self.channel is None:
                raise AdapterError("ReadDmaCounter must be called for a system channel, not for a bus master")
            call.result = await self._hal.residue(self.channel)
            return call.result

    # -- scatter/gather lists --------------------------------------------------------------------------------------

    async def get_scatter_gather_list(
        self,
        device_object: DeviceObject,
        mdl: Mdl,
        current_va: int,
        length: int,
        execution_routine: ListControl,
        context: Any,
        write_to_device: bool,
    ) -> NTSTATUS:
        """GetScatterGatherList: maps the buffer and calls ``execution_routine(device_object, irp, list, context)``.

        One element per contiguous piece (one per MDL of the chain). The routine may be a coroutine.
        STATUS_INSUFFICIENT_RESOURCES if the buffer touches more pages than the adapter has map registers.

        Raises
        ------
        AdapterError
            On a system channel, which takes one address.
        """
        offset = self._offset(mdl, current_va, length, write_to_device)
        with self._call(
            "GetScatterGatherList", mdl=mdl.log(), offset=offset, length=length, write_to_device=write_to_device
        ) as call:
            check_type("device_object", device_object, DeviceObject, error=AdapterError)
            if not callable(execution_routine):
                raise AdapterError(f"execution_routine must be callable, not {execution_routine!r}")
            if not self.master:
                raise AdapterError("GetScatterGatherList must be called for a bus master, not for a system channel")
            pieces = mdl.ranges(offset, length)
            pages = sum((a + n - 1) // PAGE_BYTES - a // PAGE_BYTES + 1 for a, n in pieces)
            if pages > self.map_registers + len(pieces) - 1:
                return NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
            elements = tuple(ScatterGatherElement(address, size) for address, size in pieces)
            sg = ScatterGatherList(self.kernel.number(), elements, mdl, offset, length, write_to_device)
            self._lists.append(sg)
            call.result = {"list": sg.id, "elements": [[e.address, e.length] for e in elements]}
            await _settled(execution_routine(device_object, device_object.current_irp, sg, context))
            return NTSTATUS.STATUS_SUCCESS

    async def put_scatter_gather_list(self, scatter_gather: ScatterGatherList, write_to_device: bool) -> None:
        """PutScatterGatherList: frees the list, after doing what FlushAdapterBuffers does for all of its buffer.

        Nothing is returned; ``scatter_gather.flushed`` and the call log have the BOOLEAN. A failed one cannot be repeated: the
        list is gone.
        """
        check_type("scatter_gather", scatter_gather, ScatterGatherList, error=AdapterError)
        check_flag("write_to_device", write_to_device, error=AdapterError)
        with self._call("PutScatterGatherList", list=scatter_gather.id, write_to_device=write_to_device) as call:
            if scatter_gather not in self._lists:
                raise AdapterError(
                    f"scatter_gather must be a list this adapter holds, not list {scatter_gather.id}: put before, or foreign"
                )
            self._lists.remove(scatter_gather)
            call.result = scatter_gather.flushed = (await self._hal.drain()).ok
            if not write_to_device:
                ranges = scatter_gather.mdl.ranges(scatter_gather.offset, scatter_gather.length)
                await self._hal.flush_caches(FlushCall.FLUSH_ADAPTER_READ, ranges)

    # -- common buffers --------------------------------------------------------------------------------------------

    async def allocate_common_buffer(self, length: int, cache_enabled: bool) -> CommonBuffer:
        """AllocateCommonBuffer: whole pages for driver and device; unpacks as ``virtual_address, logical_address``.

        With ``cache_enabled=False`` its range is cleaned and invalidated first, on every platform, because uncached accesses look
        no cache up. With True, KeFlushIoBuffers is owed before each transfer to or from it (through an MDL over the buffer).

        Raises
        ------
        PoolError
            If memory has no such gap (the DDI returns NULL).
        """
        with self._call("AllocateCommonBuffer", length=length, cache_enabled=cache_enabled) as call:
            check_flag("cache_enabled", cache_enabled, error=AdapterError)
            check_integer("length", length, 1, self._hal.platform.memory_size, error=AdapterError)
            address = self._hal.pool.allocate(length, alignment=PAGE_BYTES, exclusive=True, what="common buffer")
            if not cache_enabled:
                pages = -(-length // PAGE_BYTES) * PAGE_BYTES
                await self._hal.flush_caches(FlushCall.UNCACHE, [(address, pages)])
                self._hal.set_uncached(address, pages, True)
            buffer = CommonBuffer(self.kernel.number(), self.kernel.bus, address, address, length, cache_enabled)
            self._buffers.append(buffer)
            call.result = {"buffer": buffer.id, "address": address, "length": length}
            return buffer

    async def free_common_buffer(self, length: int, logical_address: int, virtual_address: int, cache_enabled: bool) -> None:
        """FreeCommonBuffer, with the values of the allocation.

        Raises
        ------
        AdapterError
            If no buffer of this adapter has these values: freed before, or allocated with others.
        """
        self._alive()
        found = next((b for b in self._buffers if b.virtual_address == virtual_address), None)
        with self._call(
            "FreeCommonBuffer",
            buffer=None if found is None else found.id,
            address=logical_address,
            length=length,
            cache_enabled=cache_enabled,
        ):
            if found is None:
                raise AdapterError(
                    f"virtual_address must be a common buffer this adapter holds, not {show(virtual_address)}: "
                    "freed before, or foreign"
                )
            given, held = (length, logical_address, cache_enabled), (found.length, found.logical_address, found.cache_enabled)
            if given != held:
                raise AdapterError(f"length, logical_address, cache_enabled must be those of the allocation {held}, not {given}")
            if not cache_enabled:
                self._hal.set_uncached(virtual_address, -(-length // PAGE_BYTES) * PAGE_BYTES, False)
            self._hal.pool.free(virtual_address)
            self._buffers.remove(found)
            found.freed = True

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
        """PutDmaAdapter: the adapter must not be used again. What it still holds leaks, as in the original; see :meth:`held`."""
        with self._call("PutDmaAdapter"):
            self._released = True

    def held(self) -> list[str]:
        """What the adapter has not given back, in words; an adapter that is put should hold nothing."""
        held = [f"{registers.count} map registers" for registers in self._registers]
        held += [f"scatter/gather list {sg.id}" for sg in self._lists]
        return held + [f"common buffer {buffer.id}" for buffer in self._buffers]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _call(self, name: str, **args: Any):
        self._alive()
        return self._trace.call(name, adapter=self.log(), **args)

    def _alive(self) -> None:
        if self._released:
            raise AdapterError(f"adapter must not be used after PutDmaAdapter: adapter {self.id}")

    def _check_registers(self, registers: Any) -> MapRegisters:
        check_type("map_register_base", registers, MapRegisters, error=AdapterError)
        if registers.freed or registers.adapter is not self:
            raise AdapterError("map_register_base must be map registers that this adapter holds, not freed or foreign ones")
        return registers

    @staticmethod
    def _offset(mdl: Any, current_va: Any, length: Any, write_to_device: Any) -> int:
        check_mdl("mdl", mdl)
        check_flag("write_to_device", write_to_device, error=AdapterError)
        first, total = mdl.virtual_address, mdl.total
        check_integer("current_va", current_va, first, first + total - 1, error=AdapterError)
        check_integer("length", length, 1, first + total - current_va, error=AdapterError)
        return current_va - first

    async def _release_channel(self, *, keep_registers: bool) -> None:
        registers, self._current, self._programmed = self._current, None, False
        if registers is not None and not keep_registers:
            registers.freed = True
            self._registers.remove(registers)
        if self.channel is None:
            return
        await self._hal.mask_channel(self.channel)
        del self.kernel.channel_owners[self.channel]
        waiting = self.kernel.channel_queue.get(self.channel)
        if waiting:
            await _run_adapter_control(*waiting.pop(0))

    async def _granted(self, action: Any) -> None:
        """Does what AdapterControl's return says."""
        try:
            action = IoAllocationAction(action)
        except ValueError:
            await self._release_channel(keep_registers=False)
            raise AdapterError(f"AdapterControl must return an IoAllocationAction, not {action!r}") from None
        if action != IoAllocationAction.KEEP_OBJECT:
            await self._release_channel(keep_registers=action == IoAllocationAction.DEALLOCATE_OBJECT_KEEP_REGISTERS)


async def _run_adapter_control(
    adapter: DmaAdapter, device_object: DeviceObject, count: int, routine: AdapterControl, context: Any
) -> None:
    registers = MapRegisters(adapter, count)
    adapter._registers.append(registers)
    adapter._current = registers
    if adapter.channel is not None:
        adapter.kernel.channel_owners[adapter.channel] = adapter
    action = await _settled(routine(device_object, device_object.current_irp, registers, context))
    if adapter._current is registers:  # else the routine freed the channel itself
        await adapter._granted(action)


async def _settled(value: Any) -> Any:
    """The value, awaited if it is awaitable: callbacks may be functions or coroutines."""
    return await value if inspect.isawaitable(value) else value
