# SPDX-License-Identifier: BSD-2-Clause
"""Linux SCSI: the sense buffer was an array inside the command, and shared cache lines with fields that the CPU writes.

When a SCSI command fails, the host adapter writes sense data for it: 96 bytes, which were a member of struct scsi_cmnd. Some
low-level drivers let the adapter write them by DMA. On machines without coherent caches, embedded PowerPCs for one, this led
to various forms of corruption.

Mechanism: the lines at the ends of the array also hold other members of the command. The CPU stores to one of them while the
adapter writes: the line is then dirty, with old sense bytes in it. If it is evicted after the adapter's bytes have reached
memory, it overwrites them; if it is dropped when the buffer is unmapped, the CPU's member is lost. No flush helps both.

Fix: the sense buffer is allocated by itself, and the command holds a pointer to it (commit de25deb18016): it shares its lines
with nothing.
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
    case="SCSI sense buffer (Linux de25deb18016)",
)

COMMAND_SIZE, SENSE_SIZE = 256, 96
RETRIES, SENSE = 68, 72  # offsets of two members of the command


async def request_sense(dev, device, command, sense, *, evicted_early=False):
    """The adapter's auto-sense into ``sense``, while the CPU goes on with the command."""
    dma = await dma_map_single(dev, sense, SENSE_SIZE, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, SENSE_SIZE)], False, 0, device=dev)
    await dev.cpu.store_u32(command + RETRIES, 5)
    if evicted_early:
        await evict(device, command + RETRIES, 4)
    await device.wait(100_000)
    await device.acknowledge()
    await landed(device)
    await evict(device, command + RETRIES, 4)
    await dma_unmap_single(dev, dma, SENSE_SIZE, DMA_FROM_DEVICE)
    return await dev.cpu.load(sense, SENSE_SIZE)


async def broken(dev, device, *, evicted_early=False):
    command = kmalloc(dev, COMMAND_SIZE)
    sense = command + SENSE  # a member
    data = await request_sense(dev, device, command, sense, evicted_early=evicted_early)
    kfree(dev, command)
    return data


async def fixed(dev, device):
    command = kmalloc(dev, COMMAND_SIZE)
    sense = kmalloc(dev, SENSE_SIZE)  # an allocation of its own
    data = await request_sense(dev, device, command, sense)
    kfree(dev, sense)
    kfree(dev, command)
    return data


async def lucky(dev, device):
    return await broken(dev, device, evicted_early=True)  # before the adapter has written to that line
