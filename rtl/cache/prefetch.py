# SPDX-License-Identifier: BSD-2-Clause
"""The next-line prefetcher."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import AuxOp, AuxSignature, Geometry

__all__ = ["NextLinePrefetcher"]


class NextLinePrefetcher(wiring.Component):
    """Asks for the line after the one that triggered it; the newest trigger replaces one that has not been looked up yet.

    Members
    -------
    enable : while low, triggers are ignored and what was wanted is forgotten.
    trigger, line : a line missed, or was used for the first time after a prefetch. The last line of the memory window
        triggers nothing.
    slot_free : the prefetch slot can take a fill.
    """

    def __init__(self, *, config: SocConfig):
        g = self._g = Geometry(config)
        super().__init__(
            {
                "enable": In(1),
                "trigger": In(1),
                "line": In(g.line_bits),
                "slot_free": In(1),
                "aux": Out(AuxSignature(g.line_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        aux = self.aux
        wanted, in_second = Signal(), Signal()
        target = Signal(self._g.line_bits)
        m.d.sync += in_second.eq(aux.grant)
        m.d.comb += [
            aux.op.eq(AuxOp.PREFETCH),
            aux.line.eq(target),
            aux.valid.eq(wanted & self.enable & self.slot_free & ~in_second),
        ]
        with m.If(aux.grant | ~self.enable):
            m.d.sync += wanted.eq(0)
        with m.If(self.trigger & self.enable & (self.line != self._g.window_lines - 1)):
            m.d.sync += [wanted.eq(1), target.eq(self.line + 1)]
        return m
