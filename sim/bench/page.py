# SPDX-License-Identifier: BSD-2-Clause
"""Puts the measured table and the curve into the documents: ``python -m sim.bench.page`` after bench and synth."""

import json
import re
import shutil
from pathlib import Path

from .harness import ROOT as BENCH_ROOT
from .metrics import BENCH, SYNTH
from .report import number

__all__ = ["table", "update"]

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_MARKED = re.compile(r"(<!-- table: begin -->\n).*?(<!-- table: end -->)", re.DOTALL)


def table(rows: dict[str, dict[str, object]]) -> str:
    """The table in Markdown from result rows by metric name; what was not measured is a dash."""
    lines = ["| block | what | metric | ours | unit | floor | best open core | goal | |", "|---" * 9 + "|"]
    for metric in (*BENCH, *SYNTH):
        row = rows.get(metric.name)
        ours = "-" if row is None else number(row["value"])
        met = metric.met(row["value"]) if row else None
        verdict = "" if met is None else "met" if met else "missed"
        cells = (metric.block, metric.text, f"`{metric.name}`", ours, metric.unit, metric.floor or "-", metric.peer or "-")
        lines.append("| " + " | ".join((*cells, metric.goal or "publish", verdict)) + " |")
    return "\n".join(lines) + "\n"


def update(docs: Path = _DOCS) -> None:
    """Replaces the marked part of ``bench.md``, and the picture if it was drawn."""
    rows = {}
    for path in (BENCH_ROOT / "results.json", Path("build") / "synth" / "results.json"):
        if path.exists():
            rows |= {row["metric"]: row for row in json.loads(path.read_text())}
    page = docs / "bench.md"
    page.write_text(_MARKED.sub(lambda match: match[1] + table(rows) + match[2], page.read_text()))
    drawn = BENCH_ROOT / "dma-flush.svg"
    if drawn.exists():
        shutil.copy(drawn, docs / "pictures" / drawn.name)


if __name__ == "__main__":
    update()
