# SPDX-License-Identifier: BSD-2-Clause
"""The walk of a maintenance command through the D-cache's array."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import AuxOp, AuxSignature, Geometry
from .ports import DCacheMaintSignature, MaintOp

__all__ = ["MaintenanceWalker"]


class MaintenanceWalker(wiring.Component):
    """Carries out one :class:`~rtl.cache.ports.DCacheMaintSignature` command after the other.

    A range with fewer lines than the array walks its addresses, one lookup per cycle; any larger one, and "all", walks the
    array itself, where it skips clean lines if only dirty ones matter (a row of sets per cycle where nothing is dirty). So the
    cost is bound by min(lines in the range, lines in the array). Lookups that must write back are issued only while the
    write-back buffer has room for those under way; one that loses the room to the CPU is asked for again. Every other
    slot is left to a CPU that wants it.

    An invalidating command first waits for the fills that are in flight when it comes: they are installed, and then found by the
    walk. After the walk the command waits for what the write-back buffer then holds (all of it: an older write-back of the same
    range must not land after "done").

    Members
    -------
    maint : the command. aux, way : use of the pipeline; ``way`` (one-hot) goes with ``WALK_WAY``.
    op, all, first, last, dirty_only : of the command in progress, for the pipeline (``first``, ``last`` are line
        numbers; ``dirty_only``: only dirty lines matter).
    row, dirty : dirty bits of a row of sets, way after way. any_dirty : of all rows.
    visited : the pipeline's report for ``step``: ``addr present dirty``.
    filling : per fill slot, a fill is in flight.
    cpu_wants : the CPU has a beat to be looked up.
    """

    class State(enum.Enum, shape=3):
        IDLE = 0
        BEGIN = 1
        LINES = 2
        PLACES = 3
        FLASH = 4
        DRAIN = 5

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        self._lines = config.dcache.lines
        self._unification = config.faults.maintenance_point_of_unification
        entries = config.dcache.write_buffer_lines
        super().__init__(
            {
                "maint": In(DCacheMaintSignature()),
                "aux": Out(AuxSignature(g.line_bits)),
                "op": Out(MaintOp),
                "all": Out(1),
                "dirty_only": Out(1),
                "first": Out(g.line_bits),
                "last": Out(g.line_bits),
                "way": Out(g.ways),
                "row": Out(range(max(g.state_rows, 2))),
                "dirty": In(g.span * g.ways),
                "any_dirty": In(1),
                "visited": In(data.StructLayout({"addr": 32, "present": 1, "dirty": 1})),
                "space": In(range(entries + 1)),
                "occupied": In(entries),
                "wb_done": In(data.StructLayout({"valid": 1, "index": entries, "line": g.line_bits, "error": 1})),
                "filling": In(config.dcache.fill_slots + 1),
                "cpu_wants": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g, maint, aux, State = self._g, self.maint, self.aux, self.State
        state = Signal(State)
        running = Signal()
        m.d.comb += running.eq(state != State.IDLE)

        # --- the command, cut to the memory window: nothing outside is ever cached
        request = maint.req.payload
        top = (1 << 32) - 1 if g.window_bits >= 32 else g.base + (1 << g.window_bits) - 1
        absent, above = Signal(), Signal()
        m.d.comb += [
            maint.req.ready.eq(~running),
            absent.eq((request.last < g.base) | (request.first > top) | (request.first > request.last)),
            above.eq(request.last > top),
        ]
        empty = Signal()
        error = Signal()
        with m.If(maint.req.valid & ~running):
            m.d.sync += [
                state.eq(State.BEGIN),
                self.op.eq(request.op),
                self.all.eq(request.all),
                self.first.eq(Mux(request.all | (request.first < g.base), 0, g.line_of(request.first))),
                self.last.eq(Mux(request.all | above, g.window_lines - 1, g.line_of(request.last))),
                empty.eq(~request.all & absent),
                error.eq(0),
            ]
        cleans, invalidates = Signal(), Signal()
        m.d.comb += [
            cleans.eq(self.op[0]),
            invalidates.eq(self.op[1]),
            self.dirty_only.eq(~invalidates | self.all),
        ]

        # --- the next line, or the next place in the array
        pos_bits = g.span_bits + (g.ways - 1).bit_length()  # within a row: way after way
        row_bits = g.index_bits - g.span_bits
        at = Signal(max(g.line_bits + 1, pos_bits + row_bits))  # next line (LINES; may lie behind the window) or place (PLACES)
        ended = Signal()  # the last one has been granted
        by_lines = Signal()  # this command walks addresses
        here, lowest = Signal(g.span * g.ways), Signal(g.span * g.ways)
        place, place_found = Signal(pos_bits), Signal()
        m.d.comb += [
            self.row.eq(at[pos_bits : pos_bits + row_bits]),
            here.eq((self.dirty | ~self.dirty_only.replicate(len(here))) & ((-1 << at[:pos_bits])[: len(here)])),
            lowest.eq(here & -here),
            place_found.eq(here.any()),
            place.eq(Cat(Cat(lowest[n] for n in range(len(here)) if n >> bit & 1).any() for bit in range(pos_bits))),
        ]
        chosen = Signal(pos_bits + row_bits)  # the place to visit, registered: the search is not in the array's address path
        chosen_valid = Signal()
        in_second = Signal()  # a lookup of the walk is in the second stage
        granted = Signal(len(at))  # what that lookup was for
        again = Signal()
        stale = Signal()  # that lookup lies behind one that must be repeated, and so will be repeated too
        room = Signal()
        # After a dirty line the bus is busy for a while: a CPU that hits meanwhile has the array for itself, and a clean takes
        # six slots per line beside it, not four.
        pause = Signal(3)
        with m.If(in_second & self.visited.dirty & cleans):
            m.d.sync += pause.eq(4)
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        m.d.comb += [
            again.eq(aux.retry & ~stale),
            room.eq((~cleans | (self.space > in_second)) & ~((pause != 0) & self.cpu_wants)),
        ]
        m.d.sync += [in_second.eq(aux.grant), stale.eq(aux.grant & again)]
        with m.If(aux.grant):
            m.d.sync += granted.eq(Mux(state == State.LINES, at, chosen))
        waited, waits = Signal(len(self.filling)), Signal(len(self.filling))  # fills that were in flight when the command came
        began = Signal()
        m.d.comb += waits.eq(Mux(began, waited, -1) & self.filling & Mux(invalidates & ~empty & ~maint.abort, -1, 0))
        m.d.sync += [waited.eq(waits), began.eq(state == State.BEGIN)]
        m.d.comb += self.way.eq(1 << chosen[g.span_bits : pos_bits] if g.ways > 1 else 1)

        with m.Switch(state):
            with m.Case(State.BEGIN):
                m.d.sync += [ended.eq(0), chosen_valid.eq(0), by_lines.eq(0)]
                with m.If(waits.any()):
                    pass
                with m.Elif(empty):
                    m.d.sync += state.eq(State.DRAIN)
                with m.Elif(self.all & (self.op == MaintOp.INVALIDATE)):
                    m.d.comb += [aux.op.eq(AuxOp.FLASH), aux.valid.eq(1)]
                    m.d.sync += state.eq(State.FLASH)
                with m.Elif(self.all & ~self.any_dirty):
                    m.d.sync += state.eq(Mux(invalidates, State.FLASH, State.DRAIN))
                with m.Elif(self.all | ((self.last - self.first)[: g.line_bits] >= self._lines)):
                    m.d.sync += [state.eq(State.PLACES), at.eq(0)]
                with m.Else():
                    m.d.sync += [state.eq(State.LINES), at.eq(self.first), by_lines.eq(1)]
            with m.Case(State.LINES):
                m.d.comb += [aux.op.eq(AuxOp.WALK_LINE), aux.line.eq(at), aux.valid.eq(~ended & ~maint.abort & room)]
                with m.If(aux.grant):
                    m.d.sync += [at.eq(at + 1), ended.eq(at[: g.line_bits] == self.last)]
                with m.If(again):
                    m.d.sync += [at.eq(granted), ended.eq(0)]
                with m.Elif((ended | maint.abort) & ~aux.grant):
                    m.d.sync += state.eq(State.DRAIN)
            with m.Case(State.PLACES):
                m.d.comb += [
                    aux.op.eq(AuxOp.WALK_WAY),
                    aux.line.eq(Cat(chosen[: g.span_bits], chosen[pos_bits:])),
                    aux.valid.eq(chosen_valid & ~maint.abort & room),
                ]
                with m.If(aux.grant | ~chosen_valid):
                    following = Signal(pos_bits + row_bits + 1)
                    m.d.comb += following.eq(
                        Mux(
                            place_found,
                            Cat(place, at[pos_bits : pos_bits + row_bits]) + 1,
                            Cat(Const(-1, pos_bits), at[pos_bits : pos_bits + row_bits]) + 1,
                        )
                    )
                    m.d.sync += [
                        chosen.eq(Cat(place, at[pos_bits : pos_bits + row_bits])),
                        chosen_valid.eq(place_found & ~ended),
                    ]
                    with m.If(~ended):
                        m.d.sync += [at.eq(following[:-1]), ended.eq(following[-1])]
                with m.If(again):  # visited again at once; the search goes on behind it
                    behind = Signal(pos_bits + row_bits + 1)
                    m.d.comb += behind.eq(granted[: pos_bits + row_bits] + 1)
                    m.d.sync += [
                        chosen.eq(granted),
                        chosen_valid.eq(1),
                        at.eq(behind[:-1]),
                        ended.eq(behind[-1]),
                    ]
                with m.Elif(((ended & ~chosen_valid) | maint.abort) & ~aux.grant):
                    m.d.sync += state.eq(Mux(self.all & invalidates & ~maint.abort, State.FLASH, State.DRAIN))
            with m.Case(State.FLASH):
                m.d.comb += [aux.op.eq(AuxOp.FLASH), aux.valid.eq(~in_second & ~maint.abort)]
                with m.If(aux.done | (maint.abort & ~in_second)):
                    m.d.sync += state.eq(State.DRAIN)

        # --- the end: everything that was in the write-back buffer when the walk ended has been answered
        awaited = Signal(len(self.occupied))
        draining = Signal()  # awaited is valid
        left = Signal(len(self.occupied))
        finished = Signal()
        m.d.comb += left.eq(Mux(draining, awaited, self.occupied) & ~Mux(self.wb_done.valid, self.wb_done.index, 0))
        m.d.sync += awaited.eq(left)
        m.d.sync += draining.eq((state == State.DRAIN) & ~in_second)
        buffered_is_enough = cleans if self._unification else 0
        m.d.comb += finished.eq((state == State.DRAIN) & ~in_second & ((left == 0) | buffered_is_enough))
        in_range = Signal()
        m.d.comb += in_range.eq(self.all | ((self.wb_done.line >= self.first) & (self.wb_done.line <= self.last)))
        with m.If(running & self.wb_done.valid & self.wb_done.error & in_range):
            m.d.sync += error.eq(1)
        with m.If(finished):
            m.d.sync += state.eq(State.IDLE)
        m.d.comb += [
            maint.done.eq(finished),
            maint.error.eq(error | (self.wb_done.valid & self.wb_done.error & in_range)),
            maint.aborted.eq(maint.abort),
            maint.progress.eq(((Mux(by_lines, at[: g.line_bits + 1], self.first) << g.offset_bits) + g.base)[:32]),
            maint.step.valid.eq(in_second & (aux.op != AuxOp.FLASH) & ((state == State.LINES) | (state == State.PLACES))),
            maint.step.addr.eq(self.visited.addr),
            maint.step.present.eq(self.visited.present),
            maint.step.dirty.eq(self.visited.dirty),
        ]
        return m
