# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD USB mass storage: a dirty line of a write-allocate cache is evicted over what the USB controller wrote.

A USB mass storage device ends each command with a status wrapper that carries the command's tag. On ARM machines umass(4)
found the wrong tag in it, one behind the expected one, retried and gave up. Nothing made a buffer ready before a transfer
from the device (FreeBSD commit 155d019a02).

Mechanism: with a write-allocate cache the CPU's stores to the buffer leave its line dirty in the D-cache. The controller
writes the new wrapper to memory. When the cache needs the line's place, it writes the old contents back over the new. The
synchronisation afterwards makes the CPU read memory, and memory has gone wrong.

Fix: usbd_start_transfer() synchronises the buffer before the transfer, too (BUS_DMASYNC_PREREAD): nothing in it is dirty when
the controller starts.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._controller import finished

EXAMPLE = Example(
    broken=Expect(roots={"R02"}, consequences={"R03"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R02"}, severity="corruption possible"),
    source=("S5",),
    case="FreeBSD USB mass storage (commit 155d019a02)",
)

PACKET = 512  # bytes: the bulk packet that carries the status wrapper


async def broken(machine, device, *, replaced=True):
    wrapper = machine.allocate(PACKET)
    await machine.cpu.store(wrapper, bytes(PACKET))  # umass clears it: the line is allocated, and dirty

    await device.start_list([(wrapper, PACKET)], False, 0)
    await finished(machine, device)
    if replaced:
        await evict(device, wrapper, PACKET)  # the cache needs the line's place

    await machine.invalidate_dcache_by_addr(wrapper, PACKET)  # POSTREAD
    await machine.dsb()
    status = await machine.cpu.load(wrapper, PACKET)
    machine.free(wrapper)
    return status


async def fixed(machine, device):
    wrapper = machine.allocate(PACKET)
    await machine.cpu.store(wrapper, bytes(PACKET))

    await machine.clean_invalidate_dcache_by_addr(wrapper, PACKET)  # PREREAD
    await machine.dsb()
    await device.start_list([(wrapper, PACKET)], False, 0)
    await finished(machine, device)
    await evict(device, wrapper, PACKET)

    await machine.invalidate_dcache_by_addr(wrapper, PACKET)  # POSTREAD
    await machine.dsb()
    status = await machine.cpu.load(wrapper, PACKET)
    machine.free(wrapper)
    return status


async def lucky(machine, device):
    return await broken(machine, device, replaced=False)
