# SPDX-License-Identifier: BSD-2-Clause
"""Streaming mappings: every architecture, direction and call against its exact cache work and log; bytes; misuse."""

import json

import pytest

from driver.bus import BusTimeout
from driver.errors import ArgumentError, PlatformError
from driver.linux import (
    DMA_ATTR_NO_WARN,
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_BIDIRECTIONAL,
    DMA_FROM_DEVICE,
    DMA_MAPPING_ERROR,
    DMA_NONE,
    DMA_TO_DEVICE,
    Device,
    Scatterlist,
    devm_kmalloc,
    dma_map_page,
    dma_map_page_attrs,
    dma_map_sg,
    dma_map_sg_attrs,
    dma_map_single,
    dma_map_single_attrs,
    dma_mapping_error,
    dma_sync_sg_for_cpu,
    dma_sync_sg_for_device,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_sync_single_range_for_cpu,
    dma_sync_single_range_for_device,
    dma_unmap_page,
    dma_unmap_page_attrs,
    dma_unmap_sg,
    dma_unmap_sg_attrs,
    dma_unmap_single,
    dma_unmap_single_attrs,
    for_each_sg,
    sg_dma_address,
    sg_dma_len,
    sg_init_table,
    sg_set_buf,
    sg_set_page,
    vmalloc,
    wait_for_interrupt,
)
from driver.platform import HalOptions
from driver.storage_port import StoragePort
from driver.wdk import Kernel

from .fake_bus import FakeBus, run
from .linux_machine import B, begun, clear, device, drains, ended, work

ARCHITECTURES = ("arm", "arm64", "riscv", "mips")
DIRECTIONS = (DMA_TO_DEVICE, DMA_FROM_DEVICE, DMA_BIDIRECTIONAL)

WHOLE = [[B, 128]]  # four lines of 32 bytes
PART = [[B + 8, 100]]  # one and a part on either side

#: What RULES.md says, written out: for each architecture and direction the work before, for PART.
BEFORE = {
    ("arm", DMA_TO_DEVICE): [("clean", "d", PART)],
    ("arm", DMA_FROM_DEVICE): [
        ("clean+invalidate", "d", [[B + 8, 24], [B + 96, 12]]),
        ("invalidate", "d", [[B + 32, 64]]),
    ],
    ("arm", DMA_BIDIRECTIONAL): [("clean", "d", PART)],
    ("arm64", DMA_TO_DEVICE): [("clean", "d", PART)],
    ("arm64", DMA_FROM_DEVICE): [("clean", "d", PART)],
    ("arm64", DMA_BIDIRECTIONAL): [("clean", "d", PART)],
    ("riscv", DMA_TO_DEVICE): [("clean", "d", PART)],
    ("riscv", DMA_FROM_DEVICE): [("clean", "d", PART)],
    ("riscv", DMA_BIDIRECTIONAL): [("clean", "d", PART)],
    ("mips", DMA_TO_DEVICE): [("clean", "d", PART)],
    ("mips", DMA_FROM_DEVICE): [("invalidate", "d", PART)],
    ("mips", DMA_BIDIRECTIONAL): [("clean+invalidate", "d", PART)],
}


