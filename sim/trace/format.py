# SPDX-License-Identifier: BSD-2-Clause
"""Trace files, and the beats that a cache gets from one.

A trace file is a gzipped text. Its first line is ``flushpoint-trace 1``, then come lines that begin with ``#`` (where it is
from), then one line per access: ``L`` load, ``S`` store or ``M`` load and store of the same bytes, the address in hex, and
the size in bytes. Addresses are virtual ones whose pages of 4096 bytes have been numbered in the order in which the program
first touched them: ``page number << 12 | address within the page``. So a file is small, and does not depend on where a system
happens to place programs and stacks.
"""

import gzip
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rtl.config import SocConfig

__all__ = ["PAGE", "Access", "Beat", "Trace", "TraceError", "beats", "number_pages", "read_trace", "write_trace"]

PAGE = 4096
MAX_SIZE = 64
_HEAD = "flushpoint-trace 1"
_LINE = re.compile(r"([LSM]) ([0-9a-f]{1,16}) ([0-9]{1,3})")


class TraceError(Exception):
    """A trace cannot be read, recorded or replayed; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Access:
    """``kind`` is ``"L"``, ``"S"`` or ``"M"``; ``size`` in bytes, 1 .. 64."""

    kind: str
    address: int
    size: int


@dataclass(frozen=True)
class Trace:
    """The accesses of a program, in its order, and the comment lines of the file."""

    accesses: list[Access]
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """Bytes of one bus word: ``address`` in the memory window, a multiple of ``size``, which is a power of two."""

    write: bool
    address: int
    size: int


def number_pages(accesses: Iterable[Access]) -> list[Access]:
    """The same accesses with pages numbered in the order of their first touch; one that crosses a page becomes two."""
    pages: dict[int, int] = {}
    out = []
    for access in accesses:
        at, left = access.address, access.size
        while left:
            part = min(left, PAGE - at % PAGE)
            page = pages.setdefault(at // PAGE, len(pages))
            out.append(Access(access.kind, page * PAGE + at % PAGE, part))
            at, left = at + part, left - part
    return out


def write_trace(path: Path, trace: Trace) -> None:
    """Writes a file; the same trace gives the same bytes."""
    text = "".join(
        [
            f"{_HEAD}\n",
            *(f"# {line}\n" for line in trace.comments),
            *(f"{a.kind} {a.address:x} {a.size}\n" for a in trace.accesses),
        ]
    )
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        file.write(text.encode())
    try:
        path.write_bytes(packed.getvalue())
    except OSError as error:
        raise TraceError(f"trace file {str(path)!r} must be writable: {error.strerror}") from None


def read_trace(path: Path) -> Trace:
    """Reads a file.

    Raises
    ------
    TraceError
        If it is missing or not a trace; the text names the line.
    """
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise TraceError(f"trace file {str(path)!r} must exist") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TraceError(f"trace file {str(path)!r} must be a gzipped text: {error}") from None
    if not lines or lines[0] != _HEAD:
        raise TraceError(f"trace file {str(path)!r} must begin with the line {_HEAD!r}, not {(lines or [''])[0][:40]!r}")
    accesses, comments = [], []
    for number, line in enumerate(lines[1:], 2):
        if line.startswith("#"):
            comments.append(line[1:].strip())
            continue
        found = _LINE.fullmatch(line)
        if not found or not 1 <= int(found[3]) <= MAX_SIZE:
            raise TraceError(
                f"trace file {str(path)!r}, line {number} must be L, S or M, an address and a size to {MAX_SIZE}, not {line!r}"
            )
        accesses.append(Access(found[1], int(found[2], 16), int(found[3])))
    return Trace(accesses, tuple(comments))


def beats(accesses: Iterable[Access], config: SocConfig) -> Iterator[Beat]:
    """The accesses as the beats of one bus, folded into the memory window.

    Page n goes to the window's page ``n % (memory.size / 4096)``. An access is cut into naturally aligned pieces, none wider than
    the bus, lowest address first; ``M`` is all of its loads, then all of its stores.
    """
    pages = config.memory.size // PAGE
    for access in accesses:
        pieces = []
        at, left = access.address, access.size
        while left:
            size = min(at & -at if at else config.data_bytes, config.data_bytes, 1 << (left.bit_length() - 1))
            pieces.append((config.memory.base + (at // PAGE % pages) * PAGE + at % PAGE, size))
            at, left = at + size, left - size
        for write in {"L": (False,), "S": (True,), "M": (False, True)}[access.kind]:
            yield from (Beat(write, address, size) for address, size in pieces)
