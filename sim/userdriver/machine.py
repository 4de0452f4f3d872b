# SPDX-License-Identifier: BSD-2-Clause
"""The machine that a user's driver gets: memory and device images, the interface of its style, the device's port."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driver import bare, linux
from driver.platform import HalOptions
from driver.storage_port import StoragePort
from driver.wdk import Irp, Kernel
from rtl.config import SocConfig

__all__ = ["LINUX_ARCHITECTURES", "Machine", "boot", "fill"]

LINUX_ARCHITECTURES = ("arm", "arm64", "riscv", "mips")


@dataclass
class Machine:
    """``owner`` is the driver's first argument (kernel, dev or machine), ``port`` its second; ``completed`` the requests that it
    completed, each with its cycle."""

    style: str
    owner: Any
    port: StoragePort
    completed: list[tuple[Irp, int]] = field(default_factory=list)

    @property
    def failure(self) -> BaseException | None:
        """What stopped the machine beside the driver's main coroutine: an exception in its ISR or DPC."""
        return getattr(self.owner, "failure", None)

    def release(self) -> None:
        """The driver's end: a Linux driver is unbound, which logs what it still holds."""
        if self.style == "linux":
            linux.device_release(self.owner)


def fill(config: SocConfig, payload: bytes, seed: int) -> tuple[bytes, bytes]:
    """Images of memory and device at cycle 0: the device holds the payload, again and again; memory holds what it never holds.

    Memory is random bytes of values that the payload does not have, where there are such values: a byte that was not moved
    then never looks right.
    """
    size = config.device.buffer_bytes
    device = (payload * (size // len(payload) + 1))[:size]
    noise = random.Random(seed).randbytes(config.memory.size)
    others = bytes(sorted(set(range(256)) - set(payload))) or bytes(range(256))
    table = bytes(others[n % len(others)] for n in range(256))
    return noise.translate(table), device


async def boot(
    style: str,
    tb: Any,
    options: Mapping[str, Any],
    beliefs: Mapping[str, Any],
    architecture: str,
    *,
    speculates: bool = True,
) -> Machine:
    """Starts the interface of a style on a reset testbench. Called as the test harness.

    Parameters
    ----------
    options, beliefs : fields of :class:`HalOptions` and of :class:`driver.platform.Platform`.
    architecture : of the Linux interface; "" or another system's for its default.
    speculates : what the HAL is told about the CPU, unless ``options`` say otherwise.
    """
    hal = HalOptions(**{"speculates": speculates, **options})
    capacity = tb.config.device.buffer_bytes
    if style == "linux":
        chosen = architecture if architecture in LINUX_ARCHITECTURES else None
        dev = await linux.Device.start(tb.bus, tb.trace, architecture=chosen, options=hal, **beliefs)
        return Machine(style, dev, StoragePort(dev.hal, tb.trace, capacity=capacity))
    if style == "bare":
        owner = await bare.Machine.start(tb.bus, tb.trace, options=hal, **beliefs)
        return Machine(style, owner, StoragePort(owner.hal, tb.trace, capacity=capacity))
    kernel = await Kernel.start(tb.bus, tb.trace, options=hal, **beliefs)
    machine = Machine(style, kernel, StoragePort(kernel.hal, tb.trace, capacity=capacity))
    inner = kernel.io_complete_request

    def io_complete_request(irp: Irp, priority_boost: int = 0) -> None:
        inner(irp, priority_boost)
        machine.completed.append((irp, tb.bus.now()))

    kernel.io_complete_request = io_complete_request  # type: ignore[method-assign]
    return machine
