# SPDX-License-Identifier: BSD-2-Clause
"""Uncached accesses: one beat at a time to memory (ID 3 of ``m_axi``) or to the registers (``m_axil``)."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXI4LiteSignature, Resp
from ..config import CSR_BASE, CSR_SIZE, SocConfig

__all__ = ["UncachedUnit"]


class UncachedUnit(wiring.Component):
    """Carries out the uncached beat that the pipeline holds.

    ``start`` may be high for one cycle while idle and ``request`` valid; ``request`` stays until ``done``, which is high
    with ``data`` or ``register_data`` (of a read) and ``resp`` until ``take``. A read of memory is offered in the cycle of
    ``start``, everything else in the next; what a register answers is ``done`` one cycle later. The register port is used for
    the CSR window and takes aligned 32-bit beats only (a write: with all four strobes); any other beat there answers
    SLVERR and reaches no register.

    One beat is under way at a time, so an answer on any channel is its answer.

    Members
    -------
    start, request : ``addr we data strb size tag``.
    data : what ``read_rsp`` carries, whether it is for this unit or not, but 0 while a register's answer is shown.
    register_data : a register's answer, else 0.
    read, read_rsp : to :class:`~rtl.cache.fill.FillUnit`. write, write_rsp : to :class:`~rtl.cache.writeback.WriteBackBuffer`.
    """

    def __init__(self, *, config: SocConfig):
        width = self._width = config.data_width
        request = data.StructLayout({"addr": 32, "we": 1, "data": width, "strb": width // 8, "size": 3, "tag": 16})
        super().__init__(
            {
                "start": In(1),
                "request": In(request),
                "idle": Out(1, init=1),
                "done": Out(1),
                "take": In(1),
                "data": Out(width),
                "register_data": Out(width),
                "resp": Out(Resp),
                "read": Out(stream.Signature(data.StructLayout({"addr": 32, "size": 3}))),
                "read_rsp": In(data.StructLayout({"valid": 1, "data": width, "resp": Resp})),
                "write": Out(stream.Signature(data.StructLayout({"addr": 32, "size": 3, "data": width, "strb": width // 8}))),
                "write_rsp": In(data.StructLayout({"valid": 1, "resp": Resp})),
                "m_axil": Out(AXI4LiteSignature(data_width=32, user_width=16)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request, axil = self.request, self.m_axil
        lanes = self._width // 32
        reads, refuses = Signal(), Signal()  # a read of memory waits to be taken; SLVERR
        memory_read = Signal()
        answered, kept = Signal(), Signal.like(axil.r.payload)  # by a register

        register = Signal()
        lane = Signal(range(max(lanes, 2)))
        good = Signal()
        strobes = Signal(4)
        m.d.comb += [
            register.eq(request.addr[(CSR_SIZE - 1).bit_length() :] == CSR_BASE // CSR_SIZE),
            lane.eq(request.addr[2 : 2 + (lanes - 1).bit_length()] if lanes > 1 else 0),
            strobes.eq(request.strb.word_select(lane, 4)),
            good.eq(
                (request.size == 2)
                & (request.addr[:2] == 0)
                & ((strobes == 0xF) & (request.strb == (0xF << (lane << 2))[: self._width // 8]))
            ),
            # to memory
            memory_read.eq(self.start & ~register & ~request.we),
            self.read.valid.eq(memory_read | reads),
            self.read.payload.addr.eq(request.addr),
            self.read.payload.size.eq(request.size),
            self.write.payload.addr.eq(request.addr),
            self.write.payload.size.eq(request.size),
            self.write.payload.data.eq(request.data),
            self.write.payload.strb.eq(request.strb),
            # to the registers
            axil.ar.payload.addr.eq(request.addr),
            axil.ar.payload.user.eq(request.tag),
            axil.aw.payload.addr.eq(request.addr),
            axil.aw.payload.user.eq(request.tag),
            axil.w.payload.data.eq(request.data.word_select(lane, 32)),
            axil.w.payload.strb.eq(strobes),
            # the answer
            axil.r.ready.eq(1),
            axil.b.ready.eq(self.take),
            self.done.eq(self.read_rsp.valid | self.write_rsp.valid | answered | axil.b.valid | refuses),
            self.data.eq(Mux(answered, 0, self.read_rsp.data)),
            self.register_data.eq(Cat(kept.data for _ in range(lanes))),
        ]
        # Outside its answer the register is 0, so that nobody has to choose.
        with m.If(axil.r.valid):
            m.d.sync += [kept.eq(axil.r.payload), answered.eq(1)]
        with m.If(answered & self.take):
            m.d.sync += [kept.eq(0), answered.eq(0)]
        resp = Mux(refuses, Resp.SLVERR, 0) | kept.resp.as_value() | Mux(axil.b.valid, axil.b.payload.resp, 0)
        for answers in (self.read_rsp, self.write_rsp):
            resp |= Mux(answers.valid, answers.resp, 0)
        m.d.comb += self.resp.eq(resp)

        # --- each is high from the start until it is taken
        register_read, register_write = Signal(), Signal()
        m.d.comb += [
            register_read.eq(self.start & register & good & ~request.we),
            register_write.eq(self.start & register & good & request.we),
        ]
        for waits, begins, taken in (
            (reads, memory_read, self.read.ready),
            (self.write.valid, self.start & ~register & request.we, self.write.ready),
            (axil.ar.valid, register_read, axil.ar.ready),
            (axil.aw.valid, register_write, axil.aw.ready),
            (axil.w.valid, register_write, axil.w.ready),
            (refuses, self.start & register & ~good, self.take),
        ):
            m.d.sync += waits.eq(begins | (waits & ~taken))
        with m.If(self.start):
            m.d.sync += self.idle.eq(0)
        with m.If(self.done & self.take):
            m.d.sync += self.idle.eq(1)
        return m
