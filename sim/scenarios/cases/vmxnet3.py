# SPDX-License-Identifier: BSD-2-Clause
"""vmxnet3: the driver's own structure stays mapped for the device while the CPU uses it.

To work with a virtual IOMMU, VMware's network driver mapped its adapter structure for streaming DMA in its probe function,
and unmapped it when the device was removed (Linux commit b0eb57cb97e7, 2013). In between, the whole driver reads and writes
that structure. A patch of 2020 wanted to map it later in the probe function; the answer was that the adapter is accessed
everywhere, and that is what is wrong.

Mechanism: a mapped buffer belongs to the device. What the CPU stores to it after the mapping is dirty in the D-cache, or is
not in the bounce buffer: the device, when it reads the structure, gets what was there when it was mapped.

Fix: nothing that the CPU goes on using may stay mapped. The author of the patch offered dma_alloc_coherent() instead, which
is what the driver takes for everything else that it shares with the device, and what the corrected driver does here. (A patch
of 2024 took the mapping out.)
"""

from driver.linux import (
    DMA_TO_DEVICE,
    ENOMEM,
    dma_alloc_coherent,
    dma_free_coherent,
    dma_map_single,
    dma_mapping_error,
    dma_unmap_single,
    dmaengine_synchronize,
    kfree,
    kmalloc,
)

from ...userdriver.happens import write_back
from ..examples import Example, Expect

_BROKEN = Expect(roots={"R05"}, consequences={"R01"}, severity="corruption seen", corrupts=True, architecture="arm64")

EXAMPLE = Example(
    broken=_BROKEN,
    fixed=Expect(architecture="arm64"),
    lucky=_BROKEN.but(severity="corruption possible", corrupts=False),
    case="vmxnet3",
)

SIZE = 192  # bytes of the adapter structure
RING_SIZES = bytes(range(1, 65))  # what the CPU stores to it in the course of the probe function


async def broken(dev, device, *, written_back=False):
    adapter = kmalloc(dev, SIZE)
    await dev.cpu.store(adapter, bytes(SIZE))
    adapter_pa = await dma_map_single(dev, adapter, SIZE, DMA_TO_DEVICE)
    if dma_mapping_error(dev, adapter_pa):
        return -ENOMEM
    await dev.cpu.store(adapter + 64, RING_SIZES)  # the rest of the probe function
    if written_back:
        await write_back(device, adapter, SIZE)

    await device.start_list([(adapter_pa, SIZE)], True, 0, device=dev)  # the device looks into it
    await device.wait(100_000)
    await device.acknowledge()
    await dma_unmap_single(dev, adapter_pa, SIZE, DMA_TO_DEVICE)  # when the device is removed
    await device.device_done(100_000)
    kfree(dev, adapter)
    return 0


async def fixed(dev, device):
    adapter = await dma_alloc_coherent(dev, SIZE)
    if not adapter:
        return -ENOMEM
    await adapter.write(0, bytes(SIZE))
    await adapter.write(64, RING_SIZES)  # the rest of the probe function

    await device.start_list([(adapter.dma_handle, SIZE)], True, 0, device=dev)
    await device.wait(100_000)
    await device.acknowledge()
    await dmaengine_synchronize(dev)
    await device.device_done(100_000)
    await dma_free_coherent(dev, SIZE, adapter.cpu_addr, adapter.dma_handle)
    return 0


async def lucky(dev, device):
    return await broken(dev, device, written_back=True)
