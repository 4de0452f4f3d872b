# SPDX-License-Identifier: BSD-2-Clause
"""READ_REGISTER_* and WRITE_REGISTER_*: programmed I/O between device registers and memory.

The registers of this machine are 32 bits wide and answer SLVERR to anything but an aligned 32-bit access, so only the
ULONG routines exist; a UCHAR or USHORT one could only fail. A buffer routine accesses one register address ``count``
times, which is what a data port wants; ``increment=True`` walks consecutive registers instead.
"""

from ..bus import Bus
from ..errors import check_integer
from ..hal import Hal
from ..pio import read_register_buffer, write_register_buffer
from ..trace import Trace

__all__ = ["RegisterRoutines"]

_WORD = (1 << 32) - 1


class RegisterRoutines:
    """The register routines of a :class:`~driver.wdk.kernel.Kernel`. ``register`` is always a byte address on the bus."""

    bus: Bus
    hal: Hal
    trace: Trace

    async def read_register_ulong(self, register: int) -> int:
        """READ_REGISTER_ULONG: one 32-bit read; the CPU keeps the value, memory is not touched.

        Raises
        ------
        BusError
            If the hardware refuses.
        """
        return await self.bus.read32(_register(register))

    async def write_register_ulong(self, register: int, value: int) -> None:
        """WRITE_REGISTER_ULONG: one 32-bit write; returns when the register has answered. Raises as the read."""
        await self.bus.write32(_register(register), check_integer("value", value, 0, _WORD))

    async def read_register_buffer_ulong(self, register: int, buffer: int, count: int, *, increment: bool = False) -> None:
        """READ_REGISTER_BUFFER_ULONG: reads ``count`` words and stores them, cached, from address ``buffer`` on.

        The bytes are then dirty in the D-cache, and the I-cache may hold older ones: KeFlushIoBuffers(Mdl, TRUE, FALSE) is
        owed at the end of the read operation. The CPU collects words and stores them a line at a time, as an unrolled loop does.

        Raises
        ------
        ArgumentError
            If the buffer is not in memory, or ``count`` is zero.
        BusError
            If the hardware refuses an access; words read before it are stored.
        """
        await read_register_buffer(self.hal, self.trace, register, buffer, count, increment=increment)

    async def write_register_buffer_ulong(self, register: int, buffer: int, count: int, *, increment: bool = False) -> None:
        """WRITE_REGISTER_BUFFER_ULONG: loads ``count`` words, cached, from address ``buffer`` on and writes them.

        No flush is owed: the CPU itself reads the bytes, through its cache. Raises as the read.
        """
        await write_register_buffer(self.hal, self.trace, register, buffer, count, increment=increment)


def _register(register: int) -> int:
    return check_integer("register", register, 0, _WORD, multiple_of=4)
