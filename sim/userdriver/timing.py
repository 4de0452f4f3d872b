# SPDX-License-Identifier: BSD-2-Clause
"""The free choices of hardware in a run: what the CPU prefetches and evicts, how device, memory and interrupts pace.

A driver must be right under all of them. A :class:`Timing` is one set of choices; seed 1 is the calm machine, any other seed
derives each choice from itself alone, so that one seed is one run, alone or among thousands.
"""

import dataclasses
import random
from dataclasses import dataclass
from typing import Any

from driver.errors import check_flag, check_integer
from driver.registers import Registers
from rtl.config import SocConfig

__all__ = ["CALM_SEED", "Timing", "alternative_config", "calm"]

CALM_SEED = 1
_STALL_WRITES = 3  # mem.fault_ctrl.mode
_MAX_COUNT = 255
_CALM_CYCLES = 300  # the longest stall of a seed, and the write-backs behind it


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One set of choices.

    Parameters
    ----------
    prefetch : the D-cache's next-line prefetcher runs.
    evict_interval : mean cycles between evictions of random dirty lines, 0 for none. evict_seed : of their random numbers.
    sizes : bytes of the device's requests, used in turn, 1 to 4 values from 1 to 255. gap : cycles between two requests.
    stalled_writes, stall : so many bursts to memory (at most 255) wait that many cycles.
    interrupt_delay : cycles between an interrupt's level and the moment that a driver that waits for it gets on.
    alternative_chunk : the hardware has chunks of another size (:func:`alternative_config`).
    """

    prefetch: bool = False
    evict_interval: int = 0
    evict_seed: int = 1
    sizes: tuple[int, ...] = (5, 12, 7, 16)
    gap: int = 0
    stalled_writes: int = 0
    stall: int = 0
    interrupt_delay: int = 0
    alternative_chunk: bool = False

    def __post_init__(self) -> None:
        check_flag("Timing.prefetch", self.prefetch)
        check_flag("Timing.alternative_chunk", self.alternative_chunk)
        for name, high in (
            ("evict_interval", 0xFFFF),
            ("evict_seed", 0xFFFF_FFFF),
            ("gap", 100_000),
            ("stalled_writes", _MAX_COUNT),
            ("stall", 100_000),
            ("interrupt_delay", 100_000),
        ):
            check_integer(f"Timing.{name}", getattr(self, name), 0, high)
        check_integer("number of Timing.sizes", len(self.sizes), 1, 4)
        for size in self.sizes:
            check_integer("Timing.sizes", size, 1, 255)

    @classmethod
    def of_seed(cls, seed: int, *, speculates: bool = True) -> "Timing":
        """The choices of a seed; :data:`CALM_SEED` is the calm machine. ``speculates`` false: the CPU never prefetches."""
        if seed == CALM_SEED:
            return cls()
        choose = random.Random(seed * 0x9E37_79B1 + 0x5EED)
        timing = cls(
            prefetch=choose.random() < 0.6,
            evict_interval=choose.choice((0, 8, 16, 32, 64, 128, 256)),
            evict_seed=choose.randrange(1, 1 << 32),
            sizes=choose.choice(((5, 12, 7, 16), (61, 128, 255, 68), (1, 2, 3), (64,), (13,), (31, 33), (200, 4))),
            gap=choose.choice((0, 0, 3, 20, 100)),
            stalled_writes=choose.choice((0, 0, 4, 40, 255)),
            stall=choose.choice((5, 20, 60, 200)),
            interrupt_delay=choose.choice((0, 0, 10, 60, 300)),
            alternative_chunk=choose.random() < 0.3,
        )
        return timing if speculates else dataclasses.replace(timing, prefetch=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; :meth:`from_dict` is the inverse."""
        return {**dataclasses.asdict(self), "sizes": list(self.sizes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Timing":
        return cls(**{**values, "sizes": tuple(values["sizes"])})

    def describe(self) -> str:
        """The choices in a few words."""
        words = ["prefetcher on" if self.prefetch else "prefetcher off"]
        words.append(f"evictions every {self.evict_interval} cycles" if self.evict_interval else "no evictions")
        words.append(f"device requests of {', '.join(map(str, self.sizes))} bytes" + (f", gap {self.gap}" if self.gap else ""))
        if self.stalled_writes:
            words.append(f"{self.stalled_writes} memory writes stalled by {self.stall} cycles")
        if self.interrupt_delay:
            words.append(f"interrupts {self.interrupt_delay} cycles late")
        if self.alternative_chunk:
            words.append("other chunk size")
        return "; ".join(words)

    async def apply(self, regs: Registers, bus: Any, config: SocConfig) -> None:
        """Sets the hardware and the CPU's model; called by the test harness before the driver starts."""
        await regs.dev.sizes.write(**{f"s{n}": size for n, size in enumerate(self.sizes)})
        await regs.dev.gap.write(self.gap)
        if self.stalled_writes:
            await regs.mem.fault_addr.write(config.memory.base)
            await regs.mem.fault_size.write(config.memory.size)
            await regs.mem.fault_stall.write(self.stall)
            await regs.mem.fault_ctrl.write(mode=_STALL_WRITES, count=self.stalled_writes)
        await regs.dcache.inject_seed.write(self.evict_seed or 1)
        await regs.dcache.ctrl.write(
            prefetch=int(self.prefetch and config.dcache.prefetcher),
            inject=int(self.evict_interval > 0),
            inject_interval=self.evict_interval or 64,
        )
        bus.interrupt_delay = self.interrupt_delay


async def calm(regs: Registers, bus: Any) -> None:
    """Ends what a timing set going, and waits until all of it has come to its end: the hardware can be looked at."""
    await regs.dcache.ctrl.write(prefetch=0, inject=0, inject_interval=64)
    await regs.mem.fault_ctrl.write(mode=0, count=0)
    await bus.delay(_CALM_CYCLES)


def alternative_config(config: SocConfig) -> SocConfig:
    """The same hardware with chunks of twice the size, or half where a line holds no more."""
    chunk = config.dma.chunk_bytes
    other = chunk * 2 if chunk * 2 <= min(64, config.dcache.line_bytes) else max(chunk // 2, config.data_bytes, 8)
    return config.replace(dma__chunk_bytes=other)
