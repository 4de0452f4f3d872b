# SPDX-License-Identifier: BSD-2-Clause
"""The save file and its markers, without a simulator: hand-made runs, and the testbench's text."""

import re

import pytest

from rtl.config import SocConfig
from rtl.probe import CHANNELS, Kind, Source
from sim.hdl.testbench import testbench_verilog as bench_verilog
from sim.record import Event, Run
from sim.waves import Markers, find_markers, write_save_file
from sim.waves.save import GROUPS

BUFFER = 0x8000_4000
TO_DEVICE = 1 << 31
RIGHT, WRONG = 0x11, 0xEE
EPOCH_NS, PERIOD_NS = 40, 10


def written(cycle, value, *, source=Source.DMA_DATA, addr=BUFFER, strobes=1, flags=0):
    return Event(cycle, Kind.MEM_WRITE, addr=addr, aux=source | strobes << 8, data=value, flags=flags)


def loaded(cycle, value, kind=Kind.LOAD, strobes=1):
    return Event(cycle, kind, addr=BUFFER, aux=strobes, data=value)


def segment(cycle, *, write_to_device=False, length=8, device=0x400):
    return Event(cycle, Kind.SEGMENT, addr=BUFFER, aux=write_to_device | length << 1, data=device)


def handoff(cycle):
    return Event(cycle, Kind.HANDOFF, addr=BUFFER, data=8)


def test_no_events_no_markers():
    assert find_markers(Run()) == Markers(-1, -1, -1)


def test_handoff_is_the_last_of_an_intact_run():
    assert find_markers(Run(events=[handoff(5), handoff(90)])).handoff == 90


def test_handoff_is_that_of_the_corrupted_transfer():
    events = [handoff(5), handoff(90), segment(92), written(99, WRONG), handoff(120)]
    assert find_markers(Run(events=events), {BUFFER: RIGHT}) == Markers(handoff=90, flush=-1, corruption=99)


@pytest.mark.parametrize(
    ("flushes", "expected"),
    [
        ([(Kind.MAINT_BEGIN, 60), (Kind.MAINT_BEGIN, 120)], 60),
        ([(Kind.MAINT_BEGIN, 60), (Kind.MAINT_BEGIN, 70)], 70),
        ([(Kind.FLUSH_BEGIN, 60), (Kind.FLUSH_BEGIN, 110), (Kind.MAINT_BEGIN, 120)], 110),
        ([(Kind.MAINT_BEGIN, 20)], -1),
        ([], -1),
    ],
    ids=["before", "nearest before", "after", "of an earlier transfer only", "none"],
)
def test_flush(flushes, expected):
    events = [handoff(50), handoff(100), *(Event(cycle, kind, addr=BUFFER) for kind, cycle in flushes)]
    assert find_markers(Run(events=sorted(events))).flush == expected


def test_flush_of_a_run_without_handoff_is_its_first():
    assert find_markers(Run(events=[Event(7, Kind.MAINT_BEGIN), Event(9, Kind.MAINT_BEGIN)])).flush == 7


def test_corruption_is_the_write_back_over_the_dma_data():
    events = [
        written(10, WRONG, source=Source.D_WRITEBACK),  # before the transfer: what lay there
        handoff(20),
        segment(22),
        written(30, RIGHT),
        written(40, WRONG, source=Source.D_WRITEBACK),
        loaded(60, WRONG),
    ]
    assert find_markers(Run(events=events), {BUFFER: RIGHT}).corruption == 40


def test_corruption_is_the_load_of_a_stale_line():
    events = [handoff(20), segment(22), written(30, RIGHT), loaded(60, WRONG)]
    assert find_markers(Run(events=events), {BUFFER: RIGHT}).corruption == 60


@pytest.mark.parametrize("kind", [Kind.LOAD, Kind.UNCACHED_LOAD, Kind.FETCH])
def test_corruption_seen_by_each_kind_of_read(kind):
    assert find_markers(Run(events=[loaded(8, WRONG, kind)]), {BUFFER: RIGHT}).corruption == 8


def test_wrong_bytes_that_were_put_right_do_not_count():
    events = [handoff(20), segment(22), written(25, WRONG), written(30, RIGHT), loaded(60, WRONG)]
    assert find_markers(Run(events=events), {BUFFER: RIGHT}).corruption == 60


def test_stores_of_the_program_do_not_count_but_set_right():
    events = [loaded(5, WRONG, Kind.STORE), loaded(6, WRONG), loaded(7, RIGHT, Kind.STORE), loaded(50, WRONG, Kind.FETCH)]
    assert find_markers(Run(events=events), {BUFFER: RIGHT}).corruption == 50


def test_lanes_strobes_and_failed_writes():
    run = Run(
        events=[
            written(10, WRONG << 24, strobes=0x7),  # the wrong lane is not written
            written(20, WRONG << 24, strobes=0x8, flags=1),  # bus error: not written
            written(30, WRONG << 16 | RIGHT << 24, strobes=0xFF),  # another lane
            written(40, WRONG << 24, strobes=0x8),
        ]
    )
    assert find_markers(run, {BUFFER + 3: RIGHT}).corruption == 40


