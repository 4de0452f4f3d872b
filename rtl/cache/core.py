# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's pipeline: lookup, replacement, and what each operation does to a line.

Two stages. In the first (:mod:`.pipeline`) the address of one operation goes to the tag and data memories of all ways; in the
second the tags are compared and the operation is performed, parked or refused, never half of it. The operation is the lookup of
the CPU's newest access ``q``, of the oldest parked one (the head of the completion queue), or of another agent. A refused
operation has changed nothing and is looked up again.

A CPU access that finds its line performs at once, also while older ones wait for memory; one that needs a fill, or whose line is
being filled, is parked. The queue holds both in their order and answers in that order: a parked load when its word comes from
memory, anything else that is parked by a second lookup after the fill.

Hazards, and what resolves each:

- *Two accesses to one line, the older one parked*: a fill slot is ``held`` as long as an access that was parked on it is in the
  queue, and everything that looks its line up meanwhile is parked too. So accesses of a line are performed in their order.
- *A parked load is answered in the cycle of a hit*: the hit is refused (one CPU record per cycle; it comes one lookup later).
- *A store is in the second stage while a load of the same word is in the first*: the memory gives old bytes; the register
  ``fwd`` holds the store's, and they are merged into the word in the next cycle.
- *The same, but a snoop reads the whole line*: it starts a cycle later.
- *A fill's beat and a store want to write in one cycle*: the beat is written, the store refused.
- *A line is in a fill slot*: nothing but its own beats changes its place; it is invalid until all have come. A bus error in a
  late beat loses no store. Only one slot fills a set at a time, so a victim is never chosen twice.
- *A tag changes while a lookup of its set is in the first stage*: tags are written when the fill is decided; the way is
  invalid from then on, and state bits are read in the second stage.
- *A line leaves, but its words are still being read from the array* (``unread``): beats of a fill of that set wait on R, stores
  to that set are refused (a cleaned line stays valid).
- *A line is in the write-back buffer*: it is not fetched, and no line of its set is pushed, before memory has answered; nor
  is it accessed uncached.
