# SPDX-License-Identifier: BSD-2-Clause
"""Probe events and their file format.

``events.bin`` is a sequence of fixed-size records of 32-bit little-endian words, as the simulation's sink writes them
(``$fwrite("%u", {data, aux, addr, cycle, tag, flags, kind})``):

====  ==========================================
word  content
====  ==========================================
0     ``kind | flags << 8 | tag << 16``
1     ``cycle``
2     ``addr``
3     ``aux``
4..   ``data``, low word first: two words for a bus of up to 64 bits, four for 128
====  ==========================================

``events.hex`` holds the same words as text, one record per line, eight hex digits per word, separated by blanks: for a
simulator that cannot write binary.
"""

import itertools
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rtl.probe import Kind

__all__ = [
    "Event",
    "EventReader",
    "RecordError",
    "pack_events",
    "read_events",
    "read_events_text",
    "record_bytes",
    "unpack_events",
    "write_events",
    "write_events_text",
]

_KNOWN = frozenset(int(kind) for kind in Kind)
_NAMES = {int(kind): kind.name for kind in Kind}
_NARROW = struct.Struct("<BBHIIIQ")
_WIDE = struct.Struct("<BBHIIIQQ")


class RecordError(ValueError):
    """A file of a run's record breaks its format; the text names the file, the position and the rule."""


class Event(NamedTuple):
    """One probe record. ``kind`` is a plain ``int`` that compares equal to :class:`rtl.probe.Kind`; fields as there."""

    cycle: int
    kind: int
    flags: int = 0
    tag: int = 0
    addr: int = 0
    aux: int = 0
    data: int = 0

    @property
    def name(self) -> str:
        """The kind's name."""
        return _NAMES.get(self.kind, f"kind {self.kind:#04x}")

    def __str__(self) -> str:
        return (
            f"cycle {self.cycle}: {self.name} addr={self.addr:#010x} aux={self.aux:#x} data={self.data:#x} "
            f"flags={self.flags:#x} tag={self.tag}"
        )


def _layout(data_width: int) -> struct.Struct:
    if data_width in (32, 64):
        return _NARROW
    if data_width == 128:
        return _WIDE
    raise ValueError(f"Data width must be one of 32, 64, 128, not {data_width!r}")


def record_bytes(data_width: int) -> int:
    """Size of one record in bytes: 24 for a bus of 32 or 64 bits, 32 for 128."""
    return _layout(data_width).size


def unpack_events(blob: bytes, data_width: int, *, where: str = "events", base: int = 0) -> list[Event]:
    """Decodes whole records. ``where`` and ``base`` (byte position of ``blob`` in its file) are for error texts.

    Raises
    ------
    RecordError
        If the blob does not end on a record, or a record's kind is unknown.
    """
    layout = _layout(data_width)
    size = layout.size
    if len(blob) % size:
        at = base + len(blob) - len(blob) % size
        raise RecordError(f"{where}: byte {at}: a record must have {size} bytes, not {len(blob) % size}")
    kinds = blob[0::size]
    unknown = set(kinds) - _KNOWN
    if unknown:
        first = next(n for n, kind in enumerate(kinds) if kind in unknown)
        raise RecordError(f"{where}: byte {base + first * size}: kind must be one of rtl.probe.Kind, not {kinds[first]:#04x}")
    new, event = tuple.__new__, Event  # the generated constructor would cost more than the decoding
    if layout is _NARROW:
        return [new(event, (c, k, f, t, a, x, d)) for k, f, t, c, a, x, d in layout.iter_unpack(blob)]
    return [new(event, (c, k, f, t, a, x, d | h << 64)) for k, f, t, c, a, x, d, h in layout.iter_unpack(blob)]


def pack_events(events: Iterable[Event], data_width: int) -> bytes:
    """Encodes events; ValueError names the first one with a field that does not fit."""
    layout = _layout(data_width)
    out = bytearray()
    for event in events:
        c, k, f, t, a, x, d = event
        try:
            if layout is _NARROW:
                out += layout.pack(k, f, t, c, a, x, d)
            else:
                out += layout.pack(k, f, t, c, a, x, d & 0xFFFF_FFFF_FFFF_FFFF, d >> 64)
        except struct.error as error:
            raise ValueError(f"Event must fit its record, not {Event(*event)} ({error})") from None
    return bytes(out)


