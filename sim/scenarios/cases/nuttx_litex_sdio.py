# SPDX-License-Identifier: BSD-2-Clause
"""NuttX's litex SDIO: the send path invalidates the D-cache, and what the CPU wanted to send is gone.

The SD card driver of the LiteX soft cores prepared both directions in the same way: it invalidated the whole D-cache, before
a receive and before a send. Reviewers of pull request 9118 said that only the first is right.

Mechanism: a block that the CPU has just filled is dirty in the D-cache; memory is older. An invalidate drops it: the block
that is sent is whatever memory held, and the CPU itself cannot read its own bytes any more. Whatever else was dirty is lost
as well.

Fix: the send path must clean (write back) the lines, or clean and invalidate them, as the review says; the corrected driver
cleans the block that it sends.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._controller import finished

EXAMPLE = Example(
    broken=Expect(roots={"R07"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R07"}, severity="corruption possible"),
    case="NuttX litex SDIO (pull request 9118, review)",
)

BLOCK = 512
CONTENTS = bytes(n * 7 % 256 for n in range(BLOCK))


async def broken(machine, device, *, evicted=False):
    block = machine.allocate(BLOCK)
    await machine.cpu.store(block, CONTENTS)
    if evicted:
        await evict(device, block, BLOCK)

    await machine.invalidate_dcache()  # litex_sendsetup: up_invalidate_dcache_all()
    await machine.dsb()
    await device.start_list([(block, BLOCK)], True, 0)
    await finished(machine, device)
    await device.device_done(100_000)
    machine.free(block)


async def fixed(machine, device):
    block = machine.allocate(BLOCK)
    await machine.cpu.store(block, CONTENTS)

    await machine.clean_dcache_by_addr(block, BLOCK)
    await machine.dsb()
    await device.start_list([(block, BLOCK)], True, 0)
    await finished(machine, device)
    await device.device_done(100_000)
    machine.free(block)


async def lucky(machine, device):
    await broken(machine, device, evicted=True)
