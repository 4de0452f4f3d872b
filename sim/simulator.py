# SPDX-License-Identifier: BSD-2-Clause
"""Runs a coroutine inside a simulator process.

:func:`run_session` starts one process of a built model; inside it cocotb calls :mod:`sim.session`, which makes a
:class:`sim.testbench.Testbench` and awaits the entry coroutine with it. Many scenarios share one process, since starting one
costs about half a second.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .build import ROOT, TOP, Model
from .toolchain import ToolError

__all__ = ["SessionError", "SessionTimeout", "run_session"]


_POLL_SECONDS = 0.02


class SessionError(Exception):
    """The simulator process failed; the text has the end of its log."""


class SessionTimeout(SessionError):
    """The simulator process was stopped: its time was up."""


def run_session(
    model: Model,
    entry: str,
    arguments: dict[str, Any],
    run_dir: Path,
    *,
    waves: bool = False,
    timeout: float | None = None,
    progress: Path | None = None,
    module: str = "sim.session",
) -> None:
    """Runs ``entry`` (``"module:coroutine"``, called as ``await coroutine(testbench, arguments)``) in a simulator process.

    ``run_dir`` becomes the process's working directory and holds ``session.log``, and ``dump.fst`` / ``dump.vcd`` with ``waves``.
    ``timeout`` is in seconds of wall time since the file ``progress`` last grew (since the start without one): the last resort
    against code in the process that neither ends nor lets simulated time pass. ``module`` has the cocotb test, which calls the
    entry.

    Raises
    ------
    ToolError
        If Python's shared library is missing.
    SessionTimeout
        If the time is up; the process is ended.
    SessionError
        If the process fails or the coroutine raises.
    """
    import cocotb_tools.config
    import find_libpython

    run_dir = run_dir.absolute()
    run_dir.mkdir(parents=True, exist_ok=True)
    for name in ("events.bin", "maintenance.bin", "dump.bin", "session.json", "failure.txt"):
        (run_dir / name).unlink(missing_ok=True)
    (run_dir / "session.json").write_text(
        json.dumps(
            {
                "entry": entry,
                "arguments": arguments,
                "model": str(model.directory),
                "simulator": model.simulator,
                "waves": model.waves,
            }
        )
    )
    environment = dict(os.environ)
    python_path = [str(ROOT), *[p for p in sys.path if p]]
    libpython = find_libpython.find_libpython()
    if libpython is None:
        raise ToolError("libpython is missing (the simulator loads Python from it): on Debian 'apt-get install libpython3-dev'")
    environment.update(
        {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(python_path)),
            "PYGPI_PYTHON_BIN": sys.executable,
            "GPI_USERS": f"{libpython};{cocotb_tools.config.pygpi_entry_point()}",
            "COCOTB_TOPLEVEL": TOP,
            "COCOTB_TEST_MODULES": module,
            "COCOTB_RESULTS_FILE": str(run_dir / "cocotb.xml"),
            "COCOTB_RANDOM_SEED": "1",
            "COCOTB_LOG_LEVEL": "WARNING",
            "GPI_LOG_LEVEL": "WARNING",
            # Verilator applies a write after the edge that Python woke at; Icarus would apply it before, so there cocotb waits.
            "COCOTB_TRUST_INERTIAL_WRITES": "1" if model.simulator == "verilator" else "0",
            "TOPLEVEL_LANG": "verilog",
            "PYTHONWARNINGS": "default",
        }
    )
    if model.simulator == "verilator":
        command = [str(model.directory / TOP)] + (["--trace"] if waves else [])
    else:
        vpi = cocotb_tools.config.lib_entry("vpi", "icarus")
        command = ["vvp", "-m", vpi, str(model.directory / "sim.vvp"), "-fst" if waves else "-none"]
    log_path = run_dir / "session.log"
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            command, cwd=run_dir, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, timeout, progress, log_path)
        finally:
            if process.poll() is None:  # also when this process is interrupted
                process.kill()
                process.wait()
    failure = run_dir / "failure.txt"
    if failure.exists():
        raise SessionError(failure.read_text())
    if process.returncode or not (run_dir / "cocotb.xml").exists():
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        raise SessionError(f"the simulator ended with exit code {process.returncode}; the end of {log_path}:\n{tail}")


def _wait(process: subprocess.Popen, timeout: float | None, progress: Path | None, log_path: Path) -> None:
    """Waits for the end; raises :class:`SessionTimeout` after ``timeout`` seconds without progress."""
    if timeout is None:
        process.wait()
        return
    size, since = -1, time.monotonic()
    while process.poll() is None:
        grown = progress.stat().st_size if progress is not None and progress.exists() else -1
        if grown != size:
            size, since = grown, time.monotonic()
        if time.monotonic() - since > timeout:
            raise SessionTimeout(f"the simulator was stopped after {timeout:g} s without progress; see {log_path}")
        time.sleep(_POLL_SECONDS)
