# SPDX-License-Identifier: BSD-2-Clause
"""The probe: what the reference model and the checker may see of the hardware. It observes and never steers.

A block has one or more probe outputs (:class:`ProbeSignature`), each at most one record per cycle. The simulation's
sink writes all valid records of a cycle, in the order of :data:`CHANNELS`, to one file.

**Linearisation contract.** A record is valid in the cycle at whose closing clock edge its state change becomes visible in
the arrays (RAM, tags, data, FIFO registers, device buffer). Applying all records in file order, one after the other, to
an untimed byte model gives the state of the hardware after that edge. Where two records of one cycle do not commute,
the order of :data:`CHANNELS` is the order in which the hardware performed them; a block that performs them
in another order delays the record *and* the effect by a register.
"""

from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import Out

__all__ = ["CHANNELS", "Kind", "ProbeLayout", "ProbeSignature", "Source", "Cause"]


class Kind(enum.IntEnum, shape=8):
    """What a record says. Fields not named are zero. *line* means a line-aligned byte address."""

    # --- mem: the memory controller, the point of coherency
    MEM_READ = 0x01  # one beat was read: addr beat, aux source (Source), data read, flags[0] bus error
    MEM_WRITE = 0x02  # one beat was written: addr beat, aux source | strobes << 8, data written, flags[0] error: not written
    # --- csr: the register bank
    CSR_READ = 0x08  # addr offset, data value read, tag
    CSR_WRITE = 0x09  # addr offset, data value written, tag (takes effect at this edge)
    # --- cpu: the D-cache's CPU side, one record per beat. parked: the same for a LOAD that waited for memory, or failed there:
    #     its answer takes nothing of the array, so an access that finds its line may be performed in the same cycle
    LOAD = 0x10  # cached load performed: addr beat, aux strobes asked for, data returned, tag, flags[0] error, flags[1] hit
    STORE = 0x11  # cached store performed (bytes in the array or merged into the fill in flight): as LOAD, data stored;
    #               write-through: bytes in the array if the line is there, and in any case in the store queue
    UNCACHED_LOAD = 0x12  # answered: addr beat, aux strobes, data, tag, flags[0] error (memory window and CSR window)
    UNCACHED_STORE = 0x13  # issued (before its MEM_WRITE / CSR_WRITE): addr beat, aux strobes, data, tag
    UNCACHED_STORE_DONE = 0x14  # answered: addr beat, tag, flags[0] error
    # --- d_fill: fills of the D-cache
    FILL_REQUEST = 0x20  # AR accepted: addr line, aux Cause; opens the fill buffer for this line
    FILL_INSTALL = 0x21  # the fill buffer becomes a valid line: addr line, aux Cause | way << 8; dirty if stores were merged
    FILL_DROP = 0x22  # the fill buffer is discarded: addr line, aux Cause, flags[0] because of a bus error
    # --- d_line: lines leaving or changing in the D-cache array
    EVICT = 0x28  # the line leaves the array: addr line, aux Cause, flags[0] dirty: its bytes move to the write-back buffer
    CLEAN = 0x29  # the dirty line's bytes are copied to the write-back buffer, the line stays, clean: addr line, aux Cause
    INVALIDATE = 0x2A  # the line leaves the array, its bytes are discarded: addr line, aux Cause, flags[0] was dirty;
    #                    flags[1] (addr 0): every line of the array at once, the dirty ones only if flags[0]
    UPSET = 0x2B  # a stored parity bit was inverted on demand: addr byte, aux 0 the byte's, 1 its line's tag's
    # --- d_wb: write-back buffer
    WB_DONE = 0x30  # memory answered a write-back, or the oldest store of a write-through cache: addr line, flags[0] error;
    #                  the entry is freed
    # --- snoop: only with coherency "snoop"; addr line, flags[0] dirty hit (array, fill in flight or write-back buffer)
    SNOOP_READ = 0x38  # DMA or I-fetch looked the D-cache up; on a dirty hit data is forwarded: aux source
    SNOOP_WRITE = 0x39  # DMA write: a dirty hit merges the write's bytes (flags[0]), a clean one was dropped (flags[1])
    # --- maint
    MAINT_BEGIN = 0x40  # a command was accepted: addr start, aux op | scope << 2 | target << 4, data length
    MAINT_STEP = 0x41  # a D-cache line was visited: addr line, flags[0] present, flags[1] dirty (informational)
    MAINT_END = 0x42  # the command is done: addr start, flags[0] error, flags[1] aborted
    # --- fetch: the I-cache
    FETCH = 0x48  # one beat: addr beat, aux strobes asked for, data returned, tag, flags[0] error, flags[1] hit,
    #               flags[2] uncached: the beat was read around the cache
    IFILL_REQUEST = 0x4A  # decided (before AR): addr line
    IFILL_INSTALL = 0x4B  # addr line, aux way << 8, flags[0] error: not installed
    IEVICT = 0x4C  # a line was replaced: addr line
    IINVALIDATE = 0x4D  # addr line (aux[0] 0) or everything (aux[0] 1); aux Cause << 1
    # --- dma: the engine's control
    HANDOFF = 0x50  # a channel was started: addr memory address or first descriptor, data count or 0,
    #                  aux channel (0..3 system, 4 bus master) | write_to_device << 3, tag transfer number
    DESCRIPTOR = 0x51  # a descriptor was read: addr its address, data memory address | length << 32, tag
    SEGMENT = 0x52  # the mover accepted work: addr memory address, aux write_to_device | length << 1, data device address, tag
    COMPLETE = 0x53  # last byte of the transfer is in the FIFO, or it ended early: tag, aux channel, data residue,
    #                  flags[0] error, flags[1] stopped or short
    FLUSH_BEGIN = 0x54
    FLUSH_END = 0x55  # flags[0] ok, flags[1] bus error, flags[2] time-out; aux bytes discarded
    DMA_ABORT = 0x56  # both FIFOs are discarded
    # --- fifo_in / fifo_out: the chunk FIFO; addr destination beat (memory address or device offset)
    PUSH = 0x58  # bytes entered: aux strobes | write_to_device << 31, data, tag
    DRAIN = 0x59  # bytes left toward memory or the device: aux strobes | write_to_device << 31, data, tag
    DISCARD = 0x5A  # bytes were dropped (time-out): addr, aux strobes | write_to_device << 31
    # --- dev: the device
    DEV_WRITE = 0x60  # bytes arrived in the buffer (DMA or PIO): addr beat offset, aux strobes, data
    DEV_READ = 0x61  # bytes left the buffer (DMA or PIO): addr beat offset, aux strobes, data


