# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt handlers, handler threads, kernel threads and completions of the Linux interface."""

import pytest

from driver.errors import ArgumentError, ContextError
from driver.linux import (
    DMA_FROM_DEVICE,
    IRQ_HANDLED,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    Device,
    complete,
    dma_map_single,
    dma_unmap_single,
    free_irq,
    init_completion,
    kmalloc,
    kthread_run,
    request_irq,
    request_threaded_irq,
    wait_for_completion_timeout,
)
from driver.storage_port import StoragePort
from driver.wdk import Kernel
from rtl.pio.table import IRQ

from .fake_bus import FakeBus, run

LINE = 1 << IRQ.BUS_MASTER


def begun(dev, *names):
    return [
        (r["name"], r["thread"], r["role"], r["irql"])
        for r in dev.trace.records
        if r["phase"] == "begin" and (r["name"] in names or not names)
    ]


async def read(dev, port, irq=None):
    """One transfer whose end a handler tells the probe routine."""
    finished = init_completion(dev)
    buf = int(kmalloc(dev, 512))
    seen = []

    async def handler(irq, dev_id):
        if not await port.is_pending():
            return IRQ_NONE
        seen.append((dev_id, await port.acknowledge()))
        complete(finished)
        return IRQ_HANDLED

    interrupt = await request_irq(dev, LINE, handler, "cookie")
    dma = await dma_map_single(dev, buf, 512, DMA_FROM_DEVICE)
    await port.start_list([(int(dma), 512)], False, 0, device=dev)
    left = await wait_for_completion_timeout(finished, 10_000)
    await dma_unmap_single(dev, dma, 512, DMA_FROM_DEVICE)
    await free_irq(interrupt)
    return await dev.cpu.load(buf, 512), seen, left, interrupt


def machine():
    bus = FakeBus()
    bus.device[0:512] = bytes(n & 255 for n in range(512))
    return bus


def test_a_handler_ends_a_transfer():
    async def main():
        bus = machine()
        dev = await Device.start(bus)
        data, seen, left, interrupt = await read(dev, StoragePort(dev.hal, dev.trace))
        bus.cancel_tasks()
        assert data == bytes(bus.device[0:512]) and seen == [("cookie", 512)] and 0 < left < 10_000
        assert interrupt.calls == 1 and not interrupt.connected
        return dev

    dev = run(main())
    isr = begun(dev, "irq_handler")
    assert isr == [("irq_handler", isr[0][1], "isr", None)] and isr[0][1] != 0
    assert begun(dev, "dma_unmap_single", "free_irq") == [
        ("dma_unmap_single", 0, "thread", None),
        ("free_irq", 0, "thread", None),
    ]
    assert [r["result"] for r in dev.trace.records if r["phase"] == "end" and r["name"] == "irq_handler"] == [IRQ_HANDLED]


@pytest.mark.parametrize("with_handler", [False, True])
def test_a_handler_thread_runs_with_its_line_masked(with_handler):
    async def main():
        bus = machine()
        dev = await Device.start(bus)
        port, finished, masked = StoragePort(dev.hal, dev.trace), init_completion(dev), []

        def handler(irq, dev_id):
            return IRQ_WAKE_THREAD

        async def thread_fn(irq, dev_id):
            masked.append(not bus.regs["sys.irq_enable"] & LINE)
            await port.acknowledge()
            await dma_unmap_single(dev, buf, 512, DMA_FROM_DEVICE)
            complete(finished)

        buf = int(kmalloc(dev, 512))
        irq = await request_threaded_irq(dev, LINE, handler if with_handler else None, thread_fn)
        await dma_map_single(dev, buf, 512, DMA_FROM_DEVICE)
        await port.start_list([(buf, 512)], False, 0, device=dev)
        assert await wait_for_completion_timeout(finished, 10_000)
        assert await dev.cpu.load(buf, 512) == bytes(bus.device[0:512])
        await bus.delay(100)
        assert masked == [True] and bus.regs["sys.irq_enable"] & LINE
        await free_irq(irq)
        assert not bus.regs["sys.irq_enable"] & LINE
        bus.cancel_tasks()
        return dev

    dev = run(main())
    (unmap,) = begun(dev, "dma_unmap_single")
    assert unmap[1] != 0 and unmap[2:] == ("thread", None)
    assert len(begun(dev, "irq_handler")) == with_handler


