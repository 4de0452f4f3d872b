# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's second stage: what the lookup of a line finds, and what of it the third stage gets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value

from ..config import SocConfig
from .arrays import Arrays
from .completion import CompletionQueue
from .fill import FillUnit, pick
from .linestate import LineState
from .native import AuxOp, Geometry
from .onehot import lowest
from .pipeline import Pipeline
from .replacement import Replacement
from .storequeue import StoreQueue
from .uncached import UncachedUnit
from .writeback import WriteBackBuffer

__all__ = ["Found", "Units", "add_lookup", "hand_over", "is_op"]


@dataclass(frozen=True, kw_only=True)
class Units:
    """What the D-cache's core is made of."""

    core: Any
    config: SocConfig
    g: Geometry
    p: Pipeline
    arrays: Arrays
    state: LineState
    policy: Replacement
    fills: FillUnit
    wb: WriteBackBuffer | StoreQueue
    queue: CompletionQueue
    uncached: UncachedUnit

    @property
    def through(self) -> bool:
        """Is it a write-through cache?"""
        return self.config.dcache.write_through


class Found:
    """What is known in the second stage about the line that is looked up; signals with names in the owner's module."""

    def __init__(self, g: Geometry, slots: int, entries: int):
        self.valid, self.dirty, self.hits, self.hit = Signal(g.ways), Signal(g.ways), Signal(g.ways), Signal(name="hit")
        #: Slots that fill its set, and its line.
        self.same_set, self.same_line = Signal(slots, name="same_set"), Signal(slots, name="same_line")
        #: Accesses are parked on a fill of its line, or of a line of its set; matters if it has ended.
        self.awaited, self.set_awaited = Signal(name="awaited"), Signal(name="set_awaited")
        #: Write-back entries: of its line, of its set, of its set and not read yet.
        self.in_buffer = Signal(entries, name="in_buffer")
        self.set_buffered = Signal(entries, name="set_buffered")
        self.set_unread = Signal(entries, name="set_unread")
        #: With parity: a valid way's tag is wrong, so no hit and no miss may be trusted.
        self.unsure = Signal(name="unsure")
        #: The third stage is changing its set, or did while it was read: the lookup finds what no longer is, and is
        #: ``killed``. ``moves``, ``stale_moves``: the same, and what an access may find changes.
        self.changes, self.stale, self.killed = Signal(name="set_changes"), Signal(name="stale"), Signal(name="killed")
        self.moves, self.stale_moves = Signal(name="set_moves"), Signal(name="stale_moves")
        #: A snooped write of its set is under way.
        self.blocked = Signal(name="blocked")
        #: The third stage holds the follower of a store to the same set (the same word of it).
        self.set_stored, self.word_stored = Signal(name="set_stored"), Signal(name="word_stored")


def is_op(op: Value, *ops: AuxOp) -> Value:
    """Is ``op`` one of ``ops``?"""
    return Cat(op == one for one in ops).any()


