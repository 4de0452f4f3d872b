# SPDX-License-Identifier: BSD-2-Clause
"""The flush command: sends what both chunk FIFOs hold, waits until memory and device have it, and says how it went."""

from amaranth.hdl import Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["FlushPhase", "FlushUnit"]


class FlushPhase(enum.Enum, shape=3):
    """IDLE; RUN: sending and waiting; EXPIRE: the time-out's one cycle, bursts in progress are cut; DISCARD_MEMORY then
    DISCARD_STREAM: one beat per cycle is thrown away; END: the result is there and waits for ``ack``."""

    IDLE = 0
    RUN = 1
    EXPIRE = 2
    DISCARD_MEMORY = 3
    DISCARD_STREAM = 4
    END = 5


class FlushUnit(wiring.Component):
    """Sequences one flush over both directions.

    ``start`` while idle begins; from the next cycle on ``active`` holds off pushes and lets the FIFOs send. It ends, with
    ``done`` until ``ack`` (one cycle if that is high; pushes stay held off), when both are ``drained`` and every write is
    answered: ``ok``, or ``bus_error`` if a write was answered with an error meanwhile (a failed remainder was not committed,
    so it is kept). ``timeout`` cycles (0: never) after the start the rest is discarded instead: ``timed_out`` and
    ``discarded``. The results hold until the next start; an end in the time-out's cycle wins. ``clear`` (abort) ends a flush
    at once with no result flag set.

    Members
    -------
    start, clear, timeout : command. active, done, ok, bus_error, timed_out, discarded : see above.
    memory_drained, memory_idle, stream_drained, memory_empty, stream_empty : state of FIFOs and writer.
    write_error : a write was answered with an error in this cycle.
    dropped : bytes thrown away in this cycle.
    hold_first : a burst must not hand over data before its address was accepted (see ``BurstWriter.hold``).
    truncate : a burst in progress is to be cut. discard_memory, discard_stream : levels to the FIFOs.
    """

    start: In(1)
    clear: In(1)
    timeout: In(32)
    active: Out(1)
    done: Out(1)
    ack: In(1, init=1)
    ok: Out(1)
    bus_error: Out(1)
    timed_out: Out(1)
    discarded: Out(32)
    memory_drained: In(1)
    memory_idle: In(1)
    memory_empty: In(1)
    stream_drained: In(1)
    stream_empty: In(1)
    write_error: In(1)
    dropped: In(8)
    hold_first: Out(1)
    truncate: Out(1)
    discard_memory: Out(1)
    discard_stream: Out(1)
    running: Out(1)

    def elaborate(self, platform):
        m = Module()
        phase = Signal(FlushPhase)
        elapsed = Signal(32)
        failed, finished = Signal(), Signal()
        m.d.comb += [
            self.active.eq(phase != FlushPhase.IDLE),
            self.done.eq(phase == FlushPhase.END),
            self.running.eq(phase == FlushPhase.RUN),
            self.hold_first.eq(self.running & (self.timeout != 0)),
            self.truncate.eq(self.clear | (phase == FlushPhase.EXPIRE)),
            self.discard_memory.eq(phase == FlushPhase.DISCARD_MEMORY),
            self.discard_stream.eq(phase == FlushPhase.DISCARD_STREAM),
            finished.eq(self.memory_drained & self.memory_idle & self.stream_drained),
        ]
        m.d.sync += elapsed.eq(elapsed + 1)
        with m.Switch(phase):
            with m.Case(FlushPhase.IDLE):
                with m.If(self.start):
                    m.d.sync += [
                        phase.eq(FlushPhase.RUN),
                        elapsed.eq(1),
                        failed.eq(0),
                        self.ok.eq(0),
                        self.bus_error.eq(0),
                        self.timed_out.eq(0),
                        self.discarded.eq(0),
                    ]
            with m.Case(FlushPhase.RUN):
                m.d.sync += failed.eq(failed | self.write_error)
                with m.If(finished):
                    m.d.sync += [
                        phase.eq(FlushPhase.END),
                        self.ok.eq(~failed),
                        self.bus_error.eq(failed),
                    ]
                with m.Elif((self.timeout != 0) & (elapsed >= self.timeout)):
                    m.d.sync += phase.eq(FlushPhase.EXPIRE)
            with m.Case(FlushPhase.EXPIRE):
                m.d.sync += phase.eq(FlushPhase.DISCARD_MEMORY)
            with m.Case(FlushPhase.DISCARD_MEMORY):
                m.d.sync += self.discarded.eq(self.discarded + self.dropped)
                with m.If(self.memory_empty):
                    m.d.sync += phase.eq(FlushPhase.DISCARD_STREAM)
            with m.Case(FlushPhase.DISCARD_STREAM):
                m.d.sync += self.discarded.eq(self.discarded + self.dropped)
                with m.If(self.stream_empty):
                    m.d.sync += [phase.eq(FlushPhase.END), self.timed_out.eq(1)]
            with m.Case(FlushPhase.END):
                with m.If(self.ack):
                    m.d.sync += phase.eq(FlushPhase.IDLE)
        with m.If(self.clear & self.active & ~self.done):
            m.d.sync += [phase.eq(FlushPhase.END), self.ok.eq(0), self.bus_error.eq(0), self.timed_out.eq(0)]
        return m
