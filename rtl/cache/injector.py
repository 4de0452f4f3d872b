# SPDX-License-Identifier: BSD-2-Clause
"""What a CPU's cache may do at any time, on demand: evictions at random, and one line by command."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import AuxOp, AuxSignature, Geometry, add_pending
from .onehot import lowest
from .ring import Ring

__all__ = ["EvictionInjector", "LineCommand"]


class EvictionInjector(wiring.Component):
    """Evicts a pseudo-random dirty line every ``interval`` cycles on average, while ``enable``.

    A coin is flipped every 2 * (``interval`` // 4) cycles, or every cycle if ``interval`` is below 4; heads begin a search. So
    the time from one search to the next is geometric with a mean of ``interval``, rounded down to a multiple of 4 (at least 2).
    The search goes on from a random set, row by row of sets, over a row without a dirty line in one cycle, and evicts a
    dirty line of the first set that has one; without any in the array it ends. A search that is begun during another is lost,
    and one is held up while ``held``.

    Everything random comes from an LFSR (x^33 + x^13 + 1) that steps while enabled, so it depends on the seed and on the cycles
    spent enabled only. The seed chooses the bits of the LFSR whose sum is the next random bit: that is the LFSR's sequence from
    another place on for each seed, and the LFSR itself always begins at the same. ``reseed`` begins the sequence of ``seed``
    anew, restarts the time and ends a search; it wins over a step.

    Parameters
    ----------
    config : geometry of the D-cache.

    Members
    -------
    restart : the time to the next coin begins anew (``interval`` may have changed).
    row, stained : a row of sets, and whether it holds a dirty line, in the same cycle, unless ``held``: somebody else is told
        about a row of his own. any_dirty : of all rows.
    evicted : with ``aux.done``: a dirty line was found.
    """

    # Where the LFSR begins: ones all over it, so that any two seeds differ in their first bits.
    _BEGIN = 0x1_9E37_79B9

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        super().__init__(
            {
                "enable": In(1),
                "interval": In(16),
                "restart": In(1),
                "seed": In(32),
                "reseed": In(1),
                "row": Out(range(max(g.state_rows, 2))),
                "stained": In(1),
                "held": In(1),
                "any_dirty": In(1),
                "evicted": In(1),
                "aux": Out(AuxSignature(g.line_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g, aux = self._g, self.aux
        lfsr, coins = Signal(33, init=self._BEGIN), Signal(8)  # and its newest bits
        pending = add_pending(m, aux)
        with m.If(self.enable):
            m.d.sync += [lfsr.eq(Cat(lfsr[32] ^ lfsr[19], lfsr)), coins.eq(Cat((lfsr & Cat(self.seed, 1)).xor(), coins))]
        with m.If(self.reseed):
            m.d.sync += [lfsr.eq(lfsr.init), coins.eq(0)]

        # --- when: the time's lowest bit is not compared, so that 1, where it begins, is the end of the shortest interval
        time = Signal(15, init=1)
        expires = Signal()
        m.d.comb += expires.eq(time[1:] == self.interval[2:])
        with m.If(self.enable):
            m.d.sync += time.eq(time + 1)
        with m.If((self.enable & expires) | self.restart | self.reseed):
            m.d.sync += time.eq(1)

        # --- where: between searches the set moves on at random
        searching, passes = Signal(), Signal()
        row_stained = Signal()  # in the cycle before: who asks must not depend on the search for a row
        row, place = Ring(g.state_rows, name="row_at"), Ring(g.span, name="place")
        moves = Signal()
        m.d.comb += [
            passes.eq(searching & ~self.stained & ~self.held & ~pending),
            moves.eq(Mux(searching, aux.done & ~self.evicted, self.enable & coins[-1])),
        ]
        m.d.sync += row_stained.eq(self.stained & ~self.held)
        with m.If(moves):
            m.d.sync += place.row.eq(place.following())
        with m.If((moves & place.points(g.span - 1)) | passes):
            m.d.sync += row.row.eq(row.following())
        with m.If(self.enable & expires & coins[0]):
            m.d.sync += searching.eq(1)
        with m.If((searching & ((aux.done & self.evicted) | ~self.any_dirty)) | ~self.enable):
            m.d.sync += searching.eq(0)
        with m.If(self.reseed):
            m.d.sync += [searching.eq(0), row.row.eq(0)]
        with m.If(passes | self.reseed):
            m.d.sync += place.row.eq(0)
        m.d.comb += [
            aux.valid.eq(searching & self.enable & row_stained & ~pending),
            aux.op.eq(AuxOp.EVICT_SET),
            aux.line.eq(Cat(place.row, row.row)),
            self.row.eq(row.row),
        ]
        return m


class LineCommand(wiring.Component):
    """``dcache.inject_cmd``: evict, write back and prefetch one line, in this order if several are asked for at once; with
    parity, then an upset of a byte, or of the line's tag.

    A command while ``busy`` is ignored, and so is a line outside the memory window. ``busy`` ends when the line's
    write-back has been answered, and its fill installed (or dropped because of an error).

    Members
    -------
    start : one cycle, with ``evict``, ``writeback``, ``prefetch`` and ``addr``; with parity ``flip_data`` and ``flip_tag``.
    upset : with parity: what the operation ``UPSET`` inverts.
    slot_free : the prefetch slot is free.
    """

    class State(enum.Enum, shape=2):
        IDLE = 0
        ACT = 1
        WAIT = 2

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        upset = data.StructLayout({"tag": 1, "word": g.word_bits, "byte": range(g.data_bytes)})
        super().__init__(
            ({"flip_data": In(1), "flip_tag": In(1), "upset": Out(upset)} if g.parity else {})
            | {
                "start": In(1),
                "evict": In(1),
                "writeback": In(1),
                "prefetch": In(1),
                "addr": In(32),
                "slot_free": In(1),
                "busy": Out(1),
                "aux": Out(AuxSignature(g.line_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g, aux, State = self._g, self.aux, self.State
        state = Signal(State)
        asked = Cat(self.evict, self.writeback, self.prefetch)
        if g.parity:
            asked = Cat(asked, self.flip_data, self.flip_tag)
        todo = Signal(len(asked))  # evict, write back, prefetch, upset of a byte, of the tag
        now = Signal(len(asked))
        pending = add_pending(m, aux)
        m.d.comb += [self.busy.eq(state != State.IDLE), now.eq(lowest(todo))]
        if g.parity:
            at = Signal(g.offset_bits)
            m.d.comb += [
                self.upset.tag.eq(now[4]),
                self.upset.byte.eq(at[: g.byte_bits]),
                self.upset.word.eq(at[g.byte_bits :]),
            ]
            with m.If(state == State.IDLE):
                m.d.sync += at.eq(self.addr)
        with m.Switch(state):
            with m.Case(State.IDLE):
                with m.If(self.start & asked.any() & g.in_window(self.addr)):
                    m.d.sync += [state.eq(State.ACT), todo.eq(asked), aux.line.eq(g.line_of(self.addr))]
            with m.Case(State.ACT):
                # The pipeline asks again for a line that is being filled; a prefetch also waits for its line's write-back.
                m.d.comb += [
                    aux.op.eq(Mux(now[0], AuxOp.EVICT_LINE, Mux(now[1], AuxOp.CLEAN_LINE, AuxOp.PREFETCH))),
                    aux.valid.eq(~pending & ~(now[2] & ~self.slot_free)),
                ]
                if g.parity:
                    with m.If(now[3:].any()):
                        m.d.comb += aux.op.eq(AuxOp.UPSET)
                with m.If(aux.done):
                    m.d.sync += [todo.eq(todo & ~now), state.eq(State.WAIT)]
            with m.Case(State.WAIT):
                m.d.comb += [aux.op.eq(AuxOp.QUIET), aux.valid.eq(~pending)]
                with m.If(aux.done):
                    m.d.sync += state.eq(Mux(todo == 0, State.IDLE, State.ACT))
        return m
