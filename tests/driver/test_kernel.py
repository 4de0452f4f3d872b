# SPDX-License-Identifier: BSD-2-Clause
"""KeFlushIoBuffers, MDLs, requests."""

import pytest

from driver.errors import AdapterError, ArgumentError, IrpError, MdlError, NullError, PoolError
from driver.platform import HalOptions
from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, Kernel, MajorFunction, nt_success
from rtl.pio.table import IRQ

from .fake_bus import FakeBus, run


def boot(bus, **beliefs):
    kernel = run(Kernel.start(bus, **beliefs))
    bus.ops.clear()
    return kernel


def mdl_over(kernel, address, length):
    mdl = kernel.io_allocate_mdl(address, length)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    return mdl


def commands(bus):
    """Maintenance commands: (op, scope, target)."""
    return [
        (v & 3, v >> 2 & 3, v >> 4 & 3) for kind, name, *rest in bus.ops if kind == "w32" and name == "maint.cmd" for v in rest
    ]


def test_start_discovers_and_opens_the_interrupt_gate():
    bus = FakeBus()
    run(Kernel.start(bus))
    assert bus.ops[-1] == ("w32", "sys.irq_enable", (1 << IRQ.WIDTH) - 1)


@pytest.mark.parametrize(
    "read, dma, expected",
    [
        (False, True, [(1, 1, 1)]),
        (True, True, [(3, 1, 3)]),
        (True, False, [(1, 1, 1), (2, 1, 2)]),
        (False, False, [(1, 1, 1)]),
    ],
)
def test_ke_flush_becomes_what_the_platform_table_says(read, dma, expected):
    bus = FakeBus()
    kernel = boot(bus)
    mdl = mdl_over(kernel, 0x8000_0103, 100)
    run(kernel.ke_flush_io_buffers(mdl, read, dma))
    assert commands(bus) == expected
    assert {op[2] for op in bus.ops if op[:2] == ("w32", "maint.start")} == {0x8000_0103}
    assert {op[2] for op in bus.ops if op[:2] == ("w32", "maint.length")} == {100}
    first, *inner, last = kernel.trace.records[2:]
    assert first["args"] == {
        "mdl": {"id": mdl.id, "ranges": [[0x8000_0103, 100]], "locked": True},
        "read_operation": read,
        "dma_operation": dma,
    }
    assert (first["name"], last["name"], last["result"]) == ("KeFlushIoBuffers", "KeFlushIoBuffers", None)
    assert {r["name"] for r in inner} == {"CacheMaintenance"}
    assert all(r["args"]["requested_by"] == "hal" for r in inner if r["phase"] == "begin")


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("dma", [False, True])
def test_ke_flush_on_a_coherent_platform_touches_no_bus(read, dma):
    bus = FakeBus(coherent=True)
    kernel = boot(bus)
    before = bus.time
    run(kernel.ke_flush_io_buffers(mdl_over(kernel, 0x8000_0000, 4096), read, dma))
    assert bus.ops == [] and bus.time == before
    assert [r["name"] for r in kernel.trace.records[2:]] == ["KeFlushIoBuffers"] * 2


def test_the_flag_is_believed_not_measured():
    assert boot(FakeBus(coherent=False), coherent=True).platform.coherent
    bus = FakeBus(coherent=False)
    kernel = boot(bus, coherent=True)
    run(kernel.ke_flush_io_buffers(mdl_over(kernel, 0x8000_0000, 64), False, True))
    assert bus.ops == []
    bus = FakeBus(coherent=True)
    kernel = boot(bus, coherent=False)
    run(kernel.ke_flush_io_buffers(mdl_over(kernel, 0x8000_0000, 64), False, True))
    assert commands(bus) == [(1, 1, 1)]


def test_a_flush_by_line_loop_with_a_wrong_line_size_skips_lines():
    bus = FakeBus(line=32)
    kernel = boot(bus, line_bytes=64, options=HalOptions(line_loop=True))

    async def story():
        await bus.write(0x8000_0000, bytes(range(128)))
        await kernel.ke_flush_io_buffers(mdl_over(kernel, 0x8000_0000, 128), False, True)

    run(story())
    assert bus.peek(0x8000_0000, 32) == bytes(range(32)) and bus.peek(0x8000_0020, 32) == bytes(32)


