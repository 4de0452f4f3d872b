# SPDX-License-Identifier: BSD-2-Clause
"""DMA adapters, versions 1 and 2: channels, transfers, the flush BOOLEAN, auto-init, common buffers, misuse that goes on."""

import pytest

from driver.bus import Attribute, BusTimeout
from driver.errors import AdapterError, DeviceError, MdlError
from driver.platform import HalOptions
from driver.wdk import NTSTATUS, DeviceDescription, IoAllocationAction
from rtl.pio.table import IRQ

from .adapter_bench import FREE, KEEP, REGISTERS, A, Bench
from .fake_bus import FakeBus, run


def test_map_transfer_programs_and_unmasks_but_does_not_arm():
    b = Bench()

    async def story():
        await b.allocate()
        b.bus.ops.clear()
        return await b.adapter.map_transfer(b.mdl, b.base, A + 10, 60, True)

    assert run(story()) == (A + 10, 60)
    assert b.bus.ops == [
        ("r32", "ch0.status"),
        ("w32", "ch0.mask", 1),
        ("w32", "ch0.status", 0b1110),
        ("w32", "ch0.addr", A + 10),
        ("w32", "ch0.count", 60),
        ("w32", "ch0.mode", 0b011),
        ("w32", "ch0.mask", 0),
    ]
    record = next(r for r in b.kernel.trace.records if r["name"] == "MapTransfer")
    assert record["args"] == {
        "adapter": {"id": b.adapter.id, "version": 2, "master": False, "channel": 0},
        "mdl": b.mdl.log(),
        "registers": b.base.id,
        "offset": 10,
        "length": 60,
        "write_to_device": True,
    }
    assert b.result("MapTransfer") == [A + 10, 60]


def test_start_transfer_arms_first_and_wraps_the_device_start():
    b = Bench()

    async def story():
        await b.allocate()
        await b.adapter.map_transfer(b.mdl, b.base, A, 100, False)
        b.bus.ops.clear()
        async with b.kernel.start_transfer(b.adapter, [(A, 100)], False):
            await b.start_device(1)
        with pytest.raises(AdapterError, match="a system channel must be programmed by MapTransfer"):
            async with b.kernel.start_transfer(b.adapter, [(A, 100)], False):
                pass

    run(story())
    assert b.bus.writes() == ["ch0.ctrl", "dev.path", "dev.addr", "dev.length", "dev.cmd"]
    starts = [r for r in b.kernel.trace.records if r["name"] == "StartTransfer"]
    assert starts[0]["args"]["ranges"] == [[A, 100]] and starts[0]["args"]["buffer"] is None
    assert starts[1]["error"] is None and starts[3]["error"].startswith("AdapterError")


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("invalidate", [True, False])
def test_flush_adapter_buffers_drains_and_invalidates_after_a_read(coherent, invalidate):
    b = Bench(FakeBus(coherent=coherent), beliefs={"options": HalOptions(invalidate_after_read=invalidate)})
    b.bus.device[0:100] = bytes(range(100))

    async def story():
        await b.allocate()
        await b.adapter.map_transfer(b.mdl, b.base, A, 100, False)
        async with b.kernel.start_transfer(b.adapter, [(A, 100)], False):
            await b.start_device(1)
        await b.bus.wait_interrupt(1 << IRQ.SYSTEM_CHANNEL, 10, "tc")
        tail = (A + 100) % 16
        assert b.bus.peek(A, 100) == bytes(range(100 - tail)) + bytes(tail)
        b.bus.ops.clear()
        return await b.adapter.flush_adapter_buffers(b.mdl, b.base, A, 100, False)

    assert run(story()) is True
    assert b.bus.peek(A, 100) == bytes(range(100))
    drain = [("w32", "dma.flush_status", 2), ("w32", "dma.ctrl", 1), ("wait", 2), ("r32", "dma.flush_status")]
    drain.append(("w32", "dma.flush_status", 2))
    assert b.bus.ops[:5] == drain
    maintained = [op[2] for op in b.bus.ops if op[:2] == ("w32", "maint.cmd")]
    assert maintained == ([2 | 1 << 2 | 3 << 4] if invalidate and not coherent else [])
    assert len(b.bus.ops) == 5 or maintained


