# SPDX-License-Identifier: BSD-2-Clause
"""Common buffers: memory that driver and device share for long."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..bus import Attribute, Bus
from ..errors import AdapterError, check_integer

__all__ = ["CommonBuffer"]


@dataclass(eq=False)
class CommonBuffer:
    """What AllocateCommonBuffer returns; unpacks as ``virtual_address, logical_address``.

    :meth:`read` and :meth:`write` access it with the attribute it was allocated with. Another attribute on the same bytes
    (a cached pointer to an uncached buffer) is the mismatched alias that real CPUs leave undefined.
    """

    id: int
    bus: Bus
    virtual_address: int
    logical_address: int
    length: int
    cache_enabled: bool
    freed: bool = False

    def __iter__(self) -> Iterator[int]:
        return iter((self.virtual_address, self.logical_address))

    @property
    def attribute(self) -> Attribute:
        """How the CPU accesses it."""
        return Attribute.CACHED if self.cache_enabled else Attribute.UNCACHED

    async def read(self, offset: int, length: int) -> bytes:
        """Loads ``length`` bytes at ``offset``; raises :class:`AdapterError` outside the buffer or after it was freed."""
        self._check(offset, length)
        return await self.bus.read(self.virtual_address + offset, length, self.attribute)

    async def write(self, offset: int, data: bytes) -> None:
        """Stores ``data`` at ``offset``; raises like :meth:`read`."""
        self._check(offset, len(data))
        await self.bus.write(self.virtual_address + offset, data, self.attribute)

    def _check(self, offset: Any, length: Any) -> None:
        if self.freed:
            raise AdapterError(f"common buffer {self.id} must be allocated, not freed")
        check_integer("offset", offset, 0, self.length - 1, error=AdapterError)
        check_integer("length", length, 1, self.length - offset, error=AdapterError)
