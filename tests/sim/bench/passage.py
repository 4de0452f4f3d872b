# SPDX-License-Identifier: BSD-2-Clause
"""Nothing but wires, so that the bench measures its own ideal memory."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.axi.bus import AXI4Signature

__all__ = ["Passage"]


class Passage(wiring.Component):
    """``s_axi`` is ``m_axi``."""

    def __init__(self, data_width: int = 64):
        bus = AXI4Signature(data_width=data_width, id_width=4)
        super().__init__({"s_axi": In(bus), "m_axi": Out(bus)})

    def elaborate(self, platform):
        m = Module()
        connect(m, passage=flipped(self.s_axi), other=flipped(self.m_axi))
        return m
