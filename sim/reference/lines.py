# SPDX-License-Identifier: BSD-2-Clause
"""The places a D-cache line's bytes can be in, and what a maintenance command asks of them."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Command", "Fill", "Line", "WriteBack"]


class Line:
    """A valid line. ``since``: when its fill was requested; ``dirty_since``: when it last turned dirty (event numbers)."""

    __slots__ = ("data", "dirty", "dirty_since", "since", "way")

    def __init__(self, data: list[int], way: int, since: int, dirty: bool = False, dirty_since: int = 0):
        self.data, self.way, self.since, self.dirty, self.dirty_since = data, way, since, dirty, dirty_since


class Fill:
    """A fill in flight. ``got``: beats read, as bits; ``merged``: bit mask of stored bytes per beat."""

    __slots__ = ("cause", "data", "dirty", "dirty_since", "dropped", "error", "got", "merged", "since")

    def __init__(self, beats: int, cause: int, since: int):
        self.data, self.merged = [0] * beats, [0] * beats
        self.cause, self.since = cause, since
        self.got = self.dirty_since = 0
        self.dirty = self.error = self.dropped = False


class WriteBack:
    """An entry of the write-back buffer. ``written``: beats in memory, as bits; ``spoiled``: the parity of a byte was wrong."""

    __slots__ = ("cause", "data", "dirty_since", "error", "spoiled", "written")

    def __init__(self, data: list[int], dirty_since: int, cause: int, spoiled: bool = False):
        self.data, self.dirty_since, self.cause, self.spoiled = data, dirty_since, cause, spoiled
        self.written, self.error = 0, False


class Command(NamedTuple):
    """What :meth:`DCacheModel.unfinished` asks of a maintenance command."""

    covers: Callable[[int], bool]
    clean: bool
    invalidate: bool
    begin: int
    buffered_is_done: bool