def test_flush_after_a_write_does_no_cache_work():
    b = Bench(master=True)
    assert run(b.adapter.flush_adapter_buffers(b.mdl, None, A, 100, True)) is True
    assert "maint.cmd" not in b.bus.writes()


@pytest.mark.parametrize("fault", ["bus_error", "timeout", "hang"])
def test_flush_returns_false_when_the_hardware_says_so(fault):
    b = Bench(FakeBus(coherent=True))
    b.bus.flush_faults = [fault]

    async def story():
        first = await b.adapter.flush_adapter_buffers(b.mdl, None, A, 100, False)
        return first, await b.adapter.flush_adapter_buffers(b.mdl, None, A, 100, False)

    assert run(story()) == (False, True)
    assert [r["result"] for r in b.kernel.trace.records if r["phase"] == "end"] == [False, True]


def test_drain_tells_how_it_failed():
    b = Bench()
    b.bus.flush_faults = ["bus_error", "timeout", "hang"]
    b.bus.fifo["to_memory"] = {A: 1, A + 1: 2}
    results = [run(b.kernel.hal.drain()) for _ in range(4)]
    assert [(r.ok, r.bus_error, r.timeout, r.no_answer, r.discarded) for r in results] == [
        (False, True, False, False, 0),
        (False, False, True, False, 2),
        (False, False, False, True, 0),
        (True, False, False, False, 0),
    ]


@pytest.mark.parametrize("action", list(IoAllocationAction))
def test_adapter_control_return_actions(action):
    b = Bench()
    run(b.allocate(action))
    owned = 0 in b.kernel.channel_owners
    assert owned == (action == KEEP)
    assert b.base.freed == (action == FREE)
    assert b.adapter.held() == ([] if action == FREE else ["2 map registers"])
    assert b.names() == ["AllocateAdapterChannel", "AdapterControl"]
    assert b.args("AdapterControl")["registers"] == {"id": b.base.id, "count": 2}
    assert b.result("AdapterControl") == action and b.result("AllocateAdapterChannel") == NTSTATUS.STATUS_SUCCESS
    (record,) = b.records("AdapterControl")
    assert (record["role"], record["irql"], record["parent"]) == ("adapter-control", 2, record["call"] - 1)
    if action == KEEP:
        run(b.adapter.free_adapter_channel())
        assert b.base.freed and 0 not in b.kernel.channel_owners and b.bus.regs["ch0.mask"] == 1
    if action == REGISTERS:
        b.adapter.free_map_registers(b.base, 1)  # another number than allocated: freed all the same
        assert b.args("FreeMapRegisters")["registers"] == b.base.id and b.args("FreeMapRegisters")["count"] == 1
    assert b.adapter.held() == []
    b.bus.ops.clear()
    run(b.adapter.free_adapter_channel())  # once more: logged, and nothing else
    b.adapter.free_map_registers(b.base, 2)
    assert b.bus.ops == [] and b.args("FreeAdapterChannel")["registers"] is None
    assert b.adapter.held() == [] and b.names()[-2:] == ["FreeAdapterChannel", "FreeMapRegisters"]


def test_adapter_control_may_be_a_coroutine_and_its_return_is_checked():
    b = Bench()

    async def control(device_object, irp, base, context):
        context.append(base.count)
        return 7

    seen = []
    with pytest.raises(AdapterError, match="AdapterControl must return an IoAllocationAction, not 7"):
        run(b.adapter.allocate_adapter_channel(b.device, 3, control, seen))
    assert seen == [3] and b.adapter.held() == []


def test_too_many_map_registers():
    b = Bench(maximum_length=4096)
    status = run(b.adapter.allocate_adapter_channel(b.device, 3, lambda *_: 1 / 0))
    assert status == NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
    assert b.result("AllocateAdapterChannel") == NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
    assert b.args("AllocateAdapterChannel")["map_registers"] == 3 and b.names() == ["AllocateAdapterChannel"]
    checked = b.records("ResultChecked")
    assert [r["args"] for r in checked] == [{"call": b.records("AllocateAdapterChannel")[0]["call"], "what": "status"}]
    with pytest.raises(AdapterError, match="number_of_map_registers must be an integer from 0 to 0xffffffff, not -1"):
        run(b.adapter.allocate_adapter_channel(b.device, -1, lambda *_: KEEP))


