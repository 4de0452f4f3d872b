# SPDX-License-Identifier: BSD-2-Clause
"""The I-cache as a block: read only, without any view of the D-cache; only invalidation and replacement remove a line."""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi.bus import AXI4Signature, Resp
from ..config import SocConfig
from ..pio.signature import CsrSignature
from ..probe import Kind, ProbeSignature
from .frontend import AxiFrontEnd
from .ifill import FetchFill
from .native import Geometry
from .ports import InvalidateSignature
from .replacement import replacement_policy
from .responses import ResponseBuffer

__all__ = ["ICache"]


class ICache(wiring.Component):
    """Set-associative instruction cache with one fill in flight and hits under it. See docs/icache.md.

    A fetch is cached when AxCACHE[3:2] is not 0 and its address lies in the memory window; any other beat is one access of
    its own on ``m_axi`` (ID 3), whose response, DECERR included, is passed on. Writes answer SLVERR.

    On a hit R is valid 2 cycles after the AR handshake; bursts and single beats run at one per cycle. On a miss AR is valid
    3 cycles after the fetch's AR handshake; the line is a WRAP burst from the missed beat (INCR from its start if it has more
    than 16 beats), and each beat is handed on in the cycle in which it comes. A line is installed one cycle after its last
    beat was received, one more if a lookup is under way; its victim is the first invalid way, else the policy's, and leaves the
    array one cycle after the fill was decided.

    *Invalidation.* From the edge at which a request is accepted on, no fetch gets a byte that was in the array, and a fill in
    flight for the line is dropped: it is not installed, and given to nobody but the beat that has waited for it since before.
    That beat's address handshake came before the request; serving it keeps a stream of invalidations from starving a fetch.
    One request per cycle is accepted, every second cycle while fetches come, and not in a cycle in which the line may hit.
    Who goes first in a cycle: installing a line, deciding a fill, evicting, invalidating, fetching; but an invalidation does
    not take two cycles in a row from a fetch.

    *Errors.* A beat that memory answered with an error answers SLVERR to the beat that waits for it; the line is not
    installed, ``error_status.fill`` is set, and the line's address is latched if the flag was clear. Errors of uncached
    fetches are passed on and not latched.

    Parameters
    ----------
    config : ``icache``, ``memory`` (the window) and ``data_width`` are looked at.

    Members
    -------
    s_axi : ``In(AXI4Signature(id 4, user 16))``; AxUSER is the source tag of the records.
    m_axi : ``Out(AXI4Signature(id 2))``: ID 0 fills, ID 3 uncached fetches; its write channels are silent.
    inv : ``In(InvalidateSignature)``.
    csr : ``In(CsrSignature("icache"))``. A cached beat counts once, when it is answered: as a hit if its first lookup found
        it in the array, else as a miss.
    probe_i_line, probe_fetch : records. ``IFILL_REQUEST`` is valid one cycle before AR; a dropped fill leaves no record at
        its end.

    Attributes for testbenches: ``tag[w]`` and ``data[w]`` are the memories ``tag_<w>`` and ``data_<w>`` of this module (one
    row per set; a row of data is the line, byte 0 in bits 7..0), ``valid[w]`` the signal ``valid_<w>`` (one bit per set) of
    way w. Tags are those of :class:`~rtl.cache.native.Geometry` for ``config.icache``: the line's number in the memory
    window without its set number. A line's valid bit falls one cycle after its invalidation was accepted.
    """

    def __init__(self, *, config: SocConfig):
        self._config = config
        # Geometry and FillUnit speak of "the cache" as config.dcache.
        self._own = dataclasses.replace(config, dcache=config.icache)
        g = self._g = Geometry(self._own)
        width = config.data_width
        super().__init__(
            {
                "s_axi": In(AXI4Signature(data_width=width, id_width=4, user_width=16)),
                "m_axi": Out(AXI4Signature(data_width=width, id_width=2)),
                "inv": In(InvalidateSignature()),
                "csr": In(CsrSignature("icache")),
                "probe_i_line": Out(ProbeSignature(width)),
                "probe_fetch": Out(ProbeSignature(width)),
            }
        )
        ways = range(g.ways)
        self.tag = [Memory(shape=g.tag_bits, depth=g.sets, init=[]) for _ in ways]
        self.data = [Memory(shape=g.line_bytes * 8, depth=g.sets, init=[]) for _ in ways]
        self.valid = [Signal(g.sets, name=f"valid_{w}") for w in ways]
        self._tag_read = [memory.read_port() for memory in self.tag]
        self._tag_write = [memory.write_port() for memory in self.tag]
        self._data_read = [memory.read_port() for memory in self.data]
        self._data_write = [memory.write_port() for memory in self.data]

    def elaborate(self, platform):
        m = Module()
        g = self._g
        ways = range(g.ways)
        for w in ways:
            m.submodules[f"tag_{w}"] = self.tag[w]
            m.submodules[f"data_{w}"] = self.data[w]
        m.submodules.frontend = frontend = AxiFrontEnd(data_width=g.data_width)
        m.submodules.fills = fills = FetchFill(config=self._own)
        connect(m, icache=flipped(self.s_axi), frontend=frontend.s_axi)
        connect(m, fills=fills.ar, icache=flipped(self.m_axi.ar))
        connect(m, fills=fills.r, icache=flipped(self.m_axi.r))
        m.d.comb += self.m_axi.b.ready.eq(1)
        m.submodules.responses = responses = ResponseBuffer(signature=frontend.cpu.signature)
        connect(m, frontend=frontend.cpu, responses=responses.requester)
        cpu, inv = flipped(responses.cache), self.inv.req
        policy = replacement_policy(self._config.icache)
        slot = fills.slot

        def set_of(line):
            return line[: g.index_bits]

        # --- first stage: one lookup per cycle, of a fetch or of a line to be invalidated
        q = Signal(
            data.StructLayout(
                {"addr": 32, "we": 1, "strb": g.data_bytes, "size": 3, "tag": 16, "meta": len(cpu.req.payload.meta), "cached": 1}
            )
        )
        q_valid, q_missed = Signal(), Signal()  # a fetch is inside; its first lookup did not find it
        q_owner = Signal()  # the fill in flight was made for q
        q_line, q_word = Signal(g.line_bits), Signal(g.word_bits)
        q_lookup = Signal()  # q is a cached fetch
        s1_fetch, s1_inv = Signal(), Signal()  # the second stage holds a lookup of q / of inv_line
        inv_line = Signal(g.line_bits)
        resolved = Signal()  # q is answered in this cycle
        ending = Signal()  # the fill's beats have all come
        allocate, evict = Signal(), Signal()
        m.d.comb += [
            q_line.eq(g.line_of(q.addr)),
            q_word.eq(q.addr[g.byte_bits : g.offset_bits]),
            q_lookup.eq(q_valid & q.cached & ~q.we),
            ending.eq(slot.active & slot.complete),
        ]

        incoming = cpu.req.payload
        inv_number = Signal(g.line_bits)
        inv_turn, inv_before = Signal(), Signal()
        same_line = Signal()  # a fetch that may hit in this cycle: the invalidation waits, or its record would come first
        inv_accept, accept, replay = Signal(), Signal(), Signal()
        m.d.comb += [
            inv_number.eq(g.line_of(inv.payload.addr)),
            same_line.eq(s1_fetch & q_lookup & (inv.payload.all | (q_line == inv_number))),
            replay.eq(q_lookup & ~s1_fetch & ~slot.active),
            inv_turn.eq(inv.valid & ~(inv_before & (cpu.req.valid | replay)) & ~ending),
            inv_accept.eq(inv_turn & ~same_line & ~allocate & ~evict),
            inv.ready.eq(inv_accept),
            cpu.req.ready.eq(~ending & ~inv_turn & (~q_valid | resolved)),
            accept.eq(cpu.req.valid & cpu.req.ready),
        ]
        inv_inside = Signal()  # a line outside the window is never here
        replay_go = Signal()
        line_0 = Signal(g.line_bits)
        m.d.comb += [
            inv_inside.eq(g.in_window(inv.payload.addr)),
            replay_go.eq(replay & ~ending & ~inv_turn),
            line_0.eq(Mux(inv_accept, inv_number, Mux(replay, q_line, g.line_of(incoming.addr)))),
        ]
        for w in ways:
            for port in (self._tag_read[w], self._data_read[w]):
                m.d.comb += [port.addr.eq(set_of(line_0)), port.en.eq(inv_accept | accept | replay_go)]
        m.d.sync += [
            s1_fetch.eq(accept | replay_go),
            s1_inv.eq(inv_accept & ~inv.payload.all & inv_inside),
            inv_line.eq(inv_number),
            inv_before.eq(inv_accept),
        ]
        with m.If(resolved):
            m.d.sync += q_valid.eq(0)
        with m.If(accept):
            m.d.sync += [
                q_valid.eq(1),
                q_missed.eq(0),
                q.addr.eq(incoming.addr),
                q.we.eq(incoming.we),
                q.strb.eq(incoming.strb),
                q.size.eq(incoming.size),
                q.tag.eq(incoming.tag),
                q.meta.eq(incoming.meta),
                q.cached.eq(incoming.cacheable & g.in_window(incoming.addr)),
            ]

        # --- second stage: tags against the line looked up, with the valid bits of now
        s1_line = Signal(g.line_bits)
        is_valid, hits, victim = Signal(g.ways), Signal(g.ways), Signal(g.ways)
        install = Signal()
        m.d.comb += [
            s1_line.eq(Mux(s1_inv, inv_line, q_line)),
            is_valid.eq(Cat(v.bit_select(set_of(s1_line), 1) for v in self.valid)),
            hits.eq(Cat(is_valid[w] & (self._tag_read[w].data == s1_line[g.index_bits :]) for w in ways)),
        ]
        # Nothing is looked up while a line is installed; a hit is one of the line that is looked up.
        chosen = policy.victim(m, set_of(Mux(install, slot.line, s1_line)))
        m.d.comb += victim.eq(Mux(is_valid.all(), chosen, ~is_valid & (is_valid + 1)))
        found = Const(0, g.line_bytes * 8)
        for w in ways:
            found = found | Mux(hits[w], self._data_read[w].data, 0)

        # --- the fetch: from the array, from the fill in flight, from the bus around the cache, or not at all
        hit, mine, arrives, kept, served, failed = (Signal() for _ in range(6))
        finish = Signal()
        asked = Signal()  # the uncached access is on its way
        uncached = Signal()
        word = Signal(g.data_width)
        m.d.comb += [
            hit.eq(s1_fetch & q_lookup & hits.any()),
            mine.eq(q_lookup & ~hit & slot.active & (slot.line == q_line) & (~slot.drop | q_owner)),
            arrives.eq(fills.beat.valid & (fills.beat.word == q_word)),
            kept.eq(slot.have.bit_select(q_word, 1)),
            served.eq(mine & (kept | (arrives & ~fills.beat.error))),
            failed.eq(mine & ~kept & arrives & fills.beat.error),
            uncached.eq(q_valid & ~q.cached & ~q.we),
            fills.direct.valid.eq(uncached & ~asked),
            fills.direct.payload.addr.eq(q.addr),
            fills.direct.payload.size.eq(q.size),
            resolved.eq(hit | served | failed | fills.direct_rsp.valid | (q_valid & q.we)),
            word.eq(Mux(kept, slot.data.word_select(q_word, g.data_width), fills.beat.data)),
            cpu.rsp.valid.eq(resolved),
            cpu.rsp.payload.we.eq(q.we),
            cpu.rsp.payload.meta.eq(q.meta),
            cpu.rsp.payload.data.eq(
                Mux(uncached, fills.direct_rsp.data, Mux(mine, word, found.word_select(q_word, g.data_width)))
            ),
            cpu.rsp.payload.resp.eq(Mux(uncached, fills.direct_rsp.resp, Mux(failed | q.we, Resp.SLVERR, Resp.OKAY))),
        ]
        with m.If(fills.direct.valid & fills.direct.ready):
            m.d.sync += asked.eq(1)
        with m.If(fills.direct_rsp.valid):
            m.d.sync += asked.eq(0)
        with m.If(s1_fetch & ~resolved):
            m.d.sync += q_missed.eq(1)

        # --- the fill: decided on a miss, its victim leaves one cycle later, installed when all beats are there
        evicting = Signal()  # the cycle after the decision
        victim_line = Signal(g.line_bits)
        victim_tag = Const(0, g.tag_bits)
        for w in ways:
            victim_tag = victim_tag | Mux(victim[w], self._tag_read[w].data, 0)
        m.d.comb += [
            allocate.eq(s1_fetch & q_lookup & ~hit & ~slot.active),
            fills.alloc.valid.eq(allocate),
            fills.alloc.line.eq(q_line),
            fills.alloc.word.eq(q_word),
            fills.alloc.way.eq(victim),
            fills.drop.eq(inv_accept & slot.active & (inv.payload.all | (inv_inside & (slot.line == inv_number)))),
            finish.eq(ending & ~s1_fetch & ~s1_inv),
            fills.finish.eq(finish),
            install.eq(finish & ~slot.drop & ~slot.error),
            evict.eq(evicting),
        ]
        m.d.sync += evicting.eq(allocate & (victim & is_valid).any())
        with m.If(allocate):
            m.d.sync += victim_line.eq(Cat(set_of(q_line), victim_tag))
        with m.If(allocate):
            m.d.sync += q_owner.eq(1)
        with m.Elif(resolved):
            m.d.sync += q_owner.eq(0)

        # --- arrays
        set_mask = Signal(g.sets)
        m.d.comb += set_mask.eq(1 << set_of(Mux(s1_inv, inv_line, slot.line)))
        for w in ways:
            m.d.comb += [
                self._tag_write[w].addr.eq(set_of(slot.line)),
                self._tag_write[w].data.eq(slot.line[g.index_bits :]),
                self._tag_write[w].en.eq(install & slot.way[w]),
                self._data_write[w].addr.eq(set_of(slot.line)),
                self._data_write[w].data.eq(slot.data),
                self._data_write[w].en.eq(install & slot.way[w]),
            ]
            with m.If(inv_accept & inv.payload.all):
                m.d.sync += self.valid[w].eq(0)
            with m.Elif((s1_inv & hits[w]) | (evict & slot.way[w])):
                m.d.sync += self.valid[w].eq(self.valid[w] & ~set_mask)
            with m.Elif(install & slot.way[w]):
                m.d.sync += self.valid[w].eq(self.valid[w] | set_mask)
        policy.touch(m, Mux(install, slot.way, hits), install | hit, install)

        self._registers(m, fills, resolved & q_lookup, hit & ~q_missed)

        # --- probe: the arbitration above leaves at most one record per channel and cycle
        way_number = 0
        for w in range(1, g.ways):
            way_number = way_number | Mux(slot.way[w], w, 0)
        line = self.probe_i_line
        m.d.comb += line.valid.eq(inv_accept | evict | allocate | install | (finish & slot.error & ~slot.drop))
        with m.If(inv_accept):
            m.d.comb += [
                line.record.kind.eq(Kind.IINVALIDATE),
                line.record.addr.eq(Mux(inv.payload.all, 0, inv.payload.addr & ~Const(g.line_bytes - 1, 32))),
                line.record.aux.eq(Cat(inv.payload.all, inv.payload.cause)),
            ]
        with m.Elif(evict):
            m.d.comb += [line.record.kind.eq(Kind.IEVICT), line.record.addr.eq(g.address_of(victim_line))]
        with m.Elif(allocate):
            m.d.comb += [line.record.kind.eq(Kind.IFILL_REQUEST), line.record.addr.eq(g.address_of(q_line))]
        with m.Else():
            m.d.comb += [
                line.record.kind.eq(Kind.IFILL_INSTALL),
                line.record.addr.eq(g.address_of(slot.line)),
                line.record.aux.eq(Mux(install, way_number << 8, 0)),
                line.record.flags.eq(slot.error),
            ]
        fetch = self.probe_fetch
        m.d.comb += [
            fetch.valid.eq(resolved & ~q.we),
            fetch.record.kind.eq(Kind.FETCH),
            fetch.record.flags.eq(Cat(cpu.rsp.payload.resp.as_value()[1], hit & ~q_missed, uncached)),
            fetch.record.tag.eq(q.tag),
            fetch.record.addr.eq(q.addr & ~Const(g.data_bytes - 1, 32)),
            fetch.record.aux.eq(q.strb),
            fetch.record.data.eq(cpu.rsp.payload.data),
        ]
        return m

    def _registers(self, m, fills, answered, hit):
        """Counted events and the latched error."""
        csr = self.csr
        latched = Signal(32)
        error, noted = Signal(), Signal()  # the flag of an error noted in the cycle before is not visible yet
        m.d.comb += [
            csr.hits_incr.eq(answered & hit),
            csr.misses_incr.eq(answered & ~hit),
            csr.error_addr.eq(latched),
            error.eq(fills.beat.valid & fills.beat.error),
            csr.error_status_fill_set.eq(error),
        ]
        m.d.sync += noted.eq(error)
        with m.If(error & ~csr.error_status_fill & ~noted):
            m.d.sync += latched.eq(self._g.address_of(fills.slot.line))
