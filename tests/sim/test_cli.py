# SPDX-License-Identifier: BSD-2-Clause
"""The command line without a simulator: lists, explanations, and what it says to bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtl.config import SocConfig
from sim.cli import main
from sim.options import DEFAULT_PAYLOAD, MAX_PAYLOAD, OptionError, prepare
from sim.runner import RunSummary, distribute
from sim.scenarios import catalogue, everything
from sim.scenarios.model import PLATFORMS

ROOT = Path(__file__).resolve().parent.parent.parent


def refused(capsys, *arguments):
    """The one line on standard error of a refused command line."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("flushpoint: error: ")
    return captured.err


def test_list_prints_one_name_a_line(capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines() == list(everything())
    assert list(everything())[: len(catalogue())] == list(catalogue())


def test_list_json_says_what_is_expected(capsys):
    assert main(["list", "--json", "dma-read/system/no-preflush/non-coherent"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)
    assert first["expectation"][0]["value"] == "old" and first["roots"] == ["R02"] and first["platform"] == "non-coherent"


def test_explain_tells_the_steps_the_rule_and_the_missing_call(capsys):
    assert main(["explain", "dma-write/bus-master/no-preflush/non-coherent"]) == 0
    text = capsys.readouterr().out
    assert "does not call KeFlushIoBuffers(Mdl, FALSE, TRUE)" in text
    assert "S6: " in text and "What is missing" in text and "R01" in text


def test_rules_lists_the_checker_s_rules(capsys):
    assert main(["rules"]) == 0
    text = capsys.readouterr().out
    for number in (1, 2, 3, 4, 5, 7, 8, 9, 13, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27):
        assert f"R{number:02}" in text


def test_unknown_scenario(capsys):
    assert "scenario must be a name" in refused(capsys, "run", "dma-reed")
    assert "not 'nothing'" in refused(capsys, "explain", "nothing")
    assert "must be one name, not 'pio'" in refused(capsys, "explain", "pio")


def test_unknown_simulator(capsys):
    assert "simulator must be one of verilator, icarus, not 'modelsim'" in refused(capsys, "run", "--sim", "modelsim")


@pytest.mark.parametrize("value", ["0", "-1", "two", "65", "1.5"])
def test_jobs(capsys, value):
    assert f"jobs must be an integer from 1 to 64, not '{value}'" in refused(capsys, "run", f"--jobs={value}")


@pytest.mark.parametrize("value", ["-1", "x", str(1 << 32)])
def test_seed(capsys, value):
    assert f"seed must be an integer from 0 to 4294967295, not '{value}'" in refused(capsys, "run", f"--seed={value}")


def test_payload_that_is_missing_empty_too_large_or_a_folder(capsys, tmp_path):
    missing = tmp_path / "missing"
    assert f"payload must be a readable file, not '{missing}'" in refused(capsys, "run", "--payload", str(missing))
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert "payload must be at least 1 byte, not 0" in refused(capsys, "run", "--payload", str(empty))
    large = tmp_path / "large"
    large.write_bytes(bytes(MAX_PAYLOAD + 1))
    assert f"payload must be at most 1048576 bytes (1 MiB), not {MAX_PAYLOAD + 1}" in refused(
        capsys, "run", "--payload", str(large)
    )
    assert "payload must be a file, not the folder" in refused(capsys, "run", "--payload", str(tmp_path))


@pytest.mark.parametrize(
    "text, message",
    [
        ("[dcache]\nline_bytes = 48", "dcache.line_bytes must be a power of two from 16 to 128, not 48"),
        ("[dcache]\nways = 0", "dcache.ways must be a power of two from 1 to 8, not 0"),
        ("[dma]\nchunk_bytes = 64", "dma.chunk_bytes must be at most dcache.line_bytes (32), not 64"),
        ("[memory]\nbase = 0x10000000", "clear of the CSR window"),
        ("[dcache]\ncolour = 1", "dcache.colour is not a configuration key"),
        ("colour = 1", "colour is not a configuration key"),
        ("dcache = [", "must be TOML"),
        ("[memory]\nsize = 4096", "memory.size must be at least 65536 for a payload of"),
        ("[device]\nbuffer_bytes = 4096", "device.buffer_bytes must be at least 16384 for a payload of"),
    ],
)
def test_configuration(capsys, tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert message in refused(capsys, "run", "--config", str(path))


def test_configuration_file_that_is_missing(capsys, tmp_path):
    assert "configuration file" in refused(capsys, "run", "--config", str(tmp_path / "none.toml"))


def test_configuration_too_small_says_what_to_set(capsys, tmp_path):
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(300_000))
    config = tmp_path / "fixed.toml"
    config.write_text("[memory]\nsize = 262144\n")
    text = refused(capsys, "run", "--payload", str(payload), "--config", str(config))
    assert "memory.size must be at least 524288 for a payload of 300000 bytes, not 262144" in text


def test_results_below_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "results must be a folder" in refused(capsys, "run", "--results", str(tmp_path / "file" / "below"))


def test_waves_of_more_than_one_scenario(capsys):
    assert "waves must be asked for with exactly one scenario" in refused(capsys, "run", "--waves", "pio")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--fast"], ["explain"], ["check"]])
def test_wrong_usage(capsys, arguments):
    assert "--help" in refused(capsys, *arguments)


def test_check_of_something_that_is_no_record(capsys, tmp_path):
    assert "replay must be a folder" in refused(capsys, "check", "--replay", str(tmp_path / "none"))
    assert "platform.json" in refused(capsys, "check", "--replay", str(tmp_path))


def test_nothing_is_written_for_bad_input(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sim", "run", "--payload", "none", "--results", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr and not list(tmp_path.iterdir())


# -- what prepare and the runner make of good input --------------------------------------------------------------------


def test_default_payload_is_a_small_file_of_the_repository_larger_than_the_cache():
    assert 4096 < DEFAULT_PAYLOAD.stat().st_size <= 16 * 1024


def test_two_hardware_builds_by_default():
    options = prepare(names=["dma-read"])
    assert {name: config.coherency for name, config in options.configs.items()} == {"non-coherent": "none", "coherent": "snoop"}


def test_an_example_of_faulty_hardware_has_a_build_of_its_own():
    options = prepare()
    assert len(options.scenarios) == len(everything())
    assert {scenario.platform for scenario in options.scenarios} == set(options.configs)
    faulty = {name: config for name, config in options.configs.items() if config.faults != SocConfig().faults}
    assert list(faulty) == ["non-coherent+maintenance_point_of_unification"]
    (config,) = faulty.values()
    assert config == options.configs["non-coherent"].replace(faults__maintenance_point_of_unification=True)


def test_a_large_payload_grows_memory_and_device(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(MAX_PAYLOAD))
    options = prepare(payload=path)
    for config in options.configs.values():
        assert config.memory.size == 2 << 20 and config.device.buffer_bytes == 2 << 20


def test_a_configuration_with_coherency_selects_its_platform(tmp_path):
    path = tmp_path / "snoop.toml"
    path.write_text('coherency = "snoop"\n')
    options = prepare(config=path)
    assert set(options.configs) == {"coherent"} and {s.platform for s in options.scenarios} == {"coherent"}
    with pytest.raises(OptionError, match="scenario must be one of the configuration's platform"):
        prepare(config=path, names=["dma-read/system/no-preflush/non-coherent"])
    path.write_text("[dcache]\nsets = 32\n")
    assert {config.dcache.sets for config in prepare(config=path).configs.values()} == {32}
    assert set(prepare(config=path, names=["dma-read"]).configs) == set(PLATFORMS)


def test_examples_are_about_write_back_caches(tmp_path):
    path = tmp_path / "through.toml"
    path.write_text('[dcache]\nwrite_policy = "through"\n')
    assert {s.name for s in prepare(config=path).scenarios} == set(catalogue())
    with pytest.raises(
        OptionError,
        match="scenario must be one of the tables, not 'rules/R24/broken': examples say what happens with a write-back",
    ):
        prepare(config=path, names=["rules/R24/broken"])


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_sessions_take_every_scenario_once(jobs):
    options = prepare(jobs=jobs)
    sessions = distribute(options)
    names = [scenario.name for session in sessions for scenario in session.scenarios]
    assert sorted(names) == sorted(everything())
    assert all(scenario.platform == session.platform for session in sessions for scenario in session.scenarios)
    assert len([session for session in sessions if session.platform in PLATFORMS]) == 2 * jobs
    counts = [len(session.scenarios) for session in sessions if session.platform == "coherent"]
    assert max(counts) - min(counts) < 0.2 * max(counts)


def test_a_run_without_results_has_not_passed():
    assert not RunSummary([]).passed and RunSummary([]).rate == 0.0 and RunSummary([]).idle_rate == 0.0
