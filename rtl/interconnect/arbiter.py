# SPDX-License-Identifier: BSD-2-Clause
"""Fair choice among requesters, and the arbiters of the caches' snoop and invalidation ports."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..axi.buffer import ShiftQueue
from ..cache.ports import BLOCKED_LINES, InvalidateSignature, SnoopOp, SnoopSignature

__all__ = ["InvalidateArbiter", "RoundRobin", "SnoopArbiter"]


def _count(owner: str, count: int) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 16:
        raise ValueError(f"{owner} count must be an integer from 1 to 16, not {count!r}")
    return count


class RoundRobin(wiring.Component):
    """Fair choice among a few requests: the one that was served last comes last.

    ``grant`` is combinational: the first asserted request after the one served last, or any number if there is none. It stays the
    same from a cycle with ``request != 0`` until one with ``done``, in which that request counts as served.

    Parameters
    ----------
    count : requests, 1 to 16.

    Members
    -------
    request : ``In(count)``; grant : ``Out(range(count))``; done : ``In(1)``.

    Raises
    ------
    ValueError
        If ``count`` is out of range.
    """

    def __init__(self, count: int):
        self._count = _count("Arbiter", count)
        super().__init__({"request": In(count), "grant": Out(range(count)), "done": In(1)})

    def elaborate(self, platform):
        m = Module()
        count = self._count
        served = Signal(range(count), init=count - 1)
        held = Signal()
        with m.If(held):
            m.d.comb += self.grant.eq(served)
        with m.Else():
            with m.Switch(served):
                for last in range(count):
                    with m.Case(last):
                        # Amaranth's last assignment wins, so the nearest follower is assigned last.
                        for step in range(count, 0, -1):
                            candidate = (last + step) % count
                            with m.If(self.request[candidate]):
                                m.d.comb += self.grant.eq(candidate)
        with m.If(self.request.any()):
            m.d.sync += [served.eq(self.grant), held.eq(~self.done)]
        return m


class SnoopArbiter(wiring.Component):
    """Several requesters at the one snoop port of the D-cache, round robin; adds no cycle.

    From the acceptance of a WRITE until its requester's ``release`` no other requester's WRITE passes, so that releases come in
    the order of the WRITEs; the requester's own next ones do, up to :data:`~rtl.cache.ports.BLOCKED_LINES`, unless another
    has one waiting. READs pass. Responses go back in the order of the requests; a requester must always be able to take the
    responses it is owed, or it holds up the others. At most 4 responses are owed at a time.

    Parameters
    ----------
    line_bytes : 16 to 128.
    count : requesters, 1 to 16.

    Members
    -------
    s_0 .. : ``In(SnoopSignature)``; m : ``Out(SnoopSignature)``.

    Raises
    ------
    ValueError
        If ``count`` is out of range.
    """

    def __init__(self, *, line_bytes: int, count: int):
        self._count = _count("Snoop arbiter", count)
        members = {f"s_{n}": In(SnoopSignature(line_bytes)) for n in range(count)}
        super().__init__({**members, "m": Out(SnoopSignature(line_bytes))})

    def elaborate(self, platform):
        m = Module()
        port = self.m
        requesters = [getattr(self, f"s_{n}") for n in range(self._count)]
        m.submodules.arbiter = arbiter = RoundRobin(self._count)
        m.submodules.owed = owed = ShiftQueue(data.StructLayout({"requester": len(arbiter.grant)}), depth=4)

        unreleased = Signal(range(BLOCKED_LINES + 1))  # WRITEs that were accepted and not yet released
        owner = Signal(self._count)
        yields = Signal()  # another requester wants to write: the owner's writes come to an end
        taken, write_taken = Signal(), Signal()
        writes, may_write = Signal(self._count), Signal(self._count)
        m.d.comb += [
            writes.eq(Cat(s.req.valid & (s.req.payload.op == SnoopOp.WRITE) for s in requesters)),
            arbiter.request.eq(Cat(s.req.valid & owed.i.ready for s in requesters) & (~writes | may_write)),
            arbiter.done.eq(port.req.ready),
            port.req.valid.eq(arbiter.request.any()),
            taken.eq(port.req.valid & port.req.ready),
            owed.i.valid.eq(taken),
            owed.i.payload.requester.eq(arbiter.grant),
            owed.o.ready.eq(port.rsp.valid & port.rsp.ready),
        ]
        for n, s in enumerate(requesters):
            with m.If(arbiter.grant == n):
                m.d.comb += [port.req.payload.eq(s.req.payload), s.req.ready.eq(taken)]
            m.d.comb += s.rsp.payload.eq(port.rsp.payload)
            with m.If(owed.o.valid & (owed.o.payload.requester == n)):
                m.d.comb += [s.rsp.valid.eq(port.rsp.valid), port.rsp.ready.eq(s.rsp.ready)]
            with m.If((unreleased != 0) & owner[n]):
                m.d.comb += port.release.eq(s.release)
        with m.If(unreleased == 0):
            m.d.comb += may_write.eq(-1)
        with m.Elif((unreleased != BLOCKED_LINES) & ~yields):
            m.d.comb += may_write.eq(owner)
        with m.If(~port.req.valid | port.req.ready):  # what is offered stays
            m.d.sync += yields.eq((writes & ~Mux(write_taken, 1 << arbiter.grant, owner)).any())
        m.d.comb += write_taken.eq(taken & (port.req.payload.op == SnoopOp.WRITE))
        m.d.sync += unreleased.eq(unreleased + write_taken - port.release)
        with m.If(write_taken):
            m.d.sync += owner.eq(1 << arbiter.grant)
        return m


class InvalidateArbiter(wiring.Component):
    """Several requesters at the one invalidation port of the I-cache, round robin; adds no cycle.

    Parameters
    ----------
    count : requesters, 1 to 16.

    Members
    -------
    s_0 .. : ``In(InvalidateSignature)``; m : ``Out(InvalidateSignature)``.

    Raises
    ------
    ValueError
        If ``count`` is out of range.
    """

    def __init__(self, *, count: int):
        self._count = _count("Invalidate arbiter", count)
        members = {f"s_{n}": In(InvalidateSignature()) for n in range(count)}
        super().__init__({**members, "m": Out(InvalidateSignature())})

    def elaborate(self, platform):
        m = Module()
        requesters = [getattr(self, f"s_{n}") for n in range(self._count)]
        m.submodules.arbiter = arbiter = RoundRobin(self._count)
        m.d.comb += [
            arbiter.request.eq(Cat(s.req.valid for s in requesters)),
            arbiter.done.eq(self.m.req.ready),
            self.m.req.valid.eq(arbiter.request.any()),
        ]
        for n, s in enumerate(requesters):
            with m.If(arbiter.grant == n):
                m.d.comb += [
                    self.m.req.payload.eq(s.req.payload),
                    s.req.ready.eq(self.m.req.ready & s.req.valid),
                ]
        return m
