# SPDX-License-Identifier: BSD-2-Clause
"""The simulation-only Verilog around the SoC: the event sink, the backdoor and the dumps."""

from .testbench import Bench, testbench_verilog

__all__ = ["Bench", "testbench_verilog"]
