# SPDX-License-Identifier: BSD-2-Clause
"""Waves: the GTKWave save file that makes a dump readable."""

from .markers import find_markers
from .save import Markers, write_save_file

__all__ = ["Markers", "find_markers", "write_save_file"]
