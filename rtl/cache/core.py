# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's pipeline: lookup, replacement, and what each operation does to a line.

Two stages. In the first the address of one operation (a CPU beat, or one operation of another agent) goes to the tag and
data memories of all ways; in the second the tags are compared and the operation is performed or refused, never half of it.
A refused CPU beat stays in the request register ``q`` and is looked up again when what blocked it may be gone.

Hazards, and what resolves each:

- *A store is in the second stage while a beat that reads the same word is in the first*: the memory gives old bytes; the
  register ``fwd`` holds the store's, and they are merged into the word in the next cycle.
- *The same, but a whole line is read* (eviction, maintenance, snoop): another agent's operation on that set starts
  a cycle later, and the CPU's next beat waits for it; an eviction that a CPU miss needs is refused once.
- *A fill is installed*: it takes the array for a cycle (nothing is in either stage), so a lookup sees tags and slots of
  one moment.
- *A line leaves the array while a lookup of it is in the first stage*: valid and dirty bits are flip-flops that are read
  in the second stage.
- *A line is in a fill slot*: loads are served from its beats, stores wait until it is installed (a bus error in a later
  beat must not lose them). Only one slot fills a set at a time, so a victim is never chosen twice.
- *A line is in the write-back buffer*: it is not fetched, and not pushed again, before memory has answered; nor is it
  accessed uncached.
- *The buffer is full*: an operation that needs an entry is refused. The other agents ask again, the CPU beat waits for an
  entry.
