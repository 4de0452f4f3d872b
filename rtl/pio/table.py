# SPDX-License-Identifier: BSD-2-Clause
"""The register table: single source of the RTL bank, the driver's accessors and the documentation.

Offsets are bytes from the CSR window's base; every register is 32 bits wide and takes aligned 32-bit accesses only
(any other access answers SLVERR and changes nothing). An offset without a register answers SLVERR. Writing a read-only
field, or a reserved bit, is ignored and answers OKAY; reserved bits read as zero.

Field access: ``ro`` hardware value; ``rw`` storage in the bank, reset value in the table; ``rwh`` storage in the block, which
also changes it by itself (a write in the same cycle wins); ``w1c`` status set by hardware, a written 1
clears it (a set in the same cycle wins); ``w`` write-only strobe: the written value is presented for one cycle, reads
as zero; ``count`` read-only counter in the bank, 0 after reset, one more per event that the hardware tells of, modulo
2**width; ``port`` read and write both reach the block (side effects: the PIO data port).
"""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "Field",
    "Register",
    "REGISTERS",
    "IRQ",
    "IDENTIFICATION",
    "SYSTEM_CHANNEL_STRIDE",
    "WINDOW_BASE",
    "WINDOW_SIZE",
    "blocks",
    "find",
    "registers",
]

_ACCESS = ("ro", "rw", "rwh", "w1c", "w", "count", "port")
SYSTEM_CHANNEL_STRIDE = 0x40
#: ``rtl.config.CSR_BASE`` and ``CSR_SIZE`` for those who import the table only (the driver); a test keeps them equal.
WINDOW_BASE = 0x1000_0000
WINDOW_SIZE = 0x1000
#: What ``sys.id`` reads.
IDENTIFICATION = 0x4650_5431


@dataclass(frozen=True)
class Field:
    """Bits ``[low + width - 1 : low]`` of a register."""

    name: str
    low: int
    width: int
    access: str
    doc: str
    reset: int = 0

    def __post_init__(self) -> None:
        if self.access not in _ACCESS:
            raise ValueError(f"Field {self.name} access must be one of {_ACCESS}, not {self.access!r}")
        if self.low < 0 or self.width < 1 or self.low + self.width > 32:
            raise ValueError(f"Field {self.name} must lie in bits 0 to 31, not {self.low}+{self.width}")

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """One 32-bit register; ``block.name`` is unique."""

    block: str
    name: str
    offset: int
    fields: tuple[Field, ...]
    doc: str

    def __post_init__(self) -> None:
        seen = 0
        for field in self.fields:
            if seen & field.mask:
                raise ValueError(f"Register {self.full_name} field {field.name} must not overlap another field")
            seen |= field.mask

    @property
    def full_name(self) -> str:
        return f"{self.block}.{self.name}"

    def field(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.full_name} has no field {name!r}")


class IRQ:
    """Bit numbers of the ``irq`` output, ``sys.irq_raw`` and ``sys.irq_enable``. All are levels."""

    MAINT = 0  # maint.status.done
    FLUSH = 1  # dma.flush_status.done
    BUS_MASTER = 2  # bm.status.done or .error
    DEVICE = 3  # dev.status.done or .error
    ERROR = 4  # any latched error: dcache, icache or dma error_status
    SYSTEM_CHANNEL = 8  # + n: ch<n>.status.tc or .error
    WIDTH = 12


def _f(name: str, low: int, width: int, access: str, doc: str, reset: int = 0) -> Field:
    return Field(name, low, width, access, doc, reset)


def _whole(access: str, doc: str, reset: int = 0) -> tuple[Field, ...]:
    return (Field("value", 0, 32, access, doc, reset),)


def _counter(block: str, name: str, offset: int, what: str, access: str = "count") -> Register:
    return Register(block, name, offset, _whole(access, f"{what} since reset, modulo 2**32"), f"Counter: {what}.")