def add_lookup(m: Module, u: Units, *, blocked: Sequence[Value]) -> Found:
    """Compares the line in the second stage with everything that may hold it. ``blocked``: any of them refuses it."""
    g, p, third = u.g, u.p, u.p.third
    slots, entries = [u.fills.slots[n] for n in range(u.fills.count)], u.config.dcache.write_entries
    f = Found(g, u.fills.count, entries)
    next_index, next_tag = g.set_of(p.next_line), p.next_line[g.index_bits :]
    valid, dirty = u.state.lookup(m, next_index, p.index)
    # State bits and tags were read in the first stage, beside the change that the third made in that cycle.
    next_same, flash, flashed = Signal(name="third_has_next"), Signal(name="flashes"), Signal(name="flashed")
    was_slow, was_moving, was_dirtied = Signal(name="was_slow"), Signal(name="was_moving"), Signal(name="was_dirtied")
    were_hit = Signal(g.ways, name="were_hit")
    # State bits do not matter to an access that joins a fill. (An agent's operation on a set has no tag to compare.)
    joins = f.same_line.any() & (p.op == AuxOp.NONE)
    m.d.comb += [next_same.eq(third.index == next_index), flash.eq(third.flash)]
    m.d.sync += [
        was_slow.eq(next_same & third.slow),
        was_moving.eq(next_same & third.moves),
        was_dirtied.eq(next_same & third.dirties),
        were_hit.eq(third.hits),
        flashed.eq(flash),
    ]
    same_index = p.same_index
    slot_set, slot_line = Signal(u.fills.count, name="slot_has_set"), Signal(u.fills.count, name="slot_has_line")
    # Slots and entries are compared a stage ahead too, where one that is free counts as another line's. Beside that the third
    # stage may fill a slot: with the same line, or another one of the set. (If it fills an entry so, the lookup is stale.)
    filled = Signal(u.fills.count, name="slot_filled")
    had_set, had_line = Signal(name="third_had_set"), Signal(name="third_had_line")
    slot_has_set = Cat(g.set_of(slot.line) == next_index for slot in slots) & (u.fills.filling | u.fills.held)
    m.d.sync += [
        same_index.eq(p.index == next_index),
        slot_set.eq(slot_has_set),
        slot_line.eq(slot_has_set & Cat(slot.line[g.index_bits :] == next_tag for slot in slots)),
        filled.eq(Mux(u.fills.alloc.valid, u.fills.alloc_slot, 0)),
        had_set.eq(next_same),
        had_line.eq(next_same & (third.line[g.index_bits :] == next_tag)),
    ]
    m.d.comb += [
        f.set_stored.eq(same_index & third.stored),
        f.word_stored.eq(f.set_stored & (third.word == p.word)),
        f.changes.eq((same_index & third.slow) | flash),
        f.moves.eq((same_index & third.moves) | flash),
        f.stale.eq(was_slow | flashed),
        f.stale_moves.eq(was_moving | flashed),
        f.killed.eq(f.changes | (f.stale & ~joins)),
        f.blocked.eq(Cat(blocked).any()),
        f.valid.eq(valid),
        # The dirty bit of a store is written one cycle after its bytes.
        f.dirty.eq(dirty | Mux(was_dirtied, were_hit, 0) | Mux(same_index & third.dirties, third.hits, 0)),
        f.hits.eq(Cat(valid[w] & (u.arrays.tags[w] == p.tag) for w in range(g.ways))),
        f.hit.eq(f.hits.any()),
        f.same_set.eq((slot_set & u.fills.filling) | Mux(had_set, filled, 0)),
        f.same_line.eq((slot_line & u.fills.filling) | Mux(had_line, filled, 0)),
        f.awaited.eq((slot_line & u.fills.held).any()),
        f.set_awaited.eq((slot_set & u.fills.held).any()),
        f.unsure.eq((valid & u.arrays.bad_tags).any()),
    ]
    buffered_set, buffered_line = Signal(entries), Signal(entries)
    # A store is queued in the second stage, which no lookup behind it is refused for.
    ahead = not u.through
    index, tag = (next_index, next_tag) if ahead else (p.index, p.tag)
    has_set = Cat(g.set_of(u.wb.lines[n]) == index for n in range(entries)) & u.wb.occupied
    m.d["sync" if ahead else "comb"] += [
        buffered_set.eq(has_set),
        buffered_line.eq(has_set & Cat(u.wb.lines[n][g.index_bits :] == tag for n in range(entries))),
    ]
    m.d.comb += [
        f.set_buffered.eq(buffered_set & u.wb.occupied),
        f.set_unread.eq(0 if u.through else buffered_set & u.wb.unread),
        f.in_buffer.eq(buffered_line & u.wb.occupied),
    ]
    return f


