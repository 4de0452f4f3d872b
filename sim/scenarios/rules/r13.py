# SPDX-License-Identifier: BSD-2-Clause
"""A command block in a cached common buffer is sent without KeFlushIoBuffers.

The driver keeps its command block in a common buffer, because that is memory which driver and device share. It asked for
CacheEnabled=TRUE, for speed, and takes "common" to mean that no flush is needed.

Mechanism: a cached common buffer is ordinary cached memory. The new command is dirty in the D-cache; the device reads the one
that memory holds, which is the command before. If the cache happens to have evicted the lines, the right command arrives: luck.

Fix: an MDL over the common buffer, and KeFlushIoBuffers with it before each transfer, as for any buffer. (Or
CacheEnabled=FALSE: no flush, slow accesses.)
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._adapters import bus_master, finished

EXAMPLE = Example(
    broken=Expect(roots={"R13"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R13"}, severity="corruption possible"),
    source=("S2", "S6"),
)

BLOCK = 64  # bytes of a command block


async def broken(kernel, device, *, evicted=False):
    adapter = bus_master(kernel)
    buffer = await adapter.allocate_common_buffer(BLOCK, True)
    for number in range(2):
        await buffer.write(0, command(number))
        if evicted:
            await evict(device, buffer.virtual_address, BLOCK)

        await device.start_list([(buffer.logical_address, BLOCK)], True, number * BLOCK, adapter=adapter, buffer=buffer)
        await finished(device)
        await device.device_done()
    await adapter.free_common_buffer(BLOCK, buffer.logical_address, buffer.virtual_address, True)
    adapter.put_dma_adapter()


async def fixed(kernel, device):
    adapter = bus_master(kernel)
    buffer = await adapter.allocate_common_buffer(BLOCK, True)
    mdl = kernel.io_allocate_mdl(buffer.virtual_address, BLOCK)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    for number in range(2):
        await buffer.write(0, command(number))

        await kernel.ke_flush_io_buffers(mdl, False, True)
        await device.start_list([(buffer.logical_address, BLOCK)], True, number * BLOCK, adapter=adapter, buffer=buffer)
        await finished(device)
        await device.device_done()
    kernel.io_free_mdl(mdl)
    await adapter.free_common_buffer(BLOCK, buffer.logical_address, buffer.virtual_address, True)
    adapter.put_dma_adapter()


def command(number):
    """READ of one sector, tagged."""
    return bytes([0x28, number]).ljust(BLOCK, b"\x5a")


async def lucky(kernel, device):
    await broken(kernel, device, evicted=True)
