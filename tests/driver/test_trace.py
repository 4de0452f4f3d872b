# SPDX-License-Identifier: BSD-2-Clause
"""The call log and its sites."""

import json
from pathlib import Path

import driver.storage
from driver import site as module
from driver.storage import Path as DataPath
from driver.storage import StorageDriver
from driver.trace import Trace, caller_site
from driver.wdk import Kernel

from .fake_bus import FakeBus, run


def test_begin_and_end_share_a_number_and_nest():
    trace = Trace(iter(range(100)).__next__)
    with trace.call("Outer", a=1) as outer:
        trace.event("Inner")
        outer.result = 5
    assert [(r["seq"], r["phase"], r["name"], r["call"], r["cycle"]) for r in trace.records] == [
        (0, "begin", "Outer", 1, 0),
        (1, "begin", "Inner", 2, 1),
        (2, "end", "Inner", 2, 2),
        (3, "end", "Outer", 1, 3),
    ]
    assert trace.records[0]["args"] == {"a": 1} and trace.records[3]["result"] == 5


def test_the_site_is_the_callers_line():
    file, _, function = caller_site()
    assert (file, function) == (__file__, "test_the_site_is_the_callers_line")


def test_a_users_file_beside_the_library_is_no_library():
    assert module._inside("/x/driver/a.py", "/x/driver") and module._inside("/x/bfm.py", "/x/bfm.py")
    assert not module._inside("/x/driver_of_mine.py", "/x/driver")


def test_the_storage_driver_is_a_driver_not_a_library():
    bus = FakeBus()

    async def story():
        kernel = await Kernel.start(bus)
        address = kernel.pool.allocate(8)
        await StorageDriver(kernel).read(address, 8, 0, DataPath.SYSTEM_CHANNEL)
        return kernel.trace.records

    records = run(story())
    files = {Path(r["site"][0]).name for r in records if r["phase"] == "begin"}
    assert files == {Path(driver.storage.__file__).name, "storage_device.py"}
    json.dumps(records)


def test_an_exception_is_logged_and_not_swallowed():
    trace = Trace()
    try:
        with trace.call("Fails"):
            raise ValueError("why")
    except ValueError:
        pass
    assert trace.records[-1]["error"] == "ValueError: why"
