# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt handlers, threads and completions (Documentation/core-api/genericirq.rst, scheduler/completion.rst).

There is one CPU. A hard handler runs between two bus accesses of whatever it interrupts, and nothing else runs until it returns;
handler threads and kernel threads share the CPU with the probe routine, access by access. An interrupt is a level: its handler is
called again as long as the level is high, so a handler that does not clear its device's interrupt is a storm.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..bus import BusTimeout, Joinable
from ..errors import ArgumentError, ContextError, check_integer, check_type
from ..execution import ExecutionContext, in_context
from ..processor import Processor
from ..registers import IRQ
from .device import Device, check_device

__all__ = [
    "IRQ_HANDLED",
    "IRQ_NONE",
    "IRQ_WAKE_THREAD",
    "STORM_CALLS",
    "Completion",
    "Interrupt",
    "complete",
    "free_irq",
    "init_completion",
    "kthread_run",
    "request_irq",
    "request_threaded_irq",
    "wait_for_completion_timeout",
]

IRQ_NONE, IRQ_HANDLED, IRQ_WAKE_THREAD = 0, 1, 2

#: Calls of one handler in a row, its level never seen low, that count as an interrupt storm.
STORM_CALLS = 100
_EXIT_CYCLES = 8  # from the end of a handler to the next look at the level
_FOREVER = 1 << 40
_HAL_LINES = 1 << IRQ.MAINT | 1 << IRQ.FLUSH
_HARD_LEVEL = 5

#: ``handler(irq, dev_id)``, a function or coroutine.
Handler = Callable[["Interrupt", Any], Any | Awaitable[Any]]


class _HardContext(ExecutionContext):
    """A hard handler's: the log shows no level, as Linux has none, but nothing else gets the CPU."""

    @property
    def level(self) -> int:
        return _HARD_LEVEL


class Interrupt:
    """A requested interrupt. ``mask`` are its lines; ``calls`` counts the handler's calls."""

    def __init__(self, dev: Device, mask: int, handler: Handler | None, thread_fn: Handler | None, dev_id: Any):
        self.dev, self.mask, self.handler, self.thread_fn, self.dev_id = dev, mask, handler, thread_fn, dev_id
        self.hard = _HardContext(-1)
        if handler is not None:
            self.hard = _numbered(dev, _HardContext, "isr", f"the handler {getattr(handler, '__name__', '')}")
        self.thread = _numbered(dev, ExecutionContext, "thread", f"the handler thread {getattr(thread_fn, '__name__', '')}")
        self.connected, self.calls = True, 0


class Completion:
    """struct completion. ``done`` counts the completes that nobody has waited for."""

    def __init__(self, dev: Device):
        self._processor, self._signal, self.done = _processor(dev), dev.bus.signal(), 0

    def complete(self) -> None:
        """See :func:`complete`."""
        self.done += 1
        self._signal.fire()

    async def wait(self, timeout: int) -> int:
        """See :func:`wait_for_completion_timeout`."""
        bus = self._processor.bus
        deadline = bus.now() + timeout
        while not self.done:
            left = deadline - bus.now()
            if left <= 0:
                return 0
            await self._processor.sleep(self._signal, left)
        self.done -= 1
        return max(deadline - bus.now(), 1)


async def request_irq(dev: Device, irq: int, handler: Handler, dev_id: Any = None) -> Interrupt:
    """request_irq: as :func:`request_threaded_irq` without a thread."""
    return await request_threaded_irq(dev, irq, handler, None, dev_id)


async def request_threaded_irq(
    dev: Device, irq: int, handler: Handler | None, thread_fn: Handler | None, dev_id: Any = None
) -> Interrupt:
    """request_threaded_irq: calls ``handler(irq, dev_id)`` while a line of ``irq`` is high. Enables the lines: two bus accesses.

    The handler returns ``IRQ_NONE``, ``IRQ_HANDLED`` or ``IRQ_WAKE_THREAD``; without one the thread is woken at once. While the
    thread runs, the lines stay masked (``IRQF_ONESHOT``). An exception in either stops the machine: every context gets it.

    Parameters
    ----------
    irq : a mask of interrupt lines (:class:`driver.registers.IRQ`), where the kernel has a number.

    Raises
    ------
    ArgumentError
        If there is neither handler nor thread, or the mask is empty or has lines of the HAL (cache maintenance, engine flush).
    """
    check_device(dev)
    for name, routine in (("handler", handler), ("thread_fn", thread_fn)):
        if routine is not None and not callable(routine):
            raise ArgumentError(f"{name} must be callable or None, not {routine!r}")
    if handler is None and thread_fn is None:
        raise ArgumentError("handler and thread_fn must not both be None")
    check_integer("irq", irq, 1, (1 << IRQ.WIDTH) - 1)
    if irq & _HAL_LINES:
        raise ArgumentError(f"irq must leave out the HAL's own lines ({_HAL_LINES:#x}), not {irq:#x}")
    processor = _processor(dev)
    with dev.call("request_threaded_irq", irq=irq, handler=handler is not None, thread=thread_fn is not None):
        interrupt = Interrupt(dev, irq, handler, thread_fn, dev_id)
        await _gate(dev, irq, True)
        line = ExecutionContext(-1, "interrupt line", None, f"interrupt {irq:#x}")
        processor.raw.spawn(in_context(line, _serve(interrupt)), line.what, service=True)
        return interrupt


