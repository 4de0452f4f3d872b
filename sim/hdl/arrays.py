# SPDX-License-Identifier: BSD-2-Clause
"""Where the hardware keeps its state, by hierarchical name: the only place of the simulation that looks inside the SoC.

The names are promised by the blocks' docstrings (``DCacheCore``, ``ICache``, ``BramBackend``, ``ChunkFifo``, ``StorageDevice``).
"""

from dataclasses import dataclass

from rtl.cache.native import Geometry
from rtl.config import CacheConfig, SocConfig

__all__ = ["Array", "dcache_arrays", "fifo_arrays", "icache_arrays", "memory_arrays"]

_SOC = "soc.dut"


@dataclass(frozen=True)
class Array:
    """A memory of ``depth`` rows, or (``depth`` 0) one signal, of ``width`` bits. ``backdoor``: a new run clears it."""

    name: str
    path: str
    width: int
    depth: int = 0
    backdoor: bool = False


def memory_arrays(config: SocConfig) -> tuple[Array, Array]:
    """RAM and device buffer, one row per bus beat."""
    width, size = config.data_width, config.data_bytes
    return (
        Array("memory", f"{_SOC}.memory.backend.ram", width, config.memory.size // size),
        Array("device", f"{_SOC}.device.buffer", width, config.device.buffer_bytes // size),
    )


def _tag_bits(config: SocConfig, cache: CacheConfig) -> int:
    """A tag holds only the bits that differ within the memory window, and at least one (rtl/cache/native.py)."""
    return max(config.memory.size.bit_length() - 1 - cache.offset_bits - cache.index_bits, 1)


def dcache_arrays(config: SocConfig) -> list[Array]:
    """Per way: tags (a row per set), the words' banks, and rows of valid and dirty bits; then which of these rows count.

    See :class:`rtl.cache.arrays.Arrays` and :class:`rtl.cache.linestate.LineState`.
    """
    path, cache, g = f"{_SOC}.dcache.core", config.dcache, Geometry(config)
    found = []
    for way in range(cache.ways):
        found.append(Array(f"dcache_tag_{way}", f"{path}.tag_{way}", g.tag_bits, g.sets, backdoor=True))
        for bank in range(g.banks):
            name = f"data_{way}_{bank}"
            found.append(Array(f"dcache_{name}", f"{path}.{name}", g.data_width, g.bank_rows, backdoor=True))
        for name in ("valid", "dirty"):
            found.append(Array(f"dcache_{name}_{way}", f"{path}.{name}_{way}", g.span, g.state_rows))
    return found + [Array(f"dcache_{name}", f"{path}.{name}", g.state_rows) for name in ("live", "stained")]


def icache_arrays(config: SocConfig) -> list[Array]:
    """Per way: tags and lines (a row per set), valid (a bit per set)."""
    path, cache = f"{_SOC}.icache", config.icache
    found = []
    for way in range(cache.ways):
        found.append(Array(f"icache_tag_{way}", f"{path}.tag_{way}", _tag_bits(config, cache), cache.sets, backdoor=True))
        found.append(Array(f"icache_data_{way}", f"{path}.data_{way}", cache.line_bytes * 8, cache.sets, backdoor=True))
        found.append(Array(f"icache_valid_{way}", f"{path}.valid_{way}", cache.sets))
    return found


def fifo_arrays(config: SocConfig) -> list[Array]:
    """The open chunk of each direction."""
    chunk = config.dma.chunk_bytes
    found = []
    for direction in ("to_memory", "to_stream"):
        path = f"{_SOC}.dma.mover.{direction}"
        found += [
            Array(f"{direction}_valid", f"{path}.open_valid", 1),
            Array(f"{direction}_addr", f"{path}.open_addr", 32),
            Array(f"{direction}_strb", f"{path}.open_strb", chunk),
            Array(f"{direction}_data", f"{path}.open_data", chunk * 8),
        ]
    return found
