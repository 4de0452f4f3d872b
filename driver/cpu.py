# SPDX-License-Identifier: BSD-2-Clause
"""The CPU's own accesses, as driver code makes them: ``kernel.cpu``, ``dev.cpu``, ``machine.cpu``.

Loads and stores are one access each, in the order of the calls. Words are little-endian. A word that is loaded is a
:class:`~driver.taint.DeviceValue`: it remembers where it came from until the driver compares it. An address or a length
that was never compared is logged as ``UncheckedUse`` when it is used here.
"""

from typing import Any

from .bus import Attribute, Bus
from .errors import check_integer
from .taint import DeviceValue
from .trace import Trace

__all__ = ["Cpu"]

_ADDRESSES = (1 << 32) - 1


class Cpu:
    """The CPU.

    Parameters
    ----------
    bus : where its accesses go.
    trace : the call log. (Accesses themselves are not in it: the probe sees them.)
    """

    def __init__(self, bus: Bus, trace: Trace):
        self._bus, self._trace = bus, trace

    async def load(self, address: int, length: int) -> bytes:
        """``length`` bytes through the D-cache. Raises :class:`ArgumentError` or :class:`BusError`, like all of these."""
        self._check("load", address, length)
        return await self._bus.read(address, length, Attribute.CACHED)

    async def store(self, address: int, data: bytes) -> None:
        """Stores ``data`` into the D-cache."""
        self._check("store", address, len(data))
        await self._bus.write(address, data, Attribute.CACHED)

    async def load_uncached(self, address: int, length: int) -> bytes:
        """``length`` bytes from memory, whatever the cache holds."""
        self._check("load_uncached", address, length)
        return await self._bus.read(address, length, Attribute.UNCACHED)

    async def store_uncached(self, address: int, data: bytes) -> None:
        """Stores ``data`` to memory past the cache; returns when memory has answered."""
        self._check("store_uncached", address, len(data))
        await self._bus.write(address, data, Attribute.UNCACHED)

    async def fetch(self, address: int, length: int) -> bytes:
        """``length`` bytes of instructions through the I-cache."""
        self._check("fetch", address, length)
        return await self._bus.fetch(address, length)

    async def load_u8(self, address: int, *, uncached: bool = False) -> DeviceValue:
        """One byte."""
        return await self._load_word(address, 1, uncached)

    async def load_u16(self, address: int, *, uncached: bool = False) -> DeviceValue:
        """Two bytes."""
        return await self._load_word(address, 2, uncached)

    async def load_u32(self, address: int, *, uncached: bool = False) -> DeviceValue:
        """Four bytes."""
        return await self._load_word(address, 4, uncached)

    async def load_u64(self, address: int, *, uncached: bool = False) -> DeviceValue:
        """Eight bytes."""
        return await self._load_word(address, 8, uncached)

    async def store_u8(self, address: int, value: int, *, uncached: bool = False) -> None:
        """Stores one byte."""
        await self._store_word(address, value, 1, uncached)

    async def store_u16(self, address: int, value: int, *, uncached: bool = False) -> None:
        """Stores two bytes."""
        await self._store_word(address, value, 2, uncached)

    async def store_u32(self, address: int, value: int, *, uncached: bool = False) -> None:
        """Stores four bytes."""
        await self._store_word(address, value, 4, uncached)

    async def store_u64(self, address: int, value: int, *, uncached: bool = False) -> None:
        """Stores eight bytes."""
        await self._store_word(address, value, 8, uncached)

    async def _load_word(self, address: int, length: int, uncached: bool) -> DeviceValue:
        data = await (self.load_uncached if uncached else self.load)(address, length)
        return DeviceValue.loaded(int.from_bytes(data, "little"), address, length)

    async def _store_word(self, address: int, value: int, length: int, uncached: bool) -> None:
        check_integer("value", value, 0, (1 << 8 * length) - 1)
        await (self.store_uncached if uncached else self.store)(address, value.to_bytes(length, "little"))

    def _check(self, name: str, address: Any, length: Any) -> None:
        check_integer("address", address, 0, _ADDRESSES)
        check_integer("length", length, 1, _ADDRESSES + 1 - address)
        self._trace.note_use(name, address=address, length=length)
