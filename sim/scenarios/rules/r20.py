# SPDX-License-Identifier: BSD-2-Clause
"""The HAL's clean is done when the lines have left the cache, and memory does not have them yet.

The chip's maintenance unit can clean "to the point of unification": good enough for code that the CPU itself executes. The HAL
uses it for KeFlushIoBuffers. The driver makes every call that it owes; the finding names the interface as its party.

Mechanism: the clean is reported done as soon as the lines are in the write-back buffer. Memory takes them when it has time. If
it is busy the device reads the buffer first, and gets what memory held before; an ordinary clean would have waited for memory's
answer. If memory is idle the lines are there in time: luck.

Fix: in the platform, not in the driver: maintenance for DMA goes to the point of coherency, and is done when memory has
answered. (Here the corrected run has a maintenance unit without this fault.)
"""

from driver.wdk import DeviceDescription, DeviceObject

from ...userdriver.timing import Timing
from ..examples import Example, Expect
from ._adapters import finished, free_buffer, locked_buffer, take_channel

_FAULTY = Expect(faults={"maintenance_point_of_unification"}, roots={"R20"}, severity="corruption possible")
_BUSY = Timing(stalled_writes=2, stall=2000)  # the first two bursts to memory wait so many cycles

EXAMPLE = Example(
    broken=_FAULTY.but(consequences={"R01"}, severity="corruption seen", corrupts=True, timing=_BUSY),
    fixed=Expect(timing=_BUSY),
    lucky=_FAULTY,
    source=("S1", "S6"),
)

RECORD = 64  # bytes: what fits into the write-back buffer


async def write_record(kernel, device):
    """The driver, right in itself: a record over the system channel."""
    adapter, registers = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=2, maximum_length=4096))
    mdl = locked_buffer(kernel, RECORD)
    record = kernel.mm_get_mdl_virtual_address(mdl)
    base = await take_channel(kernel, adapter, registers)
    await kernel.cpu.store(record, bytes(n % 251 for n in range(RECORD)))

    await kernel.ke_flush_io_buffers(mdl, False, True)
    piece = await adapter.map_transfer(mdl, base, record, RECORD, True)
    await device.start_channel(adapter, [piece], True, 0)
    await finished(device)
    await adapter.flush_adapter_buffers(mdl, base, record, RECORD, True)
    with kernel.raised():
        await adapter.free_adapter_channel()
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    # on a maintenance unit that cleans to the point of unification
    await write_record(kernel, device)


async def fixed(kernel, device):
    # on one that waits for memory's answer
    await write_record(kernel, device)


async def lucky(kernel, device):
    await write_record(kernel, device)
