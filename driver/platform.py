# SPDX-License-Identifier: BSD-2-Clause
"""What the software believes about the machine, and what a flush becomes on it.

Belief and hardware can differ: that is an experiment of its own (a wrong coherency flag, a wrong line size), so every
field can be overridden after discovery.
"""

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .architecture import ARCHITECTURE_NAMES
from .bus import Bus
from .errors import PlatformError, check_flag, check_integer, check_type
from .maintenance import Op, Target
from .registers import Registers

__all__ = ["BOUNCE_MODES", "FLUSH_TABLE", "CacheStep", "FlushCall", "HalOptions", "Platform", "flush_table"]

#: Values of :attr:`HalOptions.bounce`.
BOUNCE_MODES = ("needed", "unaligned", "always")


class FlushCall(enum.Enum):
    """The calls and moments at which a platform may have cache work to do."""

    KE_FLUSH_DMA_WRITE = "KeFlushIoBuffers(FALSE, TRUE), before memory-to-device"
    KE_FLUSH_DMA_READ = "KeFlushIoBuffers(TRUE, TRUE), before device-to-memory"
    KE_FLUSH_PIO_READ = "KeFlushIoBuffers(TRUE, FALSE), after a PIO read"
    KE_FLUSH_PIO_WRITE = "KeFlushIoBuffers(FALSE, FALSE)"
    FLUSH_ADAPTER_READ = "v1/v2 FlushAdapterBuffers or PutScatterGatherList, after device-to-memory"
    MAP_EX_WRITE = "v3 MapTransferEx, memory-to-device"
    MAP_EX_READ = "v3 MapTransferEx, device-to-memory"
    FLUSH_EX_READ = "v3 FlushAdapterBuffersEx, after device-to-memory"
    UNCACHE = "AllocateCommonBuffer(CacheEnabled=FALSE): the range changes its attribute"
    BOUNCE_TO_DEVICE = "bounce bytes, before memory-to-device"
    BOUNCE_FROM_DEVICE = "bounce bytes, before device-to-memory"
    BOUNCE_TO_CPU = "bounce bytes, before they are copied back"
    BOUNCED_READ = "a buffer into which map registers were copied back"


@dataclass(frozen=True)
class CacheStep:
    """One maintenance operation of a flush."""

    op: Op
    target: Target


_CLEAN_D = CacheStep(Op.CLEAN, Target.D)
_DROP_I = CacheStep(Op.INVALIDATE, Target.I)
_DROP = CacheStep(Op.INVALIDATE, Target.BOTH)
_CLEAN_DROP = CacheStep(Op.CLEAN_INVALIDATE, Target.BOTH)

#: The platform table with both options on, steps in order. The D-cache is cleaned before the I-cache is invalidated:
#: the other way round a fetch in between would bring the old bytes back.
FLUSH_TABLE: Mapping[FlushCall, tuple[CacheStep, ...]] = MappingProxyType(
    {
        FlushCall.KE_FLUSH_DMA_WRITE: (_CLEAN_D,),
        FlushCall.KE_FLUSH_DMA_READ: (_CLEAN_DROP,),
        FlushCall.KE_FLUSH_PIO_READ: (_CLEAN_D, _DROP_I),
        FlushCall.KE_FLUSH_PIO_WRITE: (_CLEAN_D,),
        FlushCall.FLUSH_ADAPTER_READ: (_DROP,),
        FlushCall.MAP_EX_WRITE: (_CLEAN_D,),
        FlushCall.MAP_EX_READ: (_CLEAN_DROP,),
        FlushCall.FLUSH_EX_READ: (_DROP,),
        FlushCall.UNCACHE: (_CLEAN_DROP,),
        FlushCall.BOUNCE_TO_DEVICE: (_CLEAN_D,),
        FlushCall.BOUNCE_FROM_DEVICE: (CacheStep(Op.CLEAN_INVALIDATE, Target.D),),
        FlushCall.BOUNCE_TO_CPU: (CacheStep(Op.INVALIDATE, Target.D),),
        FlushCall.BOUNCED_READ: (_CLEAN_D, _DROP_I),
    }
)


