# SPDX-License-Identifier: BSD-2-Clause
"""An in-memory machine behind the driver's Bus protocol: functional, untimed, no simulator.

It is a second, much simpler reading of docs/contracts.md: byte-exact memory, a write-back D-cache and an I-cache of
unlimited size, the maintenance unit, the chunk FIFO with its remainder, one device. Every CPU access costs one cycle; DMA
happens while a CPU waits. With more than one coroutine (:meth:`FakeBus.spawn`) time passes as on a machine: a waiting one
sleeps, the others go on, and cycles pass at once when all sleep.

``ops`` lists every CPU access in order: ``("r32", "dev.status")``, ``("w32", "maint.cmd", 0x15)``,
``("read", address, length, attribute)``, ``("write", ...)``, ``("fetch", address, length)``, ``("wait", mask)``.
"""

import asyncio
import selectors
from collections.abc import Callable

from driver.bus import Attribute, BusError, BusTimeout
from driver.tasks import SpawnedTask
from rtl.pio.table import IDENTIFICATION, IRQ, WINDOW_BASE, registers


def run(coroutine):
    """Runs a test's coroutine. Time is counted in cycles: sleeping costs none of ours."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nobody has anything to do."""

    def __init__(self):
        self.cycle = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self):
        return self.cycle


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("every coroutine waits, and nothing is left that could wake one")
        self.loop.cycle += max(timeout, 0)
        return []


class FakeSignal:
    """driver.bus.Signal on asyncio."""

    def __init__(self, bus):
        self.bus, self.waiters = bus, []

    def fire(self):
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    async def wait(self, limit=None):
        self.bus._share()
        self.bus._dma()
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self.waiters.append(waiter)
        timer = None if limit is None else loop.call_later(limit, lambda: waiter.done() or waiter.set_result(False))
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self.waiters:
                self.waiters.remove(waiter)


