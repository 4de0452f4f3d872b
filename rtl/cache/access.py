# SPDX-License-Identifier: BSD-2-Clause
"""The CPU's accesses in the D-cache's second stage: performed, parked or refused, and their responses."""

from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth import Cat, Module, Mux, Signal, Value

from ..axi.bus import Resp
from ..probe import Cause
from .lookup import Found, Units

__all__ = ["Access", "HeadOfQueue", "add_access", "add_head"]


class HeadOfQueue:
    """What is known about the oldest access that has not been answered; signals with names in the owner's module."""

    def __init__(self):
        #: It has been performed, and could not be answered at once.
        self.settled = Signal(name="settled")
        #: It is parked and has not been performed; its fill has failed; the beat that is offered answers it.
        self.waits, self.fails, self.served = Signal(name="head_waits"), Signal(name="head_fails"), Signal(name="served")
        #: ... and did so in the cycle before: a response that was shown stays.
        self.offered = Signal(name="offered")


@dataclass(frozen=True, kw_only=True)
class Access:
    """What the second stage does for the CPU, each for the cycle in which it is done.

    ``load_hit``, ``store_hit``: an access is performed on the array, of ``q`` or (``head_done``) of the queue's head.
    ``stores``: a store writes to the way that it hits, if it does. ``wants_store``: or it would be, if the I-cache's invalidation
    could be noted. ``undecided``: ``q`` goes behind the others without having been performed. ``head_misses``: the head did not
    find its line. With parity, ``bad_tag``: an access is answered with an error and not performed; ``bad_word``: a load is, with
    what it has read.
    """

    we: Signal
    load_hit: Signal
    store_hit: Signal
    stores: Signal
    wants_store: Signal
    store_data: Signal
    store_strb: Signal
    undecided: Signal
    head_done: Signal
    head_misses: Signal
    bad_tag: Signal
    bad_word: Signal
    q_uncached: Signal


def add_head(m: Module, u: Units, *, snoop_writes: Signal) -> HeadOfQueue:
    """Adds the decision what answers the head of the queue. ``snoop_writes``: a snooped write may change the array now."""
    queue, fills, p = u.queue, u.fills, u.p
    h, beat, slots = HeadOfQueue(), u.fills.beat, queue.head_slots
    filling = fills.filling
    demand = Cat(fills.slots[n].cause == Cause.DEMAND for n in range(fills.count))
    m.d.comb += [
        fills.asked.slots.eq(slots),
        fills.asked.word.eq(queue.head.word),
        h.waits.eq(~queue.empty & queue.head.parked & ~h.settled & ~(queue.single & p.undecided)),
        # A prefetch's error is nobody's: the access fetches the line itself.
        h.fails.eq(h.waits & (slots & ~filling & fills.error & demand).any() & (~queue.head.we if u.through else 1)),
        h.served.eq(
            h.waits & ~queue.head.we & fills.answers & (h.offered | (~(beat.slot & fills.dropped).any() & ~snoop_writes))
        ),
    ]
    asks, ask_head, ask_old = Signal(name="head_asks"), Signal(name="next_ask_head"), Signal(name="next_ask_old")
    m.d.comb += [
        asks.eq(h.waits & ~(slots & filling).any() & ~h.fails & ~p.ask_head & ~p.from_head & ~p.third.head),
        ask_head.eq((p.ask_head & ~p.head_granted) | asks),
        # Only if there is, or may be soon, a slot for it: what is in the third stage refuses lookups of its set, and a slot may
        # become free by the lookup of the head alone. One that is in the third stage for nothing comes again at once.
        ask_old.eq(
            p.undecided
            & ~(p.third.undecided & (fills.free | ~p.third.wants))
            & ~p.from_old
            & ~p.old_granted
            & ~asks
            & ~p.ask_head
            & (fills.free | (fills.end.slot | p.slot | p.third.slot).any())
        ),
    ]
    m.d.comb += p.next_ask_again.eq(ask_head | ask_old)
    m.d.sync += [
        p.ask_head.eq(ask_head),
        p.ask_old.eq(ask_old),
        p.ask_again.eq(p.next_ask_again),
        # Neither access changes while it is asked for.
        p.redo_loads.eq((asks | p.ask_head) & ~queue.head.we),
        p.redo_line.eq(Mux(asks | p.ask_head, queue.head.line, p.old_line)),
        p.redo_word.eq(Mux(asks | p.ask_head, queue.head.word, p.old_word)),
    ]
    return h


