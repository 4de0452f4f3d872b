# SPDX-License-Identifier: BSD-2-Clause
"""Logs that the interfaces really write: the documents' correct drivers have no finding, each spoilt one has its own.

They run on the in-memory machine, so there are no probe events: only the rules that the call log alone decides are looked at.
"""

import json

import pytest

from driver.linux import DMA_TO_DEVICE, Device, dma_map_single, dma_mapping_error, dma_unmap_single, kmalloc
from driver.platform import HalOptions
from driver.storage_port import StoragePort
from driver.wdk import DeviceDescription, DeviceObject, Kernel
from sim.checker import check, render_all
from sim.record import Run
from tests.driver import test_wdk_docs as wdk
from tests.driver.fake_bus import FakeBus, run

from .machine import Machine

BY_LOG = {"R22", *(f"R{n}" for n in range(28, 51)), "R54"}
REQUESTS = ["packet_system_dma", "packet_bus_master", "list_bus_master", "system_dma_version_3", "bus_master_version_3"]


def rules(records, interface="wdk"):
    """Rules of the roots among those that the log alone decides, and the text of all findings."""
    platform = Machine().run().platform
    platform.update(interface=interface, memory=[0x8000_0000, 1 << 18])
    found = check(Run([], json.loads(json.dumps(records)), {}, platform))
    mine = [finding for finding in found if finding.rule in BY_LOG]
    return {finding.rule for finding in mine if finding.root}, render_all(mine)


def request(name, write=False, **options):
    machine = wdk.Machine(False)
    if options:
        machine.kernel = run(Kernel.start(machine.bus, options=HalOptions(**options)))
        machine.port = StoragePort(machine.kernel.hal, machine.kernel.trace)
    run(wdk.example(name)(machine.kernel, machine.port, machine.mdl, 8, write))
    return machine.kernel.trace.records


def without(records, name, nth=0):
    """The log without the nth call of that name."""
    number = [r["call"] for r in records if r["phase"] == "begin" and r["name"] == name][nth]
    return [r for r in records if r["call"] != number]


def twice(records, name):
    """The log with the last call of that name made again directly after it."""
    number = [r["call"] for r in records if r["phase"] == "begin" and r["name"] == name][-1]
    pair = [{**r, "call": 100_000} for r in records if r["call"] == number]
    end = max(n for n, r in enumerate(records) if r["call"] == number)
    pair = [{**r, "cycle": records[end]["cycle"]} for r in pair]
    return [*records[: end + 1], *pair, *records[end + 1 :]]


@pytest.mark.parametrize("bounce", ["needed", "always"])
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("name", REQUESTS)
def test_the_documented_requests_break_no_rule(name, write, bounce):
    found, text = rules(request(name, write, bounce=bounce))
    assert not found, text


@pytest.mark.parametrize(
    "name, spoil, wanted",
    [
        ("packet_system_dma", lambda log: without(log, "PutDmaAdapter"), {"R38"}),
        ("packet_system_dma", lambda log: without(log, "FreeAdapterChannel"), {"R38"}),
        ("packet_system_dma", lambda log: twice(log, "FreeAdapterChannel"), {"R37"}),
        ("packet_system_dma", lambda log: twice(log, "PutDmaAdapter"), {"R37"}),
        ("packet_system_dma", lambda log: twice(log, "FlushAdapterBuffers"), {"R44"}),
        ("packet_bus_master", lambda log: without(log, "FreeMapRegisters"), {"R38"}),
        ("packet_bus_master", lambda log: twice(log, "FreeMapRegisters"), {"R37"}),
        ("packet_bus_master", lambda log: without(log, "FlushAdapterBuffers", -1), {"R32"}),
        ("packet_bus_master", lambda log: without(log, "MapTransfer", -1), {"R44"}),
        ("list_bus_master", lambda log: without(log, "PutScatterGatherList"), {"R38"}),
        ("list_bus_master", lambda log: twice(log, "PutScatterGatherList"), {"R37"}),
        ("system_dma_version_3", lambda log: without(log, "FlushAdapterBuffersEx"), {"R28"}),
        ("system_dma_version_3", lambda log: without(log, "AllocateAdapterChannelEx"), {"R30"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_spoilt_request_has_its_finding(name, spoil, wanted):
    found, text = rules(spoil(request(name)))
    assert found == wanted, text


def test_no_look_at_the_length():
    log = request("packet_bus_master")
    looks = {r["call"] for r in log if r["name"] == "ResultChecked" and r.get("args", {}).get("what") == "length"}
    found, text = rules([r for r in log if r["call"] not in looks])
    # without events nobody knows which transfer used the mapping: only an address that is in use tells
    assert found <= {"R35"}, text


def test_wrong_levels():
    log = [{**r, "irql": 0} if r["phase"] == "begin" else r for r in request("list_bus_master")]
    found, text = rules(log)
    assert found == {"R33"} and "PutScatterGatherList at PASSIVE_LEVEL" in text


async def linux(bus, *, ask=True, unmap=True, length=256):
    dev = await Device.start(bus, architecture="arm64")
    port = StoragePort(dev.hal, dev.trace)
    buf = kmalloc(dev, 256)
    assert buf
    dma = await dma_map_single(dev, buf, 256, DMA_TO_DEVICE)
    if ask and dma_mapping_error(dev, dma):
        return None
    await port.start_list([(dma, 256)], True, 0, device=dev)
    await port.wait(100_000)
    await port.acknowledge()
    if unmap:
        await dma_unmap_single(dev, dma, length, DMA_TO_DEVICE)
    return dev.trace.records


@pytest.mark.parametrize(
    "how, wanted", [({}, set()), ({"ask": False}, {"R35"}), ({"unmap": False}, {"R38"}), ({"length": 128}, {"R41"})]
)
def test_linux(how, wanted):
    found, text = rules(run(linux(FakeBus(), **how)), "linux")
    assert found == wanted, text


def test_a_version_that_does_not_exist_and_a_null_that_nobody_sees():
    kernel = run(Kernel.start(FakeBus()))
    adapter, _ = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(version=9, master=True))
    found, text = rules(kernel.trace.records)
    assert found == {"R40"} and "R35" in text  # that nobody looks at the NULL follows
    assert not adapter
    found, text = rules(kernel.trace.records)
    assert found == {"R40"} and "R35" not in text
