# SPDX-License-Identifier: BSD-2-Clause
"""Every exception the driver package raises on purpose, and the checks that raise them.

::

    FlushpointError                         driver.bus
     +-- BusError                           the bus answered SLVERR or DECERR
     +-- BusTimeout                         a wait ran into its limit
     +-- RegisterError (ValueError)         an access that the register table forbids (driver.registers)
     +-- ArgumentError (ValueError)         an argument of the wrong type, or out of its range
     |    +-- PlatformError                 a platform description that contradicts itself
     |    +-- MdlError                      a buffer description outside memory, empty, freed, or not built
     |    +-- AdapterError                  a DMA adapter, channel, list or common buffer used against its rules
     |    +-- IrpError                      a request completed twice, or without a final status
     |    +-- PoolError                     memory that is not free, not allocated, or freed twice
     +-- NullError                          a NULL result used without having been tested
     +-- IrqlError                          a wait, or a change of IRQL, that would stop a real machine
     +-- ContextError                       an execution context that stopped the machine: a storm, a deadlock
     +-- MaintenanceError                   the maintenance unit reported an error, or stopped before the end
     +-- DeviceError                        the device or the DMA engine reported an error for a transfer

Texts read "<Thing> must be <rule>, not <value>". A broken argument is reported before the hardware is touched. What the
hardware does to a transfer is not an exception for the caller of a driver: it ends in the request's I/O status block.
"""

from typing import Any

from .bus import BusError, BusTimeout, FlushpointError

__all__ = [
    "AdapterError",
    "ArgumentError",
    "BusError",
    "BusTimeout",
    "ContextError",
    "DeviceError",
    "FlushpointError",
    "IrpError",
    "IrqlError",
    "MaintenanceError",
    "MdlError",
    "NullError",
    "PlatformError",
    "PoolError",
    "check_flag",
    "check_integer",
    "check_type",
]


class ArgumentError(FlushpointError, ValueError):
    """An argument breaks a rule; the text names the argument, the rule and the value."""


class PlatformError(ArgumentError):
    """A platform description contradicts itself or the rules."""


class MdlError(ArgumentError):
    """A memory descriptor list is empty, outside memory, freed, or not built yet."""


class AdapterError(ArgumentError):
    """A DMA adapter or one of its resources is used against its rules."""


class IrpError(ArgumentError):
    """A request is completed twice, or without a final status."""


class PoolError(ArgumentError):
    """Memory is exhausted, not allocated, or freed twice."""


class NullError(FlushpointError):
    """A NULL result is used as if it were something. The text names the call that returned it."""


class IrqlError(FlushpointError):
    """A wait at an IRQL where waiting stops a real machine for ever, or IRQLs raised and lowered out of order. The text names
    call, level and rule."""


class ContextError(FlushpointError):
    """An execution context stopped the machine: an interrupt storm, a deadlock between interrupt levels."""


class MaintenanceError(FlushpointError):
    """A cache maintenance command failed. ``address`` is the line the hardware latched, or None."""

    def __init__(self, text: str, address: int | None = None):
        self.address = address
        super().__init__(text)


class DeviceError(FlushpointError):
    """The device or the DMA engine reported an error for a transfer."""


def show(value: Any) -> str:
    """A value as an error text shows it: integers in hexadecimal when they look like addresses."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 4096:
        return hex(value)
    return repr(value)


def check_integer(
    name: str, value: Any, low: int, high: int, *, error: type[ArgumentError] = ArgumentError, multiple_of: int = 1
) -> int:
    """Returns ``value`` if it is an integer in ``[low, high]`` and a multiple of ``multiple_of``, else raises ``error``."""
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high and value % multiple_of == 0
    if not good:
        rule = "an integer" if multiple_of == 1 else f"a multiple of {multiple_of}"
        raise error(f"{name} must be {rule} from {show(low)} to {show(high)}, not {show(value)}")
    return value


def check_flag(name: str, value: Any, *, error: type[ArgumentError] = ArgumentError) -> bool:
    """Returns ``value`` if it is a bool, else raises ``error``. Truthy values are refused: they hide swapped arguments."""
    if not isinstance(value, bool):
        raise error(f"{name} must be True or False, not {value!r}")
    return value


def check_type(name: str, value: Any, kind: type | tuple[type, ...], *, error: type[ArgumentError] = ArgumentError) -> Any:
    """Returns ``value`` if it is an instance of ``kind``, else raises ``error``."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise error(f"{name} must be {'an' if names[0] in 'AEIOU' else 'a'} {names}, not {value!r}")
    return value