def test_ke_flush_covers_one_mdl_of_a_chain():
    bus = FakeBus()
    kernel = boot(bus)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE)
    first = kernel.io_allocate_mdl(0x8000_0000, 40, False, False, irp)
    second = kernel.io_allocate_mdl(0x8000_1000, 50, True, False, irp)
    for mdl in (first, second):
        kernel.mm_build_mdl_for_non_paged_pool(mdl)
    assert irp.mdl_address is first and first.next is second and first.total == 90
    run(kernel.ke_flush_io_buffers(first, False, True))
    assert [op[2] for op in bus.ops if op[:2] == ("w32", "maint.start")] == [0x8000_0000]
    assert kernel.trace.records[4]["args"]["mdl"] == {"id": first.id, "ranges": [[0x8000_0000, 40]], "locked": True}
    assert first.log()["ranges"] == [[0x8000_0000, 40], [0x8000_1000, 50]]
    assert first.ranges(30, 25) == [(0x8000_001E, 10), (0x8000_1000, 15)]


def test_mdl_accessors_and_partial_mdl():
    kernel = boot(FakeBus())
    mdl = mdl_over(kernel, 0x8000_1234, 77)
    assert kernel.mm_get_mdl_virtual_address(mdl) == 0x8000_1234
    assert kernel.mm_get_mdl_byte_count(mdl) == 77 and kernel.mm_get_mdl_byte_offset(mdl) == 0x234
    assert mdl.start_va == 0x8000_1000
    part = kernel.io_allocate_mdl(0x8000_1234, 20)
    kernel.io_build_partial_mdl(mdl, part, 0x8000_1240, 15)
    assert (part.virtual_address, part.byte_count, part.locked) == (0x8000_1240, 15, True)
    with pytest.raises(MdlError, match=r"length must fit the target MDL \(15 bytes\), not 57"):
        kernel.io_build_partial_mdl(mdl, part, 0x8000_1248, 0)
    with pytest.raises(MdlError, match="virtual_address must be an integer from 0x80001234 to 0x80001280, not 0x80001000"):
        kernel.io_build_partial_mdl(mdl, part, 0x8000_1000, 4)


@pytest.mark.parametrize(
    "address, length, text",
    [
        (0x8000_0000, 0, "length must be an integer from 1 to 0x10000, not 0"),
        (0x8000_0000, -5, "length must be an integer from 1 to 0x10000, not -5"),
        (
            0x7FFF_FFFF,
            2,
            r"virtual_address must lie in memory \[0x80000000, 0x80010000\) with all of its 2 bytes, not at 0x7fffffff",
        ),
        (0x8000_FFFF, 2, "virtual_address must lie in memory"),
        (0x1000_0000, 4, "virtual_address must lie in memory"),
        ("buffer", 4, "virtual_address must be an integer from 0 to 0xffffffff, not 'buffer'"),
        (0x8000_0000, 4.0, "length must be an integer from 1 to 0x10000, not 4.0"),
    ],
)
def test_a_bad_mdl_is_refused(address, length, text):
    with pytest.raises(MdlError, match=text):
        boot(FakeBus()).io_allocate_mdl(address, length)


def test_mdl_life():
    bus = FakeBus()
    kernel = boot(bus)
    mdl = kernel.io_allocate_mdl(0x8000_0000, 4)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    with pytest.raises(ArgumentError, match="read_operation must be True or False, not 1"):
        run(kernel.ke_flush_io_buffers(mdl, 1, True))
    with pytest.raises(MdlError, match="mdl must be a Mdl, not None"):
        run(kernel.ke_flush_io_buffers(None, True, True))
    kernel.io_free_mdl(mdl)
    with pytest.raises(MdlError, match="mdl must be allocated to be freed, not freed before"):
        kernel.io_free_mdl(mdl)
    with pytest.raises(MdlError, match="mdl must be allocated, not freed"):
        run(kernel.ke_flush_io_buffers(mdl, True, True))
    with pytest.raises(MdlError, match="secondary_buffer must be False without a request, not True"):
        kernel.io_allocate_mdl(0x8000_0000, 4, True)
    assert bus.ops == []


