# SPDX-License-Identifier: BSD-2-Clause
"""struct device: one device on one machine, and the memory and time of its driver.

The kernel finds its global state by itself; here a function that needs the machine takes ``dev`` first, where the kernel's takes
no device. Virtual, physical and DMA address are one number on this machine.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..bounce import BouncePool, check_pairs
from ..bus import Attribute, Bus
from ..checked import Null
from ..cpu import Cpu
from ..errors import PlatformError, check_integer, check_type
from ..hal import DrainResult, Hal
from ..memory import PAGE_BYTES, OutOfMemory
from ..platform import HalOptions, Platform
from ..processor import Processor
from ..trace import Call, Trace
from .values import GFP_DMA, GFP_KERNEL, CheckedAddress, check_gfp, loggable

__all__ = [
    "Device",
    "device_release",
    "devm_kfree",
    "devm_kmalloc",
    "devm_kzalloc",
    "kfree",
    "kmalloc",
    "module_memory",
    "offset_in_page",
    "stack_memory",
    "vfree",
    "virt_to_page",
    "vmalloc",
    "wait_for_interrupt",
]


class Device:
    """One device.

    Parameters
    ----------
    hal : the machine; its ``HalOptions.architecture`` must be a Linux one.
    trace : the call log.
    name : for error texts.
    processor : the CPU whose bus the HAL uses; without it there are no interrupt handlers and threads. :meth:`start` makes one.

    Members
    -------
    hal, bus, trace, regs (register accessors), maintenance (cache maintenance by address), cpu (its loads and stores).
    coherent : whether DMA snoops the caches, as the kernel was told.
    dma_bits, coherent_bits : the masks as address bits; the device reaches the first ``2**bits`` bytes of memory.
    min_align : what ``dma_set_min_align_mask`` set, plus one: the bytes whose offset a bounce buffer keeps.
    maximum_segment, segment_boundary : what ``dma_set_max_seg_size`` and ``dma_set_seg_boundary`` set, bytes; None for neither.
    swiotlb : its bounce buffers.
    drained : how the last flush of the DMA engine ended; the calls that make it return nothing.
    """

    def __init__(self, hal: Hal, trace: Trace, *, name: str = "device", processor: Processor | None = None):
        self.hal = check_type("hal", hal, Hal)
        self.trace = check_type("trace", trace, Trace)
        if hal.platform.options.architecture == "wdk":
            raise PlatformError("HalOptions.architecture must be a Linux one for a struct device, not 'wdk'")
        self.name, self.id = check_type("name", name, str), hal.number()
        self.bus, self.regs, self.maintenance, self.platform = hal.bus, hal.regs, hal.maintenance, hal.platform
        self.cpu, self.processor = Cpu(hal.bus, trace), processor
        self.coherent = hal.platform.coherent
        self.dma_bits = self.coherent_bits = 32
        self.min_align = 1
        self.maximum_segment: int | None = None
        self.segment_boundary: int | None = None
        self.swiotlb = BouncePool(hal, trace, "swiotlb")
        self.drained = DrainResult(ok=True)
        self.buffers: dict[int, Any] = {}  # coherent and noncoherent memory by address
        self._kinds: dict[int, tuple[int, str]] = {}  # what was allocated: length and kind
        self._managed: list[int] = []

    @classmethod
    async def start(
        cls,
        bus: Bus,
        trace: Trace | None = None,
        *,
        architecture: str | None = None,
        name: str = "device",
        reserve: int = 0,
        **beliefs: Any,
    ) -> "Device":
        """Discovers the machine, applies ``beliefs`` (fields of :class:`Platform`), enables interrupts.

        Parameters
        ----------
        architecture : ``"arm"``, ``"arm64"``, ``"riscv"`` or ``"mips"``; None takes ``options.architecture``, and arm64 where
            that is the WDK's.
        reserve : bytes at the start of memory that are never handed out.
        """
        options = check_type("options", beliefs.pop("options", None) or HalOptions(), HalOptions, error=PlatformError)
        if options.architecture == "wdk":
            options = dataclasses.replace(options, architecture=architecture or "arm64")
        elif architecture not in (None, options.architecture):
            raise PlatformError(
                f"architecture must be that of options ({options.architecture!r}) where both are given, not {architecture!r}"
            )
        trace = Trace(bus.now) if trace is None else trace
        processor = Processor(bus, trace)
        hal = Hal(processor.bus, await Platform.discover(bus, options=options, **beliefs), trace, reserve=reserve)
        await hal.enable_interrupts()
        return cls(hal, trace, name=name, processor=processor)

    def log(self) -> dict[str, Any]:
        """As the call log shows it."""
        return {
            "id": self.id,
            "mask": self.dma_bits,
            "coherent_mask": self.coherent_bits,
            "coherent": self.coherent,
            "min_align": self.min_align,
            "maximum_segment": self.maximum_segment,
            "segment_boundary": self.segment_boundary,
        }

    def call(self, name: str, **args: Any) -> Call:
        """Begins a logged call of this device."""
        return self.plain_call(name, device=self.log(), **args)

    def plain_call(self, name: str, **args: Any) -> Call:
        """Begins a logged call that names no device. Arguments of any type: they are checked after they are logged."""
        return self.trace.call(name, **{key: loggable(value) for key, value in args.items()})

    async def drain(self) -> None:
        """Makes the DMA engine hand over what it holds back, in both directions; what a return to the CPU means on this
        machine."""
        self.drained = await self.hal.drain()

    def attribute(self, address: int, length: int) -> Attribute:
        """How the CPU accesses ``[address, address + length)``."""
        return Attribute.UNCACHED if self.hal.is_uncached(address, length) else Attribute.CACHED

    def kind(self, address: int) -> str | None:
        """The kind of the memory that holds ``address``, if this device's driver allocated it."""
        for start, (length, kind) in self._kinds.items():
            if start <= address < start + length:
                return kind
        return None

    def declare_control(self, address: int, length: int, what: str) -> None:
        """Says that CPU and device share these bytes: descriptors, control or status words. Only the log uses it."""
        ((address, length),) = check_pairs([(address, length)])
        self.trace.event("DeclareControl", address=address, length=length, what=check_type("what", what, str))

    def cpu_copy(self, ranges: Sequence[Sequence[int]]) -> Call:
        """Declares that the CPU itself stores PIO data into ``ranges``: ``with dev.cpu_copy([(address, 3)]): ...``."""
        return self.trace.call("CpuCopy", ranges=[list(pair) for pair in check_pairs(ranges)])

    # -- memory, for the functions below ---------------------------------------------------------------------------

    def allocate(self, length: int, kind: str, what: str, *, gfp: Any = GFP_KERNEL, managed: bool = False, **place: Any) -> Any:
        """Memory of a kind; NULL if there is none left. ``place`` goes to :meth:`MemoryPool.allocate`."""
        with self.plain_call("AllocateMemory", length=length, kind=kind, what=what) as call:
            check_integer("size", length, 1, 1 << 32)
            if check_gfp(gfp) & GFP_DMA:
                place["below"] = self.platform.reach_end(self.dma_bits)
            try:
                if length > self.hal.pool.free_bytes:
                    raise OutOfMemory(f"size must be at most what is left, {self.hal.pool.free_bytes} bytes, not {length}")
                address = self.hal.pool.allocate(length, what=what, **place)
            except OutOfMemory:
                return Null(self.trace, call.number, kind)
            self._kinds[address] = int(length), kind
            if managed:
                self._managed.append(address)
            call.result = {"address": address, "length": int(length)}
            return CheckedAddress(address, self.trace, call.number)

    def free(self, address: int) -> None:
        """Gives memory back; freeing what is not allocated is only logged."""
        with self.plain_call("FreeMemory", address=address):
            if self._kinds.pop(int(address), None) is not None:
                self.hal.pool.free(int(address))
            if address in self._managed:
                self._managed.remove(address)

    def release(self) -> None:
        """What :func:`device_release` does."""
        with self.call("device_release"):
            for address in list(reversed(self._managed)):
                self.free(address)

    def __repr__(self) -> str:
        return f"<Device {self.id} ({self.name}): {self.platform.options.architecture}, {self.dma_bits} bits>"