def after(direction, ranges):
    return [] if direction == DMA_TO_DEVICE else [("invalidate", "d", ranges)]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_single_is_exactly_this_work_and_this_log(architecture, direction):
    bus, dev = device(architecture)
    name = direction.name.removeprefix("DMA_")
    before = BEFORE[architecture, direction]

    dma = run(dma_map_single(dev, B + 8, 100, direction))
    assert dma == B + 8 and work(dev) == before and drains(bus) == 0
    assert begun(dev, "dma_map_single") == [{"address": B + 8, "length": 100, "direction": name, "attrs": []}]
    assert ended(dev, "dma_map_single") == [B + 8]
    clear(bus, dev)

    assert dma_mapping_error(dev, dma) is False
    assert begun(dev, "dma_mapping_error") == [{"dma": B + 8}] and ended(dev, "dma_mapping_error") == [False]
    assert bus.ops == []
    clear(bus, dev)

    run(dma_sync_single_for_cpu(dev, dma, 100, direction))
    assert work(dev) == after(direction, PART) and drains(bus) == 1
    assert begun(dev, "dma_sync_single_for_cpu") == [{"dma": B + 8, "offset": 0, "length": 100, "direction": name}]
    clear(bus, dev)

    run(dma_sync_single_for_device(dev, dma, 100, direction))
    assert work(dev) == before and drains(bus) == 0
    assert begun(dev, "dma_sync_single_for_device") == [{"dma": B + 8, "offset": 0, "length": 100, "direction": name}]
    clear(bus, dev)

    run(dma_sync_single_range_for_cpu(dev, dma, 24, 64, direction))
    assert work(dev) == after(direction, [[B + 32, 64]]) and drains(bus) == 1
    assert begun(dev, "dma_sync_single_range_for_cpu") == [{"dma": B + 8, "offset": 24, "length": 64, "direction": name}]
    clear(bus, dev)

    run(dma_sync_single_range_for_device(dev, dma, 24, 64, direction))
    inside = [(op, target, [[B + 32, 64]]) for op, target, _ in before[-1:]]  # whole lines have no edges
    assert work(dev) == inside and drains(bus) == 0
    assert begun(dev, "dma_sync_single_range_for_device") == [{"dma": B + 8, "offset": 24, "length": 64, "direction": name}]
    clear(bus, dev)

    run(dma_unmap_single(dev, dma, 100, direction))
    assert work(dev) == after(direction, PART) and drains(bus) == 1
    assert begun(dev, "dma_unmap_single") == [{"dma": B + 8, "length": 100, "direction": name, "attrs": []}]
    assert ended(dev, "dma_unmap_single") == [None]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_page_and_list_make_the_same_work(architecture, direction):
    bus, dev = device(architecture)
    name = direction.name.removeprefix("DMA_")
    dma = run(dma_map_page(dev, B, 8, 100, direction))
    assert work(dev) == BEFORE[architecture, direction]
    assert begun(dev, "dma_map_page") == [{"address": B + 8, "length": 100, "direction": name, "attrs": []}]
    clear(bus, dev)
    run(dma_unmap_page(dev, dma, 100, direction))
    assert work(dev) == after(direction, PART) and begun(dev)[0][0] == "dma_unmap_page"
    clear(bus, dev)

    sg = [Scatterlist(B + 8, 100), Scatterlist(B + 0x1000, 64)]
    entries = [[B + 8, 100], [B + 0x1000, 64]]
    second = [(op, target, [[B + 0x1000, 64]]) for op, target, _ in BEFORE[architecture, direction][-1:]]
    assert run(dma_map_sg(dev, sg, 2, direction)) == 2
    assert work(dev) == BEFORE[architecture, direction] + second
    assert begun(dev, "dma_map_sg") == [{"entries": entries, "direction": name, "attrs": []}]
    assert ended(dev, "dma_map_sg") == [{"elements": entries}]
    assert [(sg_dma_address(s), sg_dma_len(s)) for s in for_each_sg(sg, 2)] == [(B + 8, 100), (B + 0x1000, 64)]
    clear(bus, dev)
    run(dma_sync_sg_for_cpu(dev, sg, 2, direction))
    assert work(dev) == after(direction, PART) + after(direction, [[B + 0x1000, 64]]) and drains(bus) == 1
    assert begun(dev, "dma_sync_sg_for_cpu") == [{"entries": entries, "direction": name}]
    clear(bus, dev)
    run(dma_sync_sg_for_device(dev, sg, 2, direction))
    assert work(dev) == BEFORE[architecture, direction] + second and drains(bus) == 0
    clear(bus, dev)
    run(dma_unmap_sg(dev, sg, 2, direction))
    assert work(dev) == after(direction, PART) + after(direction, [[B + 0x1000, 64]]) and drains(bus) == 1
    assert begun(dev, "dma_unmap_sg") == [{"entries": entries, "direction": name, "attrs": []}]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_whole_lines_need_no_special_edges(architecture):
    _, dev = device(architecture)
    run(dma_map_single(dev, B, 128, DMA_FROM_DEVICE))
    op = {"arm": "invalidate", "mips": "invalidate"}.get(architecture, "clean")
    assert work(dev) == [(op, "d", WHOLE)]


