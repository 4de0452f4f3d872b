# SPDX-License-Identifier: BSD-2-Clause
"""The run record: file format, incremental reading, errors that name file, position and rule."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtl.config import SocConfig
from rtl.probe import Kind
from sim.record import (
    Event,
    EventReader,
    RecordError,
    Run,
    pack_events,
    read_events,
    read_events_text,
    record_bytes,
    unpack_events,
    write_events,
    write_events_text,
)


def some_events(width=64):
    return [
        Event(3, int(Kind.CSR_WRITE), 0, 7, 0x300, 0, 0x8000_0010),
        Event(4, int(Kind.LOAD), 3, 0xFFFF, 0x8000_0010, 0xFF, (1 << width) - 2),
        Event(0xFFFF_FFFF, int(Kind.DEV_READ), 0, 0, 8, 0x0F, 5),
    ]


def test_words_are_where_the_sink_puts_them():
    blob = pack_events([Event(5, int(Kind.STORE), 2, 3, 0x8000_0008, 0xF0, 0x1122_3344_5566_7788)], 64)
    assert struct.unpack("<6I", blob) == (0x11 | 2 << 8 | 3 << 16, 5, 0x8000_0008, 0xF0, 0x5566_7788, 0x1122_3344)


@pytest.mark.parametrize("width, size", [(32, 24), (64, 24), (128, 32)])
def test_round_trip(width, size):
    assert record_bytes(width) == size
    blob = pack_events(some_events(width), width)
    assert len(blob) == 3 * size
    assert unpack_events(blob, width) == some_events(width)


event = st.builds(
    Event,
    cycle=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([int(kind) for kind in Kind]),
    flags=st.integers(0, 255),
    tag=st.integers(0, 65535),
    addr=st.integers(0, 2**32 - 1),
    aux=st.integers(0, 2**32 - 1),
    data=st.integers(0, 2**128 - 1),
)


@given(st.lists(event))
def test_any_event_survives(events):
    assert unpack_events(pack_events(events, 128), 128) == events


def test_event_reads_like_its_kind():
    load = some_events()[1]
    assert load.kind == Kind.LOAD and load.name == "LOAD"
    assert str(load).startswith("cycle 4: LOAD addr=0x80000010")
    assert Event(1, 0xEE).name == "kind 0xee"


def test_field_that_does_not_fit():
    with pytest.raises(ValueError, match=r"Event must fit its record, not cycle 1: LOAD .*"):
        pack_events([Event(1, int(Kind.LOAD), data=1 << 64)], 64)
    with pytest.raises(ValueError, match="Data width must be one of 32, 64, 128, not 48"):
        record_bytes(48)


def test_truncated_blob_names_the_byte():
    with pytest.raises(RecordError, match=r"^run/events.bin: byte 148: a record must have 24 bytes, not 23$"):
        unpack_events(pack_events(some_events(), 64)[:-1], 64, where="run/events.bin", base=100)


def test_unknown_kind_names_the_byte(tmp_path):
    blob = bytearray(pack_events(some_events(), 64))
    blob[24] = 0xEE
    (tmp_path / "events.bin").write_bytes(blob)
    with pytest.raises(RecordError, match=r"events.bin: byte 24: kind must be one of rtl.probe.Kind, not 0xee"):
        read_events(tmp_path / "events.bin", 64)


@pytest.mark.parametrize("write, name", [(write_events, "events.bin"), (write_events_text, "events.hex")])
def test_incremental_reading_leaves_the_unfinished_record(tmp_path, write, name):
    write(tmp_path / name, some_events(), 64)
    blob = (tmp_path / name).read_bytes()
    reader = EventReader(tmp_path / name, 64)
    cut = len(blob) // 3 + 5
    (tmp_path / name).write_bytes(blob[:cut])
    assert reader.read() == some_events()[:1]
    assert reader.read() == []
    (tmp_path / name).write_bytes(blob)
    assert reader.read() == some_events()[1:]
    again = EventReader(tmp_path / name, 64)
    again.skip()
    assert again.offset == len(blob) and again.read() == []


def test_read_errors(tmp_path):
    with pytest.raises(RecordError, match="the file must be readable: No such file"):
        read_events(tmp_path / "events.bin", 64)
    with pytest.raises(RecordError, match="the file must be readable: No such file"):
        read_events_text(tmp_path / "events.hex", 64)
    with pytest.raises(RecordError, match="byte 7: an offset must be a multiple of the record size 24"):
        read_events(tmp_path / "events.bin", 64, 7)


@pytest.mark.parametrize(
    "line, text",
    [
        ("00000001 00000000 00000000", "byte 0: a line must be 6 words of eight hex digits, not '00000001 00000000 00000000'"),
        ("00000001 00000000 00000000 0 00000000 00000000", "byte 0: a line must be 6 words"),
        ("zzzzzzzz 00000000 00000000 00000000 00000000 00000000", "byte 0: a line must be 6 words"),
        ("\n000000ee 00000000 00000000 00000000 00000000 00000000", "byte 1: kind must be one of rtl.probe.Kind, not 0xee"),
    ],
)
def test_text_errors(tmp_path, line, text):
    (tmp_path / "events.hex").write_text(line + "\n")
    with pytest.raises(RecordError, match=text):
        read_events_text(tmp_path / "events.hex", 64)


def a_run(width=64):
    calls = [
        {"seq": 0, "phase": "begin", "call": 1, "name": "GetDmaAlignment", "cycle": 3, "site": ["a.py", 1, "f"], "args": {}},
        {"seq": 1, "phase": "end", "call": 1, "name": "GetDmaAlignment", "cycle": 4, "result": 8, "error": None},
    ]
    config = SocConfig(data_width=width).to_dict()
    return Run(some_events(width), calls, {1: ("a.py", 12, "main")}, {"config": config, "coherent": False})


@pytest.mark.parametrize("width", [32, 64, 128])
def test_run_round_trip(tmp_path, width):
    run = a_run(width)
    run.save(tmp_path / "deep" / "run")
    again = Run.load(tmp_path / "deep" / "run")
    assert again == run
    assert again.config == SocConfig(data_width=width)
    assert sorted(p.name for p in (tmp_path / "deep" / "run").iterdir()) == [
        "calls.jsonl",
        "events.bin",
        "platform.json",
        "sites.json",
    ]


def test_run_reads_the_text_form(tmp_path):
    run = a_run()
    run.save(tmp_path)
    write_events_text(tmp_path / "events.hex", run.events, 64)
    (tmp_path / "events.bin").unlink()
    assert Run.load(tmp_path) == run


def test_calls_stand_after_the_events_of_their_cycle():
    run = a_run()
    first, second, third = run.events
    assert list(run.ordered()) == [first, run.calls[0], second, run.calls[1], third]


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("platform.json", b"{", r"platform.json: line 1: the file must be JSON"),
        ("platform.json", b"[]", r"platform.json: the top level must be an object, not list"),
        ("platform.json", b'{"config": {"data_width": 7}}', r"platform.json: config must be a SocConfig: data_width must be"),
        ("sites.json", b"[]", r"sites.json: the top level must be an object, not list"),
        ("sites.json", b'{"x": ["a", 1, "f"]}', r"sites.json: entry 'x': a site must be tag: \[file, line, function\]"),
        ("sites.json", b'{"1": ["a", "1", "f"]}', r"sites.json: entry '1': a site must be"),
        ("calls.jsonl", b"\nnope\n", r"calls.jsonl: line 2: a call must be JSON"),
        ("calls.jsonl", b'{"cycle": 1}\n', r"calls.jsonl: line 1: a call must have a cycle and a phase"),
        (
            "calls.jsonl",
            b'{"cycle": 2, "phase": "begin"}\n{"cycle": 1, "phase": "end"}\n',
            r"calls.jsonl: line 2: cycle must not be before 2, not 1",
        ),
        ("calls.jsonl", b"\xff\n", r"calls.jsonl: byte 0: the file must be UTF-8"),
        ("events.bin", b"\x01" * 30, r"events.bin: byte 24: a record must have 24 bytes, not 6 bytes"),
        (
            "events.bin",
            pack_events(list(reversed(some_events())), 64),
            r"events.bin: record 1: cycle must not be before 4294967295, not 4",
        ),
    ],
)
def test_bad_files(tmp_path, name, content, text):
    a_run().save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=text):
        Run.load(tmp_path)


@pytest.mark.parametrize("name", ["platform.json", "sites.json", "calls.jsonl", "events.bin"])
def test_missing_files(tmp_path, name):
    a_run().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RecordError, match=rf"{name}: the file must be readable: No such file"):
        Run.load(tmp_path)


def test_saved_events_are_what_was_given_even_if_saving_fails(tmp_path):
    run = a_run()
    run.save(tmp_path)
    run.events.append(Event(1, int(Kind.LOAD), data=1 << 64))
    with pytest.raises(ValueError, match="Event must fit"):
        run.save(tmp_path)
    run.events.pop()
    assert Run.load(tmp_path) == run
    assert json.loads((tmp_path / "platform.json").read_text())["coherent"] is False