async def free_irq(irq: Interrupt) -> None:
    """free_irq: the handler is not called any more and the lines are disabled; a call in progress ends by itself. (The kernel's
    takes the number and ``dev_id``.)"""
    check_type("irq", irq, Interrupt)
    with irq.dev.call("free_irq", irq=irq.mask):
        irq.connected = False
        await _gate(irq.dev, irq.mask, False)


def init_completion(dev: Device) -> Completion:
    """init_completion: a completion that nobody has completed."""
    return Completion(check_device(dev))


def complete(completion: Completion) -> None:
    """complete: lets one waiter go on; from any context."""
    check_type("completion", completion, Completion).complete()


async def wait_for_completion_timeout(completion: Completion, timeout: int) -> int:
    """wait_for_completion_timeout: waits without holding the CPU.

    Parameters
    ----------
    timeout : cycles, where the kernel has jiffies.

    Returns the cycles that were left, at least 1, or 0 if nobody completed it in time.
    """
    check_type("completion", completion, Completion)
    return await completion.wait(check_integer("timeout", timeout, 1, 1 << 40))


def kthread_run(dev: Device, coroutine: Coroutine[Any, Any, Any], name: str = "a kernel thread") -> Joinable:
    """kthread_run: runs ``coroutine`` beside the caller; its exception waits for ``await thread.join()``."""
    check_device(dev)
    if not inspect.iscoroutine(coroutine):
        raise ArgumentError(f"coroutine must be a coroutine, not {coroutine!r}")
    return _processor(dev).spawn(coroutine, _numbered(dev, ExecutionContext, "thread", check_type("name", name, str)))


# -- inside -----------------------------------------------------------------------------------------------------------------


def _processor(dev: Device) -> Processor:
    if dev.processor is None:
        raise ArgumentError("dev must be made by Device.start, or with a processor, to have interrupts and threads")
    return dev.processor


def _numbered(dev: Device, kind: type[ExecutionContext], role: str, what: str) -> ExecutionContext:
    number = dev.trace.new_context(role).number
    return kind(number, role, None, what)


async def _gate(dev: Device, mask: int, on: bool) -> None:
    enable = dev.regs.sys.irq_enable
    now = int(await enable.read())
    await enable.write(now | mask if on else now & ~mask)


async def _serve(interrupt: Interrupt) -> None:
    """Calls the handler while its level is high: what a processor looks at between two instructions."""
    cpu, in_a_row, what = _processor(interrupt.dev), 0, f"interrupt {interrupt.mask:#x}"
    while interrupt.connected and cpu.failure is None:
        looked = cpu.raw.now()
        try:
            await cpu.raw.wait_interrupt(interrupt.mask, _FOREVER, what)
        except BusTimeout:
            continue
        in_a_row = 0 if cpu.raw.now() > looked else in_a_row + 1
        if not interrupt.connected:
            return
        interrupt.calls += 1
        answer: Any = IRQ_WAKE_THREAD
        if interrupt.handler is not None:
            answer = await cpu.run(interrupt.hard, cpu.guarded(_handle(interrupt)))
        if answer == IRQ_WAKE_THREAD and interrupt.thread_fn is not None and cpu.failure is None:
            await _gate(interrupt.dev, interrupt.mask, False)
            await cpu.run(interrupt.thread, cpu.guarded(_call(interrupt.thread_fn, interrupt)))
            if interrupt.connected and cpu.failure is None:
                await _gate(interrupt.dev, interrupt.mask, True)
        if in_a_row >= STORM_CALLS and cpu.failure is None:
            await in_context(interrupt.hard, _storm(interrupt, cpu))
        await cpu.raw.delay(_EXIT_CYCLES)


async def _handle(interrupt: Interrupt) -> Any:
    with interrupt.dev.call("irq_handler", irq=interrupt.mask) as call:
        assert interrupt.handler is not None
        answer = await _call(interrupt.handler, interrupt)
        if isinstance(answer, bool) or answer not in (IRQ_NONE, IRQ_HANDLED, IRQ_WAKE_THREAD):
            raise ArgumentError(f"{interrupt.hard.what} must return IRQ_NONE, IRQ_HANDLED or IRQ_WAKE_THREAD, not {answer!r}")
        if answer == IRQ_WAKE_THREAD and interrupt.thread_fn is None:
            raise ArgumentError(f"{interrupt.hard.what} must not return IRQ_WAKE_THREAD without a thread_fn")
        call.result = answer
        return answer


async def _call(routine: Handler, interrupt: Interrupt) -> Any:
    answer = routine(interrupt, interrupt.dev_id)
    return await answer if inspect.isawaitable(answer) else answer


async def _storm(interrupt: Interrupt, cpu: Processor) -> None:
    cpu.fail(
        ContextError(
            f"interrupt storm: the handler of lines {interrupt.mask:#x} was called {STORM_CALLS} times in a row and the level "
            "never fell; a handler must clear its device's interrupt before it returns"
        )
    )
