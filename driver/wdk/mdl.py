# SPDX-License-Identifier: BSD-2-Clause
"""Memory descriptor lists.

An MDL describes one virtually contiguous buffer; a request whose buffer is in pieces has a chain of them (``mdl.next``).
Virtual, physical and bus address are one number on this machine, so a built MDL is one physically contiguous range.
"""

from collections.abc import Iterator
from typing import Any

from ..errors import MdlError, check_integer, check_type
from ..memory import PAGE_BYTES

__all__ = ["Mdl", "check_mdl"]


class Mdl:
    """One buffer. Made by :meth:`Kernel.io_allocate_mdl`; it describes memory once
    :meth:`Kernel.mm_build_mdl_for_non_paged_pool` or :meth:`Kernel.mm_probe_and_lock_pages` has filled it in.

    Members: ``start_va`` (page of the first byte), ``byte_offset`` (offset into that page), ``byte_count`` (length in bytes),
    ``next`` (the chain's next MDL or None), ``locked`` (its pages stay where they are).
    """

    def __init__(self, number: int, virtual_address: int, length: int):
        self.id = number
        self.start_va = virtual_address - virtual_address % PAGE_BYTES
        self.byte_offset = virtual_address % PAGE_BYTES
        self.byte_count = length
        self.next: Mdl | None = None
        self.locked = False
        self.freed = False

    @property
    def virtual_address(self) -> int:
        """Address of the first byte."""
        return self.start_va + self.byte_offset

    def chain(self) -> Iterator["Mdl"]:
        """This MDL and those after it."""
        seen: set[int] = set()
        mdl: Mdl | None = self
        while mdl is not None:
            if id(mdl) in seen:
                raise MdlError(f"mdl.next must end the chain, not lead back to MDL {mdl.id}")
            seen.add(id(mdl))
            yield mdl
            mdl = mdl.next

    @property
    def total(self) -> int:
        """Bytes of the whole chain."""
        return sum(mdl.byte_count for mdl in self.chain())

    def ranges(self, offset: int = 0, length: int | None = None) -> list[tuple[int, int]]:
        """``(address, length)`` of each physically contiguous piece of ``[offset, offset + length)`` of the chain.

        Raises
        ------
        MdlError
            If that leaves the chain.
        """
        total = self.total
        length = total - offset if length is None else length
        check_integer("offset", offset, 0, total, error=MdlError)
        check_integer("length", length, 0, total - offset, error=MdlError)
        pieces, position = [], 0
        for mdl in self.chain():
            low, high = max(offset, position), min(offset + length, position + mdl.byte_count)
            if low < high:
                pieces.append((mdl.virtual_address + low - position, high - low))
            position += mdl.byte_count
        return pieces

    def log(self) -> dict[str, Any]:
        """The MDL as the call log shows it: the ranges of the whole chain."""
        parts = list(self.chain())
        ranges = [[mdl.virtual_address, mdl.byte_count] for mdl in parts]
        return {"id": self.id, "ranges": ranges, "locked": all(mdl.locked for mdl in parts)}

    def log_one(self) -> dict[str, Any]:
        """The same for this MDL alone, without its chain."""
        return {"id": self.id, "ranges": [[self.virtual_address, self.byte_count]], "locked": self.locked}

    def __repr__(self) -> str:
        return f"<Mdl {self.id}: {self.byte_count} bytes at {self.virtual_address:#010x}{', chained' if self.next else ''}>"


def check_mdl(name: str, mdl: Any) -> Mdl:
    """Returns ``mdl`` if every MDL of the chain is alive, else raises :class:`MdlError`.

    An MDL that describes no locked pages passes: on this machine its address is right all the same, and the call log says that
    it was not locked.
    """
    check_type(name, mdl, Mdl, error=MdlError)
    for part in mdl.chain():
        if part.freed:
            raise MdlError(f"{name} must be allocated, not freed: MDL {part.id} went to IoFreeMdl")
    return mdl
