# SPDX-License-Identifier: BSD-2-Clause
"""Every block that can be exported on its own, by module name."""

from collections.abc import Callable

from amaranth.lib import wiring

from .cache.dcache import DCache
from .cache.icache import ICache
from .cache.maintenance import MaintenanceUnit
from .config import SocConfig
from .device.storage import StorageDevice
from .dma.bus_master import BusMaster
from .dma.chunk_fifo import ChunkFifo
from .dma.engine import DmaEngine
from .dma.mover import Mover
from .dma.system_channel import SystemChannel
from .interconnect.coherency import SnoopBridge
from .interconnect.crossbar import Crossbar
from .memory.controller import MemoryController
from .pio.bank import RegisterBank
from .soc import Soc

__all__ = ["blocks"]


def blocks(config: SocConfig) -> dict[str, Callable[[], wiring.Component]]:
    """Module name to constructor, the SoC first; the snoop bridge only where the configuration has one."""
    made: dict[str, Callable[[], wiring.Component]] = {
        "flushpoint_soc": lambda: Soc(config),
        "flushpoint_dcache": lambda: DCache(config),
        "flushpoint_icache": lambda: ICache(config),
        "flushpoint_maintenance": lambda: MaintenanceUnit(config),
        "flushpoint_crossbar": lambda: Crossbar(
            data_width=config.data_width, managers=3, id_width=2, targets=[(config.memory.base, config.memory.size)]
        ),
        "flushpoint_memory": lambda: MemoryController(config),
        "flushpoint_dma": lambda: DmaEngine(config),
        "flushpoint_mover": lambda: Mover(config),
        "flushpoint_chunk_fifo": lambda: ChunkFifo(config),
        "flushpoint_system_channel": lambda: SystemChannel(config),
        "flushpoint_bus_master": lambda: BusMaster(config),
        "flushpoint_device": lambda: StorageDevice(config),
        "flushpoint_registers": lambda: RegisterBank(config),
    }
    if config.coherent:
        made["flushpoint_snoop_bridge"] = lambda: SnoopBridge(config)
    return made
