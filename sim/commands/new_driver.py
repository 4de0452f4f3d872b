# SPDX-License-Identifier: BSD-2-Clause
"""``new-driver``: writes a driver to start from, which keeps every rule."""

import argparse
from pathlib import Path
from typing import Any

from ..options import OptionError

__all__ = ["add", "run", "template"]

_FOLDER = Path(__file__).resolve().parent.parent / "userdriver" / "templates"


def _styles() -> list[str]:
    order = ("wdk", "linux", "bare")
    return [style for style in order if (_FOLDER / f"{style}.py").exists()]


def template(style: str) -> str:
    """The text of a style's template (``wdk``, ``linux``, ``bare``)."""
    return (_FOLDER / f"{style}.py").read_text(encoding="utf-8")


def add(commands: Any) -> None:
    """Declares the command."""
    parser = commands.add_parser("new-driver", help="write a driver to start from")
    parser.add_argument("file", nargs="?", default="my_driver.py", metavar="FILE.py", help="where (default my_driver.py)")
    parser.add_argument("--style", default="wdk", metavar="|".join(_styles()), help="the interface (default wdk)")
    parser.add_argument("--force", action="store_true", help="overwrite the file")


def run(arguments: argparse.Namespace) -> int:
    """Writes the file and says how to go on."""
    styles = _styles()
    if arguments.style not in styles:
        raise OptionError(f"style must be one of {', '.join(styles)}, not {arguments.style!r}")
    path = Path(arguments.file)
    if path.suffix != ".py":
        raise OptionError(f"file must end in .py, not {arguments.file!r}")
    if path.exists() and not arguments.force:
        raise OptionError(f"file must not exist (--force overwrites it), not {arguments.file!r}")
    text = template(arguments.style).replace("THIS_FILE.py", path.name)
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("# SPDX-License-Identifier")]
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise OptionError(f"file must be writable, not {arguments.file!r}: {error.strerror}") from None
    print(f"wrote {path}; check it with: python -m sim check {path}")
    return 0
