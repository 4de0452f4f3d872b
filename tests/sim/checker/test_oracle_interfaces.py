# SPDX-License-Identifier: BSD-2-Clause
"""Checker and oracle agree on version 3, Linux and bare metal, and where a bounce buffer stands between."""

import itertools
import random

import pytest

from .oracle import BOTH, FROM, TO, Dma, Where, is_observed, is_race
from .test_oracle import ALL, FIRST, PART, REST, SECOND, compare, mutants

STORE, LOAD = ("store", ALL), ("load", ALL)
V3 = [Where(s, clean_before_read=c) for s in (False, True) for c in (True, False)]
BARE = [Where(s) for s in (False, True)]
LINUX = [Where(s, architecture=a) for s in (False, True) for a in ("arm", "arm64", "riscv", "mips")]
#: For the long drivers: riscv does what arm64 does.
SOME = [Where(s, architecture=a) for s, a in ((True, "arm"), (True, "arm64"), (False, "arm64"), (True, "mips"), (False, "mips"))]
BOUNCED = [Where(s, bounce=True) for s in (False, True)]


def once(begin, end, *, before=(), after=(LOAD,)):
    return [STORE, *before, (begin, 1), ("start", 1), ("wait", 1), (end, 1), *after]


DRIVERS = {
    "v3-read": (once("mapex", "flushex"), {1: Dma(False, ALL, interface="v3")}, V3 + BOUNCED),
    "v3-write": (once("mapex", "flushex"), {1: Dma(True, ALL, interface="v3")}, V3[::2] + BOUNCED),
    "v3-read-and-execute": (
        [("fetch", ALL), *once("mapex", "flushex", after=[("fetch", ALL)])],
        {1: Dma(False, ALL, interface="v3")},
        V3[::2],
    ),
    "linux-read": (once("map", "unmap"), {1: Dma(False, ALL, interface="linux")}, LINUX + BOUNCED),
    "linux-write": (once("map", "unmap"), {1: Dma(True, ALL, interface="linux")}, LINUX + BOUNCED),
    "linux-both-ways": (
        [
            STORE, ("map", 1), ("start", 1), ("wait", 1), ("synccpu", 1), STORE, ("syncdev", 1), ("start", 2), ("wait", 2),
            ("unmap", 1), LOAD,
        ],
        {1: Dma(True, ALL, interface="linux", direction=BOTH), 2: Dma(False, ALL, interface="linux", direction=BOTH, mapping=1)},
        SOME + BOUNCED,
    ),
    "linux-ring": (
        [
            ("map", 1), ("start", 1), ("wait", 1), ("synccpu", 1), LOAD, ("syncdev", 1), ("start", 2), ("wait", 2),
            ("synccpu", 1), LOAD, ("unmap", 1),
        ],
        {1: Dma(False, ALL, interface="linux"), 2: Dma(False, ALL, interface="linux", mapping=1)},
        SOME + BOUNCED,
    ),
    "linux-resend": (
        [
            STORE, ("map", 1), ("start", 1), ("wait", 1), ("synccpu", 1), STORE, ("syncdev", 1), ("start", 2), ("wait", 2),
            ("unmap", 1),
        ],
        {1: Dma(True, ALL, interface="linux"), 2: Dma(True, ALL, interface="linux", mapping=1)},
        SOME + BOUNCED,
    ),
    "linux-shared-line": (
        [STORE, ("map", 1), ("start", 1), ("wait", 1), ("unmap", 1), ("load", PART), ("store", REST), LOAD],
        {1: Dma(False, PART, interface="linux")},
        [Where(True, architecture=a) for a in ("arm", "arm64")],
    ),
    "bare-read": (
        [STORE, ("post", 3, ALL, 1), ("dsb",), ("start", 1), ("wait", 1), ("drain",), ("post", 2, ALL, 1), ("dsb",), LOAD],
        {1: Dma(False, ALL, interface="bare")},
        BARE,
    ),
    "bare-write": (
        [STORE, ("post", 1, ALL, 1), ("dsb",), ("start", 1), ("wait", 1), ("drain",)],
        {1: Dma(True, ALL, interface="bare")},
        BARE,
    ),
    "bare-code": (
        [("fetch", ALL), STORE, ("post", 1, ALL, 1), ("dsb",), ("post", 2, ALL, 2), ("dsb",), ("fetch", ALL)],
        {},
        BARE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIVERS)
def test_mutants(name):
    script, transfers, platforms = DRIVERS[name]
    done, bad, count = set(), [], itertools.count()
    for mutant in mutants(script):
        if tuple(mutant) in done:
            continue
        done.add(tuple(mutant))
        for where in platforms:
            if is_race(mutant, transfers, where.bounce):
                continue
            next(count)
            text = compare(mutant, transfers, where, seeds=(1, 2) if len(script) < 8 else (1,))
            if text:
                bad.append(text)
    assert not bad, f"{len(bad)} of {next(count)} disagree, the shortest:\n{min(bad, key=len)}"


def linux_script(rng, bounce):
    """A driver nobody would write: one mapping, two transfers, and syncs anywhere."""
    way, cells = rng.choice((TO, FROM, FROM, BOTH)), rng.choice((ALL, ALL, FIRST))
    transfers = {}
    for n, mapping in ((1, None), (2, 1)):
        write = way == TO or (way == BOTH and rng.random() < 0.5)
        transfers[n] = Dma(write, cells, interface="linux", direction=way, mapping=mapping)
    script, mapped, running, pool = [], False, None, [1, 2]
    for _ in range(rng.randint(4, 12)):
        kind = rng.random()
        if kind < 0.3:
            script.append((rng.choice(("store", "load", "load")), rng.choice((ALL, FIRST, SECOND))))
        elif kind < 0.45 and not mapped:
            script.append(("map", 1))
            mapped = True
        elif kind < 0.6 and mapped:
            script.append((rng.choice(("synccpu", "syncdev")), 1))
        # a copy back that changes no byte still dirties the buffer: only the oracle can know, so there a start needs its mapping
        elif kind < 0.8 and pool and running is None and (mapped or (not bounce and rng.random() < 0.2)):
            running = pool.pop(0)
            script.append(("start", running))
        elif kind < 0.92 and running is not None:
            script.append(("wait", running))
            running = None
        elif mapped and kind > 0.95:
            script.append(("unmap", 1))
            mapped = False
    return script, transfers


def bare_script(rng, bounce):
    """Maintenance and barriers anywhere."""
    transfers = {n: Dma(rng.random() < 0.5, rng.choice((ALL, FIRST)), interface="bare") for n in (1, 2)}
    script, running, pool = [], None, [1, 2]
    for _ in range(rng.randint(4, 11)):
        kind = rng.random()
        if kind < 0.35:
            script.append((rng.choice(("store", "load", "fetch")), rng.choice((ALL, FIRST, SECOND))))
        elif kind < 0.55:
            script.append(("post", rng.choice((1, 2, 3)), rng.choice((ALL, FIRST, SECOND)), rng.choice((1, 1, 2, 3))))
        elif kind < 0.7:
            script.append(("dsb",))
        elif kind < 0.8 and pool and running is None:
            running = pool.pop(0)
            script.append(("start", running))
        elif kind < 0.92 and running is not None:
            script.append(("wait", running))
            running = None
        else:
            script.append(("drain",))
    return [*script, ("dsb",)], transfers


@pytest.mark.parametrize("make, platforms", [(linux_script, LINUX), (linux_script, BOUNCED), (bare_script, BARE)])
def test_random_scripts(make, platforms):
    bad, count = [], 0
    for seed in range(400):
        rng = random.Random(seed)
        where = rng.choice(platforms)
        script, transfers = make(rng, where.bounce)
        if is_race(script, transfers, where.bounce) or not is_observed(script, transfers):
            continue
        count += 1
        text = compare(script, transfers, where)
        if text:
            bad.append(f"seed {seed} {transfers} " + text)
    assert count > 250
    assert not bad, f"{len(bad)} of {count} disagree, the shortest:\n{min(bad, key=len)}"
