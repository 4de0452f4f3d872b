# SPDX-License-Identifier: BSD-2-Clause
"""Uncached accesses: one beat at a time to memory (ID 3 of ``m_axi``) or to the registers (``m_axil``)."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXI4LiteSignature, Resp
from ..config import CSR_BASE, CSR_SIZE, SocConfig

__all__ = ["UncachedUnit"]


class UncachedUnit(wiring.Component):
    """Carries out the uncached beat that the pipeline holds.

    ``start`` may be high for one cycle while idle and ``request`` valid; ``request`` stays until ``done``, which is high
    with ``data`` and ``resp`` until ``take``. The register port is used for the CSR window and takes aligned 32-bit beats
    only (a write: with all four strobes); any other beat there answers SLVERR and reaches no register.

    Members
    -------
    start, request : ``addr we data strb size tag``.
    read, read_rsp : to :class:`~rtl.cache.fill.FillUnit`. write, write_rsp : to :class:`~rtl.cache.writeback.WriteBackBuffer`.
    """

    class State(enum.Enum, shape=3):
        IDLE = 0
        MEMORY_READ = 1
        MEMORY_WRITE = 2
        REGISTER_READ = 3
        REGISTER_WRITE = 4
        REFUSE = 5

    def __init__(self, *, config: SocConfig):
        width = self._width = config.data_width
        request = data.StructLayout({"addr": 32, "we": 1, "data": width, "strb": width // 8, "size": 3, "tag": 16})
        super().__init__(
            {
                "start": In(1),
                "request": In(request),
                "idle": Out(1),
                "done": Out(1),
                "take": In(1),
                "data": Out(width),
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
        request, axil, State = self.request, self.m_axil, self.State
        lanes = self._width // 32
        state = Signal(State)
        asked = Signal()  # the address (and data) of this beat have been taken
        data_asked = Signal()

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
            self.idle.eq(state == State.IDLE),
            # to memory
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
        ]
        with m.Switch(state):
            with m.Case(State.IDLE):
                m.d.sync += [asked.eq(0), data_asked.eq(0)]
                with m.If(self.start):
                    with m.If(~register):
                        m.d.sync += state.eq(Mux(request.we, State.MEMORY_WRITE, State.MEMORY_READ))
                    with m.Elif(good):
                        m.d.sync += state.eq(Mux(request.we, State.REGISTER_WRITE, State.REGISTER_READ))
                    with m.Else():
                        m.d.sync += state.eq(State.REFUSE)
            with m.Case(State.MEMORY_READ):
                m.d.comb += [
                    self.read.valid.eq(~asked),
                    self.data.eq(self.read_rsp.data),
                    self.resp.eq(self.read_rsp.resp),
                    self.done.eq(self.read_rsp.valid),
                ]
                with m.If(self.read.ready):
                    m.d.sync += asked.eq(1)
            with m.Case(State.MEMORY_WRITE):
                m.d.comb += [
                    self.write.valid.eq(1),
                    self.resp.eq(self.write_rsp.resp),
                    self.done.eq(self.write_rsp.valid),
                ]
            with m.Case(State.REGISTER_READ):
                m.d.comb += [
                    axil.ar.valid.eq(~asked),
                    axil.r.ready.eq(self.take),
                    self.data.eq(Cat(axil.r.payload.data for _ in range(lanes))),
                    self.resp.eq(axil.r.payload.resp),
                    self.done.eq(axil.r.valid),
                ]
                with m.If(axil.ar.ready):
                    m.d.sync += asked.eq(1)
            with m.Case(State.REGISTER_WRITE):
                m.d.comb += [
                    axil.aw.valid.eq(~asked),
                    axil.w.valid.eq(~data_asked),
                    axil.b.ready.eq(self.take),
                    self.resp.eq(axil.b.payload.resp),
                    self.done.eq(axil.b.valid),
                ]
                with m.If(axil.aw.ready):
                    m.d.sync += asked.eq(1)
                with m.If(axil.w.ready):
                    m.d.sync += data_asked.eq(1)
            with m.Case(State.REFUSE):
                m.d.comb += [self.resp.eq(Resp.SLVERR), self.done.eq(1)]
        with m.If(self.done & self.take):
            m.d.sync += state.eq(State.IDLE)
        return m
