# SPDX-License-Identifier: BSD-2-Clause
"""Cases of the rules about memory, addresses and lengths: R42 to R50, R54."""

from .cases import BUF, DEVICE, NEW, SIZE
from .machine import BASE, LINE
from .order_machine import TOO_SMALL, OrderMachine, cases

CASES, case = cases()
HALF = SIZE // 2


def packet(m: OrderMachine, a, mdl, write, *, offset=0, length=SIZE, given=None, **more):
    """A whole packet transfer; ``given``: what the device is told instead of the mapped range."""
    registers = m.allocate(a)
    if write:
        m.ke_flush(mdl, False, True)
    else:
        m.ke_flush(mdl, True, True)
    address, got = m.map_transfer(a, mdl, offset, length, write, registers, **more)
    m.transfer(a, [(address, got)] if given is None else given, write)
    m.flush_adapter(a, mdl, write, offset, length, registers=registers)
    if a["master"]:
        m.free_registers(a, registers)
    else:
        m.free_channel(a)
    m.put(a)


def streaming(m, direction, *, address=BUF, length=SIZE, given=None, **more):
    """A whole Linux transfer; ``given``: what the device is told instead of the mapped range."""
    dev = m.device_(**more)
    dma = m.dma_map(dev, address, length, direction)
    m.finish(m.start_for(dev, [(dma, length)] if given is None else given, direction == "TO_DEVICE"))
    m.dma_unmap(dev, dma, length, direction)
    m.release(dev)


# -- R42, R43 ---------------------------------------------------------------------------------------------------------


