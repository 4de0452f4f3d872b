# SPDX-License-Identifier: BSD-2-Clause
"""The recording machine with the newer interfaces: version 3, the Linux DMA API, bare metal, bounce buffers, the counter."""

import contextlib

from rtl.probe import Cause, Kind, Source

from .machine import BASE, CLEAN, CLEAN_INVALIDATE, INVALIDATE, LINE, OPS, Machine, clip

TO, FROM, BOTH = "TO_DEVICE", "FROM_DEVICE", "BIDIRECTIONAL"
BOUNCE = BASE + 0x8000
#: What for_device does, by direction: to, from, both.
LINUX = {
    "arm": (CLEAN, INVALIDATE, CLEAN),
    "arm64": (CLEAN, CLEAN, CLEAN),
    "riscv": (CLEAN, CLEAN, CLEAN),
    "mips": (CLEAN, INVALIDATE, CLEAN_INVALIDATE),
}


class Interfaces(Machine):
    """``architecture`` is Linux's; ``clean_before_read`` version 3's option; ``bounce`` sends every mapping through a copy."""

    library = (__file__,)

    def __init__(self, *, architecture="arm64", clean_before_read=True, bounce=False, whole=False, for_cpu=True, **platform):
        super().__init__(**platform)
        self.architecture, self.bounce, self.whole, self.for_cpu = architecture, bounce, whole, for_cpu
        self.clean_before_read = clean_before_read
        self.hal = {"clean_before_read": clean_before_read, "bounce_copies_whole": whole, "speculates": for_cpu}
        self.linux = {"id": 9, "mask": 32, "coherent_mask": 32, "coherent": self.flag, "min_align": 1}
        self.slots: dict[int, tuple] = {}  # bounce address -> source ranges, write
        self.posted: list[tuple] = []
        self.left = 0

    def by_hal(self, op, ranges, target=1):
        if not self.flag and ranges:
            self.maintain(op, ranges, target, by="hal")

    # -- bounce buffers ----------------------------------------------------------------------------------------------

    def bounce_map(self, source, write, copy=True):
        """Copies ``source`` to bounce memory; returns its ranges for the device."""
        length = sum(n for _, n in source)
        at = BOUNCE + 0x400 * len(self.slots)
        owner = "map-registers" if self.architecture == "wdk" else "swiotlb"
        whole = self.whole and not write
        args = {"source": [list(r) for r in source], "bounce": [at, length], "write_to_device": write}
        with self.call("BounceMap", **args, owner=owner, whole=whole):
            pass
        self.slots[at] = (source, write)
        if copy and not whole:
            self.bounce_in(at)
        elif copy:
            self.by_hal(CLEAN_INVALIDATE, [(at, length)])
        return [(at, length)]

    def bounce_in(self, at):
        source, write = self.slots[at]
        length = sum(n for _, n in source)
        args = {"source": [list(r) for r in source], "target": [[at, length]]}
        with self.call("BounceCopy", **args, to_device=True):
            self.store(at, b"".join(self.load(a, n) for a, n in source))
        self.by_hal(CLEAN if write else CLEAN_INVALIDATE, [(at, length)])

    def bounce_out(self, at, length=None):
        source, _ = self.slots[at]
        whole = sum(n for _, n in source)
        length = whole if length is None or self.whole else length
        target = clip(source, 0, length)
        self.by_hal(INVALIDATE, [(at, length)])
        args = {"source": [[at, length]], "target": [list(r) for r in target]}
        with self.call("BounceCopy", **args, to_device=False):
            position = at
            for address, size in target:
                self.store(address, self.load(position, size))
                position += size

    def bounce_unmap(self, at):
        source, _ = self.slots[at]
        with self.call("BounceUnmap", bounce=[at, sum(n for _, n in source)]):
            pass

    # -- version 3, and MapTransfer through map registers -------------------------------------------------------------

    def map_bounced(self, adapter, mdl, write, length=None):
        """MapTransfer of versions 1 and 2 whose map registers are bounce pages."""
        length = sum(n for _, n in mdl["ranges"]) if length is None else length
        args = {"adapter": adapter, "mdl": mdl, "offset": 0, "length": length, "write_to_device": write}
        with self.call("MapTransfer", **args, registers=1) as result:
            (element,) = self.bounce_map(clip(mdl["ranges"], 0, length), write)
            result[0] = list(element)
        return [element]

    def flush_bounced(self, adapter, mdl, write, elements, length=None, tries=1):
        """FlushAdapterBuffers, so many times, and FreeMapRegisters of the same."""
        whole = sum(n for _, n in mdl["ranges"])
        args = {"adapter": adapter, "mdl": mdl, "offset": 0, "length": whole if length is None else length}
        for _ in range(tries):
            with self.call("FlushAdapterBuffers", **args, write_to_device=write, registers=1) as result:
                result[0] = self.drain()
                if not write:
                    self.bounce_out(elements[0][0], length)
        with self.call("FreeMapRegisters", adapter=adapter, count=1, registers=1):
            self.bounce_unmap(elements[0][0])

    def context(self, adapter):
        self.ids += 1
        with self.call("InitializeDmaTransferContext", adapter=adapter) as result:
            result[0] = {"context": self.ids}
        return self.ids

    def map_ex(self, adapter, context, mdl, write, offset=0, length=None):
        length = sum(n for _, n in mdl["ranges"]) if length is None else length
        part = clip(mdl["ranges"], offset, length)
        args = {"adapter": adapter, "context": context, "registers": 1, "mdl": mdl, "offset": offset, "length": length}
        with self.call("MapTransferEx", **args, write_to_device=write, device_offset=0, completion=False) as result:
            if self.bounce:
                part = self.bounce_map(part, write)
            elif write:
                self.by_hal(CLEAN, part)
            elif self.clean_before_read:
                self.by_hal(CLEAN_INVALIDATE, part, 3)
            result[0] = {"status": 0, "length": length, "elements": [list(r) for r in part]}
        return part

    def flush_ex(self, adapter, context, mdl, write, offset=0, length=None, elements=()):
        whole = sum(n for _, n in mdl["ranges"])
        length = whole if length is None else length
        args = {"adapter": adapter, "context": context, "registers": 1, "mdl": mdl, "offset": offset, "length": length}
        with self.call("FlushAdapterBuffersEx", **args, write_to_device=write) as result:
            good = self.drain()
            if good and not write and not self.bounce:
                self.by_hal(INVALIDATE, clip(mdl["ranges"], offset, length), 3)
            elif not write and elements:
                self.bounce_out(elements[0][0])
            if elements and elements[0][0] in self.slots:
                self.bounce_unmap(elements[0][0])
            result[0] = 0 if good else 0xC0000185
        return good

    def sg_list_ex(self, adapter, context, mdl, write):
        self.ids += 1
        length = sum(n for _, n in mdl["ranges"])
        args = {"adapter": adapter, "context": context, "mdl": mdl, "offset": 0, "length": length, "write_to_device": write}
        with self.call("GetScatterGatherListEx", **args) as result:
            self.by_hal(*((CLEAN, mdl["ranges"], 1) if write else (CLEAN_INVALIDATE, mdl["ranges"], 3)))
            result[0] = {"status": 0, "list": self.ids, "elements": mdl["ranges"]}
        return {"list": self.ids, "ranges": mdl["ranges"]}

    def counter(self, adapter, left):
        with self.call("ReadDmaCounter", adapter=adapter) as result:
            result[0] = left

    # -- Linux ---------------------------------------------------------------------------------------------------------

    def linux_map(self, address, length, direction, skip=False):
        attrs = ["SKIP_CPU_SYNC"] if skip else []
        args = {"device": self.linux, "address": address, "length": length, "direction": direction, "attrs": attrs}
        with self.call("dma_map_single", **args) as result:
            dma = address
            if self.bounce:
                ((dma, _),) = self.bounce_map([(address, length)], direction == TO, copy=not skip)
            elif not skip:
                self._for_device(address, length, direction)
            result[0] = dma
        return dma

    def linux_unmap(self, dma, length, direction, skip=False):
        attrs = ["SKIP_CPU_SYNC"] if skip else []
        with self.call("dma_unmap_single", device=self.linux, dma=dma, length=length, direction=direction, attrs=attrs):
            self.drain()
            if not skip:
                self._for_cpu(dma, length, direction)
            if dma in self.slots:
                self.bounce_unmap(dma)

    def sync_for_cpu(self, dma, length, direction, offset=0):
        args = {"device": self.linux, "dma": dma, "offset": offset, "length": length, "direction": direction}
        with self.call("dma_sync_single_for_cpu", **args):
            self.drain()
            self._for_cpu(dma + offset, length, direction)

    def sync_for_device(self, dma, length, direction, offset=0):
        args = {"device": self.linux, "dma": dma, "offset": offset, "length": length, "direction": direction}
        with self.call("dma_sync_single_for_device", **args):
            if dma not in self.slots:
                self._for_device(dma + offset, length, direction)
            elif direction != FROM:
                self.bounce_in(dma)
            else:
                self.by_hal(CLEAN_INVALIDATE, [(dma + offset, length)])

    def _for_device(self, address, length, direction):
        op = LINUX[self.architecture][(TO, FROM, BOTH).index(direction)]
        if op == INVALIDATE and self.architecture == "arm":
            first, last = -(-address // LINE) * LINE, (address + length) // LINE * LINE
            for low, high in ((address, min(first, address + length)), (max(last, address), address + length)):
                if high > low:
                    self.by_hal(CLEAN_INVALIDATE, [(low, high - low)])
            self.by_hal(op, [(first, last - first)] if last > first else [])
        else:
            self.by_hal(op, [(address, length)])

    def _for_cpu(self, dma, length, direction):
        if direction != TO and dma in self.slots:
            self.bounce_out(dma, length)
        elif direction != TO and self.for_cpu:
            self.by_hal(INVALIDATE, [(dma, length)])

    def kmalloc(self, address, length):
        with self.call("AllocateMemory", length=length, kind="kmalloc", what="kmalloc") as result:
            result[0] = {"address": address, "length": length}

    def coherent_buffer(self, address, length):
        self.ids += 1
        with self.call("dma_alloc_coherent", device=self.linux, length=length) as result:
            self.by_hal(CLEAN_INVALIDATE, [(address, length)], 3)
            result[0] = {"buffer": self.ids, "address": address, "dma": address, "length": length, "cached": False}
        return self.ids

    def flush_icache_range(self, start, end):
        with self.call("flush_icache_range", start=start, end=end):
            self.by_hal(CLEAN, [(start, end - start)])
            self.by_hal(INVALIDATE, [(start, end - start)], 2)

    def flush_dcache_page(self, page):
        with self.call("flush_dcache_page", address=page, length=4096):
            self.by_hal(CLEAN, [(page, 4096)])
            self.by_hal(INVALIDATE, [(page, 4096)], 2)

    # -- bare metal -----------------------------------------------------------------------------------------------------

    def post(self, op, ranges, target=1):
        """Maintenance that nobody waits for: the call ends at the barrier. The work is done when :meth:`work` says so."""
        self.dsb(log=False)
        self.number += 1
        name = {1: "d", 2: "i", 3: "both"}[target]
        args = {"op": OPS[op], "target": name, "ranges": [list(r) for r in ranges], "requested_by": "driver"}
        self.calls.append(
            {"seq": len(self.calls), "phase": "begin", "call": self.number, "name": "CacheMaintenance", "cycle": self.cycle,
             "site": list(self.site()), "parent": None, "thread": 0, "role": "thread", "irql": None, "args": args}
        )  # fmt: skip
        self.cycle += 1
        self.posted = [(self.number, op, ranges, target)]
        for address, length in ranges[:1]:
            self.event(Kind.MAINT_BEGIN, addr=address, aux=op | 1 << 2 | target << 4, data=length)

    def work(self):
        """The maintenance unit does what was posted."""
        for number, op, ranges, target in self.posted:
            if op is not None:
                begun = [event for event in self.events if event.kind == Kind.MAINT_BEGIN][-1]
                for line in range(ranges[0][0] & -LINE, ranges[0][0] + ranges[0][1], LINE):
                    if target & 1 and line in self.dcache:
                        if op & 1:
                            self.writeback(line, Cause.MAINTENANCE)
                        if op & 2:
                            self.event(Kind.INVALIDATE, flags=int(self.dcache[line][1]), addr=line, aux=Cause.MAINTENANCE)
                            del self.dcache[line]
                    if target & 2 and op & 2:
                        self.icache.pop(line, None)
                self.event(Kind.MAINT_END, addr=begun.addr)
                self.posted = [(number, None, ranges, target)]

    def dsb(self, log=True):
        """Waits for what was posted."""
        with self.call("dsb") if log else contextlib.nullcontext():
            self.work()
            for number, *_ in self.posted:
                self.calls.append(
                    {"seq": len(self.calls), "phase": "end", "call": number, "name": "CacheMaintenance",
                     "cycle": self.cycle, "result": None, "error": None}
                )  # fmt: skip
                self.cycle += 1
            self.posted = []

    def descriptors(self, transfer, at, ranges):
        """The engine reads a chain of descriptors."""
        for n, (address, length) in enumerate(ranges):
            self.read_memory(at + 16 * n, 16, Source.DMA_DESCRIPTOR)
            self.event(Kind.DESCRIPTOR, tag=transfer["tag"], addr=at + 16 * n, data=address | length << 32)
