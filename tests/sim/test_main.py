# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim`` outside the virtual environment says what to do."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_missing_packages_are_one_line_and_exit_code_2(tmp_path):
    # -S leaves site-packages out: the Python of somebody who has not activated the virtual environment
    done = subprocess.run([sys.executable, "-S", "-m", "sim", "list"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
