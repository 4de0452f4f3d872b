# SPDX-License-Identifier: BSD-2-Clause
"""Maintenance commands: what each one owes, computed from the registers alone.

The set of lines comes from the CSR writes (and the platform's declared faults), never from what the unit says it visited, so
that skipped work shows as a line that is still dirty, or still valid, when the command is reported done.
"""

from collections.abc import Callable

from rtl.cache.ports import MaintOp, MaintScope
from rtl.probe import Cause
from sim.record import Event

from .context import Context
from .lines import Command

__all__ = ["MaintenanceModel"]

_D, _I = 1, 2
_STROBE = 8  # cycles from a register's write to its effect, at most: a start that near the end of the last command may count


class _Running:
    """A command in progress. ``first``..``last``: lines (inclusive) that it owes; ``limit``: the last it may touch; ``edges``:
    lines of an invalidate that are cleaned first."""

    __slots__ = (
        "aborted",
        "begin",
        "begin_cycle",
        "edges",
        "error",
        "first",
        "last",
        "limit",
        "may_error",
        "must_error",
        "op",
        "ordered",
        "scope",
        "target",
    )

    def __init__(self, op: int, scope: int, target: int, begin: int, begin_cycle: int):
        self.op, self.scope, self.target, self.begin, self.begin_cycle = op, scope, target, begin, begin_cycle
        self.first, self.last, self.limit = 0, 0xFFFF_FFFF, 0xFFFF_FFFF
        self.edges: frozenset[int] = frozenset()
        self.aborted = self.may_error = self.must_error = self.ordered = False

    def covers(self, line: int) -> bool:
        return self.first <= line <= self.last

    def op_on(self, line: int) -> int:
        """What the command does to a line that it covers."""
        return MaintOp.CLEAN_INVALIDATE if line in self.edges else self.op


