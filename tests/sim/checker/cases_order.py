# SPDX-License-Identifier: BSD-2-Clause
"""Cases of the rules about the order of calls: R22 (Linux), R26 (version 3), R28 to R36."""

from .cases import BUF, NEW, SIZE
from .machine import LINE
from .order_machine import DEALLOCATE, DIRQL, DISPATCH, INSUFFICIENT, KEEP, OrderMachine, cases

CASES, case = cases()
HALF = SIZE // 2


def packet(m: OrderMachine, a, mdl, write, registers, **more):
    """KeFlushIoBuffers, MapTransfer, the transfer, FlushAdapterBuffers."""
    m.ke_flush(mdl, not write, True)
    address, length = m.map_transfer(a, mdl, 0, SIZE, write, registers, **more)
    m.transfer(a, [(address, length)], write)
    m.flush_adapter(a, mdl, write, registers=registers)


# -- R22, R26: the other interfaces -----------------------------------------------------------------------------------


@case("R22", interface="linux")
def unmapped_in_another_direction(m, broken, lucky):
    dev = m.device_()
    m.store(BUF, NEW)
    dma = m.dma_map(dev, BUF, SIZE, "TO_DEVICE")
    m.finish(m.start_for(dev, [(dma, SIZE)], True))
    m.dma_unmap(dev, dma, SIZE, "BIDIRECTIONAL" if broken else "TO_DEVICE")
    m.release(dev)


@case("R22", interface="linux")
def synced_in_another_direction(m, broken, lucky):
    dev = m.device_()
    m.store(BUF, NEW)
    dma = m.dma_map(dev, BUF, SIZE, "TO_DEVICE")
    m.dma_sync(dev, dma, SIZE, "BIDIRECTIONAL" if broken else "TO_DEVICE", to="device")
    m.finish(m.start_for(dev, [(dma, SIZE)], True))
    m.dma_unmap(dev, dma, SIZE, "TO_DEVICE")
    m.release(dev)


@case("R26")
def version_3_success_after_a_failed_flush(m, broken, lucky):
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    context = m.context(a)
    registers = m.allocate(a, context=context, synchronous=False)
    m.store(BUF, NEW)
    m.map_ex(a, context, mdl, True, registers)
    m.transfer(a, mdl["ranges"], True)
    m.fail_flushes = ["bus_error"]
    m.flush_ex(a, context, mdl, True, registers)
    m.complete_irp(mdl, SIZE if broken else 0, status=0 if broken else 0xC0000185)
    m.free_channel(a)
    m.put(a)


# -- R28 --------------------------------------------------------------------------------------------------------------


@case("R28")
def mapped_twice_without_a_flush_between(m, broken, lucky):
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    context = m.context(a)
    registers = m.allocate(a, context=context, synchronous=False)
    m.store(BUF, NEW)
    for n in range(2):
        elements = m.map_ex(a, context, mdl, True, registers, offset=n * HALF, length=HALF)
        m.transfer(a, elements, True, device=n * HALF)
        if n or not broken:
            m.flush_ex(a, context, mdl, True, registers, offset=n * HALF, length=HALF)
    m.free_channel(a)
    m.put(a)


@case("R28")
def cancelled_and_not_flushed(m, broken, lucky):
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    context = m.context(a)
    registers = m.allocate(a, context=context, synchronous=False)
    m.map_ex(a, context, mdl, False, registers)
    m.log("CancelMappedTransfer", 0, adapter=a, context=context)
    if not broken:
        m.flush_ex(a, context, mdl, False, registers)
    m.free_channel(a)
    m.put(a)


# -- R29 --------------------------------------------------------------------------------------------------------------


