# SPDX-License-Identifier: BSD-2-Clause
"""Parity of a D-cache that has it: which stored bits were upset on demand, and which answers and reports follow from that."""

from rtl.probe import Cause
from sim.record import Event

from .context import Context

__all__ = ["UpsetModel"]

#: A lookup that is in the pipeline when a bit flips may find the bit of before, or of after.
_PIPELINE = 3


class UpsetModel:
    """What :class:`~sim.reference.dcache.DCacheModel` knows of wrong parity; empty for ever without ``dcache.parity``.

    A parity bit is inverted by command, so no byte and no tag is ever wrong: only what the hardware says of them changes.
    Twice is as if never. A valid line whose tag is bad makes every lookup of its set an error; a line that leaves takes its
    upsets along.
    """

    def __init__(self, context: Context):
        self.c = context
        self.sets = context.config.dcache.sets
        self._allowed: list[tuple[int, int]] = []  # byte address, aux of the record
        self._bytes: dict[int, dict[int, int]] = {}  # line -> {offset of a byte that is bad: since which cycle}
        self._tags: dict[int, dict[int, int]] = {}  # set -> {line whose tag is bad: since which cycle}
        self._changed: dict[int, int] = {}  # set -> cycle of the last upset

    def _set(self, address: int) -> int:
        return address // self.c.line_bytes % self.sets

    def command(self, address: int, data: bool, tag: bool) -> None:
        """``dcache.inject_cmd`` with these flags; each may happen once or not at all."""
        self._allowed += [(address, kind) for kind, wanted in ((0, data), (1, tag)) if wanted]

    def upset(self, event: Event) -> None:
        """The record of it."""
        c, address, line = self.c, event.addr, event.addr & self.c.line_mask
        what = f"D-cache line {line:#010x}: a parity bit was inverted"
        if not c.config.dcache.parity:
            c.report(event, f"{what} in a cache without parity", address)
            return
        if (address, event.aux) in self._allowed:
            self._allowed.remove((address, event.aux))
        else:
            c.report(event, f"{what} that no command had asked for", address)
        if line not in c.dcache.lines:
            c.report(event, f"{what} although the line is not valid", address)
            return
        table, key = (
            (self._tags.setdefault(self._set(line), {}), line)
            if event.aux
            else (self._bytes.setdefault(line, {}), address - line)
        )
        if table.pop(key, None) is None:
            table[key] = event.cycle
        self._changed[self._set(line)] = event.cycle
        c.maintenance.upset()

    def forget(self, line: int) -> None:
        """The line has left the array."""
        self._bytes.pop(line, None)
        self._tags.get(self._set(line), {}).pop(line, None)

    def stored(self, event: Event) -> None:
        """Bytes of a line were stored: their parity is right again."""
        bad = self._bytes.get(event.addr & self.c.line_mask)
        if bad:
            first = event.addr & self.c.beat_mask & ~self.c.line_mask
            for lane in range(self.c.beat):
                if event.aux >> lane & 1:
                    bad.pop(first + lane, None)

    def blocks(self, address: int) -> bool:
        """Is a lookup of this line an error?"""
        return bool(self._tags.get(self._set(address)))

    def blocks_any(self, first: int, last: int, before: int | None = None) -> bool:
        """Is a lookup of any line from ``first`` to ``last`` an error (since before a cycle)?"""
        for number, bad in self._tags.items():
            nearest = (number - self._set(first)) % self.sets * self.c.line_bytes
            if first + nearest <= last and any(before is None or since < before for since in bad.values()):
                return True
        return False

    def spoils(self, line: int) -> bool:
        """Does a write-back of the line carry a byte that is bad?"""
        return bool(self._bytes.get(line))

    def answers(self, event: Event, *, store: bool) -> bool:
        """True if a CPU access was rightly answered with an error and not performed; one that had to be is reported."""
        c, line, error = self.c, event.addr & self.c.line_mask, bool(event.flags & 1)
        beat = (event.addr & c.beat_mask) - line
        bad = self.blocks(line)
        if not store:
            bad = bad or any(beat <= offset < beat + c.beat for offset in self._bytes.get(line, ()))
        unsure = event.cycle <= self._changed.get(self._set(line), -_PIPELINE) + _PIPELINE
        if error:
            # a fill's bus error is another matter, and so is a line that is not there
            return bad or (unsure and line in c.dcache.lines)
        if bad and not unsure and line in c.dcache.lines:
            verb = "store" if store else "load"
            c.report(
                event, f"D-cache line {line:#010x}: {verb} at {event.addr:#010x} answered okay although parity is wrong", line
            )
        return False

    def write_back_done(self, event: Event, spoiled: bool, cause: int) -> None:
        """Memory answered a write-back of a line; ``flags[1]`` says that a word of it had wrong parity."""
        c = self.c
        if spoiled != bool(event.flags & 2):
            what = f"D-cache line {event.addr:#010x}: write-back answered: parity error"
            c.report(event, what, event.addr, spoiled, bool(event.flags & 2))
        if spoiled:
            c.maintenance.write_back_error(event.addr, Cause(cause))
