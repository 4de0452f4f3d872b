# SPDX-License-Identifier: BSD-2-Clause
"""Inside a simulator process: runs drivers one after the other and judges each.

Whatever a driver does, its run has a result: it may raise, hang, loop or exit. Each result is a JSON line, written as soon as it
is there.
"""

import asyncio
import contextlib
import faulthandler
import hashlib
import io
import json
import sysconfig
import time
import traceback
import types
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from driver.registers import Registers
from driver.trace import library_folder

from ..bfm import PERIOD_NS
from ..checker import apply_suppressions, check
from ..hardware import differences
from .held import last_open_call, still_held
from .machine import Machine, boot, fill
from .moved import Request, compare
from .run import DriverJob, DriverRun, Ending
from .source import DriverFileError, UserDriver, load_file, load_function
from .timing import Timing, calm
from .watchdog import Stuck, Watchdog

__all__ = ["execute", "run_driver"]

for _path in (Path(__file__).parent, sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"]):
    library_folder(_path)

_MAX_OUTPUT = 20_000
_READ_CYCLES = 200_000


async def execute(tb: Any, arguments: Mapping[str, Any]) -> None:
    """Entry of a session: ``jobs`` (:class:`DriverJob` as dicts), ``payload`` and ``results`` (files).

    A run that takes longer than ``stuck_seconds`` says in the file ``stuck`` where it stands; its process is stopped soon after.
    """
    payload = Path(arguments["payload"]).read_bytes()
    with open(arguments["results"], "a", encoding="utf-8") as lines:

        def put(value: Mapping[str, Any]) -> None:
            lines.write(json.dumps(value) + "\n")
            lines.flush()

        for values in arguments["jobs"]:
            put({"start": values["name"]})
            with open(arguments["stuck"], "w") as stacks:
                faulthandler.dump_traceback_later(arguments["stuck_seconds"], file=stacks)
                put((await run_driver(tb, DriverJob(**values), payload)).to_dict())
                faulthandler.cancel_dump_traceback_later()


async def run_driver(tb: Any, job: DriverJob, payload: bytes) -> DriverRun:
    """Runs one driver on a testbench and judges it; never raises for what the driver does."""
    start = time.perf_counter()
    run = DriverRun(name=job.name, seed=job.seed, timing=job.timing)
    try:
        driver = _load(run, tb, job.target)
        if driver is not None:
            run.style = driver.style
            await _run(run, tb, job, driver, payload)
    except Exception:
        run.error = traceback.format_exc()
    run.seconds = time.perf_counter() - start
    return run


def _load(run: DriverRun, tb: Any, target: str) -> UserDriver | None:
    """The driver; None with :attr:`DriverRun.refused` set if the file is none."""
    is_file = target.endswith(".py") or ":" not in target
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), Watchdog(lambda: 0, str(Path(target).resolve())):
            return load_file(target) if is_file else load_function(target)
    except DriverFileError as error:
        run.refused = str(error)
    except Stuck:
        run.refused = f"{target}: the file must import without an error, but its top level does not end"
    except BaseException as error:
        place = next(
            (f":{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == _real(target)), ""
        )
        run.refused = f"{target}{place}: the file must import without an error, not with {_error_text(error)}"
    return None


def _real(target: str) -> str:
    return str(Path(target).resolve())


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _run(run: DriverRun, tb: Any, job: DriverJob, driver: UserDriver, payload: bytes) -> None:
    memory, device = fill(tb.config, payload, job.seed)
    await tb.reset(memory, device, job.seed)
    timing = Timing.from_dict(job.timing) if job.timing else Timing()
    with tb.harness():
        machine = await boot(driver.style, tb, job.hal, job.beliefs, job.architecture, speculates=job.speculates)
        await timing.apply(machine.port.hal.regs, tb.bus, tb.config)
    tb.platform.update(machine.port.hal.platform.record())
    tb.platform["speculates"] = (job.speculates and tb.config.dcache.prefetcher) or timing.prefetch
    tb.platform["interface"] = driver.style
    tb.platform["architecture"] = machine.port.hal.platform.options.architecture
    tb.platform["explore"] = timing.to_dict()
    await _drive(run, tb, machine, driver, job.limit)
    run.cycles = tb.bus.now()
    if run.ended and machine.failure is not None:
        _raised(run, tb, driver, machine.failure)
    if run.ended:
        machine.release()
    run.tasks = tb.bus.cancel_tasks()
    requests = await _requests(run, tb, machine)
    await tb.finish()
    run.bus_accesses, run.epoch_ns = tb.bus_accesses, tb.bus.epoch_ns
    run.device_sha256 = hashlib.sha256(tb.snapshot.device).hexdigest()
    run.held = still_held(tb.trace.records)
    if not run.ended:
        run.last_call, site = last_open_call(tb.trace.records)
        run.last_site = run.last_site or site
    port = machine.port
    moved = compare(tb.config, memory, device, tb.events, port.transfers, requests, port.got, port.put, tb.snapshot.device)
    run.moved, run.checked, run.corrupted, run.wrong = moved.lines, moved.checked, moved.corrupted, moved.wrong
    run.hardware = differences(tb, memory, device)
    record = tb.run_record()
    findings, suppressed, problems = apply_suppressions(check(record), [driver.path])
    run.findings = [finding.to_dict() for finding in findings]
    run.suppressed = [entry.to_dict() for entry in suppressed]
    run.problems = [problem.to_dict() for problem in problems]
    if job.keep:
        record.save(job.keep)
        run.record = job.keep


async def _drive(run: DriverRun, tb: Any, machine: Machine, driver: UserDriver, limit: int) -> None:
    """Lets the driver run to its end, or to the limit in cycles."""
    import cocotb
    from cocotb.triggers import First, Timer

    assert driver.entry is not None
    output = io.StringIO()
    coroutine = driver.entry(machine.owner, machine.port)

    async def guarded() -> None:
        try:
            value = await _shielded(coroutine)
        except Stuck as error:
            run.ending = Ending.LOOPS
            _, run.last_site = _own_lines(error, driver.path)
            run.problem = "the driver runs without letting simulated time pass: an await of the bus, a wait or a delay is missing"
        except (Exception, SystemExit) as error:
            _raised(run, tb, driver, error)
        else:
            _returned(run, machine, value)

    with (
        contextlib.redirect_stdout(output),
        warnings.catch_warnings(record=True) as caught,
        Watchdog(tb.bus.now, driver.path),
    ):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", message="coroutine .* was never awaited", category=RuntimeWarning)
        task = cocotb.start_soon(guarded())
        timer = Timer(limit * PERIOD_NS, "ns")
        if await First(task.complete, timer) is timer:
            run.ending = Ending.HANGS
            run.problem = f"the driver did not end within {limit} cycles"
            run.last_site = _where(coroutine, driver.path)
            task.cancel()
            await Timer(PERIOD_NS, "ns")
    run.output = output.getvalue()[:_MAX_OUTPUT]
    for warning in caught:
        run.notes.append(f"{str(warning.message).removeprefix('coroutine ')}: its call lacks an 'await' and did nothing")


def _raised(run: DriverRun, tb: Any, driver: UserDriver, error: BaseException) -> None:
    run.ending, run.problem = Ending.RAISED, _error_text(error)
    run.trouble, run.last_site = _own_lines(error, driver.path)
    tb.trace.event("Unhandled", error=run.problem, traceback=run.trouble)


@types.coroutine
def _shielded(coroutine: Any) -> Generator[Any, Any, Any]:
    """Runs a driver's coroutine; a cancellation closes it instead of entering it, where it might be caught and ignored."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            item = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        value = error = None
        try:
            value = yield item
        except (asyncio.CancelledError, GeneratorExit):
            with contextlib.suppress(BaseException):
                coroutine.close()
            raise
        except BaseException as thrown:
            error = thrown


def _returned(run: DriverRun, machine: Machine, value: Any) -> None:
    if isinstance(value, bytes | bytearray):
        machine.port.expect_read(0, bytes(value))
    elif value is not None and not isinstance(value, int):
        run.notes.append(
            f"the driver returned {type(value).__name__}: bytes (what it read from the device, from 0 on) are compared"
        )


def _own_lines(error: BaseException, path: str) -> tuple[list[str], list[Any] | None]:
    """The traceback's lines inside the driver's own file, and the place of the last one."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    lines = [f"{Path(path).name}:{frame.lineno} in {frame.name}: {frame.line}" for frame in own]
    return lines, [path, own[-1].lineno, own[-1].name] if own else None


def _where(coroutine: Any, path: str) -> list[Any] | None:
    """The line of the driver's file at which a suspended coroutine waits."""
    found: list[Any] | None = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and frame.f_code.co_filename == path:
            found = [path, frame.f_lineno, frame.f_code.co_name]
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found


async def _requests(run: DriverRun, tb: Any, machine: Machine) -> list[Request]:
    """What the requests that were completed with success handed to their callers, who read it now."""
    from cocotb.triggers import SimTimeoutError, with_timeout

    requests: list[Request] = []
    for irp, cycle in machine.completed:
        left = irp.io_status.information
        if irp.io_status.status >= 0x8000_0000 or irp.mdl_address is None or not left:
            continue
        ranges: list[tuple[int, int]] = []
        for mdl in irp.mdl_address.chain():
            count = min(left, mdl.byte_count)
            if count > 0:
                ranges.append((mdl.virtual_address, count))
                left -= count
        requests.append(Request(ranges, irp.write_to_device, irp.byte_offset, cycle))

    async def read() -> None:
        for number, request in enumerate(requests):
            if request.write_to_device:
                continue
            with tb.trace.call("HarnessRead", ranges=[list(pair) for pair in request.ranges]), tb.harness():
                data = b"".join([await tb.bus.read(address, length) for address, length in request.ranges])
            requests[number] = Request(request.ranges, False, request.byte_offset, request.cycle, data)
        with tb.harness():
            # Not through the driver's own bus: a driver that hangs or has failed may hold its CPU.
            await calm(Registers(tb.bus, system_channels=tb.config.dma.system_channels), tb.bus)

    try:
        await with_timeout(read(), _READ_CYCLES * PERIOD_NS, "ns")
    except SimTimeoutError:
        run.notes.append("the hardware does not answer the CPU any more: what completed requests hold could not be read")
        return [request for request in requests if request.write_to_device]
    return requests
