# SPDX-License-Identifier: BSD-2-Clause
"""The oracle: does some interleaving of evictions, prefetches and landing data corrupt bytes that somebody observes?

A tiny untimed model of a cache of two lines, enumerated completely. It shares nothing with the checker: no may-state, no
masks, no rules, only bytes. A driver is a script, a list of tuples; ``Transfers`` says what its transfers are. Each line has
two cells of one chunk; values are labels of who wrote them. Lines do not interact, so each is enumerated by itself.

Script operations (cells are numbers from 0, two per line; n: number of the transfer)::

    ("store", cells)  ("load", cells)  ("fetch", cells)  ("uload", cells)  ("pio", cells)
    ("ke", cells, read_operation, dma_operation)   ("maint", op, cells, target)
    ("start", n)  ("wait", n)  ("flush", n)        versions 1 and 2
    ("mapex", n)  ("flushex", n)                   version 3
    ("map", n)  ("syncdev", n)  ("synccpu", n)  ("unmap", n)      Linux
    ("post", op, cells, target)  ("dsb",)  ("drain",)             bare metal: maintenance may happen until the barrier
    ("irp", cells)                                 completed with success: the caller reads
"""

from dataclasses import dataclass

from .interfaces import LINUX

CELLS_PER_LINE = 2
CELLS = 4
OLD = 0  # label of what memory held at first
TO, FROM, BOTH = "TO_DEVICE", "FROM_DEVICE", "BIDIRECTIONAL"


@dataclass(frozen=True)
class Dma:
    """A transfer: direction, cells, and whether it uses a cached common buffer (then nothing is flushed at its end).

    ``direction`` is that of its Linux mapping, the transfer's by default; ``mapping`` the transfer whose mapping it uses.
    """

    write: bool
    cells: tuple[int, ...]
    common: bool = False
    interface: str = "wdk"
    direction: str | None = None
    mapping: int | None = None

    @property
    def way(self):
        return self.direction or (TO if self.write else FROM)


@dataclass(frozen=True)
class Where:
    """Platform of a run."""

    speculates: bool = False
    invalidate_after_read: bool = True
    clean_before_read: bool = True
    architecture: str = "arm64"
    bounce: bool = False


# -- enumeration ------------------------------------------------------------------------------------------------------
# One line: (mem, d, dirty, i, sent, unread, device, pend, copy). mem: the cells in memory; d, i: copies in the D- and I-cache or
# None; sent: what device-to-memory transfers may still land, {(transfer, cell, label)}; unread: what memory-to-device transfers
# still have to take, {(transfer, cell)}; device: what they have taken, {(transfer, cell, value)}; pend: maintenance that was
# given and not waited for, (op, target) or None; copy: what bounce buffers hold, {(transfer, cell, value)}.


def _closure(states, where, bounced):
    """All states reachable by what hardware may do at any time. ``bounced``: transfers that work on a copy."""
    todo, seen = list(states), set(states)
    while todo:
        state = todo.pop()
        mem, d, dirty, i, sent, unread, device, pend, copy = state
        rest = (pend, copy)
        new = []
        if d is not None:
            new.append((d if dirty else mem, None, False, i, sent, unread, device, *rest))  # eviction
            if dirty:
                new.append((d, d, False, i, sent, unread, device, *rest))  # write-back
        elif where.speculates:
            new.append((mem, mem, False, i, sent, unread, device, *rest))
        if i is None and where.speculates:
            new.append((mem, d, dirty, mem, sent, unread, device, *rest))
        for item in sent:
            new.append(_land(state, item, bounced))
        for item in unread:
            number, cell = item
            new.append((mem, d, dirty, i, sent, unread - {item}, device | {(number, cell, mem[cell])}, *rest))
        if pend is not None:
            new.append(_settle(state))
        for after in new:
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def _land(state, item, bounced):
    mem, d, dirty, i, sent, unread, device, pend, copy = state
    number, cell, label = item
    if number in bounced:
        copy = frozenset(c for c in copy if c[:2] != (number, cell)) | {item}
    else:
        mem = tuple(label if n == cell else value for n, value in enumerate(mem))
    return mem, d, dirty, i, sent - {item}, unread, device, pend, copy


def _settle(state):
    """The maintenance in progress is done."""
    if state[7] is None:
        return state
    return (*_maintain(state, *state[7])[:7], None, state[8])


def _fill(state):
    return state if state[1] is not None else (state[0], state[0], False, *state[3:])


