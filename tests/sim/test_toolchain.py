# SPDX-License-Identifier: BSD-2-Clause
"""What is missing is said in one line; what a distribution has on PATH does not get in the way."""

import os
import stat
import subprocess
import sys

import pytest

from sim import toolchain
from sim.build import ROOT


def _program(folder, name, text):
    path = folder / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("simulator", "present", "text"),
    [
        ("verilator", (), "g++ is missing"),
        ("verilator", ("g++",), "make is missing"),
        ("verilator", ("g++", "make"), "perl is missing"),
        ("icarus", (), "iverilog is missing"),
        ("icarus", ("iverilog",), "vvp is missing"),
    ],
)
def test_a_missing_program_is_named_with_its_package(tmp_path, monkeypatch, simulator, present, text):
    for name in present:
        _program(tmp_path, name, "exit 0\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(toolchain.ToolError, match="apt-get install") as caught:
        toolchain.check_simulator(simulator)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_simulator_is_named():
    with pytest.raises(toolchain.ToolError, match="simulator must be one of verilator, icarus, not 'vcs'"):
        toolchain.check_simulator("vcs")


def test_an_old_verilator_and_yosys_on_the_path_are_not_used(tmp_path):
    for name in ("verilator", "verilator_bin", "yosys"):
        _program(tmp_path, name, f"echo {name} of the distribution >> {tmp_path}/called; echo 'Yosys 0.60'; exit 1\n")
    script = (
        "import subprocess; from rtl.config import SocConfig; from rtl.export import verilog; from rtl.memory.controller import "
        "MemoryController; from sim import toolchain; assert 'module m(' in verilog(MemoryController(config=SocConfig()), 'm'); "
        "subprocess.run(['verilator', '--version'], env=toolchain.build_environment(), check=True)"
    )
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("present", "text"),
    [
        ((), "flushpoint: Python (python3) is missing"),
        (("python3",), "flushpoint: the C++ compiler g++ is missing"),
        (("python3", "g++"), "flushpoint: perl is missing"),
    ],
)
def test_preflight_says_what_the_set_up_needs(tmp_path, present, text):
    for name in present:
        _program(tmp_path, name, "exit 0\n")
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "preflight.sh"), "python3"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(text) and len(done.stderr.splitlines()) == 1


def test_versions_name_the_simulator():
    assert {"amaranth", "cocotb", "cocotbext-axi", "python", "verilator"} <= set(toolchain.versions("verilator"))
