# SPDX-License-Identifier: BSD-2-Clause
"""Records a program's data accesses with valgrind's tool lackey (https://valgrind.org/docs/manual/lk-manual.html).

With ``--trace-mem=yes`` lackey prints one line per access: two columns for the kind (``I `` instruction, `` L`` load, `` S``
store, `` M`` modify), then ``address,size`` with the address in hexadecimal. Instruction fetches are left out here.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .format import MAX_SIZE, Access, Trace, TraceError, number_pages

__all__ = ["parse_lackey", "record"]

_LINE = re.compile(r" ([LSM]) ([0-9a-fA-F]+),([0-9]+)\s*")


def parse_lackey(lines: Iterable[str]) -> Iterator[Access]:
    """The data accesses in lackey's output; all other lines are passed over."""
    for line in lines:
        found = _LINE.fullmatch(line)
        if found:
            at, left = int(found[2], 16), int(found[3])
            while left > 0:  # registers are saved in pieces of up to several hundred bytes
                part = min(left, MAX_SIZE)
                yield Access(found[1], at, part)
                at, left = at + part, left - part


def record(command: Sequence[str], *, count: int = 20_000, skip: int = 0) -> Trace:
    """Runs a program under valgrind and returns ``count`` of its data accesses after the first ``skip``.

    The program is ended once they have been seen; what it writes to its standard output is thrown away.

    Raises
    ------
    TraceError
        If valgrind or the program is missing, or the program ends before the first access that is wanted.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise TraceError("valgrind is missing (it records the accesses): install it, on Debian with 'apt-get install valgrind'")
    if shutil.which(command[0]) is None:
        raise TraceError(f"PROGRAM must be a program that can be run, not {command[0]!r}")
    reading, writing = os.pipe()
    options = ["--tool=lackey", "--trace-mem=yes", f"--log-fd={writing}"]
    process = subprocess.Popen([valgrind, *options, *command], stdout=subprocess.DEVNULL, pass_fds=(writing,))
    os.close(writing)
    seen, taken = 0, []
    try:
        with open(reading, encoding="ascii", errors="replace") as lines:
            for access in parse_lackey(lines):
                seen += 1
                if seen > skip:
                    taken.append(access)
                if len(taken) == count:
                    break
    finally:
        process.kill()
        process.wait()
    if not seen:
        raise TraceError(f"valgrind's lackey must see data accesses of {command[0]!r}, not none")
    if not taken:
        raise TraceError(f"--skip must be less than the program's {seen} data accesses, not {skip}")
    words = " ".join((Path(command[0]).name, *command[1:]))
    return Trace(
        number_pages(taken), (f"program: {words}", f"data accesses {skip} to {skip + len(taken) - 1}, valgrind's lackey")
    )
