# SPDX-License-Identifier: BSD-2-Clause
"""Rows beside the matrix: common buffers in use, PIO, shared lines, several transfers, failing flushes, code, short transfers."""

from collections.abc import Iterator
from typing import Any

from .make import ADAPTER_FLUSH, FLUSH_AFTER_PIO, FLUSH_BEFORE_READ, FLUSH_BEFORE_WRITE, both, only
from .model import COHERENT, NON_COHERENT, Corruption, Scenario

__all__ = ["scenarios"]

_REMAINDER = "the remainder was still in the DMA controller's FIFO (S7)"


def _common_buffer() -> Iterator[Scenario]:
    """Two rounds through the same common buffer; the flush before the second one is at stake. Whole chunks."""
    seen = (Corruption("all", "old", "the lines that the CPU read after the first round hid the second round's data (S2)"),)
    why = "the second round's bytes were still dirty: the device got the first round's again (S2)"
    sent = (Corruption("all", "old", why, dirty=True),)
    for direction, write, wrong in (("read", False, seen), ("write", True, sent)):
        flush = FLUSH_BEFORE_WRITE if write else FLUSH_BEFORE_READ
        late_read: tuple[Corruption, ...] = wrong if write else ()
        rounds: tuple[tuple[str, str, tuple[Corruption, ...], tuple[str, ...]], ...] = (
            ("all-flushes", "flush", (), ()),
            ("no-preflush", "none", wrong, ("R13",)),
            # early, and device to memory: the CPU's look into the buffer after the flush brought the lines back
            ("preflush-early", "early", wrong, ("R13",) if write else ("R04",)),
            # late, and device to memory: the lines are only clean, so that the late flush drops them just in time
            ("preflush-late", "late", late_read, ("R13",)),
        )
        for discipline, pre, corruption, roots in rounds:
            yield from both(
                row="common-buffer",
                mode="common-cached",
                discipline=discipline,
                variant=(direction,),
                story="common_buffer_rounds",
                # To the letter: with the HAL's invalidate after a read, a missing flush before it would do no harm here.
                options={"write_to_device": write, "pre": pre, "invalidate_after_read": False},
                wrong=corruption,
                roots=roots,
                size="3line",
                quick_size="line",
                source=("S2",),
                missing="" if discipline == "all-flushes" else flush,
            )
        yield from both(
            row="common-buffer",
            mode="common-uncached",
            discipline="all-flushes",
            variant=(direction,),
            story="common_buffer_rounds",
            options={"write_to_device": write, "pre": "none"},
            size="3line",
            quick_size="line",
            source=("S2",),
        )


def _pio() -> Iterator[Scenario]:
    """Bytes that a PIO read stored, by who needs them next and when the flush comes."""
    why = {
        "execute": "the I-cache held older code, and memory did not have the new bytes either (S11)",
        "dma": "the bytes were still dirty in the D-cache when the next device read memory (S11)",
        "alias": "an uncached read goes around the D-cache, where the bytes still were (S11)",
    }
    for consumer in ("execute", "dma", "alias"):
        for reader in ("buffer", "sequence"):
            roots: tuple[str, ...] = ("R17",)  # what the consumer trips over is its consequence
            for discipline, flush in (
                ("all-flushes", "after"),
                ("no-ioflush", "none"),
                ("ioflush-early", "early"),
                ("ioflush-late", "late"),
            ):
                good = discipline == "all-flushes"
                # The I-cache hides new bytes in memory too, but for the flush that came before them.
                dirty = consumer != "execute" or flush == "early"
                wrong = (Corruption("all", "stale", why[consumer], dirty=dirty),)
                yield from both(
                    row="pio",
                    mode="pio",
                    discipline=discipline,
                    variant=(consumer, reader),
                    story="pio_read",
                    options={"consumer": consumer, "reader": reader, "flush": flush},
                    wrong=() if good else wrong,
                    # An early flush is right for the PIO read and comes before it; the DMA after it makes no flush of its own.
                    roots=() if good else roots,
                    # An uncached alias of a dirty line is the CPU's own affair; the coherent platform does not cover it.
                    platforms=only(NON_COHERENT) if consumer == "alias" else (NON_COHERENT, COHERENT),
                    size="3line",
                    quick_size="line",
                    offset=0 if reader == "buffer" else 4,
                    source=("S11",),
                    missing="" if good else FLUSH_AFTER_PIO,
                )
    for direction in ("write",):
        yield from both(
            row="pio",
            mode="pio",
            discipline="all-flushes",
            variant=(direction,),
            story="pio_write",
            options={"write_to_device": True},
            size="3line",
            quick_size="line",
            source=("S11",),
            summary="a PIO write reads memory through the CPU's own D-cache: no flush is owed",
        )


