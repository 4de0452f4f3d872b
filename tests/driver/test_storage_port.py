# SPDX-License-Identifier: BSD-2-Clause
"""The device as a driver's own code programs it, on the in-memory machine."""

import pytest

from driver.errors import ArgumentError, BusTimeout, DeviceError
from driver.storage_port import StoragePort, encode_descriptors
from driver.wdk import DeviceDescription, DeviceObject, IoAllocationAction, Kernel

from .fake_bus import FakeBus, run

PATTERN = bytes((n * 7 + 3) & 255 for n in range(4096))


async def _machine(**options):
    bus = FakeBus(**options)
    bus.device[: len(PATTERN)] = PATTERN
    kernel = await Kernel.start(bus)
    return bus, kernel, StoragePort(kernel.hal, kernel.trace)


def test_a_list_is_read_through_descriptors_of_the_port():
    async def story():
        bus, kernel, port = await _machine()
        first, second = kernel.ex_allocate_pool(100), kernel.ex_allocate_pool(60)
        await port.start_list([(first, 100), (second, 60)], False, 32)
        assert bus.regs["bm.mode"] == 0 and bus.regs["dev.path"] == 4
        await port.wait(1000)
        assert await port.acknowledge() == 160
        await kernel.hal.drain()
        assert bus.peek(first, 100) + bus.peek(second, 60) == PATTERN[32:192]
        begin, end = kernel.trace.records[-2:]
        assert begin["name"] == "StartTransfer" and begin["args"]["ranges"] == [[first, 100], [second, 60]]
        assert begin["args"]["adapter"] is None and begin["args"]["device"] is None and "descriptors" not in begin["args"]
        assert begin["site"][0] == __file__ and end["error"] is None
        assert not bus.regs["bm.status"] & 6 and not bus.regs["dev.status"] & 2  # the levels are low again
        assert await port.acknowledge() == 0

    run(story())


def test_descriptors_of_the_driver_are_not_written_by_the_start():
    async def story():
        bus, kernel, port = await _machine()
        buffer, block = kernel.ex_allocate_pool(64), kernel.ex_allocate_pool(64)
        await port.write_descriptors([(buffer, 64)], block, cached=True)
        assert bus.peek(block, 16) == bytes(16)  # still in the cache
        bus.evict(block)
        before = len(bus.ops)
        await port.start_list([(buffer, 64)], False, 0, descriptors_at=block, descriptors_cached=True)
        assert not [op for op in bus.ops[before:] if op[0] == "write"]
        args = kernel.trace.records[-2]["args"]
        assert args["descriptors"] == [block, 16] and args["descriptors_cached"] is True
        await port.wait(1000)
        assert await port.acknowledge() == 64

    run(story())


def test_a_channel_moves_to_the_device_and_waits_for_the_flush():
    async def story():
        bus, kernel, port = await _machine()
        adapter, count = kernel.io_get_dma_adapter(DeviceObject(), DeviceDescription(maximum_length=4096))
        buffer = kernel.ex_allocate_pool(70)
        mdl = kernel.io_allocate_mdl(buffer, 70)
        kernel.mm_build_mdl_for_non_paged_pool(mdl)
        bus.poke(buffer, PATTERN[1000:1070])
        held = []

        async def adapter_control(device_object, irp, base, context):
            held.append(base)
            piece = await adapter.map_transfer(mdl, base, buffer, 70, True)
            await port.start_channel(adapter, [piece], True, 200)
            return IoAllocationAction.KEEP_OBJECT

        await adapter.allocate_adapter_channel(DeviceObject(), count, adapter_control)
        await port.wait(1000)
        assert await port.is_pending()
        assert await port.acknowledge() == 70
        assert not await port.is_pending()
        with pytest.raises(BusTimeout, match="finish its command"):
            await port.device_done(50)
        assert await adapter.flush_adapter_buffers(mdl, held[0], buffer, 70, True)
        assert await port.device_done(50) == 70
        assert bytes(bus.device[200:270]) == PATTERN[1000:1070]
        with pytest.raises(ArgumentError, match="adapter must be one of a system channel"):
            await port.start_channel(object(), [(buffer, 70)], True, 0)

    run(story())


def test_pio_both_ways():
    async def story():
        bus, _, port = await _machine()
        await port.pio_begin(False, 8, 6)
        await port.pio_ready(100)
        words = [await bus.read32(port.data_register) for _ in range(2)]
        await port.pio_end(100)
        assert b"".join(word.to_bytes(4, "little") for word in words)[:6] == PATTERN[8:14]
        await port.pio_begin(True, 100, 4)
        await port.pio_ready(100)
        await bus.write32(port.data_register, 0x44332211)
        await port.pio_end(100)
        assert bytes(bus.device[100:104]) == bytes.fromhex("11223344")

    run(story())


def test_every_wait_ends():
    async def story():
        bus, kernel, port = await _machine()
        bus.dma_hangs = True
        buffer = kernel.ex_allocate_pool(64)
        await port.wait(10)  # nothing runs
        await port.start_list([(buffer, 64)], True, 0)
        assert bus.regs["bm.mode"] == 1
        with pytest.raises(BusTimeout, match="gave up after 5000 cycles waiting for the bus master to complete 64 bytes"):
            await port.wait(5000)
        with pytest.raises(DeviceError, match="must be idle to be started, but it still waits for 64 bytes"):
            await port.start_list([(buffer, 64)], True, 0)
        await port.stop()
        bus.dma_hangs = False
        await port.start_list([(buffer, 64)], True, 0)
        await port.wait(5000)

    run(story())


def test_what_the_device_refuses_is_an_error():
    async def story():
        bus, kernel, port = await _machine()
        buffer = kernel.ex_allocate_pool(64)
        await port.start_list([(buffer, 64)], False, len(bus.device) - 8)
        with pytest.raises((DeviceError, BusTimeout)):
            await port.wait(5000)
        await port.pio_begin(False, len(bus.device) - 2, 4)
        with pytest.raises(DeviceError, match="refused"):
            await port.pio_ready(100)

    run(story())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([], False, 0), "elements must name at least one range"),
        (([(0x8000_0000, -1)], False, 0), "elements' length must be an integer from 0"),
        (([(0x8000_0000, 4)], 1, 0), "write_to_device must be True or False, not 1"),
        (([(0x8000_0000, 4)], True, -1), "byte_offset must be an integer from 0"),
        (([(0x8000_0000, 4)] * 65, True, 0), "elements must be at most 64, not 65"),
    ],
)
def test_bad_arguments_touch_no_hardware(arguments, message):
    async def story():
        bus, _, port = await _machine()
        before = len(bus.ops)
        with pytest.raises(ArgumentError, match=message):
            await port.start_list(*arguments)
        assert len(bus.ops) == before

    run(story())


def test_descriptors_are_chained():
    data = encode_descriptors([(0x8000_0000, 5), (0x8000_1000, 6)], 0x8000_0100)
    words = [int.from_bytes(data[n : n + 4], "little") for n in range(0, 32, 4)]
    assert words == [0x8000_0000, 5, 0, 0x8000_0110, 0x8000_1000, 6, 1, 0]
    with pytest.raises(ArgumentError, match="address must be a multiple of 16"):
        encode_descriptors([(0, 1)], 8)
