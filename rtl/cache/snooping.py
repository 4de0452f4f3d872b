# SPDX-License-Identifier: BSD-2-Clause
"""What a snoop does in the D-cache's pipeline (coherency "snoop" only)."""

from dataclasses import dataclass

from amaranth import Cat, Const, Module, Mux, Signal

from .coherent import SnoopPort
from .fill import pick
from .lookup import Units, is_op
from .native import AuxOp

__all__ = ["Snooped", "add_snooping"]


@dataclass(frozen=True, kw_only=True)
class Snooped:
    """The snoop in the third stage: ``done``; ``dirty``, ``dropped``: a dirty copy was found, a clean one is dropped;
    ``merge``: its bytes are written to the dirty line; ``gone``: the ways it drops. ``waits``: it has found a queued
    store to its line, and comes again. ``spoiled``: parity: what is read has a byte that is wrong. In a set with a bad tag
    the array has nothing for it."""

    done: Signal
    dirty: Signal
    dropped: Signal
    merge: Signal
    gone: Signal
    waits: Signal
    spoiled: Signal


def add_snooping(m: Module, u: Units, port: SnoopPort) -> Snooped:
    """Adds the snoop's part of the third stage. The line's words pass through a register beside its state."""
    g, t, fills, wb = u.g, u.p.third, u.fills, u.wb
    ways = range(g.ways)
    s = Snooped(
        done=Signal(name="snoop_done"),
        dirty=Signal(name="snoop_dirty"),
        dropped=Signal(name="snoop_dropped"),
        merge=Signal(name="snoop_merge"),
        gone=Signal(g.ways, name="snoop_gone"),
        waits=Signal(name="snoop_waits"),
        spoiled=Signal(name="snoop_spoiled"),
    )
    is_write = t.op == AuxOp.SNOOP_WRITE
    words = [Signal(g.line_bytes * 8, name=f"third_words_{w}") for w in ways]
    m.d.sync += [words[w].eq(Cat(*u.arrays.words[w])) for w in ways]
    buffered = Signal(u.config.dcache.write_entries, name="snoop_buffered")
    in_slot = Signal(fills.count, name="snoop_in_slot")
    forwards, buffered_data = Const(0), Const(0)  # out of the buffer; of a store there are only some bytes
    if u.through:
        with m.If(is_op(t.op, AuxOp.SNOOP_READ, AuxOp.SNOOP_WRITE)):
            m.d.sync += s.waits.eq(~s.done)
    else:
        forwards, buffered_data = wb.peek_ready, wb.peek_data
        m.d.comb += wb.peek_index.eq(sum(Mux(buffered[n], n, 0) for n in range(1, len(buffered))) if len(buffered) > 1 else 0)
    hits, bad = Signal(g.ways, name="snoop_hits"), Signal(g.ways, name="third_bad_words")
    m.d.comb += hits.eq(Mux(t.unsure, 0, t.hits))
    m.d.sync += bad.eq(Cat(Cat(words[w] for words in u.arrays.bad_words).any() for w in ways))
    array_dirty = (hits & t.dirty).any()
    m.d.comb += [
        buffered.eq(wb.match(t.line)),
        in_slot.eq(t.joins & fills.filling & ~fills.dropped),
        # A write must not be overtaken by an older write-back of its line; a read needs all its words.
        s.done.eq(~t.killed & (((t.op == AuxOp.SNOOP_READ) & (forwards | ~buffered.any())) | (is_write & ~buffered.any()))),
        s.dirty.eq(array_dirty | buffered.any()),
        s.dropped.eq(is_write & ((hits & ~t.dirty).any() | in_slot.any())),
        s.merge.eq(is_write & s.done & array_dirty),
        s.gone.eq(Mux(is_write & s.done, hits & ~t.dirty, 0)),
        s.spoiled.eq((t.op == AuxOp.SNOOP_READ) & s.done & (hits & t.dirty & bad).any()),
        fills.drop.eq(Mux(is_write & s.done, in_slot, 0)),
        port.dirty.eq(s.dirty),
        port.data.eq(Mux(array_dirty, pick(t.hits, words), buffered_data)),
        port.aux.done.eq(s.done),
        port.aux.retry.eq(is_op(t.op, AuxOp.SNOOP_READ, AuxOp.SNOOP_WRITE) & ~s.done),
    ]
    return s
