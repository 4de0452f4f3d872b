# SPDX-License-Identifier: BSD-2-Clause
"""The curve of flush and DMA against size, as CSV always and as a picture where matplotlib is installed."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["draw"]


def draw(points: Mapping[str, Mapping[int, int]], folder: Path) -> list[Path]:
    """Writes ``dma-flush.csv`` and ``dma-flush.svg`` into ``folder``; returns the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = sorted(next(iter(points.values())))
    table = folder / "dma-flush.csv"
    lines = ["bytes," + ",".join(points)] + [f"{size}," + ",".join(str(points[m][size]) for m in points) for size in sizes]
    table.write_text("\n".join(lines) + "\n")
    try:
        import matplotlib
    except ImportError:
        return [table]
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "flushpoint", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
        for (method, values), marker in zip(points.items(), "os^D"):
            axes.plot(sizes, [values[size] for size in sizes], marker=marker, markersize=4, linewidth=1.5, label=method)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{size // 1024} KiB" if size >= 1024 else str(size) for size in sizes])
        axes.set_xlabel("bytes moved")
        axes.set_ylabel("cycles, all flushes included")
        axes.set_title("Device to memory: how the caches are flushed", fontsize=11)
        axes.grid(True, which="major", linewidth=0.4)
        axes.legend(frameon=False)
        picture = folder / "dma-flush.svg"
        figure.savefig(picture, metadata={"Date": None})
        plt.close(figure)
    return [table, picture]
