# SPDX-License-Identifier: BSD-2-Clause
"""Timing by seed, comparison of bytes, what is still held, merged findings: without a simulator."""

import subprocess
import sys

import pytest

from driver.errors import ArgumentError
from driver.storage_port import PortTransfer
from rtl.config import SocConfig
from rtl.probe import Kind, Source
from sim.record import Event
from sim.simulator import SessionTimeout, _wait
from sim.userdriver.held import last_open_call, still_held
from sim.userdriver.machine import fill
from sim.userdriver.moved import Request, compare
from sim.userdriver.report import exit_code, merge_findings
from sim.userdriver.run import DriverRun, Ending
from sim.userdriver.timing import CALM_SEED, Timing, alternative_config

CONFIG = SocConfig()
BASE = CONFIG.memory.base
MEMORY, DEVICE = bytes(CONFIG.memory.size), bytes(range(256)) * (CONFIG.device.buffer_bytes // 256)


# -- timing --------------------------------------------------------------------------------------------------------------


def test_a_seed_is_one_timing_and_seed_1_the_calm_machine():
    assert Timing.of_seed(CALM_SEED) == Timing()
    assert Timing.of_seed(7) == Timing.of_seed(7) and Timing.from_dict(Timing.of_seed(7).to_dict()) == Timing.of_seed(7)
    assert not Timing().prefetch and not Timing().evict_interval


def test_seeds_vary_everything_they_may():
    many = [Timing.of_seed(seed) for seed in range(2, 80)]
    for name in ("prefetch", "evict_interval", "sizes", "gap", "stalled_writes", "stall", "interrupt_delay", "alternative_chunk"):
        assert len({getattr(timing, name) for timing in many}) > 1, name
    assert not any(Timing.of_seed(seed, speculates=False).prefetch for seed in range(2, 80))


def test_bad_timing_is_refused():
    with pytest.raises(ArgumentError, match=r"Timing\.gap must be an integer from 0 to 0x186a0, not -1"):
        Timing(gap=-1)
    with pytest.raises(ArgumentError, match=r"number of Timing\.sizes"):
        Timing(sizes=())


@pytest.mark.parametrize("chunk, line, other", [(8, 32, 16), (16, 32, 32), (32, 32, 16), (64, 64, 32)])
def test_the_other_chunk_size_is_legal(chunk, line, other):
    config = CONFIG.replace(dcache__line_bytes=line, icache__line_bytes=line).replace(dma__chunk_bytes=chunk)
    assert alternative_config(config).dma.chunk_bytes == other


# -- bytes ---------------------------------------------------------------------------------------------------------------


def store(cycle, address, data):
    return Event(cycle, Kind.STORE, addr=address, aux=(1 << len(data)) - 1, data=int.from_bytes(data, "little"))


def dma_write(cycle, address, data):
    aux = Source.DMA_DATA | ((1 << len(data)) - 1) << 8
    return Event(cycle, Kind.MEM_WRITE, addr=address, aux=aux, data=int.from_bytes(data, "little"))


def compared(events=(), transfers=(), requests=(), got=(), put=(), after=DEVICE):
    return compare(CONFIG, MEMORY, DEVICE, events, list(transfers), list(requests), list(got), list(put), after)


def test_the_device_must_hold_what_the_cpu_had_stored_at_the_hand_off():
    events = [store(5, BASE, b"abcd"), store(20, BASE, b"ABCD")]
    sent = PortTransfer([(BASE, 4)], True, 100, started=10, moved=4, ended=15)
    right = DEVICE[:100] + b"abcd" + DEVICE[104:]
    assert compared(events, [sent], after=right).corrupted == 0
    wrong = compared(events, [sent], after=DEVICE[:100] + b"abcD" + DEVICE[104:])
    assert (wrong.checked, wrong.corrupted, wrong.wrong) == (4, 1, [["device", 103, ord("d"), ord("D")]])
    assert "1 of 4 bytes are wrong, first at device 0x67: 0x44, not 0x64" in wrong.lines[0]


def test_a_transfer_that_nobody_saw_end_is_not_compared():
    assert compared([], [PortTransfer([(BASE, 4)], True, 0, started=10)]).checked == 0


def test_a_caller_must_read_what_the_device_held():
    moved = PortTransfer([(BASE, 4)], False, 16, started=10, moved=4, ended=15)
    request = Request([(BASE, 4)], False, 0, cycle=20, seen=DEVICE[16:20])
    assert compared([dma_write(12, BASE, DEVICE[16:20])], [moved], [request]).corrupted == 0
    stale = Request([(BASE, 4)], False, 0, cycle=20, seen=bytes(4))
    assert compared([], [moved], [stale]).corrupted == 4


def test_what_the_cpu_stored_after_the_completion_is_the_caller_s_own():
    request = Request([(BASE, 2)], False, 8, cycle=20, seen=b"xy")
    assert compared([store(30, BASE, b"xy")], [], [request]).corrupted == 0


def test_a_request_without_dma_is_compared_by_its_offset():
    request = Request([(BASE, 2)], True, 8, cycle=20)
    after = DEVICE[:8] + b"pq" + DEVICE[10:]
    assert compared([store(3, BASE, b"pq")], [], [request], after=after).corrupted == 0
    assert compared([store(3, BASE, b"pq")], [], [request]).corrupted == 2


def test_what_a_driver_declares():
    assert compared(got=[(5, 4, DEVICE[4:8])], put=[(5, 0, DEVICE[:2])]).corrupted == 0
    assert compared(got=[(5, 4, b"\xff" * 4)]).corrupted == 4
    assert compared(put=[(5, 0, b"\xff\xfe")]).corrupted == 2


def test_memory_holds_nothing_that_the_payload_has():
    memory, device = fill(CONFIG, b"hello", 3)
    assert not set(memory) & set(b"hello") and device.startswith(b"hellohello") and len(device) == CONFIG.device.buffer_bytes
    assert fill(CONFIG, b"hello", 3) == (memory, device) != fill(CONFIG, b"hello", 4)
    assert len(fill(CONFIG, bytes(range(256)), 1)[0]) == CONFIG.memory.size


# -- what is held --------------------------------------------------------------------------------------------------------


def call(number, name, args, result, line=10):
    begin = {"phase": "begin", "call": number, "name": name, "cycle": number, "site": ["d.py", line, "f"], "args": args}
    return [{**begin, "parent": None, "thread": 0}, {"phase": "end", "call": number, "name": name, "result": result}]


def test_what_was_taken_and_not_given_back():
    adapter = {"id": 1, "version": 2}
    calls = [
        *call(1, "IoGetDmaAdapter", {"description": {}}, {"adapter": adapter, "map_registers": 4}, 11),
        *call(2, "AllocateCommonBuffer", {"adapter": adapter}, {"buffer": 7, "address": BASE, "length": 64}, 12),
        *call(3, "AllocateCommonBuffer", {"adapter": adapter}, {"buffer": 8, "address": BASE, "length": 64}, 13),
        *call(4, "FreeCommonBuffer", {"adapter": adapter, "buffer": 7}, None),
        *call(5, "dma_map_single", {"address": BASE}, BASE, 14),
        *call(6, "AllocateMemory", {"kind": "stack"}, {"address": BASE, "length": 4}),  # goes with its function
    ]
    held = still_held(calls)
    assert len(held) == 3 and held[0] == "DMA adapter 1 (IoGetDmaAdapter at d.py:11)"
    assert held[1].startswith("common buffer 8") and held[2].startswith(f"mapping {BASE:#x}")
    calls += call(7, "PutDmaAdapter", {"adapter": adapter}, None) + call(8, "dma_unmap_single", {"dma": BASE}, None)
    assert len(still_held(calls)) == 1


def test_the_last_call_says_whether_it_returned():
    calls = call(1, "IoGetDmaAdapter", {"n": 1}, None) + call(2, "dsb", {}, None)[:1]
    text, site = last_open_call(calls)
    assert text == "dsb() at d.py:10, cycle 2, which has not returned" and site == ["d.py", 10, "f"]
    assert last_open_call([]) == ("", None)


# -- reports -------------------------------------------------------------------------------------------------------------


def finding(rule, severity, line, root=True):
    access = {"what": "store", "cycle": 1, "site": ["d.py", line, "f"], "address": None}
    return {"rule": rule, "severity": severity, "root": root, "cause": None, "party": "driver", "cycle": 1, "accesses": [access]}


def test_findings_of_many_runs_are_merged_by_rule_and_place():
    runs = [
        DriverRun(name="1", seed=1, findings=[finding("R02", "corruption possible", 5)]),
        DriverRun(name="2", seed=2, findings=[finding("R02", "corruption seen", 5), finding("R09", "warning", 6)]),
        DriverRun(name="3", seed=3, findings=[finding("R02", "corruption possible", 9)]),
    ]
    first, second, third = merge_findings(runs)
    assert (first["rule"], first["severity"], first["runs"], first["seeds"]) == ("R02", "corruption seen", 2, [1, 2])
    assert second["severity"] == "corruption possible" and third["rule"] == "R09"


@pytest.mark.parametrize(
    "values, portable, code",
    [
        ({}, False, 0),
        ({"findings": [finding("R09", "warning", 1)]}, False, 0),
        ({"findings": [finding("R01", "latent", 1)]}, False, 0),
        ({"findings": [finding("R01", "latent", 1)]}, True, 1),
        ({"findings": [finding("R01", "corruption possible", 1)]}, False, 1),
        ({"findings": [finding("R03", "corruption seen", 1, root=False)]}, False, 0),
        ({"ending": Ending.HANGS}, False, 1),
        ({"corrupted": 3}, False, 1),
        ({"hardware": ["a"]}, False, 1),
    ],
)
def test_the_exit_code(values, portable, code):
    from sim.userdriver.check import PlatformRuns

    assert exit_code([PlatformRuns(None, [DriverRun(name="x", **values)])], portable=portable) == code


# -- a process without progress ----------------------------------------------------------------------------------------


def test_a_process_without_progress_is_given_up(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(SessionTimeout, match=r"stopped after 0\.1 s without progress"):
            _wait(process, 0.1, tmp_path / "none", tmp_path / "log")
        process.stdin.close()
        _wait(process, 60, None, tmp_path / "log")
        assert process.returncode is not None
    finally:
        process.kill()
        process.wait()


def test_lines_of_the_simulator_s_library_are_no_places_of_a_driver():
    import cocotb

    import sim.userdriver.execute  # declares what is a library
    from driver.site import is_library

    assert sim.userdriver.execute and is_library(cocotb.__file__) and not is_library("/home/me/my_driver.py")
