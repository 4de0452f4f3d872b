# SPDX-License-Identifier: BSD-2-Clause
"""The bare-metal layer: a command is accepted, a barrier waits; the log; the bytes of a start before the barrier."""

import pytest

from driver.bare import Machine
from driver.bus import BusTimeout
from driver.errors import ArgumentError, MaintenanceError, PoolError
from driver.maintenance import Op, Target
from driver.platform import HalOptions
from driver.storage_port import StoragePort
from rtl.pio.table import IRQ

from .fake_bus import FakeBus, run

A = 0x8000_4000


def bare(**beliefs):
    bus = FakeBus()
    machine = run(Machine.start(bus, **beliefs))
    bus.ops.clear()
    return bus, machine


def log(machine):
    return [(r["phase"], r["name"], r["call"]) for r in machine.trace.records]


def test_a_command_returns_when_it_is_accepted():
    bus, machine = bare()
    run(machine.clean_dcache_by_addr(A + 3, 70))
    given = [
        ("w32", "maint.status", 0b1110),
        ("w32", "maint.start", A + 3),
        ("w32", "maint.length", 70),
        ("w32", "maint.cmd", 1 | 1 << 2 | 1 << 4),
    ]
    assert bus.ops == given and log(machine) == [("begin", "CacheMaintenance", 1)]
    assert machine.trace.records[0]["args"] == {
        "op": "clean",
        "target": "d",
        "ranges": [[A + 3, 70]],
        "requested_by": "driver",
    }
    bus.ops.clear()
    run(machine.dsb())
    assert bus.ops == [("wait", 1 << IRQ.MAINT), ("r32", "maint.status"), ("w32", "maint.status", 0b1110)]
    assert log(machine)[1:] == [("begin", "dsb", 2), ("end", "CacheMaintenance", 1), ("end", "dsb", 2)]
    bus.ops.clear()
    run(machine.dsb())  # nothing to wait for
    run(machine.isb())
    assert bus.ops == [] and [name for phase, name, _ in log(machine)[4:] if phase == "begin"] == ["dsb", "isb"]


@pytest.mark.parametrize(
    ("name", "arguments", "word", "shown"),
    [
        ("clean_dcache_by_addr", (A, 64), 1 | 1 << 2 | 1 << 4, ("clean", "d", [[A, 64]])),
        ("invalidate_dcache_by_addr", (A, 64), 2 | 1 << 2 | 1 << 4, ("invalidate", "d", [[A, 64]])),
        ("clean_invalidate_dcache_by_addr", (A, 64), 3 | 1 << 2 | 1 << 4, ("clean+invalidate", "d", [[A, 64]])),
        ("invalidate_icache_by_addr", (A, 64), 2 | 1 << 2 | 2 << 4, ("invalidate", "i", [[A, 64]])),
        ("clean_dcache", (), 1 | 2 << 2 | 1 << 4, ("clean", "d", None)),
        ("invalidate_dcache", (), 2 | 2 << 2 | 1 << 4, ("invalidate", "d", None)),
        ("clean_invalidate_dcache", (), 3 | 2 << 2 | 1 << 4, ("clean+invalidate", "d", None)),
        ("invalidate_icache", (), 2 | 2 << 2 | 2 << 4, ("invalidate", "i", None)),
    ],
)
def test_every_command(name, arguments, word, shown):
    for coherent in (False, True):  # by address is by address
        bus, machine = bare(coherent=coherent)
        run(getattr(machine, name)(*arguments))
        assert ("w32", "maint.cmd", word) in bus.ops and not [op for op in bus.ops if op[0] == "wait"]
        args = machine.trace.records[0]["args"]
        assert (args["op"], args["target"], args["ranges"]) == shown


def test_a_second_command_waits_for_the_first():
    bus, machine = bare()
    run(machine.clean_dcache_by_addr(A, 32))
    run(machine.invalidate_icache())
    assert [op[1] for op in bus.ops if op[0] == "w32" and op[1] == "maint.cmd"] == ["maint.cmd"] * 2
    kinds = [op[0] if op[0] != "w32" else op[1] for op in bus.ops]
    assert kinds.index("wait") < len(kinds) - 1 - kinds[::-1].index("maint.cmd")
    run(machine.dsb())
    assert log(machine) == [
        ("begin", "CacheMaintenance", 1),
        ("end", "CacheMaintenance", 1),
        ("begin", "CacheMaintenance", 2),
        ("begin", "dsb", 3),
        ("end", "CacheMaintenance", 2),
        ("end", "dsb", 3),
    ]
    assert {r["parent"] for r in machine.trace.records if r["phase"] == "begin"} == {None}


def test_a_waiting_operation_comes_after_a_posted_one():
    bus, machine = bare()
    run(machine.clean_dcache_by_addr(A, 32))
    run(machine.hal.maintenance.range(Op.INVALIDATE, A, 32, Target.D))
    assert [op[0] for op in bus.ops].count("wait") == 2
    assert log(machine) == [
        ("begin", "CacheMaintenance", 1),
        ("begin", "CacheMaintenance", 2),
        ("end", "CacheMaintenance", 1),
        ("end", "CacheMaintenance", 2),
    ]


def test_the_line_loop_leaves_the_last_line_running():
    bus, machine = bare(options=HalOptions(line_loop=True), line_bytes=32)
    run(machine.clean_dcache_by_addr(A + 8, 64))
    assert bus.writes("maint.cmd") == ["maint.cmd"] * 3 and [op[0] for op in bus.ops].count("wait") == 2
    run(machine.dsb())
    assert [op[0] for op in bus.ops].count("wait") == 3 and log(machine)[0][1:] == ("CacheMaintenance", 1)


