# SPDX-License-Identifier: BSD-2-Clause
"""The driver package stands alone: no simulator, no hardware description language, only the register table."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_the_driver_imports_no_simulator():
    code = (
        "import pkgutil, importlib, sys, driver\n"
        "for m in pkgutil.walk_packages(driver.__path__, 'driver.'): importlib.import_module(m.name)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'amaranth', 'cocotb', 'cocotbext', 'sim'}))\n"
        "print(sorted(m for m in sys.modules if m == 'rtl' or m.startswith('rtl.')))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['rtl', 'rtl.pio', 'rtl.pio.table']"]
