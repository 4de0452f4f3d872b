# SPDX-License-Identifier: BSD-2-Clause
"""Map registers: what is bounced, that every byte comes through, and what is lost when the order of calls is wrong."""

import pytest

from driver.errors import AdapterError, PoolError
from driver.memory import PAGE_BYTES
from driver.platform import HalOptions
from driver.wdk.map_registers import mdl_pieces, pages_of

from .adapter_bench import FREE, REGISTERS, A, Bench
from .fake_bus import FakeBus, run

FAR = 0x8000_8000  # beyond the reach of a device with 15 address bits
SIZES = (1, 15, 16, 17, 31, 32, 33, 100, 4095, 4096, 4097)
OFFSETS = (0, 1, 31, 4090)


def pattern(length, seed=7):
    return bytes((seed + 37 * n + n // 256) & 255 for n in range(length))


def bench(address, length, *, bus=None, beliefs=None, **description):
    b = Bench(bus, beliefs=beliefs, **{"master": True, "scatter_gather": True, "dma_address_width": 15, **description})
    b.mdl = b.chain((address, length))
    b.kernel.trace.records.clear()
    return b


async def transfer(b, write, *, length=None, flush=True):
    """One transfer of the MDL in pieces, as its map registers allow; returns the ranges that the device got."""
    total, done, seen = b.mdl.total if length is None else length, 0, []
    va = b.mdl.virtual_address
    while done < total:
        address, size = await b.adapter.map_transfer(b.mdl, b.base, va + done, total - done, write)
        seen.append((address, int(size)))
        await b.move([(address, int(size))], write, offset=done)
        if flush:
            assert await b.adapter.flush_adapter_buffers(b.mdl, b.base, va + done, int(size), write)
        done += size
    return seen


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("offset", OFFSETS)
def test_every_byte_comes_through_the_bounce_pages(offset, write, coherent):
    """All sizes; dirty lines everywhere, a CPU that stores beside the buffer meanwhile, no KeFlushIoBuffers."""
    for size in SIZES:
        b = bench(FAR + offset, size, bus=FakeBus(coherent=coherent), maximum_length=8192)
        data = pattern(size)
        b.bus.device[0:size] = bytes(size) if write else data

        async def story(size=size, data=data, b=b):
            await b.bus.write(FAR + offset - 1, b"<" + (data if write else bytes(size)) + b">")
            await b.allocate(REGISTERS, 3)
            address, length = await b.adapter.map_transfer(b.mdl, b.base, FAR + offset, size, write)
            assert length == size and address < FAR and address % PAGE_BYTES == offset
            await b.bus.write(FAR + offset - 1, b"[")
            await b.bus.write(FAR + offset + size, b"]")
            await b.move([(address, size)], write)
            for line in list(b.bus.dcache):
                b.bus.evict(line)
            assert await b.adapter.flush_adapter_buffers(b.mdl, b.base, FAR + offset, size, write)
            assert await b.bus.read(FAR + offset - 1, size + 2) == b"[" + data + b"]"

        run(story())
        if write:
            assert bytes(b.bus.device[0:size]) == data
        assert [block.what for block in b.kernel.pool.blocks] == []


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("master", [False, True])
def test_a_request_is_split_where_the_map_registers_end(master, write):
    size, data = 3 * PAGE_BYTES, pattern(3 * PAGE_BYTES)
    b = bench(FAR + 100, size, bus=FakeBus(device=16384), master=master, scatter_gather=master, maximum_length=1 << 16)
    b.bus.device[0:size] = bytes(size) if write else data

    async def story():
        await b.bus.write(FAR + 100, data if write else bytes(size))
        await b.allocate(count=2)
        seen = await transfer(b, write)
        assert [length for _, length in seen] == [2 * PAGE_BYTES - 100, PAGE_BYTES + 100]
        assert await b.bus.read(FAR + 100, size) == data

    run(story())
    assert bytes(b.bus.device[0:size]) == data


@pytest.mark.parametrize(
    "scatter_gather, count, maximum, lengths",
    [
        (False, 1, 1 << 16, [96, 4096, 8]),  # a page from 0xFA0 on, then pages from the next byte's own offset on
        (False, 2, 1 << 16, [4192, 8]),
        (False, 3, 1 << 16, [4200]),
        (False, 3, 1000, [1000, 1000, 1000, 1000, 200]),
        (True, 1, 1 << 16, [96, 1904, 2200]),
        (True, 3, 1 << 16, [2000, 2200]),
        (True, 3, 1500, [1500, 500, 1500, 700]),
    ],
)
def test_where_a_chain_is_cut(scatter_gather, count, maximum, lengths):
    b = bench(A, 1, scatter_gather=scatter_gather, maximum_length=maximum, dma_address_width=15, bus=FakeBus(size=128 * 1024))
    b.mdl = b.chain((FAR + 0xFA0, 2000), (FAR + 0x2000, 2200))
    b.adapter.map_registers = 3
    seen = []

    async def story():
        await b.allocate(REGISTERS, count)
        va, done = b.mdl.virtual_address, 0
        while done < 4200:
            _, length = await b.adapter.map_transfer(b.mdl, b.base, va + done, 4200 - done, True)
            await b.adapter.flush_adapter_buffers(b.mdl, b.base, va + done, int(length), True)
            seen.append(int(length))
            done += length

    run(story())
    assert seen == lengths


def test_the_log_of_a_bounced_transfer():
    b = bench(FAR + 3, 40)
    b.bus.device[0:40] = pattern(40)

    async def story():
        await b.allocate(REGISTERS)
        await transfer(b, False)
        b.adapter.free_map_registers(b.base, 2)

    run(story())
    source, bounce = [[FAR + 3, 40]], [0x8000_0003, 40]
    assert b.names() == [
        "AllocateAdapterChannel",
        "AdapterControl",
        "MapTransfer",
        "BounceMap",
        "BounceCopy",
        "StartTransfer",
        "FlushAdapterBuffers",
        "BounceCopy",
        "BounceUnmap",
        "FreeMapRegisters",
    ]
    assert b.args("BounceMap") == {
        "source": source,
        "bounce": bounce,
        "write_to_device": False,
        "owner": "map-registers",
        "whole": False,
    }
    into, back = [r["args"] for r in b.records("BounceCopy")]
    assert into == {"source": source, "target": [bounce], "to_device": True}
    assert back == {"source": [bounce], "target": source, "to_device": False}
    assert b.args("BounceUnmap") == {"bounce": bounce} and b.result("MapTransfer") == bounce
    assert b.records("BounceMap")[0]["parent"] == b.records("MapTransfer")[0]["call"]
    assert b.records("BounceUnmap")[0]["parent"] == b.records("FlushAdapterBuffers")[0]["call"]
    # The copy back is cleaned, and the I-cache told: the buffer is as fit to be fetched and sent on as after a direct transfer.
    assert b.maintenance() == [
        ("clean+invalidate", "d", [bounce]),
        ("invalidate", "d", [bounce]),
        ("clean", "d", source),
        ("invalidate", "i", source),
    ]


def test_what_is_bounced():
    """Beyond the reach; in pieces for a device without scatter/gather; by the HAL's option. Nothing else."""
    near, far, edge = (0x8000_1000, 64), (FAR, 64), (FAR - 32, 64)
    always, unaligned = ({"options": HalOptions(bounce=mode)} for mode in ("always", "unaligned"))
    for pieces, how, bounced in (
        ([near], {}, False),
        ([far], {}, True),
        ([edge], {}, True),
        ([far], {"dma_address_width": 16}, False),
        ([far], {"dma_address_width": 0}, False),
        ([near, (0x8000_3000, 64)], {"scatter_gather": False}, True),
        ([near, (near[0] + 64, 64)], {"scatter_gather": False}, False),
        ([near], {"beliefs": always}, True),
        ([(0x8000_1004, 60)], {"beliefs": unaligned}, True),
        ([near], {"beliefs": unaligned}, False),
        ([far], {"master": False, "scatter_gather": False}, True),
    ):
        b = bench(A, 1, **how)
        b.mdl = b.chain(*pieces)
        run(b.allocate())
        va, total = b.mdl.virtual_address, b.mdl.total
        address, length = run(b.adapter.map_transfer(b.mdl, b.base, va, total, False))
        assert bool(b.records("BounceMap")) == bounced, (pieces, how)
        assert (address == va) != bounced and length == (total if how.get("scatter_gather") is False else pieces[0][1])


@pytest.mark.parametrize("write", [False, True])
def test_pieces_become_one_range_for_a_device_without_scatter_gather(write):
    pieces = [(0x8000_1010, 100), (0x8000_3001, 7), (0x8000_2FF0, 16)]
    data = pattern(123)
    b = bench(A, 1, scatter_gather=False, dma_address_width=0)
    b.mdl = b.chain(*pieces)
    b.bus.device[0:123] = bytes(123) if write else data

    async def story():
        position = 0
        for address, size in pieces:
            await b.bus.write(address, data[position : position + size] if write else bytes(size))
            position += size
        await b.allocate(REGISTERS)
        assert len(await transfer(b, write)) == 1
        return b"".join([await b.bus.read(address, size) for address, size in pieces])

    assert run(story()) == data and bytes(b.bus.device[0:123]) == data


@pytest.mark.parametrize("first, second", [(0, 50), (0, 100), (30, 40), (99, 1)])
def test_a_flush_copies_back_what_it_covers(first, second):
    """Offset and length of the flush decide, as they do in a kernel; a whole mapping is given back, a part stays."""
    b = bench(FAR, 100)
    b.bus.device[0:100] = pattern(100)

    async def story():
        await b.bus.write(FAR, bytes(100))
        await b.allocate(REGISTERS)
        address, _ = await b.adapter.map_transfer(b.mdl, b.base, FAR, 100, False)
        await b.move([(address, 100)], False)
        await b.adapter.flush_adapter_buffers(b.mdl, b.base, FAR + first, second, False)
        part = await b.bus.read(FAR, 100)
        left = b.names().count("BounceUnmap")
        b.adapter.free_map_registers(b.base, 2)
        return part, left

    part, left = run(story())
    expected = bytearray(100)
    expected[first : first + second] = pattern(100)[first : first + second]
    assert part == bytes(expected) and left == (second == 100) and b.names().count("BounceUnmap") == 1


def test_a_flush_that_failed_can_copy_again():
    b = bench(FAR, 40)
    b.bus.device[0:40] = pattern(40)
    b.bus.flush_faults = ["bus_error"]

    async def story():
        await b.allocate(REGISTERS)
        address, _ = await b.adapter.map_transfer(b.mdl, b.base, FAR, 40, False)
        await b.move([(address, 40)], False)
        assert not await b.adapter.flush_adapter_buffers(b.mdl, b.base, FAR, 40, False)
        assert await b.bus.read(FAR, 40) != pattern(40)
        assert await b.adapter.flush_adapter_buffers(b.mdl, b.base, FAR, 40, False)
        return await b.bus.read(FAR, 40)

    assert run(story()) == pattern(40) and b.names().count("BounceUnmap") == 1


@pytest.mark.parametrize("wrong", ["direction", "registers", "mdl", "freed", "unflushed"])
def test_what_a_wrong_order_loses(wrong):
    """The data stays in the bounce page, or goes with it: no call refuses, the buffer keeps its old bytes."""
    b = bench(FAR, 40)
    b.bus.device[0:40] = pattern(40)
    other = b.chain((FAR, 40))

    async def story():
        await b.bus.write(FAR, bytes(40))
        await b.allocate(REGISTERS, 1)
        address, _ = await b.adapter.map_transfer(b.mdl, b.base, FAR, 40, False)
        await b.move([(address, 40)], False)
        if wrong == "freed":
            b.adapter.free_map_registers(b.base, 1)
        if wrong == "unflushed":
            await b.adapter.map_transfer(other, b.base, FAR, 40, True)  # takes the only page
        base = None if wrong == "registers" else b.base
        await b.adapter.flush_adapter_buffers(other if wrong == "mdl" else b.mdl, base, FAR, 40, wrong == "direction")
        return await b.bus.read(FAR, 40)

    lost = run(story())
    assert lost == bytes(40)
    assert ("BounceUnmap" in b.names()) == (wrong in ("direction", "freed", "unflushed"))


@pytest.mark.parametrize("whole", [False, True])
def test_a_short_transfer_changes_only_what_the_device_wrote(whole):
    b = bench(FAR, 100, beliefs={"options": HalOptions(bounce_copies_whole=whole)})
    b.bus.device[0:100] = pattern(100)
    old = pattern(100, seed=99)

    async def story():
        await b.bus.write(FAR, old)
        await b.allocate(REGISTERS)
        address, _ = await b.adapter.map_transfer(b.mdl, b.base, FAR, 100, False)
        await b.move([(address, 64)], False)
        await b.adapter.flush_adapter_buffers(b.mdl, b.base, FAR, 100, False)
        return await b.bus.read(FAR, 100)

    got = run(story())
    assert got[:64] == pattern(64) and (got[64:] == old[64:]) != whole


def test_a_store_after_the_copy_does_not_reach_the_device():
    b = bench(FAR, 40)

    async def story():
        await b.bus.write(FAR, pattern(40))
        await b.allocate(REGISTERS)
        address, _ = await b.adapter.map_transfer(b.mdl, b.base, FAR, 40, True)
        await b.bus.write(FAR, bytes(40))
        await b.move([(address, 40)], True)
        await b.adapter.flush_adapter_buffers(b.mdl, b.base, FAR, 40, True)

    run(story())
    assert bytes(b.bus.device[0:40]) == pattern(40)


def test_copies_are_cleaned_and_the_other_lines_invalidated():
    """One transfer of a chain of which only the second piece is out of reach."""
    b = bench(A, 1)
    b.mdl = b.chain((0x8000_1000, 64), (FAR, 64))
    va = b.mdl.virtual_address

    async def story():
        await b.allocate(REGISTERS)
        first, _ = await b.adapter.map_transfer(b.mdl, b.base, va, 128, False)
        second, _ = await b.adapter.map_transfer(b.mdl, b.base, va + 64, 64, False)
        b.kernel.trace.records.clear()
        await b.adapter.flush_adapter_buffers(b.mdl, b.base, va, 128, False)
        return first, second

    first, second = run(story())
    assert first == 0x8000_1000 and second != FAR
    assert b.maintenance() == [
        ("invalidate", "d", [[second, 64]]),
        ("clean", "d", [[FAR, 64]]),
        ("invalidate", "i", [[FAR, 64]]),
        ("invalidate", "both", [[0x8000_1000, 64]]),
    ]


def test_no_bounce_memory_and_no_registers_to_bounce_with():
    b = bench(FAR, 100, dma_address_width=12)
    b.kernel.ex_allocate_pool(PAGE_BYTES)  # all that the device reaches
    run(b.allocate(REGISTERS))
    with pytest.raises(PoolError, match=r"length must fit a free gap .* \(for the bounce buffer"):
        run(b.adapter.map_transfer(b.mdl, b.base, FAR, 100, True))
    with pytest.raises(AdapterError, match="map_register_base must be map registers for a buffer that is bounced, not None"):
        run(b.adapter.map_transfer(b.mdl, None, FAR, 100, True))
    assert b.names().count("BounceMap") == 0


def test_the_channel_gives_its_bounce_pages_back():
    b = bench(FAR, 100, master=False, scatter_gather=False)

    async def story():
        await b.allocate()
        await b.adapter.map_transfer(b.mdl, b.base, FAR, 100, True)
        assert b.bus.regs["ch0.addr"] < FAR
        await b.adapter.free_adapter_channel()

    run(story())
    assert b.names()[-2:] == ["FreeAdapterChannel", "BounceUnmap"] and b.kernel.pool.blocks == ()
    run(b.allocate(FREE))
    assert b.adapter.held() == []


def test_pieces_of_a_chain_and_around_it():
    b = Bench()
    mdl = b.chain((0x8000_1000, 10), (0x8000_2000, 20))
    assert mdl_pieces(mdl, 0, 30) == [(0x8000_1000, 10), (0x8000_2000, 20)]
    assert mdl_pieces(mdl, 8, 4) == [(0x8000_1008, 2), (0x8000_2000, 2)]
    assert mdl_pieces(mdl, -5, 7) == [(0x8000_0FFB, 7)]
    assert mdl_pieces(mdl, 25, 10) == [(0x8000_200F, 10)]
    assert mdl_pieces(mdl, 40, 1) == [(0x8000_201E, 1)]
    assert mdl_pieces(mdl, 3, 0) == []
    assert pages_of([(0x8000_0FFF, 2), (0x8000_2000, 4096)]) == 3
    with pytest.raises(AdapterError, match="current_va and length must name addresses from 0 to 0xffffffff"):
        mdl_pieces(mdl, 0, 0xFFFF_FFFF)