def test_arm_edges_inside_one_line_and_at_one_end():
    _, dev = device("arm")
    run(dma_map_single(dev, B + 4, 8, DMA_FROM_DEVICE))
    assert work(dev) == [("clean+invalidate", "d", [[B + 4, 8]])]
    dev.trace.records.clear()
    run(dma_map_single(dev, B, 40, DMA_FROM_DEVICE))
    assert work(dev) == [("clean+invalidate", "d", [[B + 32, 8]]), ("invalidate", "d", [[B, 32]])]
    dev.trace.records.clear()
    run(dma_map_single(dev, B + 16, 32, DMA_FROM_DEVICE))
    assert work(dev) == [("clean+invalidate", "d", [[B + 16, 16], [B + 32, 16]])]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_coherent_machine_only_drains(architecture):
    bus, dev = device(architecture, coherent=True)
    for direction in DIRECTIONS:
        dma = run(dma_map_single(dev, B + 8, 100, direction))
        run(dma_sync_single_for_device(dev, dma, 100, direction))
        assert bus.ops == []
        run(dma_sync_single_for_cpu(dev, dma, 100, direction))
        run(dma_unmap_single(dev, dma, 100, direction))
        assert drains(bus) == 2 and bus.writes("maint") == [] and work(dev) == []
        clear(bus, dev)


def test_a_cpu_that_does_not_speculate_needs_no_work_afterwards():
    _, dev = device("mips", speculates=False)
    dma = run(dma_map_single(dev, B, 128, DMA_FROM_DEVICE))
    run(dma_sync_single_for_cpu(dev, dma, 128, DMA_FROM_DEVICE))
    run(dma_unmap_single(dev, dma, 128, DMA_FROM_DEVICE))
    assert work(dev) == [("invalidate", "d", WHOLE)]


def test_skip_cpu_sync_is_only_the_drain():
    bus, dev = device(bounce="always")
    far = run(dma_map_single_attrs(dev, B, 64, DMA_TO_DEVICE, DMA_ATTR_SKIP_CPU_SYNC))
    assert far != B and bus.ops == []
    assert begun(dev, "dma_map_single")[0]["attrs"] == ["SKIP_CPU_SYNC"]
    run(dma_unmap_single_attrs(dev, far, 64, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_NO_WARN))
    assert begun(dev, "dma_unmap_single")[0]["attrs"] == ["SKIP_CPU_SYNC", "NO_WARN"]
    assert begun(dev, "BounceCopy") == [] and len(begun(dev, "BounceUnmap")) == 1 and drains(bus) == 1
    bus, dev = device()
    page = run(dma_map_page_attrs(dev, B, 0, 64, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC))
    run(dma_unmap_page_attrs(dev, page, 64, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC))
    sg = [Scatterlist(B, 64)]
    run(dma_map_sg_attrs(dev, sg, 1, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC))
    run(dma_unmap_sg_attrs(dev, sg, 1, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC))
    assert work(dev) == [] and drains(bus) == 2


