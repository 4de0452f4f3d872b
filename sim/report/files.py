# SPDX-License-Identifier: BSD-2-Clause
"""Results as JSON and as JUnit XML. Each file appears whole or not at all."""

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .result import Result

__all__ = ["write_json", "write_junit"]


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
    return path


def write_json(path: Path, results: Sequence[Result], about: Mapping[str, Any]) -> Path:
    """``about`` (configuration, versions, seed, payload, rates) and ``results``, one object per run."""
    counts = {"total": len(results), "passed": sum(result.passed for result in results)}
    counts["failed"] = counts["total"] - counts["passed"]
    document = {**about, "counts": counts, "results": [result.to_dict() for result in results]}
    return _write(path, (json.dumps(document, indent=1) + "\n").encode())


def _clean(text: str) -> str:
    """XML 1.0 has no control characters."""
    return "".join(c if c in "\t\n" or c >= " " else f"\\x{ord(c):02x}" for c in text)


def write_junit(path: Path, results: Sequence[Result], about: Mapping[str, Any], reproduce: Mapping[str, str]) -> Path:
    """One test case per run; a hardware difference or an unmet expectation is a failure, an exception an error."""
    suite = ET.Element(
        "testsuite",
        name="flushpoint",
        tests=str(len(results)),
        failures=str(sum(1 for result in results if not result.passed and not result.error)),
        errors=str(sum(1 for result in results if result.error)),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for key, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value)
        ET.SubElement(properties, "property", name=key, value=_clean(text))
    for result in results:
        parts = result.name.split("/")
        case = ET.SubElement(
            suite, "testcase", classname=".".join(parts[:2]), name="/".join(parts[2:]), time=f"{result.seconds:.3f}"
        )
        if not result.passed:
            kind = "error" if result.error else "failure"
            element = ET.SubElement(case, kind, type=result.verdict, message=_clean(result.reasons[0]))
            element.text = _clean("\n".join([*result.reasons, result.error, f"reproduce: {reproduce.get(result.name, '')}"]))
    ET.indent(suite)
    return _write(path, b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite) + b"\n")
