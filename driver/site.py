# SPDX-License-Identifier: BSD-2-Clause
"""The user's source line behind a call or an access.

A *site* is the innermost Python frame outside the libraries: this package and whatever :func:`library_folder` names.
"""

import os
import sys
from functools import cache
from pathlib import Path

__all__ = ["caller_site", "driver_source", "is_library", "library_folder"]

_LIBRARY: list[str] = [str(Path(__file__).parent)]
_DRIVERS: set[str] = set()


def library_folder(path: str | Path) -> None:
    """Declares a folder (or file) whose frames are never a site: the BFM, the runner."""
    text = str(path)
    if text not in _LIBRARY:
        _LIBRARY.append(text)
        is_library.cache_clear()


def driver_source(path: str | Path) -> None:
    """Declares one file inside a library folder to be a driver: its lines are sites. (The storage driver of this package.)"""
    _DRIVERS.add(str(path))
    is_library.cache_clear()


def caller_site() -> tuple[str, int, str]:
    """``(file, line, function)`` of the innermost frame outside the libraries; ``("?", 0, "?")`` if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_library(name):
            return name, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
    return "?", 0, "?"


@cache  # every access of a driver asks for a few files
def is_library(name: str) -> bool:
    """Whether a source file (a code object's ``co_filename``) belongs to the libraries, whose lines are no sites."""
    return name not in _DRIVERS and (name.startswith("<") or any(_inside(name, folder) for folder in _LIBRARY))


def _inside(name: str, folder: str) -> bool:
    return name == folder or name.startswith(folder.rstrip(os.sep) + os.sep)
