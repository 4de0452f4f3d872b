# SPDX-License-Identifier: BSD-2-Clause
"""U-Boot's dwc3: clean and invalidate after the controller has written commits an old dirty line over its events.

The USB controller writes event records to a buffer in memory. U-Boot took the buffer from memalign(), and when the controller
had raised its interrupt it "flushed" the buffer, which on AArch64 is clean and invalidate, and read the events. On a board
with an RK3399 the first interrupt ended in an abort: the events were garbage. It depended on what had run before.

Mechanism: the buffer's lines may still be dirty from an earlier use of that memory. The controller writes its events to
memory; then the clean writes the old lines over them; then the CPU reads what it has just destroyed.

Fix: clean and invalidate the buffer when it is set up, before the controller owns it; at an interrupt read it first, and
clean and invalidate it after that, for the next one. This is the order of U-Boot's own correction. It trusts that nothing
brings the lines back in between, and a CPU that fetches ahead may do that: so the corrected driver here also invalidates
before it reads (the run "published" is without).
"""

from ...userdriver.happens import write_back
from ..examples import Example, Expect
from ._controller import finished

EXAMPLE = Example(
    broken=Expect(roots={"R08"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R08"}, severity="corruption possible"),
    also={
        "published": Expect(function="published", roots={"R04"}, severity="corruption possible"),
        "published-no-speculation": Expect(function="published", speculates=False),
    },
    source=("S5",),
    case="U-Boot dwc3",
)

EVENTS = 256  # bytes


async def broken(machine, device, *, clean_by_luck=False):
    events = machine.allocate(EVENTS)
    await machine.cpu.store(events, b"\xff" * EVENTS)  # an earlier use of this memory
    if clean_by_luck:
        await write_back(device, events, EVENTS)

    await device.start_list([(events, EVENTS)], False, 0)
    await finished(machine, device)

    await machine.clean_invalidate_dcache_by_addr(events, EVENTS)  # dwc3_flush_cache() in the interrupt
    await machine.dsb()
    read = await machine.cpu.load(events, EVENTS)
    machine.free(events)
    return read


async def fixed(machine, device):
    events = machine.allocate(EVENTS)
    await machine.cpu.store(events, b"\xff" * EVENTS)
    await machine.clean_invalidate_dcache_by_addr(events, EVENTS)  # when the buffer is set up
    await machine.dsb()

    await device.start_list([(events, EVENTS)], False, 0)
    await finished(machine, device)

    await machine.invalidate_dcache_by_addr(events, EVENTS)  # what the CPU fetched ahead
    await machine.dsb()
    read = await machine.cpu.load(events, EVENTS)
    machine.free(events)
    return read


async def lucky(machine, device):
    return await broken(machine, device, clean_by_luck=True)


async def published(machine, device):
    events = machine.allocate(EVENTS)
    await machine.cpu.store(events, b"\xff" * EVENTS)
    await machine.clean_invalidate_dcache_by_addr(events, EVENTS)
    await machine.dsb()

    await device.start_list([(events, EVENTS)], False, 0)
    await finished(machine, device)

    read = await machine.cpu.load(events, EVENTS)
    await machine.clean_invalidate_dcache_by_addr(events, EVENTS)
    await machine.dsb()
    machine.free(events)
    return read
