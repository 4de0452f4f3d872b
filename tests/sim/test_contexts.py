# SPDX-License-Identifier: BSD-2-Clause
"""Execution contexts on the real hardware: who accesses the bus while an ISR or a DPC runs, and what stops a machine."""

from pathlib import Path

import pytest

from rtl.probe import Kind
from sim.record import Run
from sim.userdriver.check import check_driver
from sim.userdriver.options import prepare_check
from sim.userdriver.run import Ending

CPU = (Kind.LOAD, Kind.STORE, Kind.UNCACHED_LOAD, Kind.UNCACHED_STORE)

DRIVER = """
from driver.wdk import DISPATCH_LEVEL, NTSTATUS, DeviceDescription, DeviceObject, MajorFunction


async def driver_entry(kernel, port):
    device = DeviceObject()
    adapter, _ = kernel.io_get_dma_adapter(device, DeviceDescription(master=True, scatter_gather=True))
    if not adapter:
        return
    done, lists = kernel.ke_initialize_event(name="the end of the request"), []

    async def isr_of_the_port(interrupt, context):
        status = await kernel.regs.bm.status.read()
        if not (status.done or status.error):
            return False
        {clear}
        kernel.io_request_dpc(device, device.current_irp)
        return True

    async def dpc_of_the_port(dpc, device_object, irp, context):
        {dpc}
        await adapter.put_scatter_gather_list(lists[0], False)
        irp.io_status.status = NTSTATUS.STATUS_SUCCESS if lists[0].flushed else NTSTATUS.STATUS_DEVICE_DATA_ERROR
        irp.io_status.information = irp.length
        kernel.io_complete_request(irp)
        kernel.ke_set_event(done)

    async def list_control(device_object, irp, scatter_gather, context):
        lists.append(scatter_gather)
        await port.start_list(scatter_gather.elements, False, irp.byte_offset, adapter=adapter)

    async def start_io(device_object, irp):
        await kernel.ke_flush_io_buffers(irp.mdl_address, True, True)
        va = kernel.mm_get_mdl_virtual_address(irp.mdl_address)
        status = await adapter.get_scatter_gather_list(device, irp.mdl_address, va, irp.length, list_control, None, False)
        if status != NTSTATUS.STATUS_SUCCESS:
            raise RuntimeError("no list")

    device.start_io = start_io
    kernel.io_initialize_dpc_request(device, dpc_of_the_port)
    interrupt = await kernel.io_connect_interrupt(isr_of_the_port, None, port.irq_mask)
    buffer = kernel.ex_allocate_pool(512, alignment=4096)
    other = kernel.ex_allocate_pool(4096, alignment=4096)
    mdl = kernel.io_allocate_mdl(buffer, 512)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)

    async def busy_thread():
        while not done.state:
            await kernel.cpu.store(other, bytes(8))

    thread = kernel.ps_create_system_thread(busy_thread(), "a busy thread")
    await kernel.io_start_packet(device, kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl))
    await kernel.ke_wait_for_event(done, 100_000)
    await thread.join()
    data = await kernel.cpu.load(buffer, 512)
    await kernel.io_disconnect_interrupt(interrupt)
    kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(buffer)
    kernel.ex_free_pool(other)
    adapter.put_dma_adapter()
    return data
"""


def check(folder: Path, *, clear="await kernel.regs.bm.status.clear()", dpc="pass"):
    """Runs the driver once; the run and its record."""
    path = folder / "isr_driver.py"
    path.write_text(DRIVER.replace("{clear}", clear).replace("{dpc}", dpc))
    options = prepare_check(str(path), results=folder / "results", limit=40_000)
    (platform,) = check_driver(options)
    (run,) = platform.runs
    return run, Run.load(run.record)


def test_isr_and_dpc_preempt_a_thread_access_by_access(tmp_path):
    run, record = check(tmp_path)
    assert run.ending == Ending.RETURNED and not run.problem, run.problem
    assert run.corrupted == 0 and run.checked and run.findings == [] and run.hardware == [] and run.tasks == [] and run.held == []
    spans, begins = {}, {}
    for call in record.calls:
        if call["name"] in ("InterruptService", "DpcRoutine"):
            spans.setdefault(call["name"], []).append(call["cycle"])
            if call["phase"] == "begin":
                begins[call["name"]] = call
    assert (begins["InterruptService"]["role"], begins["InterruptService"]["irql"]) == ("isr", 5)
    assert (begins["DpcRoutine"]["role"], begins["DpcRoutine"]["irql"]) == ("dpc", 2)
    sites = {number: function for number, (_, _, function) in record.sites.items()}
    accesses = [(event.cycle, sites[event.tag]) for event in record.events if event.kind in CPU and event.tag]
    threads = [cycle for cycle, function in accesses if function == "busy_thread"]
    for name, routine in (("InterruptService", "isr_of_the_port"), ("DpcRoutine", "dpc_of_the_port")):
        first, last = spans[name]
        inside = [function for cycle, function in accesses if first < cycle < last]
        assert inside.count("busy_thread") <= 1  # the one that was on the bus
        assert inside.count(routine) == len([f for _, f in accesses if f == routine])
        assert any(cycle <= first for cycle in threads)
    assert spans["InterruptService"][1] == spans["DpcRoutine"][0]  # nothing comes between
    assert any(cycle < spans["InterruptService"][0] for cycle in threads)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"clear": "return True"}, "ContextError: interrupt storm: the ISR isr_of_the_port was called 100 times in a row"),
        ({"dpc": "raise ValueError('broken')"}, "ValueError: broken"),
        (
            {"dpc": "await kernel.ke_wait_for_event(done, 1000)"},
            "IrqlError: KeWaitForSingleObject must be called at APC_LEVEL or below to wait for the end of the request",
        ),
    ],
)
def test_what_stops_the_machine_is_the_drivers_end(tmp_path, change, text):
    run, record = check(tmp_path, **change)
    assert run.ending == Ending.RAISED and run.problem.startswith(text), run.problem
    roles = [call["role"] for call in record.calls if call["name"] == "Unhandled" and call["phase"] == "begin"]
    assert roles[0] == ("isr" if "clear" in change else "dpc")
