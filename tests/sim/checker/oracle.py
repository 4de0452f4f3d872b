# SPDX-License-Identifier: BSD-2-Clause
"""The oracle: does some interleaving of evictions, prefetches and landing data corrupt bytes that somebody observes?

A tiny untimed model of a cache of two lines, enumerated completely. It shares nothing with the checker: no may-state, no
masks, no rules, only bytes. A driver is a script, a list of tuples; ``Transfers`` says what its transfers are. Each line has
two cells of one chunk; values are labels of who wrote them. Lines do not interact, so each is enumerated by itself.

Script operations (cells are numbers from 0, two per line)::

    ("store", cells)  ("load", cells)  ("fetch", cells)  ("uload", cells)  ("pio", cells)
    ("ke", cells, read_operation, dma_operation)   ("maint", op, cells, target)
    ("start", n)  ("wait", n)  ("flush", n)        n: number of the transfer
    ("irp", cells)                                 completed with success: the caller reads
"""

from dataclasses import dataclass

from .machine import BASE, Machine

CELLS_PER_LINE = 2
BUF = BASE + 0x800
CELL = 16
CELLS = 4
OLD = 0  # label of what memory held at first


@dataclass(frozen=True)
class Dma:
    """A transfer: direction, cells, and whether it uses a cached common buffer (then nothing is flushed at its end)."""

    write: bool
    cells: tuple[int, ...]
    common: bool = False


@dataclass(frozen=True)
class Where:
    """Platform of a run."""

    speculates: bool = False
    invalidate_after_read: bool = True


# -- enumeration ------------------------------------------------------------------------------------------------------
# One line: (mem, d, dirty, i, sent, unread, device). mem: the cells in memory; d, i: copies in the D- and I-cache or None;
# sent: what device-to-memory transfers may still land, {(transfer, cell, label)}; unread: what memory-to-device transfers still
# have to take, {(transfer, cell)}; device: what they have taken, {(transfer, cell, value)}.


def _closure(states, where, active):
    """All states reachable by what hardware may do at any time."""
    todo, seen = list(states), set(states)
    while todo:
        mem, d, dirty, i, sent, unread, device = todo.pop()
        new = []
        if d is not None:
            new.append((d if dirty else mem, None, False, i, sent, unread, device))  # eviction
            if dirty:
                new.append((d, d, False, i, sent, unread, device))  # write-back
        elif where.speculates:
            new.append((mem, mem, False, i, sent, unread, device))
        if i is None and where.speculates:
            new.append((mem, d, dirty, mem, sent, unread, device))
        for item in sent:
            number, cell, label = item
            after = tuple(label if n == cell else value for n, value in enumerate(mem))
            new.append((after, d, dirty, i, sent - {item}, unread, device))
        for item in unread:
            number, cell = item
            new.append((mem, d, dirty, i, sent, unread - {item}, device | {(number, cell, mem[cell])}))
        for state in new:
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return seen


def _fill(state):
    mem, d, _, i, sent, unread, device = state
    return state if d is not None else (mem, mem, False, i, sent, unread, device)


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


def is_race(script, transfers):
    """Whether the CPU stores into a common buffer while the device uses the same bytes: then no result is the right one."""
    running = set()
    for op in script:
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
    started, over, wanted = set(), set(), {}
    states = {((OLD,) * CELLS_PER_LINE, None, False, None, frozenset(), frozenset(), frozenset())}
    states = _closure(states, where, started)

    def judged(cells):
        """Polling a common buffer while the device runs may return anything."""
        return [c for c in cells if not any(transfers[n].common and c in local(transfers[n].cells) for n in started - over)]

    for label, op in enumerate(script, 1):
        kind = op[0]
        here = [] if kind in ("start", "wait", "flush") else local(op[2] if kind == "maint" else op[1])
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
                    states = _closure({_maintain(s, what, target) for s in states}, where, started)
        elif kind == "maint":
            if here:
                states = {_maintain(s, op[1], op[3]) for s in states}
        elif kind == "start":
            number = op[1]
            if number not in started:
                started.add(number)
                dma = transfers[number]
                mine = local(dma.cells)
                name = -number  # the label of the device's bytes
                for c in mine:
                    if dma.write:
                        wanted[number, c] = expected[c]
                    else:
                        expected[c], by_pio[c] = name, False
                if dma.write:
                    states = {(*s[:5], s[5] | {(number, c) for c in mine}, s[6]) for s in states}
                else:
                    states = {(*s[:4], s[4] | {(number, c, name) for c in mine}, *s[5:]) for s in states}
        elif kind == "wait":
            number = op[1]
            if number in started and number not in over:
                over.add(number)
                if transfers[number].write:
                    states = {_take_all(s, number) for s in states}
                elif transfers[number].common:
                    states = {_land_all(s, {number}) for s in states}
        elif kind == "flush":
            number = op[1]
            done = {n for n in over if not transfers[n].write}
            states = _closure({_land_all(s, done) for s in states}, where, started)
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
        states = _closure(states, where, started)
    for state in states:
        for number, cell, value in state[6]:
            if value != wanted[number, cell]:
                return True
    return False


