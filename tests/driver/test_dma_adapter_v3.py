# SPDX-License-Identifier: BSD-2-Clause
"""DMA adapters, version 3: contexts, synchronous and queued allocation, MapTransferEx and what ends it, cancelling."""

import pytest

from driver.errors import AdapterError
from driver.platform import HalOptions
from driver.wdk import NTSTATUS
from driver.wdk.dma_adapter_v3 import DmaAdapterV3
from driver.wdk.scatter_gather import ScatterGatherElement, list_bytes
from driver.wdk.transfer_context import DMA_SYNCHRONOUS_CALLBACK, DmaAdapterInfo, DmaCompletionStatus, DmaTransferInfo

from .adapter_bench import FREE, KEEP, REGISTERS, A, Bench
from .fake_bus import FakeBus, run

PIECES = [(0x8000_5010, 100), (0x8000_9001, 7), (0x8000_AFF0, 16)]
DATA = bytes((5 + 37 * n) & 255 for n in range(123))
OK, BAD, FULL, SMALL, CANCELLED, UNSUCCESSFUL = (
    NTSTATUS.STATUS_SUCCESS,
    NTSTATUS.STATUS_INVALID_PARAMETER,
    NTSTATUS.STATUS_INSUFFICIENT_RESOURCES,
    NTSTATUS.STATUS_BUFFER_TOO_SMALL,
    NTSTATUS.STATUS_CANCELLED,
    NTSTATUS.STATUS_UNSUCCESSFUL,
)
BUFFER = object()


def channel(*args, **description):
    return Bench(*args, **{"version": 3, **description})


def master(*args, **description):
    return Bench(*args, **{"version": 3, "master": True, "scatter_gather": True, **description})


async def hold(b, count=2):
    """The channel, synchronously; returns context and map registers."""
    status, context = b.adapter.initialize_dma_transfer_context()
    assert status == OK
    status, base = await b.adapter.allocate_adapter_channel_ex(b.device, context, count, DMA_SYNCHRONOUS_CALLBACK)
    assert status == OK
    b.base = base
    return context, base


def test_only_version_3_has_the_routines():
    b = channel()
    assert isinstance(b.adapter, DmaAdapterV3) and b.adapter.log()["version"] == 3
    older = Bench(version=2)
    assert not isinstance(older.adapter, DmaAdapterV3)


