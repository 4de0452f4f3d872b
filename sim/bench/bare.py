# SPDX-License-Identifier: BSD-2-Clause
"""The yardstick of ``sim.rate.driven``: cocotbext-axi on a bare AXI RAM, which is the bench's ideal memory (latency 1)."""

import hashlib
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from rtl.config import SocConfig

from .. import toolchain
from ..build import MODELS, TOP, Model, build_verilator

__all__ = ["build_bare"]

_HDL = Path(__file__).parent / "hdl"
_ID, _DATA = 4, 64
_PORTS = {
    "aw": (("id", _ID), ("addr", 32), ("len", 8), ("size", 3), ("burst", 2), ("cache", 4), ("user", 16), ("valid", 1)),
    "w": (("data", _DATA), ("strb", _DATA // 8), ("last", 1), ("valid", 1)),
    "b": (("ready", 1),),
    "ar": (("id", _ID), ("addr", 32), ("len", 8), ("size", 3), ("burst", 2), ("cache", 4), ("user", 16), ("valid", 1)),
    "r": (("ready", 1),),
}
_OUTPUTS = {
    "aw": (("ready", 1),),
    "w": (("ready", 1),),
    "b": (("id", _ID), ("resp", 2), ("valid", 1)),
    "ar": (("ready", 1),),
    "r": (("id", _ID), ("data", _DATA), ("resp", 2), ("last", 1), ("valid", 1)),
}
_UNUSED = ("cache", "user")


def _verilog() -> tuple[str, list[str]]:
    ports, connections, names = [], [], ["clk", "rst"]
    for direction, table in (("input", _PORTS), ("output", _OUTPUTS)):
        for channel, fields in table.items():
            for field, width in fields:
                name = f"s_axi_{channel}{field}"
                names.append(name)
                ports.append(f"  {direction} [{width - 1}:0] {name};")
                if field not in _UNUSED:
                    connections.append(f".{channel}{field}({name})")
    # The memory reports its handshakes to `bench`, whose log goes nowhere here.
    text = (_HDL / "ideal_memory.v").read_text() + "\nmodule bench; integer log = 0; integer cycle = 0; endmodule\n"
    text = text.replace("$fwrite(bench.log", "if (0) $fwrite(bench.log")
    text += f"module {TOP}({', '.join(names)});\n  input clk, rst;\n" + "\n".join(ports)
    text += f"\n  ideal_memory ram(.clk(clk), .rst(rst), {', '.join(connections)});\n  bench bench();\nendmodule\n"
    return text, names


def build_bare(models: Path = MODELS) -> Model:
    """The model of the bare RAM; built once per content. Raises what :func:`sim.build.build_model` raises."""
    toolchain.check_simulator("verilator")
    text, names = _verilog()
    digest = hashlib.sha256((text + json.dumps(toolchain.versions("verilator"))).encode()).hexdigest()[:12]
    final = (models / f"bare-{digest}").absolute()
    model = Model(final, "verilator", SocConfig(), "")
    if not (final / "complete").exists():
        work = final.with_suffix(".part")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "testbench.v").write_text(text)
        shutil.copy(_HDL / "bench_pattern.vh", work)
        build_verilator(work, names, "")
        (work / "complete").write_text("")
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
    return model


@cocotb.test()
async def bare(dut: Any) -> None:
    """Single accesses per second of processor time, reads and writes in turn, as :func:`sim.bench.rates.driven` makes them."""
    from cocotbext.axi import AxiBus, AxiMaster

    warnings.simplefilter("ignore", DeprecationWarning)
    dut._log.setLevel("WARNING")
    count = json.loads(Path("session.json").read_text())["arguments"]["accesses"]
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    master = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    await master.write(0, bytes(64))
    start = time.process_time()
    for n in range(count // 2):
        await master.write(n % 8 * 8, bytes(8))
        await master.read(n % 8 * 8, 8)
    seconds = time.process_time() - start
    Path("rates.json").write_text(json.dumps({"rate": count / seconds}))
