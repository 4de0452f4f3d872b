# SPDX-License-Identifier: BSD-2-Clause
"""The storage device's driver: a request in, its data moved on one of six paths, an I/O status block out.

What a correct driver does; the numbers stand at the lines that do it. *P* is once per request, *T* once per device
transfer (a request is cut into several where a buffer ends, or where the adapter's maximum is reached).

SYSTEM_CHANNEL
    P1 KeFlushIoBuffers(Mdl, read, TRUE). P2 AllocateAdapterChannel; AdapterControl does the first T1 and T2.
    T1 MapTransfer programs the channel. T2 start channel and device. T3 wait for terminal count. T4 FlushAdapterBuffers;
    FALSE is retried, then an error. T5 ReadDmaCounter says what moved. P3 FreeAdapterChannel. P4 IoCompleteRequest.
BUS_MASTER_PACKET
    As above with one descriptor per T1; AdapterControl keeps only the map registers, and P3 is FreeMapRegisters.
BUS_MASTER
    P1. P2 GetScatterGatherList, whose routine writes the descriptors (uncached) and does T2: start bus master and device.
    T3. T5. T4 PutScatterGatherList. P4.
COMMON_BUFFER_CACHED
    T0 toward the device: the CPU copies into the common buffer. T1 KeFlushIoBuffers on an MDL over it. T2. T3. T5.
    T4 FlushAdapterBuffers on that MDL. T6 toward memory: the CPU copies out. P4.
COMMON_BUFFER_UNCACHED
    The same without T1, and the CPU's accesses are uncached.
PIO
    Read: T1 the device's PIO command. T2 READ_REGISTER_BUFFER_ULONG, the last odd bytes by hand. T3 wait for the device.
    T4 KeFlushIoBuffers(Mdl, TRUE, FALSE). P4. Write: the same without T4.

Toward the device, *complete* (T3) means that the last byte has entered the DMA engine; only T4 hands the remainder over,
so the device's own "done" is awaited after T4, and only if T4 was made.
"""

from collections.abc import Awaitable, Callable

from .bus import BusError, BusTimeout
from .discipline import Discipline, Hooks, Moment, When
from .errors import DeviceError, MaintenanceError, check_integer, check_type
from .maintenance import Op
from .storage_device import DESCRIPTOR_BYTES, PIO_READ, PIO_WRITE, Path, StorageHardware, StorageOptions, Transfer
from .trace import driver_source
from .wdk import (
    DISPATCH_LEVEL,
    NTSTATUS,
    CommonBuffer,
    DeviceObject,
    DmaAdapter,
    IoAllocationAction,
    IoStatusBlock,
    Irp,
    Kernel,
    MajorFunction,
    MapRegisters,
    Mdl,
    ScatterGatherList,
)

__all__ = ["Path", "StorageDriver", "StorageOptions", "Transfer"]

driver_source(__file__)


