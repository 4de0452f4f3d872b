# SPDX-License-Identifier: BSD-2-Clause
"""The maintenance unit: clean, invalidate, clean+invalidate by line, range or everything, for D-cache, I-cache or both."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import SocConfig
from ..pio.signature import CsrSignature
from ..probe import Cause, Kind, ProbeSignature
from .edges import EdgeCleaner
from .ports import DCacheMaintSignature, InvalidateSignature, MaintOp, MaintScope

__all__ = ["MaintenanceUnit"]


class MaintenanceUnit(wiring.Component):
    """Carries out the commands written to ``maint.cmd``, one at a time.

    The D-cache's part is done, all its write-backs answered by memory, before the I-cache's begins. A range with more
    lines than the I-cache invalidates it whole; it has no clean. ``status.done`` is set in the cycle in which the D-cache's
    part is done if there is no other, else one cycle after the last; with it ``error`` and ``aborted``. Length 0, and no
    target, complete at once, and so does the D-cache's part of a range without a line in the memory window; a range that
    would pass 2**32 ends there. A start while busy sets ``status.error`` and changes nothing. ``abort`` stops after the line
    in progress, and still waits for write-backs that are under way.

    A command written in cycle c reaches the D-cache in cycle c; it covers every access answered before its own address
    handshake.

    Members
    -------
    csr : block ``maint``. dcache : commands to the D-cache. inv : invalidations to the I-cache.
    probe_maint : ``MAINT_BEGIN``, ``MAINT_STEP`` per D-cache line visited, ``MAINT_END``.

    Parameters
    ----------
    config : lines, ``faults.maintenance_ignores_tail`` (the last line of a range that does not end on a line is skipped), and
        ``dcache.partial_lines`` (with ``"clean"`` an invalidate of a range cleans a first or last line that it covers only
        partly; see :mod:`.edges` for what that costs).
    """

    class State(enum.Enum, shape=2):
        IDLE = 0
        DCACHE = 1
        ICACHE = 2
        END = 3

    def __init__(self, *, config: SocConfig):
        self._config = config
        super().__init__(
            {
                "csr": In(CsrSignature("maint")),
                "dcache": Out(DCacheMaintSignature()),
                "inv": Out(InvalidateSignature()),
                "probe_maint": Out(ProbeSignature(config.data_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        csr, dcache, inv, State = self.csr, self.dcache, self.inv, self.State
        if self._config.dcache.partial_lines == "clean":
            m.submodules.edges = edges = EdgeCleaner(line_bytes=self._config.dcache.line_bytes)
            connect(m, edges=edges.dcache, maintenance=flipped(self.dcache))
            dcache = edges.command
        offset = self._config.dcache.offset_bits
        i_offset = self._config.icache.offset_bits
        state = Signal(State)
        op, target = Signal(MaintOp), Signal(2)
        with_d = Signal()  # the command has a part in the D-cache
        first, last = Signal(32), Signal(32)  # byte addresses of lines
        aborting, error = Signal(), Signal()

        # --- the range of lines that start and length name, one cycle after they change, before a command can be written
        end = Signal(33)  # first byte after the range
        length_is_0 = Signal()
        range_last, range_empty = Signal(32), Signal()
        past = Signal(33)
        m.d.comb += [past.eq(csr.start + csr.length), end.eq(Mux(past[32], 1 << 32, past))]
        line_mask = Const((1 << 32) - (1 << offset), 32)
        final = ((end - 1)[:32]) & line_mask
        ragged = Const(0)
        if self._config.faults.maintenance_ignores_tail:
            ragged = end[:offset].any()
        m.d.sync += [
            length_is_0.eq(csr.length == 0),
            range_last.eq(Mux(ragged, final - (1 << offset), final)),
            range_empty.eq(ragged & (final == (csr.start & line_mask))),
        ]
        # The same for the D-cache, cut to the memory window, one cycle later (a command comes two cycles after them at the
        # earliest): nothing outside is ever cached, and the walk needs no address that is not a line of the window.
        base, size = self._config.memory.base, self._config.memory.size
        top = Const(base + size - (1 << offset), 32)
        is_range = Signal()
        one_line, cut_first, cut_last = Signal(32), Signal(32), Signal(32)
        one_absent, range_absent = Signal(), Signal()
        m.d.comb += [is_range.eq(csr.cmd_scope == MaintScope.RANGE), one_line.eq(csr.start & line_mask)]
        m.d.sync += [
            cut_first.eq(Mux(one_line < base, base, one_line)),
            cut_last.eq(Mux(range_last > top, top, range_last)),
            range_absent.eq((one_line > top) | (range_last < base)),
            one_absent.eq((one_line > top) | (one_line < base)),
        ]

        # --- accepting
        is_all, is_nothing, for_d, for_i = Signal(), Signal(), Signal(), Signal()
        start = Signal()
        new_first, new_last = Signal(32), Signal(32)
        m.d.comb += [
            is_all.eq(csr.cmd_scope == MaintScope.ALL),
            is_nothing.eq((is_range & (length_is_0 | range_empty)) | (csr.cmd_target == 0) | (csr.cmd_scope == 3)),
            new_first.eq(one_line),
            new_last.eq(Mux(is_range, range_last, new_first)),
            start.eq(csr.cmd_written & (csr.cmd_op != 0) & (state == State.IDLE)),
            csr.status_busy.eq(state != State.IDLE),
            for_d.eq(csr.cmd_target[0] & (is_all | ~Mux(is_range, range_absent, one_absent))),
            for_i.eq(csr.cmd_target[1] & csr.cmd_op[1]),
        ]
        sent = Signal()  # the D-cache has the command
        command, kept = Signal.like(dcache.req.payload), Signal.like(dcache.req.payload)
        lines = Signal(32)
        m.d.comb += [
            lines.eq((cut_last - cut_first)[offset:32]),
            command.op.eq(csr.cmd_op),
            command.all.eq(is_all),
            command.many.eq(is_range & (lines >= self._config.dcache.lines)),
            command.first.eq(Mux(is_all, base, cut_first)),
            command.last.eq(Mux(is_range, cut_last, cut_first)),
            dcache.req.valid.eq((start & ~is_nothing & for_d) | ((state == State.DCACHE) & ~sent)),
            dcache.req.payload.eq(Mux(start, command, kept)),
            dcache.abort.eq(aborting & (state == State.DCACHE)),
        ]
        with m.If(dcache.req.valid & dcache.req.ready):
            m.d.sync += sent.eq(1)

        if self._config.dcache.partial_lines == "clean":
            first_is_cut, last_is_cut = Signal(), Signal()  # of the registers, as range_last; inside the memory window
            cleans, held = Signal(2), Signal(2)  # the edges of the command
            drops = is_range & (csr.cmd_op == MaintOp.INVALIDATE)
            m.d.sync += [
                first_is_cut.eq(csr.start[:offset].any() & (csr.start >= base)),
                last_is_cut.eq(end[:offset].any() & ~ragged & (end < base + size)),
                held.eq(cleans),
            ]
            m.d.comb += [
                cleans.eq(Mux(start, Mux(drops, Cat(first_is_cut, last_is_cut), 0), held)),
                Cat(edges.clean_first, edges.clean_last).eq(cleans),
            ]

        # --- the I-cache's part
        at = Signal(32)
        whole = Signal()
        progress = Signal(32)  # of the D-cache's walk if there is one; stays after the command
        with m.If(start):
            m.d.sync += [
                op.eq(csr.cmd_op),
                target.eq(csr.cmd_target),
                with_d.eq(for_d),
                kept.eq(command),
                first.eq(new_first),
                last.eq(new_last),
                at.eq(csr.start & Const((1 << 32) - (1 << i_offset), 32)),
                whole.eq(is_all | (((new_last - new_first)[:32] >> i_offset) >= self._config.icache.lines)),
                sent.eq(dcache.req.valid & dcache.req.ready),
                aborting.eq(0),
                error.eq(0),
            ]
            with m.If(is_nothing):
                m.d.sync += state.eq(State.END)
            with m.Elif(for_d):
                m.d.sync += state.eq(State.DCACHE)
            with m.Else():
                m.d.sync += state.eq(Mux(for_i, State.ICACHE, State.END))
        with m.Elif(csr.cmd_written & csr.cmd_abort & (state != State.IDLE)):
            m.d.sync += aborting.eq(1)

        ends, failed = Signal(), Signal()  # the last cycle of a command; an error of the D-cache's part
        m.d.comb += failed.eq(Mux(state == State.DCACHE, dcache.error, error))
        with m.Switch(state):
            with m.Case(State.DCACHE):
                with m.If(dcache.done):
                    m.d.sync += error.eq(dcache.error)
                    with m.If(target[1] & op[1] & ~aborting):
                        m.d.sync += state.eq(State.ICACHE)
                    with m.Else():
                        m.d.comb += ends.eq(1)
            with m.Case(State.ICACHE):
                m.d.comb += inv.req.valid.eq(1)
                with m.If(inv.req.ready):
                    m.d.sync += at.eq(at + (1 << i_offset))
                    with m.If(whole | aborting | (at[i_offset:] == last[i_offset:])):
                        m.d.sync += state.eq(State.END)
            with m.Case(State.END):
                m.d.comb += ends.eq(1)
        m.d.comb += [csr.status_done_set.eq(ends), csr.status_aborted_set.eq(ends & aborting)]
        with m.If(ends):
            m.d.sync += state.eq(State.IDLE)
        m.d.comb += [
            inv.req.payload.all.eq(whole),
            inv.req.payload.addr.eq(Mux(whole, 0, at)),
            inv.req.payload.cause.eq(Cause.MAINTENANCE),
            csr.status_error_set.eq((ends & failed) | (csr.cmd_written & (csr.cmd_op != 0) & (state != State.IDLE))),
            csr.progress.eq(progress),
        ]
        with m.If(state == State.DCACHE):
            m.d.sync += progress.eq(Mux(kept.all | kept.many, kept.first, dcache.progress))
        with m.Elif((state == State.ICACHE) & ~with_d):
            m.d.sync += progress.eq(at)

        # --- records
        p = self.probe_maint
        with m.If(start):
            m.d.comb += [
                p.valid.eq(1),
                p.record.kind.eq(Kind.MAINT_BEGIN),
                p.record.addr.eq(csr.start),
                p.record.aux.eq(Cat(csr.cmd_op, csr.cmd_scope, csr.cmd_target)),
                p.record.data.eq(csr.length),
            ]
        with m.Elif(ends):
            m.d.comb += [
                p.valid.eq(1),
                p.record.kind.eq(Kind.MAINT_END),
                p.record.addr.eq(first),
                p.record.flags.eq(Cat(failed, aborting)),
            ]
        with m.Elif(dcache.step.valid):
            m.d.comb += [
                p.valid.eq(1),
                p.record.kind.eq(Kind.MAINT_STEP),
                p.record.addr.eq(dcache.step.addr),
                p.record.flags.eq(Cat(dcache.step.present, dcache.step.dirty)),
            ]
        return m