class MaintenanceModel:
    """Handlers of the ``maint`` channel; ``allows`` and ``instruction_invalidate`` judge what the caches say it did."""

    def __init__(self, context: Context):
        self.c = context
        self.running: _Running | None = None
        self.asked: tuple[int, int, int, int, int, bool] | None = None  # op scope target start length must
        self._asked_event: Event | None = None
        self._asked_while_busy = False  # must be ignored, unless it came with the end
        self._end_cycle = -_STROBE

    def command(self, event: Event, start: int, length: int) -> None:
        """``maint.cmd`` was written while start and length held these values."""
        value = event.data
        op, scope, target = value & 3, value >> 2 & 3, value >> 4 & 3
        if value >> 8 & 1 and self.running:
            self.running.aborted = True
        if op == MaintOp.NONE:
            return
        busy = self.running is not None
        empty = target == 0 or scope > MaintScope.ALL or (scope == MaintScope.RANGE and length == 0)
        if not busy or self.asked is None or self._asked_while_busy:
            self.asked = (op, scope, target, start, length, not empty and not busy)
            self._asked_event, self._asked_while_busy = event, busy

    def begin(self, event: Event) -> None:
        c = self.c
        got = (event.aux & 3, event.aux >> 2 & 3, event.aux >> 4 & 3, event.addr, event.data & 0xFFFF_FFFF)
        asked, self.asked = self.asked, None
        if self.running:
            c.report(event, "maintenance: a command began while one was running", event.addr)
        if asked is None:
            c.report(event, "maintenance: a command began that no register write had asked for", event.addr)
            asked = (*got, False)
        elif not asked[5] and self._asked_while_busy and self._asked_event.cycle < self._end_cycle - _STROBE:
            c.report(event, "maintenance: a command began that was written while one was running", event.addr)
        elif asked[:5] != got:
            names = "op={} scope={} target={} start={:#x} length={}"
            c.report(
                event, "maintenance: the command began with other values", event.addr, names.format(*asked), names.format(*got)
            )
        op, scope, target, start, length, _ = asked
        run = self.running = _Running(op, scope, target, c.seq, event.cycle)
        if scope == MaintScope.LINE:
            run.first = run.last = run.limit = start & c.line_mask
        elif scope == MaintScope.RANGE:
            end = min(start + length, 1 << 32)
            run.first = start & c.line_mask
            run.last = run.limit = (end - 1) & c.line_mask if length else -1
            if c.config.faults.maintenance_ignores_tail and end % c.line_bytes:
                run.last -= c.line_bytes
            if c.config.dcache.partial_lines == "clean" and op == MaintOp.INVALIDATE and length:
                cut = {edge & c.line_mask for edge in (start, end) if edge % c.line_bytes}
                run.edges = frozenset(line for line in cut if run.covers(line))
        self.upset()

    def _unfinished(self, run: _Running) -> list[tuple[int, str]]:
        """What is left to do of the command, on whole lines and on edges that must be cleaned."""
        buffered_is_done = self.c.config.faults.maintenance_point_of_unification
        found = []
        for op, covers in (
            (run.op, lambda line: run.covers(line) and line not in run.edges),
            (MaintOp.CLEAN_INVALIDATE, run.edges.__contains__),
        ):
            cleans, invalidates = bool(op & MaintOp.CLEAN), bool(op & MaintOp.INVALIDATE)
            found += self.c.dcache.unfinished(Command(covers, cleans, invalidates, run.begin, buffered_is_done))
        # A set with a bad tag is left alone, and reported.
        return sorted(item for item in found if not self.c.dcache.upsets.blocks(item[0]))

    def _check_d(self, event: Event, run: _Running, moment: str) -> None:
        for line, rule in self._unfinished(run):
            self.c.report(event, f"D-cache line {line:#010x}: {rule} although {moment} ({MaintOp(run.op).name})", line)

    def end(self, event: Event) -> None:
        c = self.c
        run, self.running = self.running, None
        self._end_cycle = event.cycle
        if run is None:
            c.report(event, "maintenance: a command ended although none was running", event.addr)
            return
        error, aborted = bool(event.flags & 1), bool(event.flags & 2)
        if run.target & _D and self.c.dcache.upsets.blocks_any(*self._walked(run), before=run.begin_cycle):
            # A walk by addresses looks all its sets up; one of the array may pass rows that it has nothing to do in.
            run.must_error |= run.scope != MaintScope.ALL and (run.last - run.first) // c.line_bytes < c.config.dcache.lines
        if aborted and not run.aborted:
            c.report(event, "maintenance: the command ended as aborted although nobody aborted it", event.addr)
        if error and not run.may_error:
            c.report(event, "maintenance: the command ended with an error that no write-back had", event.addr)
        if run.must_error and not error and not aborted:
            c.report(event, "maintenance: a write-back of the command got a bus error that its end does not report", event.addr)
        if aborted:
            return
        if run.target & _D:
            self._check_d(event, run, "maintenance reports done")
        if run.target & _I and run.op & MaintOp.INVALIDATE:
            for line, rule in c.icache.unfinished(run.covers, run.begin):
                c.report(event, f"I-cache line {line:#010x}: {rule} although maintenance reports done", line)

    def _walked(self, run: _Running) -> tuple[int, int]:
        """The lines of the command that lie in the memory window, first and last."""
        return max(run.first, self.c.base), min(run.last, self.c.end - self.c.line_bytes)

    def upset(self) -> None:
        """A parity bit was inverted: a walk that meets a valid line whose tag is bad ends with an error."""
        run = self.running
        if run and run.target & _D:
            run.may_error |= self.c.dcache.upsets.blocks_any(*self._walked(run))

    def allows(self, line: int, *, clean: bool = False, invalidate: bool = False, losing: bool = False) -> bool:
        """May the running command clean / invalidate this D-cache line (``losing``: throw dirty bytes away)?"""
        run = self.running
        if run is None or not run.target & _D or not run.covers(line):
            return False
        op = run.op_on(line)
        if losing:
            return op == MaintOp.INVALIDATE
        return not (clean and not op & MaintOp.CLEAN) and not (invalidate and not op & MaintOp.INVALIDATE)

    def instruction_invalidate(self, event: Event, everything: bool) -> None:
        """An I-cache invalidation with cause maintenance: it must be asked for, and wait for the D-cache."""
        c = self.c
        run = self.running
        what = (
            "I-cache: invalidated by maintenance"
            if everything
            else f"I-cache line {event.addr:#010x}: invalidated by maintenance"
        )
        if run is None or not run.target & _I or not run.op & MaintOp.INVALIDATE:
            c.report(event, f"{what}, but no command asks for it", event.addr)
            return
        if everything:
            lines = (run.limit - run.first) // c.line_bytes + 1
            if run.scope != MaintScope.ALL and lines < c.config.icache.lines:
                c.report(event, f"{what} whole, but the command covers only {lines} lines", event.addr)
        elif not run.first <= event.addr & c.line_mask <= run.limit:
            c.report(event, f"{what}, but the command does not cover it", event.addr)
        if run.target & _D and not run.ordered:
            run.ordered = True
            self._check_d(event, run, "the I-cache is already being invalidated")

    def write_back_error(self, line: int, cause: int) -> None:
        """A write-back was answered with a bus error."""
        run = self.running
        if run and run.target & _D:
            run.may_error = True
            own = cause == Cause.MAINTENANCE and run.covers(line) and bool(run.op_on(line) & MaintOp.CLEAN)
            run.must_error |= own and not self.c.config.faults.maintenance_point_of_unification

    def store_error(self, event: Event, since: int) -> None:
        """A store through a write-through cache was answered with a bus error; ``since``: its event number."""
        run = self.running
        if run and run.target & _D:
            run.may_error = True
            waited = since < run.begin and run.covers(event.addr) and event.cycle > run.begin_cycle + _STROBE
            run.must_error |= waited and not self.c.config.faults.maintenance_point_of_unification

    def outstanding(self, report: Callable[..., None]) -> None:
        """Duties at the end of a run."""
        if self.running:
            report("maintenance: a command never ended")
        if self.asked and self.asked[5]:
            report(f"maintenance: the command written in cycle {self._asked_event.cycle} never began")
