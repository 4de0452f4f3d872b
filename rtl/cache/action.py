# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's third stage: what an operation does to lines, and all changes of their state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from ..probe import Cause
from .fill import pick
from .lookup import Units, is_op
from .native import AuxOp
from .onehot import lowest

__all__ = ["Action", "SnoopedWrite", "add_action"]

_LOOKS_AT_NO_TAG = (AuxOp.NONE, AuxOp.FLASH, AuxOp.INSTALL, AuxOp.QUIET)


@dataclass(frozen=True, kw_only=True)
class SnoopedWrite:
    """Coherency: what the snoop in the third stage does; ``merge``: it writes to a dirty line; ``gone``: clean lines it drops;
    ``spoiled``: what it reads has a byte of wrong parity."""

    merge: Value
    gone: Value
    spoiled: Value


@dataclass(frozen=True, kw_only=True)
class Action:
    """What the third stage does in this cycle.

    ``victim``: the way of a fill that is decided (``allocate``). ``found_line found_dirty``: the line that ``leaves``
    the array, or is pushed into the write-back buffer. ``joined``: an access waits for a fill that is in flight; ``alone``: it
    has found its line after all, and is performed when everything older was; ``decided``: it is not undecided any more.
    ``install``: the fill slot ``ending`` becomes a line.
    ``trigger``: the line after this one may be prefetched. ``distrusts``: parity, an agent's operation has met a bad
    tag and does nothing; ``upset``: the ways in which a stored parity bit is inverted.
    """

    allocate: Signal
    victim: Signal
    found_line: Signal
    found_dirty: Value
    leaves: Signal
    pushes: Signal
    walking: Value
    flash: Signal
    prefetches: Value
    joined: Signal
    alone: Signal
    decided: Signal
    ends: Value
    install: Signal
    ending: Any
    trigger: Signal
    distrusts: Signal
    upset: Signal