@pytest.mark.parametrize("master", [False, True])
def test_a_second_channel_waits_for_the_first(master):
    b = Bench(master=master)

    async def story():
        await b.allocate()
        first = b.base
        assert await b.allocate() == NTSTATUS.STATUS_SUCCESS
        assert b.base is first and b.names() == ["AllocateAdapterChannel", "AdapterControl", "AllocateAdapterChannel"]
        await b.adapter.free_adapter_channel()
        assert b.base is not first and first.freed and b.adapter.held() == ["2 map registers"]
        await b.adapter.free_adapter_channel()

    run(story())
    assert b.names()[3:] == ["FreeAdapterChannel", "AdapterControl", "FreeAdapterChannel"] and b.adapter.held() == []


def test_a_channel_asked_for_inside_adapter_control_comes_after_it():
    b, ran = Bench(master=True), []

    async def inner(device_object, irp, base, context):
        ran.append("inner")
        return REGISTERS

    async def outer(device_object, irp, base, context):
        await b.adapter.allocate_adapter_channel(b.device, 1, inner)
        ran.append("outer")
        return REGISTERS

    run(b.adapter.allocate_adapter_channel(b.device, 1, outer))
    assert ran == ["outer", "inner"] and b.adapter.held() == ["1 map registers"] * 2
    nested = b.records("AllocateAdapterChannel")[1]
    assert nested["role"] == "adapter-control" and nested["parent"] == b.records("AdapterControl")[0]["call"]


def test_a_busy_channel_queues_the_next_adapter():
    b = Bench()
    other, _ = b.kernel.io_get_dma_adapter(b.device, DeviceDescription())
    ran = []

    def control(device_object, irp, base, context):
        ran.append(context)
        return KEEP

    async def story():
        await b.allocate()
        assert await other.allocate_adapter_channel(b.device, 1, control, "second") == NTSTATUS.STATUS_SUCCESS
        assert ran == []
        await b.adapter.free_adapter_channel()
        assert ran == ["second"] and b.kernel.channel_owners[0] is other
        await other.free_adapter_channel()

    run(story())


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_common_buffers(cached, coherent):
    b = Bench(FakeBus(coherent=coherent), master=True)

    async def story():
        await b.bus.write(0x8000_0000, b"dirty")
        b.bus.ops.clear()
        buffer = await b.adapter.allocate_common_buffer(100, cached)
        va, logical = buffer
        assert va == logical == 0x8000_0000 and buffer.length == 100
        assert [op[2] for op in b.bus.ops if op[:2] == ("w32", "maint.cmd")] == ([] if cached else [3 | 1 << 2 | 3 << 4])
        assert ("w32", "maint.length", 4096) in b.bus.ops or cached
        await buffer.write(3, b"abc")
        assert await buffer.read(3, 3) == b"abc"
        assert buffer.attribute == (Attribute.CACHED if cached else Attribute.UNCACHED)
        assert (b.bus.peek(va, 6) == b"dirabc") == (not cached)
        await buffer.write_ulong(4000, 0x1234)  # beyond the length, inside the page
        value = await buffer.read_ulong(4000)
        assert value == 0x1234 and value.origins[0].source == (va + 4000, 4)
        with pytest.raises(AdapterError, match="length must be an integer from 1 to 1, not 2"):
            await buffer.read(4095, 2)
        with pytest.raises(AdapterError, match="offset must be an integer from 0 to 4095, not 0x1000"):
            await buffer.write(4096, b"x")
        await b.adapter.free_common_buffer(99, logical + 1, va, not cached)  # other values: it is freed
        assert b.adapter.held() == [] and not b.kernel.hal.is_uncached(va, 1)
        await b.adapter.free_common_buffer(100, logical, va, cached)  # once more: logged, and nothing else
        with pytest.raises(AdapterError, match="must be allocated, not freed"):
            await buffer.read(0, 1)
        return buffer

    buffer = run(story())
    assert b.result("AllocateCommonBuffer") == {"buffer": buffer.id, "address": 0x8000_0000, "length": 100}
    first, second = [r["args"] for r in b.records("FreeCommonBuffer")]
    values = {"adapter": b.adapter.log(), "buffer": buffer.id, "address": 0x8000_0000, "length": 100, "cache_enabled": cached}
    assert second == values
    assert first == {**values, "address": 0x8000_0001, "length": 99, "cache_enabled": not cached}
    run(b.adapter.free_common_buffer(100, 0x8000_4000, 0x8000_4000, cached))
    assert b.args("FreeCommonBuffer")["buffer"] is None


