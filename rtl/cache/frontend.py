# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 in front of the D-cache: bursts become one-beat native requests, native responses become R and B."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXI4Signature, Burst, Resp
from .native import NativeSignature

__all__ = ["AxiFrontEnd"]


class AxiFrontEnd(wiring.Component):
    """Splits INCR, WRAP and FIXED bursts, narrow and unaligned ones included, into aligned beats.

    One burst is in progress at a time. Bursts are performed in the order in which their address handshakes took place;
    when both AR and AW offer one, the channel that was not served last wins. The next address is taken in the cycle of the last
    beat of the burst before, so single-beat bursts run at one per cycle. The first beat is requested one cycle after the AR
    handshake; for a write, in the cycle of its W handshake (at the earliest one cycle after AW).

    A response passes through in the cycle in which it comes, and waits inside while the manager does not accept it. B is given
    after the last beat of the burst was performed, with the first response of the burst that was not OKAY.

    Members
    -------
    s_axi : the CPU.
    cpu : the native port; ``meta`` is ``last`` and the AXI ID.
    hold_b : B waits while high (an instruction-cache invalidation is owed; only if ``coherent``).
    b_waiting : a B response is ready or held.

    Parameters
    ----------
    data_width : 32, 64 or 128.
    coherent : B passes through a register, so that ``hold_b`` of the next cycle still catches it.
    """

    def __init__(self, *, data_width: int, id_width: int = 4, user_width: int = 16, coherent: bool = False):
        self._coherent = coherent
        self._axi = AXI4Signature(data_width=data_width, id_width=id_width, user_width=user_width)
        super().__init__(
            {
                "s_axi": In(self._axi),
                "cpu": Out(NativeSignature(data_width=data_width, meta_width=id_width + 1)),
                "hold_b": In(1),
                "b_waiting": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi, cpu = self.s_axi, self.cpu
        data_bytes = self._axi.data_width // 8
        byte_bits = (data_bytes - 1).bit_length()

        # --- the burst in progress
        busy = Signal()
        write = Signal()
        ax = Signal(self._axi.ax_layout)  # addr is the current beat's, len the beats after it
        wrap_bits = byte_bits + 4  # of a WRAP burst's 2 to 16 beats
        wrap_mask = Signal(wrap_bits)  # address bits that change in it
        served_read = Signal()  # the channel served last

        pick_read = Signal()
        m.d.comb += pick_read.eq(axi.ar.valid & (~axi.aw.valid | ~served_read))
        take, free = Signal(), Signal()
        m.d.comb += [
            free.eq(~busy | (take & (ax.len == 0))),
            axi.ar.ready.eq(free & pick_read),
            axi.aw.ready.eq(free & ~pick_read),
        ]
        new = Signal(self._axi.ax_layout)
        m.d.comb += new.eq(Mux(pick_read, axi.ar.payload, axi.aw.payload))
        accept = Signal()
        m.d.comb += accept.eq(free & (axi.ar.valid | axi.aw.valid))

        # The step is the aligned next beat: an unaligned start concerns the first beat only.
        # No burst leaves its 4 KiB page, so only these address bits change.
        following = Signal(12)
        unit, below = Signal(byte_bits + 1), Signal(byte_bits)
        m.d.comb += [
            unit.eq(1 << ax.size),
            below.eq(unit - 1),
            following.eq(Cat(ax.addr[:byte_bits] & ~below, ax.addr[byte_bits:12]) + unit),
        ]
        with m.If(take):
            m.d.sync += [ax.len.eq(ax.len - 1), busy.eq(ax.len != 0)]
            with m.Switch(ax.burst):
                with m.Case(Burst.FIXED):
                    pass
                with m.Case(Burst.WRAP):
                    low_bits = ax.addr[:wrap_bits]
                    m.d.sync += low_bits.eq((low_bits & ~wrap_mask) | (following[:wrap_bits] & wrap_mask))
                with m.Default():
                    m.d.sync += ax.addr[:12].eq(following)
        with m.If(accept):
            m.d.sync += [
                busy.eq(1),
                write.eq(~pick_read),
                served_read.eq(pick_read),
                ax.eq(new),
                wrap_mask.eq((new.len[:4] << new.size) | ((1 << new.size) - 1)),
            ]

        # --- beats. Bytes asked for: from the address to the end of its size-aligned container.
        asked = Signal(data_bytes)
        low, high = Signal(byte_bits), Signal(byte_bits)
        m.d.comb += [
            low.eq(ax.addr[:byte_bits]),
            high.eq(ax.addr[:byte_bits] | below),
            asked.eq(Cat((low <= n) & (high >= n) for n in range(data_bytes))),
        ]
        m.d.comb += [
            cpu.req.valid.eq(busy & (~write | axi.w.valid)),
            axi.w.ready.eq(busy & write & cpu.req.ready),
            take.eq(cpu.req.valid & cpu.req.ready),
            cpu.req.payload.addr.eq(ax.addr),
            cpu.req.payload.we.eq(write),
            cpu.req.payload.data.eq(axi.w.payload.data),
            cpu.req.payload.strb.eq(Mux(write, axi.w.payload.strb, asked)),
            cpu.req.payload.size.eq(ax.size),
            cpu.req.payload.cacheable.eq(ax.cache[2:].any()),
            cpu.req.payload.tag.eq(ax.user if self._axi.user_width else 0),
            cpu.req.payload.meta.eq(Cat(ax.len == 0, ax.id)),
        ]

        # --- responses
        rsp = cpu.rsp.payload
        rsp_last, rsp_id = rsp.meta[0], rsp.meta[1:]
        worst = Signal(Resp)
        resp = Signal(Resp)
        m.d.comb += resp.eq(Mux(worst == Resp.OKAY, rsp.resp, worst))
        with m.If(cpu.rsp.valid & cpu.rsp.ready & rsp.we):
            m.d.sync += worst.eq(Mux(rsp_last, Resp.OKAY, resp))
        b_free = Signal()
        m.d.comb += [
            axi.r.valid.eq(cpu.rsp.valid & ~rsp.we),
            axi.r.payload.id.eq(rsp_id),
            axi.r.payload.data.eq(rsp.data),
            axi.r.payload.resp.eq(rsp.resp),
            axi.r.payload.last.eq(rsp_last),
            cpu.rsp.ready.eq(Mux(rsp.we, ~rsp_last | b_free, axi.r.ready)),
        ]
        ends = cpu.rsp.valid & rsp.we & rsp_last
        if self._coherent:
            kept, shown = Signal(), Signal()  # a valid that was shown stays
            m.d.comb += [
                axi.b.valid.eq(kept & (shown | ~self.hold_b)),
                b_free.eq(~kept | (axi.b.valid & axi.b.ready)),
                self.b_waiting.eq(kept),
            ]
            m.d.sync += shown.eq(axi.b.valid & ~axi.b.ready)
            with m.If(b_free):
                m.d.sync += [kept.eq(ends), axi.b.payload.id.eq(rsp_id), axi.b.payload.resp.eq(resp)]
        else:
            m.d.comb += [
                axi.b.valid.eq(ends),
                axi.b.payload.id.eq(rsp_id),
                axi.b.payload.resp.eq(resp),
                b_free.eq(axi.b.ready),
            ]
        return m
