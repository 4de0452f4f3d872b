# SPDX-License-Identifier: BSD-2-Clause
"""Register accesses (Documentation/driver-api/device-io.rst). ``addr`` is a byte address on the bus; registers are 32 bits wide.

An access returns when the register has answered, so ``writel`` and ``writel_relaxed`` are the same, and no barrier is needed
between a store to uncached memory and a register write: the CPU is in order.
"""

from ..errors import check_integer
from ..pio import read_register_buffer, write_register_buffer
from .device import Device, check_device

__all__ = [
    "ioread32",
    "ioread32_rep",
    "iowrite32",
    "iowrite32_rep",
    "memcpy_fromio",
    "memcpy_toio",
    "readl",
    "readsl",
    "writel",
    "writesl",
]

_WORD = (1 << 32) - 1


async def readl(dev: Device, addr: int) -> int:
    """readl: one 32-bit read. Raises :class:`BusError` if the hardware refuses."""
    return await check_device(dev).bus.read32(check_integer("addr", addr, 0, _WORD, multiple_of=4))


async def writel(dev: Device, value: int, addr: int) -> None:
    """writel: one 32-bit write; the value comes first, as in the kernel. Raises as :func:`readl`."""
    check_integer("value", value, 0, _WORD)
    await check_device(dev).bus.write32(check_integer("addr", addr, 0, _WORD, multiple_of=4), value)


async def ioread32(dev: Device, addr: int) -> int:
    """ioread32: as :func:`readl`."""
    return await readl(dev, addr)


async def iowrite32(dev: Device, value: int, addr: int) -> None:
    """iowrite32: as :func:`writel`."""
    await writel(dev, value, addr)


async def ioread32_rep(dev: Device, addr: int, dst: int, count: int) -> None:
    """ioread32_rep: reads the register ``count`` times and stores the words, cached, at ``dst``.

    The bytes are then dirty in this CPU's cache: ``flush_dcache_page`` is owed before anybody reads them past it, and
    ``flush_icache_range`` before they are executed.

    Raises
    ------
    ArgumentError
        If ``dst`` is not in memory, or ``count`` is zero.
    BusError
        If the hardware refuses an access; words read before it are stored.
    """
    check_device(dev)
    await read_register_buffer(dev.hal, dev.trace, addr, dst, count)


async def iowrite32_rep(dev: Device, addr: int, src: int, count: int) -> None:
    """iowrite32_rep: loads ``count`` words, cached, from ``src`` and writes them all to the register. Raises as the read."""
    check_device(dev)
    await write_register_buffer(dev.hal, dev.trace, addr, src, count)


async def readsl(dev: Device, addr: int, dst: int, count: int) -> None:
    """readsl: as :func:`ioread32_rep`."""
    await ioread32_rep(dev, addr, dst, count)


async def writesl(dev: Device, addr: int, src: int, count: int) -> None:
    """writesl: as :func:`iowrite32_rep`."""
    await iowrite32_rep(dev, addr, src, count)


async def memcpy_fromio(dev: Device, dst: int, addr: int, count: int) -> None:
    """memcpy_fromio: ``count`` bytes (a multiple of 4) of consecutive registers from ``addr`` on to ``dst``. As
    :func:`ioread32_rep`."""
    check_device(dev)
    check_integer("count", count, 4, 1 << 32, multiple_of=4)
    await read_register_buffer(dev.hal, dev.trace, addr, dst, count // 4, increment=True)


async def memcpy_toio(dev: Device, addr: int, src: int, count: int) -> None:
    """memcpy_toio: ``count`` bytes (a multiple of 4) from ``src`` to consecutive registers from ``addr`` on."""
    check_device(dev)
    check_integer("count", count, 4, 1 << 32, multiple_of=4)
    await write_register_buffer(dev.hal, dev.trace, addr, src, count // 4, increment=True)
