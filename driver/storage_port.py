# SPDX-License-Identifier: BSD-2-Clause
"""The storage device as a driver's own code programs it: start a transfer, wait, acknowledge, PIO.

The operating-system interfaces (:mod:`driver.wdk`, :mod:`driver.linux`, :mod:`driver.bare`) do not know the device; a driver's
author should not have to know the register map to break or keep a flush rule. A :class:`StoragePort` stands between: it makes
the register accesses, and nothing else. It flushes nothing, maps nothing and checks no rule.

One transfer, by a bus master, with the list that the interface returned::

    await port.start_list(elements, write_to_device=False, byte_offset=0, adapter=adapter)
    await port.wait(limit=100_000)
    moved = await port.acknowledge()

What the registers do: ``docs/device.md``, ``docs/dma.md``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .bus import Attribute, BusTimeout
from .errors import ArgumentError, DeviceError, check_flag, check_integer, check_type
from .hal import Hal
from .registers import IRQ
from .trace import Trace

__all__ = ["DESCRIPTOR_BYTES", "MAX_DESCRIPTORS", "PortTransfer", "StoragePort", "encode_descriptors"]

#: Size and alignment of one scatter/gather descriptor in memory, bytes.
DESCRIPTOR_BYTES = 16
#: Elements that the port's own descriptor memory holds.
MAX_DESCRIPTORS = 64

_DMA_READ, _DMA_WRITE, _PIO_READ, _PIO_WRITE, _ABORT = 1, 2, 3, 4, 7
_BUS_MASTER_PATH = 4
_POLL_CYCLES = 4096  # a transfer that ends short raises no interrupt
_BEHIND_CYCLES = 64  # the engine is a few cycles behind the device
_IDLE_LIMIT = 20_000


def encode_descriptors(elements: Sequence[tuple[int, int]], address: int) -> bytes:
    """The bytes of a descriptor list that lies at ``address``: 16 bytes per element, chained, the last one marked.

    Parameters
    ----------
    elements : ``(bus address, length in bytes)`` pairs. address : where the list will lie, a multiple of 16.
    """
    check_integer("address", address, 0, (1 << 32) - DESCRIPTOR_BYTES, multiple_of=DESCRIPTOR_BYTES)
    words: list[int] = []
    for n, (base, length) in enumerate(elements):
        last = n == len(elements) - 1
        words += [base, length, int(last), 0 if last else address + (n + 1) * DESCRIPTOR_BYTES]
    return b"".join(int(word).to_bytes(4, "little") for word in words)


@dataclass(eq=False)
class PortTransfer:
    """One DMA transfer that a port started: where, which way, when, and how many bytes it moved once that is known.

    ``started`` and ``ended`` are cycles; ``moved`` and ``ended`` are None while nobody has asked for the end.
    """

    elements: list[tuple[int, int]]
    write_to_device: bool
    byte_offset: int
    started: int
    moved: int | None = None
    ended: int | None = None

    @property
    def length(self) -> int:
        return sum(length for _, length in self.elements)


class StoragePort:
    """The device's registers, and those of the DMA engine that a start and an interrupt need. One transfer at a time.

    Parameters
    ----------
    hal : the machine. Its interrupts must be enabled (starting a kernel does it).
    trace : the call log; starts are logged as ``StartTransfer``.

    Members
    -------
    irq_mask : the interrupt lines of the DMA engine: terminal count or error of the bus master and of each system channel. The
        level stays until :meth:`acknowledge`.
    device_irq_mask : the device's own line: a command is done or refused. :meth:`acknowledge` and the next command clear it.
    data_register : address of the PIO data port, 32 bits wide.
    capacity : bytes of the device's buffer as the port was told, or None.
    transfers : every DMA transfer started, in order.
    got, put : what :meth:`expect_read` and :meth:`expect_write` were told: ``(cycle, byte offset, bytes)``.
    """

    def __init__(self, hal: Hal, trace: Trace, *, capacity: int | None = None):
        self.hal = check_type("hal", hal, Hal)
        self.trace = check_type("trace", trace, Trace)
        self.capacity = capacity
        channels = hal.platform.system_channels
        self.irq_mask = 1 << IRQ.BUS_MASTER | sum(1 << (IRQ.SYSTEM_CHANNEL + n) for n in range(channels))
        self.device_irq_mask = 1 << IRQ.DEVICE
        self.data_register: int = hal.regs.dev.pio_data.address
        self.transfers: list[PortTransfer] = []
        self.got: list[tuple[int, int, bytes]] = []
        self.put: list[tuple[int, int, bytes]] = []
        # Taken before any driver can have stored to it, and never used through the cache: no flush is owed for it.
        size = MAX_DESCRIPTORS * DESCRIPTOR_BYTES
        self._descriptors = hal.pool.allocate(size, alignment=4096, exclusive=True, what="device's descriptors")
        hal.set_uncached(self._descriptors, size, True)
        self._channel: int | None = None  # None: the bus master
        self._running = False

    # -- DMA -------------------------------------------------------------------------------------------------------

    async def start_list(
        self,
        elements: Iterable[Any],
        write_to_device: bool,
        byte_offset: int,
        *,
        adapter: Any = None,
        device: Any = None,
        buffer: Any = None,
        descriptors_at: int | None = None,
        descriptors_cached: bool = False,
    ) -> None:
        """Starts the bus master with a scatter/gather list, and the device; returns when both are started.

        Parameters
        ----------
        elements : the list: ``(bus address, length)`` pairs, or objects with ``address`` and ``length``. 1 to 64 of them where
            the port writes the descriptors.
        write_to_device : True for memory to device.
        byte_offset : of the first byte in the device's buffer.
        adapter, device : the WDK adapter or the Linux device that the transfer belongs to (bare metal: neither).
        buffer : the common (coherent) buffer that the elements lie in, or its id, if there is one.
        descriptors_at : address of descriptors that the driver has put into memory itself (:meth:`write_descriptors`); nothing is
            written then. None: the port writes them to uncached memory of its own, for which no flush is owed.
        descriptors_cached : with ``descriptors_at``: the driver wrote them through the cache. Only the log and its reader use it.

        Raises
        ------
        ArgumentError
            If there is no element or too many, or an argument breaks its rule.
        DeviceError
            If the device still runs a command after 20,000 cycles: a remainder of the last one was perhaps never flushed.
        BusError
            If a register refuses.
        """
        check_flag("write_to_device", write_to_device)
        check_integer("byte_offset", byte_offset, 0, (1 << 32) - 1)
        check_flag("descriptors_cached", descriptors_cached)
        pairs = _pairs(elements)
        placed: dict[str, Any] = {}
        at = self._descriptors
        if descriptors_at is not None:
            at = check_integer("descriptors_at", descriptors_at, 0, (1 << 32) - 16, multiple_of=DESCRIPTOR_BYTES)
            placed = {"descriptors": [at, len(pairs) * DESCRIPTOR_BYTES], "descriptors_cached": descriptors_cached}
        elif len(pairs) > MAX_DESCRIPTORS:
            raise ArgumentError(f"elements must be at most {MAX_DESCRIPTORS}, not {len(pairs)}")
        else:
            await self.write_descriptors(pairs, at, cached=False)
        bm = self.hal.regs.bm
        length = sum(length for _, length in pairs)
        await self._prepare(_BUS_MASTER_PATH, byte_offset, length)
        await bm.status.clear()
        await bm.desc.write(at)
        await bm.mode.write(write_to_device=int(write_to_device))
        with self._started(pairs, write_to_device, adapter, device, buffer, placed):
            self._begun(None, pairs, write_to_device, byte_offset)
            await bm.ctrl.write(start=1)
            await self._command(_DMA_WRITE if write_to_device else _DMA_READ)

    async def write_descriptors(self, elements: Iterable[Any], address: int, *, cached: bool) -> None:
        """Stores the descriptors of ``elements`` at ``address`` (a multiple of 16), through the cache or around it.

        Through the cache they are the driver's to clean before :meth:`start_list`.
        """
        check_flag("cached", cached)
        data = encode_descriptors(_pairs(elements), address)
        await self.hal.bus.write(address, data, Attribute.CACHED if cached else Attribute.UNCACHED)

    async def start_channel(self, adapter: Any, ranges: Iterable[Any], write_to_device: bool, byte_offset: int) -> None:
        """Starts the device on the system channel that MapTransfer has programmed; arming the channel is the hand-off.

        Parameters
        ----------
        adapter : the WDK adapter that holds the channel.
        ranges : what MapTransfer returned, as one ``(address, length)`` pair in a list.
        write_to_device, byte_offset : as in :meth:`start_list`.

        Raises
        ------
        AdapterError
            If MapTransfer has not programmed the channel.
        ArgumentError, DeviceError, BusError
            As :meth:`start_list`.
        """
        check_flag("write_to_device", write_to_device)
        check_integer("byte_offset", byte_offset, 0, (1 << 32) - 1)
        channel = getattr(adapter, "channel", None)
        if channel is None:
            raise ArgumentError(f"adapter must be one of a system channel, not {adapter!r}")
        pairs = _pairs(ranges)
        length = sum(length for _, length in pairs)
        await self._prepare(channel, byte_offset, length)
        with self._started(pairs, write_to_device, adapter, None, None, {}):
            await adapter.arm()
            self._begun(channel, pairs, write_to_device, byte_offset)
            await self._command(_DMA_WRITE if write_to_device else _DMA_READ)

    async def wait(self, limit: int = 1_000_000) -> None:
        """Waits until the DMA engine has taken the transfer's last byte, or the transfer has ended early.

        Complete means that the last byte has entered the engine; a remainder may still be in it (toward memory, and toward the
        device), until the interface's flush. Returns at once if nothing runs, or :meth:`acknowledge` has been called.

        Parameters
        ----------
        limit : cycles.

        Raises
        ------
        BusTimeout
            After ``limit`` cycles.
        DeviceError
            If the engine stopped on an error, or the device refused or aborted the command.
        """
        check_integer("limit", limit, 1, 1 << 40)
        bus, name, bit = self.hal.bus, self._name, 1 << self._irq
        mask, interval, deadline = bit | self.device_irq_mask, _POLL_CYCLES, bus.now() + limit
        while self._running:
            left = deadline - bus.now()
            if left <= 0:
                raise BusTimeout(f"{name} to complete {self._length} bytes", limit)
            try:
                levels = await bus.wait_interrupt(mask, min(interval, left), name)
            except BusTimeout:
                levels = 0
            status = await self._status.read()
            if status.error:
                raise DeviceError(f"{name} stopped on an error at {int(await self.hal.regs.dma.error_addr.read()):#010x}")
            if status.fields().get("tc") or status.fields().get("done"):
                self._ended(self._length)
                return
            if status.stopped:
                return
            if levels & self.device_irq_mask:
                if (await self.hal.regs.dev.status.read()).error:
                    raise DeviceError(f"the device refused or aborted a command of {self._length} bytes")
                mask, interval = bit, _BEHIND_CYCLES

    async def acknowledge(self) -> int:
        """Takes the interrupts back and returns the bytes that entered the DMA engine in the transfer. Fit for an ISR: no wait.

        The count says nothing about the remainder. A system channel that reloads itself counts its current round. 0 if no
        transfer was started since the last call.
        """
        regs = self.hal.regs
        if not self._running:
            await regs.dev.status.clear()
            return 0
        if self._channel is None:
            moved = int(await regs.bm.bytes_done.read())
        else:
            moved = self._length - await self.hal.residue(self._channel)
        await self._status.clear()
        await regs.dev.status.clear()
        self._running = False
        self._ended(moved)
        return moved

    async def is_pending(self) -> bool:
        """Whether the transfer's end (or error) waits for :meth:`acknowledge`: one register read, what an ISR asks first."""
        flags = (await self._status.read()).fields()
        return any(flags.get(name) for name in ("tc", "done", "error", "stopped"))

    async def stop(self) -> None:
        """Ends the transfer in progress: aborts the device's command and stops the bus master or channel.

        Bytes that are in the engine stay there: the flush is owed as after a complete transfer.
        """
        regs = self.hal.regs
        if (await regs.dev.status.read()).busy:
            await regs.dev.cmd.write(op=_ABORT)
        if self._channel is None:
            await regs.bm.ctrl.write(stop=1)
        else:
            await self.hal.stop_channel(self._channel)

    async def device_done(self, limit: int = 1_000_000) -> int:
        """Waits until the device has all bytes of a memory-to-device command, and returns how many came.

        Only after the interface's flush: before it the remainder is still in the engine.

        Raises
        ------
        BusTimeout, DeviceError
            After ``limit`` cycles; if the device reports an error.
        """
        await self._until(lambda status: not status.busy, limit, "the device to finish its command")
        return int(await self.hal.regs.dev.bytes_done.read())

    # -- PIO -------------------------------------------------------------------------------------------------------

    async def pio_begin(self, write_to_device: bool, byte_offset: int, length: int) -> None:
        """Starts a PIO command: ``length`` bytes will pass through :attr:`data_register`, four per access, the last padded.

        Raises
        ------
        ArgumentError, DeviceError
            For a bad argument; if the device is still busy after 20,000 cycles.
        """
        check_flag("write_to_device", write_to_device)
        check_integer("byte_offset", byte_offset, 0, (1 << 32) - 1)
        check_integer("length", length, 1, (1 << 32) - 1)
        await self._idle()
        dev = self.hal.regs.dev
        await dev.status.clear()
        await dev.addr.write(byte_offset)
        await dev.length.write(length)
        await self._command(_PIO_WRITE if write_to_device else _PIO_READ)

    async def pio_ready(self, limit: int = 10_000) -> None:
        """Waits until the data port takes accesses; raises :class:`BusTimeout` after ``limit`` cycles, :class:`DeviceError` if
        the device refused the command."""
        await self._until(lambda status: status.drq, limit, "the device's data request")

    async def pio_end(self, limit: int = 10_000) -> None:
        """Waits until the device has ended the PIO command; raises as :meth:`pio_ready`."""
        await self._until(lambda status: status.done, limit, "the device to end its PIO command")

    # -- what the caller saw ---------------------------------------------------------------------------------------

    def expect_read(self, byte_offset: int, data: bytes) -> None:
        """Says that a caller got ``data`` for the device's bytes from ``byte_offset`` on; whoever runs the driver compares."""
        self.got.append((self.hal.bus.now(), check_integer("byte_offset", byte_offset, 0, (1 << 32) - 1), bytes(data)))

    def expect_write(self, byte_offset: int, data: bytes) -> None:
        """Says that the device must hold ``data`` from ``byte_offset`` on when the driver has ended."""
        self.put.append((self.hal.bus.now(), check_integer("byte_offset", byte_offset, 0, (1 << 32) - 1), bytes(data)))

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _status(self) -> Any:
        regs = self.hal.regs
        return regs.bm.status if self._channel is None else regs.channel(self._channel).status

    @property
    def _irq(self) -> int:
        return int(IRQ.BUS_MASTER if self._channel is None else IRQ.SYSTEM_CHANNEL + self._channel)

    @property
    def _name(self) -> str:
        return "the bus master" if self._channel is None else f"system channel {self._channel}"

    @property
    def _length(self) -> int:
        return self.transfers[-1].length if self.transfers else 0

    def _begun(self, channel: int | None, pairs: list[tuple[int, int]], write: bool, byte_offset: int) -> None:
        self._channel, self._running = channel, True
        self.transfers.append(PortTransfer(pairs, write, byte_offset, self.hal.bus.now()))

    def _ended(self, moved: int) -> None:
        self.transfers[-1].moved, self.transfers[-1].ended = moved, self.hal.bus.now()

    def _started(
        self, pairs: list[tuple[int, int]], write: bool, adapter: Any, device: Any, buffer: Any, placed: dict[str, Any]
    ) -> Any:
        return self.trace.call(
            "StartTransfer",
            adapter=_log(adapter),
            ranges=[[address, length] for address, length in pairs],
            write_to_device=write,
            buffer=getattr(buffer, "id", buffer),
            device=_log(device),
            **placed,
        )

    async def _prepare(self, path: int, byte_offset: int, length: int) -> None:
        await self._idle()
        dev = self.hal.regs.dev
        await dev.status.clear()
        await dev.path.write(channel=path)
        await dev.addr.write(byte_offset)
        await dev.length.write(length)

    async def _command(self, op: int) -> None:
        await self.hal.regs.dev.cmd.write(op=op)

    async def _idle(self) -> None:
        try:
            await self._until(lambda status: not status.busy, _IDLE_LIMIT, "the device to be idle")
        except BusTimeout:
            left = int(await self.hal.regs.dev.length.read()) - int(await self.hal.regs.dev.bytes_done.read())
            raise DeviceError(
                f"the device must be idle to be started, but it still waits for {left} bytes of its last command: "
                "a remainder that was never flushed keeps it busy"
            ) from None

    async def _until(self, condition: Any, limit: int, what: str) -> None:
        check_integer("limit", limit, 1, 1 << 40)
        bus, dev = self.hal.bus, self.hal.regs.dev
        deadline = bus.now() + limit
        while True:
            status = await dev.status.read()
            if condition(status):
                return
            if status.error and not status.busy:
                raise DeviceError(f"the device refused or aborted its command while the driver waited for {what}")
            if bus.now() >= deadline:
                raise BusTimeout(what, limit)
            await bus.delay(8)


def _pairs(elements: Iterable[Any]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for element in elements:
        address, length = (element.address, element.length) if hasattr(element, "address") else element
        check_integer("elements' address", address, 0, (1 << 32) - 1)
        check_integer("elements' length", length, 0, (1 << 32) - 1)
        pairs.append((address, length))
    if not pairs:
        raise ArgumentError("elements must name at least one range, not none")
    return pairs


def _log(owner: Any) -> Any:
    """An adapter or device as the call log shows it."""
    return owner.log() if hasattr(owner, "log") else owner
