# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache as a block: AXI in front, memory and registers behind, with its registers and probes."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.bus import AXI4LiteSignature, AXI4Signature
from ..config import SocConfig
from ..pio.signature import CsrSignature
from ..probe import ProbeSignature
from .core import DCacheCore
from .frontend import AxiFrontEnd
from .injector import EvictionInjector, LineCommand
from .native import Geometry, NativeSignature
from .ports import DCacheMaintSignature, InvalidateSignature, SnoopSignature
from .walker import MaintenanceWalker

__all__ = ["DCache"]


class DCache(wiring.Component):
    """Set-associative, write-back, write-allocate data cache with its write-back buffer, prefetcher and injector.

    An access is cached when AxCACHE[3:2] is not 0 and its address lies in the memory window; any other goes to ``m_axil`` in
    the CSR window, else to ``m_axi`` with ID 3. Accesses are performed in the order of their address handshakes. A read
    hit has R valid two cycles after the AR handshake; hit bursts run at one beat per cycle, reads and writes. A bus
    error on a demand fill answers SLVERR and is latched with its line in ``error_status.fill`` and ``error_addr``; one
    on a write-back is latched in ``error_status.writeback``. With ``dcache.parity`` wrong parity answers SLVERR to accesses
    and is latched in ``error_status.parity_tag`` and ``error_status.parity_data``. See docs/dcache.md.

    Members
    -------
    s_axi : the CPU (ID 4 bits, AxUSER the source tag); with ``native`` the port ``cpu`` stands in its place.
    m_axi : memory, ID 0 demand fill, 1 prefetch, 2 write-back, 3 uncached.
    m_axil : registers. csr : block ``dcache``. maint : maintenance commands.
    snoop, i_inv : only with coherency "snoop".
    probe_cpu, probe_parked, probe_d_fill, probe_d_line, probe_d_wb, probe_snoop : records.

    Parameters
    ----------
    config : ``dcache``, ``memory`` (the window), ``data_width``, ``coherency`` and ``faults`` are looked at.
    native : the CPU's port is :class:`~rtl.cache.native.NativeSignature` without the AXI front end (not with coherency
        "snoop": the front end holds B back until the I-cache has dropped the line).

    Raises
    ------
    ValueError
        If ``native`` is asked for with coherency "snoop".
    """

    def __init__(self, *, config: SocConfig, native: bool = False):
        if native and config.coherent:
            raise ValueError('DCache native must be false with coherency "snoop", not true')
        self._config = config
        self._native = native
        self._g = Geometry(config)
        width = config.data_width
        probe = ProbeSignature(width)
        members = {
            **(
                {"cpu": In(NativeSignature(data_width=width, meta_width=5))}
                if native
                else {"s_axi": In(AXI4Signature(data_width=width, id_width=4, user_width=16))}
            ),
            "m_axi": Out(AXI4Signature(data_width=width, id_width=2)),
            "m_axil": Out(AXI4LiteSignature(data_width=32, user_width=16)),
            "csr": In(CsrSignature("dcache")),
            "maint": In(DCacheMaintSignature()),
            "probe_cpu": Out(probe),
            "probe_parked": Out(probe),
            "probe_d_fill": Out(probe),
            "probe_d_line": Out(probe),
            "probe_d_wb": Out(probe),
            "probe_snoop": Out(probe),
        }
        if config.coherent:
            members |= {"snoop": In(SnoopSignature(config.dcache.line_bytes)), "i_inv": Out(InvalidateSignature())}
        super().__init__(members)
        self.core = DCacheCore(config=config)

    def elaborate(self, platform):
        m = Module()
        config, g, csr = self._config, self._g, self.csr
        m.submodules.core = core = self.core
        m.submodules.walker = walker = MaintenanceWalker(config=config)
        m.submodules.injector = injector = EvictionInjector(config=config)
        m.submodules.command = command = LineCommand(config=config)
        if self._native:
            connect(m, dcache=flipped(self.cpu), core=core.cpu)
        else:
            m.submodules.frontend = frontend = AxiFrontEnd(data_width=config.data_width, coherent=config.coherent)
            connect(m, dcache=flipped(self.s_axi), frontend=frontend.s_axi)
            connect(m, frontend=frontend.cpu, core=core.cpu)
        connect(m, core=core.m_axi, dcache=flipped(self.m_axi))
        connect(m, core=core.m_axil, dcache=flipped(self.m_axil))
        connect(m, dcache=flipped(self.maint), walker=walker.maint)
        connect(m, walker=walker.aux, core=core.walk)
        connect(m, command=command.aux, core=core.command)
        connect(m, injector=injector.aux, core=core.inject)
        for name in ("probe_cpu", "probe_parked", "probe_d_fill", "probe_d_line", "probe_d_wb", "probe_snoop"):
            connect(m, core=getattr(core, name), dcache=flipped(getattr(self, name)))
        if config.coherent:
            connect(m, dcache=flipped(self.snoop), core=core.snoop)
            connect(m, core=core.i_inv, dcache=flipped(self.i_inv))
            m.d.comb += [frontend.hold_b.eq(core.hold_b), core.b_waiting.eq(frontend.b_waiting)]

        m.d.comb += [
            core.walk_command.op.eq(walker.op),
            core.walk_command.all.eq(walker.all),
            core.walk_command.dirty_only.eq(walker.dirty_only),
            core.walk_command.first.eq(walker.first),
            core.walk_command.last.eq(walker.last),
            core.walk_way.eq(walker.way),
            core.row.eq(Mux(walker.looks, walker.row, injector.row)),
            core.check.eq(walker.check),
            walker.check_covered.eq(core.check_covered),
            walker.visited.eq(core.visited),
            walker.stained.eq(core.stained),
            walker.any_dirty.eq(core.any_dirty),
            walker.space.eq(core.space),
            walker.occupied.eq(core.occupied),
            walker.wb_done.eq(core.wb_done),
            walker.filling.eq(core.filling),
            walker.cpu_wants.eq(core.cpu.req.valid),
            injector.enable.eq(csr.ctrl_inject),
            injector.interval.eq(csr.ctrl_inject_interval),
            injector.restart.eq(csr.ctrl_written),
            injector.seed.eq(csr.inject_seed),
            injector.reseed.eq(csr.inject_seed_written),
            injector.stained.eq(core.stained),
            injector.held.eq(walker.looks),
            injector.any_dirty.eq(core.any_dirty),
            injector.evicted.eq(core.visited.dirty),
            command.start.eq(csr.inject_cmd_written),
            command.evict.eq(csr.inject_cmd_evict),
            command.writeback.eq(csr.inject_cmd_writeback),
            command.prefetch.eq(csr.inject_cmd_prefetch),
            command.addr.eq(csr.inject_addr),
            command.slot_free.eq(core.slot_free),
            csr.inject_cmd_busy.eq(command.busy),
            core.prefetch.eq(csr.ctrl_prefetch),
        ]

        if config.dcache.parity:
            m.d.comb += [
                command.flip_data.eq(csr.inject_cmd_flip_data),
                command.flip_tag.eq(csr.inject_cmd_flip_tag),
                core.upset.eq(command.upset),
            ]

        # --- counted events and latched errors
        events = core.events
        m.d.comb += [
            csr.hits_incr.eq(events.hit),
            csr.misses_incr.eq(events.miss),
            csr.evictions_incr.eq(events.evict),
            csr.writebacks_incr.eq(events.writeback),
            csr.stalls_incr.eq(core.cpu.req.valid & ~core.cpu.req.ready),
            csr.prefetches_incr.eq(events.prefetched),
            csr.prefetch_errors_incr.eq(events.prefetch_error),
        ]
        latched = Signal(32)
        m.d.comb += [
            csr.error_status_fill_set.eq(events.fill_error),
            csr.error_status_writeback_set.eq(events.wb_error),
            csr.error_addr.eq(latched),
        ]
        error, known = Signal(), Signal()
        error_line = Signal(g.line_bits)
        m.d.comb += [
            error.eq(events.fill_error | events.wb_error),
            known.eq(csr.error_status_fill | csr.error_status_writeback),
            error_line.eq(Mux(events.fill_error, events.fill_line, events.wb_line)),
        ]
        if config.dcache.parity:
            m.d.comb += [
                csr.error_status_parity_tag_set.eq(events.bad_tag),
                csr.error_status_parity_data_set.eq(events.bad_data | events.wb_spoiled),
            ]
            with m.If(csr.error_status_parity_tag | csr.error_status_parity_data):
                m.d.comb += known.eq(1)
            with m.If(events.bad_tag | events.bad_data | events.wb_spoiled):
                m.d.comb += error.eq(1)
            with m.If((events.bad_tag | events.bad_data) & ~events.fill_error):
                m.d.comb += error_line.eq(events.bad_line)
        noted = Signal()  # an error of the cycle before: its flag is visible from this cycle on
        m.d.sync += noted.eq(error)
        with m.If(error & ~(known | noted)):
            m.d.sync += latched.eq(g.address_of(error_line))
        return m
