# SPDX-License-Identifier: BSD-2-Clause
"""The whole catalogue on the hardware, through the command line."""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from sim.scenarios import catalogue, everything

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*arguments, results):
    """``python -m sim run``; models are shared with everybody else in ``build/models``."""
    return subprocess.run(
        [sys.executable, "-m", "sim", "run", *arguments, "--results", str(results)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


def results_of(folder):
    document = json.loads((folder / "results.json").read_text())
    return document, {result["name"]: result for result in document["results"]}


def test_quick_catalogue_passes_on_verilator(tmp_path):
    done = run("--quick", results=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    document, results = results_of(tmp_path)
    assert list(results) == list(everything()) and document["counts"]["failed"] == 0
    assert {"amaranth", "cocotb", "verilator"} <= set(document["versions"]) and document["seed"] == 1
    assert ET.parse(tmp_path / "junit.xml").getroot().get("failures") == "0"
    for name in catalogue():
        result = results[name]
        assert (result["sha256_in"] == result["sha256_out"]) == (result["corrupted"] == 0)
        assert Path(result["received"]).stat().st_size == result["size"]
        told = catalogue()[result["name"]].options.get("coherent_flag", result["platform"] == "coherent")
        if told and "KeFlushIoBuffers" in result["costs"]:
            assert result["costs"]["KeFlushIoBuffers"]["accesses"] == 0


def test_no_result_depends_on_the_scenarios_before_it(tmp_path):
    names = [name for name in catalogue() if name.startswith(("flush-fails/system", "code-by-dma/system"))]
    together, alone = tmp_path / "together", tmp_path / "alone"
    assert run("--quick", "--jobs", "1", *names, results=together).returncode == 0
    _, first = results_of(together)
    last = names[-1]
    assert run("--quick", last, results=alone).returncode == 0
    _, second = results_of(alone)
    for key in ("cycles", "seed", "sha256_out", "bus_accesses", "roots", "corrupted"):
        assert first[last][key] == second[last][key], key


def _compare(names, tmp_path):
    one, two = tmp_path / "verilator", tmp_path / "icarus"
    assert run("--quick", *names, results=one).returncode == 0
    done = run("--quick", "--sim", "icarus", *names, results=two)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    (_, first), (_, second) = results_of(one), results_of(two)
    assert {name: result["cycles"] for name, result in first.items()} == {
        name: result["cycles"] for name, result in second.items()
    }


_ICARUS = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


@_ICARUS
def test_icarus_takes_the_same_cycles_for_some_rows(tmp_path):
    _compare(
        [
            "short",
            "code-by-dma",
            "speculation/system",
            "partial-line/bus-master",
            "pio",
            "rules/R24/broken",
            "cases/zephyr-i2s-sam-ssc/broken",
        ],
        tmp_path,
    )


@pytest.mark.slow
@_ICARUS
def test_icarus_takes_the_same_cycles(tmp_path):
    _compare([], tmp_path)
