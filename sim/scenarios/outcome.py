# SPDX-License-Identifier: BSD-2-Clause
"""The table "expected outcome of device-to-memory, by discipline and state of the lines" of RULES.md, cell by cell.

Whole lines, no eviction but the one named. *w* is the moment at which the device's data reaches memory. The buffer is
filled by the CPU where it was dirty, by memory's complement where it was not; half of it is delivered in the
``undelivered`` variants, and the other half is the CPU's own and should survive.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from .make import FLUSH_BEFORE_READ, both
from .model import Corruption, Scenario

__all__ = ["CELLS", "DISCIPLINES", "STATES", "scenarios"]

#: Rows of the table: what the driver does before and after, beside draining the controller.
DISCIPLINES: dict[str, dict[str, Any]] = {
    "none": {"pre": "none", "invalidate_after_read": False},
    "clean-before": {"pre": "clean", "invalidate_after_read": False},
    "invalidate-before": {"pre": "invalidate", "invalidate_after_read": False},
    "clean-invalidate-before": {"pre": "flush", "invalidate_after_read": False},
    "invalidate-after": {"pre": "none", "invalidate_after_read": True},
    "clean-invalidate-before-invalidate-after": {"pre": "flush", "invalidate_after_read": True},
    "clean-invalidate-after": {"pre": "none", "invalidate_after_read": False, "after": "clean+invalidate"},
}

#: Columns, with the variants of the middle one.
STATES: dict[str, dict[str, Any]] = {
    "cached-clean": {"state": "cached"},
    "dirty-evicted-before": {"state": "dirty", "evict": "before"},
    "dirty-evicted-after": {"state": "dirty", "evict": "after"},
    "dirty-never-evicted": {"state": "dirty"},
    "dirty-undelivered": {"state": "dirty", "short": True},
    "prefetched-before": {"state": "absent", "prefetch": "before-start"},
    "prefetched-in-flight": {"state": "absent", "prefetch": "in-flight"},
}

_STALE, _OLD, _LOST = (
    Corruption("delivered", "stale", "the D-cache still held memory's earlier bytes, filled before w"),
    Corruption("delivered", "old", "the D-cache still held the CPU's earlier bytes", dirty=True),
    Corruption(
        "undelivered", "stale", "the invalidate discarded the CPU's dirty bytes that the device did not deliver", dirty=True
    ),
)
_OVER = Corruption("delivered", "old", "a dirty line was written back after w, over the device's data", dirty=True)


class Cell(NamedTuple):
    """What comes out on the non-coherent platform, and the checker's roots."""

    wrong: tuple[Corruption, ...] = ()
    roots: tuple[str, ...] = ()


def _cells() -> dict[tuple[str, str], Cell]:
    stale, old, over = (_STALE,), (_OLD,), (_OVER,)
    cells = {
        ("none", "cached-clean"): Cell(stale, ("R02",)),
        ("none", "dirty-evicted-before"): Cell((), ("R02",)),
        ("none", "dirty-evicted-after"): Cell(over, ("R02",)),
        ("none", "dirty-never-evicted"): Cell(old, ("R02",)),
        ("clean-before", "cached-clean"): Cell(stale, ("R04",)),
        ("clean-before", "dirty-evicted-before"): Cell((), ("R04",)),
        ("clean-before", "dirty-never-evicted"): Cell(old, ("R04",)),
        ("invalidate-before", "cached-clean"): Cell(),
        ("invalidate-before", "dirty-never-evicted"): Cell(),
        ("invalidate-before", "dirty-undelivered"): Cell((_LOST,), ("R07",)),
        ("clean-invalidate-before", "cached-clean"): Cell(),
        ("clean-invalidate-before", "dirty-never-evicted"): Cell(),
        ("clean-invalidate-before", "dirty-undelivered"): Cell(),
        ("invalidate-after", "cached-clean"): Cell((), ("R02",)),
        ("invalidate-after", "dirty-evicted-before"): Cell((), ("R02",)),
        ("invalidate-after", "dirty-evicted-after"): Cell(over, ("R02",)),
        ("invalidate-after", "dirty-never-evicted"): Cell((), ("R02",)),
        ("invalidate-after", "dirty-undelivered"): Cell((_LOST,), ("R02",)),
        ("clean-invalidate-before-invalidate-after", "cached-clean"): Cell(),
        ("clean-invalidate-before-invalidate-after", "dirty-never-evicted"): Cell(),
        ("clean-invalidate-before-invalidate-after", "dirty-undelivered"): Cell(),
        ("clean-invalidate-after", "cached-clean"): Cell((), ("R02",)),
        ("clean-invalidate-after", "dirty-evicted-before"): Cell((), ("R08",)),
        ("clean-invalidate-after", "dirty-evicted-after"): Cell(over, ("R08",)),
        ("clean-invalidate-after", "dirty-never-evicted"): Cell(over, ("R08",)),
    }
    for discipline in DISCIPLINES:
        after = discipline in ("invalidate-after", "clean-invalidate-before-invalidate-after", "clean-invalidate-after")
        nothing_before = discipline in ("none", "invalidate-after", "clean-invalidate-after")
        for state in ("prefetched-before", "prefetched-in-flight"):
            wrong, cause = ((), ()) if after else (stale, ("R04",))
            cells[discipline, state] = Cell(wrong, ("R02",) if nothing_before else cause)
    return cells


#: The table. Where nothing at all is called before the transfer that is the root (R02), even if no line was dirty: then it is
#: no more than a warning. Where old bytes are cleaned over the device's afterwards, that call is (R08). Pairs that are not here
#: say nothing new: after a flush before the transfer no line is dirty, so it does not matter when one would be written back.
CELLS = _cells()


def _coherent(discipline: str, state: str, cell: Cell) -> tuple[Corruption, ...]:
    """On the coherent platform only what the driver asks for by address can hurt: an invalidate still discards."""
    return cell.wrong if (discipline, state) == ("invalidate-before", "dirty-undelivered") else ()


def scenarios() -> Iterator[Scenario]:
    """Every cell, for system channel and bus master, on both platforms."""
    for mode in ("system", "bus-master"):
        for (discipline, state), cell in CELLS.items():
            yield from both(
                row="outcome",
                mode=mode,
                discipline=discipline,
                variant=(state,),
                story="transfer",
                options={"write_to_device": False, **DISCIPLINES[discipline], **STATES[state]},
                wrong=cell.wrong,
                wrong_coherent=_coherent(discipline, state, cell),
                roots=cell.roots,
                size="3line",
                quick_size="line" if "undelivered" not in state else "3line",
                source=("S1", "S5"),
                missing="" if not cell.wrong else FLUSH_BEFORE_READ + ", and an invalidate after it",
            )
