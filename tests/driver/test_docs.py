# SPDX-License-Identifier: BSD-2-Clause
"""The example in docs/driver.md runs, and the page names things that exist."""

import re
from pathlib import Path

import driver.wdk
from driver.discipline import Moment
from driver.wdk import NTSTATUS, DmaAdapter, Kernel

from .fake_bus import FakeBus, run

PAGE = (Path(__file__).parents[2] / "docs" / "driver.md").read_text()


def test_the_example_reads_a_sector():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    space = {}
    exec(compile(code, "docs/driver.md", "exec"), space)
    bus = FakeBus()
    bus.device[0:512] = bytes(n & 255 for n in range(512))
    assert run(space["read_sector"](bus)) == (bytes(bus.device[0:512]), 0, True)


def test_the_page_names_what_exists():
    for owner, prefix in ((Kernel, "kernel"), (DmaAdapter, "adapter")):
        for name in re.findall(rf"`(?:await |async with |with )?{prefix}\.(\w+)\(", PAGE):
            assert hasattr(owner, name), name
    for name in re.findall(r"STATUS_\w+", PAGE):
        assert name in NTSTATUS.__members__
    assert ", ".join(Moment.__members__) in PAGE.replace("\n", " ")
    assert "DmaAdapter" in driver.wdk.__all__
