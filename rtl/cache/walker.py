# SPDX-License-Identifier: BSD-2-Clause
"""The walk of a maintenance command through the D-cache's array."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import AuxOp, AuxSignature, Geometry
from .ports import DCacheMaintSignature, MaintOp

__all__ = ["MaintenanceWalker", "find_first"]

_GROUP = 64


def find_first(m: Module, name: str, mask) -> tuple[Signal, Signal]:
    """Adds a priority encoder; returns ``(any, index of the lowest 1)``."""
    index = Signal(range(max(len(mask), 2)), name=f"{name}_index")
    found = Signal(name=f"{name}_found")
    lowest = Signal(len(mask), name=f"{name}_lowest")
    m.d.comb += [found.eq(mask.any()), lowest.eq(mask & -mask)]
    for bit in range(len(index)):
        m.d.comb += index[bit].eq(Cat(lowest[n] for n in range(len(mask)) if n >> bit & 1).any())
    return found, index


class MaintenanceWalker(wiring.Component):
    """Carries out one :class:`~rtl.cache.ports.DCacheMaintSignature` command after the other.

    A range with fewer lines than the array walks its addresses, one lookup per cycle; any larger one, and "all", walks
    the sets that have a candidate (a dirty line, or a valid one where clean lines leave too), so that the cost is bound by
    min(lines in the range, lines in the array). Lookups that must write back are issued only while the write-back buffer
    has room for those under way; one that loses the room to the CPU is asked for again. Every other slot is left to a
    CPU that wants it.

    After the walk the command waits for what the write-back buffer then holds (all of it: an older write-back of the same
    range must not land after "done"), and for the fills in flight that it told to drop.

    Members
    -------
    maint : the command. aux : use of the pipeline.
    op, all, first, last, dirty_only : of the command in progress, for the pipeline (``first``, ``last`` are line
        numbers; ``dirty_only``: a set visit takes dirty lines only).
    drop_fills : fills in flight of the range (of everything) must not be installed: one cycle, the one after acceptance.
    more : with ``aux.done`` of a set visit: the set holds further candidates.
    visited : the pipeline's report for ``step``: ``addr present dirty``.
    cpu_wants : the CPU has a beat to be looked up.
    """

    class State(enum.Enum, shape=3):
        IDLE = 0
        BEGIN = 1
        LINES = 2
        SETS = 3
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
                "drop_fills": Out(1),
                "more": In(1),
                "visited": In(data.StructLayout({"addr": 32, "present": 1, "dirty": 1})),
                "valid_sets": In(g.sets),
                "dirty_sets": In(g.sets),
                "space": In(range(entries + 1)),
                "occupied": In(entries),
                "wb_done": In(data.StructLayout({"valid": 1, "index": entries, "line": g.line_bits, "error": 1})),
                "fills_dropping": In(1),
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
            self.drop_fills.eq((state == State.BEGIN) & invalidates & ~empty),
        ]

        # --- the next line, or the next set with a candidate
        at = Signal(g.line_bits)  # next line (LINES) or next set (SETS)
        ended = Signal()  # the last one has been granted
        by_lines = Signal()  # this command walks addresses
        candidates = Signal(g.sets)
        m.d.comb += candidates.eq(Mux(self.dirty_only, self.dirty_sets, self.valid_sets))
        group_size = min(_GROUP, g.sets)
        groups = g.sets // group_size
        low_bits = (group_size - 1).bit_length()
        group = at[low_bits : g.index_bits] if groups > 1 else 0
        here = Signal(group_size)
        m.d.comb += here.eq(candidates.word_select(group, group_size) & ((-1 << at[:low_bits])[:group_size]))
        found, found_low = find_first(m, "set", here)
        chosen = Signal(g.index_bits)  # the set to visit, registered: the search is not in the array's address path
        chosen_valid = Signal()
        in_second = Signal()  # a lookup of the walk is in the second stage
        granted_line = Signal(g.line_bits)  # what that lookup was for
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
            again.eq((aux.retry | (aux.done & self.more)) & ~stale),
            room.eq((~cleans | (self.space > in_second)) & ~((pause != 0) & self.cpu_wants)),
        ]
        m.d.sync += [in_second.eq(aux.grant), stale.eq(aux.grant & again)]
        with m.If(aux.grant):
            m.d.sync += granted_line.eq(aux.line)

        with m.Switch(state):
            with m.Case(State.BEGIN):
                # One cycle, in which the fills in flight are told; the first lookup comes after it.
                m.d.sync += [ended.eq(0), chosen_valid.eq(0), by_lines.eq(0)]
                with m.If(empty):
                    m.d.sync += state.eq(State.DRAIN)
                with m.Elif(self.all & (self.op == MaintOp.INVALIDATE)):
                    m.d.comb += [aux.op.eq(AuxOp.FLASH), aux.valid.eq(1)]
                    m.d.sync += state.eq(State.FLASH)
                with m.Elif(self.all & (self.dirty_sets == 0)):
                    m.d.sync += state.eq(Mux(invalidates, State.FLASH, State.DRAIN))
                with m.Elif(self.all | ((self.last - self.first)[: g.line_bits] >= self._lines)):
                    m.d.sync += [state.eq(State.SETS), at.eq(0)]
                with m.Else():
                    m.d.sync += [state.eq(State.LINES), at.eq(self.first), by_lines.eq(1)]
            with m.Case(State.LINES):
                m.d.comb += [aux.op.eq(AuxOp.WALK_LINE), aux.line.eq(at), aux.valid.eq(~ended & ~maint.abort & room)]
                with m.If(aux.grant):
                    m.d.sync += [at.eq(at + 1), ended.eq(at == self.last)]
                with m.If(again):
                    m.d.sync += [at.eq(granted_line), ended.eq(0)]
                with m.Elif((ended | maint.abort) & ~aux.grant):
                    m.d.sync += state.eq(State.DRAIN)
            with m.Case(State.SETS):
                m.d.comb += [
                    aux.op.eq(AuxOp.WALK_SET),
                    aux.line.eq(chosen),
                    aux.valid.eq(chosen_valid & ~maint.abort & room),
                ]
                with m.If(aux.grant | ~chosen_valid):
                    base = Cat(found_low[:low_bits], group) if groups > 1 else found_low[:low_bits]
                    m.d.sync += [chosen.eq(base), chosen_valid.eq(found & ~ended)]
                    following = Signal(g.index_bits + 1)
                    if groups > 1:
                        m.d.comb += following.eq(Mux(found, base + 1, Cat(at[:low_bits] & 0, (group + 1))))
                    else:
                        m.d.comb += following.eq(Mux(found, base + 1, g.sets))
                    with m.If(~ended):
                        m.d.sync += [at.eq(following[: g.index_bits]), ended.eq(following[-1])]
                with m.If(again):  # visited again at once; the search goes on behind it
                    behind = Signal(g.index_bits + 1)
                    m.d.comb += behind.eq(granted_line[: g.index_bits] + 1)
                    m.d.sync += [
                        chosen.eq(granted_line),
                        chosen_valid.eq(1),
                        at.eq(behind[: g.index_bits]),
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
        m.d.comb += left.eq(Mux(draining, awaited, self.occupied))
        m.d.sync += awaited.eq(left & ~Mux(self.wb_done.valid, self.wb_done.index, 0))
        m.d.sync += draining.eq((state == State.DRAIN) & ~in_second)
        buffered_is_enough = cleans if self._unification else 0
        m.d.comb += finished.eq(
            (state == State.DRAIN) & ~in_second & ((left == 0) | buffered_is_enough) & ~(invalidates & self.fills_dropping)
        )
        in_range = Signal()
        m.d.comb += in_range.eq(self.all | ((self.wb_done.line >= self.first) & (self.wb_done.line <= self.last)))
        with m.If(running & self.wb_done.valid & self.wb_done.error & in_range):
            m.d.sync += error.eq(1)
        with m.If(finished):
            m.d.sync += state.eq(State.IDLE)
        m.d.comb += [
            maint.done.eq(finished),
            maint.error.eq(error),
            maint.aborted.eq(maint.abort),
            maint.progress.eq(g.address_of(Mux(by_lines, at, self.first))),
            maint.step.valid.eq(in_second & (aux.op != AuxOp.FLASH) & ((state == State.LINES) | (state == State.SETS))),
            maint.step.addr.eq(self.visited.addr),
            maint.step.present.eq(self.visited.present),
            maint.step.dirty.eq(self.visited.dirty),
        ]
        with m.If(by_lines & ended):  # at may have wrapped
            m.d.comb += maint.progress.eq((g.address_of(self.last) + g.line_bytes)[:32])
        return m
