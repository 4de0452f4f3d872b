# SPDX-License-Identifier: BSD-2-Clause
"""The DMA engine: mover, sequencer, channels, bus master, error latch and probe, wired together."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.bus import AXI4Signature, AXIStreamSignature
from ..config import SocConfig
from ..pio.signature import CsrSignature
from ..probe import Kind, ProbeSignature
from .bus_master import BusMaster
from .mover import Mover
from .ports import BUS_MASTER_CHANNEL, TAG_WIDTH, DeviceRequestSignature
from .sequencer import Sequencer
from .system_channel import SystemChannel

__all__ = ["DmaEngine"]

_DATA_ID, _DESCRIPTOR_ID = 0, 1


class DmaEngine(wiring.Component):
    """System channels and a bus master in front of one mover with a chunk FIFO per direction.

    Semantics: docs/contracts.md, "DMA semantics"; registers ``dma``, ``ch<n>``, ``bm`` of ``rtl/pio/table.py``. See docs/dma.md.

    Probe, channel ``dma``: the record of a register write (HANDOFF, FLUSH_BEGIN, DMA_ABORT) appears in the write's cycle, SEGMENT
    in the cycle in which the mover accepts; DESCRIPTOR, COMPLETE and FLUSH_END wait up to a few cycles where records
    meet, a DESCRIPTOR always before its first SEGMENT, a FLUSH_END always before the next PUSH.

    Parameters
    ----------
    config : the SoC's; used are ``data_width`` and ``dma``.

    Members
    -------
    m_axi : ID 0 data, ID 1 descriptors. request, s_axis, m_axis : the device.
    csr_dma, csr_bm, csr_ch0 .. : register ports. probe_dma, probe_fifo_in, probe_fifo_out : probes.
    """

    def __init__(self, *, config: SocConfig):
        self._config = config
        width = config.data_width
        super().__init__(
            {
                "m_axi": Out(AXI4Signature(data_width=width, id_width=2)),
                "request": In(DeviceRequestSignature()),
                "s_axis": In(AXIStreamSignature(data_width=width)),
                "m_axis": Out(AXIStreamSignature(data_width=width, user_width=32)),
                "csr_dma": In(CsrSignature("dma")),
                "csr_bm": In(CsrSignature("bm")),
                # The register port has the same members for every channel.
                **{f"csr_ch{n}": In(CsrSignature(f"ch{n}")) for n in range(config.dma.system_channels)},
                "probe_dma": Out(ProbeSignature(width)),
                "probe_fifo_in": Out(ProbeSignature(width)),
                "probe_fifo_out": Out(ProbeSignature(width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, dma = self._config, self.csr_dma
        width = config.data_width
        m.submodules.mover = mover = Mover(
            data_width=width,
            chunk_bytes=config.dma.chunk_bytes,
            fifo_chunks=config.dma.fifo_chunks,
            cut_through=config.dma.cut_through,
        )
        m.submodules.sequencer = sequencer = Sequencer(system_channels=config.dma.system_channels)
        m.submodules.bm = bm = BusMaster(data_width=width, axi_id=_DESCRIPTOR_ID)
        channels = {}
        for n in range(config.dma.system_channels):
            m.submodules[f"ch{n}"] = channels[n] = SystemChannel(index=n)
        channels[BUS_MASTER_CHANNEL] = bm
        csrs = {n: getattr(self, "csr_bm" if n == BUS_MASTER_CHANNEL else f"csr_ch{n}") for n in channels}

        # --- control and data path
        abort, flush = Signal(), Signal()
        m.d.comb += [
            abort.eq(dma.ctrl_abort),
            flush.eq(dma.ctrl_flush & ~abort & ~mover.flush_busy),
            mover.clear.eq(abort),
            mover.flush.eq(flush),
            mover.flush_timeout.eq(dma.flush_timeout),
            sequencer.abort.eq(abort),
            sequencer.mover_idle.eq(mover.idle),
        ]
        connect(m, flipped(self.request), sequencer.request)
        connect(m, sequencer.cmd, mover.cmd)
        connect(m, mover.status, sequencer.status)
        connect(m, mover.m_axis, flipped(self.m_axis))
        connect(m, mover.probe_fifo_in, flipped(self.probe_fifo_in))
        connect(m, mover.probe_fifo_out, flipped(self.probe_fifo_out))
        taken = self.s_axis.t
        m.d.comb += [
            mover.s_axis.t.payload.eq(taken.payload),
            mover.s_axis.t.valid.eq(taken.valid & ~sequencer.drain),
            taken.ready.eq(sequencer.drain | mover.s_axis.t.ready),
            sequencer.stream_valid.eq(taken.valid),
            sequencer.packet_last.eq(taken.valid & taken.ready & taken.payload.last),
        ]
        tag = Signal(TAG_WIDTH, init=1)  # number of the next transfer
        handoffs = Signal(len(channels))
        with m.If(handoffs.any()):
            m.d.sync += tag.eq(tag + 1)
        for position, (n, channel) in enumerate(channels.items()):
            connect(m, flipped(csrs[n]), channel.csr)
            connect(m, getattr(sequencer, f"channel_{n}"), channel.port)
            m.d.comb += [channel.new_tag.eq(tag), handoffs[position].eq(channel.handoff)]
        m.d.comb += [sequencer.fault.eq(mover.write_error), sequencer.fault_tag.eq(mover.write_error_tag)]
        self._bus(m, mover, bm)
        self._registers(m, mover, sequencer, bm, abort)
        self._events(m, mover, sequencer, channels, csrs, abort, flush)
        return m

    def _bus(self, m, mover, bm):
        """One AXI4 port for the mover (all channels) and the descriptor fetch (AR and R)."""
        axi, data = self.m_axi, mover.m_axi
        connect(m, data.aw, flipped(axi.aw))
        connect(m, data.w, flipped(axi.w))
        connect(m, flipped(axi.b), data.b)
        descriptor, locked, choice = Signal(), Signal(), Signal()
        m.d.comb += [
            descriptor.eq(Mux(locked, choice, bm.ar.valid)),
            axi.ar.valid.eq(Mux(descriptor, bm.ar.valid, data.ar.valid)),
            axi.ar.payload.eq(Mux(descriptor, bm.ar.payload, data.ar.payload)),
            bm.ar.ready.eq(descriptor & axi.ar.ready),
            data.ar.ready.eq(~descriptor & axi.ar.ready),
        ]
        # An address on offer may not change: the choice holds until its handshake.
        m.d.sync += [locked.eq(axi.ar.valid & ~axi.ar.ready), choice.eq(descriptor)]
        fetched = Signal()
        m.d.comb += [
            fetched.eq(axi.r.payload.id == _DESCRIPTOR_ID),
            bm.r.payload.eq(axi.r.payload),
            data.r.payload.eq(axi.r.payload),
            bm.r.valid.eq(axi.r.valid & fetched),
            data.r.valid.eq(axi.r.valid & ~fetched),
            axi.r.ready.eq(Mux(fetched, bm.r.ready, data.r.ready)),
        ]

    def _registers(self, m, mover, sequencer, bm, abort):
        """Status, counters and the error latch of block ``dma``."""
        dma = self.csr_dma
        status = mover.status
        read_error, any_error, latched = Signal(), Signal(), Signal()
        m.d.comb += [
            read_error.eq(status.valid & status.ready & status.payload.error & ~abort),
            dma.flush_status_busy.eq(mover.flush_busy),
            dma.flush_status_done_set.eq(mover.flush_done & mover.flush_ack),
            dma.flush_status_ok.eq(mover.flush_ok & ~mover.flush_busy),
            dma.flush_status_bus_error.eq(mover.flush_bus_error & ~mover.flush_busy),
            dma.flush_status_timeout.eq(mover.flush_timed_out & ~mover.flush_busy),
            dma.flush_discarded.eq(mover.flush_discarded),
            dma.level_to_memory.eq(mover.level_to_memory),
            dma.level_to_device.eq(mover.level_to_stream),
            dma.error_status_read_set.eq(read_error),
            dma.error_status_write_set.eq(mover.write_error),
            dma.error_status_descriptor_set.eq(bm.descriptor_error),
            dma.error_status_aborted_set.eq(abort),
            any_error.eq(read_error | mover.write_error | bm.descriptor_error),
        ]
        address, counts = Signal(32), (Signal(32, name="to_memory"), Signal(32, name="to_device"))
        m.d.comb += [
            dma.error_addr.eq(address),
            dma.bytes_to_memory.eq(counts[0]),
            dma.bytes_to_device.eq(counts[1]),
        ]
        m.d.sync += [
            counts[0].eq(counts[0] + mover.pushed_to_memory),
            counts[1].eq(counts[1] + mover.pushed_to_stream),
            latched.eq(any_error),  # the bank's flag shows one cycle later
        ]
        free = ~(latched | dma.error_status_read | dma.error_status_write | dma.error_status_descriptor)
        with m.If(any_error & free):
            with m.If(mover.write_error):
                m.d.sync += address.eq(mover.write_error_addr)
            with m.Elif(read_error):
                m.d.sync += address.eq(status.payload.addr)
            with m.Else():
                m.d.sync += address.eq(bm.descriptor_addr)

    def _events(self, m, mover, sequencer, channels, csrs, abort, flush):
        """The ``dma`` probe: one record per cycle, the others wait in the order of their importance."""
        probe = self.probe_dma
        record, bm = probe.record, channels[BUS_MASTER_CHANNEL]
        command = Signal()  # a register write owns this cycle
        m.d.comb += command.eq(abort | flush | Cat(*(c.handoff for c in channels.values())).any())

        described, described_addr, described_data, described_tag = Signal(), Signal(32), Signal(64), Signal(TAG_WIDTH)
        ended = {}
        for n in channels:
            ended[n] = (
                Signal(name=f"ended_{n}"),
                Signal(TAG_WIDTH, name=f"ended_tag_{n}"),
                Signal(32, name=f"ended_residue_{n}"),
                Signal(2, name=f"ended_flags_{n}"),
            )
        m.d.comb += sequencer.stall.eq(command | described)

        with m.If(abort):
            m.d.comb += [probe.valid.eq(1), record.kind.eq(Kind.DMA_ABORT)]
        with m.Elif(flush):
            m.d.comb += [probe.valid.eq(1), record.kind.eq(Kind.FLUSH_BEGIN)]
        with m.Elif(command):
            for n, channel in channels.items():
                csr = csrs[n]
                with m.If(channel.handoff):
                    master = n == BUS_MASTER_CHANNEL
                    m.d.comb += [
                        probe.valid.eq(1),
                        record.kind.eq(Kind.HANDOFF),
                        record.tag.eq(channel.new_tag),
                        record.addr.eq(csr.desc if master else csr.addr),
                        record.data.eq(0 if master else csr.count),
                        record.aux.eq(n | (csr.mode_write_to_device << 3)),
                    ]
        with m.Elif(sequencer.segment):
            cmd = mover.cmd.payload
            to_device = cmd.kind.as_value()[1]
            m.d.comb += [
                probe.valid.eq(1),
                record.kind.eq(Kind.SEGMENT),
                record.tag.eq(cmd.tag),
                record.addr.eq(Mux(to_device, cmd.read_addr, cmd.write_addr)),
                record.aux.eq(Cat(to_device, cmd.length)),
                record.data.eq(sequencer.device_addr),
            ]
        with m.Elif(described):
            m.d.comb += [
                probe.valid.eq(1),
                record.kind.eq(Kind.DESCRIPTOR),
                record.tag.eq(described_tag),
                record.addr.eq(described_addr),
                record.data.eq(described_data),
            ]
            m.d.sync += described.eq(0)
        for n, (waiting, tag, residue, flags) in ended.items():
            with m.Elif(waiting):
                m.d.comb += [
                    probe.valid.eq(1),
                    record.kind.eq(Kind.COMPLETE),
                    record.tag.eq(tag),
                    record.aux.eq(n),
                    record.data.eq(residue),
                    record.flags.eq(flags),
                ]
                m.d.sync += waiting.eq(0)
        with m.Elif(mover.flush_done):
            m.d.comb += [
                probe.valid.eq(1),
                record.kind.eq(Kind.FLUSH_END),
                record.aux.eq(mover.flush_discarded),
                record.flags.eq(Cat(mover.flush_ok, mover.flush_bus_error, mover.flush_timed_out)),
                mover.flush_ack.eq(1),
            ]
        with m.If(bm.fetched):
            m.d.sync += [
                described.eq(1),
                described_addr.eq(bm.descriptor_addr),
                described_data.eq(Cat(bm.fetched_addr, bm.fetched_length)),
                described_tag.eq(bm.port.tag),
            ]
        for n, channel in channels.items():
            waiting, tag, residue, flags = ended[n]
            with m.If(channel.complete):
                m.d.sync += [
                    waiting.eq(1),
                    tag.eq(channel.port.tag),
                    residue.eq(bm.residue if channel is bm else channel.csr.residue),
                    flags.eq(Cat(channel.complete_error, channel.complete_stopped)),
                ]
