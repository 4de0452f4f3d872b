# SPDX-License-Identifier: BSD-2-Clause
"""What the driver and its caller do in a scenario: coroutines, named by ``Scenario.story``.

The storage driver (:mod:`driver.storage`) moves the data; its :class:`~driver.discipline.Discipline` says which flush is left
out, too early or too late, and its hooks are where the CPU stores, evicts and prefetches. A story returns the bytes that
the caller got, or None where they went to the device.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from driver.bus import Attribute
from driver.discipline import Discipline, Moment, When
from driver.maintenance import Op
from driver.storage import Path, StorageDriver, StorageOptions, Transfer
from driver.wdk import Irp, Kernel, MajorFunction, Mdl

from .context import Context
from .layout import FIRST_ROUND

__all__ = ["STORIES", "discipline_of", "path_of"]

_PATHS = {
    "system": Path.SYSTEM_CHANNEL,
    "bus-master": Path.BUS_MASTER,
    "common-cached": Path.COMMON_BUFFER_CACHED,
    "common-uncached": Path.COMMON_BUFFER_UNCACHED,
    "pio": Path.PIO,
}
_WHEN = {"flush": When.MADE, "after": When.MADE, "none": When.OMITTED, "early": When.EARLY, "late": When.LATE}
_OPS = {"clean": Op.CLEAN, "invalidate": Op.INVALIDATE, "clean+invalidate": Op.CLEAN_INVALIDATE}
#: Cycles after which a driver of the catalogue gives up waiting, for a transfer of no bytes, and per byte: none comes near.
_WAIT_LIMIT, _WAIT_LIMIT_PER_BYTE = 20_000, 32


def path_of(context: Context, *, packets: bool = False) -> Path:
    """The data's path; ``packets``: a bus master with one MapTransfer and one FlushAdapterBuffers per transfer."""
    mode = context.setting.scenario.mode
    return Path.BUS_MASTER_PACKET if packets and mode == "bus-master" else _PATHS[mode]


def discipline_of(context: Context) -> Discipline:
    """Which flushes this scenario's driver makes, and when."""
    options = context.options
    before = options.get("pre", "flush")
    post = options.get("post", "flush")
    return Discipline(
        before=_WHEN.get(before, When.OMITTED if before in _OPS else When.MADE),
        after=When.MADE if post in ("each", "end") else _WHEN[post],
        pio=_WHEN[options.get("flush", "after")],
        each_transfer=post != "end",
        maintenance_before=_OPS.get(before),
        maintenance_after=_OPS.get(options.get("after", "")),
        swap_read_operation=before == "wrong-direction",
        swap_dma_operation=before == "wrong-kind",
        first_mdl_only=before == "first-mdl",
        ignore_flush_result=options.get("reaction") == "ignored",
    )


def _driver(kernel: Kernel, context: Context, **options: Any) -> StorageDriver:
    limit = _WAIT_LIMIT + _WAIT_LIMIT_PER_BYTE * context.setting.size
    return StorageDriver(kernel, StorageOptions(wait_limit=limit, **options))


def _mdl(kernel: Kernel, context: Context) -> Mdl:
    """The MDL over the caller's buffer; for ``chain`` one in two pieces."""
    address, size = context.user_address, context.setting.size
    split = context.setting.split if context.options.get("chain") else size
    mdl = kernel.io_allocate_mdl(address, split)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)
    if split < size:
        mdl.next = kernel.io_allocate_mdl(address + split, size - split)
        kernel.mm_build_mdl_for_non_paged_pool(mdl.next)
    return mdl


def _request(kernel: Kernel, context: Context, mdl: Mdl) -> Irp:
    function = MajorFunction.IRP_MJ_WRITE if context.write_to_device else MajorFunction.IRP_MJ_READ
    return kernel.io_allocate_irp(function, mdl, context.source)


