# SPDX-License-Identifier: BSD-2-Clause
"""StorageDevice: every command, exact cycles, request sizes, late and foreign data, aborts, records, conversion."""

import itertools
import random

import pytest
from amaranth.back import verilog

from rtl import export
from rtl.config import SocConfig
from rtl.device.storage import DeviceOp, DeviceState, StorageDevice
from rtl.probe import Kind

from .bench import Bench

CONTENT = bytes((7 * n + n // 256 + 1) & 0xFF for n in range(1024))
WIDTHS = [32, 64, 128]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("address", "length"), [(0, 64), (3, 61), (13, 1), (960, 64), (1021, 3), (8, 256), (1, 300), (0, 1024)])
def test_dma_read(width, address, length):
    bench = Bench(data_width=width)

    async def stimulus(ctx):
        await bench.fill(ctx, CONTENT)
        await bench.command(ctx, DeviceOp.DMA_READ, addr=address, length=length, sizes_s0=24, sizes_s1=7)
        requests, data = await bench.dma_read(ctx)
        await bench.finish(ctx)
        assert data == CONTENT[address : address + length]
        expected, at = [], address
        for size in itertools.cycle((24, 7)):
            if at < address + length:
                expected.append((min(size, address + length - at), at))
                at += expected[-1][0]
            else:
                break
        assert requests == expected
        assert ctx.get(bench.dut.csr.bytes_done) == length and (bench.done, bench.error) == (1, 0)

    bench.run(stimulus)


def test_dma_read_cycles():
    """2 cycles to the request, 2 from acceptance to the first beat, one beat per cycle, done 2 cycles after the last."""
    bench = Bench()

    async def stimulus(ctx):
        given = await bench.command(ctx, DeviceOp.DMA_READ, addr=8, length=96, sizes_s0=64)
        _, rose, accepted = await bench.accept(ctx)
        assert rose == given + 2
        _, beats = await bench.collect(ctx)
        assert beats == list(range(accepted + 2, accepted + 10))
        _, rose, accepted = await bench.accept(ctx, delay=3)
        assert rose == beats[-1] + 1 and accepted == rose + 3
        _, beats = await bench.collect(ctx)
        await bench.finish(ctx)
        # The set is sampled in the cycle before the flag rises.
        assert bench.done_cycle + 1 == beats[-1] + 2

    bench.run(stimulus)


def test_unaligned_beats_take_two_cycles():
    bench = Bench()

    async def stimulus(ctx):
        await bench.command(ctx, DeviceOp.DMA_READ, addr=3, length=32, sizes_s0=0)
        _, _, accepted = await bench.accept(ctx)
        _, beats = await bench.collect(ctx)
        assert beats == [accepted + 3 + 2 * n for n in range(4)]

    bench.run(stimulus)


@pytest.mark.parametrize(("sizes", "pattern"), [((0, 0, 0, 0), [256]), ((5, 0, 9, 9), [5]), ((5, 6, 0, 9), [5, 6])])
def test_request_sizes(sizes, pattern):
    bench = Bench()

    async def stimulus(ctx):
        bench.setup(ctx, **{f"sizes_s{n}": size for n, size in enumerate(sizes)})
        await bench.command(ctx, DeviceOp.DMA_READ, addr=0, length=600)
        requests, _ = await bench.dma_read(ctx)
        assert [length for length, _ in requests[:-1]] == list(itertools.islice(itertools.cycle(pattern), len(requests) - 1))
        assert sum(length for length, _ in requests) == 600

    bench.run(stimulus)


def test_four_sizes():
    bench = Bench()

    async def stimulus(ctx):
        bench.setup(ctx, sizes_s0=1, sizes_s1=2, sizes_s2=3, sizes_s3=255)
        await bench.command(ctx, DeviceOp.DMA_READ, addr=0, length=1 + 2 + 3 + 255 + 1 + 1)
        requests, _ = await bench.dma_read(ctx)
        assert [length for length, _ in requests] == [1, 2, 3, 255, 1, 1]

    bench.run(stimulus)


@pytest.mark.parametrize("op", [DeviceOp.DMA_READ, DeviceOp.DMA_WRITE])
@pytest.mark.parametrize("gap", [0, 1, 5])
def test_gap(op, gap):
    bench = Bench()

    async def stimulus(ctx):
        await bench.command(ctx, op, addr=0, length=24, sizes_s0=8, gap=gap, path_channel=4)
        before = None
        for number in range(3):
            request, rose, accepted = await bench.accept(ctx)
            assert ctx.get(bench.dut.request.channel) == 4
            assert (request.write_to_device, request.last) == (op == DeviceOp.DMA_WRITE, number == 2)
            assert before is None or rose == before + 1 + gap
            before = accepted
            if op == DeviceOp.DMA_READ:
                before = (await bench.collect(ctx))[1][-1]

    bench.run(stimulus)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("address", "length"), [(0, 64), (5, 50), (1023, 1), (2, 3)])
