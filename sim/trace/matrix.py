# SPDX-License-Identifier: BSD-2-Clause
"""The comparison over policies and geometries: which configurations, in which simulations, and what came out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtl.config import SocConfig

from ..bench.harness import ROOT
from .format import Access, beats
from .functional import POLICIES
from .replay import Comparison, Pace, compare

__all__ = ["GEOMETRIES", "Row", "configuration", "run_matrix"]

_TOGETHER = 6  # caches in one simulation: one build instead of six
#: ``(sets, ways, line_bytes, data_width)``: all numbers of ways with all lengths of lines, over all widths of the bus.
GEOMETRIES = (
    (64, 1, 16, 64),
    (32, 1, 32, 64),
    (16, 1, 64, 64),
    (8, 1, 128, 64),
    (32, 2, 16, 32),
    (16, 2, 32, 32),
    (8, 2, 64, 32),
    (4, 2, 128, 32),
    (32, 4, 16, 64),
    (16, 4, 32, 64),
    (8, 4, 64, 64),
    (4, 4, 128, 64),
    (16, 8, 16, 64),
    (8, 8, 32, 64),
    (4, 8, 64, 64),
    (2, 8, 128, 64),
    (64, 2, 32, 128),
    (8, 4, 64, 128),
    (4, 8, 128, 128),
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    config: SocConfig
    pace: Pace
    result: Comparison


def configuration(sets: int, ways: int, line_bytes: int, data_width: int, policy: str) -> SocConfig:
    """A SoC with this D-cache; everything else as usual, but for what must fit the line and the bus."""
    return SocConfig(data_width=data_width).replace(
        dcache__sets=sets,
        dcache__ways=ways,
        dcache__line_bytes=line_bytes,
        dcache__replacement=policy,
        icache__line_bytes=line_bytes,
        dma__chunk_bytes=data_width // 8 if data_width > 32 else 8,
    )


def run_matrix(
    accesses: Sequence[Access],
    *,
    policies: Iterable[str] = POLICIES,
    geometries: Iterable[tuple[int, int, int, int]] = GEOMETRIES,
    paces: Iterable[Pace] = tuple(Pace),
    root: Path = ROOT,
) -> Iterator[Row]:
    """Compares every policy with every geometry at every pace; a cache of one way has nothing to choose and runs once.

    Memory's latency and its stalls differ from pace to pace. Errors as of :func:`~sim.trace.replay.compare`.
    """
    policies = tuple(policies)
    for width in (32, 64, 128):
        configs = [
            configuration(*shape, policy)
            for shape in geometries
            if shape[3] == width
            for policy in policies[: 1 if shape[1] == 1 else None]
        ]
        for start in range(0, len(configs), _TOGETHER):
            together = configs[start : start + _TOGETHER]
            stream = list(beats(accesses, together[0]))
            for number, pace in enumerate(paces):
                results = compare(together, stream, pace=pace, latency=(10, 1, 25)[number], stall=(0, 30, 10)[number], root=root)
                yield from (Row(config, pace, result) for config, result in zip(together, results))
