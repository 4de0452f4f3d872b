# SPDX-License-Identifier: BSD-2-Clause
"""The memory of a Linux driver: kmalloc and its family, coherent memory, pools, masks."""

import json

import pytest

from driver.bus import Attribute
from driver.errors import ArgumentError, NullError, PoolError
from driver.linux import (
    DMA_BIDIRECTIONAL,
    DMA_BIT_MASK,
    DMA_FROM_DEVICE,
    DMA_NONE,
    DMA_TO_DEVICE,
    EIO,
    GFP_ATOMIC,
    GFP_DMA,
    GFP_KERNEL,
    device_release,
    devm_kfree,
    devm_kmalloc,
    devm_kzalloc,
    dma_alloc_coherent,
    dma_alloc_noncoherent,
    dma_free_coherent,
    dma_free_noncoherent,
    dma_get_cache_alignment,
    dma_get_mask,
    dma_get_max_seg_size,
    dma_get_required_mask,
    dma_get_seg_boundary,
    dma_map_single,
    dma_max_mapping_size,
    dma_need_sync,
    dma_pool_alloc,
    dma_pool_create,
    dma_pool_destroy,
    dma_pool_free,
    dma_pool_zalloc,
    dma_set_coherent_mask,
    dma_set_mask,
    dma_set_mask_and_coherent,
    dma_set_max_seg_size,
    dma_set_min_align_mask,
    dma_set_seg_boundary,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dmaengine_synchronize,
    kfree,
    kmalloc,
    module_memory,
    offset_in_page,
    stack_memory,
    vfree,
    virt_to_page,
    vmalloc,
)

from .fake_bus import run
from .linux_machine import BASE, B, begun, clear, device, drains, ended, work

# -- kmalloc and its family ----------------------------------------------------------------------------------------------


def test_kmalloc_shares_no_line_and_is_logged():
    bus, dev = device()
    first, second = int(kmalloc(dev, 10)), int(devm_kmalloc(dev, 10, GFP_ATOMIC))
    assert (first, second) == (BASE, BASE + 64) and bus.ops == []
    assert begun(dev, "AllocateMemory") == [
        {"length": 10, "kind": "kmalloc", "what": "kmalloc"},
        {"length": 10, "kind": "kmalloc", "what": "devm_kmalloc"},
    ]
    assert ended(dev, "AllocateMemory")[0] == {"address": BASE, "length": 10}
    kfree(dev, first)
    assert begun(dev, "FreeMemory") == [{"address": BASE}]
    assert int(kmalloc(dev, 64, offset=8, alignment=64, exclusive=False)) == BASE + 128 + 8  # an experiment


def test_a_large_line_gets_its_own_room():
    _, dev = device(line=128)
    assert [int(kmalloc(dev, 10)) for _ in range(2)] == [BASE, BASE + 128]


def test_kinds_of_memory():
    _, dev = device()
    stack, module, area = int(stack_memory(dev, 24)), int(module_memory(dev, 40)), int(vmalloc(dev, 100))
    assert (stack, module, area) == (BASE, BASE + 32, BASE + 4096)  # neighbours share a line
    assert [a["kind"] for a in begun(dev, "AllocateMemory")] == ["stack", "module", "vmalloc"]
    assert dev.kind(stack + 23) == "stack" and dev.kind(stack + 24) is None and dev.kind(area) == "vmalloc"
    vfree(dev, area)
    assert dev.kind(area) is None


def test_kzalloc_stores_zeros():
    bus, dev = device()
    bus.poke(BASE, b"\xff" * 64)
    address = run(devm_kzalloc(dev, 50))
    assert run(bus.read(int(address), 51)) == bytes(50) + b"\xff"


def test_no_memory_is_null_and_must_be_tested():
    _, dev = device()
    got = kmalloc(dev, 1 << 20)
    assert begun(dev, "ResultChecked") == [] and ended(dev, "AllocateMemory") == [None]
    assert not got
    assert begun(dev, "ResultChecked") == [{"call": 1, "what": "null"}]
    kfree(dev, got)  # kfree(NULL) is allowed
    assert begun(dev, "FreeMemory") == []
    good = kmalloc(dev, 16)
    if good:
        pass
    assert len(begun(dev, "ResultChecked")) == 2
    with pytest.raises(NullError, match="the result of kmalloc must be tested for NULL before it is used as an address"):
        bytes(10)[got]


