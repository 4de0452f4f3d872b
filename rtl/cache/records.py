# SPDX-License-Identifier: BSD-2-Clause
"""Probe records of the D-cache's pipeline (see the linearisation contract in :mod:`rtl.probe`).

Each operation is performed at one clock edge, and its record is valid in the cycle before that edge. A fill is recorded
when it is decided, one cycle before its AR is valid. The CPU's accesses are performed in the second stage, anything else in
the third, so records of both can share a cycle; then they are of different sets, or the access reads a line that is being
cleaned. Each stage holds one operation, and the end of a fill is one, so no channel ever has two records in a cycle. A parked
access that memory answers, beside the second stage, has a channel of its own.
"""

from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Const, Module, Mux
from amaranth.hdl import ValueLike

from ..probe import Cause, Kind

__all__ = ["CoreView", "add_records"]


@dataclass(frozen=True, kw_only=True)
class CoreView:
    """The pipeline's signals that records are made of; see the names in :class:`~rtl.cache.core.DCacheCore`."""

    core: Any
    g: Any
    q: Any
    head: Any
    head_tag: ValueLike
    head_primary: ValueLike
    by_head: ValueLike
    by_memory: ValueLike
    by_q: ValueLike
    missed: ValueLike
    failed: ValueLike
    failed_lookup: ValueLike
    upset: ValueLike
    upset_line: ValueLike
    loaded: ValueLike
    beat_data: ValueLike
    head_data: ValueLike
    uncached_start: ValueLike
    uncached_done: ValueLike
    found_line: ValueLike
    found_dirty: ValueLike
    leaves: ValueLike
    pushes: ValueLike
    walking: ValueLike
    flash: ValueLike
    cleans: ValueLike
    allocate: ValueLike
    alloc_line: ValueLike
    alloc_cause: ValueLike
    ends: ValueLike
    failed_fill: ValueLike
    install: ValueLike
    ending: Any
    wb_done: Any
    snoop_done: ValueLike
    snoop_write: ValueLike
    snoop_line: ValueLike
    snoop_dirty: ValueLike
    snoop_dropped: ValueLike
    snoop_source: ValueLike


def add_records(m: Module, v: CoreView) -> None:
    """Drives the probe outputs of ``v.core``."""
    core, g, q = v.core, v.g, v.q

    # --- cpu
    p = core.probe_cpu
    m.d.comb += [
        p.valid.eq(v.by_q | v.by_head | (v.uncached_start & q.we) | v.uncached_done),
        p.record.tag.eq(Mux(v.by_head, v.head_tag, q.tag)),
        p.record.addr.eq(q.addr & ~Const(g.data_bytes - 1, 32)),
        p.record.aux.eq(q.strb),
        p.record.data.eq(Mux(q.we, q.data, v.loaded)),
    ]
    with m.If(v.by_head):
        m.d.comb += [
            p.record.kind.eq(Mux(v.head.we, Kind.STORE, Kind.LOAD)),
            p.record.addr.eq(g.address_of(v.head.line) | (v.head.word << g.byte_bits)),
            p.record.aux.eq(v.head.strb),
            p.record.data.eq(Mux(v.head.we, v.head_data, v.loaded)),
            p.record.flags.eq(Cat(v.failed_lookup, ~v.head_primary)),
        ]
    with m.Elif(v.by_q):
        m.d.comb += [p.record.kind.eq(Mux(q.we, Kind.STORE, Kind.LOAD)), p.record.flags.eq(Cat(v.failed_lookup, ~v.missed))]
    with m.Elif(v.uncached_done):
        m.d.comb += [
            p.record.kind.eq(Mux(q.we, Kind.UNCACHED_STORE_DONE, Kind.UNCACHED_LOAD)),
            p.record.flags.eq(core.cpu.rsp.payload.resp.as_value()[1]),
            p.record.data.eq(Mux(q.we, 0, core.cpu.rsp.payload.data)),
        ]
        with m.If(q.we):
            m.d.comb += p.record.aux.eq(0)
    with m.Else():
        m.d.comb += p.record.kind.eq(Kind.UNCACHED_STORE)

    # --- parked: what memory answers
    p = core.probe_parked
    m.d.comb += [
        p.valid.eq(v.by_memory),
        p.record.kind.eq(Mux(v.head.we, Kind.STORE, Kind.LOAD)),
        p.record.tag.eq(v.head_tag),
        p.record.addr.eq(g.address_of(v.head.line) | (v.head.word << g.byte_bits)),
        p.record.aux.eq(v.head.strb),
        p.record.data.eq(Mux(v.head.we, v.head_data, v.beat_data)),
        p.record.flags.eq(Cat(v.failed, ~v.head_primary)),
    ]

    # --- d_line
    p = core.probe_d_line
    cause = Mux(v.walking, Cause.MAINTENANCE, Mux(v.allocate, v.alloc_cause, Cause.INJECTOR))
    evicts = v.leaves & (~v.walking | v.pushes)
    m.d.comb += [
        p.valid.eq(v.leaves | v.pushes | v.flash),
        p.record.kind.eq(Mux(evicts, Kind.EVICT, Mux(v.leaves | v.flash, Kind.INVALIDATE, Kind.CLEAN))),
        p.record.addr.eq(Mux(v.flash, 0, g.address_of(v.found_line))),
        p.record.aux.eq(Mux(v.flash, Cause.MAINTENANCE, cause)),
        p.record.flags.eq(Mux(v.flash, Cat(~v.cleans, Const(1, 1)), v.leaves & v.found_dirty)),
    ]

    if g.parity:
        with m.If(v.upset.any()):
            upset = core.upset
            m.d.comb += [
                p.valid.eq(1),
                p.record.kind.eq(Kind.UPSET),
                p.record.addr.eq(g.address_of(v.upset_line) | (upset.word << g.byte_bits) | upset.byte),
                p.record.aux.eq(upset.tag),
                p.record.flags.eq(0),
            ]

    # --- d_fill
    p = core.probe_d_fill
    number = 0
    for way in range(1, g.ways):
        number = number | Mux(v.ending.way[way], way, 0)
    m.d.comb += [
        p.valid.eq(v.allocate | v.ends),
        p.record.kind.eq(Mux(v.ends, Mux(v.install, Kind.FILL_INSTALL, Kind.FILL_DROP), Kind.FILL_REQUEST)),
        p.record.addr.eq(g.address_of(v.alloc_line)),
        p.record.aux.eq(Mux(v.ends, Cat(v.ending.cause, Const(0, 4), Mux(v.install, number, 0)), v.alloc_cause)),
        p.record.flags.eq(v.ends & v.failed_fill),
    ]

    # --- d_wb
    p = core.probe_d_wb
    m.d.comb += [
        p.valid.eq(v.wb_done.valid),
        p.record.kind.eq(Kind.WB_DONE),
        p.record.addr.eq(g.address_of(v.wb_done.line)),
        p.record.flags.eq(Cat(v.wb_done.error, v.wb_done.spoiled)),
    ]

    # --- snoop
    p = core.probe_snoop
    m.d.comb += [
        p.valid.eq(v.snoop_done),
        p.record.kind.eq(Mux(v.snoop_write, Kind.SNOOP_WRITE, Kind.SNOOP_READ)),
        p.record.addr.eq(g.address_of(v.snoop_line)),
        p.record.aux.eq(v.snoop_source),
        p.record.flags.eq(Cat(v.snoop_dirty, v.snoop_dropped)),
    ]
