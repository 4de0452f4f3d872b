# SPDX-License-Identifier: BSD-2-Clause
"""DMA adapters: the DDI's order, return actions, map registers, lists, common buffers, the flush BOOLEAN."""

import pytest

from driver.bus import Attribute
from driver.errors import AdapterError, DeviceError, MdlError, PoolError
from driver.platform import HalOptions
from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, IoAllocationAction, Kernel, MajorFunction
from rtl.pio.table import IRQ

from .fake_bus import FakeBus, run

A = 0x8000_2003
KEEP, FREE, REGISTERS = IoAllocationAction


class Bench:
    """A kernel, an adapter and an MDL of 100 bytes."""

    def __init__(self, bus=None, *, beliefs=None, **description):
        self.bus = FakeBus() if bus is None else bus
        self.kernel = run(Kernel.start(self.bus, **(beliefs or {})))
        self.device = DeviceObject()
        self.adapter, self.registers = self.kernel.io_get_dma_adapter(self.device, DeviceDescription(**description))
        self.mdl = self.kernel.io_allocate_mdl(A, 100)
        self.kernel.mm_build_mdl_for_non_paged_pool(self.mdl)
        self.base = None
        self.bus.ops.clear()
        self.kernel.trace.records.clear()

    async def allocate(self, action=KEEP):
        def control(device_object, irp, base, context):
            assert device_object is self.device
            self.base = base
            return action

        return await self.adapter.allocate_adapter_channel(self.device, 2, control)

    async def start_device(self, op, length=100, path=0):
        dev = self.kernel.regs.dev
        await dev.path.write(channel=path)
        await dev.length.write(length)
        await dev.cmd.write(op=op)

    def names(self, phase="begin"):
        return [r["name"] for r in self.kernel.trace.records if r["phase"] == phase]

    def result(self, name):
        return [r["result"] for r in self.kernel.trace.records if r["phase"] == "end" and r["name"] == name][-1]


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
        "mdl": {"id": b.mdl.id, "ranges": [[A, 100]]},
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
    assert b.bus.writes() == ["ch0.ctrl", "dev.path", "dev.length", "dev.cmd"]
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


def test_map_transfer_shortens_to_piece_maximum_and_map_registers():
    b = Bench(master=True, maximum_length=8192)
    irp = b.kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, b.mdl)
    second = b.kernel.io_allocate_mdl(0x8000_4004, 12000, True, False, irp)
    b.kernel.mm_build_mdl_for_non_paged_pool(second)

    async def story():
        await b.allocate(REGISTERS)
        va = b.mdl.virtual_address
        first = await b.adapter.map_transfer(b.mdl, b.base, va, 12100, False)
        rest = await b.adapter.map_transfer(b.mdl, b.base, va + 100, 12000, False)
        return first, rest

    assert run(story()) == ((A, 100), (0x8000_4004, 8192 - 4))
    assert not b.bus.writes("ch0")


@pytest.mark.parametrize("action", list(IoAllocationAction))
def test_adapter_control_return_actions(action):
    b = Bench()
    run(b.allocate(action))
    owned = 0 in b.kernel.channel_owners
    assert owned == (action == KEEP)
    assert b.base.freed == (action == FREE)
    assert b.adapter.held() == ([] if action == FREE else ["2 map registers"])
    if action == KEEP:
        run(b.adapter.free_adapter_channel())
        assert b.base.freed and 0 not in b.kernel.channel_owners and b.bus.regs["ch0.mask"] == 1
    if action == REGISTERS:
        with pytest.raises(AdapterError, match=r"number_of_map_registers must be the number allocated \(2\), not 1"):
            b.adapter.free_map_registers(b.base, 1)
        b.adapter.free_map_registers(b.base, 2)
    assert b.adapter.held() == []
    with pytest.raises(AdapterError, match="FreeAdapterChannel must follow AllocateAdapterChannel"):
        run(b.adapter.free_adapter_channel())


