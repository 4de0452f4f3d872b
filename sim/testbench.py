# SPDX-License-Identifier: BSD-2-Clause
"""The testbench inside the simulator process: clock, reset, backdoor, the CPU, and what a run leaves behind."""

import json
import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer
from cocotb.utils import get_sim_time

from driver.bus import FlushpointError
from driver.trace import Trace, library_folder
from rtl.config import CSR_BASE, CSR_SIZE, SocConfig

from . import toolchain
from .bfm import PERIOD_NS, AxiCpu
from .dump import Dump
from .record import Event, Run, read_events
from .reference.snapshot import Snapshot

__all__ = ["Testbench"]

_AX = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "region", "user", "valid")
_CPU_INPUTS = (
    *(f"{channel}{name}" for channel in ("aw", "ar") for name in _AX),
    *("wdata", "wstrb", "wlast", "wuser", "wvalid", "bready", "rready"),
)
_SETTLE_CYCLES = 64

for _name in ("bfm.py", "testbench.py", "session.py"):
    library_folder(Path(__file__).parent / _name)


class Testbench:
    """One simulated SoC; :meth:`reset` begins a run, :meth:`finish` ends it.

    Attributes
    ----------
    config : the SoC's configuration.
    bus : the CPU (:class:`driver.bus.Bus`).
    trace : log of the driver's calls in this run.
    platform : extra keys for the run's ``platform.json`` (what the HAL was told, its options).
    snapshot : after :meth:`finish`, what the hardware holds.
    maintenance_snapshots : after :meth:`finish`, ``(number of events up to then, Snapshot)`` per maintenance command; a partial
        snapshot: the memory of the command's range and the D-cache.
    """

    def __init__(self, dut: Any, config: SocConfig, description: Mapping[str, Any]):
        self._dut = dut
        self.config = config
        self.simulator: str = description["simulator"]
        self.versions = toolchain.versions(self.simulator)
        model = Path(description["model"])
        self._dump = Dump(config, json.loads((model / "layout.json").read_text()))
        self.bus = AxiCpu(dut, config.data_bytes)
        self.trace = Trace(self.bus.now)
        self.platform: dict[str, Any] = {}
        self.seed = 0
        self.cycles = 0
        self.snapshot: Snapshot | None = None
        self.maintenance_snapshots: list[tuple[int, Snapshot]] = []
        self._events_from = 0
        self._maintenance_from = 0
        self._events: list[Event] = []

    @classmethod
    async def start(cls, dut: Any, description: Mapping[str, Any]) -> "Testbench":
        """Makes the testbench of this process and starts the clock."""
        config = SocConfig.from_dict(json.loads((Path(description["model"]) / "config.json").read_text()))
        dut.tb_cmd.value = 0
        dut.rst.value = 1
        # The BFM drives a payload only with its first transfer, and the fetch port's write channels never:
        # no X and no Z from there.
        for port in ("s_axi_d", "s_axi_i"):
            for name in _CPU_INPUTS:
                handle = getattr(dut, f"{port}_{name}", None)
                if handle is not None:
                    handle.value = 0
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        await RisingEdge(dut.clk)
        return cls(dut, config, description)

    def harness(self):
        """Context manager: accesses inside it are the harness's own (tag 0, not counted)."""
        return self.bus.harness()

    @property
    def bus_accesses(self) -> int:
        """CPU bus accesses of the driver so far in this run."""
        return self.bus.accesses

    async def reset(self, memory: bytes, device: bytes, seed: int = 0) -> None:
        """Begins a run: resets everything, loads full images of memory and device buffer by the backdoor, cycle 0."""
        dut, config = self._dut, self.config
        for name, image, size in (
            ("memory", memory, config.memory.size),
            ("device", device, config.device.buffer_bytes),
        ):
            if len(image) != size:
                raise ValueError(f"{name} image must have {size} bytes, not {len(image)}")
            Path(f"{name}.bin").write_bytes(_big_endian_words(image, config.data_bytes))
        dut.rst.value = 1
        dut.tb_cmd.value = 1
        await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.tb_cmd.value = 4
        await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.tb_cmd.value = 0
        await RisingEdge(dut.clk)
        self._events_from = os.path.getsize("events.bin")
        self._maintenance_from = os.path.getsize("maintenance.bin")
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        self.bus.begin(int(get_sim_time("ns")))
        self.trace = Trace(self.bus.now)
        self.platform = {}
        self.seed = seed
        self.snapshot = None
        self.maintenance_snapshots = []
        self._events = []
        self.cycles = 0
        # The CPU's first access comes a few cycles later, when every block has left reset.
        await Timer(4 * PERIOD_NS, "ns")

    async def finish(self) -> None:
        """Ends the run: lets the hardware settle, dumps its arrays and reads the events."""
        self.cycles = self.bus.now()
        await Timer(_SETTLE_CYCLES * PERIOD_NS, "ns")
        self._dut.tb_cmd.value = 6
        await FallingEdge(self._dut.clk)
        await RisingEdge(self._dut.clk)
        self._dut.tb_cmd.value = 0
        await RisingEdge(self._dut.clk)
        self._events = self.read_events()
        self.snapshot = self._dump.snapshot(Path("dump.bin").read_bytes())
        with open("maintenance.bin", "rb") as file:
            file.seek(self._maintenance_from)
            blob = file.read()
        self.maintenance_snapshots = self._dump.maintenance(blob, self._events)

    def read_events(self) -> list[Event]:
        """The events of this run that the sink has flushed so far."""
        return read_events("events.bin", self.config.data_width, self._events_from)[0]

    @property
    def events(self) -> list[Event]:
        """All events of the run, after :meth:`finish`."""
        return self._events

    def read_memory(self, address: int, length: int) -> bytes:
        """Backdoor view of RAM after :meth:`finish`."""
        if self.snapshot is None:
            raise FlushpointError("read_memory needs a finished run")
        start = address - self.config.memory.base
        return self.snapshot.memory[start : start + length]

    def run_record(self) -> Run:
        """What model and checker may look at, after :meth:`finish`."""
        config = self.config
        platform = {
            "config": config.to_dict(),
            "coherent": config.coherent,
            "coherent_flag": config.coherent,
            "line_bytes": config.dcache.line_bytes,
            "assumed_line_bytes": config.dcache.line_bytes,
            "chunk_bytes": config.dma.chunk_bytes,
            "speculates": False,
            "hal": {"invalidate_after_read": True},
            "memory": [config.memory.base, config.memory.size],
            "csr": [CSR_BASE, CSR_SIZE],
            "seed": self.seed,
            "versions": self.versions,
        }
        platform.update(self.platform)
        return Run(
            events=self._events,
            calls=self.trace.records,
            sites=dict(enumerate(self.bus.sites, 1)),
            platform=platform,
        )


def _big_endian_words(image: bytes, word_bytes: int) -> bytes:
    """``$fread`` fills each word from its most significant byte: the reverse of memory order."""
    code = {4: "I", 8: "Q"}.get(word_bytes)
    if code:
        words = array(code, image)
        words.byteswap()
        return words.tobytes()
    return b"".join(image[n : n + word_bytes][::-1] for n in range(0, len(image), word_bytes))
