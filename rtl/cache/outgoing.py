# SPDX-License-Identifier: BSD-2-Clause
"""What the D-cache's core sees of what is on its way to memory, be it lines or single stores."""

from typing import Any

from amaranth import Cat, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXI4Signature, Resp
from .native import Geometry

__all__ = ["Outgoing"]


class Outgoing(wiring.Component):
    """Entries that are occupied until memory has answered them, single uncached writes, and the write channels of ``m_axi``.

    Parameters
    ----------
    g : geometry of the D-cache. entries : how many there are. members : those that a subclass has besides.

    Members
    -------
    space : free entries. room : it is not 0; known earlier. occupied, lines : per entry.
    done : in the cycle of the B handshake: ``valid index line error spoiled`` (index one-hot). failed_line : ``done.line``
        where it counts.
    direct, direct_rsp, direct_take : an uncached write ``addr size data strb``, and its answer ``valid resp``.
    aw, w, b : of ``m_axi``.
    """

    def __init__(self, g: Geometry, entries: int, members: dict[str, Any]):
        axi = AXI4Signature(data_width=g.data_width, id_width=2)
        direct = data.StructLayout({"addr": 32, "size": 3, "data": g.data_width, "strb": g.data_bytes})
        done = {"valid": 1, "index": entries, "line": g.line_bits, "error": 1, "spoiled": 1}
        super().__init__(
            {
                **members,
                "space": Out(range(entries + 1), init=entries),
                "room": Out(1),
                "occupied": Out(entries),
                "lines": Out(data.ArrayLayout(g.line_bits, entries)),
                "done": Out(data.StructLayout(done)),
                "failed_line": Out(g.line_bits),
                "direct": In(stream.Signature(direct)),
                "direct_rsp": Out(data.StructLayout({"valid": 1, "resp": Resp})),
                "direct_take": In(1),
                "aw": Out(stream.Signature(axi.ax_layout)),
                "w": Out(stream.Signature(axi.w_layout)),
                "b": In(stream.Signature(axi.b_layout)),
            }
        )

    def match(self, line: Value) -> Value:
        """Entries (a mask) of the line."""
        return Cat(occupied & (entry == line) for occupied, entry in zip(self.occupied, self.lines, strict=True))
