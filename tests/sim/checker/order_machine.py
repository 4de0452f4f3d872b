# SPDX-License-Identifier: BSD-2-Clause
"""The functional machine with the calls of complete drivers: channels, version 3, Linux, memory, interrupt levels.

Every call is logged as docs/contracts.md says, arguments and results as the case wants them: a real interface would refuse,
or never return, much of what the rules are about.
"""

import contextlib
import sys

from .cases import DEVICE, Case
from .machine import BASE, LINE, Machine, clip
from .machine import __file__ as MACHINE

__all__ = ["DISPATCH", "OrderMachine", "cases"]

DISPATCH, PASSIVE, APC, DIRQL = 2, 0, 1, 5
KEEP, DEALLOCATE, KEEP_REGISTERS = 1, 2, 3
INSUFFICIENT, TOO_SMALL = 0xC000009A, 0xC0000023


def cases():
    """An empty list of cases, and the decorator that adds to it."""
    found: list[Case] = []

    def case(rule, *, harm=False, party="driver", severity=None, **platform):
        def add(driver):
            found.append(Case(rule, driver, driver.__name__, platform, harm, party, severity))
            return driver

        return add

    return found, case


class Result:
    """What a call will return: ``result[0] = ...``; ``number`` is the call's."""

    def __init__(self, box, number):
        self.box, self.number = box, number

    def __getitem__(self, n):
        return self.box[n]

    def __setitem__(self, n, value):
        self.box[n] = value


