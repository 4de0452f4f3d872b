# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.trace``: see :mod:`sim.trace.cli`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
