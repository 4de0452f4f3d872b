# SPDX-License-Identifier: BSD-2-Clause
"""The memory controller's side: every beat read or written at the point of coherency, routed to whom it belongs."""

from collections.abc import Callable

from rtl.probe import Source
from sim.record import Event

from .context import Context

__all__ = ["MemoryModel"]

_PAGE = 4096  # an AXI burst stays inside one


class MemoryModel:
    """Checks MEM_READ data against the model's memory, MEM_WRITE against what its owner must write, and applies it.

    A bus error is legal only where the fault registers armed one: in the 4 KiB page of a fault window of that mode
    (the probe shows beats, the fault hits the whole burst whose first beat lies in the window).
    """

    def __init__(self, context: Context):
        self.c = context
        c = context
        self.readers: dict[int, Callable[[Event, int, int, bool], None]] = {
            int(Source.D_FILL): c.dcache.fill_beat,
            int(Source.D_PREFETCH): c.dcache.fill_beat,
            int(Source.D_UNCACHED): c.registers.uncached_read,
            int(Source.I_FILL): c.icache.fill_beat,
            int(Source.I_UNCACHED): c.icache.uncached_beat,
            int(Source.DMA_DATA): c.dma.read_beat,
            int(Source.DMA_DESCRIPTOR): c.dma.descriptor_beat,
        }
        self.writers: dict[int, Callable[[Event, int, bool], tuple[int, int] | None]] = {
            int(Source.D_WRITEBACK): c.dcache.write_back_beat,
            int(Source.D_UNCACHED): c.registers.uncached_write,
            int(Source.DMA_DATA): c.dma.write_beat,
        }
        self._names = {int(source): source.name for source in Source}
        self.windows: set[tuple[int, int, int]] = set()

    def arm(self, mode: int, address: int, size: int) -> None:
        """The fault registers are armed with this window."""
        self.windows.add((mode, address, size))

    def _error(self, event: Event, mode: int) -> None:
        page = event.addr & ~(_PAGE - 1)
        if not any(m == mode and a < page + _PAGE and page < a + s for m, a, s in self.windows):
            verb = "read" if mode == 2 else "write"
            self.c.report(event, f"memory {event.addr:#010x}: a {verb} answered a bus error that nothing had armed", event.addr)

    def read(self, event: Event) -> None:
        _, _, flags, _, addr, aux, data = event
        c = self.c
        addr &= c.beat_mask
        if not c.base <= addr < c.end:
            c.report(event, f"memory {addr:#010x}: a read beat lies outside the memory window", addr)
            return
        word = c.memory[(addr - c.base) >> c.beat_shift]
        error = flags & 1 == 1
        if error:
            self._error(event, 2)
        elif word != data & c.masks[c.full_strobes]:
            c.report(event, f"memory {addr:#010x}: read data", addr, c.show(word), c.show(data))
        reader = self.readers.get(aux & 0xFF)
        if reader is None:
            c.report(event, f"memory {addr:#010x}: a read by source {aux & 0xFF}, which never reads", addr)
        else:
            reader(event, addr, word, error)

    def write(self, event: Event) -> None:
        _, _, flags, _, addr, aux, data = event
        c = self.c
        addr &= c.beat_mask
        if not c.base <= addr < c.end:
            c.report(event, f"memory {addr:#010x}: a write beat lies outside the memory window", addr)
            return
        error = flags & 1 == 1
        if error:
            self._error(event, 1)
        source = aux & 0xFF
        writer = self.writers.get(source)
        if writer is None:
            c.report(event, f"memory {addr:#010x}: a write by source {source}, which never writes", addr)
            return
        expected = writer(event, addr, error)
        if expected is None:
            return
        strobes, word = expected
        mask = c.masks[strobes]
        if strobes != aux >> 8 & c.full_strobes or (word ^ data) & mask:
            c.report(
                event,
                f"memory {addr:#010x}: {self._names[source]} write data",
                addr,
                c.show(word, strobes),
                c.show(data, aux >> 8),
            )
        if not error:
            index = (addr - c.base) >> c.beat_shift
            c.memory[index] = c.memory[index] & ~mask | word & mask
