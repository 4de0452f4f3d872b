# SPDX-License-Identifier: BSD-2-Clause
"""The driver's in-memory machine with what the scenarios' surroundings need: eviction and prefetch on demand, memory faults.

With it every story runs without a simulator, on a third and much simpler reading of the hardware (unlimited caches, no time), and
its bytes must come out as the catalogue says.
"""

import contextlib

from driver.trace import Trace
from rtl.config import SocConfig
from sim.scenarios.expect import Setting
from sim.scenarios.layout import Images
from tests.driver.fake_bus import FakeBus


class Machine(FakeBus):
    """:class:`FakeBus` loaded with a scenario's images."""

    def __init__(self, config: SocConfig, images: Images):
        super().__init__(
            coherent=config.coherent,
            line=config.dcache.line_bytes,
            chunk=config.dma.chunk_bytes,
            size=config.memory.size,
            device=config.device.buffer_bytes,
        )
        self.waiting: list[dict[int, int]] = []  # chunks that memory does not take yet
        self.memory[:] = images.memory
        self.device[:] = images.device

    async def read32(self, address):
        if str(self.names.get(address, "")).endswith(("ch0.status", "bm.status", "dev.status")):
            self._dma()
        return await super().read32(address)

    def _on_dcache_inject_cmd(self, value):
        line = self.regs["dcache.inject_addr"]
        if value & 1:
            self.evict(line)
        if value & 2:
            self.prefetch(line)

    def _held(self):
        return self._get("mem.fault_ctrl", "mode") == 3 and self._get("mem.fault_ctrl", "count")

    def _on_mem_fault_ctrl(self, value):
        if not self._held():
            waiting, self.waiting, rest = self.waiting, [], self.fifo["to_memory"]
            for chunk in waiting:
                self.fifo["to_memory"] = chunk
                self._emit("to_memory")
            self.fifo["to_memory"] = rest

    def _on_dma_ctrl(self, value):
        mode = self._get("mem.fault_ctrl", "mode") if self._get("mem.fault_ctrl", "count") else 0
        stalled = mode == 3 or (self.regs["dev.stall"] and self._op == 2)
        if mode == 1:
            self.flush_faults = ["bus_error"]
            self._set("mem.fault_ctrl", count=0)
        elif stalled and self.regs["dma.flush_timeout"] < 1000:
            self.flush_faults = ["timeout"]
            self.waiting = self.waiting[:1]  # the first chunk is on the bus already
        super()._on_dma_ctrl(value)

    def _emit(self, way):
        chunk = dict(self.fifo[way])
        if way == "to_memory" and self._held():
            self.waiting.append(chunk)
            self.fifo[way] = {}
            return
        super()._emit(way)
        if self.coherent and way == "to_memory":
            for address in chunk:  # the I-cache is coherent too
                self.icache.pop(address - address % self.line, None)

    async def fetch(self, address, length):
        if self.coherent:  # its fills see dirty data, and stores drop its lines
            self.icache.clear()
            self._tick("fetch", address, length)
            return bytes(self._coherent(a) for a in range(address, address + length))
        return await super().fetch(address, length)


class Bench:
    """What :class:`sim.scenarios.context.Context` needs of a testbench."""

    def __init__(self, setting: Setting, images: Images):
        self.config = setting.config
        self.bus = Machine(setting.config, images)
        self.trace = Trace(self.bus.now)
        self.platform: dict = {}
        self._harness_accesses = 0

    @contextlib.contextmanager
    def harness(self):
        before = len(self.bus.ops)
        yield
        self._harness_accesses += len(self.bus.ops) - before

    @property
    def bus_accesses(self):
        return len(self.bus.ops) - self._harness_accesses
