# SPDX-License-Identifier: BSD-2-Clause
"""The register bank: AXI4-Lite on one side, one :class:`~rtl.pio.signature.CsrSignature` per block on the other."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXI4LiteSignature, Resp
from ..config import CSR_BASE, CSR_SIZE, SocConfig
from ..probe import Kind, ProbeSignature
from .signature import CsrSignature, member_name
from .table import IDENTIFICATION, IRQ, blocks, registers

__all__ = ["RegisterBank"]

_USER_WIDTH = 16


class _State(enum.Enum, shape=2):
    IDLE = 0
    EXECUTE = 1
    RESPOND = 2


class RegisterBank(wiring.Component):
    """All registers of the SoC (:mod:`rtl.pio.table`), the interrupt gate, and the ``sys`` block.

    One access at a time. A write is accepted when AW and W are both there (both handshakes in the same cycle), a read with
    its AR; the one that was there first goes first, and of two that come in the same cycle the kind that was not served
    last (after reset the write). An access accepted in cycle *t* is performed in *t + 1*: strobes of a ``port`` field and
    the probe's record are in that cycle, storage changes at its closing edge, ``<register>_written`` is high in *t + 2*.
    B or R is valid in *t + 2*, and the next access can be accepted in the cycle of its handshake: one access every two cycles.

    An aligned access with all four strobes to the offset of a register answers OKAY; what it does is the field's access
    kind (:mod:`rtl.pio.table`). Everything else changes nothing and leaves no record:

    ============================================================ ========
    access                                                       response
    ============================================================ ========
    ``port`` field whose block raises ``error``                  SLVERR
    unaligned, with other strobes, or an offset without register SLVERR
    address outside [``CSR_BASE``, ``CSR_BASE + CSR_SIZE``)      DECERR
    ============================================================ ========

    In the same cycle: a hardware set of a ``w1c`` flag wins over its clear; a read gets the value from before the edge.

    Parameters
    ----------
    config : the SoC's configuration; ``dma.system_channels`` decides which ``csr_ch<n>`` there are.

    Members
    -------
    s_axil : ``In(AXI4LiteSignature(32, user 16))``; AxUSER is the source tag of the probe's records.
    csr_<block> : ``Out(CsrSignature(block))`` for each block of the table but ``sys``.
    irq : ``Out(12)``: levels (bits: :class:`rtl.pio.table.IRQ`), ``sys.irq_raw`` gated by ``sys.irq_enable``. ``IRQ.ERROR``
        is high while any flag of ``dcache``, ``icache`` or ``dma`` ``error_status`` is set.
    probe_csr : ``Out(ProbeSignature)``: ``CSR_READ`` and ``CSR_WRITE``, ``addr`` is the offset in the window.
    """

    def __init__(self, *, config: SocConfig):
        self.config = config
        self._table = registers(config.dma.system_channels)
        self._blocks = [block for block in blocks(self._table) if block != "sys"]
        super().__init__(
            {
                "s_axil": In(AXI4LiteSignature(data_width=32, addr_width=32, user_width=_USER_WIDTH)),
                **{f"csr_{block}": Out(CsrSignature(block)) for block in self._blocks},
                "irq": Out(IRQ.WIDTH),
                "probe_csr": Out(ProbeSignature(config.data_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.s_axil
        sys = CsrSignature("sys").create(path=("sys",))
        ports = {block: getattr(self, f"csr_{block}") for block in self._blocks} | {"sys": sys}

        # --- one access at a time, oldest first
        state = Signal(_State)
        is_write = Signal()
        addr = Signal(32)
        data = Signal(32)
        strb = Signal(4)
        tag = Signal(_USER_WIDTH)
        resp = Signal(Resp)
        r_data = Signal(32)
        read_first = Signal()

        write_there = Signal()
        free = Signal()
        take_write = Signal()
        take_read = Signal()
        m.d.comb += [
            write_there.eq(bus.aw.valid & bus.w.valid),
            bus.b.valid.eq((state == _State.RESPOND) & is_write),
            bus.r.valid.eq((state == _State.RESPOND) & ~is_write),
            bus.b.payload.resp.eq(resp),
            bus.r.payload.resp.eq(resp),
            bus.r.payload.data.eq(r_data),
            free.eq((state == _State.IDLE) | ((state == _State.RESPOND) & Mux(is_write, bus.b.ready, bus.r.ready))),
            take_write.eq(free & write_there & ~(bus.ar.valid & read_first)),
            take_read.eq(free & bus.ar.valid & ~(write_there & ~read_first)),
            bus.aw.ready.eq(take_write),
            bus.w.ready.eq(take_write),
            bus.ar.ready.eq(take_read),
        ]
        # read_first: whom a tie prefers. The kind that waits alone was there first; after an access the other kind is older.
        with m.If(take_write | (bus.ar.valid & ~write_there & ~take_read)):
            m.d.sync += read_first.eq(1)
        with m.Elif(take_read | (write_there & ~bus.ar.valid)):
            m.d.sync += read_first.eq(0)

        with m.If(state == _State.EXECUTE):
            m.d.sync += state.eq(_State.RESPOND)
        with m.Elif(free):
            m.d.sync += [
                state.eq(Mux(take_write | take_read, _State.EXECUTE, _State.IDLE)),
                is_write.eq(take_write),
                addr.eq(Mux(take_write, bus.aw.payload.addr, bus.ar.payload.addr)),
                tag.eq(Mux(take_write, bus.aw.payload.user, bus.ar.payload.user)),
                data.eq(bus.w.payload.data),
                strb.eq(bus.w.payload.strb),
            ]

        # --- counters
        counts = {
            (register, field): Signal(field.width, name=f"count_{register.block}_{member_name(register, field)}")
            for register in self._table
            for field in register.fields
            if field.access == "count"
        }
        for (register, field), count in counts.items():
            with m.If(getattr(ports[register.block], f"{member_name(register, field)}_incr")):
                m.d.sync += count.eq(count + 1)

        # --- decode
        offset_bits = (CSR_SIZE - 1).bit_length()
        known = Signal()
        in_window = Signal()
        good = Signal()
        refused = Signal()
        value = Signal(32)
        write = Signal()
        read = Signal()
        m.d.comb += [
            in_window.eq(addr[offset_bits:] == CSR_BASE >> offset_bits),
            good.eq(in_window & known & (addr[:2] == 0) & (~is_write | strb.all())),
            write.eq((state == _State.EXECUTE) & good & is_write),
            read.eq((state == _State.EXECUTE) & good & ~is_write),
        ]
        with m.If(state == _State.EXECUTE):
            m.d.sync += [
                resp.eq(Mux(~in_window, Resp.DECERR, Mux(good & ~refused, Resp.OKAY, Resp.SLVERR))),
                r_data.eq(Mux(read & ~refused, value, 0)),
            ]
        with m.Switch(addr[2:offset_bits]):
            for register in self._table:
                with m.Case(register.offset >> 2):
                    m.d.comb += known.eq(1)
                    port = ports[register.block]
                    m.d.comb += value.eq(Cat(*self._read_value(register, port, counts)))
                    for field in register.fields:
                        if field.access == "port":
                            m.d.comb += refused.eq(getattr(port, f"{member_name(register, field)}_error"))

        for register in self._table:
            self._register(m, register, ports[register.block], addr[2:offset_bits], data, write, read)

        # --- probe
        m.d.comb += [
            self.probe_csr.valid.eq((write | read) & ~refused),
            self.probe_csr.record.kind.eq(Mux(is_write, Kind.CSR_WRITE, Kind.CSR_READ)),
            self.probe_csr.record.tag.eq(tag),
            self.probe_csr.record.addr.eq(addr[:offset_bits]),
            self.probe_csr.record.data.eq(Mux(is_write, data, value)),
        ]

        self._system(m, sys)
        return m

    @staticmethod
    def _read_value(register, port, counts):
        """The register's bits from 0 up; gaps and write-only fields read as zero. ``counts`` : signal of each counting field."""
        position = 0
        for field in sorted(register.fields, key=lambda field: field.low):
            if field.low > position:
                yield Const(0, field.low - position)
            name = member_name(register, field)
            if field.access == "w":
                yield Const(0, field.width)
            elif field.access == "count":
                yield counts[register, field]
            elif field.access == "port":
                yield getattr(port, f"{name}_r_data")
            else:
                yield getattr(port, name)
            position = field.low + field.width

    @staticmethod
    def _register(m, register, port, word, data, write, read):
        """Storage and strobes of one register."""
        here = Signal(name=f"write_{register.block}_{register.name}")
        m.d.comb += here.eq(write & (word == register.offset >> 2))
        if hasattr(port, f"{register.name}_written"):
            m.d.sync += getattr(port, f"{register.name}_written").eq(here)
        for field in register.fields:
            name = member_name(register, field)
            bits = data[field.low : field.low + field.width]
            if field.access == "rw":
                with m.If(here):
                    m.d.sync += getattr(port, name).eq(bits)
            elif field.access == "rwh":
                with m.If(here):
                    m.d.sync += getattr(port, f"{name}_w").eq(bits)
            elif field.access == "w":
                m.d.sync += getattr(port, name).eq(Mux(here, bits, 0))
            elif field.access == "w1c":
                flag = getattr(port, name)
                with m.If(getattr(port, f"{name}_set")):
                    m.d.sync += flag.eq(1)
                with m.Elif(here & bits):
                    m.d.sync += flag.eq(0)
            elif field.access == "port":
                m.d.comb += [
                    getattr(port, f"{name}_w_data").eq(data),
                    getattr(port, f"{name}_w_strobe").eq(here),
                    getattr(port, f"{name}_r_strobe").eq(read & (word == register.offset >> 2)),
                ]

    def _system(self, m, sys):
        """The ``sys`` block: what was built, the cycle counter, the interrupts."""
        config = self.config
        m.d.sync += sys.cycle.eq(sys.cycle + 1)
        m.d.comb += [
            sys.id.eq(IDENTIFICATION),
            sys.features_coherent.eq(config.coherent),
            sys.features_prefetcher.eq(config.dcache.prefetcher),
            sys.features_cut_through.eq(config.dma.cut_through),
            sys.features_partial_clean.eq(config.dcache.partial_lines == "clean"),
            sys.features_system_channels.eq(config.dma.system_channels),
            sys.features_write_through.eq(config.dcache.write_through),
            sys.features_data_bytes.eq(config.data_bytes),
            sys.features_line_bytes.eq(config.dcache.line_bytes),
            sys.features_chunk_bytes.eq(config.dma.chunk_bytes),
            sys.mem_base.eq(config.memory.base),
            sys.mem_size.eq(config.memory.size),
            sys.dcache_geometry_sets.eq(config.dcache.sets),
            sys.dcache_geometry_ways.eq(config.dcache.ways),
            sys.dcache_geometry_parity.eq(config.dcache.parity),
        ]
        raw = sys.irq_raw_level
        m.d.comb += [
            raw[IRQ.MAINT].eq(self.csr_maint.status_done),
            raw[IRQ.FLUSH].eq(self.csr_dma.flush_status_done),
            raw[IRQ.BUS_MASTER].eq(self.csr_bm.status_done | self.csr_bm.status_error),
            raw[IRQ.DEVICE].eq(self.csr_dev.status_done | self.csr_dev.status_error),
            raw[IRQ.ERROR].eq(
                Cat(
                    self.csr_dcache.error_status_fill,
                    self.csr_dcache.error_status_writeback,
                    self.csr_dcache.error_status_parity_tag,
                    self.csr_dcache.error_status_parity_data,
                    self.csr_icache.error_status_fill,
                    self.csr_dma.error_status_read,
                    self.csr_dma.error_status_write,
                    self.csr_dma.error_status_descriptor,
                    self.csr_dma.error_status_aborted,
                ).any()
            ),
            self.irq.eq(raw & sys.irq_enable_enable),
        ]
        for n in range(config.dma.system_channels):
            channel = getattr(self, f"csr_ch{n}")
            m.d.comb += raw[IRQ.SYSTEM_CHANNEL + n].eq(channel.status_tc | channel.status_error)
