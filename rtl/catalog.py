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
        "flushpoint_dcache": lambda: DCache(config=config),
        "flushpoint_icache": lambda: ICache(config=config),
        "flushpoint_maintenance": lambda: MaintenanceUnit(config=config),
        "flushpoint_crossbar": lambda: Crossbar(
            data_width=config.data_width, managers=3, id_width=2, targets=[(config.memory.base, config.memory.size)]
        ),
        "flushpoint_memory": lambda: MemoryController(config=config),
        "flushpoint_dma": lambda: DmaEngine(config=config),
        "flushpoint_mover": lambda: Mover(
            data_width=config.data_width,
            chunk_bytes=config.dma.chunk_bytes,
            fifo_chunks=config.dma.fifo_chunks,
            cut_through=config.dma.cut_through,
        ),
        "flushpoint_chunk_fifo": lambda: ChunkFifo(
            data_width=config.data_width,
            chunk_bytes=config.dma.chunk_bytes,
            depth=config.dma.fifo_chunks,
            cut_through=config.dma.cut_through,
        ),
        "flushpoint_system_channel": lambda: SystemChannel(index=0),
        "flushpoint_bus_master": lambda: BusMaster(data_width=config.data_width),
        "flushpoint_device": lambda: StorageDevice(config=config),
        "flushpoint_registers": lambda: RegisterBank(config=config),
    }
    if config.coherent:
        made["flushpoint_snoop_bridge"] = lambda: SnoopBridge(config=config, port=2)
    return made
