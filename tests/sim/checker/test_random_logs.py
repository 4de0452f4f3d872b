# SPDX-License-Identifier: BSD-2-Clause
"""No call log makes the checker raise: random calls in random order, and records that are broken on purpose."""

import copy
import random

import pytest

from rtl.probe import Kind, Source
from sim.checker import check, render_all, to_sarif
from sim.checker.ledger import COMMON, COMMON_FREE, LINUX_MAPS, LINUX_UNMAPS, LISTS
from sim.record import Event, RecordError, Run

from . import cases
from .machine import BASE, Machine
from .order_machine import OrderMachine
from .test_order_rules import CASES

NAMES = (
    "IoGetDmaAdapter", "PutDmaAdapter", "AllocateAdapterChannel", "AllocateAdapterChannelEx", "AdapterControl", "MapTransfer",
    "MapTransferEx", "FlushAdapterBuffers", "FlushAdapterBuffersEx", "FreeAdapterChannel", "FreeMapRegisters", "ReadDmaCounter",
    "CalculateScatterGatherList", "ListControl", "PutScatterGatherList", "GetDmaAlignment", "ReadRegisterBuffer", "CpuCopy",
    "IoCompleteRequest", "StartTransfer", "CacheMaintenance", "KeFlushIoBuffers", "InitializeDmaTransferContext",
    "GetDmaTransferInfo", "ConfigureAdapterChannel", "DmaCompletion", "CancelAdapterChannel", "CancelMappedTransfer",
    "FreeAdapterObject", "AllocateMemory", "FreeMemory", "MmProbeAndLockPages", "MmUnlockPages", "MmBuildMdlForNonPagedPool",
    "DeclareControl", "UncheckedUse", "BounceMap", "BounceCopy", "BounceUnmap", "ResultChecked", "dma_mapping_error",
    "dma_set_mask", "dma_pool_create", "dma_pool_destroy", "flush_dcache_page", "flush_icache_range", "device_release",
    "dma_sync_single_for_cpu", "dma_sync_single_for_device", "dma_sync_single_range_for_cpu", "dma_sync_sg_for_cpu",
    "dma_sync_sg_for_device", "Unhandled", "HarnessRead", "dsb", "isb", "NobodyKnowsThis",
    *LISTS, *LINUX_MAPS, *LINUX_UNMAPS, *COMMON, *COMMON_FREE,
)  # fmt: skip
SIZES = (0, 1, 8, 31, 32, 100, 128, 4096, 5000)
ROLES = ("thread", "isr", "dpc", "adapter-control")


