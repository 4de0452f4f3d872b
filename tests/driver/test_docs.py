# SPDX-License-Identifier: BSD-2-Clause
"""The examples in docs/driver.md run, and the page names things that exist."""

import re
from pathlib import Path

import driver.errors
from driver.cpu import Cpu
from driver.discipline import Moment
from driver.processor import HOLD_LIMIT
from driver.wdk import DIRQL, NTSTATUS, Kernel
from driver.wdk.interrupt import STORM_CALLS

from .fake_bus import FakeBus, run

FOLDER = Path(__file__).parents[2] / "driver"
PAGE = (Path(__file__).parents[2] / "docs" / "driver.md").read_text()


def example(number):
    space = {}
    exec(compile(re.findall(r"```python\n(.*?)```", PAGE, re.S)[number], "docs/driver.md", "exec"), space)
    return space


def machine():
    bus = FakeBus()
    bus.device[0:1024] = bytes((n * 7) & 255 for n in range(1024))
    return bus


def test_the_first_example_reads_a_sector():
    bus = machine()
    assert run(example(0)["read_sector"](bus)) == (bytes(bus.device[0:512]), 0, True)


def test_the_second_example_reads_a_block_with_an_interrupt():
    bus = machine()
    assert run(example(1)["read_block"](bus, 1000)) == bytes(bus.device[0:1000])
    bus = machine()
    bus.flush_faults = ["bus_error"]
    assert run(example(1)["read_block"](bus, 1000)) is None


def test_the_page_names_what_exists():
    for name in re.findall(r"`(?:await |async with |with )?kernel\.(\w+)\(", PAGE):
        assert hasattr(Kernel, name), name
    for name in re.findall(r"STATUS_\w+", PAGE):
        assert name in NTSTATUS.__members__
    for name in re.findall(r"`(load_\w+|store_\w+)`", PAGE):
        assert hasattr(Cpu, name), name
    for name in re.findall(r"`(\w+Error)`", PAGE):
        assert hasattr(driver.errors, name), name
    assert ", ".join(Moment.__members__) in PAGE.replace("\n", " ")


def test_the_page_gives_the_limits_in_force():
    assert f"called {STORM_CALLS} times in a row" in PAGE and f"{HOLD_LIMIT:,} cycles" in PAGE and f"DIRQL ({DIRQL})" in PAGE


def test_every_layer_exists():
    table = PAGE[PAGE.index("| layer |") : PAGE.index("Each layer is usable")]
    for name in re.findall(r"`(\w+(?:\.py|/))`", table):
        assert (FOLDER / name).exists(), name