# -- bytes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounce", ["needed", "always"])
@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_correct_driver_moves_the_right_bytes(architecture, coherent, bounce):
    bus, dev = device(architecture, coherent=coherent, bounce=bounce)
    bus.device[0:1000] = bytes((7 * n + 3) & 255 for n in range(1000))

    async def driver():
        port = StoragePort(dev.hal, dev.trace)
        buf = devm_kmalloc(dev, 1000)
        await dev.cpu.store(buf, b"\xee" * 1000)  # dirty lines that must not come back
        dma = await dma_map_single(dev, buf, 1000, DMA_FROM_DEVICE)
        await port.start_list([(dma, 1000)], False, 0, device=dev)
        bus.prefetch(dma + 512)
        await port.wait(10_000)
        await port.acknowledge()
        await dma_sync_single_for_cpu(dev, dma, 1000, DMA_FROM_DEVICE)
        assert await dev.cpu.load(buf, 1000) == bytes(bus.device[0:1000])
        await dma_unmap_single(dev, dma, 1000, DMA_FROM_DEVICE)

        await dev.cpu.store(buf, bytes(range(250)) * 4)
        dma = await dma_map_single(dev, buf, 1000, DMA_TO_DEVICE)
        await port.start_list([(dma, 1000)], True, 4096, device=dev)
        await port.wait(10_000)
        await port.acknowledge()
        await dma_unmap_single(dev, dma, 1000, DMA_TO_DEVICE)
        assert await port.device_done() == 1000

    run(driver())
    assert bytes(bus.device[4096:5096]) == bytes(range(250)) * 4
    assert dev.swiotlb.slots == []


def test_the_remainder_comes_before_the_cache_work():
    bus, dev = device()
    dma = run(dma_map_single(dev, B, 64, DMA_FROM_DEVICE))
    bus.ops.clear()
    run(dma_unmap_single(dev, dma, 64, DMA_FROM_DEVICE))
    writes = bus.writes()
    assert writes.index("dma.ctrl") < writes.index("maint.cmd")


def test_a_failed_drain_is_kept_for_who_asks():
    bus, dev = device()
    bus.flush_faults = ["bus_error"]
    run(dma_unmap_single(dev, B, 64, DMA_FROM_DEVICE))
    assert not dev.drained.ok and dev.drained.bus_error
    run(dma_unmap_single(dev, B, 64, DMA_FROM_DEVICE))
    assert dev.drained.ok


# -- swiotlb ---------------------------------------------------------------------------------------------------------------


def test_swiotlb_copies_at_map_sync_and_unmap():
    bus, dev = device(reserve=256)
    dev.dma_bits = 15
    run(bus.write(B, b"\x11" * 128))
    dma = int(run(dma_map_single(dev, B, 128, DMA_BIDIRECTIONAL)))
    assert dma == 0x8000_0100 and bus.peek(dma, 128) == b"\x11" * 128
    assert [called for called, _ in begun(dev)] == ["dma_map_single", "BounceMap", "BounceCopy", "CacheMaintenance"]
    assert begun(dev, "BounceMap")[0] == {
        "source": [[B, 128]],
        "bounce": [dma, 128],
        "write_to_device": False,
        "owner": "swiotlb",
        "whole": False,
    }
    assert all(r["parent"] == 1 for r in dev.trace.records if r["phase"] == "begin" and r["name"].startswith("Bounce"))
    clear(bus, dev)

    bus.poke(dma + 32, b"\x22" * 32)  # the device writes
    run(dma_sync_single_for_cpu(dev, dma + 32, 16, DMA_BIDIRECTIONAL))  # a part, by an address inside
    assert run(bus.read(B, 128)) == b"\x11" * 32 + b"\x22" * 16 + b"\x11" * 80
    assert work(dev) == [("invalidate", "d", [[dma + 32, 16]])]
    assert begun(dev, "BounceCopy") == [{"source": [[dma + 32, 16]], "target": [[B + 32, 16]], "to_device": False}]
    clear(bus, dev)

    run(bus.write(B + 40, b"\x33" * 8))
    run(dma_sync_single_range_for_device(dev, dma, 40, 4, DMA_BIDIRECTIONAL))
    assert bus.peek(dma, 128) == b"\x11" * 32 + b"\x22" * 8 + b"\x33" * 4 + b"\x22" * 20 + b"\x11" * 64
    assert work(dev) == [("clean+invalidate", "d", [[dma + 40, 4]])]
    clear(bus, dev)

    run(dma_unmap_single(dev, dma, 128, DMA_BIDIRECTIONAL))
    assert run(bus.read(B, 128)) == bus.peek(dma, 128)
    assert begun(dev, "BounceUnmap") == [{"bounce": [dma, 128]}] and dev.swiotlb.slots == []