def test_gfp_dma_takes_what_the_device_reaches():
    _, dev = device(reserve=0x8000)
    dma_set_mask(dev, DMA_BIT_MASK(15))
    assert not kmalloc(dev, 16, GFP_DMA) and kmalloc(dev, 16, GFP_KERNEL)
    _, dev = device()
    assert int(kmalloc(dev, 16, GFP_KERNEL, above=B)) == B and int(kmalloc(dev, 16, GFP_KERNEL | GFP_DMA)) == BASE


def test_release_frees_managed_memory_only():
    _, dev = device()
    first, second, third = (int(f(dev, 16)) for f in (devm_kmalloc, kmalloc, devm_kmalloc))
    fourth = int(devm_kmalloc(dev, 16))
    devm_kfree(dev, fourth)
    clear_log = len(dev.trace.records)
    device_release(dev)
    names = [(r["name"], r["args"].get("address"), r["parent"]) for r in dev.trace.records[clear_log:] if r["phase"] == "begin"]
    release = next(r["call"] for r in dev.trace.records if r["name"] == "device_release")
    assert names == [("device_release", None, None), ("FreeMemory", third, release), ("FreeMemory", first, release)]
    assert dev.kind(second) == "kmalloc"
    kfree(dev, first)  # a double free is logged, and the checker's
    assert begun(dev, "FreeMemory")[-1] == {"address": first}


def test_bad_sizes_and_flags():
    _, dev = device()
    with pytest.raises(ArgumentError, match="size must be an integer from 1 to 0x100000000, not 0"):
        kmalloc(dev, 0)
    with pytest.raises(ArgumentError, match="gfp must be a union of GFP_KERNEL, GFP_ATOMIC, GFP_DMA, not 8"):
        kmalloc(dev, 16, 8)
    with pytest.raises(PoolError, match="alignment must be a power of two, not 3"):
        kmalloc(dev, 16, alignment=3)
    with pytest.raises(ArgumentError, match="address must be an integer from 0 to 0xffffffff, not None"):
        kfree(dev, None)
    with pytest.raises(ArgumentError, match="dev must be a Device, not 1"):
        kmalloc(1, 16)
    for call in (lambda: kmalloc(dev, object()), lambda: run(dma_alloc_coherent(dev, object()))):
        with pytest.raises(ArgumentError, match="size must be an integer from 1 to 0x100000000, not <object"):
            call()
    with pytest.raises(ArgumentError, match="size must be an integer from 0 to 0x100000000, not <object"):
        dma_pool_create("bad", dev, object())
    json.dumps(dev.trace.records)  # the record can be written whatever a driver passes
    assert (virt_to_page(B + 17), offset_in_page(B + 17)) == (B, 17)


# -- coherent memory -------------------------------------------------------------------------------------------------------


def test_coherent_memory_is_zeroed_and_uncached():
    bus, dev = device()
    bus.poke(BASE, b"\xff" * 8192)
    run(bus.write(BASE + 64, b"\xee" * 64))  # dirty lines of an earlier user
    clear(bus, dev)
    buffer = run(dma_alloc_coherent(dev, 100))
    cpu_addr, dma = buffer
    assert (int(cpu_addr), dma, buffer.length, buffer.cached) == (BASE, BASE, 100, False)
    assert bus.peek(BASE, 100) == bytes(100) and bus.dcache == {}
    assert work(dev) == [("clean+invalidate", "both", [[BASE, 4096]])]
    assert begun(dev, "dma_alloc_coherent") == [{"length": 100}]
    result = {"buffer": buffer.id, "address": BASE, "dma": BASE, "length": 100, "cached": False}
    assert ended(dev, "dma_alloc_coherent") == [result]
    run(buffer.write(4, b"abcd"))
    assert bus.peek(BASE + 4, 4) == b"abcd" and run(buffer.read(3, 6)) == b"\0abcd\0"
    assert {op[3] for op in bus.ops if op[0] == "read"} == {Attribute.UNCACHED}
    clear(bus, dev)
    run(dma_sync_single_for_device(dev, dma, 100, DMA_TO_DEVICE))  # useless, and nothing
    assert work(dev) == []
    run(dma_free_coherent(dev, 100, int(cpu_addr), dma))
    assert begun(dev, "dma_free_coherent") == [{"address": BASE, "dma": BASE, "length": 100}]
    with pytest.raises(ArgumentError, match=f"buffer must be allocated to be accessed, not freed: DMA buffer {buffer.id}"):
        run(buffer.read(0, 1))
    assert int(kmalloc(dev, 16)) == BASE and not dev.hal.is_uncached(BASE, 16)


