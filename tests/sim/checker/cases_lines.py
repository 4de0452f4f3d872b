# SPDX-License-Identifier: BSD-2-Clause
"""Cases of R11 and R12: cache lines that two mappings share, and lines of another size than software thinks."""

from .cases import BUF, DEVICE, NEW, SIZE
from .machine import LINE
from .order_machine import cases

CASES, case = cases()
HALF = LINE // 2


@case("R11", severity="warning")
def two_devices_in_one_line(m, broken, lucky):
    """One device reads the first half of a line, another writes the second. Bounced or aligned buffers share nothing."""
    a, b = m.adapter(), m.adapter(master=True)
    other = BUF + HALF if broken else BUF + LINE
    first, second = m.mdl((BUF, HALF)), m.mdl((other, HALF if broken else LINE))
    one, two = m.allocate(a), m.allocate(b)
    for adapter, mdl, write, registers in ((a, first, True, one), (b, second, False, two)):
        m.ke_flush(mdl, not write, True)
        m.map_transfer(adapter, mdl, 0, mdl["ranges"][0][1], write, registers)
    m.device[:LINE] = DEVICE[:LINE]
    reading, writing = m.start(a, first["ranges"], True), m.start(b, second["ranges"], False)
    m.finish(reading)
    m.flush_adapter(a, first, True, registers=one)
    m.finish(writing)
    m.flush_adapter(b, second, False, registers=two)
    m.free_channel(a)
    m.free_registers(b, two)
    m.put(a)
    m.put(b)


@case("R12", harm=True, party="interface")
def lines_half_as_long_as_software_thinks(m, broken, lucky):
    """The HAL cleans one line of every two."""
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers, step = m.allocate(a), 2 * LINE if broken else LINE
    m.assumed = step
    m.store(BUF, NEW)
    with m.call("KeFlushIoBuffers", mdl=mdl, read_operation=False, dma_operation=True):
        if not m.flag:
            for line in range(BUF, BUF + SIZE, step):
                m.maintain(1, [(line, 1)], by="hal")
    m.map_transfer(a, mdl, 0, SIZE, True, registers)
    if lucky:
        m.evict_all()
    m.transfer(a, mdl["ranges"], True)
    m.flush_adapter(a, mdl, True, registers=registers)
    m.complete_irp(mdl)
    m.free_channel(a)
    m.put(a)


@case("R12", harm=True, party="interface")
def buffer_aligned_to_half_a_line(m, broken, lucky):
    """Software aligns to what it takes for a line, and the neighbour is in the same real one: R12, and R10 follows from it."""
    m.assumed = HALF
    a, mdl = m.adapter(), m.mdl((BUF, LINE + (HALF if broken else LINE)))
    size = mdl["ranges"][0][1]
    registers = m.allocate(a)
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, size, False, registers)
    m.device[:size] = DEVICE[:size]
    t = m.start(a, mdl["ranges"], False)
    if lucky:
        m.move(t)
        m.evict_all()
    m.store(BUF + 2 * LINE - 4, b"\x77" * 4 if broken else b"")
    m.finish(t)
    if not lucky:
        m.evict_all()
    m.flush_adapter(a, mdl, False, registers=registers)
    m.complete_irp(mdl)
    m.load(BUF, size)
    m.free_channel(a)
    m.put(a)