def _partial_line() -> Iterator[Scenario]:
    """The first bytes of the line are the CPU's, the rest is the device's; the CPU stores its bytes during the DMA."""
    by_eviction = Corruption(
        "second-part-drained",
        "stale",
        "the CPU's store filled the line before w; its eviction overwrote the device's bytes",
        dirty=True,
    )
    over = Corruption(
        "second-part",
        "stale",
        "the CPU's store filled the line before w; writing it back overwrote the device's bytes",
        dirty=True,
    )
    lost = Corruption(
        "first-part-dropped", "stale", "the invalidate after the transfer dropped the line with the CPU's new bytes", dirty=True
    )
    kept = Corruption(
        "second-part-cleaned",
        "stale",
        "the invalidate after the transfer cleaned the shared line, over the device's bytes",
        dirty=True,
    )
    cases: tuple[tuple[str, dict[str, Any], tuple[Corruption, ...], tuple[str, ...]], ...] = (
        ("written-back", {"invalidate_after_read": False, "evict": "after"}, (by_eviction,), ("R10",)),
        ("flushed-after", {"invalidate_after_read": False, "after": "clean+invalidate"}, (over,), ("R10",)),
        ("invalidated-after", {"invalidate_after_read": True}, (lost, kept), ("R10",)),
        ("aligned", {"invalidate_after_read": True, "aligned": True}, (), ()),
    )
    for mode in ("system", "bus-master"):
        for name, options, wrong, roots in cases:
            yield from both(
                row="partial-line",
                mode=mode,
                discipline="all-flushes",
                variant=(name,),
                story="shared_line",
                options={"write_to_device": False, "split": "line-part", **options},
                wrong=wrong,
                roots=roots,
                size="line",
                source=("S1", "S5"),
                missing="" if name == "aligned" else "no call helps: align the buffer to whole lines, or bounce it",
            )


def _cpu_data() -> Iterator[Scenario]:
    """Memory to device: what becomes of the CPU's bytes, by state of the lines and by what was called instead."""
    older = Corruption("all", "stale", "the CPU's bytes were still dirty when the device read memory (S6)", dirty=True)
    lost = Corruption("all", "stale", "an invalidate instead of a clean discarded the CPU's bytes for good (S6)", dirty=True)
    rest = Corruption("second-part", "stale", "the flush covered only the first part of the buffer (S6)", dirty=True)
    cases: tuple[tuple[str, str, dict[str, Any], tuple[Corruption, ...], tuple[str, ...], tuple[str, ...]], ...] = (
        ("no-preflush", "clean-lines", {"pre": "none", "state": "cached"}, (), (), ("R01",)),
        ("no-preflush", "dirty-lines", {"pre": "none"}, (older,), (), ("R01",)),
        ("no-preflush", "written-back-by-chance", {"pre": "none", "evict": "before"}, (), (), ("R01",)),
        ("no-preflush", "invalidated-instead", {"pre": "invalidate"}, (lost,), (lost,), ("R07",)),
        ("wrong-flush", "wrong-direction", {"pre": "wrong-direction"}, (), (), ("R22",)),
        ("wrong-flush", "wrong-kind", {"pre": "wrong-kind"}, (), (), ("R23",)),
        ("wrong-flush", "first-mdl-only", {"pre": "first-mdl", "chain": True}, (rest,), (), ("R19",)),
        ("wrong-flush", "told-coherent", {"coherent_flag": True}, (older,), (), ("R21",)),
        ("wrong-flush", "told-non-coherent", {"coherent_flag": False}, (), (), ("R21",)),
    )
    for mode in ("system", "bus-master"):
        for discipline, variant, options, wrong, wrong_coherent, roots in cases:
            if mode == "system" and options.get("chain"):
                continue  # one MapTransfer maps one contiguous piece: the chain is the bus master's
            platforms = (NON_COHERENT, COHERENT)
            if "coherent_flag" in options:
                platforms = only(NON_COHERENT if options["coherent_flag"] else COHERENT)
            yield from both(
                row="cpu-data",
                mode=mode,
                discipline=discipline,
                variant=(variant,),
                story="transfer",
                options={"write_to_device": True, **options},
                wrong=wrong,
                wrong_coherent=wrong_coherent,
                roots=roots,
                platforms=platforms,
                size="3line",
                quick_size="3line" if options.get("chain") else "line",
                source=("S1", "S6"),
                missing=FLUSH_BEFORE_WRITE if wrong else "",
            )