class Noise:
    """Random calls with arguments from small pools, so that they often mean the same things."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.number = 0

    def maybe(self, value):
        return None if self.random.random() < 0.08 else value

    def address(self):
        return BASE + self.random.choice((0, 8, 0x400, 0x410, 0x440, 0x800, 0x1000, 0x1FF0, 0x3FFF0))

    def pair(self):
        return [self.address(), self.random.choice(SIZES)]

    def pairs(self):
        return [self.pair() for _ in range(self.random.randrange(4))]

    def adapter(self):
        number = self.random.randrange(1, 5)
        return {"id": number, "version": number % 4, "master": number > 2, "channel": None if number > 2 else number - 1}

    def device(self):
        number = self.random.randrange(6, 8)
        return {"id": number, "mask": number * 2, "coherent_mask": 32, "coherent": False, "min_align": 1}

    def args(self, name):
        r = self.random
        values = {
            "mdl": {"id": r.randrange(4), "ranges": self.pairs(), "locked": r.random() < 0.9},
            "offset": r.choice((0, 0, 0, 16, 64, -8, 1 << 33)),
            "length": r.choice((*SIZES, -1, 1 << 34)),
            "address": self.address(),
            "dma": self.address(),
            "description": {"version": r.choice((0, 1, 2, 3, 9)), "master": r.random() < 0.5, "maximum_length": 4096,
                            "dma_address_width": r.choice((0, 12, 32, 64)), "auto_initialize": r.random() < 0.2},
            "registers": r.choice(({"id": r.randrange(4), "count": 2}, r.randrange(4))),
            "write_to_device": r.random() < 0.5,
            "read_operation": r.random() < 0.5,
            "dma_operation": r.random() < 0.5,
            "direction": r.choice(("TO_DEVICE", "FROM_DEVICE", "BIDIRECTIONAL", "SIDEWAYS")),
            "attrs": r.choice(([], ["SKIP_CPU_SYNC"])),
            "op": r.choice(("clean", "invalidate", "clean+invalidate")),
            "requested_by": r.choice(("driver", "hal")),
            "kind": r.choice(("nonpaged", "paged", "stack", "vmalloc", "kmalloc")),
            "cache_enabled": r.random() < 0.5,
            "status": r.choice((0, 0xC0000001)),
            "information": r.choice(SIZES),
            "map_registers": r.choice((0, 1, 4, 100)),
            "buffer_bytes": r.choice((0, 16, 64)),
            "synchronous": r.random() < 0.3,
            "action": r.randrange(5),
            "count": r.randrange(5),
            "bits": r.choice((0, 12, 32)),
            "start": self.address(),
            "end": self.address(),
            "bounce": self.pair(),
            "descriptors": self.pair(),
            "to_device": r.random() < 0.5,
            "whole": r.random() < 0.5,
            "owner": "swiotlb",
            "what": r.choice(("length", "null", "status")),
            "value": r.randrange(1 << 20),
            "argument": "length",
        }  # fmt: skip
        args = {key: self.maybe(value) for key, value in values.items() if r.random() < 0.7}
        for key in ("ranges", "entries"):
            if r.random() < 0.5:
                args[key] = self.maybe(self.pairs())
        for key in ("list", "context", "buffer", "pool"):
            if r.random() < 0.7:
                args[key] = self.maybe(r.randrange(20, 24))
        args["source"] = self.pair() if name == "UncheckedUse" else self.pairs()
        args["target"] = "both" if name == "CacheMaintenance" else self.pairs()
        if name in ("ResultChecked", "UncheckedUse"):
            args["call"] = r.randrange(1, self.number + 2) if name == "ResultChecked" else r.choice(NAMES)
        who = r.random()
        if who < 0.7:
            args["adapter"] = self.adapter()
        elif who < 0.9:
            args["device"] = self.device()
        return args

    def result(self, name):
        r = self.random
        if r.random() < 0.15:
            return None
        mapped = {
            "status": r.choice((0, 0xC000009A)),
            "list": r.randrange(20, 24),
            "length": r.choice(SIZES),
            "elements": self.pairs(),
        }
        if name == "IoGetDmaAdapter":
            return {"adapter": self.maybe(self.adapter()), "map_registers": 4}
        if name == "MapTransfer":
            return self.pair()
        if name in ("MapTransferEx", *LISTS):
            return mapped
        if name == "dma_map_sg":
            return {"elements": self.pairs()}
        if name in LINUX_MAPS:
            return self.address()
        if name in COMMON:
            given = {"buffer": r.randrange(20, 24), "address": self.address(), "length": r.choice(SIZES)}
            return given if r.random() < 0.5 else {**given, "dma": self.address(), "cached": False}
        if name == "AllocateMemory":
            return {"address": self.address(), "length": r.choice(SIZES)}
        if name in ("CalculateScatterGatherList", "GetDmaTransferInfo"):
            return {"status": 0, "list_bytes": r.choice((0, 40, 64)), "map_registers": 1}
        if name in ("FlushAdapterBuffers", "PutScatterGatherList", "CancelAdapterChannel", "dma_mapping_error"):
            return r.random() < 0.7
        if name == "dma_pool_create":
            return {"pool": r.randrange(20, 24)}
        if name in ("AllocateAdapterChannel", "AllocateAdapterChannelEx", "FlushAdapterBuffersEx"):
            return r.choice((0, 0xC000009A))
        if name in ("GetDmaAlignment", "ReadDmaCounter"):
            return r.choice((1, 32))
        return r.choice((None, 0, 1, 2, 3))

    def event(self, cycle):
        r = self.random
        kind = r.choice((Kind.LOAD, Kind.STORE, Kind.UNCACHED_LOAD, Kind.UNCACHED_STORE, Kind.FETCH, Kind.FILL_REQUEST,
                         Kind.EVICT, Kind.MEM_WRITE, Kind.PUSH, Kind.DRAIN, Kind.HANDOFF, Kind.COMPLETE, Kind.FLUSH_BEGIN,
                         Kind.FLUSH_END, Kind.MAINT_BEGIN, Kind.MAINT_END, Kind.DESCRIPTOR, Kind.DMA_ABORT))  # fmt: skip
        tag = r.randrange(4)
        if kind in (Kind.HANDOFF, Kind.COMPLETE, Kind.PUSH, Kind.DRAIN, Kind.DESCRIPTOR):
            tag = r.randrange(1, 6)
        aux = {
            Kind.MEM_WRITE: Source.DMA_DATA | 255 << 8,
            Kind.HANDOFF: r.choice((0, 4, 8, 12)),
            Kind.MAINT_BEGIN: 1 << 2 | 3 | 1 << 4,
        }
        data = r.choice((0, 32, 64)) if kind in (Kind.COMPLETE, Kind.MAINT_BEGIN) else r.randrange(1 << 16)
        return Event(cycle, int(kind), r.choice((0, 0, 0, 1)), tag, self.address() & -8, aux.get(kind, r.randrange(1, 256)), data)

    def run(self, interface):
        r = self.random
        calls, events, stack, cycle = [], [], [], 1
        for _ in range(r.randrange(20, 120)):
            cycle += r.randrange(3)
            for _ in range(r.randrange(3)):
                events.append(self.event(cycle))
                cycle += 1
            if stack and r.random() < 0.5:
                number, name = stack.pop(r.randrange(len(stack)) if r.random() < 0.2 else -1)
                error = "BusError: no" if r.random() < 0.1 else None
                calls.append({"seq": len(calls), "phase": "end", "call": number, "name": name, "cycle": cycle,
                              "result": None if error else self.result(name), "error": error})  # fmt: skip
            else:
                self.number += 1
                name = r.choice(NAMES)
                calls.append({"seq": len(calls), "phase": "begin", "call": self.number, "name": name, "cycle": cycle,
                              "site": r.choice((None, ["driver.py", r.randrange(9), "f"])), "args": self.args(name),
                              "parent": stack[-1][0] if stack else None, "thread": r.randrange(2), "role": r.choice(ROLES),
                              "irql": r.choice((None, 0, 2, 5))})  # fmt: skip
                stack.append((self.number, name))
        machine = Machine(coherent=r.random() < 0.3, speculates=r.random() < 0.5)
        platform = machine.run().platform
        if interface:
            platform.update(interface=interface, architecture="wdk" if interface == "wdk" else "arm64")
        return Run(events, calls, {1: ("driver.py", 1, "f"), 2: ("driver.py", 2, "f"), 3: ("driver.py", 3, "f")}, platform)


@pytest.mark.parametrize("part", range(8))
def test_random_calls_never_raise(part):
    found = 0
    for seed in range(part * 25, part * 25 + 25):
        run = Noise(seed).run(("wdk", "linux", "bare", None)[seed % 4])
        try:
            findings = check(run)
        except RecordError as error:
            raise AssertionError(f"seed {seed}: the log is well-formed: {error}") from None
        for finding in findings:
            assert finding.detail and finding.missing, (seed, finding)
            assert finding.root or findings[finding.cause_index].root, (seed, finding)
        render_all(findings, verbose=True)
        to_sarif(findings)
        found += len(findings)
    assert found > 200  # the noise says something


def test_the_same_log_gives_the_same_findings():
    run = Noise(7).run("wdk")
    assert check(run) == check(copy.deepcopy(run))


WRONG = (None, -1, 1 << 80, 1.5, "x", "", [], [1], [[1]], [[1, "x"]], [None], {}, {"id": []}, {"ranges": [[1, None]]}, True)


def places(value, path=()):
    """Every place of a record."""
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from places(item, (*path, n))
    if path:
        yield path


def test_broken_records_are_refused_in_words_or_do_no_harm():
    runs = []
    plain = [case for case in cases.CASES if case.driver.__module__ == cases.__name__]
    for case in (*CASES[::5], *plain[::12]):
        machine = (OrderMachine if case in CASES else Machine)(**case.platform)
        case.driver(machine, True, False)
        runs.append(machine.run())
    draw, refused = random.Random(3), 0
    for _ in range(1500):
        run = draw.choice(runs)
        number = draw.randrange(len(run.calls))
        record = copy.deepcopy(run.calls[number])
        path = draw.choice(list(places(record)))
        target = record
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = copy.deepcopy(draw.choice(WRONG))
        broken = Run(run.events, [*run.calls[:number], record, *run.calls[number + 1 :]], run.sites, run.platform)
        try:
            check(broken)
        except RecordError as error:
            refused += 1
            assert str(error).startswith("call log: record ") and " must " in str(error) and "\n" not in str(error)
    assert refused > 300


@pytest.mark.parametrize(
    "change, text",
    [
        ({"phase": "middle"}, "call log: record 1 (IoGetDmaAdapter): phase must be 'begin' or 'end', not 'middle'"),
        ({"cycle": "3"}, "cycle must be an integer from 0 on, not '3'"),
        ({"call": None}, "call must be an integer, not None"),
        ({"name": 7}, "call log: record 1 (?): name must be a text, not 7"),
        ({"site": ["a", "b", "c"]}, "site must be [file, line, function], not ['a', 'b', 'c']"),
        ({"irql": "DISPATCH"}, "irql must be an integer, not 'DISPATCH'"),
        ({"args": [1]}, "args must be an object, not [1]"),
        ({"args": {"mdl": {"id": 1}}}, "mdl must be {id, ranges: [[address, length], ...]}, not {'id': 1}"),
        ({"args": {"length": "12"}}, "length must be an integer, not '12'"),
    ],
)
def test_what_is_said_of_a_broken_record(change, text):
    m = OrderMachine()
    m.adapter()
    run = m.run()
    run.calls[0] = {**run.calls[0], **change}
    with pytest.raises(RecordError) as caught:
        check(run)
    assert text in str(caught.value)


def test_a_number_in_use_and_time_running_backwards():
    m = OrderMachine()
    m.put(m.adapter())
    run = m.run()
    for field, value, text in (("call", 1, "a new number, not 1"), ("cycle", 0, "must not be before")):
        calls = [copy.deepcopy(call) for call in run.calls]
        calls[1:1] = [{**calls[0], field: value}]
        with pytest.raises(RecordError, match=text):
            check(Run(run.events, calls, run.sites, run.platform))
