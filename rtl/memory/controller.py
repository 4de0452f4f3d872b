# SPDX-License-Identifier: BSD-2-Clause
"""The memory controller: AXI4 on one side, a storage backend on the other, and the faults that tests ask for in between.

It is the point of coherency: what its probe reports is what memory holds.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXI4Signature, Resp
from ..config import SocConfig
from ..pio.signature import CsrSignature
from ..probe import Kind, ProbeSignature
from .bram import BramBackend

__all__ = ["FaultMode", "MemoryController"]


class FaultMode(enum.Enum, shape=2):
    """``mem.fault_ctrl.mode``."""

    NONE = 0
    WRITE_ERROR = 1
    READ_ERROR = 2
    WRITE_STALL = 3


class _State(enum.Enum, shape=2):
    """What the AXI side waits for before it takes the next burst."""

    IDLE = 0
    WRITE = 1  # the beats of a write burst
    REJECT_READ = 2  # the beats of a read burst outside the window leave
    REJECT_WRITE = 3  # the beats of a write burst outside the window are thrown away


class MemoryController(wiring.Component):
    """AXI4 memory in the window ``[memory.base, memory.base + memory.size)``.

    One burst at a time is handed to the backend, in the cycle of its address handshake, reads and writes in turn where both
    wait. With :class:`~rtl.memory.bram.BramBackend` and nothing in progress, a burst whose address handshake is in cycle *t*
    has RVALID, or WREADY, in *t + L* (*L*: ``row_hit``, ``row_miss``, ``row_conflict``), then one beat per cycle; BVALID
    follows one cycle after the last write beat. INCR, WRAP and FIXED bursts of any size; a read beat returns the whole word
    around its address. All answers leave in the order of the address handshakes of their direction. Reads and writes share
    the storage: a manager that does not take the beats of a read it asked for holds up everybody's writes, its own included.

    Errors: a burst whose address lies outside the window answers DECERR (all beats of it, data zero, first one cycle after
    the address handshake) and reaches neither backend nor probe. A burst that breaks the 4 KiB rule wraps inside its 4 KiB
    block. The number of beats is AxLEN's; WLAST is not looked at.

    Fault injection (registers ``mem.fault_*``): while ``fault_ctrl.count`` is not 0, a burst of the mode's direction whose
    address lies in ``[fault_addr, fault_addr + fault_size)`` is hit, and counts it down by one at its address handshake (a
    register write in that cycle wins). Mode 1: a write burst answers SLVERR and changes nothing. Mode 2: a read burst answers
    SLVERR with data zero. Mode 3: a write burst's address waits ``fault_stall`` cycles of AWVALID before it may be accepted;
    reads overtake it meanwhile. Timing is otherwise that of a good burst.

    Probe: one ``MEM_READ`` or ``MEM_WRITE`` per beat, in the storage's own order. ``aux`` holds the burst's ID (equal to
    :class:`~rtl.probe.Source` behind the SoC's crossbar), and from bit 8 on the strobes of a write. With ``flags[0]`` the
    burst was hit by mode 1 or 2; a read's data is zero then.

    Parameters
    ----------
    config : the SoC's configuration.
    id_width : bits of the AXI ID, 0 to 8.

    Members
    -------
    s_axi : ``In(AXI4Signature)``; csr : ``In(CsrSignature("mem"))``; probe_mem : ``Out(ProbeSignature)``.
    """

    def __init__(self, config: SocConfig, *, id_width: int = 4):
        if not isinstance(id_width, int) or isinstance(id_width, bool) or not 0 <= id_width <= 8:
            raise ValueError(f"Memory controller id_width must be an integer from 0 to 8, not {id_width!r}")
        self._config = config
        self._id_width = id_width
        super().__init__(
            {
                "s_axi": In(AXI4Signature(data_width=config.data_width, id_width=id_width)),
                "csr": In(CsrSignature("mem")),
                "probe_mem": Out(ProbeSignature(config.data_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        memory, axi, csr = self._config.memory, self.s_axi, self.csr
        addr_width = (memory.size - 1).bit_length()
        id_width = self._id_width

        m.submodules.backend = backend = BramBackend(self._config, tag_width=id_width + 1)
        port = backend.port  # its tag is the ID, and above it whether the burst answers SLVERR

        state = Signal(_State)
        aw, ar = axi.aw.payload, axi.ar.payload
        aw_inside, ar_inside = Signal(), Signal()
        m.d.comb += [
            aw_inside.eq(aw.addr[addr_width:] == memory.base >> addr_width),
            ar_inside.eq(ar.addr[addr_width:] == memory.base >> addr_width),
        ]

        # --- faults
        count = Signal(8)
        mode = FaultMode(csr.fault_ctrl_mode)
        armed, aw_hit, ar_hit, stalled = Signal(), Signal(), Signal(), Signal()
        stall = Signal(32)  # cycles that the write address has waited
        used = Signal()
        m.d.comb += [
            armed.eq(count != 0),
            aw_hit.eq(armed & aw_inside & ((aw.addr - csr.fault_addr)[:32] < csr.fault_size)),
            ar_hit.eq(armed & ar_inside & ((ar.addr - csr.fault_addr)[:32] < csr.fault_size)),
            stalled.eq(aw_hit & (mode == FaultMode.WRITE_STALL) & (stall != csr.fault_stall)),
            csr.fault_ctrl_count.eq(count),
        ]
        with m.If(axi.aw.valid & stalled):
            m.d.sync += stall.eq(stall + 1)
        with m.If(used):
            m.d.sync += count.eq(count - 1)
        with m.If(csr.fault_ctrl_written):
            m.d.sync += count.eq(csr.fault_ctrl_count_w)

        # --- choice of the next burst; kept while it is offered and not taken
        write_next = Signal()
        held, held_write = Signal(), Signal()
        last_was_write = Signal()
        aw_asks = Signal()
        m.d.comb += aw_asks.eq(axi.aw.valid & ~stalled)
        with m.If(held):
            m.d.comb += write_next.eq(held_write)
        with m.Else():
            m.d.comb += write_next.eq(aw_asks & ~(axi.ar.valid & last_was_write))
        m.d.sync += [held.eq(port.cmd.valid & ~port.cmd.ready), held_write.eq(write_next)]

        # --- bursts outside the window wait until earlier answers have left, so that these never share a channel
        reads = Signal(3)  # read bursts whose last beat has not left; a backend that queues may have up to 7
        read_taken, read_left = Signal(), Signal()
        with m.If(read_taken & ~read_left):
            m.d.sync += reads.eq(reads + 1)
        with m.Elif(read_left & ~read_taken):
            m.d.sync += reads.eq(reads - 1)

        beats = Signal(8)
        b_free = Signal()
        burst_id = Signal(id_width)
        write_error = Signal()
        m.d.comb += b_free.eq(~axi.b.valid | axi.b.ready)
        with m.If(axi.b.ready):
            m.d.sync += axi.b.valid.eq(0)

        taken, rejected = Signal(), Signal()  # the chosen burst goes to the backend; is answered here
        chosen = Signal(axi.aw.payload.shape())
        inside, asks = Signal(), Signal()
        m.d.comb += [
            chosen.eq(Mux(write_next, aw, ar)),
            inside.eq(Mux(write_next, aw_inside, ar_inside)),
            asks.eq((state == _State.IDLE) & Mux(write_next, aw_asks, axi.ar.valid)),
            port.cmd.valid.eq(asks & inside & (reads != 7)),
            port.cmd.payload.write.eq(write_next),
            port.cmd.payload.addr.eq(chosen.addr[:addr_width]),
            port.cmd.payload.len.eq(chosen.len),
            port.cmd.payload.size.eq(chosen.size),
            port.cmd.payload.burst.eq(chosen.burst),
            port.cmd.payload.discard.eq(write_next & aw_hit & (mode == FaultMode.WRITE_ERROR)),
            port.cmd.payload.tag[:id_width].eq(chosen.id),
            port.cmd.payload.tag[id_width].eq(
                Mux(write_next, aw_hit & (mode == FaultMode.WRITE_ERROR), ar_hit & (mode == FaultMode.READ_ERROR))
            ),
            taken.eq(port.cmd.valid & port.cmd.ready),
            rejected.eq(asks & ~inside & (write_next | (reads == 0))),
            read_taken.eq(taken & ~write_next),
            axi.aw.ready.eq((taken | rejected) & write_next),
            axi.ar.ready.eq((taken | rejected) & ~write_next),
            used.eq(
                taken
                & Mux(write_next, aw_hit & (mode != FaultMode.READ_ERROR), ar_hit & (mode == FaultMode.READ_ERROR))
                & (mode != FaultMode.NONE)
            ),
        ]
        with m.If(taken | rejected):
            m.d.sync += [last_was_write.eq(write_next), beats.eq(chosen.len), burst_id.eq(chosen.id)]
            with m.If(write_next):
                m.d.sync += [
                    stall.eq(0),
                    write_error.eq(port.cmd.payload.discard),
                    state.eq(Mux(inside, _State.WRITE, _State.REJECT_WRITE)),
                ]
            with m.Elif(~inside):
                m.d.sync += state.eq(_State.REJECT_READ)

        # --- write beats and the response
        last = Signal()
        m.d.comb += [
            last.eq(beats == 0),
            port.w.payload.data.eq(axi.w.payload.data),
            port.w.payload.strb.eq(axi.w.payload.strb),
        ]
        with m.If((state == _State.WRITE) & (~last | b_free)):
            m.d.comb += [port.w.valid.eq(axi.w.valid), axi.w.ready.eq(port.w.ready)]
        with m.Elif((state == _State.REJECT_WRITE) & (~last | b_free)):
            m.d.comb += axi.w.ready.eq(1)
        with m.If(axi.w.valid & axi.w.ready):
            m.d.sync += beats.eq(beats - 1)
            with m.If(last):
                m.d.sync += [state.eq(_State.IDLE), axi.b.valid.eq(1), axi.b.payload.id.eq(burst_id)]
                with m.If(state == _State.REJECT_WRITE):
                    m.d.sync += axi.b.payload.resp.eq(Resp.DECERR)
                with m.Else():
                    m.d.sync += axi.b.payload.resp.eq(Mux(write_error, Resp.SLVERR, Resp.OKAY))

        # --- read beats
        r = axi.r.payload
        with m.If(state == _State.REJECT_READ):
            m.d.comb += [axi.r.valid.eq(1), r.id.eq(burst_id), r.resp.eq(Resp.DECERR), r.last.eq(last)]
            with m.If(axi.r.ready):
                m.d.sync += beats.eq(beats - 1)
                with m.If(last):
                    m.d.sync += state.eq(_State.IDLE)
        with m.Else():
            error = port.r.payload.tag[id_width]
            m.d.comb += [
                axi.r.valid.eq(port.r.valid),
                port.r.ready.eq(axi.r.ready),
                r.id.eq(port.r.payload.tag[:id_width]),
                r.data.eq(Mux(error, 0, port.r.payload.data)),
                r.resp.eq(Mux(error, Resp.SLVERR, Resp.OKAY)),
                r.last.eq(port.r.payload.last),
                read_left.eq(port.r.valid & axi.r.ready & port.r.payload.last),
            ]

        # --- counters
        m.d.comb += [
            csr.row_hits_incr.eq(port.row_hit),
            csr.row_misses_incr.eq(port.row_miss),
            csr.row_conflicts_incr.eq(port.row_conflict),
            csr.refreshes_incr.eq(port.refresh),
        ]

        # --- probe
        access, record = port.access.payload, self.probe_mem.record
        faulty = access.tag[id_width]
        m.d.comb += [
            self.probe_mem.valid.eq(port.access.valid),
            record.kind.eq(Mux(access.write, Kind.MEM_WRITE, Kind.MEM_READ)),
            record.flags.eq(faulty),
            record.addr.eq(Cat(access.addr, Const(memory.base >> addr_width, 32 - addr_width))),
            record.aux.eq(Cat(access.tag[:id_width], Const(0, 8 - id_width), Mux(access.write, access.strb, 0))),
            record.data.eq(Mux(faulty & ~access.write, 0, access.data)),
        ]
        return m