def _store(state, cells, label):
    mem, d, _, i, sent, unread, device = state
    return mem, tuple(label if n in cells else value for n, value in enumerate(d)), True, i, sent, unread, device


def _maintain(state, op, target):
    mem, d, dirty, i, sent, unread, device = state
    if target & 1 and d is not None:
        if op & 1 and dirty:
            mem, dirty = d, False
        if op & 2:
            d, dirty = None, False
    if target & 2 and op & 2:
        i = None
    return mem, d, dirty, i, sent, unread, device


def _land_all(state, numbers):
    mem, d, dirty, i, sent, unread, device = state
    for item in sorted(sent):
        if item[0] in numbers:
            mem = tuple(item[2] if n == item[1] else value for n, value in enumerate(mem))
            sent = sent - {item}
    return mem, d, dirty, i, sent, unread, device


def _take_all(state, number):
    mem, d, dirty, i, sent, unread, device = state
    mine = {item for item in unread if item[0] == number}
    return mem, d, dirty, i, sent, unread - mine, device | {(n, c, mem[c]) for n, c in mine}


# -- the same script on the recording machine --------------------------------------------------------------------------


def record(script, transfers, where, rng):
    """Runs a script on a :class:`Machine`, with evictions, prefetches and progress as ``rng`` says."""
    script = settled(script, transfers)
    m = Machine(speculates=where.speculates, invalidate_after_read=where.invalidate_after_read)
    m.site_line = 1
    adapters = {n: m.adapter(master=dma.common, channel=0) for n, dma in transfers.items()}
    mdls = {n: m.mdl(*ranges_of(dma.cells)) for n, dma in transfers.items()}
    running, buffers = {}, {}
    for n, dma in transfers.items():
        if dma.common and not buffers:
            # one buffer, large enough for every transfer
            address, length = BUF, CELLS * CELL
            buffers = dict.fromkeys(transfers, m.common_buffer(adapters[n], address, length, True))

    def luck():
        for line in range(CELLS // CELLS_PER_LINE):
            address = BUF + line * CELLS_PER_LINE * CELL
            if rng.random() < 0.2:
                m.evict(address)
            elif where.speculates and rng.random() < 0.2:
                m.prefetch(address)
            if where.speculates and rng.random() < 0.1:
                m.prefetch_code(address)
        for transfer in running.values():
            if not transfer.get("over"):
                m.move(transfer, rng.choice((0, 1, 16, 40)))

    for position, op in enumerate(script, 2):
        luck()
        m.site_line = position
        kind = op[0]
        if kind in ("store", "pio"):
            for address, length in ranges_of(op[1]):
                data = bytes([position] * length)
                (m.store if kind == "store" else m.pio_read)(address, data)
        elif kind in ("load", "fetch", "uload"):
            for address, length in ranges_of(op[1]):
                {"load": m.load, "fetch": m.fetch, "uload": m.load_uncached}[kind](address, length)
        elif kind == "ke":
            m.ke_flush(m.mdl(*ranges_of(op[1])), op[2], op[3])
        elif kind == "maint":
            m.maintain(op[1], ranges_of(op[2]), op[3])
        elif kind == "start":
            n = op[1]
            if n not in running:
                dma = transfers[n]
                m.device[:64] = bytes(0x80 + n for _ in range(64))
                running[n] = m.start(adapters[n], ranges_of(dma.cells), dma.write, buffers.get(n))
        elif kind == "wait":
            transfer = running.get(op[1])
            if transfer is not None and not transfer.get("over"):
                m.finish(transfer)
                transfer["over"] = True
        elif kind == "flush":
            m.flush_adapter(adapters[op[1]], mdls[op[1]], transfers[op[1]].write)
        elif kind == "irp":
            m.complete_irp(m.mdl(*ranges_of(op[1])))
    return m.run()


def ranges_of(cells):
    out = []
    for cell in sorted(cells):
        if out and out[-1][0] + out[-1][1] == BUF + cell * CELL:
            out[-1] = (out[-1][0], out[-1][1] + CELL)
        else:
            out.append((BUF + cell * CELL, CELL))
    return out