def test_information():
    b = channel()
    status, info = b.adapter.get_dma_adapter_info()
    assert status == OK and info == DmaAdapterInfo(True, 1, 32, 0, 1)
    assert b.result("GetDmaAdapterInfo") == {"status": 0, **vars(info)}
    assert b.adapter.get_dma_adapter_info(2) == (NTSTATUS.STATUS_NOT_SUPPORTED, None)
    b = master(dma_address_width=14, maximum_length=4096)
    assert b.adapter.get_dma_adapter_info()[1] == DmaAdapterInfo(False, 2, 14, 0, 1)
    mdl = b.chain(*PIECES)
    status, info = b.adapter.get_dma_transfer_info(mdl, 0, 123, True)
    assert (status, info) == (OK, DmaTransferInfo(3, 3, list_bytes(3)))
    assert b.result("GetDmaTransferInfo") == {"status": 0, "map_registers": 3, "elements": 3, "list_bytes": list_bytes(3)}
    assert b.adapter.get_dma_transfer_info(mdl, 100, 7, False)[1] == DmaTransferInfo(1, 1, list_bytes(1))
    assert b.adapter.get_dma_transfer_info(mdl, 0, 0, False) == (BAD, None)
    assert b.adapter.get_dma_transfer_info(mdl, 0, 1, False, 2) == (NTSTATUS.STATUS_NOT_SUPPORTED, None)


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("how", ["direct", "far", "one element", "always"])
def test_map_transfer_ex_moves_every_byte_without_ke_flush(how, write, coherent):
    description = {"far": {"dma_address_width": 14}, "one element": {"scatter_gather": False}}
    beliefs = {"options": HalOptions(bounce="always")} if how == "always" else {}
    b = master(FakeBus(coherent=coherent), beliefs=beliefs, **description.get(how, {}))
    mdl = b.chain(*PIECES)
    b.bus.device[0:123] = bytes(123) if write else DATA

    async def story():
        position = 0
        for address, size in PIECES:
            await b.bus.write(address, DATA[position : position + size] if write else bytes(size))
            position += size
        await hold(b, 3)
        status, length, elements = await b.adapter.map_transfer_ex(mdl, b.base, 0, 0, 123, write, BUFFER, list_bytes(3))
        assert status == OK and length == 123 and len(elements) == (1 if how == "one element" else 3)
        for line in list(b.bus.dcache):
            b.bus.evict(line)  # nothing dirty is left there
        await b.move([(e.address, e.length) for e in elements], write)
        if not write:
            for address, _ in PIECES:
                b.bus.prefetch(address)
        assert await b.adapter.flush_adapter_buffers_ex(mdl, b.base, 0, 123, write) == OK
        await b.adapter.free_adapter_object(FREE)
        return b"".join([await b.bus.read(address, size) for address, size in PIECES])

    assert run(story()) == DATA and bytes(b.bus.device[0:123]) == DATA
    assert b.adapter.held() == [] and b.kernel.pool.blocks == ()


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("write", [False, True])
def test_the_cache_work_and_the_log(write, clean):
    b = channel(beliefs={"options": HalOptions(clean_before_read=clean)})

    async def story():
        context, base = await hold(b)
        await b.adapter.map_transfer_ex(b.mdl, base, 10, 0x40, 60, write)
        await b.move([(A + 10, 60)], write)
        await b.adapter.flush_adapter_buffers_ex(b.mdl, base, 10, 60, write)
        await b.adapter.free_adapter_object(FREE)
        return context, base

    context, base = run(story())
    ranges = [[A + 10, 60]]
    before = [("clean", "d", ranges)] if write else [("clean+invalidate", "both", ranges)] if clean else []
    assert b.maintenance() == before + ([] if write else [("invalidate", "both", ranges)])
    assert b.names() == [
        "InitializeDmaTransferContext",
        "AllocateAdapterChannelEx",
        "MapTransferEx",
        "StartTransfer",
        "FlushAdapterBuffersEx",
        "FreeAdapterObject",
    ]
    common = {"adapter": b.adapter.log(), "context": context.id}
    assert b.result("InitializeDmaTransferContext") == {"context": context.id}
    assert b.args("AllocateAdapterChannelEx") == {**common, "map_registers": 2, "synchronous": True}
    transfer = {**common, "registers": base.id, "mdl": b.mdl.log(), "offset": 10, "length": 60, "write_to_device": write}
    assert b.args("MapTransferEx") == {**transfer, "device_offset": 0x40, "completion": False}
    assert b.result("MapTransferEx") == {"status": 0, "length": 60, "elements": ranges}
    assert b.args("FlushAdapterBuffersEx") == transfer and b.result("FlushAdapterBuffersEx") == 0
    assert b.args("FreeAdapterObject") == {"adapter": b.adapter.log(), "action": 2}


@pytest.mark.parametrize("write", [False, True])
def test_routines_of_older_versions_do_the_cache_work_too(write):
    b = channel()
    lists = []

    async def story():
        await b.allocate()
        await b.adapter.map_transfer(b.mdl, b.base, A, 100, write)
        await b.adapter.flush_adapter_buffers(b.mdl, b.base, A, 100, write)

    run(story())
    expected = (
        [("clean", "d", [[A, 100]])] if write else [("clean+invalidate", "both", [[A, 100]]), ("invalidate", "both", [[A, 100]])]
    )
    assert b.maintenance() == expected
    b = master()
    run(b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, lambda d, i, sg, c: lists.append(sg), None, write))
    run(b.adapter.put_scatter_gather_list(lists[0], write))
    assert b.maintenance() == expected


