# SPDX-License-Identifier: BSD-2-Clause
"""The model as a whole: snapshots, broken hardware, random legal behaviour, speed."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtl.probe import Cause, Kind
from sim.record import pack_events, unpack_events
from sim.reference import ReferenceModel, Snapshot
from sim.reference.compare import difference_runs

from .machine import ALL, CLEAN, CLEAN_INVALIDATE, DC, IC, INVALIDATE, LINE, MEM, RANGE, SMALL, Machine, noticed


def story(bug=None) -> Machine:
    """Two transfers with the flushes a driver owes, over dirty lines."""
    m = Machine(bug=bug)
    for n in range(0, 300, 25):
        m.store(MEM + n, bytes([n & 0xFF] * 25))
        m.drain_buffer()
    m.maintain(CLEAN, RANGE, DC, MEM + 3, 200)
    m.write_transfer(MEM + 3, 40, 200, (33, 8))
    m.flush()
    m.maintain(CLEAN_INVALIDATE, RANGE, DC | IC, MEM + 256, 90)
    m.read_transfer(MEM + 257, 300, 77)
    m.flush()
    m.load(MEM + 257, 77)
    return m


def test_story():
    assert story().judge() == []


@pytest.mark.parametrize("bug", ["skips_last_line", "drops_remainder", "wrong_way", "stale_fill", "done_early"])
def test_broken_hardware_is_noticed(bug):
    m = story(bug)
    if bug == "stale_fill":
        m.store(MEM + 0x800, b"newest")
        m.evict(MEM + 0x800)
        m.load(MEM + 0x800, 6)
        m.drain_buffer()
    assert m.judge() != []


def test_mismatch_reads_well():
    m = story("skips_last_line")
    first = m.judge()[0]
    assert first.startswith("cycle ") and "D-cache line 0x800000c0: is still dirty in the array although maintenance" in first
    m = story()
    m.edit(Kind.MEM_WRITE, 1, data=m.events[m.at(Kind.MEM_WRITE, 1)].data ^ 0xAA00)
    model = ReferenceModel(m.config, *m.images)
    model.apply(m.events)
    (mismatch,) = model.mismatches
    record = mismatch.record
    assert (record.kind, mismatch.address, mismatch.cycle) == (Kind.MEM_WRITE, MEM + 8, record.cycle)
    assert str(mismatch) == (
        f"cycle {record.cycle}: memory 0x80000008: D_WRITEBACK write data: "
        "expected 00 00 00 00 00 00 00 00, got 00 aa 00 00 00 00 00 00"
    )


# --- snapshots
@pytest.mark.parametrize("part", ["memory", "device"])
def test_arrays(part):
    m = story()
    model = ReferenceModel(m.config, *m.images)
    model.apply(m.events)
    snapshot = m.snapshot()
    blob = bytearray(getattr(snapshot, part))
    blob[5] ^= 1
    blob[6] ^= 1
    blob[-1] ^= 1
    setattr(snapshot, part, bytes(blob))
    found = [(mismatch.address, mismatch.what) for mismatch in model.compare(snapshot)]
    base, name = (MEM, "memory") if part == "memory" else (0, "device buffer")
    end = base + len(blob) - 1
    assert found == [(base + 5, f"{name} {base + 5:#010x}: 2 bytes differ"), (end, f"{name} {end:#010x}: 1 bytes differ")]


def test_many_differences_are_counted():
    m = Machine()
    model = ReferenceModel(m.config, *m.images)
    snapshot = m.snapshot()
    snapshot.memory = bytes(byte ^ (n % 2) for n, byte in enumerate(snapshot.memory))
    found = model.compare(snapshot)
    assert len(found) == 65 and found[-1].what == "memory: 1984 more runs of bytes differ"


def test_cache_lines():
    m = story()
    line = next(iter(m.dcache))
    m.dcache[line][0][9] ^= 0xFF
    noticed(m, f"D-cache line {line:#010x}: 1 bytes differ at {line + 9:#010x}")
    m = story()
    m.dcache[line][1] ^= True
    noticed(m, f"D-cache line {line:#010x}: dirty: expected")
    m = story()
    m.dcache[line][2] ^= 1
    noticed(m, f"D-cache line {line:#010x}: way: expected")
    m = story()
    m.dcache[MEM + 0x800] = [bytearray(32), False, 0]
    noticed(m, "D-cache line 0x80000800: expected absent, got valid")
    m = story()
    m.fetch(MEM, 8)
    m.icache.clear()
    noticed(m, "I-cache line 0x80000000: expected valid, got absent")


def test_remainders():
    m = Machine()
    m.read_transfer(MEM, 0, 3)
    m.open[0][MEM + 1] ^= 1
    noticed(m, "DMA FIFO to memory: remainder: expected 0x80000000: +0=c8 +1=d3 +2=de, got 0x80000000: +0=c8 +1=d2 +2=de")
    m.open[0] = {}
    noticed(m, "got empty")


def test_partial_snapshot_after_a_maintenance():
    m = story()
    model = ReferenceModel(m.config, *m.images)
    model.apply(m.events)
    whole = m.snapshot()
    part = Snapshot(cycle=m.cycle, memory=whole.memory[13:77], memory_base=MEM + 13, dcache=whole.dcache)
    assert model.compare(part) == []
    part.memory = bytes(byte ^ 1 for byte in part.memory)
    (mismatch,) = model.compare(part)
    assert (mismatch.address, mismatch.what) == (MEM + 13, "memory 0x8000000d: 64 bytes differ")
    for base, memory in ((MEM - 1, b"12"), (MEM + 4095, b"12")):
        with pytest.raises(ValueError, match="Snapshot memory must lie in the memory window, not at"):
            model.compare(Snapshot(memory=memory, memory_base=base))
    with pytest.raises(ValueError, match="Snapshot device buffer must be 1024 bytes, not 2"):
        model.compare(Snapshot(device=b"12"))


def test_own_snapshot_agrees_and_says_what_is_predicted():
    m = story()
    model = ReferenceModel(m.config, *m.images)
    model.apply(m.events[:200])
    assert model.compare(model.snapshot()) == []
    model.apply(m.events[200:])
    assert model.snapshot().memory == bytes(m.memory) and model.last_cycle == m.cycle


def test_images_must_fit():
    with pytest.raises(ValueError, match="Memory image must be 4096 bytes, not 1"):
        ReferenceModel(SMALL, b"1", bytes(1024))
    with pytest.raises(ValueError, match="Device image must be 1024 bytes, not 1"):
        ReferenceModel(SMALL, bytes(4096), b"1")


def test_mismatches_are_capped_but_counted():
    m = Machine()
    for _ in range(50):
        m.emit(0xEE)
    model = ReferenceModel(m.config, *m.images, limit=10)
    model.apply(m.events)
    assert len(model.mismatches) == 10 and model.total == 50


@given(st.binary(max_size=64), st.data())
def test_difference_runs(expected, data):
    got = data.draw(st.binary(min_size=len(expected), max_size=len(expected)))
    runs = list(difference_runs(expected, got))
    marked = {n for first, end in runs for n in range(first, end)}
    assert marked == {n for n in range(len(expected)) if expected[n] != got[n]}
    assert all(end < first for (_, end), (first, _) in itertools.pairwise(runs))


# --- random legal behaviour
addresses = st.integers(MEM, MEM + 1500)
offsets = st.integers(0, 400)
sizes = st.lists(st.integers(1, 50), min_size=1, max_size=4)
action = st.one_of(
    st.tuples(st.just("store"), addresses, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("load"), addresses, st.integers(1, 40)),
    st.tuples(st.just("fetch"), addresses, st.integers(1, 40)),
    st.tuples(st.just("uncached_store"), addresses, st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("uncached_load"), addresses, st.integers(1, 20)),
    st.tuples(st.just("drain"), st.integers(0, 3)),
    st.tuples(st.just("inject"), st.integers(0, 50)),
    st.tuples(
        st.just("maintain"),
        st.sampled_from([CLEAN, INVALIDATE, CLEAN_INVALIDATE]),
        st.sampled_from([LINE, RANGE, ALL]),
        st.sampled_from([DC, IC, DC | IC]),
        addresses,
        st.integers(1, 300),
    ),
    st.tuples(st.just("read_transfer"), addresses, offsets, st.integers(1, 150), sizes),
    st.tuples(st.just("write_transfer"), addresses, offsets, st.integers(1, 150), sizes),
    st.tuples(st.just("flush")),
)


def perform(m: Machine, step: tuple) -> None:
    name, *arguments = step
    if name == "drain":
        m.drain_buffer(min(arguments[0], len(m.buffer)))
    elif name == "inject":
        if m.dcache:
            m.evict(sorted(m.dcache)[arguments[0] % len(m.dcache)], Cause.INJECTOR)
    elif name == "write_transfer":
        m.csr_write("dev.cmd", 7)  # an earlier command may still wait for its remainder
        m.open[1] and m.flush()
        m.write_transfer(*arguments)
    elif name == "read_transfer":
        m.csr_write("dev.cmd", 7)
        m.read_transfer(*arguments)
    else:
        getattr(m, name)(*arguments)


@settings(max_examples=60, deadline=None)
@given(st.lists(action, max_size=30), st.sampled_from([32, 64, 128]), st.booleans())
def test_random_legal_behaviour(steps, width, cut_through):
    m = Machine(SMALL.replace(data_width=width, dma__cut_through=cut_through))
    m.csr_write("dcache.ctrl", 2)
    for step in steps:
        perform(m, step)
    m.drain_buffer()
    assert m.judge() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(action, min_size=5, max_size=25), st.data())
def test_random_corruption_of_carried_data_is_noticed(steps, data):
    """Any change of the data lanes that a record vouches for is a mismatch."""
    m = Machine()
    m.csr_write("dcache.ctrl", 2)
    for step in steps:
        perform(m, step)
    m.drain_buffer()
    names = {"LOAD", "FETCH", "MEM_WRITE", "PUSH", "DRAIN", "DEV_READ", "DEV_WRITE", "UNCACHED_LOAD", "MEM_READ"}
    chosen = [n for n, event in enumerate(m.events) if event.name in names and (event.name == "MEM_READ" or event.aux & 0xFF)]
    if not chosen:
        return
    n = data.draw(st.sampled_from(chosen))
    event = m.events[n]
    strobes = {"MEM_READ": 0xFF, "MEM_WRITE": event.aux >> 8}.get(event.name, event.aux & 0xFF)
    lane = (strobes & -strobes).bit_length() - 1
    m.events[n] = event._replace(data=event.data ^ 1 << 8 * lane)
    assert m.judge() != []


@settings(max_examples=60, deadline=None)
@given(st.lists(action, min_size=5, max_size=25), st.data())
def test_random_missing_or_doubled_record_is_noticed(steps, data):
    """Records that stand for work: none may be missing or come twice."""
    m = Machine()
    m.csr_write("dcache.ctrl", 2)
    for step in steps:
        perform(m, step)
    m.drain_buffer()
    names = {"FILL_REQUEST", "FILL_INSTALL", "EVICT", "WB_DONE", "MEM_WRITE", "PUSH", "DRAIN", "DEV_WRITE"}
    names |= {"MAINT_BEGIN", "MAINT_END", "CSR_WRITE", "SEGMENT", "COMPLETE", "FLUSH_END", "UNCACHED_LOAD"}
    chosen = [n for n, event in enumerate(m.events) if event.name in names]
    if not chosen:
        return
    n = data.draw(st.sampled_from(chosen))
    if data.draw(st.booleans()):
        del m.events[n]
    else:
        m.events.insert(n, m.events[n])
    assert m.judge() != []


def test_a_long_run_through_the_file_format_agrees():
    m = Machine()
    for n in range(300):
        m.load(MEM + n * 40 % 2000, 400)
        m.store(MEM + n * 56 % 2000, bytes(200))
        m.drain_buffer()
    m.read_transfer(MEM, 0, 1024)
    events = unpack_events(pack_events(m.events, 64), 64)
    model = ReferenceModel(m.config, *m.images)
    model.apply(events)
    assert len(events) > 10_000
    assert model.total == 0
