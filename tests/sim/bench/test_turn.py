# SPDX-License-Identifier: BSD-2-Clause
"""The lock of the simulated CPU's port, on an event loop of its own: first come, first served, whoever is cancelled meanwhile."""

import asyncio

import pytest

from sim import bfm


@pytest.fixture
def turn(monkeypatch):
    monkeypatch.setattr(bfm, "Event", asyncio.Event)
    return bfm._Turn()


async def _access(turn, name, log, pauses=1):
    async with turn:
        log.append(f"{name} in")
        for _ in range(pauses):
            await asyncio.sleep(0)
        log.append(f"{name} out")


def test_one_at_a_time_in_the_order_of_asking(turn):
    log = []

    async def main():
        await asyncio.gather(*(_access(turn, name, log) for name in "abcd"))
        await _access(turn, "e", log)

    asyncio.run(main())
    assert log == [f"{name} {what}" for name in "abcde" for what in ("in", "out")]


@pytest.mark.parametrize("pauses", range(1, 8))
def test_a_cancelled_one_does_not_keep_the_others_out(turn, pauses):
    log = []

    async def main():
        a, b, c = (asyncio.create_task(_access(turn, name, log, 3)) for name in "abc")
        for _ in range(pauses):
            await asyncio.sleep(0)
        b.cancel()
        await asyncio.gather(a, b, c, return_exceptions=True)
        await asyncio.wait_for(_access(turn, "d", log), 5)

    asyncio.run(main())
    for name in "acd":
        assert log.index(f"{name} out") == log.index(f"{name} in") + 1
    assert log[-1] == "d out"


def test_an_error_inside_gives_it_back(turn):
    async def main():
        with pytest.raises(ValueError, match="inside"):
            async with turn:
                raise ValueError("inside")
        await asyncio.wait_for(_access(turn, "a", []), 5)

    asyncio.run(main())
