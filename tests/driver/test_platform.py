# SPDX-License-Identifier: BSD-2-Clause
"""Platform description, platform table, memory pool."""

import re

import pytest

from driver.errors import PlatformError, PoolError
from driver.maintenance import Op, Target
from driver.memory import MemoryPool
from driver.platform import FLUSH_TABLE, FlushCall, HalOptions, Platform, flush_table

from .fake_bus import FakeBus, run


def steps(call):
    return [(step.op, step.target) for step in FLUSH_TABLE[call]]


def test_table_is_the_one_of_the_rules():
    assert steps(FlushCall.KE_FLUSH_DMA_WRITE) == [(Op.CLEAN, Target.D)]
    assert steps(FlushCall.KE_FLUSH_DMA_READ) == [(Op.CLEAN_INVALIDATE, Target.BOTH)]
    assert steps(FlushCall.KE_FLUSH_PIO_READ) == [(Op.CLEAN, Target.D), (Op.INVALIDATE, Target.I)]
    assert steps(FlushCall.KE_FLUSH_PIO_WRITE) == [(Op.CLEAN, Target.D)]
    assert steps(FlushCall.FLUSH_ADAPTER_READ) == [(Op.INVALIDATE, Target.BOTH)]
    assert steps(FlushCall.MAP_EX_WRITE) == [(Op.CLEAN, Target.D)]
    assert steps(FlushCall.MAP_EX_READ) == [(Op.CLEAN_INVALIDATE, Target.BOTH)]
    assert steps(FlushCall.FLUSH_EX_READ) == [(Op.INVALIDATE, Target.BOTH)]
    assert set(FLUSH_TABLE) == set(FlushCall)
    with pytest.raises(TypeError):
        FLUSH_TABLE[FlushCall.UNCACHE] = ()


def test_options_are_on_by_default_and_empty_their_row():
    assert flush_table(HalOptions()) == FLUSH_TABLE
    letter = flush_table(HalOptions(invalidate_after_read=False, clean_before_read=False))
    assert {call for call in letter if letter[call] != FLUSH_TABLE[call]} == {FlushCall.FLUSH_ADAPTER_READ, FlushCall.MAP_EX_READ}
    assert letter[FlushCall.FLUSH_ADAPTER_READ] == ()


def test_discover_reads_the_hardware_and_applies_beliefs():
    bus = FakeBus(coherent=True, line=64, chunk=8, size=32768, channels=2)
    found = run(Platform.discover(bus))
    assert found == Platform(coherent=True, line_bytes=64, chunk_bytes=8, memory_size=32768, system_channels=2)
    assert len(bus.ops) == 5
    wrong = run(Platform.discover(bus, coherent=False, line_bytes=16))
    assert not wrong.coherent and wrong.line_bytes == 16
    assert wrong.record() == {
        "coherent_flag": False,
        "assumed_line_bytes": 16,
        "hal": {
            "invalidate_after_read": True,
            "clean_before_read": True,
            "line_loop": False,
            "architecture": "wdk",
            "speculates": True,
            "bounce": "needed",
            "bounce_bytes": 65536,
            "bounce_copies_whole": False,
            "maintenance_limit": 1_000_000,
            "drain_limit": 1_000_000,
        },
        "architecture": "wdk",
        "memory": [0x8000_0000, 32768],
    }


@pytest.mark.parametrize(
    "values, text",
    [
        ({"coherent": 1}, "Platform.coherent must be True or False, not 1"),
        ({"line_bytes": 24}, "Platform.line_bytes must be a power of two, not 24"),
        ({"line_bytes": 2}, "Platform.line_bytes must be an integer from 4 to 0x1000, not 2"),
        ({"memory_size": 100}, "Platform.memory_size must be a multiple of 4096"),
        ({"system_channels": 0}, "Platform.system_channels must be an integer from 1 to 4, not 0"),
        ({"options": None}, "Platform.options must be a HalOptions, not None"),
        ({"cherent": True}, "Platform field must be one of .*coherent.*, not 'cherent'"),
    ],
)
def test_a_bad_belief_is_named(values, text):
    with pytest.raises(PlatformError, match=text):
        Platform(coherent=False).replace(**values)


def test_bad_hal_option_is_named():
    with pytest.raises(PlatformError, match=re.escape("HalOptions.line_loop must be True or False, not 'yes'")):
        HalOptions(line_loop="yes")


def test_pool_is_first_fit_and_honours_alignment_and_offset():
    pool = MemoryPool(0x1000, 0x1000, reserve=0x100)
    a = pool.allocate(10, alignment=64)
    b = pool.allocate(10, alignment=64, offset=5)
    c = pool.allocate(10, alignment=1)
    assert (a, b, c) == (0x1100, 0x1145, 0x110A)
    pool.free(a)
    assert pool.allocate(10, alignment=256) == 0x1100
    assert [block.address for block in pool.blocks] == [0x1100, 0x110A, 0x1145]


def test_exclusive_blocks_share_no_aligned_unit():
    pool = MemoryPool(0x8000_0000, 0x4000)
    pool.allocate(10, alignment=1)
    page = pool.allocate(100, alignment=4096, exclusive=True)
    assert page == 0x8000_1000
    assert pool.allocate(5000, alignment=64) == 0x8000_2000
    assert pool.allocate(4000, alignment=16) == 0x8000_0010
    assert pool.find(page).last == 0x8000_2000
    with pytest.raises(PoolError, match=r"length must fit a free gap .* not 4000"):
        pool.allocate(4000)


def test_pool_errors():
    pool = MemoryPool(0, 4096)
    a = pool.allocate(16)
    pool.free(a)
    with pytest.raises(PoolError, match="address must be allocated to be freed, not 0x00000000: it was freed before"):
        pool.free(a)
    with pytest.raises(PoolError, match="address must be one that allocate returned, not 77"):
        pool.free(77)
    for length in (0, -1, 4097, 1.5, True):
        with pytest.raises(PoolError, match="length must be an integer from 1 to 0x1000"):
            pool.allocate(length)
    with pytest.raises(PoolError, match="alignment must be a power of two, not 3"):
        pool.allocate(1, alignment=3)
    with pytest.raises(PoolError, match="offset must be an integer from 0 to 7, not 8"):
        pool.allocate(1, alignment=8, offset=8)
    assert pool.free_bytes == 4096
