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

#: The rows of ``make bench``.
BENCH: tuple[Metric, ...] = ()


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