class Cause(enum.IntEnum, shape=4):
    """Why a cache line moved."""

    DEMAND = 0  # a CPU access (fill), or its replacement (evict)
    PREFETCH = 1  # the next-line prefetcher, or its replacement
    INJECTOR = 2  # eviction injector or inject_cmd
    MAINTENANCE = 3
    SNOOP = 4


class Source(enum.IntEnum, shape=4):
    """Who a memory beat belongs to: interconnect port << 2 | AxID of that port."""

    D_FILL = 0
    D_PREFETCH = 1
    D_WRITEBACK = 2
    D_UNCACHED = 3
    I_FILL = 4
    I_UNCACHED = 7
    DMA_DATA = 8
    DMA_DESCRIPTOR = 9


#: Channel names in file order within one cycle (see the linearisation contract).
CHANNELS = (
    "mem",
    "csr",
    "fifo_out",
    "fifo_in",
    "dev",
    "snoop",
    "d_wb",
    "d_line",
    "d_fill",
    "parked",
    "cpu",
    "i_line",
    "fetch",
    "dma",
    "maint",
)


class ProbeLayout(data.StructLayout):
    """One record: ``kind flags tag addr aux data``; ``data`` is as wide as the bus (at least 64 bits)."""

    def __init__(self, data_width: int = 64):
        super().__init__({"kind": Kind, "flags": 8, "tag": 16, "addr": 32, "aux": 32, "data": max(64, data_width)})


class ProbeSignature(wiring.Signature):
    """A probe output: ``valid`` and ``record``; there is no back-pressure."""

    def __init__(self, data_width: int = 64):
        self._data_width = data_width
        super().__init__({"valid": Out(1), "record": Out(ProbeLayout(data_width))})

    def __eq__(self, other):
        return type(self) is type(other) and self._data_width == other._data_width

    def __repr__(self):
        return f"ProbeSignature({self._data_width})"
