# SPDX-License-Identifier: BSD-2-Clause
"""Every story, on a machine without time: the bytes come out as the catalogue says, corrupted ones included."""

import asyncio

import pytest

from rtl.config import SocConfig
from sim.scenarios import Expectation, catalogue
from sim.scenarios.context import Context
from sim.scenarios.layout import images, make_setting
from sim.scenarios.stories import STORIES

from .machine import Bench

PAYLOAD = bytes((7 * n + n // 251) & 0xFF for n in range(600))
CONFIGS = {"non-coherent": SocConfig(), "coherent": SocConfig(coherency="snoop")}


async def play(scenario, config, quick):
    setting = make_setting(scenario, config, PAYLOAD, quick=quick, seed=1)
    filled = images(setting, 1)
    bench = Bench(setting, filled)
    context = Context(bench, setting, len(PAYLOAD))
    await context.prepare()
    received = await STORIES[scenario.story](context)
    if received is None:
        received = bytes(bench.bus.device[setting.device_address : setting.device_address + setting.size])
    return setting, received, context


@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
@pytest.mark.parametrize("row", sorted({scenario.row for scenario in catalogue().values()}))
def test_bytes_come_out_as_expected(row, quick):
    wrong = []
    for scenario in catalogue().values():
        if scenario.row != row or (quick and scenario.quick_size == scenario.size):
            continue
        setting, received, context = asyncio.run(play(scenario, CONFIGS[scenario.platform], quick))
        text = Expectation.of(setting).judge(received)
        if text:
            wrong.append(f"{scenario.name}: {text}")
        wrong += [f"{scenario.name}: {problem}" for problem in context.problems]
        cost = context.costs["KeFlushIoBuffers"]
        told = scenario.options.get("coherent_flag")
        if (scenario.coherent if told is None else told) and cost["accesses"]:
            wrong.append(f"{scenario.name}: KeFlushIoBuffers cost {cost}")
    assert not wrong, "\n".join(wrong)