def test_nobody_gets_the_cpu_while_a_hard_handler_runs():
    async def main():
        bus = machine()
        dev = await Device.start(bus)
        port, order = StoragePort(dev.hal, dev.trace), []

        async def handler(irq, dev_id):
            for _ in range(5):
                await dev.cpu.load(0x8000_8000, 4)
                order.append("isr")
            await port.acknowledge()
            return IRQ_HANDLED

        irq = await request_irq(dev, LINE, handler)
        await port.start_list([(0x8000_4000, 64)], False, 0, device=dev)
        while len(order) < 30:
            await dev.cpu.load(0x8000_8000, 4)
            order.append("main")
            await bus.delay(1)
        await free_irq(irq)
        bus.cancel_tasks()
        first = order.index("isr")
        assert order[first : first + 5] == ["isr"] * 5 and order.count("isr") == 5

    run(main())


def test_a_kernel_thread_is_joined():
    async def main():
        bus = machine()
        dev = await Device.start(bus)

        async def work(fails):
            kmalloc(dev, 16)
            if fails:
                raise ValueError("mine")
            return 7

        assert await kthread_run(dev, work(False), "worker").join() == 7
        with pytest.raises(ValueError, match="mine"):
            await kthread_run(dev, work(True)).join()
        return dev

    dev = run(main())
    allocated = begun(dev, "AllocateMemory")
    assert [role for _, _, role, _ in allocated] == ["thread"] * 2
    assert len({number for _, number, _, _ in allocated} | {0}) == 3


def test_completions_count_and_time_out():
    async def main():
        dev = await Device.start(FakeBus())
        done = init_completion(dev)
        complete(done)
        complete(done)
        assert await wait_for_completion_timeout(done, 10) == 10 and await wait_for_completion_timeout(done, 10)
        before = dev.bus.now()
        assert await wait_for_completion_timeout(done, 500) == 0 and dev.bus.now() - before >= 500
        with pytest.raises(ArgumentError, match="timeout must be an integer from 1"):
            await wait_for_completion_timeout(done, 0)

    run(main())


@pytest.mark.parametrize(
    ("routine", "error", "text"),
    [
        (lambda irq, dev_id: 1 // 0, ZeroDivisionError, "division"),
        (lambda irq, dev_id: IRQ_HANDLED, ContextError, "interrupt storm: the handler of lines .* called 100 times in a row"),
        (lambda irq, dev_id: None, ArgumentError, "must return IRQ_NONE, IRQ_HANDLED or IRQ_WAKE_THREAD, not None"),
        (lambda irq, dev_id: True, ArgumentError, "must return IRQ_NONE, IRQ_HANDLED or IRQ_WAKE_THREAD, not True"),
        (lambda irq, dev_id: IRQ_WAKE_THREAD, ArgumentError, "must not return IRQ_WAKE_THREAD without a thread_fn"),
    ],
)
def test_a_bad_handler_stops_the_machine(routine, error, text):
    async def main():
        bus = machine()
        dev = await Device.start(bus)
        port = StoragePort(dev.hal, dev.trace)
        await request_irq(dev, LINE, routine)
        await port.start_list([(0x8000_4000, 64)], False, 0, device=dev)
        with pytest.raises(error, match=text):
            await wait_for_completion_timeout(init_completion(dev), 100_000)
        bus.cancel_tasks()
        return dev

    dev = run(main())
    assert [role for _, _, role, _ in begun(dev, "Unhandled")] == ["isr"]


def test_bad_requests_are_named():
    async def main():
        dev = await Device.start(FakeBus())
        for arguments, text in (
            ((LINE, None, None), "handler and thread_fn must not both be None"),
            ((LINE, 3, None), "handler must be callable or None, not 3"),
            ((0, print, None), "irq must be an integer from 1"),
            ((1 << IRQ.MAINT, print, None), "irq must leave out the HAL's own lines"),
        ):
            with pytest.raises(ArgumentError, match=text):
                await request_threaded_irq(dev, *arguments)
        with pytest.raises(ArgumentError, match="irq must be an Interrupt, not 3"):
            await free_irq(3)
        with pytest.raises(ArgumentError, match="coroutine must be a coroutine, not 3"):
            kthread_run(dev, 3)
        hal = (await Kernel.start(FakeBus(), options=dev.platform.options)).hal
        with pytest.raises(ArgumentError, match=r"dev must be made by Device.start, or with a processor"):
            init_completion(Device(hal, hal.trace))

    run(main())
