# SPDX-License-Identifier: BSD-2-Clause
"""Takes the waves of a finished run to its record and writes the GTKWave save file beside them."""

import shutil
from pathlib import Path

from ..bfm import PERIOD_NS
from ..options import RunOptions
from ..record import Run
from ..report.result import Result
from ..scenarios import catalogue
from ..scenarios.expect import differing
from ..scenarios.layout import make_setting
from .save import find_markers, write_save_file

__all__ = ["collect_waves"]


def collect_waves(result: Result, options: RunOptions) -> tuple[Path, Path]:
    """The dump and the save file, both in the run's record folder."""
    scenario, config = catalogue()[result.name], options.configs[result.platform]
    folder = Path(result.record)
    session = options.results / "sessions" / f"{result.platform}-0"
    source = next(path for path in (session / "dump.fst", session / "dump.vcd") if path.exists())
    dump = folder / f"waves{source.suffix}"
    shutil.move(source, dump)
    setting = make_setting(scenario, config, options.payload, quick=options.quick, seed=options.seed)
    base = setting.device_address if setting.write_to_device else setting.address
    received = Path(result.received).read_bytes() if result.received else setting.payload
    run = Run.load(folder)
    save = write_save_file(
        dump,
        folder / "waves.gtkw",
        data_width=config.data_width,
        markers=find_markers(run, [base + n for n in differing(received, setting.payload)]),
        epoch_ns=result.epoch_ns,
        period_ns=PERIOD_NS,
        last_cycle=result.cycles,
    )
    return dump, save
