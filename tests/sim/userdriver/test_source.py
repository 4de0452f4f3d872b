# SPDX-License-Identifier: BSD-2-Clause
"""What is a driver file, and what is said about a file that is none."""

import pytest

from sim.userdriver.source import DriverFileError, inspect_file, load_file, load_function

GOOD = "async def driver_entry(kernel, device):\n    return None\n"


def write(tmp_path, text, name="my_driver.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text, style",
    [
        (GOOD, "wdk"),
        ("async def probe(dev, device): pass", "linux"),
        ("async def main(machine, device, more=1): pass", "bare"),
        ("async def main(*arguments): pass", "bare"),
        ("def helper(): pass\nasync def other(): yield 1\nasync def probe(a, b):\n    def inner():\n        yield 1", "linux"),
    ],
)
def test_the_coroutine_says_the_style(tmp_path, text, style):
    path = write(tmp_path, text)
    assert inspect_file(path).style == style
    assert load_file(path).entry.__name__ == inspect_file(path).name


@pytest.mark.parametrize(
    "text, message",
    [
        ("x = 1", "a driver must define exactly one of 'async def driver_entry(kernel, device)'"),
        (GOOD + "async def probe(d, e): pass", "not driver_entry in line 1, probe in line 3"),
        ("\ndef main(machine, device): pass", r":2: main must be a coroutine ('async def main'), not a plain function"),
        ("class probe: pass", ":1: probe must be a coroutine ('async def probe'), not a class"),
        ("async def driver_entry(): pass", ":1: driver_entry must take two parameters (kernel, device), not none"),
        ("async def driver_entry(k): pass", "must take two parameters (kernel, device), not 1"),
        ("async def probe(a, b, c): pass", "must take two parameters (dev, device), not 3"),
        ("async def probe(a, b, *, c): pass", "must take two parameters (dev, device), not 3"),
        ("async def main(a, b):\n    yield 1", "main must be a coroutine, not a generator"),
        ("async def main(a, b:\n", ":1: a driver must be Python"),
        ("x = 1\nfor", ":2: a driver must be Python: invalid syntax"),
        ("\0", "a driver must be Python"),
    ],
)
def test_a_file_that_is_no_driver(tmp_path, text, message):
    with pytest.raises(DriverFileError) as error:
        inspect_file(write(tmp_path, text))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DriverFileError, match=r"driver must be a readable file, not .*none\.py': No such file"):
        inspect_file(tmp_path / "none.py")
    with pytest.raises(DriverFileError, match="driver must be a Python file, not the folder"):
        inspect_file(tmp_path)


def test_inspecting_executes_nothing(tmp_path):
    assert inspect_file(write(tmp_path, "raise SystemExit(1)\n" + GOOD)).style == "wdk"


def test_an_imported_coroutine_is_found_and_its_folder_importable(tmp_path):
    write(tmp_path, GOOD, "shared_driver_part.py")
    path = write(tmp_path, "from shared_driver_part import driver_entry\n")
    assert load_file(path).style == "wdk"
    path = write(tmp_path, "from os import getcwd as probe\n", "plain.py")
    with pytest.raises(DriverFileError, match="probe must be a coroutine"):
        load_file(path)


def test_each_load_starts_afresh(tmp_path):
    path = write(tmp_path, "count = []\n" + GOOD.replace("return None", "count.append(1)"))
    first, second = load_file(path), load_file(path)
    assert first.entry.__globals__["count"] is not second.entry.__globals__["count"]


def test_an_example_s_first_parameter_says_its_style():
    assert load_function("sim.scenarios.rules.r24:broken").style == "wdk"
    assert load_function("sim.scenarios.cases.nuttx_litex_sdio:broken").style == "bare"  # and has a parameter with a default
    with pytest.raises(DriverFileError, match=r"must take \(kernel, device\), .*the first name says the style"):
        load_function("sim.scenarios.rules.r24:write_block")
    with pytest.raises(DriverFileError, match="nothing must be a coroutine"):
        load_function("sim.scenarios.rules.r24:nothing")
