# SPDX-License-Identifier: BSD-2-Clause
"""The SoC: nothing but the wiring of blocks that stand alone (the picture is in docs/design.md, section 2)."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .axi.bus import AXI4Signature
from .cache.dcache import DCache
from .cache.icache import ICache
from .cache.maintenance import MaintenanceUnit
from .config import SocConfig
from .device.storage import StorageDevice
from .dma.engine import DmaEngine
from .interconnect.arbiter import InvalidateArbiter, SnoopArbiter
from .interconnect.coherency import SnoopBridge
from .interconnect.crossbar import Crossbar
from .memory.controller import MemoryController
from .pio.bank import RegisterBank
from .pio.table import IRQ
from .probe import CHANNELS, ProbeSignature

__all__ = ["Soc"]

#: Crossbar ports, which :class:`rtl.probe.Source` encodes.
_D_PORT, _I_PORT, _DMA_PORT, _PORTS = 0, 1, 2, 3


class Soc(wiring.Component):
    """Caches, maintenance unit, interconnect, memory, DMA engine, device and registers.

    Parameters
    ----------
    config : the checked configuration.

    Members
    -------
    s_axi_d, s_axi_i : ``In(AXI4Signature(id 4, user 16))``: load/store and fetch ports; AxUSER is the access's source tag.
    irq : ``Out(12)``: interrupt levels (:class:`rtl.pio.table.IRQ`), gated by ``sys.irq_enable``.
    probe_<channel> : ``Out(ProbeSignature)`` for each of :data:`rtl.probe.CHANNELS`.
    """

    def __init__(self, config: SocConfig):
        self.config = config
        cpu = AXI4Signature(data_width=config.data_width, id_width=4, user_width=16)
        probe = ProbeSignature(config.data_width)
        super().__init__(
            {
                "s_axi_d": In(cpu),
                "s_axi_i": In(cpu),
                "irq": Out(IRQ.WIDTH),
                **{f"probe_{channel}": Out(probe) for channel in CHANNELS},
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.dcache = dcache = DCache(config=config)
        m.submodules.icache = icache = ICache(config=config)
        m.submodules.maintenance = maintenance = MaintenanceUnit(config=config)
        m.submodules.crossbar = crossbar = Crossbar(
            data_width=config.data_width,
            managers=_PORTS,
            id_width=2,
            targets=[(config.memory.base, config.memory.size)],
        )
        m.submodules.memory = memory = MemoryController(config=config)
        m.submodules.dma = dma = DmaEngine(config=config)
        m.submodules.device = device = StorageDevice(config=config)
        m.submodules.registers = registers = RegisterBank(config=config)

        # CPU side
        connect(m, flipped(self.s_axi_d), dcache.s_axi)
        connect(m, flipped(self.s_axi_i), icache.s_axi)
        connect(m, maintenance=maintenance.dcache, dcache=dcache.maint)

        # memory side
        connect(m, dcache=dcache.m_axi, crossbar=getattr(crossbar, f"s_axi_{_D_PORT}"))
        if config.coherent:
            m.submodules.snoop_fetch = snoop_fetch = SnoopBridge(config=config, port=_I_PORT, write=False)
            m.submodules.snoop_dma = snoop_dma = SnoopBridge(config=config, port=_DMA_PORT)
            m.submodules.snoop_arbiter = snoops = SnoopArbiter(line_bytes=config.dcache.line_bytes, count=2)
            m.submodules.invalidate_arbiter = invalidates = InvalidateArbiter(count=3)
            connect(m, icache=icache.m_axi, bridge=snoop_fetch.s_axi)
            connect(m, dma=dma.m_axi, bridge=snoop_dma.s_axi)
            connect(m, bridge=snoop_fetch.m_axi, crossbar=getattr(crossbar, f"s_axi_{_I_PORT}"))
            connect(m, bridge=snoop_dma.m_axi, crossbar=getattr(crossbar, f"s_axi_{_DMA_PORT}"))
            connect(m, bridge=snoop_dma.snoop, arbiter=snoops.s_0)
            connect(m, bridge=snoop_fetch.snoop, arbiter=snoops.s_1)
            connect(m, arbiter=snoops.m, dcache=dcache.snoop)
            connect(m, maintenance=maintenance.inv, arbiter=invalidates.s_0)
            connect(m, dcache=dcache.i_inv, arbiter=invalidates.s_1)
            connect(m, bridge=snoop_dma.i_inv, arbiter=invalidates.s_2)
            connect(m, arbiter=invalidates.m, icache=icache.inv)
        else:
            connect(m, icache=icache.m_axi, crossbar=getattr(crossbar, f"s_axi_{_I_PORT}"))
            connect(m, dma=dma.m_axi, crossbar=getattr(crossbar, f"s_axi_{_DMA_PORT}"))
            connect(m, maintenance=maintenance.inv, icache=icache.inv)
        connect(m, crossbar=crossbar.m_axi_0, memory=memory.s_axi)

        # device
        connect(m, device=device.request, dma=dma.request)
        connect(m, device=device.m_axis, dma=dma.s_axis)
        connect(m, dma=dma.m_axis, device=device.s_axis)

        # registers
        connect(m, dcache=dcache.m_axil, registers=registers.s_axil)
        connect(m, registers=registers.csr_dcache, dcache=dcache.csr)
        connect(m, registers=registers.csr_icache, icache=icache.csr)
        connect(m, registers=registers.csr_maint, maintenance=maintenance.csr)
        connect(m, registers=registers.csr_dma, dma=dma.csr_dma)
        connect(m, registers=registers.csr_bm, dma=dma.csr_bm)
        for n in range(config.dma.system_channels):
            connect(m, registers=getattr(registers, f"csr_ch{n}"), dma=getattr(dma, f"csr_ch{n}"))
        connect(m, registers=registers.csr_mem, memory=memory.csr)
        connect(m, registers=registers.csr_dev, device=device.csr)
        m.d.comb += self.irq.eq(registers.irq)

        # probe
        owners = {
            "mem": memory,
            "csr": registers,
            "fifo_out": dma,
            "fifo_in": dma,
            "dev": device,
            "snoop": dcache if config.coherent else None,
            "d_wb": dcache,
            "d_line": dcache,
            "d_fill": dcache,
            "parked": dcache,
            "cpu": dcache,
            "i_line": icache,
            "fetch": icache,
            "dma": dma,
            "maint": maintenance,
        }
        for channel in CHANNELS:
            if owners[channel] is not None:
                connect(m, getattr(owners[channel], f"probe_{channel}"), flipped(getattr(self, f"probe_{channel}")))
        return m