def test_coherent_memory_of_a_coherent_machine_is_cached():
    bus, dev = device(coherent=True)
    buffer = run(dma_alloc_coherent(dev, 100))
    assert buffer.cached and work(dev) == []
    assert ended(dev, "dma_alloc_coherent")[0]["cached"] is True
    run(buffer.write(0, b"x"))
    assert {op[3] for op in bus.ops if op[0] == "write"} == {Attribute.CACHED}
    run(dma_free_coherent(dev, 100, buffer.cpu_addr, buffer.dma_handle))


def test_noncoherent_memory_is_cached_and_owned_in_turn():
    _, dev = device("mips")
    buffer = run(dma_alloc_noncoherent(dev, 64, DMA_BIDIRECTIONAL))
    assert buffer.cached and work(dev) == [] and run(buffer.read(0, 64)) == bytes(64)
    assert begun(dev, "dma_alloc_noncoherent") == [{"length": 64, "direction": "BIDIRECTIONAL"}]
    run(dma_sync_single_for_device(dev, buffer.dma_handle, 64, DMA_BIDIRECTIONAL))
    run(dma_sync_single_for_cpu(dev, buffer.dma_handle, 64, DMA_BIDIRECTIONAL))
    assert work(dev) == [("clean+invalidate", "d", [[BASE, 64]]), ("invalidate", "d", [[BASE, 64]])]
    run(dma_free_noncoherent(dev, 64, buffer.cpu_addr, buffer.dma_handle, DMA_BIDIRECTIONAL))
    assert begun(dev, "dma_free_noncoherent") == [{"address": BASE, "dma": BASE, "length": 64}]
    with pytest.raises(ArgumentError, match=r"direction must be .* not DMA_NONE"):
        run(dma_alloc_noncoherent(dev, 64, DMA_NONE))


def test_coherent_memory_stays_in_reach_or_is_null():
    _, dev = device(reserve=0x1000)
    assert int(dma_set_coherent_mask(dev, DMA_BIT_MASK(13))) == 0
    first, second = (run(dma_alloc_coherent(dev, 16)) for _ in range(2))
    assert first.cpu_addr == BASE + 0x1000 and ended(dev, "dma_alloc_coherent")[1] is None
    checked = len(begun(dev, "ResultChecked"))
    assert not second and len(begun(dev, "ResultChecked")) == checked + 1
    cpu_addr, dma = run(dma_alloc_coherent(dev, 16))
    assert not cpu_addr and not dma
    cpu_addr, dma = first
    assert cpu_addr  # the kernel's way to look
    assert begun(dev, "ResultChecked")[-1]["call"] == first._call


def test_wrong_frees_are_logged_and_harmless():
    _, dev = device()
    buffer = run(dma_alloc_coherent(dev, 100))
    run(dma_free_coherent(dev, 8192, buffer.cpu_addr, 7))
    run(dma_free_coherent(dev, 100, buffer.cpu_addr, buffer.dma_handle))
    assert [a["length"] for a in begun(dev, "dma_free_coherent")] == [8192, 100] and buffer.freed
    assert [r["error"] for r in dev.trace.records if r["phase"] == "end" and r["name"] == "dma_free_coherent"] == [None, None]


def test_coherent_arguments():
    _, dev = device()
    for size in (0, -1, 1.0, None):
        with pytest.raises(ArgumentError, match="size must be an integer from 1 to 0x100000000, not"):
            run(dma_alloc_coherent(dev, size))
    buffer = run(dma_alloc_coherent(dev, 100))
    run(buffer.read(100, 1))  # beyond what was asked for, inside its page: a rule, not an error
    with pytest.raises(ArgumentError, match="length must be an integer from 1 to 1, not 2"):
        run(buffer.read(4095, 2))
    with pytest.raises(ArgumentError, match="offset must be an integer from 0 to 4095, not 0x1000"):
        run(buffer.write(4096, b"x"))


def test_synchronize_drains_the_engine():
    bus, dev = device()
    assert run(dmaengine_synchronize(dev)) is True and drains(bus) == 1
    bus.flush_faults = ["timeout"]
    assert run(dmaengine_synchronize(dev)) is False
    assert begun(dev, "dmaengine_synchronize") == [{}, {}] and ended(dev, "dmaengine_synchronize") == [True, False]