def test_a_looping_chain_is_an_error_not_a_hang():
    kernel = boot(FakeBus())
    mdl = mdl_over(kernel, 0x8000_0000, 4)
    mdl.next = mdl
    with pytest.raises(MdlError, match=r"mdl.next must end the chain"):
        run(kernel.ke_flush_io_buffers(mdl, True, True))


def test_requests_complete_once_with_a_final_status():
    kernel = boot(FakeBus())
    mdl = mdl_over(kernel, 0x8000_0000, 100)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl, 512)
    assert irp.length == 100 and not irp.write_to_device
    with pytest.raises(IrpError, match="status must be final, not STATUS_PENDING"):
        kernel.io_complete_request(irp)
    irp.io_status.status, irp.io_status.information = NTSTATUS.STATUS_SUCCESS, 100
    kernel.io_complete_request(irp)
    record = kernel.trace.records[-2]
    assert record["name"] == "IoCompleteRequest"
    assert record["args"] == {"irp": irp.id, "status": 0, "information": 100, "mdl": mdl.log()}
    with pytest.raises(IrpError, match="irp must be completed once, not again"):
        kernel.io_complete_request(irp)
    with pytest.raises(IrpError, match="length must be an integer from 1 to 100, not 101"):
        kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl, 0, 101)


def test_status_values_are_the_public_ones():
    assert NTSTATUS.STATUS_IO_TIMEOUT == 0xC000_00B5 and NTSTATUS.STATUS_DEVICE_DATA_ERROR == 0xC000_009C
    assert nt_success(NTSTATUS.STATUS_SUCCESS) and nt_success(NTSTATUS.STATUS_PENDING)
    assert not nt_success(NTSTATUS.STATUS_DEVICE_BUSY) and not nt_success(NTSTATUS.STATUS_UNSUCCESSFUL)


def test_io_get_dma_adapter_returns_adapter_and_map_registers():
    kernel = boot(FakeBus())
    adapter, count = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=1, maximum_length=8192))
    assert count == 3 and (adapter.version, adapter.master, adapter.channel) == (1, False, 0)
    begin, end = kernel.trace.records
    assert begin["args"]["description"] == {
        "version": 1,
        "master": False,
        "scatter_gather": False,
        "demand_mode": True,
        "auto_initialize": False,
        "maximum_length": 8192,
        "channel": 0,
        "dma_address_width": 32,
        "dma32_bit_addresses": True,
        "dma64_bit_addresses": False,
        "ignore_count": False,
        "interface_type": 0,
        "dma_width": 0,
        "dma_speed": 0,
        "dma_request_line": 0,
        "device_address": 0,
    }
    assert end["result"] == {
        "adapter": {"id": adapter.id, "version": 1, "master": False, "channel": 0},
        "map_registers": 3,
    }
    assert adapter  # which is a test for NULL
    assert kernel.trace.records[2]["name"] == "ResultChecked"
    assert kernel.trace.records[2]["args"] == {"call": begin["call"], "what": "null"}
    with pytest.raises(AdapterError, match=r"dma_channel must be below the number of system channels \(1\), not 2"):
        kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(dma_channel=2))


@pytest.mark.parametrize("version", [4, 17])
def test_an_unknown_version_gives_null(version):
    kernel = boot(FakeBus())
    adapter, count = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=version))
    assert count == 0 and kernel.trace.records[1]["result"] == {"adapter": None, "map_registers": 0}
    with pytest.raises(NullError, match="the result of IoGetDmaAdapter must be tested for NULL before"):
        adapter.get_dma_alignment()
    assert not adapter


@pytest.mark.parametrize("version, name", [(0, "DmaAdapter"), (1, "DmaAdapter"), (2, "DmaAdapter"), (3, "DmaAdapterV3")])
def test_the_version_decides_which_calls_there_are(version, name):
    adapter, _ = boot(FakeBus()).io_get_dma_adapter(DeviceObject(), DeviceDescription(version=version))
    assert type(adapter).__name__ == name and adapter.version == version


@pytest.mark.parametrize(
    "values, bits",
    [
        ({}, 32),
        ({"master": True}, 32),
        ({"master": True, "dma64_bit_addresses": True}, 64),
        ({"master": True, "dma32_bit_addresses": False}, 24),
        ({"master": True, "version": 3, "dma_address_width": 40}, 40),
        ({"master": True, "version": 3}, 32),
        ({"master": True, "dma64_bit_addresses": True, "dma_address_width": 15}, 15),
    ],
)
def test_how_far_a_device_reaches(values, bits):
    assert DeviceDescription(**values).log()["dma_address_width"] == bits