def _multi_transfer() -> Iterator[Scenario]:
    """One IRP, two device transfers that meet inside a chunk or between two."""
    first = (
        Corruption("first-remainder", "old", "the first transfer's remainder was still in the FIFO when its data was used (S7)"),
    )
    for mode in ("system", "bus-master"):
        for variant, options, wrong, roots in (
            ("each-flushed", {"post": "each"}, (), ()),
            ("flushed-at-the-end", {"post": "end"}, (), ("R24",)),
            ("flushed-at-the-end-used-between", {"post": "end", "use_between": True}, first, ("R24",)),
        ):
            yield from both(
                row="multi-transfer",
                mode=mode,
                discipline="all-flushes" if variant == "each-flushed" else "no-adapter-flush",
                variant=(variant,),
                story="two_transfers",
                options={"write_to_device": False, "split": "chunk", **options},
                wrong=wrong,
                wrong_coherent=wrong,
                roots=roots,
                size="3line",
                source=("S4" if mode == "bus-master" else "S3", "S7"),
                missing="" if not roots else ADAPTER_FLUSH[mode],
            )


def _flush_fails() -> Iterator[Scenario]:
    """FlushAdapterBuffers answers FALSE: memory answers an error once, or the flush runs into its time-out."""
    why = "the flush failed and nobody tried again (S8)"
    left = (Corruption("remainder", "stale", why),)
    gone = (Corruption("all", "stale", why),)  # all but what memory or device had already taken: a chunk or more
    for mode in ("system", "bus-master"):
        for direction, fault in (("read", "bus-error"), ("read", "time-out"), ("write", "time-out")):
            queued = (direction, fault) == ("read", "time-out")
            for reaction, wrong, roots in (("retried", (), ()), ("ignored", gone if queued else left, ("R26",))):
                yield from both(
                    row="flush-fails",
                    mode=mode,
                    discipline="all-flushes",
                    variant=(direction, fault, reaction),
                    story="failing_flush",
                    options={"write_to_device": direction == "write", "fault": fault, "reaction": reaction},
                    wrong=wrong,
                    wrong_coherent=wrong,
                    exact=not queued,
                    roots=roots,
                    size="telling",
                    source=("S8",),
                    missing="" if not roots else "checking FlushAdapterBuffers' BOOLEAN, and trying again",
                )


def _code_by_dma() -> Iterator[Scenario]:
    """The device delivers code; older code of the same addresses is in the I-cache."""
    older = (Corruption("all", "stale", "the I-cache still held the older code"),)
    for mode in ("system", "bus-master"):
        for discipline, options, wrong, roots in (
            ("all-flushes", {}, (), ()),
            ("no-preflush", {"pre": "none"}, (), ("R02",)),
            ("no-flushes", {"pre": "none", "post": "none"}, older, ("R02", "R24")),
            ("to-the-letter", {"invalidate_after_read": False, "refetch": True}, older, ("R04",)),
        ):
            yield from both(
                row="code-by-dma",
                mode=mode,
                discipline=discipline,
                story="code_by_dma",
                options={"write_to_device": False, "state": "absent", **options},
                wrong=wrong,
                roots=roots,
                size="3line",
                quick_size="line",
                source=("S1", "S11"),
                missing="" if not wrong else "an I-cache invalidate after the data arrived (part of FlushAdapterBuffers here)",
            )


def _short() -> Iterator[Scenario]:
    """The device ends early. What it did not deliver is the CPU's, and should survive."""
    rest = (Corruption("remainder", "old", _REMAINDER),)
    why = "the lines were dirty, and the invalidate after the transfer discarded them"
    lost = (Corruption("undelivered", "stale", why, dirty=True),)
    for mode in ("system", "bus-master"):
        for discipline, options, wrong, wrong_coherent, roots in (
            ("all-flushes", {}, (), (), ()),
            ("no-preflush", {"pre": "none"}, lost, (), ("R02",)),
            ("no-adapter-flush", {"post": "none"}, rest, rest, ("R24",)),
        ):
            yield from both(
                row="short",
                mode=mode,
                discipline=discipline,
                story="transfer",
                options={"write_to_device": False, "state": "dirty", "short": True, **options},
                wrong=wrong,
                wrong_coherent=wrong_coherent,
                roots=roots,
                size="telling",
                source=("S7",),
                missing=ADAPTER_FLUSH[mode] if "adapter" in discipline else FLUSH_BEFORE_READ if wrong else "",
            )


def scenarios() -> Iterator[Scenario]:
    """All scenarios of these rows."""
    yield from _common_buffer()
    yield from _pio()
    yield from _partial_line()
    yield from _cpu_data()
    yield from _multi_transfer()
    yield from _flush_fails()
    yield from _code_by_dma()
    yield from _short()
