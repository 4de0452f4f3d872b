# SPDX-License-Identifier: BSD-2-Clause
"""Replays beats on the D-cache's exported Verilog, and compares each with the functional model.

The cache stands between an agent in Verilog and an ideal memory (:mod:`sim.bench.harness`), prefetcher and injector off as
after reset. Its probe records come back as events; the agent's request number in their tag says which access one is about.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from random import Random

from rtl.cache.dcache import DCache
from rtl.config import SocConfig
from rtl.probe import Kind

from ..bench.harness import ROOT, Event, Harness
from ..bench.program import Step, read, wait, write
from .format import Beat, TraceError
from .functional import FunctionalCache, Outcome

__all__ = ["MAX_BEATS", "Comparison", "Pace", "compare", "expected", "functional_cache"]

AGENT = Path(__file__).parent / "hdl" / "trace_agent.v"
MAX_BEATS = 120_000
_PROBES = ("cpu", "parked", "d_fill", "d_line")
_COUNTERS = ("hits", "misses", "evictions", "writebacks")
_TAGS = 1 << 16
_Events = Mapping[tuple[str, str], list[Event]]  # by port and kind
_FIRST = 10  # the cycle of the first request: reset has ended


class Pace(Enum):
    """When an access is asked for: after the answer to the one before, as soon as it is taken, or now one, now the other."""

    ALONE = "alone"
    BACK_TO_BACK = "back to back"
    MIXED = "mixed"


@dataclass(frozen=True)
class Comparison:
    """A replay against the model. ``differences``: the first three of each kind, in words; none means equal access by access."""

    accesses: int
    hits: int
    misses: int
    evictions: int
    writebacks: int
    cycles: int
    differences: tuple[str, ...]


class _TraceHarness(Harness):
    """D-caches' native ports driven by trace agents, all by the same program; the caches' records in the log."""

    def trace(self, instance: str) -> None:
        """The agent at the port ``<instance>_cpu``; its program is ``d0``, that of all."""
        cpu = f"{instance}_cpu"
        ports = []
        for name in ("valid", "addr", "we", "data", "strb", "size", "tag"):
            ports.append(f".req_{name}({cpu}_req_{name})")
            self._driven.add(f"{cpu}_req_{name}")
        ports += [f".req_ready({cpu}_req_ready)", f".rsp_valid({cpu}_rsp_valid)"]
        self._agent(instance, "trace_agent", f".DATA({self.width})", ", ".join(ports))
        self.connect(f"{cpu}_req_cacheable", "1'b1")
        self.connect(f"{cpu}_rsp_ready", "1'b1")
        # kind, flags, tag, addr, aux: the fields of a record from its bit 0.
        for probe in _PROBES:
            record = f"{instance}_probe_{probe}_record"
            self._text.append(
                f"  always @(posedge clk) if (!rst && {instance}_probe_{probe}_valid) $fwrite(log, "
                f'"%0d {instance}.{probe} %0d %0d %0d %h %h\\n", cycle, {record}[7:0], {record}[15:8], {record}[31:16], '
                f"{record}[63:32], {record}[95:64]);"
            )
        # The block tells of each event; here, as in a SoC's register bank, stand the counters.
        counters = ", ".join(f"{instance}_{name}" for name in _COUNTERS)
        for name in _COUNTERS:
            self._text.append(
                f"  reg [31:0] {instance}_{name} = 0;\n"
                f"  always @(posedge clk) if (!rst && {instance}_csr_{name}_incr) {instance}_{name} <= {instance}_{name} + 1;"
            )
        self._text.append(
            f"  always @(posedge clk) if (quiet == 399) "
            f'$fwrite(log, "%0d {instance} COUNT %0d %0d %0d %0d\\n", cycle, {counters});'
        )

    def verilog(self) -> str:
        return AGENT.read_text() + super().verilog()


@cache
def _harness(configs: tuple[SocConfig, ...]) -> _TraceHarness:
    bench = _TraceHarness("trace", configs[0].data_width)
    for number, config in enumerate(configs):
        bench.add(f"d{number}", DCache(config=config, native=True))
        bench.memory(f"d{number}_m_axi", space=(config.memory.size - 1).bit_length())
        bench.trace(f"d{number}")
    return bench


def functional_cache(config: SocConfig) -> FunctionalCache:
    """The functional model of the configured D-cache, empty."""
    c = config.dcache
    return FunctionalCache(
        sets=c.sets,
        ways=c.ways,
        line_bytes=c.line_bytes,
        policy=c.replacement,
        seed=c.replacement_seed,
        write_through=c.write_through,
    )


def expected(config: SocConfig, beats: Sequence[Beat]) -> tuple[FunctionalCache, list[Outcome]]:
    """The functional model after all beats, and what it said to each."""
    model = functional_cache(config)
    return model, [model.access(beat.address, write=beat.write) for beat in beats]


def _program(beats: Sequence[Beat], pace: Pace) -> list[Step]:
    rng, steps = Random(1), []
    for beat in beats:
        steps.append((write if beat.write else read)(beat.address, size=beat.size.bit_length() - 1))
        if pace == Pace.ALONE or (pace == Pace.MIXED and rng.random() < 0.3):
            steps.append(wait())
    return steps


def compare(
    configs: Sequence[SocConfig],
    beats: Sequence[Beat],
    *,
    pace: Pace = Pace.BACK_TO_BACK,
    latency: int = 10,
    stall: int = 0,
    root: Path = ROOT,
) -> list[Comparison]:
    """Replays the beats on a D-cache per configuration, all in one simulation, and compares each with its model.

    Compared are: per access, hit or miss; per miss that fills the line, its way, the line that was replaced and whether that
    was written back, in the order of the program; and at the end the cache's performance counters.

    Parameters
    ----------
    configs : alike in ``data_width`` and ``memory``. What is not there yet is built, which takes some seconds for each.
    beats : as :func:`~sim.trace.format.beats` makes them for these.
    latency : of the memory, in cycles. stall : percent of the cycles in which it holds its handshakes back.

    Raises
    ------
    TraceError
        If there are no beats, or more than :data:`MAX_BEATS`, or the configurations are not alike.
    ToolError, BenchError
        If the simulation cannot be built, or does not end.
    """
    if not 1 <= len(beats) <= MAX_BEATS:
        raise TraceError(f"beats of a replay must be 1 to {MAX_BEATS}, not {len(beats)}")
    if len({(config.data_width, config.memory) for config in configs}) != 1:
        raise TraceError("configurations of one replay must be alike in data_width and memory")
    slowest = max(config.dcache.line_bytes // config.data_bytes for config in configs) + latency
    run = _harness(tuple(configs)).run(
        {f"d{number}": [] for number in range(len(configs))} | {"d0": _program(beats, pace)},
        latency=latency,
        stall=stall,
        limit=1000 + len(beats) * 10 * slowest,
        root=root,
    )
    events: _Events = defaultdict(list)
    for event in run.events:
        events[event.port, event.kind].append(event)
    return [_judge(config, f"d{number}", beats, events) for number, config in enumerate(configs)]


def _judge(config: SocConfig, name: str, beats: Sequence[Beat], events: _Events) -> Comparison:
    model, outcomes = expected(config, beats)
    done, accesses = _accesses(config, name, beats, outcomes, events)
    fills, evictions, ways = _misses(config, name, beats, outcomes, events)
    counted = tuple(int(value) for value in events[name, "COUNT"][-1].fields)
    wanted = (model.hits, model.misses, model.evictions, model.writebacks)
    counters = [f"counters {', '.join(_COUNTERS)} are {counted}, the model has {wanted}"] if counted != wanted else []
    found = [text for kind in (accesses, fills, evictions, ways, counters) for text in kind[:3]]
    return Comparison(len(beats), *wanted, done - _FIRST, tuple(found))


def _accesses(
    config: SocConfig, name: str, beats: Sequence[Beat], outcomes: Sequence[Outcome], events: _Events
) -> tuple[int, list[str]]:
    """Each access has one record, with its kind and word, and the model's hit flag. Returns the last record's cycle too."""
    found: list[str] = []
    seen: dict[int, tuple[int, int, int]] = {}
    channels, kinds = ("parked", "cpu"), (Kind.LOAD, Kind.STORE)
    records = [event for channel in channels for kind in kinds for event in events[f"{name}.{channel}", str(int(kind))]]
    records.sort(key=lambda event: event.cycle)
    for number, event in enumerate(records):
        flags, tag, address = int(event.fields[0]), int(event.fields[1]), int(event.fields[2], 16)
        # Records may overtake each other by a few accesses, never by half the range of tags.
        nearest = number - _TAGS // 2
        access = nearest + (tag - nearest) % _TAGS
        if access in seen:
            found.append(f"access {access} has two records")
        seen[access] = (int(event.kind), flags, address)
    for number, (beat, outcome) in enumerate(zip(beats, outcomes)):
        kind, flags, address = seen.pop(number, (0, 0, 0))
        what = f"access {number} ({'store' if beat.write else 'load'} at {beat.address:#010x})"
        word = beat.address - beat.address % config.data_bytes
        if (kind, address, flags & 1) != (Kind.STORE if beat.write else Kind.LOAD, word, 0):
            found.append(f"{what} has no record of its own without error")
        elif bool(flags & 2) != outcome.hit:
            found.append(f"{what} is a {'hit' if flags & 2 else 'miss'}, the model says {'hit' if outcome.hit else 'miss'}")
    found.extend(f"access {number} was never asked for" for number in seen)
    return (records[-1].cycle if records else _FIRST), found


def _misses(
    config: SocConfig, name: str, beats: Sequence[Beat], outcomes: Sequence[Outcome], events: _Events
) -> tuple[list[str], list[str], list[str]]:
    """Fills and evictions in the order of the program, and the way of each fill (which may end in another order)."""
    missed = [(beat, outcome) for beat, outcome in zip(beats, outcomes) if not outcome.hit and outcome.way is not None]
    size = config.dcache.line_bytes
    lines = [beat.address - beat.address % size for beat, _ in missed]
    requested = events[f"{name}.d_fill", str(int(Kind.FILL_REQUEST))]
    fills = _same("fill", [int(event.fields[2], 16) for event in requested], lines)
    victims = [(outcome.victim, outcome.written_back) for _, outcome in missed if outcome.victim is not None]
    evicted = events[f"{name}.d_line", str(int(Kind.EVICT))]
    evictions = _same("eviction", [(int(event.fields[2], 16), event.fields[0] == "1") for event in evicted], victims)
    ways: dict[int, list[int]] = defaultdict(list)
    for event in events[f"{name}.d_fill", str(int(Kind.FILL_INSTALL))]:
        ways[int(event.fields[2], 16)].append(int(event.fields[3], 16) >> 8)
    wanted: dict[int, list[int]] = defaultdict(list)
    for line, (_, outcome) in zip(lines, missed):
        wanted[line].append(outcome.way)
    installs = [text for line in wanted for text in _same(f"way of line {line:#010x} at its fill", ways[line], wanted[line])]
    return fills, evictions, installs


def _same(what: str, got: list, wanted: list) -> list[str]:
    """The first difference of two sequences, if there is one."""
    for number, (one, other) in enumerate(zip(got, wanted)):
        if one != other:
            return [f"{what} {number} is {_show(one)}, the model has {_show(other)}"]
    return [f"{what}: {len(got)} of them, the model has {len(wanted)}"] if len(got) != len(wanted) else []


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:#010x} ({'dirty' if value[1] else 'clean'})"
    return f"{value:#x}"