def add_action(m: Module, u: Units, *, agents: Mapping[str, Any], snooped: SnoopedWrite, writes: Value) -> Action:
    """Adds the decision of the operation in the third stage and its effect on slots, buffer and state bits.

    ``writes``: a word is written to the array in this cycle, so no upset can be.
    """
    g, p, t, core = u.g, u.p, u.p.third, u.core
    fills, wb, queue, policy, state = u.fills, u.wb, u.queue, u.policy, u.state
    slots = [fills.slots[n] for n in range(fills.count)]
    prefetch_slot = fills.count - 1
    walking = is_op(t.op, AuxOp.WALK_LINE, AuxOp.WALK_WAY)
    prefetches = t.op == AuxOp.PREFETCH

    # --- the line that is concerned: the victim if a fill is wanted
    victim, selected = Signal(g.ways, name="victim"), Signal(g.ways, name="selected")
    victim_dirty, found_line = Signal(name="victim_dirty"), Signal(g.line_bits, name="found_line")
    oldest = policy.victim(m, t.index, p.index, p.same_index)
    m.d.comb += [
        victim.eq(Mux(t.full, oldest, lowest(~t.valid))),
        victim_dirty.eq(t.full & (oldest & t.dirty).any()),
        selected.eq(Mux(t.wants, victim, t.ways)),
        found_line.eq(Cat(t.index, pick(selected, t.tags))),
    ]

    # --- may it be done?
    entry_ok, slot_ok = Signal(name="entry_ok"), Signal(name="slot_ok")
    allocate, performed = Signal(name="allocate"), Signal(name="performed")
    leaves, pushes, found_dirty = Signal(name="leaves"), Signal(name="pushes"), Signal(name="found_dirty")
    m.d.comb += [
        found_dirty.eq((t.found & t.dirty).any()),
        entry_ok.eq(wb.room & ~t.set_buffered),
        slot_ok.eq(Mux(prefetches, fills.free_prefetch, fills.free | t.again.any())),
        # A lookup either wants a fill or acts on lines that it has found.
        allocate.eq(t.wants & slot_ok & (~victim_dirty | entry_ok)),
        performed.eq(t.acts & (~(found_dirty & t.cleans) | entry_ok)),
        leaves.eq((allocate & t.full) | (performed & t.found.any() & t.drops)),
        pushes.eq((allocate & victim_dirty) | (performed & found_dirty & t.cleans)),
    ]

    # --- accesses of the CPU that were not performed in the second stage
    joins = Signal(fills.count, name="joins")
    joined, alone, parks, decided = t.joined, Signal(name="alone"), Signal(name="parks"), Signal(name="decided")
    m.d.comb += [
        joins.eq(Mux(joined, t.joins, 0)),
        alone.eq(t.undecided & ~t.refused & (t.hits.any() | ((t.passes | t.unsure) & ~joined))),
        parks.eq(joined | (allocate & (t.undecided | (t.head & ~t.again.any())))),
        queue.mark.eq(parks | alone),
        queue.mark_at.eq(p.old_at),
        queue.slots.eq(Mux(allocate, fills.alloc_slot, joins)),
        queue.tag.eq(p.old_tag),
        queue.primary.eq(allocate),
        fills.park.eq(Mux(parks, queue.slots, 0)),
    ]
    m.d.comb += decided.eq(alone | (t.undecided & parks))

    # --- fills and write-backs
    ending = Signal(data.StructLayout({"cause": Cause, "way": g.ways}), name="ending")  # the slot of INSTALL
    install, flash, ends = Signal(name="install"), Signal(name="flash"), t.op == AuxOp.INSTALL
    first_wait = Signal(name="first_wait")  # the first access to a prefetch in flight
    m.d.comb += [
        fills.alloc.valid.eq(allocate),
        fills.alloc.prefetch.eq(prefetches),
        fills.alloc.again.eq(t.again),
        fills.alloc.line.eq(t.line),
        fills.alloc.word.eq(t.word),
        fills.alloc.way.eq(victim),
        fills.alloc.cause.eq(Mux(prefetches, Cause.PREFETCH, Cause.DEMAND)),
        ending.cause.eq(pick(t.slot, [slot.cause for slot in slots])),
        ending.way.eq(t.slot_way),
        install.eq(ends & ~(t.slot & (fills.dropped | fills.error)).any()),
        fills.finish.eq(Mux(ends, t.slot, 0)),
        first_wait.eq(joins[prefetch_slot] & ~fills.used[prefetch_slot]),
        fills.use.eq(first_wait << prefetch_slot),
        flash.eq(t.op == AuxOp.FLASH),
    ]
    if not u.through:
        m.d.comb += [
            wb.push.valid.eq(pushes),
            wb.push.line.eq(found_line),
            wb.push.way.eq(selected),
            fills.alloc.victim.eq(Mux(pushes, wb.tail, 0)),
        ]

    # --- parity: an agent that meets a bad tag does nothing; an upset takes the place of a write
    distrusts, upset = Signal(name="distrusts"), Signal(g.ways, name="upset_ways")
    agent_done = Signal(name="agent_done")
    m.d.comb += [
        distrusts.eq(t.unsure & ~is_op(t.op, *_LOOKS_AT_NO_TAG)),
        agent_done.eq(performed | distrusts),
    ]
    if g.parity:
        upsets = Signal(name="upsets")  # it is performed
        kind = core.upset
        m.d.comb += [
            upsets.eq((t.op == AuxOp.UPSET) & t.acts & (kind.tag | ~writes)),
            upset.eq(Mux(upsets & t.found.any(), t.hits, 0)),
        ]
        with m.If(t.op == AuxOp.UPSET):
            m.d.comb += agent_done.eq(upsets | distrusts)
        u.arrays.parity.watch(m, p.index, kind.word)

    # --- what the agents hear
    m.d.comb += [
        core.visited.addr.eq(g.address_of(Mux(t.op == AuxOp.WALK_WAY, found_line, t.line))),
        core.visited.present.eq(t.found.any()),
        core.visited.dirty.eq(found_dirty),
        core.visited.unsure.eq(distrusts),
    ]
    quiet = (t.op == AuxOp.QUIET) & ~t.refused & ~t.in_buffer & ~t.joins.any()
    for n, (name, agent) in enumerate(agents.items()):
        fine = agent_done | flash | ends | quiet
        if name in ("command", "prefetch"):
            there = ~t.refused & (t.hits.any() | t.joins.any())
            fine = fine | (prefetches & (there | allocate | Const(name == "prefetch")))
        if name != "snoop":
            m.d.comb += [agent.done.eq(t.who[n] & fine), agent.retry.eq(t.who[n] & ~fine)]

    # --- state bits: one change per cycle
    fresh_ways, used_fresh = Signal(g.ways, name="fresh_ways"), Signal(name="used_fresh")
    stored = Signal(name="dirties")
    m.d.comb += [
        fresh_ways.eq(state.fresh_ways(m, t.index)),
        # A prefetched line is used for the first time.
        used_fresh.eq(t.follower & (t.hits & fresh_ways).any()),
        stored.eq(t.dirties | snooped.merge),
    ]
    changed = Signal(g.ways, name="changed")
    m.d.comb += changed.eq(selected)
    with m.If(ends):
        m.d.comb += changed.eq(ending.way)
    with m.Elif(snooped.gone.any()):
        m.d.comb += changed.eq(snooped.gone)
    state.change(
        m,
        index=t.index,
        ways=changed,
        # A line that is cleaned may have been valid because it was dirty.
        valid=(install | leaves | pushes | snooped.gone.any(), install | (t.acts & ~t.drops)),
        dirty=(stored | leaves | pushes, stored),
        fresh=(install | used_fresh, install & (ending.cause == Cause.PREFETCH) & ~(t.slot & fills.used).any()),
        flash=flash,
        flash_keeps_dirty=core.walk_command.op[0],
    )
    m.d.comb += core.any_dirty.eq(state.stained.any() | t.dirties)
    bad_tags = Mux(core.upset.tag, upset, 0) if g.parity else None
    u.arrays.write_tag(m, t.index, t.line[g.index_bits :], Mux(install, ending.way, 0), bad_tags)

    # --- uses count in the order of the program: when a way is chosen, or an access is performed or parked
    used, use = Signal(g.ways, name="used_way"), Signal(name="counts_use")
    m.d.comb += [
        used.eq(Mux(joined, pick(joins, [slot.way for slot in slots]), selected)),
        use.eq(allocate | joined | ((alone | (t.follower & t.of_q)) & ~t.passes)),
    ]
    policy.touch(m, used, use, allocate)

    # --- counters
    failed, trigger = (t.slot & fills.error).any(), Signal(name="prefetch_trigger")
    events = core.events
    m.d.comb += [
        # A miss starts a fill, or is a store that passes on; an access that joins a fill under way is a hit, as if the line
        # were there already.
        events.hit.eq((t.follower & t.of_q & ~t.passes) | joined | alone),
        events.miss.eq((t.undecided & allocate) | (t.follower & t.of_q & t.passes)),
        events.evict.eq(leaves & ~walking),
        events.writeback.eq(pushes),
        events.prefetched.eq(install & (ending.cause == Cause.PREFETCH)),
        events.prefetch_error.eq(ends & (ending.cause == Cause.PREFETCH) & failed),
        events.fill_error.eq(ends & (ending.cause == Cause.DEMAND) & failed),
        events.fill_line.eq(t.line),
        events.wb_error.eq(wb.done.valid & wb.done.error),
        events.wb_line.eq(wb.failed_line),
        events.wb_spoiled.eq(wb.done.valid & wb.done.spoiled),
        events.bad_tag.eq(t.bad_tag | distrusts),
        events.bad_data.eq(t.bad_word | snooped.spoiled),
        events.bad_line.eq(t.line),
        trigger.eq((t.undecided & allocate) | used_fresh | first_wait),
    ]
    return Action(
        allocate=allocate,
        victim=victim,
        found_line=found_line,
        found_dirty=Mux(t.wants, victim_dirty, found_dirty),
        leaves=leaves,
        pushes=pushes,
        walking=walking,
        flash=flash,
        prefetches=prefetches,
        joined=joined,
        alone=alone,
        decided=decided,
        ends=ends,
        install=install,
        ending=ending,
        trigger=trigger,
        distrusts=distrusts,
        upset=upset,
    )
