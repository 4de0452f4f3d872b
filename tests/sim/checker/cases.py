# SPDX-License-Identifier: BSD-2-Clause
"""One small driver per rule: broken and corrected, unlucky (bytes go wrong) and lucky (they do not).

A case is ``driver(machine, broken, lucky)``; ``platform`` are the arguments of the machine. ``harm`` is false for rules
whose case cannot corrupt by itself.
"""

from dataclasses import dataclass, field
from typing import Any

from .machine import BASE, CLEAN, CLEAN_INVALIDATE, INVALIDATE, LINE, Machine, pattern

BUF = BASE + 0x400
SIZE = 4 * LINE  # whole lines, whole chunks
OLD, NEW, DEVICE = pattern(SIZE, 3), pattern(SIZE, 90), pattern(SIZE, 170)


@dataclass
class Case:
    rule: str
    driver: Any
    name: str
    platform: dict = field(default_factory=dict)
    harm: bool = True
    party: str = "driver"
    severity: str | None = None


CASES: list[Case] = []


def case(rule, *, harm=True, party="driver", severity=None, **platform):
    def add(driver):
        CASES.append(Case(rule, driver, driver.__name__, platform, harm, party, severity))
        return driver

    return add


def read_transfer(m: Machine, adapter, mdl, write=False, *, size=SIZE, flush=True, irp=True, status=0):
    """Device to memory (or the other way) over ``mdl``, with everything that is owed after it."""
    m.device[:SIZE] = DEVICE
    m.map_transfer(adapter, mdl, 0, size, write)
    m.finish(m.start(adapter, mdl["ranges"], write))
    if flush:
        m.flush_adapter(adapter, mdl, write)
    if irp:
        m.complete_irp(mdl, status=status)