def test_adapter_control_may_be_a_coroutine_and_its_return_is_checked():
    b = Bench()

    async def control(device_object, irp, base, context):
        context.append(base.count)
        return 7

    seen = []
    with pytest.raises(AdapterError, match="AdapterControl must return an IoAllocationAction, not 7"):
        run(b.adapter.allocate_adapter_channel(b.device, 3, control, seen))
    assert seen == [3] and b.adapter.held() == []


def test_too_many_map_registers_and_a_second_channel():
    b = Bench(maximum_length=4096)
    assert run(b.adapter.allocate_adapter_channel(b.device, 3, lambda *_: KEEP)) == NTSTATUS.STATUS_INSUFFICIENT_RESOURCES
    run(b.allocate())
    with pytest.raises(AdapterError, match="AllocateAdapterChannel must wait for the channel this adapter holds"):
        run(b.allocate())


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


def test_scatter_gather_list_of_a_chain():
    b = Bench(master=True, scatter_gather=True)
    irp = b.kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, b.mdl)
    second = b.kernel.io_allocate_mdl(0x8000_5000, 50, True, False, irp)
    b.kernel.mm_build_mdl_for_non_paged_pool(second)
    got = []

    def control(device_object, irp, scatter_gather, context):
        got.append((scatter_gather, context))

    async def story():
        status = await b.adapter.get_scatter_gather_list(b.device, b.mdl, A + 90, 30, control, "context", False)
        assert status == NTSTATUS.STATUS_SUCCESS
        scatter_gather, context = got[0]
        assert context == "context" and scatter_gather.number_of_elements == 2 and scatter_gather.flushed is None
        assert [(e.address, e.length) for e in scatter_gather.elements] == [(A + 90, 10), (0x8000_5000, 20)]
        assert b.bus.ops == []
        assert await b.adapter.put_scatter_gather_list(scatter_gather, False) is None
        assert scatter_gather.flushed is True
        with pytest.raises(AdapterError, match="scatter_gather must be a list this adapter holds"):
            await b.adapter.put_scatter_gather_list(scatter_gather, False)
        return scatter_gather

    scatter_gather = run(story())
    assert b.result("GetScatterGatherList") == {"list": scatter_gather.id, "elements": [[A + 90, 10], [0x8000_5000, 20]]}
    puts = [r for r in b.kernel.trace.records if r["name"] == "PutScatterGatherList"]
    assert puts[0]["args"]["list"] == scatter_gather.id and puts[1]["name"] == "PutScatterGatherList"
    assert [op[2] for op in b.bus.ops if op[:2] == ("w32", "maint.start")] == [A + 90, 0x8000_5000]
    flushes = [r for r in b.kernel.trace.records if r["phase"] == "end" and r["name"] == "PutScatterGatherList"]
    assert [r["result"] for r in flushes] == [True, None]


def test_list_routines_refuse_a_system_channel_and_too_long_buffers():
    b = Bench()
    with pytest.raises(AdapterError, match="GetScatterGatherList must be called for a bus master"):
        run(b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, lambda *_: None, None, False))
    b = Bench(master=True, maximum_length=4096)
    big = b.kernel.io_allocate_mdl(0x8000_0000, 9000)
    b.kernel.mm_build_mdl_for_non_paged_pool(big)
    status = run(b.adapter.get_scatter_gather_list(b.device, big, 0x8000_0000, 9000, lambda *_: 1 / 0, None, False))
    assert status == NTSTATUS.STATUS_INSUFFICIENT_RESOURCES


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
        with pytest.raises(AdapterError, match="length must be an integer from 1 to 1, not 2"):
            await buffer.read(99, 2)
        with pytest.raises(AdapterError, match=r"must be those of the allocation \(100, .*\), not \(99,"):
            await b.adapter.free_common_buffer(99, logical, va, cached)
        await b.adapter.free_common_buffer(100, logical, va, cached)
        with pytest.raises(AdapterError, match="virtual_address must be a common buffer this adapter holds, not 0x80000000"):
            await b.adapter.free_common_buffer(100, logical, va, cached)
        with pytest.raises(AdapterError, match="must be allocated, not freed"):
            await buffer.read(0, 1)
        return buffer

    buffer = run(story())
    assert b.result("AllocateCommonBuffer") == {"buffer": buffer.id, "address": 0x8000_0000, "length": 100}
    freed = [r for r in b.kernel.trace.records if r["phase"] == "begin" and r["name"] == "FreeCommonBuffer"][1]["args"]
    assert freed == {
        "adapter": b.adapter.log(),
        "buffer": buffer.id,
        "address": 0x8000_0000,
        "length": 100,
        "cache_enabled": cached,
    }


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


