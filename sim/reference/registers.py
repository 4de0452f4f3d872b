# SPDX-License-Identifier: BSD-2-Clause
"""The CPU's uncached side and the registers: every uncached access has exactly one effect, and one answer that fits it."""

from collections import deque
from collections.abc import Callable

from rtl.config import CSR_BASE, CSR_SIZE
from rtl.pio.table import registers
from sim.record import Event

from .context import Context

__all__ = ["RegisterModel"]


class _Store:
    """An uncached store between its issue and its answer."""

    __slots__ = ("done", "error", "event")

    def __init__(self, event: Event):
        self.event, self.done, self.error = event, False, False


class RegisterModel:
    """Handlers of the ``csr`` channel and of the uncached kinds of ``cpu``; holds the storage registers' values."""

    def __init__(self, context: Context):
        self.c = context
        table = registers(context.config.dma.system_channels)
        self.offset = {register.full_name: register.offset for register in table}
        self.name = {register.offset: register.full_name for register in table}
        self._stored = {r.offset: sum(f.mask for f in r.fields if f.access == "rw") for r in table}
        self.values = {r.offset: sum(f.reset << f.low for f in r.fields if f.access == "rw") for r in table}
        self._on_write: dict[int, Callable[[Event], None]] = {}
        self._on_read: dict[int, Callable[[Event], int | None]] = {}
        self._stores: deque[_Store] = deque()
        self._to_memory: deque[_Store] = deque()
        self._to_register: deque[_Store] = deque()
        self._memory_reads: deque[tuple[int, int, bool]] = deque()
        self._register_reads: deque[tuple[int, int]] = deque()

    def connect(self) -> None:
        """Registers whose access does something; called when all parts exist."""
        c = self.c
        write = self.when_written
        write("maint.cmd", lambda e: c.maintenance.command(e, self["maint.start"], self["maint.length"]))
        write("dcache.ctrl", self._dcache_control)
        write("dcache.inject_cmd", self._inject_command)
        for name in ("mem.fault_addr", "mem.fault_size", "mem.fault_ctrl"):
            write(name, self._fault)
        c.dma.connect(self)
        c.device.connect(self)

    def __getitem__(self, name: str) -> int:
        """Value of a storage register."""
        return self.values[self.offset[name]]

    def when_written(self, name: str, action: Callable[[Event], None]) -> None:
        """``action(event)`` runs after the register has taken the value."""
        self._on_write[self.offset[name]] = action

    def when_read(self, name: str, action: Callable[[Event], int | None]) -> None:
        """``action(event)`` gives the value a read must have (None: nothing is known)."""
        self._on_read[self.offset[name]] = action

    def _dcache_control(self, event: Event) -> None:
        self.c.dcache.prefetch_control(bool(event.data & 1))
        self.c.dcache.inject_control(bool(event.data & 2))

    def _inject_command(self, event: Event) -> None:
        line = self["dcache.inject_addr"] & self.c.line_mask
        self.c.dcache.inject_command(line, bool(event.data & 1), bool(event.data & 2), bool(event.data & 4))
        self.c.dcache.upsets.command(self["dcache.inject_addr"], bool(event.data & 8), bool(event.data & 16))

    def _fault(self, event: Event) -> None:
        if self["mem.fault_ctrl"] & 3:
            self.c.memory_port.arm(self["mem.fault_ctrl"] & 3, self["mem.fault_addr"], self["mem.fault_size"])

    # --- csr
    def write(self, event: Event) -> None:
        offset, value = event.addr, event.data & 0xFFFF_FFFF
        c = self.c
        name = self.name.get(offset)
        if name is None:
            c.report(event, f"register {offset:#05x}: written although there is none", CSR_BASE + offset)
            return
        if not self._to_register:
            c.report(event, f"register {name}: written although no uncached store was issued", CSR_BASE + offset)
        else:
            store = self._to_register.popleft()
            store.done = True
            address, issued = self._word(store.event)
            if (address, issued, store.event.tag) != (CSR_BASE + offset, value, event.tag):
                c.report(
                    event,
                    f"register {name}: written with other values than the store's",
                    CSR_BASE + offset,
                    f"{address:#010x} <- {issued:#010x} tag {store.event.tag}",
                    f"{CSR_BASE + offset:#010x} <- {value:#010x} tag {event.tag}",
                )
        stored = self._stored[offset]
        self.values[offset] = self.values[offset] & ~stored | value & stored
        action = self._on_write.get(offset)
        if action:
            action(event)

    def read(self, event: Event) -> None:
        offset, value = event.addr, event.data & 0xFFFF_FFFF
        c = self.c
        name = self.name.get(offset)
        if name is None:
            c.report(event, f"register {offset:#05x}: read although there is none", CSR_BASE + offset)
            return
        self._register_reads.append((CSR_BASE + offset, value))
        stored = self._stored[offset]
        expected = self.values[offset] & stored
        action = self._on_read.get(offset)
        if action:
            known = action(event)
            if known is not None:
                stored, expected = 0xFFFF_FFFF, known
        if value & stored != expected:
            c.report(event, f"register {name}: read data", CSR_BASE + offset, f"{expected:#010x}", f"{value & stored:#010x}")

    def _word(self, event: Event) -> tuple[int, int | None]:
        """Address and value of an uncached access as a 32-bit word; None if it is not an aligned word."""
        lane = (event.aux & -event.aux).bit_length() - 1 if event.aux else 0
        if event.aux != 0xF << lane or lane % 4:
            return event.addr, None
        return (event.addr & self.c.beat_mask) + lane, event.data >> 8 * lane & 0xFFFF_FFFF

    # --- cpu, uncached
    @staticmethod
    def _in_registers(address: int) -> bool:
        return CSR_BASE <= address < CSR_BASE + CSR_SIZE

    def _may_fail(self, event: Event) -> bool:
        """May this register access answer an error: no such register, not a word, or the data port without drq?"""
        address, value = self._word(event)
        name = self.name.get(address - CSR_BASE)
        return value is None or name is None or name == "dev.pio_data"

    def uncached_load(self, event: Event) -> None:
        _, _, flags, _, addr, aux, data = event
        c = self.c
        what = f"uncached load at {addr:#010x}"
        c.dcache.stores.overtaken(event, what)
        error = bool(flags & 1)
        if c.in_memory(addr):
            if not self._memory_reads:
                c.report(event, f"{what} answered although memory was not read", addr)
                return
            address, word, bad = self._memory_reads.popleft()
            if address != addr & c.beat_mask:
                c.report(event, f"{what} answered with another beat", addr, f"{addr & c.beat_mask:#010x}", f"{address:#010x}")
            if bad != error:
                c.report(event, f"{what}: error", addr, bad, error)
            elif not error and (word ^ data) & c.masks[aux]:
                c.report(event, f"{what}: data", addr, c.show(word, aux), c.show(data, aux))
        elif self._in_registers(addr):
            if error:
                if not self._may_fail(event):
                    c.report(event, f"{what} answered an error although the register exists", addr)
                return
            address, value = self._word(event)
            if not self._register_reads:
                c.report(event, f"{what} answered although no register was read", addr)
            elif self._register_reads.popleft() != (address, value):
                c.report(event, f"{what}: data is not what the register gave", addr)
        elif not error:
            c.report(event, f"{what} outside the map answered okay", addr)

    def uncached_store(self, event: Event) -> None:
        self.c.dcache.stores.overtaken(event, f"uncached store at {event.addr:#010x}")
        store = _Store(event)
        self._stores.append(store)
        if self.c.in_memory(event.addr):
            self._to_memory.append(store)
        elif self._in_registers(event.addr):
            self._to_register.append(store)

    def uncached_store_done(self, event: Event) -> None:
        c = self.c
        what = f"uncached store at {event.addr:#010x}"
        error = bool(event.flags & 1)
        if not self._stores:
            c.report(event, f"{what} answered although none was issued", event.addr)
            return
        store = self._stores.popleft()
        issued = store.event
        if (issued.addr, issued.tag) != (event.addr, event.tag):
            c.report(
                event,
                f"{what} answered out of order",
                event.addr,
                f"{issued.addr:#010x} tag {issued.tag}",
                f"{event.addr:#010x} tag {event.tag}",
            )
        if c.in_memory(issued.addr):
            if not store.done:
                self._to_memory.remove(store)
                c.report(event, f"{what} answered although memory was not written", event.addr)
            elif store.error != error:
                c.report(event, f"{what}: error", event.addr, store.error, error)
        elif self._in_registers(issued.addr):
            if error and not store.done:
                self._to_register.remove(store)
            if error and (store.done or not self._may_fail(issued)):
                c.report(event, f"{what} answered an error although the register exists", event.addr)
            elif not error and not store.done:
                self._to_register.remove(store)
                c.report(event, f"{what} answered okay although no register was written", event.addr)
        elif not error:
            c.report(event, f"{what} outside the map answered okay", event.addr)

    # --- beats
    def uncached_read(self, event: Event, addr: int, word: int, error: bool) -> None:
        self._memory_reads.append((addr, word, error))

    def uncached_write(self, event: Event, addr: int, error: bool) -> tuple[int, int] | None:
        c = self.c
        if not self._to_memory:
            c.report(event, f"memory {addr:#010x}: an uncached write that no store had issued", addr)
            return None
        store = self._to_memory.popleft()
        store.done, store.error = True, error
        issued = store.event
        if issued.addr & c.beat_mask != addr:
            what = f"memory {addr:#010x}: an uncached write of another beat than the store's"
            c.report(event, what, addr, f"{issued.addr:#010x}", f"{addr:#010x}")
        c.dcache.aliased.add(addr & c.line_mask)
        return issued.aux, issued.data

    def outstanding(self, report: Callable[..., None]) -> None:
        """Duties at the end of a run."""
        for store in self._stores:
            report(
                f"uncached store at {store.event.addr:#010x} of cycle {store.event.cycle} was never answered", store.event.addr
            )
        if self._memory_reads or self._register_reads:
            count = len(self._memory_reads) + len(self._register_reads)
            report(f"{count} uncached reads were performed but never answered to the CPU")
