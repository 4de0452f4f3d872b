# SPDX-License-Identifier: BSD-2-Clause
"""What surrounds a scenario's driver: the kernel it runs on, and the CPU's and device's free choices.

Everything here that touches the hardware does so as the test harness (tag 0): a real CPU evicts and prefetches by itself.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from driver.discipline import Moment
from driver.platform import HalOptions
from driver.registers import Registers
from driver.storage import Transfer
from driver.trace import library_folder
from driver.wdk import NTSTATUS, IoStatusBlock, Irp, Kernel

from .expect import Setting, complement
from .layout import BOUNCE, DEVICE_SCRATCH, SCRATCH, before_transfer, reserve, source_address, user_address

__all__ = ["Context"]

library_folder(__file__)

#: Pieces in which the device asks for data: odd sizes, so that remainders are real; larger ones for large transfers.
_SMALL_REQUESTS = (5, 12, 7, 16)
_LARGE_REQUESTS = (61, 128, 255, 68)
_PRIME_BYTES = 64  # a whole number of chunks of any size
_FAIL_WRITES, _STALL_WRITES = 1, 3  # mem.fault_ctrl.mode
_FOR_EVER = 1_000_000
_SHORT_TIMEOUT, _LONG_TIMEOUT = 300, 4096  # cycles of dma.flush_timeout; the long one is its reset value
_LANDING_CYCLES = 150  # a full chunk FIFO into the slowest rows, a refresh included
_EARLY_GAP = 300  # cycles between device requests: an early flush comes between two of them


class Context:
    """One run's surroundings.

    Parameters
    ----------
    tb : the testbench, freshly reset (``bus``, ``trace``, ``harness()``, ``platform``, ``bus_accesses``).
    setting : the scenario with its addresses and bytes.
    payload_bytes : length of the whole payload, which decides what memory the driver's pool may use.
    """

    def __init__(self, tb: Any, setting: Setting, payload_bytes: int):
        self.tb, self.setting = tb, setting
        self.bus = tb.bus
        self.options = setting.scenario.options
        self.payload = setting.payload
        self.regs = Registers(tb.bus, system_channels=setting.config.dma.system_channels)
        self.costs: dict[str, dict[str, int]] = {}
        self.problems: list[str] = []
        self._reserve = reserve(payload_bytes)

    # -- the right bytes and the wrong ones ------------------------------------------------------------------------

    @property
    def earlier(self) -> bytes:
        """What the CPU had in the buffer before."""
        return before_transfer(self.setting)

    @property
    def stale(self) -> bytes:
        """What memory or device holds at first."""
        return complement(self.payload)

    @property
    def write_to_device(self) -> bool:
        return self.setting.write_to_device

    @property
    def user_address(self) -> int:
        """Where the caller's buffer lies; the driver may use a common buffer of its own (``setting.address``)."""
        return user_address(self.setting)

    @property
    def source(self) -> int:
        """Where the bytes of a read, or the target of a write, lie in the device."""
        return source_address(self.setting)

    @property
    def bounce(self) -> int:
        """A buffer on lines of its own."""
        return self.setting.config.memory.base + BOUNCE

    # -- the machine -----------------------------------------------------------------------------------------------

    async def boot(self) -> Kernel:
        """Starts the kernel with the HAL's options and beliefs of the scenario."""
        beliefs: dict[str, Any] = {
            "options": HalOptions(invalidate_after_read=self.options.get("invalidate_after_read", True)),
        }
        if self.options.get("coherent_flag") is not None:
            beliefs["coherent"] = self.options["coherent_flag"]
        kernel = await Kernel.start(self.bus, self.tb.trace, reserve=self._reserve, **beliefs)
        self.tb.platform.update(kernel.platform.record())
        self.tb.platform["speculates"] = bool(self.options.get("prefetch") or self.options.get("refetch"))
        self._measure(kernel, "ke_flush_io_buffers", "KeFlushIoBuffers")
        return kernel

    def _measure(self, owner: Any, method: str, name: str) -> None:
        """Counts calls, bus accesses and cycles of a routine from here on."""
        inner: Callable[..., Awaitable[Any]] = getattr(owner, method)
        cost = self.costs.setdefault(name, {"calls": 0, "accesses": 0, "cycles": 0})

        async def measured(*args: Any, **kwargs: Any) -> Any:
            accesses, cycle = self.tb.bus_accesses, self.bus.now()
            try:
                return await inner(*args, **kwargs)
            finally:
                cost["calls"] += 1
                cost["accesses"] += self.tb.bus_accesses - accesses
                cost["cycles"] += self.bus.now() - cycle

        setattr(owner, method, measured)

    # -- before the driver -----------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Fills the chunk FIFO, both ways, with the complement; sets how the device paces its requests."""
        with self.tb.harness():
            await self._prime(write_to_device=False)
            await self._prime(write_to_device=True)
            requests = _SMALL_REQUESTS if self.setting.size <= 512 else _LARGE_REQUESTS
            await self.regs.dev.sizes.write(**{f"s{n}": size & 0xFF for n, size in enumerate(requests)})
            if self.options.get("post") == "early":
                await self.regs.dev.gap.write(_EARLY_GAP)
            if self.options.get("short"):
                await self.regs.dev.short.write(self.setting.delivered)

    async def _prime(self, write_to_device: bool) -> None:
        """Moves whole chunks of the complement through the FIFO, between scratch areas; nothing stays in it."""
        ch, dev = self.regs.ch0, self.regs.dev
        # Each direction has a place of its own: neither reads what the other wrote.
        place = _PRIME_BYTES if write_to_device else 0
        await ch.addr.write(self.setting.config.memory.base + SCRATCH + place)
        await ch.count.write(_PRIME_BYTES)
        await ch.mode.write(write_to_device=int(write_to_device))
        await ch.mask.write(mask=0)
        await ch.ctrl.write(start=1)
        await dev.addr.write(DEVICE_SCRATCH + place)
        await dev.length.write(_PRIME_BYTES)
        await dev.cmd.write(op=2 if write_to_device else 1)
        await self._until(lambda status: status.done, dev.status, "the device's end of the priming transfer")
        await self._until(lambda status: status.tc, ch.status, "the priming transfer's terminal count")
        await ch.mask.write(mask=1)
        await ch.status.clear()
        await dev.status.clear()

    async def _until(self, condition: Callable[[Any], Any], register: Any, what: str) -> None:
        for _ in range(1000):
            if condition(await register.read()):
                return
        raise RuntimeError(f"the test harness gave up waiting for {what}: {register} is {await register.read()!r}")

    # -- what a CPU may do at any time -----------------------------------------------------------------------------

    def _lines(self) -> Iterator[int]:
        line = self.setting.config.dcache.line_bytes
        first = self.setting.address - self.setting.address % line
        return iter(range(first, self.setting.address + self.setting.size, line))

    async def _inject(self, **command: int) -> None:
        with self.tb.harness():
            for line in self._lines():
                await self.regs.dcache.inject_addr.write(line)
                await self.regs.dcache.inject_cmd.write(**command)
                await self._until(lambda status: not status.busy, self.regs.dcache.inject_cmd, "an injected command")

    async def evict(self) -> None:
        """The CPU evicts the buffer's lines: dirty ones are written back."""
        await self._inject(evict=1)

    async def prefetch(self) -> None:
        """The CPU prefetches the buffer's lines."""
        await self._inject(prefetch=1)

    def hooks(
        self, *, hold: bool = False, while_held: Callable[[Transfer], Awaitable[None]] | None = None
    ) -> dict[Moment, Callable[[Transfer], Awaitable[None]]]:
        """What happens around the driver at each moment of a transfer, by the scenario's options.

        With ``hold``, or where the options need it, memory takes none of the device's data from the hand-off to the end of what
        happens while it is in flight; ``while_held`` is a part of that and runs as the driver's CPU.
        """
        options = self.options
        held = hold or options.get("prefetch") == "in-flight" or bool(options.get("refetch"))
        # A snooping write blocks its line until memory has answered: the CPU would wait for the release that comes after it.
        held = held and not self.setting.config.coherent
        # The CPU's own stores would wait for memory too, and its register accesses behind them, the release among these.
        held = held and not (while_held is not None and self.setting.config.dcache.write_through)

        async def before_start(t: Transfer) -> None:
            if options.get("evict") == "before":
                await self.evict()
            if options.get("prefetch") == "before-start":
                await self.prefetch()
            if held:
                await self._hold()

        async def started(t: Transfer) -> None:
            if options.get("prefetch") == "in-flight":
                await self.prefetch()
            if options.get("refetch"):
                with self.tb.harness():
                    await self.bus.fetch(self.setting.address, self.setting.size)
            if while_held is not None:
                await while_held(t)
            if held:
                await self._release()
            if options.get("pre") == "late":  # how late is left to chance in life; here all data has arrived before
                await self._transferred(t)

        async def completed(t: Transfer) -> None:
            await self.landed()
            if options.get("evict") == "after":
                await self.evict()

        return {Moment.BEFORE_START: before_start, Moment.STARTED: started, Moment.COMPLETED: completed}

    async def _fault(self, mode: int, stall: int = 0) -> None:
        """Arms one memory fault for the buffer's lines."""
        line = self.setting.config.dcache.line_bytes
        lines = list(self._lines())
        mem = self.regs.mem
        await mem.fault_addr.write(lines[0])
        await mem.fault_size.write(lines[-1] + line - lines[0])
        await mem.fault_stall.write(stall)
        await mem.fault_ctrl.write(mode=mode, count=1)

    async def _hold(self) -> None:
        """Memory accepts no write to the buffer until :meth:`_release`; reads go on."""
        with self.tb.harness():
            await self._fault(_STALL_WRITES, _FOR_EVER)

    async def _release(self) -> None:
        with self.tb.harness():
            await self.regs.mem.fault_ctrl.write(mode=0, count=0)

    async def _transferred(self, t: Transfer) -> None:
        """Waits, without a trace, until the transfer is complete and its chunks have landed."""
        with self.tb.harness():
            if t.adapter is not None and t.adapter.master:
                await self._until(lambda status: status.done, self.regs.bm.status, "the bus master")
            else:
                await self._until(lambda status: status.tc, self.regs.ch0.status, "the system channel")
        await self.landed()

    def failing_hooks(self, fault: str) -> dict[Moment, Callable[[Transfer], Awaitable[None]]]:
        """The next flush of the controller fails: memory answers an error once, or nobody takes the bytes in time.

        Toward memory the first chunk is held up, and all others wait behind it when the flush begins. After the flush all is
        well again.
        """

        async def before_start(t: Transfer) -> None:
            if fault == "time-out" and not t.write:
                await self._hold()

        async def completed(t: Transfer) -> None:
            await self.landed()
            with self.tb.harness():
                if fault == "bus-error":
                    await self._fault(_FAIL_WRITES)
                    return
                await self.regs.dma.flush_timeout.write(_SHORT_TIMEOUT)
                if t.write:
                    await self.regs.dev.stall.write(_FOR_EVER)

        async def flushed(t: Transfer) -> None:
            await self._mend_flush()
            await self.landed()

        return {Moment.BEFORE_START: before_start, Moment.COMPLETED: completed, Moment.FLUSHED: flushed}

    async def _mend_flush(self) -> None:
        with self.tb.harness():
            await self.regs.dma.flush_timeout.write(_LONG_TIMEOUT)
            await self.regs.dev.stall.write(0)
            await self.regs.mem.fault_ctrl.write(mode=0, count=0)

    async def landed(self) -> None:
        """Lets the chunks that left the FIFO reach memory or the device: *w* has passed for all but the remainder."""
        await self.bus.delay(_LANDING_CYCLES)

    # -- what the driver must have reported ------------------------------------------------------------------------

    def check_address(self, address: int) -> None:
        """The common buffer lies where the memory image expects it."""
        if address != self.setting.address:
            raise RuntimeError(f"the common buffer must lie at {self.setting.address:#010x}, not at {address:#010x}")

    def expect(self, condition: bool, text: str) -> None:
        """Notes something that the driver did not do."""
        if not condition:
            self.problems.append(text)

    def check_status(self, irp: Irp) -> None:
        """The request ended with success."""
        self.check_io_status(irp.io_status, irp.detail)

    def check_io_status(self, status: IoStatusBlock, detail: str = "") -> None:
        """As :meth:`check_status`, where only the status block is known."""
        good = status.status == NTSTATUS.STATUS_SUCCESS
        name = getattr(status.status, "name", status.status)
        self.expect(good, f"the request ended with {name}{': ' + detail if detail else ''}, not STATUS_SUCCESS")
        expected = self.setting.delivered
        if good and self.setting.scenario.story in ("transfer", "two_transfers", "failing_flush", "code_by_dma"):
            self.expect(status.information == expected, f"the request reports {status.information} bytes, not {expected}")