def test_common_buffer_larger_than_memory():
    b = Bench(master=True)
    with pytest.raises(AdapterError, match="length must be an integer from 1 to 0x10000, not 0x20000"):
        run(b.adapter.allocate_common_buffer(0x20000, True))
    run(b.adapter.allocate_common_buffer(0x10000, True))
    with pytest.raises(PoolError, match=r"length must fit a free gap .* \(for the common buffer\)"):
        run(b.adapter.allocate_common_buffer(1, True))


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
    with pytest.raises(AdapterError, match="ReadDmaCounter must be called for a system channel"):
        run(Bench(master=True).adapter.read_dma_counter())


def test_no_use_after_put():
    b = Bench()
    b.adapter.put_dma_adapter()
    with pytest.raises(AdapterError, match="adapter must not be used after PutDmaAdapter"):
        run(b.allocate())
    with pytest.raises(AdapterError, match="adapter must not be used after PutDmaAdapter"):
        b.adapter.put_dma_adapter()


@pytest.mark.parametrize(
    "current, length, write, error, text",
    [
        (A - 1, 10, True, AdapterError, "current_va must be an integer from 0x80002003 to 0x80002066, not 0x80002002"),
        (A + 100, 1, True, AdapterError, "current_va must be an integer"),
        (A + 50, 51, True, AdapterError, "length must be an integer from 1 to 50, not 51"),
        (A, 0, True, AdapterError, "length must be an integer from 1 to 100, not 0"),
        (A, 10, "out", AdapterError, "write_to_device must be True or False, not 'out'"),
    ],
)
def test_arguments_outside_the_mdl(current, length, write, error, text):
    b = Bench()
    run(b.allocate())
    b.bus.ops.clear()
    for call in (b.adapter.map_transfer, b.adapter.flush_adapter_buffers):
        with pytest.raises(error, match=text):
            run(call(b.mdl, b.base, current, length, write))
    assert b.bus.ops == []


def test_map_registers_must_be_ones_own():
    b = Bench()
    with pytest.raises(AdapterError, match="map_register_base must be a MapRegisters, not None"):
        run(b.adapter.map_transfer(b.mdl, None, A, 10, True))
    run(b.allocate(FREE))
    with pytest.raises(AdapterError, match="map_register_base must be map registers that this adapter holds"):
        run(b.adapter.map_transfer(b.mdl, b.base, A, 10, True))
    run(b.allocate(REGISTERS))
    with pytest.raises(AdapterError, match="MapTransfer must follow AllocateAdapterChannel"):
        run(b.adapter.map_transfer(b.mdl, b.base, A, 10, True))
    with pytest.raises(MdlError, match="mdl must be a Mdl, not"):
        run(b.adapter.map_transfer(A, b.base, A, 10, True))


def test_a_busy_channel_cannot_be_programmed():
    b = Bench()
    b.bus.regs["ch0.status"] = 1
    run(b.allocate())
    b.bus.ops.clear()
    with pytest.raises(DeviceError, match="system channel 0 must be idle to be programmed"):
        run(b.adapter.map_transfer(b.mdl, b.base, A, 10, True))
    assert b.bus.ops == [("r32", "ch0.status")]