@case("R29")
def flush_of_half_of_what_was_mapped(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.ke_flush(mdl, True, True)
    m.map_transfer(a, mdl, 0, SIZE, False, registers)
    m.transfer(a, mdl["ranges"], False)
    m.flush_adapter(a, mdl, False, 0, HALF if broken else SIZE, registers=registers)
    m.free_channel(a)
    m.put(a)


@case("R29")
def flush_with_other_map_registers(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    first, second = m.allocate(a), m.allocate(a)
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    m.map_transfer(a, mdl, 0, SIZE, True, first)
    m.transfer(a, mdl["ranges"], True)
    m.flush_adapter(a, mdl, True, registers=second if broken else first)
    m.free_registers(a, first)
    m.free_registers(a, second)
    m.put(a)


@case("R29")
def flush_of_less_than_came_through_map_registers(m, broken, lucky):
    """The device ends the transfer early. The flush may be as short as that, also where the device works on a bounce page."""
    a, mdl, page = m.adapter(), m.mdl((BUF, SIZE)), BUF + 0x4000
    registers = m.allocate(a)
    m.ke_flush(mdl, False, True)
    m.map_transfer(a, mdl, 0, SIZE, True, registers, address=page)
    m.log("BounceMap", source=mdl["ranges"], bounce=[page, SIZE], write_to_device=True, owner="map-registers", whole=False)
    m.finish(m.start(a, [(page, SIZE)], True), residue=LINE)
    m.flush_adapter(a, mdl, True, 0, HALF if broken else SIZE - LINE, registers=registers)
    m.free_channel(a)
    m.put(a)


# -- R30, R31, R32 ----------------------------------------------------------------------------------------------------


@case("R30")
def map_transfer_without_a_channel(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = None if broken else m.allocate(a)
    m.store(BUF, NEW)
    packet(m, a, mdl, True, registers)
    if not broken:
        m.free_channel(a)
    m.put(a)


@case("R30")
def bus_master_maps_after_freeing_its_registers(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.store(BUF, NEW)
    if broken:
        m.free_registers(a, registers)
    packet(m, a, mdl, True, registers)
    if not broken:
        m.free_registers(a, registers)
    m.put(a)


@case("R30")
def second_channel(m, broken, lucky):
    a = m.adapter()
    m.allocate(a)
    if not broken:
        m.free_channel(a)
    m.allocate(a)
    m.free_channel(a)
    m.put(a)


@case("R30")
def channel_inside_adapter_control(m, broken, lucky):
    a, b = m.adapter(), m.adapter(channel=1)
    m.allocate(a, routine=(lambda registers: m.allocate(b)) if broken else None)
    if not broken:
        m.allocate(b)
    m.free_channel(b)
    m.free_channel(a)
    m.put(a)
    m.put(b)


@case("R31")
def bus_master_keeps_the_object(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    registers = m.allocate(a, action=KEEP if broken else None)
    m.store(BUF, NEW)
    packet(m, a, mdl, True, registers)
    m.free_registers(a, registers)
    m.put(a)


@case("R31")
def system_dma_gives_its_channel_away(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    registers = m.allocate(
        a, action=DEALLOCATE if broken else KEEP, routine=lambda base: m.map_transfer(a, mdl, 0, SIZE, True, base)
    )
    m.transfer(a, mdl["ranges"], True)
    m.flush_adapter(a, mdl, True, registers=registers)
    m.free_channel(a)
    m.put(a)


@case("R32")
def registers_freed_before_the_flush(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.store(BUF, NEW)
    m.ke_flush(mdl, False, True)
    m.map_transfer(a, mdl, 0, SIZE, True, registers)
    m.transfer(a, mdl["ranges"], True)
    if broken:
        m.free_registers(a, registers)
    m.flush_adapter(a, mdl, True, registers=registers)
    if not broken:
        m.free_registers(a, registers)
    m.put(a)


@case("R32")
def channel_freed_while_mapped(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.map_transfer(a, mdl, 0, SIZE, True, registers)  # the device refuses: nothing is started
    if not broken:
        m.flush_adapter(a, mdl, True, registers=registers)
    m.free_channel(a)
    m.put(a)


# -- R33, R34 ---------------------------------------------------------------------------------------------------------


@case("R33")
def channel_allocated_at_passive_level(m, broken, lucky):
    a = m.adapter()
    registers = {"id": m.new(), "count": 4}
    with m.at(0 if broken else DISPATCH):
        with m.call("AllocateAdapterChannel", adapter=a, map_registers=4) as status:
            status[0] = 0
            with m.at(DISPATCH), m.call("AdapterControl", adapter=a, registers=registers) as action:
                action[0] = KEEP
    m.free_channel(a)
    m.put(a)


@case("R33")
def common_buffer_freed_at_dispatch_level(m, broken, lucky):
    a = m.adapter(master=True)
    buffer = m.common_buffer(a, BUF, SIZE, False)
    with m.at(DISPATCH if broken else 0):
        m.free_buffer(a, buffer, BUF, SIZE, False)
    m.put(a)


@case("R33")
def request_completed_in_the_interrupt_routine(m, broken, lucky):
    m.thread, m.role = 1, "isr" if broken else "dpc"
    with m.at(DIRQL if broken else DISPATCH):
        m.complete_irp(None, 0)


@case("R34", severity="warning")
def flush_of_the_caches_for_version_3(m, broken, lucky):
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    context = m.context(a)
    registers = m.allocate(a, context=context, synchronous=False)
    m.store(BUF, NEW)
    if broken:
        m.ke_flush(mdl, False, True)
    m.map_ex(a, context, mdl, True, registers)
    m.transfer(a, mdl["ranges"], True)
    m.flush_ex(a, context, mdl, True, registers)
    m.free_channel(a)
    m.put(a)


@case("R34", severity="warning")
def flush_of_the_caches_while_mapped_by_version_3(m, broken, lucky):
    a, mdl = m.adapter(version=3), m.mdl((BUF, SIZE))
    context = m.context(a)
    registers = m.allocate(a, context=context, synchronous=False)
    m.map_ex(a, context, mdl, False, registers)
    if broken:
        m.ke_flush(mdl, True, True)
    m.transfer(a, mdl["ranges"], False)
    m.flush_ex(a, context, mdl, False, registers)
    m.free_channel(a)
    m.put(a)


# -- R35 --------------------------------------------------------------------------------------------------------------


@case("R35", interface="linux")
def mapping_error_not_asked_for(m, broken, lucky):
    dev = m.device_()
    m.store(BUF, NEW)
    dma = m.dma_map(dev, BUF, SIZE, "TO_DEVICE", ask=not broken)
    m.finish(m.start_for(dev, [(dma, SIZE)], True))
    m.dma_unmap(dev, dma, SIZE, "TO_DEVICE")
    m.release(dev)


@case("R35", harm=True)
def shortened_length_not_looked_at(m, broken, lucky):
    a, mdl = m.adapter(), m.mdl((BUF, SIZE))
    registers = m.allocate(a)
    m.ke_flush(mdl, True, True)
    got = SIZE if lucky or not broken else HALF
    m.map_transfer(a, mdl, 0, SIZE, False, registers, got=got, look=not broken)
    m.transfer(a, mdl["ranges"], False)  # as many bytes as were asked for
    m.flush_adapter(a, mdl, False, 0, got, registers=registers)
    m.free_channel(a)
    m.put(a)


@case("R35")
def failed_allocation_not_noticed(m, broken, lucky):
    a = m.adapter()
    with m.at(DISPATCH):
        number = m.log("AllocateAdapterChannel", INSUFFICIENT, adapter=a, map_registers=4)
    if not broken:
        m.looked(number, "status")
    m.put(a)


@case("R35")
def null_common_buffer(m, broken, lucky):
    a = m.adapter(master=True)
    number = m.log("AllocateCommonBuffer", None, adapter=a, length=SIZE, cache_enabled=False)
    if not broken:
        m.looked(number, "null")
    m.put(a)


# -- R36 --------------------------------------------------------------------------------------------------------------


@case("R36")
def counter_of_a_bus_master(m, broken, lucky):
    a = m.adapter(master=broken)
    m.log("ReadDmaCounter", 0, adapter=a)
    m.put(a)


@case("R36")
def channel_of_a_bus_master_configured(m, broken, lucky):
    a = m.adapter(master=broken, version=3)
    m.log("ConfigureAdapterChannel", 0, adapter=a, function=0)
    m.put(a)


@case("R36")
def list_for_system_dma(m, broken, lucky):
    a, mdl = m.adapter(master=not broken, version=3), m.mdl((BUF, SIZE))
    context = m.context(a)
    with m.call(
        "GetScatterGatherListEx", adapter=a, context=context, mdl=mdl, offset=0, length=SIZE, write_to_device=True
    ) as result:
        if broken:
            result[0] = {"status": 0xC000000D, "list": None, "elements": []}
        else:
            result[0] = {"status": 0, "list": 77, "elements": [[BUF, SIZE]]}
            if not m.flag:
                m.maintain(1, [(BUF, SIZE)], 1, by="hal")
    m.looked(result.number, "status")
    if not broken:
        m.put_list(a, {"list": 77, "ranges": mdl["ranges"]}, True)
    m.put(a)