def test_flushing_uncached_memory_costs_no_cache_work():
    b = Bench(master=True)

    async def story():
        buffer = await b.adapter.allocate_common_buffer(4096, False)
        mdl = b.kernel.io_allocate_mdl(buffer.virtual_address, 100)
        b.kernel.mm_build_mdl_for_non_paged_pool(mdl)
        b.bus.ops.clear()
        await b.kernel.ke_flush_io_buffers(mdl, True, True)
        assert b.bus.ops == []
        await b.adapter.flush_adapter_buffers(mdl, None, buffer.virtual_address, 100, False)
        assert "maint.cmd" not in b.bus.writes() and "dma.ctrl" in b.bus.writes()

    run(story())


def test_a_common_buffer_that_does_not_fit_is_null():
    b = Bench(master=True, dma_address_width=14)
    null = run(b.adapter.allocate_common_buffer(0x20000, True))
    assert not null and null == None and b.result("AllocateCommonBuffer") is None  # noqa: E711
    call = b.records("AllocateCommonBuffer")[0]["call"]
    assert [r["args"] for r in b.records("ResultChecked")] == [{"call": call, "what": "null"}]
    assert not run(b.adapter.allocate_common_buffer(0, True))
    last = run(b.adapter.allocate_common_buffer(0x3001, True))  # the adapter reaches four pages
    assert last and last.virtual_address == 0x8000_0000
    assert [r["args"]["call"] for r in b.records("ResultChecked")][-1] == b.records("AllocateCommonBuffer")[2]["call"]
    assert not run(b.adapter.allocate_common_buffer(1, True)) and b.adapter.held() == [f"common buffer {last.id}"]
    with pytest.raises(AdapterError, match="length must be an integer from 0 to 0xffffffff, not -5"):
        run(b.adapter.allocate_common_buffer(-5, True))


def test_dma_alignment_is_the_line_where_caches_are_not_snooped():
    assert Bench(FakeBus(line=64)).adapter.get_dma_alignment() == 64
    assert Bench(FakeBus(coherent=True)).adapter.get_dma_alignment() == 1


def test_counter_is_the_residue_and_only_a_channel_has_one():
    b = Bench()
    b.bus.regs["dev.short"] = 60

    async def story():
        await b.allocate()
        await b.adapter.map_transfer(b.mdl, b.base, A, 100, False)
        async with b.kernel.start_transfer(b.adapter, [(A, 100)], False):
            await b.start_device(1)
        await b.bus.delay(1)
        return await b.adapter.read_dma_counter()

    assert run(story()) == 40 and b.result("ReadDmaCounter") == 40
    b = Bench(master=True)
    assert run(b.adapter.read_dma_counter()) == 0 and b.args("ReadDmaCounter")["adapter"]["master"] and b.bus.ops == []


def test_an_adapter_that_was_put_works_on():
    b = Bench()
    b.adapter.put_dma_adapter()
    assert b.adapter.released and run(b.allocate()) == NTSTATUS.STATUS_SUCCESS
    run(b.adapter.free_adapter_channel())
    b.adapter.put_dma_adapter()
    assert b.names() == ["PutDmaAdapter", "AllocateAdapterChannel", "AdapterControl", "FreeAdapterChannel", "PutDmaAdapter"]


