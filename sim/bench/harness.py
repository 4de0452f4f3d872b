# SPDX-License-Identifier: BSD-2-Clause
"""Puts exported blocks between agents and ideal memories, builds that once per content, and runs programs on it.

A :class:`Harness` is Verilog only: the blocks as :func:`rtl.export.verilog` writes them, and the files of ``sim/bench/hdl``.
What happened comes back as a list of :class:`Event`, one per handshake, with its cycle.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.lib import wiring

from rtl.export import flat_ports, verilog

from .. import toolchain
from .program import Step, write_program

__all__ = ["BenchError", "Event", "Harness", "Run"]

HDL = Path(__file__).parent / "hdl"
ROOT = Path("build") / "bench"
_AXI = {
    "aw": ("valid", "ready", "id", "addr", "len", "size", "burst", "cache"),
    "w": ("valid", "ready", "data", "strb", "last"),
    "b": ("valid", "ready", "id", "resp"),
    "ar": ("valid", "ready", "id", "addr", "len", "size", "burst", "cache"),
    "r": ("valid", "ready", "id", "data", "resp", "last"),
}


class BenchError(Exception):
    """The bench could not be built, or a run did not end as it should; the text names the log."""


@dataclass(frozen=True)
class Event:
    """A handshake: in ``cycle``, at ``port`` (``c0`` an agent, ``m0`` a memory, ``maint``), of ``kind`` (AR, R, ...)."""

    cycle: int
    port: str
    kind: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What a run reported, in the order of its cycles."""

    events: list[Event]

    def of(self, port: str, *kinds: str) -> list[Event]:
        """The events of a port, of these kinds."""
        return [event for event in self.events if event.port == port and event.kind in kinds]

    def cycles(self, port: str, *kinds: str) -> list[int]:
        """Only their cycles."""
        return [event.cycle for event in self.of(port, *kinds)]


