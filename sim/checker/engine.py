# SPDX-License-Identifier: BSD-2-Clause
"""One pass over a run: keeps the may-state, calls the rules, links consequences to roots.

The rules live in the modules beside this one, by family; each is a set of functions on an :class:`Engine`. The engine knows
no rule's text. Hot paths (loads, stores, memory beats) touch a line's fields only; everything else happens where a
line is ``hot``.
"""

from collections.abc import Callable, Iterable
from typing import Any

from rtl.probe import Cause, Kind, Source
from sim.record import Event, Run

from . import access, dma, flushes, pio, protocol
from .calls import Flush, OpenCall, Pio, Transfer
from .findings import Access, Finding, Party, Severity, Site
from .resolve import Draft, resolve
from .rules import RULES
from .state import Bytes, Line

__all__ = ["Engine"]


class Engine:
    """Checks one run; :meth:`run` returns the findings.

    ``lines`` maps line numbers (address over line size) to may-state, ``transfers`` lists all, ``open`` those whose flush is
    still owed or whose bytes may still be in the FIFO, ``flushes`` the flush calls whose bytes no transfer has used yet.
    """

    def __init__(self, run: Run):
        self.record = run
        platform, config = run.platform, run.config
        self.platform = platform
        self.coherent = bool(platform.get("coherent", config.coherent))
        self.coherent_flag = bool(platform.get("coherent_flag", self.coherent))
        self.speculates = bool(platform.get("speculates", False))
        self.hal = dict(platform.get("hal") or {})
        self.line_bytes = int(platform.get("line_bytes", config.dcache.line_bytes))
        self.assumed_line_bytes = int(platform.get("assumed_line_bytes", self.line_bytes))
        self.chunk_bytes = int(platform.get("chunk_bytes", config.dma.chunk_bytes))
        base, size = platform.get("memory", (config.memory.base, config.memory.size))
        self.memory = (int(base), int(base) + int(size))
        self.ignores_tail = config.faults.maintenance_ignores_tail
        self.unification = config.faults.maintenance_point_of_unification
        self.cut_through = config.dma.cut_through
        self.beat = config.data_bytes
        self.shift = self.line_bytes.bit_length() - 1
        self.low = self.line_bytes - 1
        self.full = (1 << self.line_bytes) - 1
        self.n = 0
        self.cycle = 0
        self.lines: dict[int, Line] = {}
        self.newest = Bytes(self.beat)
        self.fifo: tuple[dict[int, int], dict[int, int]] = ({}, {})  # beat -> strobes on their way: to memory, to the device
        self.merged: set[int] = set()  # lines that took a snooped write
        self.transfers: list[Transfer] = []
        self.open: list[Transfer] = []
        self.by_tag: dict[int, Transfer] = {}
        self.flushes: list[Flush] = []
        self.spent: list[Flush] = []
        self.pios: list[Pio] = []
        self.calls: dict[int, OpenCall] = {}
        self.adapters: dict[int, dict[str, Any]] = {}
        self.mappings: dict[int, list[protocol.Mapping]] = {}
        self.lists: dict[int, protocol.Mapping] = {}
        self.buffers: dict[int, protocol.CommonBuffer] = {}
        self.maint: tuple[Event, int] | None = None
        self.flush_begin: int | None = None
        self.drafts: dict[tuple[Any, ...], Draft] = {}

    # -- the pass --------------------------------------------------------------------------------------------------

    def run(self) -> list[Finding]:
        """Goes over events and calls in order (a call at cycle c stands after all events of cycles <= c)."""
        table: list[Callable[[Event], None] | None] = [None] * 256
        for kind, handler in {
            Kind.LOAD: self._load,
            Kind.STORE: self._store,
            Kind.UNCACHED_LOAD: self._uncached_load,
            Kind.UNCACHED_STORE: self._uncached_store,
            Kind.FETCH: self._fetch,
            Kind.IFILL_REQUEST: self._ifill,
            Kind.FILL_REQUEST: self._fill,
            Kind.FILL_INSTALL: self._install,
            Kind.EVICT: self._evict,
            Kind.CLEAN: self._clean,
            Kind.INVALIDATE: self._invalidate,
            Kind.WB_DONE: self._wb_done,
            Kind.MEM_READ: self._mem_read,
            Kind.MEM_WRITE: self._mem_write,
            Kind.MAINT_BEGIN: self._maint_begin,
            Kind.MAINT_END: self._maint_end,
            Kind.HANDOFF: self._handoff,
            Kind.DESCRIPTOR: self._descriptor,
            Kind.COMPLETE: self._complete,
            Kind.FLUSH_BEGIN: self._flush_begin,
            Kind.FLUSH_END: self._flush_end,
            Kind.DMA_ABORT: self._abort,
            Kind.PUSH: self._push,
            Kind.DRAIN: self._drain,
            Kind.SNOOP_WRITE: self._snoop_write,
        }.items():
            table[kind] = handler
        calls = self.record.calls
        count, position = len(calls), 0
        due = calls[0]["cycle"] if calls else float("inf")
        for n, event in enumerate(self.record.events):
            while event[0] > due:
                self.n = n
                self._call(calls[position])
                position += 1
                due = calls[position]["cycle"] if position < count else float("inf")
            handler = table[event[1]]
            if handler is not None:
                self.n = n
                handler(event)
        self.n = len(self.record.events)
        for call in calls[position:]:
            self._call(call)
        protocol.end_of_run(self)
        return resolve(self)

    # -- CPU -------------------------------------------------------------------------------------------------------

    def line(self, address: int) -> Line:
        """State of the line that holds ``address``."""
        key = address >> self.shift
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(key << self.shift)
        return line

    def _load(self, event: Event) -> None:
        address = event[4]
        line = self.lines.get(address >> self.shift) or self.line(address)
        if event[2] & 1:
            return
        if line.fill_n < 0:
            line.fill = event
        if line.hot:
            self.cycle = event[0]
            access.read(self, line, event)
        line.fill_n = self.n

    def _store(self, event: Event) -> None:
        if event[2] & 1:
            return
        address, strobes = event[4] & -self.beat, event[5]
        line = self.lines.get(address >> self.shift) or self.line(address)
        mask = strobes << (address & self.low)
        if not line.dirty:
            line.dirty_first = event
        line.dirty |= mask
        line.store = event
        line.store_n = self.n
        if line.fill_n < 0:
            line.fill = event
        line.fill_n = self.n
        if self.speculates or line.ifill_n >= 0:
            line.istale |= mask
            line.istale_of = None
        self.newest.put(address, strobes, event[6])
        if line.hot:
            self.cycle = event[0]
            access.store(self, line, mask, event)

    def _uncached_load(self, event: Event) -> None:
        if self.memory[0] <= event[4] < self.memory[1] and not event[2] & 1:
            line = self.lines.get(event[4] >> self.shift)
            if line is not None and line.hot:
                self.cycle = event[0]
                access.uncached_read(self, line, event)

    def _uncached_store(self, event: Event) -> None:
        if self.memory[0] <= event[4] < self.memory[1]:
            address = event[4] & -self.beat
            self.newest.put(address, event[5], event[6])
            line = self.lines.get(address >> self.shift)
            if line is not None and line.hot:
                self.cycle = event[0]
                access.uncached_store(self, line, event[5] << (address & self.low), event)

    def _fetch(self, event: Event) -> None:
        if event[2] & 1:
            return
        self.cycle = event[0]
        line = self.line(event[4])
        pio.fetch(self, line, event)
        if line.ifill_n < 0:
            line.ifill = event
        line.ifill_n = self.n

    def _ifill(self, event: Event) -> None:
        line = self.line(event[4])
        if line.ifill_n < 0:
            line.ifill = event
        line.ifill_n = self.n
        line.istale |= line.dirty

    # -- what the caches really did ---------------------------------------------------------------------------------

    def _fill(self, event: Event) -> None:
        line = self.line(event[4])
        if line.fill_n < 0:
            line.fill = event
        line.fill_n = self.n

    def _install(self, event: Event) -> None:
        line = self.line(event[4])
        line.present, line.left = event, None

    def _evict(self, event: Event) -> None:
        line = self.line(event[4])
        line.present, line.left = None, event
        if event[2] & 1:
            self._write_back(line, event)

    def _clean(self, event: Event) -> None:
        self._write_back(self.line(event[4]), event)

    def _write_back(self, line: Line, event: Event) -> None:
        line.pending += 1
        if line.hazard and event[5] & 15 != Cause.MAINTENANCE and not self.coherent:
            self.cycle = event[0]
            dma.written_back(self, line, event)

    def _invalidate(self, event: Event) -> None:
        line = self.line(event[4])
        line.present, line.left = None, event

    def _wb_done(self, event: Event) -> None:
        line = self.line(event[4])
        line.pending = max(0, line.pending - 1)

    # -- memory and DMA data ----------------------------------------------------------------------------------------

    def _mem_read(self, event: Event) -> None:
        if event[5] & 15 == Source.DMA_DATA and not event[2] & 1:
            line = self.lines.get(event[4] >> self.shift)
            if line is not None and line.watch:
                # the record of a read names no strobes; the watched bytes of the transfer are those that count
                access.evidence(self, line, event, (1 << self.beat) - 1, "the DMA read", devices=True)

    def _mem_write(self, event: Event) -> None:
        if event[2] & 1:
            return
        address, source, strobes = event[4] & -self.beat, event[5] & 15, event[5] >> 8
        line = self.lines.get(address >> self.shift)
        if source == Source.DMA_DATA:
            fifo = self.fifo[0]
            have = fifo.get(address, 0)
            fresh = strobes & ~have
            if fresh:  # cut-through: no push announced these bytes
                self.newest.put(address, fresh, event[6])
            if have & ~strobes:
                fifo[address] = have & ~strobes
            elif have:
                del fifo[address]
        elif source == Source.D_WRITEBACK and line is not None and line.watch:
            on_the_way = self.fifo[0].get(address, 0)
            access.evidence(self, line, event, strobes & ~on_the_way, "the write-back put into memory")
        if line is not None:
            line.memory = event

    def _push(self, event: Event) -> None:
        write, strobes = event[5] >> 31, event[5] & 0x7FFF_FFFF
        address = event[4] & -self.beat
        fifo = self.fifo[write]
        fifo[address] = fifo.get(address, 0) | strobes
        if not write:
            self.newest.put(address, strobes, event[6])

    def _drain(self, event: Event) -> None:
        # Toward memory the memory's own record counts. Discarded bytes have no record here: they stay owed for good.
        if event[5] >> 31:
            address = event[4] & -self.beat
            left = self.fifo[1].get(address, 0) & ~event[5]
            if left:
                self.fifo[1][address] = left
            else:
                self.fifo[1].pop(address, None)

    def _snoop_write(self, event: Event) -> None:
        if event[2] & 1:  # merged into a dirty line: the CPU sees the bytes, whatever memory answers
            self.merged.add(event[4] & -self.line_bytes)

    # -- maintenance, transfers, flushes of the FIFO ------------------------------------------------------------------

    def _maint_begin(self, event: Event) -> None:
        self.maint = (event, self.n)

    def _maint_end(self, event: Event) -> None:
        if self.maint is None:
            return
        begin, at = self.maint
        self.maint = None
        self.cycle = event[0]
        if not event[2] & 3:
            flushes.maintained(self, begin, at)

    def _handoff(self, event: Event) -> None:
        self.cycle = event[0]
        dma.handoff(self, event)

    def _descriptor(self, event: Event) -> None:
        self.cycle = event[0]
        dma.descriptor(self, event)

    def _complete(self, event: Event) -> None:
        self.cycle = event[0]
        dma.complete(self, event)

    def _flush_begin(self, event: Event) -> None:
        self.flush_begin = self.n

    def _flush_end(self, event: Event) -> None:
        self.cycle = event[0]
        if event[2] & 1 and self.flush_begin is not None:
            dma.drained(self, self.flush_begin)
        self.flush_begin = None

    def _abort(self, event: Event) -> None:
        self.cycle = event[0]
        dma.aborted(self, event)

    # -- calls -----------------------------------------------------------------------------------------------------

    def _call(self, record: dict[str, Any]) -> None:
        self.cycle = record["cycle"]
        name, number = record.get("name", ""), record.get("call", 0)
        if record["phase"] == "begin":
            site = record.get("site")
            call = OpenCall(number, name, record.get("args") or {}, tuple(site) if site else None, record["cycle"], self.n)
            self.calls[number] = call
            protocol.begin(self, call)
        else:
            open_call = self.calls.pop(number, None)
            if open_call is not None:
                protocol.end(self, open_call, record.get("result"), record.get("error"))

    # -- helpers for the rules ----------------------------------------------------------------------------------------

    def site(self, tag: int) -> Site | None:
        """Source line of a CPU access; None for the test harness (tag 0)."""
        return self.record.sites.get(tag) if tag else None

    def cpu(self, event: Event | None) -> Access:
        """A CPU access, or the fill or write-back that stands for it, as one side of a finding."""
        if event is None:
            return Access("fill", self.cycle)
        kind = event[1]
        if kind == Kind.FILL_REQUEST:
            return Access("prefetch" if event[5] & 15 == Cause.PREFETCH else "fill", event[0], None, event[4])
        if kind == Kind.IFILL_REQUEST:
            return Access("instruction fill", event[0], None, event[4])
        if kind in (Kind.EVICT, Kind.CLEAN):
            return Access("write-back", event[0], None, event[4])
        what = {
            Kind.LOAD: "load",
            Kind.STORE: "store",
            Kind.UNCACHED_LOAD: "uncached load",
            Kind.UNCACHED_STORE: "uncached store",
            Kind.FETCH: "fetch",
        }.get(kind, "access")
        if not event[3]:
            what += " (test harness)"
        return Access(what, event[0], self.site(event[3]), event[4])

    def started(self, transfer: Transfer) -> Access:
        """The hand-off of a transfer."""
        start = transfer.ranges[0][0] if transfer.ranges else None
        return Access(transfer.what, transfer.handoff[0], transfer.site, start)

    def called(self, call: OpenCall | Flush | Pio) -> Access:
        """A driver call."""
        return Access(call.name, call.cycle, call.site)

    def describe(self, line: Line) -> tuple[str, str]:
        """What the D-cache and memory really held of a line, in words."""
        if line.present is not None:
            how = "prefetch" if line.present[5] & 15 == Cause.PREFETCH else "demand fill"
            cache = f"line {line.addr:#010x} is valid since cycle {line.present[0]} ({how})"
        elif line.left is not None:
            cache = f"line {line.addr:#010x} is absent since cycle {line.left[0]}"
        elif line.fill is not None and line.fill_n >= 0:
            cache = f"line {line.addr:#010x} was used at cycle {line.fill[0]}"
        else:
            cache = f"line {line.addr:#010x} is absent"
        if line.dirty and line.store is not None:
            cache += f", newest store at cycle {line.store[0]}"
        if line.pending:
            cache += ", its write-back is not answered"
        if line.memory is None:
            memory = "not written in this run"
        else:
            names = {Source.D_WRITEBACK: "a write-back", Source.D_UNCACHED: "an uncached store", Source.DMA_DATA: "the device"}
            memory = f"last written by {names.get(line.memory[5] & 15, 'another manager')} at cycle {line.memory[0]}"
        return cache, memory

    def note(
        self,
        rule: str,
        key: Iterable[Any],
        build: Callable[[], dict[str, Any]],
        line: Line | None = None,
        mask: int = 0,
        *,
        severity: Severity = Severity.POSSIBLE,
        subjects: Iterable[tuple[str, int]] = (),
        latent: bool | None = None,
        party: Party | None = None,
        never: Iterable[str] = (),
        watch: bool = True,
    ) -> Draft:
        """Adds bytes of a line to the finding ``(rule, *key)``, made by ``build`` the first time.

        ``build`` gives ``detail``, ``accesses``, ``missing`` and optionally ``transfer``. A ``latent`` of None takes the
        catalogue's. Lines with ``watch`` wait for evidence.
        """
        full_key = (rule, *key)
        draft = self.drafts.get(full_key)
        if draft is None:
            draft = self.drafts[full_key] = Draft(rule, self.cycle, severity, party=party, **build())
            draft.latent = self.coherent and (RULES[rule].latent if latent is None else latent)
            draft.never.update(never)
            if line is not None:
                draft.cache, draft.memory = self.describe(line)
        else:
            if severity.rank > draft.severity.rank:
                draft.severity = severity
            draft.never.update(never)
            if draft.latent:
                draft.latent = self.coherent and (RULES[rule].latent if latent is None else latent)
        draft.subjects.update(subjects)
        if line is not None:
            draft.masks[line.addr] = draft.masks.get(line.addr, 0) | mask
            if watch and mask and not draft.latent:
                if draft not in line.watch:
                    line.watch.append(draft)
                line.hot = True
        return draft
