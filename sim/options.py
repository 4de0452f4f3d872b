# SPDX-License-Identifier: BSD-2-Clause
"""What a run was asked to do, checked before anything is built or written.

Every refusal is one :class:`OptionError` (or the configuration's own :class:`~rtl.config.ConfigError`) whose text names
the option, its value and the rule.
"""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtl.config import SocConfig

from .scenarios import AnyScenario, select
from .scenarios.layout import check_fit, fitting
from .scenarios.model import COHERENT, NON_COHERENT, Scenario, split_platform
from .toolchain import SIMULATORS

__all__ = [
    "DEFAULT_PAYLOAD",
    "MAX_PAYLOAD",
    "OptionError",
    "RunOptions",
    "check_folder",
    "integer_option",
    "prepare",
    "read_payload",
]

ROOT = Path(__file__).resolve().parent.parent
#: A text of the repository, larger than the D-cache and at most 16 KiB: corruption in it is easy to see.
DEFAULT_PAYLOAD = ROOT / "docs" / "scenarios.md"
MAX_PAYLOAD = 1 << 20
_MAX_JOBS = 64


class OptionError(ValueError):
    """An option breaks its rule; the text names the option, the rule and the value."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run, ready to start. ``configs`` maps platforms to hardware; ``scenarios`` are in catalogue order."""

    scenarios: tuple[AnyScenario, ...]
    configs: dict[str, SocConfig]
    payload: bytes
    payload_name: str
    seed: int = 1
    simulator: str = "verilator"
    quick: bool = False
    waves: bool = False
    keep: bool = False
    jobs: int = 2
    results: Path = Path("build") / "sim"


def integer_option(name: str, value: int | str, low: int, high: int) -> int:
    """The number that a command line's text stands for (decimal, or hexadecimal with 0x)."""
    number: object = value
    if isinstance(value, str):
        try:
            number = int(value, 0)
        except ValueError:
            number = None
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise OptionError(f"{name} must be an integer from {low} to {high}, not {value!r}")
    return number


def read_payload(path: str | Path | None) -> tuple[bytes, str]:
    """The payload's bytes and name; raises :class:`OptionError` for a missing, empty or too large file."""
    file = Path(path) if path is not None else DEFAULT_PAYLOAD
    shown = str(file) if path is not None else str(file.relative_to(ROOT))
    try:
        if file.is_dir():
            raise OptionError(f"payload must be a file, not the folder {shown!r}")
        size = file.stat().st_size
        if size > MAX_PAYLOAD:
            raise OptionError(f"payload must be at most {MAX_PAYLOAD} bytes (1 MiB), not {size} ({shown!r})")
        data = file.read_bytes()
    except OSError as error:
        raise OptionError(f"payload must be a readable file, not {shown!r}: {error.strerror}") from None
    if not data:
        raise OptionError(f"payload must be at least 1 byte, not 0 ({shown!r})")
    if len(data) > MAX_PAYLOAD:  # a pipe has no size beforehand
        raise OptionError(f"payload must be at most {MAX_PAYLOAD} bytes (1 MiB), not {len(data)} ({shown!r})")
    return data, shown


def read_configs(path: str | Path | None, payload_bytes: int) -> dict[str, SocConfig]:
    """Hardware by platform: two by default, one if the file states its ``coherency``.

    The default configuration grows with the payload; a file's is taken as it is, and must hold the payload.

    Raises
    ------
    ConfigError
        If the file is missing or breaks a rule, or the payload does not fit it.
    """
    coherency = {NON_COHERENT: "none", COHERENT: "snoop"}
    if path is None:
        return {name: fitting(SocConfig(coherency=value), payload_bytes) for name, value in coherency.items()}
    config = SocConfig.from_toml(path)
    check_fit(config, payload_bytes)
    if "coherency" in tomllib.loads(Path(path).read_text(encoding="utf-8")):
        return {name: config for name, value in coherency.items() if value == config.coherency}
    return {name: config.replace(coherency=value) for name, value in coherency.items()}


def _faulty(configs: dict[str, SocConfig], scenarios: Sequence[AnyScenario]) -> dict[str, SocConfig]:
    """Hardware by platform for the examples whose platform has faults."""
    found = {}
    for name in dict.fromkeys(scenario.platform for scenario in scenarios):
        platform, faults = split_platform(name)
        if faults:
            found[name] = configs[platform].replace(**{f"faults__{fault}": True for fault in faults})
    return found


def check_folder(name: str, path: str | Path) -> Path:
    """A folder that can be written, or made; nothing is made here."""
    folder = Path(path)
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise OptionError(f"{name} must be a folder, not {str(folder)!r}: {str(above)!r} is a file")
    if not os.access(above, os.W_OK):
        raise OptionError(f"{name} must be a folder that can be written, not {str(folder)!r}")
    return folder


def prepare(
    *,
    names: Sequence[str] = (),
    payload: str | Path | None = None,
    config: str | Path | None = None,
    seed: int | str = 1,
    simulator: str = "verilator",
    quick: bool = False,
    waves: bool = False,
    keep: bool = False,
    jobs: int | str = 2,
    results: str | Path = Path("build") / "sim",
) -> RunOptions:
    """Checks everything and gathers it; nothing is written.

    Raises
    ------
    OptionError, UnknownScenario, ConfigError
        If an option breaks its rule.
    """
    seed = integer_option("seed", seed, 0, (1 << 32) - 1)
    jobs = integer_option("jobs", jobs, 1, _MAX_JOBS)
    if simulator not in SIMULATORS:
        raise OptionError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    scenarios = select(names)
    data, shown = read_payload(payload)
    configs = read_configs(config, len(data))
    chosen = tuple(scenario for scenario in scenarios if split_platform(scenario.platform)[0] in configs)
    if chosen and any(each.dcache.write_through for each in configs.values()):
        chosen = tuple(scenario for scenario in chosen if isinstance(scenario, Scenario))
        if not chosen:
            raise OptionError(
                f"scenario must be one of the tables, not {scenarios[0].name!r}: examples say what happens with a write-back "
                f"D-cache, and {str(config)!r} sets dcache.write_policy ('check DRIVER --config' takes any driver)"
            )
    if not chosen:
        (platform,) = configs
        raise OptionError(
            f"scenario must be one of the configuration's platform ({platform}: {str(config)!r} sets coherency), "
            f"not {scenarios[0].name!r}"
        )
    if waves and len(chosen) != 1:
        raise OptionError(f"waves must be asked for with exactly one scenario, not {len(chosen)}: name it in full")
    return RunOptions(
        scenarios=chosen,
        configs=configs | _faulty(configs, chosen),
        payload=data,
        payload_name=shown,
        seed=seed,
        simulator=simulator,
        quick=quick,
        waves=waves,
        keep=keep,
        jobs=jobs,
        results=check_folder("results", results),
    )