@pytest.mark.parametrize("start, length, expected", [(-3, 10, (A - 3, 10)), (100, 4, (A + 100, 4)), (50, 51, (A + 50, 51))])
def test_a_range_outside_the_mdl_is_mapped_where_memory_goes_on(start, length, expected):
    b = Bench(master=True, scatter_gather=True)
    run(b.allocate(REGISTERS))
    assert run(b.adapter.map_transfer(b.mdl, b.base, A + start, length, True)) == expected
    assert b.args("MapTransfer")["offset"] == start and b.args("MapTransfer")["length"] == length


def test_a_length_of_zero_maps_nothing():
    b = Bench()
    run(b.allocate())
    b.bus.ops.clear()
    assert run(b.adapter.map_transfer(b.mdl, b.base, A, 0, True)) == (A, 0)
    assert b.bus.ops == [] and b.result("MapTransfer") == [A, 0]
    assert run(b.adapter.flush_adapter_buffers(b.mdl, b.base, A, 0, False)) is True
    assert b.bus.writes("dma.ctrl") == ["dma.ctrl"] and b.maintenance() == []
    with pytest.raises(AdapterError, match="a system channel must be programmed by MapTransfer"):
        run(b.adapter.arm())


@pytest.mark.parametrize(
    "current, length, write, text",
    [
        (A, -1, True, "length must be an integer from 0 to 0xffffffff, not -1"),
        (A - (1 << 32), 10, True, "current_va and length must name addresses from 0 to 0xffffffff"),
        (A, 10, "out", "write_to_device must be True or False, not 'out'"),
        ("here", 10, True, "current_va must be an integer, not 'here'"),
        (A, None, True, "length must be an integer, not None"),
    ],
)
def test_arguments_that_mean_nothing(current, length, write, text):
    b = Bench()
    run(b.allocate())
    b.bus.ops.clear()
    with pytest.raises(AdapterError, match=text):
        run(b.adapter.map_transfer(b.mdl, b.base, current, length, write))
    assert b.bus.ops == []


def test_the_log_has_the_arguments_of_a_call_that_fails():
    b = Bench()
    run(b.allocate())
    with pytest.raises(AdapterError):
        run(b.adapter.map_transfer(b.mdl, b.base, A, -1, True))
    assert b.args("MapTransfer")["length"] == -1
    assert b.records("MapTransfer", "end")[0]["error"].startswith("AdapterError: length must be")


def test_foreign_freed_and_missing_map_registers_go_on():
    b = Bench(master=True, scatter_gather=True)
    assert run(b.adapter.map_transfer(b.mdl, None, A, 10, True)) == (A, 10)
    assert b.args("MapTransfer")["registers"] is None
    run(b.allocate(FREE))
    assert run(b.adapter.map_transfer(b.mdl, b.base, A, 10, True)) == (A, 10)
    assert b.args("MapTransfer")["registers"] == b.base.id
    with pytest.raises(AdapterError, match="map_register_base must be a MapRegisters or None, not 7"):
        run(b.adapter.map_transfer(b.mdl, 7, A, 10, True))
    with pytest.raises(MdlError, match="mdl must be a Mdl, not"):
        run(b.adapter.map_transfer(A, b.base, A, 10, True))
    b.kernel.io_free_mdl(b.mdl)
    with pytest.raises(MdlError, match="mdl must be allocated, not freed: MDL"):
        run(b.adapter.flush_adapter_buffers(b.mdl, b.base, A, 10, True))


def test_map_transfer_without_the_channel_programs_it():
    b = Bench()
    run(b.allocate(REGISTERS))  # the channel was given back
    assert run(b.adapter.map_transfer(b.mdl, b.base, A, 10, True)) == (A, 10)
    assert b.bus.regs["ch0.count"] == 10


def test_a_busy_channel_cannot_be_programmed():
    b = Bench()
    b.bus.regs["ch0.status"] = 1
    run(b.allocate())
    b.bus.ops.clear()
    with pytest.raises(DeviceError, match="system channel 0 must be idle to be programmed"):
        run(b.adapter.map_transfer(b.mdl, b.base, A, 10, True))
    assert b.bus.ops == [("r32", "ch0.status")]
    assert "idle" in b.records("MapTransfer", "end")[0]["error"]


