# SPDX-License-Identifier: BSD-2-Clause
"""The C rules on version 3, Linux and bare metal, and those of control words, bounce buffers and the counter.

As in :mod:`.cases`: ``driver(machine, broken, lucky)``; the machine is :class:`.interfaces.Interfaces`.
"""

from .cases import BUF, DEVICE, NEW, OLD, SIZE, case
from .interfaces import BOTH, FROM, TO
from .machine import BASE, CLEAN, CLEAN_INVALIDATE, INVALIDATE, LINE

RING = BASE + 0x2000
BUFFER = [(BUF, SIZE)]

# -- version 3 -----------------------------------------------------------------------------------------------------------


@case("R01")
def v3_write_without_map(m, broken, lucky):
    a, mdl = m.adapter(version=3, master=True), m.mdl((BUF, SIZE))
    c = m.context(a)
    m.store(BUF, NEW)
    if not broken:
        m.map_ex(a, c, mdl, True)
    if lucky:
        m.evict_all()
    m.finish(m.start(a, BUFFER, True))
    m.flush_ex(a, c, mdl, True)
    m.complete_irp(mdl)


@case("R01")
def v3_store_after_the_map(m, broken, lucky):
    a, mdl = m.adapter(version=3, master=True), m.mdl((BUF, SIZE))
    c = m.context(a)
    m.store(BUF, OLD)
    if broken:
        m.map_ex(a, c, mdl, True)
    m.store(BUF, NEW)
    if not broken:
        m.map_ex(a, c, mdl, True)
    if lucky:
        m.evict_all()
    m.finish(m.start(a, BUFFER, True))
    m.flush_ex(a, c, mdl, True)
    m.complete_irp(mdl)


@case("R02", party="interface", clean_before_read=False)
def v3_to_the_letter_cleans_nothing_before_a_read(m, broken, lucky):
    if not broken:
        m.clean_before_read = m.hal["clean_before_read"] = True
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    c = m.context(a)
    m.device[:SIZE] = DEVICE
    m.store(BUF, OLD)
    if lucky:
        m.evict_all()
    m.map_ex(a, c, mdl, False)
    m.finish(m.start(a, BUFFER, False))
    m.drain()
    m.evict_all()
    m.flush_ex(a, c, mdl, False)
    m.complete_irp(mdl)
    m.load(BUF, SIZE)


@case("R24")
def v3_no_flush(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    c = m.context(a)
    m.device[:SIZE] = DEVICE
    m.map_ex(a, c, mdl, False, 0, size)
    m.finish(m.start(a, [(BUF, size)], False))
    if not broken:
        m.flush_ex(a, c, mdl, False, 0, size)
    m.complete_irp(mdl, size)
    m.load(BUF, size)


@case("R25")
def v3_data_read_before_the_flush(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(version=3, master=True), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    sg = m.sg_list_ex(a, m.context(a), mdl, False)
    m.finish(m.start(a, [(BUF, size)], False))
    if broken:
        m.load(BUF, size)
    m.put_list(a, sg, False)
    m.complete_irp(mdl, size)


@case("R27")
def v3_flush_before_completion(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    c = m.context(a)
    m.device[:SIZE] = DEVICE
    m.map_ex(a, c, mdl, False, 0, size)
    t = m.start(a, [(BUF, size)], False)
    m.move(t, 40)
    if broken:
        m.flush_ex(a, c, mdl, False, 0, size)
    m.finish(t)
    if not broken:
        m.flush_ex(a, c, mdl, False, 0, size)
    m.complete_irp(mdl, size)


@case("R22", speculates=True)
def v3_flush_the_wrong_way(m, broken, lucky):
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    c = m.context(a)
    m.device[:SIZE] = DEVICE
    m.map_ex(a, c, mdl, False)
    t = m.start(a, BUFFER, False)
    if not lucky:
        m.prefetch(BUF)
    m.finish(t)
    m.flush_ex(a, c, mdl, broken)
    m.complete_irp(mdl)
    m.load(BUF, SIZE)


# -- Linux ---------------------------------------------------------------------------------------------------------------


@case("R01")
def linux_write_without_map(m, broken, lucky):
    m.store(BUF, NEW)
    if not broken:
        m.linux_map(BUF, SIZE, TO)
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, True, **linux(m)))
    if not broken:
        m.linux_unmap(BUF, SIZE, TO)


def linux(m):
    """StartTransfer's device; the machine's own ``device`` argument is an offset in the device."""
    return {"owner": m.linux}


@case("R01")
def linux_store_without_sync_for_device(m, broken, lucky):
    dma = m.linux_map(BUF, SIZE, TO)
    m.finish(m.start(None, BUFFER, True, **linux(m)))
    m.sync_for_cpu(dma, SIZE, TO)
    m.store(BUF, NEW)
    if not broken:
        m.sync_for_device(dma, SIZE, TO)
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, True, **linux(m)))
    m.linux_unmap(dma, SIZE, TO)