class OrderMachine(Machine):
    """A machine whose record is that of a whole driver. ``irql`` is the level of the next calls, ``interface`` whose they are."""

    def __init__(self, *, interface="wdk", **platform):
        super().__init__(**platform)
        self.interface = interface
        self.irql = PASSIVE if interface == "wdk" else None
        self.thread, self.role = 0, "thread"
        self.stack = []
        self.assumed = LINE
        self.owners = {}

    def run(self):
        run = super().run()
        run.platform["assumed_line_bytes"] = self.assumed
        run.platform.update(interface=self.interface, architecture="wdk" if self.interface == "wdk" else "arm64")
        return run

    @contextlib.contextmanager
    def call(self, name, /, **args):
        if name == "StartTransfer":
            args.update(self.owners)
        with super().call(name, **args) as box:
            begin = self.calls[-1]
            begin.update(parent=self.stack[-1] if self.stack else None, thread=self.thread, role=self.role, irql=self.irql)
            self.stack.append(begin["call"])
            yield Result(box, begin["call"])
            self.stack.pop()

    def site(self):
        frame = sys._getframe(1)
        while frame.f_code.co_filename in (__file__, MACHINE, contextlib.__file__):
            frame = frame.f_back
        return (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)

    def log(self, name, result=None, /, **args):
        """A call without a body; returns its number."""
        with self.call(name, **args) as given:
            given[0] = result
            return given.number

    def new(self):
        self.ids += 1
        return self.ids

    @contextlib.contextmanager
    def at(self, irql):
        """``with m.at(DISPATCH): ...``, as KeRaiseIrql and KeLowerIrql."""
        before, self.irql = self.irql, irql
        yield
        self.irql = before

    # -- WDK ---------------------------------------------------------------------------------------------------------

    def mdl(self, *ranges, locked=True):
        return {**super().mdl(*ranges), "locked": locked}

    def adapter(self, master=False, channel=0, version=2, limit=16, **description):
        adapter = {"id": self.new(), "version": version, "master": master, "channel": None if master else channel}
        told = {"version": version, "master": master, "maximum_length": 65536, **description}
        self.log("IoGetDmaAdapter", {"adapter": adapter, "map_registers": limit}, description=told)
        return adapter

    def allocate(self, adapter, count=4, action=None, routine=None, **more):
        """AllocateAdapterChannel with its AdapterControl; returns the id of the map registers."""
        name = "AllocateAdapterChannelEx" if adapter["version"] == 3 else "AllocateAdapterChannel"
        if action is None:
            action = KEEP_REGISTERS if adapter["master"] else KEEP
        registers = {"id": self.new(), "count": count}
        with self.at(DISPATCH if self.irql == PASSIVE else self.irql):
            with self.call(name, adapter=adapter, map_registers=count, **more) as status:
                status[0] = 0
                with self.call("AdapterControl", adapter=adapter, registers=registers) as result:
                    if routine:
                        routine(registers["id"])
                    result[0] = action
        return registers["id"]

    def map_transfer(self, adapter, mdl, offset, length, write, registers=None, *, got=None, look=True, address=None):
        """MapTransfer that maps ``got`` bytes (all); with ``look`` the driver looks at the length."""
        start = clip(mdl["ranges"], offset, 1) or [(BASE, 0)]
        got = length if got is None else got
        pair = [start[0][0] if address is None else address, got]
        number = self.log(
            "MapTransfer", pair, adapter=adapter, mdl=mdl, offset=offset, length=length, write_to_device=write,
            registers=registers,
        )  # fmt: skip
        if look:
            self.looked(number, "length")
        return pair

    def looked(self, number, what):
        self.log("ResultChecked", call=number, what=what)

    def flush_adapter(self, adapter, mdl, write, offset=0, length=None, registers=None):
        whole = sum(n for _, n in mdl["ranges"])
        length = whole if length is None else length
        with self.call(
            "FlushAdapterBuffers", adapter=adapter, mdl=mdl, offset=offset, length=length, write_to_device=write,
            registers=registers,
        ) as result:  # fmt: skip
            result[0] = self.drain()
            if result[0] and not write and self.invalidate_after_read and not self.flag:
                self.maintain(2, clip(mdl["ranges"], offset, length), 3, by="hal")
        return result[0]

    def free_channel(self, adapter):
        with self.at(DISPATCH):
            self.log("FreeAdapterChannel", adapter=adapter)

    def free_registers(self, adapter, registers, count=4):
        with self.at(DISPATCH):
            self.log("FreeMapRegisters", adapter=adapter, count=count, registers=registers)

    def put(self, adapter):
        self.log("PutDmaAdapter", adapter=adapter)

    def free_buffer(self, adapter, buffer, address, length, cached):
        self.log("FreeCommonBuffer", adapter=adapter, buffer=buffer, address=address, length=length, cache_enabled=cached)

    def sg_list(self, adapter, mdl, write, routine=None):
        number, length = self.new(), sum(n for _, n in mdl["ranges"])
        with self.at(DISPATCH):
            with self.call(
                "GetScatterGatherList", adapter=adapter, mdl=mdl, offset=0, length=length, write_to_device=write
            ) as result:
                result[0] = {"list": number, "elements": mdl["ranges"]}
                with self.call("ListControl", adapter=adapter, list=number):
                    if routine:
                        routine(number)
        return {"list": number, "ranges": mdl["ranges"]}

    def put_list(self, adapter, list_, write):
        with self.at(DISPATCH):
            return super().put_list(adapter, list_, write)

    # -- version 3 ---------------------------------------------------------------------------------------------------

    def context(self, adapter):
        number = self.new()
        self.log("InitializeDmaTransferContext", {"context": number}, adapter=adapter)
        return number

    def map_ex(self, adapter, context, mdl, write, registers=None, *, offset=0, length=None, got=None, look=True, status=0):
        length = sum(n for _, n in mdl["ranges"]) - offset if length is None else length
        got = length if got is None else got
        elements = [list(r) for r in clip(mdl["ranges"], offset, got)]
        with self.call(
            "MapTransferEx", adapter=adapter, context=context, registers=registers, mdl=mdl, offset=offset, length=length,
            write_to_device=write, device_offset=0, completion=False,
        ) as result:  # fmt: skip
            result[0] = {"status": status, "length": got, "elements": elements}
            if not self.flag:
                self.maintain(1 if write else 3, elements, 1, by="hal")
        if look:
            self.looked(result.number, "status")
            self.looked(result.number, "length")
        return elements

    def flush_ex(self, adapter, context, mdl, write, registers=None, *, offset=0, length=None):
        length = sum(n for _, n in mdl["ranges"]) - offset if length is None else length
        with self.call(
            "FlushAdapterBuffersEx", adapter=adapter, context=context, registers=registers, mdl=mdl, offset=offset,
            length=length, write_to_device=write,
        ) as result:  # fmt: skip
            ok = self.drain()
            result[0] = 0 if ok else 0xC0000185
            if ok and not write and not self.flag:
                self.maintain(2, clip(mdl["ranges"], offset, length), 3, by="hal")
        return ok

    def free_object(self, adapter, action=DEALLOCATE):
        self.log("FreeAdapterObject", adapter=adapter, action=action)

    # -- Linux -------------------------------------------------------------------------------------------------------

    def device_(self, **more):
        return {"id": self.new(), "mask": 32, "coherent_mask": 32, "coherent": self.flag, "min_align": 1, **more}

    def dma_map(self, dev, address, length, direction, *, ask=True, result=-1, attrs=()):
        """dma_map_single with arm64's cache work; ``ask``: dma_mapping_error follows."""
        with self.call(
            "dma_map_single", device=dev, address=address, length=length, direction=direction, attrs=list(attrs)
        ) as given:
            given[0] = address if result == -1 else result
            if not self.flag and given[0] is not None and length > 0:
                self.maintain(1, [(address, length)], 1, by="hal")
        if ask:
            self.log("dma_mapping_error", given[0] is None, device=dev, dma=given[0])
        return given[0]

    def dma_unmap(self, dev, dma, length, direction, *, name="dma_unmap_single"):
        with self.call(name, device=dev, dma=dma, length=length, direction=direction, attrs=[]):
            self.drain()
            if direction != "TO_DEVICE" and not self.flag:
                self.maintain(2, [(dma, length)], 1, by="hal")

    def dma_sync(self, dev, dma, length, direction, *, to="cpu", offset=0):
        with self.call(f"dma_sync_single_for_{to}", device=dev, dma=dma, offset=offset, length=length, direction=direction):
            if self.flag:
                return
            if to == "cpu" and direction != "TO_DEVICE":
                self.drain()
                self.maintain(2, [(dma + offset, length)], 1, by="hal")
            elif to != "cpu":
                self.maintain(1, [(dma + offset, length)], 1, by="hal")

    def coherent_buffer(self, dev, address, length):
        number = self.new()
        given = {"buffer": number, "address": address, "dma": address, "length": length, "cached": False}
        with self.call("dma_alloc_coherent", device=dev, length=length) as result:
            result[0] = given
            self.maintain(3, [(address, length)], 3, by="hal")
        return given

    def release(self, dev):
        self.log("device_release", device=dev)

    def start_for(self, dev, ranges, write, device=0, **more):
        """StartTransfer of a Linux device (its bus master)."""
        fake = {"master": True, "id": None}
        self.owners = {"adapter": None, "device": dev, **more}
        try:
            return self.start(fake, ranges, write, device=device)
        finally:
            self.owners = {}

    # -- both --------------------------------------------------------------------------------------------------------

    def memory_(self, address, length, kind):
        self.log("AllocateMemory", {"address": address, "length": length}, length=length, kind=kind, what="buffer")

    def transfer(self, adapter, ranges, write, *, data=DEVICE, **more):
        """Starts, runs and completes a transfer."""
        self.device[: len(data)] = data
        transfer = self.start(adapter, ranges, write, **more)
        self.finish(transfer)
        return transfer
