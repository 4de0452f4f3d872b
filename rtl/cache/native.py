# SPDX-License-Identifier: BSD-2-Clause
"""Ports inside the D-cache: the native CPU port, and the port by which other agents use the lookup pipeline."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..axi.bus import Resp
from ..config import SocConfig

__all__ = ["AUX_LATENCY", "AuxOp", "AuxSignature", "Geometry", "NativeSignature", "add_pending", "add_flight"]

#: Cycles from the walker's ``grant`` to its ``done`` or ``retry``: the stages behind the first.
AUX_LATENCY = 2


class Geometry:
    """Widths that all parts of the D-cache share, computed once.

    A *line number* is the line's position in the memory window: only addresses of the window are cached, so neither tags
    nor line numbers hold the bits that are the same for all of it. ``line_bits`` is never smaller than ``index_bits + 1``.
    """

    def __init__(self, config: SocConfig):
        cache = config.dcache
        self.sets, self.ways, self.line_bytes = cache.sets, cache.ways, cache.line_bytes
        self.data_bytes, self.data_width = config.data_bytes, config.data_width
        self.words = self.line_bytes // self.data_bytes
        self.word_bits = (self.words - 1).bit_length()
        self.byte_bits = (self.data_bytes - 1).bit_length()
        self.offset_bits, self.index_bits = cache.offset_bits, cache.index_bits
        self.window_bits = (config.memory.size - 1).bit_length()
        self.base = config.memory.base
        self.window_lines = config.memory.size // self.line_bytes
        self.line_bits = max(self.window_bits - self.offset_bits, self.index_bits + 1)
        self.tag_bits = self.line_bits - self.index_bits
        self.size_code = self.byte_bits
        self.parity = cache.parity
        # A snoop needs a whole line at once; without snoops two banks let the CPU and an eviction read side by side.
        self.banks = self.words if config.coherent else 2
        self.bank_bits = (self.banks - 1).bit_length()
        self.bank_rows = self.sets * self.words // self.banks
        # State bits are kept in rows of `span` sets: about the square root, so that neither rows nor their number get large.
        self.span_bits = min(self.index_bits, max(2, self.index_bits // 2 - 1))
        self.span = 1 << self.span_bits
        self.state_rows = self.sets >> self.span_bits

    def line_of(self, address):
        """Line number of a 32-bit byte address inside the window."""
        used = self.window_bits - self.offset_bits
        return address[self.offset_bits : self.window_bits][: max(used, 0)]

    def set_of(self, line):
        """Index of a line number."""
        return line[: self.index_bits]

    def bank_of(self, word):
        """The bank that holds a word of a line."""
        return word[: self.bank_bits]

    def row_of(self, index, word):
        """Row of a word of a set in its bank."""
        return Cat(word[self.bank_bits :], index)

    def address_of(self, line):
        """Byte address of a line number."""
        return (line << self.offset_bits)[: self.window_bits] | self.base

    def in_window(self, address):
        """Does a 32-bit byte address lie in the memory window?"""
        if self.window_bits >= 32:
            return 1
        return address[self.window_bits :] == self.base >> self.window_bits


class NativeSignature(wiring.Signature):
    """One beat per transfer, seen from the requester. Responses come in order, at the earliest one cycle after the request.

    ``req``: ``addr`` (byte address; the beat is the aligned word around it), ``we``, ``data``, ``strb`` (bytes stored,
    or asked for), ``size`` (log2 bytes), ``cacheable``, ``tag`` (source line of the driver) and ``meta`` (returned with
    the response).

    Parameters
    ----------
    data_width, meta_width : bits.
    """

    def __init__(self, *, data_width: int, meta_width: int):
        self._data_width, self._meta_width = data_width, meta_width
        super().__init__(
            {
                "req": Out(
                    stream.Signature(
                        data.StructLayout(
                            {
                                "addr": 32,
                                "we": 1,
                                "data": data_width,
                                "strb": data_width // 8,
                                "size": 3,
                                "cacheable": 1,
                                "tag": 16,
                                "meta": meta_width,
                            }
                        )
                    )
                ),
                "rsp": In(stream.Signature(data.StructLayout({"we": 1, "data": data_width, "resp": Resp, "meta": meta_width}))),
            }
        )

    data_width = property(lambda self: self._data_width)
    meta_width = property(lambda self: self._meta_width)

    def __eq__(self, other):
        return type(self) is type(other) and self._data_width == other._data_width and self._meta_width == other._meta_width

    def __repr__(self):
        return f"NativeSignature(data_width={self._data_width}, meta_width={self._meta_width})"


class AuxOp(enum.Enum, shape=4):
    """What an agent other than the CPU asks of a set."""

    NONE = 0
    WALK_LINE = 1  # maintenance of one line, if present
    WALK_WAY = 2  # maintenance of one way of the set (the tag in ``line`` means nothing), if the command covers its line
    FLASH = 3  # invalidate the whole array
    EVICT_LINE = 4  # write back if dirty, then drop
    CLEAN_LINE = 5  # write back if dirty
    EVICT_SET = 6  # evict a dirty line of the set
    PREFETCH = 7  # fill the line if absent, into the prefetch slot
    SNOOP_READ = 8
    SNOOP_WRITE = 9
    INSTALL = 10  # the fill slot that is picked ends: its line becomes valid, or is dropped
    UPSET = 12  # invert a stored parity bit of the line, if present (parity only)
    QUIET = 11  # done when the line is neither being filled nor in the write-back buffer


class AuxSignature(wiring.Signature):
    """Use of the pipeline, seen from the agent.

    ``valid op line`` hold until ``grant``. After it either ``done`` (performed, or nothing to do) or ``retry`` (nothing was
    changed; ask again) is high for a cycle. The walker's lookup starts with ``grant``, so that is exactly :data:`AUX_LATENCY`
    cycles later, and lookups follow each other. Others have one at a time, which waits in a register until it starts.
    """

    def __init__(self, line_bits: int):
        self._line_bits = line_bits
        super().__init__(
            {"valid": Out(1), "op": Out(AuxOp), "line": Out(line_bits), "grant": In(1), "done": In(1), "retry": In(1)}
        )

    def __eq__(self, other):
        return type(self) is type(other) and self._line_bits == other._line_bits

    def __repr__(self):
        return f"AuxSignature({self._line_bits})"


def add_pending(m: Module, aux: AuxSignature) -> Signal:
    """Adds the state "a lookup was granted and has not ended" of an agent that has one at a time, and returns it.

    High from the cycle after ``grant`` until that of ``done`` or ``retry``; the agent asks while it is low.
    """
    pending = Signal(name="pending")
    m.d.sync += pending.eq(aux.grant | (pending & ~(aux.done | aux.retry)))
    return pending


def add_flight(m: Module, aux: AuxSignature) -> Signal:
    """Adds a record of an agent's lookups under way and returns it: bit *n* is high *n + 1* cycles after a ``grant``.

    So the last bit comes with ``done`` or ``retry``. For the walker.
    """
    flight = Signal(AUX_LATENCY, name="flight")
    m.d.sync += flight.eq(Cat(aux.grant, flight))
    return flight
