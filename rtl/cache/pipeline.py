# SPDX-License-Identifier: BSD-2-Clause
"""The registers of the D-cache's three pipeline stages, and the first stage: who uses the arrays next."""

from collections.abc import Mapping
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data

from .arrays import Arrays
from .completion import CompletionQueue
from .native import AuxOp, Geometry, NativeSignature
from .onehot import lowest

__all__ = ["Pipeline", "ThirdStage", "add_first_stage"]


class ThirdStage:
    """What the second stage leaves to the third; registers with names ``third_*`` in the owner's module.

    One lookup is in the third stage per cycle: the ``follower`` of an access that was performed in the second stage (``of_q``: it
    was the CPU's newest, not the queue's head), the ``undecided`` access, the queue's ``head`` that did not find its line, or
    an agent's ``op``. What may change the state of a line of the set is ``slow``, and what may change which
    lines the set holds ``moves`` them.
    """

    def __init__(self, g: Geometry, *, agents: int, slots: int, through: bool):
        def register(name: str, shape) -> Signal:
            return Signal(shape, name=f"third_{name}")

        self.line, self.word = register("line", g.line_bits), register("word", g.word_bits)
        self.op, self.who = register("op", AuxOp), register("who", agents)
        self.slot_way = register("slot_way", g.ways)  # of INSTALL, as the slot
        self.slot = register("slot", slots)  # of INSTALL, else 0
        self.follower, self.of_q, self.stored = register("follower", 1), register("of_q", 1), register("stored", 1)
        #: A store made its line dirty. The undecided access, or the follower, is a store that found no line (write-through).
        self.dirties, self.passes = (Const(0), register("passes", 1)) if through else (self.stored, Const(0))
        self.undecided, self.head = register("undecided", 1), register("head", 1)
        self.slow, self.moves = register("slow", 1), register("moves", 1)
        self.flash = register("flash", 1)  # every set is concerned
        self.refused, self.killed = register("refused", 1), register("killed", 1)
        self.hits, self.ways = register("hits", g.ways), register("ways", g.ways)  # ways: those that the operation concerns
        self.valid, self.dirty = register("valid", g.ways), register("dirty", g.ways)
        self.full = register("full", 1)  # all ways are valid
        self.found = register("found", g.ways)  # those that are there
        self.cleans = register("cleans", 1)  # dirty lines are written back
        self.again = register("again", slots)  # the queue's head: the slot that it keeps if its line has left again
        self.tags = [register(f"tag_{w}", g.tag_bits) for w in range(g.ways)]
        self.joins = register("joins", slots)  # the fill of this line that is in flight
        self.joined = register("joined", 1)  # the undecided access waits for it
        self.wants, self.acts = register("wants", 1), register("acts", 1)  # may start a fill; may be performed
        self.drops = register("drops", 1)  # lines leave
        self.in_buffer = register("in_buffer", 1)  # its line is in the write-back buffer
        self.set_buffered = register("set_buffered", 1)  # a line of its set is
        self.unsure = register("unsure", 1)  # parity: a tag of its set is wrong
        self.bad_tag, self.bad_word = register("bad_tag", 1), register("bad_word", 1)  # an access was answered so

        self.index = self.line[: g.index_bits]


