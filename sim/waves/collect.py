# SPDX-License-Identifier: BSD-2-Clause
"""Takes the waves of a finished run to its record and writes the GTKWave save file beside them."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..bfm import PERIOD_NS
from ..options import RunOptions
from ..record import Run
from ..report.result import Result
from ..scenarios import DriverScenario, everything
from ..scenarios.expect import differing
from ..scenarios.layout import make_setting, user_address
from .markers import find_markers
from .save import write_save_file

__all__ = ["collect_waves", "save_for"]


def collect_waves(result: Result, options: RunOptions) -> tuple[Path, Path]:
    """The dump and the save file, both in the run's record folder."""
    scenario, config = everything()[result.name], options.configs[result.platform]
    folder = Path(result.record)
    session = options.results / "sessions" / f"{result.platform}-0"
    source = next(path for path in (session / "dump.fst", session / "dump.vcd") if path.exists())
    dump = folder / f"waves{source.suffix}"
    shutil.move(source, dump)
    if isinstance(scenario, DriverScenario):
        return dump, save_for(dump, config.data_width, result.wrong, result.epoch_ns, result.cycles)
    setting = make_setting(scenario, config, options.payload, quick=options.quick, seed=options.seed)
    received = Path(result.received).read_bytes() if result.received else setting.payload
    wrong = {n: setting.payload[n] for n in differing(received, setting.payload)}
    places = [("memory", base + n, value) for base in (user_address(setting), setting.address) for n, value in wrong.items()]
    if setting.write_to_device:
        places += [("device", setting.device_address + n, value) for n, value in wrong.items()]
    return dump, save_for(dump, config.data_width, places, result.epoch_ns, result.cycles)


def save_for(dump: Path, data_width: int, wrong: Iterable[Sequence[Any]], epoch_ns: int, cycles: int) -> Path:
    """Writes the save file beside a dump that lies in its run's record.

    ``wrong`` names corrupted bytes: space (``"memory"`` or ``"device"``), address or offset, right value, and what follows.
    """
    wrong = list(wrong)
    memory = {place: right for space, place, right, *_ in wrong if space == "memory"}
    device = {place: right for space, place, right, *_ in wrong if space == "device"}
    return write_save_file(
        dump,
        dump.with_suffix(".gtkw"),
        data_width=data_width,
        markers=find_markers(Run.load(dump.parent), memory, device),
        epoch_ns=epoch_ns,
        period_ns=PERIOD_NS,
        last_cycle=cycles,
    )
