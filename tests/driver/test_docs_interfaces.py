# SPDX-License-Identifier: BSD-2-Clause
"""The examples in docs/linux.md and docs/bare-metal.md run, and the pages name exactly what exists."""

import re
from pathlib import Path

import driver.linux
from driver.architecture import ARCHITECTURES, DmaDirection
from driver.bare import Machine
from driver.linux import Device

from .fake_bus import FakeBus, run

DOCS = Path(__file__).parents[2] / "docs"
LINUX, BARE = ((DOCS / name).read_text() for name in ("linux.md", "bare-metal.md"))
CELL = {"-": (), "clean": ("clean",), "invalidate": ("invalidate",), "clean+invalidate": ("clean+invalidate",)}


def example(page, number):
    space = {}
    exec(compile(re.findall(r"```python\n(.*?)```", page, re.S)[number], "docs", "exec"), space)
    return space


def filled():
    bus = FakeBus()
    bus.device[0:1024] = bytes((5 * n + 1) & 255 for n in range(1024))
    return bus


def test_the_linux_examples_move_the_bytes():
    bus = filled()
    assert run(example(LINUX, 0)["main"](bus)) == bytes(bus.device[0:512])
    bus = filled()
    heads = run(example(LINUX, 1)["receive"](bus, 3))
    assert heads == [bytes(bus.device[256 * n : 256 * n + 64]) for n in range(3)]


def test_the_bare_examples_move_the_bytes():
    bus = filled()
    assert run(example(BARE, 0)["read_sector"](bus)) == bytes(bus.device[0:512])
    bus = filled()
    assert run(example(BARE, 0)["write_sector"](bus)) == 512 and bytes(bus.device[0:512]) == b"\x5a" * 512


def test_the_linux_page_names_every_call_and_nothing_else():
    named = set(re.findall(r"\b[A-Za-z_]\w+\b", " ".join(re.findall(r"`([^`\n]+)`", LINUX))))
    internal = {"DmaAttributes", "Gfp", "EINVAL", "EIO", "GFP_KERNEL", "GFP_ATOMIC", "GFP_DMA"}
    assert sorted(set(driver.linux.__all__) - named - internal - {"Device", "ENOMEM", "Completion", "Interrupt"}) == []
    table = LINUX[LINUX.index("## Calls") : LINUX.index("Not kernel calls")]
    for row in table.splitlines():
        cells = row.split(" | ")
        if len(cells) > 3:
            for name in re.findall(r"\b(?:await )?(\w+)\(", " ".join(re.findall(r"`([^`]+)`", cells[2]))):
                assert name in driver.linux.__all__, name
    for name in re.findall(r"`(?:with )?dev\.(\w+)", LINUX):
        assert hasattr(Device, name) or name in ("cpu", "maintenance", "drained"), name


def test_the_linux_page_shows_the_tables():
    rows = [[cell.strip() for cell in row.strip("| ").split("|")] for row in LINUX.splitlines() if row.startswith("| for ")]
    before = {DmaDirection[re.search(r"`(DMA_\w+)`", row[0])[1]]: row[1:] for row in rows if row[0].startswith("for device")}
    for direction, cells in before.items():
        for cell, name in zip(cells, ARCHITECTURES, strict=True):
            steps = ARCHITECTURES[name].for_device[direction]
            assert tuple(step.op.label for step in steps) == CELL[cell.split(";")[0]]
            assert any(step.keep_edges for step in steps) == (";" in cell)
    assert len(before) == 3
    for row in rows[3:]:
        for direction in (DmaDirection[name] for name in re.findall(r"`(DMA_\w+)`", row[0])):
            for cell, name in zip(row[1:], ARCHITECTURES, strict=True):
                assert tuple(step.op.label for step in ARCHITECTURES[name].for_cpu[direction]) == CELL[cell]
    for call in ("flush_dcache_page", "flush_icache_range"):
        row = next(row for row in LINUX.splitlines() if row.startswith(f"| `{call}` |"))
        for cell, name in zip(row.strip("| ").split(" | ")[1:], ARCHITECTURES, strict=True):
            first, second = getattr(ARCHITECTURES[name], call)
            assert cell.strip() == f"{first.op.label}, then I-cache" and second.target.label == "i"


def test_the_bare_page_names_every_method():
    named = set(re.findall(r"machine\.(\w+)", BARE))
    public = {name for name in vars(Machine) if not name.startswith("_") and name != "start"}
    assert named - {"cpu", "regs", "hal", "trace"} == public