def test_corruption_toward_the_device_is_the_engines_read_of_stale_memory():
    events = [
        handoff(20),
        segment(22, write_to_device=True),
        Event(25, Kind.MEM_READ, addr=BUFFER, aux=Source.D_FILL, data=WRONG),  # a fill is not the engine
        Event(30, Kind.MEM_READ, addr=BUFFER, aux=Source.DMA_DATA, data=WRONG),
        Event(40, Kind.DEV_WRITE, addr=0x400, aux=1, data=WRONG),
    ]
    assert find_markers(Run(events=events), {BUFFER: RIGHT}, {0x400: RIGHT}) == Markers(20, -1, 30)


@pytest.mark.parametrize("kind", [Kind.PUSH, Kind.DRAIN])
def test_fifo_beats_belong_to_the_address_space_they_go_to(kind):
    run = Run(events=[Event(10, kind, addr=0x400, aux=1, data=WRONG), Event(20, kind, addr=0x400, aux=1 | TO_DEVICE, data=WRONG)])
    assert find_markers(run, {}, {0x400: RIGHT}).corruption == 20
    assert find_markers(run, {0x400: RIGHT}).corruption == 10


def save(tmp_path, markers, data_width=64):
    path = write_save_file(
        tmp_path / "waves.fst",
        tmp_path / "waves.gtkw",
        data_width=data_width,
        markers=markers,
        epoch_ns=EPOCH_NS,
        period_ns=PERIOD_NS,
        last_cycle=850,
    )
    return path.read_text()


def zoom_line(text):
    return next(line for line in text.splitlines() if line.startswith("*"))[1:].split()


def test_save_file_has_all_groups_once(tmp_path):
    text = save(tmp_path, Markers(398, 716, 639))
    titles = ["CPU", "D-cache", "I-cache", "maintenance", "bus", "DMA", "FIFO", "device"]
    assert [title for title, _, _ in GROUPS] == titles
    assert all(text.splitlines().count(f"-{title}") == 2 for title in titles)  # begin and end


def test_save_file_fits_one_screen():
    assert 1 + sum(2 + len(rows) for _, _, rows in GROUPS) <= 37  # rows of a window 1000 pixels high


def test_marker_times_are_picoseconds_at_the_start_of_the_cycle(tmp_path):
    text = save(tmp_path, Markers(398, 716, 639))
    assert zoom_line(text)[1:5] == ["6420000", "4010000", "7190000", "6420000"]
    assert set(zoom_line(text)[5:]) == {"-1"}
    assert [line for line in text.splitlines() if line.startswith("[markername]")] == [
        "[markername] Ahand-off",
        "[markername] Bflush",
        "[markername] Ccorrupted",
    ]


@pytest.mark.parametrize("markers", [Markers(398, 716, 639), Markers(0, 1, 2), Markers(5, 3000, 100_000), Markers(7)])
def test_all_markers_are_in_view(tmp_path, markers):
    text = save(tmp_path, markers)
    shown = 2 ** -float(zoom_line(text)[0]) / 200 * 1250
    start = int(re.search(r"^\[timestart\] (\d+)$", text, re.MULTILINE)[1])
    times = [int(time) for time in zoom_line(text)[2:5] if time != "-1"]
    assert times
    assert all(start <= time <= start + shown for time in times)


def test_no_markers_shows_the_whole_run(tmp_path):
    text = save(tmp_path, Markers())
    assert zoom_line(text)[1:] == ["-1"] * 27
    assert "[markername]" not in text
    assert "[timestart] 30000" in text
    assert 2 ** -float(zoom_line(text)[0]) / 200 * 1250 == pytest.approx(850 * PERIOD_NS * 1000, rel=1e-5)


def test_event_names_are_beside_it_and_complete(tmp_path):
    text = save(tmp_path, Markers())
    lines = (tmp_path / "events.names").read_text().split("\n")
    names = dict(line.split(" ", 1) for line in lines if line)
    assert names == {"00": "-", **{f"{int(kind):02x}": kind.name for kind in Kind}}
    last = sum(field == "last" for _, _, rows in GROUPS for _, field in rows)
    assert text.count(f"^1 {tmp_path / 'events.names'}\n") == last


@pytest.mark.parametrize("data_width", [32, 64, 128])
def test_every_signal_is_declared_by_the_testbench(tmp_path, data_width):
    config = SocConfig(data_width=data_width)
    text = bench_verilog(config, "flushpoint_tb", waves=True).verilog
    bench = text[text.index("module flushpoint_tb(") :]
    declared = set()
    for extent, name in re.findall(r"^  (?:wire|output reg|input|output) (?:(\[\d+:0\]) )?(\w+)(?= =|;)", bench, re.MULTILINE):
        declared.add(name + extent)
    named = re.findall(r"flushpoint_tb\.([\w\[\]:]+)$", save(tmp_path, Markers(), data_width), re.MULTILINE)
    assert len(named) == 1 + sum(len(rows) for _, _, rows in GROUPS)
    assert set(named) <= declared
    assert {channel for _, _, rows in GROUPS for channel, _ in rows} <= set(CHANNELS)


def test_wave_wires_are_only_there_with_waves():
    assert "cpu_last" not in bench_verilog(SocConfig(), "flushpoint_tb").verilog
