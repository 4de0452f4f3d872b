# SPDX-License-Identifier: BSD-2-Clause
"""Checker and oracle agree: a C finding that is more than a warning exists exactly when some interleaving corrupts."""

import random

import pytest

from sim.checker import check, render_all

from .oracle import Dma, Where, corrupts, is_observed, is_race
from .oracle_record import record

ALL, FIRST, SECOND, PART, REST = (0, 1, 2, 3), (0, 1), (2, 3), (0, 1, 2), (3,)

DRIVERS = {
    "device-to-memory": (
        [("store", ALL), ("ke", ALL, True, True), ("start", 1), ("wait", 1), ("flush", 1), ("irp", ALL), ("load", ALL)],
        {1: Dma(False, ALL)},
    ),
    "memory-to-device": (
        [("store", ALL), ("ke", ALL, False, True), ("start", 1), ("wait", 1), ("flush", 1), ("irp", ALL)],
        {1: Dma(True, ALL)},
    ),
    "memory-to-device-and-back": (
        [
            ("store", ALL), ("ke", ALL, False, True), ("start", 1), ("wait", 1), ("flush", 1),
            ("ke", ALL, True, True), ("start", 2), ("wait", 2), ("flush", 2), ("irp", ALL), ("load", ALL),
        ],
        {1: Dma(True, ALL), 2: Dma(False, ALL)},
    ),
    "split": (
        [
            ("store", ALL), ("ke", ALL, True, True), ("start", 1), ("wait", 1), ("flush", 1),
            ("start", 2), ("wait", 2), ("flush", 2), ("irp", ALL), ("load", ALL),
        ],
        {1: Dma(False, FIRST), 2: Dma(False, SECOND)},
    ),
    "pio-then-execute": (
        [("fetch", ALL), ("pio", ALL), ("ke", ALL, True, False), ("irp", ALL), ("fetch", ALL)],
        {},
    ),
    "pio-then-send": (
        [("pio", ALL), ("ke", ALL, True, False), ("ke", ALL, False, True), ("start", 1), ("wait", 1), ("flush", 1)],
        {1: Dma(True, ALL)},
    ),
    "pio-around-the-cache": ([("load", ALL), ("pio", ALL), ("ke", ALL, True, False), ("uload", ALL)], {}),
    "common-buffer-read": (
        [("store", ALL), ("ke", ALL, True, True), ("start", 1), ("wait", 1), ("ke", ALL, True, True), ("load", ALL)],
        {1: Dma(False, ALL, common=True)},
    ),
    "common-buffer-write": (
        [("store", ALL), ("ke", ALL, False, True), ("start", 1), ("wait", 1), ("store", ALL), ("ke", ALL, False, True)],
        {1: Dma(True, ALL, common=True)},
    ),
    "shared-line": (
        [
            ("store", ALL), ("ke", ALL, True, True), ("start", 1), ("wait", 1), ("flush", 1), ("irp", PART),
            ("store", REST), ("load", ALL),
        ],
        {1: Dma(False, PART)},
    ),
    "by-address": (
        [
            ("store", ALL), ("maint", 3, ALL, 1), ("start", 1), ("wait", 1), ("flush", 1), ("maint", 2, ALL, 3),
            ("load", ALL), ("fetch", ALL),
        ],
        {1: Dma(False, ALL)},
    ),
}  # fmt: skip

PLATFORMS = [Where(s, i) for s in (False, True) for i in (True, False)]


def mutants(script):
    """Every call dropped, moved to every other place, swapped with every other."""
    yield script
    for n in range(len(script)):
        rest = script[:n] + script[n + 1 :]
        yield rest
        for k in range(len(script)):
            if k != n:
                yield [*rest[:k], script[n], *rest[k:]]
        for k in range(n + 1, len(script)):
            swapped = list(script)
            swapped[n], swapped[k] = script[k], script[n]
            yield swapped