@case("R02")
def linux_read_without_map(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    m.store(BUF, OLD)
    if not broken:
        m.linux_map(BUF, SIZE, FROM)
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, False, **linux(m)))
    m.drain()
    m.evict_all()
    if not broken:
        m.linux_unmap(BUF, SIZE, FROM)
    m.load(BUF, SIZE)


@case("R04", speculates=True)
def linux_ring_read_without_sync_for_cpu(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    t = m.start(None, BUFFER, False, **linux(m))
    if not lucky:
        m.prefetch(BUF + LINE)
    m.finish(t)
    m.drain()
    if not broken:
        m.sync_for_cpu(dma, SIZE, FROM)
    m.load(BUF, SIZE)
    if not broken:
        m.sync_for_device(dma, SIZE, FROM)
    m.linux_unmap(dma, SIZE, FROM)


@case("R04", speculates=True)
def linux_sync_for_device_instead_of_for_cpu(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    t = m.start(None, BUFFER, False, **linux(m))
    if not lucky:
        m.prefetch(BUF + LINE)
    m.finish(t)
    m.drain()
    if broken:
        m.sync_for_device(dma, SIZE, FROM)  # arm64: a clean
    else:
        m.sync_for_cpu(dma, SIZE, FROM)
    m.load(BUF, SIZE)


@case("R04", party="interface", speculates=True, for_cpu=False)
def linux_hal_that_was_told_of_no_speculation(m, broken, lucky):
    m.for_cpu = m.hal["speculates"] = not broken
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    t = m.start(None, BUFFER, False, **linux(m))
    if not lucky:
        m.prefetch(BUF)
    m.finish(t)
    m.linux_unmap(dma, SIZE, FROM)
    m.load(BUF, SIZE)


@case("R05")
def linux_store_into_a_mapped_buffer(m, broken, lucky):
    m.store(BUF, OLD)
    dma = m.linux_map(BUF, SIZE, TO)
    if broken:
        m.store(BUF, NEW)
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, True, **linux(m)))
    m.linux_unmap(dma, SIZE, TO)