class FakeBus:
    """The machine. ``coherent``: DMA sees and updates the D-cache. ``flush_faults``: results of the next flushes of the DMA
    engine, ``"bus_error"``, ``"timeout"`` or ``"hang"``; when the list is empty they succeed."""

    def __init__(self, *, coherent=False, line=32, chunk=16, size=64 * 1024, device=8192, channels=1):
        self.coherent, self.line, self.chunk, self.channels = coherent, line, chunk, channels
        self.base, self.memory = 0x8000_0000, bytearray(size)
        self.dcache: dict[int, tuple[bytearray, list[bool]]] = {}
        self.icache: dict[int, bytes] = {}
        self.device = bytearray(device)
        self.ops: list[tuple] = []
        self._time = 0
        self._loop: VirtualLoop | None = None  # once several coroutines share the machine
        self._since = 0.0
        self._levels_moved = FakeSignal(self)
        self.tasks: list[SpawnedTask] = []
        table = registers(channels)
        self.names = {WINDOW_BASE + r.offset: r.full_name for r in table}
        self.regs = {r.full_name: sum(f.reset << f.low for f in r.fields) for r in table}
        self.table = {r.full_name: r for r in table}
        features = int(coherent) | channels << 4 | 8 << 8 | line << 16 | chunk << 24
        self.regs |= {"sys.id": IDENTIFICATION, "sys.features": features, "sys.mem_base": self.base, "sys.mem_size": size}
        self.fifo: dict[str, dict[int, int]] = {"to_memory": {}, "to_device": {}}
        self.flush_faults: list[str] = []
        self.maintenance_faults: list[str] = []
        self.dma_hangs = False
        self.segments: dict[int, list[list[int]]] = {}  # armed work per path: [memory address, bytes left]
        self.sent = self.received = 0
        self.pio: list[int] | None = None
        self.on_wait: list[Callable[[], None]] = []

    # -- the Bus protocol ------------------------------------------------------------------------------------------

    async def read(self, address, length, attribute=Attribute.CACHED):
        await self._access("read", address, length, attribute)
        self._inside("read", address, length)
        if attribute == Attribute.UNCACHED:
            return bytes(self.memory[address - self.base : address - self.base + length])
        return bytes(self._line(a)[0][a % self.line] for a in range(address, address + length))

    async def write(self, address, data, attribute=Attribute.CACHED):
        await self._access("write", address, len(data), attribute)
        self._inside("write", address, len(data))
        for n, byte in enumerate(data):
            if attribute == Attribute.UNCACHED:
                self.memory[address - self.base + n] = byte
            else:
                line, dirty = self._line(address + n)
                line[(address + n) % self.line] = byte
                dirty[0] = True

    async def fetch(self, address, length):
        await self._access("fetch", address, length)
        self._inside("fetch", address, length)
        for a in range(address - address % self.line, address + length, self.line):
            self.icache.setdefault(a, bytes(self.memory[a - self.base : a - self.base + self.line]))
        return bytes(self.icache[a - a % self.line][a % self.line] for a in range(address, address + length))

    async def read32(self, address):
        name = self.names.get(address)
        await self._access("r32", name or address)
        if name is None:
            raise BusError("read", address, "SLVERR")
        if name == "dev.pio_data":
            return self._pio_read(address)
        return self._value(name)

    async def write32(self, address, value):
        name = self.names.get(address)
        await self._access("w32", name or address, value)
        if name is None:
            raise BusError("write", address, "SLVERR")
        if name == "dev.pio_data":
            self._pio_write(address, value)
            return
        ones = sum(f.mask for f in self.table[name].fields if f.access == "w1c")
        self._levels_moved.fire()
        kept = sum(f.mask for f in self.table[name].fields if f.access in ("ro", "count", "w1c"))
        self.regs[name] = self.regs[name] & kept & ~(value & ones) | value & ~kept
        handler = getattr(self, "_on_" + name.replace(".", "_"), None)
        if handler is not None:
            handler(value)
        elif name.startswith("ch") and name.endswith(".ctrl"):
            self._on_channel(int(name[2]), value)

    async def wait_interrupt(self, mask, limit, what):
        self._tick("wait", mask)
        for hook in self.on_wait:
            hook()
        self._dma()
        deadline = self.time + limit
        while not (levels := self._levels() & self.regs["sys.irq_enable"] & mask):
            if self._loop is None:
                self._time += limit
            if self.time >= deadline:
                raise BusTimeout(what, limit)
            await self._levels_moved.wait(deadline - self.time)
            self._dma()
        return levels

    async def delay(self, cycles):
        self._share(start=False)
        if self._loop is None:
            self._time += cycles
            self._dma()
            await asyncio.sleep(0)
        else:
            self._dma()
            await asyncio.sleep(cycles)
            self._dma()

    def now(self):
        return self.time

    def spawn(self, coroutine, what="", *, service=False):
        self._share()
        spawned = SpawnedTask(coroutine, what, FakeSignal(self), service=service)
        spawned.stop = asyncio.get_running_loop().create_task(spawned.run()).cancel
        self.tasks.append(spawned)
        return spawned

    def signal(self):
        return FakeSignal(self)

    def cancel_tasks(self):
        left = [task for task in self.tasks if not task.done]
        for task in left:
            task.cancel()
        self.tasks = []
        return [task.what for task in left if not task.service]

    # -- for tests -------------------------------------------------------------------------------------------------

    def peek(self, address, length):
        """What memory holds, caches aside."""
        return bytes(self.memory[address - self.base : address - self.base + length])

    def poke(self, address, data):
        self.memory[address - self.base : address - self.base + len(data)] = data

    def evict(self, address):
        """The line leaves the D-cache as a real one may at any time."""
        self._clean(address - address % self.line)
        self.dcache.pop(address - address % self.line, None)

    def prefetch(self, address):
        self._line(address)

    def writes(self, prefix=""):
        """Names of the registers written, in order."""
        return [op[1] for op in self.ops if op[0] == "w32" and str(op[1]).startswith(prefix)]

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def time(self):
        """Cycles so far."""
        return self._time if self._loop is None else self._time + int(self._loop.time() - self._since)

    def _share(self, start=True):
        """Several coroutines use the machine from here on (``start``), or still do: the event loop keeps the time."""
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            self._time, self._loop = self.time, None
        if self._loop is None and start and isinstance(loop, VirtualLoop):
            self._loop, self._since = loop, loop.time()

    async def _access(self, *op):
        self._tick(*op)
        if self._loop is not None:
            await asyncio.sleep(1)

    def _tick(self, *op):
        self.ops.append(op)
        self._share(start=False)
        if self._loop is None:
            self._time += 1

    def _inside(self, what, address, length):
        if not (self.base <= address and address + length <= self.base + len(self.memory)):
            raise BusError(what, address, "DECERR")

    def _line(self, address):
        start = address - address % self.line
        if start not in self.dcache:
            self.dcache[start] = (bytearray(self.peek(start, self.line)), [False])
        return self.dcache[start]

    def _clean(self, start):
        if start in self.dcache and self.dcache[start][1][0]:
            self.poke(start, self.dcache[start][0])
            self.dcache[start][1][0] = False

    def _set(self, name, **fields):
        for key, value in fields.items():
            field = self.table[name].field(key)
            self.regs[name] = self.regs[name] & ~field.mask | int(value) << field.low

    def _get(self, name, key):
        field = self.table[name].field(key)
        return (self.regs[name] & field.mask) >> field.low

    def _value(self, name):
        if name.startswith("ch") and name.endswith(".residue"):
            return sum(n for _, n in self.segments.get(int(name[2]), []))
        if name == "dev.bytes_done":
            return self.received if self._op == 2 else self.sent
        return self.regs[name]

    def _levels(self):
        flag = self._get
        levels = flag("maint.status", "done") << IRQ.MAINT | flag("dma.flush_status", "done") << IRQ.FLUSH
        levels |= (flag("bm.status", "done") | flag("bm.status", "error")) << IRQ.BUS_MASTER
        levels |= (flag("dev.status", "done") | flag("dev.status", "error")) << IRQ.DEVICE
        for n in range(self.channels):
            levels |= (flag(f"ch{n}.status", "tc") | flag(f"ch{n}.status", "error")) << (IRQ.SYSTEM_CHANNEL + n)
        return levels

    def _on_maint_cmd(self, value):
        op, scope, target = value & 3, value >> 2 & 3, value >> 4 & 3
        if value >> 8 & 1:
            self._set("maint.status", aborted=1)
            return
        fault = self.maintenance_faults.pop(0) if self.maintenance_faults else ""
        if fault == "hang":
            return
        start, length = self.regs["maint.start"], self.regs["maint.length"]
        lines = [start - start % self.line]
        if scope == 1:
            lines = list(range(start - start % self.line, start + length, self.line))
        elif scope == 2:
            lines = sorted({*self.dcache, *self.icache})
        for line in lines:
            if target & 1 and op & 1:
                self._clean(line)
            if target & 1 and op & 2:
                self.dcache.pop(line, None)
            if target & 2 and op & 2:
                self.icache.pop(line, None)
        self._set("maint.status", done=1, error=fault == "error")

    def _on_channel(self, n, value):
        if value & 1:
            if self._get(f"ch{n}.status", "busy"):
                self._set(f"ch{n}.status", error=1)
                return
            self.segments[n] = [[self.regs[f"ch{n}.addr"], self.regs[f"ch{n}.count"]]]
            self._set(f"ch{n}.status", busy=1)
        if value & 2 and self._get(f"ch{n}.status", "busy"):
            self._set(f"ch{n}.status", busy=0, stopped=1)

    def _on_bm_ctrl(self, value):
        if value & 2 and self.segments.get(4):
            self.segments[4] = []
            self._set("bm.status", busy=0, stopped=1)
        if not value & 1:
            return
        if self.segments.get(4):
            self._set("bm.status", error=1)
            return
        self.segments[4], address = [], self.regs["bm.desc"]
        self.regs["bm.bytes_done"] = 0
        while True:
            raw = self.peek(address, 16) if not self.coherent else bytes(self._coherent(a) for a in range(address, address + 16))
            words = [int.from_bytes(raw[n : n + 4], "little") for n in range(0, 16, 4)]
            if words[1] == 0:
                self._set("bm.status", error=1)
                self._set("dma.error_status", descriptor=1)
                self.regs["dma.error_addr"] = address
                self.segments[4] = []
                return
            self.segments[4].append([words[0], words[1]])
            if words[2] & 1:
                break
            address = words[3]
        self._set("bm.status", busy=1)

    def _on_dev_cmd(self, value):
        op = value & 7
        if op == 7:
            self.pio = None
            self._set("dev.status", busy=0, drq=0, error=1)
            return
        if self._get("dev.status", "busy"):
            self._set("dev.status", error=1)
            return
        if self.regs["dev.addr"] + self.regs["dev.length"] > len(self.device):
            self._set("dev.status", error=1)
            return
        self._op, self.sent, self.received = op, 0, 0
        self._set("dev.status", busy=1)
        if op in (3, 4):
            self.pio = [self.regs["dev.addr"], self.regs["dev.length"]]
            self._set("dev.status", drq=1)

    _op = 0

    def _on_dma_ctrl(self, value):
        if not value & 1:
            return
        self._set("dma.flush_status", ok=0, bus_error=0, timeout=0)
        fault = self.flush_faults.pop(0) if self.flush_faults else ""
        if fault == "hang":
            return
        self.regs["dma.flush_discarded"] = 0
        if fault == "timeout":
            self.regs["dma.flush_discarded"] = sum(len(chunk) for chunk in self.fifo.values())
            self.fifo = {"to_memory": {}, "to_device": {}}
        elif not fault:
            for way in self.fifo:
                self._emit(way)
        self._set("dma.flush_status", done=1, ok=not fault, **({fault: 1} if fault else {}))

    def _coherent(self, address):
        line = self.dcache.get(address - address % self.line)
        return line[0][address % self.line] if self.coherent and line else self.memory[address - self.base]

    def _push(self, way, address, byte):
        chunk = self.fifo[way]
        if chunk and next(iter(chunk)) // self.chunk != address // self.chunk:
            self._emit(way)
            chunk = self.fifo[way]
        chunk[address] = byte
        if len(chunk) == self.chunk:
            self._emit(way)

    def _emit(self, way):
        for address, byte in self.fifo[way].items():
            if way == "to_device":
                self.device[address] = byte
                self.received += 1
                continue
            self.memory[address - self.base] = byte
            line = self.dcache.get(address - address % self.line)
            if self.coherent and line:
                line[0][address % self.line] = byte
        self.fifo[way] = {}
        if way == "to_device" and self._op == 2 and self._get("dev.status", "busy") and self.received == self._wanted():
            self._set("dev.status", busy=0, done=1)

    def _wanted(self):
        return self.regs["dev.short"] or self.regs["dev.length"]

    def _dma(self):
        """Moves all bytes that channel and device agree on."""
        before = self._levels()
        self._move()
        if self._levels() != before:
            self._levels_moved.fire()

    def _move(self):
        path, op = self.regs["dev.path"], self._op
        work = self.segments.get(path)
        if self.dma_hangs or op not in (1, 2) or not self._get("dev.status", "busy") or not work:
            return
        status = "bm.status" if path == 4 else f"ch{path}.status"
        if path != 4 and (self.regs[f"ch{path}.mask"] or not self._get(status, "busy")):
            return
        while work and self.sent < self._wanted():
            address, offset = work[0][0], self.regs["dev.addr"] + self.sent
            if op == 1:
                self._push("to_memory", address, self.device[offset])
            else:
                self._push("to_device", offset, self._coherent(address))
            self.sent += 1
            self.regs["bm.bytes_done"] += path == 4
            work[0][0], work[0][1] = address + 1, work[0][1] - 1
            if not work[0][1]:
                work.pop(0)
                if path != 4 and self._get(f"ch{path}.mode", "auto_init"):
                    work.append([self.regs[f"ch{path}.addr"], self.regs[f"ch{path}.count"]])
                    self._set(status, tc=1)
        if op == 1 and self.sent == self._wanted():
            self._set("dev.status", busy=0, done=1)
        if not work:
            self._set(status, busy=0, **{"done" if path == 4 else "tc": 1})
        elif self.sent == self._wanted() and not (path != 4 and work[0][1] == self.regs[f"ch{path}.count"]):
            self._set(status, busy=0, stopped=1)
            if path == 4:
                self.segments[4] = []

    def _pio_read(self, address):
        if self.pio is None or self._op != 3:
            raise BusError("read", address, "SLVERR")
        offset, left = self.pio
        word = bytes(self.device[offset : offset + min(4, left)]).ljust(4, b"\0")
        self._pio_step()
        return int.from_bytes(word, "little")

    def _pio_write(self, address, value):
        if self.pio is None or self._op != 4:
            raise BusError("write", address, "SLVERR")
        offset, left = self.pio
        self.device[offset : offset + min(4, left)] = value.to_bytes(4, "little")[: min(4, left)]
        self._pio_step()

    def _pio_step(self):
        step = min(4, self.pio[1])
        self.sent += step
        self.pio = [self.pio[0] + step, self.pio[1] - step]
        if not self.pio[1]:
            self.pio = None
            self._set("dev.status", busy=0, drq=0, done=1)
