# SPDX-License-Identifier: BSD-2-Clause
"""The seam between the memory controller's AXI side and its storage: what an SDRAM backend will have to offer."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import Burst

__all__ = ["BackendSignature"]


class BackendSignature(wiring.Signature):
    """Storage port, seen from the controller.

    ``cmd``: one burst: ``write``, ``addr`` (byte offset in the memory window), ``len size burst`` as in AXI, ``tag`` (comes
    back with every beat) and ``discard`` (a write burst whose beats are taken and reported, but not stored). The backend
    accepts a burst when it may start; bursts take effect in the order in which they were accepted.

    ``w``: beats ``data strb`` of the write bursts, in order, exactly ``len + 1`` each, none before its burst was accepted.
    Once a beat is accepted, every burst accepted later sees it: the controller answers a write when its last beat was
    accepted.

    ``r``: beats ``data tag last`` of the read bursts, in order.

    ``access``: one storage access per cycle for the probe, no back-pressure: ``write``, ``discard``, ``addr`` (byte offset of
    the beat, aligned to the data width), ``data``, ``strb`` (write), ``tag``. Reads and writes appear in the order in which
    the storage performed them; a write in the cycle whose closing edge stores it, a read in the cycle in which its data
    first shows on ``r``.

    ``row_hit row_miss row_conflict``: one of them pulses per accepted burst, ``refresh`` once per refresh; a backend that has
    no rows leaves them low.

    Parameters
    ----------
    data_width : bits.
    addr_width : bits of a byte offset in the window.
    tag_width : bits.
    """

    def __init__(self, *, data_width: int, addr_width: int, tag_width: int):
        self._data_width, self._addr_width, self._tag_width = data_width, addr_width, tag_width
        command = {"write": 1, "discard": 1, "addr": addr_width, "len": 8, "size": 3, "burst": Burst, "tag": tag_width}
        access = {"write": 1, "discard": 1, "addr": addr_width, "data": data_width, "strb": data_width // 8, "tag": tag_width}
        super().__init__(
            {
                "cmd": Out(stream.Signature(data.StructLayout(command))),
                "w": Out(stream.Signature(data.StructLayout({"data": data_width, "strb": data_width // 8}))),
                "r": In(stream.Signature(data.StructLayout({"data": data_width, "tag": tag_width, "last": 1}))),
                "access": In(stream.Signature(data.StructLayout(access), always_ready=True)),
                "row_hit": In(1),
                "row_miss": In(1),
                "row_conflict": In(1),
                "refresh": In(1),
            }
        )

    data_width = property(lambda self: self._data_width)
    addr_width = property(lambda self: self._addr_width)
    tag_width = property(lambda self: self._tag_width)

    def __eq__(self, other):
        mine = (self._data_width, self._addr_width, self._tag_width)
        return type(self) is type(other) and mine == (other._data_width, other._addr_width, other._tag_width)

    def __repr__(self):
        return f"BackendSignature(data_width={self._data_width}, addr_width={self._addr_width}, tag_width={self._tag_width})"