def test_what_shortens_the_length():
    b = master()
    mdl = b.chain(*PIECES)
    big = b.chain((0x8000_0FF0, 0x3000))

    async def story():
        await hold(b, 1)
        assert (await b.adapter.map_transfer_ex(mdl, b.base, 0, 0, 123, True, BUFFER, 1000))[:2] == (OK, 100)
        assert (await b.adapter.map_transfer_ex(big, b.base, 0, 0, 0x3000, True, BUFFER, 1000))[:2] == (OK, 16)
        await b.adapter.free_adapter_object(FREE)
        await hold(b, 2)
        map_ = b.adapter.map_transfer_ex
        assert (await map_(mdl, b.base, 0, 0, 123, True, BUFFER, list_bytes(2)))[:2] == (OK, 107)
        assert (await map_(mdl, b.base, 100, 0, 23, True, BUFFER, list_bytes(1) + 23))[:2] == (OK, 7)
        status, length, elements = await map_(big, b.base, 0, 0, 0x3000, True, BUFFER, 1000)
        assert status == OK and length == 4112 and elements == (ScatterGatherElement(0x8000_0FF0, 4112),)

    run(story())
    lengths = [r["args"]["what"] for r in b.records("ResultChecked")]
    assert lengths.count("length") == 5
    b = channel()
    mdl = b.chain(*PIECES)
    run(hold(b))
    assert run(b.adapter.map_transfer_ex(mdl, b.base, 0, 0, 123, True))[:2] == (OK, 100)
    assert b.bus.regs["ch0.count"] == 100
    assert run(b.adapter.map_transfer_ex(mdl, b.base, 100, 0, 23, True, BUFFER, 1000))[:2] == (OK, 7)


def test_a_start_with_the_elements_looks_at_the_length():
    for looks in (False, True):
        b = channel()

        async def story(b=b, looks=looks):
            await hold(b)
            _, _, elements = await b.adapter.map_transfer_ex(b.mdl, b.base, 0, 0, 100, False)
            ranges = [(e.address, e.length) for e in elements] if looks else [(A, 100)]
            async with b.kernel.start_transfer(b.adapter, ranges, False):
                pass

        run(story())
        call = b.records("MapTransferEx")[0]["call"]
        looked = [r["args"] for r in b.records("ResultChecked") if r["args"]["what"] == "length"]
        assert looked == ([{"call": call, "what": "length"}] if looks else [])


def test_statuses_of_map_transfer_ex():
    b = master()
    run(hold(b))
    for arguments, status in (
        ((b.mdl, b.base, 0, 0, 0, True, BUFFER, 1000), BAD),
        ((b.mdl, b.base, 0, 0, 100, True), BAD),
        ((b.mdl, b.base, 0, 0, 100, True, BUFFER, list_bytes(1) - 1), BAD),
        ((b.mdl, b.base, 0, 0, 100, True, BUFFER, 1000, print), BAD),
    ):
        assert run(b.adapter.map_transfer_ex(*arguments)) == (status, 0, ())
        assert b.result("MapTransferEx") == {"status": status, "length": 0, "elements": []}
    b = master(dma_address_width=12)
    b.kernel.ex_allocate_pool(4096)
    run(hold(b))
    assert run(b.adapter.map_transfer_ex(b.mdl, b.base, 0, 0, 100, True, BUFFER, 1000))[0] == FULL
    b = channel()
    run(hold(b))
    b.bus.regs["ch0.status"] = 1
    assert run(b.adapter.map_transfer_ex(b.mdl, b.base, 0, 0, 100, True))[0] == NTSTATUS.STATUS_DEVICE_BUSY


@pytest.mark.parametrize("fault", ["bus_error", "timeout", "hang"])
def test_a_flush_that_failed_is_a_status(fault):
    b = master()
    b.bus.flush_faults = [fault]
    assert run(b.adapter.flush_adapter_buffers_ex(b.mdl, None, 0, 100, False)) == NTSTATUS.STATUS_DEVICE_DATA_ERROR
    assert run(b.adapter.flush_adapter_buffers_ex(b.mdl, None, 0, 100, False)) == OK
    assert [r["args"]["what"] for r in b.records("ResultChecked")] == ["status", "status"]


@pytest.mark.parametrize("end", ["complete", "short", "error", "slow"])
def test_the_completion_routine_is_called_at_dispatch_level(end):
    b, told = channel(), []
    b.bus.device[0:100] = DATA[:100]

    async def routine(adapter, device_object, context, status):
        assert adapter is b.adapter and device_object is b.device and context == "context"
        told.append((status, await adapter.read_dma_counter()))

    async def story():
        context, base = await hold(b)
        await b.adapter.map_transfer_ex(b.mdl, base, 0, 0, 100, False, None, 0, routine, "context")
        b.bus.regs["dev.short"] = 60 if end == "short" else 0
        b.bus.dma_hangs = end in ("slow", "error")
        async with b.kernel.start_transfer(b.adapter, [(A, 100)], False):
            await b.start_device(1)
        assert told == []
        if end in ("slow", "error"):
            await b.bus.delay(3000)
            assert told == []
            b.bus.dma_hangs = False
        if end == "error":
            b.bus._set("ch0.status", busy=0, error=1)
        await b.bus.delay(2000)
        assert len(told) == 1
        await b.adapter.flush_adapter_buffers_ex(b.mdl, base, 0, 100, False)
        await b.adapter.free_adapter_object(FREE)
        return context

    context = run(story())
    status = DmaCompletionStatus.DMA_ERROR if end == "error" else DmaCompletionStatus.DMA_COMPLETE
    assert told == [(status, {"short": 40, "error": 100}.get(end, 0))]
    (record,) = b.records("DmaCompletion")
    assert record["args"] == {"adapter": b.adapter.log(), "context": context.id, "status": int(status)}
    assert (record["role"], record["irql"], record["parent"]) == ("completion", 2, None) and record["thread"] > 0
    assert b.records("ReadDmaCounter")[0]["parent"] == record["call"] and b.args("MapTransferEx")["completion"] is True


