# SPDX-License-Identifier: BSD-2-Clause
"""Writes a GTKWave save file: groups, colours, event names instead of numbers, and markers where it matters.

The signals are the testbench's decoded probe channels (``cpu_last``, ``cpu_addr`` ...: :mod:`sim.hdl.testbench`), so the
file fits every configuration. Few rows on purpose: all groups fit one screen; the other fields and the whole SoC are in
the dump.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from vcd.gtkw import GTKWColor, GTKWSave, make_translation_filter

from rtl.probe import Kind

__all__ = ["GROUPS", "MARKER_NAMES", "Markers", "write_save_file"]

_TOP = "flushpoint_tb"
_WINDOW = (1600, 1000)
_SIGNALS_WIDTH = 250
_WAVE_PIXELS = 1250  # of the window's width, without the signal names and the frames
_FRAME_PIXELS = 200  # GTKWave's zoom is -log2 of the time units in that many pixels
_MARGIN = 0.08  # of the span of the markers, on either side
_LEAST_CYCLES = 40  # around a lone marker


@dataclass(frozen=True)
class Markers:
    """Cycles of the moments worth finding, -1 where there is none: GTKWave's markers A, B and C."""

    handoff: int = -1
    flush: int = -1
    corruption: int = -1


#: What GTKWave shows above markers A, B and C.
MARKER_NAMES = ("hand-off", "flush", "corrupted")

#: Group name, colour, and its rows: probe channel and field. ``last`` is the name of the channel's latest event.
GROUPS: tuple[tuple[str, GTKWColor, tuple[tuple[str, str], ...]], ...] = (
    ("CPU", GTKWColor.green, (("cpu", "last"), ("cpu", "addr"))),
    ("D-cache", GTKWColor.blue, (("d_fill", "last"), ("d_line", "last"), ("d_line", "addr"), ("d_wb", "last"))),
    ("I-cache", GTKWColor.indigo, (("fetch", "last"), ("i_line", "last"))),
    ("maintenance", GTKWColor.violet, (("maint", "last"), ("maint", "addr"))),
    ("bus", GTKWColor.normal, (("mem", "last"), ("mem", "addr"), ("mem", "data"))),
    ("DMA", GTKWColor.orange, (("dma", "last"), ("dma", "addr"))),
    ("FIFO", GTKWColor.yellow, (("fifo_in", "addr"), ("fifo_out", "last"), ("fifo_out", "addr"))),
    ("device", GTKWColor.red, (("dev", "last"), ("dev", "addr"))),
)


def _view(markers: Markers, last_cycle: int) -> tuple[float, float]:
    """First cycle and number of cycles to show: all markers with a margin, the whole run if there are none."""
    cycles = [cycle for cycle in (markers.handoff, markers.flush, markers.corruption) if cycle >= 0]
    if not cycles:
        return 0, max(last_cycle, 1)
    span = max(max(cycles) - min(cycles), _LEAST_CYCLES)
    return max(0, min(cycles) - _MARGIN * span), span * (1 + 2 * _MARGIN)


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
    """Writes ``save`` (a ``.gtkw``) for ``dump``, and the event names beside it as ``events.names``.

    ``data_width``: of the bus, in bits. ``epoch_ns``: simulated time of cycle 0; times in the dump are picoseconds. The
    edge at the *end* of a cycle samples its events, so a marker stands one period before: where the values begin.
    """

    def time(cycle: float) -> int:
        return -1 if cycle < 0 else max(0, round((epoch_ns + (cycle - 1) * period_ns) * 1000))

    names = save.with_name("events.names")
    names.write_text(make_translation_filter([(0, "-"), *((int(k), k.name) for k in Kind)], datafmt="hex", size=8) + "\n")
    widths = {"last": 8, "addr": 32, "data": max(64, data_width)}
    first, cycles = _view(markers, last_cycle)
    times = [time(cycle) for cycle in (markers.handoff, markers.flush, markers.corruption)]
    with open(save, "w") as file:
        gtkw = GTKWSave(file)
        gtkw.dumpfile(str(dump.absolute()))
        gtkw.savefile(str(save.absolute()))
        gtkw.timestart(time(first))
        gtkw.size(*_WINDOW)
        zoom = -math.log2(cycles * period_ns * 1000 / _WAVE_PIXELS * _FRAME_PIXELS)
        gtkw.zoom_markers(zoom, times[2], **dict(zip("abc", times, strict=True)))
        for letter, name, at in zip("ABC", MARKER_NAMES, times, strict=True):
            if at >= 0:
                print(f"[markername] {letter}{name}", file=file)
        gtkw.treeopen(f"{_TOP}.")
        gtkw.signals_width(_SIGNALS_WIDTH)
        gtkw.sst_expanded(False)
        gtkw.trace(f"{_TOP}.tb_cycle[31:0]", alias="cycle", datafmt="dec", color=GTKWColor.normal)
        for title, color, rows in GROUPS:
            with gtkw.group(title):
                for channel, field in rows:
                    gtkw.trace(
                        f"{_TOP}.{channel}_{field}[{widths[field] - 1}:0]",
                        alias=channel if field == "last" else f"{channel} {field}",
                        color=color,
                        translate_filter_file=str(names.absolute()) if field == "last" else None,
                    )
    return save
