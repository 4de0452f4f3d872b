# SPDX-License-Identifier: BSD-2-Clause
"""docs/wdk.md: its tables name every routine with its arguments, page and IRQL; its examples move every byte."""

import inspect
import re
from pathlib import Path

import pytest

from driver.platform import HalOptions
from driver.storage_port import StoragePort
from driver.wdk import DmaAdapterV3, IoAllocationAction, Kernel, MajorFunction
from driver.wdk.irql import DISPATCH_LEVEL, HIGH_LEVEL, IRQL_TABLE, PASSIVE_LEVEL

from .fake_bus import FakeBus, run

PAGE = (Path(__file__).parents[2] / "docs" / "wdk.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
CALLS = [row for row in ROWS if len(row) == 5 and row[0] != "routine"]
CONTRACTS = (Path(__file__).parents[2] / "docs" / "contracts.md").read_text()
LEVELS = {
    "P": (PASSIVE_LEVEL, PASSIVE_LEVEL),
    "D": (DISPATCH_LEVEL, DISPATCH_LEVEL),
    "<=D": (PASSIVE_LEVEL, DISPATCH_LEVEL),
    "any": (PASSIVE_LEVEL, HIGH_LEVEL),
}
EXAMPLES = {code.split("async def ")[1].split("(")[0]: code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S)}
DATA = bytes((3 + 41 * n + n // 256) & 255 for n in range(6000))


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row[0])
def test_a_row_names_what_exists(row):
    routine, page, here, irql, _ = row
    owner, name, arguments = re.match(r"`(?:await )?(kernel|adapter)\.(\w+)\((.*?)\)`", here).groups()
    method = getattr(Kernel if owner == "kernel" else DmaAdapterV3, name)
    assert arguments.split(", ") == [n for n in inspect.signature(method).parameters if n != "self"] or not arguments
    assert inspect.iscoroutinefunction(method) == here.startswith("`await ")
    assert name.replace("_", "") == routine.lower() and method.__doc__.startswith((f"{routine}:", f"{routine},"))
    rule = IRQL_TABLE[routine]
    assert (rule.lowest, rule.highest) == LEVELS[irql] and rule.page == page


def test_every_routine_has_a_row():
    named = {re.search(r"adapter\.(\w+)\(", row[2]).group(1) for row in CALLS if "adapter." in row[2]}
    public = {n for n, m in inspect.getmembers(DmaAdapterV3, inspect.isfunction) if not n.startswith("_")}
    ours = {"arm", "held", "log", "must_be_checked"}  # not of the DDI
    assert named == public - ours


class Machine:
    """A kernel and a port on the in-memory machine, and a chain of MDLs over awkward pieces."""

    def __init__(self, coherent):
        self.bus = FakeBus(coherent=coherent, size=96 * 1024)
        self.kernel = run(Kernel.start(self.bus, reserve=0))
        self.port = StoragePort(self.kernel.hal, self.kernel.trace)
        irp = self.kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ)
        self.pieces = [(0x8000_B003, 100), (0x8000_C000, 4096), (0x8000_E010, 1304)]
        for n, (address, length) in enumerate(self.pieces):
            mdl = self.kernel.io_allocate_mdl(address, length, n > 0, False, irp)
            self.kernel.mm_build_mdl_for_non_paged_pool(mdl)
        self.mdl, self.total = irp.mdl_address, irp.mdl_address.total

    async def fill(self, data):
        done = 0
        for address, length in self.pieces:
            await self.bus.write(address, data[done : done + length])
            done += length

    async def look(self):
        return b"".join([await self.bus.read(address, length) for address, length in self.pieces])

    def done(self):
        """Nothing is left over: channels, map registers, lists, buffers."""
        assert self.kernel.channel_owners == {}
        assert [block.what for block in self.kernel.pool.blocks] == ["device's descriptors"]
        errors = [r["error"] for r in self.kernel.trace.records if r["phase"] == "end" and r["error"]]
        wrong = [r["name"] for r in self.kernel.trace.records if r["phase"] == "begin" and not allowed(r)]
        assert errors == [] and wrong == []