def check_device(dev: Any) -> Device:
    """``dev``, if it is a struct device."""
    return check_type("dev", dev, Device)


# -- memory ----------------------------------------------------------------------------------------------------------------


def kmalloc(dev: Device, size: int, gfp: int = GFP_KERNEL, **place: Any) -> int:
    """kmalloc: the address of ``size`` bytes, or NULL (a value that is false).

    On a non-coherent machine nothing shares a cache line with them (``ARCH_KMALLOC_MINALIGN``). What they hold is whatever memory
    held before. For experiments ``place`` overrides it: ``alignment``, ``offset``, ``exclusive``, ``above``, ``below`` of
    :meth:`driver.memory.MemoryPool.allocate`.
    """
    check_device(dev)
    return dev.allocate(size, "kmalloc", "kmalloc", gfp=gfp, **_placed(dev, place))


def devm_kmalloc(dev: Device, size: int, gfp: int = GFP_KERNEL, **place: Any) -> int:
    """devm_kmalloc: as :func:`kmalloc`, and freed by :func:`device_release`."""
    check_device(dev)
    return dev.allocate(size, "kmalloc", "devm_kmalloc", gfp=gfp, managed=True, **_placed(dev, place))


async def devm_kzalloc(dev: Device, size: int, gfp: int = GFP_KERNEL, **place: Any) -> int:
    """devm_kzalloc: as :func:`devm_kmalloc`, and the CPU stores zeros there (cached)."""
    address = devm_kmalloc(dev, size, gfp, **place)
    if not isinstance(address, Null):
        await dev.bus.write(int(address), bytes(size))
    return address