@dataclass(frozen=True, kw_only=True)
class HalOptions:
    """Choices of the HAL.

    Parameters
    ----------
    invalidate_after_read : v1/v2 FlushAdapterBuffers and PutScatterGatherList also invalidate the buffer after a
        device-to-memory transfer, so that lines a speculating CPU filled meanwhile are dropped. Off: to the letter of v1/v2.
    clean_before_read : v3 MapTransferEx also cleans and invalidates before a device-to-memory transfer. Off: to the letter
        of v3.
    architecture : whose tables the HAL follows: ``"wdk"`` (the platform table of this module), or for the Linux DMA API
        ``"arm"``, ``"arm64"``, ``"riscv"``, ``"mips"`` (:mod:`driver.architecture`).
    speculates : the CPU may fill lines nobody asked for, so that Linux invalidates after a transfer, too.
    bounce : when a transfer goes through a bounce buffer: ``"needed"`` (the device does not reach the buffer, or takes one
        contiguous range and the buffer is in pieces), ``"unaligned"`` (also when a device-to-memory buffer does not begin and
        end on a line), ``"always"``.
    bounce_bytes : most bytes of bounce buffers that one owner holds at a time.
    bounce_copies_whole : device-to-memory bounce buffers begin with whatever was there and are copied back whole. A device that
        writes less then changes bytes it never wrote (rule R52).
    line_loop : flushes walk the buffer in software, by the assumed line size, instead of giving the hardware a range.
    maintenance_limit : cycles to wait for one maintenance command.
    drain_limit : cycles to wait for one flush of the DMA engine; above the engine's own ``dma.flush_timeout``.
    """

    invalidate_after_read: bool = True
    clean_before_read: bool = True
    line_loop: bool = False
    architecture: str = "wdk"
    speculates: bool = True
    bounce: str = "needed"
    bounce_bytes: int = 64 * 1024
    bounce_copies_whole: bool = False
    maintenance_limit: int = 1_000_000
    drain_limit: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("invalidate_after_read", "clean_before_read", "line_loop", "speculates", "bounce_copies_whole"):
            check_flag(f"HalOptions.{name}", getattr(self, name), error=PlatformError)
        for name, known in (("architecture", ARCHITECTURE_NAMES), ("bounce", BOUNCE_MODES)):
            if getattr(self, name) not in known:
                raise PlatformError(f"HalOptions.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        check_integer("HalOptions.bounce_bytes", self.bounce_bytes, 0, 1 << 32, error=PlatformError)
        for name in ("maintenance_limit", "drain_limit"):
            check_integer(f"HalOptions.{name}", getattr(self, name), 1, 1 << 40, error=PlatformError)


def flush_table(options: HalOptions) -> Mapping[FlushCall, tuple[CacheStep, ...]]:
    """The platform table under these options; a row that an option switches off is empty."""
    off = set()
    if not options.invalidate_after_read:
        off.add(FlushCall.FLUSH_ADAPTER_READ)
    if not options.clean_before_read:
        off.add(FlushCall.MAP_EX_READ)
    return MappingProxyType({call: () if call in off else steps for call, steps in FLUSH_TABLE.items()})


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The machine as the HAL was told.

    Parameters
    ----------
    coherent : the DMA snoops the caches; flushes of the cache become nothing.
    line_bytes : the assumed cache line, a power of two; step of the line loop, and the DMA alignment on a non-coherent machine.
    chunk_bytes : bytes per chunk of the DMA engine.
    memory_base, memory_size : the memory window, bytes.
    system_channels : how many system (subordinate) DMA channels there are.
    options : the HAL's choices.
    """

    coherent: bool
    line_bytes: int = 32
    chunk_bytes: int = 16
    memory_base: int = 0x8000_0000
    memory_size: int = 256 * 1024
    system_channels: int = 1
    options: HalOptions = field(default_factory=HalOptions)

    def __post_init__(self) -> None:
        check_flag("Platform.coherent", self.coherent, error=PlatformError)
        for name, low, high in (("line_bytes", 4, 4096), ("chunk_bytes", 1, 4096)):
            value = check_integer(f"Platform.{name}", getattr(self, name), low, high, error=PlatformError)
            if value & (value - 1):
                raise PlatformError(f"Platform.{name} must be a power of two, not {value}")
        check_integer("Platform.memory_base", self.memory_base, 0, (1 << 32) - 4096, error=PlatformError, multiple_of=4096)
        limit = (1 << 32) - self.memory_base
        check_integer("Platform.memory_size", self.memory_size, 4096, limit, error=PlatformError, multiple_of=4096)
        check_integer("Platform.system_channels", self.system_channels, 1, 4, error=PlatformError)
        check_type("Platform.options", self.options, HalOptions, error=PlatformError)

    @classmethod
    async def discover(cls, bus: Bus, **beliefs: Any) -> "Platform":
        """Reads the platform from the hardware's registers (five bus accesses), then applies ``beliefs`` (any field).

        Raises
        ------
        RegisterError
            If this is not the hardware the driver knows.
        PlatformError
            If a belief is not a field or breaks its rule.
        """
        regs = await Registers.discover(bus)
        features = await regs.sys.features.read()
        found = cls(
            coherent=bool(features.coherent),
            line_bytes=features.line_bytes,
            chunk_bytes=features.chunk_bytes,
            memory_base=int(await regs.sys.mem_base.read()),
            memory_size=int(await regs.sys.mem_size.read()),
            system_channels=features.system_channels,
        )
        return found.replace(**beliefs)

    def replace(self, **changes: Any) -> "Platform":
        """A copy with other beliefs; raises :class:`PlatformError` for an unknown field or a bad value."""
        known = {f.name for f in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise PlatformError(f"Platform field must be one of {', '.join(sorted(known))}, not {name!r}")
        return dataclasses.replace(self, **changes)

    def contains(self, address: int, length: int) -> bool:
        """Whether ``[address, address + length)`` lies in the memory window."""
        return self.memory_base <= address and address + length <= self.memory_base + self.memory_size

    def reach_end(self, width: int | None) -> int:
        """The first address that a device with ``width`` address bits does not reach; None reaches all of memory.

        The device reaches the first ``2**width`` bytes of the memory window, as behind a bus offset.
        """
        end = self.memory_base + self.memory_size
        return end if width is None else min(end, self.memory_base + (1 << width))

    def record(self) -> dict[str, Any]:
        """The part of a run's ``platform.json`` that says what the HAL was told."""
        return {
            "coherent_flag": self.coherent,
            "assumed_line_bytes": self.line_bytes,
            "hal": dataclasses.asdict(self.options),
            "architecture": self.options.architecture,
            "memory": [self.memory_base, self.memory_size],
        }