def read_events(path: str | Path, data_width: int, offset: int = 0) -> tuple[list[Event], int]:
    """Reads the whole records of ``events.bin`` from byte ``offset`` on, and the offset to go on from.

    A last record that is not complete yet is left for the next call: the sink may still be writing.

    Raises
    ------
    RecordError
        If the file cannot be read, ``offset`` is not on a record, or a kind is unknown.
    """
    size = record_bytes(data_width)
    if offset % size or offset < 0:
        raise RecordError(f"{path}: byte {offset}: an offset must be a multiple of the record size {size}")
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            length = max(file.tell() - offset, 0) // size * size
            file.seek(offset)
            blob = file.read(length)
    except OSError as error:
        raise RecordError(f"{path}: the file must be readable: {error.strerror}") from None
    return unpack_events(blob, data_width, where=str(path), base=offset), offset + len(blob)


def write_events(path: str | Path, events: Iterable[Event], data_width: int) -> None:
    """Writes ``events.bin``; nothing half-written is left behind."""
    _replace(path, pack_events(events, data_width))


def read_events_text(path: str | Path, data_width: int, offset: int = 0) -> tuple[list[Event], int]:
    """As :func:`read_events`, for ``events.hex``; positions are bytes, and only whole lines are taken."""
    words = record_bytes(data_width) // 4
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            blob = file.read()
    except OSError as error:
        raise RecordError(f"{path}: the file must be readable: {error.strerror}") from None
    blob = blob[: blob.rfind(b"\n") + 1]
    lines = blob.split(b"\n")[:-1]
    packed = bytearray()
    position = offset
    for line in lines:
        fields = line.split()
        if fields:
            try:
                if len(fields) != words or any(len(word) != 8 for word in fields):
                    raise ValueError
                packed += struct.pack(f"<{words}I", *(int(word, 16) for word in fields))
            except ValueError:
                text = line.decode("ascii", "replace").strip()
                raise RecordError(
                    f"{path}: byte {position}: a line must be {words} words of eight hex digits, not {text!r}"
                ) from None
            if packed[-4 * words] not in _KNOWN:
                raise RecordError(f"{path}: byte {position}: kind must be one of rtl.probe.Kind, not {packed[-4 * words]:#04x}")
        position += len(line) + 1
    return unpack_events(bytes(packed), data_width, where=str(path)), offset + len(blob)


def write_events_text(path: str | Path, events: Iterable[Event], data_width: int) -> None:
    """Writes ``events.hex``."""
    words = record_bytes(data_width) // 4
    packed = struct.iter_unpack(f"<{words}I", pack_events(events, data_width))
    _replace(path, b"".join(b" ".join(b"%08x" % word for word in record) + b"\n" for record in packed))


class EventReader:
    """Reads a growing file piece by piece: each :meth:`read` returns the records written since the one before.

    A name that ends in ``.hex`` is read as text, anything else as binary. :meth:`skip` passes over what is there (records
    of an earlier scenario in the same process).
    """

    def __init__(self, path: str | Path, data_width: int):
        self.path, self.data_width, self.offset = Path(path), data_width, 0
        self._read = read_events_text if self.path.suffix == ".hex" else read_events

    def read(self) -> list[Event]:
        """New whole records, in file order."""
        events, self.offset = self._read(self.path, self.data_width, self.offset)
        return events

    def skip(self) -> None:
        """Goes to the end of what is written."""
        self.read()


def check_order(events: list[Event], where: str) -> None:
    """Raises :class:`RecordError` if a cycle is smaller than the one before."""
    for number, (before, after) in enumerate(itertools.pairwise(events), 1):
        if after[0] < before[0]:
            raise RecordError(f"{where}: record {number}: cycle must not be before {before[0]}, not {after[0]}")


def _replace(path: str | Path, blob: bytes) -> None:
    part = Path(path).with_name(Path(path).name + ".part")
    part.write_bytes(blob)
    part.replace(path)