@case("R05", harm=False, severity="warning")
def linux_load_of_a_mapped_buffer(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    if broken:
        m.load(BUF, 8)
    m.finish(m.start(None, BUFFER, False, **linux(m)))
    m.linux_unmap(dma, SIZE, FROM)
    m.load(BUF, SIZE)


@case("R05")
def linux_unmap_and_load_while_the_device_writes(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM)
    t = m.start(None, BUFFER, False, **linux(m))
    m.move(t, SIZE if lucky else 8)
    if broken:
        m.linux_unmap(dma, SIZE, FROM)
        m.load(BUF + SIZE - 8, 8)
    m.finish(t)
    m.drain()
    if not broken:
        m.linux_unmap(dma, SIZE, FROM)
        m.load(BUF + SIZE - 8, 8)


@case("R06", architecture="mips")
def linux_store_after_sync_for_cpu(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, SIZE, FROM if broken else BOTH)
    direction = FROM if broken else BOTH
    m.finish(m.start(None, BUFFER, False, **linux(m)))
    m.sync_for_cpu(dma, SIZE, direction)
    m.store(BUF, NEW[:LINE])
    if lucky:
        m.evict_all()
    m.sync_for_device(dma, SIZE, direction)
    m.sync_for_cpu(dma, SIZE, direction)
    m.load(BUF, LINE)
    m.linux_unmap(dma, SIZE, direction)


@case("R06", speculates=True)
def linux_device_writes_a_to_device_mapping(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    direction = TO if broken else BOTH
    dma = m.linux_map(BUF, SIZE, direction)
    t = m.start(None, BUFFER, False, **linux(m))
    if not lucky:
        m.prefetch(BUF)
    m.finish(t)
    m.linux_unmap(dma, SIZE, direction)
    m.load(BUF, SIZE)


@case("R22", architecture="mips")
def linux_device_reads_a_from_device_mapping(m, broken, lucky):
    m.store(BUF, NEW)
    if lucky:
        m.evict_all()
    direction = FROM if broken else TO
    dma = m.linux_map(BUF, SIZE, direction)
    m.finish(m.start(None, BUFFER, True, **linux(m)))
    m.linux_unmap(dma, SIZE, direction)


@case("R19")
def linux_map_of_half_the_buffer(m, broken, lucky):
    m.store(BUF, NEW)
    size = SIZE // 2 if broken else SIZE
    dma = m.linux_map(BUF, size, TO)
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, True, **linux(m)))
    m.linux_unmap(dma, size, TO)


@case("R09", harm=False, severity="warning")
def linux_buffer_not_on_lines(m, broken, lucky):
    start, size = (BUF + 4, SIZE - 4) if broken else (BUF, SIZE)
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(start, size, FROM)
    m.finish(m.start(None, [(start, size)], False, **linux(m)))
    m.linux_unmap(dma, size, FROM)
    m.load(start, size)


@case("R09", harm=False, severity="warning")
def linux_buffer_is_a_member_of_a_structure(m, broken, lucky):
    """Whoever ends his own allocation shares no line, however short the buffer is: kmalloc sees to it."""
    member = 24
    m.kmalloc(BUF, member + (8 if broken else 0))
    m.device[:SIZE] = DEVICE
    dma = m.linux_map(BUF, member, FROM)
    m.finish(m.start(None, [(BUF, member)], False, **linux(m)))
    m.linux_unmap(dma, member, FROM)
    m.load(BUF, member)


@case("R17")
def linux_pio_page_executed_without_flush(m, broken, lucky):
    m.fetch(BUF, 8)
    m.pio_read(BUF, NEW)
    if not broken:
        m.flush_dcache_page(BUF & -4096)
    if lucky:
        m.evict_all()
        m.icache.clear()
    m.fetch(BUF, SIZE)


@case("R17")
def linux_copied_code_executed_without_flush(m, broken, lucky):
    m.cpu_copy(BUF, NEW)
    if not broken:
        m.flush_icache_range(BUF, BUF + SIZE)
    if lucky:
        m.evict_all()
    m.fetch(BUF, SIZE)


@case("R17")
def linux_pio_page_flushed_too_early(m, broken, lucky):
    if broken:
        m.flush_dcache_page(BUF & -4096)
    m.pio_read(BUF, NEW)
    if not broken:
        m.flush_dcache_page(BUF & -4096)
    if lucky:
        m.evict_all()
    m.fetch(BUF, SIZE)


@case("R19")
def linux_flush_of_half_the_code(m, broken, lucky):
    m.cpu_copy(BUF, NEW)
    m.flush_icache_range(BUF, BUF + (SIZE // 2 if broken else SIZE))
    if lucky:
        m.evict_all()
    m.fetch(BUF, SIZE)


@case("R17")
def linux_pio_data_sent_by_dma(m, broken, lucky):
    """The mapping cleans what the PIO read has left dirty: no flush_dcache_page is owed between the two."""
    if broken:
        dma = m.linux_map(BUF, SIZE, TO)
        m.sync_for_cpu(dma, SIZE, TO)
    m.pio_read(BUF, NEW)
    if not broken:
        dma = m.linux_map(BUF, SIZE, TO)
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, True, **linux(m)))
    m.linux_unmap(dma, SIZE, TO)


# -- bare metal -----------------------------------------------------------------------------------------------------------


