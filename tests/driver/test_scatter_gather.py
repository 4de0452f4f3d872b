# SPDX-License-Identifier: BSD-2-Clause
"""Scatter/gather lists of versions 1 and 2: elements, sizes, statuses, the flush inside PutScatterGatherList."""

import pytest

from driver.errors import AdapterError
from driver.platform import HalOptions
from driver.wdk import NTSTATUS, ScatterGatherElement
from driver.wdk.scatter_gather import list_bytes

from .adapter_bench import FREE, A, Bench
from .fake_bus import FakeBus, run

PIECES = [(0x8000_5010, 100), (0x8000_9001, 7), (0x8000_AFF0, 16)]  # above the pages that the pool hands out first
DATA = bytes((5 + 37 * n) & 255 for n in range(123))
OK, BAD, FULL, SMALL = (
    NTSTATUS.STATUS_SUCCESS,
    NTSTATUS.STATUS_INVALID_PARAMETER,
    NTSTATUS.STATUS_INSUFFICIENT_RESOURCES,
    NTSTATUS.STATUS_BUFFER_TOO_SMALL,
)


def master(*args, **description):
    b = Bench(*args, **{"master": True, "scatter_gather": True, **description})
    b.lists = []
    return b


def keep(b):
    async def list_control(device_object, irp, scatter_gather, context):
        assert device_object is b.device and irp is b.device.current_irp
        b.lists.append((scatter_gather, context))

    return list_control


def test_one_element_per_piece_of_a_chain():
    b = master()
    mdl = b.chain((A, 100), (0x8000_5000, 50))

    async def story():
        status = await b.adapter.get_scatter_gather_list(b.device, mdl, A + 90, 30, keep(b), "context", False)
        assert status == OK
        (sg, context) = b.lists[0]
        assert context == "context" and sg.number_of_elements == len(sg) == 2 and sg.flushed is None
        assert list(sg) == [ScatterGatherElement(A + 90, 10), ScatterGatherElement(0x8000_5000, 20)]
        assert b.bus.ops == [] and b.adapter.held() == [f"scatter/gather list {sg.id}"]
        assert await b.adapter.put_scatter_gather_list(sg, False) is None
        assert sg.flushed is True and b.adapter.held() == []
        ops = len(b.bus.ops)
        await b.adapter.put_scatter_gather_list(sg, False)  # once more: logged, and nothing else
        assert len(b.bus.ops) == ops
        return sg

    sg = run(story())
    assert b.names() == ["GetScatterGatherList", "ListControl", "PutScatterGatherList", "PutScatterGatherList"]
    assert b.result("GetScatterGatherList") == {"list": sg.id, "elements": [[A + 90, 10], [0x8000_5000, 20]]}
    (control,) = b.records("ListControl")
    assert control["args"] == {"adapter": b.adapter.log(), "list": sg.id}
    assert (control["role"], control["irql"]) == ("list-control", 2)
    assert control["parent"] == b.records("GetScatterGatherList")[0]["call"]
    assert [r["result"] for r in b.records("PutScatterGatherList", "end")] == [True, None]
    assert b.args("PutScatterGatherList") == {"adapter": b.adapter.log(), "list": sg.id, "write_to_device": False}
    assert b.maintenance() == [("invalidate", "both", [[A + 90, 10], [0x8000_5000, 20]])]
    (looked,) = b.records("ResultChecked")
    assert looked["args"] == {"call": b.records("GetScatterGatherList")[0]["call"], "what": "status"}


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("how", ["direct", "far", "one element", "always", "some far"])
def test_every_byte_of_a_list_arrives(how, write, coherent):
    description = {
        "far": {"dma_address_width": 14},
        "one element": {"scatter_gather": False},
        "some far": {"dma_address_width": 15},
    }
    beliefs = {"options": HalOptions(bounce="always")} if how == "always" else {}
    b = master(FakeBus(coherent=coherent), beliefs=beliefs, **description.get(how, {}))
    mdl = b.chain(*PIECES)
    b.bus.device[0:123] = bytes(123) if write else DATA

    async def story():
        position = 0
        for address, size in PIECES:
            await b.bus.write(address, DATA[position : position + size] if write else bytes(size))
            position += size
        part = mdl
        while part is not None:
            await b.kernel.ke_flush_io_buffers(part, not write, True)
            part = part.next

        async def list_control(device_object, irp, sg, context):
            b.lists.append(sg)
            await b.move([(e.address, e.length) for e in sg], write)

        assert await b.adapter.get_scatter_gather_list(b.device, mdl, PIECES[0][0], 123, list_control, None, write) == OK
        await b.adapter.put_scatter_gather_list(b.lists[0], write)
        return b"".join([await b.bus.read(address, size) for address, size in PIECES])

    assert run(story()) == DATA and bytes(b.bus.device[0:123]) == DATA and b.lists[0].flushed
    addresses = [e.address for e in b.lists[0]]
    direct = [address for address, _ in PIECES]
    assert len(addresses) == (1 if how == "one element" else 3)
    bounced = {"direct": 0, "far": 3, "one element": 1, "always": 3, "some far": 2}[how]
    assert len(b.records("BounceMap")) == len(b.records("BounceUnmap")) == bounced
    assert sum(address in direct for address in addresses) == len(addresses) - bounced
    assert [block.what for block in b.kernel.pool.blocks] == []


