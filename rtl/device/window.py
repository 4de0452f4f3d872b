# SPDX-License-Identifier: BSD-2-Clause
"""A sliding view of a memory: bytes from any position, up to one word per cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ReadWindow"]


class ReadWindow(wiring.Component):
    """Holds the memory word with the current position and the one behind it, and keeps both equal to the memory.

    ``load`` puts the position to ``position``; ``ready`` is high from the second cycle after it. ``take`` (only while
    ``ready``) moves the position by ``count`` bytes, and ``data`` shows the new position's bytes in the next cycle. A write
    to the memory that is presented on ``write_*`` is visible in ``data`` in the next cycle, also if the word was read before.

    Parameters
    ----------
    data_width : bits of a memory word, a power of two of at least 16.
    depth : words of the memory, a power of two; the position wraps.

    Members
    -------
    load, position : start at this byte. ``load`` wins over ``take``.
    take, count : move on by 0 to ``data_width // 8`` bytes.
    ready : ``data``, ``word``, ``offset``, ``current`` are valid.
    data : the ``data_width // 8`` bytes from the position on, first byte in lane 0.
    word, offset, current : the position as word number and lane, and that word.
    read_en, read_addr, read_data : to a synchronous, non-transparent read port.
    write_en, write_addr, write_data : the memory's write port as it is driven in this cycle (one enable per byte).

    Raises
    ------
    ValueError
        If ``data_width`` or ``depth`` breaks its rule.
    """

    def __init__(self, *, data_width: int, depth: int):
        if not isinstance(data_width, int) or data_width < 16 or data_width & (data_width - 1):
            raise ValueError(f"ReadWindow data_width must be a power of two of at least 16, not {data_width!r}")
        if not isinstance(depth, int) or depth < 2 or depth & (depth - 1):
            raise ValueError(f"ReadWindow depth must be a power of two of at least 2, not {depth!r}")
        self._lanes = lanes = data_width // 8
        word_bits = (depth - 1).bit_length()
        lane_bits = (lanes - 1).bit_length()
        super().__init__(
            {
                "load": In(1),
                "position": In(word_bits + lane_bits),
                "take": In(1),
                "count": In(range(lanes + 1)),
                "ready": Out(1),
                "data": Out(data_width),
                "word": Out(word_bits),
                "offset": Out(lane_bits),
                "current": Out(data_width),
                "read_en": Out(1),
                "read_addr": Out(word_bits),
                "read_data": In(data_width),
                "write_en": In(lanes),
                "write_addr": In(word_bits),
                "write_data": In(data_width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self._lanes
        lane_bits = len(self.offset)
        word_bits = len(self.word)

        loading = Signal()  # the first word is on read_data; the second is being read
        behind = Signal(word_bits)  # number of the word on read_data
        patch = Signal(8 * lanes)  # bytes written to that word since it was read
        patched = Signal(lanes)
        following = Signal(8 * lanes)
        advance = Signal()
        end = Signal(lane_bits + 1)

        def per_lane(select, new, old):
            return Cat(Mux(select[n], new.word_select(n, 8), old.word_select(n, 8)) for n in range(lanes))

        m.d.comb += [
            following.eq(per_lane(patched, patch, self.read_data)),
            end.eq(self.offset + self.count),
            advance.eq(self.take & end[lane_bits]),
            self.data.eq(
                Array(Cat(self.current, following).bit_select(Const(8 * n), 8 * lanes) for n in range(lanes))[self.offset]
            ),
        ]

        # Read ahead: `behind` is always the word after `word` (while loading: the word itself).
        with m.If(self.load):
            m.d.comb += [self.read_en.eq(1), self.read_addr.eq(self.position[lane_bits:])]
            m.d.sync += [
                self.word.eq(self.position[lane_bits:]),
                self.offset.eq(self.position[:lane_bits]),
                loading.eq(1),
                self.ready.eq(0),
            ]
        with m.Elif(loading):
            m.d.comb += [self.read_en.eq(1), self.read_addr.eq(behind + 1)]
            m.d.sync += [loading.eq(0), self.ready.eq(1)]
        with m.Elif(self.take):
            m.d.comb += [self.read_en.eq(advance), self.read_addr.eq(behind + 1)]
            m.d.sync += [self.offset.eq(end[:lane_bits]), self.word.eq(self.word + advance)]

        # Keep up with writes. The read port is not transparent, so a write in the cycle of the read counts as later.
        write_behind = Signal(lanes)
        write_current = Signal(lanes)
        m.d.comb += [
            write_behind.eq(Mux(self.write_addr == behind, self.write_en, 0)),
            write_current.eq(Mux(self.write_addr == self.word, self.write_en, 0)),
        ]
        with m.If(self.read_en):
            m.d.sync += [
                behind.eq(self.read_addr),
                patched.eq(Mux(self.write_addr == self.read_addr, self.write_en, 0)),
                patch.eq(self.write_data),
            ]
        with m.Else():
            m.d.sync += [patched.eq(patched | write_behind), patch.eq(per_lane(write_behind, self.write_data, patch))]
        with m.If(loading | advance):
            m.d.sync += self.current.eq(per_lane(write_behind, self.write_data, following))
        with m.Else():
            m.d.sync += self.current.eq(per_lane(write_current, self.write_data, self.current))
        return m
