# SPDX-License-Identifier: BSD-2-Clause
"""The signals that the D-cache's two pipeline stages share, and the first stage: who uses the arrays next."""

from collections.abc import Mapping
from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data

from .arrays import Arrays
from .completion import CompletionQueue
from .native import AuxOp, Geometry, NativeSignature

__all__ = ["Pipeline", "add_first_stage"]


class Pipeline:
    """Registers of the pipeline, and what the second stage tells the first; a bag of signals with names in the owner's module.

    ``q`` holds the CPU's newest access until it has been performed or parked (``q_leaves``). The second stage holds one
    operation: a lookup of ``q`` (``from_q``), of the completion queue's head (``from_head``), or ``op`` of the agent ``who``.
    """

    def __init__(self, g: Geometry, *, meta_width: int, agents: int, slots: int):
        self.q = Signal(
            data.StructLayout(
                {
                    "addr": 32,
                    "we": 1,
                    "data": g.data_width,
                    "strb": g.data_bytes,
                    "size": 3,
                    "tag": 16,
                    "meta": meta_width,
                    "cached": 1,
                    "window": 1,
                    "empty": 1,  # a write without strobes: nothing to do
                }
            ),
            name="q",
        )
        self.q_valid = Signal(name="q_valid")
        self.q_leaves = Signal(name="q_leaves")
        self.from_q, self.from_head = Signal(name="from_q"), Signal(name="from_head")
        self.line, self.word = Signal(g.line_bits, name="line"), Signal(g.word_bits, name="word")
        self.op = Signal(AuxOp, name="op")
        self.who = Signal(agents, name="who")
        self.way = Signal(g.ways, name="way")  # of WALK_WAY
        self.slot = Signal(slots, name="slot")  # of INSTALL
        self.busy = Signal(name="busy")  # q waits for an uncached access
        self.head_asks = Signal(name="head_asks")  # the queue's head is to be looked up


