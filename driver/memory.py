# SPDX-License-Identifier: BSD-2-Clause
"""First-fit allocation in the memory window: buffers, common buffers, descriptors. What kind of memory a buffer is.

Virtual, physical and bus address are the same number on this machine. The pool only keeps books: it never touches memory.
"""

from dataclasses import dataclass

from .errors import PoolError, check_integer
from .trace import Trace

__all__ = ["KINDS", "PAGE_BYTES", "Allocation", "KindedMemory", "MemoryPool", "OutOfMemory"]

PAGE_BYTES = 4096

#: Kinds of memory that a driver can hold. All of them are alike to the hardware: that is why nobody notices.
KINDS = ("nonpaged", "paged", "stack", "static", "kmalloc", "vmalloc", "module")


class OutOfMemory(PoolError):
    """No gap is large enough, in an allocation that breaks no rule."""


@dataclass(frozen=True)
class Allocation:
    """One block: the bytes handed out, and the bytes set aside for it (which include its padding)."""

    address: int
    length: int
    first: int
    last: int
    what: str


class MemoryPool:
    """First fit over ``[base, base + size)``; lowest address first, so that runs repeat exactly.

    Parameters
    ----------
    base, size : the window, bytes.
    reserve : bytes at the window's start that are never handed out (a scenario's own fixed layout).

    Raises
    ------
    PoolError
        If the window or the reserve breaks a rule.
    """

    def __init__(self, base: int, size: int, *, reserve: int = 0):
        check_integer("base", base, 0, (1 << 32) - 1, error=PoolError)
        check_integer("size", size, 1, (1 << 32) - base, error=PoolError)
        check_integer("reserve", reserve, 0, size, error=PoolError)
        self._first, self._end = base + reserve, base + size
        self._blocks: list[Allocation] = []  # by ascending address
        self._freed: set[int] = set()

    def allocate(
        self,
        length: int,
        *,
        alignment: int = 64,
        offset: int = 0,
        exclusive: bool = False,
        what: str = "buffer",
        above: int | None = None,
        below: int | None = None,
    ) -> int:
        """The address of ``length`` free bytes.

        Parameters
        ----------
        alignment : power of two; the address minus ``offset`` is a multiple of it.
        offset : bytes past an aligned address, for experiments with buffers that begin inside a line or a page.
        exclusive : also set aside the rest of the first and last aligned unit, so that nobody shares a line or page.
        what : name of the block in error texts.
        above, below : the block lies in ``[above, below)``; None is the window's end. For devices that do not reach everything.

        Raises
        ------
        PoolError
            If an argument breaks its rule; :class:`OutOfMemory` if no gap is large enough.
        """
        check_integer("length", length, 1, self._end - self._first, error=PoolError)
        check_integer("alignment", alignment, 1, 1 << 20, error=PoolError)
        if alignment & (alignment - 1):
            raise PoolError(f"alignment must be a power of two, not {alignment}")
        check_integer("offset", offset, 0, max(alignment - 1, 0), error=PoolError)
        floor = self._first if above is None else max(self._first, above)
        end = self._end if below is None else min(self._end, below)
        for block in [*self._blocks, None]:
            ceiling = end if block is None else min(block.first, end)
            start = -(-floor // alignment) * alignment
            address = start + offset
            if not exclusive and offset and address - alignment >= floor:
                address -= alignment
            first = start if exclusive else address
            last = address + length
            if exclusive:
                last = -(-last // alignment) * alignment
            if last <= ceiling:
                self._blocks.append(Allocation(address, length, first, last, what))
                self._blocks.sort(key=lambda item: item.first)
                self._freed.discard(address)
                return address
            if block is not None:
                floor = max(floor, block.last)
        raise OutOfMemory(
            f"length must fit a free gap of the memory window [{self._first:#010x}, {self._end:#010x}) "
            f"({self.free_bytes} bytes free in all), not {length} (for the {what}{_bounds(above, below)})"
        )

    def free(self, address: int) -> None:
        """Gives a block back; raises :class:`PoolError` for an address that is not allocated, or was freed already."""
        for block in self._blocks:
            if block.address == address:
                self._blocks.remove(block)
                self._freed.add(address)
                return
        if address in self._freed:
            raise PoolError(f"address must be allocated to be freed, not {address:#010x}: it was freed before")
        raise PoolError(f"address must be one that allocate returned, not {address!r}")

    def find(self, address: int) -> Allocation | None:
        """The block that begins at ``address``, or None."""
        return next((block for block in self._blocks if block.address == address), None)

    @property
    def blocks(self) -> tuple[Allocation, ...]:
        """What is allocated now, by ascending address."""
        return tuple(self._blocks)

    @property
    def free_bytes(self) -> int:
        return self._end - self._first - sum(block.last - block.first for block in self._blocks)


def _bounds(above: int | None, below: int | None) -> str:
    low = "" if above is None else f", above {above:#010x}"
    return low if below is None else f"{low}, below {below:#010x}"


class KindedMemory:
    """Memory as a driver takes it: each block has a kind, and the call log knows of it.

    Parameters
    ----------
    pool : where the bytes come from.
    trace : gets ``AllocateMemory`` and ``FreeMemory``.
    """

    def __init__(self, pool: MemoryPool, trace: Trace):
        self._pool, self._trace = pool, trace
        self._kinds: dict[int, tuple[int, str]] = {}  # address -> length, kind

    def allocate(
        self,
        length: int,
        kind: str,
        *,
        alignment: int = 64,
        offset: int = 0,
        exclusive: bool = False,
        what: str = "buffer",
    ) -> int:
        """A block of one of the :data:`KINDS`; where it lies is as in :meth:`MemoryPool.allocate`.

        Raises
        ------
        PoolError
            If the kind does not exist, an argument breaks its rule, or no gap is large enough.
        """
        if kind not in KINDS:
            raise PoolError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        with self._trace.call("AllocateMemory", length=length, kind=kind, what=what) as call:
            address = self._pool.allocate(length, alignment=alignment, offset=offset, exclusive=exclusive, what=what)
            self._kinds[address] = length, kind
            call.result = {"address": address, "length": length}
            return address

    def free(self, address: int) -> None:
        """Gives a block back; raises :class:`PoolError` for an address that is not allocated, or was freed already."""
        with self._trace.call("FreeMemory", address=address):
            self._pool.free(address)
            self._kinds.pop(address, None)

    def kind_of(self, address: int, length: int = 1) -> str | None:
        """The kind of the first block that holds a byte of the range; None for memory that somebody else owns."""
        for start, (size, kind) in sorted(self._kinds.items()):
            if start < address + length and address < start + size:
                return kind
        return None
