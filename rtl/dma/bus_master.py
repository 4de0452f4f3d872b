# SPDX-License-Identifier: BSD-2-Clause
"""Bus master: serves the device's requests from a scatter/gather list that it fetches from memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import CACHE_UNCACHED, AXI4Signature, Burst
from ..pio.signature import CsrSignature
from .ports import TAG_WIDTH, ChannelSignature

__all__ = ["BusMaster", "BusMasterPhase", "DESCRIPTOR_BYTES"]

#: Size and alignment of a descriptor: ``addr:u32, length:u32, flags:u32 (bit 0: last), next:u32``, little-endian.
DESCRIPTOR_BYTES = 16


class BusMasterPhase(enum.Enum, shape=2):
    """IDLE; ADDRESS: a descriptor's read is on offer; DATA: its beats come; ACTIVE: the descriptor serves requests."""

    IDLE = 0
    ADDRESS = 1
    DATA = 2
    ACTIVE = 3


class BusMaster(wiring.Component):
    """Registers ``bm`` (``rtl/pio/table.py``) and the descriptor fetch.

    The first descriptor's ARVALID rises one cycle after ``ctrl.start``; the channel is ready in the second cycle after the
    descriptor's last beat. The next descriptor is fetched as soon as the one before is used up, also in the middle of a
    device request. A misaligned pointer, length 0 or a bus error on the fetch ends the list with ``error`` and
    ``descriptor_error`` (``descriptor_addr``). A stop or an abort in the middle of a fetch takes effect when the fetch has
    been answered.

    Members
    -------
    csr, port : registers, sequencer. ar, r : the AXI4 read channels of ID 1.
    new_tag, handoff, complete, complete_error, complete_stopped, residue : as in :class:`~rtl.dma.system_channel.SystemChannel`
    (``residue``: bytes left of the descriptor in progress).
    fetched : a descriptor was read in this cycle: ``descriptor_addr``, ``fetched_addr``, ``fetched_length``.
    """

    def __init__(self, *, data_width: int, id_width: int = 2, axi_id: int = 1):
        self._axi = AXI4Signature(data_width=data_width, id_width=id_width)
        self._axi_id = axi_id
        super().__init__(
            {
                "csr": In(CsrSignature("bm")),
                "port": In(ChannelSignature()),
                "ar": Out(stream.Signature(self._axi.ax_layout)),
                "r": In(stream.Signature(self._axi.r_layout)),
                "new_tag": In(TAG_WIDTH),
                "handoff": Out(1),
                "complete": Out(1),
                "complete_error": Out(1),
                "complete_stopped": Out(1),
                "residue": Out(32),
                "fetched": Out(1),
                "fetched_addr": Out(32),
                "fetched_length": Out(32),
                "descriptor_error": Out(1),
                "descriptor_addr": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        csr, port = self.csr, self.port
        width = self._axi.data_width
        beats = DESCRIPTOR_BYTES * 8 // width
        phase = Signal(BusMasterPhase)
        in_request, failed, aborted, stopping, final = (
            Signal(name=n) for n in ("in_request", "failed", "aborted", "stopping", "final")
        )
        current, following, address, left = Signal(32), Signal(32), Signal(32), Signal(32)
        tag, to_device, done_bytes = Signal(TAG_WIDTH), Signal(), Signal(32)
        words = Signal(DESCRIPTOR_BYTES * 8 - width) if beats > 1 else None
        whole = Signal(DESCRIPTOR_BYTES * 8)
        bad = Signal()  # a beat of the fetch was answered with an error
        fault = Signal()
        busy = phase != BusMasterPhase.IDLE
        turning = Signal()  # used up, and another descriptor follows
        m.d.comb += turning.eq((phase == BusMasterPhase.ACTIVE) & (left == 0) & ~final & ~failed & ~aborted)
        m.d.comb += [
            fault.eq(port.fault & (port.fault_tag == tag)),
            self.handoff.eq(csr.ctrl_start & ~busy),
            csr.status_busy.eq(busy),
            csr.cur_desc.eq(current),
            csr.bytes_done.eq(done_bytes),
            port.ready.eq((phase == BusMasterPhase.ACTIVE) & (left != 0) & ~failed & ~aborted & (in_request | ~stopping)),
            port.wait.eq((phase == BusMasterPhase.ADDRESS) | (phase == BusMasterPhase.DATA) | turning),
            port.write_to_device.eq(to_device),
            port.addr.eq(address),
            port.avail.eq(left),
            port.final.eq(final),
            port.tag.eq(tag),
            self.residue.eq(left),
            self.descriptor_addr.eq(current),
            whole.eq(self.r.payload.data if beats == 1 else Cat(words, self.r.payload.data)),
            self.fetched_addr.eq(whole[0:32]),
            self.fetched_length.eq(whole[32:64]),
            self.ar.payload.id.eq(self._axi_id),
            self.ar.payload.addr.eq(current),
            self.ar.payload.len.eq(beats - 1),
            self.ar.payload.size.eq((width // 8 - 1).bit_length()),
            self.ar.payload.burst.eq(Burst.INCR),
            self.ar.payload.cache.eq(CACHE_UNCACHED),
            csr.status_error_set.eq(self.complete_error | fault | (csr.ctrl_start & busy)),
            csr.status_stopped_set.eq(self.complete_stopped),
            csr.status_done_set.eq(self.complete & ~self.complete_error & ~self.complete_stopped),
        ]
        beat_bad = Signal()
        m.d.comb += beat_bad.eq(bad | self.r.payload.resp.as_value()[1])
        with m.If(port.begin):
            m.d.sync += in_request.eq(1)
        with m.If(port.finish):
            m.d.sync += in_request.eq(0)
            with m.If(port.last):
                m.d.sync += stopping.eq(1)
        with m.If(busy & csr.ctrl_stop):
            m.d.sync += stopping.eq(1)
        with m.If(busy & fault):
            m.d.sync += failed.eq(1)
        with m.If(port.moved):
            m.d.sync += [
                address.eq(address + port.length),
                left.eq(left - port.length),
                done_bytes.eq(done_bytes + port.length),
                failed.eq(failed | port.error | fault),
            ]
        with m.If(busy & port.abort):
            m.d.sync += [aborted.eq(1), in_request.eq(0)]
        misaligned = current[:4].any()
        with m.Switch(phase):
            with m.Case(BusMasterPhase.ADDRESS):
                m.d.comb += self.ar.valid.eq(~misaligned)
                m.d.sync += bad.eq(0)
                with m.If(misaligned):
                    m.d.comb += self.descriptor_error.eq(1)
                    m.d.sync += [phase.eq(BusMasterPhase.ACTIVE), failed.eq(1), left.eq(0)]
                with m.Elif(self.ar.ready):
                    m.d.sync += phase.eq(BusMasterPhase.DATA)
            with m.Case(BusMasterPhase.DATA):
                m.d.comb += self.r.ready.eq(1)
                with m.If(self.r.valid):
                    m.d.sync += bad.eq(beat_bad)
                    if beats > 1:
                        m.d.sync += words.eq(Cat(words, self.r.payload.data)[width:])
                    with m.If(self.r.payload.last):
                        m.d.comb += [
                            self.fetched.eq(~beat_bad & ~aborted & ~port.abort),
                            self.descriptor_error.eq((beat_bad | (whole[32:64] == 0)) & ~aborted & ~port.abort),
                        ]
                        m.d.sync += [
                            phase.eq(BusMasterPhase.ACTIVE),
                            address.eq(whole[0:32]),
                            left.eq(Mux(beat_bad, 0, whole[32:64])),
                            final.eq(whole[64]),
                            following.eq(whole[96:128]),
                        ]
                        with m.If(beat_bad | (whole[32:64] == 0)):
                            m.d.sync += failed.eq(1)
            with m.Case(BusMasterPhase.ACTIVE):
                with m.If(aborted):
                    m.d.comb += [self.complete.eq(1), self.complete_error.eq(1)]
                with m.Elif(~in_request & ~port.begin):
                    with m.If(failed):
                        m.d.comb += [self.complete.eq(1), self.complete_error.eq(1)]
                    with m.Elif((left == 0) & final):
                        m.d.comb += self.complete.eq(1)
                    with m.Elif(stopping):
                        m.d.comb += [self.complete.eq(1), self.complete_stopped.eq(1)]
                with m.If(turning & ~self.complete):
                    m.d.sync += [phase.eq(BusMasterPhase.ADDRESS), current.eq(following)]
        with m.If(self.complete):
            m.d.sync += phase.eq(BusMasterPhase.IDLE)
        with m.If(self.handoff):
            m.d.sync += [
                phase.eq(BusMasterPhase.ADDRESS),
                current.eq(csr.desc),
                tag.eq(self.new_tag),
                to_device.eq(csr.mode_write_to_device),
                done_bytes.eq(0),
                left.eq(0),
                final.eq(0),
                failed.eq(0),
                aborted.eq(0),
                stopping.eq(0),
                in_request.eq(0),
            ]
        return m