def test_dma_write(width, address, length):
    bench = Bench(data_width=width)

    async def stimulus(ctx):
        given = await bench.command(ctx, DeviceOp.DMA_WRITE, addr=address, length=length, sizes_s0=17)
        at = address
        while True:
            request, rose, _ = await bench.accept(ctx)
            assert request.addr == at and request.write_to_device
            assert at != address or rose == given + 1
            at += request.length
            if request.last:
                break
        assert at == address + length
        await ctx.tick().repeat(20)
        assert ctx.get(bench.dut.csr.status_busy) and not bench.done, "done must wait for the bytes"
        if length > 1:
            await bench.send(ctx, address, CONTENT[: length - 1])
            await ctx.tick().repeat(20)
            assert ctx.get(bench.dut.csr.bytes_done) == length - 1 and not bench.done
        last = await bench.send(ctx, address + length - 1, CONTENT[length - 1 : length])
        await bench.finish(ctx)
        assert bench.done_cycle + 1 == last + 2 and bench.done == 1
        assert bench.model[address : address + length] == CONTENT[:length]
        assert bench.model[:address] + bench.model[address + length :] == bytes(1024 - length)

    bench.run(stimulus)


def test_remainder_of_an_older_command_does_not_complete_a_newer_one():
    """The older one's last bytes come first, at their own address; then a beat that holds bytes of both."""
    bench = Bench()

    async def stimulus(ctx):
        await bench.command(ctx, DeviceOp.DMA_WRITE, addr=0, length=10, sizes_s0=0)
        await bench.accept(ctx)
        await bench.send(ctx, 0, CONTENT[:8])  # two bytes stay in the chunk FIFO; the driver gives up
        await bench.command(ctx, DeviceOp.ABORT)
        await bench.command(ctx, DeviceOp.DMA_WRITE, addr=0, length=10, sizes_s0=0)
        await bench.accept(ctx)
        await bench.send(ctx, 8, b"\xaa\xbb")  # the remainder of an older command
        assert ctx.get(bench.dut.csr.bytes_done) == 0
        assert bench.model[8:10] == b"\xaa\xbb"
        await bench.send(ctx, 0, CONTENT[:8])
        assert ctx.get(bench.dut.csr.bytes_done) == 8 and ctx.get(bench.dut.csr.status_busy)
        await bench.beat(ctx, 8, {0: 1, 1: 2, 5: 3})  # 13 is an older byte that shared the chunk
        await bench.finish(ctx)
        assert ctx.get(bench.dut.csr.bytes_done) == 10 and bench.model[8:14] == bytes([1, 2, 0, 0, 0, 3])

    bench.run(stimulus)


def test_bytes_count_only_after_their_request():
    bench = Bench()

    async def stimulus(ctx):
        await bench.command(ctx, DeviceOp.DMA_WRITE, addr=0, length=16, sizes_s0=8)
        await bench.send(ctx, 0, CONTENT[:8])  # nobody asked yet: an older remainder
        assert ctx.get(bench.dut.csr.bytes_done) == 0
        await bench.accept(ctx)
        await bench.accept(ctx)
        await bench.send(ctx, 0, CONTENT[:16])
        await bench.finish(ctx)
        assert ctx.get(bench.dut.csr.bytes_done) == 16

    bench.run(stimulus)


def test_data_without_command_and_outside_the_buffer():
    bench = Bench()

    async def stimulus(ctx):
        await bench.send(ctx, 100, b"late")
        assert bench.model[100:104] == b"late" and not ctx.get(bench.dut.csr.status_busy)
        await bench.beat(ctx, 0x400, {0: 1})
        assert bench.error == 1 and len(bench.records) == 1
        await bench.beat(ctx, 0x8000_0000, {})  # a beat without bytes (a discarded one) is nothing at all
        assert (bench.error, len(bench.records)) == (1, 1)

    bench.run(stimulus)