class StorageDriver(StorageHardware):
    """Driver of the storage device behind ``kernel``. Adapters and common buffers are made when first needed."""

    def __init__(self, kernel: Kernel, options: StorageOptions | None = None):
        super().__init__(kernel, options)
        self._buffers: dict[bool, tuple[CommonBuffer, Mdl]] = {}

    # -- the driver's entry points ---------------------------------------------------------------------------------

    async def read(self, address: int, length: int, byte_offset: int, path: Path, **how) -> IoStatusBlock:
        """Reads ``length`` bytes at ``byte_offset`` of the device into memory at ``address``; see :meth:`dispatch`."""
        return await self._simple(MajorFunction.IRP_MJ_READ, address, length, byte_offset, path, how)

    async def write(self, address: int, length: int, byte_offset: int, path: Path, **how) -> IoStatusBlock:
        """Writes ``length`` bytes of memory at ``address`` to ``byte_offset`` of the device; see :meth:`dispatch`."""
        return await self._simple(MajorFunction.IRP_MJ_WRITE, address, length, byte_offset, path, how)

    async def _simple(
        self, function: MajorFunction, address: int, length: int, byte_offset: int, path: Path, how: dict
    ) -> IoStatusBlock:
        mdl = self.kernel.io_allocate_mdl(address, length)
        self.kernel.mm_build_mdl_for_non_paged_pool(mdl)
        try:
            return await self.dispatch(self.kernel.io_allocate_irp(function, mdl, byte_offset), path, **how)
        finally:
            self.kernel.io_free_mdl(mdl)

    async def dispatch(
        self, irp: Irp, path: Path, *, discipline: Discipline | None = None, hooks: Hooks | None = None
    ) -> IoStatusBlock:
        """Serves one request to its end and completes it. Whatever the hardware does ends in the I/O status block:

        ==========================  ====================================================================================
        STATUS_SUCCESS              all went well; ``information`` may still be less than asked for (a short transfer)
        STATUS_IO_TIMEOUT           device, DMA or caches did not finish within their limits
        STATUS_DEVICE_DATA_ERROR    bytes are wrong or missing: bus error of the DMA, flush FALSE, write-back error
        STATUS_IO_DEVICE_ERROR      the device reported an error, or refused a register access
        STATUS_INSUFFICIENT_RESOURCES  too few map registers or descriptors
        ==========================  ====================================================================================

        ``information`` is the number of bytes transferred, ``irp.detail`` says in words what went wrong.

        Raises
        ------
        ArgumentError
            If the request has no buffer, or an argument is of the wrong type.
        """
        check_type("irp", irp, Irp)
        check_type("path", path, Path)
        check_type("irp.mdl_address", irp.mdl_address, Mdl)
        check_integer("irp.length", irp.length, 1, irp.mdl_address.total)
        discipline = check_type("discipline", Discipline() if discipline is None else discipline, Discipline)
        transfer = Transfer(irp, path, discipline, hooks or {}, irp.mdl_address, irp.write_to_device)
        self.device_object.current_irp = irp
        flow = {
            Path.SYSTEM_CHANNEL: self._system_channel,
            Path.BUS_MASTER: self._bus_master,
            Path.BUS_MASTER_PACKET: self._bus_master_packet,
            Path.COMMON_BUFFER_CACHED: self._common_buffer,
            Path.COMMON_BUFFER_UNCACHED: self._common_buffer,
            Path.PIO: self._pio,
        }[path]
        try:
            await flow(transfer)
        except BusTimeout as error:
            transfer.fail(NTSTATUS.STATUS_IO_TIMEOUT, str(error))
        except (DeviceError, BusError) as error:
            transfer.fail(NTSTATUS.STATUS_IO_DEVICE_ERROR, str(error))
        except MaintenanceError as error:
            transfer.fail(NTSTATUS.STATUS_DEVICE_DATA_ERROR, str(error))
        if irp.io_status.status == NTSTATUS.STATUS_PENDING:
            irp.io_status.status = NTSTATUS.STATUS_SUCCESS
        irp.io_status.information = transfer.done
        self.kernel.io_complete_request(irp)  # P4
        await transfer.at(Moment.USE)
        for action in transfer.late:
            await action()
        self.device_object.current_irp = None
        return irp.io_status

    async def remove_device(self) -> None:
        """Gives back common buffers and adapters."""
        for buffer, mdl in self._buffers.values():
            self.kernel.io_free_mdl(mdl)
            await self._free(buffer)
        if self._descriptors is not None:
            await self._free(self._descriptors)
        self._buffers, self._descriptors = {}, None
        for adapter in self._adapters.values():
            adapter.put_dma_adapter()
        self._adapters = {}

    async def _free(self, buffer: CommonBuffer) -> None:
        adapter = self._adapter(True)
        await adapter.free_common_buffer(buffer.length, buffer.logical_address, buffer.virtual_address, buffer.cache_enabled)

    # -- flushes, by discipline ------------------------------------------------------------------------------------

    async def _cache_flush(self, t: Transfer, mdl: Mdl, dma_operation: bool) -> None:
        """KeFlushIoBuffers for each MDL of the chain, as the discipline distorts it."""
        read = t.write if t.discipline.swap_read_operation else not t.write
        dma_operation ^= t.discipline.swap_dma_operation
        for part in mdl.chain():
            cover = min(t.discipline.cover_bytes or part.byte_count, part.byte_count)
            if cover == part.byte_count:
                await self.kernel.ke_flush_io_buffers(part, read, dma_operation)
            else:
                partial = self.kernel.io_allocate_mdl(part.virtual_address, cover)
                self.kernel.io_build_partial_mdl(part, partial, part.virtual_address, cover)
                await self.kernel.ke_flush_io_buffers(partial, read, dma_operation)
                self.kernel.io_free_mdl(partial)
            if t.discipline.first_mdl_only:
                return

    async def _by_address(self, op: Op | None, ranges: list) -> None:
        if op is not None:
            await self.kernel.maintenance.run(op, ranges)

    async def _before(self, t: Transfer, mdl: Mdl, stores: Callable[[], Awaitable[None]] | None = None) -> None:
        """P1: the CPU's last stores into the buffer, and the flush around them."""
        flush = t.path != Path.COMMON_BUFFER_UNCACHED
        if flush and t.discipline.before == When.EARLY:
            await self._cache_flush(t, mdl, True)
        if stores is not None:
            await stores()
        await t.at(Moment.STORES)
        if flush and t.discipline.before == When.MADE:
            await self._cache_flush(t, mdl, True)
        await self._by_address(t.discipline.maintenance_before, mdl.ranges())

    async def _started(self, t: Transfer, mdl: Mdl, first: bool, flush: Callable[[], Awaitable[bool]]) -> None:
        """After the hand-off: what comes too late, or too early."""
        await t.at(Moment.STARTED)
        if first and t.discipline.before == When.LATE and t.path != Path.COMMON_BUFFER_UNCACHED:
            await self._cache_flush(t, mdl, True)
        if t.discipline.after == When.EARLY:
            await flush()

    async def _after(self, t: Transfer, flush: Callable[[], Awaitable[bool]], due: bool, retries: int) -> None:
        """T4: the flush of the adapter, and what its BOOLEAN means for the request."""
        await t.at(Moment.COMPLETED)
        if due and t.discipline.after == When.LATE:
            t.late.append(flush)
        if due and t.discipline.after == When.MADE:
            ok = await flush()
            while not ok and retries:
                retries -= 1
                ok = await flush()
            if ok and t.write and not t.ended:
                await self._await_device()
            if not ok and not t.discipline.ignore_flush_result:
                t.fail(NTSTATUS.STATUS_DEVICE_DATA_ERROR, "the DMA adapter's buffers could not be flushed")
            await self._check_dma(t)
        await self._by_address(t.discipline.maintenance_after, t.ranges)
        await t.at(Moment.FLUSHED)

    # -- paths -----------------------------------------------------------------------------------------------------

    async def _system_channel(self, t: Transfer) -> None:
        adapter = self._adapter(False)
        await self._packets(t, adapter, IoAllocationAction.KEEP_OBJECT, self._start_channel)

    async def _bus_master_packet(self, t: Transfer) -> None:
        await self._descriptor_block()
        action = IoAllocationAction.DEALLOCATE_OBJECT_KEEP_REGISTERS
        await self._packets(t, self._adapter(True), action, self._start_bus_master)

    async def _packets(
        self, t: Transfer, adapter: DmaAdapter, action: IoAllocationAction, start: Callable[[Transfer], Awaitable[None]]
    ) -> None:
        """Packet DMA: one MapTransfer and one flush per device transfer."""
        t.adapter = adapter
        va, total = self.kernel.mm_get_mdl_virtual_address(t.mdl), t.irp.length
        await self._before(t, t.mdl)  # P1

        async def next_transfer() -> None:
            t.offset = t.done
            left = total - t.offset
            address, t.length = await adapter.map_transfer(t.mdl, t.map_registers, va + t.offset, left, t.write)  # T1
            t.ranges = [[address, t.length]]
            await start(t)  # T2

        async def adapter_control(device_object: DeviceObject, irp: Irp, base: MapRegisters, context: Transfer):
            t.map_registers = base
            try:
                await next_transfer()
            except (BusError, BusTimeout, DeviceError) as error:
                failures.append(error)  # the channel must still be kept or given back as agreed
            return action

        def flusher(first: int, length: int) -> Callable[[], Awaitable[bool]]:
            base = t.map_registers

            async def flush() -> bool:
                return await adapter.flush_adapter_buffers(t.mdl, base, va + first, max(length, 1), t.write)  # T4

            return flush

        async def release() -> None:
            with self.kernel.raised(DISPATCH_LEVEL):
                if adapter.master:
                    adapter.free_map_registers(t.map_registers, t.map_registers.count)  # P3
                else:
                    await adapter.free_adapter_channel()  # P3

        failures: list[Exception] = []
        count = adapter.map_registers
        with self.kernel.raised(DISPATCH_LEVEL):
            status = await adapter.allocate_adapter_channel(self.device_object, count, adapter_control, t)  # P2
        if status != NTSTATUS.STATUS_SUCCESS:
            t.fail(status, "the adapter has too few map registers")
            return
        try:
            if failures:
                raise failures[0]
            while True:
                await self._started(t, t.mdl, t.offset == 0, flusher(t.offset, t.length))
                await self._wait_complete(t)  # T3
                t.done += await self._moved(t)  # T5
                last = t.ended or t.done >= total
                flush = flusher(t.offset, t.length) if t.discipline.each_transfer else flusher(0, t.done)
                await self._after(t, flush, t.discipline.each_transfer or last, self.options.flush_retries)
                if t.ended or t.done >= total:
                    break
                await next_transfer()
        except (BusTimeout, DeviceError):
            await self._cancel(t)
            if t.discipline.after == When.MADE:
                await flusher(t.offset, t.length)()
            raise
        finally:
            if t.late:
                t.late.append(release)
            else:
                await release()

    async def _bus_master(self, t: Transfer) -> None:
        """Scatter/gather DMA: the whole request is one device transfer."""
        adapter = t.adapter = self._adapter(True)
        block = await self._descriptor_block()
        va = self.kernel.mm_get_mdl_virtual_address(t.mdl)
        t.length = t.irp.length
        await self._before(t, t.mdl)  # P1
        failures: list[Exception] = []

        async def list_control(device_object: DeviceObject, irp: Irp, scatter_gather: ScatterGatherList, context: Transfer):
            t.scatter_gather = scatter_gather
            t.ranges = [[element.address, element.length] for element in scatter_gather.elements]
            if len(t.ranges) * DESCRIPTOR_BYTES > block.length:
                return
            try:
                await self._start_bus_master(t)  # T2
            except (BusError, BusTimeout, DeviceError) as error:
                failures.append(error)

        device = self.device_object
        with self.kernel.raised(DISPATCH_LEVEL):
            status = await adapter.get_scatter_gather_list(device, t.mdl, va, t.length, list_control, t, t.write)  # P2
        if status != NTSTATUS.STATUS_SUCCESS:
            t.fail(status, "the adapter has too few map registers")
            return

        async def put() -> bool:
            with self.kernel.raised(DISPATCH_LEVEL):
                await adapter.put_scatter_gather_list(t.scatter_gather, t.write)  # T4
            return bool(t.scatter_gather.flushed)

        if len(t.ranges) * DESCRIPTOR_BYTES > block.length:
            t.fail(NTSTATUS.STATUS_INSUFFICIENT_RESOURCES, f"{len(t.ranges)} elements need more descriptors than there are")
            await put()
            return
        try:
            if failures:
                raise failures[0]
            await self._started(t, t.mdl, True, put)
            await self._wait_complete(t)  # T3
            t.done = await self._moved(t)
        except (BusTimeout, DeviceError):
            await self._cancel(t)
            if t.discipline.after == When.MADE:
                await put()
            raise
        await self._after(t, put, True, 0)

    async def _common_buffer(self, t: Transfer) -> None:
        """Bus-master DMA through a common buffer; the CPU copies between it and the request's buffer."""
        adapter = t.adapter = self._adapter(True)
        await self._descriptor_block()
        cached = t.path == Path.COMMON_BUFFER_CACHED
        if cached not in self._buffers:
            made = await adapter.allocate_common_buffer(self.options.common_buffer_bytes, cached)
            if not made:
                raise DeviceError("there is no memory for a common buffer")
            mdl = self.kernel.io_allocate_mdl(made.virtual_address, made.length)
            self.kernel.mm_build_mdl_for_non_paged_pool(mdl)
            self._buffers[cached] = made, mdl
        buffer, whole = self._buffers[cached]
        total = t.irp.length
        while t.done < total and not t.ended:
            t.offset, t.length = t.done, min(total - t.done, buffer.length, self.options.maximum_length)
            t.ranges = [[buffer.logical_address, t.length]]
            part = self.kernel.io_allocate_mdl(buffer.virtual_address, t.length)
            self.kernel.io_build_partial_mdl(whole, part, buffer.virtual_address, t.length)
            try:
                await self._through_buffer(t, buffer, part)
            finally:

                async def free(part: Mdl = part) -> None:
                    self.kernel.io_free_mdl(part)

                if t.late:
                    t.late.append(free)
                else:
                    await free()

    async def _through_buffer(self, t: Transfer, buffer: CommonBuffer, part: Mdl) -> None:
        """One device transfer to or from the common buffer; ``part`` describes the bytes of it that are used."""

        async def copy_in() -> None:
            position = 0
            for address, length in t.mdl.ranges(t.offset, t.length):  # T0
                await buffer.write(position, await self.kernel.bus.read(address, length))
                position += length

        async def copy_out(length: int) -> None:
            position = 0
            for address, size in t.mdl.ranges(t.offset, length):  # T6
                await self.kernel.bus.write(address, await buffer.read(position, size))
                position += size

        async def flush() -> bool:
            return await t.adapter.flush_adapter_buffers(part, None, part.virtual_address, part.byte_count, t.write)  # T4

        await self._before(t, part, copy_in if t.write else None)  # T1
        await self._start_bus_master(t, buffer)  # T2
        try:
            await self._started(t, part, True, flush)
            await self._wait_complete(t)  # T3
        except (BusTimeout, DeviceError):
            await self._cancel(t)
            if t.discipline.after == When.MADE:
                await flush()
            raise
        moved = await self._moved(t)  # T5
        t.done += moved
        last = t.ended or t.done >= t.irp.length
        await self._after(t, flush, t.discipline.each_transfer or last, self.options.flush_retries)
        if moved and not t.write:
            await copy_out(moved)

    async def _pio(self, t: Transfer) -> None:
        """Programmed I/O: the CPU moves every word."""
        dev, options = self.kernel.regs.dev, self.options
        if not t.write and t.discipline.pio == When.EARLY:
            await self._cache_flush(t, t.mdl, False)
        if t.write:
            await t.at(Moment.STORES)
        while t.done < t.irp.length and not t.ended:
            address, length = t.mdl.ranges(t.done, t.irp.length - t.done)[0]
            t.offset, t.length = t.done, min(length, options.maximum_length)
            t.ranges = [[address, t.length]]
            await t.at(Moment.BEFORE_START)
            await dev.status.clear()
            await dev.addr.write(t.irp.byte_offset + t.offset)
            await dev.length.write(t.length)
            await dev.cmd.write(op=PIO_WRITE if t.write else PIO_READ)  # T1
            await self._await_drq()
            await t.at(Moment.STARTED)
            await (self._pio_out if t.write else self._pio_in)(address, t.length)  # T2
            await self._await_device()  # T3
            t.done += t.length
            await t.at(Moment.COMPLETED)
            due = t.discipline.each_transfer or t.done >= t.irp.length
            if not t.write and due:
                await self._after_pio(t, address)
            await self._by_address(t.discipline.maintenance_after, t.ranges)
            await t.at(Moment.FLUSHED)

    async def _after_pio(self, t: Transfer, address: int) -> None:
        """T4: of this read, or of the whole sequence of reads."""
        whole = not t.discipline.each_transfer or t.length == t.mdl.total
        mdl = t.mdl if whole else self.kernel.io_allocate_mdl(address, t.length)
        self.kernel.mm_build_mdl_for_non_paged_pool(mdl)

        async def flush() -> None:
            await self._cache_flush(t, mdl, False)
            if not whole:
                self.kernel.io_free_mdl(mdl)

        if t.discipline.pio == When.LATE:
            t.late.append(flush)
        elif t.discipline.pio == When.MADE:
            await flush()

    async def _pio_in(self, address: int, length: int) -> None:
        port = self.kernel.regs.dev.pio_data.address
        words, tail = divmod(length, 4)
        if words:
            await self.kernel.read_register_buffer_ulong(port, address, words)
        if tail:  # the port pads the last word; the bytes after the buffer are somebody else's
            value = await self.kernel.read_register_ulong(port)
            with self.kernel.cpu_copy([(address + 4 * words, tail)]):
                await self.kernel.bus.write(address + 4 * words, value.to_bytes(4, "little")[:tail])

    async def _pio_out(self, address: int, length: int) -> None:
        port = self.kernel.regs.dev.pio_data.address
        words, tail = divmod(length, 4)
        if words:
            await self.kernel.write_register_buffer_ulong(port, address, words)
        if tail:
            data = await self.kernel.bus.read(address + 4 * words, tail)
            await self.kernel.write_register_ulong(port, int.from_bytes(data, "little"))