def test_swiotlb_directions():
    bus, dev = device()
    dev.dma_bits = 15
    dma = run(dma_map_single(dev, B, 64, DMA_TO_DEVICE))
    clear(bus, dev)
    run(dma_sync_single_for_cpu(dev, dma, 64, DMA_TO_DEVICE))
    assert begun(dev, "BounceCopy") == [] and work(dev) == []
    run(dma_sync_single_for_device(dev, dma, 64, DMA_TO_DEVICE))
    assert len(begun(dev, "BounceCopy")) == 1 and work(dev) == [("clean", "d", [[dma, 64]])]
    clear(bus, dev)
    run(dma_unmap_single(dev, dma, 64, DMA_TO_DEVICE))
    assert begun(dev, "BounceCopy") == []
    dma = run(dma_map_single(dev, B, 64, DMA_FROM_DEVICE))
    clear(bus, dev)
    run(dma_sync_single_for_device(dev, dma, 64, DMA_FROM_DEVICE))
    assert begun(dev, "BounceCopy") == [] and work(dev) == [("clean+invalidate", "d", [[dma, 64]])]


def test_swiotlb_syncs_beyond_the_mapping_are_cut():
    bus, dev = device()
    dev.dma_bits = 15
    dma = run(dma_map_single(dev, B, 64, DMA_FROM_DEVICE))
    bus.poke(dma, b"\x44" * 96)
    run(dma_sync_single_for_cpu(dev, dma + 32, 4096, DMA_FROM_DEVICE))
    assert run(bus.read(B, 96)) == bytes(32) + b"\x44" * 32 + bytes(32)


def test_swiotlb_list_and_its_failure():
    bus, dev = device(bounce_bytes=128)
    dev.dma_bits = 15
    sg = sg_init_table(2)
    sg_set_buf(sg[0], B, 64)
    sg_set_page(sg[1], B + 0x1000, 64, 32)
    assert run(dma_map_sg(dev, sg, 2, DMA_TO_DEVICE)) == 2 and len(dev.swiotlb.slots) == 2
    assert ended(dev, "dma_map_sg") == [{"elements": [[sg[0].dma_address, 64], [sg[1].dma_address, 64]]}]
    run(dma_unmap_sg(dev, sg, 2, DMA_TO_DEVICE))
    sg_set_buf(sg[1], B + 0x1000, 65)
    clear(bus, dev)
    assert run(dma_map_sg(dev, sg, 2, DMA_TO_DEVICE)) == 0
    assert ended(dev, "dma_map_sg") == [{"elements": []}] and dev.swiotlb.slots == []
    with pytest.raises(ArgumentError, match="sg must be mapped"):
        sg_dma_address(sg[0])


def test_no_room_is_a_mapping_error_and_must_be_asked_for():
    _, dev = device(bounce="always", bounce_bytes=64)
    good, bad = run(dma_map_single(dev, B, 64, DMA_TO_DEVICE)), run(dma_map_single(dev, B + 64, 1, DMA_TO_DEVICE))
    assert ended(dev, "dma_map_single") == [int(good), None]
    assert begun(dev, "ResultChecked") == []
    assert good + 4 == dev.swiotlb.slots[0].address + 4  # arithmetic is no look at it
    assert begun(dev, "ResultChecked") == []
    numbers = [r["call"] for r in dev.trace.records if r["phase"] == "begin" and r["name"] == "dma_map_single"]
    assert not dma_mapping_error(dev, good) and dma_mapping_error(dev, bad)
    assert begun(dev, "dma_mapping_error") == [{"dma": int(good)}, {"dma": None}]
    assert begun(dev, "ResultChecked") == [{"call": number, "what": "null"} for number in numbers]
    _, dev = device(bounce="always", bounce_bytes=0)
    assert run(dma_map_single(dev, B, 64, DMA_TO_DEVICE)) == DMA_MAPPING_ERROR
    assert len(begun(dev, "ResultChecked")) == 1


