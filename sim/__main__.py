# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim``: see :mod:`sim.cli`."""

import sys

__all__ = ["main"]


def main() -> int:
    """Runs the command line; without the project's packages (another Python than the virtual environment's) says so in a line."""
    try:
        from .cli import main as command_line
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("sim", "driver", "rtl"):
            raise
        print(
            f"flushpoint: error: this Python ({sys.executable}) has no package {error.name!r}: "
            "run 'make setup', then use .venv/bin/python (or '. .venv/bin/activate')",
            file=sys.stderr,
        )
        return 2
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