def test_stall():
    """Counts down from the written value, a write in between wins; nothing is taken meanwhile."""
    bench = Bench()

    async def stimulus(ctx):
        csr = bench.dut.csr
        ctx.set(csr.stall_w, 6)
        ctx.set(csr.stall_written, 1)
        await ctx.tick()
        ctx.set(csr.stall_written, 0)
        start = bench.cycle
        assert ctx.get(csr.stall) == 6
        await bench.beat(ctx, 0, {0: 1})
        assert bench.cycle - 1 == start + 6 and ctx.get(csr.stall) == 0
        for value in (100, 2):
            ctx.set(csr.stall_w, value)
            ctx.set(csr.stall_written, 1)
            await ctx.tick()
            assert ctx.get(csr.stall) == value
        ctx.set(csr.stall_written, 0)
        await ctx.tick()
        assert ctx.get(csr.stall) == 1

    bench.run(stimulus)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("address", "length"), [(0, 16), (2, 7), (5, 1), (7, 12), (1020, 4), (1023, 1)])
def test_pio_read_and_write(width, address, length):
    """The data port keeps up with an access every two cycles, the fastest the bank gives."""
    bench = Bench(data_width=width)

    async def stimulus(ctx):
        await bench.fill(ctx, CONTENT)
        given = await bench.command(ctx, DeviceOp.PIO_READ, addr=address, length=length)
        assert not ctx.get(bench.dut.csr.status_drq)
        await ctx.tick()
        assert ctx.get(bench.dut.csr.status_drq) and bench.cycle == given + 2
        data = b""
        for _ in range((length + 3) // 4):
            word, error = await bench.pio_access(ctx)
            assert not error
            data += word.to_bytes(4, "little")
            await ctx.tick()
        assert data == CONTENT[address : address + length] + bytes(-length % 4)
        await bench.finish(ctx)
        assert bench.done == 1 and ctx.get(bench.dut.csr.bytes_done) == length

        await bench.command(ctx, DeviceOp.PIO_WRITE, addr=address, length=length)
        assert ctx.get(bench.dut.csr.status_drq)
        payload = bytes(0xC0 + n for n in range(length)) + b"\xee" * (-length % 4)
        for n in range(0, length, 4):
            assert (await bench.pio_access(ctx, int.from_bytes(payload[n : n + 4], "little")))[1] == 0
            await ctx.tick()
        await bench.finish(ctx)
        await ctx.tick()
        assert bench.done == 2 and ctx.get(bench.dut.csr.bytes_done) == length
        expected = bytearray(CONTENT)
        expected[address : address + length] = payload[:length]
        assert bench.model == expected

    bench.run(stimulus)


def test_pio_without_drq_or_against_its_direction():
    bench = Bench()

    async def stimulus(ctx):
        assert (await bench.pio_access(ctx))[1] == 1
        assert (await bench.pio_access(ctx, 5))[1] == 1
        await bench.command(ctx, DeviceOp.PIO_READ, addr=0, length=8)
        await ctx.tick()
        assert (await bench.pio_access(ctx, 5))[1] == 1
        for _ in range(2):
            assert (await bench.pio_access(ctx))[1] == 0
        assert (await bench.pio_access(ctx))[1] == 1
        await bench.finish(ctx)
        await bench.command(ctx, DeviceOp.PIO_WRITE, addr=0, length=8)
        assert (await bench.pio_access(ctx))[1] == 1
        assert bench.model == bytes(1024) and ctx.get(bench.dut.csr.bytes_done) == 0

    bench.run(stimulus)


@pytest.mark.parametrize("op", [DeviceOp.DMA_READ, DeviceOp.DMA_WRITE, DeviceOp.PIO_READ, DeviceOp.PIO_WRITE])
def test_refused_starts(op):
    bench = Bench(dma__system_channels=2)

    async def stimulus(ctx):
        busy = bench.dut.csr.status_busy
        for n, registers in enumerate(
            ({"addr": 1024, "length": 1}, {"addr": 1, "length": 1024}, {"addr": 0xFFFF_FFFF, "length": 0xFFFF_FFFF}), 1
        ):
            await bench.command(ctx, op, **registers)
            assert not ctx.get(busy) and bench.error == n
        dma = op in (DeviceOp.DMA_READ, DeviceOp.DMA_WRITE)
        for channel in (2, 3, 5, 6, 7):
            await bench.command(ctx, op, addr=0, length=4, path_channel=channel)
            assert ctx.get(busy) == (not dma)
            if not dma:
                await bench.command(ctx, DeviceOp.ABORT)
        before = bench.error
        await bench.command(ctx, op, addr=0, length=4, path_channel=1)
        await bench.command(ctx, op, addr=0, length=4)  # while busy
        assert ctx.get(busy) and bench.error == before + 1 and bench.done == 0

    bench.run(stimulus)


def test_odd_commands():
    bench = Bench()

    async def stimulus(ctx):
        busy = bench.dut.csr.status_busy
        await bench.command(ctx, DeviceOp.NONE, addr=0, length=4)
        await bench.command(ctx, DeviceOp.ABORT)
        await ctx.tick()
        assert (bench.done, bench.error, ctx.get(busy)) == (0, 0, 0)
        for op in (5, 6):
            await bench.command(ctx, op)
            assert not ctx.get(busy)
        assert bench.error == 2
        for op in (DeviceOp.DMA_READ, DeviceOp.DMA_WRITE, DeviceOp.PIO_READ, DeviceOp.PIO_WRITE):
            bench.done = 0
            given = await bench.command(ctx, op, addr=1024, length=0)
            await bench.finish(ctx)
            assert bench.done == 1 and bench.done_cycle + 1 == given + 2

    bench.run(stimulus)


@pytest.mark.parametrize("op", [DeviceOp.DMA_READ, DeviceOp.DMA_WRITE])
@pytest.mark.parametrize(("short", "moved"), [(5, 5), (20, 20), (21, 20)])
def test_short_transfers(op, short, moved):
    """``last`` comes with the short transfer's last request; PIO commands are never short."""
    bench = Bench()

    async def stimulus(ctx):
        await bench.fill(ctx, CONTENT)
        await bench.command(ctx, op, addr=3, length=20, short=short, sizes_s0=4)
        if op == DeviceOp.DMA_READ:
            _, data = await bench.dma_read(ctx)
            assert data == CONTENT[3 : 3 + moved]
        else:
            while not (await bench.accept(ctx))[0].last:
                pass
            await bench.send(ctx, 3, bytes(moved))
        await bench.finish(ctx)
        assert bench.done == 1 and ctx.get(bench.dut.csr.bytes_done) == moved
        await bench.command(ctx, DeviceOp.PIO_READ, addr=0, length=8, short=4)
        await ctx.tick()
        assert [(await bench.pio_access(ctx))[1] for _ in range(2)] == [0, 0]

    bench.run(stimulus)


def test_abort():
    """A presented request is withdrawn at once; an accepted one is sent to its end; late data is still written."""
    bench = Bench()

    async def stimulus(ctx):
        dut = bench.dut
        await bench.fill(ctx, CONTENT)
        for op in (DeviceOp.DMA_READ, DeviceOp.DMA_WRITE):
            await bench.command(ctx, op, addr=0, length=64, sizes_s0=32)
            await ctx.tick().repeat(4)
            assert ctx.get(dut.request.req.valid)
            ctx.set(dut.csr.cmd_op, DeviceOp.ABORT)
            ctx.set(dut.csr.cmd_written, 1)
            assert not ctx.get(dut.request.req.valid)
            await bench.command(ctx, DeviceOp.ABORT)
            assert not ctx.get(dut.csr.status_busy)
        assert (bench.done, bench.error) == (0, 2)

        await bench.command(ctx, DeviceOp.DMA_READ, addr=0, length=64, sizes_s0=32)
        await bench.accept(ctx)
        await ctx.tick().repeat(3)
        await bench.command(ctx, DeviceOp.ABORT)
        assert ctx.get(dut.csr.status_busy)
        data, _ = await bench.collect(ctx)
        assert data == CONTENT[:32] and not ctx.get(dut.csr.status_busy)

        await bench.command(ctx, DeviceOp.DMA_WRITE, addr=0, length=32, sizes_s0=32)
        await bench.accept(ctx)
        await bench.command(ctx, DeviceOp.ABORT)
        assert not ctx.get(dut.csr.status_busy)
        await bench.send(ctx, 0, bytes(32))
        assert bench.model[:32] == bytes(32)
        assert (bench.done, bench.error) == (0, 4)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(dut.request.req.valid)

    bench.run(stimulus)


def test_straddling_access_leaves_two_records():
    bench = Bench()

    async def stimulus(ctx):
        await bench.command(ctx, DeviceOp.PIO_WRITE, addr=6, length=4)
        await bench.pio_access(ctx, 0x04030201)
        assert (await bench.pio_access(ctx, 0))[1] == 1  # the second half is being written: no drq
        await bench.finish(ctx)
        await bench.command(ctx, DeviceOp.PIO_READ, addr=6, length=3)
        await ctx.tick()
        assert await bench.pio_access(ctx) == (0x030201, 0)
        await bench.finish(ctx)
        first = bench.records[0][0]
        assert bench.records[:2] == [
            (first, Kind.DEV_WRITE, 0, 0b1100_0000),
            (first + 1, Kind.DEV_WRITE, 8, 0b0000_0011),
        ]
        second = bench.records[2][0]
        assert bench.records[2:] == [
            (second, Kind.DEV_READ, 0, 0b1100_0000),
            (second + 1, Kind.DEV_READ, 8, 0b0000_0001),
        ]

    bench.run(stimulus)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", range(3))
def test_random_traffic_in_both_directions(width, seed):
    """Device-to-memory commands with back-pressure while foreign beats rewrite the buffer: records, data and model agree.

    What a beat carries is what the buffer held when its record was made, so the stream is compared with the records.
    """
    rng = random.Random(f"{width} {seed}")
    bench = Bench(data_width=width)
    left_buffer, received = bytearray(), bytearray()
    finished = []
    original = bench._record

    def watch(kind, addr, strobes, data):
        original(kind, addr, strobes, data)
        if kind is Kind.DEV_READ:
            left_buffer.extend(data >> 8 * lane & 0xFF for lane in range(bench.n) if strobes >> lane & 1)

    bench._record = watch

    async def reader(ctx):
        for _ in range(12):
            address = rng.randrange(1024)
            length = rng.randrange(1, min(150, 1025 - address))
            sizes = {f"sizes_s{n}": rng.randrange(1, 40) for n in range(4)}
            await bench.command(ctx, DeviceOp.DMA_READ, addr=address, length=length, gap=rng.choice((0, 2)), **sizes)
            slow = rng.random() < 0.5
            _, data = await bench.dma_read(ctx, lambda slow=slow: slow * rng.randrange(3), lambda: rng.randrange(3))
            assert len(data) == length
            received.extend(data)
            await bench.finish(ctx)
        finished.append(True)

    async def writer(ctx):
        while not finished:
            base = rng.randrange(1024 // bench.n) * bench.n
            lanes = {lane: rng.getrandbits(8) for lane in range(bench.n) if rng.random() < 0.7}
            await bench.beat(ctx, base, lanes)
            await ctx.tick().repeat(rng.randrange(1, 6))

    bench.run(reader, writer)
    assert received == left_buffer and bench.done == 12 and bench.error == 0


def test_a_write_just_before_the_read_is_seen():
    """The window has read ahead; a beat that arrives before the data leaves still counts."""
    bench = Bench()

    async def stimulus(ctx):
        await bench.fill(ctx, CONTENT)
        await bench.command(ctx, DeviceOp.DMA_READ, addr=4, length=24, sizes_s0=0)
        await ctx.tick().repeat(3)
        for base in (0, 8, 16, 24):
            await bench.beat(ctx, base, dict.fromkeys(range(0, 8, 2), 0x55))
        _, data = await bench.dma_read(ctx)
        assert data == bytes(0x55 if n % 2 == 0 else CONTENT[n] for n in range(4, 28))

    bench.run(stimulus)


def test_state_is_an_enum_and_the_buffer_has_its_name():
    assert len(DeviceState) == 9
    text = export.verilog(StorageDevice(config=SocConfig()), "dev")
    arrays = export.memories(text, "dev")
    assert [(array.path, array.width, array.depth) for array in arrays] == [("dev.dut.buffer", 64, 8192)]


def test_large_buffer_exports_quickly():
    text = export.verilog(StorageDevice(config=SocConfig().replace(device__buffer_bytes=4 << 20)), "dev")
    assert len(text) < 200_000


@pytest.mark.parametrize("width", WIDTHS)
def test_converts(width):
    assert "module top" in verilog.convert(StorageDevice(config=SocConfig().replace(data_width=width, device__buffer_bytes=256)))