def test_the_count_of_a_list_must_be_looked_at():
    _, dev = device()
    count = run(dma_map_sg(dev, [Scatterlist(B, 64)], 1, DMA_TO_DEVICE))
    for _ in range(count):
        pass
    assert begun(dev, "ResultChecked") == []
    assert count > 0
    assert begun(dev, "ResultChecked") == [{"call": 1, "what": "null"}]


# -- misuse: what goes on, and what cannot -----------------------------------------------------------------------------------


def test_misuse_that_a_rule_covers_goes_on():
    bus, dev = device()
    run(dma_unmap_single(dev, B, 64, DMA_FROM_DEVICE))  # never mapped
    run(dma_sync_single_for_cpu(dev, B + 1, 7, DMA_FROM_DEVICE))
    run(dma_unmap_single(dev, B, 64, DMA_FROM_DEVICE))  # twice
    assert work(dev) == [("invalidate", "d", [[B, 64]]), ("invalidate", "d", [[B + 1, 7]]), ("invalidate", "d", [[B, 64]])]
    clear(bus, dev)
    dma = run(dma_map_single(dev, B, 0, DMA_TO_DEVICE))  # zero length
    assert dma == B and work(dev) == [] and begun(dev, "dma_map_single")[0]["length"] == 0
    run(dma_unmap_single(dev, DMA_MAPPING_ERROR, 64, DMA_FROM_DEVICE))
    assert begun(dev, "dma_unmap_single") == [{"dma": None, "length": 64, "direction": "FROM_DEVICE", "attrs": []}]
    assert work(dev) == []


def test_memory_that_cannot_be_mapped_is_an_error():
    _, dev = device()
    area = vmalloc(dev, 100)
    assert dma_mapping_error(dev, run(dma_map_single(dev, area + 5, 16, DMA_TO_DEVICE)))
    assert not dma_mapping_error(dev, run(dma_map_page(dev, area, 5, 16, DMA_TO_DEVICE)))  # its pages can
    for address in (0x1000_0000, 0x8000_FFF0):
        assert dma_mapping_error(dev, run(dma_map_single(dev, address, 64, DMA_TO_DEVICE)))