def corrupts(script, transfers, where):
    """Whether some interleaving lets somebody observe a wrong byte."""
    script = settled(script, transfers)
    return any(_line_corrupts(script, transfers, where, line) for line in range(CELLS // CELLS_PER_LINE))


def settled(script, transfers):
    """The script, and what comes after every run: transfers end, and somebody reads what devices wrote if nobody has."""
    script = [*script, *(("wait", n) for n in transfers)]
    starts = [k for k, op in enumerate(script) if op[0] == "start" and not transfers[op[1]].write]
    ends = [k for k, op in enumerate(script) if op[0] == "wait" and any(script[s][1] == op[1] and s < k for s in starts)]
    readers = [k for k, op in enumerate(script) if op[0] == "load"]
    first_end = {script[k][1]: k for k in reversed(ends)}
    if first_end and max(first_end.values()) > max(readers, default=-1):
        script.append(("load", tuple(range(CELLS))))
    return script


def is_observed(script, transfers):
    """Whether all that devices write is read, or handed to the caller, before it is written again.

    R02 and R13 are decided at the hand-off, before anybody knows; only where somebody looks can the oracle agree.
    """
    unseen, running = set(), {}
    for op in settled(script, transfers):
        if op[0] == "start" and not transfers[op[1]].write and op[1] not in running:
            running[op[1]] = True
        elif op[0] == "wait" and running.get(op[1]):
            running[op[1]] = False
            if unseen & set(transfers[op[1]].cells):
                return False
            unseen |= set(transfers[op[1]].cells)
        elif op[0] in ("load", "irp"):
            unseen -= set(op[1])
        elif op[0] in ("store", "pio") and unseen & set(op[1]):
            return False
    return not unseen


def is_race(script, transfers, bounce=False):
    """Whether the CPU stores into a common buffer while the device uses the same bytes: then no result is the right one.

    The same for a buffer whose bounced copy will be copied back over the store.
    """
    running, mapped = set(), set()
    for op in script:
        if op[0] in ("map", "mapex"):
            mapped.add(op[1])
        elif op[0] in ("unmap", "flushex"):
            mapped.discard(op[1])
        if (
            bounce
            and op[0] in ("store", "pio")
            and any(transfers[n].way != TO and set(op[1]) & set(transfers[n].cells) for n in mapped)
        ):
            return True
        if op[0] == "start":
            running.add(op[1])
        elif op[0] == "wait":
            running.discard(op[1])
        elif op[0] in ("store", "pio") and any(transfers[n].common and set(op[1]) & set(transfers[n].cells) for n in running):
            return True
    return False


def _line_corrupts(script, transfers, where, line):
    def local(cells):
        return [c - line * CELLS_PER_LINE for c in cells if c // CELLS_PER_LINE == line]

    expected = [OLD] * CELLS_PER_LINE
    by_pio = [False] * CELLS_PER_LINE
    started, over, wanted, mapped = set(), set(), {}, set()
    empty = frozenset()
    states = {((OLD,) * CELLS_PER_LINE, None, False, None, empty, empty, empty, None, empty)}
    bounced = {n for n, dma in transfers.items() if where.bounce and dma.interface in ("v3", "linux")}
    states = _closure(states, where, bounced)

    def judged(cells):
        """Polling a common buffer while the device runs may return anything."""
        return [c for c in cells if not any(transfers[n].common and c in local(transfers[n].cells) for n in started - over)]

    def maintained(states, op, target):
        return {_maintain(s, op, target) for s in states} if op else states

    def landed(states):
        done = {n for n in over if not transfers[n].write}
        return _closure({_land_all(s, done, bounced) for s in states}, where, bounced)

    def to_cpu(states, number, *, invalidates, target):
        """POSTREAD of a mapping's cells: an invalidate, or the copy back."""
        mine = local(transfers[number].cells)
        if not mine or not invalidates:
            return states
        if not where.bounce or (number not in mapped and transfers[number].interface == "linux"):
            return maintained(states, 2, target)  # the address is not a bounce buffer's
        users = [n for n in transfers if (transfers[n].mapping or n) == number and n in started and not transfers[n].write]
        if number not in mapped:
            return states
        return {_copy_out(_fill(s), mine, number, users) for s in states}

    for label, op in enumerate(script, 1):
        kind = op[0]
        if kind in ("maint", "post"):
            here = local(op[2])
        elif kind in ("store", "load", "fetch", "uload", "pio", "ke", "irp"):
            here = local(op[1])
        else:
            here = []
        if kind in ("store", "pio"):
            if here:
                states = {_store(_fill(s), here, label) for s in states}
            for c in here:
                # the CPU may rework what it has read by PIO: it stays a PIO read's data until it is flushed
                expected[c], by_pio[c] = label, by_pio[c] or kind == "pio"
        elif kind == "load":
            if here:
                states = {_fill(s) for s in states}
                if any(s[1][c] != expected[c] for s in states for c in judged(here)):
                    return True
        elif kind == "uload":
            if any(s[0][c] != expected[c] for s in states for c in judged(here)):
                return True
        elif kind == "fetch":
            if here:
                states = {s if s[3] is not None else (*s[:3], s[0], *s[4:]) for s in states}
                if any(s[3][c] != expected[c] for s in states for c in judged(here)):
                    return True
        elif kind == "ke":
            if here:
                steps = {(True, True): [(3, 3)], (True, False): [(1, 1), (2, 2)]}.get((op[2], op[3]), [(1, 1)])
                if op[2] and not op[3]:
                    for c in here:
                        by_pio[c] = False
                for what, target in steps:
                    states = _closure({_maintain(s, what, target) for s in states}, where, bounced)
        elif kind == "maint":
            if here:
                states = {_maintain(s, op[1], op[3]) for s in states}
        elif kind == "post":
            states = {_settle(s) for s in states}
            if here:
                states = {(*s[:7], (op[1], op[3]), s[8]) for s in states}
        elif kind == "dsb":
            states = {_settle(s) for s in states}
        elif kind == "drain":
            states = landed(states)
        elif kind in ("map", "mapex", "syncdev"):
            number = op[1]
            dma, mine = transfers[number], local(transfers[number].cells)
            if kind != "syncdev":
                mapped.add(number)
            if not mine:
                pass
            elif where.bounce and (kind != "syncdev" or number in mapped):
                if kind != "syncdev" or dma.way != FROM:
                    states = {_copy_in(_fill(s), mine, number) for s in states}
            elif kind == "mapex":
                what = 1 if dma.write else 3 * where.clean_before_read
                states = maintained(states, what, 1 if dma.write else 3)
            else:
                what = LINUX[where.architecture][(TO, FROM, BOTH).index(dma.way)]
                if what == 2 and where.architecture == "arm" and len(mine) < CELLS_PER_LINE:
                    what = 3  # the edges of a buffer that is not on lines are cleaned first
                states = maintained(states, what, 1)
        elif kind in ("unmap", "synccpu", "flushex"):
            number = op[1]
            dma = transfers[number]
            states = landed(states)
            if kind == "flushex":
                states = to_cpu(states, number, invalidates=not dma.write, target=3)
            else:
                states = to_cpu(states, number, invalidates=dma.way != TO, target=1)
            if kind != "synccpu":
                mapped.discard(number)
        elif kind == "start":
            number = op[1]
            if number not in started:
                started.add(number)
                dma = transfers[number]
                mine = local(dma.cells)
                name = -number  # the label of the device's bytes
                source = dma.mapping or number
                if number in bounced and source not in mapped:
                    bounced = bounced - {number}  # nobody made a copy: the device works on the buffer
                for c in mine:
                    if dma.write:
                        wanted[number, c] = expected[c]
                    elif number not in bounced:
                        expected[c], by_pio[c] = name, False
                if dma.write and number in bounced:
                    states = {(*s[:6], s[6] | {(number, c, v) for k, c, v in s[8] if k == source}, *s[7:]) for s in states}
                elif dma.write:
                    states = {(*s[:5], s[5] | {(number, c) for c in mine}, *s[6:]) for s in states}
                else:
                    states = {(*s[:4], s[4] | {(number, c, name) for c in mine}, *s[5:]) for s in states}
        elif kind == "wait":
            number = op[1]
            if number in started and number not in over:
                over.add(number)
                if transfers[number].write:
                    states = {_take_all(s, number) for s in states}
                elif transfers[number].common:
                    states = {_land_all(s, {number}, bounced) for s in states}
                elif number in bounced:
                    for c in local(transfers[number].cells):
                        expected[c], by_pio[c] = -number, False
        elif kind == "flush":
            number = op[1]
            states = landed(states)
            if not transfers[number].write and where.invalidate_after_read and local(transfers[number].cells):
                states = {_maintain(s, 2, 3) for s in states}
        elif kind == "irp":
            for c in here:
                for mem, d, _, i, *_rest in states:
                    views = [mem[c] if d is None else d[c]]
                    if by_pio[c]:
                        views = [*views, mem[c], mem[c] if i is None else i[c]]
                    if any(view != expected[c] for view in views):
                        return True
        states = _closure(states, where, bounced)
    for state in states:
        for number, cell, value in state[6]:
            if value != wanted[number, cell]:
                return True
    return False


def _store(state, cells, label):
    d = tuple(label if n in cells else value for n, value in enumerate(state[1]))
    return (state[0], d, True, *state[3:])


def _maintain(state, op, target):
    mem, d, dirty, i, *rest = state
    if target & 1 and d is not None:
        if op & 1 and dirty:
            mem, dirty = d, False
        if op & 2:
            d, dirty = None, False
    if target & 2 and op & 2:
        i = None
    return (mem, d, dirty, i, *rest)


def _land_all(state, numbers, bounced):
    for item in sorted(state[4]):
        if item[0] in numbers:
            state = _land(state, item, bounced)
    return state


def _take_all(state, number):
    mem, d, dirty, i, sent, unread, device, *rest = state
    mine = {item for item in unread if item[0] == number}
    return (mem, d, dirty, i, sent, unread - mine, device | {(n, c, mem[c]) for n, c in mine}, *rest)


def _copy_in(state, cells, number):
    kept = {c for c in state[8] if c[0] != number}
    return (*state[:8], frozenset(kept | {(number, c, state[1][c]) for c in cells}))


def _copy_out(state, cells, number, users):
    """The bounce buffer's bytes, or those that a transfer has delivered to it, go back into the buffer."""
    held = {c: value for k, c, value in state[8] if k == number}
    for k, c, value in sorted(state[8]):
        if k in users:
            held[c] = value
    d = tuple(held.get(n, value) if n in cells else value for n, value in enumerate(state[1]))
    return (state[0], d, True, *state[3:])
