# SPDX-License-Identifier: BSD-2-Clause
"""A testbench that cannot see broken hardware proves nothing: break it, and see `make sim`'s runner say HARDWARE."""

import pytest

from sim.options import prepare
from sim.runner import run

from .broken import FIFO_DROPS_REMAINDER, MAINTENANCE_SKIPS_LAST_LINE, WRITE_BACK_OF_THE_WRONG_WAY


@pytest.mark.parametrize(
    ("mutation", "scenario", "words"),
    [
        (MAINTENANCE_SKIPS_LAST_LINE, "dma-write/bus-master/all-flushes/non-coherent", "maintenance"),
        (FIFO_DROPS_REMAINDER, "dma-read/system/all-flushes/non-coherent/chunk+1", "FIFO"),
        (WRITE_BACK_OF_THE_WRONG_WAY, "dma-write/system/all-flushes/non-coherent", "D_WRITEBACK write data"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_broken_hardware_is_a_hardware_error(tmp_path, mutation, scenario, words):
    options = prepare(names=[scenario], quick=True, results=tmp_path)
    summary = run(options, mutation=mutation)
    (result,) = summary.results
    assert result.verdict == "HARDWARE", result.reasons
    assert any(words.lower() in text.lower() for text in result.hardware), result.hardware
