# SPDX-License-Identifier: BSD-2-Clause
"""A DMA engine with a fake device, a fake memory, a register front and a replay of its probe records."""

import random
from collections import deque

from amaranth.hdl import Value

from rtl.config import SocConfig
from rtl.dma.engine import DmaEngine
from rtl.probe import Kind

from .helpers import BASE, Memory, Recorder, accepted, simulate, stable

W1C = {
    "dma": ("flush_status_done", "error_status_read", "error_status_write", "error_status_descriptor", "error_status_aborted"),
    "bm": ("status_done", "status_error", "status_stopped"),
    "ch": ("status_tc", "status_error", "status_stopped"),
}


class Replay:
    """Untimed byte model of the engine: replays probe records in file order and knows what may follow what.

    ``memory`` and ``device`` are the initial contents. :meth:`check` compares the FIFO's open chunks with the hardware.
    """

    def __init__(self, memory: bytes, device: bytes, chunk: int, lanes: int, cut_through: bool = False):
        self.memory, self.device = bytearray(memory), bytearray(device)
        self.chunk, self.lanes = chunk, lanes
        self.fifo = ({}, {})  # address -> byte, per direction, as PUSHed and not DRAINed
        self.remainder = {}  # bytes of the flush in progress that left and may come back
        self.owed = ({}, {})  # (address, device or memory address) of the segment's bytes not pushed yet, in order
        self.pending = (deque(), deque())  # segments: [memory, device, length]
        self.drained = deque()  # (beat, strobes) on their way to memory
        self.flushing, self.cut_through = False, cut_through
        self.counts = {kind: 0 for kind in Kind}

    def expected_push(self, side: int, tag: int, addr: int, strobes: int, value: int) -> None:
        queue = self.pending[side]
        for lane in range(self.lanes):
            if not strobes >> lane & 1:
                continue
            assert queue, f"PUSH without a SEGMENT at {addr:#x}"
            seg = queue[0]
            dest = seg["device"] if side else seg["memory"]
            assert addr + lane == dest, f"PUSH of {addr + lane:#x}, the segment's next byte is {dest:#x}"
            assert tag == seg["tag"]
            byte = value >> 8 * lane & 0xFF
            if side:
                assert byte == self.memory[seg["memory"] - BASE], f"byte {seg['memory']:#x} was not what memory holds"
            else:
                assert byte == self.device[seg["device"]], f"byte {seg['device']:#x} was not what the device holds"
            self.fifo[side][dest] = byte
            seg["memory"] += 1
            seg["device"] += 1
            seg["length"] -= 1
            if not seg["length"]:
                queue.popleft()

    def apply(self, event) -> None:
        _, kind, flags, tag, addr, aux, value = event
        self.counts[kind] += 1
        side, strobes = aux >> 31, aux & 0xFFFF
        if kind == Kind.SEGMENT:
            for queue in self.pending:  # a cut segment's rest will not come
                queue.clear()
            self.pending[aux & 1].append({"memory": addr, "device": value, "length": aux >> 1, "tag": tag})
        elif kind == Kind.PUSH:
            assert not self.flushing or self.cut_through, "PUSH while a flush runs"
            self.expected_push(side, tag, addr, strobes, value)
        elif kind in (Kind.DRAIN, Kind.DISCARD):
            assert strobes
            for lane in range(self.lanes):
                if strobes >> lane & 1:
                    byte = self.fifo[side].pop(addr + lane)
                    if kind == Kind.DRAIN:
                        assert byte == value >> 8 * lane & 0xFF
                        if side:
                            self.device[addr + lane] = byte
                        elif self.flushing:
                            self.remainder[addr + lane] = byte
            if kind == Kind.DRAIN and not side:
                self.drained.append((addr, strobes, value))
        elif kind == Kind.FLUSH_BEGIN:
            self.flushing, self.remainder = True, {}
        elif kind == Kind.FLUSH_END:
            self.flushing = False
            if not flags:
                pass
            elif flags & 2:
                # Only the last chunk sent can be the remainder; chunks that were whole are lost.
                if self.remainder:
                    last = list(self.remainder)[-1] // self.chunk
                    kept = {a: b for a, b in self.remainder.items() if a // self.chunk == last}
                    if len(kept) < self.chunk:
                        self.fifo[0].update(kept)
        elif kind == Kind.DMA_ABORT:
            for fifo, queue in zip(self.fifo, self.pending):
                fifo.clear()
                queue.clear()
            self.remainder = {}

    def match_beats(self, beats) -> None:
        """Every beat that memory saw with strobes was drained before, in that order; a beat without error changes memory."""
        for addr, strobes, value, error in beats:
            if not strobes:
                continue
            assert self.drained, f"write of {addr:#x} was never drained"
            assert (addr, strobes) == self.drained[0][:2], f"{addr:#x}/{strobes:#x} written, {self.drained[0]} drained"
            self.drained.popleft()
            if not error:
                for lane in range(self.lanes):
                    if strobes >> lane & 1:
                        self.memory[addr + lane - BASE] = value >> 8 * lane & 0xFF
        beats.clear()


class Bench:
    """One simulation: ``run(test)`` calls ``test(bench)`` (async) with the register and device helpers below."""

    def __init__(self, *, device_bytes: int = 0x4000, **changes):
        memory = changes.pop("memory", {})
        self.device_pressure = changes.pop("device_pressure", 0.0)
        self.config = SocConfig().replace(**changes)
        self.dut = DmaEngine(config=self.config)
        self.mem = Memory(**memory)
        self.lanes = self.config.data_bytes
        self.chunk = self.config.dma.chunk_bytes
        self.device = bytearray((n * 13 + n // 256 * 5 + 1) & 0xFF for n in range(device_bytes))
        self.requests = deque()
        self.rng = random.Random(memory.get("seed", 0))
        self.device_stall = False
        self.flags = {}
        self.recorder = Recorder()
        self.replay = Replay(self.mem.data, self.device, self.chunk, self.lanes, self.config.dma.cut_through)
        self.replayed = 0
        self.accepted = []

    # --- the device
    async def _requester(self, ctx):
        port = self.dut.request
        while True:
            if not self.requests:
                ctx.set(port.req.valid, 0)
                await ctx.tick()
                continue
            length, addr, to_device, last, channel = self.requests.popleft()
            ctx.set(port.req.payload, {"length": length, "addr": addr, "write_to_device": to_device, "last": last})
            ctx.set(port.channel, channel)
            ctx.set(port.req.valid, 1)
            await accepted(ctx, port.req.ready)
            ctx.set(port.req.valid, 0)
            self.accepted.append((length, addr, to_device, channel))
            if not to_device:
                await self._send(ctx, bytes(self.device[addr : addr + length]))

    async def _send(self, ctx, blob):
        t = self.dut.s_axis.t
        for at in range(0, len(blob), self.lanes):
            piece = blob[at : at + self.lanes]
            while self.rng.random() < self.device_pressure:
                await ctx.tick()
            ctx.set(
                t.payload,
                {
                    "data": int.from_bytes(piece, "little"),
                    "keep": (1 << len(piece)) - 1,
                    "last": at + self.lanes >= len(blob),
                },
            )
            ctx.set(t.valid, 1)
            await accepted(ctx, t.ready)
            ctx.set(t.valid, 0)

    async def _receiver(self, ctx):
        t = self.dut.m_axis.t
        held = None
        while True:
            ready = not self.device_stall and self.rng.random() >= self.device_pressure
            ctx.set(t.ready, ready)
            _, _, valid, bits = await ctx.tick().sample(t.valid, Value.cast(t.payload))
            if not valid:
                held = stable("m_axis", held, 0, ready, ())
                continue
            payload = t.payload.shape().from_bits(bits)
            now = (payload.user, payload.data, payload.keep)
            if held is not None and payload.keep == 0 and held[0] == payload.user:
                held = now if not ready else None  # the null beat after a time-out or an abort
            else:
                held = stable("m_axis", held, valid, ready, now)
            if ready:
                for lane in range(self.lanes):
                    if payload.keep >> lane & 1:
                        self.device[payload.user + lane] = payload.data >> 8 * lane & 0xFF

    def ask(self, addr: int, sizes, *, to_device: bool, channel: int = 0, last: bool = True) -> None:
        """Queues device requests of the given sizes from device offset ``addr`` on; the last one says so."""
        sizes = list(sizes)
        for n, size in enumerate(sizes):
            self.requests.append((size, addr, to_device, last and n == len(sizes) - 1, channel))
            addr += size

    # --- registers
    def csr(self, block):
        return getattr(self.dut, f"csr_{block}")

    async def _flags(self, ctx):
        """The bank's w1c flags."""
        blocks = ["dma", "bm"] + [f"ch{n}" for n in range(self.config.dma.system_channels)]
        names = [(b, f) for b in blocks for f in W1C["ch" if b.startswith("ch") else b]]
        signals = [getattr(self.csr(b), f"{f}_set") for b, f in names]
        self.flags = {n: 0 for n in names}
        shown = {}
        while True:
            values = (await ctx.tick().sample(*signals))[2:]
            for name, value in zip(names, values):
                if value:
                    self.flags[name] = 1
                if shown.get(name) != self.flags[name]:
                    ctx.set(getattr(self.csr(name[0]), name[1]), self.flags[name])
                    shown[name] = self.flags[name]

    async def write(self, block: str, register: str, **fields):
        """One register write: ``rw`` values stay, ``w`` strobes last one cycle."""
        ctx, csr = self.ctx, self.csr(block)
        strobe = getattr(csr, f"{register}_written")
        for name, value in fields.items():
            ctx.set(getattr(csr, register if name == "value" else f"{register}_{name}"), value)
        ctx.set(strobe, 1)
        await ctx.tick()
        ctx.set(strobe, 0)
        if register == "ctrl":
            for name in fields:
                ctx.set(getattr(csr, f"ctrl_{name}"), 0)

    def read(self, block: str, name: str) -> int:
        if (block, name) in self.flags:
            return self.flags[block, name]
        return self.ctx.get(getattr(self.csr(block), name))

    def clear(self) -> None:
        for name in self.flags:
            self.flags[name] = 0

    async def start(self, channel=0, *, addr, count, to_device, demand=False, auto=False, mask=0):
        block = f"ch{channel}"
        await self.write(block, "addr", value=addr)
        await self.write(block, "count", value=count)
        await self.write(block, "mode", write_to_device=to_device, demand=demand, auto_init=auto)
        await self.write(block, "mask", mask=mask)
        await self.write(block, "ctrl", start=1)

    async def until(self, block, name, value=1, limit=4000):
        for _ in range(limit):
            if self.read(block, name) == value:
                return
            await self.ctx.tick()
        raise AssertionError(f"{block}.{name} never became {value}")

    async def ticks(self, count):
        for _ in range(count):
            await self.ctx.tick()

    async def flush(self, timeout=4096):
        self.flags["dma", "flush_status_done"] = 0
        self.ctx.set(self.dut.csr_dma.flush_timeout, timeout)
        await self.write("dma", "ctrl", flush=1)
        await self.until("dma", "flush_status_done", limit=10000)
        return tuple(self.read("dma", f"flush_status_{n}") for n in ("ok", "bus_error", "timeout"))

    async def transfer(self, *, mem_addr, dev_addr, length, to_device, sizes=None, channel=0, **options):
        """A whole system-channel transfer up to terminal count; no flush."""
        self.clear()
        await self.start(channel, addr=mem_addr, count=length, to_device=to_device, **options)
        self.ask(dev_addr, sizes or split(length, 100), to_device=to_device, channel=channel)
        await self.until(f"ch{channel}", "status_tc", limit=40 * length + 4000)
        assert self.read(f"ch{channel}", "residue") == 0

    def check(self, *, quiet: bool = True) -> None:
        """Replays the records so far and compares every byte: memory, device, open chunks."""
        for event in self.recorder.events[self.replayed :]:
            self.replay.apply(event)
        self.replayed = len(self.recorder.events)
        self.replay.match_beats(self.mem.beats)
        assert self.replay.memory == self.mem.data, "memory differs from the model"
        assert self.replay.device == self.device, "the device differs from the model"
        if quiet:
            for side, name in ((0, "to_memory"), (1, "to_device")):
                assert self.read("dma", f"level_{name}") == len(self.replay.fifo[side]), f"level {name}"

    def kinds(self, *kinds):
        return self.recorder.of(*kinds)

    def run(self, test, deadline: int = 60000) -> None:
        async def bench(ctx):
            self.ctx = ctx
            await test(self)

        async def memory(ctx):
            await self.mem.run(ctx, self.dut.m_axi)

        async def record(ctx):
            dut = self.dut
            await self.recorder.run(ctx, dut.probe_fifo_out, dut.probe_fifo_in, dut.probe_dma)

        simulate(
            self.dut,
            bench,
            background=(memory, record, self._flags, self._requester, self._receiver),
            deadline=deadline,
        )


def split(length: int, size: int) -> list[int]:
    """``length`` in pieces of at most ``size``."""
    return [min(size, length - at) for at in range(0, length, size)]
