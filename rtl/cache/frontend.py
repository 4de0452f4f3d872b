# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 in front of the D-cache: bursts become one-beat native requests, native responses become R and B."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXI4Signature, Resp
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

        # --- the burst in progress. The registers take a new one whenever they are free; ``busy`` says whether it is one.
        busy, write = Signal(), Signal()
        served_read = Signal()  # the channel served last
        ax = Signal(self._axi.ax_layout)  # addr is the current beat's
        cacheable = Signal()
        beat = Signal(8)
        pick_read, take, free, last = Signal(), Signal(), Signal(), Signal()
        new = Signal(self._axi.ax_layout)
        m.d.comb += [
            pick_read.eq(axi.ar.valid & (~axi.aw.valid | ~served_read)),
            last.eq(beat == ax.len),
            free.eq(~busy | (take & last)),
            axi.ar.ready.eq(free & pick_read),
            axi.aw.ready.eq(free & ~pick_read),
            new.eq(Mux(pick_read, axi.ar.payload, axi.aw.payload)),
        ]
        with m.If(take):
            m.d.sync += beat.eq(beat + 1)
        with m.If(free):
            m.d.sync += [
                beat.eq(0),
                busy.eq(axi.ar.valid | axi.aw.valid),
                write.eq(~pick_read),
                cacheable.eq(new.cache[2:].any()),
                ax.eq(new),
            ]
            with m.If(axi.ar.valid | axi.aw.valid):
                m.d.sync += served_read.eq(pick_read)

        # The next beat is the next aligned one: an unaligned start concerns the first beat only. No burst leaves its 4 KiB page,
        # so only the bits below change; of a WRAP those below its size, which is 2, 4, 8 or 16 beats (len ends in ones: bit 0
        # need not be looked at, and neither need bits below the beat's size, which are 0).
        size = ax.size[: byte_bits.bit_length()]  # no beat is wider than the bus
        below, following = Signal(byte_bits), Signal(12)
        m.d.comb += [
            below.eq((1 << size) - 1),
            following.eq(Cat(ax.addr[:byte_bits] | below, ax.addr[byte_bits:12]) + 1),
        ]
        for n in range(12):
            wraps = Cat(1 if n <= by else ax.len[n - by] if n - by < 4 else 0 for by in range(byte_bits + 1))
            moves = Signal(name=f"moves_{n}")
            m.d.comb += moves.eq(ax.burst.as_value()[0] | (ax.burst.as_value()[1] & wraps.bit_select(size, 1)))
            with m.If(take & ~free & moves):
                m.d.sync += ax.addr[n].eq(following[n])

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
            cpu.req.payload.size.eq(size),
            cpu.req.payload.cacheable.eq(cacheable),
            cpu.req.payload.tag.eq(ax.user if self._axi.user_width else 0),
            cpu.req.payload.meta.eq(Cat(last, ax.id)),
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
