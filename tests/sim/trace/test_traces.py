# SPDX-License-Identifier: BSD-2-Clause
"""Trace files, lackey's output, beats, and the command line's refusals. A small script stands in for valgrind."""

import gzip
import os
import sys
from pathlib import Path

import pytest

from rtl.config import MemoryConfig, SocConfig
from sim.trace.cli import TRACES, main
from sim.trace.format import Access, Beat, Trace, TraceError, beats, number_pages, read_trace, write_trace
from sim.trace.record import parse_lackey

LACKEY = """\
==123== Lackey, an example Valgrind tool
I  0401ab70,3
 S 1fff000748,8
 L 0401fffc,8
 M 0401ab78,4
 S 1fff001000,200
==123== Exit code:       0
"""
BASE = SocConfig().memory.base


def test_lackey():
    found = list(parse_lackey(LACKEY.splitlines(keepends=True)))
    assert found[:3] == [Access("S", 0x1FFF000748, 8), Access("L", 0x0401FFFC, 8), Access("M", 0x0401AB78, 4)]
    assert [(access.address & 0xFFF, access.size) for access in found[3:]] == [(0, 64), (64, 64), (128, 64), (192, 8)]


def test_pages_are_numbered_by_first_touch():
    got = number_pages([Access("S", 0x1FFF000748, 8), Access("L", 0x0401FFFC, 8), Access("L", 0x1FFF000000, 1)])
    assert got == [Access("S", 0x748, 8), Access("L", 0x1FFC, 4), Access("L", 0x2000, 4), Access("L", 0, 1)]


@pytest.mark.parametrize(
    ("width", "access", "expected"),
    [
        (64, Access("L", 0x10, 8), [(False, 0x10, 8)]),
        (32, Access("L", 0x10, 8), [(False, 0x10, 4), (False, 0x14, 4)]),
        (128, Access("S", 0x10, 16), [(True, 0x10, 16)]),
        (64, Access("S", 0x1D, 8), [(True, 0x1D, 1), (True, 0x1E, 2), (True, 0x20, 4), (True, 0x24, 1)]),
        (64, Access("M", 0x6, 4), [(False, 0x6, 2), (False, 0x8, 2), (True, 0x6, 2), (True, 0x8, 2)]),
        (64, Access("L", 0, 16), [(False, 0, 8), (False, 8, 8)]),
        (64, Access("L", 0x4003, 1), [(False, 0x3, 1)]),  # page 4 of a window of 4 pages
        (64, Access("L", 0x7FFF, 2), [(False, 0x3FFF, 1), (False, 0, 1)]),
    ],
)
def test_beats(width, access, expected):
    config = SocConfig(data_width=width).replace(memory=MemoryConfig(size=4 * 4096))
    if width == 128:
        config = config.replace(dma__chunk_bytes=16)
    assert list(beats([access], config)) == [Beat(write, BASE + at, size) for write, at, size in expected]


def test_file_round_trip(tmp_path):
    trace = Trace([Access("L", 0, 1), Access("M", 0x12345, 64), Access("S", 0xFFFFF000, 8)], ("program: x", "two"))
    for name in ("a", "b"):
        write_trace(tmp_path / name, trace)
    assert read_trace(tmp_path / "a") == trace
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"plain", "must be a gzipped text"),
        (_packed("")[:-4], "must be a gzipped text"),
        (_packed("L 0 1\n"), "must begin with the line 'flushpoint-trace 1', not 'L 0 1'"),
        (
            _packed("flushpoint-trace 1\n# x\nI 0 1\n"),
            "line 3 must be L, S or M, an address and a size to 64, not 'I 0 1'",
        ),
        (_packed("flushpoint-trace 1\nL 0 65\n"), "line 2 must be L, S or M"),
        (_packed("flushpoint-trace 1\nL 0 0\n"), "line 2 must be L, S or M"),
        (None, "must exist"),
    ],
    ids=["not packed", "cut off", "no first line", "an instruction", "too large", "empty access", "no file"],
)
def test_bad_files(tmp_path, content, text, capsys):
    path = tmp_path / "x.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TraceError, match=text):
        read_trace(path)
    assert main(["info", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and text in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["gzip", "sort", "python"])
def test_committed_traces(name, capsys):
    """Large enough to mean something, small enough for a repository."""
    path = TRACES / f"{name}.trace.gz"
    assert path.stat().st_size < 100_000
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"program: {name} " in text
    assert len(read_trace(path).accesses) >= 20_000


def fake_valgrind(folder: Path, monkeypatch, lines: str) -> None:
    """A program ``valgrind`` that writes ``lines`` where its option says."""
    (folder / "lines").write_text(lines)
    script = folder / "valgrind"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "tool, trace, log = sys.argv[1:4]\n"
        "assert (tool, trace) == ('--tool=lackey', '--trace-mem=yes')\n"
        f"os.write(int(log.removeprefix('--log-fd=')), open('{folder}/lines', 'rb').read())\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_record(tmp_path, monkeypatch, capsys):
    fake_valgrind(tmp_path, monkeypatch, LACKEY)
    out = tmp_path / "out.gz"
    assert main(["record", "--output", str(out), "--skip", "1", "--count", "2", "--", "true", "--count", "5"]) == 0
    # The first kept access crosses a page, so it is two lines of the file.
    assert "3 accesses" in capsys.readouterr().out
    trace = read_trace(out)
    assert trace.accesses == [Access("L", 0xFFC, 4), Access("L", 0x1000, 4), Access("M", 0x2B78, 4)]
    assert trace.comments[0] == "program: true --count 5"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--", "no-such-program"], "PROGRAM must be a program that can be run, not 'no-such-program'"),
        (["--skip", "99", "--", "true"], "--skip must be less than the program's 7 data accesses, not 99"),
        (["--count", "0", "--", "true"], "--count must be an integer from 1 to 60000, not '0'"),
        ([], "PROGRAM must be given after '--'"),
        (["--output", "/no/such/folder/x", "--", "true"], "trace file '/no/such/folder/x' must be writable"),
    ],
)
def test_record_refuses(arguments, text, tmp_path, monkeypatch, capsys):
    fake_valgrind(tmp_path, monkeypatch, LACKEY)
    monkeypatch.chdir(tmp_path)
    assert main(["record", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {text}") and error.count("\n") == 1


def test_a_program_without_accesses(tmp_path, monkeypatch, capsys):
    fake_valgrind(tmp_path, monkeypatch, "valgrind: something is wrong\n")
    assert main(["record", "--", "true"]) == 2
    assert capsys.readouterr().err == "error: valgrind's lackey must see data accesses of 'true', not none\n"


def test_without_valgrind(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["record", "--", "true"]) == 2
    expected = "error: valgrind is missing (it records the accesses): install it, on Debian with 'apt-get install valgrind'\n"
    assert capsys.readouterr().err == expected
