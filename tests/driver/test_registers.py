# SPDX-License-Identifier: BSD-2-Clause
"""Driver accessors against a bus that is a dictionary of words and a log."""

import asyncio

import pytest

from driver.bus import BusError, FlushpointError
from driver.registers import RegisterError, Registers, RegisterValue
from rtl import config
from rtl.pio import table


class FakeBus:
    def __init__(self, words=None, refuse=()):
        self.words, self.refuse, self.log = dict(words or {}), set(refuse), []

    async def read32(self, address):
        self.log.append(("r", address))
        if address in self.refuse:
            raise BusError("read", address, "SLVERR")
        return self.words.get(address, 0)

    async def write32(self, address, value):
        self.log.append(("w", address, value))
        if address in self.refuse:
            raise BusError("write", address, "SLVERR")
        self.words[address] = value


def run(coroutine):
    return asyncio.run(coroutine)


def test_window_is_the_configurations():
    assert (table.WINDOW_BASE, table.WINDOW_SIZE) == (config.CSR_BASE, config.CSR_SIZE)


def test_read_gives_fields():
    bus = FakeBus({0x1000_0404: 0b00110})
    status = run(Registers(bus).dma.flush_status.read())
    assert (status.busy, status.done, status.ok, status.bus_error, status.timeout) == (0, 1, 1, 0, 0)
    assert status == 6 and status.fields()["ok"] == 1
    assert bus.log == [("r", 0x1000_0404)]
    assert repr(status) == "<dma.flush_status 0x00000006: busy=0x0, done=0x1, ok=0x1, bus_error=0x0, timeout=0x0>"
    with pytest.raises(AttributeError, match=r"dma\.flush_status has no field 'okay'; its fields are busy, done, ok"):
        _ = status.okay


def test_wide_fields_and_whole_registers():
    bus = FakeBus({0x1000_0004: 0x10_20_08_25, 0x1000_0018: 0xFFFF_FFFF})
    regs = Registers(bus)
    features = run(regs.sys.features.read())
    assert (features.chunk_bytes, features.line_bytes, features.data_bytes, features.system_channels) == (16, 32, 8, 2)
    assert (features.coherent, features.prefetcher, features.cut_through) == (1, 0, 1)
    cycle = run(regs.sys.cycle.read())
    assert cycle == cycle.value == 0xFFFF_FFFF and cycle + 1 == 1 << 32


def test_write_whole_and_by_field():
    bus = FakeBus()
    regs = Registers(bus, system_channels=2)
    run(regs.maint.start.write(0x8000_0000))
    run(regs.ch1.mode.write(write_to_device=1, demand=True))
    run(regs.dcache.ctrl.write(prefetch=1, inject_interval=0xFFFF))
    run(regs.dcache.inject_seed.write(value=7))
    assert bus.log == [
        ("w", 0x1000_0300, 0x8000_0000),
        ("w", 0x1000_0548, 0b011),
        ("w", 0x1000_0100, 0xFFFF_0001),
        ("w", 0x1000_0104, 7),
    ]
    assert regs.channel(1) is regs.ch1 and regs.ch1.mode.address == 0x1000_0548


def test_modify_keeps_storage_and_nothing_else():
    bus = FakeBus({0x1000_0708: 0x0000_0503, 0x1000_0404: 0x1F})
    regs = Registers(bus)
    written = run(regs.mem.fault_ctrl.modify(mode=1))
    assert written == 0x501 and written.count == 5
    assert bus.log == [("r", 0x1000_0708), ("w", 0x1000_0708, 0x501)]
    bus.log.clear()
    run(regs.dma.flush_status.modify(done=1))  # no storage: one access, other flags stay
    assert bus.log == [("w", 0x1000_0404, 0b10)]
    with pytest.raises(RegisterError, match=r"dev\.pio_data must be read or written, not modified"):
        run(regs.dev.pio_data.modify(value=1))


