# SPDX-License-Identifier: BSD-2-Clause
import sys

from ..report.terminal import console
from .run import run_bench

raise SystemExit(run_bench(sys.argv[1:], console()))
