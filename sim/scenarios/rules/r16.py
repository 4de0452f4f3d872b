# SPDX-License-Identifier: BSD-2-Clause
"""The device is started before the barrier: the clean of its buffer is still on its way to memory.

The driver cleans the frame by address and starts the device in the next line. The __DSB() that CMSIS has inside
SCB_CleanDCache_by_Addr() was lost when somebody inlined the loop "to save the call".

Mechanism: the clean only starts the work; the lines go to memory through the write-back buffer, as memory takes them. When
memory is busy the device reads the buffer before they have arrived, and gets what memory held before. When memory is quick, the
lines are there first: luck, and it lasts until the next faster device.

Fix: __DSB() between the maintenance and the register write that starts the device; it waits until memory has answered.
"""

from ...userdriver.happens import memory_held
from ..examples import Example, Expect
from ._bare import finished

EXAMPLE = Example(
    broken=Expect(roots={"R16"}, consequences={"R01"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R16"}, severity="corruption possible"),
)

FRAME = 256  # bytes


async def broken(machine, device):
    frame, ring = await prepared(machine, device)
    await machine.cpu.store(frame, bytes(n % 251 for n in range(FRAME)))

    async with memory_held(device, frame, FRAME):  # memory is busy
        await machine.clean_dcache_by_addr(frame, FRAME)
        await device.start_list([(frame, FRAME)], True, 0, descriptors_at=ring, descriptors_cached=True)
        await finished(machine, device)
    await machine.dsb()
    machine.free(frame)
    machine.free(ring)


async def fixed(machine, device):
    frame, ring = await prepared(machine, device)
    await machine.cpu.store(frame, bytes(n % 251 for n in range(FRAME)))

    await machine.clean_dcache_by_addr(frame, FRAME)
    await machine.dsb()
    await device.start_list([(frame, FRAME)], True, 0, descriptors_at=ring, descriptors_cached=True)
    await finished(machine, device)
    machine.free(frame)
    machine.free(ring)


async def prepared(machine, device):
    """The frame's memory, and a descriptor for it that has long been in memory."""
    frame, ring = machine.allocate(FRAME), machine.allocate(16, what="descriptor")
    await device.write_descriptors([(frame, FRAME)], ring, cached=True)
    await machine.clean_dcache_by_addr(ring, 16)
    await machine.dsb()
    return frame, ring


async def lucky(machine, device):
    frame, ring = await prepared(machine, device)
    await machine.cpu.store(frame, bytes(n % 251 for n in range(FRAME)))

    await machine.clean_dcache_by_addr(frame, FRAME)  # memory is idle, and takes the lines while the device is being started
    await device.start_list([(frame, FRAME)], True, 0, descriptors_at=ring, descriptors_cached=True)
    await finished(machine, device)
    await machine.dsb()
    machine.free(frame)
    machine.free(ring)
