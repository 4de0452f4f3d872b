# SPDX-License-Identifier: BSD-2-Clause
"""I/O requests: made, started one after the other, cancelled, completed."""

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import IrpError, check_flag, check_integer, check_type
from ..trace import Trace
from .device import DeviceObject
from .irp import NTSTATUS, Irp, MajorFunction
from .irql import DISPATCH_LEVEL
from .mdl import Mdl

__all__ = ["RequestRoutines"]

CancelRoutine = Callable[[Any, Irp], Any]


class RequestRoutines:
    """Part of :class:`~driver.wdk.kernel.Kernel`."""

    trace: Trace

    def number(self) -> int:
        """The next object number."""
        raise NotImplementedError

    def io_allocate_irp(
        self, major_function: MajorFunction, mdl: Mdl | None = None, byte_offset: int = 0, length: int | None = None
    ) -> Irp:
        """IoAllocateIrp, filled in: a request for ``length`` bytes (the whole chain if None) at ``byte_offset`` of the device."""
        check_type("major_function", major_function, MajorFunction, error=IrpError)
        check_integer("byte_offset", byte_offset, 0, (1 << 32) - 1, error=IrpError)
        total = 0 if mdl is None else check_type("mdl", mdl, Mdl, error=IrpError).total
        if length is not None:
            check_integer("length", length, 1, total or (1 << 32) - 1, error=IrpError)
        return Irp(self.number(), major_function, mdl, byte_offset, total if length is None else length)

    def io_complete_request(self, irp: Irp, priority_boost: int = 0) -> None:
        """IoCompleteRequest: from here on the caller owns the request and its buffer.

        What a flush owed before, or its result, is not looked at: that is the checker's to report.

        Raises
        ------
        IrpError
            If the request was completed before, its status is still STATUS_PENDING or no NTSTATUS, or its cancel routine is still
            set (a bug check on Windows, each of them).
        """
        check_type("irp", irp, Irp, error=IrpError)
        check_integer("priority_boost", priority_boost, 0, 127, error=IrpError)
        status, information = irp.io_status.status, irp.io_status.information
        check_integer("irp.io_status.status", status, 0, (1 << 32) - 1, error=IrpError)
        check_integer("irp.io_status.information", information, 0, (1 << 32) - 1, error=IrpError)
        mdl = None if irp.mdl_address is None else irp.mdl_address.log()
        with self.trace.call("IoCompleteRequest", irp=irp.id, status=int(status), information=information, mdl=mdl):
            if irp.completed:
                raise IrpError(f"irp must be completed once, not again: request {irp.id}")
            if int(status) == NTSTATUS.STATUS_PENDING:
                raise IrpError(f"irp.io_status.status must be final, not STATUS_PENDING: request {irp.id}")
            if irp.cancel_routine is not None:
                raise IrpError(
                    "irp.cancel_routine must be taken back (IoSetCancelRoutine with None) before IoCompleteRequest: "
                    f"request {irp.id}"
                )
            irp.completed = True

    # -- StartIo ---------------------------------------------------------------------------------------------------

    async def io_start_packet(
        self, device_object: DeviceObject, irp: Irp, key: None = None, cancel_routine: CancelRoutine | None = None
    ) -> None:
        """IoStartPacket: calls the device's StartIo with the request, or queues it while another is being served.

        StartIo (``device_object.start_io``, a function or coroutine) runs at DISPATCH_LEVEL. ``key`` is not used: the queue is
        in the order of arrival.

        Raises
        ------
        IrpError
            If the device object has no StartIo routine.
        """
        self._startable(device_object, irp)
        with self.trace.call("IoStartPacket", irp=irp.id):
            irp.device_object = device_object
            if cancel_routine is not None:
                self.io_set_cancel_routine(irp, cancel_routine)
            if device_object.busy:
                device_object.queue.append(irp)
                return
            await self._start_io(device_object, irp)

    async def io_start_next_packet(self, device_object: DeviceObject, cancelable: bool = False) -> None:
        """IoStartNextPacket: the next request of the queue goes to StartIo; without one the device is idle."""
        check_type("device_object", device_object, DeviceObject, error=IrpError)
        check_flag("cancelable", cancelable, error=IrpError)
        with self.trace.call("IoStartNextPacket"):
            device_object.busy, device_object.current_irp = False, None
            if device_object.queue:
                await self._start_io(device_object, device_object.queue.pop(0))

    async def _start_io(self, device_object: DeviceObject, irp: Irp) -> None:
        device_object.busy, device_object.current_irp = True, irp
        context = self.trace.context
        with context.acting(context.role, DISPATCH_LEVEL), self.trace.call("StartIo", irp=irp.id):
            assert device_object.start_io is not None
            result = device_object.start_io(device_object, irp)
            if inspect.isawaitable(result):
                await result

    @staticmethod
    def _startable(device_object: Any, irp: Any) -> None:
        check_type("device_object", device_object, DeviceObject, error=IrpError)
        check_type("irp", irp, Irp, error=IrpError)
        if not callable(device_object.start_io):
            raise IrpError(f"device_object.start_io must be the driver's StartIo routine, not {device_object.start_io!r}")

    # -- cancelling ------------------------------------------------------------------------------------------------

    def io_set_cancel_routine(self, irp: Irp, cancel_routine: CancelRoutine | None) -> CancelRoutine | None:
        """IoSetCancelRoutine: sets ``cancel_routine(device_object, irp)``, or takes it back with None; returns the one before."""
        check_type("irp", irp, Irp, error=IrpError)
        if cancel_routine is not None and not callable(cancel_routine):
            raise IrpError(f"cancel_routine must be callable or None, not {cancel_routine!r}")
        before, irp.cancel_routine = irp.cancel_routine, cancel_routine
        return before

    async def io_cancel_irp(self, irp: Irp) -> bool:
        """IoCancelIrp: marks the request, and calls its cancel routine if it has one; whether it had.

        The routine (a function or coroutine) runs at DISPATCH_LEVEL, holding the cancel spin lock, which it gives back with
        :meth:`io_release_cancel_spin_lock` (``irp.cancel_irql``).

        Raises
        ------
        IrpError
            If the routine returns without having given the lock back.
        """
        check_type("irp", irp, Irp, error=IrpError)
        with self.trace.call("IoCancelIrp", irp=irp.id) as call:
            irp.cancel = True
            routine, irp.cancel_routine = irp.cancel_routine, None
            call.result = routine is not None
            if routine is None:
                return False
            context = self.trace.context
            irp.cancel_irql, floor = context.level, context.floor
            with context.acting("cancel", DISPATCH_LEVEL):
                context.floor = floor  # giving the lock back lowers to the caller's level
                context.holds_cancel_lock = True
                result = routine(irp.device_object, irp)
                if inspect.isawaitable(result):
                    await result
                held, context.holds_cancel_lock = context.holds_cancel_lock, False
            if held:
                raise IrpError(
                    f"the cancel routine of request {irp.id} must give the cancel spin lock back "
                    "(IoReleaseCancelSpinLock(irp.cancel_irql)) before it returns"
                )
            return True

    def io_release_cancel_spin_lock(self, irql: int) -> None:
        """IoReleaseCancelSpinLock: back to ``irql``, which must be the request's ``cancel_irql``.

        Raises
        ------
        IrpError
            If the running routine does not hold the lock.
        """
        context = self.trace.context
        if not context.holds_cancel_lock:
            raise IrpError(
                f"IoReleaseCancelSpinLock must be called by a cancel routine that holds the lock, not by {context.what}"
            )
        check_integer("irql", irql, 0, context.level, error=IrpError)
        context.holds_cancel_lock = False
        context.irql = irql