- *Other agents against the CPU*: they come first, but never take two slots in a row while the CPU wants one.
- *A snooped write is under way* (coherency): operations on its set are refused until the release, but for snoop reads.
"""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.bus import AXI4LiteSignature, AXI4Signature, Resp
from ..config import SocConfig
from ..probe import Cause, ProbeSignature
from .arrays import Arrays
from .coherent import SnoopPort, StoreInvalidator
from .fill import DEMAND, PREFETCH, FillUnit
from .native import AuxOp, AuxSignature, Geometry, NativeSignature
from .plru import TreePlru
from .ports import InvalidateSignature, MaintOp, SnoopSignature
from .prefetch import NextLinePrefetcher
from .records import CoreView, add_records
from .uncached import UncachedUnit
from .writeback import WriteBackBuffer

__all__ = ["DCacheCore"]


class DCacheCore(wiring.Component):
    """Arrays and pipeline, with the fill slots, the write-back buffer and the uncached unit.

    A hit is answered one cycle after its request, one per cycle, loads and stores mixed. A load that misses is answered
    in the cycle in which its beat arrives from memory.

    Members
    -------
    cpu : native port. m_axi, m_axil : memory and registers.
    walk, command, inject : pipeline use by the maintenance walker, ``inject_cmd`` and the injector, in this priority.
    walk_command, walk_more, visited, drop_fills : the walker's command and what its visits find.
    valid_sets, dirty_sets : per set, any way. space, occupied, wb_done : write-back buffer. fills_dropping : a dropped
        fill is in flight.
    command_buffered, command_filling : about the line of ``command``. slot_free : the prefetch slot is free.
    prefetch : the next-line prefetcher is on.
    events : one cycle each, for counters and the error registers.
    snoop, i_inv, hold_b, b_waiting : only with coherency.

    Attributes for testbenches: ``tag[w]`` and ``data[w]`` are the memories (one row per set), ``valid[w]`` and
    ``dirty[w]`` the signals (one bit per set) of way w.
    """

    def __init__(self, *, config: SocConfig, meta_width: int = 5):
        g = self._g = Geometry(config)
        self._config = config
        entries = config.dcache.write_buffer_lines
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
        members = {
            "cpu": In(NativeSignature(data_width=g.data_width, meta_width=meta_width)),
            "m_axi": Out(AXI4Signature(data_width=g.data_width, id_width=2)),
            "m_axil": Out(AXI4LiteSignature(data_width=32, user_width=16)),
            "walk": In(aux),
            "command": In(aux),
            "inject": In(aux),
            "walk_command": In(walk_command),
            "walk_more": Out(1),
            "visited": Out(data.StructLayout({"addr": 32, "present": 1, "dirty": 1})),
            "drop_fills": In(1),
            "valid_sets": Out(g.sets),
            "dirty_sets": Out(g.sets),
            "space": Out(range(entries + 1)),
            "occupied": Out(entries),
            "wb_done": Out(wb_done),
            "fills_dropping": Out(1),
            "command_buffered": Out(1),
            "command_filling": Out(1),
            "slot_free": Out(1),
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
        arrays = self._arrays = Arrays(g, prefetcher=config.dcache.prefetcher)
        self.tag, self.data, self.valid, self.dirty = arrays.tag, arrays.data, arrays.valid, arrays.dirty

    def elaborate(self, platform):
        m = Module()
        g, config, coherent = self._g, self._config, self._config.coherent
        ways = range(g.ways)
        arrays = self._arrays
        m.submodules.fills = fills = FillUnit(config=config)
        m.submodules.writeback = wb = WriteBackBuffer(config=config)
        m.submodules.uncached = uncached = UncachedUnit(config=config)
        plru = TreePlru(g.sets, g.ways)
        slots = [fills.slots[n] for n in range(2)]
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

        def set_of(line):
            return line[: g.index_bits]

        # ------------------------------------------------------------------ first stage: who uses the arrays
        incoming = self.cpu.req.payload
        q = Signal(
            data.StructLayout(
                {
                    "addr": 32,
                    "we": 1,
                    "data": g.data_width,
                    "strb": g.data_bytes,
                    "size": 3,
                    "tag": 16,
                    "meta": self.cpu.signature.meta_width,
                    "cached": 1,
                    "window": 1,
                    "empty": 1,  # a write without strobes: nothing to do
                }
            )
        )
        q_valid, q_missed, q_needs_entry = Signal(), Signal(), Signal()
        q_line, q_word = Signal(g.line_bits), Signal(g.word_bits)
        m.d.comb += [q_line.eq(g.line_of(q.addr)), q_word.eq(q.addr[g.byte_bits : g.offset_bits])]
        q_lookup = Signal()  # q is a cached access
        m.d.comb += q_lookup.eq(q_valid & q.cached & ~q.empty)
        resolved = Signal()  # q is answered in this cycle

        s1_valid, s1_cpu = Signal(), Signal()  # second stage: occupied; by a lookup of q
        s1_line = Signal(g.line_bits)
        s1_op = Signal(AuxOp)
        blocked_valid = Signal()  # coherency: operations on this set are refused
        blocked_line = Signal(g.line_bits)
        snoop_write_now = Signal()  # a snooped write may change the array in this cycle

        agents = {"walk": self.walk, "command": self.command, "inject": self.inject}
        if config.dcache.prefetcher:
            m.submodules.prefetcher = prefetcher = NextLinePrefetcher(config=config)
            agents["prefetch"] = prefetcher.aux
        if coherent:
            m.submodules.snooping = snooping = SnoopPort(config=config)
            connect(m, core=flipped(self.snoop), snooping=snooping.snoop)
            m.d.comb += [blocked_valid.eq(snooping.blocked), blocked_line.eq(snooping.blocked_line)]
            agents = {"snoop": snooping.aux} | agents
        names = list(agents)
        s1_who = Signal(len(names))

        finishing = Signal(2)  # slots whose beats have all come
        m.d.comb += finishing.eq(Cat(slot.active & slot.complete for slot in slots))
        array_taken = Signal()
        m.d.comb += array_taken.eq(finishing.any() | snoop_write_now)

        wants = Signal(len(names))
        pick = Signal(len(names))
        aux_line, aux_op = Signal(g.line_bits), Signal(AuxOp)
        aux_turn, aux_go, aux_before = Signal(), Signal(), Signal()  # an agent's turn; it starts; it started last
        store_now = Signal()  # a store may change the set of q in this cycle
        m.d.comb += [wants.eq(Cat(agent.valid for agent in agents.values())), pick.eq(wants & -wants)]
        for n, agent in enumerate(agents.values()):
            with m.If(pick[n]):
                m.d.comb += [aux_line.eq(agent.line), aux_op.eq(agent.op)]
            m.d.comb += agent.grant.eq(aux_go & pick[n])

        replay = Signal()  # q is looked up again
        fill_in_set = Cat(slot.active & (set_of(slot.line) == set_of(q_line)) for slot in slots).any()
        m.d.comb += [
            replay.eq(
                q_lookup
                & ~s1_cpu
                & ~fill_in_set
                & ~slots[DEMAND].active
                & ~wb.match(q_line).any()
                & ~(q_needs_entry & (wb.space == 0))
                & ~(blocked_valid & (set_of(blocked_line) == set_of(q_line)))
            ),
            store_now.eq(s1_cpu & q.we & (set_of(q_line) == set_of(aux_line))),
            aux_turn.eq(wants.any() & ~array_taken & ~(aux_before & (self.cpu.req.valid | replay))),
            aux_go.eq(aux_turn & ~store_now),
            # A slot that an agent cannot use yet stays empty: stores without a gap would keep it out for ever.
            self.cpu.req.ready.eq(~array_taken & ~aux_turn & (~q_valid | resolved)),
            self.cpu.pending.eq(q_valid),
        ]
        accept, replay_go = Signal(), Signal()
        m.d.comb += [
            accept.eq(self.cpu.req.valid & self.cpu.req.ready),
            replay_go.eq(replay & ~array_taken & ~aux_turn),
        ]
        line_0 = Signal(g.line_bits)  # looked up
        m.d.comb += line_0.eq(Mux(aux_go, aux_line, Mux(replay, q_line, g.line_of(incoming.addr))))
        arrays.read(m, set_of(line_0), aux_go | accept | replay_go)
        m.d.sync += [
            s1_valid.eq(aux_go | accept | replay_go),
            s1_cpu.eq(accept | replay_go),
            s1_line.eq(line_0),
            s1_op.eq(Mux(aux_go, aux_op, AuxOp.NONE)),
            s1_who.eq(Mux(aux_go, pick, 0)),
            aux_before.eq(aux_go),
        ]
        with m.If(resolved):
            m.d.sync += q_valid.eq(0)
        with m.If(accept):
            m.d.sync += [
                q_valid.eq(1),
                q.addr.eq(incoming.addr),
                q.we.eq(incoming.we),
                q.data.eq(incoming.data),
                q.strb.eq(incoming.strb),
                q.size.eq(incoming.size),
                q.tag.eq(incoming.tag),
                q.meta.eq(incoming.meta),
                q.window.eq(g.in_window(incoming.addr)),
                q.cached.eq(incoming.cacheable & g.in_window(incoming.addr)),
                q.empty.eq(incoming.we & ~incoming.strb.any() & g.in_window(incoming.addr)),
                q_missed.eq(0),
            ]

        # ------------------------------------------------------------------ second stage: what was found
        s1_index, s1_tag = set_of(s1_line), s1_line[g.index_bits :]
        tags = arrays.tags
        is_valid, is_dirty, hits = Signal(g.ways), Signal(g.ways), Signal(g.ways)
        hit = Signal()
        m.d.comb += [
            is_valid.eq(Cat(v.bit_select(s1_index, 1) for v in self.valid)),
            is_dirty.eq(Cat(d.bit_select(s1_index, 1) for d in self.dirty) & is_valid),
            hits.eq(Cat(is_valid[w] & (tags[w] == s1_tag) for w in ways)),
            hit.eq(hits.any()),
        ]
        refused = Signal()  # by a snooped write under way
        m.d.comb += refused.eq(blocked_valid & (set_of(blocked_line) == s1_index))

        def is_op(*ops):
            return Cat(s1_op == op for op in ops).any()

        walking = is_op(AuxOp.WALK_LINE, AuxOp.WALK_SET)
        walk_op = self.walk_command.op
        cleans, invalidates = walk_op[0], walk_op[1]

        # which way the operation concerns
        victim, tree_way = Signal(g.ways), Signal(range(max(g.ways, 2)))
        covered = Signal(g.ways)  # of a set visit
        selected = Signal(g.ways)
        allocating = Signal()  # a fill is wanted
        m.d.comb += [
            tree_way.eq(plru.victim(s1_index)),
            victim.eq(Mux(is_valid.all(), 1 << tree_way, ~is_valid & (is_valid + 1))),
            covered.eq(
                Cat(
                    is_valid[w]
                    & (is_dirty[w] | ~self.walk_command.dirty_only)
                    & (Cat(s1_index, tags[w]) >= self.walk_command.first)
                    & (Cat(s1_index, tags[w]) <= self.walk_command.last)
                    for w in ways
                )
            ),
            allocating.eq(~hit & ((s1_cpu & q_lookup) | (s1_op == AuxOp.PREFETCH))),
            selected.eq(hits),
        ]
        with m.If(allocating):
            m.d.comb += selected.eq(victim)
        with m.Elif(s1_op == AuxOp.WALK_SET):
            m.d.comb += selected.eq(covered & -covered)
        with m.Elif(s1_op == AuxOp.EVICT_SET):
            m.d.comb += selected.eq(is_dirty & -is_dirty)
        found, found_dirty = Signal(), Signal()
        found_line = Signal(g.line_bits)
        found_data = Signal(g.line_bytes * 8)
        m.d.comb += [found.eq((selected & is_valid).any()), found_dirty.eq((selected & is_dirty).any())]
        found_tag = Const(0, g.tag_bits)
        lines = Const(0, g.line_bytes * 8)
        for w in ways:
            found_tag = found_tag | Mux(selected[w], tags[w], 0)
            lines = lines | Mux(selected[w], arrays.lines[w], 0)
        m.d.comb += [found_line.eq(Cat(s1_index, found_tag)), found_data.eq(lines)]

        # may it be done?
        fwd_valid = Signal()  # the store of the cycle before
        fwd_index, fwd_way, fwd_word = Signal(g.index_bits), Signal(g.ways), Signal(g.word_bits)
        fwd_data, fwd_strb = Signal(g.data_width), Signal(g.data_bytes)
        fwd_here = Signal()
        needs_entry, entry_ok, allowed = Signal(), Signal(), Signal()
        m.d.comb += [
            fwd_here.eq(fwd_valid & (fwd_index == s1_index) & (fwd_way & selected).any()),
            needs_entry.eq(
                found_dirty & (allocating | (walking & cleans) | is_op(AuxOp.EVICT_LINE, AuxOp.EVICT_SET, AuxOp.CLEAN_LINE))
            ),
            entry_ok.eq((wb.space != 0) & ~wb.match(found_line).any() & ~fwd_here),
            allowed.eq(~refused & (~needs_entry | entry_ok)),
        ]
        slot_needed = Mux(s1_cpu, ~slots[DEMAND].active, ~slots[PREFETCH].active)
        set_is_filling = Cat(slot.active & (set_of(slot.line) == s1_index) for slot in slots).any()
        allocate = Signal()
        m.d.comb += allocate.eq(allocating & allowed & slot_needed & ~set_is_filling & ~wb.match(s1_line).any())

        # ------------------------------------------------------------------ what it does to the line
        performed = Signal()  # an operation of another agent
        leaves, pushes = Signal(), Signal()
        m.d.comb += [
            performed.eq(allowed & (walking | is_op(AuxOp.EVICT_LINE, AuxOp.EVICT_SET, AuxOp.CLEAN_LINE))),
            leaves.eq(found & (allocate | (performed & ((walking & invalidates) | is_op(AuxOp.EVICT_LINE, AuxOp.EVICT_SET))))),
            pushes.eq(needs_entry & (allocate | performed)),
            wb.push.valid.eq(pushes),
            wb.push.line.eq(found_line),
            wb.push.data.eq(found_data),
            fills.alloc.valid.eq(allocate),
            fills.alloc.slot.eq(Mux(s1_cpu, DEMAND, PREFETCH)),
            fills.alloc.line.eq(s1_line),
            fills.alloc.word.eq(Mux(s1_cpu, q_word, 0)),
            fills.alloc.way.eq(victim),
            fills.alloc.cause.eq(Mux(s1_cpu, Cause.DEMAND, Cause.PREFETCH)),
            self.walk_more.eq((s1_op == AuxOp.WALK_SET) & (covered & (covered - 1))[: g.ways].any()),
            self.visited.addr.eq(g.address_of(Mux(s1_op == AuxOp.WALK_SET, found_line, s1_line))),
            self.visited.present.eq(found),
            self.visited.dirty.eq(found_dirty),
        ]
        for n, (name, agent) in enumerate(agents.items()):
            fine = performed | (s1_op == AuxOp.FLASH)
            if name in ("command", "prefetch"):
                fine = fine | ((s1_op == AuxOp.PREFETCH) & (hit | allocate | Const(name == "prefetch")))
            if name != "snoop":
                m.d.comb += [agent.done.eq(s1_who[n] & fine), agent.retry.eq(s1_who[n] & ~fine)]
        flash = Signal()
        m.d.comb += flash.eq(s1_op == AuxOp.FLASH)

        # ------------------------------------------------------------------ the CPU beat
        load_hit, store_hit = Signal(), Signal()
        store_free = Signal(init=1)  # coherency: the invalidation of the I-cache can be noted
        ours = s1_cpu & q_lookup & hit & ~refused
        m.d.comb += [load_hit.eq(ours & ~q.we), store_hit.eq(ours & q.we & store_free)]
        hit_word = Signal(g.data_width)
        word_now = found_data.word_select(q_word, g.data_width)
        forward = Mux(fwd_here & (fwd_word == q_word), fwd_strb, 0)
        for byte in range(g.data_bytes):
            m.d.comb += hit_word.word_select(byte, 8).eq(
                Mux(forward[byte], fwd_data.word_select(byte, 8), word_now.word_select(byte, 8))
            )
        m.d.sync += [
            fwd_valid.eq(store_hit),
            fwd_index.eq(s1_index),
            fwd_way.eq(hits),
            fwd_word.eq(q_word),
            fwd_data.eq(q.data),
            fwd_strb.eq(q.strb),
        ]

        # served by a fill in flight
        mine = Signal(2)
        served, failed = Signal(2), Signal()
        fill_word = Signal(g.data_width)
        beat = fills.beat
        for n, slot in enumerate(slots):
            arrives = beat.valid & (beat.slot == n)
            kept = slot.have.bit_select(q_word, 1)
            m.d.comb += [
                mine[n].eq(q_lookup & slot.active & ~slot.drop & (slot.line == q_line)),
                served[n].eq(mine[n] & ~q.we & (kept | (arrives & ~beat.error & (beat.word == q_word)))),
            ]
            with m.If(mine[n]):
                m.d.comb += fill_word.eq(Mux(kept, slot.data.word_select(q_word, g.data_width), beat.data))
            if n == DEMAND:
                # A prefetch's error is nobody's: the beat waits until the slot is free and fetches the line itself.
                m.d.comb += failed.eq(mine[n] & ~served[n] & (slot.error | (arrives & beat.error)))
        first_wait = Signal()  # the first access to a prefetch in flight
        m.d.comb += [
            first_wait.eq(mine[PREFETCH] & ~slots[PREFETCH].used),
            fills.use.eq(Cat(Const(0, 1), first_wait)),
        ]

        # uncached
        q_uncached = Signal()
        alias_clear = Signal(init=1)
        m.d.comb += [
            q_uncached.eq(q_valid & ~q.cached & ~q.empty),
            uncached.start.eq(q_uncached & uncached.idle & ~wb.match(q_line).any() & alias_clear),
            uncached.request.addr.eq(q.addr),
            uncached.request.we.eq(q.we),
            uncached.request.data.eq(q.data),
            uncached.request.strb.eq(q.strb),
            uncached.request.size.eq(q.size),
            uncached.request.tag.eq(q.tag),
        ]
        rsp = self.cpu.rsp
        m.d.comb += [
            resolved.eq(load_hit | store_hit | served.any() | failed | uncached.done | (q_valid & q.empty)),
            rsp.valid.eq(resolved),
            rsp.we.eq(q.we),
            rsp.meta.eq(q.meta),
            rsp.data.eq(Mux(uncached.done, uncached.data, Mux(served.any(), fill_word, hit_word))),
            rsp.resp.eq(Mux(uncached.done, uncached.resp, Mux(failed, Resp.SLVERR, Resp.OKAY))),
        ]
        with m.If(s1_cpu & ~resolved):
            m.d.sync += [q_missed.eq(1), q_needs_entry.eq(needs_entry & ~entry_ok)]

        # ------------------------------------------------------------------ installing fills
        finish = Signal(2)
        ending = Signal(slots[0].shape())
        install = Signal()
        m.d.comb += [
            finish.eq(Mux(s1_valid, 0, finishing & -finishing)),
            ending.eq(Mux(finishing[DEMAND], slots[DEMAND], slots[PREFETCH])),
            install.eq(finish.any() & ~ending.drop & ~ending.error),
            fills.finish.eq(finish),
        ]
        for n, slot in enumerate(slots):
            covers = self.walk_command.all | ((slot.line >= self.walk_command.first) & (slot.line <= self.walk_command.last))
            m.d.comb += fills.drop[n].eq(self.drop_fills & slot.active & covers)
        m.d.comb += self.fills_dropping.eq(Cat(slot.active & slot.drop for slot in slots).any())

        # ------------------------------------------------------------------ arrays: one change per cycle
        merge = Signal()  # a snooped write into a dirty line
        gone = Signal(g.ways)  # clean lines that a snooped write drops
        written = Signal(g.line_bytes * 8)
        write_bytes = Signal(g.line_bytes)
        was_prefetched, used_prefetch = Signal(g.ways), Signal(g.ways)
        m.d.comb += [
            written.eq(Mux(install, ending.data, q.data.replicate(g.words))),
            write_bytes.eq(q.strb << (q_word << g.byte_bits)),
            was_prefetched.eq(Cat(bits.bit_select(s1_index, 1) for bits in arrays.prefetched)),
            used_prefetch.eq(Mux(load_hit | store_hit, hits & was_prefetched, 0)),
        ]
        arrays.change(
            m,
            line=Mux(install, ending.line, s1_line),
            install=Mux(install, ending.way, 0),
            fresh=(ending.cause == Cause.PREFETCH) & ~ending.used,
            store=Mux(store_hit | merge, hits, 0),
            drop=Mux(leaves, selected, gone),
            clean=Mux(pushes, selected, 0),
            used=used_prefetch,
            flash=flash,
            flash_keeps_dirty=cleans,
            data=written,
            strobes=write_bytes,
        )
        m.d.comb += [self.valid_sets.eq(arrays.any(arrays.valid)), self.dirty_sets.eq(arrays.any(arrays.dirty))]
        # A miss counts as a use when its way is chosen, not when the fill is installed: the order of uses is the program's.
        plru.touch(m, s1_index, Mux(allocate, victim, hits), allocate | load_hit | store_hit)
        if config.dcache.prefetcher:
            m.d.comb += [
                prefetcher.enable.eq(self.prefetch),
                prefetcher.trigger.eq((allocate & s1_cpu) | used_prefetch.any() | first_wait),
                prefetcher.line.eq(q_line),
                prefetcher.slot_free.eq(~slots[PREFETCH].active),
            ]
        m.d.comb += [
            self.space.eq(wb.space),
            self.occupied.eq(wb.occupied),
            self.wb_done.eq(wb.done),
            self.command_buffered.eq(wb.match(self.command.line).any()),
            self.command_filling.eq(Cat(slot.active & (slot.line == self.command.line) for slot in slots).any()),
            self.slot_free.eq(~slots[PREFETCH].active),
        ]

        # ------------------------------------------------------------------ coherency
        snoop_done, snoop_dirty, snoop_dropped = Signal(), Signal(), Signal()
        if coherent:
            request = self.snoop.req.payload
            buffered = Signal(config.dcache.write_buffer_lines)
            is_write = s1_op == AuxOp.SNOOP_WRITE
            in_slot = Cat(slot.active & (slot.line == s1_line) for slot in slots)
            array_dirty = (hits & is_dirty).any()
            m.d.comb += [
                buffered.eq(wb.match(s1_line)),
                wb.peek_index.eq(sum(Mux(buffered[n], n, 0) for n in range(1, len(buffered))) if len(buffered) > 1 else 0),
                # A write must not be overtaken by an older write-back of its line.
                snoop_done.eq((s1_op == AuxOp.SNOOP_READ) | (is_write & ~buffered.any())),
                snoop_dirty.eq(array_dirty | buffered.any()),
                snoop_dropped.eq(is_write & ((hits & ~is_dirty).any() | (in_slot & Cat(~slot.drop for slot in slots)).any())),
                snoop_write_now.eq(is_write),
                snooping.dirty.eq(snoop_dirty),
                snooping.data.eq(Mux(array_dirty, found_data, wb.peek_data)),
                snooping.aux.done.eq(snoop_done),
                snooping.aux.retry.eq(is_write & ~snoop_done),
                merge.eq(is_write & snoop_done & array_dirty),
            ]
            with m.If(is_write & snoop_done):
                m.d.comb += [gone.eq(hits & ~is_dirty), written.eq(request.data), write_bytes.eq(request.strb)]
            for n in range(2):
                with m.If(is_write & snoop_done & in_slot[n]):
                    m.d.comb += fills.drop[n].eq(1)

            m.submodules.invalidator = invalidator = StoreInvalidator(config=config)
            connect(m, core=flipped(self.i_inv), invalidator=invalidator.inv)
            store_to_memory = q_valid & q.we & q.window & ~q.empty
            m.d.comb += [
                invalidator.line.eq(q_line),
                invalidator.want.eq(store_to_memory),
                invalidator.note.eq(store_hit | (uncached.done & store_to_memory)),
                invalidator.last.eq(q.meta[0]),
                invalidator.flush.eq(self.b_waiting),
                store_free.eq(invalidator.free),
                alias_clear.eq(invalidator.free | ~store_to_memory),
                self.hold_b.eq(invalidator.busy),
            ]

        add_records(
            m,
            CoreView(
                core=self,
                g=g,
                q=q,
                resolved=resolved,
                failed=failed,
                hit=(load_hit | store_hit) & ~q_missed,
                uncached_start=uncached.start,
                uncached_done=uncached.done,
                is_cached=q_lookup,
                found_line=found_line,
                found_dirty=found_dirty,
                leaves=leaves,
                pushes=pushes,
                walking=walking,
                flash=flash,
                cleans=cleans,
                allocate=allocate,
                alloc_line=s1_line,
                alloc_cause=fills.alloc.cause,
                finish=finish,
                install=install,
                ending=ending,
                wb_done=wb.done,
                snoop_done=snoop_done,
                snoop_write=s1_op == AuxOp.SNOOP_WRITE,
                snoop_line=s1_line,
                snoop_dirty=snoop_dirty,
                snoop_dropped=snoop_dropped,
                snoop_source=self.snoop.req.payload.source if coherent else Const(0, 4),
            ),
        )
        demand_end = finish[DEMAND]
        m.d.comb += [
            self.events.hit.eq((load_hit | store_hit) & ~q_missed),
            self.events.miss.eq(resolved & q_lookup & ~self.events.hit),
            self.events.evict.eq(leaves & ~walking),
            self.events.writeback.eq(pushes),
            self.events.prefetched.eq(install & finish[PREFETCH]),
            self.events.prefetch_error.eq(finish[PREFETCH] & ending.error),
            self.events.fill_error.eq(demand_end & ending.error),
            self.events.fill_line.eq(ending.line),
            self.events.wb_error.eq(wb.done.valid & wb.done.error),
            self.events.wb_line.eq(wb.done.line),
        ]
        return m
