# SPDX-License-Identifier: BSD-2-Clause
"""What ``check DRIVER`` was asked to do, checked before anything is built."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtl.config import SocConfig

from ..options import OptionError, check_folder, integer_option, read_payload
from ..scenarios.layout import check_fit, fitting
from ..toolchain import SIMULATORS
from .run import DEFAULT_LIMIT
from .source import UserDriver, inspect_file

__all__ = ["PLATFORMS", "CheckOptions", "PlatformChoice", "prepare_check"]

_MAX_SEED = (1 << 32) - 1
_MAX_RUNS = 100_000

#: Name on the command line: coherency of the hardware, architecture ("" for the style's default), whether its CPU speculates.
PLATFORMS: dict[str, tuple[str, str, bool]] = {
    "arm": ("none", "arm", True),
    "arm64": ("none", "arm64", True),
    "riscv": ("none", "riscv", True),
    "mips": ("none", "mips", False),
    "wdk": ("none", "wdk", True),
    "bare": ("none", "bare", True),
    "coherent": ("snoop", "", True),
}
_DEFAULT_ARCHITECTURE = {"wdk": "wdk", "linux": "arm64", "bare": "bare"}


@dataclass(frozen=True, kw_only=True)
class PlatformChoice:
    """One platform to run on."""

    name: str
    config: SocConfig
    architecture: str
    speculates: bool

    @property
    def coherent(self) -> bool:
        return self.config.coherent


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """A check, ready to start. ``explore`` 0: one run of ``seed``; else so many runs, of ``seed`` and those after it."""

    driver: UserDriver
    platforms: tuple[PlatformChoice, ...]
    payload: bytes
    payload_name: str
    seed: int = 1
    explore: int = 0
    simulator: str = "verilator"
    waves: bool = False
    limit: int = DEFAULT_LIMIT
    portable: bool = False
    results: Path = Path("build") / "check"
    again: tuple[str, ...] = ()  # options of the command line that a single seed's reproduction needs too

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + max(self.explore, 1))

    def reproduce(self, seed: int, platform: PlatformChoice) -> str:
        """The command that repeats one run."""
        words = ["python", "-m", "sim", "check", self.driver.path, "--seed", str(seed), "--platform", platform.name, *self.again]
        return shlex.join(words)


def _platforms(names: Sequence[str] | None, style: str, config: str | None, payload_bytes: int) -> tuple[PlatformChoice, ...]:
    wanted = [part.strip() for name in names or [] for part in name.split(",")]
    for name in wanted:
        if name not in PLATFORMS:
            raise OptionError(f"platform must be one of {', '.join(PLATFORMS)}, not {name!r}")
    base, stated = None, False
    if config is not None:
        import tomllib

        base = SocConfig.from_toml(config)
        check_fit(base, payload_bytes)
        stated = "coherency" in tomllib.loads(Path(config).read_text(encoding="utf-8"))
    default = _DEFAULT_ARCHITECTURE[style]
    if not wanted:
        wanted = ["coherent"] if stated and base is not None and base.coherent else [default]
    chosen: list[PlatformChoice] = []
    for name in dict.fromkeys(wanted):
        coherency, architecture, speculates = PLATFORMS[name]
        if stated and base is not None and base.coherency != coherency:
            raise OptionError(
                f"platform must fit the configuration's coherency ({str(config)!r} sets {base.coherency!r}), not {name!r}"
            )
        made = fitting(SocConfig(coherency=coherency), payload_bytes) if base is None else base.replace(coherency=coherency)
        chosen.append(PlatformChoice(name=name, config=made, architecture=architecture or default, speculates=speculates))
    return tuple(chosen)


def prepare_check(
    driver: str,
    *,
    platforms: Sequence[str] | None = None,
    config: str | None = None,
    payload: str | None = None,
    seed: int | str = 1,
    explore: int | str = 0,
    simulator: str = "verilator",
    waves: bool = False,
    limit: int | str = DEFAULT_LIMIT,
    portable: bool = False,
    results: str | Path = Path("build") / "check",
) -> CheckOptions:
    """Checks everything and gathers it; nothing is written, and nothing of the driver is executed.

    Raises
    ------
    OptionError, ConfigError, DriverFileError
        If an option breaks its rule, or the file is no driver.
    """
    explore = integer_option("explore", explore, 0, _MAX_RUNS)
    seed = integer_option("seed", seed, 0, _MAX_SEED - max(explore, 1))
    limit = integer_option("limit", limit, 1000, 1 << 32)
    if simulator not in SIMULATORS:
        raise OptionError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    found = inspect_file(driver)
    data, shown = read_payload(payload)
    choices = _platforms(platforms, found.style, config, len(data))
    if waves and (explore or len(choices) > 1):
        raise OptionError("waves must be asked for with one run: one platform, without --explore")
    again: list[str] = []
    for option, value in (("--payload", payload), ("--config", config)):
        again += [option, value] if value else []
    if simulator != "verilator":
        again += ["--sim", simulator]
    if limit != DEFAULT_LIMIT:
        again += ["--limit", str(limit)]
    if portable:
        again.append("--portable")
    return CheckOptions(
        driver=found,
        platforms=choices,
        payload=data,
        payload_name=shown,
        seed=seed,
        explore=explore,
        simulator=simulator,
        waves=waves,
        limit=limit,
        portable=portable,
        results=check_folder("results", results),
        again=tuple(again),
    )
