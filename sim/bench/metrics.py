# SPDX-License-Identifier: BSD-2-Clause
"""The list of what is measured: one :class:`Metric` per row of the tables, with its goal and the best open core's value.

``make bench`` measures those of :data:`BENCH`, ``make synth`` those of :data:`SYNTH`.
"""

import operator
from dataclasses import dataclass

__all__ = ["BENCH", "SYNTH", "Metric", "find"]

_RELATIONS = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    ``goal`` is a relation and a number (``"<= 4.1"``), or empty where the value is only published. ``floor`` is what the bus
    or the definition sets, ``peer`` the best open core's value; both are text for the table. ``timed``: the value depends on
    the machine's speed, so it differs from run to run; all others are exact.
    """

    name: str
    block: str
    text: str
    unit: str
    goal: str = ""
    floor: str = ""
    peer: str = ""
    timed: bool = False

    def met(self, value: float) -> bool | None:
        """Whether ``value`` reaches the goal; None where there is none."""
        if not self.goal:
            return None
        relation, _, number = self.goal.partition(" ")
        # Rounded as it is printed: a value that reads like the goal reaches it.
        return _RELATIONS[relation](round(value, 3), float(number))


_FPGA = "ECP5"

#: The rows of ``make synth``.
SYNTH: tuple[Metric, ...] = (
    Metric("fpga.dcache.lut4", _FPGA, "D-cache 4 KiB 2-way, 32-bit: area", "LUT4", "<= 2000", peer="2642 (PyCacheGen)"),
    Metric("fpga.dcache.mhz", _FPGA, "the same netlist: clock", "MHz", ">= 100", peer="63.5 (PyCacheGen)"),
    Metric("fpga.xbar.lut4", _FPGA, "crossbar 2x2, 32-bit: area", "LUT4", peer="does not map (axi_crossbar)"),
    Metric("fpga.xbar.mhz", _FPGA, "the same netlist: clock", "MHz", ">= 120", peer="does not map (axi_crossbar)"),
    Metric("fpga.maps", _FPGA + ", iCE40", "share of the blocks that map on both", "of all", ">= 1", "1", "1 of 4 (verilog-axi)"),
)

_D, _M, _X, _S, _R = "D-cache", "maintenance", "interconnect", "system", "simulation"

#: The rows of ``make bench``.
BENCH: tuple[Metric, ...] = (
    Metric("dcache.hit.latency", _D, "native port: a read that hits", "cycles", "<= 1", "1", "1 (HPDcache)"),
    Metric("dcache.read.rate", _D, "native port: read hits", "per cycle", ">= 1", "1", "1.0 (HPDcache)"),
    Metric("dcache.write.rate", _D, "native port: write hits", "per cycle", ">= 1", "1", "0.667 (HPDcache)"),
    Metric("dcache.axi.hit", _D, "AXI: AR handshake to R valid on a hit", "cycles", "<= 2", "1"),
    Metric("dcache.axi.rate", _D, "AXI: beats of hit bursts, reads or writes", "per cycle", ">= 1", "1"),
    Metric(
        "dcache.miss.overhead",
        _D,
        "read miss beyond the memory's latency, any word of the line",
        "cycles",
        "<= 3",
        "0",
        "8 (HPDcache), 2 (PyCacheGen, blocking)",
    ),
    Metric("dcache.stream.miss", _D, "128 line misses in a row, latency 10", "cycles/line", "<= 5", "4", "6.0 (HPDcache)"),
    Metric("dcache.stream.dirty", _D, "the same, every victim dirty", "cycles/line", "<= 5.5", "4", "nobody publishes it"),
    Metric("maint.all.dirty", _M, "clean everything, 128 dirty lines", "cycles/line", "<= 4.1", "4", "4.06 (HPDcache)"),
    Metric(
        "maint.range.dirty",
        _M,
        "clean 1 KiB of 32 dirty lines",
        "cycles/line",
        "<= 4.2",
        "4",
        "12.0 (HPDcache), 18 (PyCacheGen, all)",
    ),
    Metric("maint.range.clean", _M, "range of clean or absent lines", "cycles/line", "<= 1.1", "1", "5"),
    Metric("maint.range.huge", _M, "range of 16 times the cache: cycles beyond its lines", "cycles", "<= 8", "0"),
    Metric("maint.all.clean", _M, "clean an already clean cache", "cycles", "<= 3", "1", "3"),
    Metric("maint.invalidate.all", _M, "invalidate all", "cycles", "<= 4", "1", "67"),
    Metric("maint.cpu.rate", _M, "CPU hits elsewhere during maint.range.dirty", "of full rate", ">= 0.8", "1", "0 (all block)"),
    Metric("maint.cpu.clean", _M, "that clean meanwhile (twice maint.range.dirty)", "cycles/line", "<= 8.4", "4"),
    Metric("xbar.latency", _X, "2x2, 32-bit: added AR to R", "cycles", "<= 2", "0", "5 (verilog-axi)"),
    Metric("xbar.util16", _X, "16-beat reads", "beats/cycle", ">= 0.99", "1", "0.937 (verilog-axi)"),
    Metric("xbar.util1", _X, "single-beat reads", "beats/cycle", ">= 0.99", "1", "0.247 (verilog-axi)"),
    Metric("sys.dma4k.flush", _S, "4 KiB device-to-memory, all flushes, by hardware range", "cycles", peer="nobody publishes it"),
    Metric("sys.dma4k.snoop", _S, "the same on the coherent platform", "cycles", peer="nobody publishes it"),
    Metric("sys.dma4k.lines", _S, "the same, flushed by a software loop over lines", "cycles", peer="nobody publishes it"),
    Metric("sys.range.speedup", _S, "that loop over the hardware range", "times", ">= 3"),
    Metric(
        "sim.rate.idle",
        _R,
        "whole SoC while the driver waits for its interrupt",
        "cycles/s",
        ">= 300000",
        "",
        "9.1 k cocotb, 40 k native C++",
        timed=True,
    ),
    Metric(
        "sim.rate.driven",
        _R,
        "single accesses, share of cocotbext-axi on a bare AXI RAM",
        "of its rate",
        ">= 0.8",
        "1",
        timed=True,
    ),
    Metric("checker.cost", _R, "a run with the flush checker over one without", "times", "<= 1.5", "1", timed=True),
)


def find(metrics: tuple[Metric, ...], names: list[str]) -> list[Metric]:
    """The metrics with these names or prefixes (``dcache`` is all of ``dcache.*``), in the table's order; all for none.

    Raises
    ------
    ValueError
        If a name matches nothing.
    """
    for name in names:
        if not any(metric.name == name or metric.name.startswith(f"{name}.") for metric in metrics):
            known = ", ".join(metric.name for metric in metrics)
            raise ValueError(f"metric must be one of {known} (or the first words of some), not {name!r}")
    return [m for m in metrics if not names or any(m.name == name or m.name.startswith(f"{name}.") for name in names)]
