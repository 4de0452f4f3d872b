# SPDX-License-Identifier: BSD-2-Clause
"""The storage driver's hands: its options, the transfer in progress, and everything that touches device and DMA registers.

The order of calls is :mod:`driver.storage`'s business.
"""

import enum
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .bus import BusTimeout
from .discipline import Discipline, Hooks, Moment
from .errors import ArgumentError, DeviceError, check_integer, check_type
from .registers import IRQ
from .trace import driver_source
from .wdk import (
    NTSTATUS,
    CommonBuffer,
    DeviceDescription,
    DeviceObject,
    DmaAdapter,
    Irp,
    Kernel,
    MapRegisters,
    Mdl,
    ScatterGatherList,
)

__all__ = ["Path", "StorageHardware", "StorageOptions", "Transfer"]

driver_source(__file__)

DMA_READ, DMA_WRITE, PIO_READ, PIO_WRITE, ABORT = 1, 2, 3, 4, 7
BUS_MASTER_PATH = 4
DESCRIPTOR_BYTES = 16


class Path(enum.Enum):
    """How a request's data moves."""

    SYSTEM_CHANNEL = "system (subordinate) DMA channel, packets"
    BUS_MASTER = "bus master, scatter/gather list"
    BUS_MASTER_PACKET = "bus master, one MapTransfer per transfer"
    COMMON_BUFFER_CACHED = "bus master through a common buffer, CacheEnabled=TRUE"
    COMMON_BUFFER_UNCACHED = "bus master through a common buffer, CacheEnabled=FALSE"
    PIO = "programmed I/O"


@dataclass(frozen=True, kw_only=True)
class StorageOptions:
    """The driver's choices.

    Parameters
    ----------
    version : of DMA_OPERATIONS, 1 or 2. channel : system channel. demand_mode : of the system channel.
    maximum_length : most bytes per device transfer, also of a PIO command.
    common_buffer_bytes : size of the common buffers. descriptors : most elements of a scatter/gather list.
    wait_limit : cycles to wait for a completion. poll_interval : cycles between two looks at the status meanwhile, because
        a transfer that ends short raises no interrupt.
    flush_retries : how often FlushAdapterBuffers is called again after FALSE.
    """

    version: int = 2
    channel: int = 0
    demand_mode: bool = True
    maximum_length: int = 1 << 20
    common_buffer_bytes: int = 4096
    descriptors: int = 64
    wait_limit: int = 1_000_000
    poll_interval: int = 4096
    flush_retries: int = 0

    def __post_init__(self) -> None:
        check_integer("StorageOptions.maximum_length", self.maximum_length, 4, (1 << 24) - 4, multiple_of=4)
        check_integer("StorageOptions.common_buffer_bytes", self.common_buffer_bytes, 1, 1 << 24)
        check_integer("StorageOptions.descriptors", self.descriptors, 1, 4096)
        check_integer("StorageOptions.wait_limit", self.wait_limit, 1, 1 << 40)
        check_integer("StorageOptions.poll_interval", self.poll_interval, 1, 1 << 40)
        check_integer("StorageOptions.flush_retries", self.flush_retries, 0, 1000)


@dataclass(eq=False)
class Transfer:
    """One request on its way; hooks get it. ``offset`` and ``length`` are those of the device transfer in progress, ``ranges``
    what its DMA may touch, ``done`` the bytes of the request moved so far."""

    irp: Irp
    path: Path
    discipline: Discipline
    hooks: Hooks
    mdl: Mdl
    write: bool
    offset: int = 0
    length: int = 0
    ranges: list[list[int]] = field(default_factory=list)
    done: int = 0
    ended: bool = False  # an error or a short transfer: nothing more is started
    adapter: DmaAdapter | None = None
    map_registers: MapRegisters | None = None
    scatter_gather: ScatterGatherList | None = None
    late: list[Callable[[], Awaitable[object]]] = field(default_factory=list)

    def fail(self, status: NTSTATUS, detail: str) -> None:
        """Records the first thing that went wrong."""
        self.ended = True
        if self.irp.io_status.status in (NTSTATUS.STATUS_PENDING, NTSTATUS.STATUS_SUCCESS):
            self.irp.io_status.status, self.irp.detail = status, detail

    async def at(self, moment: Moment) -> None:
        """Runs the experiment's hook of that moment."""
        hook = self.hooks.get(moment)
        if hook is not None:
            value = hook(self)
            if inspect.isawaitable(value):
                await value


