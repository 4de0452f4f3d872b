# SPDX-License-Identifier: BSD-2-Clause
"""One module per rule of the flush checker: a driver that breaks it, the corrected one, and a lucky run (:mod:`..examples`).

Modules with an underscore are what examples share. Their lines are nobody's mistake: findings name the line of the example that
called.
"""

from pathlib import Path

from driver.trace import library_folder

for _path in Path(__file__).parent.glob("_*.py"):
    library_folder(_path)