async def transfer(context: Context) -> bytes | None:
    """One request, to or from the device: the matrix and the table of outcomes."""
    kernel = await context.boot()
    driver = _driver(kernel, context)
    common = context.setting.scenario.mode.startswith("common")
    state = context.options.get("state", "dirty")
    address, bus = context.user_address, kernel.bus
    received: list[bytes] = []

    # What the CPU did with the buffer before; a flush that comes too early covers this and no more.
    if context.write_to_device and (common or context.options.get("pre") == "early"):
        await bus.write(address, context.payload if common else context.earlier)
    elif not context.write_to_device and not common and context.options.get("pre") == "early":
        await bus.write(address, context.earlier)

    async def last_stores(t: Transfer) -> None:
        if context.write_to_device:
            if state == "cached":
                await bus.read(address, context.setting.size)
            elif not common:
                await bus.write(address, context.payload)
            return
        where = t.ranges[0][0] if common else address
        attribute = Attribute.UNCACHED if t.path is Path.COMMON_BUFFER_UNCACHED else Attribute.CACHED
        context.check_address(where)
        if state == "dirty":
            await bus.write(where, context.earlier, attribute)
        elif state == "cached":
            await bus.read(where, context.setting.size, attribute)

    async def use(t: Transfer) -> None:
        if not context.write_to_device:
            received.append(await bus.read(address, context.setting.size))

    hooks = {Moment.STORES: last_stores, **context.hooks(), Moment.USE: use}
    irp = _request(kernel, context, _mdl(kernel, context))
    await driver.dispatch(irp, path_of(context), discipline=discipline_of(context), hooks=hooks)
    context.check_status(irp)
    return received[0] if received else None


async def common_buffer_rounds(context: Context) -> bytes | None:
    """The same common buffer twice; the flush before the second round is at stake."""
    kernel = await context.boot()
    driver = _driver(kernel, context)
    setting, bus = context.setting, kernel.bus
    address = context.user_address
    path = path_of(context)
    if context.write_to_device:
        await bus.write(address, context.earlier)
        await driver.write(address, setting.size, setting.device_address, path)
        await bus.write(address, context.payload)
    else:
        await driver.read(address, setting.size, setting.device_address + FIRST_ROUND, path)

    async def polled(t: Transfer) -> None:
        """The CPU looks into the buffer once more before the second round."""
        if not context.write_to_device and context.options["pre"] == "early":
            await bus.read(t.ranges[0][0], setting.size)

    hooks = {Moment.STORES: polled, **context.hooks()}
    irp = _request(kernel, context, _mdl(kernel, context))
    await driver.dispatch(irp, path, discipline=discipline_of(context), hooks=hooks)
    context.check_status(irp)
    return None if context.write_to_device else await bus.read(address, setting.size)


async def pio_read(context: Context) -> bytes | None:
    """A PIO read into memory, and whoever needs the bytes next."""
    kernel = await context.boot()
    driver = _driver(kernel, context)
    setting, bus = context.setting, kernel.bus
    address, size, when = setting.address, setting.size, context.options["flush"]
    received: list[bytes] = []
    if context.options["consumer"] == "execute":
        await bus.fetch(address, size)  # older code at these addresses has been executed

    async def use(t: Any = None) -> None:
        consumer = context.options["consumer"]
        if consumer == "execute":
            received.append(await bus.fetch(address, size))
        elif consumer == "alias":
            received.append(await bus.read(address, size, Attribute.UNCACHED))
        else:  # the pager trusts the PIO driver's flush: it makes none of its own
            trusting = Discipline(before=When.OMITTED)
            await driver.write(address, size, setting.device_address, Path.SYSTEM_CHANNEL, discipline=trusting)
            received.append(b"")

    if context.options["reader"] == "buffer":
        irp = _request(kernel, context, _mdl(kernel, context))
        await driver.dispatch(irp, Path.PIO, discipline=discipline_of(context), hooks={Moment.USE: use})
        context.check_status(irp)
    else:
        mdl = _mdl(kernel, context)
        if when == "early":
            await kernel.ke_flush_io_buffers(mdl, True, False)
        await _read_sequence(kernel, context.source, address, size)
        if when == "after":
            await kernel.ke_flush_io_buffers(mdl, True, False)
        await use()
        if when == "late":
            await kernel.ke_flush_io_buffers(mdl, True, False)
    return received[0] or None


async def _read_sequence(kernel: Kernel, byte_offset: int, address: int, size: int) -> None:
    """A driver's own loop over the data port: READ_REGISTER_ULONG and a store, word by word."""
    dev = kernel.regs.dev
    await dev.status.clear()
    await dev.addr.write(byte_offset)
    await dev.length.write(size)
    await dev.cmd.write(op=3)
    while not (await dev.status.read()).drq:
        await kernel.bus.delay(8)
    with kernel.cpu_copy([(address, size)]):
        for position in range(0, size, 4):
            word = await kernel.read_register_ulong(dev.pio_data.address)
            await kernel.bus.write(address + position, word.to_bytes(4, "little")[: size - position])


