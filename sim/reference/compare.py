# SPDX-License-Identifier: BSD-2-Clause
"""Comparison of a snapshot of the hardware with the model's state."""

from collections.abc import Iterator

from .context import Context, Mismatch
from .snapshot import NOT_SEEN, CacheLine, Snapshot
from .words import to_bytes

__all__ = ["Comparison", "difference_runs"]

_SHOWN = 16  # bytes of a run in an error text
_RUNS = 64  # runs reported per array; the rest is counted in one more


def difference_runs(expected: bytes, got: bytes) -> Iterator[tuple[int, int]]:
    """Runs ``(first, end)`` of bytes that differ, of two equally long strings; equal parts cost next to nothing."""
    step = 4096
    start = None
    for base in range(0, len(expected), step):
        a, b = expected[base : base + step], got[base : base + step]
        if a == b:
            if start is not None:
                yield start, base
                start = None
            continue
        for offset, (x, y) in enumerate(zip(a, b), base):
            if x != y:
                start = offset if start is None else start
            elif start is not None:
                yield start, offset
                start = None
    if start is not None:
        yield start, len(expected)


def _hex(data: bytes) -> str:
    return data[:_SHOWN].hex(" ") + (" ..." if len(data) > _SHOWN else "")


class Comparison:
    """One comparison; see :meth:`ReferenceModel.compare`."""

    def __init__(self, context: Context, snapshot: Snapshot):
        self.c, self.s = context, snapshot
        self.found: list[Mismatch] = []

    def _report(self, what: str, address: int | None = None, expected: str | None = None, got: str | None = None) -> None:
        self.found.append(Mismatch(self.s.cycle, what, address, expected, got))

    def run(self) -> list[Mismatch]:
        s, c = self.s, self.c
        if s.memory is not NOT_SEEN:
            base = c.base if s.memory_base is None else s.memory_base
            first, last = base - c.base, base - c.base + len(s.memory)
            if first < 0 or last > c.size:
                raise ValueError(f"Snapshot memory must lie in the memory window, not at {base:#x} with {len(s.memory)} bytes")
            aligned = first & c.beat_mask
            words = c.memory[aligned >> c.beat_shift : (last + c.beat - 1) >> c.beat_shift]
            expected = to_bytes(words, c.beat)[first - aligned :][: len(s.memory)]
            self._array("memory", base, expected, s.memory)
        if s.device is not NOT_SEEN:
            self._array("device buffer", 0, to_bytes(c.device.words, c.beat), s.device)
        if s.dcache is not NOT_SEEN:
            got = {address: CacheLine(*line) for address, line in s.dcache.items()}
            expected = {a: CacheLine(n.dirty, to_bytes(n.data, c.beat), n.way) for a, n in c.dcache.lines.items()}
            self._cache("D-cache", expected, got)
        if s.icache is not NOT_SEEN:
            got = {address: CacheLine(False, data) for address, data in s.icache.items()}
            expected = {a: CacheLine(False, to_bytes(n.data, c.beat)) for a, n in c.icache.lines.items()}
            self._cache("I-cache", expected, got)
        for fifo, part in zip(c.dma.fifos, (s.fifo_to_memory, s.fifo_to_device)):
            if part is not NOT_SEEN:
                expected, got = self._remainder(fifo.remainder()), self._remainder(part)
                if expected != got:
                    address = (part or fifo.remainder())[0]
                    self._report(f"DMA FIFO to {fifo.name}: remainder", address, expected, got)
        if s.final:
            self._final()
        return self.found

    def _array(self, name: str, base: int, expected: bytes, got: bytes) -> None:
        if len(got) != len(expected):
            raise ValueError(f"Snapshot {name} must be {len(expected)} bytes, not {len(got)}")
        if got == expected:
            return
        more = 0
        for n, (first, end) in enumerate(difference_runs(expected, got)):
            if n < _RUNS:
                what = f"{name} {base + first:#010x}: {end - first} bytes differ"
                self._report(what, base + first, _hex(expected[first:end]), _hex(got[first:end]))
            else:
                more += 1
        if more:
            self._report(f"{name}: {more} more runs of bytes differ")

    def _cache(self, name: str, expected: dict[int, CacheLine], got: dict[int, CacheLine]) -> None:
        for address in sorted(expected.keys() | got.keys()):
            where = f"{name} line {address:#010x}"
            want, have = expected.get(address), got.get(address)
            if want is None or have is None:
                words = ["valid" if line else "absent" for line in (want, have)]
                self._report(where, address, *words)
                continue
            if want.dirty != bool(have.dirty):
                self._report(f"{where}: dirty", address, str(want.dirty), str(bool(have.dirty)))
            if want.data != bytes(have.data):
                if len(have.data) != len(want.data):
                    raise ValueError(f"Snapshot {name} line must be {len(want.data)} bytes, not {len(have.data)}")
                for first, end in difference_runs(want.data, bytes(have.data)):
                    what = f"{where}: {end - first} bytes differ at {address + first:#010x}"
                    self._report(what, address + first, _hex(want.data[first:end]), _hex(bytes(have.data)[first:end]))
            if None not in (want.way, have.way) and want.way != have.way:
                self._report(f"{where}: way", address, str(want.way), str(have.way))

    @staticmethod
    def _remainder(part: tuple[int, dict[int, int]] | None) -> str:
        if part is None or not part[1]:
            return "empty"
        return f"{part[0]:#010x}: " + " ".join(f"+{offset}={byte:02x}" for offset, byte in sorted(part[1].items()))

    def _final(self) -> None:
        """Duties that a quiet machine has none of left."""
        c = self.c
        for address in sorted(c.dcache.write_backs):
            self._report(f"D-cache line {address:#010x}: a write-back was never answered", address)
        for store in c.dcache.stores.queue:
            self._report(f"D-cache line {store.line:#010x}: a store at {store.address:#010x} was never answered", store.address)
        for address in sorted(c.dcache.fills):
            self._report(f"D-cache line {address:#010x}: a fill was never installed or dropped", address)
        for part in (c.maintenance, c.registers, c.dma, c.device):
            part.outstanding(self._report)
        if not c.config.coherent:
            return
        for name, lines in (("D-cache", c.dcache.lines), ("I-cache", c.icache.lines)):
            for address, line in sorted(lines.items()):
                if address in c.dcache.aliased or (name == "D-cache" and line.dirty):
                    continue
                newest = c.dcache.newest(address) or c.line_words(address)
                if list(line.data) != newest:
                    texts = [to_bytes(words, c.beat).hex(" ") for words in (newest, line.data)]
                    self._report(f"{name} line {address:#010x}: stale on a coherent platform", address, *texts)
