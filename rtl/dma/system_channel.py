# SPDX-License-Identifier: BSD-2-Clause
"""System (subordinate) DMA channel: programmed by registers, paced by the device's requests."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..pio.signature import CsrSignature
from .ports import LENGTH_WIDTH, TAG_WIDTH, ChannelSignature

__all__ = ["SystemChannel"]


class SystemChannel(wiring.Component):
    """Registers ``ch<n>`` and what they promise (``rtl/pio/table.py``).

    ``ctrl.start`` loads ``addr`` and ``count`` and arms the channel, one cycle later it is ``ready`` (unless masked). The
    direction and demand/block are taken at the start, ``auto_init`` when terminal count is reached. After each request, in
    this order: a bus error ends the transfer with ``error``; residue 0 is terminal count (with auto-init the channel reloads
    and goes on, unless it is to stop); a stop, or the device's last request, ends it with ``stopped`` and keeps the residue.
    ``abort`` ends it at once with ``error``. A chunk of this transfer that is lost later sets ``error`` (and ends the
    transfer if it still runs).

    In block mode ``port.hold`` is high from the first request to the end of the transfer: no other channel is served.

    Members
    -------
    csr : registers. port : towards the engine's sequencer.
    new_tag : number that a transfer started in this cycle gets. handoff : a transfer was started in this cycle (``csr.addr``,
    ``csr.count`` and ``csr.mode`` say which).
    complete : a transfer ended in this cycle, with ``complete_error``, ``complete_stopped``, ``port.tag`` and ``csr.residue``.
    """

    def __init__(self, *, index: int):
        if not isinstance(index, int) or not 0 <= index <= 3:
            raise ValueError(f"System channel index must be an integer from 0 to 3, not {index!r}")
        self._index = index
        super().__init__(
            {
                "csr": In(CsrSignature(f"ch{index}")),
                "port": In(ChannelSignature()),
                "new_tag": In(TAG_WIDTH),
                "handoff": Out(1),
                "complete": Out(1),
                "complete_error": Out(1),
                "complete_stopped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        csr, port = self.csr, self.port
        armed, in_request, locked = Signal(), Signal(), Signal()
        failed, stopping, short = Signal(), Signal(), Signal()
        address, residue, tag = Signal(32), Signal(LENGTH_WIDTH), Signal(TAG_WIDTH)
        to_device, demand = Signal(), Signal()
        countable, fault = Signal(), Signal()
        m.d.comb += [
            countable.eq((csr.count[:LENGTH_WIDTH] != 0) & ~csr.count[LENGTH_WIDTH:].any()),
            fault.eq(port.fault & (port.fault_tag == tag)),
            self.handoff.eq(csr.ctrl_start & ~armed & countable),
            csr.status_busy.eq(armed),
            csr.cur_addr.eq(address),
            csr.residue.eq(residue),
            port.ready.eq(armed & ~csr.mask_mask & ~in_request & ~failed & ~stopping & ~short & (residue != 0)),
            port.hold.eq(locked),
            port.write_to_device.eq(to_device),
            port.addr.eq(address),
            port.avail.eq(residue),
            port.final.eq(1),
            port.tag.eq(tag),
        ]
        with m.If(in_request):
            # Within a request the sequencer asks for one segment; the channel stays available for it whatever happens.
            m.d.comb += port.ready.eq(residue != 0)
        reload = Signal()
        with m.If(armed & port.abort):
            m.d.comb += [self.complete.eq(1), self.complete_error.eq(1)]
        with m.Elif(armed & ~in_request & ~port.begin):
            with m.If(failed):
                m.d.comb += [self.complete.eq(1), self.complete_error.eq(1)]
            with m.Elif(residue == 0):
                m.d.comb += [
                    self.complete.eq(1),
                    csr.status_tc_set.eq(1),
                    reload.eq(csr.mode_auto_init & countable & ~stopping),
                    csr.status_stopped_set.eq(csr.mode_auto_init & stopping),
                ]
            with m.Elif(stopping | short):
                m.d.comb += [self.complete.eq(1), self.complete_stopped.eq(1), csr.status_stopped_set.eq(1)]
        m.d.comb += csr.status_error_set.eq(
            self.complete_error | fault | (csr.ctrl_start & (armed | ~countable)),
        )
        with m.If(port.begin):
            m.d.sync += [in_request.eq(1), locked.eq(~demand)]
        with m.If(port.moved):
            m.d.sync += [
                address.eq(address + port.length),
                residue.eq(residue - port.length),
                failed.eq(failed | port.error),
            ]
        with m.If(port.finish):
            m.d.sync += [in_request.eq(0), short.eq(port.last)]
        with m.If(armed & fault):
            m.d.sync += failed.eq(1)
        with m.If(armed & csr.ctrl_stop):
            m.d.sync += stopping.eq(1)
        with m.If(self.complete):
            m.d.sync += [armed.eq(0), locked.eq(0), in_request.eq(0), failed.eq(0), stopping.eq(0), short.eq(0)]
        with m.If(reload):
            m.d.sync += [armed.eq(1), locked.eq(locked), stopping.eq(csr.ctrl_stop), address.eq(csr.addr), residue.eq(csr.count)]
        with m.If(self.handoff):
            m.d.sync += [
                armed.eq(1),
                address.eq(csr.addr),
                residue.eq(csr.count),
                tag.eq(self.new_tag),
                to_device.eq(csr.mode_write_to_device),
                demand.eq(csr.mode_demand),
                stopping.eq(0),
            ]
        return m
