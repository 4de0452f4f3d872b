# SPDX-License-Identifier: BSD-2-Clause
"""One run's directory: ``events.bin`` (or ``events.hex``), ``calls.jsonl``, ``sites.json``, ``platform.json``."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtl.config import ConfigError, SocConfig

from .event import Event, RecordError, _replace, check_order, read_events, read_events_text, record_bytes, write_events

__all__ = ["Run"]


@dataclass
class Run:
    """What a judge may look at.

    ``events``: probe events in file order. ``calls``: ``driver.trace.Trace.records``. ``sites``: tag of a CPU access to
    ``(file, line, function)``; tag 0 is the test harness and has no site. ``platform``: as in ``docs/contracts.md``.
    """

    events: list[Event] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    sites: dict[int, tuple[str, int, str]] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> SocConfig:
        """The hardware's configuration (default values where the platform names none)."""
        return SocConfig.from_dict(self.platform.get("config", {}))

    def ordered(self) -> Iterator[Event | dict[str, Any]]:
        """Events and calls in one order: a call at cycle c stands after all events of cycles <= c."""
        position, events = 0, self.events
        for call in self.calls:
            while position < len(events) and events[position].cycle <= call["cycle"]:
                yield events[position]
                position += 1
            yield call
        yield from events[position:]

    def save(self, directory: str | Path) -> None:
        """Writes the four files into ``directory``, which is made if needed; each file is whole or absent."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        _replace(path / "platform.json", (json.dumps(self.platform, indent=1) + "\n").encode())
        sites = {str(tag): list(site) for tag, site in sorted(self.sites.items())}
        _replace(path / "sites.json", (json.dumps(sites, indent=1) + "\n").encode())
        _replace(path / "calls.jsonl", "".join(json.dumps(call) + "\n" for call in self.calls).encode())
        write_events(path / "events.bin", self.events, self.config.data_width)

    @classmethod
    def load(cls, directory: str | Path) -> "Run":
        """Reads a directory; raises :class:`RecordError` naming the file, the position and the rule."""
        path = Path(directory)
        platform = _json(path / "platform.json")
        if not isinstance(platform, dict):
            raise RecordError(f"{path / 'platform.json'}: the top level must be an object, not {type(platform).__name__}")
        try:
            width = SocConfig.from_dict(platform.get("config", {})).data_width
        except (ConfigError, TypeError) as error:
            raise RecordError(f"{path / 'platform.json'}: config must be a SocConfig: {error}") from None
        run = cls(platform=platform, sites=_sites(path / "sites.json"), calls=_calls(path / "calls.jsonl"))
        binary, text = path / "events.bin", path / "events.hex"
        source = text if not binary.exists() and text.exists() else binary
        run.events, end = (read_events_text if source is text else read_events)(source, width)
        rest = source.stat().st_size - end
        if rest:
            whole = "a whole line" if source is text else f"{record_bytes(width)} bytes"
            raise RecordError(f"{source}: byte {end}: a record must have {whole}, not {rest} bytes")
        check_order(run.events, str(source))
        return run


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: the file must be readable: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: byte {error.start}: the file must be UTF-8") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: line {error.lineno}: the file must be JSON: {error.msg}") from None


def _sites(path: Path) -> dict[int, tuple[str, int, str]]:
    values = _json(path)
    if not isinstance(values, dict):
        raise RecordError(f"{path}: the top level must be an object, not {type(values).__name__}")
    sites = {}
    for key, value in values.items():
        good = key.isascii() and key.isdigit() and isinstance(value, list) and len(value) == 3
        if not good or [type(part) for part in value] != [str, int, str]:
            raise RecordError(f"{path}: entry {key!r}: a site must be tag: [file, line, function], not {value!r}")
        sites[int(key)] = tuple(value)
    return sites


def _calls(path: Path) -> list[dict[str, Any]]:
    calls = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            call = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordError(f"{path}: line {number}: a call must be JSON: {error.msg}") from None
        if not isinstance(call, dict) or not isinstance(call.get("cycle"), int) or call.get("phase") not in ("begin", "end"):
            raise RecordError(f"{path}: line {number}: a call must have a cycle and a phase 'begin' or 'end', not {line!r}")
        if calls and call["cycle"] < calls[-1]["cycle"]:
            raise RecordError(f"{path}: line {number}: cycle must not be before {calls[-1]['cycle']}, not {call['cycle']}")
        calls.append(call)
    return calls
