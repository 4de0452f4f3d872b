# SPDX-License-Identifier: BSD-2-Clause
"""The D-cache's arrays: tags, lines, valid and dirty bits, and which lines came by a prefetch and were not used yet."""

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from .native import Geometry

__all__ = ["Arrays"]


class Arrays:
    """State of all ways; a helper that adds its logic to the owner's module, so that names stay flat there.

    Tags and lines are memories ``tag_<w>`` and ``data_<w>`` with a row per set, read synchronously and without
    transparency: a lookup that starts in the cycle of a change sees the old row. Valid and dirty bits are flip-flops,
    one signal ``valid_<w>`` / ``dirty_<w>`` per way with a bit per set: what a cycle changes is seen by the next one.
    """

    def __init__(self, g: Geometry, *, prefetcher: bool):
        ways = range(g.ways)
        self.g, self.prefetcher = g, prefetcher
        self.tag = [Memory(shape=g.tag_bits, depth=g.sets, init=[]) for _ in ways]
        self.data = [Memory(shape=g.line_bytes * 8, depth=g.sets, init=[]) for _ in ways]
        self.valid = [Signal(g.sets, name=f"valid_{w}") for w in ways]
        self.dirty = [Signal(g.sets, name=f"dirty_{w}") for w in ways]
        self.prefetched = [Signal(g.sets, name=f"prefetched_{w}") for w in ways]
        self._tag_read = [memory.read_port() for memory in self.tag]
        self._tag_write = [memory.write_port() for memory in self.tag]
        self._data_read = [memory.read_port() for memory in self.data]
        self._data_write = [memory.write_port(granularity=8) for memory in self.data]
        #: The rows read in the cycle before.
        self.tags = [port.data for port in self._tag_read]
        self.lines = [port.data for port in self._data_read]

    def any(self, bits: list[Signal]) -> Value:
        """Per set: is the bit set in any way?"""
        result = Const(0, self.g.sets)
        for way in bits:
            result = result | way
        return result

    def read(self, m: Module, index: Value, enable: Value) -> None:
        """Adds the memories; the rows of a set are read at the end of a cycle with ``enable``."""
        for w in range(self.g.ways):
            m.submodules[f"tag_{w}"] = self.tag[w]
            m.submodules[f"data_{w}"] = self.data[w]
            for port in (self._tag_read[w], self._data_read[w]):
                m.d.comb += [port.addr.eq(index), port.en.eq(enable)]

    def change(
        self,
        m: Module,
        *,
        line: Value,
        install: Value,
        fresh: Value,
        store: Value,
        drop: Value,
        clean: Value,
        used: Value,
        flash: Value,
        flash_keeps_dirty: Value,
        data: Value,
        strobes: Value,
    ) -> None:
        """Adds what a cycle changes in one set. ``install store drop clean used`` are one-hot ways, at most one of them
        set, except that ``clean`` may come with ``drop`` and ``used`` with ``store``.

        ``line``: its line number. ``install``: ``data`` becomes the line, clean; ``fresh`` if nobody has used it.
        ``store``: the bytes of ``data`` in ``strobes`` are written, the line turns dirty. ``drop``: it becomes invalid.
        ``clean``: no longer dirty. ``flash``: all sets and ways become invalid, but for dirty lines with ``flash_keeps_dirty``.
        """
        g = self.g
        index, mask = Signal(g.index_bits, name="change_index"), Signal(g.sets, name="change_mask")
        m.d.comb += [index.eq(line[: g.index_bits]), mask.eq(1 << index)]
        for w in range(g.ways):
            valid, dirty, prefetched = self.valid[w], self.dirty[w], self.prefetched[w]
            m.d.comb += [
                self._tag_write[w].addr.eq(index),
                self._tag_write[w].data.eq(line[g.index_bits :]),
                self._tag_write[w].en.eq(install[w]),
                self._data_write[w].addr.eq(index),
                self._data_write[w].data.eq(data),
                self._data_write[w].en.eq(Mux(install[w], (1 << g.line_bytes) - 1, Mux(store[w], strobes, 0))),
            ]
            with m.If(install[w]):
                m.d.sync += [valid.eq(valid | mask), dirty.eq(dirty & ~mask)]
            with m.If(drop[w]):
                m.d.sync += valid.eq(valid & ~mask)
            with m.If(drop[w] | clean[w]):
                m.d.sync += dirty.eq(dirty & ~mask)
            with m.If(store[w]):
                m.d.sync += dirty.eq(dirty | mask)
            with m.If(flash):
                m.d.sync += [
                    valid.eq(Mux(flash_keeps_dirty, valid & dirty, 0)),
                    dirty.eq(Mux(flash_keeps_dirty, dirty, 0)),
                ]
            if self.prefetcher:
                with m.If(install[w]):
                    m.d.sync += prefetched.eq(Mux(fresh, prefetched | mask, prefetched & ~mask))
                with m.If(used[w]):
                    m.d.sync += prefetched.eq(prefetched & ~mask)
