# SPDX-License-Identifier: BSD-2-Clause
"""Device object and device description: what a driver says about its device."""

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import AdapterError, check_flag, check_integer, check_type
from .irp import Irp

__all__ = ["DeviceDescription", "DeviceObject", "DmaSpeed", "DmaWidth", "InterfaceType", "IoAllocationAction"]


class IoAllocationAction(enum.IntEnum):
    """What AdapterControl returns."""

    KEEP_OBJECT = 1  # keep channel and map registers: what a driver of a system (subordinate) channel returns
    DEALLOCATE_OBJECT = 2  # give both back at once
    DEALLOCATE_OBJECT_KEEP_REGISTERS = 3  # keep the map registers only: what a bus master's driver returns


class InterfaceType(enum.IntEnum):
    """INTERFACE_TYPE: the bus the device sits on. This machine has one bus: the value is only logged."""

    INTERNAL = 0
    ISA = 1
    PCI_BUS = 5
    ACPI_BUS = 17


class DmaWidth(enum.IntEnum):
    """DMA_WIDTH: the width of a system channel's device port. The engine moves any length; one that is no multiple is R46."""

    WIDTH_8_BITS = 0
    WIDTH_16_BITS = 1
    WIDTH_32_BITS = 2
    WIDTH_64_BITS = 3


class DmaSpeed(enum.IntEnum):
    """DMA_SPEED: the timing of an ISA channel. Here the device sets the pace: only logged."""

    COMPATIBLE = 0
    TYPE_A = 1
    TYPE_B = 2
    TYPE_C = 3
    TYPE_F = 4


#: ``start_io(device_object, irp)``, a function or coroutine at DISPATCH_LEVEL.
StartIo = Callable[["DeviceObject", Irp], Awaitable[None] | None]


@dataclass(eq=False)
class DeviceObject:
    """DEVICE_OBJECT: one device.

    ``current_irp`` is handed to AdapterControl and list routines. ``start_io`` is the driver's StartIo routine, ``queue`` holds
    the requests that wait for it, ``busy`` says whether one is being served (:meth:`Kernel.io_start_packet` keeps all three).
    ``dpc`` is the DPC of :meth:`Kernel.io_initialize_dpc_request`.
    """

    name: str = "storage"
    current_irp: Irp | None = None
    start_io: StartIo | None = None
    busy: bool = False
    queue: list[Irp] = field(default_factory=list)
    dpc: Any = None


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """DEVICE_DESCRIPTION: the fields that matter on this machine, under their documented names.

    Parameters
    ----------
    version : of the structure and of the DMA_OPERATIONS that IoGetDmaAdapter returns: 0, 1, 2 or 3 (0 gives the calls of 1).
        Any other version makes IoGetDmaAdapter return NULL.
    master : True for a bus master, False for a system (subordinate) channel.
    scatter_gather : the device takes a list of memory ranges. Without it a bus master's buffer is made contiguous by map
        registers, and MapTransfer hands out one range at a time.
    demand_mode : system channel: one device request at a time; else the channel holds the engine (block mode).
    auto_initialize : system channel: address and count are reloaded at terminal count.
    dma32_bit_addresses, dma64_bit_addresses : how far a bus master of version 0 to 2 reaches: 64 bits, else 32, else 24.
    ignore_count : the channel's counter is not to be trusted; only logged, this machine's counts.
    dma_channel : number of the system channel; not used by a bus master.
    dma_width : of a system channel's device; the checker takes it as the unit of lengths. interface_type, dma_speed, dma_port,
        bus_number : only logged.
    maximum_length : most bytes per transfer; decides the number of map registers.
    dma_address_width : bits of the addresses that the device drives: it reaches the first ``2**dma_address_width`` bytes of the
        memory window, as behind a bus offset. A field of version 3; here it also narrows the older versions, so that bounce
        pages can be had in a small memory. 0 says nothing: the flags above decide.
    dma_controller_instance, dma_request_line, device_address : version 3, system channel; only logged.

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
    dma32_bit_addresses: bool = True
    ignore_count: bool = False
    dma64_bit_addresses: bool = False
    bus_number: int = 0
    dma_channel: int = 0
    interface_type: InterfaceType = InterfaceType.INTERNAL
    dma_width: DmaWidth = DmaWidth.WIDTH_8_BITS
    dma_speed: DmaSpeed = DmaSpeed.COMPATIBLE
    maximum_length: int = 1 << 16
    dma_port: int = 0
    dma_address_width: int = 0
    dma_controller_instance: int = 0
    dma_request_line: int = 0
    device_address: int = 0

    def __post_init__(self) -> None:
        for name in ("version", "bus_number", "dma_port", "dma_controller_instance", "dma_request_line"):
            self._integer(name, 0, (1 << 32) - 1)
        for name in (
            "master",
            "scatter_gather",
            "demand_mode",
            "auto_initialize",
            "dma32_bit_addresses",
            "ignore_count",
            "dma64_bit_addresses",
        ):
            check_flag(f"DeviceDescription.{name}", getattr(self, name), error=AdapterError)
        for name, kind in (("interface_type", InterfaceType), ("dma_width", DmaWidth), ("dma_speed", DmaSpeed)):
            check_type(f"DeviceDescription.{name}", getattr(self, name), kind, error=AdapterError)
        self._integer("maximum_length", 1, (1 << 24) - 1)
        self._integer("dma_channel", 0, 3)
        self._integer("dma_address_width", 0, 64)
        self._integer("device_address", 0, (1 << 64) - 1)
        if self.master and self.auto_initialize:
            raise AdapterError(
                "DeviceDescription.auto_initialize must be False for a bus master, not True: channels reload, it does not"
            )
        if not self.master and self.scatter_gather:
            raise AdapterError(
                "DeviceDescription.scatter_gather must be False for a system channel, not True: it has one address"
            )

    def _integer(self, name: str, low: int, high: int) -> None:
        check_integer(f"DeviceDescription.{name}", getattr(self, name), low, high, error=AdapterError)

    @property
    def address_bits(self) -> int:
        """How far the device reaches, in bits of its addresses."""
        if self.dma_address_width:
            return self.dma_address_width
        if self.version >= 3 or not self.master:
            return 32
        return 64 if self.dma64_bit_addresses else 32 if self.dma32_bit_addresses else 24

    def log(self) -> dict[str, Any]:
        """As the call log shows it; ``dma_address_width`` is the width in force."""
        return {
            "version": self.version,
            "master": self.master,
            "scatter_gather": self.scatter_gather,
            "demand_mode": self.demand_mode,
            "auto_initialize": self.auto_initialize,
            "maximum_length": self.maximum_length,
            "channel": None if self.master else self.dma_channel,
            "dma_address_width": self.address_bits,
            "dma32_bit_addresses": self.dma32_bit_addresses,
            "dma64_bit_addresses": self.dma64_bit_addresses,
            "ignore_count": self.ignore_count,
            "interface_type": int(self.interface_type),
            "dma_width": int(self.dma_width),
            "dma_speed": int(self.dma_speed),
            "dma_request_line": self.dma_request_line,
            "device_address": self.device_address,
        }