def add_access(
    m: Module,
    u: Units,
    f: Found,
    h: HeadOfQueue,
    *,
    loaded: list[Signal],
    alone: Value,
    merges: Value,
    store_free: Value,
    alias_clear: Value,
    snoop_waits: Value,
) -> Access:
    """Adds what the second stage does with an access of the CPU.

    ``q`` leaves the stage unless something that does not depend on the array's tags keeps it, so that the first stage can take
    the next access early: it is performed, or goes into the queue undecided.

    Parameters
    ----------
    loaded : per bank, the word of the way that is hit by a load of the bank, else 0.
    merges : a snooped write may be written to the array in this cycle.
    alone : an access of the queue waits for no fill: what is behind waits until it was answered.
    store_free, alias_clear : coherency: the invalidation of the I-cache that a store (an uncached one) owes can be noted.
    snoop_waits : write-through: a snoop of this set waits until no store to its line is queued.
    """
    g, p, q, queue, fills, uncached = u.g, u.p, u.p.q, u.queue, u.fills, u.uncached
    head, beat, rsp = queue.head, fills.beat, u.core.cpu.rsp
    we, store_data, store_strb = p.we, Signal(g.data_width, name="store_data"), Signal(g.data_bytes, name="store_strb")
    m.d.comb += [
        store_data.eq(Mux(p.from_head, queue.head_data, q.data)),
        store_strb.eq(Mux(p.from_head, head.strb, q.strb)),
    ]

    # --- may it be performed, if its line is there? Nothing here depends on that.
    q_uncached, steady, may = Signal(name="q_uncached"), Signal(name="q_steady"), Signal(name="may_be_performed")
    would = Signal(name="would_be_performed")  # but for a write to the array, which is known last
    cannot, busy, taken = Signal(name="cannot"), Signal(name="word_is_busy"), Signal(name="array_is_taken")
    joins = f.same_line.any()  # then it does not find its line, and is parked whatever else happens
    # What performs it. With write-through a store needs no line, but must not overtake a fill of it.
    enough, no_place, stores_under_way = f.hit, f.set_unread.any(), f.in_buffer.any()
    if u.through:
        enough, no_place, stores_under_way = f.hit | (we & ~joins), (u.wb.space == 0) | snoop_waits, u.wb.occupied.any()
    m.d.comb += [
        q_uncached.eq(p.q_valid & q.uncached),
        p.waits.eq(p.holds | queue.full),
        taken.eq(we & (beat.valid | merges)),
        busy.eq((we & no_place) | (~we & f.word_stored)),
        # A line that is only cleaned can be read.
        cannot.eq(f.moves | f.stale_moves | (we & (f.changes | f.stale)) | f.blocked | busy),
        steady.eq(p.from_q & ~q.uncached & ~p.waits),
        would.eq(((steady & ~alone & ~f.awaited) | p.from_head) & ~cannot & ~(we & ~store_free)),
        may.eq(would & ~taken),
    ]
    go, answers, performed = p.q_goes, Signal(name="lookup_answers"), Signal(name="q_performed")
    load_hit, store_hit, wants_store = Signal(name="load_hit"), Signal(name="store_hit"), Signal(name="wants_store")
    stores = Signal(name="stores")
    head_done, head_misses, undecided = Signal(name="head_done"), Signal(name="head_misses"), Signal(name="becomes_undecided")
    nothing, found, distrusts = Signal(name="asks_nothing"), Signal(name="finds"), Signal(name="access_distrusts")
    word_bad = Signal(name="word_bad")
    bad_tag, bad_word = Signal(name="answers_bad_tag"), Signal(name="answers_bad_word")
    m.d.comb += [
        # What a lookup finds that is stale does not matter to one that joins a fill.
        go.eq((would & p.from_q & ~taken) | (steady & joins & ~q.empty & ~(f.moves | (we & f.changes) | f.blocked))),
        nothing.eq(p.from_q & q.empty),
        # A line that is being filled is waited for, whatever else is in its set.
        distrusts.eq(f.unsure & ~joins),
        found.eq(enough & ~f.unsure),
        load_hit.eq(may & ~we & f.hit & ~f.unsure),
        stores.eq(may & we & ~nothing & ~f.unsure),
        store_hit.eq(stores & enough),
        bad_tag.eq(may & ~nothing & distrusts),
        bad_word.eq(load_hit & word_bad),
        # Also one that will not find its line: it must not stay for ever behind an invalidation that nobody sends.
        wants_store.eq(we & ~cannot & ~taken & ((steady & ~q.empty & ~joins & ~alone & ~f.awaited) | (p.from_head & found))),
        answers.eq(may & (enough | distrusts | nothing)),
        performed.eq(p.from_q & answers),
        undecided.eq(go & ~(enough | distrusts | nothing)),
        head_done.eq(p.from_head & answers),
        head_misses.eq(p.from_head & ~f.killed & ~enough & ~distrusts),
    ]
    if u.through:
        push = u.wb.push
        m.d.comb += [
            push.valid.eq(store_hit),
            push.line.eq(p.line),
            push.word.eq(p.word),
            push.data.eq(store_data),
            push.strb.eq(store_strb),
        ]

    m.d.comb += word_bad.eq(Cat((f.hits & bad).any() for bad in u.arrays.bad_words).bit_select(g.bank_of(p.word), 1))

    # --- uncached
    m.d.comb += [
        p.busy.eq(~uncached.idle | uncached.start),
        uncached.start.eq(p.from_q & q_uncached & uncached.idle & queue.empty & ~stores_under_way & alias_clear),
        uncached.request.addr.eq(q.addr),
        uncached.request.we.eq(q.we),
        uncached.request.data.eq(q.data),
        uncached.request.strb.eq(q.strb),
        uncached.request.size.eq(q.size),
        uncached.request.tag.eq(q.tag),
        uncached.take.eq(rsp.ready),
        fills.direct_take.eq(rsp.ready),
        u.wb.direct_take.eq(rsp.ready),
        p.q_leaves.eq(go | (uncached.done & rsp.ready)),
    ]

    # --- behind the others, or answered
    m.d.comb += [
        queue.push.eq(go & ~(performed & queue.empty & rsp.ready)),
        queue.entry.parked.eq(undecided),
        queue.entry.we.eq(q.we),
        queue.entry.line.eq(p.line),
        queue.entry.word.eq(p.word),
        queue.entry.strb.eq(q.strb),
        queue.entry.meta.eq(q.meta),
        queue.data.eq(reduce(or_, loaded) | Mux(p.we, q.data, 0)),
        queue.settle.eq(head_done & ~rsp.ready),
        queue.pop.eq(~queue.empty & rsp.valid & rsp.ready),
        # Nothing but the hit is late.
        rsp.valid.eq(
            (answers & (queue.empty | p.from_head))
            | Mux(queue.empty, uncached.done, ~head.parked | h.settled | h.served | h.fails)
        ),
        rsp.payload.we.eq(Mux(queue.empty, q.we, head.we)),
        rsp.payload.meta.eq(Mux(queue.empty, q.meta, head.meta)),
        rsp.payload.resp.eq(Mux(uncached.done, uncached.resp, Mux(h.fails, Resp.SLVERR, Resp.OKAY))),
    ]
    if g.parity:
        settled_bad, answers_bad = Signal(name="settled_bad"), Signal(name="answers_bad")
        m.d.comb += [
            queue.entry.bad.eq(bad_tag | bad_word),
            answers_bad.eq(
                Mux(
                    queue.empty | (head.parked & ~h.settled & head_done),
                    bad_tag | bad_word,
                    Mux(h.settled, settled_bad, ~head.parked & head.bad),
                )
            ),
        ]
        with m.If(queue.settle):
            m.d.sync += settled_bad.eq(bad_tag | bad_word)
        with m.If(answers_bad):
            m.d.comb += rsp.payload.resp.eq(Resp.SLVERR)
    kept, by_lookup, by_memory = Signal(name="head_is_kept"), Signal(name="lookup_may_answer"), Signal(name="memory_may_answer")
    # Kept apart in synthesis, whose mapper takes what a block RAM gives for early.
    others = Signal(g.data_width, name="other_word", attrs={"keep": 1})
    m.d.comb += [
        kept.eq(~queue.empty & (~head.parked | h.settled)),
        # Whether it does is known late. While it may, memory does not.
        by_lookup.eq(queue.empty | p.from_head),
        by_memory.eq(~kept & ~(by_lookup & p.loads.any())),
        others.eq(
            Mux(kept & queue.head_is_late, queue.late, 0)
            | Mux(kept & ~queue.head_is_late, queue.head_data, 0)
            | Mux(by_memory, uncached.data, 0)
            | uncached.register_data
        ),
        rsp.payload.data.eq(Mux(by_lookup, reduce(or_, loaded), 0) | others),
    ]
    m.d.sync += h.settled.eq((h.settled | queue.settle) & ~queue.pop)
    with m.If(undecided):
        m.d.sync += [p.old_line.eq(p.line), p.old_word.eq(p.word), p.old_tag.eq(q.tag), p.old_at.eq(queue.tail_at)]
        if u.through:
            m.d.sync += p.old_stores.eq(q.we)
    if u.config.coherent:
        m.d.sync += h.offered.eq(h.served & ~rsp.ready)

    return Access(
        we=we,
        load_hit=load_hit,
        store_hit=store_hit,
        stores=stores,
        wants_store=wants_store,
        store_data=store_data,
        store_strb=store_strb,
        undecided=undecided,
        head_done=head_done,
        head_misses=head_misses,
        bad_tag=bad_tag,
        bad_word=bad_word,
        q_uncached=q_uncached,
    )