async def pio_write(context: Context) -> None:
    """A PIO write: the CPU loads what it has just stored."""
    kernel = await context.boot()
    address, size = context.setting.address, context.setting.size
    await kernel.bus.write(address, context.payload)
    await _driver(kernel, context).write(address, size, context.setting.device_address, Path.PIO)


async def shared_line(context: Context) -> bytes:
    """A read into the second half of a line whose first half the CPU stores while the device is running."""
    kernel = await context.boot()
    driver = _driver(kernel, context)
    setting, bus = context.setting, kernel.bus
    split, length, target = setting.split, setting.size - setting.split, setting.address + setting.split
    if context.options.get("aligned"):  # whole lines of its own; what is too much is thrown away
        length, target = setting.size, context.bounce

    async def neighbour(t: Transfer) -> None:
        await bus.write(setting.address, context.payload[:split])

    hooks = context.hooks(hold=True, while_held=neighbour)
    status = await driver.read(
        target, length, setting.device_address + split, path_of(context), discipline=discipline_of(context), hooks=hooks
    )
    context.check_io_status(status)
    if context.options.get("aligned"):
        await bus.write(setting.address + split, await bus.read(target, setting.size - split))
    return await bus.read(setting.address, setting.size)


async def two_transfers(context: Context) -> bytes:
    """One request that the adapter's maximum cuts into several device transfers."""
    kernel = await context.boot()
    driver = _driver(kernel, context, maximum_length=context.setting.split)
    bus, address = kernel.bus, context.setting.address
    await bus.write(address, context.earlier)
    first: list[bytes] = []

    async def flushed(t: Transfer) -> None:
        if context.options.get("use_between") and not first:
            await context.landed()
            first.append(await bus.read(address, t.done))

    irp = _request(kernel, context, _mdl(kernel, context))
    await driver.dispatch(irp, path_of(context, packets=True), discipline=discipline_of(context), hooks={Moment.FLUSHED: flushed})
    context.check_status(irp)
    received = await bus.read(address, context.setting.size)
    return first[0] + received[len(first[0]) :] if first else received


async def failing_flush(context: Context) -> bytes | None:
    """FlushAdapterBuffers returns FALSE once; the driver tries again, or does not look."""
    kernel = await context.boot()
    options = context.options
    retries = 1 if options["fault"] == "bus-error" and options["reaction"] == "retried" else 0
    driver = _driver(kernel, context, flush_retries=retries)
    bus, address = kernel.bus, context.setting.address
    if context.write_to_device:
        await bus.write(address, context.payload)

    path, how = path_of(context, packets=True), discipline_of(context)
    hooks = context.failing_hooks(options["fault"])
    irp = _request(kernel, context, _mdl(kernel, context))
    status = await driver.dispatch(irp, path, discipline=how, hooks=hooks)
    if options["reaction"] == "retried" and options["fault"] == "time-out":
        context.expect(status.status != 0, f"a flush that timed out must fail the request, which ended with {status}")
        await kernel.regs.dev.cmd.write(op=7)  # the device still waits for the bytes that were thrown away
        irp = _request(kernel, context, irp.mdl_address)
        await driver.dispatch(irp, path, discipline=how)
    context.check_status(irp)
    return None if context.write_to_device else await bus.read(address, context.setting.size)


async def code_by_dma(context: Context) -> bytes:
    """New code arrives by DMA where older code has been executed."""
    kernel = await context.boot()
    driver = _driver(kernel, context)
    setting, bus = context.setting, kernel.bus
    await bus.fetch(setting.address, setting.size)
    irp = _request(kernel, context, _mdl(kernel, context))
    await driver.dispatch(irp, path_of(context), discipline=discipline_of(context), hooks=context.hooks())
    context.check_status(irp)
    return await bus.fetch(setting.address, setting.size)


STORIES: dict[str, Callable[[Context], Awaitable[bytes | None]]] = {
    "transfer": transfer,
    "common_buffer_rounds": common_buffer_rounds,
    "pio_read": pio_read,
    "pio_write": pio_write,
    "shared_line": shared_line,
    "two_transfers": two_transfers,
    "failing_flush": failing_flush,
    "code_by_dma": code_by_dma,
}
