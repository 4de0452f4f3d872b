# SPDX-License-Identifier: BSD-2-Clause
"""Which adapter object a description gets: one class per version of DMA_OPERATIONS."""

from typing import Any

from .device import DeviceDescription, DeviceObject
from .dma_adapter import DmaAdapter

__all__ = ["KNOWN_VERSIONS", "make_adapter"]

#: Versions of DEVICE_DESCRIPTION that exist; IoGetDmaAdapter returns NULL for others.
KNOWN_VERSIONS = (0, 1, 2, 3)


def make_adapter(kernel: Any, device_object: DeviceObject, description: DeviceDescription) -> DmaAdapter:
    """The adapter object for a description of a known version."""
    if description.version >= 3:
        from .dma_adapter_v3 import DmaAdapterV3  # late: most drivers never need it

        return DmaAdapterV3(kernel, device_object, description)
    return DmaAdapter(kernel, device_object, description)
