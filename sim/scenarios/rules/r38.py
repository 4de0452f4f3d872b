# SPDX-License-Identifier: BSD-2-Clause
"""A Linux driver is unbound and leaves its coherent ring behind.

Probe allocates a descriptor ring with dma_alloc_coherent beside buffers of devm_kmalloc. Its author knew that managed memory
is freed when the driver is unbound, and took the ring for managed, too.

Mechanism: dma_alloc_coherent is not managed (dmam_alloc_coherent is). Each bind and unbind loses pages that stay reserved for
the device. Nothing goes wrong in the run, which is why leaks live long.

Fix: dma_free_coherent in remove, with the values of the allocation.
"""

from driver.linux import ENOMEM, dma_alloc_coherent, dma_free_coherent, dmaengine_synchronize

from ..examples import Example, Expect
from ._streaming import finished

EXAMPLE = Example(broken=Expect(roots={"R38"}, severity="warning"))

RING = 1024  # bytes


async def use_ring(dev, device, *, remove):
    """Probe, one read into the ring, and the driver's remove."""
    ring = await dma_alloc_coherent(dev, RING)
    if not ring:
        return -ENOMEM
    cpu_addr, dma_handle = ring
    await device.start_list([(dma_handle, RING)], False, 0, device=dev, buffer=ring)
    await finished(device)
    await dmaengine_synchronize(dev)
    entries = await ring.read(0, RING)
    if remove:
        await dma_free_coherent(dev, RING, cpu_addr, dma_handle)
    return entries


async def broken(dev, device):
    return await use_ring(dev, device, remove=False)


async def fixed(dev, device):
    return await use_ring(dev, device, remove=True)