def compare(script, transfers, where, seeds=(1, 2)):
    wrong = corrupts(script, transfers, where)
    for seed in seeds:
        found = check(record(script, transfers, where, random.Random(seed)))
        says = [f for f in found if f.kind == "C" and f.corrupts]
        if bool(says) != wrong:
            return f"{where} oracle {wrong}\n" + "\n".join(map(str, script)) + "\n" + render_all(found)
    return ""


@pytest.mark.parametrize("name", DRIVERS)
def test_mutants(name):
    script, transfers = DRIVERS[name]
    done, bad = set(), []
    for mutant in mutants(script):
        if tuple(mutant) in done or is_race(mutant, transfers):
            continue
        done.add(tuple(mutant))
        for where in PLATFORMS:
            text = compare(mutant, transfers, where)
            if text:
                bad.append(text)
    assert not bad, f"{len(bad)} of {len(done) * len(PLATFORMS)} disagree, the first:\n{bad[0]}"


SPECIAL = {
    # the store takes a stale neighbour along when it is written back: no later invalidate brings the device's bytes back
    "store-into-a-stale-line": [
        ("ke", ALL, True, True), ("start", 1), ("wait", 1), ("flush", 1),
        ("store", (0,)), ("maint", 2, ALL, 1), ("load", (1, 2, 3)),
    ],
    # the whole line is stored: nothing stale is left in it
    "store-over-a-stale-line": [
        ("ke", ALL, True, True), ("start", 1), ("wait", 1), ("flush", 1),
        ("store", ALL), ("maint", 3, ALL, 1), ("load", ALL),
    ],
    "invalidate-between-completion-and-flush": [
        ("store", ALL), ("ke", ALL, True, True), ("start", 1), ("wait", 1), ("maint", 2, ALL, 3), ("flush", 1), ("load", ALL),
    ],
    "fetch-fills-the-neighbour": [
        ("store", (1, 2)), ("fetch", (3,)), ("ke", ALL, False, True), ("fetch", (2, 3)), ("load", (0,)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("where", PLATFORMS, ids=str)
def test_special_scripts(name, where):
    script = SPECIAL[name]
    transfers = {1: Dma(False, ALL)} if ("start", 1) in script else {}
    assert not (text := compare(script, transfers, where, seeds=range(5))), text


CELLS = (ALL, FIRST, SECOND, PART, REST, (1, 2), (0,))


def random_script(rng):
    """A driver nobody would write."""
    kinds = rng.choice(
        (("store", "load"), ("store", "load", "fetch"), ("pio", "load", "fetch", "uload"), ("store", "load", "pio", "fetch"))
    )
    common = rng.random() < 0.2
    transfers = {n: Dma(rng.random() < 0.5, rng.choice(CELLS[:5]), common) for n in range(1, rng.choice((1, 2, 2, 3)))}
    script = []
    pool = [*transfers]
    running = None
    for _ in range(rng.randint(3, 9)):
        kind = rng.random()
        if kind < 0.35:
            script.append((rng.choice(kinds), rng.choice(CELLS)))
        elif kind < 0.6:
            script.append(("ke", rng.choice(CELLS[:3]), rng.random() < 0.6, rng.random() < 0.6))
        elif kind < 0.68:
            script.append(("maint", rng.choice((1, 2, 3)), rng.choice(CELLS[:3]), rng.choice((1, 1, 3, 2))))
        elif kind < 0.8 and pool and running is None:
            running = pool.pop(0)
            script.append(("start", running))
        elif running is not None:
            script.append(("wait", running))
            if rng.random() < 0.8:
                script.append(("flush", running))
            running = None
        else:
            script.append(("irp", rng.choice(CELLS[:4])))
    return script, transfers


@pytest.mark.parametrize("block", range(4))
def test_random_scripts(block):
    bad, count = [], 0
    for seed in range(block * 10_000, block * 10_000 + 500):
        rng = random.Random(seed)
        script, transfers = random_script(rng)
        if is_race(script, transfers) or not is_observed(script, transfers):
            continue
        count += 1
        text = compare(script, transfers, rng.choice(PLATFORMS))
        if text:
            bad.append(f"seed {seed} {transfers} " + text)
    assert not bad, f"{len(bad)} of {count} disagree, the shortest:\n{min(bad, key=len)}"
