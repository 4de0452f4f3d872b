# SPDX-License-Identifier: BSD-2-Clause
"""docs/tutorial.md as a test: its commands are run, its edits made, and every line of output that it shows must come."""

import os
import re
import shlex
from pathlib import Path

from sim.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(console|diff)\n(.*?)^```$", re.S | re.M)
_DRIVER = Path("my_driver.py")


def edit(block: str) -> None:
    """Makes a change that the page shows as a difference; what it takes out must stand in the driver exactly once."""
    lines = block.splitlines()
    before = "\n".join(line[1:] for line in lines if line[:1] != "+")
    after = "\n".join(line[1:] for line in lines if line[:1] != "-")
    text = _DRIVER.read_text()
    assert text.count(before) == 1, f"not exactly once in the driver:\n{before}"
    _DRIVER.write_text(text.replace(before, after))


def plain(line: str) -> str:
    """A line without what another cache or another payload changes: cycles, bytes, and where the first wrong one is."""
    line = re.sub(r"\b\d{3,}\b", "N", re.sub(r"0x[0-9a-f]+", "0xN", line))
    return " ".join(line.split())


def shown_lines_come_in_order(expected: list[str], output: str) -> None:
    found = iter(plain(line) for line in output.splitlines())
    for line in expected:
        if line.strip() not in ("", "..."):
            assert plain(line) in found, f"{line!r} does not come (in this order) in:\n{output}"


def test_the_tutorial_does_what_it_says(tmp_path, monkeypatch, capsys):
    (tmp_path / "build").mkdir()
    os.symlink(ROOT / "build" / "models", tmp_path / "build" / "models")
    monkeypatch.chdir(tmp_path)
    commands = 0
    for kind, block in _BLOCK.findall(PAGE.read_text()):
        if kind == "diff":
            edit(block)
            continue
        command, *expected = block.splitlines()
        words = shlex.split(command.removeprefix("$ "))
        assert words[:3] == ["python", "-m", "sim"]
        status = main(words[3:])
        output = capsys.readouterr().out
        shown_lines_come_in_order([line for line in expected if not line.startswith("exit code ")], output)
        code = next((int(line.split()[-1]) for line in expected if line.startswith("exit code ")), 0)
        assert status == code, command
        commands += 1
    assert commands >= 6
