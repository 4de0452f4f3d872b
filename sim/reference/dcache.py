# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache: array, fills in flight, write-back buffer, snoops.

A line's bytes are followed through four places: memory -> fill buffer (beats as they are read, stores merged on top) -> array
-> write-back buffer -> memory. The probe says when a line moves; what it carries is computed here. With write-through stores no
line is dirty: their bytes go to memory beside the array (:mod:`.stores`).
"""

from rtl.probe import Cause, Source
from sim.record import Event

from .context import Context
from .lines import Command, Fill, Line, WriteBack
from .stores import StoreModel
from .upsets import UpsetModel

__all__ = ["DCacheModel"]


class DCacheModel:
    """Handlers of the ``cpu``, ``d_fill``, ``d_line``, ``d_wb`` and ``snoop`` channels."""

    def __init__(self, context: Context):
        self.c = context
        self.config = context.config.dcache
        self.stores = StoreModel(context)
        self.upsets = UpsetModel(context)
        self.lines: dict[int, Line] = {}
        self.fills: dict[int, Fill] = {}
        self.dropped: dict[int, list[Fill]] = {}  # dropped before all beats had come
        self.write_backs: dict[int, list[WriteBack]] = {}
        self.slots: dict[tuple[int, int], int] = {}
        self.failed: set[int] = set()  # lines whose last fill got a bus error
        self.requested: set[int] = set()  # lines ever filled: a next-line prefetch follows one of them
        self.snooped_out: set[int] = set()  # lines a snoop has dropped, until the other record about it
        self.aliased: set[int] = set()  # lines written around the caches by uncached stores
        self.all_beats = (1 << context.line_beats) - 1
        self._prefetch_on = self._inject_on = False  # as after reset
        self._prefetch_late = self._inject_late = 0
        self._may_evict: set[int] = set()
        self._may_prefetch: set[int] = set()
        self._may_write_back: set[int] = set()

    # --- what the registers allow
    def prefetch_control(self, on: bool) -> None:
        """``dcache.ctrl.prefetch``; two prefetches decided before a switch-off may still be asked for after it."""
        if self._prefetch_on and not on:
            self._prefetch_late = 2
        self._prefetch_on = on

    def inject_control(self, on: bool) -> None:
        """``dcache.ctrl.inject``, with the same grace."""
        if self._inject_on and not on:
            self._inject_late = 2
        self._inject_on = on

    def inject_command(self, line: int, evict: bool, prefetch: bool, write_back: bool) -> None:
        """``dcache.inject_cmd`` for the line of ``dcache.inject_addr``; from now on it may happen once or not at all."""
        for wanted, table in ((evict, self._may_evict), (prefetch, self._may_prefetch), (write_back, self._may_write_back)):
            if wanted:
                table.add(line)

    def _prefetch_allowed(self, line: int) -> bool:
        if line in self._may_prefetch:
            self._may_prefetch.discard(line)
            return True
        if not self.config.prefetcher or line - self.c.line_bytes not in self.requested:
            return False
        if not self._prefetch_on:
            self._prefetch_late -= 1
            return self._prefetch_late >= 0
        return True

    def _injection_allowed(self, line: int, commanded: set[int]) -> bool:
        if self._inject_on:
            return True
        if line in commanded:
            commanded.discard(line)
            return True
        self._inject_late -= 1
        return self._inject_late >= 0

    # --- cpu
    def load(self, event: Event) -> None:
        _, _, flags, _, addr, aux, data = event
        c = self.c
        line = self.lines.get(addr & c.line_mask)
        if self.config.parity and self.upsets.answers(event, store=False):
            return
        if line is None or flags & 1:
            self._load_slow(event)
            return
        word = line.data[(addr & ~c.line_mask) >> c.beat_shift]
        if (word ^ data) & c.masks[aux]:
            self._wrong_load(event, word)

    def _wrong_load(self, event: Event, word: int) -> None:
        c = self.c
        what = f"D-cache line {event.addr & c.line_mask:#010x}: load data at {event.addr:#010x}"
        c.report(event, what, event.addr, c.show(word, event.aux), c.show(event.data, event.aux))

    def _load_slow(self, event: Event) -> None:
        c = self.c
        found = self._accessible(event, "load")
        if found is None:
            return
        beat = (event.addr & ~c.line_mask) >> c.beat_shift
        mask = c.masks[event.aux]
        if not found.got >> beat & 1 and mask & ~found.merged[beat]:
            what = f"D-cache line {event.addr & c.line_mask:#010x}: load at {event.addr:#010x} before its beat was read"
            c.report(event, what, event.addr)
        elif (found.data[beat] ^ event.data) & mask:
            self._wrong_load(event, found.data[beat])

    def _accessible(self, event: Event, verb: str) -> Fill | None:
        """The fill a beat that does not hit may use; errors and illegal accesses are reported and give None."""
        c = self.c
        address = event.addr & c.line_mask
        fill = self.fills.get(address)
        what = f"D-cache line {address:#010x}: {verb} at {event.addr:#010x}"
        if event.flags & 1:
            if address in self.lines:
                c.report(event, f"{what} answered an error although the line is valid", event.addr)
            elif not (fill.error if fill else address in self.failed):
                c.report(event, f"{what} answered an error although no fill of the line had one", event.addr)
            return None
        if fill is None:
            c.report(event, f"{what} although the line is neither valid nor being filled", event.addr)
        return fill

    def store(self, event: Event) -> None:
        _, _, flags, _, addr, aux, data = event
        c = self.c
        line = self.lines.get(addr & c.line_mask)
        beat = (addr & ~c.line_mask) >> c.beat_shift
        mask = c.masks[aux]
        if self.config.parity:
            if self.upsets.answers(event, store=True):
                return
            self.upsets.stored(event)
        if self.config.write_through:
            self._store_through(event, line, beat, mask)
            return
        if line is None or flags & 1:
            fill = self._accessible(event, "store")
            if fill is None:
                return
            fill.data[beat] = fill.data[beat] & ~mask | data & mask
            fill.merged[beat] |= mask
            if not fill.dirty:
                fill.dirty, fill.dirty_since = True, c.seq
            return
        line.data[beat] = line.data[beat] & ~mask | data & mask
        if not line.dirty:
            line.dirty, line.dirty_since = True, c.seq

    def _store_through(self, event: Event, line: Line | None, beat: int, mask: int) -> None:
        """A store into the line, if it is present, and into the queue; whether that is a hit is not this model's affair."""
        c = self.c
        what = f"D-cache line {event.addr & c.line_mask:#010x}: store at {event.addr:#010x}"
        if event.flags & 1:
            c.report(event, f"{what} answered an error although it is posted", event.addr)
            return
        self.stores.push(event)
        if line is not None:
            line.data[beat] = line.data[beat] & ~mask | event.data & mask
        elif event.addr & c.line_mask in self.fills:
            c.report(event, f"{what} while the line is being filled, which may miss it", event.addr)

    # --- d_fill
    def fill_request(self, event: Event) -> None:
        c = self.c
        line, cause = event.addr, event.aux & 0xF
        what = f"D-cache line {line:#010x}: fill requested"
        if line & ~c.line_mask or not c.in_memory(line):
            c.report(event, f"{what} at an address that is not a line of the memory window", line)
            return
        if line in self.lines:
            c.report(event, f"{what} although the line is valid", line)
        if line in self.fills:
            c.report(event, f"{what} although the line is being filled", line)
        if cause in (Cause.PREFETCH, Cause.INJECTOR):
            if not self._prefetch_allowed(line):
                c.report(event, f"{what} by the prefetcher, which the registers do not allow for this line", line)
        elif cause != Cause.DEMAND:
            c.report(event, f"{what} by cause {cause}, which never fills", line)
        self.stores.passed(event, line, "fill requested")
        self.failed.discard(line)
        self.requested.add(line)
        self.fills[line] = Fill(c.line_beats, cause, c.seq)

    def fill_beat(self, event: Event, addr: int, word: int, error: bool) -> None:
        """A beat of a fill was read. A line in the write-back buffer must not be bypassed: its bytes win over memory's."""
        c = self.c
        line = addr & c.line_mask
        beat = (addr & ~c.line_mask) >> c.beat_shift
        old = self.dropped.get(line)
        if old:
            old[0].got |= 1 << beat
            if old[0].got == self.all_beats:
                old.pop(0)
            return
        fill = self.fills.get(line)
        if fill is None:
            c.report(event, f"D-cache line {line:#010x}: a beat was read for a fill that nobody requested", addr)
            return
        if fill.got >> beat & 1:
            c.report(event, f"D-cache line {line:#010x}: beat {beat} of a fill was read twice", addr)
        for entry in self.write_backs.get(line, ()):
            if not entry.written >> beat & 1:
                word = entry.data[beat]
        merged = fill.merged[beat]
        fill.data[beat] = word & ~merged | fill.data[beat] & merged
        fill.got |= 1 << beat
        fill.error |= error

    def fill_install(self, event: Event) -> None:
        c = self.c
        line, way = event.addr, event.aux >> 8 & 0xFF
        what = f"D-cache line {line:#010x}: fill installed"
        fill = self.fills.pop(line, None)
        if fill is None:
            c.report(event, f"{what} although none was in flight", line)
            return
        if fill.got != self.all_beats:
            c.report(event, f"{what} before all its beats were read", line, f"{self.all_beats:#b}", f"{fill.got:#b}")
        if fill.error:
            c.report(event, f"{what} although memory answered a bus error", line)
        if fill.dropped:
            c.report(event, f"{what} although a snoop had dropped it", line)
        if line in self.lines:
            c.report(event, f"{what} although the line is already valid", line)
        if fill.cause == Cause.DEMAND != event.aux & 0xF:
            c.report(event, f"{what} with another cause than requested", line, fill.cause, event.aux & 0xF)
        slot = (line // c.line_bytes % self.config.sets, way)
        other = self.slots.get(slot)
        if way >= self.config.ways:
            c.report(event, f"{what} in a way that does not exist", line, f"below {self.config.ways}", way)
        elif other is not None and other != line:
            c.report(event, f"{what} over the valid line {other:#010x} in set {slot[0]} way {way}", line)
        self.slots[slot] = line
        self.lines[line] = Line(fill.data, way, fill.since, fill.dirty, fill.dirty_since)

    def fill_drop(self, event: Event) -> None:
        c = self.c
        line = event.addr
        what = f"D-cache line {line:#010x}: fill dropped"
        fill = self.fills.pop(line, None)
        if fill is None:
            c.report(event, f"{what} although none was in flight", line)
            return
        if bool(event.flags & 1) != fill.error:
            c.report(event, f"{what}: because of a bus error", line, fill.error, bool(event.flags & 1))
        if fill.error:
            self.failed.add(line)
        elif fill.dirty and not c.maintenance.allows(line, invalidate=True, losing=True):
            c.report(event, f"{what} although stores were merged into it: their bytes are lost", line)
        if fill.got != self.all_beats:
            self.dropped.setdefault(line, []).append(fill)

    # --- d_line
    def _leaving(self, event: Event, verb: str) -> Line | None:
        line = self.lines.get(event.addr)
        if line is None:
            self.c.report(event, f"D-cache line {event.addr:#010x}: {verb} although the line is not valid", event.addr)
        return line

    def _write_back(self, event: Event, data: list[int], line: Line) -> None:
        entry = WriteBack(data, line.dirty_since, event.aux & 0xF, self.upsets.spoils(event.addr))
        self.write_backs.setdefault(event.addr, []).append(entry)

    def _remove(self, address: int, line: Line) -> None:
        self.upsets.forget(address)
        del self.lines[address]
        self.slots.pop((address // self.c.line_bytes % self.config.sets, line.way), None)

    def _cause(self, event: Event, verb: str, commanded: set[int], **wanted: bool) -> None:
        """Reports a cause that the registers, the platform or the running command do not allow."""
        c = self.c
        cause = event.aux & 0xF
        if cause == Cause.MAINTENANCE:
            if not c.maintenance.allows(event.addr, **wanted):
                what = f"D-cache line {event.addr:#010x}: {verb} by maintenance, but no command asks for that on this line"
                c.report(event, what, event.addr)
        elif cause == Cause.INJECTOR:
            if not self._injection_allowed(event.addr, commanded):
                what = f"D-cache line {event.addr:#010x}: {verb} by the injector, which the registers do not allow"
                c.report(event, what, event.addr)
        elif (cause == Cause.SNOOP and not c.config.coherent) or cause > Cause.SNOOP:
            c.report(event, f"D-cache line {event.addr:#010x}: {verb} by cause {cause} on this platform", event.addr)

    def evict(self, event: Event) -> None:
        c = self.c
        line = self._leaving(event, "evicted")
        if line is None:
            return
        self._cause(event, "evicted", self._may_evict, clean=line.dirty, invalidate=True)
        if line.dirty != bool(event.flags & 1):
            c.report(event, f"D-cache line {event.addr:#010x}: dirty flag at eviction", event.addr, line.dirty, event.flags & 1)
        if line.dirty:
            self._write_back(event, line.data, line)
        self._remove(event.addr, line)

    def clean(self, event: Event) -> None:
        c = self.c
        line = self._leaving(event, "cleaned")
        if line is None:
            return
        self._cause(event, "cleaned", self._may_write_back, clean=True)
        if event.aux & 0xF in (Cause.DEMAND, Cause.PREFETCH):
            c.report(event, f"D-cache line {event.addr:#010x}: cleaned by cause {event.aux & 0xF}, which evicts", event.addr)
        if not line.dirty:
            c.report(event, f"D-cache line {event.addr:#010x}: cleaned although it is not dirty", event.addr)
        self._write_back(event, list(line.data), line)
        line.dirty = False

    def invalidate(self, event: Event) -> None:
        c = self.c
        address, cause = event.addr, event.aux & 0xF
        if event.flags & 2:
            self._invalidate_all(event)
            return
        if cause == Cause.SNOOP and address in self.snooped_out and address not in self.lines:
            self.snooped_out.discard(address)  # the SNOOP_WRITE record said it already
            return
        line = self._leaving(event, "invalidated")
        if line is None:
            return
        what = f"D-cache line {address:#010x}: invalidated"
        if cause not in (Cause.MAINTENANCE, Cause.SNOOP):
            c.report(event, f"{what} by cause {cause}, which evicts", address)
        else:
            self._cause(event, "invalidated", set(), invalidate=True)
        if line.dirty != bool(event.flags & 1):
            c.report(event, f"{what}: was dirty", address, line.dirty, bool(event.flags & 1))
        if line.dirty and not (cause == Cause.MAINTENANCE and c.maintenance.allows(address, invalidate=True, losing=True)):
            c.report(event, f"{what} although it is dirty and nothing asked to discard its bytes", address)
        if cause == Cause.SNOOP:
            self.snooped_out.add(address)
        self._remove(address, line)

    def _invalidate_all(self, event: Event) -> None:
        """One record for the whole array; with ``flags[0]`` the dirty lines go too, without it they stay."""
        c = self.c
        with_dirty, cause = bool(event.flags & 1), event.aux & 0xF
        for address, line in list(self.lines.items()):
            if line.dirty and not with_dirty:
                continue
            if cause != Cause.MAINTENANCE or not c.maintenance.allows(address, invalidate=True, losing=line.dirty):
                what = f"D-cache line {address:#010x}: invalidated with the whole array, which nothing asks for"
                c.report(event, what, address)
            self._remove(address, line)

    # --- d_wb and its beats
    def write_back_beat(self, event: Event, addr: int, error: bool) -> tuple[int, int] | None:
        c = self.c
        if self.config.write_through:
            return self.stores.beat(event, addr, error)
        address = addr & c.line_mask
        beat = (addr & ~c.line_mask) >> c.beat_shift
        for entry in self.write_backs.get(address, ()):
            if not entry.written >> beat & 1:
                entry.written |= 1 << beat
                entry.error |= error
                return c.full_strobes, entry.data[beat]
        rule = "twice" if address in self.write_backs else "although it is not in the write-back buffer"
        c.report(event, f"D-cache line {address:#010x}: beat {beat} was written back {rule}", addr)
        return None

    def write_back_done(self, event: Event) -> None:
        c = self.c
        if self.config.write_through:
            self.stores.done(event)
            return
        address = event.addr
        entries = self.write_backs.get(address)
        what = f"D-cache line {address:#010x}: write-back answered"
        if not entries:
            c.report(event, f"{what} although the line is not in the write-back buffer", address)
            return
        entry = entries.pop(0)
        if not entries:
            del self.write_backs[address]
        if entry.written != self.all_beats:
            c.report(event, f"{what} before all its beats reached memory", address, f"{self.all_beats:#b}", f"{entry.written:#b}")
        if entry.error != bool(event.flags & 1):
            c.report(event, f"{what}: bus error", address, entry.error, bool(event.flags & 1))
        if entry.error:
            c.maintenance.write_back_error(address, entry.cause)
        self.upsets.write_back_done(event, entry.spoiled, entry.cause)

    # --- snoop
    def newest(self, address: int, *, array: bool = True) -> list[int] | None:
        """The line's bytes where they are newer than memory (array, fill with stores, write-back buffer), or None.

        Without ``array``: as a snoop sees it that meets a bad tag in the line's set.
        """
        line = self.lines.get(address) if array else None
        if line is not None and line.dirty:
            return list(line.data)
        fill = self.fills.get(address)
        if fill is not None and fill.dirty:
            memory = self.c.line_words(address)
            return [
                word if fill.got >> n & 1 else memory[n] & ~fill.merged[n] | word & fill.merged[n]
                for n, word in enumerate(fill.data)
            ]
        words = None
        for entry in self.write_backs.get(address, ()):
            if entry.written != self.all_beats:
                words = self.c.line_words(address) if words is None else words
                words = [words[n] if entry.written >> n & 1 else word for n, word in enumerate(entry.data)]
        return words

    def _hit(self, event: Event, words: list[int] | None) -> None:
        """A write-back whose beats are all in memory but not answered may be called dirty or not."""
        dirty = bool(event.flags & 1)
        if dirty != (words is not None) and not (dirty and event.addr in self.write_backs):
            what = f"D-cache line {event.addr:#010x}: {event.name} dirty hit"
            self.c.report(event, what, event.addr, words is not None, dirty)

    def snoop_read(self, event: Event) -> None:
        c = self.c
        if not c.config.coherent:
            c.report(event, f"D-cache line {event.addr:#010x}: snooped on a platform without coherency", event.addr)
            return
        self.stores.passed(event, event.addr, "snooped")
        words = self.newest(event.addr, array=not self.upsets.blocks(event.addr))
        self._hit(event, words)
        if words is None and event.flags & 1:
            words = c.line_words(event.addr)
        source = event.aux & 0xF
        if source == Source.I_FILL:
            c.icache.snooped(event.addr, words)
        elif source == Source.I_UNCACHED:
            c.icache.snooped_uncached(event.addr, words)
        elif source == Source.DMA_DATA:
            c.dma.snooped_data(event.addr, words)
        elif source == Source.DMA_DESCRIPTOR:
            c.dma.snooped_descriptor(event.addr, words)
        else:
            c.report(event, f"D-cache line {event.addr:#010x}: snooped by source {source}, which never does", event.addr)

    def snoop_write(self, event: Event) -> None:
        c = self.c
        address = event.addr
        what = f"D-cache line {address:#010x}: DMA write snooped"
        if not c.config.coherent:
            c.report(event, f"{what} on a platform without coherency", address)
            return
        self.stores.passed(event, address, "DMA write snooped")
        beats = c.dma.snooped_write(event)
        line, fill = self.lines.get(address), self.fills.get(address)
        trusted = not self.upsets.blocks(address)
        words = self.newest(address, array=trusted)
        if not trusted:
            line = None
            self.aliased.add(address)  # what the array holds of it may be older from now on
        self._hit(event, words)
        if event.flags & 2:
            if line is not None and not line.dirty:
                self._remove(address, line)
                self.snooped_out.add(address)
            elif fill is not None and not fill.dirty:
                fill.dropped = True
            elif address in self.snooped_out:
                self.snooped_out.discard(address)  # its INVALIDATE record came first
            else:
                c.report(event, f"{what}: a clean line was dropped although there is none", address)
        elif line is not None and not line.dirty:
            c.report(event, f"{what}, but its clean line was not dropped", address)
        if not event.flags & 1:
            return
        for addr, strobes, data in beats:
            self._merge(address, (addr & ~c.line_mask) >> c.beat_shift, c.masks[strobes], data)

    def _merge(self, address: int, beat: int, mask: int, data: int) -> None:
        line, fill = self.lines.get(address), self.fills.get(address)
        if line is not None:
            line.data[beat] = line.data[beat] & ~mask | data & mask
        elif fill is not None:
            fill.data[beat] = fill.data[beat] & ~mask | data & mask
            fill.merged[beat] |= mask
            if not fill.dirty:
                fill.dirty, fill.dirty_since = True, self.c.seq
        for entry in self.write_backs.get(address, ()):
            if not entry.written >> beat & 1:
                entry.data[beat] = entry.data[beat] & ~mask | data & mask

    def present(self, address: int) -> bool:
        """Would a snoop of this line find anything?"""
        return address in self.lines or address in self.fills or self.newest(address) is not None

    # --- duties
    def unfinished(self, command: Command) -> list[tuple[int, str]]:
        """What the command has left undone: ``(line, rule)``, for state older than its beginning."""
        covers, begin = command.covers, command.begin
        found = []
        for address, line in self.lines.items():
            if covers(address):
                if command.clean and line.dirty and line.dirty_since < begin:
                    found.append((address, "is still dirty in the array"))
                # A clean+invalidate may leave a line that a later store has dirtied: it would have to lose or clean it twice.
                later = command.clean and line.dirty and line.dirty_since >= begin
                if command.invalidate and line.since < begin and not later:
                    found.append((address, "is still valid"))
        for address, fill in self.fills.items():
            if covers(address):
                if command.invalidate and fill.since < begin:
                    found.append((address, "has a fill in flight from before the command"))
                elif command.clean and fill.dirty and fill.dirty_since < begin:
                    found.append((address, "has stores from before the command in its fill in flight"))
        if not command.buffered_is_done:
            for address, entries in self.write_backs.items():
                if covers(address) and any(entry.dirty_since < begin for entry in entries):
                    found.append((address, "has a write-back that memory has not answered"))
        return sorted(found + self.stores.unfinished(command))
