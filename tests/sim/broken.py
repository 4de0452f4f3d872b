# SPDX-License-Identifier: BSD-2-Clause
"""Hardware broken on purpose: each mutation adds statements behind a block's own, where the last assignment wins."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rtl.cache.core import DCacheCore
from rtl.cache.walker import MaintenanceWalker
from rtl.dma.chunk_fifo import ChunkFifo
from sim.build import Mutation

__all__ = ["FIFO_DROPS_REMAINDER", "MAINTENANCE_SKIPS_LAST_LINE", "WRITE_BACK_OF_THE_WRONG_WAY"]


def _mutation(name: str, block: type, change: Callable[[Any, Any], None]) -> Mutation:
    @contextlib.contextmanager
    def apply() -> Iterator[None]:
        original = block.elaborate

        def elaborate(self, platform):
            m = original(self, platform)
            change(self, m)
            return m

        block.elaborate = elaborate
        try:
            yield
        finally:
            block.elaborate = original

    return Mutation(name, apply)


def _skip_last_line(walker: MaintenanceWalker, m: Any) -> None:
    request = walker.maint.req
    with m.If(request.valid & request.ready & ~request.payload.all):
        m.d.sync += walker.last.eq(walker._g.line_of(request.payload.last) - 1)


def _drop_remainder(fifo: ChunkFifo, m: Any) -> None:
    with m.If(fifo.flush & ~fifo.queued):
        m.d.comb += [fifo.o.valid.eq(0), fifo.drained.eq(1)]
        m.d.sync += [fifo.open_valid.eq(0), fifo.open_strb.eq(0)]


def _wrong_way(core: DCacheCore, m: Any) -> None:
    m.d.comb += m.submodules.writeback.push.way.eq(1 << core._g.ways - 1)


MAINTENANCE_SKIPS_LAST_LINE = _mutation("maintenance skips the last line", MaintenanceWalker, _skip_last_line)
FIFO_DROPS_REMAINDER = _mutation("the chunk FIFO drops its remainder", ChunkFifo, _drop_remainder)
WRITE_BACK_OF_THE_WRONG_WAY = _mutation("write-back writes the wrong way", DCacheCore, _wrong_way)
