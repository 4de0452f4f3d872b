# SPDX-License-Identifier: BSD-2-Clause
"""What to run and what came of it: the two ends of one run of a driver, as plain data that crosses the process border."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DEFAULT_LIMIT", "DriverJob", "DriverRun", "Ending"]

#: Cycles after which a driver hangs: a hundred times what a page takes.
DEFAULT_LIMIT = 400_000


class Ending:
    """How the driver's coroutine ended."""

    RETURNED = "returned"
    RAISED = "raised"
    HANGS = "hangs"  # simulated time passes, the driver does not end
    LOOPS = "loops"  # the driver runs, simulated time does not pass
    CRASHED = "crashed"  # the simulator process ended or was ended meanwhile


@dataclass(frozen=True, kw_only=True)
class DriverJob:
    """One run of a driver.

    ``target`` is a driver file, or ``package.module:function``. ``timing`` is a :class:`.timing.Timing` as a dict, ``hal`` fields
    of :class:`driver.platform.HalOptions`, ``beliefs`` fields of :class:`driver.platform.Platform` that the HAL is told wrongly.
    ``config`` names the hardware (a key of the run's models), ``limit`` is in cycles.
    """

    name: str
    target: str
    seed: int = 1
    timing: dict[str, Any] = field(default_factory=dict)
    architecture: str = ""
    speculates: bool = True
    hal: dict[str, Any] = field(default_factory=dict)
    beliefs: dict[str, Any] = field(default_factory=dict)
    config: str = "main"
    limit: int = DEFAULT_LIMIT
    keep: str = ""  # folder of the run's record, "" for none

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(kw_only=True)
class DriverRun:
    """What one run gave.

    Parameters
    ----------
    ending : one of :class:`Ending`. problem : one line about an ending that is no return. trouble : the driver's own lines of
        the traceback.
    last_call, last_site : the driver's last call of the interface (``Name(arguments)``) and the line it stood at, for a bad
        ending.
    notes : other things that its author wants to know. output : what it printed.
    held : what the driver still held when it ended, one line each. tasks : coroutines beside the main one that had not ended.
    moved : what the bytes came to, one line each. checked, corrupted : bytes that could be compared, and those that differ.
    wrong : places of corrupted bytes, ``[space, address, right, got]``, the first few.
    findings : as :meth:`sim.checker.Finding.to_dict`. suppressed : those that a comment in the source takes out.
    problems : comments of that kind that are wrong.
    hardware : differences between hardware and reference model. error : a failure of this tool.
    """

    name: str
    seed: int = 1
    style: str = ""
    timing: dict[str, Any] = field(default_factory=dict)
    ending: str = Ending.RETURNED
    problem: str = ""
    trouble: list[str] = field(default_factory=list)
    last_call: str = ""
    last_site: list[Any] | None = None
    held: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    output: str = ""
    moved: list[str] = field(default_factory=list)
    checked: int = 0
    corrupted: int = 0
    wrong: list[list[Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    suppressed: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    hardware: list[str] = field(default_factory=list)
    error: str = ""
    refused: str = ""  # the driver file is none: bad input, not a result
    cycles: int = 0
    seconds: float = 0.0
    bus_accesses: int = 0
    epoch_ns: int = 0
    record: str = ""
    device_sha256: str = ""

    @property
    def ended(self) -> bool:
        """Whether the driver came to its end by itself."""
        return self.ending == Ending.RETURNED

    def roots(self) -> list[dict[str, Any]]:
        """Root findings."""
        return [finding for finding in self.findings if finding["root"]]

    def counted(self, *, portable: bool = False) -> list[dict[str, Any]]:
        """Root findings that decide the exit code: more than a warning; latent ones only with ``portable``."""
        severities = {"corruption seen", "corruption possible"} | ({"latent"} if portable else set())
        return [finding for finding in self.roots() if finding["severity"] in severities]

    def outcome(self) -> tuple[Any, ...]:
        """What tells this run from others, whatever its cycle counts: the ending, the bytes, the root findings."""
        roots = sorted({(finding["rule"], finding["severity"]) for finding in self.roots()})
        return self.ending, self.problem, bool(self.corrupted), bool(self.hardware), tuple(roots)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DriverRun":
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})
