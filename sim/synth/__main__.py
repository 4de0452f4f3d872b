# SPDX-License-Identifier: BSD-2-Clause
import sys

from ..report.terminal import console
from .command import run_synth

raise SystemExit(run_synth(sys.argv[1:], console()))