def allowed(record):
    rule = IRQL_TABLE.get(record["name"])
    return rule is None or rule.allows(record["irql"])


def example(name):
    space = {}
    exec(compile(EXAMPLES[name], "docs/wdk.md", "exec"), space)
    return space[name]


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    "name", ["packet_system_dma", "packet_bus_master", "list_bus_master", "system_dma_version_3", "bus_master_version_3"]
)
def test_requests(name, write, coherent):
    m = Machine(coherent)
    data = DATA[: m.total]
    m.bus.device[8 : 8 + m.total] = bytes(m.total) if write else data

    async def story():
        await m.fill(data if write else bytes(m.total))
        assert await example(name)(m.kernel, m.port, m.mdl, 8, write) == m.total
        if write:
            await m.bus.delay(10)
        return await m.look()

    assert run(story()) == data and bytes(m.bus.device[8 : 8 + m.total]) == data
    m.done()


@pytest.mark.parametrize("coherent", [False, True])
def test_auto_init(coherent):
    m = Machine(coherent)
    m.bus.device[0:6000] = DATA
    assert run(example("common_buffer_system_dma")(m.kernel, m.port, 4, 41)) == DATA[3 * 41 : 4 * 41]
    m.done()


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_common_buffer(cached, coherent):
    m = Machine(coherent)
    m.bus.device[0:6000] = DATA
    assert run(example("common_buffer_bus_master")(m.kernel, m.port, 1001, 5, cached)) == DATA[5:1006]
    m.done()


def contract():
    """Name of a call -> names of its arguments, and of those that only one call of its row has, by docs/contracts.md."""
    found = {}
    for line in CONTRACTS.splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        for name in re.findall(r"`(\w+)`", cells[1]) if len(cells) == 5 else ():
            names, optional = found.setdefault(name, (set(), set()))
            for part in re.findall(r"`([^`]*)`", re.sub(r"\((?!`).*?\)", "", cells[2])):
                if '"' not in part or "{" in part:
                    plain = re.sub(r"\[\[.*?\]\]|\[.*?\]|\{.*?\}|\.\.\.|\]", " ", part)
                    (optional if part.startswith(",") else names).update(re.findall(r"\w+", plain))
    return found


@pytest.mark.parametrize("far", [False, True])
def test_the_call_log_keeps_the_contract(far):
    """Every call that the examples log has the arguments that docs/contracts.md lists, and no others."""
    expected, seen = contract(), set()
    for name in ("packet_system_dma", "packet_bus_master", "list_bus_master", "system_dma_version_3", "bus_master_version_3"):
        m = Machine(False)
        if far:
            m.kernel = run(Kernel.start(m.bus, options=HalOptions(bounce="always")))
            m.port = StoragePort(m.kernel.hal, m.kernel.trace)
        assert run(example(name)(m.kernel, m.port, m.mdl, 8, False)) == m.total
        for record in m.kernel.trace.records:
            if record["phase"] == "begin" and record["name"] != "IoGetDmaAdapter":
                seen.add(record["name"])
                names, optional = expected[record["name"]]
                if record["name"] == "StartTransfer":
                    optional = {"device", "descriptors", "descriptors_cached"}  # in a sentence there
                assert names <= set(record["args"]) <= names | optional, record["name"]
                assert {"parent", "thread", "role", "irql"} <= set(record)
    assert len(seen) >= 18 and ("BounceCopy" in seen) == far


def test_every_example_is_run():
    assert set(EXAMPLES) == {
        "packet_system_dma",
        "common_buffer_system_dma",
        "packet_bus_master",
        "list_bus_master",
        "common_buffer_bus_master",
        "system_dma_version_3",
        "bus_master_version_3",
    }
    for action in IoAllocationAction:
        assert action.name in PAGE