- *The buffer or the slots are full*: an operation that needs one is refused.
- *Other agents against the CPU*: they come first, but never take two turns in a row while the CPU wants one.
- *A snooped write is under way* (coherency): operations on its set are refused until the release, but for snoop reads.
- *An uncached access* starts when the queue is empty, so after everything older was answered.
"""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.bus import AXI4LiteSignature, AXI4Signature, Resp
from ..config import SocConfig
from ..probe import Cause, ProbeSignature
from .arrays import Arrays
from .coherent import SnoopPort, StoreInvalidator
from .completion import CompletionQueue
from .fill import FillUnit, pick
from .linestate import LineState
from .native import AuxOp, AuxSignature, Geometry, NativeSignature
from .pipeline import Pipeline, add_first_stage
from .ports import InvalidateSignature, MaintOp, SnoopSignature
from .prefetch import NextLinePrefetcher
from .records import CoreView, add_records
from .replacement import replacement_policy
from .uncached import UncachedUnit
from .writeback import WriteBackBuffer

__all__ = ["DCacheCore"]


class DCacheCore(wiring.Component):
    """Arrays and pipeline, with the fill slots, the completion queue, the write-back buffer and the uncached unit.

    A hit is answered one cycle after its request, one per cycle, loads and stores mixed. A load that misses is answered
    in the cycle in which its beat arrives from memory. Responses come in the order of the requests.

    Members
    -------
    cpu : native port. m_axi, m_axil : memory and registers.
    walk, command, inject : pipeline use by the maintenance walker, ``inject_cmd`` and the injector, in this priority.
    walk_command, walk_way, visited : the walker's command, the way of a ``WALK_WAY``, and what its visits find.
    walk_row, walk_dirty, inject_row, inject_dirty : dirty bits of a row of sets, per way, in the same cycle.
    any_dirty : a line of the array is dirty. filling : per slot, a fill is in flight.
    space, occupied, wb_done : write-back buffer. slot_free : the prefetch slot is free.
    idle : no access of the CPU is inside.
    prefetch : the next-line prefetcher is on.
    events : one cycle each, for counters and the error registers.
    snoop, i_inv, hold_b, b_waiting : only with coherency.

    Attributes for testbenches: ``tag[w]`` and ``data[w][b]`` (:class:`Arrays`), ``state`` (:class:`LineState`).
    """

    def __init__(self, *, config: SocConfig, meta_width: int = 5):
        g = self._g = Geometry(config)
        self._config, self._meta_width = config, meta_width
        entries, slots = config.dcache.write_buffer_lines, config.dcache.fill_slots + 1
        wb_done = data.StructLayout({"valid": 1, "index": entries, "line": g.line_bits, "error": 1})
        walk_command = data.StructLayout({"op": MaintOp, "dirty_only": 1, "all": 1, "first": g.line_bits, "last": g.line_bits})
        self.events_layout = data.StructLayout(
            {
                "hit": 1,
                "miss": 1,
                "evict": 1,
                "writeback": 1,
                "prefetched": 1,
                "prefetch_error": 1,
                "fill_error": 1,
                "fill_line": g.line_bits,
                "wb_error": 1,
                "wb_line": g.line_bits,
            }
        )
        aux = AuxSignature(g.line_bits)
        probe = ProbeSignature(g.data_width)
        row, row_bits = range(max(g.state_rows, 2)), g.span * g.ways
        members = {
            "cpu": In(NativeSignature(data_width=g.data_width, meta_width=meta_width)),
            "m_axi": Out(AXI4Signature(data_width=g.data_width, id_width=2)),
            "m_axil": Out(AXI4LiteSignature(data_width=32, user_width=16)),
            "walk": In(aux),
            "command": In(aux),
            "inject": In(aux),
            "walk_command": In(walk_command),
            "walk_way": In(g.ways),
            "visited": Out(data.StructLayout({"addr": 32, "present": 1, "dirty": 1})),
            "walk_row": In(row),
            "walk_dirty": Out(row_bits),
            "inject_row": In(row),
            "inject_dirty": Out(row_bits),
            "any_dirty": Out(1),
            "filling": Out(slots),
            "space": Out(range(entries + 1)),
            "occupied": Out(entries),
            "wb_done": Out(wb_done),
            "slot_free": Out(1),
            "idle": Out(1),
            "prefetch": In(1),
            "events": Out(self.events_layout),
            "probe_cpu": Out(probe),
            "probe_d_fill": Out(probe),
            "probe_d_line": Out(probe),
            "probe_d_wb": Out(probe),
            "probe_snoop": Out(probe),
        }
        if config.coherent:
            members |= {
                "snoop": In(SnoopSignature(g.line_bytes)),
                "i_inv": Out(InvalidateSignature()),
                "hold_b": Out(1),
                "b_waiting": In(1),
            }
        super().__init__(members)
        self._arrays = Arrays(g)
        self.tag, self.data = self._arrays.tag, self._arrays.data
        self.state = LineState(g, scans=2)

    def elaborate(self, platform):
        m = Module()
        g, config, coherent = self._g, self._config, self._config.coherent
        ways = range(g.ways)
        arrays, state = self._arrays, self.state
        m.submodules.fills = fills = FillUnit(config=config)
        m.submodules.writeback = wb = WriteBackBuffer(config=config)
        m.submodules.uncached = uncached = UncachedUnit(config=config)
        m.submodules.queue = queue = CompletionQueue(config=config, slots=fills.count, meta_width=self._meta_width)
        policy = replacement_policy(config.dcache)
        slots, prefetch_slot = [fills.slots[n] for n in range(fills.count)], fills.count - 1
        axi = self.m_axi
        connect(m, fills=fills.ar, core=flipped(axi.ar))
        connect(m, fills=fills.r, core=flipped(axi.r))
        connect(m, writeback=wb.aw, core=flipped(axi.aw))
        connect(m, writeback=wb.w, core=flipped(axi.w))
        connect(m, writeback=wb.b, core=flipped(axi.b))
        connect(m, uncached=uncached.m_axil, core=flipped(self.m_axil))
        connect(m, uncached=uncached.read, fills=fills.direct)
        connect(m, uncached=uncached.write, writeback=wb.direct)
        m.d.comb += [uncached.read_rsp.eq(fills.direct_rsp), uncached.write_rsp.eq(wb.direct_rsp)]

        # ------------------------------------------------------------------ who uses the pipeline
        install_aux = AuxSignature(g.line_bits).create(path=("install",))
        agents = {"walk": self.walk, "command": self.command, "inject": self.inject}
        blocked_valid = Signal()  # coherency: operations on this set are refused
        blocked_line = Signal(g.line_bits)
        snoop_write_now = Signal()  # a snooped write may change the array in this cycle
        if config.dcache.prefetcher:
            m.submodules.prefetcher = prefetcher = NextLinePrefetcher(config=config)
            agents["prefetch"] = prefetcher.aux
        if coherent:
            m.submodules.snooping = snooping = SnoopPort(config=config)
            connect(m, core=flipped(self.snoop), snooping=snooping.snoop)
            m.d.comb += [blocked_valid.eq(snooping.blocked), blocked_line.eq(snooping.blocked_line)]
            agents = {"snoop": snooping.aux} | agents
        agents = {"install": install_aux} | agents
        p = Pipeline(g, meta_width=self._meta_width, agents=len(agents), slots=fills.count)
        q, line, word, op = p.q, p.line, p.word, p.op
        index, tag = g.set_of(line), line[g.index_bits :]

        def is_op(*ops):
            return Cat(op == one for one in ops).any()

        filling = fills.filling
        active = filling | fills.held
        finishing = Signal(fills.count)  # slots whose beats have all come
        m.d.comb += [
            finishing.eq(fills.complete & ~Mux(op == AuxOp.INSTALL, p.slot, 0)),
            install_aux.valid.eq(finishing.any()),
            install_aux.op.eq(AuxOp.INSTALL),
            install_aux.line.eq(pick(finishing & -finishing, [slot.line for slot in slots])),
        ]
        arrays.add(m)

        # ------------------------------------------------------------------ the head of the queue
        head = queue.head
        settled = Signal()  # it has been performed, and could not be answered at once
        head_slots, head_waits, head_fails = Signal(fills.count), Signal(), Signal()
        beat = fills.beat
        served = Signal()  # the beat that is offered answers it
        offered = Signal()  # and did so in the cycle before: a response that was shown stays
        m.d.comb += [
            head_slots.eq(head.slots),
            head_waits.eq(~queue.empty & head.parked & ~settled),
            # A prefetch's error is nobody's: the access fetches the line itself.
            head_fails.eq(
                head_waits & (head_slots & ~filling & fills.error & Cat(slot.cause == Cause.DEMAND for slot in slots)).any()
            ),
            p.head_asks.eq(head_waits & ~(head_slots & filling).any() & ~head_fails & ~p.from_head),
            served.eq(
                head_waits
                & ~head.we
                & beat.valid
                & ~beat.error
                & (beat.slot & head_slots).any()
                & (beat.word == head.word)
                & (offered | (~(beat.slot & fills.dropped).any() & ~snoop_write_now))
            ),
        ]

        # ------------------------------------------------------------------ what was found
        is_valid, is_dirty, is_fresh = Signal(g.ways), Signal(g.ways), Signal(g.ways)
        hits, hit = Signal(g.ways), Signal()
        found_state = state.add(m, index)
        m.d.comb += [
            is_valid.eq(found_state[0]),
            is_dirty.eq(found_state[1]),
            is_fresh.eq(found_state[2]),
            hits.eq(Cat(is_valid[w] & (arrays.tags[w] == tag) for w in ways)),
            hit.eq(hits.any()),
        ]
        same_set, same_line = Signal(fills.count), Signal(fills.count)  # slots
        refused = Signal()  # by a snooped write under way
        m.d.comb += [
            same_set.eq(active & Cat(g.set_of(slot.line) == index for slot in slots)),
            same_line.eq(same_set & Cat(slot.line[g.index_bits :] == tag for slot in slots)),
            refused.eq(blocked_valid & (g.set_of(blocked_line) == index)),
        ]
        walking = is_op(AuxOp.WALK_LINE, AuxOp.WALK_WAY)
        cleans, invalidates = self.walk_command.op[0], self.walk_command.op[1]
        q_lookup = Signal()  # q is in the second stage, and is a cached access
        m.d.comb += q_lookup.eq(p.from_q & q.cached & ~q.empty)
        prefetches = is_op(AuxOp.PREFETCH)

        # which way the operation concerns
        victim = Signal(g.ways)
        selected = Signal(g.ways)
        allocating = Signal()  # a fill is wanted
        m.d.comb += [
            victim.eq(Mux(is_valid.all(), policy.victim(m, index), ~is_valid & (is_valid + 1))),
            allocating.eq(~hit & ((p.from_head & ~(same_line & filling).any()) | ((q_lookup | prefetches) & ~same_line.any()))),
            selected.eq(hits),
        ]
        with m.If(allocating):
            m.d.comb += selected.eq(victim)
        with m.Elif(op == AuxOp.WALK_WAY):
            m.d.comb += selected.eq(p.way)
        with m.Elif(op == AuxOp.EVICT_SET):
            m.d.comb += selected.eq(is_dirty & -is_dirty)
        found, found_dirty, covered = Signal(), Signal(), Signal()
        found_line, walk_line = Signal(g.line_bits), Signal(g.line_bits)
        m.d.comb += [
            found_line.eq(Cat(index, pick(selected, arrays.tags))),
            walk_line.eq(Cat(index, pick(p.way, arrays.tags))),  # known before the comparison of the tags
            covered.eq(((walk_line >= self.walk_command.first) & (walk_line <= self.walk_command.last)) | (op != AuxOp.WALK_WAY)),
            found.eq((selected & is_valid).any() & covered),
            found_dirty.eq((selected & is_dirty).any() & covered),
        ]

        # may it be done?
        needs_entry, allowed, allocate = Signal(), Signal(), Signal()
        evicts = is_op(AuxOp.EVICT_LINE, AuxOp.EVICT_SET)
        in_buffer = wb.match(line).any()
        entry_free = Signal()  # the set, not the line, is compared: the victim is known late
        m.d.comb += entry_free.eq((wb.space != 0) & ~wb.match_set(index).any())
        m.d.comb += [
            needs_entry.eq(found_dirty & (allocating | (walking & cleans) | evicts | is_op(AuxOp.CLEAN_LINE))),
            allowed.eq(~refused & (~needs_entry | entry_free)),
            allocate.eq(
                allocating
                & allowed
                & Mux(prefetches, fills.free_prefetch, fills.free | p.from_head)
                & ~Mux(p.from_head, same_set & filling, same_set).any()
                & ~in_buffer
                & ~(p.from_q & queue.full)
            ),
        ]

        # ------------------------------------------------------------------ what it does to the line
        ending = Signal(slots[0].shape())  # the slot of INSTALL
        install, line_busy = Signal(), Signal()
        performed = Signal()  # an operation of another agent
        leaves, pushes = Signal(), Signal()
        m.d.comb += [
            line_busy.eq((same_line & filling).any()),
            performed.eq(
                (allowed & (walking | (op == AuxOp.EVICT_SET)))
                | (allowed & ~line_busy & is_op(AuxOp.EVICT_LINE, AuxOp.CLEAN_LINE))
            ),
            leaves.eq(found & (allocate | (performed & ((walking & invalidates) | evicts)))),
            pushes.eq(needs_entry & (allocate | performed)),
            wb.push.valid.eq(pushes),
            wb.push.line.eq(found_line),
            wb.push.way.eq(selected),
            fills.alloc.valid.eq(allocate),
            fills.alloc.prefetch.eq(prefetches),
            fills.alloc.again.eq(Mux(p.from_head, head_slots, 0)),  # its line has left again
            fills.alloc.line.eq(line),
            fills.alloc.word.eq(word),
            fills.alloc.way.eq(victim),
            fills.alloc.cause.eq(Mux(prefetches, Cause.PREFETCH, Cause.DEMAND)),
            self.visited.addr.eq(g.address_of(Mux(op == AuxOp.WALK_WAY, found_line, line))),
            self.visited.present.eq(found),
            self.visited.dirty.eq(found_dirty),
            ending.eq(pick(p.slot, slots)),
            install.eq((op == AuxOp.INSTALL) & ~(p.slot & (fills.dropped | fills.error)).any()),
            fills.finish.eq(Mux(op == AuxOp.INSTALL, p.slot, 0)),
        ]
        for n, (name, agent) in enumerate(agents.items()):
            fine = performed | is_op(AuxOp.FLASH, AuxOp.INSTALL) | ((op == AuxOp.QUIET) & ~in_buffer & ~line_busy)
            if name in ("command", "prefetch"):
                fine = fine | (prefetches & (hit | same_line.any() | allocate | Const(name == "prefetch")))
            if name != "snoop":
                m.d.comb += [agent.done.eq(p.who[n] & fine), agent.retry.eq(p.who[n] & ~fine)]
        flash = Signal()
        m.d.comb += flash.eq(op == AuxOp.FLASH)

        # ------------------------------------------------------------------ the CPU's access
        we, store_data, store_strb = Signal(), Signal(g.data_width), Signal(g.data_bytes)
        m.d.comb += [
            we.eq(Mux(p.from_head, head.we, q.we)),
            store_data.eq(Mux(p.from_head, queue.head_data, q.data)),
            store_strb.eq(Mux(p.from_head, head.strb, q.strb)),
        ]
        load_hit, store_hit = Signal(), Signal()
        wants_store = Signal()
        store_free = Signal(init=1)  # coherency: the invalidation of the I-cache can be noted
        ours = Signal()
        early, read_ways = Signal(), Signal(g.ways)  # the word has come, the rest of its line has not
        m.d.comb += [
            ours.eq(hit & ~refused & (p.from_head | (q_lookup & ~same_line.any() & ~queue.full & ~served & ~head_fails))),
            fills.look.eq(same_line),
            fills.word.eq(word),
            early.eq(q_lookup & ~q.we & fills.came & ~(same_line & fills.held).any() & ~queue.full & ~served & ~head_fails),
            read_ways.eq(Mux(early, pick(same_line, [slot.way for slot in slots]), hits)),
            load_hit.eq((ours & ~we) | early),
            wants_store.eq(ours & we & ~beat.valid & ~wb.unread_in(index)),
            store_hit.eq(wants_store & store_free),
        ]
        fwd_valid = Signal()  # the store of the cycle before
        fwd_index, fwd_way, fwd_word = Signal(g.index_bits), Signal(g.ways), Signal(g.word_bits)
        fwd_data, fwd_strb = Signal(g.data_width), Signal(g.data_bytes)
        hit_word = Signal(g.data_width)
        bank_words = [Const(0) for _ in ways]
        for w in ways:
            banks = arrays.words[w]
            bank_words[w] = data.ArrayLayout(g.data_width, g.banks)(Cat(*banks))[g.bank_of(word)]
        word_now = Signal(g.data_width)
        m.d.comb += word_now.eq(pick(read_ways, bank_words))
        here = fwd_valid & (fwd_index == index) & (fwd_way & hits).any() & (fwd_word == word)
        for byte in range(g.data_bytes):
            m.d.comb += hit_word.word_select(byte, 8).eq(
                Mux(here & fwd_strb[byte], fwd_data.word_select(byte, 8), word_now.word_select(byte, 8))
            )
        m.d.sync += [
            fwd_valid.eq(store_hit),
            fwd_index.eq(index),
            fwd_way.eq(hits),
            fwd_word.eq(word),
            fwd_data.eq(store_data),
            fwd_strb.eq(store_strb),
        ]

        # uncached
        q_uncached, q_line = Signal(), Signal(g.line_bits)
        alias_clear = Signal(init=1)
        m.d.comb += [
            q_line.eq(g.line_of(q.addr)),
            q_uncached.eq(p.q_valid & ~q.cached & ~q.empty),
            p.busy.eq(~uncached.idle),
            uncached.start.eq(p.from_q & q_uncached & uncached.idle & queue.empty & ~in_buffer & alias_clear),
            uncached.request.addr.eq(q.addr),
            uncached.request.we.eq(q.we),
            uncached.request.data.eq(q.data),
            uncached.request.strb.eq(q.strb),
            uncached.request.size.eq(q.size),
            uncached.request.tag.eq(q.tag),
        ]

        # answered, put behind older accesses, or parked
        q_done, parks, head_done = Signal(), Signal(), Signal()
        rsp = self.cpu.rsp
        m.d.comb += [
            head_done.eq(p.from_head & (load_hit | store_hit)),
            q_done.eq(p.from_q & (load_hit | store_hit | (q.empty & ~queue.full))),
            parks.eq(p.from_q & (allocate | (q_lookup & same_line.any() & ~queue.full & ~early))),
            p.q_leaves.eq(q_done | parks | (uncached.done & rsp.ready)),
            queue.push.eq(parks | (q_done & ~(queue.empty & rsp.ready))),
            queue.entry.parked.eq(parks),
            queue.entry.we.eq(q.we),
            queue.entry.line.eq(line),
            queue.entry.word.eq(word),
            queue.entry.strb.eq(q.strb),
            queue.entry.slots.eq(Mux(allocate, fills.alloc_slot, same_line)),
            queue.entry.meta.eq(q.meta),
            queue.data.eq(Mux(p.from_q & q.we, q.data, hit_word)),
            queue.tag.eq(q.tag),
            queue.primary.eq(allocate),
            queue.settle.eq(head_done & ~rsp.ready),
            queue.pop.eq(~queue.empty & rsp.valid & rsp.ready),
            rsp.valid.eq(Mux(queue.empty, q_done | uncached.done, ~head.parked | settled | served | head_fails | head_done)),
            rsp.payload.we.eq(Mux(queue.empty, q.we, head.we)),
            rsp.payload.meta.eq(Mux(queue.empty, q.meta, head.meta)),
            rsp.payload.resp.eq(Mux(uncached.done, uncached.resp, Mux(head_fails, Resp.SLVERR, Resp.OKAY))),
            uncached.take.eq(rsp.ready),
            fills.direct_take.eq(rsp.ready),
            wb.direct_take.eq(rsp.ready),
            # A beat waits for the CPU to take it, and for the words of the line it replaces.
            fills.hold.eq((served & ~rsp.ready) | wb.unread_in(g.set_of(beat.line)) | snoop_write_now),
        ]
        with m.If(uncached.done):
            m.d.comb += rsp.payload.data.eq(uncached.data)
        with m.Elif(served):
            m.d.comb += rsp.payload.data.eq(beat.data)
        with m.Elif(~queue.empty & (~head.parked | settled)):
            m.d.comb += rsp.payload.data.eq(queue.head_data)
        with m.Else():
            m.d.comb += rsp.payload.data.eq(hit_word)
        with m.If(queue.settle):
            m.d.sync += settled.eq(1)
        with m.If(queue.pop):
            m.d.sync += settled.eq(0)

        if coherent:
            m.d.sync += offered.eq(served & ~rsp.ready)

        # --- which fill slots the queue refers to
        m.d.comb += fills.park.eq(Mux(parks, queue.entry.slots, 0))
        for n in range(fills.count):
            youngest = Signal(range(queue.DEPTH), name=f"youngest_{n}")
            with m.If(fills.park[n]):
                m.d.sync += youngest.eq(queue.tail_at)
            m.d.comb += fills.release[n].eq(queue.pop & (youngest == queue.head_at))
        first_wait = Signal()  # the first access to a prefetch in flight
        m.d.comb += [
            first_wait.eq(parks & ~allocate & same_line[prefetch_slot] & ~fills.used[prefetch_slot]),
            fills.use.eq(first_wait << prefetch_slot),
        ]

        # ------------------------------------------------------------------ arrays: one change per cycle
        merge = Signal()  # a snooped write into a dirty line
        gone = Signal(g.ways)  # clean lines that a snooped write drops
        used_fresh = Signal()  # a prefetched line is used for the first time
        fresh_now = Signal()
        wide = None
        if coherent:
            wide = (merge, self.snoop.req.payload.data, self.snoop.req.payload.strb)
        m.d.comb += [
            fresh_now.eq((selected & is_fresh).any()),
            used_fresh.eq((load_hit | store_hit) & fresh_now),
        ]
        writes_beat = Signal()
        m.d.comb += writes_beat.eq(fills.taken)
        arrays.write_tag(m, index, tag, Mux(allocate, victim, 0))
        arrays.write_word(
            m,
            Mux(writes_beat, g.set_of(beat.line), index),
            Mux(writes_beat, beat.word, word),
            Mux(writes_beat, beat.way, Mux(store_hit | merge, hits, 0)),
            Mux(writes_beat, beat.data, store_data),
            Mux(writes_beat, Const(-1, g.data_bytes), store_strb),
            wide,
        )
        state.change(
            m,
            index=index,
            enable=install | store_hit | merge | (load_hit & fresh_now) | leaves | pushes | gone.any(),
            ways=Mux(install, ending.way, Mux(gone.any(), gone, selected)),
            valid=~(leaves | gone.any()),
            dirty=store_hit | merge | (load_hit & found_dirty),
            fresh=Mux(install, (ending.cause == Cause.PREFETCH) & ~(p.slot & fills.used).any(), pushes & fresh_now),
            flash=flash,
            flash_keeps_dirty=cleans,
        )
        # Uses count in the order of the program: when a way is chosen, or an access is performed or parked.
        m.d.comb += self.any_dirty.eq(state.stained.any())
        turned_to = Signal(g.ways)
        m.d.comb += turned_to.eq(Mux(allocate, victim, Mux(parks | early, pick(same_line, [slot.way for slot in slots]), hits)))
        policy.touch(m, turned_to, allocate | parks | (p.from_q & (load_hit | store_hit)), allocate)
        for scan, (row, found_bits) in enumerate(((self.walk_row, self.walk_dirty), (self.inject_row, self.inject_dirty))):
            m.d.comb += found_bits.eq(Cat(*state.scan(m, scan, row)))
        if config.dcache.prefetcher:
            m.d.comb += [
                prefetcher.enable.eq(self.prefetch),
                prefetcher.trigger.eq((allocate & p.from_q) | used_fresh | first_wait),
                prefetcher.line.eq(line),
                prefetcher.slot_free.eq(fills.free_prefetch),
            ]
        m.d.comb += [
            self.space.eq(wb.space),
            self.occupied.eq(wb.occupied),
            self.wb_done.eq(wb.done),
            self.slot_free.eq(fills.free_prefetch),
            self.filling.eq(filling),
            self.idle.eq(~p.q_valid & queue.empty & ~active.any()),
        ]

        # ------------------------------------------------------------------ coherency
        snoop_done, snoop_dirty, snoop_dropped = Signal(), Signal(), Signal()
        store_now = Signal()
        if coherent:
            buffered = Signal(config.dcache.write_buffer_lines)
            is_write = op == AuxOp.SNOOP_WRITE
            in_slot = Signal(fills.count)
            array_dirty = (hits & is_dirty).any()
            found_data = Cat(*(pick(hits, [arrays.words[w][b] for w in ways]) for b in range(g.banks)))
            m.d.comb += [
                # Only the address's set matters, and a store that is refused only delays the snoop.
                store_now.eq((p.from_q | p.from_head) & we & (g.set_of(snooping.aux.line) == index)),
                buffered.eq(wb.match(line)),
                in_slot.eq(same_line & filling & ~fills.dropped),
                wb.peek_index.eq(sum(Mux(buffered[n], n, 0) for n in range(1, len(buffered))) if len(buffered) > 1 else 0),
                # A write must not be overtaken by an older write-back of its line; a read needs all its words.
                snoop_done.eq(((op == AuxOp.SNOOP_READ) & (wb.peek_ready | ~buffered.any())) | (is_write & ~buffered.any())),
                snoop_dirty.eq(array_dirty | buffered.any()),
                snoop_dropped.eq(is_write & ((hits & ~is_dirty).any() | in_slot.any())),
                snoop_write_now.eq(is_write),
                snooping.dirty.eq(snoop_dirty),
                snooping.data.eq(Mux(array_dirty, found_data, wb.peek_data)),
                snooping.aux.done.eq(snoop_done),
                snooping.aux.retry.eq(is_op(AuxOp.SNOOP_READ, AuxOp.SNOOP_WRITE) & ~snoop_done),
                merge.eq(is_write & snoop_done & array_dirty),
                gone.eq(Mux(is_write & snoop_done, hits & ~is_dirty, 0)),
                fills.drop.eq(Mux(is_write & snoop_done, in_slot, 0)),
            ]

            m.submodules.invalidator = invalidator = StoreInvalidator(config=config)
            connect(m, core=flipped(self.i_inv), invalidator=invalidator.inv)
            store_to_memory = q_uncached & q.we & q.window
            m.d.comb += [
                invalidator.line.eq(Mux(q_uncached, q_line, line)),
                invalidator.want.eq(wants_store | store_to_memory),
                invalidator.note.eq(store_hit | (uncached.done & rsp.ready & store_to_memory)),
                invalidator.last.eq(Mux(p.from_head, head.meta[0], q.meta[0])),
                invalidator.flush.eq(self.b_waiting),
                store_free.eq(invalidator.free),
                alias_clear.eq(invalidator.free | ~store_to_memory),
                self.hold_b.eq(invalidator.busy),
            ]

        grant = add_first_stage(
            m,
            p,
            g,
            arrays=arrays,
            cpu=self.cpu,
            queue=queue,
            agents=agents,
            walk_way=self.walk_way,
            finishing=finishing,
            read=wb.read,
            store_now=store_now,
        )
        reads_bank, reads_way = Signal(max(g.bank_bits, 1)), Signal(g.ways)
        m.d.sync += [reads_bank.eq(g.bank_of(wb.read.word)), reads_way.eq(wb.read.way)]
        m.d.comb += [
            wb.read_grant.eq(grant),
            wb.read_data.eq(
                pick(reads_way, [data.ArrayLayout(g.data_width, g.banks)(Cat(*arrays.words[w]))[reads_bank] for w in ways])
            ),
        ]

        add_records(
            m,
            CoreView(
                core=self,
                g=g,
                q=q,
                head=head,
                head_tag=queue.head_tag,
                head_primary=queue.head_primary,
                by_head=head_done | ((served | head_fails) & rsp.ready),
                by_q=p.from_q & (load_hit | store_hit),
                failed=head_fails,
                loaded=Mux(served, beat.data, hit_word),
                head_data=queue.head_data,
                uncached_start=uncached.start,
                uncached_done=uncached.done & rsp.ready,
                found_line=found_line,
                found_dirty=found_dirty,
                leaves=leaves,
                pushes=pushes,
                walking=walking,
                flash=flash,
                cleans=cleans,
                allocate=allocate,
                alloc_line=line,
                alloc_cause=fills.alloc.cause,
                ends=op == AuxOp.INSTALL,
                failed_fill=(p.slot & fills.error).any(),
                install=install,
                ending=ending,
                wb_done=wb.done,
                snoop_done=snoop_done,
                snoop_write=op == AuxOp.SNOOP_WRITE,
                snoop_line=line,
                snoop_dirty=snoop_dirty,
                snoop_dropped=snoop_dropped,
                snoop_source=self.snoop.req.payload.source if coherent else Const(0, 4),
            ),
        )
        ends = op == AuxOp.INSTALL
        m.d.comb += [
            # A miss starts a fill; an access that joins one under way is a hit, as if the line were there already.
            self.events.hit.eq((p.from_q & (load_hit | store_hit)) | (parks & ~allocate)),
            self.events.miss.eq(p.from_q & allocate),
            self.events.evict.eq(leaves & ~walking),
            self.events.writeback.eq(pushes),
            self.events.prefetched.eq(install & (ending.cause == Cause.PREFETCH)),
            self.events.prefetch_error.eq(ends & (ending.cause == Cause.PREFETCH) & (p.slot & fills.error).any()),
            self.events.fill_error.eq(ends & (ending.cause == Cause.DEMAND) & (p.slot & fills.error).any()),
            self.events.fill_line.eq(line),
            self.events.wb_error.eq(wb.done.valid & wb.done.error),
            self.events.wb_line.eq(wb.done.line),
        ]
        return m
