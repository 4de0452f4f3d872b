# SPDX-License-Identifier: BSD-2-Clause
"""Cache maintenance by address: what every flush of the higher layers comes down to.

An operation returns when the maintenance unit reports *done*: the lines are in the state the operation promises, and memory (the
point of coherency) has answered all write-backs. The hardware's unit is the line: a range touches each line that holds
one of its bytes, so an invalidate also drops a neighbour's bytes in the first and last line (with ``sys.features.partial_clean``
it cleans these two first where a range covers only a part of them).

:meth:`CacheMaintenance.post` gives a command and does not wait; :meth:`CacheMaintenance.barrier` does. The unit takes one command
at a time, so any later operation waits for a posted one first.
"""

import enum
from collections.abc import Iterable, Sequence
from typing import Any

from .bus import Bus, BusTimeout
from .errors import ArgumentError, MaintenanceError, check_integer, check_type
from .registers import IRQ, Registers
from .serial import Serial
from .trace import Call, Trace

__all__ = ["CacheMaintenance", "Op", "Target"]

_LINE, _RANGE, _EVERYTHING = 0, 1, 2


class Op(enum.IntEnum):
    """What happens to a line; the value is ``maint.cmd.op``."""

    CLEAN = 1  # dirty bytes go to memory, the line stays
    INVALIDATE = 2  # the line leaves the cache, dirty bytes are lost
    CLEAN_INVALIDATE = 3  # dirty bytes go to memory, then the line leaves

    @property
    def label(self) -> str:
        """The name in the call log."""
        return self.name.lower().replace("_", "+")


class Target(enum.IntFlag):
    """Which caches; the value is ``maint.cmd.target``. The I-cache is never dirty: it ignores CLEAN."""

    D = 1
    I = 2  # noqa: E741 (the cache is called that)
    BOTH = 3

    @property
    def label(self) -> str:
        """The name in the call log."""
        return {1: "d", 2: "i", 3: "both"}[int(self)]