def _system_channel(n: int) -> list[Register]:
    block, base = f"ch{n}", 0x500 + n * SYSTEM_CHANNEL_STRIDE
    return [
        Register(block, "addr", base + 0x00, _whole("rw", "memory byte address"), "Base address of the transfer."),
        Register(block, "count", base + 0x04, _whole("rw", "bytes, 1 to 2**24-1"), "Length of the transfer in bytes."),
        Register(
            block,
            "mode",
            base + 0x08,
            (
                _f("write_to_device", 0, 1, "rw", "1: memory to device; 0: device to memory"),
                _f("demand", 1, 1, "rw", "1: one device request at a time; 0: block, the channel holds the engine"),
                _f("auto_init", 2, 1, "rw", "1: reload addr and count at terminal count and go on"),
            ),
            "Transfer mode.",
        ),
        Register(
            block,
            "ctrl",
            base + 0x0C,
            (
                _f("start", 0, 1, "w", "1: load the working registers and arm the channel (the hand-off)"),
                _f("stop", 1, 1, "w", "1: disarm after the device request in progress; residue stays"),
            ),
            "Commands. start while busy sets status.error and is otherwise ignored.",
        ),
        Register(
            block,
            "mask",
            base + 0x10,
            (_f("mask", 0, 1, "rw", "1: device requests are held off", 1),),
            "Request mask; set after reset.",
        ),
        Register(
            block,
            "status",
            base + 0x14,
            (
                _f("busy", 0, 1, "ro", "armed"),
                _f("tc", 1, 1, "w1c", "terminal count: the last byte entered the chunk FIFO"),
                _f("error", 2, 1, "w1c", "bus error, abort, start while busy, or zero count"),
                _f("stopped", 3, 1, "w1c", "stop or a short device transfer ended the transfer before terminal count"),
            ),
            "Channel status.",
        ),
        Register(block, "cur_addr", base + 0x18, _whole("ro", "next memory byte address"), "Working address."),
        Register(block, "residue", base + 0x1C, _whole("ro", "bytes not yet moved"), "Residue counter."),
    ]


