# SPDX-License-Identifier: BSD-2-Clause
"""A driver for the storage device, without an operating system: reads a block by bus-master DMA, then writes one.

Start from this file; as it stands, it keeps every rule. Check it with:

    python -m sim check THIS_FILE.py

The checker reports every line that would break a rule, even if this run was lucky. Coroutines (``await``) are calls that can
touch the hardware. The cache calls are those of CMSIS-Core in snake case; each starts its work, and ``dsb`` waits for it.
"""

LENGTH = 1024  # bytes of a block: whole cache lines of their own, because the device writes them
WAIT_CYCLES = 100_000  # how long a transfer may take before the driver gives up


async def main(machine, device):
    """The whole program. ``machine`` has caches, memory and CPU, ``device`` is the device's port.

    The device's buffer holds the payload, again and again, from byte 0 on. The bytes returned are compared with it.
    """
    buffer = machine.allocate(LENGTH)
    await read_block(machine, device, buffer, byte_offset=0)
    block = await machine.cpu.load(buffer, LENGTH)

    # The block goes back to another place, changed.
    await machine.cpu.store(buffer, block.upper())
    await write_block(machine, device, buffer, byte_offset=4096)
    machine.free(buffer)
    return block


async def read_block(machine, device, buffer, *, byte_offset):
    """Device to memory."""
    # Nothing of the buffer may be dirty: a line written back later would overwrite what the device wrote.
    await machine.clean_invalidate_dcache_by_addr(buffer, LENGTH)
    await machine.dsb()
    await device.start_list([(buffer, LENGTH)], False, byte_offset)
    await device.wait(WAIT_CYCLES)
    await device.acknowledge()
    # The last bytes may still be in the controller; and a CPU that speculates may have filled lines meanwhile.
    await machine.flush_dma()
    await machine.invalidate_dcache_by_addr(buffer, LENGTH)
    await machine.dsb()


async def write_block(machine, device, buffer, *, byte_offset):
    """Memory to device."""
    # The device reads memory, not the cache.
    await machine.clean_dcache_by_addr(buffer, LENGTH)
    await machine.dsb()
    await device.start_list([(buffer, LENGTH)], True, byte_offset)
    await device.wait(WAIT_CYCLES)
    await device.acknowledge()
    await machine.flush_dma()
