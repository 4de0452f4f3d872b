# SPDX-License-Identifier: BSD-2-Clause
"""Ports between the caches, the maintenance unit and the coherency logic."""

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ..probe import Cause

__all__ = ["BLOCKED_LINES", "DCacheMaintSignature", "InvalidateSignature", "MaintOp", "MaintScope", "SnoopOp", "SnoopSignature"]


class MaintOp(enum.IntEnum, shape=2):
    """Operation of a maintenance command (Arm ARM: DC CVAC / IVAC / CIVAC; RISC-V Zicbom: cbo.clean / inval / flush)."""

    NONE = 0
    CLEAN = 1
    INVALIDATE = 2
    CLEAN_INVALIDATE = 3


class MaintScope(enum.IntEnum, shape=2):
    """Extent of a maintenance command."""

    LINE = 0
    RANGE = 1
    ALL = 2


class SnoopOp(enum.Enum, shape=1):
    """READ looks up and forwards dirty data; WRITE merges into a dirty line or drops a clean one, and blocks the line."""

    READ = 0
    WRITE = 1


#: Lines that snooped writes block at a time: enough for the answers of memory to overlap.
BLOCKED_LINES = 4


class SnoopSignature(wiring.Signature):
    """Lookup of the D-cache by others, seen from the requester.

    ``req``: ``op addr data strb`` (one line; ``data``/``strb`` only for WRITE). ``rsp`` (one per request, in order): ``dirty``
    (READ: ``data`` is the line, newer than memory; WRITE: the bytes were merged into a dirty line) and ``data``.
    The lookup covers the array, the write-back buffer and fills in flight. After a WRITE the line is blocked for the CPU, fills
    and evictions until ``release`` is high for one cycle (memory has answered). Up to :data:`BLOCKED_LINES` WRITEs are
    unreleased at a time; each ``release`` is for the oldest one. The requester sees to it that the CPU has its turn: it does not
    write to one set for ever without a pause. A response never depends on a bus grant that the requester holds.

    Parameters
    ----------
    line_bytes : 16 to 128.
    """

    def __init__(self, line_bytes: int):
        self._line_bytes = line_bytes
        super().__init__(
            {
                "req": Out(
                    stream.Signature(
                        data.StructLayout({"op": SnoopOp, "addr": 32, "data": line_bytes * 8, "strb": line_bytes, "source": 4})
                    )
                ),
                "rsp": In(stream.Signature(data.StructLayout({"dirty": 1, "data": line_bytes * 8}))),
                "release": Out(1),
            }
        )

    line_bytes = property(lambda self: self._line_bytes)

    def __eq__(self, other):
        return type(self) is type(other) and self._line_bytes == other._line_bytes

    def __repr__(self):
        return f"SnoopSignature({self._line_bytes})"


class InvalidateSignature(wiring.Signature):
    """Invalidation of I-cache lines, seen from the requester: stream ``req`` of ``all addr cause``.

    When a request is accepted the line (or everything) is gone from the array after that edge, and a fill in flight for it
    will not be installed.
    """

    def __init__(self):
        super().__init__({"req": Out(stream.Signature(data.StructLayout({"all": 1, "addr": 32, "cause": Cause})))})

    def __eq__(self, other):
        return type(self) is type(other)

    def __repr__(self):
        return "InvalidateSignature()"


class DCacheMaintSignature(wiring.Signature):
    """A maintenance command to the D-cache, seen from the maintenance unit.

    ``req``: ``op``, ``all`` and the byte addresses ``first`` and ``last`` of the first and the last line of the range (both
    included and inside the memory window, ``first`` not behind ``last``, offset bits ignored; not looked at with ``all``).
    ``many`` says that the range has at least as many lines as the cache, and so it is the cache that is walked; a wrong
    ``many`` costs time and nothing else. One command at a time: ``req`` is ready while none runs.
    ``done`` is high for one cycle when the command is complete (see docs/maintenance.md); ``error`` (a write-back of a
    line in the range was answered with an error) and ``aborted`` are valid with it. ``abort``, held until ``done``, ends
    the command after the line in progress; write-backs in the buffer are still waited for.
    ``progress`` is the byte address of the next line of a range that is walked by addresses, from the cycle after ``req`` on
    (with ``all`` or ``many`` it means nothing). ``step`` reports each visit in the cycle in which it is performed: ``valid addr
    present dirty`` (before the visit).
    """

    def __init__(self):
        super().__init__(
            {
                "req": Out(stream.Signature(data.StructLayout({"op": MaintOp, "all": 1, "many": 1, "first": 32, "last": 32}))),
                "abort": Out(1),
                "done": In(1),
                "error": In(1),
                "aborted": In(1),
                "progress": In(32),
                "step": In(data.StructLayout({"valid": 1, "addr": 32, "present": 1, "dirty": 1})),
            }
        )

    def __eq__(self, other):
        return type(self) is type(other)

    def __repr__(self):
        return "DCacheMaintSignature()"