@pytest.mark.parametrize("routine", [False, True])
def test_a_cancelled_transfer_still_owes_its_flush(routine):
    b, told = channel(), []
    b.bus.dma_hangs = True

    async def story():
        context, base = await hold(b)
        assert await b.adapter.cancel_mapped_transfer(context) == UNSUCCESSFUL  # nothing is mapped yet
        completion = (lambda *arguments: told.append(arguments[3])) if routine else None
        await b.adapter.map_transfer_ex(b.mdl, base, 0, 0, 100, False, None, 0, completion)
        async with b.kernel.start_transfer(b.adapter, [(A, 100)], False):
            await b.start_device(1)
        assert await b.adapter.cancel_mapped_transfer(context) == OK
        assert not b.bus.regs["ch0.status"] & 1 and b.bus.regs["ch0.mask"] == 1
        await b.bus.delay(2000)
        assert await b.adapter.cancel_mapped_transfer(context) == UNSUCCESSFUL  # it has ended
        assert (await b.adapter.map_transfer_ex(b.mdl, base, 0, 0, 100, False))[0] == CANCELLED
        assert await b.adapter.flush_adapter_buffers_ex(b.mdl, base, 0, 100, False) == OK
        await b.adapter.free_adapter_object(FREE)
        again = await b.adapter.allocate_adapter_channel_ex(b.device, context, 1, DMA_SYNCHRONOUS_CALLBACK)
        assert again == (CANCELLED, None)
        return context

    context = run(story())
    assert told == [DmaCompletionStatus.DMA_CANCELLED] * routine
    assert b.args("CancelMappedTransfer") == {"adapter": b.adapter.log(), "context": context.id}
    assert run(master().adapter.cancel_mapped_transfer(context)) == BAD


def test_synchronous_allocation_with_a_routine_and_the_actions_of_free():
    b = channel()
    seen = []

    async def story():
        _, context = b.adapter.initialize_dma_transfer_context()
        sync = DMA_SYNCHRONOUS_CALLBACK

        def control(device_object, irp, base, execution_context):
            seen.append((base, execution_context, base.context is context))
            return KEEP

        assert await b.adapter.allocate_adapter_channel_ex(b.device, context, 2, sync, control, "x") == (OK, None)
        assert seen[0][1:] == ("x", True) and b.records("AdapterControl")[0]["role"] == "adapter-control"
        _, second = b.adapter.initialize_dma_transfer_context()
        assert await b.adapter.allocate_adapter_channel_ex(b.device, second, 1, sync) == (FULL, None)  # busy
        await b.adapter.free_adapter_object(KEEP)
        assert b.adapter.held() == ["2 map registers"] and b.kernel.channel_owners[0] is b.adapter
        await b.adapter.free_adapter_object(REGISTERS)
        assert b.adapter.held() == ["2 map registers"] and 0 not in b.kernel.channel_owners
        b.adapter.free_map_registers(seen[0][0], 2)
        status, base = await b.adapter.allocate_adapter_channel_ex(b.device, second, 1, sync)
        assert status == OK and base.count == 1
        await b.adapter.free_adapter_object(FREE)
        await b.adapter.free_adapter_object(FREE)  # once more: nothing
        assert b.adapter.held() == []

    run(story())
    with pytest.raises(AdapterError, match="allocation_action must be an IoAllocationAction, not 9"):
        run(b.adapter.free_adapter_object(9))