# -- pools -------------------------------------------------------------------------------------------------------------------


def test_pool_blocks():
    _, dev = device()
    pool = dma_pool_create("descriptors", dev, 20, 16, 64)
    assert begun(dev, "dma_pool_create") == [{"pool": pool.id, "what": "descriptors", "length": 20, "align": 16, "boundary": 64}]
    assert ended(dev, "dma_pool_create") == [{"pool": pool.id}]
    blocks = [run(dma_pool_alloc(pool)) for _ in range(4)]
    assert [b.cpu_addr - BASE for b in blocks] == [0, 32, 64, 96] and not any(b.cached for b in blocks)
    assert len(work(dev)) == 1  # one page
    assert begun(dev, "dma_pool_alloc")[0] == {"pool": pool.id, "length": 32}
    assert ended(dev, "dma_pool_alloc")[1] == {
        "buffer": blocks[1].id,
        "address": BASE + 32,
        "dma": BASE + 32,
        "length": 32,
        "cached": False,
    }
    dma_pool_free(pool, blocks[1].cpu_addr, blocks[1].dma_handle)
    assert begun(dev, "dma_pool_free") == [{"pool": pool.id, "address": BASE + 32, "dma": BASE + 32, "length": 32}]
    assert blocks[1].freed and run(dma_pool_alloc(pool)).cpu_addr == BASE + 32


def test_pool_boundary_and_pages():
    _, dev = device()
    pool = dma_pool_create("b", dev, 24, 8, 64)
    assert [run(dma_pool_alloc(pool)).cpu_addr - BASE for _ in range(4)] == [0, 24, 64, 88]
    large = dma_pool_create("l", dev, 3000)
    assert [run(dma_pool_alloc(large)).cpu_addr - BASE for _ in range(2)] == [0x1000, 0x2000]
    huge = dma_pool_create("h", dev, 5000)
    block = run(dma_pool_alloc(huge))
    assert block.cpu_addr == BASE + 0x3000 and huge.page_bytes == 8192 and block.length == 5000


def test_pool_zalloc_and_the_attribute_of_blocks():
    bus, dev = device()
    pool = dma_pool_create("z", dev, 32, 32)
    block = run(dma_pool_alloc(pool))
    run(block.write(0, b"\xff" * 32))
    assert bus.peek(BASE, 32) == b"\xff" * 32  # uncached
    dma_pool_free(pool, block.cpu_addr, block.dma_handle)
    cpu_addr, dma = run(dma_pool_zalloc(pool))
    assert (int(cpu_addr), dma) == (BASE, BASE) and bus.peek(BASE, 32) == bytes(32)


def test_pool_destroy_keeps_pages_in_use():
    _, dev = device()
    pool = dma_pool_create("d", dev, 4096)
    first, second = (run(dma_pool_alloc(pool)) for _ in range(2))
    dma_pool_free(pool, first.cpu_addr, first.dma_handle)
    dma_pool_destroy(pool)
    assert [b.first for b in dev.hal.pool.blocks] == [second.cpu_addr] and dev.hal.is_uncached(second.cpu_addr, 4096)
    assert not dev.hal.is_uncached(first.cpu_addr, 1)
    dma_pool_destroy(pool)  # again: logged, nothing else
    assert begun(dev, "dma_pool_destroy") == [{"pool": pool.id}] * 2
    assert not run(dma_pool_alloc(pool))


def test_pool_null():
    _, dev = device()
    for size, align, boundary in ((0, 0, 0), (16, 3, 0), (16, 0, 48), (64, 0, 32)):
        pool = dma_pool_create("bad", dev, size, align, boundary)
        assert not pool
        with pytest.raises(ArgumentError, match="pool must be a DmaPool, not <NULL from dma_pool_create>"):
            run(dma_pool_alloc(pool))
    assert ended(dev, "dma_pool_create") == [None] * 4
    assert len(begun(dev, "ResultChecked")) == 4
    dma_set_coherent_mask(dev, DMA_BIT_MASK(12))
    pool = dma_pool_create("small", dev, 4096)
    assert pool and run(dma_pool_alloc(pool)) and not run(dma_pool_alloc(pool))
    with pytest.raises(ArgumentError, match="size must be an integer from 0 to 0x100000000, not -1"):
        dma_pool_create("bad", dev, -1)


# -- masks -------------------------------------------------------------------------------------------------------------------


