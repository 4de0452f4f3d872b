# SPDX-License-Identifier: BSD-2-Clause
"""DMA pools: many small blocks of coherent memory (Documentation/core-api/dma-api.rst, part Ib).

Arguments are in the kernel's order: ``dma_pool_create`` takes the name first, the others the pool.
"""

from ..checked import Null, NullChecked
from ..errors import check_integer, check_type
from ..memory import PAGE_BYTES
from .coherent import DmaBuffer, give_back, take_pages
from .device import Device, check_device
from .values import GFP_KERNEL, check_gfp

__all__ = ["DmaPool", "dma_pool_alloc", "dma_pool_create", "dma_pool_destroy", "dma_pool_free", "dma_pool_zalloc"]

_SMALLEST = 4  # bytes; the kernel keeps its own list in free blocks


class DmaPool(NullChecked):
    """struct dma_pool. ``size`` is the block's after rounding up to ``align``; ``used`` are the blocks that are allocated."""

    def __init__(self, name: str, dev: Device, number: int, size: int, align: int, boundary: int, call: int):
        self.name, self.dev, self.id = name, dev, number
        self.size, self.align, self.boundary = size, align, boundary
        self.used: dict[int, DmaBuffer] = {}
        self.destroyed = False
        self.pages: list[int] = []
        self.page_bytes = -(-max(size, PAGE_BYTES) // PAGE_BYTES) * PAGE_BYTES
        self._free: list[int] = []
        self.must_be_checked(dev.trace, call)

    async def take(self) -> int | None:
        """The address of a free block, lowest first, or None; takes another page where none is free."""
        if not self._free:
            page = await take_pages(self.dev, self.page_bytes, uncached=not self.dev.coherent)
            if page is None:
                return None
            self.pages.append(page)
            self._free = self._blocks(page)
        return self._free.pop(0)

    def put(self, address: int) -> None:
        """Makes a block free again."""
        self._free.append(address)
        self._free.sort()

    def _blocks(self, page: int) -> list[int]:
        blocks, at = [], 0
        while at + self.size <= self.page_bytes:
            if at // self.boundary != (at + self.size - 1) // self.boundary:
                at = (at // self.boundary + 1) * self.boundary
                continue
            blocks.append(page + at)
            at += self.size
        return blocks

    def __repr__(self) -> str:
        return f"<DmaPool {self.id} ({self.name}): blocks of {self.size} bytes, {len(self.used)} in use>"


def dma_pool_create(name: str, dev: Device, size: int, align: int = 0, boundary: int = 0) -> DmaPool | Null:
    """dma_pool_create: a pool of blocks of ``size`` bytes, multiples of ``align`` (a power of two; 0 means 1), none across a
    multiple of ``boundary`` bytes (0: none across a page's end).

    Returns NULL, a value that is false, for a size of zero, an alignment that is no power of two, and a boundary that is none or
    is smaller than a block.
    """
    check_type("name", name, str)
    check_device(dev)
    number = dev.hal.number()
    with dev.call("dma_pool_create", pool=number, what=name, length=size, align=align, boundary=boundary) as call:
        for what, value in (("size", size), ("align", align), ("boundary", boundary)):
            check_integer(what, value, 0, 1 << 32)
        step = align or 1
        block = -(-max(size, _SMALLEST) // step) * step
        limit = boundary or max(block, PAGE_BYTES)
        if not size or step & (step - 1) or (limit & (limit - 1) and boundary) or limit < block:
            return Null(dev.trace, call.number, "dma_pool_create")
        pool = DmaPool(name, dev, number, block, step, limit, call.number)
        call.result = {"pool": pool.id}
        return pool


async def dma_pool_alloc(pool: DmaPool, gfp: int = GFP_KERNEL) -> DmaBuffer | Null:
    """dma_pool_alloc: a block; unpacks as ``cpu_addr, dma_handle``. NULL if there is no memory. A pool takes memory by the page:
    one call in many costs the zeroing of a page."""
    check_type("pool", pool, DmaPool)
    dev = pool.dev
    with dev.call("dma_pool_alloc", pool=pool.id, length=pool.size) as call:
        check_gfp(gfp)
        address = None if pool.destroyed else await pool.take()
        if address is None:
            return Null(dev.trace, call.number, "dma_pool_alloc")
        block = DmaBuffer(dev, address, pool.size, pool.size, call.number)
        pool.used[address] = block
        call.result = block.result()
        return block


async def dma_pool_zalloc(pool: DmaPool, gfp: int = GFP_KERNEL) -> DmaBuffer | Null:
    """dma_pool_zalloc: as :func:`dma_pool_alloc`, zeroed. Logged as ``dma_pool_alloc``."""
    block = await dma_pool_alloc(pool, gfp)
    if isinstance(block, DmaBuffer):
        await block.write(0, bytes(block.length))
    return block


def dma_pool_free(pool: DmaPool, vaddr: int, addr: int) -> None:
    """dma_pool_free: puts a block back; ``vaddr`` and ``addr`` are what ``dma_pool_alloc`` gave. A foreign block is only
    logged."""
    check_type("pool", pool, DmaPool)
    with pool.dev.call("dma_pool_free", pool=pool.id, address=vaddr, dma=addr, length=pool.size):
        check_integer("vaddr", vaddr, 0, 1 << 32)
        check_integer("addr", addr, 0, 1 << 32)
        block = pool.used.pop(int(vaddr), None)
        if block is not None:
            block.freed = True
            pool.put(int(vaddr))


def dma_pool_destroy(pool: DmaPool) -> None:
    """dma_pool_destroy: gives the pool's pages back, but for those in which a block is still in use: they leak, as in a
    kernel."""
    check_type("pool", pool, DmaPool)
    with pool.dev.call("dma_pool_destroy", pool=pool.id):
        if pool.destroyed:
            return
        pool.destroyed = True
        for page in pool.pages:
            if not any(page <= address < page + pool.page_bytes for address in pool.used):
                give_back(pool.dev, page, pool.page_bytes)
