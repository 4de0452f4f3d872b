# SPDX-License-Identifier: BSD-2-Clause
"""Users' drivers on the hardware: templates, faults, drivers that hang, raise, loop or exit, and what the command line says."""

import json
import os
from pathlib import Path

import pytest

from rtl.config import SocConfig
from sim.build import build_model
from sim.cli import main
from sim.commands.new_driver import template
from sim.options import DEFAULT_PAYLOAD
from sim.scenarios.layout import fitting
from sim.userdriver.check import Lot, run_jobs
from sim.userdriver.run import DriverJob, Ending

ROOT = Path(__file__).resolve().parents[3]

DRIVERS = {
    "raises": """
        async def driver_entry(kernel, device):
            print("one line")
            buffer = kernel.ex_allocate_pool(64)
            await helper(kernel, buffer)

        async def helper(kernel, buffer):
            raise LookupError(f"at {await kernel.cpu.load(buffer, 1) and 1}")
        """,
    "hangs": """
        async def driver_entry(kernel, device):
            while True:
                try:
                    await wait(kernel)
                except BaseException:
                    pass

        async def wait(kernel):
            await kernel.bus.delay(100)
        """,
    "loops": """
        async def main(machine, device):
            while True:
                pass
        """,
    "exits": """
        import os

        async def main(machine, device):
            os._exit(3)
        """,
    "no_await": """
        async def driver_entry(kernel, device):
            buffer = kernel.ex_allocate_pool(64)
            mdl = kernel.io_allocate_mdl(buffer, 64)
            kernel.mm_build_mdl_for_non_paged_pool(mdl)
            kernel.ke_flush_io_buffers(mdl, True, True)
        """,
    "wrong_bytes": """
        async def main(machine, device):
            return bytes(4)
        """,
    "fails_to_import": """
        import nothing_of_this_name

        async def main(machine, device):
            pass
        """,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One simulator process (and one more after the driver that ends it) runs them all."""
    folder = tmp_path_factory.mktemp("drivers")
    for name, text in DRIVERS.items():
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        (folder / f"{name}.py").write_text("\n".join(line[indent:] for line in lines) + "\n")
    for style in ("wdk", "linux", "bare"):
        (folder / f"{style}.py").write_text(template(style))
    jobs = [DriverJob(name=path.stem, target=str(path), limit=6000) for path in sorted(folder.glob("*.py"))]
    architectures = ("arm", "arm64", "riscv", "mips")
    jobs += [DriverJob(name=name, target=str(folder / "linux.py"), architecture=name) for name in architectures]
    model = build_model(fitting(SocConfig(), DEFAULT_PAYLOAD.stat().st_size), models=ROOT / "build" / "models")
    return run_jobs([Lot(model, jobs, folder / "session")], DEFAULT_PAYLOAD, patience=120)


@pytest.mark.parametrize("name", ["wdk", "linux", "bare", "arm", "arm64", "riscv", "mips"])
def test_templates_keep_every_rule_and_move_every_byte(runs, name):
    run = runs[name]
    assert run.ended and not run.error and not run.hardware
    assert run.findings == [] and run.problems == [] and run.held == [] and run.notes == [] and run.tasks == []
    assert run.corrupted == 0 and run.checked == 2048


def test_a_driver_that_raises(runs):
    run = runs["raises"]
    assert (run.ending, run.problem) == (Ending.RAISED, "LookupError: at 1")
    assert [line.split(":")[1].split()[0] for line in run.trouble] == ["4", "7"] and "driver_entry" in run.trouble[0]
    assert run.last_call.startswith("AllocateMemory(") and run.held[0].startswith("memory 0x8")
    assert run.output == "one line\n" and not run.error


def test_a_driver_that_hangs_and_catches_everything(runs):
    run = runs["hangs"]
    assert (run.ending, run.problem) == (Ending.HANGS, "the driver did not end within 6000 cycles")
    assert run.last_site[1:] == [9, "wait"]


def test_a_driver_that_loops_without_time(runs):
    run = runs["loops"]
    assert run.ending == Ending.LOOPS and "simulated time" in run.problem
    assert run.last_site[1:] in ([2, "main"], [3, "main"])


def test_a_driver_that_ends_its_process_and_the_next_one_runs(runs):
    assert runs["exits"].ending == Ending.CRASHED and "exit code 3" in runs["exits"].problem
    assert runs["fails_to_import"].refused


def test_a_driver_without_await(runs):
    (note,) = runs["no_await"].notes
    assert "ke_flush_io_buffers' was never awaited" in note


def test_bytes_that_a_driver_returns_are_compared(runs):
    assert (runs["wrong_bytes"].checked, runs["wrong_bytes"].corrupted) == (4, 4)


def test_a_file_that_does_not_import(runs):
    text = runs["fails_to_import"].refused
    assert "fails_to_import.py:1: the file must import without an error, not with ModuleNotFoundError" in text


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the repository's models."""
    (tmp_path / "build").mkdir()
    os.symlink(ROOT / "build" / "models", tmp_path / "build" / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def forgetful(folder):
    """The template without its flush before the transfer."""
    text = template("wdk")
    line = next(line for line in text.splitlines() if "ke_flush_io_buffers" in line)
    (folder / "forgetful.py").write_text(text.replace(line, ""))


def test_explored_seeds_are_reproduced_exactly(folder, capsys):
    forgetful(folder)
    assert main(["check", "forgetful.py", "--explore", "3", "--json", "all.json"]) == 1
    out = capsys.readouterr().out
    assert "running 3 times" in out and "R01 corruption" in out and "in 3 of 3 runs (seeds 1, 2, 3)" in out
    (explored,) = json.loads(Path("all.json").read_text())["platforms"]
    second = explored["runs"][1]
    assert second["reproduce"] == "python -m sim check forgetful.py --seed 2 --platform wdk"
    arguments = [*second["reproduce"].split()[3:], "--json", "one.json", "--sarif", "one.sarif"]
    assert main(arguments) == 1
    (alone,) = json.loads(Path("one.json").read_text())["platforms"][0]["runs"]
    for key in ("seed", "timing", "cycles", "bus_accesses", "corrupted", "wrong", "device_sha256", "findings", "moved"):
        assert alone[key] == second[key], key
    assert explored["corrupting_seeds"] == [run["seed"] for run in explored["runs"] if run["corrupted"]]
    results = json.loads(Path("one.sarif").read_text())["runs"][0]["results"]
    assert results[0]["ruleId"] == "R01"
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "forgetful.py"
    record = next(line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("record: "))
    assert main(["check", "--replay", record]) == 1
    assert "R01" in capsys.readouterr().out


def test_bad_input_is_one_line_and_exit_code_2(folder, capsys):
    (folder / "none.py").write_text("x = 1\n")
    for arguments, message in (
        (["check", "missing.py"], "driver must be a readable file, not 'missing.py'"),
        (["check", "none.py"], "a driver must define exactly one of"),
        (["check", "none.py", "--replay", "."], "check must have either a driver or --replay DIR"),
        (["check", "--replay", ".", "--explore", "2"], "explore must be given with a driver"),
        (["new-driver", "a.txt"], "file must end in .py"),
        (["new-driver", "none.py"], "file must not exist (--force overwrites it)"),
        (["new-driver", "--style", "cobol"], "style must be one of wdk, linux, bare, not 'cobol'"),
        (["rules", "R99"], "rule must be one of R01 to R54, not 'R99'"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert main(["new-driver", "good.py"]) == 0
    capsys.readouterr()
    for option, value, message in (
        ("--platform", "vax", "platform must be one of arm, arm64, riscv, mips, wdk, bare, coherent, not 'vax'"),
        ("--explore", "-1", "explore must be an integer from 0 to 100000, not '-1'"),
        ("--seed", "x", "seed must be an integer from 0 to 4294967294, not 'x'"),
        ("--limit", "1", "limit must be an integer from 1000"),
        ("--sim", "other", "simulator must be one of verilator, icarus, not 'other'"),
        ("--json", "no/such/file.json", "json must be a file in a folder that exists"),
        ("--payload", "nothing", "payload must be a readable file"),
    ):
        assert main(["check", "good.py", f"{option}={value}"]) == 2
        assert message in capsys.readouterr().err


def test_rules_shows_what_covers_each(folder, capsys):
    assert main(["rules", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rules"]
    assert [row["rule"] for row in rows] == [f"R{n:02}" for n in range(1, 55)]
    row = rows[23]
    assert "rules/R24/broken" in row["scenarios"] and row["result"].endswith("not run") and row["checked"]


def test_rules_runs_what_covers_them_and_knows_results_of_these_sources(folder, capsys, monkeypatch):
    from sim.commands import rules

    names = ["rules/R24/broken", "rules/R24/fixed"]
    monkeypatch.setattr(rules, "coverage", lambda verdicts, chosen=(): _only(names, verdicts))
    assert main(["rules", "R24", "--run", "--json", "--results", "build/rules"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rules"][0]["result"] == "2 ok" and "run just now" in document["from"]
    verdicts, where = rules.known_results(Path("build/rules/results.json"))
    assert verdicts == dict.fromkeys(names, "ok") and "results from" in where
    monkeypatch.setattr("sim.runner.sources_digest", lambda: "other")
    assert rules.known_results(Path("build/rules/results.json"))[0] == {}


def _only(names, verdicts):
    from sim.checker import RULES
    from sim.commands.rules import Coverage

    return [Coverage(RULES["R24"], {name: verdicts.get(name, "") for name in names})]
