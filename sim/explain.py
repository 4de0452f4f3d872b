# SPDX-License-Identifier: BSD-2-Clause
"""``explain NAME``: what happens in a scenario, step by step, with the page's rule behind it."""

import textwrap
from collections.abc import Callable, Iterator

from rtl.config import SocConfig

from .explain_example import explain_example
from .scenarios import AnyScenario, DriverScenario, Expectation, Scenario
from .scenarios.layout import make_setting
from .scenarios.model import COHERENT, DISCIPLINES, MODES, ROWS, VALUES
from .scenarios.outcome import DISCIPLINES as OUTCOME_DISCIPLINES

__all__ = ["RULES", "explain", "steps"]

#: The rules of the two source pages, in our words.
RULES = {
    "S1": "DMA interface versions 1 and 2: KeFlushIoBuffers before a transfer begins, in either direction.",
    "S2": "A common buffer with CacheEnabled=TRUE needs it before each transfer too; with CacheEnabled=FALSE it does not.",
    "S3": "System (subordinate) DMA: FlushAdapterBuffers at the end of each device transfer.",
    "S4": "Bus master: FlushAdapterBuffers at the end of each transfer operation of an IRP.",
    "S5": "Without a flush before a read, dirty data written back later overwrites what the device wrote.",
    "S6": "Without a flush before a write, the device gets memory that is older than the cache.",
    "S7": "The controller moves whole chunks; what does not fill one stays in its buffer until it is flushed.",
    "S8": "FlushAdapterBuffers returns whether the flush succeeded; the I/O status block has to say so.",
    "S9": "KeFlushIoBuffers does nothing, at almost no cost, on a coherent platform.",
    "S11": "PIO read: KeFlushIoBuffers at the end of each read operation (D- and I-cache).",
}

_OUTCOME = {
    "none": "does no cache maintenance",
    "clean-before": "cleans the lines before the transfer, which leaves them in the cache",
    "invalidate-before": "invalidates the lines before the transfer, dirty or not",
    "clean-invalidate-before": "calls KeFlushIoBuffers(TRUE, TRUE) before: lines are cleaned and dropped; nothing after",
    "invalidate-after": "does nothing before the transfer; FlushAdapterBuffers invalidates the lines after it",
    "clean-invalidate-before-invalidate-after": "calls KeFlushIoBuffers(TRUE, TRUE), and FlushAdapterBuffers invalidates",
    "clean-invalidate-after": "does nothing before the transfer, and cleans and invalidates after it",
}

_STATE = {
    "dirty": "The CPU has used the buffer before: its lines are dirty in the D-cache, with older bytes.",
    "cached": "The CPU has read the buffer before: its lines are clean in the D-cache, with what memory held.",
    "absent": "None of the buffer's lines is in the D-cache.",
}


def _before(scenario: Scenario, write: bool) -> str:
    flush = f"KeFlushIoBuffers(Mdl, {'FALSE' if write else 'TRUE'}, TRUE)"
    coherent = scenario.platform == COHERENT
    effect = "which does nothing here: the platform is coherent" if coherent else (
        "which cleans the lines" if write else "which writes dirty lines back and drops the lines from both caches"
    )  # fmt: skip
    return {
        "flush": f"The driver calls {flush}, {effect}.",
        "none": f"The driver does not call {flush}.",
        "early": f"The driver calls {flush} too early: the CPU stores to the buffer once more after it.",
        "late": f"The driver does not call {flush} yet.",
        "clean": "The driver cleans the lines by address.",
        "invalidate": "The driver invalidates the lines by address, dirty or not.",
        "wrong-direction": "The driver calls KeFlushIoBuffers with ReadOperation=TRUE for a write.",
        "wrong-kind": "The driver calls KeFlushIoBuffers with DmaOperation=FALSE for a DMA transfer.",
        "first-mdl": "The driver calls KeFlushIoBuffers for the first MDL of the chain only.",
    }[scenario.options.get("pre", "flush")]


def _after(scenario: Scenario, write: bool) -> Iterator[str]:
    options = scenario.options
    routine = "PutScatterGatherList" if scenario.mode == "bus-master" else "FlushAdapterBuffers"
    drains = f"{routine} drains the controller's FIFO"
    if not write and scenario.platform != COHERENT:
        drains += (
            " and invalidates the buffer's lines"
            if options.get("invalidate_after_read", True)
            else "; the HAL's option to invalidate after a read is off"
        )
    if options.get("pre") == "late":
        yield f"Only now the driver calls KeFlushIoBuffers(Mdl, {'FALSE' if write else 'TRUE'}, TRUE)."
    yield {
        "flush": f"{drains}.",
        "none": f"The driver does not call {routine}: what is less than a chunk stays in the FIFO.",
        "early": f"{routine} was called while the transfer was still running, so the last bytes stay in the FIFO.",
        "late": f"The data is used and the request completed; only then {routine} is called.",
    }[options.get("post", "flush")]
    if options.get("after"):
        yield "The driver then cleans and invalidates the lines by address."


