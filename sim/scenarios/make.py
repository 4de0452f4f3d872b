# SPDX-License-Identifier: BSD-2-Clause
"""Helpers for the tables of the catalogue: one entry becomes one scenario per platform."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from .model import COHERENT, NON_COHERENT, PLATFORMS, Corruption, Scenario

__all__ = ["FLUSH_BEFORE_READ", "FLUSH_BEFORE_WRITE", "FLUSH_AFTER_PIO", "ADAPTER_FLUSH", "both", "name_of"]

FLUSH_BEFORE_WRITE = "KeFlushIoBuffers(Mdl, ReadOperation=FALSE, DmaOperation=TRUE) before the transfer"
FLUSH_BEFORE_READ = "KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=TRUE) before the transfer"
FLUSH_AFTER_PIO = "KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=FALSE) after the PIO read"
ADAPTER_FLUSH = {
    "system": "FlushAdapterBuffers at the end of the transfer",
    "bus-master": "PutScatterGatherList (which flushes the adapter's buffers) at the end of the transfer",
    "common-cached": "FlushAdapterBuffers at the end of the transfer",
    "common-uncached": "FlushAdapterBuffers at the end of the transfer",
}


def name_of(row: str, mode: str, discipline: str, platform: str, *variant: str) -> str:
    """``row/mode/discipline/platform`` and what tells it from its siblings."""
    return "/".join([row, mode, discipline, platform, *(part for part in variant if part)])


def both(
    *,
    row: str,
    mode: str,
    discipline: str,
    story: str,
    variant: tuple[str, ...] = (),
    options: Mapping[str, Any],
    wrong: Iterable[Corruption] = (),
    wrong_coherent: Iterable[Corruption] = (),
    roots: Iterable[str] = (),
    roots_coherent: Iterable[str] | None = None,
    roots_where: Mapping[str, Iterable[str]] = MappingProxyType({}),
    platforms: tuple[str, ...] = PLATFORMS,
    size: str = "telling",
    quick_size: str | None = None,
    **rest: Any,
) -> Iterator[Scenario]:
    """The scenario on both platforms. Without ``roots_coherent`` the findings are the same there (latent, where caches rule).

    A device-to-memory transfer into a streaming buffer with loose ends gets the checker's warning about them (R09) by itself.
    """
    where = {place: frozenset(rules) for place, rules in roots_where.items()}
    if mode in ("system", "bus-master") and not options.get("write_to_device") and story != "shared_line":
        where["loose-ends"] = frozenset({"R09"})
    for platform in platforms:
        coherent = platform == COHERENT
        yield Scenario(
            name=name_of(row, mode, discipline, platform, *variant),
            row=row,
            mode=mode,
            discipline=discipline,
            platform=platform,
            story=story,
            options=dict(options),
            corruption=tuple(wrong_coherent if coherent else wrong),
            roots=frozenset(roots if roots_coherent is None or not coherent else roots_coherent),
            roots_where=where,
            size=size,
            quick_size=quick_size or size,
            **rest,
        )


def only(platform: str) -> tuple[str, ...]:
    """One platform, checked."""
    if platform not in (NON_COHERENT, COHERENT):
        raise ValueError(f"platform must be one of {', '.join(PLATFORMS)}, not {platform!r}")
    return (platform,)
