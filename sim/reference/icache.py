# SPDX-License-Identifier: BSD-2-Clause
"""The I-cache: read only, loses lines by replacement and invalidation, never by looking at the D-cache."""

from collections import deque

from rtl.probe import Cause
from sim.record import Event

from .context import Context

__all__ = ["ICacheModel"]


class _Line:
    __slots__ = ("data", "since", "way")

    def __init__(self, data: list[int], way: int, since: int):
        self.data, self.way, self.since = data, way, since


class _Fill:
    __slots__ = ("data", "dropped", "error", "got", "newer", "since")

    def __init__(self, beats: int, since: int):
        self.data, self.since = [0] * beats, since
        self.got, self.newer = 0, None
        self.dropped = self.error = False


class ICacheModel:
    """Handlers of the ``fetch`` and ``i_line`` channels."""

    def __init__(self, context: Context):
        self.c = context
        self.config = context.config.icache
        self.lines: dict[int, _Line] = {}
        self.fills: dict[int, list[_Fill]] = {}  # oldest first: a dropped fill may still be arriving when the next one starts
        self.slots: dict[tuple[int, int], int] = {}
        self.failed: set[int] = set()
        self._uncached: deque[tuple[int, list[int], bool]] = deque()  # read for uncached fetches: address, beats, error
        self.all_beats = (1 << context.line_beats) - 1

    def fetch(self, event: Event) -> None:
        _, _, flags, _, addr, aux, data = event
        c = self.c
        address = addr & c.line_mask
        line = self.lines.get(address)
        beat = (addr & ~c.line_mask) >> c.beat_shift
        if flags & 4 or not c.in_memory(addr):
            self._fetch_uncached(event, address, beat)
            return
        if flags & 1:
            self._fetch_error(event, address)
            return
        if line is not None:
            word = line.data[beat]
        else:
            fill = next((fill for fill in reversed(self.fills.get(address, ())) if fill.got >> beat & 1 or fill.newer), None)
            if fill is None:
                what = f"I-cache line {address:#010x}: fetch at {addr:#010x} although its beat is neither cached nor read"
                c.report(event, what, addr)
                return
            word = (fill.newer or fill.data)[beat]
        if (word ^ data) & c.masks[aux]:
            what = f"I-cache line {address:#010x}: fetch data at {addr:#010x}"
            c.report(event, what, addr, c.show(word, aux), c.show(data, aux))

    def _fetch_uncached(self, event: Event, address: int, beat: int) -> None:
        """A fetch around the cache: memory's bytes, or on a coherent platform a dirty line's; outside memory an error."""
        c = self.c
        what = f"uncached fetch at {event.addr:#010x}"
        error = bool(event.flags & 1)
        if not c.in_memory(event.addr):
            if not error:
                c.report(event, f"fetch at {event.addr:#010x} outside memory answered okay", event.addr)
            return
        if not self._uncached:
            c.report(event, f"{what} answered although memory was not read", event.addr)
            return
        at, words, bad = self._uncached.popleft()
        if at & c.line_mask != address or (len(words) == 1 and at != event.addr & c.beat_mask):
            c.report(event, f"{what} answered with another beat", event.addr, f"{event.addr & c.beat_mask:#010x}", f"{at:#010x}")
            return
        word = words[0] if len(words) == 1 else words[beat]
        if bad != error:
            c.report(event, f"{what}: error", event.addr, bad, error)
        elif not error and (word ^ event.data) & c.masks[event.aux]:
            c.report(event, f"{what}: data", event.addr, c.show(word, event.aux), c.show(event.data, event.aux))

    def uncached_beat(self, event: Event, addr: int, word: int, error: bool) -> None:
        """A beat was read for an uncached fetch."""
        self._uncached.append((addr, [word], error))

    def snooped_uncached(self, line: int, words: list[int] | None) -> None:
        """An uncached fetch was looked up in the D-cache; a dirty line answers it."""
        if words is not None:
            self._uncached.append((line, words, False))

    def _fetch_error(self, event: Event, address: int) -> None:
        what = f"I-cache line {address:#010x}: fetch at {event.addr:#010x} answered an error although"
        if address in self.lines:
            self.c.report(event, f"{what} the line is valid", event.addr)
        elif address not in self.failed and not any(fill.error for fill in self.fills.get(address, ())):
            self.c.report(event, f"{what} no fill of the line had one", event.addr)

    def fill_request(self, event: Event) -> None:
        c = self.c
        line = event.addr
        what = f"I-cache line {line:#010x}: fill requested"
        if line & ~c.line_mask:
            c.report(event, f"{what} at an address that is not a line", line)
        if line in self.lines:
            c.report(event, f"{what} although the line is valid", line)
        fills = self.fills.setdefault(line, [])
        if fills and not fills[-1].dropped:
            c.report(event, f"{what} although the line is being filled", line)
        self.failed.discard(line)
        # A dropped fill whose beats have all come is over; the fetches it served are answered.
        self.fills[line] = [fill for fill in fills if fill.got != self.all_beats]
        self.fills[line].append(_Fill(c.line_beats, c.seq))

    def fill_beat(self, event: Event, addr: int, word: int, error: bool) -> None:
        c = self.c
        line = addr & c.line_mask
        beat = (addr & ~c.line_mask) >> c.beat_shift
        fill = next((fill for fill in self.fills.get(line, ()) if not fill.got >> beat & 1), None)
        if fill is None:
            rule = "twice" if self.fills.get(line) else "for a fill that nobody requested"
            c.report(event, f"I-cache line {line:#010x}: beat {beat} was read {rule}", addr)
            return
        fill.data[beat] = word
        fill.got |= 1 << beat
        fill.error |= error

    def snooped(self, line: int, words: list[int] | None) -> None:
        """A coherent fill found dirty bytes in the D-cache: they take the place of memory's."""
        for fill in self.fills.get(line, ()):
            if fill.got != self.all_beats and fill.newer is None:
                if words is not None:
                    fill.newer, fill.got = words, self.all_beats
                return

    def install(self, event: Event) -> None:
        c = self.c
        line, way, error = event.addr, event.aux >> 8 & 0xFF, bool(event.flags & 1)
        what = f"I-cache line {line:#010x}: fill installed"
        fills = self.fills.get(line)
        if not fills:
            c.report(event, f"{what} although none was in flight", line)
            return
        fill = fills.pop(0)
        if not fills:
            del self.fills[line]
        if error:
            self.failed.add(line)
            if not fill.error and c.in_memory(line):
                c.report(event, f"I-cache line {line:#010x}: fill ended with an error that memory did not answer", line)
            return
        if fill.dropped:
            c.report(event, f"{what} although it was invalidated in flight", line)
        if fill.error or not c.in_memory(line):
            c.report(event, f"{what} although memory answered a bus error", line)
        if fill.got != self.all_beats and fill.newer is None:
            c.report(event, f"{what} before all its beats were read", line, f"{self.all_beats:#b}", f"{fill.got:#b}")
        if line in self.lines:
            c.report(event, f"{what} although the line is already valid", line)
        slot = (line // c.line_bytes % self.config.sets, way)
        other = self.slots.get(slot)
        if way >= self.config.ways:
            c.report(event, f"{what} in a way that does not exist", line, f"below {self.config.ways}", way)
        elif other is not None and other != line:
            c.report(event, f"{what} over the valid line {other:#010x} in set {slot[0]} way {way}", line)
        self.slots[slot] = line
        self.lines[line] = _Line(fill.newer or fill.data, way, fill.since)

    def _remove(self, address: int) -> None:
        line = self.lines.pop(address)
        self.slots.pop((address // self.c.line_bytes % self.config.sets, line.way), None)

    def evict(self, event: Event) -> None:
        if event.addr in self.lines:
            self._remove(event.addr)
        else:
            self.c.report(event, f"I-cache line {event.addr:#010x}: evicted although the line is not valid", event.addr)

    def invalidate(self, event: Event) -> None:
        c = self.c
        everything, cause = bool(event.aux & 1), event.aux >> 1 & 0xF
        where = "I-cache" if everything else f"I-cache line {event.addr:#010x}"
        if cause == Cause.MAINTENANCE:
            c.maintenance.instruction_invalidate(event, everything)
        elif cause != Cause.SNOOP or not c.config.coherent:
            c.report(event, f"{where}: invalidated by cause {cause} on this platform", event.addr)
        if everything:
            self.lines.clear()
            self.slots.clear()
            for fills in self.fills.values():
                for fill in fills:
                    fill.dropped = True
            return
        address = event.addr & c.line_mask
        if address in self.lines:
            self._remove(address)
        for fill in self.fills.get(address, ()):
            fill.dropped = True

    def unfinished(self, covers, begin: int) -> list[tuple[int, str]]:
        """Lines and fills from before an invalidation that it should have removed: ``(line, rule)``."""
        found = [(address, "is still valid") for address, line in self.lines.items() if line.since < begin and covers(address)]
        for address, fills in self.fills.items():
            if covers(address) and any(fill.since < begin and not fill.dropped for fill in fills):
                found.append((address, "has a fill in flight from before the command"))
        return sorted(found)
