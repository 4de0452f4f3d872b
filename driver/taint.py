# SPDX-License-Identifier: BSD-2-Clause
"""Values that came from memory which a device may have written, until the driver has looked at them.

A length or pointer that a device wrote may be anything. A :class:`DeviceValue` is an ordinary integer that remembers the bytes
it was loaded from; what is computed from it remembers them too. Any comparison, ``min`` and ``max`` included, in the driver's
own code counts as looking, for everything that comes from the same load. A truth test or a mask does not.
``int(value)`` and slices of bytes forget.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from .site import is_library

__all__ = ["DeviceValue", "Origin", "unchecked_uses"]

_DEPTH = 6  # of nested lists and dicts in a call's arguments


class Origin:
    """One load: ``source`` is ``(address, length)``; ``checked`` once a value from it was compared, ``reported`` once its use
    was logged."""

    def __init__(self, address: int, length: int):
        self.source = int(address), int(length)
        self.checked = self.reported = False


class DeviceValue(int):
    """An integer loaded from memory. ``origins`` are the loads it was computed from."""

    origins: tuple[Origin, ...]

    def __new__(cls, value: int, origins: Iterable[Origin]) -> "DeviceValue":
        made = super().__new__(cls, value)
        made.origins = tuple(origins)
        return made

    @classmethod
    def loaded(cls, value: int, address: int, length: int) -> "DeviceValue":
        """The value of ``length`` bytes at ``address``."""
        return cls(value, [Origin(address, length)])

    @property
    def checked(self) -> bool:
        """Whether the driver has compared every load behind it."""
        return all(origin.checked for origin in self.origins)

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self


def _arithmetic(name: str) -> Any:
    operation = getattr(int, name)

    def method(self: DeviceValue, *others: Any) -> Any:
        result = operation(self, *others)
        if not isinstance(result, int):  # NotImplemented, or a float
            return result
        origins = list(self.origins)
        for other in others:
            origins += [origin for origin in getattr(other, "origins", ()) if origin not in origins]
        return DeviceValue(result, origins)

    method.__name__ = name
    return method


def _comparison(name: str) -> Any:
    operation = getattr(int, name)

    def method(self: DeviceValue, other: Any) -> Any:
        # The libraries check their arguments too; that protects this model, not the driver on its real machine.
        if not is_library(sys._getframe(1).f_code.co_filename):
            for origin in (*self.origins, *getattr(other, "origins", ())):
                origin.checked = True
        return operation(self, other)

    method.__name__ = name
    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "lshift", "rshift", "and", "or", "xor"):
    for _form in (f"__{_name}__", f"__r{_name}__"):
        setattr(DeviceValue, _form, _arithmetic(_form))
for _form in ("__neg__", "__pos__", "__abs__", "__invert__"):
    setattr(DeviceValue, _form, _arithmetic(_form))
for _form in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    setattr(DeviceValue, _form, _comparison(_form))


def unchecked_uses(arguments: dict[str, Any]) -> Iterator[tuple[str, int, list[int]]]:
    """``(argument, value, [address, length])`` of each load whose value is used in ``arguments`` and was never compared; each
    load is given once."""
    for argument, given in arguments.items():
        for value in _values(given, _DEPTH):
            for origin in value.origins:
                if not (origin.checked or origin.reported):
                    origin.reported = True
                    yield argument, int(value), list(origin.source)


def _values(given: Any, depth: int) -> Iterator[DeviceValue]:
    if isinstance(given, DeviceValue):
        yield given
    elif depth and isinstance(given, (list, tuple)):
        for item in given:
            yield from _values(item, depth - 1)
    elif depth and isinstance(given, dict):
        for item in given.values():
            yield from _values(item, depth - 1)
