# SPDX-License-Identifier: BSD-2-Clause
"""Pools, stack buffers, MDLs."""

from types import TracebackType
from typing import Any

from ..errors import ArgumentError, MdlError, check_flag, check_integer, check_type
from ..memory import KindedMemory
from ..platform import Platform
from ..trace import Trace
from .irp import Irp
from .mdl import Mdl, check_mdl

__all__ = ["MemoryRoutines", "StackBuffer"]


class StackBuffer(int):
    """The address of a local variable; as a block (``with kernel.stack_buffer(64) as address:``) it is gone at the end."""

    memory: KindedMemory

    def __enter__(self) -> int:
        return int(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.memory.free(int(self))


class MemoryRoutines:
    """Part of :class:`~driver.wdk.kernel.Kernel`."""

    platform: Platform
    trace: Trace
    memory: KindedMemory

    def number(self) -> int:
        """The next object number."""
        raise NotImplementedError

    # -- memory ----------------------------------------------------------------------------------------------------

    def ex_allocate_pool(
        self,
        number_of_bytes: int,
        *,
        kind: str = "nonpaged",
        alignment: int = 64,
        offset: int = 0,
        exclusive: bool = False,
        what: str = "buffer",
    ) -> int:
        """ExAllocatePool2: the address of a new buffer, whose bytes are whatever memory holds.

        ``kind`` is ``"nonpaged"`` or ``"paged"`` for the pools, or another of :data:`driver.memory.KINDS`; where the buffer lies
        is as in :meth:`driver.memory.MemoryPool.allocate`. ``what`` names it in reports.

        Raises
        ------
        PoolError
            If an argument breaks its rule, or there is no room (where Windows returns NULL).
        """
        return self.memory.allocate(number_of_bytes, kind, alignment=alignment, offset=offset, exclusive=exclusive, what=what)

    def ex_free_pool(self, address: int) -> None:
        """ExFreePool: gives a buffer of any kind back; raises :class:`PoolError` for one that is not allocated."""
        self.memory.free(address)

    def stack_buffer(self, length: int, *, alignment: int = 8, what: str = "local variable") -> StackBuffer:
        """The address of a local variable of ``length`` bytes: on the kernel stack, where DMA must not go.

        It shares cache lines with its neighbours. Freed by :meth:`ex_free_pool`, or at the end of a ``with`` block.
        """
        made = StackBuffer(self.memory.allocate(length, "stack", alignment=alignment, what=what))
        made.memory = self.memory
        return made

    def declare_control(self, address: int, length: int, what: str) -> None:
        """Tells the checker of descriptors, control or status words that CPU and device share (``DeclareControl``)."""
        check_integer("address", address, 0, (1 << 32) - 1)
        check_integer("length", length, 1, self.platform.memory_size)
        if not what:
            raise ArgumentError("what must say what the words are, not be empty")
        self.trace.event("DeclareControl", address=address, length=length, what=what)

    # -- MDLs ------------------------------------------------------------------------------------------------------

    def io_allocate_mdl(
        self,
        virtual_address: int,
        length: int,
        secondary_buffer: bool = False,
        charge_quota: bool = False,
        irp: Irp | None = None,
    ) -> Mdl:
        """IoAllocateMdl: an MDL over ``[virtual_address, virtual_address + length)``.

        With an ``irp`` it becomes the request's MDL, or with ``secondary_buffer`` the last of the request's chain.

        Raises
        ------
        MdlError
            If the length is zero, or the range is not all in memory.
        """
        check_integer("length", length, 1, self.platform.memory_size, error=MdlError)
        check_integer("virtual_address", virtual_address, 0, (1 << 32) - 1, error=MdlError)
        check_flag("secondary_buffer", secondary_buffer, error=MdlError)
        check_flag("charge_quota", charge_quota, error=MdlError)
        if not self.platform.contains(virtual_address, length):
            base, size = self.platform.memory_base, self.platform.memory_size
            raise MdlError(
                f"virtual_address must lie in memory [{base:#010x}, {base + size:#010x}) with all of its {length} bytes, "
                f"not at {virtual_address:#010x}"
            )
        mdl = Mdl(self.number(), virtual_address, length)
        if irp is not None:
            check_type("irp", irp, Irp, error=MdlError)
            if secondary_buffer:
                if irp.mdl_address is None:
                    raise MdlError("secondary_buffer must be False for a request without a first MDL, not True")
                *_, last = irp.mdl_address.chain()
                last.next = mdl
            else:
                irp.mdl_address = mdl
        elif secondary_buffer:
            raise MdlError("secondary_buffer must be False without a request, not True")
        return mdl

    def io_build_partial_mdl(self, source_mdl: Mdl, target_mdl: Mdl, virtual_address: int, length: int) -> None:
        """IoBuildPartialMdl: makes ``target_mdl`` describe a part of ``source_mdl``; length 0 means up to its end.

        Raises
        ------
        MdlError
            If the part is not inside the source, or does not fit the target.
        """
        check_mdl("source_mdl", source_mdl)
        check_type("target_mdl", target_mdl, Mdl, error=MdlError)
        first, end = source_mdl.virtual_address, source_mdl.virtual_address + source_mdl.byte_count
        check_integer("virtual_address", virtual_address, first, end - 1, error=MdlError)
        length = check_integer("length", length, 0, end - virtual_address, error=MdlError) or end - virtual_address
        if length > target_mdl.byte_count:
            raise MdlError(f"length must fit the target MDL ({target_mdl.byte_count} bytes), not {length}")
        replacement = Mdl(target_mdl.id, virtual_address, length)
        target_mdl.start_va, target_mdl.byte_offset = replacement.start_va, replacement.byte_offset
        target_mdl.byte_count, target_mdl.locked = length, source_mdl.locked

    def mm_build_mdl_for_non_paged_pool(self, mdl: Mdl) -> None:
        """MmBuildMdlForNonPagedPool: the MDL describes its memory, which is resident anyway.

        For memory that this kernel handed out as paged that is not true: the MDL stays unlocked, and only the checker notices.
        """
        self._fill_in("MmBuildMdlForNonPagedPool", mdl)
        mdl.locked = all(self.memory.kind_of(*piece) != "paged" for piece in mdl.ranges(0, mdl.byte_count))

    def mm_probe_and_lock_pages(self, mdl: Mdl) -> None:
        """MmProbeAndLockPages: the MDL's pages are brought in and stay. (AccessMode and Operation have no effect here.)"""
        self._fill_in("MmProbeAndLockPages", mdl)
        mdl.locked = True

    def mm_unlock_pages(self, mdl: Mdl) -> None:
        """MmUnlockPages: the pages may move again; the MDL must not be used for a transfer any more."""
        self._fill_in("MmUnlockPages", mdl)
        mdl.locked = False

    def _fill_in(self, name: str, mdl: Any) -> None:
        check_type("mdl", mdl, Mdl, error=MdlError)
        if mdl.freed:
            raise MdlError(f"mdl must be allocated, not freed: MDL {mdl.id} went to IoFreeMdl")
        self.trace.event(name, mdl=mdl.log_one())

    @staticmethod
    def mm_get_mdl_virtual_address(mdl: Mdl) -> int:
        """MmGetMdlVirtualAddress: the address of the first byte; ``current_va`` of a transfer counts from it."""
        return check_type("mdl", mdl, Mdl, error=MdlError).virtual_address

    @staticmethod
    def mm_get_mdl_byte_count(mdl: Mdl) -> int:
        """MmGetMdlByteCount: bytes of this one MDL."""
        return check_type("mdl", mdl, Mdl, error=MdlError).byte_count

    @staticmethod
    def mm_get_mdl_byte_offset(mdl: Mdl) -> int:
        """MmGetMdlByteOffset: offset of the first byte in its page."""
        return check_type("mdl", mdl, Mdl, error=MdlError).byte_offset

    def io_free_mdl(self, mdl: Mdl) -> None:
        """IoFreeMdl: frees this one MDL, not those chained to it; raises :class:`MdlError` if it was freed before."""
        check_type("mdl", mdl, Mdl, error=MdlError)
        if mdl.freed:
            raise MdlError(f"mdl must be allocated to be freed, not freed before: MDL {mdl.id}")
        mdl.freed = True
