# SPDX-License-Identifier: BSD-2-Clause
"""The next-line prefetcher."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import SocConfig
from .native import AuxOp, AuxSignature, Geometry, add_pending

__all__ = ["NextLinePrefetcher"]


class NextLinePrefetcher(wiring.Component):
    """Asks for the line after the one that triggered it; the newest trigger replaces one that has not been looked up yet.

    Members
    -------
    enable : while low, triggers are ignored and what was wanted is forgotten.
    trigger, line : a line missed, or was used for the first time after a prefetch. Nothing comes after the last line of the
        memory window, so with it nothing is wanted.
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
        aux, g = self.aux, self._g
        wanted, pending = Signal(), add_pending(m, aux)
        target, following = Signal(g.line_bits), Signal(g.line_bits + 1)
        m.d.comb += [
            aux.op.eq(AuxOp.PREFETCH),
            aux.line.eq(target),
            aux.valid.eq(wanted & self.enable & self.slot_free & ~pending),
            following.eq(self.line + 1),
        ]
        with m.If(aux.grant):
            m.d.sync += wanted.eq(0)
        with m.If(self.trigger):
            # Behind the last line of the window the sum has a bit more than any line's number.
            m.d.sync += [wanted.eq(~following[(g.window_lines - 1).bit_length()]), target.eq(following)]
        with m.If(~self.enable):
            m.d.sync += wanted.eq(0)
        return m
