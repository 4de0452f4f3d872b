# SPDX-License-Identifier: BSD-2-Clause
"""Reads what the sink dumped of the hardware's arrays into :class:`sim.reference.snapshot.Snapshot`."""

import struct
from collections.abc import Sequence
from typing import Any

from rtl.cache.native import Geometry
from rtl.config import SocConfig

from .hdl.testbench import MAINTENANCE_MAGIC
from .record import Event, RecordError
from .reference.snapshot import CacheLine, Remainder, Snapshot

__all__ = ["Dump"]


class Dump:
    """Decoder of ``dump.bin`` and ``maintenance.bin`` for one model; ``layout`` is the model's ``layout.json``."""

    def __init__(self, config: SocConfig, layout: dict[str, Any]):
        self._config = config
        self._sections = {section["name"]: section for section in layout["sections"]}
        self._order = [section["name"] for section in layout["sections"]]
        self._maintenance = layout["maintenance"]

    def _split(self, blob: bytes, names: Sequence[str], where: str) -> dict[str, bytes]:
        parts, at = {}, 0
        for name in names:
            section = self._sections[name]
            size = section["depth"] * section["words"] * 4
            parts[name] = blob[at : at + size]
            at += size
        if at != len(blob):
            raise RecordError(f"{where}: must have {at} bytes, not {len(blob)}")
        return parts

    def _number(self, parts: dict[str, bytes], name: str) -> int:
        return int.from_bytes(parts[name], "little")

    def _rows(self, parts: dict[str, bytes], name: str) -> Sequence[int]:
        """A section of rows of at most 32 bits."""
        return struct.unpack(f"<{len(parts[name]) // 4}I", parts[name])

    def _dcache(self, parts: dict[str, bytes]) -> dict[int, CacheLine]:
        """Undoes what the D-cache does to keep its state small: banks of words, rows of state bits (rtl/cache/linestate.py)."""
        lines: dict[int, CacheLine] = {}
        g, base = Geometry(self._config), self._config.memory.base
        live, stained = self._number(parts, "dcache_live"), self._number(parts, "dcache_stained")
        if not live | stained:
            return lines
        size, per_bank = g.data_bytes, g.words // g.banks
        for way in range(g.ways):
            rows, dirty_rows = self._rows(parts, f"dcache_valid_{way}"), self._rows(parts, f"dcache_dirty_{way}")
            tags = self._rows(parts, f"dcache_tag_{way}")
            banks = [parts[f"dcache_data_{way}_{bank}"] for bank in range(g.banks)]
            for index in range(g.sets):
                row, bit = index >> g.span_bits, index % g.span
                dirty = stained >> row & 1 and dirty_rows[row] >> bit & 1
                if rows[row] >> bit & 1 if live >> row & 1 else dirty:
                    at = [index * per_bank + word // g.banks for word in range(g.words)]
                    data = b"".join(banks[word % g.banks][n * size : n * size + size] for word, n in enumerate(at))
                    lines[base + ((tags[index] << g.index_bits | index) << g.offset_bits)] = CacheLine(bool(dirty), data, way)
        return lines

    def _icache(self, parts: dict[str, bytes]) -> dict[int, bytes]:
        lines: dict[int, bytes] = {}
        cache, base = self._config.icache, self._config.memory.base
        size = cache.line_bytes
        for way in range(cache.ways):
            valid = self._number(parts, f"icache_valid_{way}")
            if not valid:
                continue
            tags, data = self._rows(parts, f"icache_tag_{way}"), parts[f"icache_data_{way}"]
            for index in range(cache.sets):
                if valid >> index & 1:
                    address = base + ((tags[index] << cache.index_bits | index) << cache.offset_bits)
                    lines[address] = data[index * size : index * size + size]
        return lines

    def _remainder(self, parts: dict[str, bytes], direction: str) -> Remainder | None:
        if not self._number(parts, f"{direction}_valid"):
            return None
        strobes, data = self._number(parts, f"{direction}_strb"), parts[f"{direction}_data"]
        chunk = self._config.dma.chunk_bytes
        return Remainder(self._number(parts, f"{direction}_addr"), {n: data[n] for n in range(chunk) if strobes >> n & 1})

    def snapshot(self, blob: bytes, cycle: int = 0) -> Snapshot:
        """The whole state, at the end of a run."""
        parts = self._split(blob, self._order, "dump.bin")
        return Snapshot(
            cycle=cycle,
            memory=parts["memory"],
            device=parts["device"],
            dcache=self._dcache(parts),
            icache=self._icache(parts),
            fifo_to_memory=self._remainder(parts, "to_memory"),
            fifo_to_device=self._remainder(parts, "to_stream"),
            final=True,
        )

    def maintenance(self, blob: bytes, events: Sequence[Event]) -> list[tuple[int, Snapshot]]:
        """One partial snapshot per maintenance command, with the number of ``events`` that stand before it."""
        found: list[tuple[int, Snapshot]] = []
        tail = sum(self._sections[name]["depth"] * self._sections[name]["words"] * 4 for name in self._maintenance)
        at = position = 0
        while at < len(blob):
            magic, cycle, first, length = struct.unpack_from("<4I", blob, at)
            if magic != MAINTENANCE_MAGIC:
                raise RecordError(f"maintenance.bin: byte {at}: must be {MAINTENANCE_MAGIC:#x}, not {magic:#x}")
            at += 16
            memory = blob[at : at + length]
            at += length
            parts = self._split(blob[at : at + tail], self._maintenance, f"maintenance.bin: byte {at}")
            at += tail
            # The sink writes the snapshot after the edge that ended cycle - 1 (the counter has moved on).
            while position < len(events) and events[position].cycle < cycle:
                position += 1
            found.append(
                (
                    position,
                    Snapshot(
                        cycle=cycle - 1,
                        memory=memory,
                        memory_base=first,
                        dcache=self._dcache(parts),
                    ),
                )
            )
        return found
