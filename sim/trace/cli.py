# SPDX-License-Identifier: BSD-2-Clause
"""``python -m sim.trace``: record a program's accesses, look at a trace, compare the D-cache with the functional model.

Exit code 0: done, and everything equal. 1: the hardware differs from the model. 2: bad input or a missing tool, one line.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..options import OptionError, integer_option
from ..report.terminal import console
from ..toolchain import ToolError
from .format import PAGE, TraceError, read_trace, write_trace
from .functional import POLICIES
from .record import record

__all__ = ["TRACES", "main"]

#: The traces of the repository.
TRACES = Path(__file__).parent / "traces"
_MAX_COUNT = 60_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sim.trace", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="record the data accesses of a program, with valgrind")
    one.add_argument("--output", type=Path, default=Path("program.trace.gz"), metavar="FILE", help="default: %(default)s")
    one.add_argument("--count", default="20000", metavar="N", help=f"accesses to keep, 1 to {_MAX_COUNT} (default: %(default)s)")
    one.add_argument("--skip", default="0", metavar="N", help="accesses to pass over first (default: %(default)s)")
    one.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM", help="the program and its arguments")
    one.set_defaults(run=_record)
    one = commands.add_parser("info", help="what is in a trace")
    one.add_argument("trace", type=Path, metavar="TRACE")
    one.set_defaults(run=_info)
    one = commands.add_parser("compare", help="replay a trace on the D-cache and compare each access with the functional model")
    one.add_argument("trace", type=Path, nargs="?", metavar="TRACE", help="default: the repository's trace of gzip")
    one.add_argument("--policy", choices=POLICIES, action="append", help="only this policy (may be repeated)")
    one.add_argument("--ways", help="only caches with this number of ways")
    one.add_argument("--accesses", metavar="N", help="only the first N accesses")
    one.set_defaults(run=_compare)
    parsed = parser.parse_args(arguments)
    try:
        return parsed.run(parsed)
    except (TraceError, OptionError, ToolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _record(arguments: argparse.Namespace) -> int:
    count = integer_option("--count", arguments.count, 1, _MAX_COUNT)
    skip = integer_option("--skip", arguments.skip, 0, 10**9)
    program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not program:
        raise OptionError("PROGRAM must be given after '--'")
    trace = record(program, count=count, skip=skip)
    write_trace(arguments.output, trace)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {len(trace.accesses)} accesses, {size} bytes")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    trace = read_trace(arguments.trace)
    for line in trace.comments:
        print(line)
    kinds = Counter(access.kind for access in trace.accesses)
    print(f"accesses: {len(trace.accesses)} ({kinds['L']} loads, {kinds['S']} stores, {kinds['M']} both)")
    pages = {access.address // PAGE for access in trace.accesses}
    print(f"pages of {PAGE} bytes: {len(pages)}; lines of 32 bytes: {len({a.address // 32 for a in trace.accesses})}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from ..bench.harness import BenchError  # these take a while to import
    from .matrix import GEOMETRIES, run_matrix

    geometries = GEOMETRIES
    if arguments.ways is not None:
        ways = integer_option("--ways", arguments.ways, 1, 8)
        geometries = tuple(shape for shape in GEOMETRIES if shape[1] == ways)
        if not geometries:
            raise OptionError(f"--ways must be 1, 2, 4 or 8, not {ways}")
    accesses = read_trace(arguments.trace or TRACES / "gzip.trace.gz").accesses
    if arguments.accesses is not None:
        accesses = accesses[: integer_option("--accesses", arguments.accesses, 1, _MAX_COUNT)]
    columns = (
        "policy",
        "ways",
        "line",
        "sets",
        "bus",
        "pace",
        "beats",
        "hits",
        "misses",
        "evictions",
        "write-backs",
        "cycles",
        "",
    )
    table = Table(*columns, title="D-cache against the functional model, access by access")
    different = 0
    try:
        for row in run_matrix(accesses, policies=arguments.policy or POLICIES, geometries=geometries):
            c, r = row.config.dcache, row.result
            policy = c.replacement if c.ways > 1 else "-"
            numbers = (c.ways, c.line_bytes, c.sets, row.config.data_width)
            counts = (r.accesses, r.hits, r.misses, r.evictions, r.writebacks, r.cycles)
            verdict = "equal" if not r.differences else f"differs: {r.differences[0]}"
            table.add_row(policy, *map(str, numbers), row.pace.value, *map(str, counts), verdict)
            different += bool(r.differences)
    except BenchError as error:
        raise TraceError(str(error)) from None
    console().print(table)
    print(f"{len(table.rows)} replays, {different} of them differ from the model")
    return 1 if different else 0