@case("R42")
def mapped_beyond_the_mdl(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    length = SIZE + LINE if broken else SIZE
    m.map_transfer(a, mdl, 0, length, True, registers)
    m.transfer(a, mdl["ranges"], True)
    m.flush_adapter(a, mdl, True, 0, length, registers=registers)
    m.free_channel(a)
    m.put(a)


@case("R42")
def list_from_before_the_mdl(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    offset = -16 if broken else 0
    with m.at(2):
        m.log(
            "GetScatterGatherList", {"list": 70, "elements": [[BUF + offset, SIZE]]},
            adapter=a, mdl=mdl, offset=offset, length=SIZE, write_to_device=True,
        )  # fmt: skip
    m.put_list(a, {"list": 70, "ranges": []}, True)
    m.put(a)


@case("R43")
def zero_bytes_mapped(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    if broken:
        m.map_transfer(a, mdl, 0, 0, True, registers)
    m.free_channel(a)
    m.put(a)


@case("R43", interface="linux")
def zero_bytes_mapped_on_linux(m, broken, lucky):
    dev = m.device_()
    if broken:
        dma = m.dma_map(dev, BUF, 0, "TO_DEVICE")
        m.dma_unmap(dev, dma, 0, "TO_DEVICE")
    m.release(dev)


@case("R43")
def list_buffer_too_small(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    about = {"adapter": a, "mdl": mdl, "offset": 0, "length": SIZE}
    m.log("CalculateScatterGatherList", {"status": 0, "list_bytes": 40, "map_registers": 1}, **about)
    result = (
        {"status": TOO_SMALL, "list": None, "elements": []} if broken else {"status": 0, "list": 71, "elements": [[BUF, SIZE]]}
    )
    with m.at(2):
        number = m.log("BuildScatterGatherList", result, write_to_device=True, buffer_bytes=32 if broken else 40, **about)
        m.looked(number, "status")
    if not broken:
        m.put_list(a, {"list": 71, "ranges": []}, True)
    m.put(a)


# -- R44 --------------------------------------------------------------------------------------------------------------


@case("R44")
def flushed_without_a_mapping(m, broken, lucky):
    a, mdl, other = m.adapter(), m.mdl((BUF, SIZE)), m.mdl((BUF + 0x1000, SIZE))
    registers = m.allocate(a)
    if broken:
        m.flush_adapter(a, other, True, registers=registers)
    m.map_transfer(a, mdl, 0, SIZE, True, registers)
    m.flush_adapter(a, mdl, True, registers=registers)
    m.free_channel(a)
    m.put(a)


@case("R44")
def flushed_twice(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.map_transfer(a, mdl, 0, SIZE, True, registers)
    for _ in range(2 if broken else 1):
        m.flush_adapter(a, mdl, True, registers=registers)
    m.free_channel(a)
    m.put(a)


@case("R44", interface="linux")
def mapped_twice(m, broken, lucky):
    dev = m.device_()
    first = m.dma_map(dev, BUF, SIZE, "FROM_DEVICE")
    if not broken:
        m.dma_unmap(dev, first, SIZE, "FROM_DEVICE")
    second = m.dma_map(dev, BUF, SIZE, "FROM_DEVICE")
    m.dma_unmap(dev, second, SIZE, "FROM_DEVICE")
    if broken:
        m.dma_unmap(dev, first, SIZE, "FROM_DEVICE")
    m.release(dev)


@case("R44", interface="linux")
def synced_after_the_unmap(m, broken, lucky):
    dev = m.device_()
    dma = m.dma_map(dev, BUF, SIZE, "FROM_DEVICE")
    if not broken:
        m.dma_sync(dev, dma, SIZE, "FROM_DEVICE")
    m.dma_unmap(dev, dma, SIZE, "FROM_DEVICE")
    if broken:
        m.dma_sync(dev, dma, SIZE, "FROM_DEVICE")
    m.release(dev)


@case("R44", interface="linux")
def device_reads_what_is_not_mapped(m, broken, lucky):
    streaming(m, "TO_DEVICE", given=[(BUF, SIZE + LINE)] if broken else None)


# -- R45 --------------------------------------------------------------------------------------------------------------


@case("R45", interface="linux")
def buffer_on_the_stack(m, broken, lucky):
    m.memory_(BUF, SIZE, "stack" if broken else "kmalloc")
    streaming(m, "FROM_DEVICE")


@case("R45", interface="linux")
def buffer_of_vmalloc(m, broken, lucky):
    m.memory_(BUF, SIZE, "vmalloc" if broken else "kmalloc")
    streaming(m, "TO_DEVICE")


@case("R45")
def pages_not_locked(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE), locked=not broken)
    packet(m, a, mdl, True)


@case("R45")
def paged_pool_described_as_nonpaged(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.memory_(BUF, SIZE, "paged")
    m.log("MmBuildMdlForNonPagedPool" if broken else "MmProbeAndLockPages", mdl=mdl)
    packet(m, a, mdl, True)
    if not broken:
        m.log("MmUnlockPages", mdl=mdl)


@case("R45", interface="linux")
def memory_freed_while_it_is_mapped(m, broken, lucky):
    dev = m.device_()
    m.memory_(BUF, SIZE, "kmalloc")
    dma = m.dma_map(dev, BUF, SIZE, "TO_DEVICE")
    if broken:
        m.log("FreeMemory", address=BUF)
    m.dma_unmap(dev, dma, SIZE, "TO_DEVICE")
    if not broken:
        m.log("FreeMemory", address=BUF)
    m.release(dev)


# -- R46, R48, R49 ----------------------------------------------------------------------------------------------------


@case("R46")
def element_longer_than_the_device_takes(m, broken, lucky):
    a, mdl = m.adapter(maximum_length=HALF if broken else SIZE), m.mdl((BUF, SIZE))
    packet(m, a, mdl, True)


@case("R46")
def element_across_a_boundary(m, broken, lucky):
    a, mdl = m.adapter(segment_boundary=4096), m.mdl((BASE + 4096 - (HALF if broken else SIZE), SIZE))
    packet(m, a, mdl, True)


@case("R46")
def element_not_a_multiple_of_the_device_s_unit(m, broken, lucky):
    a, mdl = m.adapter(segment_unit=2), m.mdl((BUF, SIZE))
    packet(m, a, mdl, True, length=SIZE - (1 if broken else 2))


@case("R46")
def element_not_a_multiple_of_the_channel_s_width(m, broken, lucky):
    a, mdl = m.adapter(dma_width=1), m.mdl((BUF, SIZE))  # Width16Bits
    packet(m, a, mdl, True, length=SIZE - (1 if broken else 2))


@case("R46", interface="linux")
def segment_across_a_boundary(m, broken, lucky):
    streaming(m, "TO_DEVICE", segment_boundary=HALF if broken else SIZE)


@case("R46", interface="linux")
def segment_longer_than_the_device_takes(m, broken, lucky):
    streaming(m, "TO_DEVICE", maximum_segment=HALF if broken else SIZE)


@case("R48", harm=True)
def the_buffer_s_own_address_instead_of_the_mapped_one(m, broken, lucky):
    """The mapping bounces what the device cannot reach; its address is the bounce buffer's. R47 follows."""
    a, far, near = m.adapter(dma_address_width=15), BASE + 0x9000, BASE + 0x2000
    mdl, registers = m.mdl((far, SIZE)), m.allocate(a)
    m.ke_flush(mdl, True, True)
    about = {"adapter": a, "mdl": mdl, "offset": 0, "length": SIZE, "write_to_device": False, "registers": registers}
    with m.call("MapTransfer", **about) as result:
        result[0] = [near, SIZE]
        bounce = {"source": [[far, SIZE]], "bounce": [near, SIZE], "write_to_device": False, "owner": "map-registers"}
        m.log("BounceMap", None, **bounce, whole=False)
        if not m.flag:
            m.maintain(3, [(near, SIZE)], 1, by="hal")
    m.looked(result.number, "length")
    m.device[:SIZE] = DEVICE
    transfer = m.start(a, [(far if broken else near, SIZE)], False)
    m.finish(transfer, residue=SIZE if lucky and broken else 0)
    with m.call("FlushAdapterBuffers", **about) as result:
        result[0] = m.drain()
        if not m.flag:
            m.maintain(2, [(near, SIZE)], 3, by="hal")
        with m.call("BounceCopy", source=[[near, SIZE]], target=[[far, SIZE]], to_device=False):
            m.store(far, m.load(near, SIZE))
        m.log("BounceUnmap", bounce=[near, SIZE])
    m.free_channel(a)
    m.put(a)


@case("R48", interface="linux")
def beyond_the_device_s_mask(m, broken, lucky):
    streaming(m, "TO_DEVICE", mask=12 if broken else 16, address=BASE + 0x1400)


@case("R49")
def start_not_aligned(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.log("GetDmaAlignment", LINE, adapter=a)
    packet(m, a, mdl, True, offset=8 if broken else 0, length=SIZE - LINE)


@case("R49")
def length_not_aligned(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.log("GetDmaAlignment", LINE, adapter=a)
    packet(m, a, mdl, False, length=SIZE - (8 if broken else LINE))


# -- R47, R50, R54 ----------------------------------------------------------------------------------------------------


@case("R47", harm=True)
def device_told_to_write_more_than_is_mapped(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False, registers)
    m.device[: SIZE + LINE] = DEVICE + DEVICE[:LINE]
    transfer = m.start(a, [(BUF, SIZE + (LINE if broken else 0))], False)
    m.finish(transfer, residue=LINE if lucky and broken else 0)
    m.flush_adapter(a, mdl, False, registers=registers)
    m.free_channel(a)
    m.put(a)


@case("R47", harm=True, interface="linux")
def device_writes_a_buffer_that_was_freed(m, broken, lucky):
    dev = m.device_()
    buffer = m.coherent_buffer(dev, BUF, 4096)
    m.device[:SIZE] = DEVICE
    transfer = m.start_for(dev, [(BUF, SIZE)], False, buffer=buffer["buffer"])
    if not broken:
        m.finish(transfer)
    m.log("dma_free_coherent", device=dev, address=BUF, dma=BUF, length=4096)
    if broken:
        m.finish(transfer, residue=SIZE if lucky else 0)
    m.release(dev)


@case("R50")
def cpu_stores_beyond_the_common_buffer(m, broken, lucky):
    a = m.adapter(master=True)
    buffer = m.common_buffer(a, BASE + 0x1000, 100, False)
    m.store_uncached(BASE + 0x1000, bytes(100))
    if broken:
        m.store_uncached(BASE + 0x1000 + 100, bytes(8))
    m.free_buffer(a, buffer, BASE + 0x1000, 100, False)
    m.put(a)


@case("R50")
def transfer_beyond_the_common_buffer(m, broken, lucky):
    a = m.adapter(master=True)
    buffer = m.common_buffer(a, BASE + 0x1000, SIZE, False)
    m.transfer(a, [(BASE + 0x1000, SIZE + (LINE if broken else 0))], True, buffer=buffer)
    m.free_buffer(a, buffer, BASE + 0x1000, SIZE, False)
    m.put(a)


@case("R54")
def length_from_the_device_used_unchecked(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False, registers)
    m.transfer(a, mdl["ranges"], False)
    m.flush_adapter(a, mdl, False, registers=registers)
    m.free_channel(a)
    length = int.from_bytes(m.load(BUF, 4), "little") & 127 | 1
    if broken:
        m.log("UncheckedUse", source=[BUF, 4], value=length, call="IoCompleteRequest", argument="information")
    m.complete_irp(mdl, length)
    m.put(a)


@case("R54")
def length_from_the_device_maps_too_much(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False, registers)
    m.transfer(a, mdl["ranges"], False)
    m.flush_adapter(a, mdl, False, registers=registers)
    length = SIZE
    if broken:
        length += LINE
        m.log("UncheckedUse", source=[BUF + 4, 4], value=length, call="MapTransfer", argument="length")
    m.map_transfer(a, mdl, 0, length, False, registers)
    m.flush_adapter(a, mdl, False, 0, length, registers=registers)
    m.free_channel(a)
    m.put(a)
