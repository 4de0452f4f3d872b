# SPDX-License-Identifier: BSD-2-Clause
"""A small functional machine that behaves legally and emits the probe records of it: the counterpart of the reference model.

It works on plain bytes and shares no code with the model. Tests drive it, then either judge its record as it is (legal), edit
the record, or give the machine a ``bug`` to have it misbehave consistently.
"""

from collections import deque

from rtl.config import CSR_BASE, SocConfig
from rtl.pio.table import registers
from rtl.probe import Cause, Kind, Source
from sim.record import Event
from sim.reference import CacheLine, ReferenceModel, Remainder, Snapshot

MEM = 0x8000_0000
DC, IC = 1, 2
LINE, RANGE, ALL = 0, 1, 2
CLEAN, INVALIDATE, CLEAN_INVALIDATE = 1, 2, 3

#: Small enough that a whole snapshot costs nothing.
SMALL = SocConfig().replace(
    memory__size=4096,
    device__buffer_bytes=1024,
    dcache__sets=4,
    icache__sets=4,
    dcache__ways=2,
    icache__ways=2,
    dma__chunk_bytes=16,
)


class Machine:
    def __init__(self, config: SocConfig = SMALL, bug: str | None = None):
        self.config, self.bug = config, bug
        self.beat, self.line, self.chunk = config.data_bytes, config.dcache.line_bytes, config.dma.chunk_bytes
        self.memory = bytearray((n * 7 + 13) & 0xFF for n in range(config.memory.size))
        self.device = bytearray((n * 11 + 200) & 0xFF for n in range(config.device.buffer_bytes))
        self.images = bytes(self.memory), bytes(self.device)
        self.offsets = {register.full_name: register.offset for register in registers(config.dma.system_channels)}
        self.registers: dict[str, int] = {}
        self.events: list[Event] = []
        self.cycle = 0
        self.dcache: dict[int, list] = {}  # line: [bytes, dirty, way]
        self.icache: dict[int, tuple[bytes, int]] = {}
        self.buffer: deque[tuple[int, bytes]] = deque()
        self.stores: deque[tuple[int, int, int]] = deque()  # write-through: beat, strobes, word
        self.open: list[dict[int, int]] = [{}, {}]  # remainder per direction: address -> byte
        self.transfers = 0

    # --- records
    def emit(self, kind: Kind, addr=0, *, flags=0, tag=0, aux=0, data=0, same_cycle=False):
        self.cycle += not same_cycle
        self.events.append(Event(self.cycle, int(kind), flags, tag, addr, aux, data))

    def beats(self, addr: int, data: bytes):
        """``(beat address, strobes, word)`` of a run of bytes."""
        end = addr + len(data)
        for at in range(addr - addr % self.beat, end, self.beat):
            first, last = max(addr, at), min(end, at + self.beat)
            lane = first - at
            yield at, ((1 << last - first) - 1) << lane, int.from_bytes(data[first - addr : last - addr], "little") << 8 * lane

    def mem_read(self, addr: int, source: Source, error=0) -> bytes:
        data = bytes(self.memory[addr - MEM : addr - MEM + self.beat])
        self.emit(Kind.MEM_READ, addr, aux=source, data=0 if error else int.from_bytes(data, "little"), flags=error)
        return data

    def mem_write(self, addr: int, strobes: int, word: int, source: Source, error=0):
        self.emit(Kind.MEM_WRITE, addr, aux=source | strobes << 8, data=word, flags=error)
        for lane in range(self.beat):
            if strobes >> lane & 1 and not error:
                self.memory[addr - MEM + lane] = word >> 8 * lane & 0xFF

    # --- D-cache
    def line_of(self, addr: int) -> int:
        return addr & ~(self.line - 1)

    def set_of(self, line: int) -> int:
        return line // self.line % self.config.dcache.sets

    def fill(self, line: int, cause=Cause.DEMAND, way=None, error=0):
        if self.bug != "stale_fill":
            while any(at == line for at, _ in self.buffer):
                self.drain_buffer(1)
            while any(self.line_of(at) == line for at, _, _ in self.stores):
                self.drain_stores(1)
        self.emit(Kind.FILL_REQUEST, line, aux=cause)
        source = Source.D_FILL if cause == Cause.DEMAND else Source.D_PREFETCH
        data = b"".join(self.mem_read(at, source, error) for at in range(line, line + self.line, self.beat))
        if error:
            self.emit(Kind.FILL_DROP, line, aux=cause, flags=1)
            return
        used = {entry[2]: at for at, entry in self.dcache.items() if self.set_of(at) == self.set_of(line)}
        if way is None:
            way = next((n for n in range(self.config.dcache.ways) if n not in used), line // self.line % self.config.dcache.ways)
        if way in used:
            self.evict(used[way], cause)
        self.emit(Kind.FILL_INSTALL, line, aux=cause | way << 8)
        self.dcache[line] = [bytearray(data), False, way]

    def touch(self, addr: int):
        if self.line_of(addr) not in self.dcache:
            self.fill(self.line_of(addr))

    def store(self, addr: int, data: bytes, tag=1):
        for at, strobes, word in self.beats(addr, data):
            if self.config.dcache.write_through:
                self.store_through(at, strobes, word, tag)
                continue
            self.touch(at)
            entry = self.dcache[self.line_of(at)]
            for lane in range(self.beat):
                if strobes >> lane & 1:
                    entry[0][at - self.line_of(at) + lane] = word >> 8 * lane & 0xFF
            entry[1] = True
            self.emit(Kind.STORE, at, aux=strobes, data=word, tag=tag)

    def store_through(self, at: int, strobes: int, word: int, tag: int):
        entry = self.dcache.get(self.line_of(at))
        for lane in range(self.beat):
            if entry and strobes >> lane & 1:
                entry[0][at - self.line_of(at) + lane] = word >> 8 * lane & 0xFF
        self.emit(Kind.STORE, at, aux=strobes, data=word, flags=2 * bool(entry), tag=tag)
        self.stores.append((at, strobes, word))

    def drain_stores(self, count=None, error=0):
        for _ in range(len(self.stores) if count is None else count):
            at, strobes, word = self.stores.popleft()
            self.mem_write(at, strobes, word, Source.D_WRITEBACK, error)
            self.emit(Kind.WB_DONE, self.line_of(at), flags=error)

    def load(self, addr: int, length: int, tag=1):
        for at, strobes, _ in self.beats(addr, bytes(length)):
            self.touch(at)
            offset = at - self.line_of(at)
            data = self.dcache[self.line_of(at)][0][offset : offset + self.beat]
            self.emit(Kind.LOAD, at, aux=strobes, data=int.from_bytes(data, "little"), flags=2, tag=tag)

    def evict(self, line: int, cause=Cause.DEMAND):
        data, dirty, _ = self.dcache.pop(line)
        self.emit(Kind.EVICT, line, aux=cause, flags=dirty)
        if dirty:
            self.buffer.append((line, bytes(data)))

    def clean(self, line: int, cause=Cause.MAINTENANCE):
        entry = self.dcache[line]
        entry[1] = False
        self.emit(Kind.CLEAN, line, aux=cause)
        self.buffer.append((line, bytes(entry[0])))

    def invalidate(self, line: int, cause=Cause.MAINTENANCE):
        entry = self.dcache.pop(line)
        self.emit(Kind.INVALIDATE, line, aux=cause, flags=entry[1])

    def upset(self, addr: int, tag=False):
        """Inverts the parity bit of a byte, or of its line's tag, by register; what is recorded after it must know of it."""
        self.csr_write("dcache.inject_addr", addr)
        self.csr_write("dcache.inject_cmd", 16 if tag else 8)
        self.emit(Kind.UPSET, addr, aux=tag)
        self.cycle += 10

    def drain_buffer(self, count=None, error=0):
        for _ in range(len(self.buffer) if count is None else count):
            line, data = self.buffer.popleft()
            if self.bug == "wrong_way" and self.dcache:
                data = bytes(next(iter(self.dcache.values()))[0])
            for at, strobes, word in self.beats(line, data):
                self.mem_write(at, strobes, word, Source.D_WRITEBACK, error)
            self.emit(Kind.WB_DONE, line, flags=error)

    # --- I-cache
    def fetch(self, addr: int, length: int, tag=1):
        for at, strobes, _ in self.beats(addr, bytes(length)):
            line = self.line_of(at)
            if line not in self.icache:
                self.emit(Kind.IFILL_REQUEST, line)
                data = b"".join(self.mem_read(n, Source.I_FILL) for n in range(line, line + self.line, self.beat))
                used = {way: n for n, (_, way) in self.icache.items() if self.set_of(n) == self.set_of(line)}
                way = next((n for n in range(2) if n not in used), 0)
                if way in used:
                    self.emit(Kind.IEVICT, used[way])
                    del self.icache[used[way]]
                self.emit(Kind.IFILL_INSTALL, line, aux=way << 8)
                self.icache[line] = (data, way)
            data = self.icache[line][0][at - line : at - line + self.beat]
            self.emit(Kind.FETCH, at, aux=strobes, data=int.from_bytes(data, "little"), flags=2, tag=tag)

    # --- uncached
    def older_stores(self):
        if self.bug != "overtaken_stores":
            self.drain_stores()

    def uncached_store(self, addr: int, data: bytes, tag=1, error=0):
        self.older_stores()
        for at, strobes, word in self.beats(addr, data):
            self.emit(Kind.UNCACHED_STORE, at, aux=strobes, data=word, tag=tag)
            self.mem_write(at, strobes, word, Source.D_UNCACHED, error)
            self.emit(Kind.UNCACHED_STORE_DONE, at, tag=tag, flags=error)

    def uncached_load(self, addr: int, length: int, tag=1):
        self.older_stores()
        for at, strobes, _ in self.beats(addr, bytes(length)):
            data = self.mem_read(at, Source.D_UNCACHED)
            self.emit(Kind.UNCACHED_LOAD, at, aux=strobes, data=int.from_bytes(data, "little"), tag=tag)

    def csr_write(self, name: str, value: int, tag=1):
        self.older_stores()
        offset = self.offsets[name]
        (at, strobes, word), *_ = self.beats(CSR_BASE + offset, value.to_bytes(4, "little"))
        self.emit(Kind.UNCACHED_STORE, at, aux=strobes, data=word, tag=tag)
        self.emit(Kind.CSR_WRITE, offset, data=value, tag=tag)
        self.emit(Kind.UNCACHED_STORE_DONE, at, tag=tag)
        self.registers[name] = value

    def csr_read(self, name: str, value: int, tag=1):
        self.older_stores()
        offset = self.offsets[name]
        (at, strobes, word), *_ = self.beats(CSR_BASE + offset, value.to_bytes(4, "little"))
        self.emit(Kind.CSR_READ, offset, data=value, tag=tag)
        self.emit(Kind.UNCACHED_LOAD, at, aux=strobes, data=word, tag=tag)

    # --- maintenance
    def maintain(self, op: int, scope: int, target: int, start=0, length=0, before=(), between=()):
        """A whole command; ``before``, ``between``: calls made between its register write and its beginning, and after that."""
        self.csr_write("maint.start", start)
        self.csr_write("maint.length", length)
        self.csr_write("maint.cmd", op | scope << 2 | target << 4)
        for call in before:
            call()
        self.emit(Kind.MAINT_BEGIN, start, aux=op | scope << 2 | target << 4, data=length)
        first = self.line_of(start) if scope != ALL else 0
        last = {LINE: first, RANGE: self.line_of(start + length - 1), ALL: 1 << 32}[scope]
        tail = (start + length) % self.line != 0 and scope == RANGE
        if (self.config.faults.maintenance_ignores_tail and tail) or self.bug == "skips_last_line":
            last -= self.line
        cut = {self.line_of(edge) for edge in (start, start + length) if edge % self.line}
        edges = cut if self.config.dcache.partial_lines == "clean" and (op, scope) == (INVALIDATE, RANGE) else set()
        for line in sorted(self.dcache) if target & DC else ():
            if first <= line <= last:
                dirty = self.dcache[line][1]
                self.emit(Kind.MAINT_STEP, line, flags=1 | dirty << 1)
                if dirty and (op & CLEAN or (line in edges and self.bug != "drops_edges")):
                    (self.evict if op & INVALIDATE else self.clean)(line, Cause.MAINTENANCE)
                elif op & INVALIDATE:
                    self.invalidate(line)
        for call in between:
            call()
        unification = self.config.faults.maintenance_point_of_unification
        if not unification and self.bug != "done_early":
            self.drain_buffer()
            self.drain_stores()
        if target & IC and op & INVALIDATE:
            if scope == ALL:
                self.emit(Kind.IINVALIDATE, aux=1 | Cause.MAINTENANCE << 1)
                self.icache.clear()
            for line in sorted(self.icache):
                if first <= line <= last:
                    self.emit(Kind.IINVALIDATE, line, aux=Cause.MAINTENANCE << 1)
                    del self.icache[line]
        self.emit(Kind.MAINT_END, start)

    # --- device and DMA
    def command(self, op: int, addr: int, length: int, short=0):
        self.csr_write("dev.addr", addr)
        self.csr_write("dev.length", length)
        if short or self.registers.get("dev.short"):
            self.csr_write("dev.short", short)
        self.csr_write("dev.cmd", op)

    def handoff(self, addr: int, count: int, to_device: int, mode=0):
        self.transfers += 1
        for name, value in (("addr", addr), ("count", count), ("mode", mode | to_device), ("ctrl", 1)):
            self.csr_write(f"ch0.{name}", value)
        self.emit(Kind.HANDOFF, addr, data=count, aux=to_device << 3, tag=self.transfers)

    def complete(self, residue=0, flags=0, channel=0):
        self.emit(Kind.COMPLETE, aux=channel, data=residue, flags=flags, tag=self.transfers)

    def to_memory(self, addr: int, offset: int, length: int):
        """One accepted segment, device to memory."""
        self.emit(Kind.SEGMENT, addr, aux=length << 1, data=offset, tag=self.transfers)
        data = bytes(self.device[offset : offset + length])
        for at, strobes, word in self.beats(offset, data):
            self.emit(Kind.DEV_READ, at, aux=strobes, data=word)
        for at, strobes, word in self.beats(addr, data):
            self.push(0, at, strobes, word)

    def to_device(self, addr: int, offset: int, length: int):
        """One accepted segment, memory to device."""
        self.emit(Kind.SEGMENT, addr, aux=1 | length << 1, data=offset, tag=self.transfers)
        base = addr - addr % self.beat
        raw = b"".join(self.mem_read(at, Source.DMA_DATA) for at, _, _ in self.beats(addr, bytes(length)))
        for at, strobes, word in self.beats(offset, raw[addr - base : addr - base + length]):
            self.push(1, at, strobes, word)

    def push(self, side: int, at: int, strobes: int, word: int):
        self.emit(Kind.PUSH, at, aux=strobes | side << 31, data=word, tag=self.transfers)
        held = self.open[side]
        if self.config.dma.cut_through:
            self.leave(side, {at + n: word >> 8 * n & 0xFF for n in range(self.beat) if strobes >> n & 1})
            return
        if held and next(iter(held)) // self.chunk != at // self.chunk:
            self.open[side] = {}
            self.leave(side, held)
        for lane in range(self.beat):
            if strobes >> lane & 1:
                self.open[side][at + lane] = word >> 8 * lane & 0xFF
        if len(self.open[side]) == self.chunk:
            held, self.open[side] = self.open[side], {}
            self.leave(side, held)

    def chunk_beats(self, held: dict[int, int]):
        for at in sorted({addr - addr % self.beat for addr in held}):
            present = {addr - at: byte for addr, byte in held.items() if at <= addr < at + self.beat}
            yield at, sum(1 << lane for lane in present), sum(byte << 8 * lane for lane, byte in present.items())

    def leave(self, side: int, held: dict[int, int], error=0):
        for at, strobes, word in self.chunk_beats(held):
            self.emit(Kind.DRAIN, at, aux=strobes | side << 31, data=word)
        for at, strobes, word in self.chunk_beats(held):
            if side == 0:
                self.mem_write(at, strobes, word, Source.DMA_DATA, error)
            else:
                self.dev_write(at, strobes, word)

    def dev_write(self, at: int, strobes: int, word: int):
        self.emit(Kind.DEV_WRITE, at, aux=strobes, data=word)
        for lane in range(self.beat):
            if strobes >> lane & 1:
                self.device[at + lane] = word >> 8 * lane & 0xFF

    def read_transfer(self, addr: int, offset: int, length: int, sizes=(40,)):
        """Device to memory over system channel 0, up to terminal count."""
        self.command(1, offset, length)
        self.handoff(addr, length, 0)
        self._requests(self.to_memory, addr, offset, length, sizes)
        self.complete()

    def write_transfer(self, addr: int, offset: int, length: int, sizes=(40,)):
        """Memory to device over system channel 0, up to terminal count."""
        self.command(2, offset, length)
        self.handoff(addr, length, 1)
        self._requests(self.to_device, addr, offset, length, sizes)
        self.complete()

    @staticmethod
    def _requests(move, addr, offset, length, sizes):
        done, n = 0, 0
        while done < length:
            size = min(sizes[n % len(sizes)], length - done)
            move(addr + done, offset + done, size)
            done, n = done + size, n + 1

    def flush(self, error=0, timeout=False):
        self.csr_write("dma.ctrl", 1)
        self.emit(Kind.FLUSH_BEGIN)
        discarded = 0
        for side in (0, 1):
            held, self.open[side] = self.open[side], {}
            if self.bug == "drops_remainder":
                continue
            if timeout:
                for at, strobes, _ in self.chunk_beats(held):
                    self.emit(Kind.DISCARD, at, aux=strobes | side << 31)
                discarded += len(held)
            elif held:
                self.leave(side, held, error if side == 0 else 0)
                if error and side == 0:
                    self.open[0] = held
        self.emit(Kind.FLUSH_END, flags=4 if timeout else 2 if error else 1, aux=discarded)

    # --- verdict
    def snapshot(self, final=True) -> Snapshot:
        remainders = [
            Remainder(min(held) // self.chunk * self.chunk, {at % self.chunk: byte for at, byte in held.items()})
            if held
            else None
            for held in self.open
        ]
        return Snapshot(
            cycle=self.cycle,
            memory=bytes(self.memory),
            device=bytes(self.device),
            dcache={line: CacheLine(dirty, bytes(data), way) for line, (data, dirty, way) in self.dcache.items()},
            icache={line: data for line, (data, _) in self.icache.items()},
            fifo_to_memory=remainders[0],
            fifo_to_device=remainders[1],
            final=final,
        )

    def judge(self, final=True) -> list[str]:
        """What the model says: texts of all mismatches."""
        model = ReferenceModel(self.config, *self.images)
        model.apply(self.events)
        return [str(mismatch) for mismatch in model.mismatches + model.compare(self.snapshot(final))]

    # --- editing the record
    def at(self, kind: Kind, number=0) -> int:
        """Position of the ``number``-th record of a kind (negative: from the end)."""
        return [n for n, event in enumerate(self.events) if event.kind == kind][number]

    def edit(self, kind: Kind, number=0, /, **fields):
        n = self.at(kind, number)
        self.events[n] = self.events[n]._replace(**fields)

    def delete(self, kind: Kind, number=0):
        del self.events[self.at(kind, number)]

    def repeat(self, kind: Kind, number=0):
        n = self.at(kind, number)
        self.events.insert(n, self.events[n])


def noticed(machine: Machine, text: str, final=True) -> None:
    """The model must complain, and one complaint must contain the text."""
    found = machine.judge(final)
    assert any(text in line for line in found), "\n".join(found) or "nothing was noticed"
