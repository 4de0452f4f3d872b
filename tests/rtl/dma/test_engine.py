# SPDX-License-Identifier: BSD-2-Clause
"""The DMA engine as a whole, against a byte model that replays its probe records."""

import pytest
from amaranth.back import verilog

from rtl.config import SocConfig
from rtl.dma.engine import DmaEngine
from rtl.probe import Kind

from .bench import Bench, split
from .helpers import BASE


@pytest.mark.parametrize("width, chunk", [(64, 16), (32, 8), (128, 64), (64, 8), (32, 64)])
@pytest.mark.parametrize("to_device", [False, True])
def test_lengths_at_odd_addresses(width, chunk, to_device):
    """Every byte arrives after the flush, no other byte changes, and before it exactly the remainder is missing."""

    async def test(b):
        line = b.config.dcache.line_bytes
        at = 0x100
        lanes = b.config.data_bytes
        for n, length in enumerate((1, chunk - 1, chunk, chunk + 1, line + 1, 130)):
            # Over the lengths every difference of the two addresses comes up, and each end is aligned now and then.
            for dev, mem in ((at + n % 2 * (n + 2), at + 0x1000 + n % 3 * 3), (at + 3 * n % lanes, at + 0x1005 + n)):
                source = b.mem.peek(BASE + mem, length) if to_device else bytes(b.device[dev : dev + length])
                await b.transfer(mem_addr=BASE + mem, dev_addr=dev, length=length, to_device=to_device)
                dest = dev if to_device else BASE + mem
                last = dest + length
                await b.ticks(40)
                b.check()
                rest = (last - max(dest, (last - 1) // chunk * chunk)) % chunk  # a chunk that was never full stays
                level = b.read("dma", "level_to_device" if to_device else "level_to_memory")
                assert level == rest, f"{length} bytes to {dest:#x} leave {rest}"
                assert await b.flush() == (1, 0, 0)
                b.check()
                got = bytes(b.device[dev : dev + length]) if to_device else b.mem.peek(BASE + mem, length)
                assert got == source
                at += 0x40

    Bench(
        data_width=width,
        dma__chunk_bytes=chunk,
        dcache__line_bytes=64,
        icache__line_bytes=64,
    ).run(test)


@pytest.mark.parametrize("to_device", [False, True])
def test_page(to_device):
    async def test(b):
        source = b.mem.peek(BASE + 0x0FFF, 4096) if to_device else bytes(b.device[0x11 : 0x11 + 4096])
        await b.transfer(mem_addr=BASE + 0x0FFF, dev_addr=0x11, length=4096, to_device=to_device, sizes=split(4096, 256))
        assert await b.flush() == (1, 0, 0)
        b.check()
        got = bytes(b.device[0x11 : 0x11 + 4096]) if to_device else b.mem.peek(BASE + 0x0FFF, 4096)
        assert got == source
        if to_device:
            assert all(0x0FF8 <= addr - BASE < 0x1FFF for _, _, addr, _ in b.mem.reads)

    Bench(memory={"pressure": 0.2, "latency": 4}, device_pressure=0.2).run(test)


@pytest.mark.parametrize("to_device", [False, True])
def test_cut_through_keeps_no_remainder(to_device):
    """Without a flush every byte arrives; the records are in the same order as with chunks."""

    async def test(b):
        for n, length in enumerate((1, 5, 16, 77, 200)):
            mem, dev = 0x1003 + 0x101 * n, 0x205 + 0x110 * n
            source = b.mem.peek(BASE + mem, length) if to_device else bytes(b.device[dev : dev + length])
            await b.transfer(mem_addr=BASE + mem, dev_addr=dev, length=length, to_device=to_device)
            await b.ticks(30)
            b.check()
            got = bytes(b.device[dev : dev + length]) if to_device else b.mem.peek(BASE + mem, length)
            assert got == source
        assert await b.flush() == (1, 0, 0)

    Bench(dma__cut_through=True, memory={"pressure": 0.2}, device_pressure=0.2).run(test)


@pytest.mark.parametrize("to_device", [False, True])
def test_time_out_in_cut_through(to_device):
    """What was not handed over is discarded and counted; the transfer goes on behind it, the burst it had begun included."""

    async def test(b):
        b.mem.aw_stall = b.device_stall = True
        await b.start(addr=BASE + 0x103, count=400, to_device=to_device)
        b.ask(0x1007, [200, 200], to_device=to_device)
        await b.ticks(40)
        assert await b.flush(timeout=30) == (0, 0, 1)
        lost = b.read("dma", "flush_discarded")
        assert 0 < lost <= b.config.dma.chunk_bytes * b.config.dma.fifo_chunks
        assert sum((e[5] & 0xFFFF).bit_count() for e in b.kinds(Kind.DISCARD)) == lost
        b.mem.aw_stall = b.device_stall = False
        await b.until("ch0", "status_tc")
        assert await b.flush() == (1, 0, 0)
        b.check()
        drained = sum((e[5] & 0xFFFF).bit_count() for e in b.kinds(Kind.DRAIN))
        assert drained == 400 - lost
        await b.transfer(mem_addr=BASE + 0x1003, dev_addr=0x2000, length=50, to_device=to_device)
        assert await b.flush() == (1, 0, 0)
        b.check()

    Bench(dma__cut_through=True).run(test)


@pytest.mark.parametrize("moment", [12, 25, 44])
@pytest.mark.parametrize("to_device", [False, True])
def test_abort_in_cut_through(moment, to_device):
    async def test(b):
        await b.start(addr=BASE + 0x101, count=700, to_device=to_device)
        b.ask(0x1007, [256, 256, 188], to_device=to_device)
        await b.ticks(moment)
        await b.write("dma", "ctrl", abort=1)
        b.requests.clear()
        await b.ticks(150)
        b.check()
        await b.transfer(mem_addr=BASE + 0x1003, dev_addr=0x2000, length=50, to_device=to_device)
        assert await b.flush() == (1, 0, 0)
        b.check()

    Bench(dma__cut_through=True, memory={"pressure": 0.3, "latency": 5}, device_pressure=0.3).run(test)


@pytest.mark.parametrize("width, chunk", [(64, 16), (32, 8), (128, 64)])
def test_converts(width, chunk):
    config = SocConfig(data_width=width).replace(
        dma__chunk_bytes=chunk, dma__system_channels=4, dcache__line_bytes=64, icache__line_bytes=64
    )
    assert "module top" in verilog.convert(DmaEngine(config=config))
