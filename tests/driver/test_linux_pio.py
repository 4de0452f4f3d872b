# SPDX-License-Identifier: BSD-2-Clause
"""PIO under Linux: accessors, copies between a data port and memory, and the flushes that the CPU's own stores owe."""

import pytest

from driver.errors import ArgumentError, BusError
from driver.linux import (
    flush_dcache_page,
    flush_icache_range,
    ioread32,
    ioread32_rep,
    iowrite32,
    iowrite32_rep,
    memcpy_fromio,
    memcpy_toio,
    readl,
    readsl,
    writel,
    writesl,
)
from driver.storage_port import StoragePort

from .fake_bus import run
from .linux_machine import BASE, B, begun, device, work

CODE = BASE + 0x2000


@pytest.mark.parametrize(
    ("architecture", "op"), [("arm", "clean+invalidate"), ("arm64", "clean"), ("riscv", "clean"), ("mips", "clean+invalidate")]
)
def test_flushes_of_every_architecture(architecture, op):
    bus, dev = device(architecture)
    run(flush_dcache_page(dev, B))
    assert work(dev) == [(op, "d", [[B, 4096]]), ("invalidate", "i", [[B, 4096]])]
    assert begun(dev, "flush_dcache_page") == [{"address": B, "length": 4096}]
    dev.trace.records.clear()
    run(flush_icache_range(dev, B + 5, B + 70))
    assert work(dev) == [("clean", "d", [[B + 5, 65]]), ("invalidate", "i", [[B + 5, 65]])]
    assert begun(dev, "flush_icache_range") == [{"start": B + 5, "end": B + 70}]
    dev.trace.records.clear()
    bus.ops.clear()
    run(flush_icache_range(dev, B, B))
    assert bus.ops == []


@pytest.mark.parametrize("architecture", ["arm", "arm64", "riscv", "mips"])
def test_a_coherent_machine_flushes_nothing(architecture):
    bus, dev = device(architecture, coherent=True)
    run(flush_dcache_page(dev, B))
    run(flush_icache_range(dev, B, B + 64))
    assert bus.ops == [] and len(begun(dev)) == 2


@pytest.mark.parametrize("architecture", ["arm", "arm64", "riscv", "mips"])
def test_code_that_arrives_by_pio_is_executed(architecture):
    bus, dev = device(architecture)
    bus.device[0:64] = bytes(range(64))

    async def driver(flush):
        port = StoragePort(dev.hal, dev.trace)
        await dev.cpu.fetch(CODE, 64)  # the I-cache holds what was there
        await port.pio_begin(False, 0, 64)
        await port.pio_ready()
        await ioread32_rep(dev, port.data_register, CODE, 16)
        await port.pio_end()
        if flush == "range":
            await flush_icache_range(dev, CODE, CODE + 64)
        elif flush == "page":
            await flush_dcache_page(dev, CODE)
        return await dev.cpu.fetch(CODE, 64)

    assert run(driver("none")) == bytes(64)
    assert run(driver("range")) == bytes(range(64))
    bus.device[0:64] = bytes(range(64, 128))
    assert run(driver("page")) == bytes(range(64, 128))
    assert begun(dev, "ReadRegisterBuffer")[0]["ranges"] == [[CODE, 64]]


def test_accessors_take_the_kernels_order():
    bus, dev = device()
    where = dev.regs.dev.addr.address
    run(writel(dev, 0x123, where))
    assert run(readl(dev, where)) == 0x123 == run(ioread32(dev, where))
    run(iowrite32(dev, 0x77, where))
    assert bus.ops == [
        ("w32", "dev.addr", 0x123),
        ("r32", "dev.addr"),
        ("r32", "dev.addr"),
        ("w32", "dev.addr", 0x77),
    ]


def test_repeated_accesses_move_all_bytes():
    bus, dev = device()
    bus.device[0:64] = bytes(range(64))

    async def driver():
        port = StoragePort(dev.hal, dev.trace)
        for write, copy, offset in ((False, readsl, 0), (True, writesl, 1024), (True, iowrite32_rep, 2048)):
            await port.pio_begin(write, offset, 64)
            await port.pio_ready()
            await copy(dev, port.data_register, B + 8, 16)
            await port.pio_end()

    run(driver())
    assert run(bus.read(B + 8, 64)) == bytes(range(64))
    assert bytes(bus.device[1024:1088]) == bytes(bus.device[2048:2112]) == bytes(range(64))
    assert [called for called, _ in begun(dev)] == ["ReadRegisterBuffer", "WriteRegisterBuffer", "WriteRegisterBuffer"]
    assert begun(dev, "WriteRegisterBuffer")[0] == {
        "register": dev.regs.dev.pio_data.address,
        "ranges": [[B + 8, 64]],
        "width": 4,
    }


def test_register_windows_are_walked():
    bus, dev = device()
    first = dev.regs.dev.addr.address
    run(dev.cpu.store(B, bytes([1, 0, 0, 0])))
    run(memcpy_toio(dev, first, B, 4))
    assert bus.regs["dev.addr"] == 1
    run(memcpy_fromio(dev, B + 64, dev.regs.sys.id.address, 8))
    want = bus.regs["sys.id"].to_bytes(4, "little") + run(readl(dev, dev.regs.sys.id.address + 4)).to_bytes(4, "little")
    assert run(dev.cpu.load(B + 64, 8)) == want


def test_cpu_copies_and_control_words_are_declared():
    _, dev = device()
    with dev.cpu_copy([(B, 3)]):
        run(dev.cpu.store(B, b"abc"))
    dev.declare_control(B, 16, "ring")
    assert begun(dev) == [("CpuCopy", {"ranges": [[B, 3]]}), ("DeclareControl", {"address": B, "length": 16, "what": "ring"})]
    for ranges, text in (
        ([], "ranges must name at least one range, not none"),
        ([3], "ranges must be pairs of address and length"),
    ):
        with pytest.raises(ArgumentError, match=text):
            dev.cpu_copy(ranges)
    with pytest.raises(ArgumentError, match="length must be an integer from 1"):
        dev.declare_control(B, 0, "ring")
    with pytest.raises(ArgumentError, match="what must be a str, not 3"):
        dev.declare_control(B, 16, 3)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda dev: readl(dev, 3), "addr must be a multiple of 4 from 0 to 0xffffffff, not 3"),
        (lambda dev: writel(dev, 1 << 32, 0x1000_0000), "value must be an integer from 0 to 0xffffffff, not 0x100000000"),
        (lambda dev: ioread32_rep(dev, 0x1000_0000, B, 0), "count must be an integer from 1"),
        (lambda dev: ioread32_rep(dev, 0x1000_0000, 0x8001_0000 - 4, 2), "buffer must lie in memory .* with all of its 8 bytes"),
        (lambda dev: memcpy_fromio(dev, B, 0x1000_0000, 6), "count must be a multiple of 4"),
        (lambda dev: flush_dcache_page(dev, B + 4), "page must be a multiple of 4096 from 0 to 0xfffff000, not 0x80009004"),
        (lambda dev: flush_icache_range(dev, B, B - 1), "end must be an integer from 0x80009000 to 0x100000000, not 0x80008fff"),
    ],
)
def test_bad_arguments_are_named(call, text):
    bus, dev = device()
    with pytest.raises(ArgumentError, match=text):
        run(call(dev))
    assert bus.ops == []


def test_a_refused_register_is_a_bus_error():
    _, dev = device()
    with pytest.raises(BusError, match="read at 0x10000ffc answered SLVERR"):
        run(readl(dev, 0x1000_0FFC))
