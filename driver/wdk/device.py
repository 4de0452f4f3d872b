# SPDX-License-Identifier: BSD-2-Clause
"""Device object and device description: what a driver says about its device."""

import enum
from dataclasses import dataclass
from typing import Any

from ..errors import AdapterError, check_flag, check_integer
from .irp import Irp

__all__ = ["DeviceDescription", "DeviceObject", "IoAllocationAction"]


class IoAllocationAction(enum.IntEnum):
    """What AdapterControl returns."""

    KEEP_OBJECT = 1  # keep channel and map registers: what a driver of a system (subordinate) channel returns
    DEALLOCATE_OBJECT = 2  # give both back at once
    DEALLOCATE_OBJECT_KEEP_REGISTERS = 3  # keep the map registers only: what a bus master's driver returns


@dataclass(eq=False)
class DeviceObject:
    """One device. ``current_irp`` is handed to AdapterControl and list routines."""

    name: str = "storage"
    current_irp: Irp | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """DEVICE_DESCRIPTION: the fields that matter on this machine.

    Parameters
    ----------
    version : 0, 1 or 2 of DMA_OPERATIONS; 0 gives the same calls as 1.
    master : True for a bus master, False for a system (subordinate) channel.
    scatter_gather : the device takes a list of memory ranges. Without it MapTransfer hands out one range at a time, too.
    demand_mode : system channel: one device request at a time; else the channel holds the engine (block mode).
    auto_initialize : system channel: address and count are reloaded at terminal count.
    maximum_length : most bytes per transfer; decides the number of map registers.
    dma_channel : number of the system channel; not used by a bus master.

    Raises
    ------
    AdapterError
        If a value breaks its rule, or two contradict each other.
    """

    version: int = 2
    master: bool = False
    scatter_gather: bool = False
    demand_mode: bool = True
    auto_initialize: bool = False
    maximum_length: int = 1 << 16
    dma_channel: int = 0

    def __post_init__(self) -> None:
        check_integer("DeviceDescription.version", self.version, 0, 2, error=AdapterError)
        for name in ("master", "scatter_gather", "demand_mode", "auto_initialize"):
            check_flag(f"DeviceDescription.{name}", getattr(self, name), error=AdapterError)
        check_integer("DeviceDescription.maximum_length", self.maximum_length, 1, (1 << 24) - 1, error=AdapterError)
        check_integer("DeviceDescription.dma_channel", self.dma_channel, 0, 3, error=AdapterError)
        if self.master and self.auto_initialize:
            raise AdapterError(
                "DeviceDescription.auto_initialize must be False for a bus master, not True: channels reload, it does not"
            )
        if not self.master and self.scatter_gather:
            raise AdapterError(
                "DeviceDescription.scatter_gather must be False for a system channel, not True: it has one address"
            )

    def log(self) -> dict[str, Any]:
        """As the call log shows it."""
        return {
            "version": self.version,
            "master": self.master,
            "scatter_gather": self.scatter_gather,
            "demand_mode": self.demand_mode,
            "auto_initialize": self.auto_initialize,
            "maximum_length": self.maximum_length,
            "channel": None if self.master else self.dma_channel,
        }
