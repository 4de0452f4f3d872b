# SPDX-License-Identifier: BSD-2-Clause
"""A byte model that knows the D-cache only by its probe records, applied in file order."""

from rtl.probe import CHANNELS, Cause, Kind, Source

__all__ = ["Replay"]

_D_CHANNELS = ("snoop", "d_wb", "d_line", "d_fill", "parked", "cpu")


class Replay:
    """Memory, fill buffers, array and write-back buffer as :mod:`rtl.probe` defines them; ``problems``: what does not fit."""

    def __init__(self, config, memory: bytes):
        self.config = config
        self.line, self.beat, self.base = config.dcache.line_bytes, config.data_bytes, config.memory.base
        self.memory = bytearray(memory)
        self.lines: dict[int, bytearray] = {}
        self.dirty: set[int] = set()
        self.ways: dict[tuple[int, int], int] = {}
        self.fills: dict[int, dict] = {}
        self.buffer: dict[int, list[bytearray]] = {}
        self.through = config.dcache.write_through
        self.queue: list[tuple[int, int, int]] = []  # write-through: address, data, strobes of stores not in memory yet
        self.unanswered: list[int] = []  # and of those that are, but not answered
        self.spoiled: dict[int, list[bool]] = {}  # beside it: a word of the line had wrong parity
        self.snooped: list[tuple[int, int, int]] = []  # address, data, strobes of snooped writes in order, by the bench
        self.upsets: dict[int, int] = {}  # address of a byte whose parity is wrong: since which cycle
        self.bad_tags: dict[int, int] = {}  # line whose tag's parity is
        self.changed: dict[int, int] = {}  # set -> cycle of its last upset
        self.cycle = 0
        self.problems: list[str] = []
        self.pending: list[tuple] = []
        self.counts: dict[int, int] = {}

    def add(self, cycle, channel, kind, **fields):
        """``channel`` is the name without ``probe_``; records may come in any order within a cycle."""
        self.pending.append((cycle, CHANNELS.index(channel), len(self.pending), Kind(kind), fields))

    def apply(self):
        for cycle, _, _, kind, fields in sorted(self.pending, key=lambda item: item[:3]):
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.cycle = cycle
            try:
                getattr(self, kind.name.lower())(**fields)
            except (KeyError, AssertionError) as error:
                self.problems.append(f"cycle {cycle}: {kind.name} {fields}: {error!r}")
        self.pending.clear()

    def _merge(self, target, offset, data, strobes, count=None):
        for n in range(count or self.beat):
            if strobes >> n & 1:
                target[offset + n] = data >> 8 * n & 0xFF

    def _split(self, addr):
        return addr & -self.line, addr % self.line

    # memory
    def mem_read(self, addr, aux, data, flags, tag):
        if aux not in (Source.D_FILL, Source.D_PREFETCH):
            return
        line, offset = self._split(addr)
        fill = self.fills[line]
        assert offset not in fill["have"], "beat read twice"
        fill["have"].add(offset)
        fill["error"] |= bool(flags & 1)
        at = addr - self.base
        fill["bytes"][offset : offset + self.beat] = self.memory[at : at + self.beat]
        assert line not in self.buffer, "the line is in the write-back buffer"

    def _bytes(self, word, strobes):
        return [word >> 8 * n & 0xFF for n in range(self.beat) if strobes >> n & 1]

    def mem_write(self, addr, aux, data, flags, tag):
        if aux & 0xF == Source.D_WRITEBACK and self.through:
            want, word, strobes = self.queue.pop(0)
            assert (addr, aux >> 8) == (want, strobes), f"must be the oldest store, {want:#x} strobes {strobes:#x}"
            assert self._bytes(data, strobes) == self._bytes(word, strobes), f"must be {word:#x}"
            self.unanswered.append(addr)
        elif aux & 0xF == Source.D_WRITEBACK:
            line, offset = self._split(addr)
            want = self.buffer[line][0][offset : offset + self.beat]
            assert data.to_bytes(self.beat, "little") == want, f"must write {want.hex()}"
            assert aux >> 8 == (1 << self.beat) - 1, "strobes"
        if not flags & 1 and addr >= self.base:
            self._merge(self.memory, addr - self.base, data, aux >> 8)

    # fills
    def fill_request(self, addr, aux, data, flags, tag):
        assert addr % self.line == 0 and self.base <= addr < self.base + self.config.memory.size, "not a line"
        assert addr not in self.lines and addr not in self.fills, "already there"
        assert not self.stores_to(addr), "a store to it is under way"
        self.fills[addr] = {"bytes": bytearray(self.line), "have": set(), "error": False, "drop": False}

    def fill_install(self, addr, aux, data, flags, tag):
        fill = self.fills.pop(addr)
        assert len(fill["have"]) == self.line // self.beat and not fill["error"] and not fill["drop"], fill
        slot = (addr // self.line % self.config.dcache.sets, aux >> 8)
        assert slot not in self.ways, "way in use"
        self.ways[slot] = addr
        self.lines[addr] = fill["bytes"]

    def fill_drop(self, addr, aux, data, flags, tag):
        fill = self.fills.pop(addr)
        assert bool(flags & 1) == fill["error"], fill

    # lines
    def _leave(self, addr):
        slot = next(key for key, line in self.ways.items() if line == addr)
        del self.ways[slot]
        self.bad_tags.pop(addr, None)
        for at in [at for at in self.upsets if at & -self.line == addr]:
            del self.upsets[at]
        return self.lines.pop(addr)

    def _spoils(self, addr):
        self.spoiled.setdefault(addr, []).append(any(at & -self.line == addr for at in self.upsets))

    def upset(self, addr, aux, data, flags, tag):
        line, _ = self._split(addr)
        assert self.config.dcache.parity and line in self.lines, "no such line"
        table, key = (self.bad_tags, line) if aux else (self.upsets, addr)
        if table.pop(key, None) is None:
            table[key] = self.cycle
        self.changed[line // self.line % self.config.dcache.sets] = self.cycle

    def _blocked(self, addr):
        """Is there a valid line with a bad tag in the set?"""
        sets = self.config.dcache.sets
        return any(at // self.line % sets == addr // self.line % sets for at in self.bad_tags)

    def _answers(self, addr, flags, load):
        """Is the access answered with an error because of parity? A lookup that is under way may not see an upset."""
        line, _ = self._split(addr)
        bad = self._blocked(line) or (load and any(at & -self.beat == addr & -self.beat for at in self.upsets))
        settled = self.cycle > self.changed.get(line // self.line % self.config.dcache.sets, -9) + 3
        assert bad == bool(flags & 1) or line not in self.lines or not settled, f"parity error: {bad}"
        return bool(flags & 1) and (bad or line in self.lines)

    def evict(self, addr, aux, data, flags, tag):
        was_dirty = addr in self.dirty
        assert bool(flags & 1) == was_dirty, "dirty flag"
        if was_dirty:
            self._spoils(addr)
        content = self._leave(addr)
        self.dirty.discard(addr)
        if was_dirty:
            self.buffer.setdefault(addr, []).append(content)

    def clean(self, addr, aux, data, flags, tag):
        assert addr in self.dirty, "not dirty"
        self.dirty.discard(addr)
        self._spoils(addr)
        self.buffer.setdefault(addr, []).append(bytearray(self.lines[addr]))

    def invalidate(self, addr, aux, data, flags, tag):
        assert aux == Cause.MAINTENANCE
        if flags & 2:
            for line in list(self.lines):
                if flags & 1 or line not in self.dirty:
                    self._leave(line)
                    self.dirty.discard(line)
            return
        assert bool(flags & 1) == (addr in self.dirty), "dirty flag"
        self._leave(addr)
        self.dirty.discard(addr)

    def stores_to(self, line):
        """Stores to the line that memory has not answered."""
        return [a for a in [a for a, _, _ in self.queue] + self.unanswered if self._split(a)[0] == line]

    def wb_done(self, addr, aux, data, flags, tag):
        if self.through:
            assert addr == self._split(self.unanswered.pop(0))[0], "not the line of the oldest store"
            return
        assert self.spoiled[addr].pop(0) == bool(flags & 2), "parity error"
        self.buffer[addr].pop(0)
        if not self.buffer[addr]:
            del self.buffer[addr]

    # cpu
    def load(self, addr, aux, data, flags, tag):
        line, offset = self._split(addr)
        if self.config.dcache.parity and self._answers(addr, flags, True):
            return
        if flags & 1:
            assert line not in self.lines, "error on a valid line"
            return
        if line in self.lines:
            source = self.lines[line]
        else:
            assert offset in self.fills[line]["have"], "the beat has not come"
            source = self.fills[line]["bytes"]
        word = int.from_bytes(source[offset : offset + self.beat], "little")
        mask = sum(0xFF << 8 * n for n in range(self.beat) if aux >> n & 1)
        assert (word ^ data) & mask == 0, f"must be {word:#x}"

    def store(self, addr, aux, data, flags, tag):
        line, offset = self._split(addr)
        if self.config.dcache.parity:
            if self._answers(addr, flags, False):
                return
            for at in [at for at in self.upsets if at & -self.beat == addr and aux >> at - addr & 1]:
                del self.upsets[at]
        if flags & 1:
            assert line not in self.lines and not self.through, "error on a valid line"
            return
        if self.through:
            self.queue.append((addr, data, aux))
            assert line not in self.fills, "the line is being filled"
            if line in self.lines:
                self._merge(self.lines[line], offset, data, aux)
            return
        self._merge(self.lines[line], offset, data, aux)
        self.dirty.add(line)

    def uncached_load(self, **fields):
        assert not self.queue and not self.unanswered, "older stores are under way"

    def uncached_store(self, **fields):
        assert not self.queue and not self.unanswered, "older stores are under way"

    def uncached_store_done(self, **fields):
        pass

    # snoops
    def _dirty_hit(self, addr, flags):
        assert bool(flags & 1) == ((addr in self.dirty and not self._blocked(addr)) or addr in self.buffer), "dirty hit"
        assert not self.stores_to(addr), "a store to it is under way"

    def snoop_read(self, addr, aux, data, flags, tag):
        self._dirty_hit(addr, flags)

    def snoop_write(self, addr, aux, data, flags, tag):
        asked, bytes_, strobes = self.snooped.pop(0)
        assert addr == asked, f"the request was for {asked:#x}"
        self._dirty_hit(addr, flags)
        assert addr not in self.buffer, "an older write-back is under way"
        if self._blocked(addr):
            return
        if addr in self.dirty:
            self._merge(self.lines[addr], 0, bytes_, strobes, self.line)
        elif addr in self.lines:
            assert flags & 2, "a clean line must be dropped"
            self._leave(addr)
        elif addr in self.fills:
            self.fills[addr]["drop"] = True