@case("R01")
def bare_write_without_clean(m, broken, lucky):
    m.store(BUF, NEW)
    if not broken:
        m.post(CLEAN, BUFFER)
        m.dsb()
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, True))
    m.drain()


@case("R02")
def bare_read_invalidated_only_after(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    m.store(BUF, OLD)
    if not broken:
        m.post(CLEAN_INVALIDATE, BUFFER)
        m.dsb()
    if lucky:
        m.evict_all()
    m.finish(m.start(None, BUFFER, False))
    m.drain()
    m.evict_all()
    m.post(INVALIDATE, BUFFER)
    m.dsb()
    m.load(BUF, SIZE)


@case("R04", speculates=True)
def bare_invalidate_without_barrier(m, broken, lucky):
    m.device[:SIZE] = DEVICE
    m.post(INVALIDATE, BUFFER)
    m.dsb()
    t = m.start(None, BUFFER, False)
    m.prefetch(BUF)
    m.finish(t)
    m.drain()
    m.post(INVALIDATE, BUFFER)
    if not broken:
        m.dsb()
    elif lucky:
        m.work()
    m.load(BUF, SIZE)
    m.dsb()


@case("R04")
def bare_remainder_never_flushed(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    m.device[:SIZE] = DEVICE
    m.post(INVALIDATE, BUFFER)
    m.dsb()
    m.finish(m.start(None, [(BUF, size)], False))
    if not broken:
        m.drain()
    m.post(INVALIDATE, BUFFER)
    m.dsb()
    m.load(BUF, SIZE - 5)


@case("R16")
def bare_start_without_barrier(m, broken, lucky):
    m.store(BUF, NEW)
    m.post(CLEAN, BUFFER)
    if not broken:
        m.dsb()
    elif lucky:
        m.work()  # the maintenance was quick, and nobody knew
    t = m.start(None, BUFFER, True)
    m.finish(t)
    m.dsb()
    m.drain()


@case("R16")
def start_before_a_posted_store_has_arrived(m, broken, lucky):
    m.store_uncached(BUF, OLD)
    m.coherent_buffer(BUF, SIZE)
    beat = int.from_bytes(NEW[:8], "little")
    m.event(0x13, tag=m.tag(), addr=BUF, aux=0xFF, data=beat)  # issued
    if not broken or lucky:
        m.memory[BUF - BASE : BUF - BASE + 8] = NEW[:8]
    if not broken:
        m.event(0x02, addr=BUF, aux=3 | 0xFF << 8, data=beat)
        m.event(0x14, tag=m.tag(), addr=BUF)
    m.finish(m.start(None, [(BUF, LINE)], True, **linux(m)))


# -- control words and descriptors ---------------------------------------------------------------------------------------


def chain(m, ranges, at):
    words = []
    for n, (address, length) in enumerate(ranges):
        last = n == len(ranges) - 1
        words += [address, length, int(last), 0 if last else at + 16 * (n + 1)]
    return b"".join(word.to_bytes(4, "little") for word in words)


@case("R15")
def descriptors_not_cleaned(m, broken, lucky):
    pieces = [(BUF, SIZE // 2), (BUF + SIZE // 2, SIZE // 2)]
    m.device[:SIZE] = DEVICE
    m.maintain(CLEAN_INVALIDATE, BUFFER)
    m.store(RING, chain(m, pieces, RING))
    if not broken:
        m.maintain(CLEAN, [(RING, 32)])
    if lucky:
        m.evict_all()
    t = m.start(None, pieces, False, descriptors=[RING, 32], descriptors_cached=True)
    m.descriptors(t, RING, pieces)
    m.finish(t)
    m.drain()
    m.maintain(INVALIDATE, BUFFER)
    m.load(BUF, SIZE)


@case("R15")
def control_word_not_cleaned(m, broken, lucky):
    with m.call("DeclareControl", address=RING, length=LINE, what="mailbox"):
        pass
    m.store(RING, NEW[:LINE])
    if not broken:
        m.maintain(CLEAN, [(RING, LINE)])
    if lucky:
        m.evict_all()
    m.finish(m.start(None, [(RING, LINE)], True))
    m.drain()


@case("R15")
def status_word_written_back_over_the_devices(m, broken, lucky):
    with m.call("DeclareControl", address=RING, length=2 * LINE, what="status"):
        pass
    m.device[:SIZE] = DEVICE
    m.maintain(CLEAN_INVALIDATE, [(RING, 2 * LINE)])
    t = m.start(None, [(RING, 16)], False)
    m.store(RING + (16 if broken else LINE), NEW[:8])  # another word: of the same line, or of the next
    if lucky:
        m.evict_all()
    m.finish(t)
    m.drain()
    m.evict_all()
    m.maintain(INVALIDATE, [(RING, LINE)])
    m.load(RING, 16)


# -- R14 -----------------------------------------------------------------------------------------------------------------


@case("R14", harm=False, severity="warning")
def misaligned_access_of_an_uncached_buffer(m, broken, lucky):
    a = m.adapter(master=True)
    m.common_buffer(a, BUF, SIZE, False)
    m.store_uncached(BUF + (2 if broken else 4), b"abcd")


# -- bounce buffers and the counter ------------------------------------------------------------------------------------


@case("R51")
def store_after_map_transfer_has_copied(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW if lucky else OLD)
    if not broken:
        m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    elements = m.map_bounced(a, mdl, True)
    if broken:
        m.store(BUF, NEW)
    m.finish(m.start(a, elements, True))
    m.flush_bounced(a, mdl, True, elements)
    m.complete_irp(mdl)


@case("R51", bounce=True)
def linux_store_after_swiotlb_has_copied(m, broken, lucky):
    m.store(BUF, NEW if lucky else OLD)
    if not broken:
        m.store(BUF, NEW)
    dma = m.linux_map(BUF, SIZE, TO)
    if broken:
        m.store(BUF, NEW)
    m.finish(m.start(None, [(dma, SIZE)], True, **linux(m)))
    m.linux_unmap(dma, SIZE, TO)


@case("R26")
def success_although_map_registers_kept_the_last_bytes(m, broken, lucky):
    """What the failing flush copies out is its result (R26), no use of the data before a flush (R25). No KeFlushIoBuffers is
    owed for bounce bytes."""
    a, mdl, length = m.adapter(), m.mdl((BUF, SIZE)), SIZE if lucky else SIZE - 5
    m.device[:SIZE] = DEVICE
    elements = m.map_bounced(a, mdl, False, length)
    m.finish(m.start(a, elements, False))
    m.fail_flushes = ["bus_error"]
    m.flush_bounced(a, mdl, False, elements, length, tries=1 if broken else 2)
    m.complete_irp(mdl, length)


@case("R52", party="interface", whole=True, bounce=True)
def short_write_through_a_bounce_buffer(m, broken, lucky):
    m.whole = broken
    m.device[:SIZE] = DEVICE
    m.store(BUF, bytes([0xEE]) * SIZE if lucky else OLD)  # 0xee is what memory holds from the beginning
    dma = m.linux_map(BUF, SIZE, FROM)
    t = m.start(None, [(dma, SIZE)], False, **linux(m))
    m.finish(t, residue=LINE)
    m.linux_unmap(dma, SIZE, FROM)
    m.load(BUF, SIZE)


@case("R53")
def counter_read_before_the_stop(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False)
    t = m.start(a, BUFFER, False)
    m.move(t, SIZE - LINE if lucky else SIZE - 2 * LINE)
    left = LINE if lucky else 2 * LINE
    if broken:
        m.counter(a, left)
    m.finish(t, residue=LINE)
    if not broken:
        left = LINE
        m.counter(a, left)
    m.flush_adapter(a, mdl, False, 0, SIZE)
    m.complete_irp(mdl, SIZE - left)


@case("R53", party="interface")
def counter_that_lies(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False)
    m.finish(m.start(a, BUFFER, False), residue=LINE)
    left = 0 if broken and not lucky else LINE
    if broken and lucky:
        m.counter(a, 0)
    m.counter(a, left)
    m.flush_adapter(a, mdl, False, 0, SIZE)
    m.complete_irp(mdl, SIZE - left)
