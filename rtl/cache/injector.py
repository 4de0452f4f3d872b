# SPDX-License-Identifier: BSD-2-Clause
"""What a CPU's cache may do at any time, on demand: evictions at random, and one line by command."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import AuxOp, AuxSignature, Geometry

__all__ = ["EvictionInjector", "LineCommand"]


class EvictionInjector(wiring.Component):
    """Evicts a pseudo-random dirty line every ``interval`` cycles on average, while ``enable``.

    The time to the next eviction is uniform in 0 .. 2 * interval - 1 (an interval of 0 counts as 1). At that moment the
    search for a dirty line starts at a random set, one set per cycle; time goes on meanwhile. With no dirty line nothing
    is evicted. The LFSR (x^32 + x^22 + x^2 + x + 1) steps only while enabled; ``reseed`` loads ``seed`` (0 loads 1) and
    restarts the time.

    Parameters
    ----------
    config : geometry of the D-cache.

    Members
    -------
    row, dirty : dirty bits of a row of sets, per way.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        super().__init__(
            {
                "enable": In(1),
                "interval": In(16),
                "seed": In(32),
                "reseed": In(1),
                "row": Out(range(max(g.state_rows, 2))),
                "dirty": In(g.span * g.ways),
                "aux": Out(AuxSignature(g.line_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        g, aux = self._g, self.aux
        lfsr = Signal(32, init=1)
        taps = lfsr[31] ^ lfsr[21] ^ lfsr[1] ^ lfsr[0]

        # uniform below 2 * interval by rejection: bits under the next power of two, taken if small enough
        limit, cover, sample = Signal(17), Signal(17), Signal(17)
        m.d.comb += [
            limit.eq(Mux(self.interval == 0, 1, (self.interval << 1) - 1)),
            cover.eq(Cat(limit[n:].any() for n in range(17))),
            sample.eq(Cat(lfsr[5 + n] for n in range(17)) & cover),
        ]
        time = Signal(17)
        drawn = Signal()  # time is valid
        searching, in_second = Signal(), Signal()
        at = Signal(g.index_bits)
        left = Signal(g.index_bits + 1)
        with m.If(self.enable):
            m.d.sync += lfsr.eq(Cat(taps, lfsr))
            with m.If(~drawn):
                m.d.sync += [time.eq(sample), drawn.eq(sample <= limit)]
            with m.Elif(time == 0):
                m.d.sync += drawn.eq(0)
            with m.Else():
                m.d.sync += time.eq(time - 1)
        with m.If(searching):
            here = Cat(self.dirty.word_select(way, g.span).bit_select(at[: g.span_bits], 1) for way in range(g.ways))
            with m.If(here.any()):
                m.d.comb += aux.valid.eq(~in_second & self.enable)
            with m.Else():
                m.d.sync += [at.eq(at + 1), left.eq(left - 1)]
            with m.If((left == 0) | aux.done | ~self.enable):
                m.d.sync += searching.eq(0)
        with m.Elif(self.enable & drawn & (time == 0)):
            m.d.sync += [searching.eq(1), at.eq(lfsr[: g.index_bits] ^ (lfsr >> 20)[: g.index_bits]), left.eq(g.sets)]
        m.d.sync += in_second.eq(aux.grant)
        m.d.comb += [aux.op.eq(AuxOp.EVICT_SET), aux.line.eq(at), self.row.eq(at[g.span_bits :])]
        with m.If(self.reseed):
            m.d.sync += [lfsr.eq(Mux(self.seed == 0, 1, self.seed)), drawn.eq(0), searching.eq(0)]
        return m


class LineCommand(wiring.Component):
    """``dcache.inject_cmd``: evict, write back and prefetch one line, in this order if several are asked for at once.

    A command while ``busy`` is ignored, and so is a line outside the memory window. ``busy`` ends when the line's
    write-back has been answered, and its fill installed (or dropped because of an error).

    Members
    -------
    start : one cycle, with ``evict``, ``writeback``, ``prefetch`` and ``addr``.
    slot_free : the prefetch slot is free.
    """

    class State(enum.Enum, shape=2):
        IDLE = 0
        ACT = 1
        WAIT = 2

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        super().__init__(
            {
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
        todo = Signal(3)  # evict, write back, prefetch
        now = Signal(3)
        in_second = Signal()
        m.d.sync += in_second.eq(aux.grant)
        m.d.comb += [self.busy.eq(state != State.IDLE), now.eq(todo & -todo)]
        with m.Switch(state):
            with m.Case(State.IDLE):
                asked = Cat(self.evict, self.writeback, self.prefetch)
                with m.If(self.start & asked.any() & g.in_window(self.addr)):
                    m.d.sync += [state.eq(State.ACT), todo.eq(asked), aux.line.eq(g.line_of(self.addr))]
            with m.Case(State.ACT):
                # The pipeline asks again for a line that is being filled; a prefetch also waits for its line's write-back.
                m.d.comb += [
                    aux.op.eq(Mux(now[0], AuxOp.EVICT_LINE, Mux(now[1], AuxOp.CLEAN_LINE, AuxOp.PREFETCH))),
                    aux.valid.eq(~in_second & ~(now[2] & ~self.slot_free)),
                ]
                with m.If(aux.done):
                    m.d.sync += [todo.eq(todo & ~now), state.eq(State.WAIT)]
            with m.Case(State.WAIT):
                m.d.comb += [aux.op.eq(AuxOp.QUIET), aux.valid.eq(~in_second)]
                with m.If(aux.done):
                    m.d.sync += state.eq(Mux(todo == 0, State.IDLE, State.ACT))
        return m
