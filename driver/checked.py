# SPDX-License-Identifier: BSD-2-Clause
"""Results that a driver must look at, and the record that it did.

An interface returns a mapped length, a status or a pointer that may be NULL as one of these values. They are what they seem to
be, and log ``ResultChecked`` the first time that the driver's own code looks at them:

========================  ==========================================================================================
:class:`CheckedInt`       a comparison, a truth test, arithmetic; a length also by starting the transfer with it
:class:`CheckedStatus`    a comparison, ``nt_success``
:class:`NullChecked`      ``if adapter:``, ``if not adapter:``, ``adapter == None`` (Python gives ``is None`` no way to be seen)
:class:`Null`             the same; anything else done to a NULL raises :class:`~driver.errors.NullError`
========================  ==========================================================================================

What the libraries compare is not counted: it is the driver that has to look.
"""

import sys
from collections.abc import Iterator
from typing import Any, Protocol

from .errors import NullError
from .site import is_library

__all__ = ["Check", "CheckedInt", "CheckedStatus", "Null", "NullChecked", "look", "note_start"]


class Log(Protocol):
    """What is needed of a :class:`driver.trace.Trace`."""

    def event(self, name: str, **args: Any) -> None: ...


class Check:
    """One part of one call's result: ``what`` is ``"length"``, ``"null"`` or ``"status"``, ``call`` the call's number."""

    def __init__(self, log: Log, call: int, what: str):
        self._log, self.call, self.what, self.done = log, call, what, False

    def note(self) -> None:
        """The driver looked. Logged once."""
        if not self.done:
            self.done = True
            self._log.event("ResultChecked", call=self.call, what=self.what)

    def seen_from(self, depth: int) -> None:
        """:meth:`note`, if the frame ``depth`` above the caller is not a library's."""
        if not self.done and not is_library(sys._getframe(depth + 1).f_code.co_filename):
            self.note()


class CheckedInt(int):
    """An integer result: a length, or an address that may be NULL (``what="null"``)."""

    check: Check

    def __new__(cls, value: int, log: Log, call: int, what: str = "length") -> "CheckedInt":
        made = super().__new__(cls, value)
        made.check = Check(log, call, what)
        return made

    def part(self, value: int) -> "CheckedInt":
        """Another number of the same result (the length of one of its elements): who looks at it has looked at this one."""
        made = int.__new__(type(self), value)
        made.check = self.check
        return made

    def __hash__(self) -> int:
        return int.__hash__(self)


class CheckedStatus(int):
    """A status: an NTSTATUS, or a negative errno. ``name`` is the status's name, where it has one."""

    check: Check
    name: str

    def __new__(cls, value: int, log: Log, call: int) -> "CheckedStatus":
        made = super().__new__(cls, value)
        made.check = Check(log, call, "status")
        made.name = getattr(value, "name", str(int(value)))
        return made

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __repr__(self) -> str:
        return f"<{self.name}: {int(self):#x}>"


def _noting(operation: Any, name: str) -> Any:
    def method(self: Any, *others: Any) -> Any:
        self.check.seen_from(1)
        return operation(self, *others)

    method.__name__ = name
    return method


_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_ARITHMETIC = ("add", "sub", "mul", "floordiv", "mod", "divmod", "lshift", "rshift", "and", "or", "xor")
for _name in (*_COMPARISONS, "bool"):
    for _kind in (CheckedInt, CheckedStatus):
        setattr(_kind, f"__{_name}__", _noting(getattr(int, f"__{_name}__"), f"__{_name}__"))
for _name in _ARITHMETIC:
    for _form in (f"__{_name}__", f"__r{_name}__"):
        setattr(CheckedInt, _form, _noting(getattr(int, _form), _form))


class NullChecked:
    """Base of objects that the interface returns where it could have returned NULL. :meth:`must_be_checked` arms it."""

    _null: Check | None = None

    def must_be_checked(self, log: Log, call: int) -> None:
        """From here on the first test for NULL is logged, for the call with that number."""
        self._null = Check(log, call, "null")

    def __bool__(self) -> bool:
        if self._null is not None:
            self._null.seen_from(1)
        return True

    def __eq__(self, other: object) -> bool:
        if other is None and self._null is not None:
            self._null.seen_from(1)
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)


class Null:
    """NULL where a call returns a pointer: false, equal to None and to 0, and nothing else works with it.

    Unpacks as an address and its logical address, both NULL. ``what`` names the call in the error's text.
    """

    def __init__(self, log: Log, call: int, what: str):
        self._check, self._what = Check(log, call, "null"), what

    def __bool__(self) -> bool:
        self._check.seen_from(1)
        return False

    def __eq__(self, other: object) -> bool:
        self._check.seen_from(1)
        return other is None or isinstance(other, Null) or (isinstance(other, int) and int(other) == 0)

    def __hash__(self) -> int:
        return hash(None)

    def __iter__(self) -> Iterator["Null"]:
        return iter((self, self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NullError(f"the result of {self._what} must be tested for NULL before .{name} is used: it is NULL")

    def __index__(self) -> int:
        raise NullError(f"the result of {self._what} must be tested for NULL before it is used as an address: it is NULL")

    def __repr__(self) -> str:
        return f"<NULL from {self._what}>"


def look(value: Any) -> Any:
    """``value``, after noting that the driver looks at it: for library functions that look on the driver's behalf."""
    check = getattr(value, "check", None)
    if isinstance(check, Check):
        check.note()
    return value


def note_start(arguments: dict[str, Any]) -> None:
    """A length among the ``ranges`` that a transfer is started with counts as looked at."""
    for pair in arguments.get("ranges") or ():
        for value in pair:
            look(value)