def test_masks():
    _, dev = device()
    assert dma_set_mask(dev, DMA_BIT_MASK(20)) == 0
    assert begun(dev, "dma_set_mask") == [{"bits": 20}] and begun(dev, "ResultChecked") == [{"call": 1, "what": "status"}]
    assert dev.log()["mask"] == 20 and dev.log()["coherent_mask"] == 32 and dma_get_mask(dev) == 0xFFFFF
    assert dma_set_mask(dev, DMA_BIT_MASK(11)) == -EIO and dev.dma_bits == 20
    assert ended(dev, "dma_set_mask") == [0, -EIO]
    assert dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64)) == 0 and (dev.dma_bits, dev.coherent_bits) == (64, 64)
    assert begun(dev, "dma_set_coherent_mask") == [{"bits": 64}]
    assert dma_set_mask_and_coherent(dev, 0xFF) == -EIO and len(begun(dev, "dma_set_coherent_mask")) == 1
    for mask in (0xF0, 0xFFFF0000):
        with pytest.raises(ArgumentError, match=rf"mask must be DMA_BIT_MASK\(n\), not {mask:#x}"):
            dma_set_mask(dev, mask)
    for bits in (0, 65, None):
        with pytest.raises(ArgumentError, match="bits must be an integer from 1 to 64, not"):
            DMA_BIT_MASK(bits)


def test_the_mask_decides_about_bounces():
    _, dev = device()
    assert dma_get_required_mask(dev) == 0xFFFF and dma_max_mapping_size(dev) == 65536
    assert int(run(dma_map_single(dev, B, 64, DMA_TO_DEVICE))) == B and not begun(dev, "BounceMap")
    dma_set_mask(dev, DMA_BIT_MASK(15))
    dma = int(run(dma_map_single(dev, B, 64, DMA_TO_DEVICE)))
    assert dma != B and dma + 64 <= BASE + 0x8000
    assert dma_max_mapping_size(dev) == 65536 == dev.platform.options.bounce_bytes
    assert int(run(dma_map_single(dev, BASE + 0x7FC0, 64, DMA_TO_DEVICE))) == BASE + 0x7FC0
    _, dev = device("mips", bounce="unaligned")
    assert int(run(dma_map_single(dev, B, 60, DMA_TO_DEVICE))) == B
    assert int(run(dma_map_single(dev, B, 60, DMA_FROM_DEVICE))) != B
    assert dma_need_sync(dev, B)
    _, dev = device(coherent=True, bounce="always")
    assert not dma_need_sync(dev, B) and dma_need_sync(dev, run(dma_map_single(dev, B, 64, DMA_TO_DEVICE)))


def test_alignment_of_bounces():
    _, dev = device(bounce="always", line=64)
    assert dma_get_cache_alignment(dev) == 64
    assert int(run(dma_map_single(dev, B + 0x123, 8, DMA_TO_DEVICE))) % 64 == 0
    dma_set_min_align_mask(dev, 0xFFF)
    assert dev.log()["min_align"] == 4096
    assert int(run(dma_map_single(dev, B + 0x123, 8, DMA_TO_DEVICE))) % 4096 == 0x123
    with pytest.raises(ArgumentError, match="min_align_mask must be a power of two minus one, not 5"):
        dma_set_min_align_mask(dev, 5)
    with pytest.raises(ArgumentError, match="min_align_mask must be an integer from 0 to 4095, not 0x1fff"):
        dma_set_min_align_mask(dev, 0x1FFF)


def test_limits_of_segments_are_kept_for_the_checker():
    _, dev = device()
    assert (dma_get_max_seg_size(dev), dma_get_seg_boundary(dev)) == (65536, 0xFFFF_FFFF)
    assert (dev.log()["maximum_segment"], dev.log()["segment_boundary"]) == (None, None)
    dma_set_max_seg_size(dev, 512)
    dma_set_seg_boundary(dev, 0xFFF)
    assert (dma_get_max_seg_size(dev), dma_get_seg_boundary(dev)) == (512, 0xFFF)
    assert (dev.log()["maximum_segment"], dev.log()["segment_boundary"]) == (512, 4096)
    with pytest.raises(ArgumentError, match="mask must be a power of two minus one, not 0x5"):
        dma_set_seg_boundary(dev, 5)
    with pytest.raises(ArgumentError, match="size must be an integer from 1 to"):
        dma_set_max_seg_size(dev, 0)
