# SPDX-License-Identifier: BSD-2-Clause
"""The reference model: what every byte of memory, caches, FIFO and device must be."""

from collections.abc import Callable, Iterable

from rtl.config import SocConfig
from rtl.probe import Kind
from sim.record import Event

from .compare import Comparison
from .context import Context, Mismatch
from .dcache import DCacheModel
from .device import DeviceModel
from .dma import DmaModel
from .icache import ICacheModel
from .maintenance import MaintenanceModel
from .memory import MemoryModel
from .registers import RegisterModel
from .snapshot import CacheLine, Remainder, Snapshot
from .words import to_bytes

__all__ = ["ReferenceModel"]


class ReferenceModel:
    """Untimed, bytes only. Fed with the probe's events in file order; judges them and predicts the state they lead to.

    Parameters
    ----------
    config : the hardware's configuration, with its declared faults.
    memory, device : the initial images, exactly ``memory.size`` and ``device.buffer_bytes`` long. Caches and FIFOs start empty.
    limit : mismatches kept; further ones are only counted (``total``).

    Members
    -------
    mismatches : illegal, missing and doubled events and wrong data inside events, in order.
    total : how many there were.

    Raises
    ------
    ValueError
        If an image has the wrong size.
    """

    def __init__(self, config: SocConfig, memory: bytes, device: bytes, *, limit: int = 200):
        for name, image, size in (("Memory", memory, config.memory.size), ("Device", device, config.device.buffer_bytes)):
            if len(image) != size:
                raise ValueError(f"{name} image must be {size} bytes, not {len(image)}")
        self.config = config
        c = self.context = Context(config, memory, limit)
        c.dcache, c.icache = DCacheModel(c), ICacheModel(c)
        c.maintenance, c.registers = MaintenanceModel(c), RegisterModel(c)
        c.dma, c.device = DmaModel(c), DeviceModel(c, device)
        c.memory_port = MemoryModel(c)
        c.registers.connect()
        self.last_cycle = 0
        self._handlers = self._table()

    @property
    def mismatches(self) -> list[Mismatch]:
        return self.context.mismatches

    @property
    def total(self) -> int:
        return self.context.total

    def _table(self) -> list[Callable[[Event], None]]:
        c = self.context
        handlers: dict[Kind, Callable[[Event], None]] = {
            Kind.MEM_READ: c.memory_port.read,
            Kind.MEM_WRITE: c.memory_port.write,
            Kind.CSR_READ: c.registers.read,
            Kind.CSR_WRITE: c.registers.write,
            Kind.LOAD: c.dcache.load,
            Kind.STORE: c.dcache.store,
            Kind.UNCACHED_LOAD: c.registers.uncached_load,
            Kind.UNCACHED_STORE: c.registers.uncached_store,
            Kind.UNCACHED_STORE_DONE: c.registers.uncached_store_done,
            Kind.FILL_REQUEST: c.dcache.fill_request,
            Kind.FILL_INSTALL: c.dcache.fill_install,
            Kind.FILL_DROP: c.dcache.fill_drop,
            Kind.EVICT: c.dcache.evict,
            Kind.CLEAN: c.dcache.clean,
            Kind.INVALIDATE: c.dcache.invalidate,
            Kind.UPSET: c.dcache.upsets.upset,
            Kind.WB_DONE: c.dcache.write_back_done,
            Kind.SNOOP_READ: c.dcache.snoop_read,
            Kind.SNOOP_WRITE: c.dcache.snoop_write,
            Kind.MAINT_BEGIN: c.maintenance.begin,
            Kind.MAINT_STEP: lambda event: None,  # informational
            Kind.MAINT_END: c.maintenance.end,
            Kind.FETCH: c.icache.fetch,
            Kind.IFILL_REQUEST: c.icache.fill_request,
            Kind.IFILL_INSTALL: c.icache.install,
            Kind.IEVICT: c.icache.evict,
            Kind.IINVALIDATE: c.icache.invalidate,
            Kind.HANDOFF: c.dma.handoff,
            Kind.DESCRIPTOR: c.dma.descriptor,
            Kind.SEGMENT: c.dma.segment,
            Kind.COMPLETE: c.dma.complete,
            Kind.FLUSH_BEGIN: c.dma.flush.begin,
            Kind.FLUSH_END: c.dma.flush.end,
            Kind.DMA_ABORT: c.dma.abort,
            Kind.PUSH: c.dma.push,
            Kind.DRAIN: c.dma.drain,
            Kind.DISCARD: c.dma.flush.discard,
            Kind.DEV_WRITE: c.device.write,
            Kind.DEV_READ: c.device.read,
        }
        missing = set(Kind) - set(handlers)
        if missing:
            raise NotImplementedError(f"the reference model has no rule for {', '.join(kind.name for kind in missing)}")
        table: list[Callable[[Event], None]] = [self._unknown] * 256
        for kind, handler in handlers.items():
            table[int(kind)] = handler
        return table

    def _unknown(self, event: Event) -> None:
        self.context.report(event, f"a record of unknown kind {event.kind:#04x}", event.addr)

    def apply(self, events: Iterable[Event]) -> None:
        """Judges and applies events, in file order; may be called again with the ones that follow."""
        handlers, context = self._handlers, self.context
        seq = context.seq
        event = None
        for event in events:
            seq += 1
            context.seq = seq
            handlers[event[1]](event)
        if event is not None:
            self.last_cycle = event[0]

    def snapshot(self) -> Snapshot:
        """The predicted state, complete."""
        c = self.context
        remainders = [remainder and Remainder(*remainder) for remainder in (fifo.remainder() for fifo in c.dma.fifos)]
        return Snapshot(
            cycle=self.last_cycle,
            memory=to_bytes(c.memory, c.beat),
            memory_base=c.base,
            device=to_bytes(c.device.words, c.beat),
            dcache={a: CacheLine(n.dirty, to_bytes(n.data, c.beat), n.way) for a, n in sorted(c.dcache.lines.items())},
            icache={a: to_bytes(n.data, c.beat) for a, n in sorted(c.icache.lines.items())},
            fifo_to_memory=remainders[0],
            fifo_to_device=remainders[1],
        )

    def compare(self, snapshot: Snapshot) -> list[Mismatch]:
        """Differences between the hardware's state and the predicted one; with ``final`` also duties left undone.

        All events up to the snapshot's cycle must have been applied. The result is not added to ``mismatches``.
        """
        return Comparison(self.context, snapshot).run()