@pytest.mark.parametrize("length, status", [(0, BAD), (100, OK), (5000, FULL)])
def test_statuses(length, status):
    b = master(maximum_length=100)
    mdl = b.chain((0x8000_0FF0, 0x2000))
    assert run(b.adapter.get_scatter_gather_list(b.device, mdl, 0x8000_0FF0, length, keep(b), None, False)) == status
    assert len(b.lists) == (status == OK) and (b.result("GetScatterGatherList") is None) == (status != OK)


def test_a_system_channel_takes_no_list():
    b = Bench()
    assert run(b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, lambda *_: 1 / 0, None, False)) == BAD
    status = run(b.adapter.build_scatter_gather_list(b.device, b.mdl, A, 100, lambda *_: 1 / 0, None, False, None, 1000))
    assert status == BAD and b.bus.ops == [] and b.adapter.held() == []


def test_no_bounce_memory_is_a_status():
    b = master(dma_address_width=12)
    b.kernel.ex_allocate_pool(4096)
    assert run(b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, keep(b), None, False)) == FULL
    assert b.lists == [] and b.adapter.held() == []


@pytest.mark.parametrize("scatter_gather, elements", [(True, 3), (False, 1)])
def test_calculate_and_build(scatter_gather, elements):
    b = master(scatter_gather=scatter_gather)
    mdl = b.chain(*PIECES)
    status, size, registers = b.adapter.calculate_scatter_gather_list(mdl, PIECES[0][0], 123)
    assert (status, size, registers) == (OK, list_bytes(elements), 3) and list_bytes(1) == 40
    assert b.result("CalculateScatterGatherList") == {"status": 0, "list_bytes": size, "map_registers": 3}
    assert b.args("CalculateScatterGatherList")["offset"] == 0 and b.args("CalculateScatterGatherList")["length"] == 123

    async def story(room):
        arguments = (b.device, mdl, PIECES[0][0], 123, keep(b), "context", True, object(), room)
        return await b.adapter.build_scatter_gather_list(*arguments)

    assert run(story(size - 1)) == SMALL
    assert b.result("BuildScatterGatherList") == {"status": SMALL, "list": None, "elements": []} and b.lists == []
    assert b.args("BuildScatterGatherList")["buffer_bytes"] == size - 1
    assert run(story(size)) == OK and b.adapter.held() == [f"scatter/gather list {b.lists[0][0].id}"]
    sg, context = b.lists[0]
    expected = {"status": 0, "list": sg.id, "elements": [[e.address, e.length] for e in sg]}
    assert b.result("BuildScatterGatherList") == expected and context == "context" and len(sg) == elements
    run(b.adapter.put_scatter_gather_list(sg, True))
    assert b.adapter.held() == []


