# SPDX-License-Identifier: BSD-2-Clause
"""A struct device on the in-memory machine, and the call log in short form."""

from driver.linux import Device
from driver.platform import HalOptions

from .fake_bus import FakeBus, run

BASE = 0x8000_0000
B = BASE + 0x9000  # a page, beyond what 15 address bits reach


def device(architecture="arm64", *, coherent=False, reserve=0, line=32, **options):
    """``(bus, dev)``, nothing logged yet."""
    bus = FakeBus(coherent=coherent, line=line)
    dev = run(Device.start(bus, options=HalOptions(architecture=architecture, **options), reserve=reserve))
    clear(bus, dev)
    return bus, dev


def clear(bus, dev):
    bus.ops.clear()
    dev.trace.records.clear()


def begun(dev, name=None):
    """``(name, args)`` of each call, without the device; or the args of the calls of one name."""
    found = []
    for record in dev.trace.records:
        if record["phase"] == "begin":
            found.append((record["name"], {k: v for k, v in record["args"].items() if k != "device"}))
    return found if name is None else [args for called, args in found if called == name]


def ended(dev, name):
    """Results of the calls of one name."""
    return [r["result"] for r in dev.trace.records if r["phase"] == "end" and r["name"] == name]


def work(dev):
    """``(op, target, ranges)`` of each maintenance operation."""
    for args in begun(dev, "CacheMaintenance"):
        assert args["requested_by"] == "hal"
    return [(args["op"], args["target"], args["ranges"]) for args in begun(dev, "CacheMaintenance")]


def drains(bus):
    """How often the DMA engine was flushed."""
    return bus.writes().count("dma.ctrl")