def test_statuses_of_allocate_adapter_channel_ex():
    b = channel(maximum_length=4096)
    _, context = b.adapter.initialize_dma_transfer_context()
    for count, flags, routine, status in (
        (1, 0, None, BAD),
        (1, 2, print, BAD),
        (3, DMA_SYNCHRONOUS_CALLBACK, None, FULL),
        (3, 0, print, FULL),
    ):
        assert run(b.adapter.allocate_adapter_channel_ex(b.device, context, count, flags, routine)) == (status, None)
        assert b.result("AllocateAdapterChannelEx") == status
    for arguments, text in (
        ((b.device, None, 1, 1), "dma_transfer_context must be a DmaTransferContext, not None"),
        ((b.device, context, "two", 1), "number_of_map_registers must be an integer, not 'two'"),
        ((b.device, context, 1, None), "flags must be an integer, not None"),
        ((b.device, context, 1, 1, 5), "execution_routine must be callable or None, not 5"),
    ):
        with pytest.raises(AdapterError, match=text):
            run(b.adapter.allocate_adapter_channel_ex(*arguments))


def test_a_waiting_allocation_can_be_cancelled():
    b, ran = channel(), []

    async def story():
        await hold(b)
        _, waiting = b.adapter.initialize_dma_transfer_context()
        _, early = b.adapter.initialize_dma_transfer_context()
        routine = ran.append
        status, _ = await b.adapter.allocate_adapter_channel_ex(b.device, waiting, 1, 0, lambda *_: routine("wrong") or FREE)
        assert status == OK
        assert b.adapter.cancel_adapter_channel(b.device, waiting) is True
        assert b.adapter.cancel_adapter_channel(b.device, early) is True  # before it was asked for
        status, _ = await b.adapter.allocate_adapter_channel_ex(b.device, early, 1, 0, lambda *_: routine("wrong") or FREE)
        assert status == CANCELLED
        _, third = b.adapter.initialize_dma_transfer_context()
        await b.adapter.allocate_adapter_channel_ex(b.device, third, 1, 0, lambda *_: routine("right") or FREE)
        await b.adapter.free_adapter_object(FREE)
        assert b.adapter.cancel_adapter_channel(b.device, third) is False

    run(story())
    assert ran == ["right"] and b.adapter.held() == []
    assert [r["result"] for r in b.records("CancelAdapterChannel", "end")] == [True, True, False]


def test_configure_adapter_channel():
    b = channel()
    assert run(b.adapter.configure_adapter_channel(1, False)) == OK
    run(hold(b))
    run(b.adapter.map_transfer_ex(b.mdl, b.base, 0, 0, 100, False))
    assert b.bus.regs["ch0.mode"] == 0b000
    assert run(b.adapter.configure_adapter_channel(1, True)) == OK
    run(b.adapter.map_transfer_ex(b.mdl, b.base, 0, 0, 100, False))
    assert b.bus.regs["ch0.mode"] == 0b010
    assert run(b.adapter.configure_adapter_channel(7, None)) == NTSTATUS.STATUS_NOT_IMPLEMENTED
    assert run(master().adapter.configure_adapter_channel(1, True)) == BAD
    with pytest.raises(AdapterError, match="context must be True or False, not 3"):
        run(b.adapter.configure_adapter_channel(1, 3))


