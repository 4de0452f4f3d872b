# SPDX-License-Identifier: BSD-2-Clause
"""A line size of 64 bytes is compiled in, and the new chip's cache has lines of 32.

The board support package walks a buffer in steps of CACHE_LINE, as it did on the last chip, and cleans a line at each step.
Nobody noticed that the constant is not the hardware's.

Mechanism: every second line of the buffer is never cleaned. The device gets the new bytes of the others, and what memory held
before of these: stripes of 32 bytes. If the cache happens to have evicted the lines, the buffer is whole: luck.

Fix: read the line size from the hardware (here sys.features.line_bytes, on Arm the cache type register), or give the
maintenance unit the whole range.
"""

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._bare import finished

CACHE_LINE = 64  # what the board support package was compiled with

_WALKS = {"line_loop": True}  # maintenance by address goes line by line, in software
_BROKEN = Expect(roots={"R12"}, severity="corruption seen", corrupts=True, hal=_WALKS, beliefs={"line_bytes": CACHE_LINE})

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(hal=_WALKS),  # the line size is the hardware's
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
)

FRAME = 256  # bytes


async def send_frame(machine, device, *, evicted=False):
    """The driver, right in itself: cleans the frame, and sends it."""
    frame = machine.allocate(FRAME)
    await machine.cpu.store(frame, bytes(n % 251 for n in range(FRAME)))
    if evicted:
        await evict(device, frame, FRAME)

    await machine.clean_dcache_by_addr(frame, FRAME)  # for (addr = frame; addr < frame + FRAME; addr += CACHE_LINE) ...
    await machine.dsb()
    await device.start_list([(frame, FRAME)], True, 0)
    await finished(machine, device)
    machine.free(frame)


async def broken(machine, device):
    # compiled with CACHE_LINE
    await send_frame(machine, device)


async def fixed(machine, device):
    # with the line size of sys.features
    await send_frame(machine, device)


async def lucky(machine, device):
    await send_frame(machine, device, evicted=True)
