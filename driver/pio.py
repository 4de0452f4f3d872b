# SPDX-License-Identifier: BSD-2-Clause
"""Programmed I/O between a device register and memory, by the CPU: what every interface's buffer routines come down to.

The registers are 32 bits wide. The CPU collects words and stores (or loads) them a line at a time, as an unrolled loop does, so
the bytes are dirty in its cache afterwards.
"""

from .bus import Attribute
from .errors import ArgumentError, check_flag, check_integer
from .hal import Hal
from .trace import Trace

__all__ = ["read_register_buffer", "write_register_buffer"]

_WORD = (1 << 32) - 1


async def read_register_buffer(
    hal: Hal, trace: Trace, register: int, buffer: int, count: int, *, increment: bool = False
) -> None:
    """Reads ``count`` words and stores them, cached, from address ``buffer`` on. Logged as ``ReadRegisterBuffer``.

    Parameters
    ----------
    register : byte address of the register. increment : False reads this one ``count`` times (a data port), True walks.

    Raises
    ------
    ArgumentError
        If the buffer is not in memory, or ``count`` is zero.
    BusError
        If the hardware refuses an access; words read before it are stored.
    """
    _check(hal, register, buffer, count, increment)
    with trace.call("ReadRegisterBuffer", register=register, ranges=[[buffer, 4 * count]], width=4):
        step, line = 4 if increment else 0, hal.platform.line_bytes
        pending, stored = bytearray(), buffer
        try:
            for n in range(count):
                pending += (await hal.bus.read32(register + n * step)).to_bytes(4, "little")
                if (stored + len(pending)) % line < 4:
                    data, stored, pending = bytes(pending), stored + len(pending), bytearray()
                    await hal.bus.write(stored - len(data), data, Attribute.CACHED)
        finally:
            if pending:
                await hal.bus.write(stored, bytes(pending), Attribute.CACHED)


async def write_register_buffer(
    hal: Hal, trace: Trace, register: int, buffer: int, count: int, *, increment: bool = False
) -> None:
    """Loads ``count`` words, cached, from address ``buffer`` on and writes them to the register. Logged as
    ``WriteRegisterBuffer``.

    No flush is owed: the CPU itself reads the bytes, through its cache. Parameters and errors as :func:`read_register_buffer`.
    """
    _check(hal, register, buffer, count, increment)
    with trace.call("WriteRegisterBuffer", register=register, ranges=[[buffer, 4 * count]], width=4):
        step, line, done = 4 if increment else 0, hal.platform.line_bytes, 0
        while done < count:
            room = line - (buffer + 4 * done) % line
            words = min(max(room // 4, 1), count - done)
            data = await hal.bus.read(buffer + 4 * done, 4 * words, Attribute.CACHED)
            for n in range(words):
                await hal.bus.write32(register + (done + n) * step, int.from_bytes(data[4 * n : 4 * n + 4], "little"))
            done += words


def _check(hal: Hal, register: int, buffer: int, count: int, increment: bool) -> None:
    check_integer("register", register, 0, _WORD, multiple_of=4)
    check_flag("increment", increment)
    check_integer("count", count, 1, hal.platform.memory_size // 4)
    check_integer("buffer", buffer, 0, _WORD)
    if not hal.platform.contains(buffer, 4 * count):
        base, end = hal.platform.memory_base, hal.platform.memory_base + hal.platform.memory_size
        raise ArgumentError(
            f"buffer must lie in memory [{base:#010x}, {end:#010x}) with all of its {4 * count} bytes, not at {buffer:#010x}"
        )