@pytest.mark.parametrize("build", [False, True])
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("how", ["routine", "synchronous"])
def test_lists_ex(how, write, build):
    b = master(dma_address_width=15)
    mdl = b.chain(*PIECES)
    b.bus.device[0:123] = bytes(123) if write else DATA
    name = "BuildScatterGatherListEx" if build else "GetScatterGatherListEx"

    async def story():
        position = 0
        for address, size in PIECES:
            await b.bus.write(address, DATA[position : position + size] if write else bytes(size))
            position += size
        _, context = b.adapter.initialize_dma_transfer_context()
        seen = []

        async def list_control(device_object, irp, sg, routine_context):
            assert routine_context == "context"
            seen.append(sg)
            await b.move([(e.address, e.length) for e in sg], write)

        routine, flags = (list_control, 0) if how == "routine" else (None, DMA_SYNCHRONOUS_CALLBACK)
        arguments = (b.device, context, mdl, 0, 123, flags, routine, "context", write)
        if build:
            small = await b.adapter.build_scatter_gather_list_ex(*arguments, BUFFER, list_bytes(3) - 1)
            assert small == (SMALL, None)
            status, sg = await b.adapter.build_scatter_gather_list_ex(*arguments, BUFFER, list_bytes(3))
        else:
            status, sg = await b.adapter.get_scatter_gather_list_ex(*arguments)
        assert status == OK and sg.number_of_elements == 3
        if how == "synchronous":
            assert b.adapter.cancel_adapter_channel(b.device, context) is False
            await b.move([(e.address, e.length) for e in sg], write)
            await b.adapter.free_adapter_object(REGISTERS)
        else:
            assert seen == [sg]
        await b.adapter.put_scatter_gather_list(sg, write)
        assert sg.flushed
        return context, sg, b"".join([await b.bus.read(address, size) for address, size in PIECES])

    context, sg, data = run(story())
    assert data == DATA and bytes(b.bus.device[0:123]) == DATA and b.adapter.held() == []
    expected = {"context": context.id, "mdl": mdl.log(), "offset": 0, "length": 123, "write_to_device": write}
    more = {"buffer_bytes": list_bytes(3)} if build else {}
    assert b.args(name) == {"adapter": b.adapter.log(), **expected, **more}
    assert b.result(name) == {"status": 0, "list": sg.id, "elements": sg.log()}
    direct = [[PIECES[0][0], PIECES[0][1]]]
    first = ("clean", "d", direct) if write else ("clean+invalidate", "both", direct)
    assert first in b.maintenance() and (("invalidate", "both", direct) in b.maintenance()) != write


def test_a_waiting_list_can_be_cancelled_and_gives_its_pages_back():
    b = master(dma_address_width=12)

    async def story():
        await hold(b)
        _, context = b.adapter.initialize_dma_transfer_context()
        arguments = (b.device, context, b.mdl, 0, 100)
        status, _ = await b.adapter.get_scatter_gather_list_ex(*arguments, 0, lambda *_: 1 / 0, None, True)
        assert status == OK and "BounceMap" in b.names()
        assert (await b.adapter.get_scatter_gather_list_ex(*arguments, DMA_SYNCHRONOUS_CALLBACK, None, None, True))[0] == FULL
        assert b.adapter.cancel_adapter_channel(b.device, context) is True
        await b.adapter.free_adapter_object(FREE)

    run(story())
    assert b.adapter.held() == [] and b.kernel.pool.blocks == ()


def test_lists_ex_are_not_for_a_system_channel():
    b = channel()
    _, context = b.adapter.initialize_dma_transfer_context()
    assert run(b.adapter.get_scatter_gather_list_ex(b.device, context, b.mdl, 0, 100, 1, None, None, True)) == (BAD, None)
    assert b.result("GetScatterGatherListEx") == {"status": BAD, "list": None, "elements": []} and b.adapter.held() == []


def test_allocate_common_buffer_ex_keeps_below_its_bound():
    b = master()
    assert not run(b.adapter.allocate_common_buffer_ex(0x8000_0FFE, 1, False))
    assert b.result("AllocateCommonBufferEx") is None
    buffer = run(b.adapter.allocate_common_buffer_ex(0x8000_0FFF, 1, False))
    assert buffer and buffer.virtual_address == 0x8000_0000
    assert b.args("AllocateCommonBufferEx") == {
        "adapter": b.adapter.log(),
        "length": 1,
        "cache_enabled": False,
        "maximum_address": 0x8000_0FFF,
    }
    assert run(b.adapter.allocate_common_buffer_ex(None, 4096, True)).virtual_address == 0x8000_1000
    with pytest.raises(AdapterError, match="preferred_node must be an integer from 0 to 0, not 1"):
        run(b.adapter.allocate_common_buffer_ex(None, 1, True, 1))


def test_a_device_stuck_in_a_request_cannot_be_cancelled():
    b = channel(beliefs={"options": HalOptions(drain_limit=50)})
    b.bus.dma_hangs = True

    async def story():
        context, base = await hold(b)
        await b.adapter.map_transfer_ex(b.mdl, base, 0, 0, 100, False)
        await b.adapter.arm()
        works = b.bus._on_channel
        b.bus._on_channel = lambda n, value: None if value & 2 else works(n, value)
        assert await b.adapter.cancel_mapped_transfer(context) == NTSTATUS.STATUS_IO_TIMEOUT
        b.bus._on_channel = works
        assert await b.adapter.cancel_mapped_transfer(context) == OK

    run(story())