def test_calculate_says_what_does_not_fit():
    b = master(maximum_length=4096)
    mdl = b.chain((0x8000_0FF0, 0x3000))
    assert b.adapter.calculate_scatter_gather_list(mdl, 0x8000_0FF0, 0x3001)[0] == SMALL
    assert b.adapter.calculate_scatter_gather_list(mdl, 0x8000_0FF0, 0x3000) == (FULL, list_bytes(1), 4)
    assert b.adapter.calculate_scatter_gather_list(mdl, 0x8000_0FF0, 16) == (OK, list_bytes(1), 1)
    assert b.adapter.calculate_scatter_gather_list(None, 0x8000_0FF0, 17) == (OK, list_bytes(2), 2)  # the most it can need
    assert b.args("CalculateScatterGatherList")["mdl"] is None
    with pytest.raises(AdapterError, match="length must be an integer from 0 to 0xffffffff, not -1"):
        b.adapter.calculate_scatter_gather_list(mdl, 0x8000_0FF0, -1)


@pytest.mark.parametrize("fault", ["bus_error", "timeout", "hang"])
def test_put_says_in_the_list_that_bytes_are_missing(fault):
    b = master()
    b.bus.flush_faults = [fault]
    run(b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, keep(b), None, False))
    run(b.adapter.put_scatter_gather_list(b.lists[0][0], False))
    assert b.lists[0][0].flushed is False and b.result("PutScatterGatherList") is False and b.adapter.held() == []


def test_put_with_the_other_direction_copies_nothing_back():
    b = master(dma_address_width=12)
    b.bus.device[0:100] = DATA[:100]

    async def story():
        await b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, keep(b), None, False)
        sg = b.lists[0][0]
        await b.move([(e.address, e.length) for e in sg], False)
        await b.adapter.put_scatter_gather_list(sg, True)
        return await b.bus.read(A, 100)

    assert run(story()) == bytes(100) and b.names()[-1] == "BounceUnmap"


def test_a_list_put_on_another_adapter_goes_back_to_its_own():
    b = master(dma_address_width=12)
    other, _ = b.kernel.io_get_dma_adapter(b.device, b.adapter.description)
    run(b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, keep(b), None, True))
    run(other.put_scatter_gather_list(b.lists[0][0], True))
    assert b.adapter.held() == other.held() == [] and b.kernel.pool.blocks == ()
    assert b.args("PutScatterGatherList")["adapter"]["id"] == other.id


def test_the_list_routine_waits_while_the_adapter_is_held():
    b = master()

    async def story():
        await b.allocate()  # a bus master that keeps the object
        assert await b.adapter.get_scatter_gather_list(b.device, b.mdl, A, 100, keep(b), None, True) == OK
        assert b.lists == []
        await b.adapter.free_adapter_channel()
        assert len(b.lists) == 1

    run(story())
    assert b.names()[-2:] == ["FreeAdapterChannel", "ListControl"]


def test_arguments_of_a_wrong_type():
    b = master()
    for arguments, text in (
        ((b.device, b.mdl, A, 100, None, None, True), "execution_routine must be callable, not None"),
        (("disk", b.mdl, A, 100, keep(b), None, True), "device_object must be a DeviceObject, not 'disk'"),
        ((b.device, b.mdl, A, True, keep(b), None, True), "length must be an integer, not True"),
        ((b.device, b.mdl, A, 100, keep(b), None, 1), "write_to_device must be True or False, not 1"),
    ):
        with pytest.raises(AdapterError, match=text):
            run(b.adapter.get_scatter_gather_list(*arguments))
    with pytest.raises(AdapterError, match="scatter_gather must be a ScatterGatherList, not 3"):
        run(b.adapter.put_scatter_gather_list(3, True))
    with pytest.raises(AdapterError, match="length must be an integer, not None"):
        b.adapter.calculate_scatter_gather_list(b.mdl, A, None)
    run(b.allocate(FREE))
    assert b.adapter.held() == [] and b.lists == []
