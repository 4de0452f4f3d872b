# SPDX-License-Identifier: BSD-2-Clause
"""The CPU of the simulation: :class:`driver.bus.Bus` on top of cocotbext-axi, the only file that knows that library.

One in-order CPU: accesses are performed one after the other in the order of the calls. Each states its memory attribute
in AxCACHE and its source line (a tag, :attr:`AxiCpu.sites`) in AxUSER. A read touches exactly the bytes asked for: its
tail is read with narrower beats, so that no byte counts as read that the driver did not ask for.
"""

import contextlib
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any

import cocotb
from cocotb.triggers import Event, First, Timer
from cocotbext.axi import AxiBus, AxiMaster, AxiMasterRead, AxiReadBus

from driver.bus import Attribute, BusError, BusTimeout
from driver.execution import ExecutionContext, current
from driver.tasks import SpawnedTask
from driver.trace import caller_site

__all__ = ["AxiCpu", "AxiSignal", "PERIOD_NS"]

PERIOD_NS = 10
_RESPONSES = ("OKAY", "EXOKAY", "SLVERR", "DECERR")


class AxiCpu:
    """Load/store port ``s_axi_d`` and fetch port ``s_axi_i`` as a :class:`driver.bus.Bus`.

    Attributes
    ----------
    sites : list of ``(file, line, function)``; tag *n* of an access is ``sites[n - 1]``, tag 0 the test harness.
    accesses : CPU bus accesses so far, of the driver only (one per call that reaches the bus).
    idle_cycles, idle_seconds : simulated cycles and wall time that the driver's main coroutine spent inside
        :meth:`wait_interrupt`.
    interrupt_delay : cycles between a level that is waited for and the moment that the waiter gets on; 0 after :meth:`begin`.
    """

    def __init__(self, dut: Any, data_bytes: int):
        self._dut = dut
        self._bytes = data_bytes
        self._size = data_bytes.bit_length() - 1
        self._data = AxiMaster(AxiBus.from_prefix(dut, "s_axi_d"), dut.clk, dut.rst)
        self._code = AxiMasterRead(AxiReadBus.from_prefix(dut, "s_axi_i"), dut.clk, dut.rst)
        self._lock = _Turn()
        self._tags: dict[tuple[str, int, str], int] = {}
        self.sites: list[tuple[str, int, str]] = []
        self._harness: list[ExecutionContext | None] = []
        self._tasks: list[SpawnedTask] = []
        self._epoch = 0
        self.accesses = 0
        self.idle_cycles = 0
        self.idle_seconds = 0.0
        self.interrupt_delay = 0

    def begin(self, epoch_ns: int) -> None:
        """Starts a new run: cycle 0 is the clock edge at ``epoch_ns``; the sites start afresh, no task of before is left."""
        self.cancel_tasks()
        self._epoch = epoch_ns
        self._tags.clear()
        self.sites = []
        self.accesses = 0
        self.idle_cycles = 0
        self.idle_seconds = 0.0
        self.interrupt_delay = 0

    @property
    def epoch_ns(self) -> int:
        """Simulated time of this run's cycle 0."""
        return self._epoch

    @contextlib.contextmanager
    def harness(self) -> Iterator[None]:
        """Accesses inside the block are the test harness's: tag 0, not counted. Those of other contexts meanwhile are not."""
        context = current()
        self._harness.append(context)
        try:
            yield
        finally:
            self._harness.remove(context)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], what: str = "", *, service: bool = False) -> SpawnedTask:
        spawned = SpawnedTask(coroutine, what, AxiSignal(), service=service)
        spawned.stop = cocotb.start_soon(spawned.run()).cancel
        self._tasks = [task for task in self._tasks if not task.done]
        self._tasks.append(spawned)
        return spawned

    def signal(self) -> "AxiSignal":
        return AxiSignal()

    def cancel_tasks(self) -> list[str]:
        """Cancels what still runs beside the main coroutine; the names of those that should have ended."""
        left = [task for task in self._tasks if not task.done]
        for task in left:
            task.cancel()
        self._tasks = []
        return [task.what for task in left if not task.service]

    def _tag(self) -> int:
        if self._harness and current() in self._harness:
            return 0
        self.accesses += 1
        site = caller_site()
        tag = self._tags.get(site)
        if tag is None:
            self.sites.append(site)
            tag = self._tags[site] = min(len(self.sites), 0xFFFF)
        return tag

    def now(self) -> int:
        from cocotb.utils import get_sim_time

        return max(0, int(get_sim_time("ns") - self._epoch) // PERIOD_NS)

    async def read(self, address: int, length: int, attribute: Attribute = Attribute.CACHED) -> bytes:
        return await self._read(self._data, "read", address, length, int(attribute))

    async def fetch(self, address: int, length: int) -> bytes:
        return await self._read(self._code, "fetch", address, length, int(Attribute.CACHED))

    async def write(self, address: int, data: bytes, attribute: Attribute = Attribute.CACHED) -> None:
        if not data:
            raise ValueError(f"write data must be at least one byte, not {bytes(data)!r}")
        tag = self._tag()
        async with self._lock:
            answer = await self._data.write(address, bytes(data), awid=0, cache=int(attribute), user=tag)
        if answer.resp >= 2:
            raise BusError("write", address, _RESPONSES[answer.resp])

    async def read32(self, address: int) -> int:
        tag = self._tag()
        async with self._lock:
            answer = await self._data.read(address, 4, arid=0, size=2, cache=int(Attribute.UNCACHED), user=tag)
        if answer.resp >= 2:
            raise BusError("register read", address, _RESPONSES[answer.resp])
        return int.from_bytes(answer.data, "little")

    async def write32(self, address: int, value: int) -> None:
        tag = self._tag()
        async with self._lock:
            answer = await self._data.write(
                address, (value & 0xFFFF_FFFF).to_bytes(4, "little"), awid=0, size=2, cache=int(Attribute.UNCACHED), user=tag
            )
        if answer.resp >= 2:
            raise BusError("register write", address, _RESPONSES[answer.resp])

    async def wait_interrupt(self, mask: int, limit: int, what: str) -> int:
        irq = self._dut.irq
        start_cycle, start = self.now(), time.perf_counter()
        counts = current() is None
        try:
            timeout = Timer(max(1, limit) * PERIOD_NS, "ns")
            while not (level := int(irq.value) & mask):
                if await First(irq.value_change, timeout) is timeout:
                    raise BusTimeout(what, limit)
                if self.interrupt_delay and int(irq.value) & mask:
                    await self.delay(self.interrupt_delay)
            return level
        finally:
            if counts:
                self.idle_cycles += self.now() - start_cycle
                self.idle_seconds += time.perf_counter() - start

    async def delay(self, cycles: int) -> None:
        if cycles > 0:
            await Timer(cycles * PERIOD_NS, "ns")

    async def _read(self, port: Any, what: str, address: int, length: int, cache: int) -> bytes:
        if length < 1:
            raise ValueError(f"{what} length must be at least 1, not {length!r}")
        tag = self._tag()
        end = address + length
        parts = []
        async with self._lock:
            bulk_end = end & -self._bytes
            if bulk_end > address:
                parts.append(await self._burst(port, what, address, bulk_end - address, self._size, cache, tag))
                address = bulk_end
            while address < end:
                size = min(self._size, (address & -address).bit_length() - 1 if address else self._size)
                while address + (1 << size) > end:
                    size -= 1
                parts.append(await self._burst(port, what, address, 1 << size, size, cache, tag))
                address += 1 << size
        return b"".join(parts)

    @staticmethod
    async def _burst(port: Any, what: str, address: int, length: int, size: int, cache: int, tag: int) -> bytes:
        answer = await port.read(address, length, arid=0, size=size, cache=cache, user=tag)
        if answer.resp >= 2:
            raise BusError(what, address, _RESPONSES[answer.resp])
        return bytes(answer.data)


class _Turn:
    """A lock in the order of asking. cocotb's own goes through the scheduler even if nobody holds it, on every access."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: deque[Event] = deque()

    async def __aenter__(self) -> None:
        if not self._held:
            self._held = True
            return
        turn = Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:  # cancelled: perhaps just after it was given the lock
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._release()
            raise

    async def __aexit__(self, *error: object) -> None:
        self._release()

    def _release(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()  # it stays held, by the next one
        else:
            self._held = False


class AxiSignal:
    """:class:`driver.bus.Signal` of cocotb's event loop."""

    def __init__(self) -> None:
        self._event = Event()

    def fire(self) -> None:
        self._event.set()
        self._event.clear()

    async def wait(self, limit: int | None = None) -> bool:
        fired = self._event.wait()
        if limit is None:
            await fired
            return True
        return await First(fired, Timer(max(1, limit) * PERIOD_NS, "ns")) is fired
