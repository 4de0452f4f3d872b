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
from ..scenarios.layout import make_setting, user_address
from .markers import find_markers
from .save import write_save_file

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
    received = Path(result.received).read_bytes() if result.received else setting.payload
    wrong = {n: setting.payload[n] for n in differing(received, setting.payload)}
    memory = {base + n: value for base in (user_address(setting), setting.address) for n, value in wrong.items()}
    device = {setting.device_address + n: value for n, value in wrong.items()} if setting.write_to_device else {}
    save = write_save_file(
        dump,
        folder / "waves.gtkw",
        data_width=config.data_width,
        markers=find_markers(Run.load(folder), memory, device),
        epoch_ns=result.epoch_ns,
        period_ns=PERIOD_NS,
        last_cycle=result.cycles,
    )
    return dump, save
