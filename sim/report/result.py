# SPDX-License-Identifier: BSD-2-Clause
"""What one scenario's run gave: the line that a session writes and every report reads."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Result"]


@dataclass(kw_only=True)
class Result:
    """One run.

    Two verdicts stand apart: ``hardware`` lists differences between the hardware and the reference model (empty: the hardware
    is right), ``findings`` what the flush checker says about the driver. ``unexpected`` lists what contradicts the scenario's
    expectation; ``error`` is the text of an exception. The run passed if all of these but the findings are empty.

    ``corrupted`` of ``size`` bytes are wrong, the first at payload offset ``first_offset`` = bus address ``first_address``.
    ``wrong`` has the first few wrong bytes of an example, ``[space, address, right, got]``.
    ``epoch_ns`` is the simulated time of cycle 0, ``costs`` has, per flush routine, calls, CPU bus accesses and cycles.
    """

    name: str
    row: str
    mode: str
    discipline: str
    platform: str
    size: int = 0
    seed: int = 0
    expectation: str = ""
    happened: str = ""
    corrupted: int = 0
    first_offset: int | None = None
    first_address: int | None = None
    wrong: list[list[Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    expected_roots: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    hardware: list[str] = field(default_factory=list)
    error: str = ""
    cycles: int = 0
    seconds: float = 0.0
    bus_accesses: int = 0
    idle_cycles: int = 0
    idle_seconds: float = 0.0
    costs: dict[str, dict[str, int]] = field(default_factory=dict)
    sha256_in: str = ""
    sha256_out: str = ""
    epoch_ns: int = 0
    received: str = ""
    record: str = ""

    @property
    def passed(self) -> bool:
        return not (self.hardware or self.unexpected or self.error)

    @property
    def verdict(self) -> str:
        """``ok``, or why not, worst first."""
        if self.hardware:
            return "HARDWARE"
        if self.error:
            return "ERROR"
        return "UNEXPECTED" if self.unexpected else "ok"

    @property
    def reasons(self) -> list[str]:
        """Everything that is wrong, one line each."""
        lines = [f"hardware: {text}" for text in self.hardware] + [f"not as expected: {text}" for text in self.unexpected]
        if self.error:
            lines.append(f"error: {self.error.strip().splitlines()[-1]}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "passed": self.passed, "verdict": self.verdict}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Result":
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})
