# SPDX-License-Identifier: BSD-2-Clause
"""A driver for the storage device: reads a block into memory by bus-master DMA, then writes one.

Start from this file; as it stands, it keeps every rule. Check it with:

    python -m sim check THIS_FILE.py

The checker reports every line that would break a rule, even if this run was lucky. Coroutines (``await``) are calls that can
touch the hardware; the others only keep books. Routine names are those of the Windows Driver Kit, in snake case, with their
arguments in the same order.
"""

from driver.wdk import NTSTATUS, DeviceDescription, DeviceObject, MajorFunction

LENGTH = 1000  # bytes of each request
WAIT_CYCLES = 100_000  # how long a transfer may take before the driver gives up


async def driver_entry(kernel, device):
    """The driver's whole life. ``kernel`` has the kernel's routines, ``device`` is the device's port.

    The device's buffer holds the payload, again and again, from byte 0 on.
    """
    device_object = DeviceObject()
    description = DeviceDescription(version=2, master=True, scatter_gather=True, maximum_length=65536)
    adapter, _ = kernel.io_get_dma_adapter(device_object, description)

    # Whole cache lines of its own: a line that the device writes in part cannot be kept right by any flush.
    alignment = adapter.get_dma_alignment()
    size = -(-LENGTH // alignment) * alignment
    buffer = kernel.ex_allocate_pool(size, alignment=alignment)
    mdl = kernel.io_allocate_mdl(buffer, size)
    kernel.mm_build_mdl_for_non_paged_pool(mdl)

    read = kernel.io_allocate_irp(MajorFunction.IRP_MJ_READ, mdl, byte_offset=0)
    await transfer(kernel, device, device_object, adapter, read)

    # The caller changes the block and writes it back somewhere else.
    block = await kernel.cpu.load(buffer, size)
    await kernel.cpu.store(buffer, block.upper())
    write = kernel.io_allocate_irp(MajorFunction.IRP_MJ_WRITE, mdl, byte_offset=4096)
    await transfer(kernel, device, device_object, adapter, write)

    # Everything that was taken goes back.
    kernel.io_free_mdl(mdl)
    kernel.ex_free_pool(buffer)
    adapter.put_dma_adapter()


async def transfer(kernel, device, device_object, adapter, irp):
    """Serves one request: flush, map, start, wait, flush, complete."""
    mdl, to_device = irp.mdl_address, irp.write_to_device
    lists = []

    # Before the transfer, in either direction: brings caches and memory together.
    await kernel.ke_flush_io_buffers(mdl, not to_device, True)  # ReadOperation, DmaOperation

    async def list_control(device_object, irp, scatter_gather, context):
        """Called with the buffer's pieces: starts the device."""
        lists.append(scatter_gather)
        await device.start_list(scatter_gather.elements, to_device, irp.byte_offset, adapter=adapter)

    va = kernel.mm_get_mdl_virtual_address(mdl)
    device_object.current_irp = irp
    with kernel.raised():  # to DISPATCH_LEVEL, and back at the end of the block
        status = await adapter.get_scatter_gather_list(device_object, mdl, va, irp.length, list_control, None, to_device)
    moved = 0
    if status == NTSTATUS.STATUS_SUCCESS:
        await device.wait(WAIT_CYCLES)
        moved = await device.acknowledge()
        # After the transfer: the last bytes are still in the controller; a read's cache lines may be stale.
        with kernel.raised():
            await adapter.put_scatter_gather_list(lists[0], to_device)
        if not lists[0].flushed:
            status = NTSTATUS.STATUS_DEVICE_DATA_ERROR

    # Only now the data may be used: whoever made the request owns the buffer again.
    irp.io_status.status, irp.io_status.information = status, moved
    kernel.io_complete_request(irp)