def add_first_stage(
    m: Module,
    p: Pipeline,
    g: Geometry,
    *,
    arrays: Arrays,
    cpu: NativeSignature,
    queue: CompletionQueue,
    agents: Mapping[str, Any],
    walk_way: Signal,
    finishing: Signal,
    read: Any,
    store_now: Signal,
) -> Signal:
    """Adds the choice of the next operation; returns ``grant``: the word that ``read`` (the write-back buffer) wants is read.

    ``agents`` come before the CPU, in their order, but never take two turns in a row while it wants one. The head of the queue
    comes before ``q``, that before a new access. A bank that a load and the write-back buffer want at once goes to each in turn,
    but a load that was refused before (it most likely waits for what the buffer is doing) does not delay the buffer.
    ``store_now``: a store may change the set in the second stage, so a whole line cannot be read from it.
    """
    names = list(agents)
    wants, pick = Signal(len(names), name="wants"), Signal(len(names), name="pick")
    aux_line, aux_op = Signal(g.line_bits, name="aux_line"), Signal(AuxOp, name="aux_op")
    turn, go, before = Signal(name="aux_turn"), Signal(name="aux_go"), Signal(name="aux_before")
    incoming = cpu.req.payload

    replay, newest = Signal(name="replay"), Signal(name="newest")
    cpu_wants, cpu_goes = Signal(name="cpu_wants"), Signal(name="cpu_goes")
    m.d.comb += [
        replay.eq(p.q_valid & ~p.from_q & ~p.busy),
        newest.eq((~p.q_valid | p.q_leaves) & ~p.head_asks & ~replay),
        cpu_wants.eq(cpu.req.valid | replay | p.head_asks),
    ]

    # --- the agents
    for n, agent in enumerate(agents.values()):
        m.d.comb += [wants[n].eq(agent.valid), agent.grant.eq(go & pick[n])]
        with m.If(pick[n]):
            m.d.comb += [aux_line.eq(agent.line), aux_op.eq(agent.op)]
    reads_line = pick[names.index("snoop")] if "snoop" in names else 0
    m.d.comb += [
        pick.eq(wants & -wants),
        turn.eq(wants.any() & ~(before & cpu_wants)),
        # A slot that an agent cannot use yet stays empty: stores without a gap would keep it out for ever.
        go.eq(turn & ~(store_now & reads_line)),
    ]

    # --- the CPU, and the banks
    line, word, loads = Signal(g.line_bits, name="next_line"), Signal(g.word_bits, name="next_word"), Signal(name="next_loads")
    with m.If(p.head_asks):
        m.d.comb += [line.eq(queue.head.line), word.eq(queue.head.word), loads.eq(~queue.head.we)]
    with m.Elif(replay):
        m.d.comb += [line.eq(g.line_of(p.q.addr)), word.eq(p.q.addr[g.byte_bits : g.offset_bits]), loads.eq(~p.q.we)]
    with m.Else():
        m.d.comb += [
            line.eq(g.line_of(incoming.addr)),
            word.eq(incoming.addr[g.byte_bits : g.offset_bits]),
            loads.eq(~incoming.we),
        ]
    conflict, grant = Signal(name="bank_conflict"), Signal(name="read_grant")
    yields, waited = Signal(name="read_yields"), Signal(name="read_waited")
    m.d.comb += [
        conflict.eq(cpu_wants & ~turn & loads & read.valid & (g.bank_of(word) == g.bank_of(read.word))),
        yields.eq(conflict & ~waited & ~replay),
        grant.eq(read.valid & ~yields & ~(go & reads_line)),
        cpu_goes.eq(~turn & ~(conflict & ~yields)),
        cpu.req.ready.eq(newest & cpu_goes),
    ]
    m.d.sync += waited.eq(yields)
    row, read_row = g.row_of(g.set_of(line), word), g.row_of(g.set_of(read.line), read.word)
    for bank in range(g.banks):
        mine = Signal(name=f"reads_bank_{bank}")
        loaded = Signal(name=f"loads_bank_{bank}")
        m.d.comb += [mine.eq(grant & (g.bank_of(read.word) == bank)), loaded.eq(loads & (g.bank_of(word) == bank))]
        here, enable = Mux(mine, read_row, row), mine | (cpu_wants & cpu_goes & loaded)
        if "snoop" in names:
            snoops = Signal(name=f"snoops_bank_{bank}")
            m.d.comb += snoops.eq(go & reads_line)
            here, enable = Mux(snoops, g.set_of(aux_line), here), enable | snoops
        arrays.read_bank(m, bank, here, enable)

    # --- into the second stage
    next_line = Signal(g.line_bits, name="looked_up")
    accept = Signal(name="accept")
    m.d.comb += [next_line.eq(Mux(turn, aux_line, line)), accept.eq(cpu.req.valid & cpu.req.ready)]
    arrays.read_tags(m, g.set_of(next_line), 1)
    m.d.sync += [
        p.from_q.eq(cpu_goes & ((replay & ~p.head_asks) | accept)),
        p.from_head.eq(cpu_goes & p.head_asks),
        p.line.eq(next_line),
        p.word.eq(word),
        p.op.eq(Mux(go, aux_op, AuxOp.NONE)),
        p.who.eq(Mux(go, pick, 0)),
        p.way.eq(walk_way),
        p.slot.eq(finishing & -finishing),
        before.eq(go),
    ]
    with m.If(p.q_leaves):
        m.d.sync += p.q_valid.eq(0)
    with m.If(accept):
        m.d.sync += [
            p.q_valid.eq(1),
            p.q.addr.eq(incoming.addr),
            p.q.we.eq(incoming.we),
            p.q.data.eq(incoming.data),
            p.q.strb.eq(incoming.strb),
            p.q.size.eq(incoming.size),
            p.q.tag.eq(incoming.tag),
            p.q.meta.eq(incoming.meta),
            p.q.window.eq(g.in_window(incoming.addr)),
            p.q.cached.eq(incoming.cacheable & g.in_window(incoming.addr)),
            p.q.empty.eq(incoming.we & ~incoming.strb.any() & g.in_window(incoming.addr)),
        ]
    return grant
