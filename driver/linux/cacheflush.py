# SPDX-License-Identifier: BSD-2-Clause
"""What the CPU owes after it has filled memory itself, by PIO (Documentation/core-api/cachetlb.rst).

A real kernel may put the work of ``flush_dcache_page`` off until the page is mapped for a user; here it is done at once, D-cache
and I-cache, because nothing on this machine would tell the moment.
"""

from ..architecture import linux_architecture
from ..errors import check_integer
from ..memory import PAGE_BYTES
from .device import Device, check_device

__all__ = ["flush_dcache_page", "flush_icache_range"]


async def flush_dcache_page(dev: Device, page: int) -> None:
    """flush_dcache_page: the CPU has written to this page (named by its first address), and others will read it past this cache.

    Cleans (arm, mips: cleans and invalidates) the page in the D-cache, then invalidates it in the I-cache. Nothing on a coherent
    machine.
    """
    check_device(dev)
    with dev.plain_call("flush_dcache_page", address=page, length=PAGE_BYTES):
        check_integer("page", page, 0, (1 << 32) - PAGE_BYTES, multiple_of=PAGE_BYTES)
        await dev.hal.sync(_tables(dev).flush_dcache_page, [(page, PAGE_BYTES)])


async def flush_icache_range(dev: Device, start: int, end: int) -> None:
    """flush_icache_range: the CPU has written instructions to ``[start, end)``: cleans the D-cache, then invalidates the
    I-cache."""
    check_device(dev)
    with dev.plain_call("flush_icache_range", start=start, end=end):
        check_integer("start", start, 0, (1 << 32) - 1)
        check_integer("end", end, start, 1 << 32)
        if end > start:
            await dev.hal.sync(_tables(dev).flush_icache_range, [(start, end - start)])


def _tables(dev: Device):
    return linux_architecture(dev.platform.options.architecture)
