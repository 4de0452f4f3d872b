# SPDX-License-Identifier: BSD-2-Clause
"""The bench's figures, to the cycle: rows that cost little to measure. The others run the same way with `make bench`."""

import pytest

from rtl.cache.native import AUX_LATENCY
from sim.bench.dcache import dcache_rows, maintenance_rows, rate_while_cleaning
from sim.bench.interconnect import interconnect_rows
from sim.bench.metrics import BENCH
from sim.bench.system import METHODS, curve, system_rows


def test_interconnect():
    rows = interconnect_rows()
    # 8192 beats; the first comes after the memory's ten cycles and the crossbar's one.
    assert rows == {"xbar.latency": 1, "xbar.util16": round(8192 / (8191 + 11), 6), "xbar.util1": round(8192 / (8191 + 11), 6)}


def test_maintenance():
    rows = maintenance_rows()
    walk = 1 + AUX_LATENCY  # cycles beyond the lookups
    assert (rows["maint.all.clean"], rows["maint.invalidate.all"], rows["maint.range.huge"]) == (2, walk + 1, walk)
    assert rows["maint.all.dirty"] == round((4 * 128 + 4 + walk) / 128, 6)
    assert (rows["maint.range.dirty"], rows["maint.range.clean"]) == (round((131 + walk) / 32, 6), round((32 + walk) / 32, 6))


@pytest.mark.slow
def test_dcache():
    rows = dcache_rows()
    assert (rows["dcache.hit.latency"], rows["dcache.read.rate"], rows["dcache.write.rate"]) == (1, 1, 1)
    assert (rows["dcache.axi.hit"], rows["dcache.axi.rate"], rows["dcache.miss.overhead"]) == (2, 1, 3)
    assert (rows["dcache.stream.miss"], rows["dcache.stream.dirty"]) == (round(596 / 128, 6), round(645 / 128, 6))
    assert rate_while_cleaning()["maint.cpu.rate"] >= 0.8


@pytest.mark.slow
def test_system():
    points = curve((64, 4096))
    assert set(points) == set(METHODS)
    rows = system_rows(points)
    assert (rows["sys.dma4k.flush"], rows["sys.dma4k.snoop"], rows["sys.dma4k.lines"]) == (3115, 1741, 10302)
    assert rows["sys.range.speedup"] >= 3
    assert points["snoop"][64] < points["hardware range"][64] < points["line loop"][64]
    assert set(rows) == {metric.name for metric in BENCH if metric.name.startswith("sys.")}
