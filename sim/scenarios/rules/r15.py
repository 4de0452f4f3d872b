# SPDX-License-Identifier: BSD-2-Clause
"""An Ethernet driver cleans its frames, but not the descriptor that names them.

The transmit descriptor lies in ordinary RAM. The driver writes the frame's address into it, cleans the frame by address, and
starts the bus master. With the D-cache off it worked; with it on, every frame but the first is the one before.

Mechanism: the descriptor is memory that the device reads, too. The new address is dirty in the D-cache; the bus master fetches
the descriptor from memory and sends what it named last time. If the cache happens to have evicted the line, the right frame
leaves: luck.

Fix: clean the descriptor after the last store to it, before the start (or keep descriptors in uncached memory).
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._bare import finished

EXAMPLE = Example(
    broken=Expect(roots={"R15"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R15"}, severity="corruption possible"),
)

FRAME, DESCRIPTOR = 128, 16  # bytes


async def broken(machine, device, *, evicted=False):
    ring = machine.allocate(DESCRIPTOR, what="transmit descriptor")
    frames = [machine.allocate(FRAME) for _ in range(2)]
    await first_frame(machine, device, ring, frames[0])

    await machine.cpu.store(frames[1], b"second" * 21 + b"!!")
    await machine.clean_dcache_by_addr(frames[1], FRAME)
    await device.write_descriptors([(frames[1], FRAME)], ring, cached=True)
    if evicted:
        await evict(device, ring, DESCRIPTOR)
    await machine.dsb()

    await device.start_list([(frames[1], FRAME)], True, FRAME, descriptors_at=ring, descriptors_cached=True)
    await finished(machine, device)
    for address in (*frames, ring):
        machine.free(address)


async def fixed(machine, device):
    ring = machine.allocate(DESCRIPTOR, what="transmit descriptor")
    frames = [machine.allocate(FRAME) for _ in range(2)]
    await first_frame(machine, device, ring, frames[0])

    await machine.cpu.store(frames[1], b"second" * 21 + b"!!")
    await machine.clean_dcache_by_addr(frames[1], FRAME)
    await device.write_descriptors([(frames[1], FRAME)], ring, cached=True)
    await machine.clean_dcache_by_addr(ring, DESCRIPTOR)
    await machine.dsb()

    await device.start_list([(frames[1], FRAME)], True, FRAME, descriptors_at=ring, descriptors_cached=True)
    await finished(machine, device)
    for address in (*frames, ring):
        machine.free(address)


async def first_frame(machine, device, ring, frame):
    """The frame before: sent while the whole cache was still cleaned at each step."""
    await machine.cpu.store(frame, b"first." * 21 + b"??")
    await device.write_descriptors([(frame, FRAME)], ring, cached=True)
    await machine.clean_dcache()
    await machine.dsb()
    await device.start_list([(frame, FRAME)], True, 0, descriptors_at=ring, descriptors_cached=True)
    await finished(machine, device)


async def lucky(machine, device):
    await broken(machine, device, evicted=True)
