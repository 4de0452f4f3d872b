# SPDX-License-Identifier: BSD-2-Clause
"""Writes a GTKWave save file: groups, colours, event names instead of numbers, and markers where it matters.

The signals are the testbench's decoded probe channels (``cpu_event``, ``cpu_addr`` ...: :mod:`sim.hdl.testbench`) and
the AXI handshakes of the CPU's ports, so the file fits every configuration.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vcd.gtkw import GTKWColor, GTKWSave, make_translation_filter

from rtl.probe import Kind

from ..record import Run

__all__ = ["GROUPS", "Markers", "find_markers", "write_save_file"]

_TOP = "flushpoint_tb"


@dataclass(frozen=True)
class Markers:
    """Cycles of the moments worth finding, -1 where there is none: GTKWave's markers A, B and C."""

    handoff: int = -1
    flush: int = -1
    corruption: int = -1


#: Group name, colour, probe channels, and further signals of the testbench's top level.
GROUPS: tuple[tuple[str, GTKWColor, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "CPU",
        GTKWColor.green,
        ("cpu", "csr"),
        ("s_axi_d_arvalid", "s_axi_d_arready", "s_axi_d_awvalid", "s_axi_d_awready", "s_axi_d_rvalid", "s_axi_d_bvalid", "irq"),
    ),
    ("D-cache", GTKWColor.blue, ("d_fill", "d_line", "d_wb", "snoop"), ()),
    ("I-cache", GTKWColor.indigo, ("fetch", "i_line"), ("s_axi_i_arvalid", "s_axi_i_arready", "s_axi_i_rvalid")),
    ("maintenance", GTKWColor.violet, ("maint",), ()),
    ("bus", GTKWColor.normal, ("mem",), ()),
    ("DMA", GTKWColor.orange, ("dma",), ()),
    ("FIFO", GTKWColor.yellow, ("fifo_in", "fifo_out"), ()),
    ("device", GTKWColor.red, ("dev",), ()),
)
_WIDE_SIGNALS = {"irq": 12}
_FIELDS = (("addr", 32), ("data", 0), ("aux", 32), ("flags", 8))


def find_markers(run: Run, corrupted: Iterable[int] = ()) -> Markers:
    """The hand-off, the flush that should protect it, and the first event that shows a corrupted byte.

    ``corrupted``: byte addresses that ended up wrong (memory addresses, or device offsets). The flush is the first
    cache-maintenance command or FIFO flush of the run; the corruption is the first time, after the hand-off, that a beat
    with one of these bytes is written to memory, read by the CPU or written into the device.
    """
    wrong = set(corrupted)
    beat = run.config.data_bytes
    beats = {address & -beat for address in wrong}
    handoff = flush = corruption = -1
    seen = (Kind.MEM_WRITE, Kind.LOAD, Kind.UNCACHED_LOAD, Kind.FETCH, Kind.DEV_WRITE)
    for event in run.events:
        if event.kind == Kind.HANDOFF and handoff < 0:
            handoff = event.cycle
        elif event.kind in (Kind.MAINT_BEGIN, Kind.FLUSH_BEGIN) and flush < 0:
            flush = event.cycle
        elif event.kind in seen and corruption < 0 and event.addr in beats and (handoff >= 0 or flush >= 0):
            corruption = event.cycle
    return Markers(handoff, flush, corruption)


def write_save_file(
    dump: Path,
    save: Path,
    *,
    data_width: int,
    markers: Markers,
    epoch_ns: int,
    period_ns: int,
    last_cycle: int,
) -> Path:
    """Writes ``save`` (a ``.gtkw``) for ``dump``, and the event names beside it.

    ``epoch_ns``: simulated time of cycle 0; times in the dump are picoseconds.
    """

    def time(cycle: int) -> int:
        return -1 if cycle < 0 else (epoch_ns + cycle * period_ns) * 1000

    names = save.with_name("events.names")
    names.write_text(make_translation_filter([(0, "-"), *((int(k), k.name) for k in Kind)], datafmt="hex", size=8) + "\n")
    bits = f"[{data_width - 1 if data_width > 64 else 63}:0]"
    with open(save, "w") as file:
        gtkw = GTKWSave(file)
        gtkw.dumpfile(str(dump.absolute()))
        gtkw.savefile(str(save.absolute()))
        gtkw.timestart(max(0, time(max(0, min(c for c in (markers.handoff, markers.flush, last_cycle) if c >= 0) - 40))))
        gtkw.size(1600, 1000)
        gtkw.zoom_markers(
            -20.5, time(markers.corruption), a=time(markers.handoff), b=time(markers.flush), c=time(markers.corruption)
        )
        gtkw.treeopen(f"{_TOP}.")
        gtkw.signals_width(230)
        gtkw.trace(f"{_TOP}.clk", color=GTKWColor.normal)
        gtkw.trace(f"{_TOP}.tb_cycle[31:0]", alias="cycle", datafmt="dec", color=GTKWColor.normal)
        for title, color, channels, signals in GROUPS:
            with gtkw.group(title):
                for channel in channels:
                    gtkw.trace(
                        f"{_TOP}.{channel}_event[7:0]",
                        alias=f"{channel} event",
                        color=color,
                        translate_filter_file=str(names.absolute()),
                    )
                    for field, width in _FIELDS:
                        extent = bits if field == "data" else f"[{width - 1}:0]"
                        gtkw.trace(f"{_TOP}.{channel}_{field}{extent}", alias=f"{channel} {field}", color=color)
                for signal in signals:
                    extent = f"[{_WIDE_SIGNALS[signal] - 1}:0]" if signal in _WIDE_SIGNALS else ""
                    gtkw.trace(f"{_TOP}.{signal}{extent}", color=color)
    return save
