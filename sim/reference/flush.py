# SPDX-License-Identifier: BSD-2-Clause
"""The flush of the chunk FIFOs: what its status promises."""

from collections.abc import Callable

from sim.record import Event

from .context import Context
from .fifo import ChunkFifo

__all__ = ["FlushModel"]

_OK, _BUS_ERROR, _TIMEOUT = 1, 2, 4


class FlushModel:
    """Handlers of FLUSH_BEGIN, FLUSH_END and DISCARD."""

    def __init__(self, context: Context, fifos: tuple[ChunkFifo, ChunkFifo]):
        self.c, self.fifos = context, fifos
        self.running = self.abort_asked = False
        self.has_cut = False  # a time-out or an abort may have cut a burst short
        self._asked: Event | None = None
        self._need = (0, 0)  # beats of each direction that must have arrived for success
        self._remainder: tuple[int, int, int] | None = None  # toward memory, as it was closed: addr, strobes, data
        self._failed = self._kept = False  # a write of this flush failed / the remainder's did, so that it is open again
        self._discarded = 0
        self._late_error = False  # a write outside a flush failed: its response may come inside the next one
        self._cleared = False  # an abort has emptied the FIFOs: DISCARD records may say so

    def command(self, event: Event) -> None:
        """``dma.ctrl.flush`` was written; while a flush runs it is ignored."""
        if not self.running:
            self._asked = event

    def begin(self, event: Event) -> None:
        c = self.c
        if self.running:
            c.report(event, "DMA flush: began while one was running")
        elif self._asked is None:
            c.report(event, "DMA flush: began although no register write had asked for it")
        self._asked, self.running, self._cleared = None, True, False
        fifo = self.fifos[0]
        self._remainder = None if fifo.addr is None else (fifo.addr, fifo.strobes, fifo.data)
        self._failed, self._kept, self._discarded = False, False, 0
        for fifo in self.fifos:
            fifo.close()
        self._need = (self.fifos[0].entered, self.fifos[1].entered)

    def write_failed(self, beat: tuple[int, int, int]) -> None:
        """Memory answered a chunk's write with a bus error."""
        if not self.running:
            self._late_error = True
            return
        self._failed = True
        fifo = self.fifos[0]
        if self._remainder and beat[0] & ~(fifo.chunk_bytes - 1) == self._remainder[0]:
            self._kept = True
            if fifo.addr is None and not fifo.cut_through:  # pushes are held off, so nothing else can be open
                fifo.addr, fifo.strobes, fifo.data = self._remainder

    def aborted(self, event: Event) -> None:
        """An abort ends a flush at once, without a status."""
        self.abort_asked = self.running = False
        self._asked = None
        self._cleared = self.has_cut = True

    def discard(self, event: Event) -> None:
        c = self.c
        to_device, strobes = event.aux >> 31, event.aux & 0x7FFF_FFFF
        name = self.fifos[to_device].name
        if not self.running and not self._cleared:
            c.report(event, f"DMA FIFO to {name}: bytes were discarded outside a flush", event.addr)
        self._discarded += strobes.bit_count()
        if not self.fifos[to_device].discard(event, event.addr, strobes) and not self._cleared:
            what = f"DMA FIFO to {name}: bytes were discarded that it does not hold"
            c.report(event, what, event.addr, None, f"{event.addr:#010x} strobes {strobes:#x}")

    def end(self, event: Event) -> None:
        c = self.c
        status = event.flags & 7
        if not self.running:
            if status or not self._cleared:
                c.report(event, "DMA flush: ended although none was running")
            return
        self.running = False
        late, self._late_error = self._late_error, False
        missing = [max(need - fifo.arrived, 0) for need, fifo in zip(self._need, self.fifos)]
        if status not in (_OK, _BUS_ERROR, _TIMEOUT):
            c.report(event, "DMA flush: status must be one of ok, bus error, time-out", None, "one bit", f"{status:#05b}")
        if status != _TIMEOUT:
            for fifo, beats in zip(self.fifos, missing):
                if beats:
                    word = "ok" if status == _OK else "a bus error"
                    c.report(event, f"DMA flush: reported {word} although {beats} beats have not reached the {fifo.name}")
            if self._discarded or event.aux:
                c.report(event, "DMA flush: bytes were discarded without a time-out", None, 0, max(self._discarded, event.aux))
        if status == _OK and self._kept:
            c.report(event, "DMA flush: reported ok although memory answered the remainder's write with an error")
        if status == _BUS_ERROR:
            if not self._failed and not late:
                c.report(event, "DMA flush: reported a bus error that memory never answered")
        if status == _TIMEOUT:
            self.has_cut = True
            if not c.registers["dma.flush_timeout"]:
                c.report(event, "DMA flush: timed out although no time-out is set")
            if event.aux != self._discarded:
                c.report(event, "DMA flush: discarded bytes", None, self._discarded, event.aux)
            for fifo in self.fifos:
                if self._kept and fifo is self.fifos[0] and (fifo.addr, fifo.strobes, fifo.data) == self._remainder:
                    fifo.discard_all()  # failed, then out of time: all its beats had left, so no record says so
                if fifo.held:
                    c.report(event, f"DMA flush: timed out but kept {fifo.held} bytes toward the {fifo.name}")

    def outstanding(self, report: Callable[..., None]) -> None:
        """Duties at the end of a run."""
        if self.running:
            report("DMA flush: never ended")
        if self._asked:
            report(f"DMA flush: the command of cycle {self._asked.cycle} never began")