class StorageHardware:
    """What the driver does to device, channels and bus master. Adapters and descriptors are made when first needed."""

    def __init__(self, kernel: Kernel, options: StorageOptions | None = None):
        self.kernel = check_type("kernel", kernel, Kernel)
        self.options = check_type("options", StorageOptions() if options is None else options, StorageOptions)
        self.device_object = DeviceObject()
        self._adapters: dict[bool, DmaAdapter] = {}
        self._descriptors: CommonBuffer | None = None

    async def set_request_sizes(self, *sizes: int, gap: int = 0) -> None:
        """Sizes of the device's DMA requests (1 to 4 values of 1 to 256 bytes, used in turn) and cycles between two."""
        if not 1 <= len(sizes) <= 4:
            raise ArgumentError(f"sizes must be 1 to 4 values, not {len(sizes)}")
        check_integer("sizes[0]", sizes[0], 1, 256)
        for n, size in enumerate(sizes[1:], 1):
            check_integer(f"sizes[{n}]", size, 1, 255)
        dev = self.kernel.regs.dev
        await dev.sizes.write(**{f"s{n}": size % 256 for n, size in enumerate(sizes)})
        await dev.gap.write(gap)

    def _adapter(self, master: bool) -> DmaAdapter:
        if master not in self._adapters:
            description = DeviceDescription(
                version=self.options.version,
                master=master,
                scatter_gather=master,
                demand_mode=self.options.demand_mode,
                dma_channel=self.options.channel,
                maximum_length=self.options.maximum_length,
            )
            adapter, _ = self.kernel.io_get_dma_adapter(self.device_object, description)
            if not adapter:
                raise DeviceError(f"there is no DMA adapter of version {self.options.version}")
            self._adapters[master] = adapter
        return self._adapters[master]

    async def _descriptor_block(self) -> CommonBuffer:
        """Uncached memory for the bus master's descriptors: no flush is ever owed for them."""
        if self._descriptors is None:
            adapter = self._adapter(True)
            made = await adapter.allocate_common_buffer(self.options.descriptors * DESCRIPTOR_BYTES, False)
            if not made:
                raise DeviceError("there is no memory for the descriptors")
            self._descriptors = made
        return self._descriptors

    async def _start_channel(self, t: Transfer) -> None:
        await self._prepare_device(t, self.options.channel)
        await t.at(Moment.BEFORE_START)
        async with self.kernel.start_transfer(t.adapter, t.ranges, t.write):
            await self._device_command(t)

    async def _start_bus_master(self, t: Transfer, buffer: CommonBuffer | None = None) -> None:
        """Writes one descriptor per range and starts bus master and device."""
        block, bm = await self._descriptor_block(), self.kernel.regs.bm
        words = []
        for n, (address, length) in enumerate(t.ranges):
            last = n == len(t.ranges) - 1
            words += [address, length, int(last), 0 if last else block.logical_address + (n + 1) * DESCRIPTOR_BYTES]
        await block.write(0, b"".join(word.to_bytes(4, "little") for word in words))
        await self._prepare_device(t, BUS_MASTER_PATH)
        await bm.status.clear()
        await bm.desc.write(block.logical_address)
        await bm.mode.write(write_to_device=int(t.write))
        await t.at(Moment.BEFORE_START)
        async with self.kernel.start_transfer(t.adapter, t.ranges, t.write, None if buffer is None else buffer.id):
            await bm.ctrl.write(start=1)
            await self._device_command(t)

    async def _prepare_device(self, t: Transfer, path: int) -> None:
        """Waits for the device to be idle, then programs it. (It stays busy if an earlier remainder was never flushed.)"""
        dev = self.kernel.regs.dev
        if (await dev.status.read()).busy:
            await self._await_device()
        await dev.status.clear()
        await dev.path.write(channel=path)
        await dev.addr.write(t.irp.byte_offset + t.offset)
        await dev.length.write(t.length)

    async def _device_command(self, t: Transfer) -> None:
        await self.kernel.regs.dev.cmd.write(op=DMA_WRITE if t.write else DMA_READ)

    async def _wait_complete(self, t: Transfer) -> None:
        """T3: until channel or bus master has moved the last byte, or the transfer ended early.

        Raises
        ------
        BusTimeout, DeviceError
            After ``wait_limit`` cycles; if the device refuses the command.
        """
        bus, regs = self.kernel.bus, self.kernel.regs
        master = t.adapter.master
        status_register = regs.bm.status if master else regs.channel(t.adapter.channel).status
        bit = 1 << (IRQ.BUS_MASTER if master else IRQ.SYSTEM_CHANNEL + t.adapter.channel)
        what = "the bus master" if master else f"system channel {t.adapter.channel}"
        mask, interval, deadline = bit | 1 << IRQ.DEVICE, self.options.poll_interval, bus.now() + self.options.wait_limit
        while True:
            left = deadline - bus.now()
            if left <= 0:
                raise BusTimeout(f"{what} to complete {t.length} bytes", self.options.wait_limit)
            try:
                levels = await bus.wait_interrupt(mask, min(interval, left), what)
            except BusTimeout:
                levels = 0
            status = await status_register.read()
            if status.error:
                await self._dma_error(t, what)
                return
            if status.stopped or (status.done if master else status.tc):
                return
            if levels & 1 << IRQ.DEVICE:
                if (await regs.dev.status.read()).error:
                    raise DeviceError(
                        f"the device refused or aborted a command of {t.length} bytes at {t.irp.byte_offset + t.offset:#x}"
                    )
                # The device has sent all; the engine is a few cycles behind, and a short end raises no interrupt.
                mask, interval = bit, 64

    async def _dma_error(self, t: Transfer, what: str) -> None:
        """``what`` stopped on an error: the request fails, the device is stopped."""
        await self._check_dma(t)
        t.fail(NTSTATUS.STATUS_DEVICE_DATA_ERROR, f"{what} stopped on an error")
        await self._stop_device()

    async def _check_dma(self, t: Transfer) -> None:
        """Fails the request if the DMA engine latched an error, which it also does for a chunk lost after completion."""
        dma = self.kernel.regs.dma
        latched = await dma.error_status.read()
        kinds = [name for name, value in latched.fields().items() if value]
        if kinds:
            where = int(await dma.error_addr.read())
            await dma.error_status.clear()
            t.fail(NTSTATUS.STATUS_DEVICE_DATA_ERROR, f"the DMA engine reported an error ({', '.join(kinds)}) at {where:#010x}")

    async def _moved(self, t: Transfer) -> int:
        """T5: bytes that the transfer in progress moved; fewer than asked for end the request."""
        if t.adapter.master:
            moved = int(await self.kernel.regs.bm.bytes_done.read())
        else:
            moved = t.length - await t.adapter.read_dma_counter()
        if moved < t.length:
            t.ended = True
        return moved

    async def _await_drq(self) -> None:
        dev, deadline = self.kernel.regs.dev, self.kernel.bus.now() + self.options.wait_limit
        while True:
            status = await dev.status.read()
            if status.drq:
                return
            if status.error:
                raise DeviceError("the device refused a PIO command")
            if self.kernel.bus.now() >= deadline:
                raise BusTimeout("the device's data request", self.options.wait_limit)
            await self.kernel.bus.delay(8)

    async def _await_device(self) -> None:
        """Until the device reports that its command is done."""
        await self.kernel.bus.wait_interrupt(1 << IRQ.DEVICE, self.options.wait_limit, "the device to finish its command")
        if (await self.kernel.regs.dev.status.read()).error:
            raise DeviceError("the device reported an error for its command")

    async def _stop_device(self) -> None:
        dev = self.kernel.regs.dev
        if (await dev.status.read()).busy:
            await dev.cmd.write(op=ABORT)
            await dev.status.clear()

    async def _cancel(self, t: Transfer) -> None:
        """Takes the hardware back from a transfer that will not complete; the request counts only transfers before it."""
        await self._stop_device()
        if t.adapter.master:
            await self.kernel.regs.bm.ctrl.write(stop=1)
        else:
            await self.kernel.hal.stop_channel(t.adapter.channel)