def hand_over(
    m: Module,
    u: Units,
    f: Found,
    *,
    undecided: Value,
    head: Value,
    follower: Value,
    stored: Value,
    bad_tag: Value,
    bad_word: Value,
) -> Signal:
    """Drives the registers of the third stage; returns whether an undecided access joins a fill.

    Parameters
    ----------
    undecided : the CPU's newest access missed, or an undecided one was looked up again.
    head : the queue's head did not find its line.
    follower, stored : an access was performed; it was a store.
    bad_tag, bad_word : parity: an access was answered with an error, because of a tag, or of what it has read.
    """
    g, p, t, core = u.g, u.p, u.p.third, u.core
    ways = range(g.ways)
    walk = core.walk_command
    walking = is_op(p.op, AuxOp.WALK_LINE, AuxOp.WALK_WAY)
    evicts = is_op(p.op, AuxOp.EVICT_LINE, AuxOp.EVICT_SET)
    named = is_op(p.op, AuxOp.EVICT_LINE, AuxOp.CLEAN_LINE)
    refused, found, chosen = Signal(name="refused"), Signal(g.ways, name="found_ways"), Signal(g.ways, name="chosen_ways")
    compared, covered = Signal(g.line_bits, name="compared"), Signal(name="covered")
    acts, misses, drops = Signal(name="acts"), Signal(name="misses"), Signal(name="drops")
    old_stores = p.from_old & p.old_stores  # write-through: without its line it is performed all the same
    moves = is_op(p.op, AuxOp.INSTALL, AuxOp.SNOOP_READ, AuxOp.SNOOP_WRITE)
    cleans = (walking & walk.op[0]) | evicts | (p.op == AuxOp.CLEAN_LINE)  # writes dirty lines back
    m.d.comb += [
        drops.eq((walking & walk.op[1]) | evicts),
        refused.eq(f.killed | f.blocked | (walking & core.check.valid)),
        acts.eq(
            ~refused
            & ~f.unsure
            & (
                walking
                | (p.op == AuxOp.EVICT_SET)
                | (named & ~f.same_line.any())
                | ((p.op == AuxOp.UPSET) & ~f.same_line.any() & ~f.set_unread.any() if g.parity else 0)
            )
        ),
        # What must wait, or joins a fill, changes nothing that a lookup finds. A younger miss must not take a line away from
        # the accesses that are parked on it: it would be fetched once more.
        misses.eq(
            ((undecided & ~old_stores) | head | (p.op == AuxOp.PREFETCH))
            & ~refused
            & ~f.same_set.any()
            & (~f.set_awaited | head)
            & ~f.in_buffer.any()
            & ~f.set_unread.any()
        ),
        chosen.eq(f.hits),
        compared.eq(Mux(core.check.valid, core.check.line, Cat(p.index, pick(p.way, u.arrays.tags)))),
        core.check_covered.eq((compared >= walk.first) & (compared <= walk.last)),
        covered.eq(core.check_covered | (p.op != AuxOp.WALK_WAY)),
        found.eq(chosen & f.valid & (covered & ~f.unsure).replicate(g.ways)),
    ]
    with m.If(p.op == AuxOp.WALK_WAY):
        m.d.comb += chosen.eq(p.way)
    with m.Elif(p.op == AuxOp.EVICT_SET):
        m.d.comb += chosen.eq(lowest(f.dirty))
    joined = Signal(name="joins_fill")
    m.d.comb += joined.eq(undecided & ~refused & f.same_line.any())
    m.d.sync += [
        t.line.eq(p.line),
        t.word.eq(p.word),
        t.op.eq(p.op),
        t.flash.eq(p.op == AuxOp.FLASH),
        t.who.eq(p.who),
        t.slot.eq(p.slot),
        t.slot_way.eq(p.slot_way),
        t.follower.eq(follower),
        t.of_q.eq(p.from_q),
        t.stored.eq(stored),
        t.undecided.eq(undecided),
        t.head.eq(head),
        t.slow.eq(acts | misses | moves),
        t.moves.eq((acts & drops) | misses | moves),
        t.refused.eq(refused),
        t.killed.eq(f.killed),
        t.hits.eq(f.hits),
        t.ways.eq(chosen),
        t.valid.eq(f.valid),
        t.dirty.eq(f.dirty),
        t.unsure.eq(f.unsure & ~f.killed),
        t.bad_tag.eq(bad_tag),
        t.bad_word.eq(bad_word),
        t.found.eq(found),
        t.cleans.eq(cleans),
        t.full.eq(f.valid.all()),
        t.again.eq(Mux(p.from_head, u.queue.head_slots, 0)),
        *[t.tags[w].eq(u.arrays.tags[w]) for w in ways],
        t.joins.eq(f.same_line),
        t.joined.eq(joined),
        t.wants.eq(misses & ~f.hit & ~f.unsure),
        t.acts.eq(acts),
        t.drops.eq(drops),
        t.in_buffer.eq(f.in_buffer.any()),
        t.set_buffered.eq(f.set_buffered.any()),
    ]
    if u.through:
        m.d.sync += t.passes.eq(~f.hit & (old_stores | (follower & ~p.from_old)))
    return joined
