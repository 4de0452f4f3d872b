# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim``: see :mod:`sim.cli`."""

import sys

from .cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
