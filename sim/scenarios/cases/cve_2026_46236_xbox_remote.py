# SPDX-License-Identifier: BSD-2-Clause
"""CVE-2026-46236: xbox_remote has its I/O buffer inside the device structure.

The driver of the Xbox DVD remote control's receiver (drivers/media/rc/xbox_remote.c) had the buffer of its interrupt URB as a
member, ``inbuf``, of its device structure. That breaks the coherency rules of DMA: a buffer must not share a cache line with
anything else.

Mechanism: other members lie in the same line. The CPU stores to one of them while the host controller writes a key press to
the buffer: the line is dirty, with the old bytes of the buffer in it. When it is evicted after the controller's bytes have
reached memory, the key press is overwritten. When it is invalidated instead, the member is lost.

Fix: the buffer is allocated by itself (kzalloc) and the structure holds a pointer to it.
"""

from driver.linux import DMA_FROM_DEVICE, ENOMEM, dma_map_single, dma_mapping_error, dma_unmap_single, kfree, kmalloc

from ...userdriver.happens import evict, landed
from ...userdriver.timing import Timing
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R10"}, consequences={"R03"}, severity="corruption seen", corrupts=True, architecture="arm")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False, timing=Timing(gap=100)),
    case="xbox_remote (CVE-2026-46236)",
)

STRUCT_SIZE = 128  # the device structure, and the offsets of two of its members
LAST_KEY, INBUF = 36, 40
BUFFER = 16  # bytes that the controller writes for a key press


async def key_press(dev, device, remote, inbuf, *, evicted_early=False):
    """The interrupt URB: the controller writes ``inbuf``, while the driver stores to a member of its structure."""
    dma = await dma_map_single(dev, inbuf, BUFFER, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, BUFFER)], False, 0, device=dev)
    await dev.cpu.store_u32(remote + LAST_KEY, 0)
    if evicted_early:
        await evict(device, remote + LAST_KEY, 4)
    await device.wait(100_000)
    await device.acknowledge()
    await landed(device)
    await evict(device, remote + LAST_KEY, 4)
    await dma_unmap_single(dev, dma, BUFFER, DMA_FROM_DEVICE)
    return await dev.cpu.load(inbuf, BUFFER)


async def broken(dev, device, *, evicted_early=False):
    remote = kmalloc(dev, STRUCT_SIZE)
    inbuf = remote + INBUF  # unsigned char inbuf[]
    keys = await key_press(dev, device, remote, inbuf, evicted_early=evicted_early)
    kfree(dev, remote)
    return keys


async def fixed(dev, device):
    remote = kmalloc(dev, STRUCT_SIZE)
    inbuf = kmalloc(dev, BUFFER)  # u8 *inbuf
    keys = await key_press(dev, device, remote, inbuf)
    kfree(dev, inbuf)
    kfree(dev, remote)
    return keys


async def lucky(dev, device):
    return await broken(dev, device, evicted_early=True)  # before the controller has written to that line
