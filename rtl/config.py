# SPDX-License-Identifier: BSD-2-Clause
"""The configuration of the SoC and of its blocks: frozen, keyword-only, checked on construction.

Every derived width is a property computed once here, so that blocks never recompute them. A bad value raises
:class:`ConfigError`, whose text names the field, the value and the rule. :meth:`SocConfig.from_toml` reads the same
fields from a TOML file (tables ``[dcache]``, ``[icache]``, ``[memory]``, ``[dma]``, ``[device]``, ``[faults]``).
"""

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "CSR_BASE",
    "CSR_SIZE",
    "CacheConfig",
    "ConfigError",
    "DeviceConfig",
    "DmaConfig",
    "FaultConfig",
    "MemoryConfig",
    "SocConfig",
]

#: The CSR window (never cached); everything outside it and the memory window answers DECERR.
CSR_BASE = 0x1000_0000
CSR_SIZE = 0x1000


class ConfigError(ValueError):
    """A configuration value breaks a rule; the text names the field, the value and the rule."""


def _integer(name: str, value: Any, low: int, high: int, *, power_of_two: bool = False) -> None:
    rule = f"{'a power of two' if power_of_two else 'an integer'} from {low} to {high}"
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if good and power_of_two:
        good = value & (value - 1) == 0
    if not good:
        raise ConfigError(f"{name} must be {rule}, not {value!r}")


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """One cache. Defaults: 4 KiB, 2 ways, 32-byte lines, tree PLRU.

    ``sets`` (2..4096), ``ways`` (1..8) and ``line_bytes`` (16..128) are powers of two. ``replacement`` is ``"plru"``,
    ``"lru"`` or ``"random"``; ``replacement_seed`` (1..65535) starts the sequence of the last.
    ``write_buffer_lines`` is the depth
    of the write-back buffer in lines and ``fill_slots`` the number of demand fills in flight (D-cache only). ``prefetcher``
    builds the next-line prefetcher (a register switches it at run time; it is off after reset).
    ``partial_lines`` (D-cache only) says what an invalidate of a range does to a first or last line that the range covers only
    partly: ``"drop"`` it with the neighbour's bytes, or ``"clean"`` it first, as Arm v7's ``dma_inv_range`` does.

    ``write_policy`` (D-cache only) is ``"back"``: a store allocates its line and stays there, dirty, until the line leaves or
    is cleaned; or ``"through"``: a store changes its line if it is present, allocates none, and goes to memory as a write of just
    its bytes, so that no line is ever dirty. Then the write-back buffer is a store queue of four stores for each of
    ``write_buffer_lines``.
    ``parity`` (D-cache only) adds a parity bit to every byte and every tag, checked where they are used.
    """

    sets: int = 64
    ways: int = 2
    line_bytes: int = 32
    replacement: str = "plru"
    replacement_seed: int = 0xACE1
    write_buffer_lines: int = 4
    fill_slots: int = 4
    prefetcher: bool = True
    partial_lines: str = "drop"
    write_policy: str = "back"
    parity: bool = False

    def check(self, name: str) -> None:
        _integer(f"{name}.sets", self.sets, 2, 4096, power_of_two=True)
        _integer(f"{name}.ways", self.ways, 1, 8, power_of_two=True)
        _integer(f"{name}.line_bytes", self.line_bytes, 16, 128, power_of_two=True)
        _choice(f"{name}.replacement", self.replacement, ("plru", "lru", "random"))
        _integer(f"{name}.replacement_seed", self.replacement_seed, 1, 65535)
        _integer(f"{name}.write_buffer_lines", self.write_buffer_lines, 1, 8)
        _integer(f"{name}.fill_slots", self.fill_slots, 1, 8)
        _flag(f"{name}.prefetcher", self.prefetcher)
        _choice(f"{name}.partial_lines", self.partial_lines, ("drop", "clean"))
        _choice(f"{name}.write_policy", self.write_policy, ("back", "through"))
        _flag(f"{name}.parity", self.parity)

    @property
    def write_through(self) -> bool:
        return self.write_policy == "through"

    @property
    def write_entries(self) -> int:
        """What can be on its way to memory: lines, or stores."""
        return self.write_buffer_lines * (4 if self.write_through else 1)

    @property
    def size_bytes(self) -> int:
        return self.sets * self.ways * self.line_bytes

    @property
    def lines(self) -> int:
        return self.sets * self.ways

    @property
    def offset_bits(self) -> int:
        return (self.line_bytes - 1).bit_length()

    @property
    def index_bits(self) -> int:
        return (self.sets - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Memory window and the on-chip RAM backend's timing, in cycles.

    ``row_hit`` / ``row_miss`` / ``row_conflict``: cycles from accepting a burst to its first beat, by the state of
    the addressed bank's row buffer (open on that row / closed / open on another row). Every ``refresh_interval``
    cycles a refresh closes all rows and stalls new bursts for ``refresh_cycles`` (0 switches refresh off).
    """

    base: int = 0x8000_0000
    size: int = 256 * 1024
    backend: str = "bram"
    banks: int = 4
    row_bytes: int = 1024
    row_hit: int = 3
    row_miss: int = 6
    row_conflict: int = 9
    refresh_interval: int = 780
    refresh_cycles: int = 7

    def check(self) -> None:
        _integer("memory.size", self.size, 4096, 64 << 20, power_of_two=True)
        _integer("memory.base", self.base, 0, (1 << 32) - self.size)
        if self.base % self.size:
            raise ConfigError(f"memory.base must be a multiple of memory.size ({self.size:#x}), not {self.base:#x}")
        if self.base < CSR_BASE + CSR_SIZE and CSR_BASE < self.base + self.size:
            raise ConfigError(
                f"memory.base must keep the memory window [{self.base:#x}, {self.base + self.size:#x}) clear of the "
                f"CSR window [{CSR_BASE:#x}, {CSR_BASE + CSR_SIZE:#x}), not {self.base:#x}"
            )
        _choice("memory.backend", self.backend, ("bram",))
        _integer("memory.banks", self.banks, 1, 16, power_of_two=True)
        _integer("memory.row_bytes", self.row_bytes, 128, 65536, power_of_two=True)
        _integer("memory.row_hit", self.row_hit, 1, 255)
        _integer("memory.row_miss", self.row_miss, self.row_hit, 255)
        _integer("memory.row_conflict", self.row_conflict, self.row_miss, 255)
        _integer("memory.refresh_interval", self.refresh_interval, 0, 65535)
        _integer("memory.refresh_cycles", self.refresh_cycles, 0, 255)
        if self.refresh_interval and self.refresh_interval < 4 * max(self.refresh_cycles, 1):
            raise ConfigError(
                f"memory.refresh_interval must be 0 or at least 4 times memory.refresh_cycles "
                f"({self.refresh_cycles}), not {self.refresh_interval}"
            )


@dataclass(frozen=True, kw_only=True)
class DmaConfig:
    """DMA engine. ``chunk_bytes`` (8..64, a power of two): the chunk FIFO forwards only whole chunks aligned to it.

    ``fifo_chunks``: whole chunks that can wait for the bus. ``system_channels``: 1..4 system (subordinate) channels.
    ``cut_through``: bytes leave at once and no remainder stays (for experiments without S7).
    """

    chunk_bytes: int = 16
    fifo_chunks: int = 4
    system_channels: int = 1
    cut_through: bool = False

    def check(self) -> None:
        _integer("dma.chunk_bytes", self.chunk_bytes, 8, 64, power_of_two=True)
        _integer("dma.fifo_chunks", self.fifo_chunks, 2, 64, power_of_two=True)
        _integer("dma.system_channels", self.system_channels, 1, 4)
        _flag("dma.cut_through", self.cut_through)


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """The storage-like device; ``buffer_bytes`` (a power of two) is its own buffer."""

    buffer_bytes: int = 64 * 1024

    def check(self) -> None:
        _integer("device.buffer_bytes", self.buffer_bytes, 256, 4 << 20, power_of_two=True)


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """Known faults of a platform, for experiments: the hardware really has them and the reference model knows them.

    ``maintenance_ignores_tail``: a range command skips the last line when the range does not end on a line.
    ``maintenance_point_of_unification``: clean reports done when its write-backs are in the write-back buffer.
    """

    maintenance_ignores_tail: bool = False
    maintenance_point_of_unification: bool = False

    def check(self) -> None:
        for f in dataclasses.fields(self):
            _flag(f"faults.{f.name}", getattr(self, f.name))


@dataclass(frozen=True, kw_only=True)
class SocConfig:
    """The whole SoC. ``data_width``: 32, 64 or 128 bits of every AXI4 port. ``coherency``: ``"none"`` or ``"snoop"``.

    Raises
    ------
    ConfigError
        If a value breaks its rule; the text names field, value and rule.
    """

    data_width: int = 64
    coherency: str = "none"
    dcache: CacheConfig = field(default_factory=CacheConfig)
    icache: CacheConfig = field(default_factory=CacheConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    dma: DmaConfig = field(default_factory=DmaConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    faults: FaultConfig = field(default_factory=FaultConfig)

    def __post_init__(self) -> None:
        if self.data_width not in (32, 64, 128) or isinstance(self.data_width, bool):
            raise ConfigError(f"data_width must be one of 32, 64, 128, not {self.data_width!r}")
        _choice("coherency", self.coherency, ("none", "snoop"))
        for name, kind in _TABLES.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} must be a {kind.__name__}, not {getattr(self, name)!r}")
        self.dcache.check("dcache")
        self.icache.check("icache")
        self.memory.check()
        self.dma.check()
        self.device.check()
        self.faults.check()
        if self.icache.write_through:
            raise ConfigError(f"icache.write_policy must be 'back': nothing is stored in it, not {self.icache.write_policy!r}")
        if self.icache.line_bytes != self.dcache.line_bytes:
            raise ConfigError(
                f"icache.line_bytes must equal dcache.line_bytes ({self.dcache.line_bytes}), not {self.icache.line_bytes}"
            )
        if self.icache.partial_lines != "drop":
            raise ConfigError(
                f"icache.partial_lines must be 'drop': its lines are never dirty, not {self.icache.partial_lines!r}"
            )
        if self.icache.parity:
            raise ConfigError("icache.parity must be false: only the D-cache has parity, not True")
        for name in ("dcache", "icache"):
            line = getattr(self, name).line_bytes
            if line < 2 * self.data_bytes:
                raise ConfigError(
                    f"{name}.line_bytes must be at least two beats of data_width ({2 * self.data_bytes} bytes), not {line}"
                )
        if self.dma.chunk_bytes > self.dcache.line_bytes:
            raise ConfigError(
                f"dma.chunk_bytes must be at most dcache.line_bytes ({self.dcache.line_bytes}), not {self.dma.chunk_bytes}"
            )
        if self.dma.chunk_bytes < self.data_bytes:
            raise ConfigError(
                f"dma.chunk_bytes must be at least one beat of data_width ({self.data_bytes} bytes), not {self.dma.chunk_bytes}"
            )

    @property
    def data_bytes(self) -> int:
        return self.data_width // 8

    @property
    def coherent(self) -> bool:
        return self.coherency == "snoop"

    def replace(self, **changes: Any) -> "SocConfig":
        """A copy with changes; ``table__field=value`` reaches into a table (``dma__chunk_bytes=8``)."""
        top: dict[str, Any] = {}
        for key, value in changes.items():
            table, _, name = key.partition("__")
            if name:
                top[table] = dataclasses.replace(top.get(table, getattr(self, table)), **{name: value})
            else:
                top[table] = value
        return dataclasses.replace(self, **top)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with any value."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SocConfig":
        """Builds a configuration from nested dicts; raises :class:`ConfigError` on an unknown or ill-typed key."""
        known = {f.name for f in dataclasses.fields(cls)}
        arguments: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(f"{key} is not a configuration key; the keys are {', '.join(sorted(known))}")
            if key in _TABLES:
                kind = _TABLES[key]
                names = {f.name for f in dataclasses.fields(kind)}
                if not isinstance(value, dict):
                    raise ConfigError(f"{key} must be a table, not {value!r}")
                for name in value:
                    if name not in names:
                        raise ConfigError(
                            f"{key}.{name} is not a configuration key; the keys of {key} are {', '.join(sorted(names))}"
                        )
                arguments[key] = kind(**value)
            else:
                arguments[key] = value
        return cls(**arguments)

    @classmethod
    def from_toml(cls, path: str | Path) -> "SocConfig":
        """Reads a TOML file; raises :class:`ConfigError` if it is missing, not TOML, or breaks a rule."""
        try:
            with open(path, "rb") as file:
                values = tomllib.load(file)
        except OSError as error:
            raise ConfigError(f"configuration file {str(path)!r} must be readable: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"configuration file {str(path)!r} must be TOML: {error}") from None
        return cls.from_dict(values)


_TABLES = {
    "dcache": CacheConfig,
    "icache": CacheConfig,
    "memory": MemoryConfig,
    "dma": DmaConfig,
    "device": DeviceConfig,
    "faults": FaultConfig,
}