@case("R01")
def write_without_flush(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    if not broken:
        m.ke_flush(mdl, False, True)
    if lucky:
        m.evict_all()
    read_transfer(m, a, mdl, True)


@case("R01")
def write_flushed_too_early(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, OLD)
    if broken:
        m.ke_flush(mdl, False, True)
    m.store(BUF, NEW)
    if not broken:
        m.ke_flush(mdl, False, True)
    if lucky:
        m.evict_all()
    read_transfer(m, a, mdl, True)


@case("R01", harm=False, severity="warning")
def write_without_flush_of_clean_lines(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.load(BUF, SIZE)
    if not broken:
        m.ke_flush(mdl, False, True)
    read_transfer(m, a, mdl, True)


@case("R02")
def read_without_flush(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.store(BUF, OLD)
    if not broken:
        m.ke_flush(mdl, True, True)
    if lucky:
        m.evict_all()
    t = m.start(a, mdl["ranges"], False)
    m.finish(t)
    m.evict_all()
    m.flush_adapter(a, mdl, False)
    m.complete_irp(mdl)
    m.load(BUF, SIZE)


@case("R02")
def read_flushed_too_late(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, OLD)
    if not broken:
        m.ke_flush(mdl, True, True)
    if lucky:
        m.evict_all()
    read_transfer(m, a, mdl, flush=False, irp=False)
    if broken:
        m.ke_flush(mdl, True, True)
    m.flush_adapter(a, mdl, False)
    m.complete_irp(mdl)
    m.load(BUF, SIZE)


@case("R04", party="interface", invalidate_after_read=False, speculates=True)
def prefetch_and_no_invalidate_after(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    t = m.start(a, mdl["ranges"], False)
    if not lucky:
        m.prefetch(BUF + LINE)
    m.finish(t)
    m.flush_adapter(a, mdl, False)
    if not broken:
        m.ke_flush(mdl, True, True)
    m.complete_irp(mdl)
    m.load(BUF, SIZE)


@case("R04", invalidate_after_read=False, speculates=True)
def bare_metal_invalidates_only_before(m, broken, lucky):
    a, buf = m.adapter(version=0), [(BUF, SIZE)]
    m.device[:SIZE] = DEVICE
    m.maintain(INVALIDATE, buf)
    t = m.start(a, buf, False)
    if not lucky:
        m.prefetch(BUF)
    m.finish(t)
    m.flush_adapter(a, m.mdl(*buf), False)
    if not broken:
        m.maintain(INVALIDATE, buf)
    m.load(BUF, SIZE)


@case("R05")
def store_while_the_device_reads(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    t = m.start(a, mdl["ranges"], True)
    if lucky:
        m.move(t)
    if broken:
        m.store(BUF + SIZE - 8, b"\xa5" * 8)
    m.finish(t)
    m.flush_adapter(a, mdl, True)
    m.complete_irp(mdl)


@case("R05")
def load_while_the_device_writes(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    t = m.start(a, mdl["ranges"], False)
    m.move(t, SIZE if lucky else 8)
    if broken:
        m.load(BUF + SIZE - 8, 8)
    m.finish(t)
    m.flush_adapter(a, mdl, False)
    m.complete_irp(mdl)


@case("R05", harm=False, severity="warning")
def load_while_the_device_reads(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    t = m.start(a, mdl["ranges"], True)
    if broken:
        m.load(BUF, 8)
    m.finish(t)
    m.flush_adapter(a, mdl, True)
    m.complete_irp(mdl)


@case("R07")
def invalidate_instead_of_clean(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    if lucky:
        m.evict_all()
    m.maintain(INVALIDATE if broken else CLEAN, mdl["ranges"])
    read_transfer(m, a, mdl, True)


@case("R07")
def invalidate_and_load(m, broken, lucky):
    m.store(BUF, NEW)
    if lucky:
        m.evict_all()
    m.maintain(INVALIDATE if broken else CLEAN_INVALIDATE, [(BUF, SIZE)])
    m.load(BUF, SIZE)


@case("R08", invalidate_after_read=False)
def clean_invalidate_after_the_read(m, broken, lucky):
    a, buf = m.adapter(), [(BUF, SIZE)]
    m.device[:SIZE] = DEVICE
    m.store(BUF, OLD)
    if not broken:
        m.maintain(CLEAN_INVALIDATE, buf)
    if lucky:
        m.evict_all()
    t = m.start(a, buf, False)
    m.finish(t)
    m.flush_adapter(a, m.mdl(*buf), False)
    m.maintain(CLEAN_INVALIDATE, buf)
    m.load(BUF, SIZE)


@case("R09", harm=False, severity="warning")
def buffer_not_on_lines(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF + (4 if broken else 0), SIZE - (4 if broken else 0)))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    read_transfer(m, a, mdl, size=mdl["ranges"][0][1])


@case("R10")
def neighbour_stored_while_the_device_writes(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE - 16))
    whole = m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(whole, True, True)
    m.map_transfer(a, whole, 0, SIZE - 16, False)
    t = m.start(a, mdl["ranges"], False)
    if lucky:
        m.move(t)
        m.evict_all()
    if broken:
        m.store(BUF + SIZE - 8, b"\x77" * 8)
    m.finish(t)
    if broken and lucky:
        m.evict_all()
    elif broken:
        m.evict_all()
    m.flush_adapter(a, whole, False)
    m.complete_irp(mdl)
    m.load(BUF, SIZE - 16)


@case("R13")
def common_buffer_without_flush(m, broken, lucky):
    a = m.adapter(master=True)
    buffer, mdl = m.common_buffer(a, BUF, SIZE, True), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    if not broken:
        m.ke_flush(mdl, False, True)
    if lucky:
        m.evict_all()
    m.finish(m.start(a, mdl["ranges"], True, buffer))


@case("R13")
def common_buffer_read_without_flush(m, broken, lucky):
    a = m.adapter(master=True)
    buffer, mdl = m.common_buffer(a, BUF, SIZE, True), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.store(BUF, OLD)
    if not broken:
        m.ke_flush(mdl, True, True)
    if lucky:
        m.evict_all()
    m.finish(m.start(a, mdl["ranges"], False, buffer))
    m.load(BUF, SIZE)


@case("R17")
def pio_completed_without_flush(m, broken, lucky):
    mdl = m.mdl((BUF, SIZE))
    m.pio_read(BUF, NEW)
    if not broken:
        m.ke_flush(mdl, True, False)
    if lucky:
        m.evict_all()
    m.complete_irp(mdl)
    m.load_uncached(BUF, SIZE)


@case("R17")
def pio_fetched_without_flush(m, broken, lucky):
    mdl = m.mdl((BUF, SIZE))
    m.fetch(BUF, 8)
    m.pio_read(BUF, NEW)
    if not broken:
        m.ke_flush(mdl, True, False)
    if lucky:
        m.evict_all()
        m.icache.clear()
    m.fetch(BUF, 8)
    if broken:
        return
    m.complete_irp(mdl)


@case("R17")
def pio_sent_by_dma_without_flush(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.pio_read(BUF, NEW)
    if not broken:
        m.ke_flush(mdl, True, False)
    if lucky:
        m.evict_all()
    read_transfer(m, a, mdl, True)


@case("R17")
def pio_flushed_before_the_data(m, broken, lucky):
    mdl = m.mdl((BUF, SIZE))
    if broken:
        m.ke_flush(mdl, True, False)
    m.pio_read(BUF, NEW)
    if not broken:
        m.ke_flush(mdl, True, False)
    if lucky:
        m.evict_all()
    m.complete_irp(mdl)
    m.load_uncached(BUF, SIZE)


@case("R17")
def pio_in_pieces_of_a_line(m, broken, lucky):
    """A sequence of register reads, and one flush at its end."""
    mdl, half = m.mdl((BUF, LINE)), LINE // 2
    m.pio_read(BUF, NEW[:half])
    m.pio_read(BUF + half, NEW[half:LINE])
    if not broken:
        m.ke_flush(mdl, True, False)
    if lucky:
        m.evict_all()
    m.complete_irp(mdl)
    m.load_uncached(BUF, LINE)


@case("R18")
def stored_code_fetched(m, broken, lucky):
    m.store(BUF, NEW)
    if lucky:
        m.evict_all()
    if not broken:
        m.maintain(CLEAN, [(BUF, SIZE)], 1)
        m.maintain(INVALIDATE, [(BUF, SIZE)], 2)
    m.fetch(BUF, SIZE)


@case("R18", party="interface", invalidate_after_read=False)
def code_by_dma_fetched_from_an_old_line(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    m.fetch(BUF, 8)
    if lucky:
        m.icache.clear()
    read_transfer(m, a, mdl)
    if not broken:
        m.maintain(INVALIDATE, [(BUF, SIZE)], 2)
    m.fetch(BUF, 8)


@case("R19")
def flush_of_half_the_buffer(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(m.mdl((BUF, SIZE // 2)) if broken else mdl, False, True)
    if lucky:
        m.evict_all()
    read_transfer(m, a, mdl, True)


@case("R19")
def flush_of_the_first_mdl_of_a_chain(m, broken, lucky):
    a, chain = m.adapter(), m.mdl((BUF, SIZE // 2), (BUF + 0x1000, SIZE // 2))
    m.store(BUF, NEW[: SIZE // 2])
    m.store(BUF + 0x1000, NEW[SIZE // 2 :])
    m.ke_flush(m.mdl((BUF, SIZE // 2)) if broken else chain, False, True)
    if lucky:
        m.evict_all()
    for n, piece in enumerate(chain["ranges"]):
        m.map_transfer(a, chain, n * SIZE // 2, SIZE // 2, True)
        m.finish(m.start(a, [piece], True, device=n * SIZE // 2))
        m.flush_adapter(a, chain, True, n * SIZE // 2, SIZE // 2)
    m.complete_irp(chain)


@case("R19", party="interface", tail=True)
def maintenance_that_ignores_the_tail(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE - (4 if broken else 0)))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    if lucky:
        m.evict_all()
    read_transfer(m, a, mdl, True, size=mdl["ranges"][0][1])


@case("R20", harm=False, party="interface")
def maintenance_to_the_point_of_unification(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    if broken:
        m.config = m.config.replace(faults__maintenance_point_of_unification=True)
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    read_transfer(m, a, mdl, True)


@case("R21", party="interface")
def flag_says_coherent_and_it_is_not(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.flag = broken
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    if lucky:
        m.evict_all()
    read_transfer(m, a, mdl, True)


@case("R21", party="interface")
def flag_says_coherent_and_pio_is_lost(m, broken, lucky):
    mdl = m.mdl((BUF, SIZE))
    m.flag = broken
    m.pio_read(BUF, NEW)
    m.ke_flush(mdl, True, False)
    if lucky:
        m.evict_all()
    m.complete_irp(mdl)
    m.load_uncached(BUF, SIZE)


@case("R21", party="interface", harm=False, severity="warning", coherent=True)
def flag_says_not_coherent_and_it_is(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.flag = not broken
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    read_transfer(m, a, mdl, True)


@case("R22", harm=False)
def read_operation_the_wrong_way(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, broken, True)
    read_transfer(m, a, mdl, True)


@case("R22")
def adapter_flush_the_wrong_way(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    if not lucky:
        m.load(BUF, SIZE)
    m.speculates = True
    t = m.start(a, mdl["ranges"], False)
    m.finish(t)
    m.flush_adapter(a, mdl, broken)
    m.complete_irp(mdl)
    m.load(BUF, SIZE)


@case("R22")
def read_operation_false_after_pio(m, broken, lucky):
    mdl = m.mdl((BUF, SIZE))
    m.fetch(BUF, 8)
    m.pio_read(BUF, NEW)
    m.ke_flush(mdl, not broken, False)
    if lucky:
        m.icache.clear()
    m.complete_irp(mdl)
    m.fetch(BUF, 8)


@case("R23", harm=False)
def dma_operation_false(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, not broken)
    read_transfer(m, a, mdl, True)


@case("R23", harm=False)
def dma_operation_true_after_pio(m, broken, lucky):
    mdl = m.mdl((BUF, SIZE))
    m.pio_read(BUF, NEW)
    m.ke_flush(mdl, True, broken)
    m.complete_irp(mdl)


@case("R24")
def no_adapter_flush(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, size, False)
    m.finish(m.start(a, [(BUF, size)], False))
    if not broken:
        m.flush_adapter(a, mdl, False, 0, size)
    m.complete_irp(mdl, size)
    m.load(BUF, size)


@case("R24")
def no_adapter_flush_after_a_write(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(master=True), m.mdl((BUF, size))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    sg = m.sg_list(a, mdl, True)
    m.finish(m.start(a, mdl["ranges"], True))
    if not broken:
        m.put_list(a, sg, True)
    m.complete_irp(mdl)


@case("R24", harm=False)
def several_transfers_flushed_once(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    half = SIZE // 2
    for n in range(2):
        m.map_transfer(a, mdl, n * half, half, True)
        m.finish(m.start(a, [(BUF + n * half, half)], True, device=n * half))
        if n or not broken:
            m.flush_adapter(a, mdl, True, n * half, half)
    m.complete_irp(mdl)


@case("R25")
def data_read_before_the_adapter_flush(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, size, False)
    m.finish(m.start(a, [(BUF, size)], False))
    if broken:
        m.load(BUF, size)
    m.flush_adapter(a, mdl, False, 0, size)
    m.complete_irp(mdl, size)


@case("R25", harm=False)
def irp_completed_before_the_adapter_flush(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    read_transfer(m, a, mdl, True, flush=False, irp=broken)
    m.flush_adapter(a, mdl, True)
    if not broken:
        m.complete_irp(mdl)


@case("R26")
def success_after_a_failed_flush(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, size, False)
    m.finish(m.start(a, [(BUF, size)], False))
    m.fail_flushes = ["timeout"]
    m.flush_adapter(a, mdl, False, 0, size)
    m.complete_irp(mdl, size if broken else 0, status=0 if broken else 0xC0000185)


@case("R26", harm=False)
def success_after_a_failed_flush_without_retry(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    m.fail_flushes = ["bus_error"]
    read_transfer(m, a, mdl, True, irp=False)
    if not broken:
        m.flush_adapter(a, mdl, True)
    m.complete_irp(mdl)


@case("R27")
def adapter_flush_before_completion(m, broken, lucky):
    size = SIZE if lucky else SIZE - 5
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.device[:SIZE] = DEVICE
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, size, False)
    t = m.start(a, [(BUF, size)], False)
    m.move(t, 40)
    if broken:
        m.flush_adapter(a, mdl, False, 0, size)
    m.finish(t)
    if not broken:
        m.flush_adapter(a, mdl, False, 0, size)
    m.complete_irp(mdl, size)