def test_clear():
    bus = FakeBus()
    regs = Registers(bus)
    run(regs.maint.status.clear("done"))
    run(regs.maint.status.clear("error", "aborted"))
    run(regs.maint.status.clear())
    assert [entry[2] for entry in bus.log] == [0b0010, 0b1100, 0b1110]
    with pytest.raises(RegisterError, match=r"maint\.status flag to clear must be one of done, error, aborted .*, not 'busy'"):
        run(regs.maint.status.clear("busy"))
    with pytest.raises(RegisterError, match=r"maint\.start must have write-one-to-clear flags"):
        run(regs.maint.start.clear())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda r: r.sys.id.write(1), r"sys\.id must not be written: all its fields are read-only"),
        (lambda r: r.ch0.mode.write(), r"ch0\.mode write must have either a whole value or fields by name \(write_to_device,"),
        (lambda r: r.ch0.mode.write(1, demand=1), r"ch0\.mode write must have either"),
        (lambda r: r.ch0.mode.write(demnd=1), r"ch0\.mode field must be one of write_to_device, demand, auto_init, not 'demnd'"),
        (lambda r: r.ch0.status.write(busy=1), r"ch0\.status\.busy must not be written: it is read-only \(value 0x1\)"),
        (lambda r: r.dev.path.write(channel=8), r"dev\.path\.channel must be an integer from 0 to 0x7, not 0x8"),
        (lambda r: r.dev.path.write(channel=-1), r"dev\.path\.channel must be an integer from 0 to 0x7, not -0x1"),
        (lambda r: r.dev.path.write(channel="1"), r"dev\.path\.channel must be an integer from 0 to 0x7, not '1'"),
        (
            lambda r: r.maint.length.write(1 << 32),
            r"maint\.length value must be an integer from 0 to 0xffffffff, not 0x100000000",
        ),
    ],
)
def test_mistakes_never_reach_the_bus(call, text):
    bus = FakeBus()
    with pytest.raises(RegisterError, match=text) as caught:
        run(call(Registers(bus)))
    assert bus.log == [] and isinstance(caught.value, FlushpointError) and isinstance(caught.value, ValueError)


def test_unknown_names():
    regs = Registers(FakeBus())
    with pytest.raises(AttributeError, match=r"there is no register block 'ch1'; the blocks are sys, dcache, icache"):
        _ = regs.ch1
    with pytest.raises(AttributeError, match=r"block 'dma' has no register 'flush'; it has ctrl, flush_status"):
        _ = regs.dma.flush
    with pytest.raises(RegisterError, match="channel must be an integer from 0 to 0, not 1"):
        regs.channel(1)
    with pytest.raises(RegisterError, match="system_channels must be an integer from 1 to 4, not 5"):
        Registers(FakeBus(), system_channels=5)
    with pytest.raises(RegisterError, match="base must be a 32-bit multiple of 0x1000, not 0x10"):
        Registers(FakeBus(), base=0x10)


def test_discover():
    bus = FakeBus({0x1000_0000: table.IDENTIFICATION, 0x1000_0004: 0x30})
    regs = run(Registers.discover(bus))
    assert regs.system_channels == 3 and regs.ch2.count.address == 0x1000_0584 and len(bus.log) == 2
    bus.words[0x1000_0000] = 0xDEADBEEF
    with pytest.raises(RegisterError, match=r"sys\.id at 0x10000000 must be 0x46505431, not 0xdeadbeef"):
        run(Registers.discover(bus))


def test_bus_errors_pass_unchanged():
    bus = FakeBus(refuse={0x1000_0828})
    with pytest.raises(BusError, match="read at 0x10000828 answered SLVERR"):
        run(Registers(bus).dev.pio_data.read())


def test_names_hide_nothing():
    """No block, register or field is called like a method of the objects it is an attribute of; ``dir`` lists them all."""
    regs = Registers(FakeBus(), system_channels=4)
    for block in regs:
        assert block._name not in dir(Registers)
        assert block._name in dir(regs)
        for access in block:
            register = access.register
            assert access is getattr(block, register.name) and register.name in dir(block)
            value = RegisterValue(register, 0xFFFF_FFFF)
            for field in register.fields:
                assert field.name not in dir(int) and field.name not in vars(RegisterValue)
                assert getattr(value, field.name) == (1 << field.width) - 1 and field.name in dir(value)
