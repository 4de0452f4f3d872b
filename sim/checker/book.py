# SPDX-License-Identifier: BSD-2-Clause
"""The book of a run: may-state of all lines, transfers, flushes, mappings, and the helpers with which rules report.

It imports no rule. :mod:`.engine` fills it from events and calls and runs the rule families on it.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rtl.probe import Cause, Kind, Source
from sim.record import Event, Run

from .calls import Bounce, CommonBuffer, Flush, Mapping, OpenCall, Pio, Transfer
from .drafts import Draft
from .findings import Access, Party, Severity, Site
from .rules import RULES
from .state import Bytes, Line, Range, line_masks

__all__ = ["Book"]

T = TypeVar("T")


class Book:
    """What is known at one point of a run.

    ``n`` and ``cycle`` are the place in the stream. ``lines`` maps line numbers (address over line size) to may-state,
    ``transfers`` lists all, ``open`` those whose flush is still owed or whose bytes may still be in the FIFO, ``flushes`` the
    flush calls whose bytes no transfer has used yet, ``calls`` the calls in progress by number, ``drafts`` the findings so far.
    ``on_started`` and ``on_completed`` are the families' functions for a transfer's hand-off and completion.
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
        self.cleans_edges = config.dcache.partial_lines == "clean"
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
        self.mappings: dict[Any, list[Mapping]] = {}
        self.bounces: list[Bounce] = []
        self.control: list[Range] = []
        self.posted: dict[int, Event] = {}  # beat -> uncached store that memory has not taken yet
        self.lists: dict[int, Mapping] = {}
        self.buffers: dict[int, CommonBuffer] = {}
        self.maint: tuple[Event, int] | None = None
        self.dropping = False  # an invalidate of the driver's own is in progress
        self.flush_begin: int | None = None
        self.drafts: dict[tuple[Any, ...], Draft] = {}
        self.memories: dict[type, Any] = {}
        self.on_started: tuple[Callable[[Book, Transfer], None], ...] = ()
        self.on_completed: tuple[Callable[[Book, Transfer], None], ...] = ()

    def line(self, address: int) -> Line:
        """State of the line that holds ``address``."""
        key = address >> self.shift
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(key << self.shift)
        return line

    def byte(self, address: int) -> int | None:
        """Newest value of a byte, if known."""
        return self.newest.value(address & -self.beat, address & self.beat - 1)

    def origin(self, address: int) -> str:
        """Who wrote the newest value of a byte: a store, with its line, or a beat of a DMA transfer; "" if unknown."""
        event = self.newest.origin(address & -self.beat, address & self.beat - 1)
        if event is None:
            return ""
        if event[1] in (Kind.PUSH, Kind.MEM_WRITE):
            transfer = self.by_tag.get(event[3])
            who = "the device" if transfer is None or event[1] == Kind.MEM_WRITE else f"DMA transfer {transfer.number}"
            return f"{who}, beat {event[4]:#010x}, cycle {event[0]}"
        return str(self.cpu(event))

    def is_control(self, line: int, mask: int) -> bool:
        """Whether any of these bytes of a line is a declared control word."""
        return any(mask & line_masks([r], self.line_bytes).get(line, 0) for r in self.control) if self.control else False

    def of(self, kind: type[T]) -> T:
        """The one instance of ``kind`` that belongs to this run: what a rule family remembers for itself."""
        memory = self.memories.get(kind)
        if memory is None:
            memory = self.memories[kind] = kind()
        return memory

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
