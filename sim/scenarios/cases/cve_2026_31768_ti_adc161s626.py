# SPDX-License-Identifier: BSD-2-Clause
"""CVE-2026-31768: ti-adc161s626 reads from SPI into a variable on the stack.

The driver of two analog-to-digital converters (drivers/iio/adc/ti-adc161s626.c) fetched a measurement with spi_read() into a
local variable of ti_adc_read_measurement(). The SPI core wants buffers that are fit for DMA, and hands them to the DMA engine
where there is one; the kernel's stack is not fit. (A measurement has 2 or 3 bytes. Here they are 16: this machine's
controller writes some of them to memory before the unmap.)

Mechanism: variables on the stack share cache lines with their neighbours, which the CPU keeps storing to. A neighbour that is
stored while the controller writes makes the line dirty, with the buffer's old bytes in it: when the line is evicted, the
measurement is overwritten; when it is invalidated, the neighbour is lost. On many machines the stack's address cannot even be
translated for a device.

Fix: the receive buffer becomes a member of the driver's data, aligned to IIO_DMA_MINALIGN: it begins a line, and nothing
follows it there.
"""

from driver.linux import (
    DMA_FROM_DEVICE,
    ENOMEM,
    dma_map_single,
    dma_mapping_error,
    dma_unmap_single,
    kfree,
    kmalloc,
    stack_memory,
)

from ...userdriver.happens import evict, landed
from ...userdriver.timing import Timing
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R45"}, consequences={"R10"}, severity="corruption seen", corrupts=True, architecture="arm")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False, timing=Timing(gap=100)),
    case="ti-adc161s626 (CVE-2026-31768)",
)

RX = 16  # bytes of a measurement
IIO_DMA_MINALIGN = 128


async def spi_read(dev, device, buf, length, *, local, evicted_early=False):
    """The SPI controller's driver, by DMA; the CPU stores to ``local`` meanwhile."""
    dma = await dma_map_single(dev, buf, length, DMA_FROM_DEVICE)
    if dma_mapping_error(dev, dma):
        return -ENOMEM
    await device.start_list([(dma, length)], False, 0, device=dev)
    await dev.cpu.store_u32(local, 1)
    if evicted_early:
        await evict(device, local, 4)
    await device.wait(100_000)
    await device.acknowledge()
    await landed(device)
    await evict(device, local, 4)
    await dma_unmap_single(dev, dma, length, DMA_FROM_DEVICE)
    return 0


async def broken(dev, device, *, evicted_early=False):
    frame = stack_memory(dev, 64, alignment=32)
    local, buf = frame + 4, frame + 8  # both are local variables
    await spi_read(dev, device, buf, RX, local=local, evicted_early=evicted_early)
    measurement = await dev.cpu.load(buf, RX)
    kfree(dev, frame)
    return measurement


async def fixed(dev, device):
    frame = stack_memory(dev, 64, alignment=32)
    data = kmalloc(dev, IIO_DMA_MINALIGN + RX)  # struct ti_adc_data
    local, rxbuf = frame + 4, data + IIO_DMA_MINALIGN  # its last member
    await spi_read(dev, device, rxbuf, RX, local=local)
    measurement = await dev.cpu.load(rxbuf, RX)
    kfree(dev, data)
    kfree(dev, frame)
    return measurement


async def lucky(dev, device):
    return await broken(dev, device, evicted_early=True)  # before the controller has written to that line
