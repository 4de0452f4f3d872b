# SPDX-License-Identifier: BSD-2-Clause
"""Builds a simulation model once per content hash: configuration, hardware sources, testbench, tools.

A model lives in ``build/models/<simulator>-<hash>``. It is built in a folder of its own and renamed when it is complete,
under a file lock, so that parallel callers build it once and an interrupted build leaves nothing that looks finished.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rtl.config import SocConfig

from . import toolchain
from .hdl import testbench_verilog

__all__ = ["BuildError", "Mutation", "Model", "build_model", "build_verilator"]

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path("build") / "models"
TOP = "flushpoint_tb"

#: What Verilator says about generated Verilog that is no news to anybody: each with its reason in rtl/lint.vlt.
_VERILATOR_ARGUMENTS = [
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "-Wno-MULTIDRIVEN",
    "-CFLAGS",
    "-O1",
    "--output-split",
    "20000",
]


class BuildError(Exception):
    """A model could not be built; the text names the log."""


@dataclass(frozen=True)
class Mutation:
    """Hardware broken on purpose: ``apply`` is a context manager around elaboration. For tests of the testbench itself."""

    name: str
    apply: Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Model:
    """A finished model: ``directory`` holds the executable and the Verilog it was made from."""

    directory: Path
    simulator: str
    config: SocConfig
    waves: str  # "" (none), "fst" or "vcd"

    @property
    def verilog(self) -> Path:
        return self.directory / "testbench.v"


def _source_hash() -> str:
    digest = hashlib.sha256()
    for folder in ("rtl", "sim/hdl"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".v", ".vlt"):
                digest.update(str(path.relative_to(ROOT)).encode())
                digest.update(path.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def model_key(config: SocConfig, simulator: str, waves: str, mutation: Mutation | None) -> str:
    """Twelve hex digits that change with anything the model depends on."""
    parts = {
        "config": config.to_dict(),
        "sources": _source_hash(),
        "versions": toolchain.versions(simulator),
        "waves": waves,
        "mutation": mutation.name if mutation else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_model(
    config: SocConfig,
    simulator: str = "verilator",
    *,
    waves: bool = False,
    mutation: Mutation | None = None,
    progress: Callable[[str], None] = lambda text: None,
    models: Path = MODELS,
) -> Model:
    """Returns the model for ``config``, building it if it is not there yet.

    Raises
    ------
    ToolError
        If a program is missing.
    BuildError
        If Verilator, the compiler or Icarus fails.
    """
    toolchain.check_simulator(simulator)
    kind = "" if not waves else "fst" if simulator == "icarus" or toolchain.fst_available() else "vcd"
    name = f"{simulator}-{model_key(config, simulator, kind, mutation)}"
    models = models.absolute()
    final = models / name
    model = Model(final, simulator, config, kind)
    if (final / "complete").exists():
        return model
    with _locked(models / f"{name}.lock"):
        if (final / "complete").exists():
            return model
        progress(f"building {name} (coherency {config.coherency!r}{', waves' if waves else ''})")
        work = models / f"{name}.part"
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        work.mkdir(parents=True)
        with mutation.apply() if mutation else contextlib.nullcontext():
            bench = testbench_verilog(config, TOP, waves=waves)
        text = bench.verilog if simulator == "verilator" else _for_icarus(bench.verilog)
        (work / "testbench.v").write_text(text)
        (work / "layout.json").write_text(json.dumps(bench.layout, indent=1))
        (work / "config.json").write_text(json.dumps(config.to_dict(), indent=1))
        if simulator == "verilator":
            build_verilator(work, bench.ports, kind)
        else:
            _build_icarus(work, waves)
        (work / "complete").write_text(name + "\n")
        os.rename(work, final)
    return model


def _run(command: list[str], work: Path, environment: dict[str, str]) -> None:
    with open(work / "build.log", "a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        done = subprocess.run(command, cwd=work, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join((work / "build.log").read_text(errors="replace").splitlines()[-15:])
        raise BuildError(f"{command[0]} failed with exit code {done.returncode}; the end of {work / 'build.log'}:\n{tail}")


def build_verilator(work: Path, ports: list[str], waves: str) -> None:
    """Verilates and compiles ``testbench.v`` in ``work`` (top module :data:`TOP`) with those ports visible to cocotb."""
    import cocotb_tools.config

    # Only the testbench's ports are visible to VPI: making everything public costs 5 to 10 times the speed.
    (work / "ports.vlt").write_text(
        "`verilator_config\n" + "".join(f'public_flat_rw -module "{TOP}" -var "{port}"\n' for port in ports)
    )
    environment = toolchain.build_environment()
    libs = cocotb_tools.config.libs_dir
    trace = {"": [], "vcd": ["--trace"], "fst": ["--trace-fst"]}[waves]
    _run(
        [
            str(toolchain.verilator_root() / "bin" / "verilator"),
            "--cc",
            "--exe",
            "--Mdir",
            ".",
            "--top-module",
            TOP,
            "--vpi",
            "--prefix",
            "Vtop",
            "-o",
            TOP,
            "-LDFLAGS",
            f"-Wl,-rpath,{libs} -L{libs} -lcocotbvpi_verilator",
            "--timescale",
            "1ns/1ps",
            *trace,
            *_VERILATOR_ARGUMENTS,
            str(cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"),
            "ports.vlt",
            "testbench.v",
        ],
        work,
        environment,
    )
    _run(
        ["make", "-j2", "-f", "Vtop.mk", "OPT_FAST=-O2", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1", "CXX=g++", "LINK=g++"],
        work,
        environment,
    )
    for path in [*work.glob("*.o"), *work.glob("*.a"), *work.glob("*.gch")]:
        path.unlink()


def _for_icarus(text: str) -> str:
    """Icarus does not run ``always @*`` at time 0: what does not change from then on would stay X.

    Blocks get a change of their dummy register at time 0, single statements are performed once in the inactive region.
    (``always_comb`` would be the plain way; Icarus 11 then never leaves time 0.)
    """
    text, count = re.subn(
        r"reg (\\\$auto\$verilog_backend\S+)\s+= 0;",
        lambda match: f"reg {match[1]} ; initial begin {match[1]} = 0; #0 {match[1]} = 1; end",
        text,
    )
    if not count:
        raise BuildError("the exported Verilog has no dummy registers to wake its always @* blocks with: Icarus would leave X")
    return re.sub(r"^  always @\*\n(    [^\n]+;)$", r"  initial #0\n\1\n  always @*\n\1", text, flags=re.M)


def _build_icarus(work: Path, waves: bool) -> None:
    arguments = ["iverilog", "-g2012", "-o", "sim.vvp", "-s", TOP]
    (work / "timescale.f").write_text("+timescale+1ns/1ps\n")
    sources = ["testbench.v"]
    if waves:
        (work / "waves.v").write_text(
            f'module flushpoint_waves;\n  initial begin $dumpfile("dump.fst"); $dumpvars(0, {TOP}); end\nendmodule\n'
        )
        sources.append("waves.v")
        arguments += ["-s", "flushpoint_waves"]
    _run([*arguments, "-f", "timescale.f", *sources], work, dict(os.environ))
