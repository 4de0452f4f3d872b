# SPDX-License-Identifier: BSD-2-Clause
"""Checker and oracle agree on version 3, Linux and bare metal, and where a bounce buffer stands between."""

import itertools

import pytest

from .oracle import BOTH, Dma, Where, is_race
from .test_oracle import ALL, PART, REST, compare, mutants

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
