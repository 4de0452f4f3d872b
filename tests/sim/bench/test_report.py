# SPDX-License-Identifier: BSD-2-Clause
"""Metrics, table, results, curve, and the page that shows them."""

import io
import json
import re
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from sim.bench.metrics import BENCH, SYNTH, Metric, find
from sim.bench.plot import draw
from sim.bench.report import number, print_table, write_results
from sim.cli import main

ROOT = Path(__file__).resolve().parents[3]
LESS = Metric("a.less", "block", "what is less", "cycles", "<= 4.1")
MORE = Metric("a.more", "block", "what is more", "per cycle", ">= 1")
SHOWN = Metric("b.shown", "block", "published", "cycles", peer="5")


def test_names_are_unique_and_goals_can_be_read():
    metrics = [*BENCH, *SYNTH]
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert metric.met(0.0) in ((True, False) if metric.goal else (None,)), metric.name


def test_met_goes_by_what_is_printed():
    assert [LESS.met(value) for value in (4.0, 4.1, 4.1004, 4.101, 5)] == [True, True, True, False, False]
    assert [MORE.met(value) for value in (1, 0.9996, 0.999)] == [True, True, False]
    assert SHOWN.met(3) is None


def test_find_takes_names_and_first_words():
    assert find((LESS, MORE, SHOWN), []) == [LESS, MORE, SHOWN]
    assert find((LESS, MORE, SHOWN), ["a"]) == [LESS, MORE]
    assert find((LESS, MORE, SHOWN), ["b.shown", "a.less"]) == [LESS, SHOWN]
    with pytest.raises(ValueError, match=r"metric must be one of a.less, a.more, b.shown .*, not 'a.le'"):
        find((LESS, MORE, SHOWN), ["a.le"])


@pytest.mark.parametrize("command", ["bench", "synth"])
def test_an_unknown_metric_is_one_line_and_exit_code_2(command, capsys):
    assert main([command, "nothing"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("flushpoint: error: metric must be one of ") and error.count("\n") == 1


def test_results_have_the_agreed_form_and_keep_what_was_not_measured(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, (LESS, MORE, SHOWN), {"a.less": 4.055, "b.shown": 7})
    assert json.loads(path.read_text()) == [
        {"metric": "a.less", "value": 4.055, "unit": "cycles", "goal": "<= 4.1", "met": True},
        {"metric": "b.shown", "value": 7, "unit": "cycles", "goal": None, "met": None},
    ]
    write_results(path, (LESS, MORE), {"a.less": 5, "a.more": 1.0})
    rows = {row["metric"]: row for row in json.loads(path.read_text())}
    assert rows["a.less"]["met"] is False and rows["a.more"]["met"] is True and rows["b.shown"]["value"] == 7


def test_a_missed_goal_is_shown():
    out = Console(width=160, record=True, file=io.StringIO())
    print_table(out, (LESS, MORE, SHOWN), {"a.less": 4.125, "a.more": 1.0, "b.shown": 3110})
    lines = [line.split() for line in out.export_text().splitlines()]
    assert [line[-1] for line in lines[1:]] == ["missed", "met", "publish"]
    assert "4.125" in lines[1] and "3,110" in lines[3]
    assert (number(1.0), number(0.9990), number(300000)) == ("1", "0.999", "300,000")


def test_the_curve_as_table_and_picture(tmp_path):
    points = {"line loop": {64: 300, 4096: 9000}, "hardware range": {64: 290, 4096: 3000}}
    table, *pictures = draw(points, tmp_path)
    assert table.read_text() == "bytes,line loop,hardware range\n64,300,290\n4096,9000,3000\n"
    assert len(pictures) == (find_spec("matplotlib") is not None)  # `make bench` installs it
    for picture in pictures:
        words = "".join(ET.parse(picture).getroot().itertext())
        assert "hardware range" in words and "4 KiB" in words
        before = picture.read_bytes()
        draw(points, tmp_path)
        assert picture.read_bytes() == before


def test_the_page_lists_every_metric_in_order_with_its_goal():
    """docs/bench.md: the generated table has the metrics of the list, not necessarily today's values of timed ones."""
    text = (ROOT / "docs" / "bench.md").read_text()
    table = re.search(r"<!-- table: begin -->\n(.*?)<!-- table: end -->", text, re.DOTALL)[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    metrics = [*BENCH, *SYNTH]
    assert [row[2] for row in rows] == [f"`{metric.name}`" for metric in metrics]
    for row, metric in zip(rows, metrics):
        assert (row[0], row[1], row[4], row[7]) == (metric.block, metric.text, metric.unit, metric.goal or "publish")