def kfree(dev: Device, address: int) -> None:
    """kfree. NULL is allowed; memory that is not allocated is only logged."""
    check_device(dev)
    if not isinstance(address, Null):
        dev.free(check_integer("address", address, 0, (1 << 32) - 1))


def devm_kfree(dev: Device, address: int) -> None:
    """devm_kfree: frees before the device is released."""
    kfree(dev, address)


def vmalloc(dev: Device, size: int) -> int:
    """vmalloc: whole pages that need not be contiguous in a real kernel, so ``dma_map_single`` refuses them (here they are)."""
    check_device(dev)
    return dev.allocate(size, "vmalloc", "vmalloc", alignment=PAGE_BYTES, exclusive=True)


def vfree(dev: Device, address: int) -> None:
    """vfree: as :func:`kfree`."""
    kfree(dev, address)


def stack_memory(dev: Device, size: int, **place: Any) -> int:
    """A variable on the kernel stack: 16-byte aligned, its lines shared with whatever is next to it. Must not be mapped."""
    check_device(dev)
    return dev.allocate(size, "stack", "stack", **{"alignment": 16, **place})


def module_memory(dev: Device, size: int, **place: Any) -> int:
    """A static variable of a module: placed like a stack variable. Must not be mapped."""
    check_device(dev)
    return dev.allocate(size, "module", "module", **{"alignment": 16, **place})


def _placed(dev: Device, place: dict[str, Any]) -> dict[str, Any]:
    return {"alignment": 64 if dev.coherent else max(64, dev.platform.line_bytes), "exclusive": True, **place}


def virt_to_page(address: int) -> int:
    """The page of an address; pages are named by their first address."""
    check_integer("address", address, 0, (1 << 32) - 1)
    return address - address % PAGE_BYTES


def offset_in_page(address: int) -> int:
    """The offset of an address in its page."""
    return check_integer("address", address, 0, (1 << 32) - 1) % PAGE_BYTES


# -- time and end ----------------------------------------------------------------------------------------------------------


async def wait_for_interrupt(dev: Device, mask: int, limit: int, what: str = "the device's interrupt") -> int:
    """The interrupt levels in ``mask`` as soon as one is high; what ``wait_for_completion_timeout`` is for.

    Parameters
    ----------
    limit : cycles. what : named by the error.

    Raises
    ------
    BusTimeout
        After ``limit`` cycles.
    """
    check_device(dev)
    check_integer("mask", mask, 1, (1 << 32) - 1)
    check_integer("limit", limit, 1, 1 << 40)
    return await dev.bus.wait_interrupt(mask, limit, check_type("what", what, str))


def device_release(dev: Device) -> None:
    """The driver is unbound: ``devm_`` memory is freed. Mappings, coherent memory and pools that it still holds are leaks."""
    check_device(dev).release()