@pytest.mark.parametrize("version, demand", [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_demand_mode_from_version_2_on(version, demand):
    b = Bench(version=version, demand_mode=True)
    run(b.allocate())
    run(b.adapter.map_transfer(b.mdl, b.base, A, 10, False))
    assert b.bus.regs["ch0.mode"] >> 1 & 1 == demand


def test_routines_of_later_versions_do_not_exist():
    b = Bench(version=1, master=True, scatter_gather=True)
    with pytest.raises(AdapterError, match="calculate_scatter_gather_list must be called on an adapter of version 2 or later"):
        b.adapter.calculate_scatter_gather_list(b.mdl, A, 10)
    with pytest.raises(AdapterError, match="map_transfer_ex must be called on an adapter of version 3 or later, not 1"):
        b.adapter.map_transfer_ex(b.mdl, None, 0, 0, 10, True)
    assert not hasattr(b.adapter, "map_transfer_ex") and not hasattr(b.adapter, "no_such_routine")


@pytest.mark.parametrize("write", [False, True])
def test_auto_init_reloads_until_the_flush_stops_it(write):
    """Common-buffer system DMA: one MapTransfer, many rounds, one FlushAdapterBuffers at the stop."""
    b = Bench(auto_initialize=True)
    b.bus.device[0:200] = bytes(range(200))

    async def story():
        buffer = await b.adapter.allocate_common_buffer(40, False)
        mdl = b.kernel.io_allocate_mdl(buffer.virtual_address, 40)
        b.kernel.mm_build_mdl_for_non_paged_pool(mdl)
        await buffer.write(0, bytes(range(100, 140)))
        await b.allocate()
        _, length = await b.adapter.map_transfer(mdl, b.base, buffer.virtual_address, 40, write)
        got = []
        async with b.kernel.start_transfer(b.adapter, [(buffer.logical_address, length)], write, buffer.id):
            await b.start_device(2 if write else 1, 40)
        for round_ in (1, 2, 3):
            await b.bus.wait_interrupt(1 << IRQ.SYSTEM_CHANNEL, 100, "terminal count")
            await b.kernel.regs.channel(0).status.clear()
            assert await b.adapter.read_dma_counter() == 40
            got.append(await buffer.read(0, 32))  # whole chunks: the remainder is in the engine
            if round_ < 3:
                await b.kernel.regs.dev.status.clear()
                if write:
                    await b.kernel.hal.drain()  # the device waits for its last bytes
                await b.start_device(2 if write else 1, 40, offset=40 * round_)
        assert b.kernel.regs and b.bus.regs["ch0.status"] & 1, "still armed"
        assert await b.adapter.flush_adapter_buffers(mdl, b.base, buffer.virtual_address, 40, write)
        assert not b.bus.regs["ch0.status"] & 1 and b.bus.regs["ch0.mask"] == 1
        await b.adapter.free_adapter_channel()
        assert b.names().count("FlushAdapterBuffers") == 1
        return got, await buffer.read(0, 40)

    got, last = run(story())
    if write:
        assert bytes(b.bus.device[0:120]) == bytes(range(100, 140)) * 3
    else:
        assert got == [bytes(range(40 * n, 40 * n + 32)) for n in range(3)] and last == bytes(range(80, 120))


def test_auto_init_is_stopped_by_the_free_too_and_a_stuck_device_is_named():
    b = Bench(auto_initialize=True, beliefs={"options": HalOptions(drain_limit=50)})

    async def story():
        await b.allocate()
        await b.adapter.map_transfer(b.mdl, b.base, A, 100, False)
        await b.adapter.arm()
        stuck = b.bus._on_channel
        b.bus._on_channel = lambda n, value: None if value & 2 else stuck(n, value)
        with pytest.raises(BusTimeout, match="gave up after 50 cycles waiting for system channel 0 to stop"):
            await b.adapter.flush_adapter_buffers(b.mdl, b.base, A, 100, False)
        b.bus._on_channel = stuck
        await b.adapter.free_adapter_channel()
        assert not b.bus.regs["ch0.status"] & 1 and b.adapter.held() == []

    run(story())
