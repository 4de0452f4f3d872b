# SPDX-License-Identifier: BSD-2-Clause
"""A driver for the storage device: reads a block into memory by bus-master DMA, then writes one.

Start from this file; as it stands, it keeps every rule. Check it with:

    python -m sim check THIS_FILE.py

The checker reports every line that would break a rule, even if this run was lucky. Coroutines (``await``) are calls that can
touch the hardware; the others only keep books. Names, argument order and semantics are those of the Linux DMA API.
"""

from driver.linux import (
    DMA_BIT_MASK,
    DMA_FROM_DEVICE,
    DMA_TO_DEVICE,
    EIO,
    ENOMEM,
    dma_map_single,
    dma_mapping_error,
    dma_set_mask_and_coherent,
    dma_unmap_single,
    kfree,
    kmalloc,
)

LENGTH = 1024  # bytes of a block: whole cache lines of their own, because the device writes them
WAIT_CYCLES = 100_000  # how long a transfer may take before the driver gives up


async def probe(dev, device):
    """The driver's whole life. ``dev`` is the struct device (its CPU is ``dev.cpu``), ``device`` the device's port.

    The device's buffer holds the payload, again and again, from byte 0 on. The bytes returned are compared with it.
    """
    if dma_set_mask_and_coherent(dev, DMA_BIT_MASK(32)):
        return -EIO
    buf = kmalloc(dev, LENGTH)
    if not buf:
        return -ENOMEM

    error = await transfer(dev, device, buf, LENGTH, DMA_FROM_DEVICE, byte_offset=0)
    block = await dev.cpu.load(buf, LENGTH)

    # The block goes back to another place, changed.
    if not error:
        await dev.cpu.store(buf, block.upper())
        error = await transfer(dev, device, buf, LENGTH, DMA_TO_DEVICE, byte_offset=4096)

    kfree(dev, buf)
    return error or block


async def transfer(dev, device, buf, length, direction, *, byte_offset):
    """One transfer of a buffer in one direction; 0, or a negative error."""
    # From here to the unmap the device owns the buffer: the CPU must not touch it.
    dma = await dma_map_single(dev, buf, length, direction)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, length)], direction == DMA_TO_DEVICE, byte_offset, device=dev)
    await device.wait(WAIT_CYCLES)
    moved = await device.acknowledge()
    # And from here on the CPU owns it: the last bytes have left the controller, no stale cache line is left.
    await dma_unmap_single(dev, dma, length, direction)
    return 0 if moved == length else -EIO
