# SPDX-License-Identifier: BSD-2-Clause
"""May-state of cache lines, and what is known of the newest bytes.

May-state says what *some* timing of this driver could have left in the caches, whatever this run's luck was: only completed
maintenance takes anything away. All byte sets are masks of one line, bit n being byte n.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sim.record import Event

__all__ = ["Bytes", "Line", "clip", "intersect", "line_masks", "merge", "subtract"]

Range = tuple[int, int]


class Line:
    """One line of the memory window.

    Maybe-dirty: ``dirty`` (bytes stored since the last completed clean), ``store`` and ``store_n`` (latest store, and its
    place in the stream), ``unsure`` (a clean was reported done without memory's answer).

    Maybe-filled: ``fill_n`` (-1: cannot be in the D-cache), ``fill`` (earliest cause), ``ifill_n`` and ``ifill`` for the
    I-cache.

    Harm that waits for a reader: ``stale`` (a copy older than the device's data may be in the D-cache), ``istale`` (older than
    the newest data, in the I-cache), ``poison`` (memory itself may have been overwritten with old bytes), ``lost`` (CPU
    bytes that an invalidate may have discarded), ``hazard`` (device bytes that a write-back of this line would overwrite).

    ``claims``: Linux mappings and bounce buffers that forbid some accesses. ``pio``: bytes of a PIO read that still owe their
    flush. ``flight``: transfers whose bytes are on their way. ``watch``: findings that wait for evidence. What the cache really
    held: ``present``, ``pending`` (write-backs without an answer), ``left`` (last event that took the line out), ``memory`` (last
    write there).

    ``hot`` is true if an access must look at more than the maybe-dirty and maybe-filled fields.
    """

    __slots__ = (
        "addr",
        "claims",
        "dirty",
        "dirty_first",
        "fill",
        "fill_n",
        "flight",
        "hazard",
        "hazard_of",
        "hot",
        "ifill",
        "ifill_n",
        "istale",
        "istale_of",
        "left",
        "lost",
        "lost_by",
        "memory",
        "pending",
        "pio",
        "pio_of",
        "poison",
        "poison_of",
        "present",
        "stale",
        "stale_n",
        "stale_of",
        "store",
        "store_n",
        "unsure",
        "watch",
    )  # fmt: skip

    def __init__(self, addr: int):
        self.addr = addr
        self.dirty = self.stale = self.istale = self.poison = self.lost = self.hazard = self.pio = self.pending = 0
        self.store_n = self.fill_n = self.ifill_n = self.stale_n = -1
        self.dirty_first: Event | None = None
        self.store: Event | None = None
        self.fill: Event | None = None
        self.ifill: Event | None = None
        self.present: Event | None = None
        self.left: Event | None = None
        self.memory: Event | None = None
        self.unsure = self.hot = False
        self.stale_of = self.istale_of = self.poison_of = self.lost_by = self.hazard_of = self.pio_of = None
        self.flight: list[Any] = []
        self.claims: list[Any] = []
        self.watch: list[Any] = []

    def is_cold(self) -> bool:
        """Whether nothing waits for an access any more."""
        waiting = self.flight or self.claims or self.watch
        return not (waiting or self.stale or self.poison or self.lost or self.hazard or self.pio)


class Bytes:
    """The newest value of bytes of which a store, or the device, has told one, and the event that told it.

    ``beat`` is the bus width in bytes.
    """

    __slots__ = ("_beats", "_widen", "beat")

    def __init__(self, beat: int):
        self.beat = beat
        # beat -> strobes known, data, origin: an event, or (strobes, event, older origin, depth) for a part of the beat
        self._beats: dict[int, tuple[int, int, Any]] = {}
        self._widen: dict[int, int] = {}

    def bits(self, strobes: int) -> int:
        """Bit mask of the strobed bytes."""
        mask = self._widen.get(strobes)
        if mask is None:
            mask = self._widen[strobes] = sum(0xFF << 8 * n for n in range(self.beat) if strobes >> n & 1)
        return mask

    def put(self, address: int, strobes: int, data: int, event: Event | None = None) -> None:
        """Sets the strobed bytes of the beat at ``address`` (beat-aligned); ``event`` is where they come from."""
        old = self._beats.get(address)
        mask = self._widen.get(strobes) or self.bits(strobes)
        if old is None or not old[0] & ~strobes:
            self._beats[address] = (strobes, data & mask, event)
            return
        older = old[2]
        depth = older[3] + 1 if older.__class__ is tuple else 1
        if depth > 2 * self.beat:
            older, depth = self._shortened(older), self.beat
        self._beats[address] = (old[0] | strobes, old[1] & ~mask | data & mask, (strobes, event, older, depth))

    def _shortened(self, origin: Any) -> Any:
        """The same origins, one per byte."""
        whole = None
        for n in range(self.beat):
            whole = (1 << n, _origin_of(origin, n), whole, n + 1)
        return whole

    def differing(self, address: int, strobes: int, data: int) -> int:
        """Strobes of the bytes whose newest value is known and is not what ``data`` says."""
        known = self._beats.get(address)
        if known is None:
            return 0
        strobes &= known[0]
        mask = self._widen.get(strobes) or self.bits(strobes)
        if not (data ^ known[1]) & mask:
            return 0
        wrong, delta = 0, data ^ known[1]
        for n in range(self.beat):
            if strobes >> n & 1 and delta >> 8 * n & 0xFF:
                wrong |= 1 << n
        return wrong

    def value(self, address: int, n: int) -> int | None:
        """Newest value of byte ``n`` of the beat at ``address``, if known."""
        known = self._beats.get(address)
        return None if known is None or not known[0] >> n & 1 else known[1] >> 8 * n & 0xFF

    def origin(self, address: int, n: int) -> Event | None:
        """The store or DMA beat that wrote the newest value of byte ``n`` of the beat at ``address``, if known."""
        known = self._beats.get(address)
        return None if known is None or not known[0] >> n & 1 else _origin_of(known[2], n)


def _origin_of(origin: Any, n: int) -> Event | None:
    while origin.__class__ is tuple:  # an Event is a tuple too, but of a class of its own
        if origin[0] >> n & 1:
            return origin[1]
        origin = origin[2]
    return origin


def merge(ranges: Iterable[Range]) -> list[Range]:
    """``[(address, length), ...]`` ascending, adjacent and overlapping ones joined, empty ones dropped."""
    out: list[Range] = []
    for address, length in sorted((a, n) for a, n in ranges if n > 0):
        if out and address <= out[-1][0] + out[-1][1]:
            start, have = out[-1]
            out[-1] = (start, max(have, address + length - start))
        else:
            out.append((address, length))
    return out


def intersect(left: Iterable[Range], right: Iterable[Range]) -> list[Range]:
    """Bytes in both."""
    out = []
    right = list(right)
    for a, n in left:
        for b, k in right:
            start, end = max(a, b), min(a + n, b + k)
            if start < end:
                out.append((start, end - start))
    return merge(out)


def subtract(left: Iterable[Range], right: Iterable[Range]) -> list[Range]:
    """Bytes of ``left`` that are not in ``right``."""
    out = merge(left)
    for b, k in merge(right):
        pieces = []
        for a, n in out:
            pieces += [(a, min(b, a + n) - a), (max(b + k, a), a + n - max(b + k, a))]
        out = [(a, n) for a, n in pieces if n > 0]
    return out


def clip(ranges: Iterable[Range], offset: int, length: int) -> list[Range]:
    """``length`` bytes of the concatenated ranges from ``offset`` on."""
    out = []
    for address, size in ranges:
        skip = min(offset, size)
        take = min(size - skip, length)
        if take > 0:
            out.append((address + skip, take))
        offset -= skip
        length -= max(take, 0)
    return out


def line_masks(ranges: Iterable[Range], line_bytes: int) -> dict[int, int]:
    """Line address to byte mask."""
    out: dict[int, int] = {}
    for address, length in ranges:
        end = address + length
        line = address & -line_bytes
        while line < end:
            low, high = max(address, line) - line, min(end, line + line_bytes) - line
            out[line] = out.get(line, 0) | (1 << high) - (1 << low)
            line += line_bytes
    return out


def mask_ranges(line: int, mask: int) -> Iterator[Range]:
    """Runs of bytes of a line's mask."""
    n = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        n += skip
        run = (~mask & (mask + 1)).bit_length() - 1
        yield line + n, run
        mask >>= run
        n += run
