# SPDX-License-Identifier: BSD-2-Clause
"""A log page grew by a header; the common buffer that holds it did not.

The driver allocates 1000 bytes, the log's entries, writes a header of 24 bytes and the entries into the buffer, and has the
device take all 1024.

Mechanism: AllocateCommonBuffer takes whole pages, so that nothing is wrong today: the last 24 bytes lie in the rest of the
page. They are not the driver's. A HAL that packs small buffers into one page, or a log that fills its page, puts somebody
else there. This machine's HAL does not pack, so its bytes are right in each run.

Fix: allocate what is used.
"""

from ..examples import Example, Expect
from ._adapters import bus_master, finished

EXAMPLE = Example(broken=Expect(roots={"R50"}, severity="corruption possible"))

HEADER, ENTRIES = 24, 1000  # bytes


async def write_log(kernel, device, allocated):
    """The driver: sends header and entries from a common buffer of ``allocated`` bytes."""
    adapter, used = bus_master(kernel), HEADER + ENTRIES
    buffer = await adapter.allocate_common_buffer(allocated, False)
    if not buffer:
        adapter.put_dma_adapter()
        return
    virtual_address, logical_address = buffer
    await buffer.write(0, b"\x5a" * HEADER)
    await buffer.write(HEADER, b"\xa5" * ENTRIES)
    await device.start_list([(logical_address, used)], True, 0, adapter=adapter, buffer=buffer)
    await finished(device)
    await adapter.free_common_buffer(allocated, logical_address, virtual_address, False)
    adapter.put_dma_adapter()


async def broken(kernel, device):
    await write_log(kernel, device, ENTRIES)


async def fixed(kernel, device):
    await write_log(kernel, device, HEADER + ENTRIES)
