# SPDX-License-Identifier: BSD-2-Clause
"""The mover: descriptors in, statuses out, bytes moved between. The DMA engine's data path; it stands alone too."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.bus import AXI4Signature, AXIStreamSignature
from ..config import ConfigError
from ..probe import Kind, ProbeSignature
from .align import Realigner
from .chunk_fifo import ChunkFifo, popcount
from .flush import FlushUnit
from .ports import TAG_WIDTH, MoverCommandLayout, MoverStatusLayout
from .queue import Queue
from .reader import BurstReader
from .writer import BurstWriter, StreamWriter

__all__ = ["Mover"]


class Mover(wiring.Component):
    """Memory to memory, memory to stream, stream to memory; any alignment; one chunk FIFO in front of each destination.

    Commands are carried out in order; reads of the next ones run ahead while ``read_beats`` allows. ARVALID rises one
    cycle after the handshake of ``cmd``; a source beat is pushed into the chunk FIFO in the cycle in which it arrives. The status
    comes when the command's last byte is in the FIFO: what has not filled a chunk stays there until it is touched or flushed
    (see :class:`~rtl.dma.chunk_fifo.ChunkFifo`, :class:`~rtl.dma.flush.FlushUnit`).

    In cut-through nothing stays: WVALID is two cycles after the source beat (one with ``bypass``), in bursts that end at
    multiples of ``burst_beats`` beats; without ``posted`` the status comes with memory's last answer, in its cycle. An AW is
    offered when its first beat is there; so memory to memory needs a memory that goes on serving reads while a write burst
    waits for data.

    Errors: a read error ends the movement of its command (``status.error``, ``status.addr``); the bytes of the beat in error
    and of all later beats are not moved. A write error shows as ``write_error`` with address and tag, its chunk is lost,
    unless the chunk is the remainder that a flush sends: that one is kept.

    ``clear`` (a pulse) drops all commands and all that the FIFOs hold, without breaking a bus handshake: a presented
    AR or AW is finished, bursts are completed with no strobes, beats of outstanding reads are ignored. Until ``idle`` no
    command is accepted.

    Parameters
    ----------
    data_width : 32, 64 or 128 bits of the AXI4 port and the streams.
    chunk_bytes, fifo_chunks, cut_through : of both chunk FIFOs.
    posted : the status does not wait for memory's answer to writes (must be true without ``cut_through``).
    bypass : in cut-through a beat passes an empty FIFO within its cycle; the probes' records of one cycle are then not in
    the order of ``rtl.probe.CHANNELS``.
    read_beats, burst_beats : beats in flight and longest burst of the reader.
    command_depth : commands in flight.

    Members
    -------
    cmd, status, m_axi (ID 0), s_axis, m_axis : the data path; commands and status as in ``rtl/dma/ports.py``.
    flush, flush_timeout, flush_busy, flush_done, flush_ack, flush_ok, flush_bus_error, flush_timed_out, flush_discarded :
    the flush command. clear, idle : see above.
    level_to_memory, level_to_stream : bytes in the open chunks.
    pushed_to_memory, pushed_to_stream : bytes that entered a FIFO in this cycle.
    write_error, write_error_addr, write_error_tag : a chunk was lost.
    """

    def __init__(
        self,
        *,
        data_width: int = 64,
        chunk_bytes: int = 16,
        fifo_chunks: int = 4,
        cut_through: bool = False,
        posted: bool = True,
        bypass: bool = False,
        read_beats: int = 128,
        burst_beats: int = 16,
        command_depth: int = 16,
    ):
        self._data_width, self._chunk, self._depth, self._cut = data_width, chunk_bytes, fifo_chunks, cut_through
        if not cut_through and not posted:
            raise ConfigError("Mover posted must be true without cut_through (a remainder is never answered), not False")
        self._posted, self._bypass = posted, bypass
        self._read_beats, self._burst_beats, self._commands = read_beats, burst_beats, command_depth
        lanes = data_width // 8
        super().__init__(
            {
                "cmd": In(stream.Signature(MoverCommandLayout())),
                "status": Out(stream.Signature(MoverStatusLayout())),
                "m_axi": Out(AXI4Signature(data_width=data_width, id_width=2)),
                "s_axis": In(AXIStreamSignature(data_width=data_width)),
                "m_axis": Out(AXIStreamSignature(data_width=data_width, user_width=32)),
                "flush": In(1),
                "flush_timeout": In(32),
                "flush_busy": Out(1),
                "flush_done": Out(1),
                "flush_ack": In(1, init=1),
                "flush_ok": Out(1),
                "flush_bus_error": Out(1),
                "flush_timed_out": Out(1),
                "flush_discarded": Out(32),
                "clear": In(1),
                "idle": Out(1),
                "level_to_memory": Out(range(chunk_bytes + 1)),
                "level_to_stream": Out(range(chunk_bytes + 1)),
                "pushed_to_memory": Out(range(lanes + 1)),
                "pushed_to_stream": Out(range(lanes + 1)),
                "write_error": Out(1),
                "write_error_addr": Out(32),
                "write_error_tag": Out(TAG_WIDTH),
                "probe_fifo_in": Out(ProbeSignature(data_width)),
                "probe_fifo_out": Out(ProbeSignature(data_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = self._data_width
        m.submodules.reader = reader = BurstReader(data_width=width, buffer_beats=self._read_beats, burst_beats=self._burst_beats)
        m.submodules.align = align = Realigner(data_width=width, burst_beats=self._burst_beats)
        fifos = [
            ChunkFifo(
                data_width=width,
                chunk_bytes=self._chunk,
                depth=self._depth,
                cut_through=self._cut,
                bypass=self._bypass,
            )
            for _ in range(2)
        ]
        m.submodules.to_memory, m.submodules.to_stream = to_memory, to_stream = fifos
        m.submodules.writer = writer = BurstWriter(data_width=width)
        m.submodules.sender = sender = StreamWriter(data_width=width)
        m.submodules.flush = flush = FlushUnit()

        # --- commands: to the reader at once, to the realigner through a queue
        unanswered = Signal()  # a status waits for memory
        m.submodules.commands = commands = Queue(MoverCommandLayout(), depth=self._commands, bypass=True)
        cmd, packet, taken = self.cmd.payload, Signal(), Signal()
        clearing = Signal()  # reads from before a clear are still coming
        with m.If(self.clear):
            m.d.sync += clearing.eq(1)
        with m.Elif(reader.idle if self._posted else reader.idle & writer.idle):
            m.d.sync += clearing.eq(0)
        m.d.comb += [
            packet.eq(cmd.kind.as_value()[0]),
            self.cmd.ready.eq((packet | reader.i.ready) & commands.i.ready & ~self.clear & ~clearing),
            taken.eq(self.cmd.valid & self.cmd.ready),
            reader.i.valid.eq(taken & ~packet),
            reader.i.payload.addr.eq(cmd.read_addr),
            reader.i.payload.length.eq(cmd.length),
            commands.i.payload.eq(cmd),
            commands.i.valid.eq(taken),
            commands.clear.eq(self.clear),
            reader.clear.eq(self.clear),
            align.clear.eq(self.clear),
            self.idle.eq(reader.idle & ~clearing & align.idle & (commands.level == 0) & ~align.status.valid & ~unanswered),
        ]
        connect(m, commands.o, align.i)
        connect(m, reader.o, align.beats)
        connect(m, flipped(self.s_axis), align.packet)
        self._statuses(m, align, writer, unanswered, clearing)
        connect(m, align.to_memory, to_memory.i)
        connect(m, align.to_stream, to_stream.i)
        pushed = Signal(2)
        for side, fifo in enumerate(fifos):
            m.d.comb += pushed[side].eq(fifo.i.valid & fifo.i.ready & fifo.i.payload.strb.any())
        m.d.comb += [
            self.pushed_to_memory.eq(Mux(pushed[0], popcount(align.to_memory.payload.strb), 0)),
            self.pushed_to_stream.eq(Mux(pushed[1], popcount(align.to_stream.payload.strb), 0)),
            self.level_to_memory.eq(to_memory.level),
            self.level_to_stream.eq(to_stream.level),
        ]

        # --- leaving beats: the probe takes one a cycle, so the writer (which can wait) lets the device go first
        sent = Signal()  # a beat with bytes went to the device
        m.d.comb += [
            writer.i.payload.eq(to_memory.o.payload),
            writer.i.valid.eq(to_memory.o.valid & ~sent & ~flush.discard_stream),
            to_memory.o.ready.eq(writer.i.ready),
            sender.i.payload.eq(to_stream.o.payload),
            sender.i.valid.eq(to_stream.o.valid & ~flush.discard_memory),
            to_stream.o.ready.eq(sender.i.ready & ~flush.discard_memory),
            sent.eq(sender.i.valid & sender.i.ready & sender.i.payload.strb.any()),
        ]
        connect(m, sender.o, flipped(self.m_axis))
        connect(m, writer.aw, flipped(self.m_axi.aw))
        connect(m, writer.w, flipped(self.m_axi.w))
        connect(m, flipped(self.m_axi.b), writer.b)
        connect(m, reader.ar, flipped(self.m_axi.ar))
        connect(m, flipped(self.m_axi.r), reader.r)

        # --- flush
        kept = Signal()  # the remainder in error stays in its FIFO
        own = Signal()  # this response is the flushed remainder's, not one of before a clear or a time-out
        m.d.comb += [
            own.eq(writer.done & writer.remainder & flush.running & to_memory.drained & to_memory.open_valid),
            kept.eq(own & writer.error),
            flush.start.eq(self.flush),
            flush.clear.eq(self.clear),
            flush.ack.eq(self.flush_ack),
            flush.timeout.eq(self.flush_timeout),
            flush.memory_drained.eq(to_memory.drained),
            flush.memory_idle.eq(writer.idle),
            flush.memory_empty.eq(to_memory.empty),
            flush.stream_drained.eq(to_stream.drained),
            flush.stream_empty.eq(to_stream.empty),
            flush.write_error.eq(writer.done & writer.error),
            writer.hold.eq(flush.hold_first),
            writer.truncate.eq(flush.truncate),
            sender.truncate.eq(flush.truncate),
            to_memory.commit.eq(own & ~writer.error),
            to_stream.commit.eq(to_stream.drained),
            self.flush_busy.eq(flush.active),
            self.flush_done.eq(flush.done),
            self.flush_ok.eq(flush.ok),
            self.flush_bus_error.eq(flush.bus_error),
            self.flush_timed_out.eq(flush.timed_out),
            self.flush_discarded.eq(flush.discarded),
            self.write_error.eq(writer.done & writer.error & ~kept),
            self.write_error_addr.eq(writer.addr),
            self.write_error_tag.eq(writer.tag),
        ]
        for fifo, discard in ((to_memory, flush.discard_memory), (to_stream, flush.discard_stream)):
            m.d.comb += [
                fifo.flush.eq(flush.active),
                fifo.hold.eq(flush.active & ~flush.running),
                fifo.discard.eq(discard),
                fifo.clear.eq(self.clear),
            ]

        self._probe(m, align, fifos, flush, sent, pushed)
        return m

    def _statuses(self, m, align, writer, unanswered, clearing):
        """Posted: as the realigner gives them. Otherwise a status that wrote waits for the last answer of its bursts."""
        if self._posted:
            connect(m, align.status, flipped(self.status))
            return
        m.submodules.statuses = statuses = Queue(
            data.StructLayout({"status": MoverStatusLayout(), "pending": 1}), depth=self._commands
        )
        head, status = statuses.o.payload, self.status.payload
        failed, failed_addr = Signal(), Signal(32)
        mine = Signal()  # the answer on offer is the last one of the status at the head
        m.d.comb += [
            statuses.i.payload.status.eq(align.status.payload),
            statuses.i.payload.pending.eq(align.pending),
            statuses.i.valid.eq(align.status.valid),
            align.status.ready.eq(statuses.i.ready),
            statuses.clear.eq(self.clear),
            unanswered.eq(statuses.level != 0),
            mine.eq(statuses.o.valid & head.pending & writer.offered & writer.end & ~clearing),
            # After a clear the answers to old bursts belong to no status.
            writer.accept.eq(~writer.end | clearing | (mine & self.status.ready)),
            self.status.valid.eq(statuses.o.valid & (~head.pending | mine)),
            statuses.o.ready.eq(self.status.valid & self.status.ready),
            status.tag.eq(head.status.tag),
            status.length.eq(head.status.length),
            status.error.eq(head.status.error | (mine & (failed | writer.error))),
            status.addr.eq(Mux(head.status.error, head.status.addr, Mux(failed, failed_addr, writer.addr))),
        ]
        with m.If(writer.done):
            m.d.sync += failed.eq(~writer.end & (failed | writer.error))
            with m.If(writer.error & ~failed):
                m.d.sync += failed_addr.eq(writer.addr)
        with m.If(self.clear):
            m.d.sync += failed.eq(0)

    def _probe(self, m, align, fifos, flush, sent, pushed):
        """One record per cycle on each of the two FIFO channels."""
        to_memory, to_stream = fifos

        def beat(record, payload, strobes, side, kind):
            return [
                record.kind.eq(kind),
                record.addr.eq(payload.addr),
                record.aux.eq(strobes | (side << 31)),
                record.tag.eq(payload.tag),
            ]

        into, out = self.probe_fifo_in, self.probe_fifo_out
        m.d.comb += into.valid.eq(pushed.any())
        source = align.to_memory.payload  # the same beat is offered to both
        m.d.comb += beat(into.record, source, source.strb, pushed[1], Kind.PUSH)
        m.d.comb += into.record.data.eq(source.data)
        left = Signal()
        m.d.comb += left.eq(to_memory.o.valid & to_memory.o.ready & to_memory.o.payload.strb.any())
        for side, fifo, drained in ((0, to_memory, left), (1, to_stream, sent)):
            payload = fifo.o.payload
            with m.If(drained | (fifo.discarded & payload.strb.any())):
                m.d.comb += out.valid.eq(1)
                m.d.comb += beat(out.record, payload, payload.strb, Const(side, 1), Mux(fifo.discarded, Kind.DISCARD, Kind.DRAIN))
                with m.If(~fifo.discarded):
                    m.d.comb += out.record.data.eq(payload.data)
            with m.If(fifo.discarded):
                m.d.comb += flush.dropped.eq(popcount(payload.strb))
