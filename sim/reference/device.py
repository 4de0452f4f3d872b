# SPDX-License-Identifier: BSD-2-Clause
"""The device: its own copy of the buffer, its commands, and the bytes that leave and reach it."""

from collections import deque
from collections.abc import Callable

from sim.record import Event

from .context import Context
from .words import to_words

__all__ = ["DeviceModel"]

_DMA_READ, _DMA_WRITE, _PIO_READ, _PIO_WRITE, _ABORT = 1, 2, 3, 4, 7


class DeviceModel:
    """Handlers of the ``dev`` channel and of the ``dev`` registers that do something."""

    def __init__(self, context: Context, image: bytes):
        self.c = context
        self.words = to_words(image, context.beat)
        self.size = len(image)
        self.op = self.addr = self.length = 0
        self.moved = 0  # bytes sent or received in this command
        self.served = 0  # bytes of this command that the mover has accepted
        self.truncated = False  # the last request was cut to the channel's residue: its rest is dropped
        self.aborted = False
        self._sent: deque[list] = deque()  # [offset, bytes] that left and are not yet in the FIFO
        self._owed: deque[list] = deque()  # [event, offset, count] that entered the FIFO in the cycle they left
        self._pio: deque[tuple[int, int]] = deque()  # (offset, byte) written to the data port, not yet in the buffer

    def connect(self, registers) -> None:
        registers.when_written("dev.cmd", self._command)
        registers.when_written("dev.pio_data", self._pio_write)
        registers.when_read("dev.pio_data", self._pio_read)

    @property
    def busy(self) -> bool:
        if self.aborted:  # an accepted device-to-memory request is sent to its end
            return self.op == _DMA_READ and self.moved < self.served
        return self.op != 0 and self.moved < self.length

    @property
    def exhausted(self) -> bool:
        """The device asks for no more: its command is used up, or was aborted."""
        return self.aborted or self.served >= self.length

    def _command(self, event: Event) -> None:
        op = event.data & 7
        if op == _ABORT:
            self.aborted |= self.busy
            return
        if op not in (_DMA_READ, _DMA_WRITE, _PIO_READ, _PIO_WRITE) or self.busy:
            return
        registers = self.c.registers
        addr, length, short = registers["dev.addr"], registers["dev.length"], registers["dev.short"]
        if addr + length > self.size:
            return
        if op in (_DMA_READ, _DMA_WRITE) and short:
            length = min(length, short)
        self.op, self.addr, self.length = op, addr, length
        self.moved = self.served = 0
        self.truncated = self.aborted = False

    def _bytes(self, offset: int, count: int) -> bytes:
        """Bytes of the buffer; beyond its end there are none."""
        c = self.c
        first, last = offset >> c.beat_shift, (offset + count - 1) >> c.beat_shift
        raw = b"".join(word.to_bytes(c.beat, "little") for word in self.words[first : last + 1])
        skip = offset - (first << c.beat_shift)
        return raw[skip : skip + count]

    # --- PIO data port
    def _pio_read(self, event: Event) -> int | None:
        if self.op != _PIO_READ or not self.busy:
            return None
        count = min(4, self.length - self.moved)
        value = int.from_bytes(self._bytes(self.addr + self.moved, count), "little")
        self.moved += count
        return value

    def _pio_write(self, event: Event) -> None:
        if self.op != _PIO_WRITE or not self.busy:
            return
        count = min(4, self.length - self.moved)
        start = self.addr + self.moved
        self._pio.extend((start + n, event.data >> 8 * n & 0xFF) for n in range(count))
        self.moved += count

    # --- DMA requests
    def request(self, event: Event, offset: int, length: int, truncated: bool) -> None:
        """The mover accepted a segment of the device's request stream: it must be the next bytes of the command."""
        c = self.c
        what = f"device offset {offset:#x}: the mover accepted {length} bytes"
        if self.op not in (_DMA_READ, _DMA_WRITE):
            c.report(event, f"{what} although the device has no DMA command", offset)
            return
        expected = self.addr + self.served
        if offset != expected and not (self.truncated and offset > expected):
            c.report(event, f"{what} that are not next", offset, f"{expected:#x}", f"{offset:#x}")
        self.served = offset - self.addr + length
        self.truncated = truncated
        if self.served > self.length:
            c.report(event, f"{what}, more than the command has", offset, self.length, self.served)

    def take(self, event: Event, offset: int, count: int) -> bytes:
        """Bytes on their way from the device to the FIFO. They may leave the buffer in the cycle they enter the FIFO."""
        while self._sent and not self._sent[0][0] <= offset < self._sent[0][0] + len(self._sent[0][1]):
            self._sent.popleft()  # the dropped rest of a request that the residue cut
        found = b""
        if self._sent:
            start, data = self._sent[0]
            skip = offset - start
            found = bytes(data[skip : skip + count])
            del data[: skip + len(found)]
            self._sent[0][0] = offset + len(found)
            if not data:
                self._sent.popleft()
        if len(found) < count:
            self._owed.append([event, offset + len(found), count - len(found)])
            found += self._bytes(offset + len(found), count - len(found))
        return found

    # --- dev
    def read(self, event: Event) -> None:
        _, _, _, _, addr, strobes, data = event
        c = self.c
        if not strobes:
            return
        lane = (strobes & -strobes).bit_length() - 1
        offset, count = addr + lane, strobes.bit_count()
        what = f"device offset {offset:#x}: read"
        if strobes != ((1 << count) - 1) << lane or offset + count > self.size:
            c.report(event, f"{what} of bytes that are not one run inside the buffer", offset)
            return
        found = self._bytes(offset, count)
        if int.from_bytes(found, "little") != data >> 8 * lane & (1 << 8 * count) - 1:
            c.report(
                event, f"{what} data", offset, c.show(int.from_bytes(found, "little") << 8 * lane, strobes), c.show(data, strobes)
            )
        if self.op == _PIO_READ:
            if not self.addr <= offset <= offset + count <= self.addr + self.length:
                c.report(event, f"{what} by PIO outside the command's range", offset)
            return
        if self.op != _DMA_READ:
            c.report(event, f"{what} although no command reads", offset)
            return
        if offset != self.addr + self.moved:
            c.report(event, f"{what} that is not next", offset, f"{self.addr + self.moved:#x}", f"{offset:#x}")
        self.moved = offset - self.addr + count
        if self.moved > self.length:
            c.report(event, f"{what} beyond the command's length", offset, self.length, self.moved)
        found = bytearray(found)
        while self._owed and found and self._owed[0][1] == offset:
            owed = self._owed[0]
            if owed[0].cycle != event.cycle:
                c.report(owed[0], f"DMA FIFO to memory: bytes entered before they left the device at {offset:#x}", offset)
            part = min(owed[2], len(found))
            offset += part
            del found[:part]
            owed[1:] = owed[1] + part, owed[2] - part
            if not owed[2]:
                self._owed.popleft()
        if found:
            if self._sent and self._sent[-1][0] + len(self._sent[-1][1]) == offset:
                self._sent[-1][1] += found
            else:
                self._sent.append([offset, found])

    def write(self, event: Event) -> None:
        _, _, _, _, addr, strobes, data = event
        c = self.c
        if not strobes:
            return
        fifo = c.dma.fifos[1]
        head = fifo.left[0] if fifo.left else None
        if head and (not self._pio or head[:2] == (addr, strobes)):
            self._received(event, fifo.arrive())
        elif self._pio:
            self._pio_arrived(event)
        else:
            what = f"device offset {addr:#x}: written although nothing was on its way"
            c.report(event, what, addr, "nothing", c.show(data, strobes))

    def _received(self, event: Event, expected: tuple[int, int, int]) -> None:
        c = self.c
        addr, strobes, word = expected
        mask = c.masks[strobes]
        if (addr, strobes) != (event.addr, event.aux) or (word ^ event.data) & mask:
            got = f"{event.addr:#x}: {c.show(event.data, event.aux)}"
            c.report(event, f"device offset {addr:#x}: write data", addr, f"{addr:#x}: {c.show(word, strobes)}", got)
        if addr + c.beat > self.size:
            c.report(event, f"device offset {addr:#x}: written beyond the buffer", addr)
            return
        index = addr >> c.beat_shift
        self.words[index] = self.words[index] & ~mask | word & mask
        first = addr + (strobes & -strobes).bit_length() - 1
        if self.op == _DMA_WRITE and first == self.addr + self.moved:  # an older command's remainder does not count
            self.moved += strobes.bit_count()

    def _pio_arrived(self, event: Event) -> None:
        c = self.c
        for lane in range(event.aux.bit_length()):
            if not event.aux >> lane & 1:
                continue
            got = (event.addr + lane, event.data >> 8 * lane & 0xFF)
            expected = self._pio.popleft() if self._pio else None
            if expected != got:
                text = "nothing" if expected is None else f"{expected[0]:#x} <- {expected[1]:#04x}"
                what = f"device offset {got[0]:#x}: PIO write"
                c.report(event, what, got[0], text, f"{got[0]:#x} <- {got[1]:#04x}")
            if expected is not None:
                index, shift = expected[0] >> c.beat_shift, 8 * (expected[0] & ~c.beat_mask)
                self.words[index] = self.words[index] & ~(0xFF << shift) | expected[1] << shift

    def outstanding(self, report: Callable[..., None]) -> None:
        """Duties at the end of a run."""
        for event, offset, _ in self._owed:
            report(f"DMA FIFO to memory: bytes entered in cycle {event.cycle} that never left the device at {offset:#x}", offset)
        if self._pio:
            report(f"device offset {self._pio[0][0]:#x}: {len(self._pio)} bytes written by PIO never arrived", self._pio[0][0])
