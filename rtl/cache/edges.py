# SPDX-License-Identifier: BSD-2-Clause
"""Partly covered edge lines of an invalidated range: cleaned first, so that the neighbour's bytes survive."""

from amaranth import Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from .ports import DCacheMaintSignature, MaintOp

__all__ = ["EdgeCleaner"]


class EdgeCleaner(wiring.Component):
    """Stands between the maintenance unit and the D-cache, and splits an invalidate whose edge lines must be cleaned.

    A command with neither ``clean_first`` nor ``clean_last`` passes through in the same cycle. Any other is accepted at once and
    goes on, from the next cycle, as up to three commands in the order of addresses: clean+invalidate of the first line,
    invalidate of the whole lines between, clean+invalidate of the last line. Each begins one cycle after the one before is
    done, so its write-back has been answered. In address order, ``progress`` of an aborted command still names the line to go on
    with.

    ``abort`` ends the command with the part in progress; between two parts at once. ``error`` is that of any part.

    Members
    -------
    command : from the maintenance unit. clean_first, clean_last : valid with ``command.req``; only for a range.
    dcache : to the D-cache.

    Parameters
    ----------
    line_bytes : bytes per line.
    """

    class Part(enum.Enum, shape=2):
        WHOLE = 0  # nothing is split: what comes in passes through
        FIRST = 1
        BETWEEN = 2
        LAST = 3

    def __init__(self, *, line_bytes: int):
        self._line_bytes = line_bytes
        super().__init__(
            {
                "command": In(DCacheMaintSignature()),
                "clean_first": In(1),
                "clean_last": In(1),
                "dcache": Out(DCacheMaintSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        command, dcache, Part = self.command, self.dcache, self.Part
        asked, part = command.req.payload, Signal(Part)
        offset = (self._line_bytes - 1).bit_length()
        first, last = Signal(32), Signal(32)
        many = Signal()
        between, to_clean_last = Signal(), Signal()  # whole lines lie between the edges; the last line is yet to be cleaned
        steps = Signal(32 - offset)  # from the first line to the last
        m.d.comb += steps.eq(asked.last[offset:] - asked.first[offset:])
        with m.If(part == Part.WHOLE):
            m.d.sync += [
                first.eq(asked.first),
                last.eq(asked.last),
                many.eq(asked.many),
                between.eq(steps >= self.clean_first + self.clean_last),
                # A line that is both first and last is cleaned once.
                to_clean_last.eq(self.clean_last & ~(self.clean_first & (steps == 0))),
            ]

        issued = Signal()  # the D-cache has the part's command
        error = Signal()
        ends, follows = Signal(), Signal(Part)  # the part in progress is over; the one behind it, or WHOLE
        m.d.comb += [
            dcache.abort.eq(command.abort),
            command.progress.eq(dcache.progress),
            command.step.eq(dcache.step),
            command.aborted.eq(dcache.aborted | command.abort),
            command.error.eq(dcache.error),
        ]
        with m.If(part == Part.WHOLE):
            splits = self.clean_first | self.clean_last
            m.d.comb += [
                dcache.req.valid.eq(command.req.valid & ~splits),
                dcache.req.payload.eq(asked),
                command.req.ready.eq(dcache.req.ready),
                command.done.eq(dcache.done),
            ]
            m.d.sync += [issued.eq(0), error.eq(0)]
            with m.If(command.req.valid & command.req.ready & splits):
                m.d.sync += part.eq(Mux(self.clean_first, Part.FIRST, Mux(steps != 0, Part.BETWEEN, Part.LAST)))
        with m.Else():
            m.d.comb += [
                dcache.req.valid.eq(~issued & ~command.abort),
                dcache.req.payload.op.eq(Mux(part == Part.BETWEEN, MaintOp.INVALIDATE, MaintOp.CLEAN_INVALIDATE)),
                ends.eq(Mux(issued, dcache.done, command.abort)),
                command.done.eq(ends & ((follows == Part.WHOLE) | command.abort)),
                command.error.eq(error | (issued & dcache.error)),
            ]
            with m.If(dcache.req.valid & dcache.req.ready):
                m.d.sync += issued.eq(1)
            with m.If(ends):
                m.d.sync += [issued.eq(0), error.eq(command.error), part.eq(Mux(command.abort, Part.WHOLE, follows))]
            with m.Switch(part):
                with m.Case(Part.FIRST):
                    m.d.comb += [
                        dcache.req.payload.first.eq(first),
                        dcache.req.payload.last.eq(first),
                        follows.eq(Mux(between, Part.BETWEEN, Mux(to_clean_last, Part.LAST, Part.WHOLE))),
                    ]
                    with m.If(ends):
                        m.d.sync += first.eq(first + self._line_bytes)
                with m.Case(Part.BETWEEN):  # with an edge that is a whole line
                    m.d.comb += [
                        dcache.req.payload.many.eq(many),
                        dcache.req.payload.first.eq(first),
                        dcache.req.payload.last.eq(Mux(to_clean_last, last - self._line_bytes, last)),
                        follows.eq(Mux(to_clean_last, Part.LAST, Part.WHOLE)),
                    ]
                with m.Case(Part.LAST):
                    m.d.comb += [dcache.req.payload.first.eq(last), dcache.req.payload.last.eq(last)]
        return m
