# SPDX-License-Identifier: BSD-2-Clause
"""The walk of a maintenance command through the D-cache's array."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import AUX_LATENCY, AuxOp, AuxSignature, Geometry, add_flight
from .ports import DCacheMaintSignature, MaintOp

__all__ = ["MaintenanceWalker"]

# From one lookup that finds a dirty line to the next, while the CPU wants the array: its bus is busy for about as long.
_DIRTY_PERIOD = 6


class MaintenanceWalker(wiring.Component):
    """Carries out one :class:`~rtl.cache.ports.DCacheMaintSignature` command after the other.

    A range that the command calls ``many``, and "all", walk the array, way after way, and pass a row of sets per cycle where
    nothing is dirty if only dirty lines matter; any other range walks its addresses. Either way it is one lookup per cycle,
    the first one cycle after the command. So the cost is bound by min(lines in the range, lines in the array).

    Clean lines in a row are looked up without a gap while the write-back buffer has any room. After a dirty one lookups start
    only if there is room for all that are under way, and a CPU that wants the array gets at least five of six slots. A
    lookup that was refused, and those behind it, are asked for again.

    An invalidating command first waits for the fills that are in flight when it comes: they are installed, and then found by the
    walk. After the walk the command waits for what the write-back buffer then holds (all of it: an older write-back of the same
    range must not land after "done"). A write-back error in that last answer delays ``done`` by one cycle.

    Members
    -------
    maint : the command. aux, way : use of the pipeline; ``way`` (one-hot) goes with ``WALK_WAY``.
    op, all, first, last, dirty_only : of the command in progress, for the pipeline (``first``, ``last`` are line
        numbers; ``dirty_only``: only dirty lines matter).
    check, check_covered : a line, and is it in the command's range, in the same cycle; meanwhile the pipeline refuses
        lookups of the command.
    row, stained : a row of sets, and while ``looks`` whether it holds a dirty line. any_dirty : of all rows.
    visited : the pipeline's report in the cycle of ``done`` or ``retry``: ``addr present dirty``, and with parity
        ``unsure``: it met a bad tag and did nothing.
    space, occupied, wb_done : of the write-back buffer; what a visit pushes is in ``occupied`` one cycle after its ``done``.
    filling : per fill slot, a fill is in flight.
    cpu_wants : the CPU has a beat to be looked up.
    """

    class State(enum.Enum, shape=3):
        IDLE = 0
        LINES = AuxOp.WALK_LINE.value  # while it walks, the state is the operation
        PLACES = AuxOp.WALK_WAY.value
        FLASH = AuxOp.FLASH.value
        DRAIN = 4

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        self._unification = config.faults.maintenance_point_of_unification
        self._never_dirty = config.dcache.write_through
        entries = config.dcache.write_entries
        super().__init__(
            {
                "maint": In(DCacheMaintSignature()),
                "aux": Out(AuxSignature(g.line_bits)),
                "op": Out(MaintOp),
                "all": Out(1),
                "dirty_only": Out(1),
                "first": Out(g.line_bits),
                "last": Out(g.line_bits, init=g.window_lines - 1),
                "way": Out(g.ways),
                "check": Out(data.StructLayout({"valid": 1, "line": g.line_bits})),
                "check_covered": In(1),
                "row": Out(range(max(g.state_rows, 2))),
                "looks": Out(1),
                "stained": In(1),
                "any_dirty": In(1),
                "visited": In(data.StructLayout({"addr": 32, "present": 1, "dirty": 1, "unsure": 1})),
                "space": In(range(entries + 1)),
                "occupied": In(entries),
                "wb_done": In(data.StructLayout({"valid": 1, "index": entries, "line": g.line_bits, "error": 1, "spoiled": 1})),
                "filling": In(config.dcache.fill_slots + 1),
                "cpu_wants": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g, maint, aux, State = self._g, self.maint, self.aux, self.State
        state, request = Signal(State), maint.req.payload
        idle, walking, in_places, in_flash = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            idle.eq(state == State.IDLE),
            walking.eq(state.as_value()[:2].any()),
            in_places.eq(state == State.PLACES),
            in_flash.eq(state == State.FLASH),
            maint.req.ready.eq(idle),
        ]
        cleans, invalidates = Signal(), Signal()
        m.d.comb += [
            cleans.eq(self.op[0]),
            invalidates.eq(self.op[1]),
            self.dirty_only.eq(~invalidates | self.all),
        ]

        # --- where it is: the next line (one bit more: it may lie behind the window), or the next set, and above it the way
        way_bits = (g.ways - 1).bit_length()
        place_bits = g.index_bits + way_bits
        at = Signal(max(g.line_bits + 1, place_bits))
        ended, next_ended = Signal(), Signal()  # the last one has been granted
        flight = add_flight(m, aux)
        stale = Signal(AUX_LATENCY)  # of those: behind one that must be repeated, and so will be repeated too
        again, skip, final, ends_row = Signal(), Signal(), Signal(), Signal()
        low, high = at[: g.span_bits], at[g.span_bits :]
        next_row = skip | low.all()  # ``skip`` passes the rest of a row at once
        following = Cat(Mux(skip, 0, low + 1)[: len(low)], Mux(next_row, high + 1, high)[: len(high)])
        m.d.comb += [
            self.row.eq(at[g.span_bits : g.index_bits]),
            self.looks.eq(state.as_value()[1]),  # PLACES, and FLASH
            self.way.eq(1 << at[g.index_bits : place_bits]),
            again.eq(aux.retry & ~stale[-1]),
            # Lookups under way would have to be counted by rows when one is refused: there are none when a row is passed.
            skip.eq(in_places & self.dirty_only & ~self.stained & ~ended & ~flight.any()),
            ends_row.eq(next_row & at[g.span_bits : place_bits].all()),
            final.eq(Mux(state == State.LINES, at[: g.line_bits] == self.last, in_flash | ends_row)),
        ]
        next_stale = Cat(aux.grant & again, stale[:-1] | again.replicate(AUX_LATENCY - 1))
        m.d.sync += stale.eq(next_stale)
        been = [
            Signal.like(at, name=f"been_{n}", reset_less=True) for n in range(AUX_LATENCY)
        ]  # where it was in the cycles before
        m.d.sync += [here.eq(there) for here, there in zip(been, [at, *been], strict=False)]

        # --- may it go on?
        waited = Signal(len(self.filling))  # fills that were in flight when an invalidating command came
        slow = Signal()  # the last visit found a dirty line to be written back
        pause = Signal(_DIRTY_PERIOD - 1 - AUX_LATENCY)
        by_rows, next_by_rows = Signal(), Signal()  # only rows with a dirty line are looked up
        found_dirty, now_slow = Signal(), Signal()
        room, yields = Signal(), Signal()  # there is room in the buffer; the CPU comes first
        may = Signal()  # it may go on: all that is known in the cycle before, because who asks must be known early
        still = self.filling & Mux(idle, request.op[1].replicate(len(waited)), waited)
        m.d.comb += [
            found_dirty.eq(self.visited.dirty & cleans),
            now_slow.eq(Mux(flight[-1], found_dirty, slow)),
            aux.op.eq(state.as_value()[:2]),
            aux.line.eq(at),
            aux.valid.eq(walking & ~maint.abort & may),
            room.eq(Mux(now_slow, self.space > sum(flight) + aux.grant, self.space != 0)),
            yields.eq((now_slow & (flight[:-1].any() | aux.grant)) | (flight[-1] & found_dirty) | pause[:-1].any()),
        ]
        m.d.sync += [
            may.eq(
                ~next_ended
                & ~still.any()
                & ~next_stale.any()  # those still act, and could refuse the repeated one in their turn, for ever
                & (Mux(idle, ~request.op[0], ~cleans) | (room & ~(self.cpu_wants & yields)))
                & ((self.stained & ~idle) | ~next_by_rows)
            ),
            by_rows.eq(next_by_rows),
            pause.eq(Cat(flight[-1] & found_dirty, pause)),
            waited.eq(still),
        ]
        with m.If(flight[-1]):
            m.d.sync += slow.eq(found_dirty)

        # --- the walk
        leaves = Signal()
        m.d.comb += leaves.eq(
            (ended | maint.abort | (in_places & self.dirty_only & ~self.any_dirty)) & ~aux.valid & ~flight[:-1].any() & ~again
        )
        in_rows = (request.all & (request.op != MaintOp.INVALIDATE)) | (request.many & ~request.op[1])
        m.d.comb += next_by_rows.eq(Mux(idle, in_rows, by_rows & ~leaves))
        with m.If(idle | aux.grant | again | skip):
            # On by one, or back to the lookup that was refused.
            m.d.sync += at.eq(Mux(idle, g.line_of(request.first), Mux(again, been[-1], following)))
        m.d.comb += next_ended.eq(~(again | leaves | idle) & Mux(aux.grant | skip, final, ended))
        m.d.sync += ended.eq(next_ended)
        with m.If(walking & leaves):
            m.d.sync += state.eq(Mux(in_places & self.all & invalidates & ~maint.abort, State.FLASH, State.DRAIN))

        wb_failed = Signal()
        m.d.comb += wb_failed.eq(self.wb_done.valid & (self.wb_done.error | self.wb_done.spoiled))

        # --- the end: everything that was in the write-back buffer when the walk ended has been answered
        awaited, left = Signal(len(self.occupied)), Signal(len(self.occupied))
        draining = Signal()  # awaited is valid
        finished = Signal()
        error = Signal()
        m.d.comb += [
            left.eq(Mux(draining, awaited, self.occupied) & ~Mux(self.wb_done.valid, self.wb_done.index, 0)),
            finished.eq((state == State.DRAIN) & ((left == 0) | Mux(self._unification, cleans, 0)) & ~wb_failed),
            maint.done.eq(finished),
            maint.error.eq(error | (self.check.valid & self.check_covered)),
            maint.aborted.eq(maint.abort),
        ]
        m.d.sync += [
            awaited.eq(left),
            draining.eq(state == State.DRAIN),
            # One cycle later, so that the comparison is not in B's path.
            self.check.valid.eq(~idle & wb_failed),
            self.check.line.eq(self.wb_done.line),
            error.eq((maint.error | (flight[-1] & self.visited.unsure)) & ~idle),
        ]
        with m.If(finished):
            m.d.sync += state.eq(State.IDLE)

        # --- the next command. What follows is overwritten until it is valid.
        with m.If(idle):
            m.d.sync += [
                self.op.eq(request.op),
                self.all.eq(request.all),
                self.first.eq(g.line_of(request.first)),
                self.last.eq(g.line_of(request.last)),
                slow.eq(0),
            ]
            with m.If(maint.req.valid):
                m.d.sync += state.eq(
                    Mux(
                        request.all & (request.op == MaintOp.INVALIDATE),
                        State.FLASH,
                        Mux(request.all | request.many, State.PLACES, State.LINES),
                    )
                )
                if self._never_dirty:  # a clean has nothing to look for
                    with m.If(request.op == MaintOp.CLEAN):
                        m.d.sync += state.eq(State.DRAIN)

        # Written last, these are the flip-flops' own resets.
        with m.If(idle & request.all):
            m.d.sync += [self.first.eq(0), self.last.eq(g.window_lines - 1)]
        with m.If(idle & (request.all | request.many)):
            m.d.sync += at.eq(0)

        # --- reports. The window is aligned, so a line's address needs no sum, and the line behind the last one another constant.
        size_bits = g.window_bits - g.offset_bits
        pages = [(g.base >> g.window_bits) + n for n in (0, 1)]
        m.d.comb += [
            maint.progress.eq(Cat(Const(0, g.offset_bits), at[:size_bits], Mux(at[size_bits], pages[1], pages[0]))),
            maint.step.valid.eq(aux.done & ~in_flash),
            maint.step.addr.eq(self.visited.addr),
            maint.step.present.eq(self.visited.present),
            maint.step.dirty.eq(self.visited.dirty),
        ]
        return m
