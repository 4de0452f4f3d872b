# SPDX-License-Identifier: BSD-2-Clause
"""A packed structure in an uncached common buffer: a 32-bit word at offset 1.

The device's command is a byte and a 32-bit block number. The driver declares the structure packed and stores its fields one by
one into an uncached common buffer.

Mechanism: the block number is not naturally aligned. Many CPUs refuse such an access to uncached memory (an alignment fault on
Arm, where such memory is of device or non-cacheable type); others make several accesses of it, and the device may see half of a
block number. Here the bus is wider than the word and takes it in one beat, so nothing goes wrong; hence a warning.

Fix: lay structures that a device shares out in natural alignment (this device takes the block number at offset 4 as well).
"""

from ..examples import Example, Expect
from ._adapters import bus_master, finished

EXAMPLE = Example(broken=Expect(roots={"R14"}, severity="warning"))

COMMAND, READ = 64, 0x28  # bytes of a command, whole chunks of any size; its first byte


async def broken(kernel, device):
    adapter = bus_master(kernel)
    buffer = await adapter.allocate_common_buffer(COMMAND, False)
    await buffer.write(0, bytes(COMMAND))
    await buffer.write(0, bytes([READ]))
    await buffer.write_ulong(1, 0x0012_3456)  # #pragma pack(1)

    await device.start_list([(buffer.logical_address, COMMAND)], True, 0, adapter=adapter, buffer=buffer)
    await finished(device)
    await device.device_done()
    await adapter.free_common_buffer(COMMAND, buffer.logical_address, buffer.virtual_address, False)
    adapter.put_dma_adapter()


async def fixed(kernel, device):
    adapter = bus_master(kernel)
    buffer = await adapter.allocate_common_buffer(COMMAND, False)
    await buffer.write(0, bytes(COMMAND))
    await buffer.write(0, bytes([READ]))
    await buffer.write_ulong(4, 0x0012_3456)

    await device.start_list([(buffer.logical_address, COMMAND)], True, 0, adapter=adapter, buffer=buffer)
    await finished(device)
    await device.device_done()
    await adapter.free_common_buffer(COMMAND, buffer.logical_address, buffer.virtual_address, False)
    adapter.put_dma_adapter()