def registers(system_channels: int = 1) -> list[Register]:
    """The table for a SoC with that many system channels, by ascending offset."""
    table = [
        Register("sys", "id", 0x000, _whole("ro", "0x46505431, 'FPT1'"), "Identification."),
        Register(
            "sys",
            "features",
            0x004,
            (
                _f("coherent", 0, 1, "ro", "1: DMA snoops the caches"),
                _f("prefetcher", 1, 1, "ro", "1: the D-cache has a prefetcher"),
                _f("cut_through", 2, 1, "ro", "1: the chunk FIFO keeps no remainder"),
                _f("partial_clean", 3, 1, "ro", "1: invalidating a range cleans the lines it covers only partly; 0: drops them"),
                _f("system_channels", 4, 3, "ro", "number of system channels"),
                _f("write_through", 7, 1, "ro", "1: the D-cache is write-through: no line is ever dirty"),
                _f("data_bytes", 8, 8, "ro", "bytes per bus beat"),
                _f("line_bytes", 16, 8, "ro", "bytes per cache line"),
                _f("chunk_bytes", 24, 8, "ro", "bytes per DMA chunk"),
            ),
            "What this SoC was built with.",
        ),
        Register("sys", "mem_base", 0x008, _whole("ro", "byte address"), "First address of the memory window."),
        Register("sys", "mem_size", 0x00C, _whole("ro", "bytes"), "Size of the memory window."),
        Register("sys", "irq_raw", 0x010, (_f("level", 0, IRQ.WIDTH, "ro", "levels before the enable"),), "Interrupts."),
        Register("sys", "irq_enable", 0x014, (_f("enable", 0, IRQ.WIDTH, "rw", "gates irq"),), "Interrupt enable."),
        Register("sys", "cycle", 0x018, _whole("ro", "cycles since reset, modulo 2**32"), "Cycle counter."),
        Register(
            "sys",
            "dcache_geometry",
            0x01C,
            (
                _f("sets", 0, 16, "ro", "sets"),
                _f("ways", 16, 8, "ro", "ways"),
                _f("parity", 24, 1, "ro", "1: bytes and tags have parity"),
            ),
            "D-cache geometry.",
        ),
        Register(
            "dcache",
            "ctrl",
            0x100,
            (
                _f("prefetch", 0, 1, "rw", "1: next-line prefetch on every demand miss and prefetch hit"),
                _f("inject", 1, 1, "rw", "1: the eviction injector runs"),
                _f("inject_interval", 16, 16, "rw", "mean cycles between injected evictions: a multiple of 4", 64),
            ),
            "D-cache control.",
        ),
        Register(
            "dcache",
            "inject_seed",
            0x104,
            _whole("rw", "written value restarts the injector's LFSR; each value has its own sequence", 1),
            "Seed.",
        ),
        Register("dcache", "inject_addr", 0x108, _whole("rw", "byte address of a line"), "Line of inject_cmd."),
        Register(
            "dcache",
            "inject_cmd",
            0x10C,
            (
                _f("evict", 0, 1, "w", "1: evict the line now (write it back if dirty, then drop it)"),
                _f("prefetch", 1, 1, "w", "1: fill the line now, cause prefetch"),
                _f("writeback", 2, 1, "w", "1: write the line back now if dirty; it stays, clean"),
                _f(
                    "flip_data",
                    3,
                    1,
                    "w",
                    "1: invert the parity bit of the byte at inject_addr if its line is there; parity only",
                ),
                _f("flip_tag", 4, 1, "w", "1: invert the parity bit of the line's tag if the line is there; parity only"),
                _f(
                    "busy",
                    8,
                    1,
                    "ro",
                    "a command is not finished: its fill is not installed / its write-back not answered",
                ),
            ),
            "One eviction, write-back or prefetch on demand: what a real CPU may do at any time; and one upset of a stored bit.",
        ),
        _counter("dcache", "hits", 0x110, "cached CPU beats that hit"),
        _counter("dcache", "misses", 0x114, "cached CPU beats that missed (a beat that waits for a fill in flight counts)"),
        _counter("dcache", "evictions", 0x118, "lines evicted (replacement and injector)"),
        _counter("dcache", "writebacks", 0x11C, "lines written back, any cause"),
        _counter("dcache", "stalls", 0x120, "cycles in which a CPU request waited"),
        _counter("dcache", "prefetches", 0x124, "prefetch fills installed"),
        _counter("dcache", "prefetch_errors", 0x128, "prefetch fills dropped on a bus error"),
        Register(
            "dcache",
            "error_status",
            0x130,
            (
                _f("fill", 0, 1, "w1c", "a demand fill got a bus error (the requester got SLVERR too)"),
                _f("writeback", 1, 1, "w1c", "a write-back got a bus error; its bytes are lost"),
                _f("parity_tag", 2, 1, "w1c", "a set was looked up in which a valid line's tag has wrong parity; parity only"),
                _f("parity_data", 3, 1, "w1c", "a byte with wrong parity was loaded or written back; parity only"),
            ),
            "Latched D-cache bus and parity errors.",
        ),
        Register("dcache", "error_addr", 0x134, _whole("ro", "byte address"), "Line of the first latched error."),
        _counter("icache", "hits", 0x200, "fetch beats that hit"),
        _counter("icache", "misses", 0x204, "fetch beats that missed"),
        Register("icache", "error_status", 0x208, (_f("fill", 0, 1, "w1c", "a fill got a bus error"),), "Latched errors."),
        Register("icache", "error_addr", 0x20C, _whole("ro", "byte address"), "Line of the first latched error."),
        Register("maint", "start", 0x300, _whole("rw", "byte address"), "First byte of the range or line."),
        Register("maint", "length", 0x304, _whole("rw", "bytes"), "Length of the range; 0 completes at once."),
        Register(
            "maint",
            "cmd",
            0x308,
            (
                _f("op", 0, 2, "w", "1 clean, 2 invalidate, 3 clean+invalidate (0 does nothing)"),
                _f("scope", 2, 2, "w", "0 the line holding start, 1 the range [start, start+length), 2 everything"),
                _f("target", 4, 2, "w", "bit 0 D-cache, bit 1 I-cache; the I-cache ignores clean"),
                _f("abort", 8, 1, "w", "1: stop after the line in progress"),
            ),
            "Writing starts the command; a start while busy sets status.error and is otherwise ignored.",
        ),
        Register(
            "maint",
            "status",
            0x30C,
            (
                _f("busy", 0, 1, "ro", "a command is in progress"),
                _f("done", 1, 1, "w1c", "a command finished: all its write-backs are answered"),
                _f("error", 2, 1, "w1c", "a write-back of the command got a bus error, or start while busy"),
                _f("aborted", 3, 1, "w1c", "the command was aborted"),
            ),
            "Maintenance status.",
        ),
        Register("maint", "progress", 0x310, _whole("ro", "byte address of the next line"), "Progress of a range."),
        Register(
            "dma",
            "ctrl",
            0x400,
            (
                _f("flush", 0, 1, "w", "1: drain the remainders of both directions"),
                _f("abort", 1, 1, "w", "1: stop all channels, discard both FIFOs, set error_status.aborted"),
            ),
            "Engine commands. flush while a flush runs is ignored.",
        ),
        Register(
            "dma",
            "flush_status",
            0x404,
            (
                _f("busy", 0, 1, "ro", "a flush is in progress"),
                _f("done", 1, 1, "w1c", "a flush finished, with or without success"),
                _f("ok", 2, 1, "ro", "the last flush left nothing behind"),
                _f(
                    "bus_error",
                    3,
                    1,
                    "ro",
                    "the last flush: memory answered an error; the remainder is kept for a retry",
                ),
                _f("timeout", 4, 1, "ro", "the last flush: time-out; the remainder was discarded"),
            ),
            "Result of the last flush; ok, bus_error and timeout clear when the next one starts.",
        ),
        Register("dma", "flush_timeout", 0x408, _whole("rw", "cycles; 0 waits for ever", 4096), "Flush time-out."),
        Register("dma", "flush_discarded", 0x40C, _whole("ro", "bytes"), "Bytes discarded by the last flush."),
        Register(
            "dma",
            "level",
            0x410,
            (
                _f("to_memory", 0, 16, "ro", "valid bytes of the remainder toward memory"),
                _f("to_device", 16, 16, "ro", "valid bytes of the remainder toward the device"),
            ),
            "Bytes in the open chunks.",
        ),
        Register(
            "dma",
            "error_status",
            0x414,
            (
                _f("read", 0, 1, "w1c", "memory answered a data read with an error"),
                _f("write", 1, 1, "w1c", "memory answered a data write with an error"),
                _f("descriptor", 2, 1, "w1c", "memory answered a descriptor fetch with an error, or length 0"),
                _f("aborted", 3, 1, "w1c", "abort"),
            ),
            "Latched DMA errors.",
        ),
        Register("dma", "error_addr", 0x418, _whole("ro", "byte address"), "Address of the first latched error."),
        _counter("dma", "bytes_to_memory", 0x41C, "bytes that entered the FIFO toward memory", "ro"),
        _counter("dma", "bytes_to_device", 0x420, "bytes that entered the FIFO toward the device", "ro"),
    ]
    for n in range(system_channels):
        table += _system_channel(n)
    table += [
        Register("bm", "desc", 0x600, _whole("rw", "byte address, 16-byte aligned"), "First descriptor."),
        Register(
            "bm",
            "mode",
            0x604,
            (_f("write_to_device", 0, 1, "rw", "1: memory to device; 0: device to memory"),),
            "Direction.",
        ),
        Register(
            "bm",
            "ctrl",
            0x608,
            (
                _f("start", 0, 1, "w", "1: fetch the first descriptor (the hand-off)"),
                _f("stop", 1, 1, "w", "1: stop after the device request in progress"),
            ),
            "Commands. start while busy sets status.error and is otherwise ignored.",
        ),
        Register(
            "bm",
            "status",
            0x60C,
            (
                _f("busy", 0, 1, "ro", "running"),
                _f("done", 1, 1, "w1c", "the last byte of the last descriptor entered the chunk FIFO"),
                _f("error", 2, 1, "w1c", "bus error, abort, bad descriptor, or start while busy"),
                _f("stopped", 3, 1, "w1c", "stop or a short device transfer ended the list early"),
            ),
            "Bus-master status.",
        ),
        Register("bm", "cur_desc", 0x610, _whole("ro", "byte address"), "Descriptor in progress."),
        Register("bm", "bytes_done", 0x614, _whole("ro", "bytes"), "Bytes that entered the FIFO in this list."),
        Register("mem", "fault_addr", 0x700, _whole("rw", "byte address"), "First byte of the fault window."),
        Register("mem", "fault_size", 0x704, _whole("rw", "bytes"), "Size of the fault window."),
        Register(
            "mem",
            "fault_ctrl",
            0x708,
            (
                _f(
                    "mode",
                    0,
                    2,
                    "rw",
                    "0 none, 1 writes answer SLVERR and change nothing, 2 reads answer SLVERR, "
                    "3 write bursts wait fault_stall cycles before AWREADY",
                ),
                _f("count", 8, 8, "rwh", "bursts still to be hit; counts down, 0 disarms"),
            ),
            "Fault injection: a burst whose first beat lies in the window.",
        ),
        Register("mem", "fault_stall", 0x70C, _whole("rw", "cycles"), "Wait of mode 3."),
        _counter("mem", "row_hits", 0x710, "bursts to an open row"),
        _counter("mem", "row_misses", 0x714, "bursts to a closed bank"),
        _counter("mem", "row_conflicts", 0x718, "bursts to a bank open on another row"),
        _counter("mem", "refreshes", 0x71C, "refreshes"),
        Register(
            "dev",
            "cmd",
            0x800,
            (
                _f(
                    "op",
                    0,
                    3,
                    "w",
                    "1 DMA read (device to memory), 2 DMA write (memory to device), 3 PIO read, 4 PIO write, 7 abort",
                ),
            ),
            "Starts a command; a start while busy (but abort) sets status.error and is otherwise ignored.",
        ),
        Register(
            "dev",
            "status",
            0x804,
            (
                _f("busy", 0, 1, "ro", "a command is in progress"),
                _f("done", 1, 1, "w1c", "the command's last byte was sent / received"),
                _f("error", 2, 1, "w1c", "start while busy, abort, or a range outside the buffer"),
                _f("drq", 3, 1, "ro", "the PIO data port is ready for an access"),
            ),
            "Device status.",
        ),
        Register("dev", "addr", 0x808, _whole("rw", "byte offset into the device's buffer"), "First byte."),
        Register("dev", "length", 0x80C, _whole("rw", "bytes"), "Length of the command."),
        Register(
            "dev",
            "path",
            0x810,
            (_f("channel", 0, 3, "rw", "0..3 system channel, 4 bus master"),),
            "Who serves the DMA requests.",
        ),
        Register(
            "dev",
            "sizes",
            0x814,
            (
                _f("s0", 0, 8, "rw", "bytes of the 1st request (0 means 256)", 0),
                _f("s1", 8, 8, "rw", "bytes of the 2nd request (0: back to s0)", 0),
                _f("s2", 16, 8, "rw", "bytes of the 3rd request (0: back to s0)", 0),
                _f("s3", 24, 8, "rw", "bytes of the 4th request, then back to s0 (0: back to s0 at once)", 0),
            ),
            "Sizes of the device's requests; the last request of a command is cut to what is left.",
        ),
        Register("dev", "gap", 0x818, _whole("rw", "cycles between two requests", 0), "Pace."),
        Register(
            "dev",
            "stall",
            0x81C,
            _whole("rwh", "cycles during which the device takes no DMA data; counts down"),
            "Stall.",
        ),
        Register("dev", "short", 0x820, _whole("rw", "0, or bytes after which a DMA command ends early"), "Short transfer."),
        Register("dev", "bytes_done", 0x824, _whole("ro", "bytes"), "Bytes sent or received in this command."),
        Register(
            "dev",
            "pio_data",
            0x828,
            _whole("port", "next four bytes of the command's range, little-endian; the last access may be partly padding"),
            "PIO data port. Access without drq answers SLVERR. Reads pad with zero; writes drop what exceeds length.",
        ),
    ]
    return sorted(table, key=lambda register: register.offset)


REGISTERS = registers(1)


def find(name: str, table: list[Register] | None = None) -> Register:
    """The register ``block.name``; KeyError names it if there is none."""
    for register in table if table is not None else REGISTERS:
        if register.full_name == name:
            return register
    raise KeyError(f"no register is called {name!r}")


def blocks(table: list[Register] | None = None) -> Iterator[str]:
    """Block names in table order, each once."""
    return iter(dict.fromkeys(register.block for register in (table if table is not None else REGISTERS)))
