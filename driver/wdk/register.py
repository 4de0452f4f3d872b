# SPDX-License-Identifier: BSD-2-Clause
"""READ_REGISTER_* and WRITE_REGISTER_*: programmed I/O between device registers and memory.

The registers of this machine are 32 bits wide and answer SLVERR to anything but an aligned 32-bit access, so only the
ULONG routines exist; a UCHAR or USHORT one could only fail. A buffer routine accesses one register address ``count``
times, which is what a data port wants; ``increment=True`` walks consecutive registers instead.
"""

from ..bus import Attribute, Bus
from ..errors import ArgumentError, check_flag, check_integer
from ..platform import Platform
from ..trace import Trace

__all__ = ["RegisterRoutines"]

_WORD = (1 << 32) - 1


class RegisterRoutines:
    """The register routines of a :class:`~driver.wdk.kernel.Kernel`. ``register`` is always a byte address on the bus."""

    bus: Bus
    platform: Platform
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
        self._check(register, buffer, count, increment)
        ranges = [[buffer, 4 * count]]
        with self.trace.call("ReadRegisterBuffer", register=register, ranges=ranges, width=4):
            step = 4 if increment else 0
            pending = bytearray()
            stored = buffer
            try:
                for n in range(count):
                    pending += (await self.bus.read32(register + n * step)).to_bytes(4, "little")
                    if (stored + len(pending)) % self.platform.line_bytes < 4:
                        data, stored, pending = bytes(pending), stored + len(pending), bytearray()
                        await self.bus.write(stored - len(data), data, Attribute.CACHED)
            finally:
                if pending:
                    await self.bus.write(stored, bytes(pending), Attribute.CACHED)

    async def write_register_buffer_ulong(self, register: int, buffer: int, count: int, *, increment: bool = False) -> None:
        """WRITE_REGISTER_BUFFER_ULONG: loads ``count`` words, cached, from address ``buffer`` on and writes them.

        No flush is owed: the CPU itself reads the bytes, through its cache. Raises as the read.
        """
        self._check(register, buffer, count, increment)
        with self.trace.call("WriteRegisterBuffer", register=register, ranges=[[buffer, 4 * count]], width=4):
            step, done = 4 if increment else 0, 0
            while done < count:
                room = self.platform.line_bytes - (buffer + 4 * done) % self.platform.line_bytes
                words = min(max(room // 4, 1), count - done)
                data = await self.bus.read(buffer + 4 * done, 4 * words, Attribute.CACHED)
                for n in range(words):
                    await self.bus.write32(register + (done + n) * step, int.from_bytes(data[4 * n : 4 * n + 4], "little"))
                done += words

    def _check(self, register: int, buffer: int, count: int, increment: bool) -> None:
        _register(register)
        check_flag("increment", increment)
        check_integer("count", count, 1, self.platform.memory_size // 4)
        check_integer("buffer", buffer, 0, _WORD)
        if not self.platform.contains(buffer, 4 * count):
            base, end = self.platform.memory_base, self.platform.memory_base + self.platform.memory_size
            raise ArgumentError(
                f"buffer must lie in memory [{base:#010x}, {end:#010x}) with all of its {4 * count} bytes, not at {buffer:#010x}"
            )


def _register(register: int) -> int:
    return check_integer("register", register, 0, _WORD, multiple_of=4)