@pytest.mark.parametrize(
    "values, text",
    [
        ({"version": -1}, "DeviceDescription.version must be an integer from 0 to 0xffffffff, not -1"),
        ({"version": "2"}, "DeviceDescription.version must be an integer from 0 to 0xffffffff, not '2'"),
        ({"master": 1}, "DeviceDescription.master must be True or False, not 1"),
        ({"dma64_bit_addresses": 0}, "DeviceDescription.dma64_bit_addresses must be True or False, not 0"),
        ({"interface_type": 5}, "DeviceDescription.interface_type must be an InterfaceType, not 5"),
        ({"dma_address_width": 65}, "DeviceDescription.dma_address_width must be an integer from 0 to 64, not 65"),
        ({"maximum_length": 0}, "DeviceDescription.maximum_length must be an integer from 1"),
        ({"master": True, "auto_initialize": True}, "auto_initialize must be False for a bus master"),
        ({"scatter_gather": True}, "scatter_gather must be False for a system channel"),
    ],
)
def test_a_bad_description_is_refused(values, text):
    with pytest.raises(AdapterError, match=text):
        DeviceDescription(**values)


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_has_a_kind_and_the_log_knows_it():
    kernel = boot(FakeBus())
    pool = kernel.ex_allocate_pool(100, what="ring")
    paged = kernel.ex_allocate_pool(64, kind="paged")
    with kernel.stack_buffer(24) as local:
        assert kernel.memory.kind_of(local, 24) == "stack" and local % 8 == 0
    assert kernel.memory.kind_of(local) is None
    kernel.ex_free_pool(paged)
    begins = [(r["name"], r["args"]) for r in kernel.trace.records if r["phase"] == "begin"]
    assert begins == [
        ("AllocateMemory", {"length": 100, "kind": "nonpaged", "what": "ring"}),
        ("AllocateMemory", {"length": 64, "kind": "paged", "what": "buffer"}),
        ("AllocateMemory", {"length": 24, "kind": "stack", "what": "local variable"}),
        ("FreeMemory", {"address": local}),
        ("FreeMemory", {"address": paged}),
    ]
    assert kernel.trace.records[1]["result"] == {"address": pool, "length": 100}
    with pytest.raises(PoolError, match="it was freed before"):
        kernel.ex_free_pool(paged)
    with pytest.raises(PoolError, match=r"kind must be one of nonpaged, paged, .*, not 'heap'"):
        kernel.ex_allocate_pool(4, kind="heap")
    kernel.declare_control(pool, 16, "descriptors")
    assert kernel.trace.records[-2]["args"] == {"address": pool, "length": 16, "what": "descriptors"}


def test_which_mdls_are_locked():
    kernel = boot(FakeBus())

    def made(address):
        mdl = kernel.io_allocate_mdl(address, 64)
        assert not mdl.log()["locked"]
        return mdl

    pool, paged, foreign = kernel.ex_allocate_pool(64), kernel.ex_allocate_pool(64, kind="paged"), 0x8000_8000
    for address, locked in ((pool, True), (paged, False), (foreign, True)):
        mdl = made(address)
        kernel.mm_build_mdl_for_non_paged_pool(mdl)
        assert mdl.log()["locked"] is locked
    mdl = made(paged)
    kernel.mm_probe_and_lock_pages(mdl)
    assert mdl.locked
    part = made(paged)
    kernel.io_build_partial_mdl(mdl, part, paged + 8, 8)
    assert part.locked
    kernel.mm_unlock_pages(mdl)
    assert not mdl.locked
    names = [r["name"] for r in kernel.trace.records if r["phase"] == "begin"]
    assert names[-2:] == ["MmProbeAndLockPages", "MmUnlockPages"] and names.count("MmBuildMdlForNonPagedPool") == 3
    assert kernel.trace.records[-2]["args"]["mdl"]["ranges"] == [[paged, 64]]
    chained = made(pool)
    chained.next = mdl
    kernel.mm_build_mdl_for_non_paged_pool(chained)
    assert chained.locked and not chained.log()["locked"]  # the whole chain
    run(kernel.ke_flush_io_buffers(mdl, True, True))  # an MDL that is not locked is not refused: the log says so
    flush = next(r for r in kernel.trace.records if r["name"] == "KeFlushIoBuffers")
    assert flush["args"]["mdl"]["locked"] is False


