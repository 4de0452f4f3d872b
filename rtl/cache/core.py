# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's core: three pipeline stages, and the units around them.

In the first stage (:mod:`.pipeline`) the address of one operation goes to the tag and data memories of all ways. In the second
(:mod:`.lookup`, :mod:`.access`) the tags are compared, and an access of the CPU that finds its line is performed. Everything
else is decided in the third (:mod:`.action`), which alone changes what is known about lines: fills are started, lines leave,
and the dirty bit and the use of an access that was performed are noted. An operation is performed or refused, never half of it; a
refused one has changed nothing and is looked up again. Operations are lookups of the CPU's newest access ``q``, of the oldest
parked one (the head of the completion queue), of an access that is undecided, or of another agent.

A CPU access that finds its line performs at once, also while older ones wait for memory; any other is put into the queue, and
the third stage parks it on a fill, or lets it wait undecided. The queue answers in the order of the program: a parked load when
its word comes from memory, anything else that is parked by a second lookup after the fill.

Hazards, and what resolves each:

- *The third stage changes a set that is in the second*: that lookup is refused (one compare of registers). So what the third
  stage decides from is never out of date; a bit that only becomes set by an access itself (dirty) is forwarded.
- *Two accesses to one line, the older one parked*: while an access is parked on a fill of the line that has ended, or any is
  undecided, no younger one is performed. So accesses of a line are performed in their order.
- *An undecided access finds its line after all*: it is performed from the queue's head, ``alone``: nothing younger before.
- *A load of the word that was stored in the cycle before*: the memory gives old bytes, so the load is refused.
- *The same, but a snoop reads the whole line*: it starts a cycle later.
- *A fill's beat and a store want to write in one cycle*: the beat is written, the store refused.
- *A line is in a fill slot*: nothing but its own beats changes its place; it is invalid until all have come. A bus error in a
  late beat loses no store. Only one slot fills a set at a time, so a victim is never chosen twice.
- *The same while that lookup is in the first*: it is refused one cycle later, in the second.
- *A line leaves, but its words are still being read from the array* (``unread``): beats of the fill that replaces it wait on R, a
  fill of that set by anything else is refused, and so are stores to it (a cleaned line stays valid).
- *The end of a fill has not gone into the pipeline yet*: the last beat of any other line waits on R.
- *A line is in the write-back buffer*: it is not fetched, and no line of its set is pushed, before memory has answered; nor
  is it accessed uncached.
- *The buffer or the slots are full*: an operation that needs one is refused.
- *Other agents against the CPU*: they come first, but never take two turns in a row while the CPU wants one.
- *A snooped write is under way* (coherency): operations on its set are refused until the release, but for snoop reads.
- *An uncached access* starts when the queue is empty, so after everything older was answered.

Write-through (``write_policy``): a store is pushed into the store queue in the cycle in which it is performed, with its line
present or not. What differs:

- *A store to a line that is being filled* is parked as above, and performed after the fill's end, whatever that was.
- *A line with a queued store* is not fetched before memory has answered it: the fill would be older than the store.
- *The store queue is full*: the store is refused.
- *An uncached access* waits until no store is queued.
- *A snoop of a line with a queued store* waits for its answer, and no further store to the set is performed meanwhile.
"""

from functools import reduce
from operator import or_

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.bus import AXI4LiteSignature, AXI4Signature
from ..config import SocConfig
from ..probe import ProbeSignature
from .access import add_access, add_head
from .action import SnoopedWrite, add_action
from .arrays import Arrays
from .coherent import SnoopPort, StoreInvalidator
from .completion import CompletionQueue
from .fill import FillUnit, pick
from .linestate import LineState
from .lookup import Units, add_lookup, hand_over
from .native import AuxOp, AuxSignature, Geometry, NativeSignature
from .pipeline import Pipeline, add_first_stage
from .ports import InvalidateSignature, MaintOp, SnoopSignature
from .prefetch import NextLinePrefetcher
from .records import CoreView, add_records
from .replacement import replacement_policy
from .snooping import add_snooping
from .storequeue import StoreQueue
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
    check, check_covered : is the line in the command's range, in the same cycle; meanwhile its lookups are refused.
    row, stained : may a row of sets hold a dirty line, in the same cycle.
    any_dirty : a line of the array is dirty. filling : per slot, a fill is in flight.
    space, occupied, wb_done : write-back buffer, or store queue, whose ``space`` never lacks (``wb_done.line`` only with
        ``error``). slot_free : the prefetch slot is free.
    idle : no access of the CPU is inside.
    prefetch : the next-line prefetcher is on.
    events : one cycle each, for counters and the error registers.
    upset : only with parity: what the command's ``UPSET`` inverts, the line's tag or a byte.
    snoop, i_inv, hold_b, b_waiting : only with coherency.

    Attributes for testbenches: ``tag[w]`` and ``data[w][b]`` (:class:`Arrays`), ``state`` (:class:`LineState`).
    """

    def __init__(self, *, config: SocConfig, meta_width: int = 5):
        g = self._g = Geometry(config)
        self._config, self._meta_width = config, meta_width
        entries, slots = config.dcache.write_entries, config.dcache.fill_slots + 1
        wb_done = data.StructLayout({"valid": 1, "index": entries, "line": g.line_bits, "error": 1, "spoiled": 1})
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
                "wb_spoiled": 1,
                "bad_tag": 1,
                "bad_data": 1,
                "bad_line": g.line_bits,
            }
        )
        aux = AuxSignature(g.line_bits)
        probe = ProbeSignature(g.data_width)
        members = {
            "cpu": In(NativeSignature(data_width=g.data_width, meta_width=meta_width)),
            "m_axi": Out(AXI4Signature(data_width=g.data_width, id_width=2)),
            "m_axil": Out(AXI4LiteSignature(data_width=32, user_width=16)),
            "walk": In(aux),
            "command": In(aux),
            "inject": In(aux),
            "walk_command": In(walk_command),
            "walk_way": In(g.ways),
            "check": In(data.StructLayout({"valid": 1, "line": g.line_bits})),
            "check_covered": Out(1),
            "visited": Out(data.StructLayout({"addr": 32, "present": 1, "dirty": 1, "unsure": 1})),
            "row": In(range(max(g.state_rows, 2))),
            "stained": Out(1),
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
            "probe_parked": Out(probe),
            "probe_d_fill": Out(probe),
            "probe_d_line": Out(probe),
            "probe_d_wb": Out(probe),
            "probe_snoop": Out(probe),
        }
        if g.parity:
            members["upset"] = In(data.StructLayout({"tag": 1, "word": g.word_bits, "byte": range(g.data_bytes)}))
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
        self.state = LineState(g)

    def elaborate(self, platform):
        m = Module()
        g, config, coherent = self._g, self._config, self._config.coherent
        arrays = self._arrays
        m.submodules.fills = fills = FillUnit(config=config)
        through = config.dcache.write_through
        m.submodules.writeback = wb = StoreQueue(config=config) if through else WriteBackBuffer(config=config)
        m.submodules.uncached = uncached = UncachedUnit(config=config)
        m.submodules.queue = queue = CompletionQueue(config=config, slots=fills.count, meta_width=self._meta_width)
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

        # --- who uses the pipeline
        install_aux = AuxSignature(g.line_bits).create(path=("install",))
        agents = {"walk": self.walk, "command": self.command, "inject": self.inject}
        if config.dcache.prefetcher:
            m.submodules.prefetcher = prefetcher = NextLinePrefetcher(config=config)
            agents["prefetch"] = prefetcher.aux
        if coherent:
            m.submodules.snooping = snooping = SnoopPort(config=config)
            m.submodules.invalidator = invalidator = StoreInvalidator(config=config)
            connect(m, core=flipped(self.snoop), snooping=snooping.snoop)
            connect(m, core=flipped(self.i_inv), invalidator=invalidator.inv)
            agents = {"snoop": snooping.aux} | agents
        agents = {"install": install_aux} | agents
        p = Pipeline(g, meta_width=self._meta_width, agents=len(agents), slots=fills.count, through=through)
        t, q, head, beat = p.third, p.q, queue.head, fills.beat
        u = Units(
            core=self,
            config=config,
            g=g,
            p=p,
            arrays=arrays,
            state=self.state,
            policy=replacement_policy(config.dcache),
            fills=fills,
            wb=wb,
            queue=queue,
            uncached=uncached,
        )
        m.d.comb += [
            install_aux.valid.eq(fills.end.valid),
            install_aux.op.eq(AuxOp.INSTALL),
            install_aux.line.eq(fills.end.line),
            fills.end_taken.eq(install_aux.grant),
        ]
        arrays.add(m)

        # --- second stage
        snoop_writes = t.op == AuxOp.SNOOP_WRITE if coherent else Const(0)  # a snooped write may change the array
        f = add_lookup(
            m,
            u,
            blocked=snooping.blocks(p.index) if coherent else [],
        )
        h = add_head(m, u, snoop_writes=snoop_writes)
        lone = Signal()  # an access of the queue waits for no fill
        store_free, alias_clear, snoop_waits = Signal(init=1), Signal(init=1), Signal()
        # --- words that were read, for the load in the second stage and for the write-back buffer. A block RAM gives them late,
        # so each selects for itself, and gets 0 where it reads nothing.
        reads = [Signal(g.ways, name=f"buffer_ways_{b}") for b in range(g.banks)]  # by the buffer, in the cycle before
        loaded = [Signal(g.data_width, name=f"loaded_{b}") for b in range(g.banks)]
        buffered = []
        for b in range(g.banks):
            words, hit_ways = [arrays.words[w][b] for w in range(g.ways)], Signal(g.ways, name=f"load_ways_{b}")
            m.d.comb += [hit_ways.eq(Mux(p.loads[b], f.hits, 0)), loaded[b].eq(pick(hit_ways, words))]
            buffered.append(pick(reads[b], words))
        if not through:
            m.d.comb += wb.read_data.eq(reduce(or_, buffered))
        a = add_access(
            m,
            u,
            f,
            h,
            loaded=loaded,
            alone=lone,
            merges=snoop_writes,
            store_free=store_free,
            alias_clear=alias_clear,
            snoop_waits=snoop_waits,
        )
        joins = hand_over(
            m,
            u,
            f,
            undecided=a.undecided | p.from_old,
            head=a.head_misses,
            follower=a.load_hit | a.store_hit,
            stored=a.store_hit & f.hit if through else a.store_hit,
            bad_tag=a.bad_tag,
            bad_word=a.bad_word,
        )

        # --- third stage
        merge, gone, spoiled = Signal(), Signal(g.ways), Signal()
        act = add_action(
            m,
            u,
            agents=agents,
            snooped=SnoopedWrite(merge=merge, gone=gone, spoiled=spoiled),
            writes=fills.lands | a.store_hit,
        )
        with m.If(queue.empty):
            m.d.sync += lone.eq(0)
        with m.If(act.alone):
            m.d.sync += lone.eq(1)
        undecided = Signal(name="next_undecided")
        m.d.comb += undecided.eq(a.undecided | (p.undecided & ~act.decided))
        m.d.sync += [p.undecided.eq(undecided), p.holds.eq(undecided & ~joins)]

        # --- which fill slots the queue refers to
        for n in range(fills.count):
            youngest = Signal(range(queue.DEPTH), name=f"youngest_{n}")
            with m.If(fills.park[n]):
                m.d.sync += youngest.eq(p.old_at)
            # In the cycle after the pop, which is known late.
            m.d.sync += fills.release[n].eq(queue.pop & (youngest == queue.head_at) & ~fills.park[n])

        # --- words are written at one place: a beat, else a store
        snoop_data = None
        if not through:
            m.d.comb += fills.unread.eq(wb.unread)
        if coherent:
            snoop_data = (merge, self.snoop.req.payload.data, self.snoop.req.payload.strb)
        m.d.comb += [
            # A beat waits for the CPU to take it.
            fills.hold.eq((h.served & ~self.cpu.rsp.ready) | snoop_writes),
        ]
        writes_beat = beat.valid & ~snoop_writes  # a store is refused in any case
        arrays.write_word(
            m,
            Mux(writes_beat, beat.index, Mux(merge, t.index, p.index)),
            Mux(writes_beat, beat.word, p.word),
            Mux(fills.lands & ~snoop_writes, beat.way, 0) | Mux(merge, t.hits, Mux(a.stores, f.hits, 0)),
            Mux(writes_beat, beat.data, a.store_data),
            Mux(writes_beat, Const(-1, g.data_bytes), a.store_strb),
            snoop_data,
        )
        if g.parity:  # in place of a word
            arrays.parity.upset_byte(m, t.index, self.upset.word, self.upset.byte, Mux(self.upset.tag, 0, act.upset))
        if config.dcache.prefetcher:
            m.d.comb += [
                prefetcher.enable.eq(self.prefetch),
                prefetcher.trigger.eq(act.trigger),
                prefetcher.line.eq(t.line),
                prefetcher.slot_free.eq(fills.free_prefetch),
            ]
        m.d.comb += [
            # A store that is not noted yet may be in any row.
            self.stained.eq(self.state.of_row(self.state.stained, self.row) | t.dirties),
            self.space.eq(len(self.occupied) if through else wb.space),
            self.occupied.eq(wb.occupied),
            self.wb_done.eq(wb.done),
            self.wb_done.line.eq(wb.failed_line),
            self.slot_free.eq(fills.free_prefetch),
            self.filling.eq(fills.filling),
            self.idle.eq(~p.q_valid & queue.empty & ~(fills.filling | fills.held).any() & ~t.slow & ~t.follower),
        ]

        # --- coherency
        store_now = Signal()
        snoop_done, snoop_dirty, snoop_dropped = Signal(), Signal(), Signal()
        if coherent:
            store_to_memory = a.q_uncached & q.we & q.window
            m.d.comb += [
                # Only the address's set matters, and a store that is refused only delays the snoop.
                store_now.eq((p.from_q | p.from_head) & a.we & (g.set_of(snooping.aux.line) == p.index)),
                invalidator.line.eq(Mux(a.q_uncached, g.line_of(q.addr), p.line)),
                invalidator.want.eq(a.wants_store | store_to_memory),
                invalidator.note.eq(a.store_hit | (uncached.done & self.cpu.rsp.ready & store_to_memory)),
                invalidator.last.eq(Mux(p.from_head, head.meta[0], q.meta[0])),
                invalidator.flush.eq(self.b_waiting),
                store_free.eq(invalidator.free),
                alias_clear.eq(invalidator.free | ~store_to_memory),
                self.hold_b.eq(invalidator.busy),
            ]
            snooped = add_snooping(m, u, snooping)
            m.d.comb += [
                snoop_waits.eq(snooped.waits & (g.set_of(snooping.aux.line) == p.index)),
                merge.eq(snooped.merge),
                gone.eq(snooped.gone),
                spoiled.eq(snooped.spoiled),
                snoop_done.eq(snooped.done),
                snoop_dirty.eq(snooped.dirty),
                snoop_dropped.eq(snooped.dropped),
            ]

        # --- first stage
        read = Signal(data.StructLayout({"valid": 1, "index": g.index_bits, "word": g.word_bits, "way": g.ways}))
        if not through:  # else no line ever leaves for memory
            m.d.comb += read.eq(wb.read)
        grant = add_first_stage(
            m,
            p,
            g,
            arrays=arrays,
            cpu=self.cpu,
            queue=queue,
            agents=agents,
            walk_way=self.walk_way,
            ending=fills.end,
            read=read,
            store_now=store_now,
        )
        for b in range(g.banks):
            m.d.sync += reads[b].eq(Mux(grant & (g.bank_of(read.word) == b), read.way, 0))
        if not through:
            bad = Cat((bad & ways).any() for bad, ways in zip(arrays.bad_words, reads, strict=True))
            m.d.comb += [wb.read_grant.eq(grant), wb.read_bad.eq(bad.any())]

        add_records(
            m,
            CoreView(
                core=self,
                g=g,
                q=q,
                head=head,
                head_tag=queue.head_tag,
                head_primary=queue.head_primary,
                by_head=a.head_done,
                by_memory=(h.served | h.fails) & self.cpu.rsp.ready,
                by_q=p.from_q & (a.load_hit | a.store_hit | a.bad_tag),
                missed=~f.hit if through else Const(0),
                failed=h.fails,
                failed_lookup=a.bad_tag | a.bad_word,
                upset=act.upset,
                upset_line=t.line,
                loaded=queue.data,
                beat_data=beat.data,
                head_data=queue.head_data,
                uncached_start=uncached.start,
                uncached_done=uncached.done & self.cpu.rsp.ready,
                found_line=act.found_line,
                found_dirty=act.found_dirty,
                leaves=act.leaves,
                pushes=act.pushes,
                walking=act.walking,
                flash=act.flash,
                cleans=self.walk_command.op[0],
                allocate=act.allocate,
                alloc_line=t.line,
                alloc_cause=fills.alloc.cause,
                ends=act.ends,
                failed_fill=(t.slot & fills.error).any(),
                install=act.install,
                ending=act.ending,
                wb_done=wb.done,
                snoop_done=snoop_done,
                snoop_write=t.op == AuxOp.SNOOP_WRITE,
                snoop_line=t.line,
                snoop_dirty=snoop_dirty,
                snoop_dropped=snoop_dropped,
                snoop_source=self.snoop.req.payload.source if coherent else Const(0, 4),
            ),
        )
        return m
