# SPDX-License-Identifier: BSD-2-Clause
"""The DMA engine: channels, segments and the two chunk FIFOs, from the hand-off to the last byte.

To memory: device bytes -> PUSH -> DRAIN -> MEM_WRITE. To device: MEM_READ (or a dirty snoop) -> PUSH -> DRAIN -> DEV_WRITE. The
model carries its own bytes along the path; the records only say when a step happened and where its limits were.
"""

from collections import deque
from collections.abc import Callable

from sim.record import Event

from .channels import Channel, Segment, describe
from .context import Context
from .fifo import ChunkFifo
from .flush import FlushModel

__all__ = ["DmaModel"]

_BUS_MASTER = 4
_STROBE = 8  # cycles from a register's write to its effect, at most


class DmaModel:
    """Handlers of the ``dma``, ``fifo_in`` and ``fifo_out`` channels."""

    def __init__(self, context: Context):
        self.c = context
        self.fifos = (ChunkFifo(context, "memory"), ChunkFifo(context, "device"))
        self.flush = FlushModel(context, self.fifos)
        count = context.config.dma.system_channels
        self.channels = {n: Channel(n) for n in (*range(count), _BUS_MASTER)}
        self._pushing: tuple[deque[Segment], deque[Segment]] = (deque(), deque())
        self._reading: deque[Segment] = deque()
        self._loaded = bytearray()  # read from memory, not yet in the FIFO
        self._portions: deque[tuple[int, list[int] | None]] = deque()  # snooped lines of the data path, None: clean
        self._skip = (0, 0)  # beats of a line whose dirty bytes a snoop has already given
        self._descriptor_words: dict[int, int] = {}
        self._descriptor_snooped: set[int] = set()
        self._snooped = 0  # beats at the head of the FIFO's left queue whose write was snooped

    def connect(self, registers) -> None:
        for n in self.channels:
            name = "bm" if n == _BUS_MASTER else f"ch{n}"
            registers.when_written(f"{name}.ctrl", lambda event, n=n: self._control(event, n))
        registers.when_written("dma.ctrl", self._engine_control)

    # --- registers
    def _control(self, event: Event, number: int) -> None:
        channel, registers = self.channels[number], self.c.registers
        if event.data & 2:
            channel.stop, channel.stop_cycle = True, event.cycle
        if not event.data & 1:
            return
        if number == _BUS_MASTER:
            start, count, mode = registers["bm.desc"], 0, registers["bm.mode"]
        else:
            start, count, mode = (registers[f"ch{number}.{name}"] for name in ("addr", "count", "mode"))
        must = not channel.armed and (number == _BUS_MASTER or 0 < count < 1 << 24)
        if not channel.armed or channel.started is None:
            channel.started = (start, count, mode & 1, must)

    def _engine_control(self, event: Event) -> None:
        if event.data & 1:
            self.flush.command(event)
        if event.data & 2:
            for channel in self.channels.values():
                channel.error = True
            self.flush.abort_asked = True

    # --- dma
    def handoff(self, event: Event) -> None:
        c = self.c
        number, to_device = event.aux & 7, event.aux >> 3 & 1
        channel = self.channels.get(number)
        what = f"DMA transfer {event.tag}: hand-off of {describe(number)}"
        if channel is None:
            c.report(event, f"{what}, which does not exist", event.addr)
            return
        asked, channel.started = channel.started, None
        got = (event.addr, event.data & 0xFFFF_FFFF, to_device)
        if channel.armed and not (channel.reloaded and channel.stop):
            c.report(event, f"{what} while it is busy", event.addr)
        if asked is None:
            c.report(event, f"{what} that no register write had asked for", event.addr)
        elif asked[:3] != got:
            text = "address {:#010x} count {} write_to_device {}"
            c.report(event, f"{what} with other values", event.addr, text.format(*asked), text.format(*got))
        values = got if asked is None else asked[:3]
        channel.arm(event.tag, *values)
        if number == _BUS_MASTER:
            self._check_pointer(channel)

    def _check_pointer(self, channel: Channel) -> None:
        """A list ends with an error at a pointer that is misaligned or leads out of memory."""
        channel.error |= not channel.last and (channel.next % 16 != 0 or not self.c.in_memory(channel.next))

    def descriptor(self, event: Event) -> None:
        c = self.c
        channel = self.channels[_BUS_MASTER]
        what = f"DMA transfer {event.tag}: descriptor at {event.addr:#010x}"
        if not channel.armed or channel.last:
            c.report(event, f"{what} although the list is over", event.addr)
        elif event.addr != channel.next:
            c.report(event, f"{what} is not the next one", event.addr, f"{channel.next:#010x}", f"{event.addr:#010x}")
        raw = bytearray()
        for addr in range(event.addr, event.addr + 16, c.beat):
            word = self._descriptor_words.pop(addr & c.beat_mask, None)
            if word is None:
                c.report(event, f"{what} was not read from memory", event.addr)
                return
            raw += word.to_bytes(c.beat, "little")
        self._descriptor_snooped.clear()
        addr, length, flags, following = (int.from_bytes(raw[n : n + 4], "little") for n in (0, 4, 8, 12))
        got = event.data & 0xFFFF_FFFF, event.data >> 32 & 0xFFFF_FFFF
        if got != (addr, length):
            text = "address {:#010x} length {}"
            c.report(event, f"{what}: contents", event.addr, text.format(addr, length), text.format(*got))
        channel.describe(addr, length, flags & 1 == 1, following)
        self._check_pointer(channel)

    def segment(self, event: Event) -> None:
        c = self.c
        addr, to_device, length, offset = event.addr, event.aux & 1, event.aux >> 1, event.data & 0xFFFF_FFFF
        what = f"DMA transfer {event.tag}: segment of {length} bytes at {addr:#010x}"
        channel = next((ch for ch in self.channels.values() if ch.armed and ch.tag == event.tag), None)
        if channel is None:
            c.report(event, f"{what} of a transfer that is not running", addr)
            channel = Channel(-1)
        else:
            if to_device != channel.to_device:
                c.report(event, f"{what}: write_to_device", addr, channel.to_device, to_device)
            problem = channel.advance(addr, length)
            if problem:
                c.report(event, f"{what}: {problem}", addr)
        c.device.request(event, offset, length, channel.residue == 0)
        for ended in {segment.channel for queue in self._pushing for segment in queue if segment.channel.error}:
            self._purge(ended)  # a read error cut it; its completion may still have to be recorded
        if not (c.in_memory(addr) and c.in_memory(addr + length - 1)):
            channel.error = True  # the interconnect answers what lies outside, and no memory record shows it
        if length:
            segment = Segment(addr, offset, length, event.tag, channel)
            self._pushing[to_device].append(segment)
            if to_device:
                while self._reading and self._reading[0].dead:  # the mover is idle when it accepts: nothing is in flight
                    self._reading.popleft()
                if not self._reading:
                    self._portions.clear()
                    self._skip = (0, 0)
                self._reading.append(segment)

    def complete(self, event: Event) -> None:
        c = self.c
        channel = self.channels.get(event.aux & 7)
        what = f"DMA transfer {event.tag}: completed"
        if channel is None or not channel.armed or channel.tag != event.tag:
            c.report(event, f"{what} although it is not running")
            return
        error, stopped = bool(event.flags & 1), bool(event.flags & 2)
        residue = event.data & 0xFFFF_FFFF
        if error and not channel.error:
            c.report(event, f"{what} with an error that nothing had caused")
        if stopped and not channel.stop and not c.device.exhausted:
            c.report(event, f"{what} as stopped although neither the driver nor the device ended it")
        if not error:
            moved = channel.count - residue
            if channel.number != _BUS_MASTER and channel.pushed != moved:
                c.report(event, f"{what}: bytes in the FIFO (count minus residue)", None, channel.pushed, moved)
            elif not stopped and (residue or channel.pushed != channel.count or not channel.last):
                text = f"{channel.count} bytes"
                c.report(event, f"{what} before its last byte was in the FIFO", None, text, f"{channel.pushed} bytes")
            if channel.pushed != channel.taken:
                c.report(event, f"{what} with accepted bytes not in the FIFO", None, channel.taken, channel.pushed)
        self._purge(channel)
        c.device.truncated |= event.flags != 0
        channel.armed = False
        stopped_long_ago = channel.stop and channel.stop_cycle < event.cycle - _STROBE
        if channel.number != _BUS_MASTER and not event.flags and not stopped_long_ago:
            start, count, mode = (c.registers[f"ch{channel.number}.{name}"] for name in ("addr", "count", "mode"))
            if mode & 4:
                channel.rearm(start, count)

    def _purge(self, channel: Channel) -> None:
        """Accepted work of a transfer that has ended never enters the FIFO; reads in flight still come back."""
        for queue in self._pushing:
            if any(segment.channel is channel for segment in queue):
                kept = [segment for segment in queue if segment.channel is not channel]
                queue.clear()
                queue.extend(kept)
                if queue is self._pushing[1]:
                    self._loaded.clear()
        for segment in self._reading:
            segment.dead |= segment.channel is channel

    def abort(self, event: Event) -> None:
        if not self.flush.abort_asked:
            self.c.report(event, "DMA: aborted although no register write had asked for it")
        self.flush.aborted(event)
        for fifo in self.fifos:
            fifo.discard_all()
        for channel in self.channels.values():
            self._purge(channel)
        self.c.device.truncated = True

    # --- data toward the FIFO
    def read_beat(self, event: Event, addr: int, word: int, error: bool) -> None:
        """A beat was read for the mover: it must be the next of the segments' bytes."""
        c = self.c
        while True:
            segment = self._reading[0] if self._reading else None
            at = segment.addr + segment.read if segment else None
            if segment and at & c.beat_mask == addr:
                break
            if self._skip[0] <= addr < self._skip[1]:
                return
            if segment and self._from_snoop(segment):
                continue
            if segment and segment.dead:
                self._reading.popleft()
                continue
            what = f"memory {addr:#010x}: read for the DMA although no segment needs it"
            c.report(event, what, addr, None if at is None else f"{at:#010x}", f"{addr:#010x}")
            return
        if self._portions:
            end = min(segment.addr + segment.length, (at & c.line_mask) + c.line_bytes)
            if self._from_snoop(segment):
                self._skip = (addr + c.beat, end)
                return
        lane = at & ~c.beat_mask
        count = min(segment.length - segment.read, c.beat - lane)
        if error:
            segment.failed = segment.channel.error = True
        elif not segment.dead and not segment.failed:
            self._loaded += (word >> 8 * lane & (1 << 8 * count) - 1).to_bytes(count, "little")
        self._read(segment, count)

    def _read(self, segment: Segment, count: int) -> None:
        c = self.c
        line = (segment.addr + segment.read) & c.line_mask
        segment.read += count
        done = segment.read == segment.length
        if self._portions and (done or (segment.addr + segment.read) & c.line_mask != line) and self._portions[0][0] == line:
            self._portions.popleft()
        if done:
            self._reading.popleft()

    def _from_snoop(self, segment: Segment) -> bool:
        """Takes the segment's next bytes from a dirty snoop of their line, if there was one."""
        c = self.c
        at = segment.addr + segment.read
        line = at & c.line_mask
        if not self._portions or self._portions[0][0] != line or self._portions[0][1] is None:
            return False
        words = self._portions[0][1]
        count = min(segment.length - segment.read, line + c.line_bytes - at)
        raw = b"".join(word.to_bytes(c.beat, "little") for word in words)
        if not segment.dead and not segment.failed:
            self._loaded += raw[at - line : at - line + count]
        self._read(segment, count)
        return True

    def snooped_data(self, line: int, words: list[int] | None) -> None:
        self._portions.append((line, words))

    def _source(self, event: Event, to_device: int, segment: Segment, count: int) -> bytes | None:
        """The bytes that must enter the FIFO now; None if they have not arrived."""
        if not to_device:
            return self.c.device.take(event, segment.device + segment.pushed, count)
        while len(self._loaded) < count and self._reading and self._from_snoop(self._reading[0]):
            pass
        if len(self._loaded) < count:
            return None
        found = bytes(self._loaded[:count])
        del self._loaded[:count]
        return found

    # --- fifo_in, fifo_out
    def push(self, event: Event) -> None:
        _, _, _, tag, addr, aux, data = event
        c = self.c
        to_device, strobes = aux >> 31, aux & 0x7FFF_FFFF
        fifo, queue = self.fifos[to_device], self._pushing[to_device]
        word, left = 0, strobes
        while left:
            segment = queue[0] if queue else None
            problem = None
            if segment is None:
                problem = "bytes entered that belong to no transfer"
            else:
                at = (segment.device if to_device else segment.addr) + segment.pushed
                lane = at & ~c.beat_mask
                if at & c.beat_mask != addr or not left >> lane & 1 or left & (1 << lane) - 1:
                    problem = f"bytes entered that are not next (next: {at:#010x})"
                elif tag != segment.tag:
                    problem = f"bytes of transfer {segment.tag} entered as {tag}"
                else:
                    ones = left >> lane
                    count = min((ones ^ ones + 1).bit_length() - 1, segment.length - segment.pushed)
                    found = self._source(event, to_device, segment, count)
                    if found is None:
                        problem = "bytes entered before memory was read"
            if problem:
                c.report(event, f"DMA FIFO to {fifo.name}: {problem}", addr, None, f"{addr:#010x}: {c.show(data, strobes)}")
                word = data  # go on with what the hardware holds, so that one error stays one
                break
            word |= int.from_bytes(found, "little") << 8 * lane
            left &= ~(((1 << count) - 1) << lane)
            segment.pushed += count
            segment.channel.pushed += count
            if segment.pushed == segment.length:
                queue.popleft()
        if (word ^ data) & c.masks[strobes]:
            what = f"DMA FIFO to {fifo.name}: bytes that entered for {addr:#010x}"
            c.report(event, what, addr, c.show(word, strobes), c.show(data, strobes))
        fifo.push(addr, strobes, word)

    def drain(self, event: Event) -> None:
        to_device = event.aux >> 31
        fifo = self.fifos[to_device]
        fifo.drain(event, event.addr, event.aux & 0x7FFF_FFFF, event.data)
        if not to_device and fifo.left and not self.c.in_memory(fifo.left[-1][0]):
            self._write_failed(fifo.left.pop())  # answered by the interconnect: no memory record will come
            fifo.arrived += 1

    def _write_failed(self, beat: tuple[int, int, int]) -> None:
        self.flush.write_failed(beat)
        for channel in self.channels.values():
            channel.error |= channel.armed

    # --- data toward memory
    def write_beat(self, event: Event, addr: int, error: bool) -> tuple[int, int] | None:
        c = self.c
        if not event.aux >> 8 & c.full_strobes:
            return None  # a handshake finished without bytes
        expected = self.fifos[0].arrive()
        if expected is None:
            c.report(event, f"memory {addr:#010x}: a DMA write that never left the FIFO", addr)
            return None
        if self._snooped:
            self._snooped -= 1
        elif c.config.coherent and c.dcache.present(expected[0] & c.line_mask):
            c.report(event, f"memory {addr:#010x}: a DMA write that did not snoop the D-cache, which holds the line", addr)
        if expected[0] != addr:
            c.report(event, "DMA write to another address", addr, f"{expected[0]:#010x}", f"{addr:#010x}")
            return None
        if error:
            self._write_failed(expected)
        return expected[1:]

    def snooped_write(self, event: Event) -> list[tuple[int, int, int]]:
        """The beats of the burst whose write is being snooped: what has left of one chunk."""
        c = self.c
        waiting = list(self.fifos[0].left)[self._snooped :]
        while waiting and waiting[0][0] & c.line_mask != event.addr:
            if c.dcache.present(waiting[0][0] & c.line_mask):
                break
            waiting.pop(0)  # a miss that was not recorded
            self._snooped += 1
        if not waiting or waiting[0][0] & c.line_mask != event.addr:
            # A burst that a time-out or an abort cut carries no bytes; in cut-through one chunk may leave as two bursts.
            split = c.config.dma.cut_through and any(beat[0] & c.line_mask == event.addr for beat in self.fifos[0].left)
            if not split and not self.flush.has_cut:
                what = f"D-cache line {event.addr:#010x}: DMA write snooped, but no write of it is on its way"
                c.report(event, what, event.addr)
            return []
        unit = ~(c.config.dma.chunk_bytes - 1)
        group = []
        for beat in waiting:
            if beat[0] & unit != waiting[0][0] & unit:
                break
            group.append(beat)
        self._snooped += len(group)
        return group

    # --- descriptors
    def descriptor_beat(self, event: Event, addr: int, word: int, error: bool) -> None:
        if error:
            self.channels[_BUS_MASTER].error = True
        elif addr not in self._descriptor_snooped:
            self._descriptor_words[addr] = word

    def snooped_descriptor(self, line: int, words: list[int] | None) -> None:
        for n, word in enumerate(words or ()):
            self._descriptor_words[line + n * self.c.beat] = word
            self._descriptor_snooped.add(line + n * self.c.beat)

    def outstanding(self, report: Callable[..., None]) -> None:
        """Duties at the end of a run."""
        for fifo in self.fifos:
            if fifo.closed:
                report(f"DMA FIFO to {fifo.name}: {len(fifo.closed)} beats of closed chunks never left", fifo.closed[0][0])
            if fifo.left:
                report(f"DMA FIFO to {fifo.name}: {len(fifo.left)} beats left but never arrived", fifo.left[0][0])
        for channel in self.channels.values():
            if channel.started and channel.started[3]:
                report(f"DMA: {describe(channel.number)} was started but never handed off")
            if channel.armed and channel.last and channel.count and channel.pushed == channel.count and not channel.error:
                report(f"DMA transfer {channel.tag}: all its bytes entered the FIFO but it was never completed")
        self.flush.outstanding(report)