def test_register_buffer_routines():
    bus = FakeBus()
    kernel = boot(bus)
    bus.device[0:44] = bytes(range(44))
    port = kernel.regs.dev.pio_data.address

    async def story():
        await kernel.regs.dev.length.write(44)
        await kernel.regs.dev.cmd.write(op=3)
        bus.ops.clear()
        await kernel.read_register_buffer_ulong(port, 0x8000_0018, 11)
        assert await bus.read(0x8000_0018, 44) == bytes(range(44))
        await kernel.regs.dev.cmd.write(op=4)
        await kernel.write_register_buffer_ulong(port, 0x8000_0018, 11)

    run(story())
    stores = [op for op in bus.ops if op[0] == "write"]
    assert [op[1:3] for op in stores] == [(0x8000_0018, 8), (0x8000_0020, 32), (0x8000_0040, 4)]
    assert [op[1] for op in bus.ops if op[0] == "r32"] == ["dev.pio_data"] * 11
    loads = [op[1:3] for op in bus.ops if op[0] == "read"]
    assert loads == [(0x8000_0018, 44), (0x8000_0018, 8), (0x8000_0020, 32), (0x8000_0040, 4)]
    assert bus.device[0:44] == bytes(range(44)) and bus.peek(0x8000_0018, 44) == bytes(44)
    begins = [r for r in kernel.trace.records if r["phase"] == "begin"]
    assert [r["name"] for r in begins] == ["ReadRegisterBuffer", "WriteRegisterBuffer"]
    assert all(r["args"] == {"register": port, "ranges": [[0x8000_0018, 44]], "width": 4} for r in begins)


@pytest.mark.parametrize("offset", range(4))
def test_register_buffer_at_any_byte_address(offset):
    bus = FakeBus()
    kernel = boot(bus)
    bus.device[0:100] = bytes(range(100))

    async def story():
        await kernel.regs.dev.length.write(100)
        await kernel.regs.dev.cmd.write(op=3)
        await kernel.read_register_buffer_ulong(kernel.regs.dev.pio_data.address, 0x8000_0000 + offset, 25)
        return await bus.read(0x8000_0000 + offset, 100)

    assert run(story()) == bytes(range(100))


def test_register_buffer_walks_registers_if_told():
    bus = FakeBus()
    kernel = boot(bus)
    run(kernel.read_register_buffer_ulong(kernel.regs.sys.id.address, 0x8000_0000, 3, increment=True))
    assert [op[1] for op in bus.ops if op[0] == "r32"] == ["sys.id", "sys.features", "sys.mem_base"]


def test_register_arguments():
    bus = FakeBus()
    kernel = boot(bus)
    with pytest.raises(ArgumentError, match="register must be a multiple of 4"):
        run(kernel.read_register_ulong(0x1000_0002))
    with pytest.raises(ArgumentError, match="value must be an integer from 0 to 0xffffffff, not -1"):
        run(kernel.write_register_ulong(0x1000_0000, -1))
    with pytest.raises(ArgumentError, match="count must be an integer from 1 to"):
        run(kernel.read_register_buffer_ulong(0x1000_0000, 0x8000_0000, 0))
    with pytest.raises(ArgumentError, match=r"buffer must lie in memory .* with all of its 8 bytes, not at 0x8000fffc"):
        run(kernel.read_register_buffer_ulong(0x1000_0000, 0x8000_FFFC, 2))
    with pytest.raises(ArgumentError, match="ranges must name at least one range"):
        kernel.cpu_copy([])
    assert bus.ops == []


def test_cpu_copy_is_logged_around_the_stores():
    bus = FakeBus()
    kernel = boot(bus)
    with kernel.cpu_copy([(0x8000_0000, 3)]):
        run(bus.write(0x8000_0000, b"abc"))
    assert [r["name"] for r in kernel.trace.records] == ["CpuCopy", "CpuCopy"]
    assert kernel.trace.records[0]["args"] == {"ranges": [[0x8000_0000, 3]]}
