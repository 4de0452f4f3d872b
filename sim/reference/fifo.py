# SPDX-License-Identifier: BSD-2-Clause
"""The chunk FIFO of one direction: which bytes may leave, in which order, and what must stay."""

from collections import deque

from sim.record import Event

from .context import Context

__all__ = ["ChunkFifo"]


class ChunkFifo:
    """Bytes enter with :meth:`push`, leave with :meth:`drain` and arrive with :meth:`arrive`.

    A chunk leaves when it is whole, when a byte for another chunk comes, or in a flush. Beats that may leave wait in
    ``closed``, beats that have left but not yet arrived (in memory, or in the device) in ``left``.
    """

    def __init__(self, context: Context, name: str):
        self.c, self.name = context, name
        self.chunk_bytes = context.config.dma.chunk_bytes
        self.cut_through = context.config.dma.cut_through
        self.whole = (1 << self.chunk_bytes) - 1
        self.addr: int | None = None
        self.strobes = self.data = 0
        self.closed: deque[tuple[int, int, int]] = deque()
        self.left: deque[tuple[int, int, int]] = deque()
        self.entered = self.arrived = 0  # beats that were closed / that have arrived or were given up

    def push(self, addr: int, strobes: int, word: int) -> None:
        """Valid bytes of one beat enter."""
        c = self.c
        if not strobes:
            return
        if self.cut_through:
            self.closed.append((addr, strobes, word))
            self.entered += 1
            return
        chunk = addr & ~(self.chunk_bytes - 1)
        if self.addr is not None and self.addr != chunk:
            self.close()
        self.addr = chunk
        shift = addr - chunk
        mask = c.masks[strobes] << 8 * shift
        self.strobes |= strobes << shift
        self.data = self.data & ~mask | word << 8 * shift & mask
        if self.strobes == self.whole:
            self.close()

    def close(self) -> None:
        """The open chunk may leave."""
        if self.addr is None:
            return
        c = self.c
        for offset in range(0, self.chunk_bytes, c.beat):
            strobes = self.strobes >> offset & c.full_strobes
            if strobes:
                self.closed.append((self.addr + offset, strobes, self.data >> 8 * offset & c.masks[c.full_strobes]))
                self.entered += 1
        self.addr, self.strobes, self.data = None, 0, 0

    def drain(self, event: Event, addr: int, strobes: int, word: int) -> None:
        """A beat left; it must be the next one that may."""
        c = self.c
        if not strobes:
            return  # a beat of a partial chunk's burst that carries nothing
        what = f"DMA FIFO to {self.name}: "
        if not self.closed:
            rule = (
                "bytes left a chunk that is neither whole nor closed"
                if self.addr is not None
                else "bytes left that never entered"
            )
            c.report(event, what + rule, addr, "nothing", f"{addr:#010x}: {c.show(word, strobes)}")
            return
        expected = self.closed.popleft()
        while self.cut_through and self.closed and expected[0] == addr == self.closed[0][0] and expected[1] != strobes:
            _, more, bytes_ = self.closed.popleft()  # beats of one address may leave as one
            self.arrived += 1
            keep = ~c.masks[more]
            expected = (addr, expected[1] | more, expected[2] & keep | bytes_ & c.masks[more])
        if expected[0] != addr or expected[1] != strobes or (expected[2] ^ word) & c.masks[strobes]:
            for later, entry in enumerate(self.closed):
                if entry[0] == addr and entry[1] == strobes and not (entry[2] ^ word) & c.masks[strobes]:
                    lost = later + 1  # what was skipped is lost: go on behind it, so that one error stays one
                    for _ in range(later):
                        self.closed.popleft()
                    self.closed.popleft()
                    self.arrived += lost
                    c.report(event, f"{what}{lost} beats were skipped, the first", expected[0], self._text(expected), "nothing")
                    expected = entry
                    break
            else:
                c.report(event, what + "beat that left", addr, self._text(expected), self._text((addr, strobes, word)))
        self.left.append(expected)

    def _text(self, beat: tuple[int, int, int]) -> str:
        return f"{beat[0]:#010x}: {self.c.show(beat[2], beat[1])}"

    def arrive(self) -> tuple[int, int, int] | None:
        """The next beat that must arrive, or None."""
        if not self.left:
            return None
        self.arrived += 1
        return self.left.popleft()

    def discard(self, event: Event, addr: int, strobes: int) -> bool:
        """Bytes were dropped on purpose; False if they were not in the FIFO."""
        c = self.c
        for n, (at, present, word) in enumerate(self.closed):
            if at == addr and present & strobes == strobes:
                if present == strobes:
                    del self.closed[n]
                    self.arrived += 1
                else:
                    self.closed[n] = (at, present & ~strobes, word)
                return True
        if self.addr is not None and self.addr <= addr < self.addr + self.chunk_bytes:
            shifted = strobes << (addr - self.addr)
            if self.strobes & shifted == shifted:
                self.strobes &= ~shifted
                self.data &= ~(c.masks[strobes] << 8 * (addr - self.addr))
                if not self.strobes:
                    self.addr = None
                return True
        return False

    def discard_all(self) -> None:
        """Abort: whatever has not left is gone."""
        self.arrived += len(self.closed)
        self.closed.clear()
        self.addr, self.strobes, self.data = None, 0, 0

    @property
    def held(self) -> int:
        """Bytes that have entered and not left."""
        return self.strobes.bit_count() + sum(strobes.bit_count() for _, strobes, _ in self.closed)

    def remainder(self) -> tuple[int, dict[int, int]] | None:
        """The open chunk: address and valid bytes by offset."""
        if self.addr is None:
            return None
        bits = range(self.chunk_bytes)
        return self.addr, {n: self.data >> 8 * n & 0xFF for n in bits if self.strobes >> n & 1}
