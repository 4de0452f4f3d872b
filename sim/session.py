# SPDX-License-Identifier: BSD-2-Clause
"""The one cocotb test of a simulator process: makes the testbench and awaits the session's entry coroutine."""

import importlib
import json
import logging
import traceback
import warnings
from pathlib import Path

import cocotb

from .testbench import Testbench


@cocotb.test()
async def session(dut):
    # cocotbext-axi 0.1.28 uses calls that cocotb 2.1 deprecates; its per-transaction log lines cost more than the transactions.
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    description = json.loads(Path("session.json").read_text())
    try:
        module, _, name = description["entry"].partition(":")
        entry = getattr(importlib.import_module(module), name)
        testbench = await Testbench.start(dut, description)
        await entry(testbench, description["arguments"])
    except Exception:
        Path("failure.txt").write_text(traceback.format_exc())
        raise
