# SPDX-License-Identifier: BSD-2-Clause
"""A paging driver reads a page of code by programmed I/O, and the code that runs is not the code that was read.

An IDE driver in PIO mode reads a page of a program with READ_REGISTER_BUFFER_ULONG and completes the request. There is no DMA,
so its author flushes nothing. The memory manager gives the page to a process, which executes it.

Mechanism: the CPU itself stored the data, so it is in the D-cache, dirty. Instructions are fetched through the I-cache from
memory, past the D-cache: the process executes what memory held before. Data that is only loaded is right, and most pages are
data. If the cache has evicted the lines before the first fetch, the code is right: luck.

Fix: KeFlushIoBuffers(Mdl, ReadOperation=TRUE, DmaOperation=FALSE) at the end of each PIO read, before the request is completed:
it cleans the D-cache and invalidates the I-cache.
"""

from driver.wdk import NTSTATUS, MajorFunction

from ...userdriver.happens import evict
from ..examples import Example, Expect
from ._adapters import free_buffer, locked_buffer

EXAMPLE = Example(
    broken=Expect(roots={"R17"}, consequences={"R18"}, severity="corruption seen", corrupts=True),
    lucky=Expect(roots={"R17"}, severity="corruption possible"),
    source=("S11",),
)

PAGE = 256  # bytes, to keep the run short


async def broken(kernel, device, *, evicted=False):
    mdl = locked_buffer(kernel, PAGE)
    page = kernel.mm_get_mdl_virtual_address(mdl)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)

    await device.pio_begin(False, 0, PAGE)
    await device.pio_ready()
    await kernel.read_register_buffer_ulong(device.data_register, page, PAGE // 4)
    await device.pio_end()
    if evicted:
        await evict(device, page, PAGE)
    irp.io_status.status, irp.io_status.information = NTSTATUS.STATUS_SUCCESS, PAGE
    kernel.io_complete_request(irp)

    code = await kernel.cpu.fetch(page, PAGE)  # the process runs
    free_buffer(kernel, mdl)
    return code


async def fixed(kernel, device):
    mdl = locked_buffer(kernel, PAGE)
    page = kernel.mm_get_mdl_virtual_address(mdl)
    irp = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl)

    await device.pio_begin(False, 0, PAGE)
    await device.pio_ready()
    await kernel.read_register_buffer_ulong(device.data_register, page, PAGE // 4)
    await device.pio_end()
    await kernel.ke_flush_io_buffers(mdl, True, False)
    irp.io_status.status, irp.io_status.information = NTSTATUS.STATUS_SUCCESS, PAGE
    kernel.io_complete_request(irp)

    code = await kernel.cpu.fetch(page, PAGE)  # the process runs
    free_buffer(kernel, mdl)
    return code


async def lucky(kernel, device):
    return await broken(kernel, device, evicted=True)
