# SPDX-License-Identifier: BSD-2-Clause
"""Room for responses that their requester does not take at once."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .native import NativeSignature

__all__ = ["ResponseBuffer"]


class ResponseBuffer(wiring.Component):
    """Stands in front of a cache that cannot hold a response back: passes a request only if there is room for its response.

    Two entries; with both empty a response passes in the cycle in which it comes. ``cache`` must never have more than one
    request without a response at a clock edge, and its ``rsp.ready`` need not be looked at.

    Members
    -------
    requester, cache : the two sides.
    """

    def __init__(self, *, signature: NativeSignature):
        super().__init__({"requester": In(signature), "cache": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        requester, cache = self.requester, self.cache
        level, pending = Signal(2), Signal()
        first, second = Signal(cache.rsp.payload.shape()), Signal(cache.rsp.payload.shape())
        room, taken, pop, asked = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(level + pending < 2),
            cache.req.valid.eq(requester.req.valid & room),
            cache.req.payload.eq(requester.req.payload),
            requester.req.ready.eq(cache.req.ready & room),
            cache.rsp.ready.eq(1),
            requester.rsp.valid.eq((level != 0) | cache.rsp.valid),
            requester.rsp.payload.eq(Mux(level != 0, first.as_value(), cache.rsp.payload.as_value())),
            taken.eq(requester.rsp.valid & requester.rsp.ready),
            pop.eq(taken & (level != 0)),
            asked.eq(cache.req.valid & cache.req.ready),
        ]
        m.d.sync += [level.eq(level + cache.rsp.valid - taken), pending.eq(asked | (pending & ~cache.rsp.valid))]
        with m.If(pop):
            m.d.sync += first.eq(second)
        with m.If(cache.rsp.valid):
            with m.If((level - pop) == 0):
                m.d.sync += first.eq(cache.rsp.payload)
            with m.Else():
                m.d.sync += second.eq(cache.rsp.payload)
        return m