class CacheMaintenance:
    """The maintenance unit.

    Parameters
    ----------
    bus, regs : the bus, and the registers on it. ``sys.irq_enable`` must have the MAINT bit set.
    trace : every operation is logged there as ``CacheMaintenance``.
    line_bytes : the step of :meth:`by_lines`; the line size that the software believes in.
    limit : cycles to wait for one command. The default is far above what cleaning a whole cache takes.
    """

    def __init__(self, bus: Bus, regs: Registers, trace: Trace, *, line_bytes: int, limit: int = 1_000_000):
        check_integer("line_bytes", line_bytes, 1, 4096)
        check_integer("limit", limit, 1, 1 << 40)
        self._bus, self._regs, self._trace, self._limit = bus, regs, trace, limit
        self.line_bytes = line_bytes
        self._serial = Serial(bus, "the maintenance unit")
        self._posted: tuple[Call, Op, int] | None = None  # given and not waited for

    async def line(self, op: Op, address: int, target: Target = Target.D) -> None:
        """Maintains the one line that holds ``address``, whatever its size. Logged with a length of one byte."""
        await self.run(op, [(address, 1)], target, _scope=_LINE)

    async def range(self, op: Op, address: int, length: int, target: Target = Target.D) -> None:
        """Maintains every line that holds a byte of ``[address, address + length)``: one hardware command.

        Cost: bound by the smaller of the lines in the range and the lines in the cache, plus the write-backs.
        """
        await self.run(op, [(address, length)], target)

    async def everything(self, op: Op, target: Target = Target.D) -> None:
        """Maintains the whole cache. INVALIDATE of everything loses every dirty byte of everybody."""
        await self.run(op, None, target)

    async def by_lines(
        self, op: Op, address: int, length: int, target: Target = Target.D, *, line_bytes: int | None = None
    ) -> None:
        """The same as :meth:`range` in software: one line command per assumed line.

        ``line_bytes`` defaults to the assumed line size. If that is larger than the cache's, lines are skipped; if it is
        smaller, lines are maintained twice, which costs time only. (Real kernels have had both bugs.)
        """
        await self.run(op, [(address, length)], target, step=self.line_bytes if line_bytes is None else line_bytes)

    async def run(
        self,
        op: Op,
        ranges: Sequence[Sequence[int]] | None,
        target: Target = Target.D,
        *,
        requested_by: str = "driver",
        step: int | None = None,
        _scope: int = _RANGE,
    ) -> None:
        """One logged operation over ``ranges`` (pairs of address and length in bytes; None means everything).

        Parameters
        ----------
        requested_by : ``"driver"`` if a driver asked for these addresses, ``"hal"`` if this is part of another call.
        step : None lets the hardware walk the range; a number of bytes walks it in software by that line size.

        Raises
        ------
        ArgumentError
            If an argument is of the wrong kind, a length is zero, or a range leaves the 32-bit address space.
        MaintenanceError
            If a write-back got a bus error, or the unit was started by somebody else meanwhile.
        BusTimeout
            If the unit is not done after ``limit`` cycles; it is told to abort first.
        """
        if requested_by not in ("driver", "hal"):
            raise ArgumentError(f"requested_by must be 'driver' or 'hal', not {requested_by!r}")
        pairs = _checked(op, ranges, target, step)
        with self._trace.call("CacheMaintenance", **_shown(op, pairs, target), requested_by=requested_by):
            async with self._serial:
                await self._finish()
                for scope, address, length in self._commands(pairs, step, _scope):
                    await self._command(op, scope, address, length, target)

    async def post(
        self, op: Op, ranges: Sequence[Sequence[int]] | None, target: Target = Target.D, *, step: int | None = None
    ) -> None:
        """Gives the command and returns when the unit has taken it; it is complete after :meth:`barrier`.

        In the call log the operation ends where something has waited for it. Of several ranges (or lines) only the last command
        is left running. Parameters and errors as :meth:`run`; errors of the operation itself are raised by whatever waits for it.
        """
        pairs = _checked(op, ranges, target, step)
        async with self._serial:
            await self._finish()
            call = self._trace.call("CacheMaintenance", **_shown(op, pairs, target), requested_by="driver")
            call.context.calls.remove(call.number)  # what follows is not part of it
            try:
                commands = list(self._commands(pairs, step, _RANGE))
                for scope, address, length in commands[:-1]:
                    await self._command(op, scope, address, length, target)
                scope, address, length = commands[-1]
                await self._give(op, scope, address, length, target)
            except BaseException as error:
                self._trace.end(call, error)
                raise
            self._posted = call, op, address

    async def barrier(self) -> None:
        """Waits for the operation that :meth:`post` left running; nothing, not even a bus access, if there is none.

        Raises :class:`MaintenanceError` and :class:`BusTimeout` as :meth:`run`.
        """
        async with self._serial:
            await self._finish()

    async def _finish(self) -> None:
        if self._posted is None:
            return
        (call, op, address), self._posted = self._posted, None
        try:
            await self._wait(op, address)
        except BaseException as error:
            self._trace.end(call, error)
            raise
        self._trace.end(call, None)

    @staticmethod
    def _commands(pairs: list[tuple[int, int]] | None, step: int | None, scope: int) -> Iterable[tuple[int, int, int]]:
        if pairs is None:
            yield _EVERYTHING, 0, 0
            return
        for address, length in pairs:
            if step is None:
                yield scope, address, length
            else:
                for line in range(address - address % step, address + length, step):
                    yield _LINE, line, 0

    async def _command(self, op: Op, scope: int, address: int, length: int, target: Target) -> None:
        await self._give(op, scope, address, length, target)
        await self._wait(op, address)

    async def _give(self, op: Op, scope: int, address: int, length: int, target: Target) -> None:
        maint = self._regs.maint
        await maint.status.clear()
        if scope != _EVERYTHING:
            await maint.start.write(address)
        if scope == _RANGE:
            await maint.length.write(length)
        await maint.cmd.write(op=int(op), scope=scope, target=int(target))

    async def _wait(self, op: Op, address: int) -> None:
        maint = self._regs.maint
        try:
            await self._bus.wait_interrupt(1 << IRQ.MAINT, self._limit, f"cache maintenance ({op.label} at {address:#010x})")
        except BusTimeout:
            await maint.cmd.write(abort=1)
            raise
        status = await maint.status.read()
        await maint.status.clear()
        if status.error or status.aborted:
            latched = await self._regs.dcache.error_status.read()
            where = int(await self._regs.dcache.error_addr.read()) if latched else None
            reason = "was aborted" if status.aborted else "got a bus error on a write-back, or was started while busy"
            at = "" if where is None else f"; the D-cache latched the line at {where:#010x}"
            raise MaintenanceError(f"Cache maintenance ({op.label} at {address:#010x}) {reason}{at}", where)


def _checked(op: Op, ranges: Sequence[Sequence[int]] | None, target: Target, step: int | None) -> list[tuple[int, int]] | None:
    check_type("op", op, Op)
    check_type("target", target, Target)
    if step is not None:
        check_integer("line_bytes", step, 1, 4096)
    return None if ranges is None else [_pair(item) for item in ranges]


def _shown(op: Op, pairs: list[tuple[int, int]] | None, target: Target) -> dict[str, Any]:
    log = None if pairs is None else [list(pair) for pair in pairs]
    return {"op": op.label, "target": target.label, "ranges": log}


def _pair(item: Sequence[int]) -> tuple[int, int]:
    try:
        address, length = item
    except (TypeError, ValueError):
        raise ArgumentError(f"ranges must be pairs of address and length, not {item!r}") from None
    check_integer("address", address, 0, (1 << 32) - 1)
    check_integer("length", length, 1, (1 << 32) - address)
    return address, length
