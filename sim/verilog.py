# SPDX-License-Identifier: BSD-2-Clause
"""Writes the Verilog of the SoC and of every block: ``make verilog``."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from rtl.catalog import blocks
from rtl.config import SocConfig
from rtl.export import verilog

__all__ = ["export_verilog"]

HEADER = (
    "// SPDX-License-Identifier: BSD-2-Clause\n"
    "// Flushpoint {name}, configuration {digest}: see configuration.json beside this file.\n"
)


def export_verilog(config: SocConfig, directory: Path, progress: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Writes ``<block>.v`` for every block of :func:`rtl.catalog.blocks` and ``configuration.json`` into ``directory``.

    The folder is written beside its place and renamed, so that it is either whole and of one configuration, or as before.
    Returns the Verilog files.
    """
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names = []
    for name, make in blocks(config).items():
        progress(f"{directory / name}.v")
        (part / f"{name}.v").write_text(HEADER.format(name=name, digest=config.digest) + verilog(make(), name))
        names.append(f"{name}.v")
    (part / "configuration.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)
    return [directory / name for name in names]