def test_zero_bytes_are_nothing():
    bus, machine = bare()
    run(machine.clean_dcache_by_addr(A, 0))
    assert bus.ops == [] and machine.trace.records == []


async def write_512(machine, barrier):
    """A memory-to-device transfer, correct but for the barrier."""
    port = StoragePort(machine.hal, machine.trace)
    buffer = machine.allocate(512, what="sector")
    await machine.cpu.store(buffer, b"\x5a" * 512)
    await machine.clean_dcache_by_addr(buffer, 512)
    if barrier:
        await machine.dsb()
    await port.start_list([(buffer, 512)], True, 0)
    await port.wait(10_000)
    await port.acknowledge()
    assert await machine.flush_dma()
    assert await port.device_done() == 512
    await machine.dsb()


class LazyUnit(FakeBus):
    """A maintenance unit that works as late as it may: when it is waited for."""

    held = None

    def _on_maint_cmd(self, value):
        self.held = value

    async def wait_interrupt(self, mask, limit, what):
        if mask == 1 << IRQ.MAINT and self.held is not None:
            super()._on_maint_cmd(self.held)
            self.held = None
        return await super().wait_interrupt(mask, limit, what)


@pytest.mark.parametrize(("barrier", "want"), [(True, b"\x5a" * 512), (False, bytes(512))])
def test_a_start_before_the_barrier_reads_old_memory(barrier, want):
    bus = LazyUnit()
    machine = run(Machine.start(bus))
    run(write_512(machine, barrier))
    assert bytes(bus.device[:512]) == want
    order = [(phase, name) for phase, name, _ in log(machine)]
    assert (order.index(("end", "CacheMaintenance")) < order.index(("begin", "StartTransfer"))) is barrier
    args = next(r["args"] for r in machine.trace.records if r["name"] == "StartTransfer")
    assert args["adapter"] is None and args["device"] is None


def test_device_to_memory_needs_both_sides():
    bus, machine = bare()
    bus.device[0:512] = bytes(n & 255 for n in range(512))

    async def main():
        port = StoragePort(machine.hal, machine.trace)
        buffer = machine.allocate(512)
        await machine.cpu.store(buffer, b"\xee" * 512)
        await machine.clean_invalidate_dcache_by_addr(buffer, 512)
        await machine.dsb()
        await port.start_list([(buffer, 512)], False, 0)
        bus.prefetch(buffer)
        await machine.wait_interrupt(port.irq_mask, 10_000, "the bus master")
        await port.acknowledge()
        await machine.flush_dma()
        await machine.invalidate_dcache_by_addr(buffer, 512)
        await machine.dsb()
        return await machine.cpu.load(buffer, 512)

    assert run(main()) == bytes(bus.device[0:512])


def test_errors_come_with_the_barrier():
    bus, machine = bare(options=HalOptions(maintenance_limit=99))
    bus.maintenance_faults = ["error"]
    run(machine.clean_dcache())
    with pytest.raises(MaintenanceError, match=r"Cache maintenance \(clean at 0x00000000\) got a bus error"):
        run(machine.dsb())
    bus.maintenance_faults = ["hang"]
    run(machine.clean_dcache_by_addr(A, 32))
    with pytest.raises(BusTimeout, match=r"gave up after 99 cycles waiting for cache maintenance \(clean at 0x80004000\)"):
        run(machine.dsb())
    run(machine.dsb())  # reported once
    errors = [r["error"] for r in machine.trace.records if r["phase"] == "end" and r["name"] == "CacheMaintenance"]
    assert [error.split(":")[0] for error in errors] == ["MaintenanceError", "BusTimeout"]


def test_memory_and_declarations():
    _, machine = bare()
    first, second = machine.allocate(10, what="a"), machine.allocate(10)
    assert second - first == 64 and machine.allocate(10, alignment=4, exclusive=False) == first + 128
    assert machine.trace.records[0]["args"] == {"length": 10, "kind": "static", "what": "a"}
    assert machine.trace.records[1]["result"] == {"address": first, "length": 10}
    machine.free(first)
    with pytest.raises(PoolError, match="it was freed before"):
        machine.free(first)
    machine.trace.records.clear()
    with machine.cpu_copy([(second, 3)]):
        pass
    machine.declare_control(second, 8, "status")
    assert [name for phase, name, _ in log(machine) if phase == "begin"] == ["CpuCopy", "DeclareControl"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.clean_dcache_by_addr(-1, 4), "addr must be an integer from 0 to 0xffffffff, not -1"),
        (lambda m: m.clean_dcache_by_addr(A, -4), "dsize must be an integer from 0 to 0x7fffc000, not -4"),
        (lambda m: m.invalidate_icache_by_addr(A, "4"), "isize must be an integer from 0 to 0x7fffc000, not '4'"),
        (lambda m: m.wait_interrupt(0, 5), "mask must be an integer from 1"),
        (lambda m: m.wait_interrupt(1, -5), "limit must be an integer from 1"),
    ],
)
def test_bad_arguments_are_named(call, text):
    bus, machine = bare()
    with pytest.raises(ArgumentError, match=text):
        run(call(machine))
    assert bus.ops == []
    with pytest.raises(ArgumentError, match="ranges must name at least one range, not none"):
        machine.cpu_copy([])
    with pytest.raises(PoolError, match="length must be an integer from 1"):
        machine.allocate(0)


def test_waits_have_limits():
    _, machine = bare()
    with pytest.raises(BusTimeout, match="gave up after 50 cycles waiting for the bus master"):
        run(machine.wait_interrupt(1 << IRQ.BUS_MASTER, 50, "the bus master"))
