# SPDX-License-Identifier: BSD-2-Clause
"""Cases of the rules about who holds and frees what: R37 to R41."""

from .cases import BUF, SIZE
from .order_machine import cases

CASES, case = cases()


# -- R37 --------------------------------------------------------------------------------------------------------------


@case("R37")
def map_registers_freed_twice(m, broken, lucky):
    a = m.adapter(master=True)
    registers = m.allocate(a)
    m.free_registers(a, registers)
    if broken:
        m.free_registers(a, registers)
    m.put(a)


@case("R37")
def channel_freed_twice(m, broken, lucky):
    a = m.adapter()
    m.allocate(a)
    m.free_channel(a)
    if broken:
        m.free_channel(a)
    m.put(a)


@case("R37")
def common_buffer_freed_twice(m, broken, lucky):
    a = m.adapter(master=True)
    buffer = m.common_buffer(a, BUF, SIZE, False)
    m.free_buffer(a, buffer, BUF, SIZE, False)
    if broken:
        m.free_buffer(a, None, BUF, SIZE, False)
    m.put(a)


@case("R37")
def list_put_twice(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    m.ke_flush(mdl, False, True)
    list_ = m.sg_list(a, mdl, True, routine=lambda number: m.transfer(a, mdl["ranges"], True))
    m.put_list(a, list_, True)
    if broken:
        m.put_list(a, list_, True)
    m.put(a)


@case("R37")
def adapter_put_twice(m, broken, lucky):
    a = m.adapter()
    m.put(a)
    if broken:
        m.put(a)


@case("R37", interface="linux")
def unmapped_twice(m, broken, lucky):
    dev = m.device_()
    dma = m.dma_map(dev, BUF, SIZE, "TO_DEVICE")
    m.finish(m.start_for(dev, [(dma, SIZE)], True))
    m.dma_unmap(dev, dma, SIZE, "TO_DEVICE")
    if broken:
        m.dma_unmap(dev, dma, SIZE, "TO_DEVICE")
    m.release(dev)


@case("R37")
def memory_freed_twice(m, broken, lucky):
    m.memory_(BUF, SIZE, "nonpaged")
    m.log("FreeMemory", address=BUF)
    if broken:
        m.log("FreeMemory", address=BUF)


# -- R38 --------------------------------------------------------------------------------------------------------------


@case("R38", severity="warning")
def map_registers_never_freed(m, broken, lucky):
    a = m.adapter(master=True)
    registers = m.allocate(a)
    if not broken:
        m.free_registers(a, registers)
    m.put(a)


@case("R38", severity="warning")
def common_buffer_never_freed(m, broken, lucky):
    a = m.adapter(master=True)
    buffer = m.common_buffer(a, BUF, SIZE, False)
    if not broken:
        m.free_buffer(a, buffer, BUF, SIZE, False)
    m.put(a)


@case("R38", severity="warning")
def list_never_used_and_never_put(m, broken, lucky):
    a, mdl = m.adapter(master=True), m.mdl((BUF, SIZE))
    list_ = m.sg_list(a, mdl, True)
    if not broken:
        m.put_list(a, list_, True)
    m.put(a)


@case("R38", severity="warning")
def adapter_never_put(m, broken, lucky):
    a = m.adapter()
    if not broken:
        m.put(a)


@case("R38", severity="warning", interface="linux")
def mapping_left_when_the_driver_goes(m, broken, lucky):
    dev = m.device_()
    dma = m.dma_map(dev, BUF, SIZE, "TO_DEVICE")
    if not broken:
        m.dma_unmap(dev, dma, SIZE, "TO_DEVICE")
    m.release(dev)


@case("R38", severity="warning", interface="linux")
def coherent_buffer_left_without_release(m, broken, lucky):
    dev = m.device_()
    buffer = m.coherent_buffer(dev, BUF, 4096)
    if not broken:
        m.log("dma_free_coherent", device=dev, address=BUF, dma=buffer["dma"], length=4096)


@case("R38", severity="warning", interface="linux")
def pool_destroyed_with_a_block_in_use(m, broken, lucky):
    dev, pool = m.device_(), m.new()
    m.log("dma_pool_create", {"pool": pool}, device=dev, size=64, align=64, boundary=0)
    block = {"buffer": m.new(), "address": BUF, "dma": BUF, "length": 64}
    m.log("dma_pool_alloc", block, device=dev, pool=pool)
    if not broken:
        m.log("dma_pool_free", device=dev, pool=pool, address=BUF, dma=BUF)
    m.log("dma_pool_destroy", device=dev, pool=pool)
    if broken:
        m.log("dma_pool_free", device=dev, pool=pool, address=BUF, dma=BUF)
    m.release(dev)


# -- R39, R40, R41 ----------------------------------------------------------------------------------------------------


@case("R39")
def more_map_registers_than_there_are(m, broken, lucky):
    a = m.adapter(master=True, limit=4)
    registers = m.allocate(a, count=5 if broken else 4)
    m.free_registers(a, registers, 5 if broken else 4)
    m.put(a)


@case("R39")
def more_map_registers_together_than_there_are(m, broken, lucky):
    a = m.adapter(master=True, limit=4)
    first = m.allocate(a, count=3)
    if not broken:
        m.free_registers(a, first, 3)
    second = m.allocate(a, count=3)
    if broken:
        m.free_registers(a, first, 3)
    m.free_registers(a, second, 3)
    m.put(a)


@case("R40")
def adapter_used_after_it_was_put(m, broken, lucky):
    a = m.adapter()
    if not broken:
        m.log("GetDmaAlignment", 1, adapter=a)
    m.put(a)
    if broken:
        m.log("GetDmaAlignment", 1, adapter=a)
        m.log("GetDmaAlignment", 1, adapter=a)


@case("R40")
def description_of_an_unknown_version(m, broken, lucky):
    if broken:
        number = m.log("IoGetDmaAdapter", {"adapter": None, "map_registers": 0}, description={"version": 7, "master": True})
        m.looked(number, "null")
    else:
        m.put(m.adapter(version=3))


@case("R41")
def common_buffer_freed_with_another_length(m, broken, lucky):
    a = m.adapter(master=True)
    buffer = m.common_buffer(a, BUF, SIZE, False)
    m.free_buffer(a, buffer, BUF, SIZE * 2 if broken else SIZE, False)
    m.put(a)


@case("R41")
def common_buffer_freed_as_cached(m, broken, lucky):
    a = m.adapter(master=True)
    buffer = m.common_buffer(a, BUF, SIZE, False)
    m.free_buffer(a, buffer, BUF, SIZE, broken)
    m.put(a)


@case("R41")
def fewer_map_registers_freed(m, broken, lucky):
    a = m.adapter(master=True)
    registers = m.allocate(a, count=4)
    m.free_registers(a, registers, 3 if broken else 4)
    m.put(a)


@case("R41", interface="linux")
def unmapped_with_another_length(m, broken, lucky):
    dev = m.device_()
    dma = m.dma_map(dev, BUF, SIZE, "TO_DEVICE")
    m.finish(m.start_for(dev, [(dma, SIZE)], True))
    m.dma_unmap(dev, dma, SIZE // 2 if broken else SIZE, "TO_DEVICE")
    m.release(dev)


@case("R41", interface="linux")
def coherent_memory_freed_with_the_wrong_handle(m, broken, lucky):
    dev = m.device_()
    buffer = m.coherent_buffer(dev, BUF, 4096)
    m.log("dma_free_coherent", device=dev, address=BUF, dma=buffer["dma"] + (64 if broken else 0), length=4096)
    m.release(dev)


@case("R41")
def pointer_into_memory_is_freed(m, broken, lucky):
    m.memory_(BUF, SIZE, "nonpaged")
    m.log("FreeMemory", address=BUF + (16 if broken else 0))
