# SPDX-License-Identifier: BSD-2-Clause
"""The HAL takes the machine for a coherent one, and every flush does nothing.

A board was ported from one whose DMA snoops the caches. A flag in the platform description says "coherent"; nobody changed it.
The driver makes every call that the documentation demands. It is not the driver's mistake: the finding names the interface as
its party.

Mechanism: on a coherent platform KeFlushIoBuffers is empty, at almost no cost (S9). Here the DMA does not snoop: the driver's
bytes stay in the D-cache, and the device reads what memory held before. If the cache has evicted the lines, all is well: luck.

Fix: take the flag from the hardware (here sys.features.coherent; elsewhere a device tree's dma-coherent, or ACPI's _CCA, that
is true). The other way round, cache work on coherent hardware, costs time only: a warning (the runs "needless" and "fixed-
coherent").
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._adapters import bus_master, finished, free_buffer, locked_buffer
from ._lists import put_list, start_by_list

_TOLD = {"coherent": True}  # what the HAL believes

EXAMPLE = Example(
    broken=Expect(roots={"R21"}, consequences={"R01"}, severity="corruption seen", corrupts=True, beliefs=_TOLD),
    lucky=Expect(roots={"R21"}, severity="corruption possible", beliefs=_TOLD),
    also={
        "needless": Expect(function="fixed", coherent=True, beliefs={"coherent": False}, roots={"R21"}, severity="warning"),
        "fixed-coherent": Expect(function="fixed", coherent=True),
    },
    source=("S9",),
)

RECORD = 256  # bytes


async def write_record(kernel, device, *, evicted=False):
    """The driver, right in itself."""
    adapter, mdl = bus_master(kernel), locked_buffer(kernel, RECORD)
    record = kernel.mm_get_mdl_virtual_address(mdl)
    await kernel.cpu.store(record, bytes(n % 251 for n in range(RECORD)))
    if evicted:
        await evict(device, record, RECORD)
    await kernel.ke_flush_io_buffers(mdl, False, True)
    scatter_gather = await start_by_list(kernel, adapter, device, mdl, True)
    await finished(device)
    await put_list(kernel, adapter, scatter_gather, True)
    free_buffer(kernel, mdl)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    # the HAL was told that the platform is coherent
    await write_record(kernel, device)


async def fixed(kernel, device):
    # the HAL has asked sys.features
    await write_record(kernel, device)


async def lucky(kernel, device):
    await write_record(kernel, device, evicted=True)
