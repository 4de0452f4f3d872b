# SPDX-License-Identifier: BSD-2-Clause
"""The functional model beside a recorded run of the whole SoC (``python -m sim run --keep``).

The model follows the CPU's cached accesses by itself. What other agents do to lines (maintenance, snoops, commands) is
told to it from the record; what accesses do (hits, fills, victims) is compared with it.
"""

from dataclasses import dataclass, field

from rtl.probe import Cause, Kind
from sim.record import Run

from .functional import FunctionalCache
from .replay import functional_cache

__all__ = ["Follower", "follow"]


@dataclass
class Follower:
    """The model after a run, and in words what differed."""

    model: FunctionalCache
    differences: list[str] = field(default_factory=list)


def follow(run: Run) -> Follower:
    """Compares the D-cache's records of a run, in their order, with the model.

    The run's prefetcher must have been off: when a prefetch happens is a matter of time.
    """
    c = run.config.dcache
    model = functional_cache(run.config)
    result = Follower(model)
    fills: list[int] = []  # decided, and the victims that left for them, until the access is recorded
    victims: list[tuple[int, bool]] = []
    for event in run.events:
        if event.kind in (Kind.LOAD, Kind.STORE):
            outcome = model.access(event.addr, write=event.kind == Kind.STORE)
            if bool(event.flags & 2) != outcome.hit:
                result.differences.append(
                    f"cycle {event.cycle}: access to {event.addr:#010x} should be a {'hit' if outcome.hit else 'miss'}"
                )
            if not outcome.hit and outcome.way is not None:
                line = event.addr - event.addr % c.line_bytes
                left = [] if outcome.victim is None else [(outcome.victim, outcome.written_back)]
                if fills[:1] != [line] or victims[: len(left)] != left:
                    result.differences.append(f"cycle {event.cycle}: fill of {line:#010x} should replace {left}, not {victims}")
                del fills[:1], victims[: len(left)]
        elif event.kind == Kind.FILL_REQUEST:
            fills.append(event.addr)
        elif event.kind == Kind.EVICT and event.aux == Cause.DEMAND:
            victims.append((event.addr, bool(event.flags & 1)))
        elif event.kind == Kind.INVALIDATE and event.flags & 2:
            model.drop_all(dirty_too=bool(event.flags & 1))
        elif event.kind in (Kind.EVICT, Kind.INVALIDATE) or (event.kind == Kind.SNOOP_WRITE and event.flags & 2):
            model.drop(event.addr)
        elif event.kind == Kind.CLEAN:
            model.clean(event.addr)
    result.differences += [f"fill of {line:#010x} without an access" for line in fills]
    return result
