# SPDX-License-Identifier: BSD-2-Clause
"""All scenarios, and what the matrix leaves out on purpose."""

import fnmatch
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from . import outcome, special, streaming
from .examples import DriverScenario, examples
from .model import Scenario

__all__ = ["MATRIX", "NOT_APPLICABLE", "AnyScenario", "UnknownScenario", "catalogue", "everything", "select"]

AnyScenario = Scenario | DriverScenario

_BEFORE = ("no-preflush", "preflush-early", "preflush-late")
_AFTER = ("no-adapter-flush", "adapter-flush-early", "adapter-flush-late")
_PIO = ("no-ioflush", "ioflush-early", "ioflush-late")

#: The anomaly table's rows and the disciplines that must each be there in every mode, on both platforms, unless
#: :data:`NOT_APPLICABLE` says why not.
MATRIX: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dma-write": ("all-flushes", "no-flushes", *_BEFORE, *_AFTER),
        "dma-read": ("all-flushes", "no-flushes", *_BEFORE, *_AFTER),
        "speculation": ("all-flushes", "to-the-letter", *_AFTER),
        "remainder": ("all-flushes", *_AFTER),
        "common-buffer": ("all-flushes", *_BEFORE),
        "pio": ("all-flushes", *_PIO),
    }
)

#: (row, mode, discipline, platform) patterns that have no scenario, each with its reason.
NOT_APPLICABLE: Mapping[tuple[str, str, str, str], str] = MappingProxyType(
    {
        ("dma-*", "pio", "*", "*"): "PIO moves no data by DMA; what a PIO read leaves behind is the row pio",
        ("speculation", "pio", "*", "*"): "PIO data comes through the CPU's own cache: a prefetch finds it there",
        ("remainder", "pio", "*", "*"): "the chunk FIFO is the DMA controller's; PIO does not pass it",
        ("dma-*", "common-uncached", "*preflush*", "*"): "S2: CacheEnabled=FALSE needs no KeFlushIoBuffers",
        ("speculation", "common-uncached", "to-the-letter", "*"): "an uncached buffer is read around the cache",
        ("speculation", "*", "adapter-flush-early", "*"): "after the early flush it is as no-adapter-flush",
        ("remainder", "*", "adapter-flush-early", "*"): "its runs are in dma-write and dma-read, with the same remainder",
        ("remainder", "*", "adapter-flush-late", "*"): "its runs are in dma-write and dma-read, with the same remainder",
        ("remainder", "system", "all-flushes", "*"): "its runs are dma-write and dma-read at all sizes",
        ("remainder", "bus-master", "all-flushes", "*"): "its runs are dma-write and dma-read at all sizes",
        ("common-buffer", "system", "*", "*"): "a common buffer is a mode of its own",
        ("common-buffer", "bus-master", "*", "*"): "a common buffer is a mode of its own",
        ("common-buffer", "pio", "*", "*"): "a common buffer is shared with a bus master or a system channel",
        ("common-buffer", "common-uncached", "*preflush*", "*"): "S2: CacheEnabled=FALSE needs no KeFlushIoBuffers",
        ("pio", "system", "*", "*"): "PIO is the mode; a DMA of the bytes that PIO stored is a variant of the row",
        ("pio", "bus-master", "*", "*"): "PIO is the mode; a DMA of the bytes that PIO stored is a variant of the row",
        ("pio", "common-*", "*", "*"): "PIO reads into a streaming buffer; a common buffer would be flushed the same way",
    }
)  # fmt: skip


class UnknownScenario(ValueError):
    """A name or pattern that matches nothing; the text has the nearest names."""


@lru_cache
def catalogue() -> Mapping[str, Scenario]:
    """All scenarios of the tables by name, in a fixed order; :func:`everything` also has the examples."""
    found: dict[str, Scenario] = {}
    for family in (streaming, outcome, special):
        for scenario in family.scenarios():
            if scenario.name in found:
                raise ValueError(f"scenario name must be unique, not {scenario.name!r} twice")
            found[scenario.name] = scenario
    return MappingProxyType(found)


@lru_cache
def everything() -> Mapping[str, AnyScenario]:
    """The tables' scenarios, then the examples of rules and cases."""
    return MappingProxyType({**catalogue(), **examples()})


def not_applicable(row: str, mode: str, discipline: str, platform: str) -> str:
    """Why there is no such scenario; empty if there should be one."""
    for patterns, reason in NOT_APPLICABLE.items():
        if all(fnmatch.fnmatchcase(value, pattern) for value, pattern in zip((row, mode, discipline, platform), patterns)):
            return reason
    return ""


def select(names: Iterable[str]) -> list[AnyScenario]:
    """The scenarios of names, prefixes (``dma-read/system``) and glob patterns, in catalogue order; all if there is no name.

    Raises
    ------
    UnknownScenario
        If one of them matches nothing.
    """
    known = everything()
    names = list(names)
    if not names:
        return list(known.values())
    chosen: set[str] = set()
    for name in names:
        if name in known:
            chosen.add(name)
            continue
        matching = [each for each in known if fnmatch.fnmatchcase(each, name) or each.startswith(name.rstrip("/") + "/")]
        if not matching:
            raise UnknownScenario(_unknown(name, known))
        chosen.update(matching)
    return [scenario for name, scenario in known.items() if name in chosen]


def _unknown(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f" (nearest: {', '.join(near)})" if near else ""
    return f"scenario must be a name, prefix or pattern of the catalogue ('flushpoint list' shows it), not {name!r}{hint}"