def _transfer(scenario: Scenario) -> Iterator[str]:
    options = scenario.options
    write = options["write_to_device"]
    if write:
        if options.get("state") == "cached":
            yield "The payload is in memory, and the CPU has only read it: its lines are clean."
        else:
            yield "The CPU stores the payload into the buffer. It is dirty in the D-cache; memory holds older bytes."
    else:
        yield _STATE[options.get("state", "dirty")]
    if options.get("coherent_flag") is not None:
        told = "coherent" if options["coherent_flag"] else "non-coherent"
        yield f"The HAL was told that the platform is {told}, which is wrong."
    if scenario.row == "outcome":
        yield f"The driver {_OUTCOME[scenario.discipline]}."
    else:
        yield _before(scenario, write)
    if options.get("evict") == "before":
        yield "The CPU happens to evict the lines now: dirty ones are written back."
    if options.get("prefetch") == "before-start":
        yield "The CPU happens to prefetch the lines now: they hold what memory holds."
    yield (
        f"The device is started ({MODES[scenario.mode]}); it "
        + ("takes" if write else "delivers")
        + (" the first part only, and ends early." if options.get("short") else " the data in pieces of odd sizes.")
    )
    if options.get("prefetch") == "in-flight":
        yield "Before the first data reaches memory, the CPU happens to prefetch the buffer's lines."
    yield "The controller reports the end: the last byte has entered its FIFO."
    if options.get("evict") == "after":
        yield "The CPU happens to evict the buffer's lines now; those that are dirty are written back to memory."
    yield from _after(scenario, write)
    yield "The device's buffer is compared." if write else "The caller reads the buffer through the D-cache."


def _common_buffer_rounds(scenario: Scenario) -> Iterator[str]:
    write = scenario.options["write_to_device"]
    yield f"Driver and device share a buffer: {MODES[scenario.mode]}."
    if write:
        yield "First round: the CPU stores a first set of bytes, flushes, and the device takes them."
        yield "Second round: the CPU stores the payload into the same buffer."
    else:
        yield "First round: the driver flushes, the device delivers a first set of bytes, the CPU reads them into the D-cache."
        yield "Second round: the device will deliver the payload into the same buffer."
    yield {
        "flush": "The driver calls KeFlushIoBuffers through an MDL over the buffer before this round too.",
        "none": "The driver does not flush before this round.",
        "early": "The driver flushed before the CPU's last accesses to the buffer, not after them.",
        "late": "The driver will flush, but only after the transfer.",
    }[scenario.options["pre"]]
    yield "The device's buffer is compared." if write else "The CPU reads the buffer."


def _pio_read(scenario: Scenario) -> Iterator[str]:
    options = scenario.options
    if options["consumer"] == "execute":
        yield "Older code of the same addresses has been executed: it is in the I-cache."
    if options["flush"] == "early":
        yield "The driver calls KeFlushIoBuffers(Mdl, TRUE, FALSE), before the data is there."
    yield {
        "buffer": "READ_REGISTER_BUFFER_ULONG reads the device's data port and stores the words into the buffer.",
        "sequence": "A sequence of READ_REGISTER_ULONG reads the data port; the driver stores each word into the buffer itself.",
    }[options["reader"]]
    yield "The bytes are now dirty in the D-cache."
    if options["flush"] == "after":
        yield "The driver calls KeFlushIoBuffers(Mdl, TRUE, FALSE): the D-cache is cleaned, the I-cache invalidated."
    yield {
        "execute": "The caller executes the bytes: the CPU fetches them through the I-cache.",
        "dma": "The page goes out to a device by DMA.",
        "alias": "The caller reads the buffer through an uncached mapping.",
    }[options["consumer"]]
    if options["flush"] == "late":
        yield "The driver calls KeFlushIoBuffers(Mdl, TRUE, FALSE): too late."


def _pio_write(scenario: Scenario) -> Iterator[str]:
    yield "The CPU stores the payload; it is dirty in the D-cache."
    yield "WRITE_REGISTER_BUFFER_ULONG loads the words, through the same D-cache, and writes them to the device's data port."
    yield "No flush is owed, and none is called."


def _shared_line(scenario: Scenario) -> Iterator[str]:
    options = scenario.options
    if options.get("aligned"):
        yield "The driver gives the device's data lines of their own and copies it to its place afterwards."
    else:
        yield "The first bytes of the line are the CPU's own data, the rest is the device's buffer."
    yield "KeFlushIoBuffers(Mdl, TRUE, TRUE) is called before the transfer: nothing is dirty."
    yield "While the device is running, before its data is in memory, the CPU stores its own bytes: the line is filled and dirty."
    yield "The device's data reaches memory."
    if options.get("evict"):
        yield "The CPU happens to evict the line: all of it is written back."
    if options.get("after"):
        yield "The driver cleans and invalidates the line."
    elif options.get("invalidate_after_read"):
        yield "FlushAdapterBuffers invalidates the line."
    yield "The caller reads the whole line."