class Pipeline:
    """Registers of the pipeline, and what later stages tell the first; a bag of signals with names in the owner's module.

    ``q`` holds the CPU's newest access until it leaves the second stage (``q_leaves``). The second stage holds one operation: a
    lookup of ``q`` (``from_q``), of the undecided access (``from_old``), of the completion queue's head (``from_head``), or
    ``op`` of the agent ``who``.
    """

    def __init__(self, g: Geometry, *, meta_width: int, agents: int, slots: int, through: bool):
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
                    "window": 1,
                    "empty": 1,  # a write without strobes: nothing to do
                    "uncached": 1,
                }
            ),
            name="q",
        )
        self.q_valid = Signal(name="q_valid")
        self.q_leaves, self.q_goes = Signal(name="q_leaves"), Signal(name="q_goes")  # q_goes: it is performed, or queued
        self.from_q, self.from_old, self.from_head = Signal(name="from_q"), Signal(name="from_old"), Signal(name="from_head")
        self.line, self.word = Signal(g.line_bits, name="line"), Signal(g.word_bits, name="word")
        self.next_line, self.next_word = (
            Signal(g.line_bits, name="next_line"),
            Signal(g.word_bits, name="next_word"),
        )  # first stage
        self.we = Signal(name="we")  # of an access
        self.loads = Signal(g.banks, name="loads")  # the bank that it reads, one-hot
        self.same_index = Signal(name="third_has_set")  # the third stage has the set of this one
        self.op = Signal(AuxOp, name="op")
        self.who = Signal(agents, name="who")
        self.way = Signal(g.ways, name="way")  # of WALK_WAY
        self.slot_way = Signal(g.ways, name="slot_way")  # of INSTALL, as the slot
        self.slot = Signal(slots, name="slot")  # of INSTALL, else 0
        # An agent's lookup that waits for the first stage
        self.held, self.held_line = Signal(name="held"), Signal(g.line_bits, name="held_line")
        self.held_op, self.held_who = Signal(AuxOp, name="held_op"), Signal(agents, name="held_who")
        self.busy = Signal(name="busy")  # q waits for an uncached access, from now on
        self.waits = Signal(name="waits")  # q would be refused in this cycle, whatever its lookup finds
        self.ask_head = Signal(name="ask_head")  # the queue's head is to be looked up
        self.ask_old = Signal(name="ask_old")  # the undecided access is to be looked up
        self.ask_again, self.next_ask_again = Signal(name="ask_again"), Signal(name="next_ask_again")  # either is
        # What is asked for; registers, because the table of the queue is slow
        self.redo_line, self.redo_word = Signal(g.line_bits, name="redo_line"), Signal(g.word_bits, name="redo_word")
        self.redo_loads = Signal(name="redo_loads")
        self.head_granted, self.old_granted = Signal(name="head_granted"), Signal(name="old_granted")
        # The newest access of the queue is undecided: it missed, and has no fill slot yet. It holds back the next one, unless it
        # is known to join a fill of its line.
        self.undecided, self.holds = Signal(name="undecided"), Signal(name="holds")
        self.old_line, self.old_word = Signal(g.line_bits, name="old_line"), Signal(g.word_bits, name="old_word")
        self.old_tag, self.old_at = Signal(16, name="old_tag"), Signal(range(CompletionQueue.DEPTH), name="old_at")
        self.old_stores = Signal(name="old_stores") if through else Const(0)  # it is a store (write-through)
        self.third = ThirdStage(g, agents=agents, slots=slots, through=through)

        self.index, self.tag = self.line[: g.index_bits], self.line[g.index_bits :]


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
    ending: Any,
    read: Any,
    store_now: Signal,
) -> Signal:
    """Adds the choice of the next operation; returns ``grant``: the word that ``read`` (the write-back buffer) wants is read.

    ``agents`` come before the CPU, in their order, but never take two turns in a row while it wants one. What one of them asks
    waits a cycle in a register, so that the choice comes early; only a fill's end and a snoop go straight in, before it, and the
    walker's lookups, which follow each other, behind it. The head of the queue comes before the undecided access, that before
    ``q``, that before a new access. Whose address goes to the arrays depends on registers and on who asks, never on what the
    second stage finds; that decides only whether a new access is taken. A bank that a load and the write-back buffer want at
    once goes to each in turn, but a load that was refused before (it most likely waits for what the buffer is doing) does not
    delay the buffer. ``store_now``: a store may change the set in the second stage, so a whole line cannot be read from it.
    """
    names = list(agents)
    turn, go, owed = Signal(name="aux_turn"), Signal(name="aux_go"), Signal(name="owed")  # the CPU has waited for an agent
    incoming = cpu.req.payload

    # q stands there for a lookup, and nothing older asks for one; and it needs another one than that in the second stage.
    stays, again = Signal(name="q_stays"), Signal(name="q_again")
    cpu_wants, cpu_goes = Signal(name="cpu_wants"), Signal(name="cpu_goes")
    m.d.comb += [
        again.eq(stays & (~p.from_q | p.waits)),
        cpu_wants.eq(cpu.req.valid | again | p.ask_again),
    ]

    # --- the agents
    wants, picks = Signal(len(names), name="wants"), Signal(len(names), name="picks")
    line_of_pick, op_of_pick = Signal(g.line_bits, name="picked_line"), Signal(AuxOp, name="picked_op")
    urgent, walk = [name for name in ("install", "snoop") if name in names], agents["walk"]
    now, hurries = Signal(len(names), name="agent"), Signal(name="agent_hurries")  # whose turn it would be
    for n, (name, agent) in enumerate(agents.items()):
        if name in urgent or agent is walk:
            m.d.comb += agent.grant.eq(go & now[n])
        else:
            m.d.comb += [wants[n].eq(agent.valid), agent.grant.eq(picks[n] & ~p.held)]
            with m.If(picks[n]):
                m.d.comb += [line_of_pick.eq(agent.line), op_of_pick.eq(agent.op)]
    with m.If(~p.held):
        m.d.sync += [
            p.held.eq(wants.any()),
            p.held_line.eq(line_of_pick),
            p.held_op.eq(op_of_pick),
            p.held_who.eq(picks),
        ]
    with m.Elif(go & ~hurries):
        m.d.sync += p.held.eq(0)
    aux_line, aux_op = Signal(g.line_bits, name="aux_line"), Signal(AuxOp, name="aux_op")
    m.d.comb += [
        picks.eq(lowest(wants)),
        now.eq(Mux(p.held, p.held_who, 1 << names.index("walk"))),
        aux_line.eq(Mux(p.held, p.held_line, walk.line)),
        aux_op.eq(Mux(p.held, p.held_op, walk.op)),
    ]
    for name in reversed(urgent):
        agent = agents[name]
        with m.If(agent.valid):
            m.d.comb += [now.eq(1 << names.index(name)), aux_line.eq(agent.line), aux_op.eq(agent.op)]
    reads_line = now[names.index("snoop")] if "snoop" in names else Const(0)
    m.d.comb += [
        hurries.eq(Cat(agents[name].valid for name in urgent).any()),
        turn.eq((hurries | p.held | walk.valid) & ~owed),
        # A slot that an agent cannot use yet stays empty: stores without a gap would keep it out for ever.
        go.eq(turn & ~(store_now & reads_line)),
    ]
    m.d.sync += owed.eq(go & cpu_wants)

    # --- the CPU, and the banks
    layout = data.StructLayout({"word": g.word_bits, "line": g.line_bits, "loads": 1})
    at, of_q, other, newest = (Signal(layout, name=name) for name in ("cpu_at", "q_at", "not_q_at", "new_at"))
    q, new = p.q.addr, incoming.addr
    m.d.comb += [
        newest.eq(Cat(new[g.byte_bits : g.offset_bits], g.line_of(new), ~incoming.we)),
        other.eq(
            Mux(
                p.ask_again,
                Cat(p.redo_word, p.redo_line, p.redo_loads),
                newest,
            )
        ),
        of_q.eq(Cat(q[g.byte_bits : g.offset_bits], g.line_of(q), ~p.q.we)),
        # `again` is the last to be known.
        at.eq(Mux(again, of_q, other)),
    ]
    line, word = at.line, at.word

    def conflicts(load):
        return load.loads & read.valid & (g.bank_of(load.word) == g.bank_of(read.word))

    conflict, grant = Signal(name="bank_conflict"), Signal(name="read_grant")
    yields, waited = Signal(name="read_yields"), Signal(name="read_waited")
    m.d.comb += [
        conflict.eq(conflicts(other) & (cpu.req.valid | p.ask_head)),
        # An agent's turn is not looked at: the buffer may yield to a load that does not come yet.
        yields.eq(conflict & ~waited & ~again),
        grant.eq(read.valid & ~yields & ~(go & reads_line)),
        cpu_goes.eq(~turn & ~Mux(again, conflicts(of_q), conflict & ~yields)),
        # What the second stage does with q is known last.
        cpu.req.ready.eq(~p.ask_again & ~again & ~turn & ~(waited & conflicts(newest)) & (~p.q_valid | p.q_goes)),
        p.head_granted.eq(cpu_goes & p.ask_head),
        p.old_granted.eq(cpu_goes & p.ask_old & ~p.ask_head),
    ]
    m.d.sync += waited.eq(yields)
    row, read_row = g.row_of(g.set_of(line), word), g.row_of(read.index, read.word)
    for bank in range(g.banks):
        mine = Signal(name=f"reads_bank_{bank}")
        m.d.comb += mine.eq(grant & (g.bank_of(read.word) == bank))
        here = Mux(mine, read_row, row)
        if "snoop" in names:
            snoops = Signal(name=f"snoops_bank_{bank}")
            m.d.comb += snoops.eq(go & reads_line)
            here = Mux(snoops, g.set_of(aux_line), here)
        arrays.read_bank(m, bank, here, 1)
        # (Nothing is read by an uncached access, nor taken behind it.)
        loads = at.loads & (p.ask_again | ~(p.q_valid & p.q.uncached))
        m.d.sync += p.loads[bank].eq(loads & (g.bank_of(word) == bank) & ~mine)

    # --- into the second stage
    accept = Signal(name="accept")
    m.d.comb += [
        p.next_line.eq(Mux(turn, aux_line, line)),
        p.next_word.eq(word),
        accept.eq(cpu.req.valid & cpu.req.ready),
    ]
    arrays.read_tags(m, g.set_of(p.next_line), 1)
    m.d.sync += [
        p.from_q.eq(accept | (cpu_goes & again)),
        p.from_head.eq(p.head_granted),
        p.from_old.eq(p.old_granted),
        p.line.eq(p.next_line),
        p.word.eq(word),
        p.we.eq(~at.loads),
        p.op.eq(Mux(go, aux_op, AuxOp.NONE)),
        p.who.eq(Mux(go, now, 0)),
        p.way.eq(walk_way),
        p.slot.eq(Mux(go, ending.slot, 0)),
        p.slot_way.eq(ending.way),
    ]
    m.d.sync += stays.eq((accept | (p.q_valid & ~p.q_leaves & ~p.busy)) & ~p.next_ask_again)
    with m.If(p.q_leaves):
        m.d.sync += p.q_valid.eq(0)
    empty = incoming.we & ~incoming.strb.any() & g.in_window(incoming.addr)
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
            p.q.empty.eq(empty),
            p.q.uncached.eq(~empty & ~(incoming.cacheable & g.in_window(incoming.addr))),
        ]
    return grant