@pytest.mark.parametrize("direction", [DMA_NONE, 7, "TO_DEVICE", None, True])
def test_a_direction_that_is_none_stops(direction):
    _, dev = device()
    shown = "DMA_NONE" if direction == DMA_NONE else repr(direction)
    text = f"direction must be DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL, not {shown}"
    for call in (
        dma_map_single(dev, B, 64, direction),
        dma_unmap_single(dev, B, 64, direction),
        dma_sync_single_for_cpu(dev, B, 64, direction),
        dma_map_sg(dev, [Scatterlist(B, 64)], 1, direction),
    ):
        with pytest.raises(ArgumentError, match=text):
            run(call)
    assert [r["error"] for r in dev.trace.records if r["phase"] == "end"] == [f"ArgumentError: {text}"] * 4
    assert begun(dev, "dma_map_single")[0]["address"] == B


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda dev: dma_map_single(None, B, 64, DMA_TO_DEVICE), "dev must be a Device, not None"),
        (
            lambda dev: dma_map_single(dev, "buf", 64, DMA_TO_DEVICE),
            "cpu_addr must be an integer from 0 to 0xffffffff, not 'buf'",
        ),
        (lambda dev: dma_map_single(dev, B, -1, DMA_TO_DEVICE), "size must be an integer from 0 to 0x7fff7000, not -1"),
        (lambda dev: dma_map_single(dev, B, 1.5, DMA_TO_DEVICE), "size must be an integer from 0 to 0x7fff7000, not 1.5"),
        (lambda dev: dma_map_page(dev, B + 1, 0, 64, DMA_TO_DEVICE), "page must be a multiple of 4096 from 0"),
        (lambda dev: dma_map_page(dev, B, -1, 64, DMA_TO_DEVICE), "offset must be an integer from 0"),
        (lambda dev: dma_unmap_single(dev, None, 64, DMA_TO_DEVICE), "dma_addr must be an integer from 0 .* not None"),
        (lambda dev: dma_unmap_single(dev, 1 << 32, 64, DMA_TO_DEVICE), "dma_addr must be an integer from 0 to 0xffffffff"),
        (
            lambda dev: dma_sync_single_range_for_cpu(dev, B, -4, 64, DMA_TO_DEVICE),
            "offset must be an integer from 0 to 0x7fff6fff, not -4",
        ),
        (
            lambda dev: dma_map_single_attrs(dev, B, 64, DMA_TO_DEVICE, 1),
            "attrs must be 0 or a union of DMA_ATTR_WEAK_ORDERING, DMA_ATTR_SKIP_CPU_SYNC, DMA_ATTR_NO_WARN, not 1",
        ),
        (lambda dev: dma_map_sg(dev, [Scatterlist(B, 64)], 2, DMA_TO_DEVICE), "nents must be an integer from 1 to 1, not 2"),
        (lambda dev: dma_map_sg(dev, [(B, 64)], 1, DMA_TO_DEVICE), "sglist's entries must be a Scatterlist, not "),
        (lambda dev: dma_map_sg(dev, [Scatterlist(None, 64)], 1, DMA_TO_DEVICE), "sg.address must be an integer .* not None"),
        (lambda dev: dma_map_sg(dev, [Scatterlist(B, -1)], 1, DMA_TO_DEVICE), "sg.length must be an integer .* not -1"),
        (lambda dev: dma_map_single(dev, object(), 64, DMA_TO_DEVICE), "cpu_addr must be an integer from 0 .* not <object"),
        (lambda dev: dma_sync_single_for_cpu(dev, [B], object(), DMA_TO_DEVICE), "dma_addr must be an integer from 0 "),
        (lambda dev: dma_map_sg(dev, B, 1, DMA_TO_DEVICE), "sglist must be a list or tuple, not"),
        (lambda dev: wait_for_interrupt(dev, 0, 10), "mask must be an integer from 1"),
        (lambda dev: wait_for_interrupt(dev, 1, 0), "limit must be an integer from 1"),
    ],
)
def test_bad_arguments_are_named(call, text):
    bus, dev = device()
    with pytest.raises(ArgumentError, match=text):
        run(call(dev))
    assert bus.writes("maint") == []
    json.dumps(dev.trace.records)  # the record can be written whatever a driver passes


def test_a_wait_has_a_limit():
    _, dev = device()
    with pytest.raises(BusTimeout, match="gave up after 50 cycles waiting for my completion"):
        run(wait_for_interrupt(dev, 1, 50, "my completion"))


def test_the_architecture_must_be_one_of_linux():
    hal = run(Kernel.start(FakeBus())).hal
    with pytest.raises(PlatformError, match=r"HalOptions\.architecture must be a Linux one for a struct device, not 'wdk'"):
        Device(hal, hal.trace)
    with pytest.raises(PlatformError, match=r"HalOptions\.architecture must be one of wdk, arm, arm64, riscv, mips, not 'x86'"):
        run(Device.start(FakeBus(), architecture="x86"))
    with pytest.raises(PlatformError, match=r"architecture must be that of options \('mips'\)"):
        run(Device.start(FakeBus(), architecture="arm", options=HalOptions(architecture="mips")))
    for options in (None, HalOptions(), HalOptions(architecture="arm64")):
        assert run(Device.start(FakeBus(), options=options)).platform.options.architecture == "arm64"
    assert run(Device.start(FakeBus(), architecture="mips", coherent=True)).log() == {
        "id": 1,
        "mask": 32,
        "coherent_mask": 32,
        "coherent": True,
        "min_align": 1,
        "maximum_segment": None,
        "segment_boundary": None,
    }