@dataclass
class Harness:
    """Blocks by instance name, and how their flat ports are connected. ``width``: bits of the data buses."""

    name: str
    width: int
    blocks: dict[str, wiring.Component] = field(default_factory=dict)
    _text: list[str] = field(default_factory=list)
    _wires: dict[str, int] = field(default_factory=dict)
    _driven: set[str] = field(default_factory=set)
    _agents: list[str] = field(default_factory=list)
    _programs: list[str] = field(default_factory=list)
    _verilog: str = ""
    _memories: int = 0

    def add(self, instance: str, component: wiring.Component) -> None:
        """Adds a block; its ports become wires ``<instance>_<port>``, and inputs that nothing drives are 0."""
        module = f"bench_{instance}"
        ports = flat_ports(component)
        for port in ports:
            wire = f"{instance}_{port.name}"
            self._wires[wire] = port.width
            if port.direction == "output":
                self._driven.add(wire)
        self._verilog += verilog(component, module) + "\n"
        connections = ", ".join(f".{port.name}({instance}_{port.name})" for port in ports)
        self._text.append(f"  {module} {instance}(.clk(clk), .rst(rst), {connections});")

    def connect(self, wire: str, value: str) -> None:
        """Drives a block's input with another wire or a constant."""
        self._driven.add(wire)
        self._text.append(f"  assign {wire} = {value};")

    def join(self, one: str, other: str) -> None:
        """Connects two interfaces by prefix: each input of one side to the output of the same name on the other."""
        for wire in sorted(self._wires):
            for mine, theirs in ((one, other), (other, one)):
                if wire.startswith(mine + "_"):
                    peer = theirs + wire[len(mine) :]
                    if wire not in self._driven and peer in self._driven and peer in self._wires:
                        self.connect(wire, peer)

    def _id_width(self, prefix: str) -> int:
        return self._wires[f"{prefix}_arid"]

    def _bus(self, prefix: str, *, manager: bool) -> str:
        """Port connections of an agent or a memory with the AXI interface ``prefix`` of a block."""
        found = []
        for channel, fields in _AXI.items():
            for name in fields:
                wire = f"{prefix}_{channel}{name}"
                if name == "cache" and not manager:
                    continue
                from_manager = (channel in ("aw", "w", "ar")) != (name == "ready")
                if from_manager == manager:
                    self._driven.add(wire)
                found.append(f".{channel}{name}({wire})")
        return ", ".join(found)

    def memory(self, prefix: str, *, space: int = 20) -> None:
        """An ideal memory at a manager port of a block; its events are those of ``m<number>``."""
        number = self._memories
        self._memories += 1
        self._text.append(
            f"  ideal_memory #(.DATA({self.width}), .ID({self._id_width(prefix)}), .SPACE({space}), .SEED({7 + number}), "
            f".NUMBER({number})) memory_{number}(.clk(clk), .rst(rst), {self._bus(prefix, manager=False)});"
        )

    def _agent(self, name: str, module: str, parameters: str, ports: str) -> None:
        reached = f"reached_{len(self._agents)}"
        self._agents.append(reached)
        self._programs.append(name)
        self._text.append(
            f"  {module} #({parameters}) agent_{name}(.clk(clk), .rst(rst), .others(others), .reached({reached}), {ports});"
        )

    def manager(self, prefix: str, irq: str = "32'd0") -> str:
        """An AXI agent at a subordinate port of a block; returns its program's name, ``cpu<number>`` (events: ``c<number>``).

        ``irq`` is the wire with its interrupt levels.
        """
        number = sum(name.startswith("cpu") for name in self._programs)
        parameters = f".DATA({self.width}), .ID({self._id_width(prefix)}), .SEED({101 + number}), .NUMBER({number})"
        self._agent(f"cpu{number}", "axi_agent", parameters, f".irq({irq}), {self._bus(prefix, manager=True)}")
        return f"cpu{number}"

    def native(self, prefix: str) -> str:
        """The same at a D-cache's native port."""
        number = sum(name.startswith("cpu") for name in self._programs)
        ports = []
        for name in ("valid", "ready", "addr", "we", "data", "strb", "size", "cacheable", "tag", "meta"):
            ports.append(f".req_{name}({prefix}_req_{name})")
            if name != "ready":
                self._driven.add(f"{prefix}_req_{name}")
        ports += [f".rsp_{name}({prefix}_rsp_{name})" for name in ("valid", "ready", "we", "data", "resp")]
        self._driven.add(f"{prefix}_rsp_ready")
        self._agent(f"cpu{number}", "native_agent", f".DATA({self.width}), .NUMBER({number})", ", ".join(ports))
        return f"cpu{number}"

    def maintenance(self, prefix: str) -> str:
        """The writer of a maintenance unit's registers; its program is ``maint``."""
        names = {
            "start": "start",
            "length": "length",
            "written": "cmd_written",
            "op": "cmd_op",
            "scope": "cmd_scope",
            "target": "cmd_target",
        }
        ports = [f".{port}({prefix}_{wire})" for port, wire in names.items()] + [f".done({prefix}_status_done_set)"]
        self._driven |= {f"{prefix}_{wire}" for wire in names.values()}
        self._agent("maint", "maint_agent", ".LENGTH(1024)", ", ".join(ports))
        return "maint"

    def verilog(self) -> str:
        """The whole text; its top module is ``bench``."""
        out = ["module bench(input clk);"]
        out += [f"  wire [{width - 1}:0] {wire};" for wire, width in self._wires.items()]
        out += [f"  wire [31:0] {reached};" for reached in self._agents]
        out.append("  reg rst; reg [31:0] cycle, quiet, limit, others; reg [8*256-1:0] folder; integer log;")
        out.append("  initial begin")
        out.append("    rst = 1; cycle = 0; quiet = 0;")
        out.append('    if (!$value$plusargs("limit=%d", limit)) limit = 1000000;')
        out.append('    if (!$value$plusargs("programs=%s", folder)) folder = ".";')
        out.append('    log = $fopen({folder, "/log.txt"}, "w");')
        out.append("  end")
        out.append("  always @(*) begin")
        out.append("    others = 32'hFFFF_FFFF;")
        out += [f"    if ({reached} < others) others = {reached};" for reached in self._agents]
        out.append("  end")
        out.append("  always @(posedge clk) begin")
        out.append("    cycle <= cycle + 1;")
        out.append("    if (cycle == 8) rst <= 0;")
        # What is still under way when all programs have ended must have come to rest.
        out.append("    quiet <= others == 32'hFFFF_FFFF ? quiet + 1 : 0;")
        out.append("    if (quiet == 400 || cycle == limit) begin")
        out.append('      $fwrite(log, "%0d bench %s\\n", cycle, quiet == 400 ? "END" : "LIMIT");')
        out.append("      $fflush(log);")
        out.append("      $finish;")
        out.append("    end")
        out.append("  end")
        out += [f"  assign {wire} = 0;" for wire in self._wires if wire not in self._driven]
        out += self._text
        out.append("endmodule")
        files = [(HDL / f"{name}.v").read_text() for name in ("ideal_memory", "axi_agent", "native_agent", "maint_agent")]
        return "\n".join([self._verilog, *files, *out]) + "\n"

    def build(self, root: Path = ROOT) -> Path:
        """The folder with the executable; builds it if it is not there.

        Raises
        ------
        ToolError, BenchError
            If a program is missing or fails.
        """
        toolchain.check_simulator("verilator")
        text = self.verilog()
        version = toolchain.versions("verilator")["verilator"]
        content = "\0".join((text, version, *(path.read_text() for path in (HDL / "main.cpp", HDL / "bench_pattern.vh"))))
        folder = (root / "models" / f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}").absolute()
        if (folder / "complete").exists():
            return folder
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / "bench.v").write_text(text)
        for name in ("bench_pattern.vh", "main.cpp"):
            shutil.copy(HDL / name, part / name)
        environment = toolchain.build_environment()
        verilator = str(toolchain.verilator_root() / "bin" / "verilator")
        options = ["--cc", "--exe", "--Mdir", ".", "--top-module", "bench", "-O3", "--x-assign", "fast", "--noassert"]
        options += ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-MULTIDRIVEN", "--output-split", "20000"]
        _call([verilator, *options, "main.cpp", "bench.v"], part, environment)
        # Runs are short and compiling is not: nothing is optimised, and Verilator's own library is compiled once.
        library = folder.with_name(f"library-{version}")
        for path in library.glob("verilated*.o"):
            shutil.copy(path, part)
        levels = [f"OPT_{kind}=-O0" for kind in ("FAST", "SLOW", "GLOBAL")]
        _call(["make", "-j2", "-f", "Vbench.mk", *levels, "CXX=g++", "LINK=g++"], part, environment)
        library.mkdir(exist_ok=True)
        for path in part.glob("verilated*.o"):
            if not (library / path.name).exists():
                shutil.copy(path, library / f"{path.name}.{os.getpid()}")
                (library / f"{path.name}.{os.getpid()}").replace(library / path.name)
        for path in [*part.glob("*.o"), *part.glob("*.a"), *part.glob("*.gch")]:
            path.unlink()
        (part / "complete").write_text("")
        try:
            part.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(part)
        return folder

    def run(
        self,
        programs: Mapping[str, Sequence[Step]],
        *,
        latency: int = 1,
        stall: int = 0,
        back: int = 0,
        limit: int = 1_000_000,
        root: Path = ROOT,
    ) -> Run:
        """Carries out a program per agent (none: it does nothing), from reset.

        ``latency`` is that of all ideal memories in cycles; ``stall`` and ``back``: percent of the cycles in which memories
        and managers hold their handshakes back; ``limit`` is in cycles.

        Raises
        ------
        BenchError
            If a program does not end within ``limit``, or a memory saw a wrong burst.
        """
        folder = self.build(root)
        work = (root / "runs" / f"{self.name}-{os.getpid()}").absolute()
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for name in self._programs:
            path = work / ("maint.hex" if name == "maint" else f"{name}.hex")
            write_program(path, programs.get(name, ()))
        arguments = {"programs": ".", "latency": latency, "stall": stall, "back": back, "limit": limit}
        _call([str(folder / "Vbench"), *(f"+{key}={value}" for key, value in arguments.items())], work, dict(os.environ))
        events = []
        for line in (work / "log.txt").read_text().splitlines():
            cycle, port, kind, *rest = line.split()
            if kind in ("LIMIT", "ERROR"):
                raise BenchError(f"{self.name}: {line} (see {work / 'log.txt'})")
            events.append(Event(int(cycle), port, kind, tuple(rest)))
        if not events or events[-1].kind != "END":
            raise BenchError(f"{self.name}: the run must end by itself; see {work / 'build.log'}")
        shutil.rmtree(work)
        return Run(events)


def _call(command: list[str], work: Path, environment: dict[str, str]) -> None:
    with open(work / "build.log", "a") as log:
        done = subprocess.run(command, cwd=work, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join((work / "build.log").read_text(errors="replace").splitlines()[-12:])
        raise BenchError(f"{Path(command[0]).name} failed with exit code {done.returncode}; {work / 'build.log'}:\n{tail}")
