# SPDX-License-Identifier: BSD-2-Clause
"""The end of a system DMA transfer, told to a version 3 driver: who waits for the channel, and calls the completion routine."""

from typing import Any

from ..bus import BusTimeout
from ..execution import ExecutionContext, in_context
from ..registers import IRQ
from .adapter_base import settled
from .irql import DIRQL, DISPATCH_LEVEL
from .transfer_context import DmaCompletionStatus, MappedTransfer

__all__ = ["CompletionWatch"]

_POLL_CYCLES = 512  # a transfer that ends short raises no interrupt
_LIMIT = 10_000_000  # cycles; a transfer that takes longer completes without a word, as on hardware that lost the interrupt


class CompletionWatch:
    """The interrupt of one adapter's system channel, as far as completion routines need it."""

    def __init__(self, adapter: Any):
        self._adapter = adapter

    def start(self, transfer: MappedTransfer) -> None:
        """Begins to watch a transfer that was handed off; nothing without a completion routine."""
        if transfer.routine is None:
            return
        context = ExecutionContext(-1, "dma-watch", DIRQL, "the DMA controller's interrupt")
        self._adapter.kernel.bus.spawn(in_context(context, self._watch(transfer)), context.what, service=True)

    def tell(self, transfer: MappedTransfer, status: DmaCompletionStatus) -> None:
        """Has the completion routine called, soon, in a context of its own at DISPATCH_LEVEL."""
        transfer.ended = True
        if transfer.routine is None:
            return
        kernel = self._adapter.kernel
        context = kernel.trace.new_context("completion", DISPATCH_LEVEL, f"completion routine of adapter {self._adapter.id}")
        kernel.processor.deliver(self._routine(transfer, status), context)

    async def _watch(self, transfer: MappedTransfer) -> None:
        bus, hal, channel = self._adapter.kernel.bus, self._adapter.kernel.hal, self._adapter.channel
        mask, deadline = 1 << (IRQ.SYSTEM_CHANNEL + channel), bus.now() + _LIMIT
        while not transfer.ended and bus.now() < deadline:
            try:
                await bus.wait_interrupt(mask, _POLL_CYCLES, f"system channel {channel}")
            except BusTimeout:
                pass
            if transfer.ended:
                return
            status = await hal.regs.channel(channel).status.read()
            if not transfer.ended and (status.error or status.tc or status.stopped):
                cancelled = not status.tc and transfer.context is not None and transfer.context.cancelled
                how = DmaCompletionStatus.DMA_CANCELLED if cancelled else DmaCompletionStatus.DMA_COMPLETE
                self.tell(transfer, DmaCompletionStatus.DMA_ERROR if status.error else how)

    async def _routine(self, transfer: MappedTransfer, status: DmaCompletionStatus) -> None:
        adapter, context = self._adapter, transfer.context
        with adapter.kernel.trace.call(
            "DmaCompletion", adapter=adapter.log(), context=None if context is None else context.id, status=int(status)
        ):
            assert transfer.routine is not None
            await settled(transfer.routine(adapter, transfer.device_object, transfer.completion_context, status))
