# SPDX-License-Identifier: BSD-2-Clause
"""What all routines of a DMA adapter stand on: the adapter's log, arguments, map registers and the queue of its channel.

Misuse that a rule of the checker covers is not refused here: it is logged, and does what it would do in a kernel that
does not look. Refused (:class:`AdapterError`) are values of the wrong type and what this machine has no answer to.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..bus import Bus
from ..checked import CheckedInt, CheckedStatus, NullChecked
from ..cpu import Cpu
from ..errors import AdapterError, MdlError, check_flag, check_integer, check_type
from ..hal import Hal
from ..memory import PAGE_BYTES
from ..processor import Processor
from ..trace import Call, Trace
from .device import DeviceDescription, DeviceObject
from .irp import NTSTATUS
from .map_registers import Mapper, MapRegisters
from .mdl import Mdl

__all__ = ["AdapterBase", "AdapterKernel", "Request", "RoutineError", "check_int", "settled"]

_MAX = (1 << 32) - 1


def check_int(name: str, value: Any) -> int:
    """``value`` if it is an integer of any size, else raises :class:`AdapterError`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise AdapterError(f"{name} must be an integer, not {value!r}")
    return value


class RoutineError(AdapterError, AttributeError):
    """The adapter's version does not have this routine."""


class AdapterKernel(Protocol):
    """The part of a kernel that adapters use."""

    hal: Hal
    trace: Trace
    bus: Bus
    cpu: Cpu
    processor: Processor  # delivers completion routines
    channel_owners: dict[int, Any]  # system channel, or minus the id of a bus master's adapter -> adapter that holds it
    channel_queue: dict[int, list[Any]]

    def number(self) -> int:
        """The next object number."""
        ...


@dataclass(eq=False)
class Request:
    """A routine that waits for a channel. ``context`` is the version 3 context it can be cancelled by."""

    adapter: Any
    run: Callable[[], Awaitable[None]]
    context: Any = None
    withdraw: Callable[[], None] | None = None


async def settled(value: Any) -> Any:
    """The value, awaited if it is awaitable: callbacks may be functions or coroutines."""
    return await value if inspect.isawaitable(value) else value


class AdapterBase(NullChecked):
    """See :class:`~driver.wdk.dma_adapter.DmaAdapter`."""

    def __init__(self, kernel: AdapterKernel, device_object: DeviceObject, description: DeviceDescription):
        self.id = kernel.number()
        self.kernel, self.device_object, self.description = kernel, device_object, description
        self.version, self.master = description.version, description.master
        self.channel: int | None = None if description.master else description.dma_channel
        self.map_registers = -(-description.maximum_length // PAGE_BYTES) + 1
        self.reach = description.address_bits
        self._hal, self._trace = kernel.hal, kernel.trace
        self._cpu = kernel.cpu
        self._mapper = Mapper(self._hal, self._trace, reach=self.reach, contiguous=self.master and not description.scatter_gather)
        self._key = -self.id if self.channel is None else self.channel
        self._registers: list[MapRegisters] = []
        self._current: MapRegisters | None = None  # of the channel allocated now
        self._programmed = False

    def log(self) -> dict[str, Any]:
        """As the call log shows it."""
        return {"id": self.id, "version": self.version, "master": self.master, "channel": self.channel}

    def __repr__(self) -> str:
        return f"<DmaAdapter {self.id}: version {self.version}, {'bus master' if self.master else f'channel {self.channel}'}>"

    # -- arguments -------------------------------------------------------------------------------------------------

    def _call(self, name: str, **args: Any) -> Call:
        return self._trace.call(name, adapter=self.log(), **args)

    @staticmethod
    def _check_mdl(mdl: Any, write_to_device: Any = False, **integers: Any) -> None:
        """Types only: values are judged, if at all, after the call was logged with them."""
        check_type("mdl", mdl, Mdl, error=MdlError)
        for part in mdl.chain():
            if part.freed:
                raise MdlError(f"mdl must be allocated, not freed: MDL {part.id} went to IoFreeMdl")
        check_flag("write_to_device", write_to_device, error=AdapterError)
        for name, value in integers.items():
            check_int(name, value)

    @staticmethod
    def _size(name: str, value: int, low: int = 0) -> int:
        """``value`` as a plain integer (what it remembers of its origin stays with the driver's copy), from ``low`` on."""
        return check_integer(name, int(value), low, _MAX, error=AdapterError)

    @staticmethod
    def _registers_id(registers: Any) -> int | None:
        check_type("map_register_base", registers, (MapRegisters, type(None)), error=AdapterError)
        return None if registers is None else registers.id

    @staticmethod
    def _check_routine(routine: Any, *, optional: bool = False) -> None:
        if not callable(routine) and not (optional and routine is None):
            raise AdapterError(f"execution_routine must be callable{' or None' if optional else ''}, not {routine!r}")

    def _from_version(self, version: int, name: str) -> None:
        if self.version < version:
            raise RoutineError(
                f"{name} must be called on an adapter of version {version} or later, not {self.version}: "
                "DMA_OPERATIONS has no such routine there"
            )

    # -- results ---------------------------------------------------------------------------------------------------

    def _checked_status(self, call: Call, status: NTSTATUS) -> CheckedStatus:
        """A status, which the driver has to look at."""
        return CheckedStatus(status, self._trace, call.number)

    def _checked_length(self, call: Call, length: int) -> CheckedInt:
        """A length that may be shorter than the one asked for."""
        return CheckedInt(length, self._trace, call.number)

    # -- channel and map registers ---------------------------------------------------------------------------------

    def _new_registers(self, count: int, context: Any = None) -> MapRegisters:
        registers = MapRegisters(self.kernel.number(), self, count, context)
        self._registers.append(registers)
        return registers

    def _drop_registers(self, registers: MapRegisters) -> None:
        """Frees map registers, once; what is still in their bounce pages is lost."""
        if not registers.freed:
            registers.freed = True
            registers.adapter._registers.remove(registers)
            registers.adapter._mapper.release(registers)

    @property
    def _busy(self) -> bool:
        """Whether somebody holds the channel (or this bus master's adapter object)."""
        return self._key in self.kernel.channel_owners

    def _take(self, registers: MapRegisters) -> None:
        self._current = registers
        self.kernel.channel_owners[self._key] = self

    async def _when_free(self, request: Request) -> None:
        """Runs the request now, or when the channel has been given back."""
        if self._busy:
            self.kernel.channel_queue.setdefault(self._key, []).append(request)
        else:
            await request.run()

    async def _release_channel(self, *, keep_registers: bool) -> None:
        """Gives the channel back (a system channel is masked) and runs who waits for it."""
        registers, self._current, self._programmed = self._current, None, False
        if registers is not None and not keep_registers:
            self._drop_registers(registers)
        if self.channel is not None:
            await self._hal.mask_channel(self.channel)
        self.kernel.channel_owners.pop(self._key, None)
        waiting = self.kernel.channel_queue.get(self._key)
        if waiting:
            await waiting.pop(0).run()
