# SPDX-License-Identifier: BSD-2-Clause
"""A storage-like device: a buffer, a PIO data port, and a DMA side that moves data in requests of programmable size."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..axi.bus import AXIStreamSignature
from ..config import SocConfig
from ..dma.ports import BUS_MASTER_CHANNEL, DeviceRequestSignature
from ..pio.signature import CsrSignature
from ..probe import Kind, ProbeSignature
from .window import ReadWindow

__all__ = ["DeviceOp", "DeviceState", "StorageDevice"]


class DeviceOp(enum.IntEnum, shape=3):
    """``dev.cmd.op``."""

    NONE = 0
    DMA_READ = 1
    DMA_WRITE = 2
    PIO_READ = 3
    PIO_WRITE = 4
    ABORT = 7


class DeviceState(enum.Enum, shape=4):
    """What the device is doing; ``status.busy`` is "not IDLE"."""

    IDLE = 0
    LOAD = 1  # the read window fills
    REQUEST = 2  # a DMA request is presented
    SEND = 3  # an accepted device-to-memory request's data is on its way
    GAP = 4
    RECEIVE = 5  # everything is requested, not everything has arrived
    PIO_READ = 6
    PIO_WRITE = 7
    FINISH = 8


class StorageDevice(wiring.Component):
    """The device; how it looks to a driver stands in docs/device.md.

    A command begins in the cycle of ``csr.cmd_written``: ``addr``, ``length``, ``short`` and ``path`` are sampled there,
    ``sizes`` and ``gap`` whenever a request is made or over. The first request is presented 1 cycle later (DMA write) or 2
    (DMA read: the window fills first); ``drq`` likewise. A device-to-memory request's first beat is valid 2 cycles after its
    acceptance, then comes one beat per cycle if the device offset is a multiple of the bus width, else one in two cycles.
    ``gap`` cycles lie between a request's acceptance (DMA write) or last beat (DMA read) and the cycle before the next request.
    ``done`` rises 2 cycles after the last beat or data-port access (one more if it straddles two words), or the start if
    nothing is to be moved.

    Data from the DMA is taken whatever the state: it is written at its own device offset (``s_axis`` ``user``), also long
    after its command ended. It counts for the running DMA write only where it continues that command's requested bytes in
    order, so an older command's remainder does not complete a newer command. A beat outside the buffer is dropped and sets
    ``error``.

    In one cycle: a data-port access goes before arriving DMA data, and that before data being sent. ``ABORT`` goes before the
    command's own progress: a presented request is withdrawn in the same cycle (the one exception to the stream rules: there
    is no other way to take a request line back), an accepted device-to-memory request is sent to its end, and ``busy`` stays
    until then. The abort of an idle device does nothing.

    Parameters
    ----------
    config : ``data_width``, ``device.buffer_bytes``, ``dma.system_channels``.

    Members
    -------
    request : ``Out(DeviceRequestSignature)``.
    m_axis : ``Out(AXIStreamSignature)`` device to memory: packed from lane 0, ``last`` on each request's last beat.
    s_axis : ``In(AXIStreamSignature(user 32))`` memory to device: ``user`` is the device offset of lane 0's byte, a multiple
        of the bus width; ``keep`` marks the lanes. Not ready while ``dev.stall`` counts.
    csr : ``In(CsrSignature("dev"))``.
    probe_dev : ``DEV_WRITE`` and ``DEV_READ``. Bytes of two buffer words (an unaligned beat or data-port access) are two
        records in successive cycles; ``m_axis`` becomes valid after the second.

    The buffer is the memory ``buffer`` of this module: ``data_width`` bits per row, byte 0 of the device in bits 7..0 of row 0.
    """

    def __init__(self, *, config: SocConfig):
        self.config = config
        super().__init__(
            {
                "request": Out(DeviceRequestSignature()),
                "m_axis": Out(AXIStreamSignature(data_width=config.data_width)),
                "s_axis": In(AXIStreamSignature(data_width=config.data_width, user_width=32)),
                "csr": In(CsrSignature("dev")),
                "probe_dev": Out(ProbeSignature(config.data_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        csr, config = self.csr, self.config
        width, lanes, size = config.data_width, config.data_bytes, config.device.buffer_bytes
        lane_bits = (lanes - 1).bit_length()
        address_bits = (size - 1).bit_length()
        word_bits = address_bits - lane_bits
        count_bits = address_bits + 1  # 0..size

        m.submodules.buffer = buffer = Memory(shape=width, depth=size // lanes, init=[])
        write_port = buffer.write_port(granularity=8)
        read_port = buffer.read_port()
        m.submodules.window = window = ReadWindow(data_width=width, depth=size // lanes)
        m.d.comb += [
            read_port.en.eq(window.read_en),
            read_port.addr.eq(window.read_addr),
            window.read_data.eq(read_port.data),
            window.write_en.eq(write_port.en),
            window.write_addr.eq(write_port.addr),
            window.write_data.eq(write_port.data),
        ]

        # --- the command
        state = Signal(DeviceState)
        op = Signal(DeviceOp)
        aborting = Signal()
        unrequested = Signal(count_bits)  # bytes of the command that no request asked for
        remaining = Signal(count_bits)  # bytes of the command not yet sent / received / accessed
        position = Signal(count_bits)  # device offset of the next byte to be requested, or accessed by PIO
        expected = Signal(count_bits)  # device offset of the next byte to be received
        channel = Signal(3)
        bytes_done = Signal(32)
        size_index = Signal(2)
        gap = Signal(32)

        start = Signal()
        abort = Signal()
        end = Signal(33)
        length = Signal(32)
        dma = Signal()
        acceptable = Signal()
        channels = [*range(config.dma.system_channels), BUS_MASTER_CHANNEL]
        idle = state == DeviceState.IDLE
        m.d.comb += [
            start.eq(csr.cmd_written & (csr.cmd_op != DeviceOp.NONE) & (csr.cmd_op != DeviceOp.ABORT)),
            abort.eq(csr.cmd_written & (csr.cmd_op == DeviceOp.ABORT) & ~idle),
            dma.eq((csr.cmd_op == DeviceOp.DMA_READ) | (csr.cmd_op == DeviceOp.DMA_WRITE)),
            end.eq(csr.addr + csr.length),
            length.eq(Mux(dma & (csr.short != 0) & (csr.short < csr.length), csr.short, csr.length)),
            acceptable.eq(
                (end <= size) & (csr.cmd_op <= DeviceOp.PIO_WRITE) & (~dma | Cat(csr.path_channel == n for n in channels).any())
            ),
            csr.status_busy.eq(~idle),
            csr.bytes_done.eq(bytes_done),
        ]

        # --- requests
        sizes = Array([csr.sizes_s0, csr.sizes_s1, csr.sizes_s2, csr.sizes_s3])
        next_index = Signal(2)
        wanted = Signal(9)
        asked = Signal(9)
        req = self.request.req
        m.d.comb += [
            next_index.eq(Mux((size_index == 3) | (sizes[(size_index + 1)[:2]] == 0), 0, size_index + 1)),
            wanted.eq(Mux(sizes[size_index] == 0, 256, sizes[size_index])),
            asked.eq(Mux(unrequested < wanted, unrequested, wanted)),
            req.valid.eq((state == DeviceState.REQUEST) & ~abort),
            req.payload.length.eq(asked),
            req.payload.addr.eq(position),
            req.payload.write_to_device.eq(op == DeviceOp.DMA_WRITE),
            req.payload.last.eq(unrequested == asked),
            self.request.channel.eq(channel),
        ]

        # --- who touches the buffer in this cycle
        read_tail = Signal()  # the second record of a read that straddled two words
        write_tail = Signal()  # the second half of a data-port write that straddled two words
        tail_strb = Signal(lanes)
        tail_data = Signal(width)
        tail_word = Signal(word_bits)
        tail = Signal()
        drq = Signal()
        pio_read = Signal()
        pio_write = Signal()
        pio_count = Signal(3)
        receive = Signal()
        inside = Signal()
        send = Signal()
        rx, tx = self.s_axis.t, self.m_axis.t
        m.d.comb += [
            tail.eq(read_tail | write_tail),
            drq.eq(((state == DeviceState.PIO_READ) | (state == DeviceState.PIO_WRITE)) & ~tail),
            csr.status_drq.eq(drq),
            pio_read.eq(csr.pio_data_r_strobe & drq & (state == DeviceState.PIO_READ)),
            pio_write.eq(csr.pio_data_w_strobe & drq & (state == DeviceState.PIO_WRITE)),
            csr.pio_data_error.eq((csr.pio_data_r_strobe & ~pio_read) | (csr.pio_data_w_strobe & ~pio_write)),
            pio_count.eq(Mux(remaining < 4, remaining, 4)),
            rx.ready.eq((csr.stall == 0) & ~tail & ~pio_read & ~pio_write),
            inside.eq(rx.payload.user[address_bits:] == 0),
            receive.eq(rx.valid & rx.ready & rx.payload.keep.any()),
        ]

        # --- device to memory: window -> output register -> m_axis
        full = Signal()
        sent = Signal(lane_bits + 1)
        to_send = Signal(9)  # bytes of the accepted request not yet in the output register
        count = Signal(lane_bits + 1)
        m.d.comb += [
            count.eq(Mux(state == DeviceState.PIO_READ, pio_count, Mux(to_send < lanes, to_send, lanes))),
            send.eq(
                (state == DeviceState.SEND)
                & window.ready
                & (to_send != 0)
                & ~tail
                & ~(rx.valid & rx.ready)
                & (~full | (tx.valid & tx.ready))
            ),
            window.position.eq(csr.addr),
            window.take.eq(send | pio_read),
            window.count.eq(count),
            csr.pio_data_r_data.eq(window.data[:32] & Cat((n < pio_count).replicate(8) for n in range(4))),
            tx.valid.eq(full & ~read_tail),
        ]
        with m.If(send):
            m.d.sync += [
                full.eq(1),
                sent.eq(count),
                tx.payload.data.eq(window.data),
                tx.payload.keep.eq(Cat(n < count for n in range(lanes))),
                tx.payload.last.eq(to_send == count),
                to_send.eq(to_send - count),
            ]
        with m.Elif(tx.valid & tx.ready):
            m.d.sync += full.eq(0)

        span = Signal(2 * lanes)  # lanes of this word and the next that a read takes
        pio_span = Signal(2 * lanes)
        pio_bytes = Signal(2 * width)
        m.d.comb += [
            span.eq(Cat(n < count for n in range(lanes)) << window.offset),
            pio_span.eq(Cat(n < pio_count for n in range(4)) << position[:lane_bits]),
            pio_bytes.eq(csr.pio_data_w_data << Cat(Const(0, 3), position[:lane_bits])),
        ]

        # --- buffer writes
        m.d.sync += [read_tail.eq(0), write_tail.eq(0)]
        with m.If(write_tail):
            m.d.comb += [write_port.addr.eq(tail_word), write_port.data.eq(tail_data), write_port.en.eq(tail_strb)]
        with m.Elif(pio_write):
            m.d.comb += [
                write_port.addr.eq(position[lane_bits:]),
                write_port.data.eq(pio_bytes[:width]),
                write_port.en.eq(pio_span[:lanes]),
            ]
            m.d.sync += [
                write_tail.eq(pio_span[lanes:].any()),
                tail_word.eq(position[lane_bits:] + 1),
                tail_strb.eq(pio_span[lanes:]),
                tail_data.eq(pio_bytes[width:]),
            ]
        with m.Elif(receive & inside):
            m.d.comb += [
                write_port.addr.eq(rx.payload.user[lane_bits:]),
                write_port.data.eq(rx.payload.data),
                write_port.en.eq(rx.payload.keep),
            ]
        with m.If(window.take):
            m.d.sync += [read_tail.eq(span[lanes:].any()), tail_strb.eq(span[lanes:])]

        # --- what a received beat adds to the running DMA write: the requested bytes that continue it, and no others
        run = Signal(range(lanes + 1))
        owed = Signal(count_bits)
        fresh = Signal(range(lanes + 1))
        run_lanes = Signal(lanes)
        m.d.comb += [run_lanes.eq(rx.payload.keep >> expected[:lane_bits]), run.eq(lanes), owed.eq(position - expected)]
        for n in reversed(range(lanes)):
            with m.If(~run_lanes[n]):
                m.d.comb += run.eq(n)
        with m.If(
            receive
            & inside
            & (op == DeviceOp.DMA_WRITE)
            & ((state == DeviceState.REQUEST) | (state == DeviceState.GAP) | (state == DeviceState.RECEIVE))
            & (rx.payload.user[lane_bits:address_bits] == expected[lane_bits:])
        ):
            m.d.comb += fresh.eq(Mux(owed < run, owed, run))
            m.d.sync += [
                expected.eq(expected + fresh),
                remaining.eq(remaining - fresh),
                bytes_done.eq(bytes_done + fresh),
            ]

        # --- the command's progress
        next_request = Mux(csr.gap == 0, DeviceState.REQUEST, DeviceState.GAP)
        with m.Switch(state):
            with m.Case(DeviceState.IDLE):
                with m.If(start & acceptable):
                    m.d.comb += window.load.eq(1)
                    m.d.sync += [
                        op.eq(csr.cmd_op),
                        channel.eq(csr.path_channel),
                        unrequested.eq(length),
                        remaining.eq(length),
                        position.eq(csr.addr),
                        expected.eq(csr.addr),
                        size_index.eq(0),
                        bytes_done.eq(0),
                        aborting.eq(0),
                    ]
                    with m.If(length == 0):
                        m.d.sync += state.eq(DeviceState.FINISH)
                    with m.Elif(csr.cmd_op == DeviceOp.DMA_WRITE):
                        m.d.sync += state.eq(DeviceState.REQUEST)
                    with m.Elif(csr.cmd_op == DeviceOp.PIO_WRITE):
                        m.d.sync += state.eq(DeviceState.PIO_WRITE)
                    with m.Else():
                        m.d.sync += state.eq(DeviceState.LOAD)
            with m.Case(DeviceState.LOAD):
                m.d.sync += state.eq(Mux(op == DeviceOp.PIO_READ, DeviceState.PIO_READ, DeviceState.REQUEST))
            with m.Case(DeviceState.REQUEST):
                with m.If(req.valid & req.ready):
                    m.d.sync += [
                        unrequested.eq(unrequested - asked),
                        position.eq(position + asked),
                        size_index.eq(next_index),
                        gap.eq(csr.gap),
                    ]
                    with m.If(op == DeviceOp.DMA_READ):
                        m.d.sync += [to_send.eq(asked), state.eq(DeviceState.SEND)]
                    with m.Elif(req.payload.last):
                        m.d.sync += state.eq(DeviceState.RECEIVE)
                    with m.Else():
                        m.d.sync += state.eq(next_request)
            with m.Case(DeviceState.SEND):
                with m.If(tx.valid & tx.ready):
                    m.d.sync += bytes_done.eq(bytes_done + sent)
                    with m.If(tx.payload.last):
                        with m.If(aborting):
                            m.d.sync += state.eq(DeviceState.IDLE)
                        with m.Elif(unrequested == 0):
                            m.d.sync += state.eq(DeviceState.FINISH)
                        with m.Else():
                            m.d.sync += [gap.eq(csr.gap), state.eq(next_request)]
            with m.Case(DeviceState.GAP):
                m.d.sync += gap.eq(gap - 1)
                with m.If(gap == 1):
                    m.d.sync += state.eq(DeviceState.REQUEST)
            with m.Case(DeviceState.RECEIVE):
                with m.If(remaining == fresh):
                    m.d.sync += state.eq(DeviceState.FINISH)
            with m.Case(DeviceState.PIO_READ, DeviceState.PIO_WRITE):
                with m.If(pio_read | pio_write):
                    m.d.sync += [
                        position.eq(position + pio_count),
                        remaining.eq(remaining - pio_count),
                        bytes_done.eq(bytes_done + pio_count),
                    ]
                    with m.If(remaining <= 4):
                        m.d.sync += state.eq(DeviceState.FINISH)
            with m.Case(DeviceState.FINISH):
                with m.If(~tail):
                    m.d.comb += csr.status_done_set.eq(~abort)
                    m.d.sync += state.eq(DeviceState.IDLE)
        with m.If(abort):
            with m.If((state == DeviceState.SEND) & ~(tx.valid & tx.ready & tx.payload.last)):
                m.d.sync += aborting.eq(1)
            with m.Else():
                m.d.sync += state.eq(DeviceState.IDLE)
        m.d.comb += csr.status_error_set.eq(abort | (start & ~(idle & acceptable)) | (receive & ~inside))

        with m.If(csr.stall_written):
            m.d.sync += csr.stall.eq(csr.stall_w)
        with m.Elif(csr.stall != 0):
            m.d.sync += csr.stall.eq(csr.stall - 1)

        self._probe(m, write_port, window, lane_bits, span[:lanes], tail_strb, read_tail)
        return m

    def _probe(self, m, write_port, window, lane_bits, strb, tail_strb, read_tail):
        """One record per cycle: the arbitration above lets only one of them happen."""
        record = self.probe_dev.record
        with m.If(write_port.en.any()):
            m.d.comb += [
                self.probe_dev.valid.eq(1),
                record.kind.eq(Kind.DEV_WRITE),
                record.addr.eq(write_port.addr << lane_bits),
                record.aux.eq(write_port.en),
                record.data.eq(write_port.data),
            ]
        with m.Elif(window.take | read_tail):
            m.d.comb += [
                self.probe_dev.valid.eq(1),
                record.kind.eq(Kind.DEV_READ),
                record.addr.eq(window.word << lane_bits),
                record.aux.eq(Mux(read_tail, tail_strb, strb)),
                record.data.eq(window.current),
            ]