def _two_transfers(scenario: Scenario) -> Iterator[str]:
    yield "One request is served by two device transfers; the first ends in the middle of a chunk."
    if scenario.options["post"] == "each":
        yield "The driver flushes the adapter's buffers at the end of each."
    else:
        yield "The driver does not flush between the two; the first one's remainder stays in the FIFO."
        if scenario.options.get("use_between"):
            yield "The first part's data is used before the second transfer begins."
        yield "The second transfer pushes the first one's remainder out, since it leaves when another chunk begins or fills up."
    yield "The adapter's buffers are flushed at the end."


def _failing_flush(scenario: Scenario) -> Iterator[str]:
    options = scenario.options
    yield "The driver flushes before the transfer; the transfer runs to its end and leaves a remainder in the FIFO."
    yield {
        "bus-error": "FlushAdapterBuffers writes the remainder; memory answers with an error: FALSE, the remainder is kept.",
        "time-out": "FlushAdapterBuffers cannot deliver the remainder in time: FALSE, the remainder is discarded.",
    }[options["fault"]]
    if options["reaction"] == "ignored":
        yield "The driver does not look at the BOOLEAN and completes the request with success."
    elif options["fault"] == "bus-error":
        yield "The driver flushes once more; the remainder arrives."
    else:
        yield "The driver repeats the whole transfer."


def _code_by_dma(scenario: Scenario) -> Iterator[str]:
    yield "Older code of the same addresses has been executed: it is in the I-cache."
    yield _before(scenario, False)
    yield "The device delivers the new code to memory."
    if scenario.options.get("refetch"):
        yield "Before it is there, the CPU happens to fetch the old code once more (a branch predictor may)."
    yield from _after(scenario, False)
    yield "The CPU executes the code."


_STORIES: dict[str, Callable[[Scenario], Iterator[str]]] = {
    "transfer": _transfer,
    "common_buffer_rounds": _common_buffer_rounds,
    "pio_read": _pio_read,
    "pio_write": _pio_write,
    "shared_line": _shared_line,
    "two_transfers": _two_transfers,
    "failing_flush": _failing_flush,
    "code_by_dma": _code_by_dma,
}


def steps(scenario: Scenario) -> list[str]:
    """What happens, in order."""
    return list(_STORIES[scenario.story](scenario))


def explain(scenario: AnyScenario, *, width: int = 160) -> str:
    """The whole explanation as text; ``width`` is what two drivers side by side may take."""
    if isinstance(scenario, DriverScenario):
        return explain_example(scenario, width=width)
    lines = [scenario.name, "", f"  {ROWS[scenario.row]}", f"  {MODES[scenario.mode]}; {scenario.platform} platform"]
    discipline = DISCIPLINES.get(scenario.discipline)
    if scenario.row == "outcome" and scenario.discipline in OUTCOME_DISCIPLINES:
        discipline = f"the driver {_OUTCOME[scenario.discipline]}"
    if discipline:
        lines.append(f"  {scenario.discipline}: {discipline}")
    lines += ["", "What happens"]
    for number, text in enumerate(steps(scenario), 1):
        lines += textwrap.wrap(text, 100, initial_indent=f"  {number}. ", subsequent_indent="     ")
    lines += ["", "What comes out"]
    expectation = Expectation.of(make_setting(scenario, SocConfig(), bytes(range(256)) * 32, quick=False, seed=1))
    if expectation.intact:
        lines.append("  Every byte is right.")
        if scenario.roots:
            lines.append("  The driver is still wrong: with other sizes, states or luck the same omission corrupts data.")
    for item in expectation.ranges:
        bound = "" if expectation.exact else "at most "
        count = f"{bound}{item.end - item.start} of {expectation.setting.size} bytes"
        text = f"{count}, from +{item.start:#x}, are {item.value}: {item.why}."
        lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="  ")
        lines.append(f"  ({item.value}: {VALUES[item.value]})")
    roots = expectation.setting.expected_roots
    if roots:
        latent = " (those about the cache are latent: the platform is coherent)" if scenario.coherent else ""
        lines += ["", "What the flush checker says", f"  root findings: {', '.join(sorted(roots))}{latent}"]
    if scenario.missing:
        lines += ["", "What is missing", *textwrap.wrap(scenario.missing, 100, initial_indent="  ", subsequent_indent="  ")]
    lines += ["", "The pages' rules"]
    for rule in (*scenario.source, *(("S9",) if scenario.coherent else ())):
        lines += textwrap.wrap(f"{rule}: {RULES[rule]}", 100, initial_indent="  ", subsequent_indent="      ")
    lines += ["", f"Run it: python -m sim run {scenario.name}"]
    return "\n".join(lines)
