# SPDX-License-Identifier: BSD-2-Clause
"""On-chip RAM that behaves in time like a DRAM: open rows in banks, and refresh."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from ..axi.burst import next_address
from ..config import SocConfig
from .ports import BackendSignature

__all__ = ["BramBackend", "BramState"]


class BramState(enum.Enum, shape=2):
    """What the backend is doing."""

    IDLE = 0
    READ = 1
    WRITE = 2
    REFRESH = 3


class BramBackend(wiring.Component):
    """Backend of one block RAM with the timing of open rows.

    The byte offset is split into column (``row_bytes``), bank and row, from the low end. Each bank has at most one open row.
    A burst accepted in cycle *t* has its first beat in cycle *t + L*: a read beat is on ``r`` then, a write beat is taken
    then, if it is there. *L* is ``row_hit``, ``row_miss`` or ``row_conflict`` by the state of the first beat's bank. Then
    follows one beat per cycle, as long as the other side keeps up. Every beat leaves its row open, so a burst that runs into
    the next row opens that one behind the beats before it, without delay.

    The next burst is accepted at the earliest in the cycle after the last beat was read or written in the storage: a burst of *n*
    beats occupies the backend for *L + n - 1* (read) or *L + n* (write) cycles.

    Every ``refresh_interval`` cycles from reset on a refresh falls due. It starts in the first cycle in which no burst is in
    progress, wins against a burst offered in that cycle, keeps ``cmd.ready`` low for ``refresh_cycles`` cycles, and closes
    all rows. (With 0 cycles it closes the rows only; a burst accepted in that cycle finds them closed.)

    The storage is the memory ``ram`` of this module, one row per beat of the data width. It is not cleared by reset.

    Parameters
    ----------
    config : the SoC's configuration; ``data_width`` and ``memory`` count.
    tag_width : bits of a burst's tag.

    Members
    -------
    port : ``In(BackendSignature)``.
    state : ``Out(BramState)``, for waves.
    """

    def __init__(self, config: SocConfig, *, tag_width: int):
        self._config = config
        self._tag_width = tag_width
        signature = BackendSignature(
            data_width=config.data_width, addr_width=(config.memory.size - 1).bit_length(), tag_width=tag_width
        )
        super().__init__({"port": In(signature), "state": wiring.Out(BramState)})

    def elaborate(self, platform):
        m = Module()
        config, memory, port = self._config, self._config.memory, self.port
        data_width, data_bytes = config.data_width, config.data_bytes
        addr_width = (memory.size - 1).bit_length()
        beat_bits = (data_bytes - 1).bit_length()

        m.submodules.ram = ram = Memory(shape=unsigned(data_width), depth=memory.size // data_bytes, init=[])
        read = ram.read_port()
        write = ram.write_port(granularity=8)

        state = self.state
        burst = Signal(port.cmd.payload.shape())  # `len` counts down, `addr` is the address of the next beat
        first_len = Signal(8)
        wait = Signal(8)
        start = Signal()
        refreshing = Signal()
        m.d.comb += start.eq(port.cmd.valid & port.cmd.ready)

        # --- rows
        column_bits = (memory.row_bytes - 1).bit_length()
        bank_bits = (memory.banks - 1).bit_length()
        row_bits = max(addr_width - column_bits - bank_bits, 0)
        is_open = Signal(memory.banks)
        rows = Array(Signal(row_bits, name=f"row_{bank}") for bank in range(memory.banks))

        def bank_of(addr):
            # A window smaller than all banks' rows together leaves some banks unused.
            return addr[column_bits : column_bits + bank_bits]

        def row_of(addr):
            return addr[column_bits + bank_bits :]

        latency = Signal(8)
        asked = port.cmd.payload
        opened = Signal()
        m.d.comb += opened.eq(is_open.bit_select(bank_of(asked.addr), 1) & ~refreshing)
        with m.If(~opened):
            m.d.comb += [latency.eq(memory.row_miss), port.row_miss.eq(start)]
        with m.Elif(rows[bank_of(asked.addr)] == row_of(asked.addr)):
            m.d.comb += [latency.eq(memory.row_hit), port.row_hit.eq(start)]
        with m.Else():
            m.d.comb += [latency.eq(memory.row_conflict), port.row_conflict.eq(start)]

        # --- refresh
        due = Signal()
        if memory.refresh_interval:
            elapsed = Signal(range(memory.refresh_interval))
            with m.If(refreshing):
                m.d.sync += due.eq(0)
            with m.If(elapsed == memory.refresh_interval - 1):
                m.d.sync += [elapsed.eq(0), due.eq(1)]
            with m.Else():
                m.d.sync += elapsed.eq(elapsed + 1)
        m.d.comb += [refreshing.eq(due & (state == BramState.IDLE)), port.refresh.eq(refreshing)]

        # --- beats
        beat = Signal()  # a storage access happens at this cycle's closing edge
        beat_addr = Signal(addr_width)
        beat_tag = Signal(self._tag_width)
        beat_last = Signal()
        beat_read = Signal()
        r_free = Signal()
        m.d.comb += [
            r_free.eq(~port.r.valid | port.r.ready),
            beat_addr.eq(burst.addr),
            beat_tag.eq(burst.tag),
            beat_last.eq(burst.len == 0),
            read.addr.eq(beat_addr[beat_bits:]),
            read.en.eq(beat_read),
            write.addr.eq(burst.addr[beat_bits:]),
            write.data.eq(port.w.payload.data),
        ]
        with m.If(refreshing):
            m.d.sync += is_open.eq(0)
        with m.If(beat):
            m.d.sync += [
                is_open.bit_select(bank_of(beat_addr), 1).eq(1),
                rows[bank_of(beat_addr)].eq(row_of(beat_addr)),
            ]

        with m.Switch(state):
            with m.Case(BramState.IDLE):
                if memory.refresh_cycles:
                    m.d.comb += port.cmd.ready.eq(~due)
                    with m.If(due & (memory.refresh_cycles > 1)):
                        m.d.sync += [state.eq(BramState.REFRESH), wait.eq(memory.refresh_cycles - 2)]
                else:
                    m.d.comb += port.cmd.ready.eq(1)
                with m.If(start):
                    m.d.sync += [
                        burst.eq(asked),
                        first_len.eq(asked.len),
                        state.eq(Mux(asked.write, BramState.WRITE, BramState.READ)),
                        # A read beat is addressed in the cycle before it shows.
                        wait.eq(Mux(asked.write | (latency == 1), latency - 1, latency - 2)),
                    ]
                    if memory.row_hit == 1:  # then the storage is addressed by the command itself
                        with m.If(~asked.write & (latency == 1) & r_free):
                            m.d.comb += [
                                beat.eq(1),
                                beat_read.eq(1),
                                beat_addr.eq(asked.addr),
                                beat_tag.eq(asked.tag),
                                beat_last.eq(asked.len == 0),
                            ]
                            m.d.sync += [
                                burst.addr.eq(next_address(asked.addr, asked.size, asked.len, asked.burst)),
                                burst.len.eq(asked.len - 1),
                            ]
                            with m.If(asked.len == 0):
                                m.d.sync += state.eq(BramState.IDLE)
            with m.Case(BramState.READ):
                with m.If(wait != 0):
                    m.d.sync += wait.eq(wait - 1)
                with m.Elif(r_free):
                    m.d.comb += [beat.eq(1), beat_read.eq(1)]
            with m.Case(BramState.WRITE):
                with m.If(wait != 0):
                    m.d.sync += wait.eq(wait - 1)
                with m.Else():
                    m.d.comb += port.w.ready.eq(1)
                    with m.If(port.w.valid):
                        m.d.comb += [
                            beat.eq(1),
                            write.en.eq(Mux(burst.discard, Const(0, data_bytes), port.w.payload.strb)),
                        ]
            with m.Case(BramState.REFRESH):
                with m.If(wait != 0):
                    m.d.sync += wait.eq(wait - 1)
                with m.Else():
                    m.d.sync += state.eq(BramState.IDLE)
        with m.If(beat & (state != BramState.IDLE)):
            m.d.sync += [
                burst.addr.eq(next_address(burst.addr, burst.size, first_len, burst.burst)),
                burst.len.eq(burst.len - 1),
            ]
            with m.If(burst.len == 0):
                m.d.sync += state.eq(BramState.IDLE)

        # --- read data: the RAM's output register is the payload
        r_tag = Signal(self._tag_width)
        r_last = Signal()
        fresh = Signal()  # the data on `r` has just been read
        fresh_addr = Signal(addr_width)
        with m.If(r_free):
            m.d.sync += port.r.valid.eq(beat_read)
        with m.If(beat_read):
            m.d.sync += [r_tag.eq(beat_tag), r_last.eq(beat_last), fresh_addr.eq(beat_addr)]
        m.d.sync += fresh.eq(beat_read)
        m.d.comb += [
            port.r.payload.data.eq(read.data),
            port.r.payload.tag.eq(r_tag),
            port.r.payload.last.eq(r_last),
        ]

        # --- probe: `fresh` and a write never coincide, for a write burst is accepted after the read's last beat at the
        # earliest, and waits at least one cycle
        access = port.access.payload
        with m.If(fresh):
            m.d.comb += [
                port.access.valid.eq(1),
                access.addr.eq(Cat(Const(0, beat_bits), fresh_addr[beat_bits:])),
                access.data.eq(read.data),
                access.tag.eq(r_tag),
            ]
        with m.Else():
            m.d.comb += [
                port.access.valid.eq(beat & (state == BramState.WRITE)),
                access.write.eq(1),
                access.discard.eq(burst.discard),
                access.addr.eq(Cat(Const(0, beat_bits), burst.addr[beat_bits:])),
                access.data.eq(port.w.payload.data),
                access.strb.eq(port.w.payload.strb),
                access.tag.eq(burst.tag),
            ]
        return m
