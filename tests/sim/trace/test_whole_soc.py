# SPDX-License-Identifier: BSD-2-Clause
"""The functional model beside recorded runs of the whole SoC, with maintenance and snoops between the CPU's accesses."""

import subprocess
import sys
from pathlib import Path

import pytest

from rtl.probe import Kind
from sim.record import Run
from sim.trace.system import follow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "sim", "run", "--quick", "--keep", "--results", str(folder), "dma-write/system/all-flushes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {path.parent.name: Run.load(path.parent) for path in sorted(folder.glob("*coherent/*/events.bin"))}
    assert len(found) > 10
    return found


def test_hits_and_victims_are_the_models(runs):
    for name, run in runs.items():
        follower = follow(run)
        assert follower.differences == [], name
        accesses = [event for event in run.events if event.kind in (Kind.LOAD, Kind.STORE)]
        assert follower.model.hits + follower.model.misses == len(accesses) > 0


def test_a_difference_is_seen(runs):
    """The model of a smaller cache does not agree, where a run touches more lines than that one holds."""
    different = 0
    for run in runs.values():
        config = run.config.replace(dcache__sets=2, dcache__ways=1).to_dict()
        different += bool(follow(Run(events=run.events, platform=run.platform | {"config": config})).differences)
    assert different > 0
