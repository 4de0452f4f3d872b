# SPDX-License-Identifier: BSD-2-Clause
"""The CPU's accesses in the D-cache's second stage: performed, parked or refused, and their responses."""

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data

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
    ``wants_store``: or it would be, if the I-cache's invalidation could be noted. ``undecided``: ``q`` goes behind the others
    without having been performed. ``head_misses``: the head did not find its line. ``word``: what a load reads. With parity,
    ``bad_tag``: an access is answered with an error and not performed; ``bad_word``: a load is, with what it has read.
    """

    we: Signal
    load_hit: Signal
    store_hit: Signal
    wants_store: Signal
    store_data: Signal
    store_strb: Signal
    undecided: Signal
    head_done: Signal
    head_misses: Signal
    word: Signal
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
        h.waits.eq(~queue.empty & queue.head.parked & ~h.settled & ~(queue.single & p.undecided)),
        # A prefetch's error is nobody's: the access fetches the line itself.
        h.fails.eq(h.waits & (slots & ~filling & fills.error & demand).any() & (~queue.head.we if u.through else 1)),
        h.served.eq(
            h.waits
            & ~queue.head.we
            & beat.valid
            & ~beat.error
            & (beat.slot & slots).any()
            & (beat.word == queue.head.word)
            & (h.offered | (~(beat.slot & fills.dropped).any() & ~snoop_writes))
        ),
    ]
    asks = Signal(name="head_asks")
    m.d.comb += asks.eq(h.waits & ~(slots & filling).any() & ~h.fails & ~p.ask_head & ~p.from_head & ~p.third.head)
    m.d.sync += [
        p.ask_head.eq((p.ask_head & ~p.head_granted) | asks),
        # Only if there is, or may be soon, a slot for it: what is in the third stage refuses lookups of its set, and a slot may
        # become free by the lookup of the head alone. One that is in the third stage for nothing comes again at once.
        p.ask_old.eq(
            p.undecided
            & ~(p.third.undecided & (fills.free | ~p.third.wants))
            & ~p.from_old
            & ~p.old_granted
            & ~asks
            & ~p.ask_head
            & (fills.free | (fills.end.slot | p.slot | p.third.slot).any())
        ),
    ]
    return h


def add_access(
    m: Module,
    u: Units,
    f: Found,
    h: HeadOfQueue,
    *,
    bank_words: list[Signal],
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
    bank_words : per bank, the word of the way that was hit, if the access reads the bank.
    merges : a snooped write may be written to the array in this cycle.
    alone : an access of the queue waits for no fill: what is behind waits until it was answered.
    store_free, alias_clear : coherency: the invalidation of the I-cache that a store (an uncached one) owes can be noted.
    snoop_waits : write-through: a snoop of this set waits until no store to its line is queued.
    """
    g, p, t, q, queue, fills, uncached = u.g, u.p, u.p.third, u.p.q, u.queue, u.fills, u.uncached
    head, beat, rsp = queue.head, fills.beat, u.core.cpu.rsp
    we, store_data, store_strb = p.we, Signal(g.data_width, name="store_data"), Signal(g.data_bytes, name="store_strb")
    m.d.comb += [
        store_data.eq(Mux(p.from_head, queue.head_data, q.data)),
        store_strb.eq(Mux(p.from_head, head.strb, q.strb)),
    ]

    # --- may it be performed, if its line is there? Nothing here depends on that.
    q_uncached, steady, may = Signal(name="q_uncached"), Signal(name="q_steady"), Signal(name="may_be_performed")
    cannot, busy = Signal(name="cannot"), Signal(name="word_is_busy")
    joins = f.same_line.any()  # then it does not find its line, and is parked whatever else happens
    # What performs it. With write-through a store needs no line, but must not overtake a fill of it.
    enough, no_place, stores_under_way = f.hit, f.set_unread.any(), f.in_buffer.any()
    if u.through:
        enough, no_place, stores_under_way = f.hit | (we & ~joins), (u.wb.space == 0) | snoop_waits, u.wb.occupied.any()
    m.d.comb += [
        q_uncached.eq(p.q_valid & q.uncached),
        p.waits.eq((p.undecided & ~t.joined) | queue.full),
        busy.eq((we & (beat.valid | merges | no_place)) | (~we & f.word_stored)),
        # A line that is only cleaned can be read.
        cannot.eq(f.moves | f.stale_moves | (we & (f.changes | f.stale)) | f.blocked | busy),
        steady.eq(p.from_q & ~q.uncached & ~p.waits),
        may.eq(((steady & ~alone & ~f.awaited) | p.from_head) & ~cannot & ~(we & ~store_free)),
    ]
    go, answers, performed = p.q_goes, Signal(name="lookup_answers"), Signal(name="q_performed")
    load_hit, store_hit, wants_store = Signal(name="load_hit"), Signal(name="store_hit"), Signal(name="wants_store")
    head_done, head_misses, undecided = Signal(name="head_done"), Signal(name="head_misses"), Signal(name="becomes_undecided")
    nothing, found, distrusts = Signal(name="asks_nothing"), Signal(name="finds"), Signal(name="access_distrusts")
    word_bad = Signal(name="word_bad")
    bad_tag, bad_word = Signal(name="answers_bad_tag"), Signal(name="answers_bad_word")
    m.d.comb += [
        # What a lookup finds that is stale does not matter to one that joins a fill.
        go.eq((may & p.from_q) | (steady & joins & ~q.empty & ~(f.moves | (we & f.changes) | f.blocked))),
        nothing.eq(p.from_q & q.empty),
        # A line that is being filled is waited for, whatever else is in its set.
        distrusts.eq(f.unsure & ~joins),
        found.eq(enough & ~f.unsure),
        load_hit.eq(may & ~we & f.hit & ~f.unsure),
        store_hit.eq(may & we & ~nothing & found),
        bad_tag.eq(may & ~nothing & distrusts),
        bad_word.eq(load_hit & word_bad),
        # Also one that will not find its line: it must not stay for ever behind an invalidation that nobody sends.
        wants_store.eq(we & ~cannot & ((steady & ~q.empty & ~joins & ~alone & ~f.awaited) | (p.from_head & found))),
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

    word = Signal(g.data_width, name="hit_word")
    m.d.comb += word.eq(data.ArrayLayout(g.data_width, g.banks)(Cat(*bank_words))[g.bank_of(p.word)])
    m.d.comb += word_bad.eq(Cat((f.hits & bad).any() for bad in u.arrays.bad_words).bit_select(g.bank_of(p.word), 1))

    # --- uncached
    m.d.comb += [
        p.busy.eq(~uncached.idle),
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
        queue.data.eq(Mux(p.from_q & q.we, q.data, word)),
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
    # The word comes late from the array: everything else has been chosen by then.
    kept = Signal(name="head_is_kept")
    m.d.comb += [
        kept.eq(~queue.empty & (~head.parked | h.settled)),
        rsp.payload.data.eq(
            Mux(kept | uncached.done | h.served, Mux(kept, queue.head_data, uncached.data), word) | uncached.register_data
        ),
    ]
    with m.If(queue.settle):
        m.d.sync += h.settled.eq(1)
    with m.If(queue.pop):
        m.d.sync += h.settled.eq(0)
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
        wants_store=wants_store,
        store_data=store_data,
        store_strb=store_strb,
        undecided=undecided,
        head_done=head_done,
        head_misses=head_misses,
        word=word,
        bad_tag=bad_tag,
        bad_word=bad_word,
        q_uncached=q_uncached,
    )
