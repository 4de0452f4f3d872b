# SPDX-License-Identifier: BSD-2-Clause
"""Everything the coherent platform consists of, wired as in the SoC: CPU, fetches and DMA on the same few lines.

Each byte has one writer, who writes version numbers. Nobody may ever read a version older than the last one whose write was
answered before the read was asked for, nor one that has not been written yet.
"""

import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from rtl.axi.bus import AXI4Signature
from rtl.cache.dcache import DCache
from rtl.cache.icache import ICache
from rtl.config import SocConfig
from rtl.interconnect.arbiter import InvalidateArbiter, SnoopArbiter
from rtl.interconnect.coherency import SnoopBridge
from rtl.interconnect.crossbar import Crossbar
from rtl.memory.controller import MemoryController

from ..axi.agents import OKAY, Manager, simulate

BASE, SPAN = 0x8000_0000, 256


class System(wiring.Component):
    def __init__(self, config):
        self.config = config
        cpu = AXI4Signature(data_width=config.data_width, id_width=4, user_width=16)
        super().__init__({"cpu": In(cpu), "fetch": In(cpu), "dma": In(AXI4Signature(data_width=config.data_width, id_width=2))})
        self.dcache, self.icache = DCache(config=config), ICache(config=config)

    def elaborate(self, platform):
        m = Module()
        config, line = self.config, self.config.dcache.line_bytes
        m.submodules.dcache, m.submodules.icache = dcache, icache = self.dcache, self.icache
        window = [(config.memory.base, config.memory.size)]
        m.submodules.crossbar = crossbar = Crossbar(data_width=config.data_width, managers=3, id_width=2, targets=window)
        m.submodules.memory = memory = MemoryController(config)
        m.submodules.i_bridge = i_bridge = SnoopBridge(config, port=1, write=False)
        m.submodules.dma_bridge = dma_bridge = SnoopBridge(config, port=2)
        m.submodules.snoops = snoops = SnoopArbiter(line_bytes=line, count=2)
        m.submodules.invalidates = invalidates = InvalidateArbiter(count=2)
        connect(m, cpu=flipped(self.cpu), dcache=dcache.s_axi)
        connect(m, cpu=flipped(self.fetch), icache=icache.s_axi)
        connect(m, dma=flipped(self.dma), bridge=dma_bridge.s_axi)
        connect(m, icache=icache.m_axi, bridge=i_bridge.s_axi)
        connect(m, dcache=dcache.m_axi, crossbar=crossbar.s_axi_0)
        connect(m, bridge=i_bridge.m_axi, crossbar=crossbar.s_axi_1)
        connect(m, bridge=dma_bridge.m_axi, crossbar=crossbar.s_axi_2)
        connect(m, crossbar=crossbar.m_axi_0, memory=memory.s_axi)
        connect(m, i_bridge=i_bridge.snoop, arbiter=snoops.s_0)
        connect(m, dma_bridge=dma_bridge.snoop, arbiter=snoops.s_1)
        connect(m, arbiter=snoops.m, dcache=dcache.snoop)
        connect(m, dcache=dcache.i_inv, arbiter=invalidates.s_0)
        connect(m, dma_bridge=dma_bridge.i_inv, arbiter=invalidates.s_1)
        connect(m, arbiter=invalidates.m, icache=icache.inv)
        return m


class Bytes:
    """Versions: the newest that a read may see (written or being written), and the oldest (answered)."""

    def __init__(self):
        self.newest = [0] * SPAN
        self.answered = [0] * SPAN

    def begin(self, offsets):
        for n in offsets:
            self.newest[n] += 1

    def end(self, versions):
        for n, version in versions.items():
            self.answered[n] = version


@pytest.mark.parametrize(
    "seed,inject,pause,count",
    [
        (1, 0, 0.0, 50),
        (2, 20, 0.3, 50),
        pytest.param(3, 8, 0.0, 200, marks=pytest.mark.slow),
        pytest.param(4, 50, 0.5, 200, marks=pytest.mark.slow),
    ],
)
def test_nobody_ever_reads_an_old_byte(seed, inject, pause, count):
    rng = random.Random(seed)
    config = SocConfig(coherency="snoop").replace(dcache__sets=2, icache__sets=2, memory__size=4096, memory__refresh_interval=200)
    dut, state = System(config), Bytes()
    owners = {"cpu": [n for n in range(SPAN) if n % 8 < 4], "dma": [n for n in range(SPAN) if n % 8 >= 4]}
    reads_of = {"cpu": 0, "fetch": 0, "dma": 0}

    async def work(ctx, name, manager, count):
        mine = owners.get(name)
        for _ in range(count):
            first = rng.randrange(0, SPAN, 8)
            beats = min(rng.randrange(1, 7), (SPAN - first) // 8)
            if mine and rng.random() < 0.5:
                offsets = [n for n in mine if first <= n < first + 8 * beats and rng.random() < 0.8]
                state.begin(offsets)
                versions = {n: state.newest[n] for n in offsets}
                data = [
                    sum((versions.get(w + k, 0) & 0xFF) << 8 * k for k in range(8)) for w in range(first, first + 8 * beats, 8)
                ]
                strb = [sum(1 << k for k in range(8) if w + k in versions) for w in range(first, first + 8 * beats, 8)]
                t = manager.write(BASE + first, data, strb=strb)
                while not t.done:
                    await ctx.tick()
                state.end(versions)
                assert t.resp == [OKAY]
            else:
                oldest = list(state.answered)
                t = manager.read(BASE + first, beats - 1)
                while not t.done:
                    await ctx.tick()
                assert t.resp == [OKAY] * beats
                for beat, word in enumerate(t.data):
                    for k in range(8):
                        n, seen = first + 8 * beat + k, word >> 8 * k & 0xFF
                        allowed = {version & 0xFF for version in range(oldest[n], state.newest[n] + 1)}
                        assert seen in allowed, f"{name} reads byte {n:#x} as {seen}, not {allowed}, cycle {manager.cycle}"
                reads_of[name] += 1

    def build(sim):
        managers = {
            "cpu": Manager(sim, dut.cpu, rng=rng, pause=pause, cache=0b1111),
            "fetch": Manager(sim, dut.fetch, rng=rng, pause=pause, cache=0b1111),
            "dma": Manager(sim, dut.dma, rng=rng, pause=pause),
        }
        finished = []

        async def settings(ctx):
            csr = dut.dcache.csr
            ctx.set(csr.ctrl_prefetch, seed % 2)
            ctx.set(csr.ctrl_inject, inject != 0)
            ctx.set(csr.ctrl_inject_interval, inject)

        sim.add_testbench(settings)
        for name, manager in managers.items():

            async def one(ctx, name=name, manager=manager):
                await work(ctx, name, manager, count)
                finished.append(name)

            sim.add_testbench(one, background=True)

        async def test(ctx):
            for _ in range(100 * count):
                if len(finished) == len(managers):
                    return
                await ctx.tick()
            raise AssertionError(f"only {finished} finished: somebody hangs")

        return test

    simulate(dut, build)
    assert all(reads > 10 for reads in reads_of.values())
