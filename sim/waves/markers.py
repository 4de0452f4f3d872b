# SPDX-License-Identifier: BSD-2-Clause
"""Finds the moments of a run that a reader of its waves wants to see: hand-off, flush, first corrupted byte."""

from collections.abc import Iterator, Mapping

from rtl.probe import Kind, Source

from ..record import Event, Run
from .save import Markers

__all__ = ["find_markers"]

_TO_DEVICE = 1 << 31
_MEMORY, _DEVICE = False, True  # the two address spaces
_STORES = (Kind.STORE, Kind.UNCACHED_STORE)


def _beat(event: Event) -> tuple[bool, int] | None:
    """Address space and strobes of an event that shows bytes; None for all others.

    Fills are not looked at (what they take is seen when the CPU loads it), the engine's reads of memory are.
    """
    kind, aux = event.kind, event.aux
    if kind == Kind.MEM_WRITE:
        return None if event.flags & 1 else (_MEMORY, aux >> 8)
    if kind == Kind.MEM_READ:
        return (_MEMORY, -1) if aux == Source.DMA_DATA and not event.flags & 1 else None
    if kind in (Kind.LOAD, Kind.UNCACHED_LOAD, Kind.FETCH, *_STORES):
        return _MEMORY, aux
    if kind in (Kind.PUSH, Kind.DRAIN):
        return bool(aux & _TO_DEVICE), aux & ~_TO_DEVICE
    if kind in (Kind.DEV_WRITE, Kind.DEV_READ):
        return _DEVICE, aux
    return None


def _bytes(event: Event, strobes: int, beat_bytes: int) -> Iterator[tuple[int, int]]:
    """Address and value of each byte that an event shows."""
    for lane in range(beat_bytes):
        if strobes >> lane & 1:
            yield event.addr + lane, event.data >> 8 * lane & 0xFF


def _corruption(run: Run, right: Mapping[tuple[bool, int], int]) -> tuple[int, int]:
    """Cycles of the first beat that shows a wrong byte, and of the hand-off of the transfer it belongs to (or -1).

    A byte counts as wrong from the first beat that shows a wrong value with no right one after it. What a beat showed before
    the mover took on the byte (SEGMENT) is another story and does not count. A wrong value that the CPU stores is what the
    program wanted at that time; a right one sets the byte right.
    """
    wrong: dict[tuple[bool, int], tuple[int, int]] = {}
    owner: dict[tuple[bool, int], int] = {}
    handoff, beat_bytes = -1, run.config.data_bytes
    for event in run.events:
        if event.kind == Kind.HANDOFF:
            handoff = event.cycle
        elif event.kind == Kind.SEGMENT:
            length = event.aux >> 1
            for key in right:
                start = event.data if key[0] == _DEVICE else event.addr
                if start <= key[1] < start + length:
                    wrong.pop(key, None)
                    owner[key] = handoff
        elif (shown := _beat(event)) is not None:
            space, strobes = shown
            for address, value in _bytes(event, strobes, beat_bytes):
                key = (space, address)
                if key not in right:
                    continue
                if value == right[key]:
                    wrong.pop(key, None)
                elif event.kind not in _STORES:
                    wrong.setdefault(key, (event.cycle, owner.get(key, -1)))
    return min(wrong.values(), default=(-1, -1))


def find_markers(run: Run, memory: Mapping[int, int] | None = None, device: Mapping[int, int] | None = None) -> Markers:
    """The hand-off, the flush that goes with it, and the first beat that shows a corrupted byte.

    Parameters
    ----------
    run:
        The record of the run.
    memory, device:
        The right value of each byte that ended up wrong, by memory address and by offset in the device's buffer.

    The hand-off is that of the transfer which got the byte wrong, else the run's last. The flush is the last cache
    maintenance command between the hand-off before (if any) and this one; if there is none, the first cache or FIFO flush
    after it; in a run without a hand-off the first of all.
    """
    right = {(_MEMORY, address): value for address, value in (memory or {}).items()}
    right |= {(_DEVICE, offset): value for offset, value in (device or {}).items()}
    corruption, handoff = _corruption(run, right)
    handoffs = [event.cycle for event in run.events if event.kind == Kind.HANDOFF]
    if handoff < 0 and handoffs:
        handoff = handoffs[-1]
    before = max((cycle for cycle in handoffs if cycle < handoff), default=-1)
    begins = [event for event in run.events if event.kind in (Kind.MAINT_BEGIN, Kind.FLUSH_BEGIN)]
    early = [event.cycle for event in begins if event.kind == Kind.MAINT_BEGIN and before < event.cycle <= handoff]
    late = [event.cycle for event in begins if event.cycle > handoff]
    flush = early[-1] if early else late[0] if late else -1
    return Markers(handoff, flush, corruption)
