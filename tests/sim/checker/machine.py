# SPDX-License-Identifier: BSD-2-Clause
"""A small functional machine that writes the record of a run: caches, memory, chunk FIFO, DMA, and the driver's calls.

It is no model of the hardware's timing: every step takes one cycle, caches are as large as memory, and evictions, prefetches and
DMA progress happen when a test says so. Enough for the checker, which must not depend on luck.
"""

import contextlib
import sys

from rtl.config import SocConfig
from rtl.probe import Cause, Kind, Source
from sim.record import Event, Run

BASE = 0x8000_0000
LINE, CHUNK, BEAT = 32, 16, 8
CLEAN, INVALIDATE, CLEAN_INVALIDATE = 1, 2, 3
OPS = {1: "clean", 2: "invalidate", 3: "clean+invalidate"}


class Machine:
    """``coherent``, ``flag`` (what the HAL was told), ``speculates``, ``invalidate_after_read`` describe the platform."""

    library: tuple = ()  # more files whose lines are no driver's

    def __init__(self, *, coherent=False, flag=None, speculates=False, invalidate_after_read=True, unification=False, tail=False):
        self.coherent = coherent
        self.flag = coherent if flag is None else flag
        self.speculates = speculates
        self.invalidate_after_read = invalidate_after_read
        config = SocConfig(coherency="snoop" if coherent else "none")
        if unification or tail:
            config = config.replace(faults__maintenance_point_of_unification=unification, faults__maintenance_ignores_tail=tail)
        self.tail = tail
        self.config = config
        self.memory = bytearray(b"\xee" * 65536)
        self.device = bytearray(b"\xdd" * 65536)
        self.dcache: dict[int, list] = {}
        self.icache: dict[int, bytes] = {}
        self.fifo = [{}, {}]  # address -> byte, toward memory and toward the device
        self.events: list[Event] = []
        self.calls: list[dict] = []
        self.sites: dict[int, tuple] = {}
        self.tags: dict[tuple, int] = {}
        self.cycle = 1
        self.number = 0
        self.transfers = 0
        self.fail_flushes: list[str] = []
        self.site_line = None
        self.ids = 0
        self.harness = False
        self.inside: list[int] = []
        self.hal: dict = {}
        self.architecture = "wdk"

    # -- record ---------------------------------------------------------------------------------------------------

    def event(self, kind, flags=0, tag=0, addr=0, aux=0, data=0):
        self.cycle += 1
        self.events.append(Event(self.cycle, int(kind), flags, tag, addr, aux, data))

    def site(self):
        if self.site_line is not None:
            return ("driver.py", self.site_line, "driver")
        frame = sys._getframe(1)
        while frame.f_code.co_filename in (__file__, contextlib.__file__, *self.library):
            frame = frame.f_back
        return (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)

    def tag(self):
        if self.harness:
            return 0
        site = self.site()
        if site not in self.tags:
            self.tags[site] = len(self.tags) + 1
            self.sites[self.tags[site]] = site
        return self.tags[site]

    @contextlib.contextmanager
    def call(self, name, **args):
        self.number += 1
        number, result = self.number, [None]
        self.calls.append(
            {"seq": len(self.calls), "phase": "begin", "call": number, "name": name, "cycle": self.cycle,
             "site": list(self.site()), "parent": self.inside[-1] if self.inside else None, "thread": 0, "role": "thread",
             "irql": None, "args": args}
        )  # fmt: skip
        self.cycle += 1
        self.inside.append(number)
        yield result
        self.inside.pop()
        self.calls.append(
            {"seq": len(self.calls), "phase": "end", "call": number, "name": name, "cycle": self.cycle,
             "result": result[0], "error": None}
        )  # fmt: skip
        self.cycle += 1

    def run(self):
        platform = {
            "config": self.config.to_dict(),
            "coherent": self.coherent,
            "coherent_flag": self.flag,
            "line_bytes": LINE,
            "assumed_line_bytes": LINE,
            "chunk_bytes": CHUNK,
            "speculates": self.speculates,
            "hal": {"invalidate_after_read": self.invalidate_after_read, **self.hal},
            "architecture": self.architecture,
            "memory": [BASE, 262144],
            "csr": [0x1000_0000, 4096],
            "seed": 1,
            "versions": {},
        }
        return Run(self.events, self.calls, self.sites, platform)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def mem(self, address, length):
        return bytes(self.memory[address - BASE : address - BASE + length])

    @staticmethod
    def beats(address, data):
        """(beat address, strobes, value) of a byte string."""
        position, end = address, address + len(data)
        while position < end:
            beat = position & -BEAT
            stop = min(end, beat + BEAT)
            strobes = (1 << stop - beat) - (1 << position - beat)
            value = int.from_bytes(data[position - address : stop - address], "little") << 8 * (position - beat)
            yield beat, strobes, value
            position = stop

    def write_memory(self, address, data, source):
        for beat, strobes, value in self.beats(address, data):
            self.event(Kind.MEM_WRITE, addr=beat, aux=source | strobes << 8, data=value)
        self.memory[address - BASE : address - BASE + len(data)] = data

    def read_memory(self, address, length, source):
        data = self.mem(address, length)
        for beat, _, _ in self.beats(address, data):
            self.event(Kind.MEM_READ, addr=beat, aux=source, data=int.from_bytes(self.mem(beat, BEAT), "little"))
        return data

    # -- D-cache -------------------------------------------------------------------------------------------------------

    def fill(self, line, cause=Cause.DEMAND):
        if line in self.dcache:
            return
        self.event(Kind.FILL_REQUEST, addr=line, aux=cause)
        source = Source.D_PREFETCH if cause == Cause.PREFETCH else Source.D_FILL
        self.dcache[line] = [bytearray(self.read_memory(line, LINE, source)), False]
        self.event(Kind.FILL_INSTALL, addr=line, aux=cause)

    def prefetch(self, address):
        self.fill(address & -LINE, Cause.PREFETCH)

    def evict(self, address, cause=Cause.INJECTOR):
        line = address & -LINE
        if line not in self.dcache:
            return
        data, dirty = self.dcache.pop(line)
        self.event(Kind.EVICT, flags=int(dirty), addr=line, aux=cause)
        if dirty:
            self.write_memory(line, bytes(data), Source.D_WRITEBACK)
            self.event(Kind.WB_DONE, addr=line)

    def evict_all(self):
        for line in list(self.dcache):
            self.evict(line)

    def writeback(self, line, cause):
        data, dirty = self.dcache[line]
        if dirty:
            self.event(Kind.CLEAN, addr=line, aux=cause)
            self.write_memory(line, bytes(data), Source.D_WRITEBACK)
            self.event(Kind.WB_DONE, addr=line)
            self.dcache[line][1] = False

    # -- CPU -------------------------------------------------------------------------------------------------------------

    def store(self, address, data):
        tag = self.tag()
        for beat, strobes, value in self.beats(address, data):
            line = beat & -LINE
            self.fill(line)
            for n in range(BEAT):
                if strobes >> n & 1:
                    self.dcache[line][0][beat - line + n] = value >> 8 * n & 0xFF
            self.dcache[line][1] = True
            self.event(Kind.STORE, tag=tag, addr=beat, aux=strobes, data=value)

    def load(self, address, length):
        tag, out = self.tag(), b""
        for beat, strobes, _ in self.beats(address, bytes(length)):
            line = beat & -LINE
            self.fill(line)
            data = self.dcache[line][0][beat - line : beat - line + BEAT]
            self.event(Kind.LOAD, tag=tag, addr=beat, aux=strobes, data=int.from_bytes(data, "little"))
            out += bytes(data[n] for n in range(BEAT) if strobes >> n & 1)
        return out

    def load_uncached(self, address, length):
        tag, out = self.tag(), b""
        for beat, strobes, _ in self.beats(address, bytes(length)):
            data = self.mem(beat, BEAT)
            self.event(Kind.UNCACHED_LOAD, tag=tag, addr=beat, aux=strobes, data=int.from_bytes(data, "little"))
            out += bytes(data[n] for n in range(BEAT) if strobes >> n & 1)
        return out

    def store_uncached(self, address, data):
        tag = self.tag()
        for beat, strobes, value in self.beats(address, data):
            self.event(Kind.UNCACHED_STORE, tag=tag, addr=beat, aux=strobes, data=value)
        self.write_memory(address, data, Source.D_UNCACHED)

    def fetch(self, address, length):
        tag, out = self.tag(), b""
        for beat, strobes, _ in self.beats(address, bytes(length)):
            line = beat & -LINE
            if line not in self.icache:
                self.event(Kind.IFILL_REQUEST, addr=line)
                self.icache[line] = self.read_memory(line, LINE, Source.I_FILL)
                self.event(Kind.IFILL_INSTALL, addr=line)
            data = self.icache[line][beat - line : beat - line + BEAT]
            self.event(Kind.FETCH, tag=tag, addr=beat, aux=strobes, data=int.from_bytes(data, "little"))
            out += bytes(data[n] for n in range(BEAT) if strobes >> n & 1)
        return out

    def prefetch_code(self, address):
        line = address & -LINE
        if line not in self.icache:
            self.event(Kind.IFILL_REQUEST, addr=line)
            self.icache[line] = self.read_memory(line, LINE, Source.I_FILL)
            self.event(Kind.IFILL_INSTALL, addr=line)

    # -- maintenance -------------------------------------------------------------------------------------------------------

    def _maintain(self, op, ranges, target):
        for address, length in ranges:
            self.event(Kind.MAINT_BEGIN, addr=address, aux=op | 1 << 2 | target << 4, data=length)
            end = address + length
            last = end & -LINE if self.tail and end % LINE else end
            for line in range(address & -LINE, last, LINE):
                if target & 1 and line in self.dcache:
                    if op & 1:
                        self.writeback(line, Cause.MAINTENANCE)
                    if op & 2:
                        self.event(Kind.INVALIDATE, flags=int(self.dcache[line][1]), addr=line, aux=Cause.MAINTENANCE)
                        del self.dcache[line]
                if target & 2 and op & 2 and line in self.icache:
                    self.event(Kind.IINVALIDATE, addr=line, aux=Cause.MAINTENANCE << 1)
                    del self.icache[line]
            self.event(Kind.MAINT_END, addr=address)

    def maintain(self, op, ranges, target=1, by="driver"):
        name = {1: "d", 2: "i", 3: "both"}[target]
        with self.call("CacheMaintenance", op=OPS[op], target=name, ranges=[list(r) for r in ranges], requested_by=by):
            self._maintain(op, ranges, target)

    # -- calls -------------------------------------------------------------------------------------------------------------

    def mdl(self, *ranges):
        self.ids += 1
        return {"id": self.ids, "ranges": [list(r) for r in ranges]}

    def adapter(self, master=False, channel=0, version=2, auto_initialize=False):
        self.ids += 1
        adapter = {"id": self.ids, "version": version, "master": master, "channel": None if master else channel}
        description = {"version": version, "master": master, "auto_initialize": auto_initialize}
        with self.call("IoGetDmaAdapter", description=description) as result:
            result[0] = {"adapter": adapter, "map_registers": 16}
        return adapter

    def ke_flush(self, mdl, read, dma):
        with self.call("KeFlushIoBuffers", mdl=mdl, read_operation=read, dma_operation=dma):
            if not self.flag:
                steps = {(True, True): [(3, 3)], (True, False): [(1, 1), (2, 2)]}.get((read, dma), [(1, 1)])
                for op, target in steps:
                    self.maintain(op, mdl["ranges"], target, by="hal")

    def map_transfer(self, adapter, mdl, offset, length, write):
        with self.call("MapTransfer", adapter=adapter, mdl=mdl, offset=offset, length=length, write_to_device=write) as result:
            result[0] = [mdl["ranges"][0][0] + offset, length]

    def sg_list(self, adapter, mdl, write):
        self.ids += 1
        length = sum(n for _, n in mdl["ranges"])
        with self.call(
            "GetScatterGatherList", adapter=adapter, mdl=mdl, offset=0, length=length, write_to_device=write
        ) as result:
            result[0] = {"list": self.ids, "elements": mdl["ranges"]}
        return {"list": self.ids, "ranges": mdl["ranges"]}

    def common_buffer(self, adapter, address, length, cached):
        self.ids += 1
        with self.call("AllocateCommonBuffer", adapter=adapter, length=length, cache_enabled=cached) as result:
            result[0] = {"buffer": self.ids, "address": address, "length": length}
            if not cached:
                self.maintain(3, [(address, length)], 3, by="hal")
        return self.ids

    def start(self, adapter, ranges, write, buffer=None, device=0, owner=None, **more):
        """Starts a transfer; bytes move with :meth:`move`. Without an adapter it is a bus master's.

        ``device`` is the offset in the device, ``owner`` the Linux device."""
        self.transfers += 1
        master = adapter is None or adapter["master"]
        transfer = {
            "tag": self.transfers, "write": write, "device": device, "done": 0, "channel": 4 if master else 0,
            "bytes": [a + n for a, k in ranges for n in range(k)],
        }  # fmt: skip
        args = {"adapter": adapter, "ranges": [list(r) for r in ranges], "write_to_device": write, "buffer": buffer, **more}
        with self.call("StartTransfer", **args, device=owner):
            self.event(
                Kind.HANDOFF,
                tag=transfer["tag"],
                addr=ranges[0][0],
                aux=transfer["channel"] | int(write) << 3,
                data=0 if master else len(transfer["bytes"]),
            )
        return transfer

    def move(self, transfer, count=None):
        """Moves bytes between memory and the FIFO; full chunks go on at once."""
        todo = transfer["bytes"][transfer["done"] :][:count]
        for address in todo:
            tag = transfer["tag"]
            if transfer["write"]:
                where = transfer["device"] + transfer["done"]
                beat = address & -BEAT
                data = int.from_bytes(self.mem(beat, BEAT), "little")
                self.event(Kind.MEM_READ, addr=beat, aux=Source.DMA_DATA, data=data)
                value = self.memory[address - BASE]
                if self.coherent and address & -LINE in self.dcache:
                    value = self.dcache[address & -LINE][0][address % LINE]
            else:
                where, value = address, self.device[transfer["device"] + transfer["done"]]
            self._push(where, value, int(transfer["write"]), tag)
            transfer["done"] += 1

    def _push(self, where, value, write, tag):
        fifo = self.fifo[write]
        if fifo and next(iter(fifo)) // CHUNK != where // CHUNK:
            self._drain(write, tag)
        beat = where & -BEAT
        self.event(Kind.PUSH, tag=tag, addr=beat, aux=1 << where % BEAT | write << 31, data=value << 8 * (where % BEAT))
        self.fifo[write][where] = value
        if len(self.fifo[write]) == CHUNK:
            self._drain(write, tag)

    def _drain(self, write, tag):
        fifo, self.fifo[write] = self.fifo[write], {}
        for beat in sorted({where & -BEAT for where in fifo}):
            lanes = [(where, value) for where, value in fifo.items() if where & -BEAT == beat]
            strobes = sum(1 << where % BEAT for where, _ in lanes)
            data = sum(value << 8 * (where % BEAT) for where, value in lanes)
            self.event(Kind.DRAIN, tag=tag, addr=beat, aux=strobes | write << 31, data=data)
            if write:
                self.event(Kind.DEV_WRITE, addr=beat, aux=strobes, data=data)
                for where, value in lanes:
                    self.device[where] = value
            else:
                self.event(Kind.MEM_WRITE, addr=beat, aux=Source.DMA_DATA | strobes << 8, data=data)
                for where, value in lanes:
                    self.memory[where - BASE] = value
                    if self.coherent and where & -LINE in self.dcache:
                        self.dcache[where & -LINE][0][where % LINE] = value
                    if self.coherent:
                        self.icache.pop(where & -LINE, None)

    def finish(self, transfer, residue=0):
        """Moves the rest (but ``residue`` bytes) and completes."""
        left = len(transfer["bytes"]) - transfer["done"] - residue
        self.move(transfer, left)
        self.event(Kind.COMPLETE, tag=transfer["tag"], aux=transfer["channel"], data=residue, flags=2 if residue else 0)

    def drain(self):
        """The engine's flush; ``fail_flushes`` holds the results of the next ones ("bus_error", "timeout")."""
        self.event(Kind.FLUSH_BEGIN)
        failure = self.fail_flushes.pop(0) if self.fail_flushes else None
        if failure == "timeout":
            discarded = sum(len(fifo) for fifo in self.fifo)
            self.fifo = [{}, {}]
            self.event(Kind.FLUSH_END, flags=4, aux=discarded)
        elif failure:
            self.event(Kind.FLUSH_END, flags=2)
        else:
            self._drain(0, 0)
            self._drain(1, 0)
            self.event(Kind.FLUSH_END, flags=1)
        return failure is None

    def flush_adapter(self, adapter, mdl, write, offset=0, length=None):
        whole = sum(n for _, n in mdl["ranges"])
        length = whole if length is None else length
        with self.call(
            "FlushAdapterBuffers", adapter=adapter, mdl=mdl, offset=offset, length=length, write_to_device=write
        ) as result:
            result[0] = self.drain()
            if result[0] and not write and self.invalidate_after_read and not self.flag:
                self.maintain(2, clip(mdl["ranges"], offset, length), 3, by="hal")
        return result[0]

    def put_list(self, adapter, list_, write):
        with self.call("PutScatterGatherList", adapter=adapter, list=list_["list"], write_to_device=write) as result:
            result[0] = self.drain()
            if result[0] and not write and self.invalidate_after_read and not self.flag:
                self.maintain(2, list_["ranges"], 3, by="hal")
        return result[0]

    def pio_read(self, address, data):
        with self.call("ReadRegisterBuffer", register=0x810, ranges=[[address, len(data)]], width=4):
            self.store(address, data)

    def cpu_copy(self, address, data):
        with self.call("CpuCopy", ranges=[[address, len(data)]]):
            pass
        self.store(address, data)

    def complete_irp(self, mdl, information=None, status=0):
        whole = sum(n for _, n in mdl["ranges"]) if mdl else 0
        with self.call(
            "IoCompleteRequest", irp=1, status=status, information=whole if information is None else information, mdl=mdl
        ):
            pass


def clip(ranges, offset, length):
    out = []
    for address, size in ranges:
        skip = min(offset, size)
        take = max(0, min(size - skip, length))
        if take:
            out.append((address + skip, take))
        offset, length = offset - skip, length - take
    return out


def pattern(length, seed=0):
    return bytes((seed + 7 * n) % 251 for n in range(length))
